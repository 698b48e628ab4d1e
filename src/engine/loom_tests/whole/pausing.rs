//! The races of a task that pauses: nobody loses it, and nobody waits for it in vain.

use super::{Bare, LoomTask, settings, start_with, submit};
use crate::engine::Engine;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::RESERVED;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};
use std::time::Duration;

/// An engine with a keeper and one worker, base or temporary.
fn engine(worker_count: usize) -> Arc<Engine<Bare>> {
    let mut host = Bare::new(|| ());
    host.has_keeper = true;
    start_with(host, settings(false, worker_count))
}

/// A task that fails at first, and then pauses until it is over for all.
fn pausing(flags: u32) -> Arc<LoomTask> {
    let (bad, failed) = (AtomicBool::new(true), Some(Arc::default()));
    Arc::new(LoomTask { bad, failed, pauses: true, ..LoomTask::plain(flags) })
}

/// Submits a task, and returns when it has failed and is about to pause.
fn submit_until_failed(engine: &Arc<Engine<Bare>>, job: &Arc<LoomTask>) {
    assert!(submit(engine, job));
    job.failed.as_ref().unwrap().wait();
}

/// The runner ends, and a task that paused before was tried again.
fn assert_tried_once_more(engine: &Arc<Engine<Bare>>, job: &Arc<LoomTask>) {
    assert!(engine.wait_ended(Duration::MAX));
    assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
    let metrics = engine.metrics();
    assert_eq!(metrics[EventKind::Completed], metrics[EventKind::Retried]);
}

/// With so many preemptions and not more, as three threads of whole engines, or four, have too many
/// interleavings.
fn explore(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(scenario);
}

/// A stop that comes before the pause, while the task is on its way to the keeper, or after: its
/// worker must not leave without it, nor the keeper keep it.
#[test]
fn loom_a_stop_leaves_no_paused_task_behind() {
    explore(2, || {
        let engine = engine(1);
        let job = pausing(0);
        submit_until_failed(&engine, &job);
        engine.begin_stop();
        assert_tried_once_more(&engine, &job);
        assert_eq!(engine.stats().paused, 0);
    });
}

/// The same for a task whose worker leaves after it: another one is started for it, or it is
/// settled.
#[test]
fn loom_a_stop_leaves_no_paused_task_of_a_temporary_worker_behind() {
    explore(2, || {
        let engine = engine(0);
        let job = pausing(RESERVED);
        submit_until_failed(&engine, &job);
        engine.begin_stop();
        assert_tried_once_more(&engine, &job);
    });
}

/// A kill takes what is paused, or its worker gives it up.
#[test]
fn loom_a_kill_leaves_no_paused_task_behind() {
    explore(2, || {
        let engine = engine(1);
        let job = pausing(0);
        submit_until_failed(&engine, &job);
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        assert_eq!(engine.stats().paused, 0);
    });
}

/// A thread that calls the retry off while the task begins to pause, or comes back: one of them
/// settles it, and the keeper lets go of it.
#[test]
fn loom_a_pause_that_is_called_off_has_one_outcome() {
    explore(1, || {
        let engine = engine(1);
        let job = pausing(0);
        submit_until_failed(&engine, &job);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || {
                if let Some(taken) = job.word.call_off() {
                    engine.count_settled((), &job, taken, false);
                    job.outcomes.fetch_add(1, Ordering::Relaxed);
                    assert!(job.word.publish(|_| true).is_some());
                }
            })
        };
        engine.begin_stop();
        caller.join().unwrap();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        let metrics = engine.metrics();
        let ended = metrics[EventKind::Completed] + metrics[EventKind::Failed];
        assert_eq!((metrics[EventKind::Arrived], ended), (1, 1));
    });
}
