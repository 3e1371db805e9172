//! `kappa generate`

use std::io::{self, Write};
use std::time::Duration;

use kappa_actors::time::Timestamp;

use super::Failure;
use crate::generate::{DEFAULT_START, Generator, Ids, Options, STEP_MS};

/// Bytes gathered before a write.
const BUFFER_BYTES: usize = 256 * 1024;

/// Write generated events to standard output, one a line
///
/// In a hundred events, 60 are of orders, 20 of users, 15 of products, 4 of other things and 1 is
/// invalid; each has 300 to 500 bytes. A seed always gives the same bytes, beginning at
/// 2026-02-17T14:30:00Z; without a seed they differ each time and end now.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa generate --events 10
  kappa generate --events 100000 --seed 7 --invalid-percent 5 | kappa publish -")]
pub struct Args {
    /// How many events
    #[arg(long, value_name = "N")]
    pub events: u64,
    /// Give the same events each time
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// The share of invalid events, 0 to 100
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = percent)]
    pub invalid_percent: f64,
    /// Ids in the order of time, or random
    #[arg(long, value_enum, value_name = "ORDER", default_value = "ordered")]
    pub ids: Ids,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("use a number from 0 to 100".to_owned()),
    }
}

impl Args {
    pub(super) fn options(&self) -> Options {
        let (seed, start) = match self.seed {
            Some(seed) => (seed, DEFAULT_START),
            None => {
                let lasts = Duration::from_millis(self.events.saturating_mul(STEP_MS));
                let lasts = i64::try_from(lasts.as_micros()).unwrap_or(0);
                (rand::random(), Timestamp::from_micros(Timestamp::now().micros() - lasts))
            }
        };
        Options { seed, invalid_percent: self.invalid_percent, ids: self.ids, start }
    }
}

/// Writes the events to `out`.
///
/// # Errors
/// Errors of `out`.
pub fn main(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    Ok(write_events(Generator::new(args.options()), args.events, out)?)
}

fn write_events(mut events: Generator, count: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 1024);
    for _ in 0..count {
        events.write_next(&mut buffer);
        buffer.push(b'\n');
        if buffer.len() >= BUFFER_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}
