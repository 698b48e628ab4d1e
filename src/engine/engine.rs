//! The engine: accepts tasks, hires workers, and ends in order.
//!
//! The mode only ever moves on: running, then stopping or killed, then ended. See `DESIGN.md` for who
//! changes what, and for the rules of the shutdown.

use super::backoff::Backoff;
use super::clock::{Clock, Tick};
use super::deadlines::{Deadlines, Key};
use super::figures::{Counter, Ledger, Summary, Totals, Window};
use super::host::{Host, Refusal};
use super::lanes::{Class, Entry};
use super::launch::Launch;
use super::loans::{Borrower, Loans};
use super::proof::{self, Failure, Failures, Proof};
use super::queue::{Closed, Late, Queue};
use super::renewal::Renewal;
use super::roster::{Headcount, Roster};
use super::scaler::{self, Load};
use super::settings::Settings;
use super::task::{Taken, TaskWord};
use super::worker::{Badge, Life, Post, is_express};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, CachePadded, Mutex, thread};
use std::time::Duration;

const STOPPING: u8 = 1;
const KILLED: u8 = 2;
const BROKEN: u8 = 4;
const ENDED: u8 = 8;
const FORSAKEN: u8 = 16;

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
    pub(super) express: Queue<H::Task>,
    pub(super) roster: Roster<H>,
    pub(super) backoff: Backoff,
    pub(super) failures: Failures,
    deadlines: Deadlines<H::Task>,
    pub(super) ledger: Arc<Ledger>,
    window: Window,
    /// Flags above, each set once and never cleared. `SeqCst`: a worker that claims and then looks here,
    /// and a kill that writes here and then sweeps, must not both miss the other.
    mode: CachePadded<AtomicU8>,
    /// How many base workers are still to be started on demand. Lowered by whoever has started one. Relaxed: it only
    /// spares those who come when all have been started the look at the roster.
    vacancies: AtomicUsize,
    /// Workers that are hired on demand and have a task: reserved and temporary ones from its claim to its outcome,
    /// base ones, while some are still to be hired, until they look for the next. Written by them; `SeqCst`, like
    /// the lanes that it is read with.
    pub(super) engaged: AtomicUsize,
    strays: Strays,
    pub(super) renewal: Renewal<H>,
    /// Whether the keeper is to think about burst workers soon. Set by submitters, cleared by the keeper.
    scaling: AtomicBool,
    /// What the scaler saw when it looked last. Only the keeper locks it.
    sample: Mutex<Sample>,
}

/// Totals at one look of the scaler.
#[derive(Debug, Default)]
struct Sample {
    at: Tick,
    arrived: u64,
    ended: u64,
    run_time: Tick,
}

/// How a worker's good resource is renewed.
pub(super) enum Relief<H: Host> {
    /// Destroyed and made anew on its own thread.
    OnTheSpot,
    /// By a fresh worker, when that one has its resource.
    By(Arc<Badge<H>>),
}

/// Outcomes that no worker's tally counts. Written by whoever brings them about.
#[derive(Debug, Default)]
struct Strays {
    /// Tasks settled by hand while they ran.
    completed: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    timed_out: AtomicU64,
    /// Retries that were waiting when the runner was killed: they had run, and failed.
    failed: AtomicU64,
    /// Tasks whose time limit passed while they ran, and those of them whose function has returned.
    overran: AtomicU64,
    overran_ended: AtomicU64,
}

impl Strays {
    /// Tasks whose function runs on after their time limit. The function may return before its overrun
    /// is counted, which is then a difference below zero.
    fn overdue(&self) -> u64 {
        let ended = self.overran_ended.load(Ordering::SeqCst);
        self.overran.load(Ordering::SeqCst).saturating_sub(ended)
    }
}

/// What accumulated since the start.
#[derive(Debug, Clone, Copy)]
pub struct Metrics {
    /// Accepted tasks.
    pub arrived: u64,
    /// Tasks that returned.
    pub completed: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Submits that were refused.
    pub refused: u64,
    /// Tasks cancelled before they started.
    pub cancelled: u64,
    /// Accepted tasks that the runner answered without ever starting them.
    pub dropped: u64,
    /// Tasks whose time limit passed, waiting or running. The function of some may still run.
    pub timed_out: u64,
    /// Arrivals a second, over the window.
    pub arrival_rate: f64,
    /// Tasks finished a second, over the window.
    pub completion_rate: f64,
    /// Times.
    pub summary: Summary,
}

/// Gauges of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live workers by kind.
    pub heads: Headcount,
    /// Waiting tasks, of all classes, retries included.
    pub queued: u64,
    /// Urgent tasks among them.
    pub urgent: u64,
    /// Tasks being run.
    pub running: u64,
    /// Tasks whose function runs on after their time limit.
    pub overdue: u64,
    /// Idle resources for `run_task`.
    pub available: usize,
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

    // ---- the start ---------------------------------------------------------------------------

    /// Hires the first workers. [`Launch::wait`] tells when all have their resource.
    ///
    /// # Errors
    ///
    /// Why a thread could not be started; the caller kills the engine then.
    pub fn launch_workers(self: &Arc<Self>, scope: H::Scope<'_>) -> Result<(), H::Fault> {
        let Settings { reserve_at_start, .. } = self.settings;
        let base = self.settings.base_at_start();
        for (post, count) in [(Post::Base, base), (Post::Reserved, reserve_at_start)] {
            for _ in 0..count {
                self.hire(scope, post, true, |_| true)?;
            }
        }
        Ok(())
    }

    /// Hires one worker if `allowed` agrees; `Ok(false)` when it did not.
    fn hire(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        post: Post,
        launching: bool,
        allowed: impl FnOnce(Headcount) -> bool,
    ) -> Result<bool, H::Fault> {
        let Some(badge) = self.roster.hire(&self.settings, post, false, allowed) else {
            return Ok(false);
        };
        self.start(scope, badge, launching)?;
        Ok(true)
    }

    /// Starts the thread of somebody hired.
    fn start(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: Arc<Badge<H>>,
        launching: bool,
    ) -> Result<(), H::Fault> {
        self.host.spawn(scope, Life::new(Arc::clone(self), badge, launching))
    }

    // ---- accepting ---------------------------------------------------------------------------

    /// Takes a permit of the bounded queue without waiting; always true without a bound.
    pub fn try_permit(&self) -> bool {
        self.main.permits.as_ref().is_none_or(super::permits::Permits::try_take)
    }

    /// The bound on waiting tasks, to wait for room with.
    pub fn permits(&self) -> Option<&super::permits::Permits> {
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

    /// Whether a base worker may have to be hired for the next task.
    pub(super) fn has_vacancies(&self) -> bool {
        self.vacancies.load(Ordering::Relaxed) > 0
    }

    /// Hires a base worker if more tasks wait than workers are free, and there is a place.
    pub(super) fn staff_base(self: &Arc<Self>, scope: H::Scope<'_>) {
        if let Some(badge) = self.base_place()
            && let Err(fault) = self.start_base(scope, badge)
        {
            self.host.report_no_thread(scope, fault);
        }
    }

    fn base_place(&self) -> Option<Arc<Badge<H>>> {
        if !self.has_vacancies() {
            return None;
        }
        self.roster.hire(&self.settings, Post::Base, false, |heads| {
            // Who took an entry engages itself and then looks for more, so nothing is overlooked in between.
            let engaged = self.engaged.load(Ordering::SeqCst);
            self.main.lanes.len() > heads.main.saturating_sub(engaged)
                && heads.main < self.settings.worker_count
        })
    }

    /// Starts somebody hired on demand. The error: there is no thread, nor another worker.
    fn start_base(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: Arc<Badge<H>>,
    ) -> Result<(), H::Fault> {
        match self.start(scope, badge, false) {
            Ok(()) => {
                self.vacancies.fetch_sub(1, Ordering::Relaxed);
            }
            // Its unlived life has given the place back.
            Err(fault) if self.roster.headcount().main == 0 => return Err(fault),
            Err(fault) => self.host.report_no_thread(scope, fault),
        }
        Ok(())
    }

    /// Takes back a task that has no worker; false when somebody has taken it. Other tasks may have counted on the
    /// same worker: they are answered.
    fn give_up(&self, scope: H::Scope<'_>, word: &TaskWord) -> bool {
        let visit = self.roster.visit();
        let taken = word.withdraw().is_some();
        if taken {
            self.leave_tombstone(scope, word, true);
            self.book_refusal(true);
            if self.roster.headcount().main == 0 {
                self.sweep_queue(scope, &self.main);
            }
        }
        drop(visit);
        self.finish_if_over();
        taken
    }

    /// Has the keeper think about burst workers when everybody is busy.
    pub(super) fn load_grew(&self, now: Tick) {
        if self.bursts() && self.main.bell.sleepers() == 0 {
            self.think_about_scaling(now);
        }
    }

    /// Whether there may be burst workers.
    pub fn bursts(&self) -> bool {
        self.settings.max_worker_count > self.settings.worker_count
    }

    fn think_about_scaling(&self, now: Tick) {
        // Relaxed: one submitter more or less that wakes the keeper makes no difference.
        if !self.scaling.load(Ordering::Relaxed) && !self.scaling.swap(true, Ordering::Relaxed) {
            self.deadlines.scale_at(now.saturating_add(self.settings.burst_interval));
        }
    }

    /// Hires burst workers for the load there is. Called by the keeper.
    fn scale(self: &Arc<Self>, scope: H::Scope<'_>) {
        self.scaling.store(false, Ordering::Relaxed);
        // Not the length of the lanes: one entry of a batch stands for many items.
        let withdrawn = self.main.withdrawals() + self.express.withdrawals();
        let (now, totals) = (self.clock.now(), self.ledger.totals());
        let waiting = self.queued(withdrawn, &totals).saturating_sub(self.express.waiting());
        let load = {
            let mut sample = self.sample.lock();
            let next = Sample {
                at: now,
                arrived: self.main.gate.accepted(),
                ended: totals[Counter::Ended],
                run_time: totals[Counter::ExecutionTime],
            };
            let last = std::mem::replace(&mut *sample, next);
            Load {
                elapsed: now - last.at,
                // A submitter that comes too late is counted for a moment.
                arrived: sample.arrived.saturating_sub(last.arrived),
                ended: sample.ended - last.ended,
                run_time: sample.run_time.saturating_sub(last.run_time),
                waiting,
                workers: self.roster.headcount().main,
                most: self.settings.max_worker_count,
                target_wait: self.settings.burst_interval,
            }
        };
        if waiting == 0 || self.is_closing() {
            return;
        }
        // Looked at again for as long as anything waits.
        self.think_about_scaling(now);
        if self.backoff.is_in_trouble() {
            return;
        }
        for _ in load.workers..scaler::wanted(load) {
            // Asked under the roster's lock: once the runner has ended nobody is hired.
            let allowed = |heads: Headcount| !self.is_closing() && heads.main < load.most;
            match self.hire(scope, Post::Burst, false, allowed) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => {
                    self.host.report_no_thread(scope, fault);
                    break;
                }
            }
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

    /// Accepts a `run_task` that the caller is going to run itself, unless the runner is closing.
    pub fn enter_express(&self, since: Tick) -> Option<Borrower<'_, H>> {
        self.note(since);
        self.express.gate.enter().map(|_pass| Borrower::new(self))
    }

    /// Hires a worker for `run_task` if more tasks wait than workers are free, and the limit allows.
    pub fn staff_express(self: &Arc<Self>, scope: H::Scope<'_>) {
        if let Some(badge) = self.express_place(false) {
            self.start_express(scope, badge);
        }
    }

    /// [`staff_express`](Self::staff_express), for a caller that waits for a loan for this task.
    pub fn staff_for(self: &Arc<Self>, scope: H::Scope<'_>, entry: &Entry<H::Task>) {
        if let Some(badge) = self.express_place(entry.failed != proof::NONE) {
            self.start_express(scope, badge);
        }
    }

    /// `choosy`: idle loans will not do.
    fn express_place(&self, choosy: bool) -> Option<Arc<Badge<H>>> {
        let Settings { keep_reserved, thread_bound, reserve_limit, .. } = self.settings;
        let post = if keep_reserved { Post::Reserved } else { Post::Temporary };
        self.roster.hire(&self.settings, post, false, |heads| {
            let (wanted, free) = if thread_bound {
                // Who took an entry engages itself and then looks for more, so nothing is overlooked
                // in between.
                let engaged = self.engaged.load(Ordering::SeqCst);
                (self.express.lanes.len(), heads.express.saturating_sub(engaged))
            } else if choosy {
                (self.loans.choosy() + 1, heads.express_bare)
            } else {
                (self.loans.waiting() + 1, self.loans.idle() + heads.express_bare)
            };
            wanted > free && heads.express < reserve_limit
        })
    }

    fn start_express(self: &Arc<Self>, scope: H::Scope<'_>, badge: Arc<Badge<H>>) {
        if let Err(fault) = self.start(scope, badge, false) {
            self.host.report_no_thread(scope, fault);
            let nobody = self.roster.headcount().express == 0;
            if nobody && self.settings.thread_bound {
                // No thread to be had (the interpreter is ending, or the system is full): the base
                // workers take it, before everything else.
                self.move_express_to_main(scope);
            }
        }
    }

    fn move_express_to_main(&self, scope: H::Scope<'_>) {
        let visit = self.roster.visit();
        while let Some(entry) = self.express.take_any() {
            if let Err(Closed(task)) = self.main.adopt(entry) {
                self.decline(scope, task);
            }
        }
        drop(visit);
        self.finish_if_over();
    }

    /// The queue that a worker serves.
    pub(super) fn queue_at(&self, post: Post) -> &Queue<H::Task> {
        if post.is_main() { &self.main } else { &self.express }
    }

    /// Which queue a task belongs to.
    pub(super) fn queue_of(&self, word: &TaskWord) -> &Queue<H::Task> {
        if is_express(word.flags()) { &self.express } else { &self.main }
    }

    // ---- retries ---------------------------------------------------------------------------------

    /// What somebody may take whose resource is `proven` up to this failure; see [`proof`](super::proof).
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
    fn holds_on(&self) -> bool {
        !self.is_closing() && self.backoff.is_in_trouble()
    }

    /// How long somebody sleeps at most while retries wait that it may not take.
    pub(super) fn hold_left(&self, queue: &Queue<H::Task>) -> Option<Tick> {
        let (oldest, hold) = (queue.lanes.oldest_retry()?, self.settings.hold);
        let end = oldest.saturating_add(hold);
        Some(if self.holds_on() { hold } else { end.saturating_sub(self.clock.now()) })
    }

    // ---- good resources that have served long enough --------------------------------------------

    /// Renews every resource, one after the other. Tasks are accepted and run meanwhile.
    pub fn recycle(&self) {
        self.renewal.recycle();
        self.ring_everybody();
    }

    fn ring_everybody(&self) {
        self.main.bell.ring_all();
        self.express.bell.ring_all();
    }

    /// Whether a good resource may be renewed: every other worker has one.
    pub(super) fn may_renew(&self) -> bool {
        let heads = self.roster.headcount();
        heads.equipped == heads.main
    }

    /// A worker wants to renew its good resource. `None`: it is not its turn yet.
    pub(super) fn begin_renewal(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: &Arc<Badge<H>>,
    ) -> Option<Relief<H>> {
        if !self.renewal.take_turn(badge, || self.may_renew()) {
            return None;
        }
        if !badge.post().is_main() {
            return Some(Relief::OnTheSpot);
        }
        let most = self.settings.max_worker_count;
        let spare = |heads: Headcount| heads.main < most;
        let Some(new) = self.roster.hire(&self.settings, badge.post(), true, spare) else {
            return Some(Relief::OnTheSpot);
        };
        self.renewal.relieved_by(Arc::clone(&new));
        match self.start(scope, Arc::clone(&new), false) {
            Ok(()) => Some(Relief::By(new)),
            Err(fault) => {
                self.host.report_no_thread(scope, fault);
                // Its unlived life has ended the turn.
                let turn = self.renewal.take_turn(badge, || self.may_renew());
                turn.then_some(Relief::OnTheSpot)
            }
        }
    }

    /// A renewal is over, if this worker had the turn; see [`Renewal::end_turn`].
    fn renewal_ended(&self, badge: &Arc<Badge<H>>, for_good: bool) {
        self.renewal.end_turn(badge, for_good);
        if self.renewal.is_wanted() {
            self.ring_everybody();
        }
    }

    /// A worker has its resource: whoever it relieves may go.
    pub(super) fn equipped(&self, badge: &Arc<Badge<H>>) {
        self.renewal_ended(badge, false);
        if self.renewal.relieves(badge) {
            self.ring_everybody();
        }
    }

    // ---- tasks that leave without a worker ------------------------------------------------------

    /// Books a task that the caller just cancelled. Its entry stays in the lane as a tombstone.
    pub fn cancelled(&self, scope: H::Scope<'_>, word: &TaskWord) {
        self.book_cancelled(1);
        self.leave_tombstone(scope, word, true);
    }

    pub(super) fn book_cancelled(&self, tasks: usize) {
        self.strays.cancelled.fetch_add(tasks as u64, Ordering::SeqCst);
    }

    fn leave_tombstone(&self, scope: H::Scope<'_>, word: &TaskWord, first: bool) {
        let queue = self.queue_of(word);
        queue.withdrawn(word, first);
        self.bury(scope, queue);
        if !first {
            // Retries are few, and this one would wait for a resource that it does not need any more.
            let dead = queue.sift_retries(word.class(), |task| self.host.word(task).is_waiting());
            self.discard_dead(scope, queue, dead);
        }
    }

    fn discard_dead(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>, dead: Vec<H::Task>) {
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
        for class in Class::ALL {
            let dead = queue.lanes.sift(class, |task| !self.host.word(task).is_done());
            self.discard_dead(scope, queue, dead);
        }
        if !queue.lanes.is_empty() {
            queue.bell.ring();
        }
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

    /// Books a refused submit.
    pub fn refused(&self) {
        self.strays.refused.fetch_add(1, Ordering::Relaxed);
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

    /// A task ended whose outcome somebody else had decided.
    pub(super) fn overdue_ended(&self, word: &TaskWord) {
        if word.has(super::task::EXPIRED) {
            self.strays.overran_ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Puts another worker in the place of the one whose task (told by `is`) outlived its limit.
    pub fn stand_in(self: &Arc<Self>, scope: H::Scope<'_>, is: impl Fn(&H::Task) -> bool) {
        let members = self.roster.members();
        let Some(badge) = members.iter().find(|badge| badge.mark_overdue(&is)) else {
            return;
        };
        if badge.post() != Post::Base || self.is_closing() {
            return;
        }
        if let Some(relief) = self.renewal.relief_of(badge) {
            // Somebody is on the way already.
            self.roster.take_over(&relief);
            return;
        }
        let Settings { worker_count, max_worker_count, .. } = self.settings;
        let hired = self.hire(scope, Post::Base, false, |heads| {
            // Asked under the roster's lock: once the runner has ended nobody is hired.
            !self.is_closing() && heads.base_places < worker_count && heads.main < max_worker_count
        });
        match hired {
            Ok(true) => {}
            Ok(false) => self.host.report_overdue(scope, badge),
            Err(fault) => {
                self.host.report_no_thread(scope, fault);
                self.host.report_overdue(scope, badge);
            }
        }
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

    // ---- the end ------------------------------------------------------------------------------

    /// Begins a graceful stop: refuses new tasks and lets the workers finish. Callable from anywhere.
    pub fn begin_stop(&self) {
        self.close(STOPPING, || ());
    }

    /// Takes whatever waits in the main queue off it, for the caller to `cancel`.
    pub fn cancel_waiting(&self, scope: H::Scope<'_>, cancel: impl Fn(&H::Task)) {
        // All of it first: what is cancelled may have something new submitted.
        let waiting: Vec<_> = std::iter::from_fn(|| self.main.take_any()).collect();
        for Entry { task, .. } in waiting {
            cancel(&task);
            self.main.unbury(1);
            self.host.discard(scope, task);
        }
    }

    /// How many tasks wait in the main queue, more or less.
    pub fn waiting(&self) -> u64 {
        self.main.waiting()
    }

    /// Kills: no task starts from here on; everything that waits is answered before this returns.
    pub fn kill(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED, || self.sweep(scope));
    }

    /// Our own code failed: refuses everything from here on and answers what waits.
    pub fn break_down(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED | BROKEN, || self.sweep(scope));
    }

    /// Marks an engine that a fork left without its threads. Touches nothing but the mode.
    pub fn forsake(&self) {
        self.mode.fetch_or(STOPPING | KILLED | BROKEN | FORSAKEN, Ordering::SeqCst);
        self.main.gate.shut();
        self.express.gate.shut();
    }

    /// Blocks until nothing is left or the limit passes; true when nothing is. Not to be called from inside
    /// a task, or a verb of the host's: it would wait for itself.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        let ended = self.roster.wait_empty(limit, || !self.loans.is_wanted());
        if ended {
            self.finish_if_over();
        }
        ended
    }

    fn close(&self, mode: u8, then: impl FnOnce()) {
        if self.is_forsaken() {
            // Threads that are gone may have held any of the locks.
            return;
        }
        // A visitor, so that the runner has not ended before both queues are sealed and `then` is over.
        let visit = self.roster.visit();
        // The mode first: a worker that finds the lanes drained must know why it was woken.
        self.mode.fetch_or(mode, Ordering::SeqCst);
        self.main.close();
        self.express.close();
        if mode & BROKEN != 0 {
            // The one whose turn it was to wake the next may be the one that fell over.
            self.ring_everybody();
        }
        self.backoff.close();
        self.loans.recall_if_over(self);
        then();
        drop(visit);
        self.finish_if_over();
    }

    /// The last accepted call that wanted a loan is over.
    pub(super) fn borrowers_gone(&self) {
        self.roster.changed();
        self.finish_if_over();
    }

    fn finish_if_over(&self) {
        if self.is_closing() && self.roster.is_empty() && !self.loans.is_wanted() {
            self.mode.fetch_or(ENDED, Ordering::SeqCst);
            self.deadlines.close();
        }
    }

    /// Answers everything that waits.
    fn sweep(&self, scope: H::Scope<'_>) {
        for queue in [&self.main, &self.express] {
            self.sweep_queue(scope, queue);
        }
        self.answer_batches_at_work(scope);
    }

    fn sweep_queue(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        while !queue.lanes.is_empty() {
            if let Some(Entry { task, .. }) = queue.take_any()
                && !self.answer(scope, task)
            {
                queue.unbury(1);
            }
        }
    }

    /// Answers a task without running it; false when it has been settled before.
    fn answer(&self, scope: H::Scope<'_>, task: H::Task) -> bool {
        if self.host.deal(&task).is_some() {
            let live = self.answer_batch(scope, &task);
            self.host.discard(scope, task);
            return live;
        }
        let word = self.host.word(&task);
        let taken = word.withdraw();
        if let Some(taken) = taken {
            let first = taken == Taken::Fresh;
            self.queue_of(word).withdrawn(word, first);
            self.book_refusal(first);
            self.host.refuse(scope, &task, self.refusal());
        }
        self.host.discard(scope, task);
        taken.is_some()
    }

    /// Whether a caller may still hope for a loan.
    pub fn may_lend(&self) -> bool {
        !self.is_killed() && !self.loans.are_given_up()
    }

    /// Answers a task that its caller wanted to run on a loan, which does not come.
    pub fn decline(&self, scope: H::Scope<'_>, task: H::Task) {
        self.answer(scope, task);
    }

    /// Why a task will not run now.
    pub(super) fn refusal(&self) -> Refusal {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode & BROKEN != 0 => Refusal::Broken,
            mode if mode & KILLED != 0 => Refusal::Killed,
            _ => Refusal::NoWorker,
        }
    }

    pub(super) fn book_refusal(&self, first: bool) {
        let count = if first { &self.strays.dropped } else { &self.strays.failed };
        count.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker without a resource is about to go: the last of its kind answers what waits. False when
    /// it has to go on, as something came; not if it `failed` to make a resource. `owed`: its last retry.
    pub(super) fn dismiss(
        &self,
        scope: H::Scope<'_>,
        badge: &Arc<Badge<H>>,
        failed: bool,
        owed: Failure,
    ) -> bool {
        let closing = self.is_closing();
        let queue = self.queue_at(badge.post());
        if closing {
            // Sealed first: whoever is the last then, stays the last.
            queue.close();
        }
        // While the runner is open, a base worker goes only if a stand-in took its place, or if it never came up.
        let to_remain = if closing || failed { 0 } else { self.settings.worker_count };
        let needed = closing || !badge.post().is_main();
        // A retry that is held is no reason: the worker that comes back for it is there.
        let waits = || queue.lanes.has_for(|| Proof::NONE);
        let stays = || needed && !failed && !self.is_killed() && waits();
        let relief = self.renewal.relief_of(badge);
        let Some(last) = self.roster.dismiss(badge, relief.as_deref(), to_remain, stays) else {
            return false;
        };
        if closing && failed && !badge.post().is_main() {
            if last {
                self.loans.give_up();
            }
            self.loans.lend_any();
        }
        queue.open(owed);
        // After a kill its own retry may have come into the lanes after the sweep, and does not wait for
        // the others.
        if closing && last || self.is_killed() {
            self.sweep_queue(scope, queue);
        }
        true
    }

    /// A worker's last act: gives its place back.
    pub(super) fn leave(&self, badge: &Arc<Badge<H>>) {
        self.renewal_ended(badge, true);
        self.roster.leave(badge);
        self.finish_if_over();
    }

    /// The place of a worker that never lived, or that fell over a second time.
    pub(super) fn abandon(&self, badge: &Arc<Badge<H>>) {
        if thread::panicking() {
            self.close(STOPPING | KILLED | BROKEN, || ());
        }
        self.leave(badge);
    }

    /// Our own code panicked while it did this worker's work: the runner is broken, and what the worker
    /// ran is answered.
    pub(super) fn collapse(
        &self,
        scope: H::Scope<'_>,
        badge: &Badge<H>,
        recorder: &super::figures::Recorder,
    ) {
        self.break_down(scope);
        while let Some(task) = badge.pop_running() {
            if self.host.deal(&task).is_some() {
                self.answer_items(scope, &task);
                self.host.discard(scope, task);
                continue;
            }
            let word = self.host.word(&task);
            recorder.count(Counter::Ended);
            if word.settle_running() {
                self.book_refusal(false);
                self.host.refuse(scope, &task, Refusal::Broken);
            } else {
                self.overdue_ended(word);
            }
            self.host.discard(scope, task);
        }
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

    /// Every worker, at this moment.
    pub fn members(&self) -> Vec<Arc<Badge<H>>> {
        self.roster.members()
    }

    pub(super) fn note(&self, now: Tick) {
        self.window.note(now, || self.flow());
    }

    /// Tasks that ever arrived and tasks that ever finished.
    fn flow(&self) -> (u64, u64) {
        let finished = self.finished();
        (self.arrived(), finished)
    }

    fn arrived(&self) -> u64 {
        self.main.gate.accepted() + self.express.gate.accepted()
    }

    fn finished(&self) -> u64 {
        let Strays { cancelled, dropped, timed_out, failed, completed, .. } = &self.strays;
        let strays = [cancelled, dropped, timed_out, failed, completed];
        let strays: u64 = strays.iter().map(|count| count.load(Ordering::SeqCst)).sum();
        let totals = self.ledger.totals();
        strays + totals[Counter::Completed] + totals[Counter::Failed]
    }

    /// What accumulated since the start.
    pub fn metrics(&self) -> Metrics {
        let strays = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let totals = self.ledger.totals();
        let (arrival_rate, completion_rate) = self.window.rates(self.clock.now(), self.flow());
        Metrics {
            completed: totals[Counter::Completed] + strays(&self.strays.completed),
            failed: totals[Counter::Failed] + strays(&self.strays.failed),
            retried: totals[Counter::Retried],
            refused: strays(&self.strays.refused),
            cancelled: strays(&self.strays.cancelled),
            dropped: strays(&self.strays.dropped),
            timed_out: strays(&self.strays.timed_out),
            arrived: self.arrived(),
            arrival_rate,
            completion_rate,
            summary: self.ledger.summary(),
        }
    }

    /// How many tasks wait, from what was read before.
    fn queued(&self, withdrawn: u64, totals: &Totals) -> u64 {
        let entered = self.main.entered() + self.express.entered();
        entered.saturating_sub(withdrawn + totals[Counter::Started] + totals[Counter::Resumed])
    }

    /// Gauges of this moment.
    pub fn stats(&self) -> Stats {
        // In the order finished, started, accepted: what moves on while we read makes a gauge a little
        // too large, never negative.
        let withdrawn = self.main.withdrawals() + self.express.withdrawals();
        let totals = self.ledger.totals();
        Stats {
            heads: self.roster.headcount(),
            queued: self.queued(withdrawn, &totals),
            urgent: self.main.high(),
            running: totals.running(),
            overdue: self.strays.overdue(),
            available: if self.settings.thread_bound {
                self.express.bell.sleepers()
            } else {
                self.loans.idle()
            },
        }
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
