//! Which job is next, as the threads would ask.

use super::*;
use crate::engine::mailbox::mailbox;
use crate::sync::job::Job;
use crate::types::{ConnectionId, DocumentId, Party};

const MEMORY: u64 = 1_000;

fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) }
}

fn extract(n: u8, app: &str) -> Task {
    let (snapshot, have, skip) = (Vec::new(), Vec::new(), 0);
    let job = Job::Extract { key: key(n), connection: ConnectionId(u64::from(n)), snapshot, have, skip };
    Task::new(job, Some(Party::new(key(n).namespace, app, "device")), mailbox().0)
}

fn compact(n: u8) -> Task {
    Task::new(Job::Compact { key: key(n), below: 1 }, None, mailbox().0)
}

fn arrived(desk: &Desk) -> Option<Task> {
    desk.next_arrived(Some(Duration::ZERO)).unwrap()
}

fn document(task: &Task) -> u8 {
    task.job.key().document.0[0]
}

fn done(desk: &Desk, task: &Task) {
    desk.done(&task.lane, task.job.key(), Duration::from_millis(1));
}

/// Hands the next job on, with so much memory to set aside.
fn hand_on(desk: &Desk, memory_bytes: u64) {
    let need = Need { memory_bytes, ..Need::unknown() };
    desk.hand_on(arrived(desk).unwrap(), need, memory_bytes);
}

fn run(desk: &Desk, number: usize) -> Box<Large> {
    match desk.next_large(number, Some(Instant::now())) {
        Next::Run(large) => large,
        Next::LetGo => panic!("nothing to run"),
        Next::Stop => panic!("stopped"),
    }
}

/// The thread would wait; asked as one whose process has to go now, so that it does not.
fn runs_nothing(desk: &Desk, number: usize) {
    assert!(matches!(desk.next_large(number, Some(Instant::now())), Next::LetGo));
}

fn end(desk: &Desk, number: usize, large: &Large, keeps: bool) {
    let names = (&large.task.lane, large.task.job.key());
    desk.large_done(number, names, large.set_aside, Duration::from_millis(1), keeps);
}

#[test]
fn a_newcomer_waits_for_one_job_of_another_app_and_not_for_all() {
    let desk = Desk::new(MEMORY);
    (1..=10).for_each(|n| desk.submit(extract(n, "greedy")));
    let first = arrived(&desk).unwrap();
    desk.submit(extract(99, "newcomer"));
    done(&desk, &first);
    let next = [arrived(&desk).unwrap(), arrived(&desk).unwrap()];
    assert!(next.iter().any(|task| document(task) == 99), "among the next two");
    assert_eq!(desk.waiting(), 8);
}

#[test]
fn jobs_of_one_document_are_done_one_after_the_other() {
    let desk = Desk::new(MEMORY);
    desk.submit(extract(1, "a"));
    desk.submit(extract(1, "b"));
    desk.submit(compact(1));
    desk.submit(extract(2, "b"));
    let (first, other) = (arrived(&desk).unwrap(), arrived(&desk).unwrap());
    assert_eq!((document(&first), document(&other)), (1, 2));
    assert!(arrived(&desk).is_none());
    done(&desk, &first);
    let second = arrived(&desk).unwrap();
    assert!(matches!(second.job, Job::Extract { .. }) && arrived(&desk).is_none());
    done(&desk, &second);
    assert!(matches!(arrived(&desk).unwrap().job, Job::Compact { .. }));
}

#[test]
fn compactions_are_done_one_after_the_other() {
    let desk = Desk::new(MEMORY);
    (1..=3).for_each(|n| desk.submit(compact(n)));
    desk.submit(extract(4, "app"));
    let first = arrived(&desk).unwrap();
    assert_eq!(document(&first), 1);
    assert_eq!(document(&arrived(&desk).unwrap()), 4, "others go on");
    assert!(arrived(&desk).is_none());
    let need = Need { memory_bytes: 500, ..Need::unknown() };
    desk.hand_on(first, need, 500);
    let Next::Run(large) = desk.next_large(0, None) else { panic!("nothing to run") };
    assert!(arrived(&desk).is_none(), "also while a process does it");
    end(&desk, 0, &large, false);
    assert_eq!(document(&arrived(&desk).unwrap()), 2);
}

#[test]
fn processes_take_no_more_memory_together_than_is_allowed() {
    let desk = Desk::new(MEMORY);
    for n in 1..=3 {
        desk.submit(extract(n, "app"));
    }
    hand_on(&desk, 600);
    hand_on(&desk, 600);
    hand_on(&desk, 100);
    let Next::Run(first) = desk.next_large(0, None) else { panic!("nothing to run") };
    runs_nothing(&desk, 1);
    end(&desk, 0, &first, false);
    let Next::Run(second) = desk.next_large(1, None) else { panic!("nothing to run") };
    assert_eq!(document(&second.task), 2, "no smaller one has overtaken it");
    let Next::Run(third) = desk.next_large(0, None) else { panic!("nothing to run") };
    assert_eq!(document(&third.task), 3);
    end(&desk, 0, &third, false);
    end(&desk, 1, &second, false);
    assert_eq!(lock(&desk.state).reserved_bytes, 0);
}

#[test]
fn the_next_part_of_a_document_goes_to_the_process_that_has_it_open() {
    let desk = Desk::new(MEMORY);
    desk.submit(extract(1, "app"));
    hand_on(&desk, 600);
    let Next::Run(first) = desk.next_large(0, None) else { panic!("nothing to run") };
    end(&desk, 0, &first, true);
    desk.submit(extract(1, "app"));
    hand_on(&desk, 600);
    runs_nothing(&desk, 1);
    let part = run(&desk, 0);
    assert_eq!(document(&part.task), 1);
    end(&desk, 0, &part, true);
    // Another document needs the memory: the process that is idle gives way.
    desk.submit(extract(2, "app"));
    hand_on(&desk, 600);
    runs_nothing(&desk, 0);
    desk.let_go(0, 600);
    let Next::Run(other) = desk.next_large(1, None) else { panic!("nothing to run") };
    assert_eq!(document(&other.task), 2);
    desk.stop();
    assert!(matches!(desk.next_large(0, None), Next::Stop) && desk.next_arrived(None).is_err());
}
