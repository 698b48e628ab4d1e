//! The engine: its parts, its mode, and how tasks go to their queues.
//!
//! The mode only ever moves on: running, then stopping or killed, then ended. See `DESIGN.md` for
//! which thread changes which counter, and for the rules of the shutdown.

use super::clock::{Clock, Tick};
use super::host::Host;
use super::metrics::LoadTotals;
use super::metrics::events::{EventKind, SharedCounters};
use super::metrics::ledger::Ledger;
use super::metrics::looks::Looks;
use super::metrics::window::Window;
use super::queue::Queue;
use super::queue::accumulator::{Accumulator, Member};
use super::queue::serial_lines::Departure;
use super::resource::backoff::Backoff;
use super::resource::epochs::{Eligibility, FailureEpoch, FailureEpochs};
use super::roster::Roster;
use super::roster::generations::Generations;
use super::roster::limits::Limits;
use super::roster::loans::Loans;
use super::roster::renewal_turn::RenewalTurn;
use super::roster::shared::{DISMISSED, WorkerKind, WorkerShared};
use super::roster::startup_latch::StartupLatch;
use super::settings::EngineSettings;
use super::task::deadlines::Deadlines;
use super::task::item_cursor::Batches;
use super::task::joint_calls::JointCalls;
use super::task::priority::Priority;
use super::task::token::Token;
use super::task::{ACCUMULATED, RESERVED, Taken, TaskWord};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use crate::sync::{Arc, CachePadded, Mutex};

pub(super) const STOPPING: u8 = 1;
pub(super) const KILLED: u8 = 2;
pub(super) const BROKEN: u8 = 4;
pub(super) const ENDED: u8 = 8;
pub(super) const LEFT_BY_FORK: u8 = 16;

/// Where a runner is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Accepts tasks.
    Running,
    /// Refuses new tasks, finishes the accepted ones.
    Stopping,
    /// Refuses new tasks and settles the accepted ones without running them.
    Killed,
    /// Nothing of it is left.
    Stopped,
}

/// How long a retry waits for a resource known to be good before any will do.
enum RetryHold {
    /// For so long since it came.
    For(Tick),
    /// Until then, whenever it came.
    Until(Tick),
}

/// See the module's documentation.
pub struct Engine<H: Host> {
    /// The world around the engine; see [`Host`].
    pub host: H,
    /// What it was built with.
    pub settings: EngineSettings,
    /// The runner's time.
    pub clock: Clock,
    /// What the thread that starts the runner waits for: the first resources.
    pub startup: StartupLatch<H::Fault>,
    /// Idle resources that callers of `run_task` borrow, when these are not bound to their
    /// threads.
    pub loans: Loans<H::Task, H::Resource>,
    pub(super) main: Queue<H::Task>,
    /// The batches of the main queue.
    pub(super) batches: Batches<H::Task>,
    pub(super) joint_calls: JointCalls<H::Task>,
    pub(super) reserved: Queue<H::Task>,
    pub(super) roster: Roster<H::Task>,
    pub(super) generations: Generations<H::Task>,
    pub(super) backoff: Backoff,
    pub(super) failure_epochs: FailureEpochs,
    pub(super) deadlines: Deadlines<H::Task>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) window: Window,
    /// Tasks that the full queue refused, in the place of arrivals.
    pub(super) refusals: Window,
    pub(super) looks: Looks,
    /// The flags above, each set once and never cleared. `SeqCst`: a worker claims and then looks
    /// here, a kill writes here and then sweeps; at least one of the two must see the other.
    pub(super) mode: CachePadded<AtomicU8>,
    /// Whether base workers may be missing that a submitter is to start: on demand, or since one
    /// got no thread. Set at the start, and by the thread that finds that there is no thread, once
    /// the slot is given back; cleared under the roster's lock by the one that sees none missing,
    /// so that no loss is overlooked. Relaxed: it only spares submitters and workers the look at
    /// the roster.
    pub(super) misses_base: AtomicBool,
    /// Workers that are started on demand and have a task: reserved and temporary ones from its
    /// claim to its outcome, base ones, while some are still to be started, until they look for
    /// the next. Each worker counts itself; `SeqCst`, like the lanes that are read with it.
    pub(super) busy_on_demand: AtomicUsize,
    pub(super) shared_counters: SharedCounters,
    pub(super) renewal_turn: RenewalTurn<H::Task>,
    /// Whether the keeper is to think about burst workers soon. Set by submitters, cleared by the
    /// keeper.
    pub(super) scaling: AtomicBool,
    /// Tasks fail at once, as no worker has a resource and none can be made. `SeqCst`, as is said in
    /// `scaling/failing_fast.rs`.
    pub(super) failing_fast: AtomicBool,
    /// What the scaler saw when it looked last. Only the keeper locks it.
    pub(super) load_totals: Mutex<LoadTotals>,
}

impl<H: Host> Engine<H> {
    /// What its workers count.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// An engine without workers; [`start_workers`](Self::start_workers) brings them.
    pub fn new(host: H, settings: EngineSettings) -> Arc<Self> {
        let clock = Clock::new();
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &settings.name);
        Arc::new(Self {
            startup: StartupLatch::new(settings.base_at_start() + settings.reserve_at_start),
            loans: Loans::new(),
            main: Queue::new(settings.max_queue_size, settings.retry_hold),
            batches: Batches::new(),
            joint_calls: JointCalls::new(),
            reserved: Queue::new(None, settings.retry_hold),
            roster: Roster::new(&settings),
            generations: Generations::new(),
            backoff: Backoff::new(seed),
            failure_epochs: FailureEpochs::new(),
            deadlines: Deadlines::new(),
            ledger: Arc::new(Ledger::default()),
            window: Window::new(clock.now()),
            refusals: Window::new(clock.now()),
            looks: Looks::new(settings.look_interval),
            mode: CachePadded::new(AtomicU8::new(0)),
            misses_base: AtomicBool::new(settings.on_demand),
            busy_on_demand: AtomicUsize::new(0),
            shared_counters: SharedCounters::default(),
            renewal_turn: RenewalTurn::new(),
            scaling: AtomicBool::new(false),
            failing_fast: AtomicBool::new(false),
            load_totals: Mutex::new(LoadTotals::default()),
            host,
            settings,
            clock,
        })
    }

    /// The queue that a worker serves.
    pub(super) fn queue_for(&self, kind: WorkerKind) -> &Queue<H::Task> {
        if kind.is_main() { &self.main } else { &self.reserved }
    }

    /// Which queue a task belongs to.
    pub(super) fn queue_of(&self, word: &TaskWord) -> &Queue<H::Task> {
        if word.has(RESERVED) { &self.reserved } else { &self.main }
    }

    // ---- retries
    // ---------------------------------------------------------------------------------

    /// Which retries a worker or a loan may take, if its resource is `known_good_since` up to this
    /// failure; see [`epochs`](super::resource::epochs).
    pub(super) fn eligibility(&self, known_good_since: FailureEpoch) -> Eligibility {
        if self.is_killed() {
            // Any retry, for the worker to turn away.
            return Eligibility::ANY;
        }
        Eligibility { known_good_since, held_since: self.held_since() }
    }

    /// Any worker may take a retry that waits since then or longer.
    fn held_since(&self) -> Option<Tick> {
        let now = self.clock.now();
        match self.retry_hold() {
            RetryHold::For(time) => now.checked_sub(time),
            RetryHold::Until(end) => (end <= now).then_some(now),
        }
    }

    /// For how long retries are held. While no resource can be made, the idle ones are hardly better, and
    /// retries are held for as long as it takes; but where tasks are to fail fast, no longer than until
    /// these would fail if no worker had a resource. In a closing runner no worker tries again.
    fn retry_hold(&self) -> RetryHold {
        let failing_since = self.backoff.failing_since().filter(|_| !self.is_closing());
        let Some(since) = failing_since else {
            return RetryHold::For(self.settings.retry_hold);
        };
        let limit = self.settings.fail_fast_after;
        RetryHold::Until(limit.map_or(Tick::MAX, |limit| since.saturating_add(limit)))
    }

    /// How long a worker sleeps at most while retries wait that it may not take.
    pub(super) fn retry_hold_left(&self, queue: &Queue<H::Task>) -> Option<Tick> {
        let oldest = queue.lanes.oldest_retry()?;
        let end = match self.retry_hold() {
            RetryHold::For(time) => oldest.saturating_add(time),
            RetryHold::Until(end) => end,
        };
        // Creation may work again before that.
        Some(end.saturating_sub(self.clock.now()).min(self.settings.retry_hold))
    }

    // ---- tasks that leave without a worker ------------------------------------------------------

    /// Counts a task that waited and is settled. `departure`: from its line, which it has left.
    pub(super) fn leave_tombstone(
        &self,
        scope: H::Scope<'_>,
        word: &TaskWord,
        first: bool,
        departure: Option<Departure>,
    ) {
        let queue = self.queue_of(word);
        queue.count_withdrawn(word, first);
        if Departure::was_outside(departure, word) {
            return;
        }
        self.compact_if_due(scope, queue);
        if !first {
            // Retries are few, and this one would wait for a resource that it does not need any
            // more.
            let lane = departure.and_then(|departure| departure.lane).unwrap_or(word.priority());
            let dead = queue.compact_retries(lane, |task, _| self.host.word(task).is_waiting());
            self.discard_tombstones(scope, queue, dead);
        }
    }

    pub(super) fn discard_tombstones(
        &self,
        scope: H::Scope<'_>,
        queue: &Queue<H::Task>,
        dead: Vec<H::Task>,
    ) {
        queue.uncount_tombstones(dead.len() as u64);
        for task in dead {
            self.host.discard(scope, task);
        }
    }

    /// Counts a tombstone, and clears the lanes of them when there are many.
    pub(super) fn compact_if_due(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        if queue.count_tombstones(1) {
            self.compact_tombstones(scope, queue);
        }
    }

    /// Clears the lanes of tombstones.
    pub(super) fn compact_tombstones(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        let dead = Self::compact(queue, |task, _| !self.host.word(task).is_done());
        self.discard_tombstones(scope, queue, dead);
    }

    /// Takes the entries out of the main queue that tasks which run have left there, before one of these
    /// waits for a retry: a worker that comes to its old entry would take that for it, whether its
    /// resource is known to be good or not.
    pub(super) fn drop_stale_entries(&self, scope: H::Scope<'_>) {
        let waits = |task: &H::Task, _| self.host.word(task).is_waiting();
        let mut stale = Self::compact(&self.main, waits);
        for priority in Priority::ALL {
            stale.extend(self.main.compact_retries(priority, waits));
        }
        self.discard_tombstones(scope, &self.main, stale);
    }

    /// Takes what `live` rejects, which it calls under a lock, out of all priorities, the highest
    /// first. Retries stay.
    pub(super) fn compact(
        queue: &Queue<H::Task>,
        live: impl Fn(&H::Task, Tick) -> bool,
    ) -> Vec<H::Task> {
        let compact = |priority| queue.lanes.compact(priority, &live);
        let dead = Priority::ALL.into_iter().rev().flat_map(compact).collect();
        queue.wake_after_compaction();
        dead
    }

    /// Counts a task that the caller, and no worker, has settled, and gives what it counts as. If it
    /// waited, its entry stays in the lane as a tombstone.
    pub fn count_settled(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        taken: Taken,
        completed: bool,
    ) -> EventKind {
        let event = match taken {
            Taken::Fresh => EventKind::Cancelled,
            _ if completed => EventKind::Completed,
            _ => EventKind::Failed,
        };
        self.count(event, 1);
        self.count_left(scope, task, taken);
        event
    }

    /// Takes the outcome of a task that timed out. The caller owns the outcome then, and publishes
    /// it.
    pub fn take_expired(&self, scope: H::Scope<'_>, task: &H::Task) -> Option<Taken> {
        let taken = self.host.word(task).expire()?;
        self.count(EventKind::TimedOut, 1);
        if taken == Taken::Running {
            self.shared_counters.overran.fetch_add(1, Ordering::SeqCst);
        }
        self.count_left(scope, task, taken);
        Some(taken)
    }

    /// A task was settled where it stood: one that waited leaves a tombstone, if it was in a lane.
    fn count_left(&self, scope: H::Scope<'_>, task: &H::Task, taken: Taken) {
        let word = self.host.word(task);
        if taken == Taken::Running {
            return;
        }
        // First: the next of its line must be in a lane before this one is counted as gone.
        let departure = self.leave_line(scope, self.host.key(task), word, false);
        if taken == Taken::Paused {
            self.pause_called_off(word);
        } else {
            self.leave_tombstone(scope, word, taken == Taken::Fresh, departure);
        }
        self.leave_accumulator(scope, task, taken == Taken::Fresh);
    }

    /// Lets an accumulator know that a task ended without a joint call, `first` if it never started. The
    /// caller has taken its outcome, and still has its payload.
    pub(super) fn leave_accumulator(&self, scope: H::Scope<'_>, task: &H::Task, first: bool) {
        let host = &self.host;
        if host.word(task).has(ACCUMULATED)
            && let Some(accumulator) = host.accumulator(task)
        {
            let (dead, full) =
                accumulator.note_gone(host.word(task), first, |task| host.word(task));
            self.main.release(full);
            for gone in dead {
                self.discard_gone(scope, gone);
            }
        }
    }

    /// Has those linger no more that are full calls.
    pub(super) fn release_full(&self, accumulator: &Accumulator<H::Task>) {
        self.main.release(accumulator.fill(|task| self.host.word(task)));
    }

    /// Lets go of what an accumulator held of a task, and of its place if it lingers still, which was
    /// counted as a tombstone.
    pub(super) fn discard_gone(&self, scope: H::Scope<'_>, gone: Member<H::Task>) {
        if let Some(handle) = gone.linger.and_then(|key| self.main.lingering.take(key)) {
            self.main.uncount_tombstones(1);
            self.host.discard(scope, handle);
        }
        self.host.discard(scope, gone.task);
    }

    // ---- joint calls
    // -------------------------------------------------------------------------------

    /// Handles on the tasks that run in one call with this one, it included; none if it does not.
    pub fn tasks_of_call(&self, scope: H::Scope<'_>, task: &TaskWord) -> Vec<H::Task> {
        let share = |task: &H::Task| self.host.share(scope, task);
        self.joint_calls.tasks_with(task, |task| self.host.word(task), share)
    }

    /// The token of the joint call that a task runs in, if all tasks of that are given up.
    pub fn given_up_call(&self, task: &TaskWord) -> Option<Token> {
        self.joint_calls.given_up(task, |task| self.host.word(task))
    }

    /// How many tasks wait in the main queue, more or less.
    pub fn waiting(&self) -> u64 {
        self.main.waiting()
    }

    // ---- looking ------------------------------------------------------------------------------

    /// Where the runner is in its life.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode & ENDED != 0 => Mode::Stopped,
            mode if mode & KILLED != 0 => Mode::Killed,
            mode if mode & STOPPING != 0 => Mode::Stopping,
            _ => Mode::Running,
        }
    }

    /// Whether the runner refuses new tasks.
    pub fn is_closing(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & STOPPING != 0
    }

    /// Whether the runner was killed, or broke.
    pub fn is_killed(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & KILLED != 0
    }

    /// Whether the runner broke, or a fork left it behind.
    pub fn is_broken(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & BROKEN != 0
    }

    /// Whether a fork left the runner behind: none of its locks may be taken any more.
    pub fn is_left_by_fork(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & LEFT_BY_FORK != 0
    }

    /// How many workers are asked for.
    pub fn limits(&self) -> &Limits {
        &self.roster.limits
    }

    /// How many reserved and temporary workers there may be.
    pub(super) fn reserve_limit(&self) -> usize {
        self.settings.reserve_limit.unwrap_or_else(|| self.limits().workers())
    }

    /// Whether a worker is one too many, and not of use as in a closing runner.
    pub(super) fn is_dismissed(&self, worker: &WorkerShared<H::Task>) -> bool {
        worker.has(DISMISSED) && !self.is_closing()
    }

    /// How many workers there are at this moment.
    pub fn worker_count(&self) -> usize {
        self.roster.len()
    }

    /// Every worker, at this moment.
    pub fn workers(&self) -> Vec<Arc<WorkerShared<H::Task>>> {
        self.roster.workers()
    }
}

impl<H: Host> std::fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.settings)
            .field("mode", &self.mode())
            .field("workers", &self.roster.counts())
            .finish_non_exhaustive()
    }
}
