//! One queue whole: the gate, the lanes behind it, the idle workers, the bound, and the count of
//! what waits.

pub mod accumulator;
pub mod gate;
pub mod idle_workers;
pub mod lanes;
pub(in crate::engine) mod lingering;
pub mod permits;

use self::gate::Gate;
use self::idle_workers::{IdleWorkers, Wakeable, Wakeup};
use self::lanes::{Entry, Lanes};
use self::lingering::{LingerKey, Lingerer, Lingering};
use self::permits::{Permit, Permits};
use super::clock::Tick;
use super::resource::epochs::{self, Eligibility, FailureEpoch};
use super::task::priority::Priority;
use super::task::{HOLDS_PERMIT, TaskWord};
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub struct Queue<T> {
    pub(super) gate: Gate,
    pub(super) lanes: Lanes<T>,
    /// What is to come into the lanes later.
    pub(super) lingering: Lingering<T>,
    pub(super) idle_workers: IdleWorkers,
    /// `None`: no bound, and no cost.
    pub(super) permits: Option<Permits>,
    /// For how long a retry is held; `None`: for ever.
    retry_hold: Option<Duration>,
    counters: CachePadded<QueueCounters>,
}

/// Monotone counters beside the gate's; a reader takes those of leaving first, so no difference is
/// ever negative. Only rare events write here: what workers take they count in counters of their
/// own.
#[derive(Debug, Default)]
struct QueueCounters {
    /// Left the queue without a start: cancelled, expired, dropped.
    withdrawn: AtomicU64,
    /// Came back for a retry.
    returned: AtomicU64,
    /// Those of the priorities that few tasks have, by priority: waiting tasks of another are the
    /// rest.
    entered: [AtomicU64; Priority::COUNT],
    left: [AtomicU64; Priority::COUNT],
    /// Tasks that are paused, and come back into the lanes whether the queue is closed or not.
    paused: AtomicU64,
    /// Entries in the lanes whose task is gone. Lowered when they are skipped or compacted away.
    tombstones: AtomicU64,
}

/// What becomes of a task inside the gate.
pub(super) enum Admitted<T> {
    /// It gets its entry now.
    Queued(T),
    /// It gets its entry later.
    Lingers,
    /// Another thread settled it meanwhile.
    Settled(T),
}

/// A task that was not accepted, which goes back to the submitter with the permit that it came
/// with.
#[derive(Debug)]
pub struct Rejected<'p, T> {
    /// The task.
    pub task: T,
    /// The submitter drops it. The callback of a waiter hands it back instead, for the next
    /// waiter.
    pub permit: Permit<'p>,
    /// True: another thread settled the task meanwhile. False: the queue is closed.
    pub is_settled: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: Option<usize>, retry_hold: Tick) -> Self {
        Self {
            gate: Gate::new(),
            lanes: Lanes::new(),
            lingering: Lingering::new(),
            idle_workers: IdleWorkers::new(),
            permits: bound.map(Permits::new),
            retry_hold: (retry_hold != Tick::MAX).then(|| Duration::from_nanos(retry_hold)),
            counters: CachePadded::new(QueueCounters::default()),
        }
    }

    /// Accepts a task, or as many items of a batch as the permit is for, or rejects it: in one step
    /// against [`close`](Self::close). `admit` decides inside that step, before the lanes have the
    /// entry, what becomes of it; `also` is called after that.
    pub(super) fn push<'p, R>(
        &self,
        priority: Priority,
        task: T,
        since: Tick,
        permit: Permit<'p>,
        admit: impl FnOnce(T) -> Admitted<T>,
        also: impl FnOnce() -> R,
    ) -> Result<R, Rejected<'p, T>> {
        let count = permit.count() as u64;
        let Some(pass) = self.gate.enter(count) else {
            return Err(Rejected { task, permit, is_settled: false });
        };
        let queued = match admit(task) {
            Admitted::Queued(task) => Some(task),
            Admitted::Lingers => None,
            Admitted::Settled(task) => {
                pass.cancel();
                return Err(Rejected { task, permit, is_settled: true });
            }
        };
        permit.consume();
        self.count_in(priority, count);
        let is_queued = queued.is_some();
        if let Some(task) = queued {
            self.lanes.push(priority, task, since);
        }
        let done = also();
        drop(pass);
        if is_queued {
            self.idle_workers.wake_one();
        }
        Ok(done)
    }

    /// Has a task linger that is being accepted.
    pub(super) fn linger(&self, key: LingerKey, priority: Priority, task: T, since: Tick) {
        self.lingering.add(key, Lingerer { priority, task, since });
    }

    /// Gives a task its entry that lingers, if it still does.
    pub(super) fn release(&self, key: LingerKey) {
        if self.lingering.release(key, |it| self.lanes.push(it.priority, it.task, it.since)) {
            self.idle_workers.wake_one();
        }
    }

    /// Gives those their entries that have lingered until this time.
    pub(super) fn release_due(&self, now: Tick) {
        if self.lingering.release_due(now, |it| self.lanes.push(it.priority, it.task, it.since)) {
            self.idle_workers.wake_one();
        }
    }

    /// Puts the entry of a batch back, in front of its priority. Its items are counted already.
    pub(super) fn rejoin(&self, priority: Priority, task: T, since: Tick) {
        self.lanes
            .push_front(priority, Entry { task, since, failure_epoch: epochs::INITIAL_EPOCH });
        self.idle_workers.wake_one();
    }

    /// Queues, before everything else, a task that another queue accepted and has no worker for.
    /// The error: the task comes back, as this queue is closed.
    pub(super) fn adopt(&self, mut entry: Entry<T>) -> Result<(), T> {
        let Some(pass) = self.gate.enter(0) else {
            return Err(entry.task);
        };
        entry.failure_epoch = epochs::INITIAL_EPOCH;
        self.lanes.push_front(Priority::High, entry);
        drop(pass);
        self.idle_workers.wake_one();
        Ok(())
    }

    /// Queues a retry. Its task was accepted when it was submitted: neither gate nor bound is
    /// asked.
    pub(super) fn push_retry(&self, priority: Priority, entry: Entry<T>) {
        self.count_returned();
        self.count_in(priority, 1);
        self.lanes.push_front(priority, entry);
        // Not one worker, which perhaps may not take the retry: every worker that would sleep
        // beyond the time from which on any worker may take it. Each of them looks once, and then
        // sleeps until that time at most. A worker that may take it earlier is awake, or about to
        // be.
        self.idle_workers.wake_beyond(self.retry_hold);
    }

    /// Queues a task whose pause is over. It was accepted when it was submitted, too, and has held a
    /// permit since it was paused.
    pub(super) fn push_resumed(&self, priority: Priority, task: T, since: Tick) {
        self.count_resumed(priority);
        self.lanes.push(priority, task, since);
        self.idle_workers.wake_one();
        // After the push: a worker must not find the queue drained in between.
        self.uncount_paused();
    }

    /// A running task is about to be paused, and takes a permit for that; gives the flag which says
    /// so.
    pub(super) fn count_paused(&self) -> u32 {
        self.counters.paused.fetch_add(1, Ordering::SeqCst);
        let Some(permits) = &self.permits else {
            return 0;
        };
        permits.overdraw();
        HOLDS_PERMIT
    }

    /// A task is paused no more, and has no permit.
    pub(super) fn uncount_paused(&self) {
        self.counters.paused.fetch_sub(1, Ordering::SeqCst);
        self.retry_left();
    }

    /// How many tasks are paused.
    pub(super) fn paused(&self) -> u64 {
        self.counters.paused.load(Ordering::SeqCst)
    }

    /// Releases the retry of this failure, so that any worker may take it: the worker that would
    /// have come back for it leaves.
    pub(super) fn release_retry(&self, failure_epoch: FailureEpoch) {
        if self.lanes.release_retry(failure_epoch) {
            self.idle_workers.wake_one();
        }
    }

    /// Takes the most urgent entry that a worker with this `eligibility` may take. `was_woken`: the
    /// [`wait_for_task`](Self::wait_for_task) before it, if there was one, returned `Woken`. The
    /// wake-up is then passed on when more waits.
    pub(super) fn take(
        &self,
        was_woken: bool,
        eligibility: impl Fn() -> Eligibility,
    ) -> Option<Entry<T>> {
        let entry = self.lanes.pop(eligibility);
        if was_woken {
            // After the pop, so that a lone task wakes one worker and not two.
            self.wake_another();
        }
        if entry.as_ref().is_some_and(|entry| entry.failure_epoch != epochs::NO_FAILURE) {
            self.retry_left();
        }
        entry
    }

    /// Takes an entry to settle it or to hand it on, whichever worker it waits for.
    pub(super) fn take_any(&self) -> Option<Entry<T>> {
        self.take(false, || Eligibility::ANY)
    }

    /// Since when the entry waits that has waited longest; see [`Lanes::oldest`]. The caller
    /// discards what was taken out.
    pub(super) fn oldest(
        &self,
        is_live: impl Fn(&T) -> bool,
        never_started: impl Fn(&T) -> bool,
    ) -> (Option<Tick>, Vec<T>) {
        let found = self.lanes.oldest(is_live, never_started);
        self.wake_after_compaction();
        found
    }

    /// Entries were moved, and a worker that looked meanwhile may have found nothing.
    pub(super) fn wake_after_compaction(&self) {
        if !self.lanes.is_empty() {
            self.idle_workers.wake_one();
        }
    }

    /// Takes out the retries of a priority that `live` rejects.
    pub(super) fn compact_retries(
        &self,
        priority: Priority,
        live: impl Fn(&T, Tick) -> bool,
    ) -> Vec<T> {
        let dead = self.lanes.compact_retries(priority, live);
        if !dead.is_empty() {
            self.retry_left();
        }
        dead
    }

    /// Workers sleep while retries wait that they may not take. When nothing more can come they are
    /// to leave: the thread that takes the last retry out wakes one.
    fn retry_left(&self) {
        if self.is_drained() {
            self.idle_workers.wake_one();
        }
    }

    /// Blocks until a task waits that a worker with this `eligibility` may take, until no task can
    /// come any more, until the worker `has_other_work`, or until the limit passes. After `Woken`
    /// the worker owes a [`take`](Self::take) or a [`wake_another`](Self::wake_another). `warm`:
    /// the worker was at work just now, and the next task may be as near.
    pub(super) fn wait_for_task(
        &self,
        wakeable: Wakeable,
        warm: bool,
        limit: impl Fn() -> Option<Duration>,
        eligibility: impl Fn() -> Eligibility,
        has_other_work: impl Fn() -> bool,
    ) -> Wakeup {
        let idle = || !self.lanes.has_for(&eligibility) && !self.is_drained() && !has_other_work();
        if warm && self.idle_workers.yield_for_work(idle) {
            return Wakeup::Woken;
        }
        loop {
            // A new retry that this worker may not take yet changes the limit.
            let retries = self.lanes.held_retries();
            let nothing_new = || self.lanes.held_retries() == retries && idle();
            match self.idle_workers.sleep(wakeable, limit(), nothing_new) {
                // Another worker was quicker: this one sleeps again, without a return to its host,
                // which would ask for the interpreter.
                Wakeup::Woken if idle() => self.wake_another(),
                Wakeup::NotNeeded if idle() => {}
                woken => return woken,
            }
        }
    }

    /// Ends a wake-up without taking an entry.
    pub(super) fn wake_another(&self) {
        // At the end each woken worker wakes the next, until all have looked. Held retries wake no
        // further worker: `push_retry` woke the sleepers that they concern.
        self.idle_workers
            .wake_another(|| self.is_drained() || self.lanes.has_for(|| Eligibility::NONE));
    }

    /// Whether tasks wait and no worker sleeps that could be woken for them. A woken worker asks
    /// this after it has passed its wake-up on: the submitters of these tasks may have seen other
    /// workers still asleep.
    pub(super) fn leaves_tasks_waiting(&self) -> bool {
        self.idle_workers.sleepers() == 0 && !self.lanes.is_empty()
    }

    /// Counts a task that waits again.
    pub(super) fn count_returned(&self) {
        self.counters.returned.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a task that waits again after a pause.
    pub(super) fn count_resumed(&self, priority: Priority) {
        self.count_returned();
        self.count_in(priority, 1);
    }

    /// A worker claimed a waiting task, for the first time or again.
    pub(super) fn count_taken(&self, word: &TaskWord, first: bool) {
        if first || word.take_permit() {
            self.give_back_permit();
        }
        let priority = word.priority();
        if priority != Priority::Normal {
            self.counters.left[priority as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A task left that held a permit.
    pub(super) fn give_back_permit(&self) {
        if let Some(permits) = &self.permits {
            permits.give_back();
        }
    }

    fn count_in(&self, priority: Priority, count: u64) {
        if priority != Priority::Normal {
            self.counters.entered[priority as usize].fetch_add(count, Ordering::SeqCst);
        }
    }

    /// Waiting items of a batch left without a start.
    pub(super) fn count_items_withdrawn(&self, word: &TaskWord, items: usize) {
        (0..items).for_each(|_| self.count_withdrawn(word, true));
    }

    /// A waiting task left without a start.
    pub(super) fn count_withdrawn(&self, word: &TaskWord, first: bool) {
        self.counters.withdrawn.fetch_add(1, Ordering::SeqCst);
        self.count_taken(word, first);
    }

    /// A task ended while its entry stays in the lane. True when so many did that a compaction is
    /// due: about a thousand, or an eighth of the lanes, so that cancelling a long queue stays
    /// linear.
    pub(super) fn count_tombstone(&self) -> bool {
        const MANY: u64 = 1_000;
        let dead = self.counters.tombstones.fetch_add(1, Ordering::Relaxed) + 1;
        // Not with each one above: some cannot be compacted away just yet.
        dead >= MANY && dead.is_multiple_of(MANY / 4) && dead >= self.lanes.len() as u64 / 8
    }

    /// `count` tombstones were taken out of the lanes.
    pub(super) fn uncount_tombstones(&self, count: u64) {
        // Relaxed: only a threshold depends on it. Never below zero: each tombstone is counted
        // before a thread can find its entry dead, but for the instant between the cancel and its
        // count. Hence the saturation.
        let lower = |n: u64| Some(n.saturating_sub(count));
        let _ = self.counters.tombstones.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Refuses every submitter from now on. Wakes all waiters for a permit, and one of the workers
    /// that wait for tasks. Each of these workers wakes the next: all at once they would only fight
    /// for the core.
    pub(super) fn close(&self) {
        self.gate.close();
        // What was let in is there: nothing waits for more of its kind any longer.
        self.release_due(Tick::MAX);
        if let Some(permits) = &self.permits {
            permits.close();
        }
        self.idle_workers.wake_one();
    }

    /// Whether nothing waits, and nothing can come but retries of what runs.
    pub(super) fn is_drained(&self) -> bool {
        // In this order: what lingers, or is paused, is in its lane before it is counted as gone.
        self.gate.is_sealed()
            && self.paused() == 0
            && self.lingering.is_empty()
            && self.lanes.is_empty()
    }

    /// How many tasks left the queue without a start. Read before [`entered`](Self::entered).
    pub(super) fn withdrawals(&self) -> u64 {
        self.counters.withdrawn.load(Ordering::SeqCst)
    }

    /// How many tasks entered the queue, retries included. Read last.
    pub(super) fn entered(&self) -> u64 {
        self.counters.returned.load(Ordering::SeqCst) + self.gate.accepted()
    }

    /// How many tasks wait, more or less: the lanes without the tombstones.
    pub(super) fn waiting(&self) -> u64 {
        let dead = self.counters.tombstones.load(Ordering::Relaxed);
        (self.lanes.len() as u64).saturating_sub(dead)
    }

    /// How many tasks of a priority wait that is not the default one.
    pub(super) fn waiting_of(&self, priority: Priority) -> u64 {
        let left = self.counters.left[priority as usize].load(Ordering::SeqCst);
        self.counters.entered[priority as usize].load(Ordering::SeqCst).saturating_sub(left)
    }
}
