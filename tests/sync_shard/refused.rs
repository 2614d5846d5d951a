//! Openings that come to nothing: what the device has, what it is told, and that another try brings the rest.

use groundmist_sync::sync::job::{Done, Job, NotExtracted, Refusal};

use super::*;

/// Every way in which the opener refuses.
fn refusals() -> [Refusal; 4] {
    let too_large = Refusal::TooLarge { need_bytes: 2, allowed_bytes: 1 };
    [Refusal::StaysClosed, too_large, Refusal::NoProcess, Refusal::EndedBadly]
}

impl Server {
    /// The only job that waits for the opener.
    fn job(&mut self) -> Job {
        let mut jobs = self.shard.take_jobs();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    fn done(&mut self, done: Done) {
        self.shard.job_done(done, &self.storage, self.now);
    }

    /// Has the opener do all that waits for it, and stores it.
    fn settle(&mut self) {
        self.opener();
        self.commit();
    }
}

/// A device of an app that does not know messages of version 2, which cannot read whole documents.
struct OldDevice {
    doc: AutoCommit,
    state: State,
}

impl OldDevice {
    fn having(changes: &[automerge::Change]) -> Self {
        let mut doc = AutoCommit::new();
        doc.apply_changes(changes.to_vec()).unwrap();
        Self { doc, state: State::new() }
    }

    fn says(&mut self) -> Option<Bytes> {
        let mut message = self.doc.sync().generate_sync_message(&mut self.state)?;
        message.flags = None;
        Some(message.encode().into())
    }

    fn takes(&mut self, data: &[u8]) {
        self.doc.sync().receive_sync_message(&mut self.state, Message::decode(data).unwrap()).unwrap();
    }

    /// Exchanges messages until neither side has one; the documents that the server calls unavailable.
    fn sync(&mut self, server: &mut Server, id: ConnectionId) -> usize {
        let mut unavailable = 0;
        for _ in 0..20 {
            if let Some(data) = self.says() {
                server.sync(id, 1, data);
            }
            for body in server.bodies(id) {
                match body {
                    Body::Sync { data, .. } => self.takes(&data),
                    Body::Unavailable { .. } => unavailable += 1,
                    other => panic!("{other:?}"),
                }
            }
            server.commit();
        }
        unavailable
    }
}

/// A server with a document of 300 changes that lies in a snapshot, and the document.
fn with_snapshot() -> (Server, AutoCommit) {
    let mut server = server();
    let one = server.join(1);
    let mut doc = AutoCommit::new();
    for n in 0..300 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    server.sync(one, 1, whole(&mut doc));
    server.settle();
    assert!(server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().snapshot.is_some());
    (server, doc)
}

#[test]
fn a_refused_upload_comes_again_when_the_owner_allows_another_try() {
    for refusal in refusals() {
        let mut server = server();
        let (first, bystander) = (server.join(1), server.join(2));
        let mut doc = AutoCommit::new();
        doc.put(ROOT, "k", "v").unwrap();
        server.sync(first, 1, whole(&mut doc));
        server.request(bystander, 1);
        let job = server.job();
        server.done(Done::Refused(job, refusal.clone()));
        let out = server.out(first);
        assert!(
            matches!(&out[..], [Out::Error(_), Out::Close(1013, _)]),
            "the changes may come singly: {out:?}"
        );
        server.shard.leave(first, server.now);
        let one = server.join(4);
        server.sync(one, 1, whole(&mut doc));
        let job = server.job();
        server.done(Done::Refused(job, refusal.clone()));
        let out = server.out(one);
        assert!(matches!(&out[..], [Out::Error(why), _] if why.contains(&refusal.to_string())), "{out:?}");
        server.shard.retry(&key("xyz.one", 1));
        // automerge takes for received what it has sent on this connection.
        assert!(matches!(&server.out(one)[..], [Out::Close(1012, _)]), "{refusal}");
        assert!(!server.out(bystander).iter().any(|out| matches!(out, Out::Close(..))));
        server.shard.leave(one, server.now);
        let again = server.join(3);
        server.sync(again, 1, whole(&mut doc));
        server.settle();
        assert_eq!(server.told(again), Some(doc.get_heads()));
        server.shard.retry(&key("xyz.one", 1));
        assert_eq!(server.out(again), [], "nothing was refused on this connection");
    }
}

#[test]
fn an_old_device_lacks_what_was_refused_until_it_may_be_opened_again() {
    for refusal in refusals() {
        let (mut server, mut doc) = with_snapshot();
        let mut device = OldDevice::having(&doc.get_changes(&[])[..100]);
        let two = server.join(2);
        server.sync(two, 1, device.says().unwrap());
        server.bodies(two);
        let job = server.job();
        assert_eq!(job.kind(), "extraction");
        server.done(Done::Refused(job, refusal.clone()));
        assert_eq!(device.sync(&mut server, two), 1, "it is told that there is no more");
        // The device edits what it has, and another one what it lacks: it gets nothing that it cannot read.
        device.doc.put(ROOT, "mine", 1).unwrap();
        assert_eq!(device.sync(&mut server, two), 0);
        doc.put(ROOT, "n", 300).unwrap();
        let one = ConnectionId(1);
        let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
        let heads = doc.get_heads();
        let draft = Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() };
        server.sync(one, 1, draft.encode().into());
        server.commit();
        device.sync(&mut server, two);
        assert!(server.shard.take_jobs().is_empty(), "not asked for again at every message");
        assert_eq!(device.doc.get_changes(&[]).len(), 101);
        server.shard.retry(&key("xyz.one", 1));
        assert!(matches!(&server.out(two)[..], [Out::Close(1012, _)]), "{refusal}");
        server.shard.leave(two, server.now);
        let (three, state) = (server.join(3), State::new());
        device.state = state;
        server.sync(three, 1, device.says().unwrap());
        server.bodies(three);
        server.settle();
        device.sync(&mut server, three);
        assert_eq!(device.doc.get_changes(&[]).len(), 302);
    }
}

#[test]
fn an_extraction_that_is_refused_too_late_takes_nothing_away() {
    let (mut server, mut doc) = with_snapshot();
    let mut device = OldDevice::having(&doc.get_changes(&[])[..100]);
    let two = server.join(2);
    server.sync(two, 1, device.says().unwrap());
    server.bodies(two);
    let job = server.job();
    // Meanwhile the device got the rest by another way.
    device.doc.merge(&mut doc).unwrap();
    device.sync(&mut server, two);
    server.done(Done::Refused(job, Refusal::EndedBadly));
    assert_eq!(server.bodies(two), []);
}

#[test]
fn an_intact_document_that_could_not_be_opened_syncs_on_and_a_damaged_one_does_not() {
    for (damage, unavailable) in [(false, false), (true, true)] {
        let (mut server, mut doc) = with_snapshot();
        let mut device = OldDevice::having(&doc.get_changes(&[])[..100]);
        let two = server.join(2);
        server.sync(two, 1, device.says().unwrap());
        server.bodies(two);
        let Job::Extract { key, connection, .. } = server.job() else { panic!("not an extraction") };
        let why = "automerge cannot open it".to_owned();
        let why = if damage { NotExtracted::Damaged(why) } else { NotExtracted::Failed(why) };
        server.done(Done::Extract { key, connection, result: Err(why) });
        assert_eq!(server.shard.counters().quarantines, u64::from(damage));
        let three = server.join(3);
        server.request(three, 1);
        assert_eq!(server.bodies(three) == super::unavailable(1), unavailable);
    }
}

#[test]
fn only_a_wrong_checksum_is_damage() {
    let (server, mut doc) = with_snapshot();
    let key = key("xyz.one", 1);
    let judge = |storage: &MemoryStorage| {
        groundmist_sync::sync::opener::not_extracted(&key, "out of memory".into(), storage)
    };
    assert!(matches!(judge(&server.storage), NotExtracted::Failed(_)));
    let mut damaged = server.storage.clone();
    let snapshot = doc.save();
    for at in [0, 4, 9, snapshot.len() / 2, snapshot.len() - 1] {
        let mut bytes = snapshot.clone();
        bytes[at] ^= 1;
        damaged.damage_snapshot(&key, bytes.into());
        assert!(matches!(judge(&damaged), NotExtracted::Damaged(_)), "byte {at}");
    }
    damaged.damage_snapshot(&key, [&snapshot[..], b"more"].concat().into());
    assert!(matches!(judge(&damaged), NotExtracted::Damaged(_)));
}

#[test]
fn a_snapshot_that_is_not_there_is_not_asked_for_without_end() {
    let (mut server, mut doc) = with_snapshot();
    let mut device = OldDevice::having(&doc.get_changes(&[])[..100]);
    let two = server.join(2);
    server.sync(two, 1, device.says().unwrap());
    let mut asked = 0;
    for _ in 0..20 {
        server.out(two);
        for job in server.shard.take_jobs() {
            let Job::Extract { key, connection, .. } = job else { panic!("{job:?}") };
            asked += 1;
            server.done(Done::Extract { key, connection, result: Ok(None) });
        }
    }
    assert_eq!(asked, 2, "once more, because a compaction may have replaced it");
}

#[test]
fn a_compaction_that_the_store_could_not_be_read_for_waits_like_a_failed_one() {
    const GRACE: u64 = 1000;
    let options = ShardOptions { compact_floor: 2, compact_grace_ms: GRACE, ..options() };
    let mut server =
        Server { shard: Shard::new(options), storage: MemoryStorage::default(), now: Now::at(10) };
    server.now += GRACE;
    let mut doc = AutoCommit::new();
    let mut round = |server: &mut Server, id: u64, result: Result<_, String>| {
        let one = server.join(id);
        let mut kinds = Vec::new();
        for n in 0..3 {
            doc.put(ROOT, "n", n).unwrap();
            let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
            let heads = doc.get_heads();
            let draft = Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() };
            server.sync(one, 1, draft.encode().into());
            server.commit();
            for job in server.shard.take_jobs() {
                kinds.push(job.kind());
                let Job::Compact { key, below } = job else { panic!("{job:?}") };
                server.done(Done::Compact { key, below, result: result.clone() });
            }
        }
        // The last one to leave has the document leave memory.
        server.shard.leave(one, server.now);
        kinds.len()
    };
    let results = [Ok(None), Err("its compacted form has other heads".to_owned())];
    let mut id = 0;
    let mut connect = |server: &mut Server, result: &Result<_, String>| {
        id += 1;
        round(server, id, result.clone())
    };
    assert_eq!(connect(&mut server, &results[0]), 0, "the document is young");
    for result in results {
        server.now += GRACE;
        assert_eq!(connect(&mut server, &result), 1);
        for _ in 0..3 {
            server.now += GRACE / 4;
            assert_eq!(
                connect(&mut server, &result),
                0,
                "another connection is no reason for another attempt"
            );
        }
        server.now += GRACE / 2;
        assert_eq!(connect(&mut server, &result), 1);
        server.shard.retry(&key("xyz.one", 1));
        assert_eq!(connect(&mut server, &result), 1, "the owner allowed another try at once");
    }
}
