//! Prometheus' text format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

use crate::telemetry::histogram::{BOUNDS_US, Buckets};

/// Media type of what [`Text`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as they are written, one after the other.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// A value that goes up and down. `help` is one line.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }

    /// A value that only rises, until the process ends.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, "", value);
    }

    /// Values apart by one label. Label values are our own words: they hold no quotes and no backslash.
    pub fn by_label<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, help, kind);
        for (of, value) in values {
            self.sample(name, &format!("{{{label}=\"{of}\"}}"), value);
        }
    }

    /// Values apart by several labels, which are written as they stand in the braces.
    pub fn by_labels(&mut self, name: &str, help: &str, kind: &str, values: &[(String, u64)]) {
        self.head(name, help, kind);
        for (labels, value) in values {
            self.sample(name, &format!("{{{labels}}}"), *value);
        }
    }

    /// Seconds apart by several labels, from microseconds.
    pub fn seconds_by_labels(&mut self, name: &str, help: &str, kind: &str, values: &[(String, u64)]) {
        self.head(name, help, kind);
        for (labels, us) in values {
            let _ = writeln!(self.0, "{name}{{{labels}}} {}", seconds(*us));
        }
    }

    /// How long things took, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, buckets: &Buckets) {
        self.head(name, help, "histogram");
        let mut count = 0;
        for (bound, in_it) in BOUNDS_US.iter().zip(buckets.counts) {
            count += in_it;
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{}\"}}", seconds(*bound)), count);
        }
        let all = buckets.counts.iter().sum();
        self.sample(&format!("{name}_bucket"), "{le=\"+Inf\"}", all);
        let _ = writeln!(self.0, "{name}_sum {}", seconds(buckets.sum_us));
        self.sample(&format!("{name}_count"), "", all);
    }

    /// All that was written.
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_as_it_is_written_down() {
        let mut text = Text::default();
        text.gauge("a_bytes", "Bytes of a.", 7);
        text.by_label("b_total", "Bs.", "counter", "result", [("ok", 1), ("no", 2)]);
        let mut buckets = Buckets { sum_us: 10_000_250, ..Buckets::default() };
        (buckets.counts[0], buckets.counts[14]) = (1, 1);
        text.histogram("c_seconds", "Times.", &buckets);
        let text = text.finish();
        assert!(text.starts_with("# HELP a_bytes Bytes of a.\n# TYPE a_bytes gauge\na_bytes 7\n"), "{text}");
        for line in [
            "b_total{result=\"no\"} 2",
            "c_seconds_bucket{le=\"0.00025\"} 1",
            "c_seconds_bucket{le=\"10\"} 1",
            "c_seconds_bucket{le=\"+Inf\"} 2",
            "c_seconds_sum 10.00025",
            "c_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        let cases =
            [(0, "0"), (250, "0.00025"), (1_000_000, "1"), (10_000_000, "10"), (2_500_001, "2.500001")];
        for (us, text) in cases {
            assert_eq!(seconds(us), text);
        }
    }
}
