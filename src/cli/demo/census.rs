//! Counts of the data folder, taken from the files themselves and not from the pipeline's counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use kappa_actors::archive::{Compression, objects_between};
use kappa_actors::time::Timestamp;
use rusqlite::{Connection, OpenFlags, Row};

use crate::backend::embedded::archive::LocalArchive;
use crate::settings::Settings;
use crate::wiring::Blueprint;

/// Windows that begin later than this after the demo's start are not counted; the log's clock may
/// be ahead of ours.
const AHEAD: Duration = Duration::from_secs(86_400);

/// How long to wait for a warehouse that is being written.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Counts by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// Rows, dead letters, and the archive of the windows since some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Rows by table.
    pub(super) rows: Counts,
    /// Dead letters by reason.
    pub(super) dead_letters: Counts,
    /// Lines in the archive.
    pub(super) lines: u64,
    /// The objects that hold them.
    pub(super) files: BTreeSet<String>,
}

impl Census {
    /// Counts rows, letters and lines; in the archive from the window of `from` on.
    ///
    /// # Errors
    /// Errors of the files.
    pub(super) async fn take(
        settings: &Settings,
        blueprint: &Blueprint,
        from: Timestamp,
    ) -> anyhow::Result<Self> {
        let tables = blueprint.processors.iter().map(|rule| rule.config.table.clone());
        let (path, tables) = (settings.data_dir.join("warehouse.db"), tables.collect());
        let counted = tokio::task::spawn_blocking(move || count_warehouse(&path, tables));
        let (rows, dead_letters) = counted.await??;
        let (lines, files) = count_archive(&settings.data_dir.join("archive"), from).await?;
        Ok(Self { rows, dead_letters, lines, files })
    }

    /// Returns the counts added since `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        subtract(&mut self.rows, &before.rows);
        subtract(&mut self.dead_letters, &before.dead_letters);
        self.dead_letters.retain(|_, count| *count > 0);
        self.lines = self.lines.saturating_sub(before.lines);
        self.files.retain(|file| !before.files.contains(file));
        self
    }
}

fn subtract(counts: &mut Counts, before: &Counts) {
    for (name, count) in counts {
        *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
    }
}

fn count_warehouse(path: &Path, tables: Vec<String>) -> rusqlite::Result<(Counts, Counts)> {
    let warehouse = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    warehouse.busy_timeout(BUSY_TIMEOUT)?;
    let mut rows = Counts::new();
    for table in tables {
        // A table's name was checked to hold nothing that could end the quotes.
        let sql = format!("SELECT count(*) FROM \"{table}\"");
        rows.insert(table, warehouse.query_row(&sql, (), |row| count(row, 0))?);
    }
    let mut select =
        warehouse.prepare("SELECT reason, count(*) FROM dead_letters GROUP BY reason")?;
    let dead_letters = select.query_map((), |row| Ok((row.get(0)?, count(row, 1)?)))?;
    Ok((rows, dead_letters.collect::<Result<_, _>>()?))
}

fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get(at).map(i64::cast_unsigned)
}

async fn count_archive(root: &Path, from: Timestamp) -> anyhow::Result<(u64, BTreeSet<String>)> {
    let store = LocalArchive::open(root)?;
    loop {
        let objects = objects_between(&store, from, from.after(AHEAD)).await?;
        let root = root.to_path_buf();
        let counted = tokio::task::spawn_blocking(move || {
            let mut lines = 0;
            for object in &objects {
                lines += count_lines(&root.join(&object.name), object.compression)?;
            }
            io::Result::Ok((lines, objects.into_iter().map(|object| object.name).collect()))
        });
        match counted.await? {
            // Composed meanwhile: its lines are in a final by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            counted => return Ok(counted?),
        }
    }
}

fn count_lines(path: &Path, compression: Compression) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, compression.reader(File::open(path)?)?);
    let mut lines = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(lines);
        }
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = chunk.len();
        reader.consume(read);
    }
}
