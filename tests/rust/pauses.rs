//! What the engine promises of tasks that are paused until they are tried again.

use super::support::{
    End, FOREVER, Latch, Orders, Outcome, Runner, Seat, Task, eventually, lock, workers,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tasker::engine::metrics::events::EventKind;
use tasker::engine::queue::lanes::Entry;
use tasker::engine::queue::permits::Permit;
use tasker::engine::task::priority::Priority;
use tasker::engine::task::{ONCE, RESERVED};
use tasker::engine::worker::serve_loan::{CallWait, Claiming};
use tasker::engine::{AbandonReason, EngineSettings};

/// No pause of a test that passes ends by itself.
const LONG: Duration = FOREVER;

const SHORT: Duration = Duration::from_millis(1);

/// Long enough to occupy the worker meanwhile, on a slow machine too.
const WHILE: Duration = Duration::from_millis(500);

/// Runs a task inside the one that has this seat; true when it is over.
fn serve_within(seat: &Seat<'_>, task: &Arc<Task>) -> bool {
    seat.engine.accept_inside(0) && seat.serve_inside((), task, false)
}

fn runner(worker_count: usize) -> Runner {
    Runner::new(workers(worker_count), Orders::default())
}

/// Asks for a pause so many times; then it gives the number of attempts.
fn later_for(attempts: usize, pause: Duration) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End {
    move |_, task| match task.attempts() {
        n if n <= attempts => End::Later("later", pause),
        n => End::Value(n as u64),
    }
}

/// Submits a task that is paused when this returns.
fn paused(runner: &Runner, pause: Duration) -> Arc<Task> {
    let before = runner.stats().paused;
    let task = runner.submit(Priority::Normal, later_for(1, pause));
    eventually("it is paused", || runner.stats().paused > before);
    task
}

#[test]
fn a_paused_task_holds_no_worker() {
    let runner = runner(1);
    let task = paused(&runner, LONG);
    let other = runner.submit(Priority::Normal, |_, _| End::Value(7));
    assert_eq!(other.outcome(), Outcome::Value(7));
    let stats = runner.stats();
    assert_eq!((stats.paused, stats.queued), (1, 0));
    runner.stop();
    assert_eq!((task.outcome(), runner.world().made()), (Outcome::Value(2), 1));
    runner.finish();
}

#[test]
fn the_keeper_queues_it_again_when_its_pause_is_over() {
    let runner = runner(1);
    let task = runner.submit(Priority::Normal, later_for(3, SHORT));
    assert_eq!(task.outcome(), Outcome::Value(4));
    assert_eq!(runner.engine.metrics()[EventKind::Retried], 3);
    runner.finish();
}

#[test]
fn a_task_that_comes_back_joins_the_end_of_its_priority() {
    let (runner, go, order) = (runner(1), Latch::new(), Arc::new(Mutex::new(Vec::new())));
    let note = |number: u64| {
        let order = Arc::clone(&order);
        move |_: &Seat<'_>, _: &Arc<Task>| {
            lock(&order).push(number);
            End::Value(number)
        }
    };
    let came_back = note(3);
    runner.submit(Priority::Normal, move |seat, task| match task.attempts() {
        1 => End::Later("later", WHILE),
        _ => came_back(seat, task),
    });
    eventually("it is paused", || runner.stats().paused == 1);
    runner.occupy(&go);
    runner.submit(Priority::Normal, note(1));
    runner.submit(Priority::Normal, note(2));
    eventually("it is back", || runner.stats().paused == 0);
    runner.submit(Priority::Normal, note(4));
    go.open();
    runner.stop();
    assert_eq!(*lock(&order), [1, 2, 3, 4]);
    runner.finish();
}

#[test]
fn a_stop_tries_what_is_paused_once_more_at_once_and_pauses_nothing_again() {
    let runner = runner(2);
    let fails = |_: &Seat<'_>, _: &Arc<Task>| End::Later("again", LONG);
    let submit = |_| runner.submit(Priority::Low, fails);
    let tasks: Vec<_> = (0..20).map(submit).collect();
    eventually("all are paused", || runner.stats().paused == 20);
    runner.stop();
    for task in tasks {
        assert_eq!((task.outcome(), task.attempts()), (Outcome::Error("again"), 2));
    }
    runner.finish();
}

#[test]
fn a_stop_while_a_task_runs_leaves_it_its_last_attempt() {
    let (runner, inside, go) = (runner(1), Latch::new(), Latch::new());
    let (entered, until) = (Arc::clone(&inside), Arc::clone(&go));
    let task = runner.submit(Priority::Normal, move |_, _| {
        entered.open();
        until.wait();
        End::Later("late", LONG)
    });
    inside.wait();
    runner.engine.begin_stop();
    go.open();
    assert_eq!((task.outcome(), task.attempts()), (Outcome::Error("late"), 1));
    runner.finish();
}

#[test]
fn a_kill_gives_what_is_paused_its_last_error() {
    let runner = runner(1);
    let task = paused(&runner, LONG);
    runner.engine.kill(());
    assert_eq!(task.outcomes(), [Outcome::Error("later")]);
    assert_eq!(runner.engine.metrics()[EventKind::Failed], 1);
    runner.finish();
}

#[test]
fn cancelling_what_waits_takes_what_is_paused() {
    let runner = runner(1);
    let task = paused(&runner, LONG);
    runner.engine.cancel_queued((), |task, _| {
        lock(&runner.world().faults).push("withdrawn");
        runner.world().withdraw(task);
    });
    assert_eq!((task.outcome(), runner.stats().paused), (Outcome::Error("later"), 0));
    assert_eq!(*lock(&runner.world().faults), ["withdrawn"]);
    runner.finish();
}

#[test]
fn a_paused_task_is_called_off_once_and_let_go_of() {
    let runner = runner(1);
    let task = paused(&runner, LONG);
    assert!(runner.call_off(&task) && !runner.call_off(&task));
    assert_eq!((task.outcome(), runner.stats().paused), (Outcome::Error("later"), 0));
    runner.finish();
    drop(runner);
    assert_eq!(Arc::strong_count(&task), 1, "the keeper holds it no more");
}

#[test]
fn a_time_limit_ends_a_pause() {
    let runner = runner(1);
    let task = paused(&runner, LONG);
    runner.limit(&task, SHORT);
    assert_eq!(task.outcome(), Outcome::TimedOut);
    eventually("it is counted", || runner.stats().paused == 0);
    runner.finish();
}

#[test]
fn what_is_paused_counts_against_the_bound_until_it_starts_again() {
    let settings = EngineSettings { max_queue_size: Some(2), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let free = || runner.engine.try_permits(9).map_or(0, |permit| permit.count());
    let first = paused(&runner, LONG);
    assert_eq!(free(), 1);
    assert!(runner.call_off(&first));
    assert_eq!(free(), 2);
    let (go, second) = (Latch::new(), paused(&runner, WHILE));
    runner.occupy(&go);
    eventually("it waits again", || runner.stats().queued == 1);
    assert_eq!(free(), 1, "its place is its own in the lane too");
    go.open();
    assert_eq!((second.outcome(), free()), (Outcome::Value(2), 2));
    runner.finish();
}

#[test]
fn what_is_paused_beyond_the_bound_keeps_submitters_out_until_it_is_made_up_for() {
    let settings = EngineSettings { max_queue_size: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let (go, inside) = (Latch::new(), Latch::new());
    let (until, entered) = (Arc::clone(&go), Arc::clone(&inside));
    let first = runner.submit(Priority::Normal, move |_, task| {
        entered.open();
        until.wait();
        if task.attempts() == 1 { End::Later("later", LONG) } else { End::Value(1) }
    });
    inside.wait();
    let second = runner.submit(Priority::Normal, later_for(1, LONG));
    go.open();
    eventually("both are paused", || runner.stats().paused == 2);
    assert!(runner.call_off(&first));
    assert!(runner.engine.try_permits(1).is_none(), "the other one is still there");
    assert!(runner.call_off(&second));
    assert!(runner.engine.try_permits(1).is_some());
    runner.finish();
}

#[test]
fn a_task_that_is_back_counts_as_waiting_and_a_look_leaves_it_where_it_is() {
    let (runner, first, go) = (runner(1), Latch::new(), Latch::new());
    let until = Arc::clone(&first);
    let task = runner.submit(Priority::Normal, move |_, task| {
        until.wait();
        if task.attempts() == 1 { End::Later("later", SHORT) } else { End::Value(2) }
    });
    let (held, inside) = (Arc::clone(&go), Latch::new());
    let entered = Arc::clone(&inside);
    runner.submit(Priority::Normal, move |_, _| {
        entered.open();
        held.wait();
        End::Value(0)
    });
    first.open();
    inside.wait();
    eventually("it is back", || runner.stats().paused == 0);
    eventually("it counts", || runner.engine.oldest_wait(()) > 0);
    go.open();
    assert_eq!(task.outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn a_pause_on_a_bad_resource_is_none() {
    let runner = runner(1);
    let task = runner.submit(Priority::Normal, |_, task| match task.attempts() {
        1 | 3 => End::Bad("bad"),
        2 => End::Later("later", SHORT),
        n => End::Value(n as u64),
    });
    assert_eq!(task.outcome(), Outcome::Value(4));
    assert_eq!(task.entered(), [0, 1, 1, 2]);
    runner.finish();
}

#[test]
fn without_a_thread_for_the_keeper_nothing_is_paused() {
    let on_spawn = Box::new(|name: &str| if name == "keeper" { Err("no thread") } else { Ok(()) });
    let runner = Runner::new(workers(1), Orders { on_spawn, ..Orders::default() });
    let task = runner.submit(Priority::Normal, later_for(1, SHORT));
    assert_eq!((task.outcome(), task.attempts()), (Outcome::Error("later"), 1));
    assert_eq!(*lock(&runner.world().faults), ["no thread"]);
    runner.finish();
}

#[test]
fn a_run_task_on_a_worker_of_its_own_is_tried_again_also_when_that_worker_has_left() {
    for keep_reserved in [false, true] {
        let settings = EngineSettings { keep_reserved, reserve_limit: Some(2), ..workers(1) };
        let runner = Runner::new(settings, Orders::default());
        let stopped = Task::new(Priority::Normal, RESERVED, later_for(1, LONG));
        thread::scope(|scope| {
            let waits = scope.spawn(|| runner.run_task(&stopped));
            eventually("it is paused", || runner.stats().paused == 1);
            let task = Task::new(Priority::Normal, RESERVED, later_for(2, SHORT));
            assert!(runner.run_task(&task));
            assert_eq!(task.outcome(), Outcome::Value(3));
            runner.stop();
            assert!(waits.join().expect("no panic"));
        });
        assert_eq!(stopped.outcome(), Outcome::Value(2));
        runner.finish();
    }
}

#[test]
fn the_caller_of_run_task_pauses_without_the_loan() {
    let settings = EngineSettings { thread_bound: false, reserve_limit: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let pauses = Task::new(Priority::Normal, RESERVED, later_for(1, LONG));
    thread::scope(|scope| {
        let waits = scope.spawn(|| runner.run_task(&pauses));
        eventually("it is paused", || runner.stats().paused == 1);
        let other = Task::new(Priority::Normal, RESERVED, |_, _| End::Value(5));
        assert!(runner.run_task(&other));
        assert_eq!(other.outcome(), Outcome::Value(5));
        runner.stop();
        assert!(waits.join().expect("no panic"));
    });
    assert_eq!(pauses.outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn a_kill_ends_the_pause_of_a_caller_of_run_task() {
    let settings = EngineSettings { thread_bound: false, reserve_limit: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let task = Task::new(Priority::Normal, RESERVED, later_for(1, LONG));
    thread::scope(|scope| {
        scope.spawn(|| runner.run_task(&task));
        eventually("it is paused", || runner.stats().paused == 1);
        runner.kill();
    });
    assert_eq!(task.outcome(), Outcome::Error("later"));
    runner.finish();
}

#[test]
fn a_task_inside_another_sits_its_pause_out() {
    let runner = runner(1);
    let inner = Task::new(Priority::Normal, 0, later_for(2, SHORT));
    let (mine, runs) = (Arc::clone(&inner), Arc::new(AtomicUsize::new(0)));
    let outer_runs = Arc::clone(&runs);
    let outer = runner.submit(Priority::Normal, move |seat, _| {
        outer_runs.fetch_add(1, Ordering::SeqCst);
        let engine = seat.engine;
        let permit = Permit::unbounded(1);
        engine.submit((), &mine.word, Arc::clone(&mine), 0, permit).expect("accepted");
        assert!(seat.serve_inside((), &mine, true));
        End::Value(mine.attempts() as u64)
    });
    assert_eq!(outer.outcome(), Outcome::Value(3));
    assert_eq!((inner.outcome(), runs.load(Ordering::SeqCst)), (Outcome::Value(3), 1));
    runner.finish();
}

#[test]
fn the_pause_of_a_task_inside_another_says_nothing_of_the_outer_one() {
    let settings = EngineSettings { thread_bound: false, reserve_limit: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let outer = Task::new(Priority::Normal, RESERVED, |seat, task| {
        if task.attempts() == 2 {
            return End::Value(2);
        }
        assert!(serve_within(seat, &Task::new(Priority::Normal, RESERVED, later_for(1, SHORT))));
        End::Bad("bad")
    });
    assert!(runner.run_task(&outer));
    assert_eq!(outer.outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn a_stop_while_a_task_inside_another_is_paused_recalls_the_idle_loans() {
    let settings = EngineSettings { thread_bound: false, reserve_limit: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    let lends = Task::new(Priority::Normal, RESERVED, |_, _| End::Value(1));
    assert!(runner.run_task(&lends));
    let inner = Task::new(Priority::Normal, RESERVED, later_for(1, LONG));
    let mine = Arc::clone(&inner);
    runner.submit(Priority::Normal, move |seat, _| {
        assert!(serve_within(seat, &mine));
        End::Value(0)
    });
    eventually("it is paused", || runner.stats().paused == 1);
    runner.stop();
    assert_eq!(inner.outcome(), Outcome::Value(2));
    runner.finish();
}

#[test]
fn what_settles_a_paused_call_in_a_closing_runner_recalls_the_idle_loans() {
    let settings = EngineSettings { thread_bound: false, reserve_limit: Some(1), ..workers(1) };
    let runner = Runner::new(settings, Orders::default());
    assert!(runner.run_task(&Task::new(Priority::Normal, RESERVED, |_, _| End::Value(1))));
    let task = Task::new(Priority::Normal, RESERVED, later_for(1, LONG));
    let loan = runner.engine.accept_on_loan(0).expect("it is idle");
    let entry = Entry::fresh(Arc::clone(&task), 0);
    let again = runner.engine.serve_on_loan((), loan, entry, Claiming::Unshared);
    assert!(again.is_some_and(|again| matches!(again.wait, CallWait::Pause(_))));
    runner.engine.begin_stop();
    eventually("the other worker has left", || runner.engine.worker_count() == 1);
    assert!(runner.call_off(&task));
    assert!(runner.engine.wait_ended(FOREVER), "without another stop: {:?}", runner.engine);
    runner.finish();
}

#[test]
fn items_of_a_batch_pause_one_by_one() {
    let runner = runner(2);
    let items: Vec<_> =
        (0..6).map(|n| Task::new(Priority::Normal, 0, later_for(n % 3, SHORT))).collect();
    runner.submit_batch(Priority::Normal, &items);
    for (n, item) in items.iter().enumerate() {
        assert_eq!(item.outcome(), Outcome::Value((n % 3 + 1) as u64));
    }
    runner.finish();
}

#[test]
fn a_stop_without_a_resource_ends_what_is_paused() {
    let fails = Box::new(|id| if id == 0 { Ok(()) } else { Err("away") });
    let runner = Runner::new(workers(1), Orders { on_create: fails, ..Orders::default() });
    let task = paused(&runner, LONG);
    // The only resource goes bad, and no other can be made.
    let bad = Task::new(Priority::Normal, ONCE, |_, _| End::Bad("bad"));
    assert!(runner.submit_task(&bad));
    assert_eq!(bad.outcome(), Outcome::Error("bad"));
    eventually("creation fails", || runner.stats().creation_failing > 0);
    runner.stop();
    assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::NoWorker));
    runner.finish();
}

#[test]
fn stops_and_kills_race_with_pauses_and_lose_nothing() {
    for round in 0..40 {
        let settings = EngineSettings { max_queue_size: Some(8), ..workers(3) };
        let runner = Runner::new(settings, Orders::default());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..40_usize {
                        let pause = Duration::from_micros(50 * (n as u64 % 4));
                        let task = Task::new(Priority::ALL[n % 3], 0, later_for(n % 3, pause));
                        let accepted = runner.submit_task(&task);
                        if accepted && n % 5 == 0 {
                            runner.call_off(&task);
                        }
                    }
                });
            }
            scope.spawn(|| {
                eventually("some have been paused", || {
                    runner.engine.metrics()[EventKind::Retried] >= 5 * (round % 4)
                });
                if round % 2 == 0 { runner.engine.begin_stop() } else { runner.engine.kill(()) }
            });
        });
        runner.finish();
    }
}

#[test]
fn a_pause_is_over_when_the_keeper_it_counted_on_gets_no_thread() {
    let (starting, go) = (Latch::new(), Latch::new());
    let (begun, until) = (Arc::clone(&starting), Arc::clone(&go));
    let on_spawn = move |name: &str| match name {
        "keeper" => {
            begun.open();
            until.wait();
            Err("no thread")
        }
        _ => Ok(()),
    };
    let orders = Orders { on_spawn: Box::new(on_spawn), ..Orders::default() };
    let runner = Runner::new(workers(2), orders);
    let first = runner.submit(Priority::Normal, later_for(1, LONG));
    starting.wait();
    let second = paused(&runner, LONG);
    go.open();
    assert_eq!((first.outcome(), second.outcome()), (Outcome::Error("later"), Outcome::Value(2)));
    runner.finish();
}
