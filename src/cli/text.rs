//! Numbers, dates and tables for people.

use std::fmt::Write as _;

use crate::types::{Millis, civil, is_misleading};

pub(super) use crate::types::{count, grouped};

/// `2026-01-31 08:05 UTC`.
pub(super) fn date(at: Millis) -> String {
    let (year, month, day, hour, minute, _) = civil(at);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `3 d 4 h`, `5 min`, `12 s`: the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `14.2 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut tenths = bytes.saturating_mul(10);
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if tenths < 10_240 || units.peek().is_none() {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
        tenths /= 1024;
    }
    format!("{bytes} B")
}

/// For a path.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// A stranger's text, made safe for a terminal: what would move the cursor, or show as something else, is escaped.
pub(super) fn safe(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_misleading(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Columns of a terminal that nobody made wider.
const WIDTH: usize = 80;

/// Breaks the lines of a text at blanks, so that each fits into 80 columns; what a line goes on with is indented by `indent`. A
/// word that is longer, such as a path, stays whole.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for line in text.lines() {
        let start = &line[..line.len() - line.trim_start().len()];
        wrapped.push_str(start);
        let mut column = start.chars().count();
        for (n, word) in line.split_whitespace().enumerate() {
            let length = word.chars().count();
            if n > 0 && column + 1 + length > WIDTH {
                let _ = write!(wrapped, "\n{:indent$}", "");
                column = indent;
            } else if n > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped.push('\n');
    }
    wrapped
}

/// Three columns for 80: a name, its value, and a remark. A row that is too long goes on below its value.
pub(super) fn settings(rows: &[[String; 3]]) -> String {
    /// A longer value makes its own row longer, not the column wider.
    const VALUE: usize = 24;
    let chars = |text: &String| text.chars().count();
    let name = rows.iter().map(|[name, ..]| chars(name)).max().unwrap_or_default();
    let value =
        rows.iter().map(|[_, value, _]| chars(value)).filter(|n| *n <= VALUE).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let line = format!("{:<name$}  {:<value$}  {}", row[0], row[1], row[2]);
        if chars(&row[1]) <= value && chars(&line) <= WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            continue;
        }
        let indent = name + 2;
        let below = |cell: &str| wrap(&format!("{:indent$}{cell}", ""), indent);
        // The blanks before a value are where the name stands.
        let _ = write!(text, "{:<indent$}{}{}", row[0], below(&row[1]).trim_start(), below(&row[2]));
    }
    text
}

/// Columns as wide as their widest cell, two blanks between.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(seconds * 1000), text);
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2048.0 GiB"].map(String::from),
            [0, 1023, 1024, 3 << 19, 2 << 40].map(bytes)
        );
        assert_eq!(
            ["59 s", "1 min", "1 h 1 min", "2 d 3 h"].map(String::from),
            [59, 60, 3660, 183_600].map(span)
        );
    }

    #[test]
    fn a_terminal_is_not_fooled() {
        assert_eq!(safe("a\u{1b}[2J\r\u{202e}b é"), "a\\u{1b}[2J\\u{d}\\u{202e}b é");
    }

    #[test]
    fn long_lines_go_on_below() {
        let text = format!("  {} end\nshort", "word ".repeat(16));
        let expected = format!("  {}word\n    word end\nshort\n", "word ".repeat(14));
        assert_eq!(wrap(&text, 4), expected);
        let path = "/x".repeat(60);
        assert_eq!(wrap(&format!("at {path} now"), 2), format!("at\n  {path}\n  now\n"));
    }

    #[test]
    fn settings_fit_into_a_terminal() {
        let row = |name: &str, value: &str, origin: &str| [name, value, origin].map(String::from);
        let networks = ["192.0.2.0/24"; 5].join(", ");
        let rows = [
            row("limits.connections_per_session", "64", "default"),
            row("listen.trusted_proxies", &networks, "variable GROUNDMIST_SYNC_LISTEN__TRUSTED_PROXIES"),
            row("data_dir", "/var/lib/groundmist-sync", "default"),
        ];
        let shown = settings(&rows);
        let at = " ".repeat(32);
        let expected = [
            format!("limits.connections_per_session  64{}default", " ".repeat(24)),
            "listen.trusted_proxies          192.0.2.0/24, 192.0.2.0/24, 192.0.2.0/24,".into(),
            format!("{at}192.0.2.0/24, 192.0.2.0/24"),
            format!("{at}variable GROUNDMIST_SYNC_LISTEN__TRUSTED_PROXIES"),
            "data_dir                        /var/lib/groundmist-sync  default".into(),
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }
}
