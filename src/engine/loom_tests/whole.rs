//! The races of whole engines: what is told to be over is over, and nothing accepted is left behind.

use super::super::{Engine, Host, Mode, Ran, Refusal, Settings, Verdict};
use crate::engine::clock::Tick;
use crate::engine::queue::lanes::{Class, Entry};
use crate::engine::resource::backoff::Trouble;
use crate::engine::resource::care::Policy;
use crate::engine::resource::proof::LONG_AGO;
use crate::engine::task::{EXPRESS, TaskWord};
use crate::engine::worker::Life;
use crate::engine::worker::badge::Badge;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::loans::{Claiming, Loan, Seeker};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, Condvar, Mutex, model};
use std::collections::VecDeque;
use std::time::Duration;

/// A task that counts its outcomes, and spoils its resource the first time if it is `bad`.
#[derive(Debug)]
struct Job {
    word: TaskWord,
    bad: AtomicBool,
    /// Where it waits for another task to be, if it is to meet one.
    meeting: Option<Arc<(Mutex<u32>, Condvar)>>,
    starts: AtomicU32,
    outcomes: AtomicU32,
    /// That it failed, and that it has an outcome, if somebody waits for that.
    failed: Option<Arc<Event>>,
    over: Option<Arc<Event>>,
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

impl Job {
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
            word: TaskWord::new(Class::Normal, flags),
            bad: AtomicBool::new(false),
            meeting: None,
            starts: AtomicU32::new(0),
            outcomes: AtomicU32::new(0),
            failed: None,
            over: None,
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

    fn publish(&self) {
        self.outcomes.fetch_add(1, Ordering::Relaxed);
        self.word.publish(|_| true).unwrap();
        if let Some(over) = &self.over {
            over.happen();
        }
    }
}

/// A host of nothing but threads.
#[derive(Default)]
struct Bare {
    /// What the first resources wait for before they are made.
    delays: Option<Mutex<VecDeque<Arc<Event>>>>,
}

impl Host for Bare {
    type Scope<'s> = ();
    type Task = Arc<Job>;
    type Resource = ();
    type Fault = ();

    fn park<R: Send>(&self, (): (), wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn spawn(&self, (): (), life: Life<Self>) -> Result<(), ()> {
        drop(spawn(move || life.live(())));
        Ok(())
    }

    fn create(&self, (): (), _: &Badge<Self>) -> Result<(), ()> {
        let delay = self.delays.as_ref().and_then(|delays| delays.lock().pop_front());
        if let Some(delay) = delay {
            delay.wait();
        }
        Ok(())
    }

    fn destroy(&self, (): (), _: &Badge<Self>, (): ()) {}

    fn word<'t>(&self, task: &'t Arc<Job>) -> &'t TaskWord {
        &task.word
    }

    fn share(&self, (): (), task: &Arc<Job>) -> Arc<Job> {
        Arc::clone(task)
    }

    fn run(&self, (): (), desk: &Desk<'_, Self>, task: &Arc<Job>) -> Ran {
        if task.starts.fetch_add(1, Ordering::Relaxed) > 0 {
            assert!(desk.care.proven() > LONG_AGO, "tried again on a resource that is not proven");
        }
        if task.bad.swap(false, Ordering::Relaxed) {
            if let Some(failed) = &task.failed {
                failed.happen();
            }
            return Ran::Doubtful;
        }
        task.meet();
        if !task.word.settle_running() {
            return Ran::Late;
        }
        desk.delivered(true);
        task.publish();
        Ran::Completed
    }

    fn judge(&self, (): (), _: &Desk<'_, Self>, _: &Arc<Job>) -> Verdict {
        Verdict::Spoiled { retry: true }
    }

    fn prepare_retry(&self, (): (), _: &Arc<Job>) {}

    fn fail(&self, (): (), _: &Desk<'_, Self>, task: &Arc<Job>) {
        task.publish();
    }

    fn refuse(&self, (): (), task: &Arc<Job>, _: Refusal) {
        task.publish();
    }

    fn forget(&self, (): (), _: &Arc<Job>) {}

    fn expire(&self, (): (), _: &Arc<Job>) {}

    fn discard(&self, (): (), task: Arc<Job>) {
        drop(task);
    }

    fn report_trouble(&self, (): (), _: &Badge<Self>, _: Trouble, _: Option<&()>) {}

    fn report_overdue(&self, (): (), _: &Badge<Self>) {}

    fn keep_fault(&self, (): (), (): ()) {}

    fn spawn_keeper(&self, (): (), _: &Arc<Engine<Self>>) -> Result<(), ()> {
        Ok(())
    }
}

fn engine(keep_reserved: bool, worker_count: usize) -> Arc<Engine<Bare>> {
    start(settings(keep_reserved, worker_count))
}

fn settings(keep_reserved: bool, worker_count: usize) -> Settings {
    Settings {
        name: String::new(),
        worker_count,
        on_demand: false,
        max_worker_count: worker_count,
        reserve_limit: 1,
        reserve_at_start: 0,
        keep_reserved,
        thread_bound: true,
        max_queue_size: None,
        care: Policy::default(),
        burst_interval: 100_000_000,
        idle_timeout: 30_000_000_000,
        hold: Tick::MAX,
    }
}

fn start(settings: Settings) -> Arc<Engine<Bare>> {
    start_with(Bare::default(), settings)
}

fn start_with(host: Bare, settings: Settings) -> Arc<Engine<Bare>> {
    let engine = Engine::new(host, settings);
    engine.launch_workers(()).unwrap();
    engine
}

/// A retry that comes into the lanes after the sweep of a kill, or an end that is told before it is one.
#[test]
fn loom_a_kill_leaves_no_task_behind() {
    model(|| {
        let engine = engine(true, 1);
        let job = Job::new(0, true);
        engine.submit(Class::Normal, Arc::clone(&job), 0).unwrap();
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(engine.mode(), Mode::Stopped);
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
    });
}

/// A task taken back and run, or neither, whenever it comes: while its worker takes it, before a kill, or after.
#[test]
fn loom_what_is_taken_back_has_one_outcome() {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = engine(true, 1);
        let jobs = [Job::new(0, false), Job::new(0, false)];
        engine.submit(Class::Normal, Arc::clone(&jobs[0]), 0).unwrap();
        let submitter = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&jobs[1]));
            spawn(move || engine.submit(Class::Normal, job, 0).is_ok())
        };
        let mut taken_back = 0;
        engine.withdraw_waiting((), |job, _| {
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
        assert!(metrics.dropped >= taken_back);
        assert_eq!(metrics.arrived, metrics.completed + metrics.dropped);
    });
}

/// A call that seeks a loan, taken back and run, or neither.
#[test]
fn loom_a_call_that_is_taken_back_has_one_outcome() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = start(lending(1));
        let job = Job::new(EXPRESS, false);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || run_on_loan(&engine, &job, look_again))
        };
        engine.withdraw_waiting((), |job, _| job.publish());
        engine.kill(());
        let accepted = caller.join().unwrap();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        let metrics = engine.metrics();
        assert_eq!(metrics.arrived, metrics.completed + metrics.dropped);
    });
}

/// A retry that waits in a stopping runner while its worker renews and another goes to sleep, or leaves.
#[test]
fn loom_a_stop_leaves_no_retry_behind() {
    let mut model = model::Builder::new();
    // Not more: three threads of whole engines have too many interleavings.
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = engine(true, 2);
        let job = Job::new(0, true);
        engine.submit(Class::Normal, Arc::clone(&job), 0).unwrap();
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        assert_eq!(engine.metrics().completed, 1);
    });
}

/// A worker that leaves as a task comes for it, or one that is hired when the runner has ended.
#[test]
fn loom_a_stop_leaves_no_express_task_behind() {
    let mut model = model::Builder::new();
    // Not more: loom lets two threads that wait at the gate take turns without end.
    model.preemption_bound = Some(2);
    model.check(|| {
        let engine = engine(false, 0);
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                [(); 2].map(|()| {
                    let job = Job::new(EXPRESS, false);
                    (engine.submit_express((), Arc::clone(&job), 0).is_ok(), job)
                })
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for (accepted, job) in submitter.join().unwrap() {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        }
        assert!(engine.members().is_empty());
    });
}

/// An engine whose workers lend, so many from the start.
fn lending(reserve: usize) -> Settings {
    Settings {
        thread_bound: false,
        reserve_limit: reserve,
        reserve_at_start: reserve,
        ..settings(true, 0)
    }
}

type Find = fn(&Arc<Engine<Bare>>, &Entry<Arc<Job>>) -> Option<Box<Loan<Bare>>>;

/// Waits for a loan, for as long as nobody tells of one.
fn wait_for_loan(engine: &Arc<Engine<Bare>>, entry: &Entry<Arc<Job>>) -> Option<Box<Loan<Bare>>> {
    loop {
        engine.staff_for((), entry);
        // Somebody may be quicker.
        let found = engine.loans.take(engine, entry, Duration::MAX);
        if found.is_some() {
            return found;
        }
    }
}

/// Looks for a loan again and again: nobody tells of a kill, so no call waits for long without a look.
fn look_again(engine: &Arc<Engine<Bare>>, entry: &Entry<Arc<Job>>) -> Option<Box<Loan<Bare>>> {
    while engine.may_lend() {
        engine.staff_for((), entry);
        let found = engine.loans.try_take(engine, entry);
        if found.is_some() {
            return found;
        }
        thread::yield_now();
    }
    None
}

/// Runs a job in this thread as `run_task` does where resources are lent. Whether it was accepted.
fn run_on_loan(engine: &Arc<Engine<Bare>>, job: &Arc<Job>, find: Find) -> bool {
    let (loan, mut seeker) = (engine.accept_on_loan(0), None);
    if loan.is_some() {
        return serve_on_loan(engine, job, find, loan, seeker);
    }
    seeker = engine.accept_seeker();
    if seeker.is_none() {
        return false;
    }
    let key = engine.loans.enrol(Arc::clone(job), 0);
    serve_on_loan(engine, job, find, loan, seeker);
    drop(engine.loans.strike(key));
    true
}

fn serve_on_loan<'e>(
    engine: &'e Arc<Engine<Bare>>,
    job: &Arc<Job>,
    find: Find,
    mut loan: Option<Box<Loan<Bare>>>,
    mut seeker: Option<Seeker<'e, Bare>>,
) -> bool {
    let mut claim = if loan.is_some() { Claiming::Unshared } else { Claiming::Shared };
    let mut entry = Entry::fresh(Arc::clone(job), 0);
    loop {
        let Some(found) = loan.take().or_else(|| find(engine, &entry)) else {
            engine.decline((), entry.task);
            return true;
        };
        drop(seeker.take());
        let Some((again, seeks)) = found.serve(engine, (), entry, claim) else {
            return true;
        };
        (entry, seeker, claim) = (again, Some(seeks), Claiming::Shared);
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
                let job = Job::new(EXPRESS, true);
                (run_on_loan(&engine, &job, wait_for_loan), job)
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        let completed = engine.metrics().completed;
        let (accepted, job) = caller.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(completed, u64::from(accepted));
        assert!(engine.members().is_empty());
        assert_eq!(engine.stats().queued, 0);
    });
}

/// A submitter that takes a worker for idle which has just taken a task, while that one sees nothing more wait.
#[test]
fn loom_tasks_on_demand_that_wait_for_each_other_get_a_worker_each() {
    let mut model = model::Builder::new();
    // One finds the loss; two take a minute.
    model.preemption_bound = Some(1);
    model.check(|| {
        let engine = start(Settings { on_demand: true, ..settings(true, 2) });
        let jobs = Job::pair();
        for job in &jobs {
            engine.submit_on_demand((), &job.word, Arc::clone(job), 0).unwrap();
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
        let engine = start(Settings { on_demand: true, ..settings(true, 1) });
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                let job = Job::new(0, false);
                (engine.submit_on_demand((), &job.word, Arc::clone(&job), 0).is_ok(), job)
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        let (accepted, job) = submitter.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert!(engine.members().is_empty());
    });
}

/// A call that takes the idle loan as the runner is killed: accepted after that, started after that, or running and
/// seen by nobody; or a loan that lies idle for ever, as it came back after all were called home.
#[test]
fn loom_a_kill_and_a_call_on_a_loan_agree() {
    model(|| {
        let engine = start(lending(1));
        let job = Job::new(EXPRESS, false);
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
                assert!(loan.serve(&engine, (), entry, Claiming::Unshared).is_none());
                assert!(!late || job.starts.load(Ordering::Relaxed) == 0, "started after the kill");
                true
            })
        };
        engine.kill(());
        let mut seen = false;
        for badge in engine.members() {
            badge.look_at_running(|_, _| seen = true);
        }
        seen |= job.outcomes.load(Ordering::Relaxed) > 0;
        assert!(engine.wait_ended(Duration::MAX));
        let accepted = caller.join().unwrap();
        let started = job.starts.load(Ordering::Relaxed);
        assert!(started == 0 || seen, "it ran, and a kill that looks at what runs missed it");
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(engine.metrics().completed, u64::from(started));
        assert_eq!(engine.loans.idle(), 0);
        assert!(engine.members().is_empty());
    });
}

/// A call that wants another loan as the runner is killed, and waits for it in vain, or is left without an outcome.
#[test]
fn loom_a_kill_leaves_no_call_behind_that_seeks_a_loan() {
    model(|| {
        let engine = start(lending(1));
        let job = Job::new(EXPRESS, true);
        let caller = {
            let (engine, job) = (Arc::clone(&engine), Arc::clone(&job));
            spawn(move || run_on_loan(&engine, &job, look_again))
        };
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        let accepted = caller.join().unwrap();
        assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        assert_eq!(engine.loans.idle(), 0);
        assert!(engine.members().is_empty());
    });
}

/// Two calls that seek a loan, one of them for a retry, to which not every loan will do: one that does not suit it comes
/// and the other is not told, or the retry takes it. What suits the retry is made only when the other call is over.
#[test]
fn loom_a_loan_that_does_not_suit_one_call_reaches_the_other() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(1);
    model.max_branches = 20_000;
    model.check(|| {
        let [begun, failed, over] = [(); 3].map(|()| Arc::new(Event::default()));
        begun.happen();
        let job = || Job::plain(EXPRESS);
        let choosy = Arc::new(Job {
            bad: AtomicBool::new(true),
            failed: Some(Arc::clone(&failed)),
            ..job()
        });
        let easy = Arc::new(Job { over: Some(Arc::clone(&over)), ..job() });
        let delays = Some(Mutex::new(VecDeque::from([begun, Arc::clone(&failed), over])));
        let engine = start_with(Bare { delays }, lending(2));
        let caller = {
            let (engine, easy) = (Arc::clone(&engine), Arc::clone(&easy));
            spawn(move || {
                failed.wait();
                run_on_loan(&engine, &easy, wait_for_loan)
            })
        };
        assert!(run_on_loan(&engine, &choosy, wait_for_loan));
        assert!(caller.join().unwrap());
        for job in [choosy, easy] {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
        }
        assert_eq!(engine.metrics().completed, 2);
        assert!(!engine.loans.is_sought());
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
    });
}
