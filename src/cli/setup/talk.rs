//! What is said and asked while a server is set up. Results are for stdout; with `--json` everything else is on stderr.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use serde::Serialize;

use crate::cli::text::safe;
use crate::cli::{CliError, print};

/// Longest answer in bytes: longer than any name or address can be.
const MAX_ANSWER_BYTES: u64 = 1024;

/// Something that may keep the server from working, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Warning {
    pub(super) about: String,
    pub(super) found: String,
    pub(super) fix: Option<String>,
}

/// A terminal to ask on, or none; and what was warned of.
#[derive(Debug)]
pub(super) struct Talk {
    asks: bool,
    json: bool,
    pub(super) warnings: Vec<Warning>,
}

impl Talk {
    /// Asks if there is a terminal, and `yes` does not answer everything beforehand.
    pub(super) fn new(yes: bool, json: bool) -> Self {
        Self { asks: !yes && std::io::stdin().is_terminal(), json, warnings: Vec::new() }
    }

    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// One or more lines.
    pub(super) fn say(&self, text: &str) {
        let text: String = text.lines().map(|line| format!("{}\n", safe(line))).collect();
        if self.json {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            print(&text);
        }
    }

    /// Said now, and kept for the end.
    pub(super) fn warn(&mut self, warning: Warning) {
        self.say(&format!("  warning: {}", warning.found));
        if let Some(fix) = &warning.fix {
            self.say(&format!("  To mend it: {fix}"));
        }
        self.warnings.push(warning);
    }

    /// One line from the terminal. The question goes to stderr. Ctrl-C ends the process, as everywhere.
    ///
    /// # Errors
    /// The terminal is gone, or Ctrl-D was pressed.
    pub(super) fn line(&self, question: &str) -> Result<String, CliError> {
        let ended = |reason: &str| CliError::failed("not_answered", format!("{reason}: setup ended there"));
        let mut err = std::io::stderr();
        let _ = err.write_all(safe(question).as_bytes()).and_then(|()| err.flush());
        let mut line = Vec::new();
        let read = std::io::stdin().lock().take(MAX_ANSWER_BYTES).read_until(b'\n', &mut line);
        match read {
            Ok(0) => {
                let _ = writeln!(err);
                Err(ended("there was no answer"))
            }
            Ok(_) if line.last() != Some(&b'\n') => Err(ended("the answer is too long, or was cut off")),
            Ok(_) => Ok(String::from_utf8_lossy(&line).trim().to_owned()),
            Err(error) => Err(ended(&format!("the terminal cannot be read ({error})"))),
        }
    }

    /// Whether she goes on in spite of a warning. Without a terminal a warning stops nobody.
    ///
    /// # Errors
    /// As [`Talk::line`].
    pub(super) fn goes_on(&self) -> Result<bool, CliError> {
        if !self.asks {
            return Ok(true);
        }
        Ok(matches!(self.line("  Go on all the same? [y/N] ")?.as_str(), "y" | "Y" | "yes"))
    }
}
