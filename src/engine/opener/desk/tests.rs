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
    let need = Need { memory_bytes, reserved_bytes: 0, size_bytes: 0 };
    desk.hand_on(arrived(desk).unwrap(), need, memory_bytes);
}

fn run(desk: &Desk, number: usize) -> Box<Large> {
    match desk.next_large(number, Some(Instant::now())) {
        Next::Run(large) => large,
        Next::LetGo => panic!("nothing to run"),
        Next::Stop => panic!("stopped"),
    }
}

/// What a thread without a process gets, within ten seconds.
fn start(desk: &Desk, number: usize) -> Box<Large> {
    let (got, late) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if late.recv_timeout(Duration::from_secs(10)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                desk.stop();
            }
        });
        let next = desk.next_large(number, None);
        drop(got);
        match next {
            Next::Run(large) => large,
            Next::LetGo | Next::Stop => panic!("nothing to run"),
        }
    })
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
    let need = Need { memory_bytes: 500, reserved_bytes: 0, size_bytes: 0 };
    desk.hand_on(first, need, 500);
    let large = start(&desk, 0);
    assert!(arrived(&desk).is_none(), "also while a process does it");
    end(&desk, 0, &large, false);
    assert_eq!(document(&arrived(&desk).unwrap()), 2);
}

#[test]
fn processes_take_no_more_memory_together_than_is_allowed() {
    let desk = Desk::new(MEMORY);
    for n in 1..=3 {
        desk.submit(extract(n, &format!("app {n}")));
    }
    hand_on(&desk, 600);
    hand_on(&desk, 600);
    hand_on(&desk, 100);
    let first = start(&desk, 0);
    runs_nothing(&desk, 1);
    end(&desk, 0, &first, false);
    let second = start(&desk, 1);
    assert_eq!(document(&second.task), 2, "no smaller one has overtaken it");
    let third = start(&desk, 0);
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
    let first = start(&desk, 0);
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
    let other = start(&desk, 1);
    assert_eq!(document(&other.task), 2);
    desk.stop();
    assert!(matches!(desk.next_large(0, None), Next::Stop) && desk.next_arrived(None).is_err());
}

#[test]
fn no_app_has_both_processes() {
    let desk = Desk::new(MEMORY);
    (1..=3).for_each(|n| desk.submit(extract(n, "greedy")));
    (0..3).for_each(|_| hand_on(&desk, 100));
    let first = start(&desk, 0);
    runs_nothing(&desk, 1);
    desk.submit(extract(9, "other"));
    hand_on(&desk, 100);
    let other = start(&desk, 1);
    assert_eq!((document(&first.task), document(&other.task)), (1, 9));
    end(&desk, 0, &first, false);
    let second = start(&desk, 0);
    assert_eq!(document(&second.task), 2);
    end(&desk, 1, &other, false);
    runs_nothing(&desk, 1);
}

#[test]
fn a_job_that_wants_more_memory_gets_all_of_it_next() {
    let desk = Desk::new(MEMORY);
    for (n, app) in [(1, "one"), (2, "two")] {
        desk.submit(extract(n, app));
        hand_on(&desk, 300);
    }
    desk.submit(extract(1, "one"));
    let (first, second) = (start(&desk, 0), start(&desk, 1));
    desk.try_again(0, *first, Duration::from_millis(1));
    assert!(arrived(&desk).is_none(), "the next job of the document still waits behind it");
    runs_nothing(&desk, 0);
    end(&desk, 1, &second, false);
    let again = start(&desk, 0);
    assert_eq!((document(&again.task), again.set_aside.memory_bytes), (1, MEMORY));
    end(&desk, 0, &again, false);
    assert_eq!(lock(&desk.state).reserved_bytes, 0);
    assert_eq!(document(&arrived(&desk).unwrap()), 1);
}

#[test]
fn nobody_waits_for_what_was_to_be_taken_out_for_a_connection_that_left() {
    let desk = Desk::new(MEMORY);
    // The test's connections have the numbers of their documents.
    let of = |n: u8, connection: u64| {
        let mut task = extract(n, "app");
        let Job::Extract { connection: of, .. } = &mut task.job else { unreachable!() };
        *of = ConnectionId(connection);
        task
    };
    [of(1, 7), of(1, 7), of(1, 8), of(2, 8), of(3, 7), of(3, 7)]
        .into_iter()
        .for_each(|task| desk.submit(task));
    desk.submit(compact(3));
    hand_on(&desk, 100);
    assert_eq!(desk.waiting(), 7);
    desk.leave(ConnectionId(7));
    assert_eq!(desk.waiting(), 3);
    let left: Vec<_> = std::iter::from_fn(|| arrived(&desk)).map(|task| document(&task)).collect();
    assert_eq!(left.len(), 3);
    assert!([1, 2, 3].iter().all(|n| left.contains(n)), "{left:?}");
}
