//! Figures, and whether they hold.

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

    fn judge(&mut self, what: &str, figure: f64, unit: &str, holds: bool, claim: &str) {
        let verdict = if holds { "ok" } else { "MISSED" };
        println!("  {what:<58} {figure:>10.2} {unit} ({claim}) {verdict}");
        if !holds {
            self.missed.push(format!("{what}: {figure:.2} {unit}, {claim}"));
        }
    }

    /// The exit code: 1 when a figure was missed.
    pub fn finish(self) -> i32 {
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
