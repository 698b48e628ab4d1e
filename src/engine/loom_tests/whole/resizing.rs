//! The races of a runner that is resized or renewed: as many workers are left as are asked for, and
//! nothing accepted is left behind.

use super::{Bare, Event, LoomTask, engine, settings, start_with, submit};
use crate::engine::Engine;
use crate::engine::metrics::events::EventKind;
use crate::engine::roster::shared::HAS_RESOURCE;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, model};
use std::time::Duration;

/// Not more preemptions: three threads of whole engines have too many interleavings.
fn check(test: impl Fn() + Send + Sync + 'static) {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(1);
    model.max_branches = 20_000;
    model.check(test);
}

fn resize(engine: &Arc<Engine<Bare>>, count: usize) {
    engine.resize((), Some(count), None).unwrap();
}

/// Waits until there are as many workers with a resource as are asked for, and no other.
fn settle(engine: &Engine<Bare>) {
    while !is_settled(engine) {
        thread::yield_now();
    }
}

fn is_settled(engine: &Engine<Bare>) -> bool {
    let workers = engine.workers();
    workers.len() == engine.limits().workers()
        && workers.iter().all(|worker| worker.has(HAS_RESOURCE))
}

fn end(engine: &Engine<Bare>) {
    engine.begin_stop();
    assert!(engine.wait_ended(Duration::MAX));
    assert!(engine.workers().is_empty());
}

/// A worker that leaves with a task for which it was woken, or that sleeps on although it is to
/// leave.
#[test]
fn loom_a_task_is_not_lost_with_a_worker_that_is_dismissed() {
    check(|| {
        let engine = engine(true, 2);
        let job = LoomTask::new(0, false);
        let submitter = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || submit(&engine, &job))
        };
        resize(&engine, 1);
        assert!(submitter.join().unwrap());
        settle(&engine);
        end(&engine);
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
    });
}

/// A worker that is dismissed as the runner closes, and leaves before the queue is drained.
#[test]
fn loom_a_stop_and_a_dismissal_leave_no_task_behind() {
    check(|| {
        let engine = engine(true, 2);
        let job = LoomTask::new(0, false);
        resize(&engine, 1);
        assert!(submit(&engine, &job));
        end(&engine);
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        assert_eq!(engine.metrics()[EventKind::Completed], 1);
    });
}

/// A worker that is started for a resize when the runner has ended.
#[test]
fn loom_a_stop_and_a_resize_leave_no_worker_behind() {
    check(|| {
        let engine = engine(true, 1);
        let resizer = {
            let engine = Arc::clone(&engine);
            spawn(move || resize(&engine, 2))
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        resizer.join().unwrap();
        assert!(engine.wait_ended(Duration::MAX));
        assert!(engine.workers().is_empty());
    });
}

/// A worker that leaves although it is wanted again, or one too many that stays.
#[test]
fn loom_two_resizes_leave_as_many_workers_as_the_later_one_asks_for() {
    check(|| {
        let engine = engine(true, 1);
        let resizer = {
            let engine = Arc::clone(&engine);
            spawn(move || resize(&engine, 2))
        };
        resize(&engine, 1);
        resizer.join().unwrap();
        settle(&engine);
        end(&engine);
    });
}

/// A worker that is lost while a submitter, which looks since another one was lost, sees none
/// missing: no later one would look again.
#[test]
fn loom_a_worker_that_got_no_thread_is_started_by_a_later_submit() {
    check(|| {
        let (threads, begun) = (AtomicU32::new(0), Arc::new(Event::default()));
        let mut host = Bare::new(|| ());
        host.comes_up = {
            let begun = Arc::clone(&begun);
            Box::new(move || {
                let comes_up = threads.fetch_add(1, Ordering::Relaxed) != 1;
                if !comes_up {
                    begun.happen();
                }
                comes_up
            })
        };
        let engine = start_with(host, settings(true, 1));
        engine.misses_base.store(true, Ordering::Relaxed);
        resize(&engine, 2);
        begun.wait();
        assert!(submit(&engine, &LoomTask::new(0, false)));
        let is_noted = || engine.workers().len() == 1 && engine.misses_base.load(Ordering::Relaxed);
        while !is_settled(&engine) && !is_noted() {
            thread::yield_now();
        }
        assert!(submit(&engine, &LoomTask::new(0, false)));
        settle(&engine);
        end(&engine);
    });
}

/// A worker that sleeps on with what all are to renew: the one before it ended its turn as this one
/// fell asleep, or was asked for the next renewal meanwhile.
#[test]
fn loom_each_of_two_renewals_reaches_every_worker() {
    check(|| {
        let engine = engine(true, 2);
        let renewer = {
            let engine = Arc::clone(&engine);
            spawn(move || renew(&engine))
        };
        renew(&engine);
        renewer.join().unwrap();
        settle(&engine);
        end(&engine);
    });
}

/// Renews all, and waits until that is over.
fn renew(engine: &Engine<Bare>) {
    let over = Arc::new(Event::default());
    let waiter = Arc::new(LoomTask { over: Some(Arc::clone(&over)), ..LoomTask::plain(0) });
    engine.renew_all((), Some(waiter));
    over.wait();
}

/// A renewal that no thread tells of its end: neither the worker whose resource is the last one,
/// nor the one that closes.
#[test]
fn loom_a_renewal_is_over_or_fails_with_its_runner() {
    check(|| {
        let engine = engine(true, 1);
        let waiter = LoomTask::new(0, false);
        let renewer = {
            let (engine, waiter) = (Arc::clone(&engine), Arc::clone(&waiter));
            spawn(move || engine.renew_all((), Some(waiter)))
        };
        end(&engine);
        renewer.join().unwrap();
        assert_eq!(waiter.outcomes.load(Ordering::Relaxed), 1);
    });
}
