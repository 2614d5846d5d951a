//! Sizes and times as people write them: `24 MiB`, `500ms`.

use std::time::Duration;

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const TIMES: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A whole number, digits with `_` between them if wanted.
pub(super) fn parse_count(text: &str) -> Option<u64> {
    let digits = text.trim();
    let sound = digits.starts_with(|c: char| c.is_ascii_digit()) && !digits.ends_with('_');
    sound.then(|| digits.replace('_', "").parse().ok())?
}

/// Bytes: a plain number, or a whole number and a unit from `B` to `GiB`.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let factor = if unit.is_empty() { 1 } else { lookup(SIZES, |name| name.eq_ignore_ascii_case(unit))? };
    parse_count(number)?.checked_mul(factor)
}

/// A time span: a whole number and one of `ms s m h d`.
///
/// # Errors
/// How to write one.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = split(text);
    lookup(TIMES, |name| name == unit)
        .and_then(|factor| parse_count(number)?.checked_mul(factor))
        .map(Duration::from_millis)
        .ok_or("write a whole number and a unit (ms, s, m, h or d), such as 500ms, 10s or 30d")
}

/// In the largest unit that leaves no rest.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(&SIZES[..3], bytes).unwrap_or_else(|| format!("{bytes} bytes"))
}

/// In the largest unit that leaves no rest.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (number, unit) = TIMES
        .iter()
        .find(|(name, factor)| *name != "min" && millis > 0 && millis.is_multiple_of(*factor))
        .map_or((millis, "ms"), |(name, factor)| (millis / factor, *name));
    format!("{number}{unit}")
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn lookup(units: &[(&str, u64)], is: impl Fn(&str) -> bool) -> Option<u64> {
    units.iter().find(|(name, _)| is(name)).map(|(_, factor)| *factor)
}

fn show(units: &[(&str, u64)], value: u64) -> Option<String> {
    let (name, factor) = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))?;
    Some(format!("{} {name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("24 MiB", 24 << 20),
            ("24MiB", 24 << 20),
            ("1048576", 1 << 20),
            ("50_000", 50_000),
            ("3 mb", 3_000_000),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in
            ["", "MiB", "-1", "1.5 MiB", "1 MiBs", "_1", "1_", "99999999999999999999", "20000000000 GiB"]
        {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(
            (show_bytes(24 << 20), show_bytes(1500), show_bytes(0)),
            ("24 MiB".into(), "1500 bytes".into(), "0 bytes".into())
        );
    }

    #[test]
    fn times() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("10 s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "1.5s", "-1s", "10 seconds", "1h30m", "999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for text in ["500ms", "10s", "5m", "1h", "30d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }
}
