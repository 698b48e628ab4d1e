//! A worker's badge: its name, what it is there for, and what others may know of it.

use crate::engine::clock::Tick;
use crate::engine::host::Host;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Always alive.
    Base,
    /// Hired for a while, when there is more to do than the base workers manage.
    Burst,
    /// Serves `run_task` only, and stays.
    Reserved,
    /// Serves one `run_task` call and leaves.
    Temporary,
}

impl Post {
    /// Whether it serves the main queue.
    pub fn is_main(self) -> bool {
        matches!(self, Self::Base | Self::Burst)
    }

    pub(in crate::engine) fn word(self) -> &'static str {
        match self {
            Self::Base => "worker",
            Self::Burst => "burst",
            Self::Reserved => "reserved",
            Self::Temporary => "temporary",
        }
    }
}

/// Its first resource was made.
pub(in crate::engine) const BEGUN: u8 = 1;
/// It has a resource now.
pub(in crate::engine) const EQUIPPED: u8 = 2;
/// The task it runs outlived its time limit.
const OVERDUE: u8 = 4;
/// It has no resource and is about to go: not a worker any more.
const DISMISSED: u8 = 8;
/// The one that it relieves is still there.
const RELIEF: u8 = 16;
/// Its last resource, or that of the one that it relieves, was worn before it was of any use.
const STALE: u8 = 32;

/// What others may know of a worker.
pub struct Badge<H: Host> {
    name: String,
    post: Post,
    /// What it runs, outermost first. Its own thread pushes and pops; others look.
    running: Mutex<Vec<Running<H::Task>>>,
    /// Flags above. Its own thread writes `BEGUN`, `EQUIPPED` and `STALE`. `OVERDUE` is set by the keeper under the
    /// lock of `running`; its own thread clears it, and sets `DISMISSED`, under the roster's lock. `RELIEF`
    /// is there from the beginning, and cleared by the one relieved, under that lock too.
    /// Relaxed: what must not change while somebody counts is under that lock, the rest stands for itself.
    state: AtomicU8,
    /// The host's marks of the worker's thread, and of the caller's that runs a task on the resource it lends; 0: none.
    /// The worker writes the one, the caller that holds the loan the other. Relaxed: what makes a mark worth reading is
    /// up to the host.
    worker: AtomicUsize,
    caller: AtomicUsize,
}

/// A task and when it began to run.
#[derive(Debug)]
pub struct Running<T> {
    /// A handle of the badge's own.
    pub task: T,
    /// When this attempt began.
    pub since: Tick,
}

impl<H: Host> Badge<H> {
    pub(in crate::engine) fn new(name: String, post: Post, relief: bool) -> Self {
        let state = AtomicU8::new(if relief { RELIEF } else { 0 });
        let (worker, caller) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { name, post, running: Mutex::new(Vec::new()), state, worker, caller }
    }

    /// The name of its thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is there for.
    pub fn post(&self) -> Post {
        self.post
    }

    /// Shows each task it runs, outermost first, to `look`, under a lock: `look` only copies.
    pub fn look_at_running(&self, mut look: impl FnMut(&H::Task, Tick)) {
        for running in self.running.lock().iter() {
            look(&running.task, running.since);
        }
    }

    /// Notes the host's mark of the worker's thread; 0 takes it back.
    pub fn note_worker(&self, mark: usize) {
        self.worker.store(mark, Ordering::Relaxed);
    }

    /// Notes the host's mark of the caller's thread that the worker's resource is lent to; 0 takes it back. The
    /// caller that holds the loan writes it.
    pub(in crate::engine) fn note_caller(&self, mark: usize) {
        self.caller.store(mark, Ordering::Relaxed);
    }

    /// The mark of the thread that does this worker's work at the moment.
    pub fn thread(&self) -> Option<usize> {
        [&self.caller, &self.worker]
            .map(|mark| mark.load(Ordering::Relaxed))
            .into_iter()
            .find(|mark| *mark != 0)
    }

    /// Whether what it runs is inside another task.
    pub(in crate::engine) fn runs_within(&self) -> bool {
        self.running.lock().len() > 1
    }

    pub(in crate::engine) fn push_running(&self, running: Running<H::Task>) {
        self.running.lock().push(running);
    }

    pub(in crate::engine) fn pop_running(&self) -> Option<H::Task> {
        self.running.lock().pop().map(|running| running.task)
    }

    /// Whether its first resource was made.
    pub fn has_begun(&self) -> bool {
        self.has(BEGUN)
    }

    pub(in crate::engine) fn is_equipped(&self) -> bool {
        self.has(EQUIPPED)
    }

    pub(in crate::engine) fn is_overdue(&self) -> bool {
        self.has(OVERDUE)
    }

    pub(in crate::engine) fn is_dismissed(&self) -> bool {
        self.has(DISMISSED)
    }

    pub(in crate::engine) fn is_relief(&self) -> bool {
        self.has(RELIEF)
    }

    pub(in crate::engine) fn take_over(&self) {
        self.unset(RELIEF);
    }

    pub(in crate::engine) fn set_dismissed(&self) {
        self.set(DISMISSED);
    }

    pub(in crate::engine) fn clear_overdue(&self) {
        self.unset(OVERDUE);
    }

    /// Notes whether its new resource is worn already; tells whether the one before was so too.
    pub(in crate::engine) fn note_stale(&self, stale: bool) -> bool {
        if stale {
            return !self.set(STALE);
        }
        self.unset(STALE);
        false
    }

    /// A worker that relieves another goes on from what that one found of its resources.
    pub(in crate::engine) fn inherit(&self, old: &Self) {
        if old.has(STALE) {
            self.set(STALE);
        }
    }

    /// Marks it overdue if it runs a task that `is` the one; true if it was not marked before.
    pub(in crate::engine) fn mark_overdue(&self, is: impl Fn(&H::Task) -> bool) -> bool {
        let running = self.running.lock();
        running.iter().any(|r| is(&r.task)) && self.set(OVERDUE)
    }

    fn has(&self, flag: u8) -> bool {
        self.state.load(Ordering::Relaxed) & flag != 0
    }

    pub(in crate::engine) fn set(&self, flag: u8) -> bool {
        self.state.fetch_or(flag, Ordering::Relaxed) & flag == 0
    }

    pub(in crate::engine) fn unset(&self, flag: u8) -> bool {
        self.state.fetch_and(!flag, Ordering::Relaxed) & flag != 0
    }
}

impl<H: Host> std::fmt::Debug for Badge<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Badge")
            .field("name", &self.name)
            .field("post", &self.post)
            .finish_non_exhaustive()
    }
}
