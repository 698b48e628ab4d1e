//! What the engine promises of tasks that wait while no resource can be made.

use super::support::{
    End, FOREVER, Latch, Orders, Outcome, Runner, Task, eventually, lock, workers,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tasker::engine::clock::ticks;
use tasker::engine::metrics::events::EventKind;
use tasker::engine::task::priority::Priority;
use tasker::engine::task::{ONCE, RESERVED};
use tasker::engine::{AbandonReason, EngineSettings};

const SOON: Duration = Duration::from_millis(20);
const FAILED: Outcome = Outcome::Refused(AbandonReason::FailsFast);

/// A runner whose resources can be made while the switch is on, as it is at first.
fn runner(settings: EngineSettings, limit: Duration) -> (Runner, Arc<AtomicBool>) {
    let available = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&available);
    let on_create =
        Box::new(move |_| if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("away") });
    let settings = EngineSettings { fail_fast_after: Some(ticks(limit)), ..settings };
    (Runner::new(settings, Orders { on_create, ..Orders::default() }), available)
}

/// Has a worker lose its resource.
fn spoil(runner: &Runner) {
    let bad = Task::new(Priority::High, ONCE, |_, _| End::Bad("bad"));
    assert!(runner.submit_task(&bad));
    assert_eq!(bad.outcome(), Outcome::Error("bad"));
}

fn value(runner: &Runner) -> Arc<Task> {
    runner.submit(Priority::Normal, |_, _| End::Value(7))
}

#[test]
fn waiting_and_new_tasks_fail_until_a_resource_can_be_made() {
    let (runner, available) = runner(workers(1), SOON);
    available.store(false, Ordering::SeqCst);
    spoil(&runner);
    let waiting: Vec<_> = (0..5).map(|_| value(&runner)).collect();
    for task in &waiting {
        assert_eq!((task.outcome(), task.attempts()), (FAILED, 0));
    }
    assert!(runner.engine.fails_fast());
    assert_eq!(value(&runner).outcomes(), [FAILED], "before the submit returns");
    assert_eq!(runner.engine.metrics()[EventKind::Dropped], 6);
    assert_eq!(lock(&runner.world().faults).iter().filter(|it| **it == "fails fast").count(), 1);
    available.store(true, Ordering::SeqCst);
    eventually("it is over", || !runner.engine.fails_fast());
    assert_eq!(value(&runner).outcome(), Outcome::Value(7));
    runner.finish();
}

#[test]
fn without_the_setting_tasks_wait() {
    let fails = Box::new(|id| if id == 0 || id > 2 { Ok(()) } else { Err("away") });
    let runner = Runner::new(workers(1), Orders { on_create: fails, ..Orders::default() });
    spoil(&runner);
    assert_eq!(value(&runner).outcome(), Outcome::Value(7));
    runner.finish();
}

#[test]
fn nothing_fails_while_one_worker_has_a_resource() {
    let (runner, available) = runner(workers(2), Duration::ZERO);
    let go = Latch::new();
    runner.occupy(&go);
    available.store(false, Ordering::SeqCst);
    spoil(&runner);
    eventually("creation fails", || runner.stats().creation_failing > 0);
    let waits = value(&runner);
    assert!(!runner.engine.fails_fast());
    go.open();
    assert_eq!(waits.outcome(), Outcome::Value(7));
    spoil(&runner);
    assert_eq!(value(&runner).outcome(), FAILED, "the last one lost its resource");
    available.store(true, Ordering::SeqCst);
    runner.finish();
}

#[test]
fn the_keeper_comes_in_time_where_attempts_take_long() {
    let (begun, go) = (Latch::new(), Latch::new());
    let (enter, until) = (Arc::clone(&begun), Arc::clone(&go));
    let on_create = Box::new(move |id| match id {
        0 => Ok(()),
        1 => Err("away"),
        _ => {
            enter.open();
            until.wait();
            Ok(())
        }
    });
    let settings = EngineSettings { fail_fast_after: Some(ticks(SOON)), ..workers(1) };
    let runner = Runner::new(settings, Orders { on_create, ..Orders::default() });
    spoil(&runner);
    let waits = value(&runner);
    begun.wait();
    assert_eq!(waits.outcome(), FAILED, "while the second attempt hangs");
    go.open();
    eventually("it is over", || !runner.engine.fails_fast());
    runner.finish();
}

#[test]
fn a_task_whose_pause_ends_fails_while_an_attempt_hangs() {
    let (begun, go) = (Latch::new(), Latch::new());
    let (enter, until) = (Arc::clone(&begun), Arc::clone(&go));
    let on_create = Box::new(move |id| match id {
        0 => Ok(()),
        1 => Err("away"),
        _ => {
            enter.open();
            until.wait();
            Ok(())
        }
    });
    let settings = EngineSettings { fail_fast_after: Some(0), ..workers(1) };
    let runner = Runner::new(settings, Orders { on_create, ..Orders::default() });
    let long = Duration::from_secs(2);
    let pauses = runner.submit(Priority::Normal, move |_, _| End::Later("later", long));
    eventually("it is paused", || runner.stats().paused == 1);
    spoil(&runner);
    begun.wait();
    assert_eq!(runner.stats().paused, 1, "the attempt hangs before the pause is over");
    assert_eq!((pauses.outcome(), pauses.attempts()), (FAILED, 1));
    go.open();
    runner.finish();
}

#[test]
fn items_of_batches_and_retries_fail_too() {
    let (runner, available) = runner(workers(1), SOON);
    let go = Latch::new();
    runner.occupy(&go);
    let retried = runner.submit(Priority::High, |_, _| End::Bad("spoilt"));
    let items: Vec<_> =
        (0..20).map(|_| Task::new(Priority::Normal, 0, |_, _| End::Value(1))).collect();
    runner.submit_batch(Priority::Normal, &items);
    available.store(false, Ordering::SeqCst);
    go.open();
    assert_eq!((retried.outcome(), retried.attempts()), (FAILED, 1));
    for item in &items {
        assert_eq!(item.outcome(), FAILED);
    }
    available.store(true, Ordering::SeqCst);
    runner.finish();
}

#[test]
fn a_bounded_queue_lets_its_submitters_in_to_fail() {
    let settings = EngineSettings { max_queue_size: Some(2), ..workers(1) };
    let (runner, available) = runner(settings, SOON);
    available.store(false, Ordering::SeqCst);
    spoil(&runner);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(value(&runner).outcome(), FAILED);
                }
            });
        }
    });
    available.store(true, Ordering::SeqCst);
    runner.finish();
}

#[test]
fn calls_of_run_task_fail_unless_one_of_their_resources_is_there() {
    for thread_bound in [true, false] {
        let base = EngineSettings { thread_bound, reserve_limit: Some(1), ..workers(1) };
        for reserve_at_start in [0, 1] {
            let settings = EngineSettings { reserve_at_start, ..base.clone() };
            let (runner, available) = runner(settings, SOON);
            available.store(false, Ordering::SeqCst);
            spoil(&runner);
            eventually("tasks fail", || runner.engine.fails_fast());
            let task = Task::new(Priority::Normal, RESERVED, |_, _| End::Value(3));
            assert!(runner.run_task(&task));
            let expected = if reserve_at_start == 1 { Outcome::Value(3) } else { FAILED };
            assert_eq!(task.outcome(), expected, "{thread_bound} {reserve_at_start}");
            available.store(true, Ordering::SeqCst);
            runner.finish();
        }
    }
}

#[test]
fn a_retry_is_tried_on_an_idle_resource_when_tasks_would_fail_without_one() {
    for (flags, thread_bound) in [(0, true), (RESERVED, true), (RESERVED, false)] {
        let base = EngineSettings { thread_bound, reserve_limit: Some(2), ..workers(2) };
        let settings = EngineSettings { reserve_at_start: 2, ..base };
        let (runner, available) = runner(settings, SOON);
        available.store(false, Ordering::SeqCst);
        let task = Task::new(Priority::Normal, flags, |_, task| match task.attempts() {
            1 => End::Bad("dead"),
            _ => End::Value(7),
        });
        assert!(if flags == 0 { runner.submit_task(&task) } else { runner.run_task(&task) });
        assert_eq!(task.outcome(), Outcome::Value(7), "{flags} {thread_bound}");
        let entered = task.entered();
        assert_ne!(entered[0], entered[1], "{flags} {thread_bound}");
        assert!(runner.stats().creation_failing > 0);
        available.store(true, Ordering::SeqCst);
        runner.finish();
    }
}

#[test]
fn a_retry_fails_when_it_has_found_the_idle_resources_dead_too() {
    let (runner, available) = runner(workers(2), SOON);
    available.store(false, Ordering::SeqCst);
    let task = runner.submit(Priority::Normal, |_, _| End::Bad("dead"));
    assert_eq!((task.outcome(), task.attempts()), (FAILED, 2));
    available.store(true, Ordering::SeqCst);
    runner.finish();
}

#[test]
fn a_stop_while_tasks_fail_ends() {
    let (runner, available) = runner(workers(2), Duration::ZERO);
    available.store(false, Ordering::SeqCst);
    spoil(&runner);
    spoil(&runner);
    eventually("tasks fail", || runner.engine.fails_fast());
    runner.finish();
}

#[test]
fn an_outage_now_and_then_loses_nothing_and_leaves_nobody_waiting() {
    let (runner, available) = runner(workers(3), Duration::from_millis(1));
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for n in 0..300 {
                        let task = runner.submit(Priority::Normal, move |_, _| {
                            if n % 7 == 0 { End::Bad("bad") } else { End::Value(n) }
                        });
                        task.outcome();
                    }
                })
            })
            .collect();
        while submitters.iter().any(|submitter| !submitter.is_finished()) {
            available.store(false, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(3));
            available.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(3));
        }
    });
    available.store(true, Ordering::SeqCst);
    assert!(FOREVER > SOON);
    runner.finish();
}
