use std::collections::{HashMap, HashSet};

use super::offers::{AWAY_MS, Presence};
use super::*;
use crate::store::StoreOptions;
use crate::types::Millis;

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

fn url(n: u8) -> String {
    format!("automerge:{}", DocumentId([n; 16]))
}

fn key() -> RootKey {
    let app = App { client_id: "https://a.example/".into(), namespace: "xyz.example".parse().unwrap() };
    RootKey { did: "did:plc:a".into(), app }
}

fn session(id: &str, jkt: Option<&str>) -> Session {
    let key = key();
    Session {
        id: id.into(),
        namespace: key.app.namespace.clone(),
        name: id.into(),
        did: key.did,
        client_id: key.app.client_id,
        read_only: false,
        created: 0,
        expires: Millis::MAX,
        last_used: None,
        address: None,
        user_agent: None,
        jkt: jkt.map(str::to_owned),
        authenticated: None,
        copied: None,
    }
}

/// A server in virtual time: what is stored, who is connected, and the root documents with their rows.
struct World {
    _dir: tempfile::TempDir,
    store: Store,
    roots: RootDocuments,
    now: Moment,
    stored: HashMap<String, Presence>,
    /// When sessions were last connected.
    connected: HashMap<String, Moment>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { cache_bytes: 1 << 20 };
        let store = Store::open(&dir.path().join("s.redb"), &options).unwrap();
        let now = Moment { wall: 1_700_000_000_000, steady: Some(0) };
        let (roots, stored, connected) = Default::default();
        Self { _dir: dir, store, roots, now, stored, connected }
    }

    /// Both clocks go on.
    fn pass(&mut self, ms: Millis) {
        self.now = Moment { wall: self.now.wall + ms, steady: self.now.steady.map(|steady| steady + ms) };
    }

    /// What was in memory only is gone, and the monotonic clock begins anew.
    fn restart(&mut self) {
        self.roots = RootDocuments::load(self.store.records(RecordKind::RootDocument).unwrap());
        self.now.steady = Some(0);
        self.connected.values_mut().for_each(|moment| moment.steady = None);
    }

    fn holds(&mut self, n: u8, presence: Presence) {
        self.stored.insert(url(n), presence);
    }

    fn connects(&mut self, session: &str) {
        self.connected.insert(session.into(), self.now);
    }

    fn begin(&mut self, session: &Session, offer: Option<u8>, writes: bool) -> (Option<String>, Write) {
        let (now, offer) = (self.now, offer.map(url));
        let presence = |url: &str| self.stored.get(url).copied().unwrap_or(Presence::Absent);
        let last_connected = |device: &Device| {
            let sessions = self.connected.iter().filter(|(id, _)| device.session.as_ref() == Some(*id));
            sessions.map(|(_, moment)| *moment).max_by_key(|moment| moment.wall)
        };
        let view = View { now, presence: &presence, last_connected: &last_connected };
        let asking = Asking { url: offer.as_deref(), writes, device: Device::new(session, None, now) };
        self.roots.enter(&key(), &asking, &view)
    }

    fn end(&mut self, write: Write, durable: bool) {
        let Some((op, write)) = write else { return };
        if durable {
            self.store.commit(&[op]).unwrap();
        }
        self.roots.written(write, durable, &self.store);
    }

    /// A device enters in a session of that name: what it is told.
    fn told(&mut self, session: &Session, offer: Option<u8>) -> Option<String> {
        let (told, write) = self.begin(session, offer, true);
        self.end(write, true);
        told
    }

    /// As [`Self::told`], of a device that may not write.
    fn told_reader(&mut self, offer: u8) -> Option<String> {
        let (told, write) = self.begin(&session("reader", None), Some(offer), false);
        self.end(write, true);
        told
    }

    fn enters(&mut self, name: &str, offer: u8) -> Option<String> {
        self.told(&session(name, Some(name)), Some(offer))
    }

    /// A device that never was here and has no document.
    fn newcomer(&mut self) -> Option<String> {
        self.told(&session("newcomer", None), None)
    }

    fn forgets(&mut self) -> Option<String> {
        let presence = |url: &str| self.stored.get(url).copied().unwrap_or(Presence::Absent);
        let view = View { now: self.now, presence: &presence, last_connected: &|_| None };
        let place = key().key();
        let root = self.roots.0.get_mut(&place).unwrap();
        let forgotten = root.offers.forget(&view);
        root.version += u64::from(forgotten.is_some());
        let write = root.write(&place);
        self.end(write, true);
        forgotten
    }
}

#[test]
fn document_urls() {
    assert!(is_document_url(&url(7)));
    let cut = &url(7)[..20];
    let heads = format!("{}#{}", url(7), DocumentId([1; 16]));
    for bad in ["", "automerge:", "https://a.example", cut, &heads, &url(7)[10..], &"a".repeat(1 << 20)] {
        assert!(!is_document_url(bad), "{bad:.40}");
    }
}

#[test]
fn the_first_one_stays_and_is_only_told_with_a_commit_that_stores_it() {
    let mut world = World::new();
    let device = session("one", None);
    assert!(matches!(world.begin(&device, None, true), (None, None)));
    let (told, first) = world.begin(&device, Some(1), true);
    assert!(told == Some(url(1)) && first.is_some());
    let (told, second) = world.begin(&session("two", None), Some(1), true);
    assert!(told == Some(url(1)) && second.is_some(), "not durable yet: the second commit stores it too");
    world.end(first, false);
    let (told, third) = world.begin(&session("three", None), Some(1), true);
    assert!(told == Some(url(1)) && third.is_some(), "one failed, the other may have been told");
    world.end(second, true);
    world.end(third, false);
    let (told, none) = world.begin(&device, None, true);
    assert!(told == Some(url(1)) && none.is_none());
    world.restart();
    assert_eq!(world.newcomer(), Some(url(1)));
}

#[test]
fn one_that_was_never_stored_is_forgotten() {
    let mut world = World::new();
    let (_, write) = world.begin(&session("one", None), Some(1), true);
    world.end(write, false);
    assert_eq!(world.enters("two", 2), Some(url(2)));
}

#[test]
fn an_offer_whose_commit_fails_is_not_remembered_and_what_was_told_stays() {
    let mut world = World::new();
    assert_eq!(world.enters("one", 1), Some(url(1)));
    let (told, write) = world.begin(&session("two", None), Some(2), true);
    assert_eq!(told, Some(url(1)));
    world.holds(2, Presence::Held);
    world.pass(DAY);
    // In the same instant the binding gives way, by a commit that fails too.
    let (told, change) = world.begin(&session("three", None), None, true);
    assert!(told == Some(url(2)) && change.is_some());
    world.end(write, false);
    world.end(change, false);
    assert_eq!(world.roots.urls(&key()), [url(1)], "what the store says");
    assert_eq!(world.newcomer(), None, "nobody may be told what is stored nowhere");
    world.restart();
    assert_eq!(world.roots.urls(&key()), [url(1)]);
}

#[test]
fn a_store_that_commits_and_reports_a_failure_is_believed() {
    let mut world = World::new();
    let (_, write) = world.begin(&session("one", None), Some(1), true);
    let (op, write) = write.unwrap();
    world.store.commit(&[op]).unwrap();
    world.roots.written(write, false, &world.store);
    let (told, none) = world.begin(&session("two", None), Some(2), true);
    assert!(told == Some(url(1)) && none.is_some(), "the first offer stands; the second is remembered");
}

#[test]
fn the_first_offer_stands_while_its_device_was_there_within_a_day() {
    let mut world = World::new();
    assert_eq!(world.enters("one", 1), Some(url(1)));
    assert_eq!(world.enters("two", 2), Some(url(1)), "within the same second");
    world.holds(2, Presence::Held);
    world.pass(20 * HOUR);
    world.connects("one");
    world.pass(DAY - 1);
    assert_eq!(world.newcomer(), Some(url(1)), "counted from its last connection");
    world.pass(1);
    assert_eq!(world.newcomer(), Some(url(2)), "the first offered document that is stored");
    assert_eq!(world.enters("one", 1), Some(url(2)), "also for who comes back");
    world.holds(1, Presence::Held);
    world.pass(100 * DAY);
    world.restart();
    assert_eq!(
        world.enters("one", 1),
        Some(url(2)),
        "a binding whose document is held never changes by itself"
    );
}

#[test]
fn a_device_that_never_connected_has_a_day_from_its_offer_also_over_restarts() {
    let mut world = World::new();
    world.enters("one", 1);
    for _ in 0..4 {
        world.pass(6 * HOUR - 1);
        world.restart();
        assert_eq!(world.newcomer(), Some(url(1)));
    }
    world.pass(4);
    assert_eq!(world.newcomer(), None, "nothing else was offered: the device begins a document");
    assert_eq!(world.enters("two", 2), Some(url(2)), "and the next offer binds");
}

#[test]
fn a_held_document_stays_bound_whoever_is_away_and_quarantine_is_held() {
    let mut world = World::new();
    world.enters("one", 1);
    world.holds(1, Presence::Held);
    world.pass(365 * DAY);
    assert_eq!(world.enters("two", 2), Some(url(1)));
    world.holds(1, Presence::Unknown);
    assert_eq!(world.enters("two", 2), Some(url(1)), "a doubt changes nothing");
}

#[test]
fn an_echo_does_not_keep_a_document_alive_that_nobody_has() {
    let mut world = World::new();
    world.enters("one", 1);
    // Told the URL, the other device repeats it every hour and has no such document.
    for _ in 0..24 {
        assert_eq!(world.enters("two", 1), Some(url(1)));
        world.connects("two");
        world.pass(HOUR);
    }
    assert_eq!(world.enters("two", 1), None, "not an offer");
    assert_eq!(world.enters("two", 2), Some(url(2)));
}

#[test]
fn the_device_itself_may_come_back_with_its_document_by_another_session() {
    let mut world = World::new();
    world.told(&session("first", Some("key")), Some(1));
    world.pass(3 * DAY);
    world.restart();
    assert_eq!(world.newcomer(), None);
    assert_eq!(world.told(&session("second", Some("key")), Some(1)), Some(url(1)));
    world.pass(DAY - 1);
    assert_eq!(world.newcomer(), Some(url(1)), "a day from then on");
    // Even after another one took its place and was deleted.
    world.pass(DAY);
    assert_eq!(world.enters("two", 2), Some(url(2)));
    world.holds(2, Presence::Deleted);
    assert_eq!(world.told(&session("third", Some("key")), Some(1)), Some(url(1)));
}

#[test]
fn a_deleted_document_is_released_and_a_restored_one_comes_back_if_nothing_took_its_place() {
    let mut world = World::new();
    world.enters("one", 1);
    world.holds(1, Presence::Held);
    world.holds(1, Presence::Deleted);
    assert_eq!(world.newcomer(), None);
    assert_eq!(world.enters("one", 1), None, "what the owner deleted does not bind, whoever has it");
    world.holds(1, Presence::Held);
    assert_eq!(world.newcomer(), Some(url(1)), "restored in time");
    world.holds(1, Presence::Deleted);
    assert_eq!(world.enters("two", 2), Some(url(2)));
    world.holds(1, Presence::Held);
    world.holds(2, Presence::Held);
    assert_eq!(world.newcomer(), Some(url(2)), "restored too late");
    world.holds(2, Presence::Deleted);
    assert_eq!(world.newcomer(), Some(url(1)), "the first offered document that is stored");
}

#[test]
fn the_owner_forgets() {
    let mut world = World::new();
    world.enters("one", 1);
    world.enters("two", 2);
    assert_eq!(world.forgets(), Some(url(1)));
    assert_eq!(world.forgets(), None, "nothing is left to forget");
    world.restart();
    assert_eq!(world.newcomer(), None);
    assert_eq!(world.enters("one", 1), None, "forgotten, and not stored");
    assert_eq!(world.enters("three", 3), Some(url(3)), "the next offer");
    world.enters("two", 2);
    world.holds(2, Presence::Held);
    world.holds(3, Presence::Held);
    assert_eq!(world.forgets(), Some(url(3)));
    assert_eq!(world.newcomer(), Some(url(2)), "the first offered document that is stored");
    world.holds(2, Presence::Deleted);
    assert_eq!(world.newcomer(), None, "never one that was forgotten");
    assert_eq!(world.enters("three", 3), Some(url(3)), "unless a device offers it and it is stored");
}

#[test]
fn an_offer_that_cannot_be_brought_does_not_bind() {
    let mut world = World::new();
    assert_eq!(world.told_reader(1), Some(url(1)), "heard again, so that the app forgets nothing");
    assert_eq!(world.newcomer(), None, "but not bound");
    assert_eq!(world.enters("two", 2), Some(url(2)));
    assert_eq!(world.told_reader(1), Some(url(2)));
    let mut world = World::new();
    world.holds(1, Presence::Held);
    assert_eq!(world.told_reader(1), Some(url(1)));
    assert_eq!(world.newcomer(), Some(url(1)), "stored already");
}

#[test]
fn the_clock_may_be_set() {
    let mut world = World::new();
    world.enters("one", 1);
    world.now.wall += 30 * DAY;
    assert_eq!(world.newcomer(), Some(url(1)), "set forward, within the process");
    world.now.wall -= 60 * DAY;
    world.pass(DAY - 1);
    assert_eq!(world.newcomer(), Some(url(1)), "set back");
    world.pass(1);
    assert_eq!(world.newcomer(), None, "a day by the clock that nobody sets");
    world.restart();
    assert_eq!(
        world.newcomer(),
        Some(url(1)),
        "read from the store, a time to come is now: in doubt it stands"
    );
    world.now.wall += 30 * DAY - 1;
    assert_eq!(world.newcomer(), Some(url(1)));
    world.now.wall += 1;
    assert_eq!(world.newcomer(), None, "a day after the time that was read");
}

#[test]
fn when_a_session_ends_its_last_connection_stays_known() {
    let mut world = World::new();
    let device = session("one", Some("key"));
    world.told(&device, Some(1));
    world.pass(20 * HOUR);
    let of_family = |_: &str| Vec::new();
    assert!(world.roots.session_ends(&session("other", Some("else")), world.now, of_family).is_none());
    let write = world.roots.session_ends(&device, world.now, of_family);
    assert!(write.is_some());
    world.end(write, true);
    world.restart();
    world.pass(20 * HOUR);
    assert_eq!(world.newcomer(), Some(url(1)));
    world.pass(4 * HOUR);
    assert_eq!(world.newcomer(), None, "revoked, it is not connected");
}

#[test]
fn rows_of_the_first_format_are_read_and_have_a_day_from_when_they_are_looked_at() {
    let mut world = World::new();
    let row = Some(url(1).into_bytes());
    world.store.commit(&[Op::Record { kind: RecordKind::RootDocument, key: key().key(), row }]).unwrap();
    world.restart();
    assert_eq!(world.newcomer(), Some(url(1)));
    world.pass(12 * HOUR);
    world.restart();
    assert_eq!(world.enters("two", 1), Some(url(1)));
    world.pass(12 * HOUR);
    world.restart();
    assert_eq!(world.enters("two", 1), None);
    assert_eq!(world.enters("two", 2), Some(url(2)), "the dead address is gone");
    for bad in ["", "{}x", "automerge:", "{\"offers\":[{\"url\":\"no\",\"standing\":\"bound\"}]}"] {
        assert!(read(bad.as_bytes()).is_none(), "{bad}");
    }
}

#[test]
fn offers_are_bounded_and_the_answer_is_not_among_those_that_give_way() {
    let mut world = World::new();
    world.enters("one", 1);
    for n in 2..200 {
        assert_eq!(world.enters("greedy", n), Some(url(1)));
    }
    let urls = world.roots.urls(&key());
    assert_eq!(urls.len(), MAX_OFFERS);
    assert_eq!(urls[0], url(1));
    assert_eq!(urls[1..], (201 - MAX_OFFERS as u8..200).map(url).collect::<Vec<_>>()[..], "the latest");
    let row = &world.store.records(RecordKind::RootDocument).unwrap()[0].1;
    assert!(row.len() < 2048, "{} bytes", row.len());
    assert!(read(row).is_some());
}

/// Random histories: at most one answer, none of which may be told that is not stored, and a held one stays.
#[test]
fn whatever_happens_a_held_answer_stays_and_what_is_told_is_stored() {
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..20 {
        let mut world = World::new();
        let mut waiting: Vec<(Option<String>, Write)> = Vec::new();
        for _ in 0..80 {
            let n = 1 + random(4) as u8;
            match random(8) {
                0 => world.pass(random(30) * HOUR),
                1 => world.holds(n, Presence::Held),
                2 if waiting.is_empty() => world.restart(),
                3 => world.connects(&n.to_string()),
                4 if !waiting.is_empty() => {
                    let (told, write) = waiting.remove(0);
                    let wrote = write.is_some();
                    let durable = random(3) > 0;
                    world.end(write, durable);
                    if let (Some(told), true) = (told, durable && wrote) {
                        let row = world.store.records(RecordKind::RootDocument).unwrap().remove(0).1;
                        let known: HashSet<String> =
                            read(&row).unwrap().offers.into_iter().map(|offer| offer.url).collect();
                        assert!(known.contains(&told), "told and not stored");
                    }
                }
                _ => {
                    let name = n.to_string();
                    let before = world.roots.urls(&key()).first().cloned();
                    let bound = world.roots.0.get(&key().key()).and_then(|root| root.offers.bound().cloned());
                    let answer = world.begin(&session(&name, Some(&name)), Some(n), true);
                    if let Some(bound) = bound.filter(|bound| world.stored.contains_key(&bound.url)) {
                        assert_eq!(
                            (answer.0.as_ref(), before.as_ref()),
                            (Some(&bound.url), Some(&bound.url))
                        );
                    }
                    if answer.1.is_none() && answer.0.is_some() {
                        let row = world.store.records(RecordKind::RootDocument).unwrap().remove(0).1;
                        let bound = read(&row).unwrap().bound().unwrap().url.clone();
                        assert_eq!(answer.0, Some(bound), "told without a commit");
                    }
                    waiting.push(answer);
                }
            }
        }
    }
    assert_eq!(AWAY_MS, DAY);
}
