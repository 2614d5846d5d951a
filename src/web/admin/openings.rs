//! What the owner reads of documents that could not be opened or were sent in too large messages: which, whose, how large, and
//! what to do.

use std::collections::BTreeMap;

use super::NamedDocument;
use crate::config::{MOST_CHANGES, MOST_INFLATED_BYTES, MOST_MESSAGE_BYTES, MOST_OPERATIONS};
use crate::engine::{BadEnd, EngineStatus, Exceeded, MessageLimit, Trouble, TroubleKind};

/// How many times its bytes a message takes of memory at most: half received, received and not worked at, and decoded.
const MESSAGE_TIMES: u64 = 4;
/// How many times what a message inflates to it takes of memory while it is decoded, and what is taken out of that.
const INFLATED_TIMES: u64 = 4;

/// Documents of one app that get a warning each for the same trouble. The others share one: an app that has many must not hide
/// what else the owner must look at.
const NAMED: usize = 3;

/// What the owner reads of one or several documents.
pub(super) struct Told {
    pub code: &'static str,
    pub message: String,
    pub fix: String,
    /// The document that may be tried again.
    pub retry: Option<NamedDocument>,
}

fn named(namespace: &str, document: &str) -> Option<NamedDocument> {
    Some(NamedDocument { namespace: namespace.to_owned(), document: document.to_owned() })
}

/// Of all documents that the engine has trouble with. `machine_bytes` is the machine's memory.
pub(super) fn all(engine: &EngineStatus, machine_bytes: u64) -> Vec<Told> {
    let closed = engine.closed_documents.iter().map(|bad| {
        let (message, fix) = closed(bad);
        let retry = named(&bad.namespace, &bad.document);
        (&bad.namespace, &bad.client, Told { code: "document_closed", message, fix, retry })
    });
    let troubles = engine.opening_troubles.iter().map(|of| {
        let (code, message, fix) = trouble(of, engine.opener_memory_bytes, machine_bytes);
        let retry = named(&of.namespace, &of.document);
        (&of.namespace, &of.client, Told { code, message, fix, retry })
    });
    let (mut told, mut counts) = (Vec::new(), BTreeMap::new());
    for (namespace, client, one) in closed.chain(troubles) {
        let count = counts.entry((one.code, namespace, client)).or_insert(0);
        *count += 1;
        if *count <= NAMED {
            told.push(one);
        }
    }
    let rest = counts.into_iter().filter(|(_, count)| *count > NAMED);
    told.extend(rest.map(|((code, namespace, client), count)| more(code, namespace, client, count - NAMED)));
    told
}

/// Of documents that are not named one by one.
fn more(code: &'static str, namespace: &str, client: &str, count: usize) -> Told {
    let what = match code {
        "document_closed" => "closed, because opening them ended badly",
        "document_too_large_to_compact" => "too large to be compacted",
        "document_too_large" => "too large to be taken in whole",
        "message_too_large" => "not saved here in full, because a device sent too much of each at once",
        _ => "affected in the same way, because they could not be opened",
    };
    let (documents, are) = if count == 1 { ("document", "is") } else { ("documents", "are") };
    let message = format!("{count} more {documents}{} in {namespace} {are} {what}", sender(client, ""));
    let all = "`sudo groundmist-sync status --json` names all of them";
    let fix = match client {
        "" => all.to_owned(),
        _ => format!(
            "{all}. If you do not know why this app has so many documents, revoke its access: find it with `sudo groundmist-sync apps list` or `sudo groundmist-sync token list`"
        ),
    };
    Told { code, message, fix, retry: None }
}

/// Of a document that stays closed: message and fix.
fn closed(closed: &BadEnd) -> (String, String) {
    let BadEnd { namespace, document, client, ends, reason, .. } = closed;
    // Later ends may be of what others sent.
    let first = if client.is_empty() { String::new() } else { format!(", first for the app {client},") };
    let how = if reason.is_empty() { String::new() } else { format!(" (the last time {reason})") };
    let message = format!(
        "opening document {document} in {namespace}{first} ended badly {ends} times in a row{how}, so the document stays closed: it syncs on, but it is not compacted, and large uploads into it are refused"
    );
    let fix = format!(
        "give the server more memory (memory.opener), then allow another try: `sudo groundmist-sync docs retry {namespace} {document}`"
    );
    (message, fix)
}

/// Of another trouble: code, message and fix. `memory_bytes` is what `memory.opener` allows, `machine_bytes` what the machine has.
fn trouble(trouble: &Trouble, memory_bytes: u64, machine_bytes: u64) -> (&'static str, String, String) {
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
                "document {document} in {namespace}: changes{sender} are not saved here. The device sent {size} in one message, and {reason}. Until the document gets through, nothing that this device writes in it is saved here. The device keeps its changes, and its other documents sync"
            ),
            format!(
                "{}. This ends by itself when all that the device has of the document is here. If the document is no longer wanted, delete it in the app; {forget} then ends this warning",
                allow(trouble, machine_bytes)
            ),
        ),
        TroubleKind::Failed | TroubleKind::NotExtracted => (
            "opening_failed",
            format!("document {document} in {namespace}{sender} could not be opened or compacted: {reason}. It syncs on"),
            format!(
                "nothing, if this warning does not return; {forget} ends it and allows another try at once. A document of more than 128 MiB stays as it is, however often you try: split it up in the app"
            ),
        ),
        TroubleKind::NoProcess => (
            "no_opener",
            format!(
                "document {document} in {namespace}{sender} ({size}) is too large for the server's own process, and no other could be started: {reason}"
            ),
            "mount /proc where the server runs, because the server starts itself from there; if its program was upgraded, restart the server".into(),
        ),
    }
}

/// How to let a message through that was too large: by a higher limit where the machine can bear that.
fn allow(trouble: &Trouble, machine_bytes: u64) -> String {
    const SPLIT: &str = "split the document up in the app";
    let bearable = |most: u64, times: u64| most.min(machine_bytes / times / 1_000_000 * 1_000_000);
    let Some(Exceeded { name, value }) = trouble.limit else {
        return format!("raise the limit that is named there and restart the server, or {SPLIT}");
    };
    let if_spare = "if the machine has that much memory to spare, and restart the server";
    let setting = name.setting();
    // Counting ended at the limit, so what it takes is not known; automerge's own lists double too.
    let doubled = |most: u64| value.saturating_mul(2).min(most);
    let (wanted, most) = match name {
        // A quarter more, so that the document may grow.
        MessageLimit::MessageBytes => {
            let wanted = trouble.size_bytes.saturating_add(trouble.size_bytes / 4);
            (wanted.div_ceil(1_000_000) * 1_000_000, bearable(MOST_MESSAGE_BYTES, MESSAGE_TIMES))
        }
        MessageLimit::InflatedBytes => {
            let most = bearable(MOST_INFLATED_BYTES, INFLATED_TIMES);
            (doubled(most), most)
        }
        MessageLimit::Operations => (doubled(MOST_OPERATIONS), MOST_OPERATIONS),
        MessageLimit::Changes => (doubled(MOST_CHANGES), MOST_CHANGES),
    };
    let unknown = "how much it takes is not known, because counting ended at the limit";
    match name {
        _ if wanted > most || wanted <= value => {
            format!("{SPLIT}: this machine cannot take that much at once, so do not raise {setting}")
        }
        MessageLimit::MessageBytes => format!(
            "set {setting}, limits.inbox_bytes and limits.inflated_bytes each to {} or more, {if_spare} (for a text limits.inflated_bytes must be several times as much); or {SPLIT}",
            whole_megabytes(wanted)
        ),
        MessageLimit::InflatedBytes => format!(
            "set {setting} to {} or more, {if_spare} ({unknown}); or {SPLIT}",
            whole_megabytes(wanted)
        ),
        MessageLimit::Operations | MessageLimit::Changes => {
            format!("set {setting} to {wanted} or more, {if_spare} ({unknown}); or {SPLIT}")
        }
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
            limit: None,
        }
    }

    /// A message of so many bytes that went beyond a limit: what the owner reads, on a machine with 1 GB.
    fn too_large(size_bytes: u64, name: MessageLimit, value: u64) -> (String, String) {
        let exceeded = Exceeded { name, value };
        let (reason, limit) = (exceeded.to_string(), Some(exceeded));
        let of = Trouble { size_bytes, reason, limit, ..of(TroubleKind::MessageTooLarge) };
        let (code, message, fix) = trouble(&of, 0, 1_000_000_000);
        assert_eq!(code, "message_too_large");
        assert!(
            message.contains("document abc in xyz.example: changes")
                && message.contains("(session s1) are not saved here"),
            "{message}"
        );
        assert!(fix.contains("docs retry xyz.example abc") && fix.contains("split the document up"), "{fix}");
        (message, fix)
    }

    #[test]
    fn an_app_with_many_troubles_hides_nothing_else() {
        let many =
            (0..200).map(|n| Trouble { document: format!("d{n}"), ..of(TroubleKind::MessageTooLarge) });
        let other = Trouble { client: "https://other.example/".into(), ..of(TroubleKind::MessageTooLarge) };
        let closed = BadEnd {
            namespace: "xyz.example".into(),
            document: "abc".into(),
            client: String::new(),
            ends: 2,
            reason: String::new(),
            need_bytes: 0,
        };
        let engine = EngineStatus {
            opening_troubles: many.chain([other]).collect(),
            closed_documents: vec![closed; 5],
            ..EngineStatus::default()
        };
        let told = all(&engine, 0);
        assert_eq!(told.len(), 3 + 3 + 1 + 2);
        let of = |code| told.iter().filter(move |told| told.code == code).collect::<Vec<_>>();
        let [.., other, rest] = &of("message_too_large")[..] else { panic!("too few") };
        assert!(other.message.contains("https://other.example/"), "{}", other.message);
        let expected = "197 more documents from the app https://app.example/ in xyz.example are not saved";
        assert!(rest.message.starts_with(expected), "{}", rest.message);
        assert!(rest.fix.contains("apps list") && rest.fix.contains("status --json"), "{}", rest.fix);
        let rest = &of("document_closed")[3];
        assert!(rest.message.starts_with("2 more documents in xyz.example are closed"), "{}", rest.message);
        assert!(!rest.fix.contains("access"), "{}", rest.fix);
    }

    #[test]
    fn a_limit_that_a_message_exceeded_is_named_with_what_helps() {
        let (message, fix) = too_large(40_500_000, MessageLimit::MessageBytes, 32 << 20);
        assert!(
            message.contains("The device sent 41 MB in one message, and limits.message_bytes allows 33.6 MB"),
            "{message}"
        );
        let all =
            "set limits.message_bytes, limits.inbox_bytes and limits.inflated_bytes each to 51 MB or more";
        assert!(fix.contains(all) && fix.contains("memory to spare"), "{fix}");
        let (message, fix) = too_large(300_000, MessageLimit::InflatedBytes, 32 << 20);
        assert!(
            message.contains("300 kB") && message.contains("inflates to more than the 33.6 MB"),
            "{message}"
        );
        assert!(
            fix.contains("set limits.inflated_bytes to 68 MB or more") && fix.contains("not known"),
            "{fix}"
        );
        assert!(!fix.contains("limits.message_bytes") && !fix.contains("1 MB"), "{fix}");
        let (message, fix) = too_large(69, MessageLimit::Operations, 8 << 20);
        assert!(message.contains("more than the 8388608 operations"), "{message}");
        assert!(fix.contains("set limits.operations to 16777216 or more"), "{fix}");
        let (_, fix) = too_large(69, MessageLimit::Changes, 512 << 10);
        assert!(fix.contains("set limits.changes to 1048576 or more"), "{fix}");
    }

    #[test]
    fn no_limit_is_to_be_set_to_what_the_machine_or_the_setting_cannot_bear() {
        for (size, name, value) in [
            (1 << 30, MessageLimit::MessageBytes, 32 << 20),
            (800_000_000, MessageLimit::MessageBytes, 32 << 20),
            (200_100_000, MessageLimit::MessageBytes, 32 << 20),
            (1_000, MessageLimit::InflatedBytes, 250_000_000),
            (1_000, MessageLimit::Operations, MOST_OPERATIONS),
            (1_000, MessageLimit::Changes, MOST_CHANGES),
        ] {
            let (_, fix) = too_large(size, name, value);
            assert!(fix.starts_with("split the document up in the app: this machine cannot"), "{fix}");
            assert!(!fix.contains("or more"), "{fix}");
        }
        let (_, fix) = too_large(200_000_000, MessageLimit::MessageBytes, 32 << 20);
        assert!(fix.contains("250 MB"), "{fix}");
    }

    #[test]
    fn the_owner_reads_which_document_whose_how_large_and_what_to_do() {
        let (code, message, fix) = trouble(&of(TroubleKind::TooLargeToTakeIn), 512 << 20, 0);
        assert_eq!(code, "document_too_large");
        for part in ["abc in xyz.example", "https://app.example/", "s1", "4 MB", "2400 MB", "537 MB"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(fix.contains("3000 MB") && fix.contains("docs retry xyz.example abc"), "{fix}");
        let (_, message, fix) = trouble(&of(TroubleKind::Failed), 0, 0);
        assert!(message.contains("it was killed") && fix.contains("docs retry"));
        let (_, message, _) = trouble(&of(TroubleKind::NoProcess), 0, 0);
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
            message.contains("first for the app https://app.example/, ended badly 2 times")
                && !message.contains("()"),
            "{message}"
        );
        assert!(fix.contains("docs retry xyz.example abc"));
    }
}
