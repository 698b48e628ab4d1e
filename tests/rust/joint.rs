//! What the engine promises of tasks that run in one call with others.

use super::support::{
    End, FOREVER, Latch, Orders, Outcome, Runner, Seat, Task, eventually, lock, workers,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tasker::engine::clock::{Tick, ticks};
use tasker::engine::metrics::events::EventKind;
use tasker::engine::queue::accumulator::{Accumulator, JointSettings};
use tasker::engine::task::priority::Priority;
use tasker::engine::{AbandonReason, EngineSettings};

type Tasks = Arc<Accumulator<Arc<Task>>>;

fn accumulator(max_size: usize, max_wait: Tick, splits: bool) -> Tasks {
    Arc::new(Accumulator::new(JointSettings { max_size, max_wait, splits }))
}

/// Submits so many tasks, which run in one call once the latch is open that occupies the one worker.
fn call(
    runner: &Runner,
    size: usize,
    splits: bool,
    work: impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + Clone + 'static,
) -> (Vec<Arc<Task>>, Arc<Latch>) {
    let (go, tasks) = (Latch::new(), accumulator(size, 0, splits));
    runner.occupy(&go);
    let submit = |_| {
        let task = Task::joint(&tasks, Priority::Normal, work.clone());
        assert!(runner.submit_task(&task));
        task
    };
    ((0..size).map(submit).collect(), go)
}

fn calls(runner: &Runner) -> Vec<usize> {
    lock(&runner.world().calls).clone()
}

#[test]
fn a_panic_in_a_joint_call_breaks_the_runner_and_answers_everybody() {
    let runner = Runner::new(workers(1), Orders::default());
    let (tasks, go) = call(&runner, 3, false, |_, _| panic!("planted"));
    let waiting = runner.submit(Priority::Low, |_, _| End::Value(1));
    go.open();
    for task in tasks.iter().chain([&waiting]) {
        assert_eq!(task.outcome(), Outcome::Refused(AbandonReason::Broken));
    }
    assert!(runner.engine.is_broken());
    runner.finish();
}

#[test]
fn a_call_that_pauses_is_made_again_as_a_whole() {
    for _ in 0..200 {
        let runner = Runner::new(workers(1), Orders::default());
        let tasks = accumulator(8, ticks(FOREVER), false);
        runner.engine.need_keeper(()).expect("a keeper");
        let submit = |_| {
            let task = Task::joint(&tasks, Priority::Normal, |_, task| match task.attempts() {
                1 => End::Later("later", Duration::from_micros(100)),
                _ => End::Value(0),
            });
            assert!(runner.submit_task(&task));
            task
        };
        for task in (0..8).map(submit).collect::<Vec<_>>() {
            assert_eq!(task.outcome(), Outcome::Value(0));
        }
        assert_eq!(calls(&runner), [8, 8]);
        runner.finish();
    }
}

#[test]
fn a_task_told_to_give_up_is_in_no_further_call() {
    let runner = Runner::new(workers(1), Orders::default());
    let (entered, held) = (Latch::new(), Latch::new());
    let (inside, until) = (Arc::clone(&entered), Arc::clone(&held));
    let (tasks, go) = call(&runner, 3, true, move |_, task| match task.attempts() {
        1 => {
            inside.open();
            until.wait();
            End::Error("fails")
        }
        _ => End::Value(2),
    });
    go.open();
    entered.wait();
    runner.request_cancel(&tasks[1]);
    held.open();
    let outcomes = [0, 1, 2].map(|index| tasks[index].outcome());
    assert_eq!(outcomes, [Outcome::Value(2), Outcome::Error("fails"), Outcome::Value(2)]);
    assert_eq!(calls(&runner), [3, 1, 1]);
    runner.finish();
}

#[test]
fn every_full_call_begins_at_once_whatever_was_taken_along_or_has_ended() {
    let (runner, go) = (Runner::new(workers(1), Orders::default()), Latch::new());
    runner.engine.need_keeper(()).expect("a keeper");
    runner.occupy(&go);
    let waiting = accumulator(5, ticks(FOREVER), false);
    let submit = |_| {
        let task = Task::joint(&waiting, Priority::Normal, |_, _| End::Value(0));
        assert!(runner.submit_task(&task));
        task
    };
    let tasks: Vec<_> = (0..21).map(submit).collect();
    // With the first entry.
    assert!(runner.cancel(&tasks[0]));
    go.open();
    for task in &tasks[1..] {
        assert_eq!(task.outcome(), Outcome::Value(0));
    }
    assert_eq!(calls(&runner), [5; 4]);
    runner.finish();
}

/// What the attempts of a task end by.
fn ends(number: usize) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End {
    move |_, task| match (number % 16, task.attempts()) {
        (3, 1) => End::Bad("bad"),
        (5, 1..3) => End::Later("later", Duration::from_micros(100)),
        (7, 1) => End::Error("alone it would work"),
        (9, _) => End::Error("never works"),
        _ => End::Value(number as u64),
    }
}

#[test]
fn stops_and_kills_race_with_joint_calls_and_lose_nothing() {
    for round in 0..if cfg!(miri) { 2 } else { 60 } {
        let settings = EngineSettings { max_queue_size: Some(8), ..workers(3) };
        let runner = Runner::new(settings, Orders::default());
        runner.engine.need_keeper(()).expect("a keeper");
        // There is room for every full call.
        let max_wait = [0, 20_000, ticks(FOREVER)][round % 3];
        let tasks = accumulator([1, 2, 5, 7][round % 4], max_wait, round % 2 == 0);
        thread::scope(|scope| {
            for first in 0..3 {
                let (runner, tasks) = (&runner, &tasks);
                scope.spawn(move || {
                    for number in (first..180).step_by(3) {
                        let task = Task::joint(tasks, Priority::ALL[number % 3], ends(number));
                        if !runner.submit_task(&task) {
                            continue;
                        }
                        match number % 11 {
                            0 => _ = runner.cancel(&task),
                            1 => _ = runner.call_off(&task),
                            2 => runner.request_cancel(&task),
                            4 => runner.limit(&task, Duration::from_micros(200)),
                            _ => {}
                        }
                    }
                });
            }
            scope.spawn(|| {
                eventually("some have come", || {
                    runner.engine.metrics()[EventKind::Arrived] >= 30 * (round as u64 % 5)
                });
                if round % 2 == 0 { runner.engine.begin_stop() } else { runner.engine.kill(()) }
            });
        });
        runner.finish();
    }
}
