//! The races of tasks that fail fast: none waits under the mark, and it does not stay up.

use super::{Bare, Event, LoomTask, settings, start_with, submit};
use crate::engine::roster::shared::WorkerKind;
use crate::engine::{Engine, EngineSettings};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};
use std::time::Duration;

/// An engine that fails fast with the first attempt that fails: that is the second. From the third
/// on they succeed, but in a model, where no time passes, no worker gets to one.
fn engine(attempts: &Arc<AtomicU32>) -> Arc<Engine<Bare>> {
    let attempts = Arc::clone(attempts);
    let mut host = Bare::new(|| ());
    host.can_create = Box::new(move || attempts.fetch_add(1, Ordering::Relaxed) != 1);
    let fail_fast_after = Some(0);
    start_with(host, EngineSettings { fail_fast_after, ..settings(true, 1) })
}

/// A task that says when it has its outcome, and spoils its resource if it is `bad`.
fn task(bad: bool) -> (Arc<LoomTask>, Arc<Event>) {
    let over = Arc::new(Event::default());
    let bad = AtomicBool::new(bad);
    (Arc::new(LoomTask { bad, over: Some(Arc::clone(&over)), ..LoomTask::plain(0) }), over)
}

/// A submitter whose push comes before the sweep, or whose look comes after the mark. The next
/// attempt comes after the end of the model's time, so no worker serves what is overlooked.
#[test]
fn loom_no_task_waits_while_tasks_fail_fast() {
    model(|| {
        let engine = engine(&Arc::default());
        let ((spoils, spoilt), (job, over)) = (task(true), task(false));
        assert!(submit(&engine, &spoils));
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || assert!(submit(&engine, &job)))
        };
        spoilt.wait();
        over.wait();
        submitter.join().unwrap();
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
    });
}

/// An engine without threads, which fails fast with the first attempt that fails.
fn silent_engine() -> Arc<Engine<Bare>> {
    let settings = EngineSettings { fail_fast_after: Some(0), ..settings(true, 1) };
    Engine::new(Bare::new(|| ()), settings)
}

/// Begins with a failed attempt, and has the keeper look while this thread does something else.
fn beside_the_keeper(engine: &Arc<Engine<Bare>>, work: impl FnOnce()) {
    engine.backoff.failed(false, 0);
    let keeper = {
        let engine = Arc::clone(engine);
        spawn(move || engine.fail_fast_if_due(()))
    };
    work();
    keeper.join().unwrap();
}

/// A thread that raises the mark while an attempt succeeds: one of them lowers it again.
#[test]
fn loom_the_mark_does_not_stay_up_beside_a_resource() {
    model(|| {
        let engine = silent_engine();
        let worker = engine.roster.add(&engine.settings, false, |_| Some(WorkerKind::Base));
        beside_the_keeper(&engine, || {
            engine.roster.note_resource(&worker.unwrap(), 0);
            engine.creation_succeeded(false);
        });
        assert!(!engine.fails_fast());
    });
}

/// An attempt that succeeds, and one that fails after it: its time has just begun.
#[test]
fn loom_the_mark_is_not_up_for_a_failure_that_is_over() {
    model(|| {
        let engine = silent_engine();
        beside_the_keeper(&engine, || {
            engine.creation_succeeded(false);
            engine.backoff.failed(false, 1);
            engine.fail_fast_if_due(());
        });
        assert!(!engine.fails_fast());
    });
}

/// An attempt that succeeds for `run_task` beside one that fails: of the threads that set the mark none
/// leaves it as it saw it before.
#[test]
fn loom_the_mark_follows_the_last_attempt() {
    model(|| {
        let engine = silent_engine();
        let other = Arc::clone(&engine);
        beside_the_keeper(&engine, || {
            let succeeds = spawn(move || other.creation_succeeded(false).is_some());
            engine.backoff.failed(false, 0);
            engine.fail_fast_if_due(());
            succeeds.join().unwrap();
        });
        assert_eq!(engine.fails_fast(), engine.backoff.failing_since().is_some());
    });
}
