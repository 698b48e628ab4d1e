//! The races of whole engines: what is reported to be over is over, and nothing accepted is left
//! behind.

mod at_once;
mod failing_fast;
mod joint;
mod pausing;
#[path = "../../../tests/rust/support/plain_host.rs"]
mod plain_host;
mod resizing;
mod serial;

use self::plain_host::{PlainHost, PlainTask};
use crate::engine::clock::Tick;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::accumulator::Accumulator;
use crate::engine::queue::lanes::Entry;
use crate::engine::queue::permits::Permit;
use crate::engine::resource::epochs::INITIAL_EPOCH;
use crate::engine::task::key::KeyNumber;
use crate::engine::task::priority::Priority;
use crate::engine::task::{RESERVED, TaskWord};
use crate::engine::worker::attempt::Verdict;
use crate::engine::worker::serve_loan::{CallWait, Claiming, LoanOf, LoanWaiter, Unserved};
use crate::engine::worker::session::WorkerSession;
use crate::engine::{self, Engine, EngineSettings, Mode};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, Condvar, Mutex, model};
use std::collections::VecDeque;
use std::time::Duration;

/// A task that counts its outcomes, and has a bad resource the first time if it is `bad`.
#[derive(Debug)]
struct LoomTask {
    word: TaskWord,
    bad: AtomicBool,
    /// It fails on a good resource, and is to be tried again later.
    pauses: bool,
    /// Where it waits for another task to be, if it is to meet one.
    meeting: Option<Arc<(Mutex<u32>, Condvar)>>,
    starts: AtomicU32,
    outcomes: AtomicU32,
    /// That it failed, and that it has an outcome, if a test waits for that.
    failed: Option<Arc<Event>>,
    over: Option<Arc<Event>>,
    /// Where it waits for others to run in one call with it.
    accumulator: Option<Arc<Accumulator<Arc<LoomTask>>>>,
    /// Its turn, if it runs in order.
    turn: Option<serial::Turn>,
}

/// Something that happens once.
#[derive(Debug, Default)]
struct Event {
    happened: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn happen(&self) {
        *self.happened.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let not_yet = |happened: &mut bool| !*happened;
        drop(self.changed.wait_while(self.happened.lock(), Duration::MAX, not_yet));
    }
}

impl LoomTask {
    fn new(flags: u32, bad: bool) -> Arc<Self> {
        Arc::new(Self { bad: AtomicBool::new(bad), ..Self::plain(flags) })
    }

    /// Two tasks, each of which waits for the other to run as well.
    fn pair() -> [Arc<Self>; 2] {
        let meeting = Arc::new((Mutex::new(0), Condvar::new()));
        let meeting = || Some(Arc::clone(&meeting));
        [(); 2].map(|()| Arc::new(Self { meeting: meeting(), ..Self::plain(0) }))
    }

    fn plain(flags: u32) -> Self {
        Self {
            word: TaskWord::new(Priority::Normal, flags),
            bad: AtomicBool::new(false),
            pauses: false,
            meeting: None,
            starts: AtomicU32::new(0),
            outcomes: AtomicU32::new(0),
            failed: None,
            over: None,
            accumulator: None,
            turn: None,
        }
    }

    fn meet(&self) {
        if let Some((here, came)) = self.meeting.as_deref() {
            let mut here = here.lock();
            *here += 1;
            came.notify_all();
            drop(came.wait_while(here, Duration::MAX, |here| *here < 2));
        }
    }
}

impl PlainTask for LoomTask {
    fn word(&self) -> &TaskWord {
        &self.word
    }

    fn work(&self, session: &WorkerSession<'_, Bare>) -> bool {
        if self.starts.fetch_add(1, Ordering::Relaxed) > 0 && !self.pauses {
            assert!(
                session.usage().known_good_since() > INITIAL_EPOCH,
                "tried again on a resource that is not proven"
            );
        }
        let turn = self.turn.as_ref().map(serial::Turn::begin);
        if self.bad.swap(false, Ordering::Relaxed) {
            if let Some(failed) = &self.failed {
                failed.happen();
            }
            return false;
        }
        self.meet();
        drop(turn);
        true
    }

    fn verdict(&self) -> Verdict {
        if self.pauses { Verdict::Later(Tick::MAX) } else { Verdict::Bad { retry: true } }
    }

    fn publish(&self) {
        self.outcomes.fetch_add(1, Ordering::Relaxed);
        self.word.publish(|_| true).unwrap();
        if let Some(over) = &self.over {
            over.happen();
        }
    }

    fn key(&self) -> KeyNumber {
        self.turn.as_ref().map_or(KeyNumber::NONE, |turn| turn.key)
    }

    fn accumulator(&self) -> Option<&Arc<Accumulator<Arc<Self>>>> {
        self.accumulator.as_ref()
    }
}

type Bare = PlainHost<LoomTask>;

fn engine(keep_reserved: bool, worker_count: usize) -> Arc<Engine<Bare>> {
    start(settings(keep_reserved, worker_count))
}

fn settings(keep_reserved: bool, worker_count: usize) -> EngineSettings {
    EngineSettings {
        worker_count,
        max_worker_count: worker_count,
        reserve_limit: Some(1),
        keep_reserved,
        ..EngineSettings::default()
    }
}

fn start(settings: EngineSettings) -> Arc<Engine<Bare>> {
    start_with(Bare::new(|| ()), settings)
}

fn start_with(host: Bare, settings: EngineSettings) -> Arc<Engine<Bare>> {
    let engine = Engine::new(host, settings);
    engine.start_workers(()).unwrap();
    engine
}

fn submit(engine: &Arc<Engine<Bare>>, job: &Arc<LoomTask>) -> bool {
    engine.submit((), &job.word, Arc::clone(job), 0, Permit::unbounded(1)).is_ok()
}

/// A retry that comes into the lanes after a kill has refused what waits, or an end that is
/// reported before it is one.
#[test]
fn loom_a_kill_leaves_no_task_behind() {
    model(|| {
        let engine = engine(true, 1);
        let job = LoomTask::new(0, true);
        assert!(submit(&engine, &job));
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(engine.mode(), Mode::Stopped);
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
    });
}

/// A task taken back and run, or neither, whenever it comes: while its worker takes it, before a
/// kill, or after.
#[test]
fn loom_what_is_taken_back_has_one_outcome() {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = engine(true, 1);
        let jobs = [LoomTask::new(0, false), LoomTask::new(0, false)];
        assert!(submit(&engine, &jobs[0]));
        let submitter = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&jobs[1]));
            spawn(move || submit(&engine, &job))
        };
        let mut taken_back = 0;
        engine.cancel_queued((), |job, _| {
            taken_back += 1;
            job.publish();
        });
        engine.kill(());
        let accepted = [true, submitter.join().unwrap()];
        assert!(engine.wait_ended(Duration::MAX));
        for (job, accepted) in jobs.iter().zip(accepted) {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        }
        let metrics = engine.metrics();
        assert!(metrics[EventKind::Dropped] >= taken_back);
        assert_eq!(
            metrics[EventKind::Arrived],
            metrics[EventKind::Completed] + metrics[EventKind::Dropped]
        );
    });
}

/// A call that waits for a loan, taken back and run, or neither.
#[test]
fn loom_a_call_that_is_taken_back_has_one_outcome() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = start(lending(1));
        let job = LoomTask::new(RESERVED, false);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || run_on_loan(&engine, &job, look_again))
        };
        engine.cancel_queued((), |job, _| job.publish());
        engine.kill(());
        let accepted = caller.join().unwrap();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        let metrics = engine.metrics();
        assert_eq!(
            metrics[EventKind::Arrived],
            metrics[EventKind::Completed] + metrics[EventKind::Dropped]
        );
    });
}

/// A retry that waits in a stopping runner while its worker renews and another goes to sleep, or
/// leaves.
#[test]
fn loom_a_stop_leaves_no_retry_behind() {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(1);
    // One run has a little more than loom's 1,000.
    model.max_branches = 20_000;
    model.check(|| {
        let engine = engine(true, 2);
        let job = LoomTask::new(0, true);
        assert!(submit(&engine, &job));
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        assert_eq!(engine.metrics()[EventKind::Completed], 1);
    });
}

/// A worker that leaves as a task comes for it, or one that is started when the runner has ended.
#[test]
fn loom_a_stop_leaves_no_reserved_task_behind() {
    let mut model = model::Builder::new();
    // Not more: loom lets two threads that wait at the gate take turns without end.
    model.preemption_bound = Some(2);
    model.check(|| {
        let engine = engine(false, 0);
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                [(); 2].map(|()| {
                    let job = LoomTask::new(RESERVED, false);
                    (submit(&engine, &job), job)
                })
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for (accepted, job) in submitter.join().unwrap() {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        }
        assert!(engine.workers().is_empty());
    });
}

/// An engine with workers that lend, so many from the start.
fn lending(reserve: usize) -> EngineSettings {
    EngineSettings {
        thread_bound: false,
        reserve_limit: Some(reserve),
        reserve_at_start: reserve,
        ..settings(true, 0)
    }
}

type Find = fn(&Arc<Engine<Bare>>, &Entry<Arc<LoomTask>>) -> Option<LoanOf<Bare>>;

/// Waits for a loan without a limit: the thread that gives one back notifies this call.
fn wait_for_loan(engine: &Arc<Engine<Bare>>, entry: &Entry<Arc<LoomTask>>) -> Option<LoanOf<Bare>> {
    loop {
        engine.start_reserved_for((), entry);
        // Another caller may be quicker.
        let found = engine.take_loan(entry, Duration::MAX);
        if found.is_some() {
            return found;
        }
    }
}

/// Looks for a loan again and again: a kill does not notify the calls that wait for one, so none
/// waits for long without a look.
fn look_again(engine: &Arc<Engine<Bare>>, entry: &Entry<Arc<LoomTask>>) -> Option<LoanOf<Bare>> {
    while engine.may_lend() {
        engine.start_reserved_for((), entry);
        let found = engine.try_take_loan(entry);
        if found.is_some() {
            return found;
        }
        thread::yield_now();
    }
    None
}

/// Runs a job in this thread as `run_task` does where resources are lent. Whether it was accepted.
fn run_on_loan(engine: &Arc<Engine<Bare>>, job: &Arc<LoomTask>, find: Find) -> bool {
    let (loan, mut waiter) = (engine.accept_on_loan(0), None);
    if loan.is_some() {
        return serve_on_loan(engine, job, find, loan, waiter);
    }
    waiter = engine.accept_loan_waiter();
    if waiter.is_none() {
        return false;
    }
    let key = engine.loans.add_waiting_call(Arc::clone(job), 0);
    serve_on_loan(engine, job, find, loan, waiter);
    drop(engine.loans.remove_waiting_call(key));
    true
}

fn serve_on_loan<'e>(
    engine: &'e Arc<Engine<Bare>>,
    job: &Arc<LoomTask>,
    find: Find,
    mut loan: Option<LoanOf<Bare>>,
    mut waiter: Option<LoanWaiter<'e, Bare>>,
) -> bool {
    let mut claim = if loan.is_some() { Claiming::Unshared } else { Claiming::Shared };
    let mut entry = Entry::fresh(Arc::clone(job), 0);
    loop {
        let Some(found) = loan.take().or_else(|| find(engine, &entry)) else {
            engine.abandon_loan_call((), entry.task);
            return true;
        };
        drop(waiter.take());
        let Some(Unserved { entry: again, wait: CallWait::Loan(seeks), .. }) =
            engine.serve_on_loan((), found, entry, claim)
        else {
            return true;
        };
        (entry, waiter, claim) = (again, Some(seeks), Claiming::Shared);
    }
}

/// A call that takes the idle loan as the runner closes, or wants another while its worker leaves.
#[test]
fn loom_a_stop_and_a_call_on_a_loan_agree() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let engine = start(lending(1));
        let caller = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                let job = LoomTask::new(RESERVED, true);
                (run_on_loan(&engine, &job, wait_for_loan), job)
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        let completed = engine.metrics()[EventKind::Completed];
        let (accepted, job) = caller.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(completed, u64::from(accepted));
        assert!(engine.workers().is_empty());
        assert_eq!(engine.stats().queued, 0);
    });
}

/// A submitter that takes a worker for idle which has just taken a task, while this worker sees
/// nothing more wait.
#[test]
fn loom_tasks_on_demand_that_wait_for_each_other_get_a_worker_each() {
    let mut model = model::Builder::new();
    // One preemption finds the loss; two take a minute.
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = start(EngineSettings { on_demand: true, ..settings(true, 2) });
        let jobs = LoomTask::pair();
        for job in &jobs {
            assert!(submit(&engine, job));
        }
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for job in jobs {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        }
    });
}

/// A task that is accepted on demand when the runner has no worker yet and ends.
#[test]
fn loom_a_stop_leaves_no_task_on_demand_behind() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let engine = start(EngineSettings { on_demand: true, ..settings(true, 1) });
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                let job = LoomTask::new(0, false);
                (submit(&engine, &job), job)
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        let (accepted, job) = submitter.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert!(engine.workers().is_empty());
    });
}

/// A call that takes the idle loan as the runner is killed: accepted after that, started after
/// that, or running and not seen by the kill. Or a loan that lies idle for ever, as it came back
/// after all were called back.
#[test]
fn loom_a_kill_and_a_call_on_a_loan_agree() {
    model(|| {
        let engine = start(lending(1));
        let job = LoomTask::new(RESERVED, false);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || {
                let late = engine.is_killed();
                let Some(loan) = engine.accept_on_loan(0) else {
                    return false;
                };
                assert!(!late, "accepted after the kill");
                let late = engine.is_killed();
                let entry = Entry::fresh(Arc::clone(&job), 0);
                assert!(engine.serve_on_loan((), loan, entry, Claiming::Unshared).is_none());
                assert!(!late || job.starts.load(Ordering::Relaxed) == 0, "started after the kill");
                true
            })
        };
        engine.kill(());
        let mut seen = false;
        for worker in engine.workers() {
            worker.for_each_running(|_, _| seen = true);
        }
        seen |= job.outcomes.load(Ordering::Relaxed) > 0;
        assert!(engine.wait_ended(Duration::MAX));
        let accepted = caller.join().unwrap();
        let started = job.starts.load(Ordering::Relaxed);
        assert!(started == 0 || seen, "it ran, and a kill that looks at what runs missed it");
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(engine.metrics()[EventKind::Completed], u64::from(started));
        assert_eq!(engine.loans.idle(), 0);
        assert!(engine.workers().is_empty());
    });
}

/// A call that wants another loan as the runner is killed, and waits for it in vain, or is left
/// without an outcome.
#[test]
fn loom_a_kill_leaves_no_call_behind_that_waits_for_a_loan() {
    model(|| {
        let engine = start(lending(1));
        let job = LoomTask::new(RESERVED, true);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || run_on_loan(&engine, &job, look_again))
        };
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        let accepted = caller.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(engine.loans.idle(), 0);
        assert!(engine.workers().is_empty());
    });
}

/// Two calls that wait for a loan, one of them for a retry, to which not every loan will do. A loan
/// comes that does not suit the retry, and the other call is not notified, or the retry takes it.
/// What suits the retry is made only when the other call is over.
#[test]
fn loom_a_loan_that_does_not_suit_one_call_reaches_the_other() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(1);
    model.max_branches = 20_000;
    model.check(|| {
        let [begun, failed, over] = [(); 3].map(|()| Arc::new(Event::default()));
        begun.happen();
        let job = || LoomTask::plain(RESERVED);
        let retrying = Arc::new(LoomTask {
            bad: AtomicBool::new(true),
            failed: Some(Arc::clone(&failed)),
            ..job()
        });
        let easy = Arc::new(LoomTask { over: Some(Arc::clone(&over)), ..job() });
        let delays = Mutex::new(VecDeque::from([begun, Arc::clone(&failed), over]));
        let host = Bare::new(move || {
            let delay = delays.lock().pop_front();
            if let Some(delay) = delay {
                delay.wait();
            }
        });
        let engine = start_with(host, lending(2));
        let caller = {
            let (engine, easy) = (Arc::clone(&engine), Arc::clone(&easy));
            spawn(move || {
                failed.wait();
                run_on_loan(&engine, &easy, wait_for_loan)
            })
        };
        assert!(run_on_loan(&engine, &retrying, wait_for_loan));
        assert!(caller.join().unwrap());
        for job in [retrying, easy] {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        }
        assert_eq!(engine.metrics()[EventKind::Completed], 2);
        assert!(!engine.loans.has_waiters());
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
    });
}
