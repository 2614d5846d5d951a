//! What the owner reads of documents that could not be opened: which, whose, how large, and what to do.

use crate::engine::{BadEnd, Trouble, TroubleKind};

/// Of a document that stays closed: message and fix.
pub(super) fn closed(closed: &BadEnd) -> (String, String) {
    let BadEnd { namespace, document, client, ends, reason, .. } = closed;
    let sender = sender(client, "");
    let how = if reason.is_empty() { String::new() } else { format!(" (the last time {reason})") };
    let message = format!(
        "opening document {document} in {namespace}{sender} ended badly {ends} times in a row{how}, so the document stays closed: it syncs on, but it is not compacted, and large uploads into it are refused"
    );
    let fix = format!(
        "give the server more memory (memory.opener), then allow another try: `sudo groundmist-sync docs retry {namespace} {document}`"
    );
    (message, fix)
}

/// Of another trouble: code, message and fix. `memory_bytes` is what `memory.opener` allows.
pub(super) fn trouble(trouble: &Trouble, memory_bytes: u64) -> (&'static str, String, String) {
    let Trouble { namespace, document, need_bytes, reason, .. } = trouble;
    let sender = sender(&trouble.client, &trouble.session);
    let (size, need) = (size(trouble.size_bytes), size(*need_bytes));
    let allowed = self::size(memory_bytes);
    // A quarter more than the estimate, so that the document may grow.
    let raise = format!(
        "set memory.opener to {} or more, if the machine has that much memory to spare, and restart the server; or split the document up in the app",
        whole_megabytes(need_bytes.saturating_add(need_bytes / 4))
    );
    let forget = format!("`sudo groundmist-sync docs retry {namespace} {document}`");
    match trouble.kind {
        TroubleKind::TooLargeToCompact => (
            "document_too_large_to_compact",
            format!(
                "document {document} in {namespace} ({size}) is too large to be compacted: that takes about {need} of memory, and memory.opener allows {allowed}. It syncs on, and takes more room on the disk than it needs to"
            ),
            raise,
        ),
        TroubleKind::TooLargeToTakeIn => (
            "document_too_large",
            format!(
                "document {document} in {namespace}{sender} ({size}) was not taken in whole: that takes about {need} of memory, and memory.opener allows {allowed}. The device keeps it, and its other documents sync. When the device connects again it is asked for single changes, which take no such memory"
            ),
            format!(
                "nothing, if this ends when the device has connected again. Otherwise {raise}. If the document is no longer wanted, {forget} ends this warning"
            ),
        ),
        TroubleKind::MessageTooLarge => (
            "message_too_large",
            format!(
                "document {document} in {namespace}{sender} was not taken in: the device sent {size} of it at once, and {reason}. The device keeps it, and its other documents sync"
            ),
            format!(
                "raise the limit that is named there and restart the server, or split the document up in the app. With limits.message_bytes raise limits.inbox_bytes and limits.inflated_bytes too, all of them to {} or more. If the document is no longer wanted, {forget} ends this warning",
                whole_megabytes(trouble.size_bytes.saturating_add(trouble.size_bytes / 4))
            ),
        ),
        TroubleKind::Failed => (
            "opening_failed",
            format!("document {document} in {namespace}{sender} could not be opened: {reason}. It syncs on"),
            format!(
                "nothing, if this does not come again; {forget} ends this warning and allows another try at once"
            ),
        ),
        TroubleKind::NoProcess => (
            "no_opener",
            format!(
                "document {document} in {namespace}{sender} ({size}) is too large for the server's own process, and no other could be started: {reason}"
            ),
            "start the server where it can start its own program again: with /proc, and after an upgrade restarted".into(),
        ),
    }
}

fn sender(client: &str, session: &str) -> String {
    match (client, session) {
        ("", _) => String::new(),
        (client, "") => format!(" from the app {client}"),
        (client, session) => format!(" from the app {client} (session {session})"),
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => whole_megabytes(bytes),
    }
}

fn whole_megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: TroubleKind) -> Trouble {
        Trouble {
            kind,
            namespace: "xyz.example".into(),
            document: "abc".into(),
            client: "https://app.example/".into(),
            session: "s1".into(),
            size_bytes: 3_000_001,
            need_bytes: 2_400_000_000,
            reason: "it was killed".into(),
        }
    }

    #[test]
    fn the_owner_reads_which_document_whose_how_large_and_what_to_do() {
        let (code, message, fix) = trouble(&of(TroubleKind::TooLargeToTakeIn), 512 << 20);
        assert_eq!(code, "document_too_large");
        for part in ["abc in xyz.example", "https://app.example/", "s1", "4 MB", "2400 MB", "537 MB"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(fix.contains("3000 MB") && fix.contains("docs retry xyz.example abc"), "{fix}");
        let (_, message, fix) = trouble(&of(TroubleKind::Failed), 0);
        assert!(message.contains("it was killed") && fix.contains("docs retry"));
        let (_, message, _) = trouble(&of(TroubleKind::NoProcess), 0);
        assert!(message.contains("it was killed"));
        let old = BadEnd {
            namespace: "xyz.example".into(),
            document: "abc".into(),
            client: "https://app.example/".into(),
            ends: 2,
            reason: String::new(),
            need_bytes: 0,
        };
        let (message, fix) = closed(&old);
        assert!(
            message.contains("from the app https://app.example/ ended badly 2 times")
                && !message.contains("()"),
            "{message}"
        );
        assert!(fix.contains("docs retry xyz.example abc"));
    }
}
