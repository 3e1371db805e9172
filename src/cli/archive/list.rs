//! `kappa archive list`

use std::io::{BufWriter, Write};

use kappa_actors::archive::{ArchiveObject, FinalName};
use serde_json::json;

use super::{Archive, Failure, Format, ListArgs, count, output};

pub(super) async fn list(
    archive: &Archive,
    args: &ListArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let objects = archive.objects(&args.range).await?;
    let mut out = BufWriter::new(out);
    match output::format(args.json) {
        Format::Json => {
            for object in &objects {
                let line = json!({
                    "window": object.window.start().to_string(),
                    "kind": kind(object),
                    "bytes": object.size,
                    "name": object.name,
                });
                writeln!(out, "{line}")?;
            }
        }
        Format::Plain => {
            for object in &objects {
                let start = object.window.start();
                writeln!(out, "{start}\t{}\t{}\t{}", kind(object), object.size, object.name)?;
            }
        }
        Format::Table { colour } if !objects.is_empty() => {
            let mut rows = output::table(&["window", "kind", "bytes", "name"], colour);
            for object in &objects {
                let start = object.window.start().to_utc().format("%Y-%m-%d %H:%M").to_string();
                let bytes = output::grouped(object.size);
                rows.add_row([start, kind(object).to_owned(), bytes, output::cell(&object.name)]);
            }
            writeln!(out, "{rows}")?;
            let bytes = objects.iter().map(|object| object.size).sum();
            let files = count(objects.len() as u64, "file");
            writeln!(out, "{files}, {} bytes", output::grouped(bytes))?;
        }
        Format::Table { .. } => {}
    }
    Ok(out.flush()?)
}

fn kind(object: &ArchiveObject) -> &'static str {
    if object.name.parse::<FinalName>().is_ok() { "final" } else { "part" }
}
