//! Lives of the server, and what is found of each at the next start.

use tempfile::TempDir;

use super::*;

const BEFORE: Millis = 50 * ENDS_LIFE_MS;

fn boot(id: &str, began: Millis) -> Boot {
    Boot { id: (!id.is_empty()).then(|| id.to_owned()), began }
}

fn counted(file: &str, own: bool, processes: u64) -> OutOfMemory {
    OutOfMemory { file: file.into(), own, processes }
}

fn running(started: Millis, boot: Boot) -> Running {
    Running { started, boot, out_of_memory: Vec::new(), failed: None }
}

fn begin(dir: &TempDir) -> Arc<Life> {
    Life::begin(Arc::new(Directory::open(dir.path()).unwrap()), None, &[])
}

fn ends(dir: &TempDir) -> usize {
    begin(dir).ends().len()
}

fn files(dir: &TempDir) -> usize {
    std::fs::read_dir(dir.path()).unwrap().count()
}

#[test]
fn a_reboot_is_no_end_of_the_server() {
    let next = |boot| running(BEFORE + 9_000, boot);
    for (before, after, is_end) in [
        (boot("a", 0), boot("a", 0), true),
        // The clock was set meanwhile.
        (boot("a", 0), boot("a", 900_000), true),
        (boot("a", 0), boot("b", 60_000), false),
        // A power cut that was over so soon that only the id tells.
        (boot("a", 0), boot("b", 1_000), false),
        (boot("", 0), boot("", 1_000), true),
        (boot("", 0), boot("", 60_000), false),
    ] {
        let end = running(BEFORE, before.clone()).end(&next(after.clone()), None, &[]);
        assert_eq!(end.is_some(), is_end, "{before:?} {after:?}");
    }
    let failed = Running { failed: Some("journal".into()), ..running(BEFORE, boot("a", 0)) };
    let end = failed.end(&next(boot("b", 0)), None, &[]).unwrap();
    assert_eq!(
        end.failed.as_deref(),
        Some("journal"),
        "the machine was started again after the server had failed"
    );
}

#[test]
fn an_opening_is_to_blame_for_a_kill_only() {
    let running =
        |failed: Option<&str>| Running { failed: failed.map(str::to_owned), ..running(BEFORE, boot("a", 0)) };
    for (failed, next, expected) in [
        (None, "a", LastEnd::Unknown),
        (None, "b", LastEnd::Explained),
        (Some("journal"), "a", LastEnd::Explained),
        // It may have failed at the document.
        (Some("opener-1"), "a", LastEnd::Unknown),
    ] {
        assert_eq!(running(failed).last_end(&boot(next, 0)), expected, "{failed:?} {next}");
    }
    let dir = TempDir::new().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    assert_eq!(last_end(&directory), LastEnd::Unknown, "nothing is known");
    begin(&dir).fail("shard-0");
    assert_eq!(last_end(&directory), LastEnd::Explained);
}

#[tokio::test(start_paused = true)]
async fn what_the_system_counts_is_looked_at_every_hour() {
    let dir = TempDir::new().unwrap();
    let life = begin(&dir);
    let long_ago = vec![counted("/gone", false, 1)];
    let set = |life: &Life| life.lock().running.as_mut().unwrap().out_of_memory.clone_from(&long_ago);
    set(&life);
    let (bad_ends, receiver) = watch::channel(0);
    let following = tokio::spawn(life.clone().follow(receiver));
    let looked = async || {
        while life.lock().running.as_ref().unwrap().out_of_memory == long_ago {
            tokio::time::sleep(LOOK / 10).await;
        }
    };
    looked().await;
    set(&life);
    looked().await;
    drop(bad_ends);
    following.await.unwrap();
}

#[test]
fn the_last_sign_of_life_is_the_last_commit_if_that_can_be() {
    let (before, next) = (running(BEFORE, boot("a", 0)), running(BEFORE + 9_000, boot("a", 0)));
    for (saved, alive) in [
        (None, BEFORE),
        (Some(BEFORE + 5_000), BEFORE + 5_000),
        // By another program, or by another clock.
        (Some(BEFORE - 1), BEFORE),
        (Some(BEFORE + 9_001), BEFORE),
    ] {
        let end = before.end(&next, saved, &[]).unwrap();
        assert_eq!((end.alive, end.found), (alive, BEFORE + 9_000), "{saved:?}");
    }
}

#[test]
fn memory_ran_out_only_if_the_system_counts_more_than_before() {
    let (own, above) = ("/slice/service", "/slice");
    let count = |of_own, of_above| [counted(own, true, of_own), counted(above, false, of_above)];
    for (before, after, expected) in [
        (count(2, 5), count(2, 5), None),
        (count(2, 5), count(3, 6), Some((1, true))),
        // The service's group was made anew: the one above tells.
        (count(2, 5), count(0, 7), Some((2, false))),
        (count(2, 5), count(0, 5), None),
    ] {
        let found = evidence(&before, &after).map(|evidence| (evidence.processes, evidence.own));
        assert_eq!(found, expected, "{before:?} {after:?}");
    }
    assert_eq!(evidence(&[], &count(1, 1)), None, "nothing to compare with");
    assert_eq!(evidence(&count(0, 0), &[counted("/other", true, 4)]), None, "it runs in another group");
}

#[test]
fn a_server_that_is_stopped_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let life = begin(&dir);
    assert_eq!(files(&dir), 1);
    life.stop();
    life.look_again();
    assert_eq!(files(&dir), 0);
    assert_eq!(ends(&dir), 0);
}

#[test]
fn each_end_without_a_stop_is_counted_once_and_kept_by_later_stops() {
    let dir = TempDir::new().unwrap();
    drop(begin(&dir));
    begin(&dir).stop();
    begin(&dir).stop();
    let life = begin(&dir);
    assert_eq!(life.ends().len(), 1);
    life.fail("journal");
    let life = begin(&dir);
    assert_eq!(life.ends()[1].failed.as_deref(), Some("journal"));
    life.stop();
    assert_eq!(ends(&dir), 2);
}

#[test]
fn what_is_kept_is_bounded_and_ends_after_a_week() {
    let dir = TempDir::new().unwrap();
    for _ in 0..MOST_ENDS + 5 {
        begin(&dir);
    }
    assert_eq!(ends(&dir), MOST_ENDS);
    let end = |found| UncleanEnd { alive: 0, found, failed: None, memory: None, opened: Vec::new() };
    let kept = Written { running: None, ends: vec![end(0), end(now() - ENDS_LIFE_MS), end(now())] };
    std::fs::write(dir.path().join(FILE), serde_json::to_vec(&kept).unwrap()).unwrap();
    let life = begin(&dir);
    assert_eq!(life.ends().len(), 1);
    life.stop();
    // Damage costs what the file says, no more.
    std::fs::write(dir.path().join(FILE), b"{\"running\":3").unwrap();
    assert_eq!(ends(&dir), 0);
}

#[test]
fn a_stop_that_cannot_be_written_is_not_taken_for_a_kill() {
    let dir = TempDir::new().unwrap();
    drop(begin(&dir));
    let life = begin(&dir);
    assert_eq!(life.ends().len(), 1);
    // Nothing can be written there, as on a full disk.
    std::fs::create_dir(dir.path().join(format!("{FILE}.new"))).unwrap();
    life.stop();
    std::fs::remove_dir(dir.path().join(format!("{FILE}.new"))).unwrap();
    assert_eq!(ends(&dir), 0, "the earlier end is forgotten with it");
}

#[test]
fn the_stores_file_tells_when_something_was_last_saved() {
    let dir = TempDir::new().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    assert_eq!(last_saved(&directory), None);
    std::fs::write(dir.path().join(STORE_FILE), b"").unwrap();
    assert!(last_saved(&directory).unwrap().abs_diff(now()) < 60_000);
}
