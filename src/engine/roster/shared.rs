//! The part of a worker that other threads see: its name, its kind, and what it runs.

use super::lent_task::LentTask;
use crate::engine::clock::Tick;
use crate::engine::metrics::counters::{WorkerCounter, WorkerCounters};
use crate::engine::settings::EngineSettings;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerKind {
    /// Always alive.
    Base,
    /// Started for a while, when there is more to do than the base workers manage.
    Burst,
    /// Serves `run_task` only, and stays.
    Reserved,
    /// Serves one `run_task` call and leaves.
    Temporary,
}

impl WorkerKind {
    /// Whether it serves the main queue.
    pub fn is_main(self) -> bool {
        matches!(self, Self::Base | Self::Burst)
    }

    /// The name of a worker of this kind, by how many were started before it. On demand it is
    /// formed as the standard library's executors form it.
    pub(in crate::engine) fn worker_name(self, settings: &EngineSettings, before: u64) -> String {
        let EngineSettings { name, on_demand, .. } = settings;
        let kind = match self {
            _ if *on_demand => return format!("{name}_{before}"),
            Self::Base => "worker",
            Self::Burst => "burst",
            Self::Reserved => "reserved",
            Self::Temporary => "temporary",
        };
        format!("{name}-{kind}-{}", before + 1)
    }
}

/// Its first resource was made.
pub(in crate::engine) const BEGUN: u8 = 1;
/// It has a resource now.
pub(in crate::engine) const HAS_RESOURCE: u8 = 2;
/// The task it runs outlived its time limit.
pub(in crate::engine) const OVERDUE: u8 = 4;
/// It has no resource and is about to go: not a worker any more.
pub(in crate::engine) const RETIRED: u8 = 8;
/// The worker that it succeeds is still there.
pub(in crate::engine) const SUCCESSOR: u8 = 16;
/// It is to go, as fewer workers are asked for: when it is idle, or after its task.
pub(in crate::engine) const DISMISSED: u8 = 32;
/// A base worker from now on, whatever it was started as.
pub(in crate::engine) const PROMOTED: u8 = 64;

/// The part of a worker that other threads see.
#[derive(Debug)]
pub struct WorkerShared<T> {
    /// How many were started before it.
    number: u64,
    /// The number of the first in the line of workers that it succeeds, itself if it succeeds none:
    /// by this keys know it. Written before it is started; relaxed.
    home: AtomicU64,
    name: String,
    kind: WorkerKind,
    /// What it runs, outermost first. The thread that does its work pushes and pops; other threads
    /// look.
    running: Mutex<Vec<Running<T>>>,
    /// What runs on its resource, on loan, around all of these.
    pub(in crate::engine) lent: LentTask<T>,
    /// Flags above. Its own thread writes `BEGUN` and `HAS_RESOURCE`. `OVERDUE` is set by the
    /// keeper under the lock of `running`; its own thread clears it, and sets `RETIRED`, under
    /// the roster's lock. `SUCCESSOR` is there from the beginning, and cleared by the worker
    /// that it succeeds, under that lock too, as `DISMISSED` and `PROMOTED` are set by the
    /// thread that resizes. Relaxed: what must not change while a thread counts the workers is
    /// under that lock, the rest stands for itself.
    state: AtomicU8,
    /// How many of its resources in a row, and of those of the one that it succeeds, were worn as
    /// soon as they were made. Only the thread that does its work writes it.
    worn_at_once: AtomicU32,
    /// The worker's thread, and the caller's that runs a task on the resource it lends. The worker
    /// writes the one, the caller that holds the loan the other.
    own_thread: ThreadNote,
    caller_thread: ThreadNote,
    /// How many resources it has made, and when the last one. The worker writes both; relaxed.
    resources: AtomicU64,
    made: AtomicU64,
    counters: Arc<WorkerCounters>,
}

/// The host's mark of a thread; 0: none.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadMark {
    /// What the host knows it by.
    pub handle: usize,
    /// Its number in the operating system.
    pub native_id: u64,
}

/// Where a thread is noted. Relaxed: what makes a mark worth reading is up to the host.
#[derive(Debug)]
struct ThreadNote {
    handle: AtomicUsize,
    native_id: AtomicU64,
}

impl ThreadNote {
    fn new() -> Self {
        Self { handle: AtomicUsize::new(0), native_id: AtomicU64::new(0) }
    }

    fn note(&self, mark: Option<ThreadMark>) {
        if let Some(mark) = mark {
            self.native_id.store(mark.native_id, Ordering::Relaxed);
        }
        self.handle.store(mark.map_or(0, |mark| mark.handle), Ordering::Relaxed);
    }

    fn get(&self) -> Option<ThreadMark> {
        let handle = self.handle.load(Ordering::Relaxed);
        let native_id = self.native_id.load(Ordering::Relaxed);
        (handle != 0).then_some(ThreadMark { handle, native_id })
    }
}

/// A task and when it began to run.
#[derive(Debug)]
pub struct Running<T> {
    /// A handle of the worker's own.
    pub task: T,
    /// When this attempt began.
    pub since: Tick,
}

impl<T> WorkerShared<T> {
    pub(in crate::engine) fn new(
        number: u64,
        name: String,
        kind: WorkerKind,
        successor: bool,
    ) -> Self {
        let state = AtomicU8::new(if successor { SUCCESSOR } else { 0 });
        Self {
            number,
            home: AtomicU64::new(number),
            name,
            kind,
            running: Mutex::new(Vec::new()),
            lent: LentTask::new(),
            state,
            worn_at_once: AtomicU32::new(0),
            own_thread: ThreadNote::new(),
            caller_thread: ThreadNote::new(),
            resources: AtomicU64::new(0),
            made: AtomicU64::new(0),
            counters: Arc::default(),
        }
    }

    /// What tells it from all other workers of the engine.
    pub(in crate::engine) fn number(&self) -> u64 {
        self.number
    }

    /// By which keys know it.
    pub(in crate::engine) fn home(&self) -> u64 {
        self.home.load(Ordering::Relaxed)
    }

    /// The name of its thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was started for.
    pub fn kind(&self) -> WorkerKind {
        self.kind
    }

    /// Whether it is a base worker: started as one, or a burst worker in the place of one.
    pub fn is_base(&self) -> bool {
        self.kind == WorkerKind::Base || self.has(PROMOTED)
    }

    /// Whether it leaves when it has been idle.
    pub(in crate::engine) fn is_burst(&self) -> bool {
        self.kind == WorkerKind::Burst && !self.has(PROMOTED)
    }

    /// Shows each task it runs, outermost first, to `look`, under a lock: `look` only copies.
    pub fn for_each_running(&self, mut look: impl FnMut(&T, Tick)) {
        self.lent.look(&mut look);
        for running in self.running.lock().iter() {
            look(&running.task, running.since);
        }
    }

    /// Notes the host's mark of the worker's thread, or takes it back.
    pub fn note_own_thread(&self, mark: Option<ThreadMark>) {
        self.own_thread.note(mark);
    }

    /// Notes the host's mark of the caller's thread that the worker's resource is lent to, or takes
    /// it back. The caller that holds the loan writes it.
    pub(in crate::engine) fn note_caller_thread(&self, mark: Option<ThreadMark>) {
        self.caller_thread.note(mark);
    }

    /// The mark of the thread that does this worker's work at the moment.
    pub fn thread(&self) -> Option<ThreadMark> {
        self.caller_thread.get().or_else(|| self.own_thread.get())
    }

    /// For how many nanoseconds of how many it was busy, over the last minute or its life. Of one
    /// that lends its resource [`Loans::busy`](super::loans::Loans::busy) tells it.
    pub fn busy(&self, now: Tick) -> (u64, u64) {
        let running = self.running.lock();
        let outermost = || running.first().map(|running| running.since);
        self.counters.busy().share(now, self.lent.since().or_else(outermost))
    }

    /// Its counters, for its recorder.
    pub(in crate::engine) fn counters(&self) -> &Arc<WorkerCounters> {
        &self.counters
    }

    /// What it has counted of this.
    pub fn total(&self, counter: WorkerCounter) -> u64 {
        self.counters[counter].load(Ordering::Acquire)
    }

    /// It made a resource just now; see
    /// [`Roster::note_resource`](super::Roster::note_resource).
    pub(super) fn note_resource(&self, now: Tick) {
        self.made.store(now, Ordering::Relaxed);
        self.resources.fetch_add(1, Ordering::Relaxed);
        self.set(BEGUN | HAS_RESOURCE);
    }

    /// How many resources it has made.
    pub fn resources(&self) -> u64 {
        self.resources.load(Ordering::Relaxed)
    }

    /// When the resource was made that it has now.
    pub fn resource_made(&self) -> Option<Tick> {
        self.has(HAS_RESOURCE).then(|| self.made.load(Ordering::Relaxed))
    }

    /// Whether it has no resource and is about to go.
    pub fn is_retired(&self) -> bool {
        self.has(RETIRED)
    }

    /// Whether it runs a task.
    pub(in crate::engine) fn is_running(&self) -> bool {
        self.lent.since().is_some() || !self.running.lock().is_empty()
    }

    /// Whether what it runs is inside another task.
    pub(in crate::engine) fn runs_within(&self) -> bool {
        self.running.lock().len() > usize::from(self.lent.since().is_none())
    }

    pub(in crate::engine) fn push_running(&self, running: Running<T>) {
        self.running.lock().push(running);
    }

    /// Takes the innermost off what it runs. `count` is called before any thread can look again: it
    /// counts the time that it took as busy, and nothing else.
    pub(in crate::engine) fn pop_running(&self, count: impl FnOnce()) -> Option<T> {
        let mut running = self.running.lock();
        let innermost = running.pop();
        count();
        drop(running);
        innermost.map(|running| running.task)
    }

    /// Whether its first resource was made.
    pub fn has_begun(&self) -> bool {
        self.has(BEGUN)
    }

    /// Notes whether its new resource is worn already; tells how many were in a row.
    pub(in crate::engine) fn note_worn_at_once(&self, is_worn: bool) -> u32 {
        let before = self.worn_at_once.load(Ordering::Relaxed);
        let in_a_row = if is_worn { before + 1 } else { 0 };
        self.worn_at_once.store(in_a_row, Ordering::Relaxed);
        in_a_row
    }

    /// A worker that succeeds another goes on from what that one found of its resources, and is the
    /// home of its keys.
    pub(in crate::engine) fn inherit(&self, old: &Self) {
        self.home.store(old.home(), Ordering::Relaxed);
        self.worn_at_once.store(old.worn_at_once.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Marks it overdue if it runs a task that `is` the one; true if it was not marked before.
    pub(in crate::engine) fn mark_overdue(&self, is: impl Fn(&T) -> bool) -> bool {
        let running = self.running.lock();
        running.iter().any(|r| is(&r.task)) && self.set(OVERDUE)
    }

    pub(in crate::engine) fn flags(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// Whether one of these flags is set.
    pub(in crate::engine) fn has(&self, flags: u8) -> bool {
        self.flags() & flags != 0
    }

    pub(in crate::engine) fn set(&self, flag: u8) -> bool {
        self.state.fetch_or(flag, Ordering::Relaxed) & flag == 0
    }

    pub(in crate::engine) fn unset(&self, flag: u8) -> bool {
        self.state.fetch_and(!flag, Ordering::Relaxed) & flag != 0
    }
}
