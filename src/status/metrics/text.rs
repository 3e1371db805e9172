//! The text format of Prometheus, version 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{self, Write as _};

use kappa_actors::vitals::Histogram;

/// The kind of a family.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A histogram counts microseconds, and shows seconds.
pub(super) const MICROS: f64 = 1e6;

/// A histogram shows its counts unscaled.
pub(super) const ONE: f64 = 1.0;

/// Labels of one sample.
type Labels<'a> = [(&'a str, &'a str)];

/// An exposition that grows family by family.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Text {
    /// Begins a family; its samples follow.
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = Escaped(help, false);
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        Family { text: self, name }
    }

    /// A family of one counter.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).sample(&[], value as f64);
    }

    /// A family of one gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A family with a sample for each value of one label.
    pub(super) fn by<'v>(
        &mut self,
        label: &str,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl Iterator<Item = (&'v str, f64)>,
    ) {
        let mut family = self.family(name, kind, help);
        samples.for_each(|(of, value)| family.sample(&[(label, of)], value));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A family that takes samples.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut Text,
    name: &'a str,
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &Labels<'_>, value: f64) {
        let (name, labels) = (self.name, Braced(labels));
        self.text.line(format_args!("{name}{labels} {value}"));
    }

    /// Adds the samples of a histogram, `unit` of its values being one.
    pub(super) fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram, unit: f64) {
        let (name, (totals, sum)) = (self.name, histogram.cumulative());
        let bounds = histogram.bounds().iter().map(|bound| (*bound as f64 / unit).to_string());
        for (bound, total) in bounds.chain(["+Inf".to_owned()]).zip(&totals) {
            let labels = [labels, &[("le", &*bound)]].concat();
            self.text.line(format_args!("{name}_bucket{} {total}", Braced(&labels)));
        }
        let (labels, count) = (Braced(labels), totals.last().unwrap_or(&0));
        let sum = sum as f64 / unit;
        self.text.line(format_args!("{name}_sum{labels} {sum}\n{name}_count{labels} {count}"));
    }
}

/// Labels in braces; nothing without any.
struct Braced<'a>(&'a Labels<'a>);

impl fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(f, "{before}{name}=\"{}\"", Escaped(value, true))?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

/// A text on one line; within quotes if so.
struct Escaped<'a>(&'a str, bool);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            '"' if self.1 => f.write_str("\\\""),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        let mut text = Text::default();
        let labels = [("table", "a\\b\"c\nd"), ("kind", "é")];
        text.family("kappa_x", Kind::Gauge, "one\\two\n\"three\"").sample(&labels, 0.25);
        let expected = "# HELP kappa_x one\\\\two\\n\"three\"\n# TYPE kappa_x gauge\n\
                        kappa_x{table=\"a\\\\b\\\"c\\nd\",kind=\"é\"} 0.25\n";
        assert_eq!(text.0, expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_at_infinity() {
        let histogram = Histogram::default();
        for value in [500, 1_000, 1_001, u64::from(u32::MAX) * 1_000] {
            histogram.observe(value);
        }
        let mut text = Text::default();
        let mut family = text.family("kappa_x_seconds", Kind::Histogram, "x");
        family.histogram(&[("table", "orders")], &histogram, MICROS);
        for line in [
            "kappa_x_seconds_bucket{table=\"orders\",le=\"0.001\"} 2",
            "kappa_x_seconds_bucket{table=\"orders\",le=\"0.002\"} 3",
            "kappa_x_seconds_bucket{table=\"orders\",le=\"86400\"} 3",
            "kappa_x_seconds_bucket{table=\"orders\",le=\"+Inf\"} 4",
            "kappa_x_seconds_sum{table=\"orders\"} 4294967.297501",
            "kappa_x_seconds_count{table=\"orders\"} 4",
        ] {
            assert!(text.0.lines().any(|found| found == line), "{line} in\n{}", text.0);
        }
    }
}
