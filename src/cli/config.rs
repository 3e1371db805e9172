//! `kappa config`

use std::fmt::Write as _;
use std::io::Write;

use serde_json::json;

use super::Failure;
use crate::settings::Settings;
use crate::settings::reference::{Entry, sections};

/// Show the effective settings, or all settings
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to show.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands on the configuration.
#[derive(Clone, Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help of the arguments")]
pub enum Command {
    Show(ShowArgs),
    /// Print every key with its meaning, its range and its default
    Reference,
}

/// Print every effective setting and where it came from
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa config show --config prod.toml
  kappa config show --json | jq '.[\"status.listen\"]'")]
pub struct ShowArgs {
    /// One JSON object: by key, the value and the place it came from
    #[arg(long)]
    pub json: bool,
}

/// Writes the settings to `out`: as TOML with the places as comments, or as JSON.
///
/// # Errors
/// Errors of `out`.
pub fn show(args: &ShowArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let all = settings.provenance.iter();
    let text = if args.json {
        let all = all.map(|setting| {
            (setting.key.clone(), json!({ "value": setting.value, "from": setting.place }))
        });
        let all: serde_json::Map<_, _> = all.collect();
        serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)? + "\n"
    } else {
        all.fold(String::new(), |mut text, setting| {
            let line = format!("{} = {}", setting.key, setting.value);
            // Writing to a String never errs.
            let _ = writeln!(text, "{line:60} # {}", setting.place);
            text
        })
    };
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes the reference of all settings to `out`.
///
/// # Errors
/// Errors of `out`.
pub fn reference(out: &mut impl Write) -> Result<(), Failure> {
    for section in sections() {
        if section.name.is_empty() {
            writeln!(out, "{}\n", section.doc)?;
        } else {
            writeln!(out, "[{}]\n{}\n", section.name, section.doc)?;
        }
        for Entry { key, doc, kind, value, is_set } in section.entries {
            let label = if is_set { "default" } else { "not set by default; example" };
            let doc = doc.replace('\n', "\n    ");
            writeln!(out, "{key}\n    {doc}\n    {kind}\n    {label} {value}\n")?;
        }
    }
    Ok(out.flush()?)
}
