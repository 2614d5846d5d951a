//! Documents that the opener refuses because opening them has ended the process: they sync on as far as they can.

use automerge::sync::Capability;
use groundmist_sync::sync::job::{Done, Job, Refusal};
use sha2::{Digest as _, Sha256};

use super::*;

impl Server {
    /// Has the opener refuse what waits for it; what that was.
    fn refuse(&mut self) -> Vec<&'static str> {
        let jobs = self.shard.take_jobs();
        let kinds = jobs.iter().map(Job::kind).collect();
        for job in jobs {
            self.shard.job_done(Done::Refused(job, Refusal::StaysClosed), &self.storage, self.now);
        }
        kinds
    }

    /// What a peer was sent, taken into a document of automerge's own.
    fn taken(&mut self, id: ConnectionId, doc: &mut AutoCommit, state: &mut State) {
        for body in self.bodies(id) {
            let Body::Sync { data, .. } = body else { panic!("not a sync message: {body:?}") };
            doc.sync().receive_sync_message(state, Message::decode(&data).unwrap()).unwrap();
        }
    }
}

/// The next message that a document of automerge's own wants sent.
fn next(doc: &mut AutoCommit, state: &mut State) -> Option<Bytes> {
    doc.sync().generate_sync_message(state).map(|message| message.encode().into())
}

impl Server {
    /// A device says what it has of document 1 until it has nothing to say; what the opener refused meanwhile.
    fn upload(&mut self, id: ConnectionId, doc: &mut AutoCommit, state: &mut State) -> Vec<&'static str> {
        let mut refused = Vec::new();
        while let Some(data) = next(doc, state) {
            self.sync(id, 1, data);
            refused.extend(self.refuse());
            if !refused.is_empty() {
                break;
            }
            self.commit();
            self.taken(id, doc, state);
        }
        refused
    }
}

/// A document of three changes.
fn three_changes() -> AutoCommit {
    let mut doc = AutoCommit::new();
    for n in 0..3 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    doc
}

#[test]
fn a_refused_upload_is_told_and_comes_change_by_change_on_the_next_connection() {
    let mut server = server();
    let one = server.join(1);
    let (mut doc, mut state) = (three_changes(), State::new());
    assert_eq!(server.upload(one, &mut doc, &mut state), ["intake"]);
    let out = server.out(one);
    assert!(matches!(&out[0], Out::Error(why) if why.contains("docs retry")), "{out:?}");
    assert!(matches!(&out[1..], [Out::Close(1013, _)]), "{out:?}");
    server.shard.leave(one, server.now);
    server.work_off();
    assert!(server.shard.take_came_singly().is_empty());

    let (two, mut state) = (server.join(2), State::new());
    assert_eq!(server.upload(two, &mut doc, &mut state), [""; 0]);
    assert_eq!(state.their_heads, Some(doc.get_heads()), "all of it is acknowledged");
    assert_eq!(server.shard.take_came_singly(), [key("xyz.one", 1)]);
    let (other, change) = written();
    server.sync(two, 2, change);
    server.commit();
    assert_eq!(server.told(two), Some(other.clone().get_heads()), "another document is taken in as ever");

    // The owner allows it to be sent whole again.
    server.shard.retry(&key("xyz.one", 1));
    let (three, mut state) = (server.join(3), State::new());
    doc.put(ROOT, "n", 3).unwrap();
    doc.commit();
    server.upload(three, &mut doc, &mut state);
    let is_told = |cap: &Capability| matches!(cap, Capability::MessageV2);
    assert!(state.their_capabilities.iter().flatten().any(is_told));
}

#[test]
fn a_device_that_sends_all_of_a_refused_document_anyway_is_closed_once() {
    let mut server = server();
    let mut doc = three_changes();
    for (id, is_closed) in [(1, true), (2, false), (3, false)] {
        let id = server.join(id);
        server.sync(id, 1, whole(&mut doc));
        assert_eq!(server.refuse(), ["intake"]);
        let out = server.out(id);
        assert!(matches!(&out[0], Out::Error(_)), "{out:?}");
        assert_eq!(out.iter().any(|out| matches!(out, Out::Close(..))), is_closed, "{out:?}");
        server.shard.leave(id, server.now);
        server.work_off();
    }
}

#[test]
fn every_connection_that_was_asked_for_the_whole_document_is_closed() {
    let mut server = server();
    let (one, two, mut doc) = (server.join(1), server.join(2), three_changes());
    [one, two].into_iter().for_each(|id| server.sync(id, 1, whole(&mut doc)));
    let mut refused = server.refuse();
    refused.extend(server.refuse());
    assert_eq!(refused, ["intake", "intake"]);
    for id in [one, two] {
        let out = server.out(id);
        assert!(out.iter().any(|out| matches!(out, Out::Close(1013, _))), "{out:?}");
    }
    server.shard.leave(two, server.now);
    server.work_off();
    let again = server.join(3);
    server.sync(again, 1, whole(&mut doc));
    assert_eq!(server.refuse(), ["intake"]);
    assert!(!server.out(again).iter().any(|out| matches!(out, Out::Close(..))), "it was asked for changes");
}

#[test]
fn a_part_of_what_was_refused_is_not_all_of_it() {
    let mut server = server();
    let (one, mut doc) = (server.join(1), three_changes());
    server.sync(one, 1, whole(&mut doc));
    assert_eq!(server.refuse(), ["intake"]);
    let (two, mut state) = (server.join(2), State::new());
    let mut part = AutoCommit::new();
    part.apply_changes(doc.get_changes(&[])[..2].to_vec()).unwrap();
    assert_eq!(server.upload(two, &mut part, &mut state), [""; 0]);
    assert_eq!(state.their_heads, Some(part.get_heads()));
    assert!(server.shard.take_came_singly().is_empty());
    part.merge(&mut doc).unwrap();
    assert_eq!(server.upload(two, &mut part, &mut state), [""; 0]);
    assert_eq!(server.shard.take_came_singly(), [key("xyz.one", 1)]);
}

#[test]
fn a_document_that_stays_closed_is_not_compacted_and_not_quarantined() {
    let mut server = Server {
        shard: Shard::new(ShardOptions { compact_floor: 2, ..options() }),
        storage: MemoryStorage::default(),
        now: Now::at(1000),
    };
    let one = server.join(1);
    let (mut doc, mut state) = (AutoCommit::new(), State::new());
    let mut refused = Vec::new();
    for n in 0..10 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
        while let Some(data) = next(&mut doc, &mut state) {
            server.sync(one, 1, data);
            server.opener();
            server.commit();
            refused.extend(server.refuse());
            server.taken(one, &mut doc, &mut state);
        }
    }
    assert_eq!(state.their_heads, Some(doc.get_heads()), "every change is acknowledged");
    assert_eq!(refused, ["compaction"], "one refusal is enough");
    server.shard.retry(&key("xyz.one", 1));
    doc.put(ROOT, "n", 10).unwrap();
    doc.commit();
    server.sync(one, 1, next(&mut doc, &mut state).unwrap());
    server.commit();
    assert_eq!(server.refuse(), ["compaction"], "the owner allowed another try");
}

#[test]
fn a_snapshot_that_cannot_be_opened_is_sent_whole() {
    let mut server = server();
    let one = server.join(1);
    let mut doc = AutoCommit::new();
    // Over a megabyte that does not compress, so that a peer which has a part of it would get the rest only.
    let mut random = 1u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(33 + (random >> 33) as u8 % 90)
    };
    for n in 0..300 {
        doc.put(ROOT, n.to_string(), (0..5_000).map(|_| letter()).collect::<String>()).unwrap();
        doc.commit();
    }
    let mut old = AutoCommit::load(&doc.save()).unwrap();
    server.sync(one, 1, whole(&mut doc));
    server.opener();
    server.commit();
    assert!(server.storage.snapshot(&key("xyz.one", 1)).unwrap().unwrap().len() > 1 << 20);
    // A device that has the first half.
    let half = doc.get_changes(&[])[..150].to_vec();
    let mut device = AutoCommit::new();
    device.apply_changes(half).unwrap();
    let (two, mut state) = (server.join(2), State::new());
    server.sync(two, 1, next(&mut device, &mut state).unwrap());
    let first = server.bodies(two);
    assert_eq!(server.refuse(), ["extraction"], "{first:?}");
    for _ in 0..4 {
        server.taken(two, &mut device, &mut state);
        while let Some(data) = next(&mut device, &mut state) {
            server.sync(two, 1, data);
        }
        assert!(server.refuse().is_empty(), "asked for once");
    }
    assert_eq!(device.get_heads(), old.get_heads());
}

#[test]
fn an_old_document_is_not_compacted_the_moment_it_is_loaded_after_a_restart() {
    const GRACE: u64 = 1000;
    let options = || ShardOptions { compact_floor: 2, compact_grace_ms: GRACE, ..options() };
    let mut server =
        Server { shard: Shard::new(options()), storage: MemoryStorage::default(), now: Now::at(10) };
    let one = server.join(1);
    let (mut doc, mut state) = (AutoCommit::new(), State::new());
    let mut edit = |server: &mut Server, n: i64| {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
        while let Some(data) = next(&mut doc, &mut state) {
            server.sync(one, 1, data);
            server.opener();
            server.commit();
            server.taken(one, &mut doc, &mut state);
        }
        server.refuse()
    };
    for n in 0..10 {
        assert_eq!(edit(&mut server, n), [""; 0], "the document is young");
    }
    server.shard = Shard::new(options());
    server.now += 10 * GRACE;
    server.join(1);
    assert_eq!(edit(&mut server, 10), [""; 0], "the server has only just started");
    server.now += GRACE;
    assert_eq!(edit(&mut server, 11), ["compaction"]);
}

/// The same change in another encoding of the same values: a run of one where automerge writes a literal. `None` if
/// automerge does not take it, or would write it so itself.
fn unusually_encoded(change: &[u8], at: usize) -> Option<Bytes> {
    let mut bytes = change.to_vec();
    bytes[at] = 1;
    // Type, length and content are what the hash is over; its first four bytes are the checksum.
    let digest = Sha256::digest(&bytes[8..]);
    bytes[4..8].copy_from_slice(&digest[..4]);
    let decoded = automerge::Change::try_from(&bytes[..]).ok()?;
    let mut doc = automerge::Automerge::new();
    doc.apply_changes([decoded]).ok()?;
    automerge::Automerge::load(&doc.save()).is_err().then_some(bytes.into())
}

#[test]
fn a_document_in_an_unusual_encoding_is_not_compacted_and_syncs_on() {
    const GRACE: u64 = 1000;
    let options = ShardOptions { compact_floor: 1, compact_grace_ms: GRACE, ..options() };
    let mut server =
        Server { shard: Shard::new(options), storage: MemoryStorage::default(), now: Now::at(1000) };
    let one = server.join(1);
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let change = doc.get_last_local_change().unwrap().raw_bytes().to_vec();
    let literal = |at: &usize| change[*at] == 0x7f;
    let found = (12..change.len()).filter(literal).find_map(|at| unusually_encoded(&change, at));
    let unusual = found.expect("an encoding that automerge takes and does not write");
    let hash = automerge::Change::try_from(&unusual[..]).unwrap().hash();
    let bring = |server: &mut Server, heads: &[ChangeHash], chunk: &Bytes| {
        let have = Some(heads);
        let chunks = [chunk.clone()];
        server.sync(one, 1, Draft { heads, chunks: &chunks, have, ..Draft::default() }.encode().into());
        server.commit();
    };
    let mut other = AutoCommit::new();
    let mut edit = |n: i64| {
        other.put(ROOT, "n", n).unwrap();
        let mut made = other.get_last_local_change().unwrap().clone();
        (made.hash(), Bytes::from(made.bytes().into_owned()))
    };
    bring(&mut server, &[hash], &unusual);
    server.now += GRACE;
    let (head, chunk) = edit(1);
    bring(&mut server, &[hash, head], &chunk);
    let kinds = |server: &mut Server| {
        let jobs = server.shard.take_jobs();
        let kinds: Vec<_> = jobs.iter().map(Job::kind).collect();
        for job in jobs {
            let done = Opener::new(|| [0; 16]).run(job, &server.storage);
            assert!(matches!(&done, Done::Compact { result: Err(_), .. }), "{done:?}");
            server.shard.job_done(done, &server.storage, server.now);
        }
        kinds
    };
    assert_eq!(kinds(&mut server), ["compaction"]);
    let (head, chunk) = edit(2);
    bring(&mut server, &[hash, head], &chunk);
    assert_eq!(kinds(&mut server), [""; 0], "not again within the grace");
    let two = server.join(2);
    server.request(two, 1);
    assert!(matches!(&server.bodies(two)[..], [Body::Sync { .. }]), "the document syncs on");
    server.now += GRACE;
    let (head, chunk) = edit(3);
    bring(&mut server, &[hash, head], &chunk);
    assert_eq!(kinds(&mut server), ["compaction"], "one more attempt after the grace");
    assert!(server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().quarantined.is_none());
}
