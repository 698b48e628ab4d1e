//! Which workers are started, and when: at the start, on demand, for a burst, for `run_task`, in
//! place of another.

pub mod failing_fast;
pub mod keeper;
pub mod pauses;
pub mod renewal;
pub mod target;
pub mod threads;

use self::target::LoadSample;
use self::threads::{Threads, Worker};
use super::clock::Tick;
use super::engine::Engine;
use super::host::{Host, Notice};
use super::metrics::LoadTotals;
use super::metrics::counters::WorkerCounter;
use super::queue::lanes::Entry;
use super::resource::epochs;
use super::roster::WorkerCounts;
use super::roster::limits::BelowBase;
use super::roster::shared::{DISMISSED, OVERDUE, WorkerKind, WorkerShared};
use super::settings::EngineSettings;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

impl<H: Host> Engine<H> {
    /// Whether base workers are started one by one as tasks come, and some are still to be.
    #[inline]
    pub(super) fn has_unstarted_base(&self) -> bool {
        self.misses_base.load(Ordering::Relaxed) && self.settings.on_demand
    }

    #[inline]
    pub(super) fn add_base_if_needed(&self) -> Option<Arc<WorkerShared<H::Task>>> {
        if self.misses_base.load(Ordering::Relaxed) { self.add_base() } else { None }
    }

    fn add_base(&self) -> Option<Arc<WorkerShared<H::Task>>> {
        self.roster.add(&self.settings, false, |counts| {
            // None in place of an overdue one, which may end first and leave for a worker whose thread
            // fails again.
            let missing = self.missing_base(counts).saturating_sub(counts.overdue);
            let is_needed = || {
                // A worker that took an entry counts itself as busy and then looks for more, so
                // nothing is overlooked in between.
                let busy_on_demand = self.busy_on_demand.load(Ordering::SeqCst);
                self.main.lanes.len() > counts.main.saturating_sub(busy_on_demand)
            };
            let adds = missing > 0 && (!self.settings.on_demand || is_needed());
            if missing == usize::from(adds) {
                // If the last one gets no thread, that is noted after this.
                self.misses_base.store(false, Ordering::Relaxed);
            }
            adds.then_some(WorkerKind::Base)
        })
    }

    /// How many base workers may be started for those that are missing.
    fn missing_base(&self, counts: WorkerCounts) -> usize {
        let missing = self.limits().workers().saturating_sub(counts.base_slots);
        missing.min(self.limits().max().saturating_sub(counts.main))
    }

    /// Has the keeper think about burst workers when every base and burst worker is busy.
    pub(super) fn load_grew(&self, now: Tick) {
        if self.limits().bursts() && self.main.idle_workers.sleepers() == 0 {
            self.request_scaling(now);
        }
    }

    /// [`load_grew`](Self::load_grew) for a worker that was woken: submitters which came before it
    /// was up counted it as asleep.
    pub(super) fn load_is_left(&self) {
        if self.limits().bursts() && self.main.leaves_tasks_waiting() {
            self.request_scaling(self.clock.now());
        }
    }

    pub(super) fn request_scaling(&self, now: Tick) {
        // Relaxed: one submitter more or less that wakes the keeper makes no difference.
        if !self.scaling.load(Ordering::Relaxed) && !self.scaling.swap(true, Ordering::Relaxed) {
            self.deadlines.scale_at(now.saturating_add(self.settings.burst_interval));
        }
    }

    /// `for_retry`: idle loans will not do.
    pub(super) fn add_reserved_if_needed(
        &self,
        for_retry: bool,
    ) -> Option<Arc<WorkerShared<H::Task>>> {
        let EngineSettings { keep_reserved, thread_bound, .. } = self.settings;
        let kind = if keep_reserved { WorkerKind::Reserved } else { WorkerKind::Temporary };
        self.roster.add(&self.settings, false, |counts| {
            let (wanted, free) = if thread_bound {
                // A worker that took an entry counts itself as busy and then looks for more, so
                // nothing is overlooked in between.
                let busy_on_demand = self.busy_on_demand.load(Ordering::SeqCst);
                (self.reserved.lanes.len(), counts.reserved.saturating_sub(busy_on_demand))
            } else if for_retry {
                (self.loans.retry_waiters(), counts.reserved_without_resource)
            } else {
                (self.loans.waiters(), self.loans.idle() + counts.reserved_without_resource)
            };
            (wanted > free && counts.reserved < self.reserve_limit()).then_some(kind)
        })
    }

    /// A worker that was started had no thread, or one that ended before it came up: what counted
    /// on it goes elsewhere. Callers that wait for a loan ask for another worker themselves.
    pub(super) fn lost_worker(&self, scope: H::Scope<'_>, kind: WorkerKind) {
        let counts = self.roster.counts();
        if !kind.is_main() && counts.reserved == 0 && self.settings.thread_bound {
            // No thread to be had (the interpreter is ending, or the system is full): the base
            // workers take what waits in the reserved queue, before everything else.
            self.move_reserved_to_main(scope);
        }
        if kind.is_main() {
            self.misses_base.store(true, Ordering::Relaxed);
            if self.settings.on_demand {
                self.abandon_without_worker(scope);
            }
        }
    }

    pub(super) fn move_reserved_to_main(&self, scope: H::Scope<'_>) {
        let held_open = self.roster.hold_open();
        while let Some(entry) = self.reserved.take_any() {
            if let Err(task) = self.main.adopt(entry) {
                self.abandon_loan_call(scope, task);
            }
        }
        drop(held_open);
        self.finish_if_over();
    }

    /// Has the workers that are dismissed leave, which sleep or wait to make a resource.
    fn call_dismissed(&self) {
        let workers = self.roster.workers();
        let is_dismissed = |worker: &&Arc<WorkerShared<_>>| worker.has(DISMISSED);
        // In order, as the workers are.
        let numbers: Vec<_> =
            workers.iter().filter(is_dismissed).map(|worker| worker.number()).collect();
        for queue in [&self.main, &self.reserved] {
            queue.idle_workers.call(|number| numbers.binary_search(&number).is_ok());
        }
        self.backoff.wake_all();
    }

    pub(super) fn wake_all(&self) {
        self.main.idle_workers.wake_all();
        self.reserved.idle_workers.wake_all();
        self.backoff.wake_all();
    }
}

impl<H: Threads> Engine<H> {
    /// Starts the first workers.
    /// [`StartupLatch::wait`](super::roster::startup_latch::StartupLatch::wait) tells when all
    /// have their resource.
    ///
    /// # Errors
    ///
    /// Why a thread could not be started; the caller kills the engine then.
    pub fn start_workers(self: &Arc<Self>, scope: H::Scope<'_>) -> Result<(), H::Fault> {
        let EngineSettings { reserve_at_start, .. } = self.settings;
        let base = self.settings.base_at_start();
        let kinds = [(WorkerKind::Base, base), (WorkerKind::Reserved, reserve_at_start)];
        // All slots first: a worker that is up may want one for its successor, and finds how many
        // are left.
        let first: Vec<_> = kinds
            .into_iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(kind, count))
            .filter_map(|kind| self.roster.add(&self.settings, false, |_| Some(kind)))
            .map(|worker| Worker::new(Arc::clone(self), worker, true))
            .collect();
        first.into_iter().try_for_each(|worker| self.host.spawn(scope, worker))
    }

    /// Changes how many workers are asked for, of what is given: dismisses those that are too many,
    /// the idle first, and starts those that are missing.
    ///
    /// # Errors
    ///
    /// The maximum would be below the base workers; nothing is changed.
    pub fn resize(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        workers: Option<usize>,
        max: Option<usize>,
    ) -> Result<(), BelowBase> {
        self.roster.resize(workers, max, || self.reserve_limit())?;
        self.loans.recall(|worker| worker.has(DISMISSED));
        self.call_dismissed();
        if self.limits().bursts()
            && let Err(fault) = self.need_keeper(scope)
        {
            self.host.notice(scope, Notice::NoThread(fault));
        }
        if !self.start_missing(scope, 0)
            && self.roster.counts().base_slots == 0
            && let Some(late) = self.roster.workers().iter().find(|worker| worker.has(OVERDUE))
        {
            self.host.notice(scope, Notice::Overdue(late.name()));
        }
        self.start_reserved_if_needed(scope);
        self.load_grew(self.clock.now());
        Ok(())
    }

    /// Starts the base workers that are missing, and burst workers until there are `target` of
    /// both. Tells whether it started any.
    fn start_missing(self: &Arc<Self>, scope: H::Scope<'_>, target: usize) -> bool {
        let wanted = |counts: WorkerCounts| match self.limits() {
            // Asked under the roster's lock: once the runner has ended no worker is started.
            limits if self.is_closing() || counts.main >= limits.max() => None,
            _ if self.missing_base(counts) > 0 => Some(WorkerKind::Base),
            _ => (counts.main < target).then_some(WorkerKind::Burst),
        };
        let mut has_started = false;
        while let Some(worker) = self.roster.add(&self.settings, false, wanted) {
            if let Err(fault) = self.spawn_worker(scope, worker) {
                self.misses_base.store(true, Ordering::Relaxed);
                self.host.notice(scope, Notice::NoThread(fault));
                break;
            }
            has_started = true;
        }
        has_started
    }

    /// Starts the thread of a worker on the roster.
    pub(super) fn spawn_worker(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        worker: Arc<WorkerShared<H::Task>>,
    ) -> Result<(), H::Fault> {
        self.host.spawn(scope, Worker::new(Arc::clone(self), worker, false))
    }

    /// Starts a base worker if more tasks wait than workers are free, and there is a free slot.
    pub(super) fn start_base_if_needed(self: &Arc<Self>, scope: H::Scope<'_>) {
        if let Some(worker) = self.add_base_if_needed()
            && let Err(fault) = self.start_base(scope, worker)
        {
            self.host.notice(scope, Notice::NoThread(fault));
        }
    }

    /// Starts the thread of a base worker for a task. The error, where workers are started on
    /// demand: there is no thread, nor another worker.
    pub(super) fn start_base(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        worker: Arc<WorkerShared<H::Task>>,
    ) -> Result<(), H::Fault> {
        let Err(fault) = self.spawn_worker(scope, worker) else {
            return Ok(());
        };
        // Its loop, which never ran, has given the slot back.
        self.misses_base.store(true, Ordering::Relaxed);
        if self.settings.on_demand && self.roster.counts().main == 0 {
            return Err(fault);
        }
        self.host.notice(scope, Notice::NoThread(fault));
        Ok(())
    }

    /// Starts burst workers for the load there is. Called by the keeper.
    pub(super) fn scale(self: &Arc<Self>, scope: H::Scope<'_>) {
        self.scaling.store(false, Ordering::Relaxed);
        // Not the length of the lanes: one entry of a batch stands for many items.
        let withdrawn = self.main.withdrawals() + self.reserved.withdrawals();
        let (now, totals) = (self.clock.now(), self.ledger.totals());
        let elsewhere = self.reserved.waiting() + self.loans.waiters() as u64;
        let waiting = self.queued(withdrawn, &totals).saturating_sub(elsewhere);
        let load = {
            let mut load_totals = self.load_totals.lock();
            let next = LoadTotals {
                at: now,
                arrived: self.main.gate.accepted(),
                ended: totals[WorkerCounter::Ended],
                run_time: totals[WorkerCounter::ExecutionTime],
            };
            let last = std::mem::replace(&mut *load_totals, next);
            LoadSample {
                elapsed: now.saturating_sub(last.at),
                // A submitter that comes too late is counted for a moment.
                arrived: load_totals.arrived.saturating_sub(last.arrived),
                ended: load_totals.ended - last.ended,
                run_time: load_totals.run_time.saturating_sub(last.run_time),
                waiting,
                workers: self.roster.counts().main,
                most: self.limits().max(),
                target_wait: self.settings.burst_interval,
            }
        };
        if waiting == 0 || self.is_closing() {
            return;
        }
        // Looked at again for as long as anything waits.
        self.request_scaling(now);
        if self.backoff.failing_since().is_some() {
            return;
        }
        self.start_missing(scope, target::target_workers(load));
    }

    /// Starts workers for `run_task` while more tasks wait than workers are free, and the limit
    /// allows.
    pub fn start_reserved_if_needed(self: &Arc<Self>, scope: H::Scope<'_>) {
        while let Some(worker) = self.add_reserved_if_needed(false)
            && self.start_reserved(scope, worker)
        {}
    }

    /// [`start_reserved_if_needed`](Self::start_reserved_if_needed), for a caller that waits for a
    /// loan for this task.
    pub fn start_reserved_for(self: &Arc<Self>, scope: H::Scope<'_>, entry: &Entry<H::Task>) {
        if let Some(worker) = self.add_reserved_if_needed(entry.failure_epoch != epochs::NO_FAILURE)
        {
            self.start_reserved(scope, worker);
        }
    }

    /// Starts the thread of a worker for `run_task`; false when there is none to be had.
    pub(super) fn start_reserved(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        worker: Arc<WorkerShared<H::Task>>,
    ) -> bool {
        let lost = |fault| {
            self.host.notice(scope, Notice::NoThread(fault));
            self.lost_worker(scope, WorkerKind::Reserved);
        };
        self.spawn_worker(scope, worker).map_err(lost).is_ok()
    }

    /// Starts a substitute for the worker whose task (told by `is`) outlived its limit.
    pub fn start_substitute(self: &Arc<Self>, scope: H::Scope<'_>, is: impl Fn(&H::Task) -> bool) {
        let workers = self.roster.workers();
        let Some(worker) = workers.iter().find(|worker| worker.mark_overdue(&is)) else {
            return;
        };
        if !worker.is_base() || self.is_closing() {
            return;
        }
        if let Some(successor) = self.renewal_turn.successor_of(worker) {
            // Its successor is on the way already.
            self.roster.count_successor(&successor);
            return;
        }
        if !self.start_missing(scope, 0) {
            self.host.notice(scope, Notice::Overdue(worker.name()));
        }
    }
}
