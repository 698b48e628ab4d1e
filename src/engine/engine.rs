//! The engine: its parts, its mode, and how tasks come in and go to their queues.
//!
//! The mode only ever moves on: running, then stopping or killed, then ended. See `DESIGN.md` for who
//! changes what, and for the rules of the shutdown.

use super::clock::{Clock, Tick};
use super::figures::books::Strays;
use super::figures::{Ledger, Window};
use super::host::Host;
use super::queue::lanes::Class;
use super::queue::{Closed, Late, Queue};
use super::resource::backoff::Backoff;
use super::resource::proof::{Failure, Failures, Proof};
use super::resource::renewal::Renewal;
use super::settings::Settings;
use super::staffing::Sample;
use super::staffing::launch::Launch;
use super::staffing::roster::Roster;
use super::task::batch::Batches;
use super::task::deadlines::{Deadlines, Key};
use super::task::{EXPRESS, Taken, TaskWord};
use super::worker::badge::{Badge, Post};
use super::worker::loans::{Loan, Loans, Seeker};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use crate::sync::{Arc, CachePadded, Mutex};

pub(super) const STOPPING: u8 = 1;
pub(super) const KILLED: u8 = 2;
pub(super) const BROKEN: u8 = 4;
pub(super) const ENDED: u8 = 8;
pub(super) const FORSAKEN: u8 = 16;

/// Why a task is not served.
pub enum Unserved<H: Host> {
    /// The runner is closing; the task comes back.
    Closed(H::Task),
    /// There is no worker, and no thread for one.
    NoThread(H::Fault),
}

/// Where a runner is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Accepts tasks.
    Running,
    /// Refuses new tasks, finishes the accepted ones.
    Stopping,
    /// Refuses new tasks and answers the accepted ones without running them.
    Killed,
    /// Nothing of it is left.
    Stopped,
}

/// See the module's documentation.
pub struct Engine<H: Host> {
    /// The world around.
    pub host: H,
    /// What it was built with.
    pub settings: Settings,
    /// Its time.
    pub clock: Clock,
    /// The start.
    pub launch: Launch<H::Fault>,
    /// Idle resources for callers of `run_task`, when they are not bound to their threads.
    pub loans: Loans<H>,
    pub(super) main: Queue<H::Task>,
    /// The batches of the main queue.
    pub(super) batches: Batches<H::Task>,
    pub(super) express: Queue<H::Task>,
    pub(super) roster: Roster<H>,
    pub(super) backoff: Backoff,
    pub(super) failures: Failures,
    pub(super) deadlines: Deadlines<H::Task>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) window: Window,
    /// Flags above, each set once and never cleared. `SeqCst`: a worker that claims and then looks here,
    /// and a kill that writes here and then sweeps, must not both miss the other.
    pub(super) mode: CachePadded<AtomicU8>,
    /// How many base workers are still to be started on demand. Lowered by whoever has started one. Relaxed: it only
    /// spares those who come when all have been started the look at the roster.
    pub(super) vacancies: AtomicUsize,
    /// Workers that are hired on demand and have a task: reserved and temporary ones from its claim to its outcome,
    /// base ones, while some are still to be hired, until they look for the next. Written by them; `SeqCst`, like
    /// the lanes that it is read with.
    pub(super) engaged: AtomicUsize,
    pub(super) strays: Strays,
    pub(super) renewal: Renewal<H>,
    /// Whether the keeper is to think about burst workers soon. Set by submitters, cleared by the keeper.
    pub(super) scaling: AtomicBool,
    /// What the scaler saw when it looked last. Only the keeper locks it.
    pub(super) sample: Mutex<Sample>,
}

impl<H: Host> Engine<H> {
    /// An engine without workers; [`launch`](Self::launch_workers) brings them.
    pub fn new(host: H, settings: Settings) -> Arc<Self> {
        let clock = Clock::new();
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &settings.name);
        Arc::new(Self {
            launch: Launch::new(settings.base_at_start() + settings.reserve_at_start),
            loans: Loans::new(),
            main: Queue::new(settings.max_queue_size, settings.hold),
            batches: Batches::new(),
            express: Queue::new(None, settings.hold),
            roster: Roster::new(),
            backoff: Backoff::new(seed),
            failures: Failures::new(),
            deadlines: Deadlines::new(),
            ledger: Arc::new(Ledger::new()),
            window: Window::new(clock.now()),
            mode: CachePadded::new(AtomicU8::new(0)),
            vacancies: AtomicUsize::new(if settings.on_demand { settings.worker_count } else { 0 }),
            engaged: AtomicUsize::new(0),
            strays: Strays::default(),
            renewal: Renewal::new(),
            scaling: AtomicBool::new(false),
            sample: Mutex::new(Sample::default()),
            host,
            settings,
            clock,
        })
    }

    // ---- accepting ---------------------------------------------------------------------------

    /// Takes a permit of the bounded queue without waiting; always true without a bound.
    pub fn try_permit(&self) -> bool {
        self.main.permits.as_ref().is_none_or(super::queue::permits::Permits::try_take)
    }

    /// The bound on waiting tasks, to wait for room with.
    pub fn permits(&self) -> Option<&super::queue::permits::Permits> {
        self.main.permits.as_ref()
    }

    /// Accepts a task for the main queue. The caller holds a permit for it.
    ///
    /// # Errors
    ///
    /// The runner is closing: the task comes back, the permit is given back.
    pub fn submit(&self, class: Class, task: H::Task, since: Tick) -> Result<(), Closed<H::Task>> {
        self.note(since);
        let pushed = self.main.push(class, task, since).inspect_err(|_| {
            if let Some(permits) = &self.main.permits {
                permits.give_back();
            }
        });
        self.load_grew(since);
        pushed
    }

    /// Accepts a task for the main queue that waited for room outside, and holds a permit now.
    ///
    /// # Errors
    ///
    /// It comes back, and the permit is the caller's, when the runner is closing or it was settled meanwhile.
    pub fn admit(&self, class: Class, task: H::Task) -> Result<(), Late<H::Task>> {
        let since = self.clock.now();
        self.note(since);
        let pushed = self.main.push_if(class, task, since, |task| self.host.word(task).admit());
        self.load_grew(since);
        pushed
    }

    /// [`submit`](Self::submit) where base workers are hired on demand: sees to it that there is one. `word` is the
    /// task's own.
    ///
    /// # Errors
    ///
    /// As for `submit`; or there is no worker, and no thread for one.
    pub fn submit_on_demand(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        word: &TaskWord,
        task: H::Task,
        since: Tick,
    ) -> Result<(), Unserved<H>> {
        self.note(since);
        // The place is taken inside the gate: once the queue is sealed, an accepted task has a worker.
        let place = self
            .main
            .push_and(word.class(), task, since, || self.base_place())
            .map_err(|Closed(task)| Unserved::Closed(task))?;
        let Some(badge) = place else {
            return Ok(());
        };
        match self.start_base(scope, badge) {
            Err(fault) if self.give_up(scope, word) => Err(Unserved::NoThread(fault)),
            // Or somebody has taken the task meanwhile.
            _ => Ok(()),
        }
    }

    /// Accepts a task for the workers that serve `run_task`, and sees to it that there is one.
    ///
    /// # Errors
    ///
    /// The runner is closing: the task comes back.
    pub fn submit_express(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        task: H::Task,
        since: Tick,
    ) -> Result<(), Closed<H::Task>> {
        self.note(since);
        // The place is taken inside the gate: once the queue is sealed, an accepted task has a worker.
        let place =
            self.express.push_and(Class::Normal, task, since, || self.express_place(false))?;
        if let Some(badge) = place {
            self.start_express(scope, badge);
        }
        Ok(())
    }

    /// Accepts a `run_task` that the caller is going to run itself, if a loan is idle and the runner open.
    pub fn accept_on_loan(&self, since: Tick) -> Option<Box<Loan<H>>> {
        self.note(since);
        self.loans.accept(self)
    }

    /// Accepts a `run_task` for which [`accept_on_loan`](Self::accept_on_loan) found no loan, and that the caller is
    /// going to run itself when it has one, unless the runner is closing.
    pub fn accept_seeker(&self) -> Option<Seeker<'_, H>> {
        self.express.gate.enter().map(|_pass| Seeker::new(self, false))
    }

    /// Accepts a `run_task` from inside a task, whose worker stays until both are over; false when the runner is
    /// closing.
    pub fn accept_inside(&self, since: Tick) -> bool {
        self.note(since);
        self.express.gate.enter().is_some()
    }

    /// The queue that a worker serves.
    pub(super) fn queue_at(&self, post: Post) -> &Queue<H::Task> {
        if post.is_main() { &self.main } else { &self.express }
    }

    /// Which queue a task belongs to.
    pub(super) fn queue_of(&self, word: &TaskWord) -> &Queue<H::Task> {
        if word.has(EXPRESS) { &self.express } else { &self.main }
    }

    // ---- retries ---------------------------------------------------------------------------------

    /// What somebody may take whose resource is `proven` up to this failure; see [`proof`](super::resource::proof).
    pub(super) fn proof(&self, proven: Failure) -> Proof {
        if self.is_killed() {
            // To be turned away.
            return Proof::ANY;
        }
        let held_since = || self.clock.now().checked_sub(self.settings.hold);
        Proof { proven, held_since: if self.holds_on() { None } else { held_since() } }
    }

    /// Whether retries are held for as long as it takes: no resource can be made at the moment, so those that idle
    /// are hardly better. In a closing runner nobody tries again.
    pub(super) fn holds_on(&self) -> bool {
        !self.is_closing() && self.backoff.is_in_trouble()
    }

    /// How long somebody sleeps at most while retries wait that it may not take.
    pub(super) fn hold_left(&self, queue: &Queue<H::Task>) -> Option<Tick> {
        let (oldest, hold) = (queue.lanes.oldest_retry()?, self.settings.hold);
        let end = oldest.saturating_add(hold);
        Some(if self.holds_on() { hold } else { end.saturating_sub(self.clock.now()) })
    }

    // ---- tasks that leave without a worker ------------------------------------------------------

    /// Books a task that the caller just cancelled. Its entry stays in the lane as a tombstone.
    pub fn cancelled(&self, scope: H::Scope<'_>, word: &TaskWord) {
        self.book_cancelled(1);
        self.leave_tombstone(scope, word, true);
    }

    pub(super) fn leave_tombstone(&self, scope: H::Scope<'_>, word: &TaskWord, first: bool) {
        let queue = self.queue_of(word);
        queue.withdrawn(word, first);
        self.bury(scope, queue);
        if !first {
            // Retries are few, and this one would wait for a resource that it does not need any more.
            let dead =
                queue.sift_retries(word.class(), |task, _| self.host.word(task).is_waiting());
            self.discard_dead(scope, queue, dead);
        }
    }

    pub(super) fn discard_dead(
        &self,
        scope: H::Scope<'_>,
        queue: &Queue<H::Task>,
        dead: Vec<H::Task>,
    ) {
        queue.unbury(dead.len() as u64);
        for task in dead {
            self.host.discard(scope, task);
        }
    }

    /// Counts a tombstone, and clears the lanes of them when there are many.
    pub(super) fn bury(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        if !queue.bury() {
            return;
        }
        let dead = Self::sift(queue, |task, _| !self.host.word(task).is_done());
        self.discard_dead(scope, queue, dead);
    }

    /// Takes what `live` rejects, under a lock, out of all classes, the highest first, but for retries.
    pub(super) fn sift(
        queue: &Queue<H::Task>,
        live: impl Fn(&H::Task, Tick) -> bool,
    ) -> Vec<H::Task> {
        let sift = |class| queue.lanes.sift(class, &live);
        let dead = Class::ALL.into_iter().rev().flat_map(sift).collect();
        if !queue.lanes.is_empty() {
            // Who looked meanwhile may have found nothing.
            queue.bell.ring();
        }
        dead
    }

    /// Books a task that somebody settled by hand.
    pub fn settled_by_hand(
        &self,
        scope: H::Scope<'_>,
        word: &TaskWord,
        taken: Taken,
        completed: bool,
    ) {
        let count = match taken {
            Taken::Fresh => &self.strays.cancelled,
            _ if completed => &self.strays.completed,
            _ => &self.strays.failed,
        };
        count.fetch_add(1, Ordering::SeqCst);
        if taken != Taken::Running {
            self.leave_tombstone(scope, word, taken == Taken::Fresh);
        }
    }

    /// Books a retry that was called off, its outcome taken with [`TaskWord::call_off`].
    pub fn called_off(&self, scope: H::Scope<'_>, word: &TaskWord) {
        self.strays.failed.fetch_add(1, Ordering::SeqCst);
        self.leave_tombstone(scope, word, false);
    }

    /// Takes the outcome of a task whose time limit passed. The caller owns it then, and publishes.
    pub fn take_expired(&self, scope: H::Scope<'_>, word: &TaskWord) -> Option<Taken> {
        let taken = word.expire()?;
        self.strays.timed_out.fetch_add(1, Ordering::SeqCst);
        if taken == Taken::Running {
            self.strays.overran.fetch_add(1, Ordering::SeqCst);
        } else {
            self.leave_tombstone(scope, word, taken == Taken::Fresh);
        }
        Some(taken)
    }

    // ---- time limits --------------------------------------------------------------------------

    /// Starts the keeper, if it does not live yet. To be called before a task with a time limit is accepted:
    /// a submit that fails must not leave a task behind.
    ///
    /// # Errors
    ///
    /// The keeper's thread could not be started.
    pub fn need_keeper(self: &Arc<Self>, scope: H::Scope<'_>) -> Result<(), H::Fault> {
        if self.deadlines.claim_keeper() {
            self.host
                .spawn_keeper(scope, self)
                .inspect_err(|_| self.deadlines.disclaim_keeper())?;
        }
        Ok(())
    }

    /// The keeper's thread ended before it came up: the next one who needs a keeper starts another.
    pub fn lost_keeper(&self) {
        self.deadlines.disclaim_keeper();
    }

    /// Has the keeper watch a task's time limit.
    pub fn watch(&self, due: Tick, task: H::Task) -> Key {
        self.deadlines.add(due, task)
    }

    /// Has the keeper begin a graceful stop at this time.
    pub fn stop_at(&self, due: Tick) {
        self.deadlines.stop_at(due);
    }

    /// Stops watching a task's time limit.
    pub fn unwatch(&self, scope: H::Scope<'_>, key: Key) {
        if let Some(task) = self.deadlines.remove(key) {
            self.host.discard(scope, task);
        }
    }

    /// The keeper's life: ends tasks as they fall due, until the engine has ended.
    pub fn keep(self: &Arc<Self>, scope: H::Scope<'_>) {
        while self.host.park(scope, || self.deadlines.wait(|| self.clock.now())) {
            if self.deadlines.must_stop(self.clock.now()) {
                self.begin_stop();
            }
            if self.deadlines.must_scale(self.clock.now()) {
                self.scale(scope);
            }
            while let Some(task) = self.deadlines.pop_due(self.clock.now()) {
                self.host.expire(scope, &task);
                self.host.discard(scope, task);
            }
        }
        while let Some(task) = self.deadlines.pop() {
            self.host.discard(scope, task);
        }
    }

    /// How many tasks wait in the main queue, more or less.
    pub fn waiting(&self) -> u64 {
        self.main.waiting()
    }

    // ---- looking ------------------------------------------------------------------------------

    /// Where it is in its life.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode & ENDED != 0 => Mode::Stopped,
            mode if mode & KILLED != 0 => Mode::Killed,
            mode if mode & STOPPING != 0 => Mode::Stopping,
            _ => Mode::Running,
        }
    }

    /// Whether it refuses new tasks.
    pub fn is_closing(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & STOPPING != 0
    }

    /// Whether it was killed, or broke.
    pub fn is_killed(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & KILLED != 0
    }

    /// Whether it broke, or a fork left it behind.
    pub fn is_broken(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & BROKEN != 0
    }

    /// Whether a fork left it behind: none of its locks may be taken any more.
    pub fn is_forsaken(&self) -> bool {
        self.mode.load(Ordering::SeqCst) & FORSAKEN != 0
    }

    /// How many workers there are at this moment.
    pub fn strength(&self) -> usize {
        self.roster.len()
    }

    /// Every worker, at this moment.
    pub fn members(&self) -> Vec<Arc<Badge<H>>> {
        self.roster.members()
    }
}

impl<H: Host> std::fmt::Debug for Unserved<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "Closed",
            Self::NoThread(_) => "NoThread",
        })
    }
}

impl<H: Host> std::fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.settings)
            .field("mode", &self.mode())
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}
