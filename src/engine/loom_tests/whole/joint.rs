//! The races of joint calls: each task runs in one call and has one outcome, whoever else takes it.

use super::*;
use crate::engine::queue::accumulator::JointSettings;
use crate::engine::task::{JOINT, Taken};

const FOR_EVER: u64 = u64::MAX / 2;

/// Two tasks that may run in one call, and wait for each other for so long.
fn pair(max_wait: u64, bad: bool) -> [Arc<LoomTask>; 2] {
    let settings = JointSettings { max_size: 2, max_wait, splits: false };
    let accumulator = Arc::new(Accumulator::new(settings));
    [(); 2].map(|()| {
        let accumulator = Some(Arc::clone(&accumulator));
        let (bad, over) = (AtomicBool::new(bad), Some(Arc::default()));
        Arc::new(LoomTask { accumulator, bad, over, ..LoomTask::plain(JOINT) })
    })
}

fn check(preemptions: usize, run: fn()) {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(run);
}

/// A call that two submitters fill at once, and that neither finds full.
#[test]
fn loom_a_full_call_is_made_whoever_fills_it() {
    check(1, || {
        let engine = engine(true, 1);
        let jobs = pair(FOR_EVER, false);
        let other = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&jobs[1]));
            spawn(move || submit(&engine, &job))
        };
        assert!(submit(&engine, &jobs[0]));
        assert!(other.join().unwrap());
        for job in &jobs {
            job.over.as_ref().unwrap().wait();
            assert_eq!(job.starts.load(Ordering::Relaxed), 1);
        }
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
    });
}

/// A task that lingers as the runner stops, and has no entry when its worker leaves.
#[test]
fn loom_a_stop_leaves_nothing_lingering() {
    check(1, || {
        let engine = engine(true, 1);
        let jobs = pair(FOR_EVER, false);
        let other = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&jobs[1]));
            spawn(move || submit(&engine, &job))
        };
        engine.begin_stop();
        let accepted = other.join().unwrap();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(jobs[1].outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(engine.metrics()[EventKind::Completed], u64::from(accepted));
    });
}

/// A task that is taken along, cancelled, or abandoned by a kill, twice or never.
#[test]
fn loom_a_task_is_taken_along_or_ended_by_another() {
    check(1, || {
        let engine = engine(true, 1);
        let jobs = pair(0, false);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        let cancelled = jobs[1].word.cancel(|_| true).is_some();
        if cancelled {
            engine.count_settled((), &jobs[1], Taken::Fresh, false);
        }
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        let outcomes = jobs.each_ref().map(|job| job.outcomes.load(Ordering::Relaxed));
        assert_eq!(outcomes, [1, u32::from(!cancelled)]);
        let metrics = engine.metrics();
        let [completed, dropped] = [EventKind::Completed, EventKind::Dropped].map(|it| metrics[it]);
        assert_eq!(completed + dropped + u64::from(cancelled), 2);
        assert!(jobs[0].accumulator.as_ref().unwrap().is_empty());
    });
}

/// A call on a bad resource, whose tasks wait for another one as the runner stops.
#[test]
fn loom_a_stop_leaves_no_call_behind_that_is_made_again() {
    check(1, || {
        let engine = engine(true, 1);
        let jobs = pair(0, true);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for job in &jobs {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
            assert_eq!(job.starts.load(Ordering::Relaxed), 2);
        }
        assert!(jobs[0].accumulator.as_ref().unwrap().is_empty());
    });
}

/// A call that fails while the entry of one of its tasks stands behind another in the lane: a worker that
/// comes to that entry takes it for the retry.
#[test]
fn loom_a_call_is_made_again_on_a_good_resource_alone() {
    check(1, || {
        let engine = engine(true, 2);
        let jobs = pair(0, true);
        assert!(submit(&engine, &jobs[0]));
        assert!(submit(&engine, &LoomTask::new(0, false)));
        assert!(submit(&engine, &jobs[1]));
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for job in &jobs {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
            assert_eq!(job.starts.load(Ordering::Relaxed), 2);
        }
        assert!(jobs[0].accumulator.as_ref().unwrap().is_empty());
    });
}
