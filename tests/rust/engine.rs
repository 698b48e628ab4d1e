//! What the engine promises, one behaviour each, with a host that is not Python.
#![cfg(not(loom))]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a host of its own")]

mod failing_fast;
mod joint;
mod pauses;
mod support;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    End, FOREVER, Latch, Orders, Outcome, Runner, Seat, Task, Verb, World, eventually, lock,
    workers,
};
use tasker::engine::clock::Tick;
use tasker::engine::metrics::events::EventKind;
use tasker::engine::queue::lanes::Entry;
use tasker::engine::queue::permits::{Admission, Permit};
use tasker::engine::resource::backoff::Trouble;
use tasker::engine::resource::usage::ResourcePolicy;
use tasker::engine::roster::startup_latch::StartupStatus;
use tasker::engine::task::priority::Priority;
use tasker::engine::task::{ONCE, RESERVED};
use tasker::engine::worker::serve_loan::Claiming;
use tasker::engine::{AbandonReason, Engine, EngineSettings, Host, Mode};

fn runner(worker_count: usize) -> Runner {
    Runner::new(workers(worker_count), Orders::default())
}

fn value(value: u64) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End {
    move |_, _| End::Value(value)
}

/// Fails, and spoils its resource, that many times; then it gives the number.
fn bad_for(attempts: usize) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End {
    move |_, task| match task.attempts() {
        n if n <= attempts => End::Bad("bad"),
        n => End::Value(n as u64),
    }
}

/// Appends a number to a list.
fn note(list: &Arc<Mutex<Vec<u64>>>, number: u64) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End + use<> {
    let list = Arc::clone(list);
    move |_, _| {
        lock(&list).push(number);
        End::Value(number)
    }
}

fn list() -> Arc<Mutex<Vec<u64>>> {
    Arc::default()
}

/// Submits a task whose outcome the runner does not wait for.
fn submit_to(engine: &Arc<Engine<World>>, task: &Arc<Task>, since: Tick) {
    let permit = Permit::unbounded(1);
    engine.submit((), &task.word, Arc::clone(task), since, permit).expect("accepted");
}

// ---- the queue ---------------------------------------------------------------------------------

#[test]
fn takes_the_most_urgent_priority_first_and_the_oldest_within_it() {
    let (runner, go, order) = (runner(1), Latch::new(), list());
    runner.occupy(&go);
    for (priority, number) in [
        (Priority::Low, 5),
        (Priority::Normal, 3),
        (Priority::High, 1),
        (Priority::Low, 6),
        (Priority::High, 2),
        (Priority::Normal, 4),
    ] {
        runner.submit(priority, note(&order, number));
    }
    assert_eq!((runner.stats().queued, runner.stats().high), (6, 2));
    go.open();
    runner.stop();
    assert_eq!(*lock(&order), [1, 2, 3, 4, 5, 6]);
    runner.finish();
}

#[test]
fn a_retry_goes_to_the_front_of_its_priority_and_to_another_resource() {
    let (runner, go, order) = (runner(1), Latch::new(), list());
    runner.occupy(&go);
    let inner = Arc::clone(&order);
    let retried = runner.submit(Priority::Normal, move |_, task| {
        lock(&inner).push(task.attempts() as u64);
        if task.attempts() == 1 { End::Bad("bad") } else { End::Value(0) }
    });
    runner.submit(Priority::Normal, note(&order, 10));
    runner.submit(Priority::Low, note(&order, 20));
    go.open();
    runner.stop();
    assert_eq!(*lock(&order), [1, 2, 10, 20]);
    assert_eq!(retried.entered(), [0, 1]);
    runner.finish();
}

#[test]
fn a_retry_does_not_go_before_a_higher_priority() {
    let (runner, order) = (runner(1), list());
    let (inner, urgent) = (Arc::clone(&order), Task::new(Priority::High, 0, note(&order, 10)));
    let task = runner.submit(Priority::Normal, move |session, task| {
        lock(&inner).push(task.attempts() as u64);
        if task.attempts() == 2 {
            return End::Value(0);
        }
        submit_to(session.engine, &urgent, 0);
        End::Bad("bad")
    });
    assert_eq!(task.outcome(), Outcome::Value(0));
    assert_eq!(*lock(&order), [1, 10, 2]);
    runner.finish();
}

#[test]
fn gives_up_after_the_last_retry_with_the_error() {
    let runner = runner(2);
    let task = runner.submit(Priority::Normal, |_, _| End::Bad("worn out"));
    assert_eq!(task.outcome(), Outcome::Error("worn out"));
    let mut resources = task.entered();
    assert_eq!(resources.len(), 4);
    resources.sort_unstable();
    resources.dedup();
    assert_eq!(resources.len(), 4, "no retry on a resource found bad");
    assert_eq!(runner.engine.metrics()[EventKind::Retried], 3);
    runner.finish();
}

#[test]
fn a_once_task_is_entered_once_and_its_bad_resource_replaced() {
    let runner = runner(1);
    let task = Task::new(Priority::Normal, ONCE, |_, _| End::Bad("bad"));
    assert!(runner.submit_task(&task));
    assert_eq!(task.outcome(), Outcome::Error("bad"));
    assert_eq!(task.attempts(), 1);
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    runner.finish();
}

#[test]
fn a_healthy_error_keeps_the_resource() {
    let runner = runner(1);
    let task = runner.submit(Priority::Normal, |_, _| End::Error("mine"));
    assert_eq!(task.outcome(), Outcome::Error("mine"));
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [0]);
    assert_eq!(runner.engine.metrics()[EventKind::Failed], 1);
    runner.finish();
}

#[test]
fn idle_workers_all_start_at_once() {
    let runner = runner(4);
    for _ in 0..rounds(200) {
        let meeting = Arc::new(Barrier::new(4));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let meeting = Arc::clone(&meeting);
                runner.submit(Priority::Normal, move |_, _| {
                    meeting.wait();
                    End::Value(1)
                })
            })
            .collect();
        assert!(tasks.iter().all(|task| task.outcome() == Outcome::Value(1)));
    }
    runner.finish();
}

// ---- cancelled tasks, and the bound ------------------------------------------------------------

#[test]
fn a_cancelled_task_never_starts_and_gives_its_place_back() {
    let settings = EngineSettings { max_queue_size: Some(1), ..workers(1) };
    let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
    runner.occupy(&go);
    let first = Task::new(Priority::Normal, 0, value(1));
    let second = Task::new(Priority::Normal, 0, value(2));
    assert!(runner.try_submit_task(&first));
    assert!(!runner.try_submit_task(&second), "full");
    assert!(runner.cancel(&first));
    assert!(!runner.cancel(&first));
    assert_eq!(runner.stats().queued, 0);
    assert!(runner.try_submit_task(&second), "there is room again");
    go.open();
    assert_eq!(second.outcome(), Outcome::Value(2));
    assert_eq!(runner.engine.metrics()[EventKind::Cancelled], 1);
    runner.finish();
}

#[test]
fn a_started_task_cannot_be_cancelled() {
    let (runner, go) = (runner(1), Latch::new());
    let task = runner.occupy(&go);
    assert!(!runner.cancel(&task));
    go.open();
    assert_eq!(task.outcome(), Outcome::Value(0));
    runner.finish();
}

#[test]
fn tombstones_do_not_pile_up() {
    let (runner, go) = (runner(1), Latch::new());
    runner.occupy(&go);
    let mut handles = Vec::new();
    let submit = |runner: &Runner| {
        let task = Task::new(Priority::Normal, 0, value(1));
        submit_to(&runner.engine, &task, 0);
        task
    };
    // Two thirds are cancelled as they come; of those that a compaction then leaves, some more later.
    let mut kept = Vec::new();
    for number in 0..rounds(12_000) {
        let task = submit(&runner);
        handles.push(Arc::downgrade(&task));
        if number % 3 == 0 && kept.len() < 500 {
            kept.push(task);
        } else {
            assert!(runner.cancel(&task));
        }
    }
    let alive = || handles.iter().filter(|handle| handle.strong_count() > 0).count();
    assert!(alive() < kept.len() + 1_250, "{} of {} remain", alive(), handles.len());
    for task in kept.drain(..) {
        assert!(runner.cancel(&task));
    }
    for _ in 0..rounds(1_500) {
        let task = submit(&runner);
        assert!(runner.cancel(&task));
    }
    assert!(alive() < 1_250, "survivors of a compaction are compacted too: {} remain", alive());
    go.open();
    runner.finish();
    assert_eq!(alive(), 0);
}

#[test]
fn a_compaction_keeps_the_order_of_what_lives() {
    let (runner, go, order) = (runner(1), Latch::new(), list());
    runner.occupy(&go);
    let count = rounds(6_000) as u64;
    for number in 0..count {
        let task = runner.submit(Priority::Normal, note(&order, number));
        if number % 2 == 1 {
            assert!(runner.cancel(&task));
        }
    }
    go.open();
    runner.stop();
    assert!(lock(&order).iter().copied().eq((0..count).step_by(2)));
    runner.finish();
}

#[test]
fn a_full_queue_admits_by_priority_and_then_in_order() {
    let settings = EngineSettings { max_queue_size: Some(1), ..workers(1) };
    let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
    runner.occupy(&go);
    assert!(runner.try_submit_task(&Task::new(Priority::Normal, 0, value(0))));
    let permits = runner.engine.permits().expect("a bound");
    let line: Vec<_> = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal]
        .map(|priority| (priority, permits.take_or_queue(priority, 0).expect_err("full")))
        .into();
    assert!(runner.engine.try_permits(1).is_none(), "nobody overtakes the line");
    go.open();
    for served in [2, 1, 3, 0] {
        let (priority, waiter) = &line[served];
        eventually("the next in line is served", || waiter.admission() == Admission::Granted);
        let later = [2, 1, 3, 0].into_iter().skip_while(|next| *next != served).skip(1);
        assert!(later.into_iter().all(|next| line[next].1.admission() == Admission::Blocked));
        let task = Task::new(*priority, 0, value(1));
        let permit = permits.leave(Arc::clone(waiter)).expect("granted");
        let (engine, mine) = (&runner.engine, Arc::clone(&task));
        engine.submit((), &task.word, mine, 0, permit).expect("accepted");
        assert_eq!(task.outcome(), Outcome::Value(1));
    }
    runner.finish();
}

#[test]
fn a_submitter_blocked_by_a_full_queue_is_refused_by_a_stop() {
    let settings = EngineSettings { max_queue_size: Some(1), ..workers(1) };
    let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
    runner.occupy(&go);
    let waiting = Task::new(Priority::Normal, 0, value(1));
    assert!(runner.try_submit_task(&waiting));
    let blocked = Task::new(Priority::Normal, 0, value(2));
    thread::scope(|scope| {
        let submitter = scope.spawn(|| runner.submit_task(&blocked));
        runner.engine.begin_stop();
        assert!(!submitter.join().expect("no panic"));
    });
    go.open();
    assert_eq!(waiting.outcome(), Outcome::Value(1));
    assert_eq!(blocked.attempts(), 0);
    assert_eq!(runner.engine.metrics()[EventKind::Refused], 1);
    runner.finish();
}

// ---- the end -----------------------------------------------------------------------------------

#[test]
fn a_stop_accepts_or_refuses_and_runs_all_it_accepted() {
    for _ in 0..rounds(50) {
        let runner = runner(2);
        let accepted = AtomicUsize::new(0);
        let ran = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let ran = Arc::clone(&ran);
                        let task = Task::new(Priority::Normal, 0, move |_, _| {
                            ran.fetch_add(1, Ordering::SeqCst);
                            End::Value(1)
                        });
                        if !runner.submit_task(&task) {
                            break;
                        }
                        accepted.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            eventually("some were accepted", || accepted.load(Ordering::SeqCst) > 20);
            runner.stop();
        });
        assert_eq!(ran.load(Ordering::SeqCst), accepted.load(Ordering::SeqCst));
        runner.finish();
    }
}

#[test]
fn a_stop_finishes_what_runs_and_what_waits() {
    let (runner, go) = (runner(2), Latch::new());
    runner.occupy(&go);
    let tasks: Vec<_> = (0..100).map(|n| runner.submit(Priority::Low, value(n))).collect();
    runner.engine.begin_stop();
    assert_eq!(runner.engine.mode(), Mode::Stopping);
    assert!(!runner.submit_task(&Task::new(Priority::High, 0, value(0))));
    assert!(!runner.engine.wait_ended(Duration::ZERO));
    go.open();
    assert!(runner.engine.wait_ended(FOREVER));
    assert_eq!(runner.engine.mode(), Mode::Stopped, "as soon as it has ended");
    for (number, task) in (0..).zip(&tasks) {
        assert_eq!(task.outcomes(), [Outcome::Value(number)]);
    }
    runner.finish();
}

#[test]
fn a_stop_retries_what_spoils_its_resource_on_the_way() {
    let (runner, go) = (runner(2), Latch::new());
    runner.occupy(&go);
    let tasks: Vec<_> = (0..20).map(|_| runner.submit(Priority::Normal, bad_for(2))).collect();
    runner.engine.begin_stop();
    go.open();
    runner.stop();
    assert!(tasks.iter().all(|task| task.outcomes() == [Outcome::Value(3)]));
    runner.finish();
}

#[test]
fn a_kill_answers_all_that_waits_and_starts_nothing_more() {
    let (runner, go) = (runner(1), Latch::new());
    let running = runner.occupy(&go);
    let tasks: Vec<_> = [Priority::Low, Priority::Normal, Priority::High]
        .into_iter()
        .cycle()
        .take(60)
        .map(|priority| runner.submit(priority, value(1)))
        .collect();
    runner.engine.kill(());
    assert_eq!(runner.engine.mode(), Mode::Killed);
    for task in &tasks {
        assert_eq!(
            task.outcomes(),
            [Outcome::Refused(AbandonReason::Killed)],
            "before kill returned"
        );
        assert_eq!(task.attempts(), 0);
    }
    assert_eq!(runner.engine.metrics()[EventKind::Dropped], 60);
    go.open();
    assert!(runner.engine.wait_ended(FOREVER));
    assert_eq!(running.outcomes(), [Outcome::Value(0)]);
    runner.finish();
}

#[test]
fn a_kill_gives_a_waiting_retry_its_last_error() {
    let (go, failing) = (Latch::new(), Arc::new(AtomicBool::new(false)));
    let (wait, fail) = (Arc::clone(&go), Arc::clone(&failing));
    let orders = Orders {
        on_create: Box::new(move |_| {
            if fail.load(Ordering::SeqCst) {
                wait.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    failing.store(true, Ordering::SeqCst);
    let retrying = runner.submit(Priority::Normal, bad_for(1));
    let fresh = runner.submit(Priority::Normal, value(1));
    eventually("it waits for its retry", || runner.world().creations() == 2);
    runner.engine.kill(());
    assert_eq!(retrying.outcomes(), [Outcome::Error("bad")]);
    assert_eq!(fresh.outcomes(), [Outcome::Refused(AbandonReason::Killed)]);
    go.open();
    runner.finish();
}

#[test]
fn a_kill_between_the_decision_to_retry_and_the_queueing_answers_the_task() {
    let orders = Orders {
        on_verb: Box::new(|world, verb, _| {
            if verb == Verb::PrepareRetry {
                world.engine().kill(());
            }
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = runner.submit(Priority::Normal, bad_for(1));
    assert_eq!(task.outcome(), Outcome::Error("bad"));
    assert_eq!(task.attempts(), 1);
    runner.finish();
}

#[test]
fn a_retry_that_comes_after_a_kill_does_not_wait_for_what_runs() {
    let orders = Orders {
        on_verb: Box::new(|world, verb, _| {
            if verb == Verb::PrepareRetry {
                world.engine().kill(());
            }
        }),
        ..Orders::default()
    };
    let (runner, go) = (Runner::new(workers(2), orders), Latch::new());
    let running = runner.occupy(&go);
    let task = runner.submit(Priority::Normal, bad_for(1));
    assert_eq!(task.outcome(), Outcome::Error("bad"));
    assert!(running.outcomes().is_empty());
    go.open();
    runner.finish();
}

#[test]
fn a_task_claimed_before_a_kill_is_either_seen_running_or_does_not_run() {
    let (claimed, go) = (Latch::new(), Latch::new());
    let (inside, held) = (Arc::clone(&claimed), Arc::clone(&go));
    let orders = Orders {
        on_verb: Box::new(move |_, verb, _| {
            if verb == Verb::Share {
                inside.open();
                held.wait();
            }
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = runner.submit(Priority::Normal, value(1));
    claimed.wait();
    runner.engine.kill(());
    let mut seen = 0;
    for worker in runner.engine.workers() {
        worker.for_each_running(|_, _| seen += 1);
    }
    assert_eq!(seen, 0);
    go.open();
    assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::Killed));
    assert_eq!(task.attempts(), 0);
    runner.finish();
}

#[test]
fn a_kill_strengthens_a_stop() {
    let (runner, go) = (runner(1), Latch::new());
    runner.occupy(&go);
    let tasks: Vec<_> = (0..10).map(|_| runner.submit(Priority::Normal, value(1))).collect();
    runner.engine.begin_stop();
    runner.engine.kill(());
    assert_eq!(runner.engine.mode(), Mode::Killed);
    assert!(tasks.iter().all(|t| t.outcomes() == [Outcome::Refused(AbandonReason::Killed)]));
    go.open();
    runner.finish();
}

#[test]
fn stops_and_kills_may_overlap_and_all_return() {
    for round in 0..rounds(100) {
        let runner = runner(2);
        let tasks: Vec<_> = (0..50).map(|_| runner.submit(Priority::Normal, bad_for(1))).collect();
        thread::scope(|scope| {
            for number in 0..4 {
                let runner = &runner;
                scope.spawn(
                    move || {
                        if (round + number) % 3 == 0 { runner.kill() } else { runner.stop() }
                    },
                );
            }
        });
        assert!(tasks.iter().all(|task| task.outcomes().len() == 1));
        runner.finish();
    }
}

#[test]
fn a_runner_has_not_ended_before_a_kill_has_answered_everybody() {
    let (inside, answer) = (Latch::new(), Latch::new());
    let (entered, held) = (Arc::clone(&inside), Arc::clone(&answer));
    let orders = Orders {
        on_verb: Box::new(move |_, verb, _| {
            if verb == Verb::Refuse {
                entered.open();
                held.wait();
            }
        }),
        ..Orders::default()
    };
    let (runner, go) = (Runner::new(workers(1), orders), Latch::new());
    runner.occupy(&go);
    let task = runner.submit(Priority::Normal, value(1));
    thread::scope(|scope| {
        scope.spawn(|| runner.engine.kill(()));
        inside.wait();
        go.open();
        eventually("the worker is gone", || runner.engine.workers().is_empty());
        assert!(!runner.engine.wait_ended(Duration::ZERO));
        answer.open();
        assert!(runner.engine.wait_ended(FOREVER));
        assert_eq!(task.outcomes(), [Outcome::Refused(AbandonReason::Killed)]);
    });
    runner.finish();
}

#[test]
fn a_runner_has_not_ended_before_its_last_resource_is_destroyed() {
    let (inside, go) = (Latch::new(), Latch::new());
    let (entered, held) = (Arc::clone(&inside), Arc::clone(&go));
    let orders = Orders {
        on_destroy: Box::new(move |_| {
            entered.open();
            held.wait();
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    runner.engine.begin_stop();
    inside.wait();
    assert!(!runner.engine.wait_ended(Duration::from_millis(1)));
    go.open();
    runner.finish();
}

// ---- creation that fails -----------------------------------------------------------------------

/// Orders by which creation fails while the flag is up.
fn failing() -> (Orders, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&down);
    let on_create =
        Box::new(move |_| if flag.load(Ordering::SeqCst) { Err("no resource") } else { Ok(()) });
    (Orders { on_create, ..Orders::default() }, down)
}

/// Makes every worker find its resource bad at once; returns when all tasks have failed.
fn spoil_all(runner: &Runner) {
    let count = runner.engine.settings.worker_count;
    let meeting = Arc::new(Barrier::new(count));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let meeting = Arc::clone(&meeting);
            let task = Task::new(Priority::High, ONCE, move |_, _| {
                meeting.wait();
                End::Bad("bad")
            });
            assert!(runner.submit_task(&task));
            task
        })
        .collect();
    assert!(tasks.iter().all(|task| task.outcome() == Outcome::Error("bad")));
}

#[test]
fn failing_creation_is_tried_one_at_a_time_until_it_works_again() {
    let (Orders { on_create, .. }, down) = failing();
    // The first creation of each that fails meets the others': none may end before all have begun, so that none has
    // to wait for a turn.
    let (meeting, failures, flag) = (Barrier::new(3), AtomicUsize::new(0), Arc::clone(&down));
    let on_create = Box::new(move |number| {
        if flag.load(Ordering::SeqCst) && failures.fetch_add(1, Ordering::SeqCst) < 3 {
            meeting.wait();
        }
        on_create(number)
    });
    let runner = Runner::new(workers(3), Orders { on_create, ..Orders::default() });
    down.store(true, Ordering::SeqCst);
    spoil_all(&runner);
    let tasks: Vec<_> = (0..10).map(|n| runner.submit(Priority::Normal, value(n))).collect();
    eventually("each has failed once", || lock(&runner.world().failed).len() == 3);
    runner.world().creating_at_most();
    let before = lock(&runner.world().faults).len();
    eventually("it goes on trying", || lock(&runner.world().faults).len() >= before + 3);
    assert_eq!(runner.world().creating_at_most(), 1);
    assert_eq!(runner.stats().queued, 10, "tasks stay queued");
    assert_eq!((runner.stats().workers.base, runner.stats().workers.main_with_resource), (3, 0));
    down.store(false, Ordering::SeqCst);
    assert!(tasks.iter().zip(0..).all(|(task, n)| task.outcome() == Outcome::Value(n)));
    eventually("all have a resource again", || runner.stats().workers.main_with_resource == 3);
    let troubles = lock(&runner.world().troubles).clone();
    assert!(matches!(troubles[..], [Trouble::Began, Trouble::Over(_)]), "{troubles:?}");
    runner.finish();
}

#[test]
fn closing_while_creation_fails_answers_the_queue_and_ends() {
    let (orders, down) = failing();
    let runner = Runner::new(workers(2), orders);
    down.store(true, Ordering::SeqCst);
    spoil_all(&runner);
    let tasks: Vec<_> = (0..5).map(|_| runner.submit(Priority::Normal, value(1))).collect();
    eventually("creation fails", || !lock(&runner.world().faults).is_empty());
    runner.stop();
    for task in &tasks {
        assert_eq!(task.outcomes(), [Outcome::Refused(AbandonReason::NoWorker)], "before it ended");
    }
    runner.finish();
}

#[test]
fn a_retry_left_behind_by_a_stop_without_workers_is_answered() {
    let (orders, down) = failing();
    let (runner, go) = (Runner::new(workers(2), orders), Latch::new());
    let held = Arc::clone(&go);
    let entered = Latch::new();
    let inside = Arc::clone(&entered);
    let task = runner.submit(Priority::Normal, move |_, _| {
        inside.open();
        held.wait();
        End::Bad("bad")
    });
    entered.wait();
    down.store(true, Ordering::SeqCst);
    runner.engine.begin_stop();
    eventually("the idle worker has left", || runner.engine.workers().len() == 1);
    go.open();
    assert!(runner.engine.wait_ended(FOREVER));
    assert_eq!(task.outcomes(), [Outcome::Refused(AbandonReason::NoWorker)]);
    runner.finish();
}

#[test]
fn a_closing_runner_tries_to_create_once_more() {
    let (orders, down) = failing();
    let runner = Runner::new(workers(1), orders);
    down.store(true, Ordering::SeqCst);
    spoil_all(&runner);
    let task = runner.submit(Priority::Normal, value(1));
    eventually("creation fails", || !lock(&runner.world().faults).is_empty());
    down.store(false, Ordering::SeqCst);
    runner.stop();
    assert_eq!(task.outcomes(), [Outcome::Value(1)]);
    runner.finish();
}

#[test]
fn a_failed_start_tells_why_and_leaves_nothing() {
    let orders = Orders {
        on_create: Box::new(|number| if number == 1 { Err("no luck") } else { Ok(()) }),
        ..Orders::default()
    };
    let runner = Runner::launch(workers(3), orders).expect("threads start");
    assert_eq!(runner.engine.startup.wait(FOREVER), StartupStatus::Failed);
    assert_eq!(runner.engine.startup.take_fault(), Some("no luck"));
    runner.kill();
    runner.finish();
}

#[test]
fn a_thread_that_cannot_start_fails_the_start() {
    let started = AtomicUsize::new(0);
    let orders = Orders {
        on_spawn: Box::new(move |_| match started.fetch_add(1, Ordering::SeqCst) {
            2 => Err("no thread"),
            _ => Ok(()),
        }),
        ..Orders::default()
    };
    let (runner, fault) = Runner::launch(workers(3), orders).expect_err("the third does not start");
    assert_eq!(fault, "no thread");
    runner.kill();
    runner.finish();
}

#[test]
fn a_start_given_up_destroys_a_resource_that_comes_late() {
    let go = Latch::new();
    let held = Arc::clone(&go);
    let orders = Orders {
        on_create: Box::new(move |_| {
            held.wait();
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::launch(workers(1), orders).expect("threads start");
    assert_eq!(runner.engine.startup.wait(Duration::from_millis(1)), StartupStatus::Pending);
    runner.engine.kill(());
    assert!(!runner.engine.wait_ended(Duration::ZERO));
    go.open();
    runner.finish();
}

#[test]
fn the_number_of_base_workers_survives_any_fault() {
    let (orders, down) = failing();
    let runner = Runner::new(workers(3), orders);
    for round in 0..rounds(20) {
        down.store(round % 10 == 0, Ordering::SeqCst);
        spoil_all(&runner);
        down.store(false, Ordering::SeqCst);
        eventually("all are back", || {
            let counts = runner.stats().workers;
            let made = runner.world().made() - 3 * (round + 1);
            (made, counts.base, counts.main_with_resource, counts.starting) == (3, 3, 3, 0)
        });
    }
    assert_eq!(runner.engine.workers().len(), 3);
    runner.finish();
}

// ---- run_task, on threads of its own -----------------------------------------------------------

fn reserved(work: impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + 'static) -> Arc<Task> {
    Task::new(Priority::Normal, RESERVED, work)
}

#[test]
fn run_task_passes_the_queue_on_a_resource_that_is_kept() {
    let (runner, go) = (
        Runner::new(EngineSettings { reserve_limit: Some(4), ..workers(1) }, Orders::default()),
        Latch::new(),
    );
    runner.occupy(&go);
    let waiting = runner.submit(Priority::High, value(0));
    for number in 0..rounds(500) as u64 {
        let task = reserved(value(number));
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.entered()), (Outcome::Value(number), vec![1]));
    }
    assert_eq!(runner.world().made(), 2, "one idle worker is enough for one call after the other");
    eventually("it is idle", || runner.stats().available == 1);
    assert_eq!(waiting.attempts(), 0);
    go.open();
    runner.finish();
}

#[test]
fn run_task_has_a_worker_for_each_call_at_once_up_to_the_limit() {
    let runner =
        Runner::new(EngineSettings { reserve_limit: Some(4), ..workers(1) }, Orders::default());
    for _ in 0..rounds(100) {
        let meeting = Arc::new(Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                let (runner, meeting) = (&runner, Arc::clone(&meeting));
                scope.spawn(move || {
                    let task = reserved(move |_, _| {
                        meeting.wait();
                        End::Value(1)
                    });
                    assert!(runner.run_task(&task));
                    assert_eq!(task.outcome(), Outcome::Value(1));
                });
            }
        });
    }
    assert_eq!(runner.world().made(), 5);
    runner.finish();
}

#[test]
fn a_run_task_beyond_the_limit_waits_for_a_worker() {
    let runner =
        Runner::new(EngineSettings { reserve_limit: Some(1), ..workers(1) }, Orders::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..rounds(50) {
                    let task = reserved(value(1));
                    assert!(runner.run_task(&task));
                    assert_eq!(task.outcome(), Outcome::Value(1));
                }
            });
        }
    });
    assert_eq!(runner.world().made(), 2);
    runner.finish();
}

#[test]
fn a_temporary_worker_serves_and_leaves() {
    let settings = EngineSettings { reserve_limit: Some(2), keep_reserved: false, ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    for number in 1..=3 {
        assert!(runner.run_task(&reserved(value(1))));
        eventually("it left", || runner.world().destroyed() == number);
    }
    runner.finish();
}

#[test]
fn temporary_workers_that_leave_strand_nobody() {
    let settings = EngineSettings { reserve_limit: Some(1), keep_reserved: false, ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..rounds(200) {
                    assert!(runner.run_task(&reserved(value(1))));
                }
            });
        }
    });
    runner.finish();
}

#[test]
fn run_task_is_tried_again_on_another_resource() {
    for keep_reserved in [true, false] {
        let runner = Runner::new(EngineSettings { keep_reserved, ..workers(1) }, Orders::default());
        let task = reserved(bad_for(2));
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.entered()), (Outcome::Value(3), vec![1, 2, 3]));
        runner.finish();
    }
}

#[test]
fn reserved_workers_asked_for_are_there_at_the_start() {
    let settings = EngineSettings { reserve_at_start: 2, reserve_limit: Some(2), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    assert_eq!(runner.world().made(), 3);
    assert_eq!(runner.stats().workers.reserved, 2);
    runner.finish();
}

#[test]
fn without_a_thread_to_be_had_a_base_worker_serves_run_task() {
    let orders = Orders {
        on_spawn: Box::new(
            |name| if name.contains("reserved") { Err("no thread") } else { Ok(()) },
        ),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = reserved(value(1));
    assert!(runner.run_task(&task));
    assert_eq!((task.outcome(), task.entered()), (Outcome::Value(1), vec![0]));
    runner.finish();
}

#[test]
fn a_stop_finishes_each_run_task_it_accepted() {
    for round in 0..rounds(100) {
        let settings = EngineSettings {
            reserve_limit: Some(2),
            keep_reserved: round % 2 == 0,
            thread_bound: round % 4 < 2,
            ..workers(1)
        };
        let runner = Runner::new(settings, Orders::default());
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let task = reserved(value(1));
                        if !runner.run_task(&task) {
                            break;
                        }
                        let outcome = task.outcome();
                        if runner.engine.settings.thread_bound {
                            assert_eq!(outcome, Outcome::Value(1));
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            eventually("some were run", || done.load(Ordering::SeqCst) > 3);
            runner.stop();
            assert!(runner.engine.workers().is_empty(), "no worker is started after the end");
        });
        runner.finish();
    }
}

#[test]
fn closing_while_creation_for_run_task_fails_answers_it_and_ends() {
    let (orders, down) = failing();
    let runner = Runner::new(EngineSettings { reserve_limit: Some(3), ..workers(1) }, orders);
    down.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let task = reserved(value(1));
                    runner.run_task(&task).then(|| task.outcome())
                })
            })
            .collect();
        eventually("creation fails", || !lock(&runner.world().faults).is_empty());
        runner.stop();
        for call in calls {
            let outcome = call.join().expect("no panic");
            assert!(matches!(outcome, None | Some(Outcome::Refused(AbandonReason::NoWorker))));
        }
    });
    runner.finish();
}

// ---- run_task, on loans ------------------------------------------------------------------------

fn lending(settings: EngineSettings) -> EngineSettings {
    EngineSettings { thread_bound: false, ..settings }
}

#[test]
fn a_loan_is_used_in_the_callers_thread_and_lies_idle_after() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    let here = thread::current().id();
    for _ in 0..rounds(500) {
        let task = reserved(move |_, _| {
            assert_eq!(thread::current().id(), here);
            End::Value(1)
        });
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.entered()), (Outcome::Value(1), vec![1]));
    }
    assert_eq!(runner.stats().available, 1);
    assert_eq!(runner.world().made(), 2);
    runner.finish();
}

#[test]
fn a_spoiled_loan_is_renewed_on_the_thread_that_made_it() {
    for keep_reserved in [true, false] {
        let runner =
            Runner::new(lending(EngineSettings { keep_reserved, ..workers(1) }), Orders::default());
        let task = reserved(bad_for(2));
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.entered()), (Outcome::Value(3), vec![1, 2, 3]));
        assert_eq!(runner.stats().queued, 0);
        runner.finish();
    }
}

#[test]
fn a_loan_is_shared_by_callers_beyond_the_limit() {
    for keep_reserved in [true, false] {
        let settings = EngineSettings { reserve_limit: Some(1), keep_reserved, ..workers(1) };
        let runner = Runner::new(lending(settings), Orders::default());
        let inside = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..rounds(50) {
                        let inside = Arc::clone(&inside);
                        let task = reserved(move |_, _| {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            End::Value(1)
                        });
                        assert!(runner.run_task(&task));
                        assert_eq!(task.outcome(), Outcome::Value(1));
                    }
                });
            }
        });
        runner.finish();
    }
}

#[test]
fn a_stop_calls_idle_loans_home_and_waits_for_those_in_use() {
    let settings = EngineSettings { reserve_at_start: 2, reserve_limit: Some(2), ..workers(1) };
    let (runner, go, entered) =
        (Runner::new(lending(settings), Orders::default()), Latch::new(), Latch::new());
    eventually("both lie idle", || runner.stats().available == 2);
    let (held, inside) = (Arc::clone(&go), Arc::clone(&entered));
    let task = reserved(move |_, _| {
        inside.open();
        held.wait();
        End::Value(1)
    });
    thread::scope(|scope| {
        scope.spawn(|| assert!(runner.run_task(&task)));
        entered.wait();
        runner.engine.begin_stop();
        eventually("the idle ones went back", || runner.engine.workers().len() == 1);
        assert!(!runner.engine.wait_ended(Duration::ZERO));
        go.open();
        runner.stop();
    });
    assert_eq!(task.outcome(), Outcome::Value(1));
    runner.finish();
}

#[test]
fn a_stop_waits_for_an_accepted_call_that_has_no_loan_yet() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    let waiter = runner.engine.accept_loan_waiter().expect("accepted");
    runner.engine.begin_stop();
    eventually("the base worker left", || runner.engine.workers().is_empty());
    assert!(!runner.engine.wait_ended(Duration::ZERO));
    runner.engine.start_reserved_if_needed(());
    let task = reserved(value(1));
    let entry = Entry::fresh(Arc::clone(&task), 0);
    let loan = runner.engine.take_loan(&entry, FOREVER).expect("one was hired");
    drop(waiter);
    assert!(runner.engine.serve_on_loan((), loan, entry, Claiming::Shared).is_none());
    assert_eq!(task.outcomes(), [Outcome::Value(1)]);
    runner.finish();
}

#[test]
fn a_loan_spoiled_during_a_stop_is_renewed_for_the_retry() {
    for _ in 0..rounds(50) {
        let runner = Runner::new(lending(workers(1)), Orders::default());
        let task = reserved(|session, task| {
            session.engine.begin_stop();
            if task.attempts() <= 2 { End::Bad("bad") } else { End::Value(1) }
        });
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.attempts()), (Outcome::Value(1), 3));
        runner.finish();
    }
}

#[test]
fn a_loan_whose_worker_is_dismissed_is_lent_again_during_a_stop() {
    let settings = EngineSettings { reserve_limit: None, ..workers(2) };
    let runner = Runner::new(lending(settings), Orders::default());
    let engine = &runner.engine;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (go, entered) = (Latch::new(), Latch::new());
            let (held, inside) = (Arc::clone(&go), Arc::clone(&entered));
            let task = reserved(move |_, _| {
                inside.open();
                held.wait();
                End::Value(1)
            });
            (task, go, entered)
        })
        .collect();
    thread::scope(|scope| {
        for (task, _, entered) in &calls {
            scope.spawn(|| assert!(runner.run_task(task)));
            entered.wait();
        }
        // The worker that came second is to leave.
        runner.resize(Some(1), None);
        let waiter = engine.accept_loan_waiter().expect("accepted");
        engine.begin_stop();
        calls[1].1.open();
        let task = reserved(value(1));
        let entry = Entry::fresh(Arc::clone(&task), 0);
        let loan = engine.take_loan(&entry, Duration::from_secs(10));
        calls[0].1.open();
        let loan = loan.expect("the second call's");
        drop(waiter);
        assert!(engine.serve_on_loan((), loan, entry, Claiming::Shared).is_none());
        assert_eq!(task.outcomes(), [Outcome::Value(1)]);
    });
    assert_eq!(runner.world().made(), 4);
    runner.finish();
}

#[test]
fn closing_while_no_loan_can_be_made_answers_the_callers_and_ends() {
    let (orders, down) = failing();
    let settings = lending(EngineSettings { reserve_limit: Some(2), ..workers(1) });
    let runner = Runner::new(settings, orders);
    down.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let task = reserved(value(1));
                    runner.run_task(&task).then(|| task.outcome())
                })
            })
            .collect();
        eventually("creation fails", || !lock(&runner.world().faults).is_empty());
        runner.stop();
        for call in calls {
            let outcome = call.join().expect("no panic");
            assert!(matches!(outcome, None | Some(Outcome::Refused(AbandonReason::NoWorker))));
        }
    });
    runner.finish();
}

#[test]
fn a_killed_runner_lends_nothing() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    assert!(runner.run_task(&reserved(value(1))));
    let engine = Arc::clone(&runner.engine);
    let task = reserved(value(2));
    let entry = Entry::fresh(Arc::clone(&task), engine.clock.now());
    let loan = engine.accept_on_loan(entry.since).expect("idle");
    runner.engine.kill(());
    assert!(engine.accept_on_loan(entry.since).is_none() && engine.accept_loan_waiter().is_none());
    assert!(runner.engine.serve_on_loan((), loan, entry, Claiming::Unshared).is_none());
    assert_eq!(task.outcomes(), [Outcome::Refused(AbandonReason::Killed)]);
    assert_eq!(task.attempts(), 0);
    runner.finish();
}

#[test]
fn a_loan_that_is_dropped_goes_home() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    assert!(runner.run_task(&reserved(value(1))));
    let advance = Entry::fresh(reserved(value(2)), 0);
    drop(runner.engine.try_take_loan(&advance).expect("idle"));
    runner.finish();
}

// ---- time limits -------------------------------------------------------------------------------

#[test]
fn a_task_whose_time_is_up_before_it_starts_never_starts() {
    let settings = EngineSettings { max_queue_size: Some(1), ..workers(1) };
    let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
    runner.occupy(&go);
    let task = runner.submit(Priority::Normal, value(1));
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    eventually("its place is free", || runner.engine.try_permits(1).is_some());
    assert_eq!((runner.stats().queued, runner.engine.metrics()[EventKind::TimedOut]), (0, 1));
    go.open();
    runner.stop();
    assert_eq!(task.attempts(), 0);
    runner.finish();
}

#[test]
fn tasks_end_in_the_order_in_which_their_time_is_up() {
    let (runner, go, order) = (runner(1), Latch::new(), list());
    runner.occupy(&go);
    let tasks: Vec<_> = (0..4).map(|_| runner.submit(Priority::Normal, value(1))).collect();
    for (task, milliseconds) in tasks.iter().zip([400_000, 20, 300_000, 10]) {
        runner.limit(task, Duration::from_millis(milliseconds));
    }
    assert_eq!(tasks[1].outcome(), Outcome::TimedOut);
    assert_eq!(tasks[3].outcomes(), [Outcome::TimedOut]);
    assert!(tasks[0].outcomes().is_empty() && tasks[2].outcomes().is_empty());
    lock(&order).clear();
    go.open();
    runner.finish();
}

#[test]
fn a_runner_stops_by_itself_when_its_time_is_up() {
    let runner = runner(1);
    let task = runner.submit(Priority::Normal, value(1));
    runner.engine.need_keeper(()).expect("a thread");
    runner.engine.stop_at(runner.engine.clock.now() + 1_000_000);
    assert!(runner.engine.wait_ended(FOREVER));
    assert_eq!((runner.engine.mode(), task.outcome()), (Mode::Stopped, Outcome::Value(1)));
    runner.finish();
}

#[test]
fn a_task_that_ends_in_time_is_watched_no_more() {
    let runner = runner(1);
    let task = runner.submit(Priority::Normal, value(1));
    runner.limit(&task, FOREVER);
    assert_eq!(task.outcome(), Outcome::Value(1));
    runner.stop();
    assert_eq!(runner.engine.metrics()[EventKind::TimedOut], 0);
    runner.finish();
}

/// A task that overruns its limit, and waits for the latch then. Returns when its time is up.
fn overrun(runner: &Runner, go: &Arc<Latch>) -> Arc<Task> {
    let task = runner.occupy(go);
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    task
}

#[test]
fn a_task_that_overruns_is_answered_at_once_and_its_result_dropped() {
    let (runner, go) = (runner(1), Latch::new());
    let task = overrun(&runner, &go);
    assert_eq!(runner.engine.metrics()[EventKind::TimedOut], 1);
    assert_eq!((runner.stats().overdue, runner.stats().running), (1, 1));
    eventually("nobody can stand in", || {
        runner.world().overdue_reports.load(Ordering::SeqCst) == 1
    });
    let counts = runner.stats().workers;
    assert_eq!((counts.base, counts.overdue), (0, 1));
    go.open();
    eventually("its worker counts again", || runner.stats().workers.base == 1);
    assert_eq!(task.outcomes(), [Outcome::TimedOut]);
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [0]);
    runner.finish();
}

#[test]
fn a_substitute_takes_the_place_of_an_overdue_worker() {
    let settings = EngineSettings { max_worker_count: 2, ..workers(1) };
    let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
    overrun(&runner, &go);
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    let counts = runner.stats().workers;
    assert_eq!((counts.base, counts.overdue), (1, 1));
    go.open();
    eventually("the overdue one left", || runner.engine.workers().len() == 1);
    assert_eq!(runner.stats().workers.base, 1);
    assert_eq!(runner.world().overdue_reports.load(Ordering::SeqCst), 0);
    runner.finish();
}

#[test]
fn an_overdue_worker_that_was_replaced_leaves_though_tasks_wait() {
    let settings = EngineSettings { max_worker_count: 2, ..workers(1) };
    let (runner, go, later) =
        (Runner::new(settings, Orders::default()), Latch::new(), Latch::new());
    overrun(&runner, &go);
    runner.occupy(&later);
    let waiting = runner.submit(Priority::Normal, value(1));
    go.open();
    eventually("it left", || runner.engine.workers().len() == 1);
    assert_eq!(waiting.attempts(), 0);
    later.open();
    assert_eq!(waiting.entered_after_outcome(), [1]);
    runner.finish();
}

#[test]
fn overdue_workers_that_end_together_leave_the_right_number() {
    for _ in 0..rounds(50) {
        let settings = EngineSettings { max_worker_count: 3, ..workers(2) };
        let (runner, go) = (Runner::new(settings, Orders::default()), Latch::new());
        overrun(&runner, &go);
        overrun(&runner, &go);
        eventually("one stand-in for two", || {
            runner.world().overdue_reports.load(Ordering::SeqCst) == 1
        });
        go.open();
        eventually("both have ended", || runner.stats().overdue == 0);
        eventually("two are left", || {
            let counts = runner.stats().workers;
            (runner.engine.workers().len(), counts.base, counts.overdue) == (2, 2, 0)
        });
        runner.finish();
    }
}

#[test]
fn an_overdue_task_that_spoils_its_resource_does_not_keep_its_worker_from_counting() {
    let (runner, go, entered) = (runner(1), Latch::new(), Latch::new());
    let (held, inside) = (Arc::clone(&go), Arc::clone(&entered));
    let task = runner.submit(Priority::Normal, move |session, _| {
        inside.open();
        held.wait();
        session.mark_bad();
        End::Value(1)
    });
    entered.wait();
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    eventually("it is overdue", || runner.stats().workers.overdue == 1);
    go.open();
    eventually("it counts again, with another resource", || {
        let counts = runner.stats().workers;
        (counts.base, counts.main_with_resource, counts.overdue) == (1, 1, 0)
            && runner.world().made() == 2
    });
    runner.finish();
}

/// Orders by which a task's time is up as it comes to the verb.
fn expiring_at(verb: Verb) -> Orders {
    Orders {
        on_verb: Box::new(move |world, now, task| {
            if now == verb {
                world.expire((), task);
            }
        }),
        ..Orders::default()
    }
}

#[test]
fn a_limit_that_passes_while_the_error_is_judged_leaves_no_trace() {
    for (retries, verb) in [(1, Verb::Judge), (1, Verb::PrepareRetry), (9, Verb::Judge)] {
        let runner = Runner::new(workers(1), expiring_at(verb));
        let task =
            Task::new(Priority::Normal, if retries == 9 { ONCE } else { 0 }, bad_for(retries));
        assert!(runner.submit_task(&task));
        assert_eq!(task.outcome(), Outcome::TimedOut);
        let next = runner.submit(Priority::Normal, value(2));
        assert_eq!((next.outcome(), next.entered()), (Outcome::Value(2), vec![1]));
        assert_eq!((task.attempts(), runner.stats().overdue), (1, 0));
        runner.finish();
    }
}

#[test]
fn a_limit_that_passes_while_a_retry_waits_ends_it() {
    let (go, failing) = (Latch::new(), Arc::new(AtomicBool::new(false)));
    let (held, fail) = (Arc::clone(&go), Arc::clone(&failing));
    let orders = Orders {
        on_create: Box::new(move |_| {
            if fail.load(Ordering::SeqCst) {
                held.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    failing.store(true, Ordering::SeqCst);
    let task = runner.submit(Priority::Normal, bad_for(1));
    eventually("it waits for its retry", || runner.world().creations() == 2);
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    eventually("nothing waits", || runner.stats().queued == 0);
    go.open();
    runner.stop();
    assert_eq!(task.attempts(), 1);
    runner.finish();
}

#[test]
fn a_limit_that_passes_between_a_claim_and_its_refusal_leaves_no_trace() {
    let orders = Orders {
        on_verb: Box::new(|world, verb, task| {
            if verb == Verb::Share {
                world.engine().kill(());
                world.expire((), task);
            }
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = Task::new(Priority::Normal, ONCE, value(1));
    assert!(runner.submit_task(&task));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    runner.finish();
    assert_eq!(runner.engine.metrics().figures.execution().count, 0, "its function never ran");
}

// ---- good resources, looked after ----------------------------------------------------------------

/// So many workers, which look after their resources like this.
fn caring(worker_count: usize, policy: ResourcePolicy) -> EngineSettings {
    EngineSettings { policy, ..workers(worker_count) }
}

#[test]
fn a_resource_that_rested_is_validated_before_its_next_use() {
    let runner = Runner::new(
        caring(2, ResourcePolicy { validate_after: Some(1), ..ResourcePolicy::default() }),
        Orders::default(),
    );
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..rounds(2_000) {
                    // The host checks it.
                    assert_eq!(
                        runner.submit(Priority::Normal, value(1)).outcome(),
                        Outcome::Value(1)
                    );
                }
            });
        }
    });
    runner.finish();
}

#[test]
fn a_resource_that_is_not_valid_any_more_is_replaced_and_no_task_sees_it() {
    let orders = Orders { on_validate: Box::new(|_| false), ..Orders::default() };
    let policy = ResourcePolicy { validate_after: Some(1), ..ResourcePolicy::default() };
    let runner = Runner::new(caring(1, policy), orders);
    eventually("it rested before a task", || {
        let task = runner.submit(Priority::Normal, value(1));
        assert_eq!((task.outcome(), task.attempts()), (Outcome::Value(1), 1));
        task.entered() != [0]
    });
    runner.finish();
}

#[test]
fn a_resource_that_is_bad_from_the_start_is_a_creation_that_failed() {
    let up = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&up);
    let on_validate = Box::new(move |_| flag.load(Ordering::SeqCst));
    let policy = ResourcePolicy { validate_after: Some(0), ..ResourcePolicy::default() };
    let runner = Runner::new(caring(2, policy), Orders { on_validate, ..Orders::default() });
    let tasks: Vec<_> = (0..5).map(|n| runner.submit(Priority::Normal, value(n))).collect();
    eventually("it goes on trying", || lock(&runner.world().faults).len() >= 3);
    assert_eq!(runner.stats().queued, 5, "tasks stay queued");
    assert_eq!(lock(&runner.world().troubles).first(), Some(&Trouble::Began));
    up.store(true, Ordering::SeqCst);
    assert!(tasks.iter().zip(0..).all(|(task, n)| task.outcome() == Outcome::Value(n)));
    runner.finish();
}

#[test]
fn a_reset_that_fails_replaces_the_resource_and_leaves_the_outcome_alone() {
    let orders = Orders { on_reset: Box::new(|number| number != 0), ..Orders::default() };
    let runner = Runner::new(
        caring(1, ResourcePolicy { resets: true, ..ResourcePolicy::default() }),
        orders,
    );
    let tasks = [(); 2].map(|()| runner.submit(Priority::Normal, value(1)));
    assert_eq!(
        tasks.map(|task| (task.outcome(), task.entered())),
        [(Outcome::Value(1), vec![0]), (Outcome::Value(1), vec![1]),]
    );
    runner.finish();
}

#[test]
fn the_time_of_a_reset_is_no_tasks() {
    let orders = Orders {
        on_reset: Box::new(|_| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            true
        }),
        ..Orders::default()
    };
    let runner = Runner::new(
        caring(1, ResourcePolicy { resets: true, ..ResourcePolicy::default() }),
        orders,
    );
    let go = Latch::new();
    go.open();
    runner.occupy(&go);
    for _ in 0..5 {
        runner.submit(Priority::Normal, value(1));
    }
    runner.stop();
    // With the reset each would have taken longer; a busy machine makes some so.
    let execution = runner.engine.metrics().figures.execution();
    assert!(execution.min < 0.005, "{execution:?}");
    runner.finish();
}

#[test]
fn a_resource_is_renewed_after_so_many_tasks() {
    let policy = ResourcePolicy { max_tasks: Some(2), ..ResourcePolicy::default() };
    let runner = Runner::new(caring(1, policy), Orders::default());
    let tasks: Vec<_> = (0..6).map(|_| runner.submit(Priority::Normal, value(1))).collect();
    let resources: Vec<_> = tasks.iter().flat_map(|task| task.entered_after_outcome()).collect();
    assert_eq!(resources, [0, 0, 1, 1, 2, 2]);
    runner.finish();
}

#[test]
fn a_renewed_runner_renews_all_and_keeps_its_number() {
    for spare in [0, 1] {
        let settings =
            EngineSettings { max_worker_count: 3 + spare, reserve_at_start: 1, ..workers(3) };
        let runner =
            Runner::new(EngineSettings { reserve_limit: Some(1), ..settings }, Orders::default());
        for round in 1..=rounds(20) {
            runner.engine.renew_all((), None);
            eventually("all are new", || {
                let counts = runner.stats().workers;
                assert!(counts.base <= 3, "{counts:?}");
                assert!(counts.main_with_resource + 1 >= 3, "one at a time: {counts:?}");
                runner.world().made() == 4 * (round + 1) && runner.engine.workers().len() == 4
            });
        }
        assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
        runner.finish();
    }
}

#[test]
fn a_renewal_of_all_wakes_each_worker_for_its_own_turn() {
    for (spare, most) in [(0, 3), (1, 4)] {
        let count = 50;
        let settings = EngineSettings { max_worker_count: count + spare, ..workers(count) };
        let runner = Runner::new(settings, Orders::default());
        let parks = || runner.world().parks.load(Ordering::SeqCst);
        eventually("all sleep", || parks() == count);
        runner.engine.renew_all((), None);
        eventually("all are new", || {
            let counts = runner.stats().workers;
            runner.world().destroyed() == count && counts.main_with_resource == count
        });
        // It asks whether it may make its resource, and sleeps again; some look once more between.
        assert!(parks() <= (1 + most) * count, "{} parks", parks());
        runner.finish();
    }
}

#[test]
fn a_worker_that_is_relieved_serves_until_then() {
    let (go, made) = (Latch::new(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (Arc::clone(&go), Arc::clone(&made));
    let orders = Orders {
        on_create: Box::new(move |number| {
            count.fetch_add(1, Ordering::SeqCst);
            if number > 0 {
                held.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 2, ..workers(1) }, orders);
    runner.engine.renew_all((), None);
    eventually("another one is being made", || made.load(Ordering::SeqCst) == 2);
    for _ in 0..3 {
        assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [0]);
    }
    assert_eq!(runner.stats().workers.base, 1);
    go.open();
    eventually("it left", || runner.world().destroyed() == 1);
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    assert_eq!(runner.stats().workers.base, 1);
    runner.finish();
}

#[test]
fn a_successor_takes_nobodys_place_but_the_one_it_succeeds() {
    let (go, down) = (Latch::new(), Arc::new(AtomicBool::new(false)));
    let (held, slow) = (Arc::clone(&go), Arc::clone(&down));
    let orders = Orders {
        on_create: Box::new(move |_| {
            if slow.load(Ordering::SeqCst) {
                held.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 3, ..workers(2) }, orders);
    let overdue = Latch::new();
    let task = runner.occupy(&overdue);
    down.store(true, Ordering::SeqCst);
    runner.engine.renew_all((), None);
    eventually("a relief is on its way", || runner.world().creations() == 3);
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    eventually("nobody can stand in", || {
        runner.world().overdue_reports.load(Ordering::SeqCst) == 1
    });
    overdue.open();
    eventually("its task ended", || runner.stats().overdue == 0);
    down.store(false, Ordering::SeqCst);
    go.open();
    eventually("all are new, and two are left", || {
        let counts = runner.stats().workers;
        runner.world().made() == 4 && (runner.engine.workers().len(), counts.base) == (2, 2)
    });
    runner.finish();
}

#[test]
fn a_worker_whose_successor_left_again_stays() {
    let (leaving, held, go) = (Latch::new(), Latch::new(), Latch::new());
    let (begun, until) = (Arc::clone(&leaving), Arc::clone(&held));
    let orders = Orders {
        on_destroy: Box::new(move |number| {
            if number == 0 {
                begun.open();
                until.wait();
            }
        }),
        ..Orders::default()
    };
    let never = u64::MAX;
    let settings = EngineSettings { max_worker_count: 3, burst_interval: never, ..workers(1) };
    let runner = Runner::new(settings, orders);
    runner.engine.renew_all((), None);
    leaving.wait();
    overrun(&runner, &go);
    eventually("the relief is overdue", || runner.stats().workers.overdue == 1);
    go.open();
    eventually("the relief left", || runner.world().destroyed() == 1);
    held.open();
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [2]);
    assert_eq!((runner.stats().workers.base, runner.engine.workers().len()), (1, 1));
    runner.finish();
}

#[test]
fn a_successor_stands_in_for_the_one_it_succeeds() {
    let (go, held) = (Latch::new(), Latch::new());
    let slow = Arc::clone(&held);
    let orders = Orders {
        on_create: Box::new(move |number| {
            if number > 0 {
                slow.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 3, ..workers(1) }, orders);
    runner.engine.renew_all((), None);
    eventually("a relief is on its way", || runner.world().creations() == 2);
    overrun(&runner, &go);
    eventually("it is overdue", || runner.stats().workers.overdue == 1);
    held.open();
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    assert_eq!((runner.stats().workers.base, runner.engine.workers().len()), (1, 2));
    go.open();
    eventually("the overdue one left", || runner.engine.workers().len() == 1);
    assert_eq!(runner.stats().workers.base, 1);
    runner.finish();
}

#[test]
fn a_worker_taken_back_after_its_successor_took_its_place_stays() {
    for first in [0, 1].repeat(rounds(10)) {
        let (held, gos) = (Latch::new(), [Latch::new(), Latch::new()]);
        let slow = Arc::clone(&held);
        let orders = Orders {
            on_create: Box::new(move |number| {
                if number > 1 {
                    slow.wait();
                }
                Ok(())
            }),
            ..Orders::default()
        };
        let runner = Runner::new(EngineSettings { max_worker_count: 3, ..workers(2) }, orders);
        runner.engine.renew_all((), None);
        eventually("one of them has a relief on its way", || runner.world().creations() == 3);
        for go in &gos {
            overrun(&runner, go);
        }
        eventually("both are overdue", || runner.stats().workers.overdue == 2);
        held.open();
        eventually("the relief is there", || runner.stats().workers.base == 1);
        gos[first].open();
        eventually("one was taken back", || runner.stats().workers.overdue == 1);
        gos[1 - first].open();
        eventually("there are two", || {
            let counts = runner.stats().workers;
            (counts.base, counts.main, counts.main_with_resource) == (2, 2, 2)
        });
        runner.finish();
    }
}

#[test]
fn a_successor_without_a_thread_to_be_had_is_done_without() {
    let started = AtomicUsize::new(0);
    let orders = Orders {
        on_spawn: Box::new(move |_| match started.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err("no thread"),
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 2, ..workers(1) }, orders);
    runner.engine.renew_all((), None);
    eventually("it renewed by itself", || runner.world().made() == 2);
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    assert!(lock(&runner.world().faults).len() <= 2, "it does not ask again and again");
    runner.finish();
}

#[test]
fn a_relieved_worker_of_a_stopping_runner_goes_on_serving() {
    let (go, slow) = (Latch::new(), Latch::new());
    let held = Arc::clone(&slow);
    let orders = Orders {
        on_create: Box::new(move |number| {
            if number > 0 {
                held.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 2, ..workers(1) }, orders);
    runner.engine.renew_all((), None);
    eventually("a relief is on its way", || runner.world().creations() == 2);
    runner.occupy(&go);
    let busy = Latch::new();
    let (entered, inside) = (Latch::new(), Arc::clone(&busy));
    let seen = Arc::clone(&entered);
    runner.submit(Priority::High, move |_, _| {
        seen.open();
        inside.wait();
        End::Value(1)
    });
    let tasks: Vec<_> = (0..10).map(|_| runner.submit(Priority::Normal, value(1))).collect();
    slow.open();
    entered.wait();
    runner.engine.begin_stop();
    go.open();
    assert!(tasks.iter().all(|task| task.outcome() == Outcome::Value(1)));
    busy.open();
    runner.stop();
    assert!(runner.world().made() <= 3, "{} resources", runner.world().made());
    runner.finish();
}

/// Orders whose `on_create` does something with the engine while it makes these resources.
fn meanwhile(
    numbers: Range<u64>,
    act: impl Fn(&Arc<Engine<World>>) + Send + Sync + 'static,
) -> (Orders, Arc<OnceLock<Weak<Engine<World>>>>) {
    let engine = Arc::new(OnceLock::<Weak<Engine<World>>>::new());
    let known = Arc::clone(&engine);
    let on_create = Box::new(move |number| {
        let engine = known.get().filter(|_| numbers.contains(&number)).and_then(Weak::upgrade);
        engine.iter().for_each(&act);
        Ok(())
    });
    (Orders { on_create, ..Orders::default() }, engine)
}

#[test]
fn renewals_asked_for_while_resources_are_made_are_done_without_a_task() {
    for spare in [0, 1] {
        let (orders, known) = meanwhile(1..3, |engine| engine.renew_all((), None));
        let runner =
            Runner::new(EngineSettings { max_worker_count: 1 + spare, ..workers(1) }, orders);
        known.set(Arc::downgrade(&runner.engine)).expect("set once");
        runner.engine.renew_all((), None);
        // The last of them after a pause, as two resources in a row were outdated at once.
        eventually("the resource is younger than the last renewal", || {
            runner.world().made() == 4 && runner.engine.workers().len() == 1
        });
        assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [3]);
        runner.finish();
    }
}

#[test]
fn renewals_that_ask_for_the_next_do_not_go_on_without_a_pause() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&begun);
    let (orders, known) = meanwhile(0..u64::MAX, move |engine| {
        lock(&noted).push(Instant::now());
        engine.renew_all((), None);
    });
    let runner = Runner::new(workers(1), orders);
    known.set(Arc::downgrade(&runner.engine)).expect("set once");
    runner.engine.renew_all((), None);
    eventually("two were outdated at once, and renewed", || lock(&begun).len() == 3);
    let begun = lock(&begun).clone();
    assert!(begun[2] - begun[1] >= Duration::from_secs(1), "{begun:?}");
    runner.finish();
}

#[test]
fn an_outdated_loan_that_has_not_served_is_left_to_a_call_that_waits_and_renewed_when_that_goes() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    assert!(runner.run_task(&reserved(value(1))));
    let renewed = |made| {
        runner.engine.renew_all((), None);
        eventually("it was renewed", || {
            runner.world().made() == made && runner.stats().workers.ready == 1
        });
        // A base worker that serves has ended its renewal, after which it looks at idle loans too.
        assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
    };
    // The base worker's and the one on loan, which has served.
    renewed(4);
    eventually("the new loan is idle", || runner.stats().available == 1);
    let waiter = runner.engine.accept_loan_waiter().expect("the runner accepts");
    renewed(5);
    assert_eq!((runner.world().made(), runner.stats().available), (5, 1));
    drop(waiter);
    eventually("the loan was renewed", || {
        runner.world().made() == 6 && runner.stats().available == 1
    });
    let task = reserved(value(1));
    let entry = Entry::fresh(Arc::clone(&task), runner.engine.clock.now());
    let loan = runner.engine.try_take_loan(&entry).expect("idle");
    assert!(runner.engine.serve_on_loan((), loan, entry, Claiming::Shared).is_none());
    assert_eq!(task.outcomes(), [Outcome::Value(1)]);
    runner.finish();
}

#[test]
fn an_idle_loan_that_was_worn_at_once_by_its_age_is_renewed_when_that_is_asked_for() {
    let policy = ResourcePolicy { max_age: Some(1), ..ResourcePolicy::default() };
    let runner = Runner::new(lending(caring(1, policy)), Orders::default());
    eventually("the base worker's resource rests", || runner.world().made() >= 2);
    // A base worker that serves has ended its renewal, after which it looks at idle loans too.
    assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
    let made = runner.world().made();
    assert!(runner.run_task(&reserved(value(1))));
    eventually("the idle loan rests", || {
        runner.world().made() == made + 2 && runner.stats().available == 1
    });
    runner.engine.renew_all((), None);
    eventually("both were renewed", || runner.world().made() == made + 4);
    runner.finish();
}

// ---- more workers, and fewer ---------------------------------------------------------------------------

fn settles_at(runner: &Runner, count: usize) {
    eventually("as many as are asked for", || {
        let counts = runner.stats().workers;
        (counts.base, counts.main_with_resource, counts.main) == (count, count, count)
            && runner.world().made() - runner.world().destroyed() == count
    });
}

#[test]
fn idle_workers_leave_and_new_ones_come() {
    let runner = runner(2);
    for count in [5, 1, 3, 1, 4] {
        runner.resize(Some(count), None);
        settles_at(&runner, count);
        assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
    }
    runner.finish();
}

#[test]
fn a_resize_wakes_nobody_who_stays() {
    let runner = runner(20);
    let parks = || runner.world().parks.load(Ordering::SeqCst);
    eventually("all sleep", || parks() == 20);
    for count in [19, 10, 1] {
        runner.resize(Some(count), None);
        settles_at(&runner, count);
    }
    assert_eq!(parks(), 20);
    runner.finish();
}

#[test]
fn a_worker_that_leaves_hands_that_on_to_its_successor() {
    for (round, max) in [Some(1), None].repeat(rounds(10)).into_iter().enumerate() {
        let go = Latch::new();
        let held = Arc::clone(&go);
        let orders = Orders {
            on_create: Box::new(move |number| {
                if number > 1 {
                    held.wait();
                }
                Ok(())
            }),
            ..Orders::default()
        };
        let runner = Runner::new(EngineSettings { max_worker_count: 3, ..workers(2) }, orders);
        runner.engine.renew_all((), None);
        eventually("a successor is on its way", || runner.world().creations() == 3);
        let busy = Latch::new();
        if round % 3 == 0 {
            runner.occupy(&busy);
        }
        runner.resize(Some(1), max);
        go.open();
        busy.open();
        settles_at(&runner, 1);
        runner.finish();
    }
}

#[test]
fn a_successor_counts_beside_the_worker_that_is_needed_after_all() {
    let go = Latch::new();
    let held = Arc::clone(&go);
    let orders = Orders {
        on_create: Box::new(move |number| {
            if number > 0 {
                held.wait();
            }
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(EngineSettings { max_worker_count: 2, ..workers(1) }, orders);
    runner.engine.renew_all((), None);
    eventually("a successor is on its way", || runner.world().creations() == 2);
    // There is no room for another one.
    runner.resize(Some(2), None);
    go.open();
    settles_at(&runner, 2);
    runner.engine.renew_all((), None);
    eventually("the turn is free", || runner.world().destroyed() >= 3);
    settles_at(&runner, 2);
    runner.finish();
}

/// Orders by which the threads with these numbers fail to start.
fn without_thread(numbers: Range<usize>) -> Orders {
    Orders { on_spawn: Box::new(fails_for(numbers)), ..Orders::default() }
}

fn fails_for(numbers: Range<usize>) -> impl Fn(&str) -> Result<(), &'static str> {
    let count = AtomicUsize::new(0);
    move |_| {
        let fails = numbers.contains(&count.fetch_add(1, Ordering::SeqCst));
        if fails { Err("no thread") } else { Ok(()) }
    }
}

#[test]
fn a_resize_that_gets_no_thread_says_so_and_the_next_one_tries_again() {
    let runner = Runner::new(workers(1), without_thread(1..2));
    runner.resize(Some(3), None);
    assert_eq!(lock(&runner.world().faults).len(), 1);
    settles_at(&runner, 1);
    runner.resize(Some(3), None);
    settles_at(&runner, 3);
    runner.finish();
}

#[test]
fn each_submit_starts_a_base_worker_that_got_no_thread() {
    let (runner, go) = (Runner::new(workers(1), without_thread(1..3)), Latch::new());
    runner.occupy(&go);
    runner.resize(Some(3), None);
    settles_at(&runner, 1);
    // Busy or not, a base worker is missing; the first of these gets no thread either.
    for count in [1, 2, 3, 3] {
        let task = runner.submit(Priority::Normal, value(1));
        settles_at(&runner, count);
        assert!(count == 1 || task.outcome() == Outcome::Value(1));
    }
    assert_eq!(lock(&runner.world().faults).len(), 2);
    go.open();
    runner.finish();
}

#[test]
fn a_submit_starts_a_base_worker_whose_thread_ended_before_it_came_up() {
    let orders = Orders { on_begin: Box::new(fails_for(1..4)), ..Orders::default() };
    let runner = Runner::new(workers(1), orders);
    runner.resize(Some(3), None);
    eventually("as many as are asked for", || {
        assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
        runner.stats().workers.main_with_resource == 3
    });
    assert_eq!(lock(&runner.world().faults).len(), 3);
    settles_at(&runner, 3);
    runner.finish();
}

#[test]
fn a_base_worker_that_is_not_asked_for_any_more_is_not_started_later() {
    let runner = Runner::new(workers(1), without_thread(1..2));
    runner.resize(Some(2), None);
    runner.resize(Some(1), None);
    for _ in 0..3 {
        assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
    }
    settles_at(&runner, 1);
    assert_eq!(runner.world().made(), 1);
    runner.finish();
}

#[test]
fn an_overdue_worker_comes_back_where_one_is_missing_and_leaves_where_none_is() {
    for (count, left) in [(2, 2), (1, 1)] {
        let runner = runner(2);
        let go = Latch::new();
        overrun(&runner, &go);
        eventually("it is overdue", || runner.stats().workers.overdue == 1);
        runner.resize(Some(count), None);
        go.open();
        settles_at(&runner, left);
        runner.finish();
    }
}

#[test]
fn workers_beside_overdue_ones_stay_and_these_leave_when_their_tasks_end() {
    for (count, late, left) in [(2, 1, 1), (2, 2, 1), (4, 1, 2), (4, 2, 2), (4, 3, 2), (4, 4, 1)] {
        let (runner, go) = (runner(count), Latch::new());
        for _ in 0..late {
            overrun(&runner, &go);
        }
        eventually("all are overdue", || runner.stats().workers.overdue == late);
        let reports = || runner.world().overdue_reports.load(Ordering::SeqCst) as usize;
        eventually("nobody can stand in", || reports() == late);
        let serve = left.min(count - late);
        for round in 1..4 {
            runner.resize(Some(left), None);
            eventually("the others left", || runner.engine.workers().len() == late + serve);
            assert_eq!(runner.stats().workers.base, serve);
            if serve > 0 {
                assert_eq!(runner.submit(Priority::Normal, value(1)).outcome(), Outcome::Value(1));
            }
            let resizes_that_leave_none = if serve == 0 { round } else { 0 };
            assert_eq!((reports(), runner.world().made()), (late + resizes_that_leave_none, count));
        }
        go.open();
        settles_at(&runner, left);
        assert_eq!(runner.world().made(), count);
        runner.finish();
    }
}

#[test]
fn a_dismissed_worker_takes_over_from_one_that_overruns() {
    let (runner, latches) = (runner(2), [Latch::new(), Latch::new()]);
    let tasks = latches.each_ref().map(|latch| runner.occupy(latch));
    runner.resize(Some(1), None);
    let (kept, dismissed) = kept_of(&runner, &tasks);
    runner.limit(&tasks[kept], Duration::from_millis(1));
    eventually("it is overdue", || runner.stats().workers.overdue == 1);
    latches[dismissed].open();
    for _ in 0..3 {
        let task = runner.submit(Priority::Normal, value(1));
        assert_eq!(task.entered_after_outcome(), tasks[dismissed].entered_after_outcome());
    }
    latches[kept].open();
    settles_at(&runner, 1);
    assert_eq!(runner.world().made(), 2);
    runner.finish();
}

/// Which of the tasks is run by the worker that stays, the first, and which by the other one.
fn kept_of(runner: &Runner, tasks: &[Arc<Task>; 2]) -> (usize, usize) {
    let mut kept = 0;
    runner.engine.workers()[0].for_each_running(|task, _| {
        kept = usize::from(Arc::ptr_eq(task, &tasks[1]));
    });
    (kept, 1 - kept)
}

#[test]
fn a_resize_to_the_numbers_in_force_keeps_the_resource_that_serves_beside_an_overdue_one() {
    let (runner, latches) = (runner(2), [Latch::new(), Latch::new()]);
    let tasks = latches.each_ref().map(|latch| runner.occupy(latch));
    // The first worker stays, and the other one is dismissed before it is overdue.
    runner.resize(Some(1), None);
    let (kept, dismissed) = kept_of(&runner, &tasks);
    runner.limit(&tasks[dismissed], Duration::from_millis(1));
    eventually("it is overdue", || runner.stats().workers.overdue == 1);
    latches[kept].open();
    assert_eq!(tasks[kept].outcome(), Outcome::Value(0));
    for _ in 0..3 {
        runner.resize(Some(1), None);
        let task = runner.submit(Priority::Normal, value(1));
        assert_eq!(task.entered_after_outcome(), tasks[kept].entered_after_outcome());
    }
    latches[dismissed].open();
    settles_at(&runner, 1);
    assert_eq!(runner.world().made(), 2);
    runner.finish();
}

// ---- retries wait for a resource known to be good ----------------------------------------------------------

/// Orders by which every resource made at the start is dead, and says so when it is validated.
fn dead_at_first(count: u64) -> Orders {
    Orders { on_validate: Box::new(move |number| number >= count), ..Orders::default() }
}

/// Finds the resources below this number dead.
fn needs(first_alive: u64) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End {
    move |session, _| match session.resource().id {
        id if id < first_alive => End::Bad("dead"),
        id => End::Value(id),
    }
}

#[test]
fn a_task_loses_one_attempt_however_many_idle_resources_are_dead() {
    for lending in [false, true] {
        let settings = EngineSettings { reserve_limit: Some(8), reserve_at_start: 8, ..workers(8) };
        let settings = EngineSettings { thread_bound: !lending, ..settings };
        let runner = Runner::new(settings, dead_at_first(16));
        for _ in 0..10 {
            let task = runner.submit(Priority::Normal, needs(16));
            assert!(matches!(task.outcome(), Outcome::Value(_)), "{task:?}");
            assert!(task.attempts() <= 2, "{task:?}");
            let task = reserved(needs(16));
            assert!(runner.run_task(&task));
            assert!(matches!(task.outcome(), Outcome::Value(_)), "{task:?}");
            assert!(task.attempts() <= 2, "{task:?}");
        }
        runner.finish();
    }
}

#[test]
fn tasks_that_all_meet_dead_resources_at_once_lose_one_attempt_each() {
    let runner = Runner::new(workers(8), dead_at_first(8));
    let meeting = Arc::new(Barrier::new(8));
    let tasks = [(); 8].map(|()| {
        let (meeting, look) = (Arc::clone(&meeting), needs(8));
        runner.submit(Priority::Normal, move |session, task| {
            if task.attempts() == 1 {
                meeting.wait();
            }
            look(session, task)
        })
    });
    for task in &tasks {
        assert!(matches!(task.outcome(), Outcome::Value(8..)), "{task:?}");
        assert_eq!(task.attempts(), 2);
    }
    runner.finish();
}

/// A runner in which a retry is held: the worker that is to come back for it has not destroyed its resource yet.
struct Held {
    runner: Runner,
    task: Arc<Task>,
    /// The resource that failed; it is destroyed when `go` opens.
    bad: u64,
    go: Arc<Latch>,
}

/// With these settings, `idle` workers wait beside it. The task fails once.
fn hold_a_retry(settings: EngineSettings, orders: Orders, flags: u32) -> Held {
    let (go, destroying) = (Latch::new(), Latch::new());
    let (slow, seen) = (Arc::clone(&go), Arc::clone(&destroying));
    let orders = Orders {
        on_destroy: Box::new(move |_| {
            seen.open();
            slow.wait();
        }),
        ..orders
    };
    let runner = Runner::new(settings, orders);
    let task = Task::new(Priority::Normal, flags, bad_for(1));
    assert!(runner.submit_task(&task));
    destroying.wait();
    Held { runner, bad: task.entered()[0], task, go }
}

#[test]
fn a_retry_waits_for_its_worker_while_others_are_idle() {
    let Held { runner, task, go, bad } = hold_a_retry(workers(3), Orders::default(), 0);
    assert_eq!((task.attempts(), runner.stats().queued), (1, 1));
    go.open();
    assert_eq!((task.outcome(), task.entered()), (Outcome::Value(2), vec![bad, 3]));
    runner.finish();
}

#[test]
fn a_task_that_ends_well_proves_its_resource() {
    for end in [End::Value(1), End::Error("mine")] {
        let Held { runner, task, go, bad } = hold_a_retry(workers(2), Orders::default(), 0);
        let other = runner.submit(Priority::Low, move |_, _| end);
        assert_eq!(task.outcome(), Outcome::Value(2));
        assert_eq!(task.entered(), [bad, 1 - bad]);
        assert_eq!(other.entered(), [1 - bad]);
        go.open();
        runner.finish();
    }
}

#[test]
fn a_task_that_began_before_the_failure_proves_nothing() {
    let go = Latch::new();
    let slow = Arc::clone(&go);
    let orders = Orders { on_destroy: Box::new(move |_| slow.wait()), ..Orders::default() };
    let (runner, over) = (Runner::new(workers(2), orders), Latch::new());
    let before = runner.occupy(&over);
    let task = runner.submit(Priority::Normal, bad_for(1));
    eventually("its retry is held", || (task.attempts(), runner.stats().queued) == (1, 1));
    over.open();
    assert_eq!(before.outcome(), Outcome::Value(0));
    // It is idle when this one comes, and takes it before the retry.
    let next = runner.submit(Priority::Low, value(7));
    assert_eq!(next.outcome(), Outcome::Value(7));
    assert_eq!(task.outcome(), Outcome::Value(2));
    assert_eq!(next.entered(), before.entered());
    go.open();
    runner.finish();
}

#[test]
fn a_worker_that_can_validate_looks_after_its_resource_for_a_retry() {
    for valid in [true, false] {
        let looks = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&looks);
        let orders = Orders {
            on_validate: Box::new(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                valid
            }),
            ..Orders::default()
        };
        let policy =
            ResourcePolicy { validate_after: Some(Tick::MAX), ..ResourcePolicy::default() };
        let Held { runner, task, go, bad } = hold_a_retry(caring(2, policy), orders, 0);
        eventually("it was looked at", || looks.load(Ordering::SeqCst) == 1);
        if valid {
            assert_eq!((task.outcome(), task.entered()), (Outcome::Value(2), vec![bad, 1 - bad]));
        }
        go.open();
        assert_eq!(task.outcome(), Outcome::Value(2));
        assert!(valid || task.entered()[1] >= 2, "{task:?}");
        runner.finish();
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_retry_held_for_long_is_run_by_whoever_is_idle() {
    let settings = EngineSettings { retry_hold: 5_000_000, ..workers(3) };
    let Held { runner, task, go, bad } = hold_a_retry(settings, Orders::default(), 0);
    assert_eq!(task.outcome(), Outcome::Value(2));
    assert!(task.entered()[1] != bad && task.entered()[1] < 3, "{task:?}");
    // And the one after it, though all sleep.
    let task = runner.submit(Priority::Normal, bad_for(1));
    assert_eq!(task.outcome(), Outcome::Value(2));
    go.open();
    runner.finish();
}

#[test]
fn all_who_sleep_know_until_when_a_retry_is_held() {
    let settings = EngineSettings { retry_hold: 20_000_000, ..workers(3) };
    let Held { runner, task, go, .. } = hold_a_retry(settings, Orders::default(), 0);
    // One of them is away when the time is up.
    let over = Latch::new();
    let occupied = runner.occupy(&over);
    assert_eq!(task.outcome(), Outcome::Value(2));
    assert!(occupied.outcomes().is_empty());
    over.open();
    go.open();
    runner.finish();
}

#[test]
fn a_retry_is_held_on_while_no_resource_can_be_made() {
    let (orders, down) = failing();
    let runner = Runner::new(EngineSettings { retry_hold: 100_000_000, ..workers(2) }, orders);
    down.store(true, Ordering::SeqCst);
    let task = runner.submit(Priority::Normal, bad_for(1));
    // The pauses between five attempts are longer than that.
    eventually("creation goes on failing", || lock(&runner.world().faults).len() >= 5);
    assert_eq!(task.attempts(), 1, "nobody tries it on what idled meanwhile");
    down.store(false, Ordering::SeqCst);
    assert_eq!(task.outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn a_stop_waits_for_a_held_retry_and_wakes_everybody_after_it() {
    for retry_hold in [Tick::MAX, 5_000_000] {
        let settings = EngineSettings { retry_hold, ..workers(3) };
        let Held { runner, task, go, .. } = hold_a_retry(settings, Orders::default(), 0);
        runner.engine.begin_stop();
        if retry_hold == Tick::MAX {
            assert_eq!(runner.engine.workers().len(), 3);
            go.open();
        }
        assert_eq!(task.outcome(), Outcome::Value(2));
        go.open();
        runner.finish();
    }
}

#[test]
fn a_retry_whose_worker_gives_up_in_a_stop_is_anybodys() {
    let (orders, down) = failing();
    let Held { runner, task, go, bad } = hold_a_retry(workers(2), orders, 0);
    down.store(true, Ordering::SeqCst);
    runner.engine.begin_stop();
    go.open();
    assert_eq!((task.outcome(), task.entered()), (Outcome::Value(2), vec![bad, 1 - bad]));
    runner.finish();
}

#[test]
fn a_kill_gives_a_held_retry_its_last_error() {
    let Held { runner, task, go, .. } = hold_a_retry(workers(3), Orders::default(), 0);
    runner.engine.kill(());
    // Not at once if its worker was just about to queue it.
    assert_eq!(task.outcome(), Outcome::Error("bad"));
    eventually("those who slept have left", || runner.engine.workers().len() <= 3);
    go.open();
    runner.finish();
}

#[test]
fn a_held_retry_whose_limit_passes_keeps_nobody_in_a_stopping_runner() {
    let Held { runner, task, go, .. } = hold_a_retry(workers(2), Orders::default(), 0);
    runner.engine.begin_stop();
    assert_eq!(runner.engine.workers().len(), 2);
    runner.limit(&task, Duration::from_millis(1));
    assert_eq!(task.outcome(), Outcome::TimedOut);
    let counts = || runner.stats().workers;
    eventually("only the one that destroys is left", || counts().main_with_resource == 0);
    go.open();
    runner.finish();
}

#[test]
fn a_call_on_a_loan_waits_for_a_proven_one() {
    let (go, destroying) = (Latch::new(), Latch::new());
    let (slow, seen) = (Arc::clone(&go), Arc::clone(&destroying));
    let orders = Orders {
        on_destroy: Box::new(move |_| {
            seen.open();
            slow.wait();
        }),
        ..Orders::default()
    };
    let settings = EngineSettings { reserve_at_start: 2, reserve_limit: Some(2), ..workers(1) };
    let runner = Runner::new(lending(settings), orders);
    thread::scope(|scope| {
        let task = reserved(bad_for(1));
        let call = scope.spawn({
            let (runner, task) = (&runner, Arc::clone(&task));
            move || runner.run_task(&task)
        });
        destroying.wait();
        eventually("the other lies idle", || runner.stats().available == 1);
        assert_eq!(task.attempts(), 1);
        // A call that ends well on it proves it.
        let other = reserved(value(1));
        assert!(runner.run_task(&other) && call.join().expect("no panic"));
        assert_eq!(task.outcome(), Outcome::Value(2));
        assert_eq!(task.entered()[1..], other.entered());
    });
    go.open();
    runner.finish();
}

#[test]
fn a_call_on_a_loan_validates_an_idle_one_or_has_any_after_a_while() {
    let validating =
        ResourcePolicy { validate_after: Some(Tick::MAX), ..ResourcePolicy::default() };
    for (policy, retry_hold) in [(validating, Tick::MAX), (ResourcePolicy::default(), 5_000_000)] {
        let go = Latch::new();
        let slow = Arc::clone(&go);
        let orders = Orders { on_destroy: Box::new(move |_| slow.wait()), ..Orders::default() };
        let settings = EngineSettings {
            reserve_at_start: 2,
            reserve_limit: Some(2),
            retry_hold,
            ..caring(1, policy)
        };
        let runner = Runner::new(lending(settings), orders);
        let task = reserved(bad_for(1));
        assert!(runner.run_task(&task));
        assert_eq!((task.outcome(), task.entered().len()), (Outcome::Value(2), 2));
        assert!(task.entered().iter().all(|id| *id < 3), "{task:?}");
        go.open();
        runner.finish();
    }
}

#[test]
fn a_call_is_lent_any_when_a_stopping_runner_cannot_make_its_resource() {
    let (orders, down) = failing();
    let settings = EngineSettings { reserve_at_start: 2, reserve_limit: Some(2), ..workers(1) };
    let (runner, begun) = (Runner::new(lending(settings), orders), Latch::new());
    let inside = Arc::clone(&begun);
    // It begins before the failure of the other one, and proves nothing.
    let before = reserved(move |session, _| {
        inside.open();
        eventually("no other can be made", || !lock(&session.engine.host.faults).is_empty());
        End::Value(1)
    });
    let task = reserved(move |session, task| {
        if task.attempts() == 1 {
            down.store(true, Ordering::SeqCst);
            session.engine.begin_stop();
            return End::Bad("bad");
        }
        End::Value(2)
    });
    thread::scope(|scope| {
        scope.spawn(|| runner.run_task(&before));
        begun.wait();
        assert!(runner.run_task(&task));
    });
    assert_eq!((task.outcome(), task.attempts()), (Outcome::Value(2), 2));
    assert_eq!(task.entered()[1..], before.entered());
    runner.finish();
}

// ---- burst workers -------------------------------------------------------------------------------

/// One base worker and room for more, which are started and leave quickly.
fn bursting(most: usize) -> EngineSettings {
    EngineSettings {
        max_worker_count: most,
        burst_interval: 1_000_000,
        idle_timeout: 5_000_000,
        ..workers(1)
    }
}

#[test]
fn burst_workers_come_when_tasks_wait_and_leave_when_they_are_idle() {
    let (runner, go) = (Runner::new(bursting(4), Orders::default()), Latch::new());
    runner.engine.need_keeper(()).expect("a thread");
    let entered = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (held, entered) = (Arc::clone(&go), Arc::clone(&entered));
            runner.submit(Priority::Normal, move |_, _| {
                entered.fetch_add(1, Ordering::SeqCst);
                held.wait();
                End::Value(1)
            })
        })
        .collect();
    eventually("as many run as may", || entered.load(Ordering::SeqCst) == 4);
    let counts = runner.stats().workers;
    assert_eq!((counts.base, counts.burst), (1, 3));
    go.open();
    assert!(tasks.iter().all(|task| task.outcome() == Outcome::Value(1)));
    eventually("they left", || runner.engine.workers().len() == 1);
    assert_eq!(runner.stats().workers.base, 1);
    runner.finish();
}

#[test]
fn tasks_for_run_task_hire_no_burst_workers() {
    let runner = Runner::new(bursting(4), Orders::default());
    runner.engine.need_keeper(()).expect("a thread");
    let (go, entered) = (Latch::new(), Latch::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            let (held, inside) = (Arc::clone(&go), Arc::clone(&entered));
            let task = reserved(move |_, _| {
                inside.open();
                held.wait();
                End::Value(1)
            });
            scope.spawn({
                let runner = &runner;
                move || assert!(runner.run_task(&task))
            });
        }
        entered.wait();
        let base = Latch::new();
        runner.occupy(&base);
        // The submit has woken the scaler, who finds calls that wait for their workers.
        let looks = runner.engine.clock.now() + 20_000_000;
        eventually("it has looked a few times", || runner.engine.clock.now() > looks);
        assert_eq!(runner.stats().workers.burst + runner.stats().workers.starting, 0);
        base.open();
        go.open();
    });
    runner.finish();
}

#[test]
fn nobody_is_started_after_the_end() {
    for _ in 0..rounds(30) {
        let runner = Runner::new(bursting(3), Orders::default());
        runner.engine.need_keeper(()).expect("a thread");
        for _ in 0..20 {
            runner.submit(Priority::Normal, |session, _| {
                let until = session.now() + 200_000;
                while session.now() < until {
                    std::hint::spin_loop();
                }
                End::Value(1)
            });
        }
        runner.stop();
        assert!(runner.engine.workers().is_empty());
        runner.finish();
    }
}

// ---- looks --------------------------------------------------------------------------------------

/// One worker, and a look every millisecond.
fn looking() -> Runner {
    let settings = EngineSettings { look_interval: Some(1_000_000), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    runner.engine.need_keeper(()).expect("a thread");
    runner
}

fn looks(runner: &Runner) -> u32 {
    runner.world().looks.load(Ordering::SeqCst)
}

/// Waits until the keeper sleeps for good: it has not woken for as long as many looks take.
fn await_rest(runner: &Runner) {
    let rests = || runner.world().keeper_rests.load(Ordering::SeqCst);
    let (last, since) = (AtomicU32::new(rests()), AtomicU64::new(runner.engine.clock.now()));
    eventually("the keeper rests", || {
        let now = runner.engine.clock.now();
        if last.swap(rests(), Ordering::SeqCst) != rests() {
            since.store(now, Ordering::SeqCst);
        }
        now - since.load(Ordering::SeqCst) > 100_000_000
    });
}

#[test]
fn the_keeper_looks_again_and_again_while_a_task_runs() {
    let (runner, go) = (looking(), Latch::new());
    let task = runner.occupy(&go);
    eventually("it looks", || looks(&runner) > 5);
    go.open();
    assert_eq!(task.outcome(), Outcome::Value(0));
    await_rest(&runner);
    let before = looks(&runner);
    let go = Latch::new();
    runner.occupy(&go);
    eventually("it looks again", || looks(&runner) > before + 5);
    go.open();
    runner.finish();
}

#[test]
fn the_keeper_never_wakes_while_nothing_is_asked_of_the_runner() {
    let runner = looking();
    await_rest(&runner);
    assert_eq!(looks(&runner), 0);
    assert_eq!(runner.world().keeper_rests.load(Ordering::SeqCst), 1);
    runner.finish();
}

#[test]
fn nobody_looks_where_nobody_asked_for_it() {
    let (runner, go) = (Runner::new(workers(1), Orders::default()), Latch::new());
    runner.engine.need_keeper(()).expect("a thread");
    runner.occupy(&go);
    await_rest(&runner);
    assert_eq!(looks(&runner), 0);
    go.open();
    runner.finish();
}

// ---- workers on demand ---------------------------------------------------------------------------

fn on_demand(worker_count: usize) -> EngineSettings {
    EngineSettings { on_demand: true, ..workers(worker_count) }
}

#[test]
fn workers_on_demand_come_when_nobody_is_free_and_no_more_than_there_are_places() {
    let (runner, go) = (Runner::new(on_demand(3), Orders::default()), Latch::new());
    assert!(runner.engine.workers().is_empty(), "nobody at the start");
    for number in 1..=3 {
        runner.occupy(&go);
        assert_eq!(runner.engine.workers().len(), number);
    }
    let waiting: Vec<_> = (0..5).map(|n| runner.submit(Priority::Normal, value(n))).collect();
    assert_eq!(runner.engine.workers().len(), 3);
    let names: Vec<_> = runner.engine.workers().iter().map(|m| m.name().to_owned()).collect();
    assert_eq!(names, ["test_0", "test_1", "test_2"]);
    go.open();
    for (n, task) in waiting.iter().enumerate() {
        assert_eq!(task.outcome(), Outcome::Value(n as u64));
    }
    runner.finish();
}

#[test]
fn a_task_on_demand_may_wait_for_another_while_there_are_places() {
    for _ in 0..rounds(200) {
        let runner = Arc::new(Runner::new(on_demand(3), Orders::default()));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let inside = Arc::clone(&runner);
                runner.submit(Priority::Normal, move |_, _| {
                    // When both are inside, a third worker serves both inner ones.
                    inside.submit(Priority::Normal, value(7)).outcome();
                    End::Value(1)
                })
            })
            .collect();
        assert!(tasks.iter().all(|task| task.outcome() == Outcome::Value(1)));
        runner.finish();
    }
}

#[test]
fn a_worker_on_demand_without_a_resource_kills_the_runner() {
    let failed = Latch::new();
    let fails = Arc::clone(&failed);
    let on_create = move |number| {
        if number == 0 {
            return Ok(());
        }
        fails.wait();
        Err("no resource")
    };
    let orders = Orders { on_create: Box::new(on_create), ..Orders::default() };
    let (runner, go) = (Runner::new(on_demand(2), orders), Latch::new());
    let runs = runner.occupy(&go);
    let waiting: Vec<_> = (0..3).map(|n| runner.submit(Priority::Normal, value(n))).collect();
    failed.open();
    for task in &waiting {
        assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::Killed));
    }
    assert_eq!(*lock(&runner.world().faults), ["no resource"]);
    assert!(!runner.submit_task(&Task::new(Priority::Normal, 0, value(1))), "refused");
    go.open();
    assert_eq!(runs.outcome(), Outcome::Value(0), "what ran goes on");
    runner.finish();
}

/// A runner with places for two on demand, whose threads fail to start as `fails` says of the number of each.
fn without_threads(fails: fn(usize) -> bool) -> Runner {
    let started = AtomicUsize::new(0);
    let orders = Orders {
        on_spawn: Box::new(move |_| {
            if fails(started.fetch_add(1, Ordering::SeqCst)) { Err("no thread") } else { Ok(()) }
        }),
        ..Orders::default()
    };
    Runner::new(on_demand(2), orders)
}

#[test]
fn a_task_that_has_no_thread_is_refused_and_the_next_tries_again() {
    let runner = without_threads(|number| number == 0);
    assert!(!runner.submit_task(&Task::new(Priority::Normal, 0, value(1))), "refused");
    assert!(runner.engine.workers().is_empty());
    assert_eq!(runner.submit(Priority::Normal, value(2)).outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn a_task_whose_thread_ends_before_it_comes_up_is_refused_and_the_next_tries_again() {
    let lost = Arc::new(AtomicBool::new(true));
    let orders = Orders {
        on_begin: {
            let lost = Arc::clone(&lost);
            Box::new(move |_| if lost.load(Ordering::SeqCst) { Err("it ended") } else { Ok(()) })
        },
        ..Orders::default()
    };
    let runner = Runner::new(on_demand(2), orders);
    for _ in 0..4 {
        let task = runner.submit(Priority::Normal, value(1));
        assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::NoWorker));
        eventually("its place is given back", || runner.engine.worker_count() == 0);
    }
    lost.store(false, Ordering::SeqCst);
    assert_eq!(runner.submit(Priority::Normal, value(2)).outcome(), Outcome::Value(2));
    runner.stop();
    runner.finish();
}

#[test]
fn a_launch_whose_thread_ends_before_it_comes_up_fails() {
    let orders = Orders {
        on_begin: Box::new(|name| if name.ends_with("-2") { Err("it ended") } else { Ok(()) }),
        ..Orders::default()
    };
    let runner = Runner::launch(workers(3), orders).expect("threads start");
    assert_eq!(runner.engine.startup.wait(FOREVER), StartupStatus::NoThread);
    assert_eq!(runner.engine.startup.take_fault(), Some("it ended"));
    runner.kill();
    runner.finish();
}

#[test]
fn a_base_worker_serves_what_a_reserved_one_was_started_for_whose_thread_ended_before() {
    let orders = Orders {
        on_begin: Box::new(|name| if name.contains("reserved") { Err("it ended") } else { Ok(()) }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = Task::new(Priority::Normal, RESERVED, value(7));
    assert!(runner.run_task(&task), "accepted");
    assert_eq!(task.outcome(), Outcome::Value(7));
    runner.stop();
    runner.finish();
}

#[test]
fn a_task_that_has_no_thread_waits_for_a_worker_that_is_there() {
    let (runner, go) = (without_threads(|number| number == 1), Latch::new());
    runner.occupy(&go);
    let task = runner.submit(Priority::Normal, value(1));
    assert_eq!(*lock(&runner.world().faults), ["no thread"]);
    assert_eq!(runner.engine.workers().len(), 1);
    let next = runner.submit(Priority::Normal, value(2));
    assert_eq!((task.outcome(), next.outcome()), (Outcome::Value(1), Outcome::Value(2)));
    go.open();
    runner.finish();
}

#[test]
fn nothing_accepted_on_demand_is_left_behind_by_a_stop() {
    for _ in 0..rounds(200) {
        let runner = Runner::new(on_demand(2), Orders::default());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(
                    || while runner.submit_task(&Task::new(Priority::Normal, 0, value(1))) {},
                );
            }
            runner.stop();
        });
        assert!(runner.engine.workers().is_empty());
        runner.finish();
    }
}

#[test]
fn what_waits_can_be_cancelled_at_once() {
    let (runner, go) = (Runner::new(on_demand(1), Orders::default()), Latch::new());
    let runs = runner.occupy(&go);
    let waiting: Vec<_> = (0..5).map(|n| runner.submit(Priority::Normal, value(n))).collect();
    assert!(runner.cancel(&waiting[1]));
    assert_eq!(runner.engine.waiting(), 4);
    let serves_worn = &waiting[3];
    let is_meant = |task: &Arc<Task>| !Arc::ptr_eq(task, serves_worn);
    runner.engine.cancel_matching((), is_meant, |task| {
        runner.cancel(task);
    });
    assert_eq!(runner.engine.waiting(), 1);
    go.open();
    assert_eq!((runs.outcome(), serves_worn.outcome()), (Outcome::Value(0), Outcome::Value(3)));
    let is_cancelled = |task: &Arc<Task>| task.outcomes() == [Outcome::Cancelled];
    assert_eq!(waiting.iter().filter(|task| is_cancelled(task)).count(), 4);
    runner.finish();
}

// ---- tasks inside tasks ------------------------------------------------------------------------

#[test]
fn a_worker_runs_a_task_inside_the_one_that_waits_for_it() {
    let runner = runner(1);
    let inner = Task::new(Priority::Low, 0, |_, _| End::Bad("inner"));
    let waited = Arc::clone(&inner);
    let outer = runner.submit(Priority::Normal, move |session, _| {
        submit_to(session.engine, &waited, 0);
        assert!(session.serve_inside((), &waited, true));
        assert!(!session.serve_inside((), &waited, true), "once");
        let mut depth = 0;
        session.worker.for_each_running(|_, _| depth += 1);
        assert_eq!(depth, 1);
        assert!(session.is_bad());
        End::Value(session.resource().id)
    });
    assert_eq!(outer.outcome(), Outcome::Value(0));
    assert_eq!(inner.outcomes(), [Outcome::Error("inner")], "no retry inside");
    assert_eq!(runner.submit(Priority::Normal, value(1)).entered_after_outcome(), [1]);
    runner.finish();
}

#[test]
fn a_call_inside_a_task_has_nobody_hired() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    let inner = Task::new(Priority::Normal, RESERVED, |session, _| {
        session.engine.start_reserved_if_needed(());
        End::Value(session.engine.workers().len() as u64)
    });
    let called = Arc::clone(&inner);
    let outer = runner.submit(Priority::Normal, move |session, _| {
        assert!(session.engine.accept_inside(0));
        assert!(session.serve_inside((), &called, false));
        session.engine.begin_stop();
        assert!(!session.engine.accept_inside(0));
        End::Value(0)
    });
    outer.outcome();
    assert_eq!(inner.outcome(), Outcome::Value(1));
    runner.engine.wait_ended(FOREVER);
}

#[test]
fn a_killed_runner_starts_nothing_inside_a_task_either() {
    let runner = runner(1);
    let inner = Task::new(Priority::Low, 0, value(1));
    let waited = Arc::clone(&inner);
    // A task that is in no lane, as a kill that is under way has not come to it yet.
    let outer = runner.submit(Priority::Normal, move |session, _| {
        session.engine.kill(());
        assert!(session.serve_inside((), &waited, false));
        End::Value(1)
    });
    assert_eq!(outer.outcome(), Outcome::Value(1));
    assert_eq!(inner.outcomes(), [Outcome::Refused(AbandonReason::Killed)]);
    assert_eq!(inner.attempts(), 0);
    runner.engine.wait_ended(FOREVER);
}

#[test]
fn the_time_of_an_inner_task_is_its_own() {
    let runner = runner(1);
    let inner = Task::new(Priority::Low, 0, value(1));
    let waited = Arc::clone(&inner);
    let begun = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&begun);
    runner.submit(Priority::Normal, value(0)).outcome();
    let outer = runner.submit(Priority::Normal, move |session, _| {
        let clock = &session.engine.clock;
        let until = clock.now() + 2_000_000;
        while clock.now() < until {
            std::hint::spin_loop();
        }
        let now = clock.now();
        submit_to(session.engine, &waited, now);
        assert!(session.serve_inside((), &waited, true));
        seen.store(now, Ordering::SeqCst);
        End::Value(1)
    });
    assert_eq!(outer.outcome(), Outcome::Value(1));
    runner.stop();
    let execution = runner.engine.metrics().figures.execution();
    assert!(execution.min < 0.002 && execution.max >= 0.002, "{execution:?}");
    runner.finish();
}

// ---- our own faults ----------------------------------------------------------------------------

#[test]
fn a_panic_of_the_host_breaks_the_runner_and_answers_everybody() {
    let (runner, go) = (runner(2), Latch::new());
    let other = runner.occupy(&go);
    let (held, entered) = (Latch::new(), Latch::new());
    let (wait, inside) = (Arc::clone(&held), Arc::clone(&entered));
    let task = runner.submit(Priority::Normal, move |_, _| {
        inside.open();
        wait.wait();
        panic!("planted");
    });
    entered.wait();
    let waiting = runner.submit(Priority::Normal, value(1));
    held.open();
    assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::Broken));
    assert_eq!(waiting.outcome(), Outcome::Refused(AbandonReason::Broken));
    assert!(runner.engine.is_broken());
    assert!(!runner.submit_task(&Task::new(Priority::Normal, 0, value(1))));
    go.open();
    assert_eq!(other.outcome(), Outcome::Value(0));
    runner.finish();
}

#[test]
fn a_panic_after_the_end_of_an_attempt_was_counted_counts_none_twice() {
    let orders = Orders {
        on_verb: Box::new(|_, verb, _| assert_ne!(verb, Verb::Fail, "planted")),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    assert!(runner.submit_task(&Task::new(Priority::Normal, ONCE, bad_for(1))));
    runner.stop();
    assert!(runner.engine.is_broken());
    assert_eq!(runner.stats().running, 0);
}

#[test]
fn a_panic_in_a_creation_breaks_the_runner() {
    let orders = Orders {
        on_create: Box::new(|number| {
            assert!(number < 1, "planted");
            Ok(())
        }),
        ..Orders::default()
    };
    let runner = Runner::new(workers(1), orders);
    let task = runner.submit(Priority::Normal, bad_for(1));
    assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::Broken));
    runner.finish();
}

#[test]
fn a_panic_on_a_loan_breaks_the_runner_and_sends_the_loan_home() {
    let runner = Runner::new(lending(workers(1)), Orders::default());
    let task = reserved(|_, _| panic!("planted"));
    let call = std::panic::AssertUnwindSafe(|| runner.run_task(&task));
    assert!(std::panic::catch_unwind(call).is_err(), "the caller learns of it");
    assert_eq!(task.outcomes(), [Outcome::Refused(AbandonReason::Broken)]);
    assert!(runner.engine.is_broken());
    runner.finish();
}

/// Fewer rounds where each is slow.
fn rounds(count: usize) -> usize {
    if cfg!(miri) { count.div_ceil(50) } else { count }
}

// ---- batches -----------------------------------------------------------------------------------

fn items(
    count: u64,
    work: impl Fn(&Seat<'_>, u64) -> End + Clone + Send + Sync + 'static,
) -> Vec<Arc<Task>> {
    let item = |number| {
        let work = work.clone();
        Task::new(Priority::Normal, 0, move |session, _| work(session, number))
    };
    (0..count).map(item).collect()
}

#[test]
fn each_item_of_a_batch_is_counted_and_ends_once() {
    let runner = runner(3);
    let batches: Vec<_> = (0..20).map(|_| items(500, |_, number| End::Value(number))).collect();
    for batch in &batches {
        runner.submit_batch(Priority::Normal, batch);
    }
    runner.stop();
    for (number, item) in batches.iter().flat_map(|batch| (0..).zip(batch)) {
        assert_eq!(item.outcome(), Outcome::Value(number));
    }
    let metrics = runner.engine.metrics();
    assert_eq!((metrics[EventKind::Arrived], metrics[EventKind::Completed]), (10_000, 10_000));
    runner.finish();
}

#[test]
fn a_batch_of_unknown_pace_is_shared_by_all_idle_workers() {
    let runner = runner(4);
    let together = Arc::new(Barrier::new(4));
    let meet = Arc::clone(&together);
    let batch = items(4, move |_, number| {
        // Nobody passes alone.
        meet.wait();
        End::Value(number)
    });
    runner.submit_batch(Priority::Normal, &batch);
    // Before the end, at which those who find nothing leave.
    for (item, number) in batch.iter().zip(0..) {
        assert_eq!(item.outcome(), Outcome::Value(number));
    }
    runner.finish();
}

#[test]
fn whoever_is_invited_goes_on_behind_a_worker_that_is_stuck() {
    let (runner, go) = (runner(2), Latch::new());
    let (stuck, retry_hold) = (Latch::new(), Arc::clone(&go));
    let entered = Arc::clone(&stuck);
    let batch = items(3_000, move |_, number| {
        if number == 2_000 {
            entered.open();
            retry_hold.wait();
        }
        End::Value(number)
    });
    let waiter = runner.submit_batch(Priority::Normal, &batch);
    stuck.wait();
    runner.engine.invite((), &waiter);
    assert_eq!(batch[2_999].outcome(), Outcome::Value(2_999));
    assert_eq!(runner.stats().running, 1);
    go.open();
    runner.finish();
}

#[test]
fn a_kill_answers_the_items_behind_one_that_runs() {
    let (runner, go, stuck) = (runner(1), Latch::new(), Latch::new());
    let (retry_hold, entered) = (Arc::clone(&go), Arc::clone(&stuck));
    let batch = items(100, move |_, number| {
        entered.open();
        retry_hold.wait();
        End::Value(number)
    });
    runner.submit_batch(Priority::Normal, &batch);
    stuck.wait();
    runner.engine.kill(());
    for item in &batch[1..] {
        assert_eq!(item.outcomes(), [Outcome::Refused(AbandonReason::Killed)]);
    }
    assert_eq!(runner.engine.metrics()[EventKind::Dropped], 99);
    go.open();
    assert_eq!(batch[0].outcome(), Outcome::Value(0));
    runner.finish();
}

#[test]
fn cancelled_items_leave_the_queue_and_a_tombstone_at_most() {
    let (runner, go) = (runner(1), Latch::new());
    runner.occupy(&go);
    let batch = items(50, |_, number| End::Value(number));
    let waiter = runner.submit_batch(Priority::Normal, &batch);
    assert_eq!(runner.stats().queued, 50);
    assert_eq!(runner.cancel_items(&waiter), 50);
    assert_eq!(runner.cancel_items(&waiter), 0);
    assert_eq!(runner.stats().queued, 0);
    go.open();
    runner.finish();
}

#[test]
fn an_item_that_spoils_its_resource_is_tried_again_and_the_batch_goes_on_with_another() {
    let runner = runner(1);
    let batch: Vec<_> = (0..40)
        .map(|number| match number % 10 {
            3 => Task::new(Priority::Normal, 0, bad_for(1)),
            _ => Task::new(Priority::Normal, 0, value(number)),
        })
        .collect();
    runner.submit_batch(Priority::Normal, &batch);
    runner.stop();
    for item in batch.iter().skip(3).step_by(10) {
        assert_eq!(item.outcome(), Outcome::Value(2));
        assert_eq!(item.attempts(), 2);
    }
    assert_eq!(runner.world().made(), 5);
    assert_eq!(runner.engine.metrics()[EventKind::Retried], 4);
    runner.finish();
}

#[test]
fn what_is_more_urgent_comes_between_the_items_of_a_batch() {
    let (runner, go, order) = (runner(1), Latch::new(), list());
    let (retry_hold, entered, inner) = (Arc::clone(&go), Latch::new(), Arc::clone(&order));
    let inside = Arc::clone(&entered);
    let batch = items(10, move |_, number| {
        if number == 0 {
            inside.open();
            retry_hold.wait();
        }
        lock(&inner).push(number);
        End::Value(number)
    });
    runner.submit_batch(Priority::Normal, &batch);
    entered.wait();
    let urgent = runner.submit(Priority::High, note(&order, 100));
    go.open();
    urgent.outcome();
    runner.stop();
    assert_eq!(lock(&order)[..3], [0, 100, 1]);
    runner.finish();
}

/// Runs a batch whose items took `cost` lately and of which the first `slow` take longer; each of the rest needs all
/// four workers at once.
fn share_what_turns_slow(cost: Tick, slow: u64) {
    let (runner, together) = (runner(4), Arc::new(Barrier::new(4)));
    let batch = items(slow + 4, move |_, number| {
        if number < slow {
            thread::sleep(Duration::from_millis(1));
        } else {
            // Nobody passes alone.
            together.wait();
        }
        End::Value(number)
    });
    runner.submit_batch_at(Priority::Normal, &batch, cost);
    for (item, number) in batch.iter().zip(0..) {
        assert_eq!(item.outcome(), Outcome::Value(number));
    }
    runner.finish();
}

#[test]
fn a_chunk_that_turns_slow_ends_at_once_and_invites_the_others() {
    share_what_turns_slow(1_000, 1);
}

#[test]
fn a_chunk_of_the_quickest_items_that_turns_slow_ends_after_a_few() {
    share_what_turns_slow(100, 8);
}
