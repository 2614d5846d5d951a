//! What became of each document, told as it happens: there may be very many.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::super::progress::Progress;
use super::super::text::{count, grouped, safe};
use super::super::{Exit, print};

/// Most damaged files that are named of one document.
const MAX_NAMED: usize = 20;

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// All that the files have is in, and some of it is new.
    Imported,
    /// All that the files have was there.
    Unchanged,
    /// What is whole of the files is in.
    Partly,
    /// Not all that is whole is in.
    Failed,
    /// It is deleted here, and stays so.
    Skipped,
}

/// A file that is damaged, or not what it should be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Damaged {
    pub(super) file: String,
    pub(super) reason: String,
}

/// One document's result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Imported {
    pub(super) namespace: String,
    pub(super) document: String,
    pub(super) outcome: Outcome,
    /// Files that should have its chunks.
    pub(super) files: usize,
    /// Those of them that are whole.
    pub(super) whole: usize,
    /// Changes left out, since what they rest on is lost.
    pub(super) left_out: usize,
    /// The server's heads now, in hexadecimal.
    pub(super) heads: Vec<String>,
    pub(super) message: Option<String>,
    pub(super) damaged: Vec<Damaged>,
}

/// Tells.
pub(super) struct Report {
    json: bool,
    /// Something else was said before.
    begun: bool,
    progress: Progress,
    imported: u64,
    unchanged: u64,
    partly: u64,
    failed: u64,
    skipped: u64,
    /// What is no document and was passed over, and what could not be read.
    notes: Vec<Note>,
    unreadable: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct Note {
    path: String,
    note: String,
}

/// Most notes that are kept for the end.
const MAX_NOTES: usize = 1000;

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let progress = Progress::new();
        if json {
            print("{\"documents\":[");
        }
        Self {
            json,
            begun: false,
            progress,
            imported: 0,
            unchanged: 0,
            partly: 0,
            failed: 0,
            skipped: 0,
            notes: Vec::new(),
            unreadable: 0,
            dropped: 0,
        }
    }

    /// Something that is no document, and no fault either.
    pub(super) fn note(&mut self, path: &Path, note: &str) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(Note { path: path.display().to_string(), note: note.into() });
        } else {
            self.dropped += 1;
        }
    }

    /// Something that could not be read, so that documents in it may be missing.
    pub(super) fn unreadable(&mut self, path: &Path, error: &dyn std::fmt::Display) {
        self.unreadable += 1;
        self.note(path, &format!("NOT READ: {error}"));
    }

    /// One document's result.
    pub(super) fn tell(&mut self, mut imported: Imported) {
        match imported.outcome {
            Outcome::Imported => self.imported += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Partly => self.partly += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Skipped => self.skipped += 1,
        }
        let named = imported.damaged.len();
        imported.damaged.truncate(MAX_NAMED);
        if self.json {
            // Plain texts and numbers always have a JSON form.
            let row = serde_json::to_string(&imported).unwrap_or_default();
            print(&format!("{}\n{row}", if self.begun { "," } else { "" }));
        } else {
            self.progress.clear();
            print(&words(&imported, named));
        }
        self.begun = true;
        self.progress.documents(self.all());
    }

    fn all(&self) -> u64 {
        self.imported + self.unchanged + self.partly + self.failed + self.skipped
    }

    /// The end: the summary, and whether anything failed.
    pub(super) fn finish(self) -> Exit {
        self.progress.clear();
        let failed = self.failed > 0 || self.unreadable > 0;
        let Self { imported, unchanged, partly, failed: not, skipped, unreadable, .. } = self;
        if self.json {
            let summary = serde_json::json!({
                "imported": imported, "unchanged": unchanged, "partly": partly, "failed": not, "skipped": skipped,
                "unreadable": unreadable,
            });
            let notes = serde_json::to_string(&self.notes).unwrap_or_default();
            print(&format!("\n],\"notes\":{notes},\"summary\":{summary}}}\n"));
        } else {
            let mut text = String::new();
            for Note { path, note } in &self.notes {
                let _ = writeln!(text, "{}: {}", safe(path), safe(note));
            }
            if self.dropped > 0 {
                let _ = writeln!(text, "and {} more like these", grouped(self.dropped));
            }
            let all = count(self.all(), "document");
            let counts = [imported, unchanged, partly, not].map(grouped);
            let [imported, unchanged, partly, not] = counts;
            let skipped =
                if skipped > 0 { format!(", {} deleted here", grouped(skipped)) } else { String::new() };
            let _ = writeln!(
                text,
                "{all}: {imported} imported, {unchanged} already there, {partly} partly damaged, {not} failed{skipped}"
            );
            print(&text);
        }
        if failed { Exit::Failure } else { Exit::Success }
    }
}

fn words(imported: &Imported, damaged: usize) -> String {
    let Imported { namespace, document, files, whole, left_out, .. } = imported;
    let what = match imported.outcome {
        Outcome::Imported => "imported".to_owned(),
        Outcome::Unchanged => "already there".to_owned(),
        Outcome::Partly => format!("partly damaged: kept {whole} of {} whole", count(*files, "chunk")),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
    };
    let mut text = format!("{namespace}  {document}  {what}");
    if let Some(message) = &imported.message {
        let _ = write!(text, ": {}", safe(message));
    }
    text.push('\n');
    if *left_out > 0 {
        let _ = writeln!(text, "    left out {}: what they rest on is lost", count(*left_out, "change"));
    }
    for Damaged { file, reason } in &imported.damaged {
        let _ = writeln!(text, "    {}: {}", safe(file), safe(reason));
    }
    if damaged > imported.damaged.len() {
        let _ = writeln!(text, "    and {} more", damaged - imported.damaged.len());
    }
    text
}
