//! The engine: accepts tasks, hires workers, and ends in order.
//!
//! The mode only ever moves on: running, then stopping or killed, then ended. See `DESIGN.md` for who
//! changes what, and for the rules of the shutdown.

use super::backoff::Backoff;
use super::clock::{Clock, Tick};
use super::deadlines::{Deadlines, Key};
use super::figures::{Counter, Ledger, Summary, Window};
use super::host::{Host, Refusal};
use super::lanes::Class;
use super::launch::Launch;
use super::loans::Loans;
use super::queue::{Closed, Queue};
use super::roster::{Headcount, Roster};
use super::settings::Settings;
use super::task::{Claim, Taken, TaskWord};
use super::worker::{Badge, Life, Post, is_express};
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::{Arc, CachePadded};
use std::time::Duration;

const STOPPING: u8 = 1;
const KILLED: u8 = 2;
const BROKEN: u8 = 4;
const ENDED: u8 = 8;

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
    deadlines: Deadlines<H::Task>,
    pub(super) ledger: Arc<Ledger>,
    window: Window,
    /// Flags above, each set once and never cleared. `SeqCst`: a worker that claims and then looks here,
    /// and a kill that writes here and then sweeps, must not both miss the other.
    mode: CachePadded<AtomicU8>,
    strays: Strays,
}

/// Outcomes that no worker's tally counts. Written by whoever brings them about.
#[derive(Debug, Default)]
struct Strays {
    refused: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    timed_out: AtomicU64,
    /// Retries that were waiting when the runner was killed: they had run, and failed.
    failed: AtomicU64,
    /// Tasks whose function runs on after their time limit. A gauge.
    overdue: AtomicU64,
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
    /// Tasks whose time limit passed, waiting or running.
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
            launch: Launch::new(settings.worker_count + settings.reserve_at_start),
            loans: Loans::new(),
            main: Queue::new(settings.max_queue_size),
            express: Queue::new(None),
            roster: Roster::new(),
            backoff: Backoff::new(seed),
            deadlines: Deadlines::new(),
            ledger: Arc::new(Ledger::new()),
            window: Window::new(clock.now()),
            mode: CachePadded::new(AtomicU8::new(0)),
            strays: Strays::default(),
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
        let Settings { worker_count, reserve_at_start, .. } = self.settings;
        for (post, count) in [(Post::Base, worker_count), (Post::Reserved, reserve_at_start)] {
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
        let Some(badge) = self.roster.hire(&self.settings.name, post, allowed) else {
            return Ok(false);
        };
        self.host.spawn(scope, Life::new(Arc::clone(self), badge, launching))?;
        Ok(true)
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
        self.main.push(class, task, since).inspect_err(|_| {
            if let Some(permits) = &self.main.permits {
                permits.give_back();
            }
        })
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
        self.express.push(Class::Normal, task, since)?;
        self.staff_express(scope);
        Ok(())
    }

    /// Counts a `run_task` that the caller is going to run itself, unless the runner is closing.
    pub fn enter_express(&self, since: Tick) -> bool {
        self.note(since);
        self.express.gate.enter().is_some()
    }

    /// Hires a worker for `run_task` if tasks wait, nobody is idle, and the limit allows.
    pub fn staff_express(self: &Arc<Self>, scope: H::Scope<'_>) {
        let bound = self.settings.thread_bound;
        let waiting = if bound { self.express.lanes.len(Class::Normal) } else { 1 };
        let idle = if bound { self.express.bell.sleepers() } else { self.loans.idle() };
        if waiting <= idle {
            return;
        }
        let post = if self.settings.keep_reserved { Post::Reserved } else { Post::Temporary };
        let limit = self.settings.reserve_limit;
        if let Err(fault) = self.hire(scope, post, false, |heads| heads.express < limit) {
            self.host.keep_fault(scope, fault);
            let nobody = self.roster.headcount().express == 0;
            if nobody && bound {
                // No thread to be had (the interpreter is ending, or the system is full): the base
                // workers take it, before everything else.
                self.move_express_to_main();
            }
        }
    }

    fn move_express_to_main(&self) {
        while let Some(entry) = self.express.lanes.pop() {
            self.main.lanes.push_again(Class::High, entry);
            self.main.bell.ring();
        }
    }

    /// Which queue a task belongs to.
    pub(super) fn queue_of(&self, word: &TaskWord) -> &Queue<H::Task> {
        if is_express(word.flags()) { &self.express } else { &self.main }
    }

    // ---- tasks that leave without a worker ------------------------------------------------------

    /// Books a task that the caller just cancelled. Its entry stays in the lane as a tombstone.
    pub fn cancelled(&self, scope: H::Scope<'_>, word: &TaskWord) {
        self.strays.cancelled.fetch_add(1, Ordering::SeqCst);
        self.leave_tombstone(scope, word, true);
    }

    fn leave_tombstone(&self, scope: H::Scope<'_>, word: &TaskWord, first: bool) {
        let queue = self.queue_of(word);
        queue.withdrawn(word, first);
        if queue.bury() {
            for class in [Class::Low, Class::Normal, Class::High] {
                let dead = queue.lanes.sift(class, |task| !self.host.word(task).is_done());
                queue.unbury(dead.len() as u64);
                for task in dead {
                    self.host.discard(scope, task);
                }
                if !queue.lanes.is_empty() {
                    queue.bell.ring();
                }
            }
        }
    }

    /// Books a refused submit.
    pub fn refused(&self) {
        self.strays.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the outcome of a task whose time limit passed. The caller owns it then, and publishes.
    pub fn take_expired(&self, scope: H::Scope<'_>, word: &TaskWord) -> Option<Taken> {
        // Before the take: its runner lowers the gauge as soon as it sees the mark.
        self.strays.overdue.fetch_add(1, Ordering::SeqCst);
        let taken = word.expire();
        if taken != Some(Taken::Running) {
            self.strays.overdue.fetch_sub(1, Ordering::SeqCst);
        }
        match taken? {
            Taken::Running => {}
            waiting => {
                self.strays.timed_out.fetch_add(1, Ordering::SeqCst);
                self.leave_tombstone(scope, word, waiting == Taken::Fresh);
            }
        }
        taken
    }

    pub(super) fn overdue_ended(&self, word: &TaskWord) {
        if word.has(super::task::EXPIRED) {
            self.strays.overdue.fetch_sub(1, Ordering::SeqCst);
            self.strays.timed_out.fetch_add(1, Ordering::SeqCst);
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
        let Settings { worker_count, max_worker_count, .. } = self.settings;
        let hired = self.hire(scope, Post::Base, false, |heads| {
            heads.base + heads.starting < worker_count
                && heads.base + heads.burst + heads.starting + heads.overdue < max_worker_count
        });
        match hired {
            Ok(true) => {}
            Ok(false) => self.host.report_overdue(scope, badge),
            Err(fault) => {
                self.host.keep_fault(scope, fault);
                self.host.report_overdue(scope, badge);
            }
        }
    }

    // ---- time limits --------------------------------------------------------------------------

    /// Watches a task's time limit, starting the keeper when it is the first.
    ///
    /// # Errors
    ///
    /// The keeper's thread could not be started.
    pub fn watch(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        due: Tick,
        task: H::Task,
    ) -> Result<Key, H::Fault> {
        if self.deadlines.claim_keeper()
            && let Err(fault) = self.host.spawn_keeper(scope, self)
        {
            self.deadlines.disclaim_keeper();
            self.host.discard(scope, task);
            return Err(fault);
        }
        Ok(self.deadlines.add(due, task))
    }

    /// Stops watching a task's time limit.
    pub fn unwatch(&self, scope: H::Scope<'_>, key: Key) {
        if let Some(task) = self.deadlines.remove(key) {
            self.host.discard(scope, task);
        }
    }

    /// The keeper's life: ends tasks as they fall due, until the engine has ended.
    pub fn keep(&self, scope: H::Scope<'_>) {
        while self.host.park(scope, || self.deadlines.wait(|| self.clock.now())) {
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
        self.close(STOPPING);
    }

    /// Kills: no task starts from here on; everything that waits is answered before this returns.
    pub fn kill(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED);
        self.sweep(scope, Refusal::Killed);
    }

    /// Our own code failed: refuses everything from here on and answers what waits.
    pub fn break_down(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED | BROKEN);
        self.sweep(scope, Refusal::Broken);
    }

    /// Marks an engine that a fork left without its threads. Touches nothing but the mode.
    pub fn forsake(&self) {
        self.mode.fetch_or(STOPPING | KILLED | BROKEN, Ordering::SeqCst);
    }

    /// Blocks until nothing is left or the limit passes; true when nothing is.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        self.roster.wait_empty(limit)
    }

    fn close(&self, mode: u8) {
        // The mode first: a worker that finds the lanes drained must know why it was woken.
        self.mode.fetch_or(mode, Ordering::SeqCst);
        self.main.close();
        self.express.close();
        self.backoff.close();
        self.loans.recall();
        if self.roster.wait_empty(Duration::ZERO) {
            self.finish();
        }
    }

    fn finish(&self) {
        self.mode.fetch_or(ENDED, Ordering::SeqCst);
        self.deadlines.close();
    }

    /// Answers everything that waits.
    fn sweep(&self, scope: H::Scope<'_>, why: Refusal) {
        for queue in [&self.main, &self.express] {
            self.sweep_queue(scope, queue, why);
        }
    }

    fn sweep_queue(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>, why: Refusal) {
        while let Some(entry) = queue.lanes.pop() {
            let word = self.host.word(&entry.task);
            match word.claim() {
                Claim::Lost => queue.unbury(1),
                claim => {
                    queue.withdrawn(word, claim == Claim::First);
                    self.book_refusal(claim == Claim::First);
                    self.host.refuse(scope, &entry.task, why);
                }
            }
            self.host.discard(scope, entry.task);
        }
    }

    pub(super) fn book_refusal(&self, first: bool) {
        let count = if first { &self.strays.dropped } else { &self.strays.failed };
        count.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker's last act: gives its place back, and answers for what nobody is left to serve.
    pub(super) fn retire(self: &Arc<Self>, scope: H::Scope<'_>, badge: &Arc<Badge<H>>, gave_up: bool) {
        let left = self.roster.leave(badge);
        if self.is_killed() {
            self.sweep(scope, if self.is_broken() { Refusal::Broken } else { Refusal::Killed });
        } else if left.last_of_main && self.is_closing() {
            // Sealed first: a submitter may still be inside the gate when the last one gives up.
            self.main.close();
            self.sweep_queue(scope, &self.main, Refusal::NoWorker);
        } else if !badge.post().is_main() && !self.express.lanes.is_empty() {
            if gave_up && left.last_of_express {
                self.express.close();
                self.sweep_queue(scope, &self.express, Refusal::NoWorker);
            } else {
                // Something came between a temporary worker's last look and its leaving.
                self.staff_express(scope);
            }
        }
        if self.is_closing() && self.roster.wait_empty(Duration::ZERO) {
            self.finish();
        }
    }

    /// The place of a worker that never lived, or whose loop panicked.
    pub(super) fn abandon(&self, badge: &Arc<Badge<H>>) {
        self.roster.leave(badge);
        if std::thread::panicking() {
            self.close(STOPPING | KILLED | BROKEN);
        } else if self.is_closing() && self.roster.wait_empty(Duration::ZERO) {
            self.finish();
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
        let Strays { cancelled, dropped, timed_out, failed, .. } = &self.strays;
        let strays = [cancelled, dropped, timed_out, failed];
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
            completed: totals[Counter::Completed],
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

    /// Gauges of this moment.
    pub fn stats(&self) -> Stats {
        // In the order finished, started, accepted: what moves on while we read makes a gauge a little
        // too large, never negative.
        let withdrawn = self.main.withdrawals() + self.express.withdrawals();
        let overdue = self.strays.overdue.load(Ordering::SeqCst);
        let totals = self.ledger.totals();
        let entered = self.main.entered() + self.express.entered();
        Stats {
            heads: self.roster.headcount(),
            queued: entered
                .saturating_sub(withdrawn + totals[Counter::Started] + totals[Counter::Resumed]),
            urgent: self.main.high(),
            running: totals.running(),
            overdue,
            available: if self.settings.thread_bound {
                self.express.bell.sleepers()
            } else {
                self.loans.idle()
            },
        }
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
