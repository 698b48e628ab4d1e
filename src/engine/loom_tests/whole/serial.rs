//! The races of tasks that run in order by key: one at a time, none twice, none left behind.

use super::*;
use crate::engine::EngineMetrics;
use crate::engine::queue::serial_lines::{Added, SerialLines};
use crate::engine::task::key::LineNumber;
use crate::engine::task::{SERIAL, Taken};

/// The place of a task among those of its key.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) key: KeyNumber,
    number: u32,
    line: Arc<TurnsTaken>,
}

/// How the tasks of a key have run.
#[derive(Debug, Default)]
struct TurnsTaken {
    inside: AtomicBool,
    /// One more than the number of the last one that began.
    next: AtomicU32,
}

/// A turn that a task has.
pub(super) struct OwnTurn<'t>(&'t Turn);

impl Turn {
    pub(super) fn begin(&self) -> OwnTurn<'_> {
        assert!(!self.line.inside.swap(true, Ordering::Relaxed), "two run at a time");
        let before = self.line.next.swap(self.number + 1, Ordering::Relaxed);
        assert!(before <= self.number + 1, "a later one ran before");
        OwnTurn(self)
    }
}

impl Drop for OwnTurn<'_> {
    fn drop(&mut self) {
        self.0.line.inside.store(false, Ordering::Relaxed);
    }
}

const KEY: KeyNumber = KeyNumber::of_index(1);

/// An engine in which a task with a key has begun before: loom does not see that the table of homes
/// is made once.
fn engine(worker_count: usize) -> Arc<Engine<Bare>> {
    let engine = Engine::new(Bare::new(|| ()), settings(true, worker_count));
    engine.main.key_homes.begin(KEY, 0);
    engine.main.key_homes.stop_coming(0);
    engine.start_workers(()).unwrap();
    engine
}

/// Tasks of one key, whose line is held. The first one has a bad resource at first, if it is `bad`.
fn jobs<const N: usize>(engine: &Engine<Bare>, bad: bool) -> (LineNumber, [Arc<LoomTask>; N]) {
    let line = engine.serial_lines().open(7);
    let (key, taken) = (KEY.in_line(line), Arc::new(TurnsTaken::default()));
    let mut number = 0;
    let jobs = [(); N].map(|()| {
        let turn = Turn { key, number, line: Arc::clone(&taken) };
        let bad = AtomicBool::new(bad && number == 0);
        number += 1;
        let over = Some(Arc::default());
        Arc::new(LoomTask { turn: Some(turn), bad, over, ..LoomTask::plain(SERIAL) })
    });
    (line, jobs)
}

fn cancel(engine: &Engine<Bare>, job: &Arc<LoomTask>) -> bool {
    let cancelled = job.word.cancel(|_| true).is_some();
    if cancelled {
        engine.count_settled((), job, Taken::Fresh, false);
    }
    cancelled
}

/// Nothing is left of the runner, nor of the line.
fn check_ended(engine: &Engine<Bare>, line: LineNumber) {
    assert!(engine.wait_ended(Duration::MAX));
    assert!(!engine.serial_lines().hold(line), "the key is remembered");
    assert_eq!(engine.serial_lines().outside(), 0);
}

fn check(preemptions: usize, run: fn()) {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(run);
}

/// A task that comes as the one before it ends, and for which nobody looks.
#[test]
fn loom_a_task_that_comes_as_the_one_before_it_ends_runs() {
    check(2, || {
        let engine = engine(1);
        let (line, jobs) = jobs::<2>(&engine, false);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        assert!(engine.serial_lines().let_go(line).is_none() || jobs[1].word.is_done());
        for job in &jobs {
            job.over.as_ref().unwrap().wait();
        }
        engine.kill(());
        check_ended(&engine, line);
    });
}

/// Two workers, one of which ends a task as the other looks for one.
#[test]
fn loom_a_stop_leaves_nothing_of_a_line_behind() {
    check(1, || {
        let engine = engine(2);
        let (line, jobs) = jobs::<2>(&engine, false);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        engine.serial_lines().let_go(line);
        engine.begin_stop();
        check_ended(&engine, line);
        assert_eq!(engine.metrics()[EventKind::Completed], 2);
    });
}

/// A retry, with which its line waits.
#[test]
fn loom_a_stop_leaves_nothing_behind_a_retry() {
    check(1, || {
        let engine = engine(1);
        let (line, jobs) = jobs::<2>(&engine, true);
        // It has its turn until it is over.
        jobs[0].turn.as_ref().unwrap().line.inside.store(false, Ordering::Relaxed);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        engine.serial_lines().let_go(line);
        engine.begin_stop();
        check_ended(&engine, line);
        assert_eq!(jobs[0].starts.load(Ordering::Relaxed), 2);
        assert_eq!(engine.metrics()[EventKind::Completed], 2);
    });
}

/// A kill that finds a task neither behind another nor in a lane.
#[test]
fn loom_a_kill_leaves_nothing_of_a_line_behind() {
    check(2, || {
        let engine = engine(1);
        let (line, jobs) = jobs::<2>(&engine, false);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        engine.serial_lines().let_go(line);
        engine.kill(());
        check_ended(&engine, line);
        for job in &jobs {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        }
    });
}

/// A head or a follower that is cancelled as its line moves on, while the runner stops: the last one
/// must not be left without a worker.
#[test]
fn loom_what_is_cancelled_in_a_stopping_runner_holds_up_nothing() {
    for cancelled in [0, 1] {
        let scenario = move || {
            let engine = engine(1);
            let (line, jobs) = jobs::<2>(&engine, false);
            assert!(jobs.iter().all(|job| submit(&engine, job)));
            engine.serial_lines().let_go(line);
            let stopper = {
                let engine = Arc::clone(&engine);
                spawn(move || engine.begin_stop())
            };
            let was_cancelled = cancel(&engine, &jobs[cancelled]);
            stopper.join().unwrap();
            check_ended(&engine, line);
            let metrics = engine.metrics();
            assert_eq!(metrics[EventKind::Completed], 2 - u64::from(was_cancelled));
        };
        let mut model = model::Builder::new();
        model.preemption_bound = Some(1);
        model.max_branches = 20_000;
        model.check(scenario);
    }
}

/// A head that is cancelled in a closed queue, whose worker leaves once nothing is left: not while the next
/// one is in its line no more, and not yet in its lane.
#[test]
fn loom_the_next_of_a_cancelled_head_keeps_the_worker() {
    check(2, || {
        let engine = engine(1);
        let (line, jobs) = jobs::<2>(&engine, false);
        assert!(jobs.iter().all(|job| submit(&engine, job)));
        engine.serial_lines().let_go(line);
        engine.begin_stop();
        let cancelled = cancel(&engine, &jobs[0]);
        check_ended(&engine, line);
        assert_eq!(engine.metrics()[EventKind::Completed], 2 - u64::from(cancelled));
    });
}

/// Submits a task of a line while another thread does what ends the runner. What was accepted has one
/// outcome, and what was not has none. Gives the figures of the runner that has ended.
fn submit_beside(ends: fn(&Engine<Bare>)) -> EngineMetrics {
    let engine = engine(1);
    let (line, jobs) = jobs::<2>(&engine, false);
    assert!(submit(&engine, &jobs[0]));
    let submitter = {
        let (engine, job) = (Arc::clone(&engine), Arc::clone(&jobs[1]));
        spawn(move || {
            let accepted = submit(&engine, &job);
            engine.serial_lines().let_go(line);
            accepted
        })
    };
    ends(&engine);
    let accepted = [true, submitter.join().unwrap()];
    check_ended(&engine, line);
    for (job, accepted) in jobs.iter().zip(accepted) {
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
    }
    let metrics = engine.metrics();
    assert_eq!(metrics[EventKind::Arrived], 1 + u64::from(accepted[1]));
    metrics
}

/// A follower that comes as the runner stops: its worker has left, or its line is not found empty.
#[test]
fn loom_a_follower_is_served_or_refused_by_a_stop() {
    check(1, || {
        let metrics = submit_beside(Engine::begin_stop);
        assert_eq!(metrics[EventKind::Completed], metrics[EventKind::Arrived]);
    });
}

/// A follower that comes as the runner is killed, after the lines were looked at.
#[test]
fn loom_a_follower_is_settled_or_refused_by_a_kill() {
    check(1, || {
        let metrics = submit_beside(|engine| engine.kill(()));
        let [completed, dropped] = [EventKind::Completed, EventKind::Dropped].map(|it| metrics[it]);
        assert_eq!(completed + dropped, metrics[EventKind::Arrived]);
    });
}

/// A line that ends as a submitter is about to add to it: that holds it, or makes another.
#[test]
fn loom_a_line_that_is_held_does_not_end() {
    model(|| {
        let lines = Arc::new(SerialLines::new());
        let number = lines.open(7);
        let tasks = [(); 2].map(|()| Arc::new(TaskWord::new(Priority::Normal, SERIAL)));
        let add = |number, task| lines.add(number, task, 0, |word| &**word, Arc::clone);
        assert!(matches!(add(number, Arc::clone(&tasks[0])), Added::Head(_)));
        assert!(lines.let_go(number).is_none());
        assert!(tasks[0].claim_fresh());
        lines.begin(number, &tasks[0]);
        let worker = {
            let (lines, word) = (Arc::clone(&lines), Arc::clone(&tasks[0]));
            spawn(move || {
                let left = lines.leave(number, &word, |word| &**word, Arc::clone).unwrap();
                (left.next.is_some(), left.ended.is_some())
            })
        };
        let held = lines.hold(number);
        let in_line = if held { number } else { lines.open(7) };
        let added = add(in_line, Arc::clone(&tasks[1]));
        assert!(lines.let_go(in_line).is_none(), "it has a task");
        let (has_next, has_ended) = worker.join().unwrap();
        assert_eq!(has_ended, !held);
        // Either gives it its entry, and one of them alone.
        match added {
            Added::Head(_) => assert!(!has_next),
            Added::Follower(_) => assert!(has_next && held),
            Added::Gone(_) => panic!("it is in no line"),
        }
    });
}

/// The last task behind another one, cancelled while a worker sleeps in a closed queue.
#[test]
fn loom_the_last_that_is_cancelled_wakes_who_waits_for_it() {
    check(1, || {
        let engine = engine(2);
        let (line, jobs) = jobs::<2>(&engine, false);
        assert!(submit(&engine, &jobs[0]) && submit(&engine, &jobs[1]));
        engine.serial_lines().let_go(line);
        engine.begin_stop();
        let cancelled = cancel(&engine, &jobs[1]);
        check_ended(&engine, line);
        assert_eq!(engine.metrics()[EventKind::Completed], 2 - u64::from(cancelled));
    });
}

/// A task that is cancelled as it comes into its line: it stays there for ever, or is taken out twice.
#[test]
fn loom_a_task_that_ends_as_it_comes_is_in_no_line() {
    model(|| {
        let lines = Arc::new(SerialLines::new());
        let number = lines.open(7);
        let word = Arc::new(TaskWord::new(Priority::Normal, SERIAL));
        let canceller = {
            let (lines, word) = (Arc::clone(&lines), Arc::clone(&word));
            spawn(move || {
                assert!(word.cancel(|_| true).is_some());
                lines.leave(number, &word, |word| &**word, Arc::clone).is_some()
            })
        };
        let added = lines.add(number, Arc::clone(&word), 0, |word| &**word, Arc::clone);
        let was_in = !matches!(added, Added::Gone(_));
        assert_eq!(canceller.join().unwrap(), was_in);
        assert!(lines.let_go(number).is_some());
        assert_eq!(lines.outside(), 0);
    });
}
