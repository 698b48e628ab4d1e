//! One queue whole: the gate, the lanes behind it, the idle workers, the bound, and the count of
//! what waits.

pub mod accumulator;
pub mod gate;
pub mod idle_workers;
pub mod key_homes;
pub mod lanes;
mod line_figures;
pub(in crate::engine) mod lingering;
pub mod permits;
pub mod serial_lines;

use self::gate::Gate;
use self::idle_workers::{IdleWorkers, Wakeable, Wakeup};
use self::key_homes::KeyHomes;
use self::lanes::{Entry, Lanes};
use self::lingering::{LingerKey, Lingerer, Lingering};
use self::permits::{Permit, Permits};
use self::serial_lines::{Raise, SerialLines};
use super::clock::Tick;
use super::resource::epochs::{self, Eligibility, FailureEpoch};
use super::task::key::KeyNumber;
use super::task::priority::Priority;
use super::task::{HOLDS_PERMIT, Phase, TaskWord, WAS_PAUSED};
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
    /// What is to come into the lanes one after the other.
    pub(super) serial_lines: SerialLines<T>,
    pub(super) idle_workers: IdleWorkers,
    pub(super) key_homes: KeyHomes,
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
            serial_lines: SerialLines::new(),
            idle_workers: IdleWorkers::new(),
            key_homes: KeyHomes::default(),
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
        (priority, key): (Priority, KeyNumber),
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
            self.wake_for(key);
        }
        Ok(done)
    }

    /// Wakes a worker for a task that was pushed just now.
    #[inline]
    fn wake_for(&self, key: KeyNumber) {
        if !(key.is_some() && self.call_home(key)) {
            self.idle_workers.wake_one();
        }
    }

    /// Gives the new head of a line its entry. A worker that `looks_next` itself is going to take it,
    /// or to wake another.
    pub(super) fn push_head(
        &self,
        (lane, key): (Priority, KeyNumber),
        task: T,
        since: Tick,
        looks_next: bool,
    ) {
        self.lanes.push(lane, task, since);
        // After the push: a worker must not find the queue drained in between.
        self.serial_lines.entered();
        if !looks_next {
            self.wake_for(key);
        }
    }

    /// Has the head of a line wait in a higher lane: its retry is moved, and otherwise it gets another
    /// entry.
    pub(super) fn raise(&self, raise: Raise<T>, word: impl Fn(&T) -> &TaskWord) -> Option<T> {
        let Raise { task, since, from, to } = raise;
        let own = word(&task);
        let is_its = |other: &T| std::ptr::eq(word(other), own);
        if self.lanes.raise_retry(from, to, is_its)
            || own.phase() != Phase::Waiting && !own.has(WAS_PAUSED)
        {
            return Some(task);
        }
        self.lanes.push(to, task, since);
        self.count_tombstones(1);
        self.idle_workers.wake_one();
        None
    }

    /// Has the home of a key expected for a task that was pushed just now, or another worker if the home
    /// is busy. False: none is free, as far as is known, or so many tasks wait that it would take
    /// another.
    fn call_home(&self, key: KeyNumber) -> bool {
        let home = self.key_homes.get(key);
        let coming = home.filter(|home| self.key_homes.is_coming(*home));
        if coming.is_none() && self.idle_workers.sleepers() == 0
            || self.lanes.fresh_len() as u64 > self.idle_workers.expected() + 1
        {
            return false;
        }
        if let Some(home) = coming {
            // Before the promise: the home may be through with it at once.
            self.idle_workers.expect_one();
            if self.key_homes.promise(home) {
                return true;
            }
            self.idle_workers.expect_one_less();
        }
        self.idle_workers.wake_home(home, |home| self.key_homes.is_busy(home))
    }

    /// Has a task linger that is being accepted.
    pub(super) fn linger(&self, key: LingerKey, priority: Priority, task: T, since: Tick) {
        self.lingering.add(key, Lingerer { priority, task, since });
    }

    /// Gives those their entries that linger by these keys, and still do.
    pub(super) fn release(&self, keys: Vec<LingerKey>) {
        let mut any = false;
        for key in keys {
            any |=
                self.lingering.release(key, |it| self.lanes.push(it.priority, it.task, it.since));
        }
        if any {
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
    /// asked. `lane`: where it waits, if not by its own priority.
    pub(super) fn push_retry(&self, priority: Priority, lane: Priority, entry: Entry<T>) {
        self.count_returned();
        self.count_in(priority, 1);
        self.lanes.push_front(lane, entry);
        // Not one worker, which perhaps may not take the retry: every worker that would sleep
        // beyond the time from which on any worker may take it. Each of them looks once, and then
        // sleeps until that time at most. A worker that may take it earlier is awake, or about to
        // be.
        self.idle_workers.wake_beyond(self.retry_hold);
    }

    /// Queues a task whose pause is over, and that is [counted](Self::count_resumed). It was accepted when
    /// it was submitted, too, and has held a permit since it was paused.
    pub(super) fn push_resumed(&self, lane: Priority, task: T, since: Tick) {
        self.lanes.push(lane, task, since);
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

    /// Takes the most urgent entry that a worker with this `eligibility` may take. `wakeup`: what
    /// the [`wait_for_task`](Self::wait_for_task) before it returned, if there was one. It is ended,
    /// and passed on when more waits. Of several workers that are expected each looks for a task that
    /// `is_mine`, among as many as they are.
    pub(super) fn take(
        &self,
        wakeup: Wakeup,
        eligibility: impl Fn() -> Eligibility,
        is_mine: impl Fn(&T) -> bool,
    ) -> Option<Entry<T>> {
        let entry = if self.expected() == 0 {
            self.lanes.pop(eligibility)
        } else {
            self.pop_beside_expected(wakeup, &eligibility, is_mine)
        };
        if wakeup.is_owed() {
            // After the pop, so that a lone task wakes one worker and not two.
            self.wake_another(wakeup);
        }
        if entry.as_ref().is_some_and(|entry| entry.failure_epoch != epochs::NO_FAILURE) {
            self.retry_left();
        }
        entry
    }

    #[cold]
    fn pop_beside_expected(
        &self,
        wakeup: Wakeup,
        eligibility: &impl Fn() -> Eligibility,
        is_mine: impl Fn(&T) -> bool,
    ) -> Option<Entry<T>> {
        if wakeup == Wakeup::Expected {
            let most = usize::try_from(self.expected()).unwrap_or(usize::MAX);
            self.lanes.pop_own(eligibility, most.max(1), is_mine)
        } else if self.is_left_to_expected() {
            self.lanes.pop_retry(eligibility)
        } else {
            self.lanes.pop(eligibility)
        }
    }

    /// Takes an entry to settle it or to hand it on, whichever worker it waits for.
    pub(super) fn take_any(&self) -> Option<Entry<T>> {
        let entry = self.lanes.pop(|| Eligibility::ANY);
        if entry.as_ref().is_some_and(|entry| entry.failure_epoch != epochs::NO_FAILURE) {
            self.retry_left();
        }
        entry
    }

    /// How many workers are expected. Without keys none is.
    #[inline]
    fn expected(&self) -> u64 {
        if self.key_homes.are_used() { self.idle_workers.expected() } else { 0 }
    }

    /// Whether the fresh entries are no more than the workers that are expected. When the queue is
    /// closed nobody leaves anything to others.
    #[inline]
    fn is_left_to_expected(&self) -> bool {
        let expected = self.expected();
        expected > 0 && self.lanes.fresh_len() as u64 <= expected && !self.gate.is_sealed()
    }

    /// Whether anything waits that a worker with this `eligibility` may take, and that is not left
    /// to those that are expected.
    fn has_for(&self, eligibility: impl Fn() -> Eligibility) -> bool {
        if self.is_left_to_expected() {
            self.lanes.has_retry_for(eligibility)
        } else {
            self.lanes.has_for(eligibility)
        }
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

    /// Takes the tombstones off the front of a priority's fresh entries, up to the first that
    /// `waits`. The caller discards them.
    pub(super) fn take_tombstones(&self, priority: Priority, waits: impl Fn(&T) -> bool) -> Vec<T> {
        let dead = self.lanes.take_tombstones(priority, waits);
        self.wake_after_compaction();
        dead
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
    pub(super) fn retry_left(&self) {
        if self.is_drained() {
            self.idle_workers.wake_one();
        }
    }

    /// Blocks until a task waits that a worker with this `eligibility` may take, until no task can
    /// come any more, until the worker `has_other_work`, or until the limit passes. The worker owes
    /// a [`take`](Self::take) or a [`wake_another`](Self::wake_another) with what this returns.
    /// `warm`: the worker was at work just now, and the next task may be as near.
    pub(super) fn wait_for_task(
        &self,
        wakeable: Wakeable,
        warm: bool,
        limit: impl Fn() -> Option<Duration>,
        eligibility: impl Fn() -> Eligibility,
        has_other_work: impl Fn() -> bool,
    ) -> Wakeup {
        let nothing_else = || !self.is_drained() && !has_other_work();
        let idle = || !self.has_for(&eligibility) && nothing_else();
        let (homes, home) = (&self.key_homes, wakeable.home);
        let found = warm && self.idle_workers.yield_for_work(|| idle() && !homes.is_promised(home));
        let promised = homes.stop_coming(home);
        if found && promised {
            self.wake_another(Wakeup::Woken);
        }
        if found || promised {
            return if promised { Wakeup::Expected } else { Wakeup::Woken };
        }
        loop {
            // A new retry that this worker may not take yet changes the limit.
            let retries = self.lanes.held_retries();
            let nothing_new = || self.lanes.held_retries() == retries && idle();
            match self.idle_workers.sleep(wakeable, limit(), nothing_new) {
                // Another worker was quicker: this one sleeps again, without a return to its host,
                // which would ask for the interpreter.
                Wakeup::Woken if idle() => self.wake_another(Wakeup::Woken),
                // Of what waits it leaves nothing to itself.
                Wakeup::Expected if !self.lanes.has_for(&eligibility) && nothing_else() => {
                    self.wake_another(Wakeup::Expected);
                }
                Wakeup::NotNeeded if idle() => {}
                woken => return woken,
            }
        }
    }

    /// Ends a wake-up, if this is one, without taking an entry.
    pub(super) fn wake_another(&self, wakeup: Wakeup) {
        // At the end each woken worker wakes the next, until all have looked. Held retries wake no
        // further worker: `push_retry` woke the sleepers that they concern.
        self.idle_workers
            .wake_another(wakeup, || self.is_drained() || self.has_for(|| Eligibility::NONE));
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

    /// Tasks ended while their entries stay in the lanes. True when so many did that a compaction is
    /// due: about a thousand, or an eighth of the lanes, so that cancelling a long queue stays
    /// linear.
    pub(super) fn count_tombstones(&self, count: u64) -> bool {
        const MANY: u64 = 1_000;
        const STEP: u64 = MANY / 4;
        let before = self.counters.tombstones.fetch_add(count, Ordering::Relaxed);
        let dead = before + count;
        // Not with each one above: some cannot be compacted away just yet.
        dead >= MANY && before / STEP != dead / STEP && dead >= self.lanes.len() as u64 / 8
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
        // In this order: what lingers, is paused, or is the next of its line is in its lane before it
        // is counted as gone.
        self.gate.is_sealed()
            && self.paused() == 0
            && self.lingering.is_empty()
            && self.serial_lines.outside() == 0
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

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "a worker that sleeps")]
mod tests {
    use super::*;
    use std::thread;

    const ANY: fn() -> Eligibility = || Eligibility::ANY;

    fn push(queue: &Queue<u32>, task: u32, key: KeyNumber) {
        let permit = Permit::unbounded(1);
        let pushed = queue.push((Priority::Normal, key), task, 0, permit, Admitted::Queued, || ());
        assert!(pushed.is_ok());
    }

    /// What a worker takes that sleeps until it is woken.
    fn sleep_and_take(queue: &Queue<u32>, home: u64) -> Option<u32> {
        let wakeable = Wakeable { number: home, renews_from: u64::MAX, home };
        let wakeup = queue.wait_for_task(wakeable, false, || None, ANY, || false);
        queue.take(wakeup, ANY, |_| true).map(|entry| entry.task)
    }

    fn wait_for_sleepers(queue: &Queue<u32>, count: usize) {
        while queue.idle_workers.sleepers() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn a_task_with_a_key_is_left_to_its_home_that_sleeps() {
        let (queue, key) = (Queue::new(None, Tick::MAX), KeyNumber::of_hash(1));
        for home in [0, 1, 2] {
            queue.key_homes.begin(key, home);
            queue.key_homes.stop_coming(home);
            thread::scope(|scope| {
                let sleepers = [0, 1, 2].map(|number| {
                    let queue = &queue;
                    let sleeper = scope.spawn(move || sleep_and_take(queue, number));
                    wait_for_sleepers(queue, 1 + usize::try_from(number).unwrap());
                    sleeper
                });
                push(&queue, 7, key);
                assert!(queue.take(Wakeup::NotNeeded, ANY, |_| true).is_none());
                while !queue.lanes.is_empty() {
                    thread::yield_now();
                }
                push(&queue, 8, KeyNumber::NONE);
                push(&queue, 8, KeyNumber::NONE);
                for (number, sleeper) in (0..).zip(sleepers) {
                    let expected = if number == home { 7 } else { 8 };
                    assert_eq!(sleeper.join().unwrap(), Some(expected));
                }
            });
            assert_eq!(queue.idle_workers.expected(), 0);
        }
    }

    #[test]
    fn a_new_key_goes_to_the_worker_that_has_slept_longest() {
        let (queue, key) = (Queue::new(None, Tick::MAX), KeyNumber::of_hash(1));
        thread::scope(|scope| {
            let first = scope.spawn(|| sleep_and_take(&queue, 0));
            wait_for_sleepers(&queue, 1);
            let second = scope.spawn(|| sleep_and_take(&queue, 1));
            wait_for_sleepers(&queue, 2);
            push(&queue, 7, key);
            assert_eq!(first.join().unwrap(), Some(7));
            push(&queue, 8, KeyNumber::NONE);
            assert_eq!(second.join().unwrap(), Some(8));
        });
    }

    #[test]
    fn a_closed_queue_leaves_nothing_to_a_worker_that_is_expected() {
        let (queue, key) = (Queue::new(None, Tick::MAX), KeyNumber::of_hash(1));
        queue.key_homes.begin(key, 0);
        queue.key_homes.stop_coming(0);
        let wakeable = Wakeable { number: 0, renews_from: u64::MAX, home: 0 };
        thread::scope(|scope| {
            let home = scope.spawn(|| queue.idle_workers.sleep(wakeable, None, || true));
            wait_for_sleepers(&queue, 1);
            push(&queue, 7, key);
            assert_eq!(home.join().unwrap(), Wakeup::Expected);
            assert!(queue.take(Wakeup::NotNeeded, ANY, |_| true).is_none());
            queue.close();
            assert!(queue.take(Wakeup::NotNeeded, ANY, |_| true).is_some());
        });
    }
}
