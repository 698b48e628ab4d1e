//! A host without Python, a runner around the engine, and what the tests wait with.
//!
//! A [`Task`] is a closure with a word. The [`World`] counts what is made and destroyed, and by which
//! thread; faults are what its hooks and the closures decide. Every [`Runner::finish`] checks the
//! invariants that hold of any runner at its end.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use tasker::engine::clock::{Tick, ticks};
use tasker::engine::metrics::events::EventKind;
use tasker::engine::queue::accumulator::Accumulator;
use tasker::engine::queue::lanes::Entry;
use tasker::engine::queue::permits::{Admission, Permit};
use tasker::engine::resource::backoff::Trouble;
use tasker::engine::resource::manager::ResourceManager;
use tasker::engine::roster::startup_latch::StartupStatus;
use tasker::engine::scaling::threads::{Threads, Worker};
use tasker::engine::task::deadlines::DeadlineKey;
use tasker::engine::task::item_cursor::{ItemCost, ItemCursor};
use tasker::engine::task::priority::Priority;
use tasker::engine::task::token::Token;
use tasker::engine::task::{
    BATCH, CANCEL_REQUESTED, JOINT, ONCE, Phase, RESERVED, Taken, TaskWord, WAS_PAUSED,
};
use tasker::engine::worker::attempt::{Attempts, JointRan, Ran, Verdict};
use tasker::engine::worker::chunk::Chunk;
use tasker::engine::worker::serve_loan::{CallWait, Claiming, LoanOf, LoanWaiter, Unserved};
use tasker::engine::worker::session::WorkerSession;
use tasker::engine::{AbandonReason, Engine, EngineSettings, EngineStats, Host, Mode, Notice};

/// Longer than any of these tests takes; a wait that ends by it is a hang.
pub(crate) const FOREVER: Duration = Duration::from_secs(60);

/// How an attempt of a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Value(u64),
    /// An error that leaves the resource healthy.
    Error(&'static str),
    /// An error that spoils the resource.
    Bad(&'static str),
    /// An error after which the task is to be tried again, after a pause.
    Later(&'static str, Duration),
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(u64),
    Error(&'static str),
    Refused(AbandonReason),
    TimedOut,
    Cancelled,
}

/// Where a task runs.
pub(crate) type Seat<'w> = WorkerSession<'w, World>;

/// What a task does: it sees where it runs, and itself.
pub(crate) type Work = Box<dyn Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync>;

/// One task.
pub(crate) struct Task {
    pub(crate) word: TaskWord,
    /// What it does. Whoever owns the payload takes it out.
    work: Mutex<Option<Work>>,
    /// The payload while the task is judged.
    judged: Mutex<Option<(Work, &'static str)>>,
    /// The error of the attempt before, while it waits for a retry.
    last_error: Mutex<Option<&'static str>>,
    /// What is to follow an attempt that did not spoil its resource.
    pause: Mutex<Option<Duration>>,
    paused: Mutex<Option<DeadlineKey>>,
    outcome: Mutex<Vec<Outcome>>,
    settled: Condvar,
    watch: Mutex<Option<DeadlineKey>>,
    /// The resources that it was entered with, in order.
    entered: Mutex<Vec<u64>>,
    /// What it stands for, if it is a batch: items that are tasks themselves.
    items: Option<(ItemCursor, Vec<Arc<Task>>)>,
    /// Where it waits for a joint call.
    accumulator: Option<Arc<Accumulator<Arc<Task>>>>,
}

impl Task {
    pub(crate) fn new(
        priority: Priority,
        flags: u32,
        work: impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { work: Mutex::new(Some(Box::new(work))), ..Self::bare(priority, flags) })
    }

    /// A batch of these tasks, of which nobody else has heard yet.
    pub(crate) fn batch(priority: Priority, items: Vec<Arc<Self>>, cost: ItemCost) -> Arc<Self> {
        let cursor = ItemCursor::new(items.len(), 0, Arc::new(cost));
        Arc::new(Self { items: Some((cursor, items)), ..Self::bare(priority, BATCH) })
    }

    /// A task that may run in one call with others of this accumulator. Of a call the first that ends
    /// by no value decides how all end.
    pub(crate) fn joint(
        accumulator: &Arc<Accumulator<Arc<Self>>>,
        priority: Priority,
        work: impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(Box::new(work))),
            accumulator: Some(Arc::clone(accumulator)),
            ..Self::bare(priority, JOINT)
        })
    }

    fn bare(priority: Priority, flags: u32) -> Self {
        Self {
            word: TaskWord::new(priority, flags),
            work: Mutex::default(),
            judged: Mutex::default(),
            last_error: Mutex::default(),
            pause: Mutex::default(),
            paused: Mutex::default(),
            outcome: Mutex::default(),
            settled: Condvar::new(),
            watch: Mutex::default(),
            entered: Mutex::default(),
            items: None,
            accumulator: None,
        }
    }

    /// Blocks until the task has its outcome.
    pub(crate) fn outcome(&self) -> Outcome {
        let none = |outcome: &mut Vec<Outcome>| outcome.is_empty();
        let (outcome, _) = self
            .settled
            .wait_timeout_while(lock(&self.outcome), FOREVER, none)
            .unwrap_or_else(PoisonError::into_inner);
        *outcome.first().expect("the task gets its outcome")
    }

    /// Every outcome it was ever given.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        lock(&self.outcome).clone()
    }

    /// The resources that it was entered with, one for each attempt.
    pub(crate) fn entered(&self) -> Vec<u64> {
        lock(&self.entered).clone()
    }

    pub(crate) fn attempts(&self) -> usize {
        lock(&self.entered).len()
    }

    /// Blocks until it has its outcome, then tells the resources that it was entered with.
    pub(crate) fn entered_after_outcome(&self) -> Vec<u64> {
        self.outcome();
        self.entered()
    }

    fn put(&self, outcome: Outcome) {
        lock(&self.outcome).push(outcome);
        self.settled.notify_all();
    }

    fn publish(&self, outcome: Outcome) {
        // One step for those who wait.
        let mut outcomes = lock(&self.outcome);
        outcomes.push(outcome);
        assert!(self.word.publish(|_| true).is_some(), "who publishes owns the outcome");
        drop(outcomes);
        self.settled.notify_all();
    }

    fn drop_payload(&self) {
        let work = lock(&self.work).take();
        let judged = lock(&self.judged).take();
        drop((work, judged));
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("phase", &self.word.phase())
            .field("outcomes", &self.outcomes())
            .field("entered", &self.entered())
            .finish_non_exhaustive()
    }
}

/// What a worker owns.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: u64,
}

/// The verbs of the host that a hook may look at, or hold up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Share,
    Judge,
    PrepareRetry,
    Fail,
    Refuse,
    Forget,
    Expire,
}

type Hook = Box<dyn Fn(&World, Verb, &Arc<Task>) + Send + Sync>;
type CreateHook = Box<dyn Fn(u64) -> Result<(), &'static str> + Send + Sync>;
type SpawnHook = Box<dyn Fn(&str) -> Result<(), &'static str> + Send + Sync>;
type DestroyHook = Box<dyn Fn(u64) + Send + Sync>;
type ResourceHook = Box<dyn Fn(u64) -> bool + Send + Sync>;

thread_local! {
    /// This thread has slept since it last made a resource or looked at it.
    static RESTED: Cell<bool> = const { Cell::new(false) };
    /// Whether this is the keeper's thread.
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// What is to go wrong, and what is to be looked at. By default: nothing.
pub(crate) struct Orders {
    /// Retries of a task whose resource went bad.
    pub(crate) max_retries: usize,
    /// Asked with the number of each creation, from 0.
    pub(crate) on_create: CreateHook,
    pub(crate) on_destroy: DestroyHook,
    /// Says whether a resource is still good.
    pub(crate) on_validate: ResourceHook,
    /// Says whether a resource could be tidied up.
    pub(crate) on_reset: ResourceHook,
    /// Asked with the name of each thread.
    pub(crate) on_spawn: SpawnHook,
    /// Asked on each worker's thread with its name, before it comes up.
    pub(crate) on_begin: SpawnHook,
    pub(crate) on_verb: Hook,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            max_retries: 3,
            on_create: Box::new(|_| Ok(())),
            on_destroy: Box::new(|_| ()),
            on_validate: Box::new(|_| true),
            on_reset: Box::new(|_| true),
            on_spawn: Box::new(|_| Ok(())),
            on_begin: Box::new(|_| Ok(())),
            on_verb: Box::new(|_, _, _| ()),
        }
    }
}

/// The host, and what happened in it.
pub(crate) struct World {
    engine: OnceLock<Weak<Engine<World>>>,
    orders: Orders,
    creations: AtomicU64,
    creating: AtomicUsize,
    creating_at_most: AtomicUsize,
    made: Mutex<HashMap<u64, ThreadId>>,
    destroyed: Mutex<Vec<(u64, ThreadId)>>,
    alive: AtomicUsize,
    alive_at_most: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) troubles: Mutex<Vec<Trouble>>,
    pub(crate) faults: Mutex<Vec<&'static str>>,
    /// The threads whose creations failed.
    pub(crate) failed: Mutex<HashSet<ThreadId>>,
    pub(crate) overdue_reports: AtomicU32,
    /// How many tasks each joint call had.
    pub(crate) calls: Mutex<Vec<usize>>,
    /// How often a worker fell asleep, or asked whether it may make a resource.
    pub(crate) parks: AtomicUsize,
    /// Looks at the engine, and how often the keeper went to sleep.
    pub(crate) looks: AtomicU32,
    pub(crate) keeper_rests: AtomicU32,
}

impl World {
    fn new(orders: Orders) -> Self {
        Self {
            engine: OnceLock::new(),
            orders,
            creations: AtomicU64::new(0),
            creating: AtomicUsize::new(0),
            creating_at_most: AtomicUsize::new(0),
            made: Mutex::default(),
            destroyed: Mutex::default(),
            alive: AtomicUsize::new(0),
            alive_at_most: AtomicUsize::new(0),
            threads: Mutex::default(),
            troubles: Mutex::default(),
            faults: Mutex::default(),
            failed: Mutex::default(),
            overdue_reports: AtomicU32::new(0),
            calls: Mutex::default(),
            parks: AtomicUsize::new(0),
            looks: AtomicU32::new(0),
            keeper_rests: AtomicU32::new(0),
        }
    }

    pub(crate) fn made(&self) -> usize {
        lock(&self.made).len()
    }

    pub(crate) fn destroyed(&self) -> usize {
        lock(&self.destroyed).len()
    }

    /// Creations attempted so far.
    pub(crate) fn creations(&self) -> u64 {
        self.creations.load(Ordering::SeqCst)
    }

    /// The most creations under way at one time since the last call.
    pub(crate) fn creating_at_most(&self) -> usize {
        self.creating_at_most.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn engine(&self) -> Arc<Engine<Self>> {
        self.engine.get().and_then(Weak::upgrade).expect("its runner lives")
    }

    fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), &'static str> {
        (self.orders.on_spawn)(name)?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        lock(&self.threads).push(thread.expect("a thread"));
        Ok(())
    }

    fn attempt(&self, session: &WorkerSession<'_, Self>, task: &Arc<Task>) -> Ran {
        let work = lock(&task.work).take().expect("a claimed task has its payload");
        lock(&task.entered).push(session.resource().id);
        let looked_after = session.engine.settings.policy.validate_after == Some(1);
        assert!(!looked_after || !RESTED.get(), "validated after a rest");
        match work(session, task) {
            End::Value(value) => {
                drop(work);
                if !task.word.settle_running() {
                    return Ran::Overdue;
                }
                self.stop_watching(task);
                session.count_outcome(true);
                task.publish(Outcome::Value(value));
                Ran::Completed
            }
            End::Error(text) => {
                *lock(&task.judged) = Some((work, text));
                *lock(&task.last_error) = None;
                Ran::Suspect
            }
            End::Later(text, pause) => {
                *lock(&task.judged) = Some((work, text));
                *lock(&task.last_error) = Some(text);
                *lock(&task.pause) = Some(pause);
                Ran::Suspect
            }
            End::Bad(text) => {
                *lock(&task.judged) = Some((work, text));
                *lock(&task.last_error) = Some(text);
                Ran::Suspect
            }
        }
    }

    /// Runs an item of a batch; what is not plain about it is decided as for a task.
    fn run_item(session: &WorkerSession<'_, Self>, item: &Arc<Task>) {
        assert!(item.word.claim_fresh(), "an item is claimed once");
        let work = lock(&item.work).take().expect("a claimed item has its payload");
        lock(&item.entered).push(session.resource().id);
        let text = match work(session, item) {
            End::Value(value) => {
                drop(work);
                assert!(item.word.settle_running(), "nobody else settles an item");
                session.count_item_outcome(true);
                item.publish(Outcome::Value(value));
                return;
            }
            End::Error(text) => text,
            End::Later(text, pause) => {
                *lock(&item.last_error) = Some(text);
                *lock(&item.pause) = Some(pause);
                text
            }
            End::Bad(text) => {
                *lock(&item.last_error) = Some(text);
                text
            }
        };
        *lock(&item.judged) = Some((work, text));
        session.item_failed((), Arc::clone(item));
    }

    /// Ends a task that was taken back: one that has run gets the error that it ended with.
    pub(crate) fn withdraw(&self, task: &Arc<Task>) {
        self.stop_watching(task);
        task.drop_payload();
        let error = *lock(&task.last_error);
        task.publish(error.map_or(Outcome::Cancelled, Outcome::Error));
    }

    fn stop_watching(&self, task: &Task) {
        let (watch, paused) = (lock(&task.watch).take(), lock(&task.paused).take());
        if let Some(key) = watch {
            self.engine().unwatch((), key);
        }
        if let Some(key) = paused {
            self.engine().forget_paused((), key);
        }
    }
}

impl ResourceManager for World {
    type Scope<'s> = ();
    type Resource = Resource;
    type Fault = &'static str;

    fn create(&self, (): (), _worker: &str) -> Result<Resource, &'static str> {
        let now = self.creating.fetch_add(1, Ordering::SeqCst) + 1;
        self.creating_at_most.fetch_max(now, Ordering::SeqCst);
        let id = self.creations.fetch_add(1, Ordering::SeqCst);
        let made = (self.orders.on_create)(id);
        self.creating.fetch_sub(1, Ordering::SeqCst);
        made?;
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.alive_at_most.fetch_max(alive, Ordering::SeqCst);
        lock(&self.made).insert(id, thread::current().id());
        RESTED.set(false);
        Ok(Resource { id })
    }

    fn bad_from_the_start(&self, (): ()) -> &'static str {
        "bad from the start"
    }

    fn validate(&self, (): (), _worker: &str, resource: &Resource) -> bool {
        RESTED.set(false);
        (self.orders.on_validate)(resource.id)
    }

    fn reset(&self, (): (), _worker: &str, resource: &Resource) -> bool {
        (self.orders.on_reset)(resource.id)
    }

    fn destroy(&self, (): (), _worker: &str, resource: Resource) {
        (self.orders.on_destroy)(resource.id);
        self.alive.fetch_sub(1, Ordering::SeqCst);
        lock(&self.destroyed).push((resource.id, thread::current().id()));
    }
}

impl Host for World {
    type Task = Arc<Task>;
    type Retry = ();

    fn park<R: Send>(&self, (): (), wait: impl FnOnce() -> R + Send) -> R {
        RESTED.set(true);
        self.parks.fetch_add(1, Ordering::SeqCst);
        if KEEPS.get() {
            self.keeper_rests.fetch_add(1, Ordering::SeqCst);
        }
        wait()
    }

    fn word<'t>(&self, task: &'t Arc<Task>) -> &'t TaskWord {
        &task.word
    }

    fn share(&self, (): (), task: &Arc<Task>) -> Arc<Task> {
        (self.orders.on_verb)(self, Verb::Share, task);
        Arc::clone(task)
    }

    fn discard(&self, (): (), task: Arc<Task>) {
        drop(task);
    }

    fn cursor<'t>(&self, task: &'t Arc<Task>) -> Option<&'t ItemCursor> {
        task.items.as_ref().map(|(cursor, _)| cursor)
    }

    fn accumulator<'t>(&self, task: &'t Arc<Task>) -> Option<&'t Arc<Accumulator<Arc<Task>>>> {
        task.accumulator.as_ref()
    }

    fn abandon_items(&self, (): (), task: &Arc<Task>, items: Range<usize>, why: AbandonReason) {
        let (_, all) = task.items.as_ref().expect("a batch");
        for item in &all[items] {
            assert_eq!(item.word.take_waiting(), Some(Taken::Fresh));
            item.drop_payload();
            item.publish(Outcome::Refused(why));
        }
    }

    fn abandon(&self, (): (), task: &Arc<Task>, why: AbandonReason, _: EventKind) {
        (self.orders.on_verb)(self, Verb::Refuse, task);
        task.drop_payload();
        self.stop_watching(task);
        // A task that waits for a retry has run: it gets the error that it ended with.
        let error = lock(&task.last_error).filter(|_| why == AbandonReason::Killed);
        task.publish(error.map_or(Outcome::Refused(why), Outcome::Error));
    }

    fn expire(&self, (): (), task: &Arc<Task>) {
        (self.orders.on_verb)(self, Verb::Expire, task);
        let engine = self.engine();
        let Some(taken) = engine.take_expired((), task) else {
            return;
        };
        if taken != Taken::Running {
            task.drop_payload();
        }
        task.publish(Outcome::TimedOut);
        if taken == Taken::Running {
            engine.start_substitute((), |other| Arc::ptr_eq(other, task));
        }
    }

    fn notice(&self, (): (), notice: Notice<'_, &'static str>) {
        match notice {
            Notice::Trouble(_, trouble, _) => lock(&self.troubles).push(trouble),
            Notice::FailsFast => lock(&self.faults).push("fails fast"),
            Notice::Overdue(_) => {
                self.overdue_reports.fetch_add(1, Ordering::SeqCst);
            }
            Notice::NoThread(fault) | Notice::Fault(fault) => {
                lock(&self.faults).push(fault);
                lock(&self.failed).insert(thread::current().id());
            }
        }
    }
}

impl Threads for World {
    fn spawn(&self, (): (), worker: Worker<Self>) -> Result<(), &'static str> {
        let name = worker.shared().name().to_owned();
        self.start(&name, move || {
            let begun = (worker.engine().host.orders.on_begin)(worker.shared().name());
            match begun {
                Ok(()) => worker.run(()),
                Err(fault) => worker.fail((), fault),
            }
        })
    }

    fn spawn_keeper(&self, (): (), engine: &Arc<Engine<Self>>) -> Result<(), &'static str> {
        let engine = Arc::clone(engine);
        self.start("keeper", move || {
            KEEPS.set(true);
            engine.run_keeper(());
        })
    }

    fn look(&self, (): (), engine: &Arc<Engine<Self>>) {
        assert!(std::ptr::eq(self, &raw const engine.host));
        self.looks.fetch_add(1, Ordering::SeqCst);
    }
}

impl Attempts for World {
    fn run(&self, (): (), session: &WorkerSession<'_, Self>, task: &Arc<Task>) -> Ran {
        self.attempt(session, task)
    }

    fn run_items(
        &self,
        (): (),
        session: &WorkerSession<'_, Self>,
        task: &Arc<Task>,
        chunk: &Chunk,
    ) -> u64 {
        let (cursor, items) = task.items.as_ref().expect("a batch");
        while let Some(item) = session.start_item((), task, cursor, chunk) {
            Self::run_item(session, &items[item]);
        }
        0
    }

    fn run_joint(
        &self,
        (): (),
        session: &WorkerSession<'_, Self>,
        tasks: &[Arc<Task>],
        _token: &Token,
    ) -> JointRan {
        lock(&self.calls).push(tasks.len());
        let works: Vec<_> = tasks.iter().map(|task| lock(&task.work).take()).collect();
        let mut ends = Vec::new();
        for (task, work) in tasks.iter().zip(&works) {
            lock(&task.entered).push(session.resource().id);
            ends.push(work.as_ref().expect("a claimed task has its payload")(session, task));
        }
        session.joint_call_ended();
        let failed = ends.iter().find(|end| !matches!(end, End::Value(_))).copied();
        let mut completed = 0;
        for ((task, work), end) in tasks.iter().zip(works).zip(ends) {
            let (text, is_bad, pause) = match failed.unwrap_or(end) {
                End::Value(value) => {
                    drop(work);
                    self.stop_watching(task);
                    if session.take_joint_outcome(&task.word, true) {
                        completed += 1;
                        task.publish(Outcome::Value(value));
                    }
                    continue;
                }
                End::Error(text) => (text, false, None),
                End::Bad(text) => (text, true, None),
                End::Later(text, pause) => (text, true, Some(pause)),
            };
            *lock(&task.judged) = work.map(|work| (work, text));
            *lock(&task.last_error) = is_bad.then_some(text);
            *lock(&task.pause) = pause;
        }
        if failed.is_some() {
            JointRan::Failed { is_suspect: true }
        } else {
            JointRan::Returned { completed }
        }
    }

    fn may_retry(
        &self,
        (): (),
        _session: &WorkerSession<'_, Self>,
        task: &Arc<Task>,
        pause: Option<Tick>,
    ) -> bool {
        // That of a task of which another one was asked.
        lock(&task.pause).take();
        let may_run_again = task.attempts() <= self.orders.max_retries && !task.word.has(ONCE);
        !task.word.has(CANCEL_REQUESTED) && (pause.is_some() || may_run_again)
    }

    fn judge(&self, (): (), _session: &WorkerSession<'_, Self>, task: &Arc<Task>) -> Verdict {
        (self.orders.on_verb)(self, Verb::Judge, task);
        if let Some(pause) = lock(&task.pause).take() {
            return Verdict::Later(ticks(pause));
        }
        if lock(&task.last_error).is_none() {
            return Verdict::Healthy;
        }
        Verdict::Bad { retry: true }
    }

    fn prepare_retry(&self, (): (), task: &Arc<Task>, pause: Option<DeadlineKey>) {
        *lock(&task.paused) = pause;
        (self.orders.on_verb)(self, Verb::PrepareRetry, task);
        let (work, text) = lock(&task.judged).take().expect("a judged task has its payload");
        *lock(&task.work) = Some(work);
        // Of a call that is split, too.
        lock(&task.last_error).get_or_insert(text);
    }

    fn sit_out(
        &self,
        (): (),
        _: &Arc<Task>,
        pause: Duration,
        ends: impl Fn() -> bool + Sync,
    ) -> bool {
        let begin = Instant::now();
        while !ends() && begin.elapsed() < pause {
            thread::park_timeout(Duration::from_micros(200));
        }
        true
    }

    fn fail(&self, (): (), _session: &WorkerSession<'_, Self>, task: &Arc<Task>) {
        (self.orders.on_verb)(self, Verb::Fail, task);
        // Where its payload was put back it is the error that it would have been tried again after.
        let judged = lock(&task.judged).as_ref().map(|(_, text)| *text);
        let error = judged.or(*lock(&task.last_error)).expect("a judged task has an error");
        task.drop_payload();
        self.stop_watching(task);
        task.publish(Outcome::Error(error));
    }

    fn forget(&self, (): (), task: &Arc<Task>) {
        (self.orders.on_verb)(self, Verb::Forget, task);
        task.drop_payload();
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt(f)
    }
}

/// Settings of a runner with so many base workers, and nothing out of the ordinary.
pub(crate) fn workers(count: usize) -> EngineSettings {
    EngineSettings {
        name: "test".to_owned(),
        worker_count: count,
        max_worker_count: count,
        reserve_limit: Some(count),
        keep_reserved: true,
        burst_interval: 100_000_000,
        idle_timeout: 30_000_000_000,
        ..EngineSettings::default()
    }
}

/// An engine at work, and every task that it was given.
pub(crate) struct Runner {
    pub(crate) engine: Arc<Engine<World>>,
    accepted: Mutex<Vec<Arc<Task>>>,
    refused: Mutex<Vec<Arc<Task>>>,
    /// So many resources there may ever be at once.
    most: AtomicUsize,
}

impl Runner {
    /// Starts a runner and waits for its resources.
    pub(crate) fn new(settings: EngineSettings, orders: Orders) -> Self {
        let runner = Self::launch(settings, orders).expect("threads start");
        assert_eq!(runner.engine.startup.wait(FOREVER), StartupStatus::Ready);
        runner
    }

    /// Starts a runner; its first resources are being made when this returns.
    pub(crate) fn launch(
        settings: EngineSettings,
        orders: Orders,
    ) -> Result<Self, (Self, &'static str)> {
        let engine = Engine::new(World::new(orders), settings);
        let engine_of = Arc::downgrade(&engine);
        engine.host.engine.set(engine_of).expect("set once");
        let runner = Self {
            engine,
            accepted: Mutex::default(),
            refused: Mutex::default(),
            most: AtomicUsize::new(0),
        };
        runner.note_most();
        match runner.engine.start_workers(()) {
            Ok(()) => Ok(runner),
            Err(fault) => Err((runner, fault)),
        }
    }

    /// Changes how many workers are asked for.
    pub(crate) fn resize(&self, workers: Option<usize>, max: Option<usize>) {
        self.engine.resize((), workers, max).expect("the maximum is large enough");
        self.note_most();
    }

    fn note_most(&self) {
        let (limits, reserve) = (self.engine.limits(), self.engine.settings.reserve_limit);
        let most = limits.max() + reserve.unwrap_or_else(|| limits.workers());
        self.most.fetch_max(most, Ordering::SeqCst);
    }

    pub(crate) fn world(&self) -> &World {
        &self.engine.host
    }

    pub(crate) fn stats(&self) -> EngineStats {
        self.engine.stats()
    }

    /// Hands a task in. False: refused.
    fn hand_in(&self, task: &Arc<Task>, permit: Permit<'_>) -> bool {
        let (engine, since, mine) = (&self.engine, self.engine.clock.now(), Arc::clone(task));
        self.accept(task, engine.submit((), &task.word, mine, since, permit).is_ok())
    }

    fn accept(&self, task: &Arc<Task>, accepted: bool) -> bool {
        if accepted {
            lock(&self.accepted).push(Arc::clone(task));
        } else {
            lock(&self.refused).push(Arc::clone(task));
            self.engine.count(EventKind::Refused, 1);
        }
        accepted
    }

    /// Submits a task, waiting for room. False: refused.
    pub(crate) fn submit_task(&self, task: &Arc<Task>) -> bool {
        let Some(permits) = self.engine.permits() else {
            return self.hand_in(task, Permit::unbounded(1));
        };
        let permit = permits.take_or_queue(task.word.priority(), 0).or_else(|waiter| {
            while waiter.admission() == Admission::Blocked {
                thread::park_timeout(FOREVER);
            }
            permits.leave(waiter)
        });
        match permit {
            Ok(permit) => self.hand_in(task, permit),
            Err(_) => self.accept(task, false),
        }
    }

    /// Submits a task unless the queue is full. False: full, or refused.
    pub(crate) fn try_submit_task(&self, task: &Arc<Task>) -> bool {
        self.engine.try_permits(1).is_some_and(|permit| self.hand_in(task, permit))
    }

    /// Submits tasks as one batch, which is not refused. The queue has no bound.
    pub(crate) fn submit_batch(&self, priority: Priority, items: &[Arc<Task>]) -> Arc<Task> {
        self.submit_batch_at(priority, items, 0)
    }

    /// The same, of items that took so long lately.
    pub(crate) fn submit_batch_at(
        &self,
        priority: Priority,
        items: &[Arc<Task>],
        span: Tick,
    ) -> Arc<Task> {
        let cost = ItemCost::new();
        cost.raise(span);
        let batch = Task::batch(priority, items.to_vec(), cost);
        let (mine, since) = (Arc::clone(&batch), self.engine.clock.now());
        assert!(
            self.engine
                .submit((), &batch.word, mine, since, Permit::unbounded(items.len()))
                .is_ok(),
            "accepted"
        );
        lock(&self.accepted).extend(items.iter().cloned());
        batch
    }

    /// Cancels the items of a batch that nobody has started; tells how many.
    pub(crate) fn cancel_items(&self, batch: &Arc<Task>) -> usize {
        let (_, items) = batch.items.as_ref().expect("a batch");
        let claimed = self.engine.cancel_items((), batch);
        for item in &items[claimed.clone()] {
            assert!(item.word.cancel(|_| true).is_some());
            item.drop_payload();
            item.put(Outcome::Cancelled);
        }
        claimed.len()
    }

    /// Submits a closure, which is not refused.
    pub(crate) fn submit(
        &self,
        priority: Priority,
        work: impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + 'static,
    ) -> Arc<Task> {
        let task = Task::new(priority, 0, work);
        assert!(self.submit_task(&task), "accepted");
        task
    }

    /// Occupies one worker until the latch opens; returns when it is occupied.
    pub(crate) fn occupy(&self, until: &Arc<Latch>) -> Arc<Task> {
        let (inside, until) = (Latch::new(), Arc::clone(until));
        let entered = Arc::clone(&inside);
        let task = self.submit(Priority::High, move |_, _| {
            entered.open();
            until.wait();
            End::Value(0)
        });
        inside.wait();
        task
    }

    /// Runs a task past the queue, on a resource for that. False: refused.
    pub(crate) fn run_task(&self, task: &Arc<Task>) -> bool {
        assert!(task.word.has(RESERVED));
        let (engine, since) = (&self.engine, self.engine.clock.now());
        if engine.settings.thread_bound {
            return self.hand_in(task, Permit::unbounded(1)) && {
                task.outcome();
                true
            };
        }
        let loan = engine.accept_on_loan(since);
        let claim = if loan.is_some() { Claiming::Unshared } else { Claiming::Shared };
        let mut waiter = None;
        if loan.is_none() {
            waiter = engine.accept_loan_waiter();
        }
        if !self.accept(task, loan.is_some() || waiter.is_some()) {
            return false;
        }
        let enrol = || engine.loans.add_waiting_call(Arc::clone(task), since);
        let key = loan.is_none().then(enrol);
        self.serve_call(task, since, claim, loan, waiter);
        drop(key.and_then(|key| engine.loans.remove_waiting_call(key)));
        true
    }

    /// Runs an accepted task on one loan after the other until it has its outcome.
    fn serve_call<'e>(
        &'e self,
        task: &Arc<Task>,
        since: Tick,
        mut claim: Claiming,
        mut loan: Option<LoanOf<World>>,
        mut waiter: Option<LoanWaiter<'e, World>>,
    ) {
        let engine = &self.engine;
        let mut mine = Entry::fresh(Arc::clone(task), since);
        while let Some(found) = loan.take().or_else(|| self.find_loan(&mine)) {
            drop(waiter.take());
            let Some(Unserved { entry: again, wait, .. }) =
                engine.serve_on_loan((), found, mine, claim)
            else {
                return;
            };
            let seeks = match wait {
                CallWait::Loan(seeks) => seeks,
                CallWait::Pause(until) => {
                    let ends = || engine.is_closing() || engine.clock.now() >= until;
                    self.world().sit_out((), &again.task, FOREVER, ends);
                    let Some(seeks) = engine.end_call_pause(&again.task.word) else {
                        return;
                    };
                    seeks
                }
            };
            (mine, waiter, claim) = (again, Some(seeks), Claiming::Shared);
        }
        engine.abandon_loan_call((), mine.task);
    }

    /// Waits for a loan; `None` when none will come.
    fn find_loan(&self, entry: &Entry<Arc<Task>>) -> Option<LoanOf<World>> {
        let engine = &self.engine;
        loop {
            if let Some(loan) = engine.try_take_loan(entry) {
                return Some(loan);
            }
            if !engine.may_lend() || entry.task.word.is_done() {
                return None;
            }
            if engine.fails_fast() {
                engine.fail_waiting(());
            }
            engine.start_reserved_for((), entry);
            if let Some(loan) = engine.take_loan(entry, Duration::from_millis(10)) {
                return Some(loan);
            }
        }
    }

    /// Cancels a task if it was never started.
    pub(crate) fn cancel(&self, task: &Arc<Task>) -> bool {
        let cancelled = task.word.cancel(|_| true).is_some();
        if cancelled {
            self.engine.count_settled((), task, Taken::Fresh, false);
            task.drop_payload();
            self.world().stop_watching(task);
            task.put(Outcome::Cancelled);
        }
        cancelled
    }

    /// Ends a task that waits for a retry, with its last error. False: it does not wait for one.
    pub(crate) fn call_off(&self, task: &Arc<Task>) -> bool {
        let Some(taken) = task.word.call_off() else {
            return false;
        };
        self.engine.count_settled((), task, taken, false);
        task.drop_payload();
        self.world().stop_watching(task);
        let error = lock(&task.last_error).take().expect("it failed");
        task.publish(Outcome::Error(error));
        true
    }

    /// Tells a task to give up, wherever it is.
    pub(crate) fn request_cancel(&self, task: &Arc<Task>) {
        task.word.set(CANCEL_REQUESTED);
        let _ = self.cancel(task) || self.call_off(task);
    }

    /// Gives a task a time limit, from now on.
    pub(crate) fn limit(&self, task: &Arc<Task>, limit: Duration) {
        let due = self.engine.clock.now() + ticks(limit);
        self.engine.need_keeper(()).expect("a keeper");
        let key = self.engine.watch_deadline(due, Arc::clone(task));
        let mut watch = lock(&task.watch);
        // It may have ended meanwhile, and found nothing to give up.
        if task.word.is_done() {
            drop(watch);
            self.engine.unwatch((), key);
        } else {
            *watch = Some(key);
        }
    }

    /// Stops the runner, and returns when it has ended.
    pub(crate) fn stop(&self) {
        self.engine.begin_stop();
        assert!(self.engine.wait_ended(FOREVER), "stop returns: {:?}", self.engine);
    }

    /// Kills the runner, and returns when it has ended.
    pub(crate) fn kill(&self) {
        self.engine.kill(());
        assert!(self.engine.wait_ended(FOREVER), "kill returns: {:?}", self.engine);
    }

    /// Stops the runner if nobody has, and checks what is true of every runner that has ended.
    pub(crate) fn finish(&self) {
        self.stop();
        assert_eq!(self.engine.mode(), Mode::Stopped);
        assert_eq!(self.stats(), EngineStats::default(), "every gauge is zero");
        self.check_tasks();
        let metrics = self.engine.metrics();
        let ended = metrics[EventKind::Completed]
            + metrics[EventKind::Failed]
            + metrics[EventKind::Cancelled]
            + metrics[EventKind::Dropped]
            + metrics[EventKind::TimedOut];
        assert_eq!(
            metrics[EventKind::Arrived],
            ended,
            "accepted tasks are accounted for: {metrics:?}"
        );
        let (world, limit) = (self.world(), self.most.load(Ordering::SeqCst));
        assert!(world.alive_at_most.load(Ordering::SeqCst) <= limit, "too many resources");
        for thread in std::mem::take(&mut *lock(&world.threads)) {
            thread.join().expect("no thread of the runner panicked");
        }
        world.check_resources();
    }

    /// Every accepted task has exactly one outcome, and lets go of its payload; a refused one has none.
    fn check_tasks(&self) {
        for task in lock(&self.accepted).iter() {
            assert_eq!(task.outcomes().len(), 1, "{task:?}");
            assert!(task.word.is_done(), "{task:?}");
            assert!(lock(&task.work).is_none() && lock(&task.judged).is_none(), "{task:?}");
            if task.outcomes() == [Outcome::Cancelled] {
                assert_eq!(task.word.phase(), Phase::Cancelled);
                assert_eq!(task.attempts(), 0, "{task:?}");
            }
            let most = if task.word.has(ONCE) { 1 } else { 1 + self.world().orders.max_retries };
            assert!(task.attempts() <= most, "{task:?}");
            let may_be_split = task.accumulator.as_ref().is_some_and(|it| it.settings().splits);
            if !task.word.has(WAS_PAUSED) && !may_be_split {
                let resources: HashSet<_> = task.entered().into_iter().collect();
                assert_eq!(resources.len(), task.attempts(), "again on a bad resource: {task:?}");
            }
        }
        for task in lock(&self.refused).iter() {
            assert!(task.outcomes().is_empty() && task.attempts() == 0, "{task:?}");
        }
    }
}

impl World {
    /// Every resource was destroyed once, by the thread that made it.
    fn check_resources(&self) {
        let mut made = lock(&self.made);
        for (id, thread) in lock(&self.destroyed).iter() {
            assert_eq!(made.remove(id), Some(*thread), "resource {id}");
        }
        assert!(made.is_empty(), "never destroyed: {made:?}");
    }
}

/// Closed until the test opens it.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }

    pub(crate) fn wait(&self) {
        let shut = |open: &mut bool| !*open;
        let (open, _) = self
            .opened
            .wait_timeout_while(lock(&self.open), FOREVER, shut)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*open, "the test opens the latch");
    }
}

/// Blocks until `true_now`.
pub(crate) fn eventually(what: &str, true_now: impl Fn() -> bool) {
    let begin = Instant::now();
    while !true_now() {
        assert!(begin.elapsed() < FOREVER, "never came true: {what}");
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// The lock of a mutex that a panicking test may have poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
