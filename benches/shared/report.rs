//! Figures, and whether they hold.

use std::time::Duration;

/// A part of a bench, which fills in its figures.
pub type Part = fn(&mut Report);

/// Runs the parts that the command line names, or all, and ends the process: with 1 when a figure
/// was missed.
pub fn run(parts: &[(&str, Part)]) -> ! {
    // Cargo passes flags of its own.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut report = Report::default();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            part(&mut report);
        }
    }
    std::process::exit(report.finish());
}

/// The figures of one run.
#[derive(Default)]
pub struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Shows a figure that nothing is claimed about.
    pub fn show(&mut self, what: &str, figure: f64, unit: &str) {
        println!("  {what:<58} {figure:>10.2} {unit}");
    }

    /// Shows a figure that must be at least this.
    pub fn at_least(&mut self, what: &str, figure: f64, least: f64, unit: &str) {
        self.judge(what, figure, unit, figure >= least, &format!("at least {least}"));
    }

    /// Shows a figure that must be at most this.
    pub fn at_most(&mut self, what: &str, figure: f64, most: f64, unit: &str) {
        self.judge(what, figure, unit, figure <= most, &format!("at most {most}"));
    }

    /// Shows median and longest of `latencies`, whose p99 must be at most `most` milliseconds.
    pub fn latencies(&mut self, what: &str, mut latencies: Vec<Duration>, most: f64) {
        latencies.sort();
        let percentile =
            |p: f64| latencies[((latencies.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e3;
        self.show(&format!("{what}, median"), percentile(0.5), "ms");
        self.at_most(&format!("{what}, p99"), percentile(0.99), most, "ms");
        self.show(&format!("{what}, longest"), percentile(1.0), "ms");
    }

    fn judge(&mut self, what: &str, figure: f64, unit: &str, holds: bool, claim: &str) {
        let verdict = if holds { "ok" } else { "MISSED" };
        println!("  {what:<58} {figure:>10.2} {unit} ({claim}) {verdict}");
        if !holds {
            self.missed.push(format!("{what}: {figure:.2} {unit}, {claim}"));
        }
    }

    /// The exit code: 1 when a figure was missed.
    fn finish(self) -> i32 {
        if self.missed.is_empty() {
            return 0;
        }
        println!("\nmissed:");
        for missed in &self.missed {
            println!("  {missed}");
        }
        1
    }
}
