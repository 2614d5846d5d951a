//! Documents that the opener refuses because opening them has ended the process: they sync on as far as they can.

use groundmist_sync::sync::job::{Done, Job};

use super::*;

impl Server {
    /// Has the opener refuse what waits for it; what that was.
    fn refuse(&mut self) -> Vec<&'static str> {
        let jobs = self.shard.take_jobs();
        let kinds = jobs.iter().map(Job::kind).collect();
        for job in jobs {
            self.shard.job_done(Done::Refused(job), &self.storage, self.now);
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

#[test]
fn a_refused_upload_is_told_and_the_connection_goes_on() {
    let mut server = server();
    let one = server.join(1);
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", "v").unwrap();
    server.sync(one, 1, whole(&mut doc));
    assert_eq!(server.refuse(), ["intake"]);
    let out = server.out(one);
    assert!(matches!(&out[0], Out::Error(why) if why.contains("docs retry")), "{out:?}");
    assert!(!out.iter().any(|out| matches!(out, Out::Close(..))));
    let (other, change) = written();
    server.sync(one, 2, change);
    server.commit();
    assert_eq!(server.told(one), Some(other.clone().get_heads()), "another document is taken in as ever");
}

#[test]
fn a_document_that_stays_closed_is_not_compacted_and_not_quarantined() {
    let mut server = Server {
        shard: Shard::new(ShardOptions { compact_floor: 2, ..options() }),
        storage: MemoryStorage::default(),
        now: 1000,
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
    let mut server = Server { shard: Shard::new(options()), storage: MemoryStorage::default(), now: 10 };
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
