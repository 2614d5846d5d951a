//! Somebody sets the machine's clock: what waits comes to its end by the clock that nobody sets, and not before.

use groundmist_sync::sync::doc::UPLOAD_GRACE_MS;
use groundmist_sync::sync::job::{Done, Job};
use groundmist_sync::types::{DAY_MS, Millis};

use super::*;

const YEAR_MS: Millis = 365 * DAY_MS;
/// A day on which the machine's clock is right.
const TODAY: Millis = 1_800_000_000_000;
const GRACE: Millis = 1_000;

/// Ways to set the clock while a wait is under way.
const SETTINGS: [fn(Millis) -> Millis; 2] = [|wall| wall + YEAR_MS, |wall| wall - YEAR_MS];

impl Server {
    fn set_clock(&mut self, set: fn(Millis) -> Millis) {
        self.now.wall = set(self.now.wall);
    }

    /// A change of document 1, made durable; how many compactions it leads to. They fail.
    fn edit(&mut self, id: ConnectionId, doc: &mut AutoCommit) -> usize {
        doc.put(ROOT, "n", self.now.wall as i64).unwrap();
        let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
        let heads = doc.get_heads();
        let draft = Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() };
        self.sync(id, 1, draft.encode().into());
        self.commit();
        let jobs = self.shard.take_jobs();
        let compactions = jobs.len();
        for job in jobs {
            let Job::Compact { key, below } = job else { panic!("{job:?}") };
            let done = Done::Compact { key, below, result: Err("the opener did not want to".into()) };
            self.shard.job_done(done, &self.storage, self.now);
        }
        compactions
    }
}

fn server_today() -> Server {
    let options = ShardOptions { compact_floor: 1, compact_grace_ms: GRACE, ..options() };
    Server { shard: Shard::new(options), now: Now::at(TODAY), ..server() }
}

#[test]
fn others_are_asked_in_time_and_count_as_no_in_time() {
    for set in SETTINGS {
        let mut server = server_today();
        let (one, two) = (server.join(1), server.join(2));
        server.request(one, 1);
        server.set_clock(set);
        server.pass(ASK_AFTER_MS - 1);
        assert_eq!(server.bodies(two), [], "not yet");
        server.pass(1);
        assert!(is_request(&server.bodies(two)));
        server.set_clock(set);
        server.pass(TIMEOUT_MS - 1);
        assert_eq!(server.bodies(one), [], "within sync.request_timeout");
        server.pass(1);
        assert_eq!(server.bodies(one), unavailable(1));
    }
}

#[test]
fn an_upload_that_stands_still_holds_the_answer_for_its_time() {
    for set in SETTINGS {
        let mut server = server_today();
        let author = server.join(1);
        let heads = written().0.get_heads();
        server.sync(author, 1, Draft { heads: &heads, ..Draft::default() }.encode().into());
        server.bodies(author);
        let waits = server.join(2);
        server.request(waits, 1);
        server.set_clock(set);
        server.pass(UPLOAD_GRACE_MS - 1);
        assert_eq!(server.bodies(waits), [], "the upload may still come");
        // Some time to be looked at again, to be asked for, and to be given up.
        for _ in 0..10 {
            server.pass(TIMEOUT_MS + 100);
        }
        assert_eq!(server.bodies(waits), unavailable(1));
    }
}

#[test]
fn a_document_is_compacted_after_the_grace_and_after_a_failure_once_more() {
    for set in SETTINGS {
        let mut server = server_today();
        let (one, mut doc) = (server.join(1), AutoCommit::new());
        assert_eq!(server.edit(one, &mut doc), 0, "the document is young");
        server.set_clock(set);
        server.now += GRACE - 1;
        assert_eq!(server.edit(one, &mut doc), 0, "it still is");
        server.now += 1;
        assert_eq!(server.edit(one, &mut doc), 1);
        // The document leaves memory meanwhile.
        server.shard.leave(one, server.now);
        server.set_clock(set);
        let two = server.join(2);
        server.now += GRACE - 1;
        assert_eq!(server.edit(two, &mut doc), 0, "the last attempt failed");
        server.now += 1;
        assert_eq!(server.edit(two, &mut doc), 1);
    }
}

#[test]
fn a_document_from_the_future_waits_no_longer_than_one_from_the_past() {
    for set in SETTINGS {
        let mut server = server_today();
        let (one, mut doc) = (server.join(1), AutoCommit::new());
        server.edit(one, &mut doc);
        server.set_clock(set);
        // Another process begins, in which the document is opened now and then.
        server.shard = Shard::new(ShardOptions { compact_floor: 1, compact_grace_ms: GRACE, ..options() });
        for (id, compactions) in [(2, 0), (3, 0), (4, 1)] {
            let device = server.join(id);
            assert_eq!(server.edit(device, &mut doc), compactions);
            server.shard.leave(device, server.now);
            server.now += GRACE / 2;
        }
    }
}
