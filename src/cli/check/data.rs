//! `kappa check --data`

use std::io::Write;

use anyhow::{Context as _, anyhow};

use crate::backend::embedded::check::check_folder;
use crate::cli::Failure;
use crate::cli::output::or_dash;
use crate::settings::Settings;

/// Writes to `out` one line for each sound file and each fault.
pub(super) fn main(settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let dir = &settings.data_dir;
    let files = check_folder(dir).with_context(|| dir.display().to_string())?;
    if files.is_empty() {
        let error = anyhow!("there are no files to verify in {}", dir.display());
        return Err(Failure::with_hint(error, "name the folder with --data-dir"));
    }
    for file in &files {
        let path = file.path.display();
        if file.faults.is_empty() {
            writeln!(out, "ok\t{path}\t{}", or_dash(file.holds.as_deref()))?;
        }
        for fault in &file.faults {
            let [problem, hint] = [&fault.problem, &fault.hint].map(|it| or_dash(Some(it)));
            writeln!(out, "fault\t{path}\t{problem}\t{hint}")?;
        }
    }
    out.flush()?;
    match files.iter().all(|file| file.faults.is_empty()) {
        true => Ok(()),
        false => Err(Failure::Differs),
    }
}
