//! Every worker from the decision to start it until its resource is destroyed.
//!
//! A slot is taken *before* the thread is started and given back only after the resource is gone.
//! So the count may exceed the number of running threads but never falls below it: no limit is
//! overrun, and an empty roster means that nothing of ours is left.

pub mod generations;
mod lent_task;
pub mod limits;
pub mod loans;
pub mod renewal_turn;
pub mod shared;
pub mod startup_latch;

use self::limits::{BelowBase, Limits};
use self::shared::{
    DISMISSED, HAS_RESOURCE, OVERDUE, PROMOTED, RETIRED, SUCCESSOR, WorkerKind, WorkerShared,
};
use crate::engine::clock::Tick;
use crate::engine::settings::EngineSettings;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use std::cmp::Reverse;
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub struct Roster<T> {
    /// How many workers are asked for.
    pub limits: Limits,
    state: Mutex<LiveWorkers<T>>,
    changed: Condvar,
    /// Base and burst workers that have no resource, successors too, from the decision to start
    /// them until they retire. Each changes it with its own flags; the thread that adds one, or
    /// gives the slot of one back that never ran, does so for it. Relaxed: the worker that waits
    /// until it is zero looks under the lock of the renewal's turn, and the one that lowers it
    /// takes that lock afterwards to have it look again.
    lacking: AtomicUsize,
}

#[derive(Debug)]
struct LiveWorkers<T> {
    /// In the order of their numbers.
    workers: Vec<Arc<WorkerShared<T>>>,
    /// How many were ever started: it numbers the next one.
    started: u64,
    /// Threads that are not workers but are busy closing, or settling or moving tasks; and tasks
    /// that are paused, for which no worker may be left.
    holds: usize,
}

impl<T> LiveWorkers<T> {
    fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.holds == 0
    }
}

/// Keeps a roster from being empty; see [`Roster::hold_open`].
pub(in crate::engine) struct HoldOpen<'r, T>(&'r Roster<T>);

/// Live workers by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Base workers that have begun, without those lost to an overdue task.
    pub base: usize,
    /// Burst workers that have begun.
    pub burst: usize,
    /// Base and burst workers whose first resource is still being made.
    pub starting: usize,
    /// Base workers, beginning ones included, without those lost to an overdue task and those that
    /// are dismissed.
    pub base_slots: usize,
    /// Base and burst workers that count in the limit, overdue ones included: without successors,
    /// and without those that are dismissed.
    pub staying: usize,
    /// Workers with a resource, of `base` and `burst`.
    pub ready: usize,
    /// Workers with a resource, of `main`.
    pub main_with_resource: usize,
    /// Base and burst workers that do not count as workers until an overdue task ends.
    pub overdue: usize,
    /// Base and burst workers, all of them, with successors.
    pub main: usize,
    /// Reserved and temporary workers, beginning ones included.
    pub reserved: usize,
    /// Those among them that have no resource at the moment.
    pub reserved_without_resource: usize,
}

impl<T> Roster<T> {
    pub(in crate::engine) fn new(settings: &EngineSettings) -> Self {
        let state = LiveWorkers { workers: Vec::new(), started: 0, holds: 0 };
        let limits = Limits::new(settings);
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { limits, state, changed, lacking: AtomicUsize::new(0) }
    }

    /// Takes a slot for a worker of the kind that `wanted` names, if it does. A `successor` counts
    /// as base or burst worker only when the one that it succeeds retires: two of them fill one
    /// slot.
    pub(in crate::engine) fn add(
        &self,
        settings: &EngineSettings,
        successor: bool,
        wanted: impl FnOnce(WorkerCounts) -> Option<WorkerKind>,
    ) -> Option<Arc<WorkerShared<T>>> {
        let mut state = self.state.lock();
        let kind = wanted(count_workers(&state.workers))?;
        let name = kind.worker_name(settings, state.started);
        let worker = Arc::new(WorkerShared::new(state.started, name, kind, successor));
        state.started += 1;
        state.workers.push(Arc::clone(&worker));
        self.count_lacking(&worker, true);
        Some(worker)
    }

    /// The worker made a resource just now.
    pub(in crate::engine) fn note_resource(&self, worker: &WorkerShared<T>, now: Tick) {
        worker.note_resource(now);
        self.count_lacking(worker, false);
    }

    /// The worker is about to destroy its resource.
    pub(in crate::engine) fn note_no_resource(&self, worker: &WorkerShared<T>) {
        worker.unset(HAS_RESOURCE);
        self.count_lacking(worker, true);
    }

    /// Whether every base and burst worker has a resource.
    pub(in crate::engine) fn all_have_resources(&self) -> bool {
        self.lacking.load(Ordering::Relaxed) == 0
    }

    fn count_lacking(&self, worker: &WorkerShared<T>, lacks: bool) {
        match worker.kind().is_main() {
            true if lacks => self.lacking.fetch_add(1, Ordering::Relaxed),
            true => self.lacking.fetch_sub(1, Ordering::Relaxed),
            false => 0,
        };
    }

    /// Takes a worker that holds no resource off the count, unless it `stays`; its slot is given
    /// back by [`release_slot`](Self::release_slot). Tells whether it was the last of its kind,
    /// `None` when it stays.
    ///
    /// A base worker stays too if base workers would be missing and are `needed`. It may have
    /// decided to go because another worker took its slot, and that one may have decided the
    /// same since; or more are asked for since.
    ///
    /// `stays` looks for tasks under the lock that [`add`](Self::add) counts under, and a submitter
    /// pushes its task before it starts a worker for it: either the worker sees the task, or the
    /// submitter sees no worker.
    pub(in crate::engine) fn retire(
        &self,
        worker: &Arc<WorkerShared<T>>,
        successor: Option<&WorkerShared<T>>,
        needed: bool,
        stays: impl FnOnce() -> bool,
    ) -> Option<bool> {
        let state = self.state.lock();
        if stays() {
            return None;
        }
        let successor = successor.filter(|new| !new.has(RETIRED));
        if let Some(new) = successor {
            // It counts from now on: in the place of the one that leaves, which it takes whatever
            // has become of it, or beside the one that stays.
            new.unset(SUCCESSOR);
            new.set(worker.flags() & PROMOTED);
        }
        if needed && worker.is_base() && self.misses_base(&Self::others(&state, worker)) {
            worker.unset(OVERDUE | SUCCESSOR | DISMISSED);
            return None;
        }
        self.leave(worker);
        if let Some(new) = successor {
            new.set(worker.flags() & DISMISSED);
        }
        let is_main = worker.kind().is_main();
        Some(!state.workers.iter().any(|b| b.kind().is_main() == is_main && !b.has(RETIRED)))
    }

    /// The workers but for this one.
    fn others(state: &LiveWorkers<T>, worker: &WorkerShared<T>) -> WorkerCounts {
        let is_other = |one: &&Arc<_>| !std::ptr::eq(Arc::as_ptr(one), worker);
        count_workers(state.workers.iter().filter(is_other))
    }

    /// Whether these are too few base workers. The maximum is not asked: it is for workers that are
    /// to be started, and with the one that is there the runner goes on.
    fn misses_base(&self, counts: &WorkerCounts) -> bool {
        counts.base_slots < self.limits.workers()
    }

    /// Gives a slot back.
    pub(in crate::engine) fn release_slot(&self, worker: &WorkerShared<T>) {
        self.change(|state| {
            let index = state.workers.binary_search_by_key(&worker.number(), |one| one.number());
            index.map(|index| state.workers.remove(index)).ok()
        });
    }

    /// Takes a worker off the count that never ran, or panicked, and so has not retired.
    pub(in crate::engine) fn give_up(&self, worker: &WorkerShared<T>) {
        let _state = self.state.lock();
        self.leave(worker);
    }

    fn leave(&self, worker: &WorkerShared<T>) {
        if worker.set(RETIRED) && !worker.has(HAS_RESOURCE) {
            self.count_lacking(worker, false);
        }
    }

    /// The task of a worker ended that is overdue or dismissed: it counts again if a base worker is
    /// missing, and an overdue burst worker if there is room. Otherwise false: a substitute took
    /// its slot, or it is one too many.
    pub(in crate::engine) fn count_again(&self, worker: &WorkerShared<T>) -> bool {
        let state = self.state.lock();
        let others = Self::others(&state, worker);
        let is_burst = worker.is_burst() && !worker.has(DISMISSED);
        if self.misses_base(&others) {
            worker.set(PROMOTED);
            worker.unset(DISMISSED);
        } else if !is_burst || others.staying >= self.limits.max() {
            // Its room is free for the next one.
            worker.set(DISMISSED);
            return false;
        }
        worker.unset(OVERDUE);
        true
    }

    /// Changes how many workers are asked for, and dismisses those that are too many. The ones that
    /// stay are as many base workers as are asked for, and burst workers in their place; then, of
    /// the room that is left, overdue workers and burst workers. Those with a task stay before idle
    /// ones, and these before those that have no resource.
    ///
    /// An overdue worker does not count towards the base: what works beside it stays, as one that
    /// is busy does until its task ends, or nothing might be served for as long as it hangs. It
    /// takes room before burst workers, and does so until its task ends, whatever is decided here.
    /// Those that are dismissed already come last: what was kept in their place must not be
    /// destroyed.
    pub(in crate::engine) fn resize(
        &self,
        workers: Option<usize>,
        max: Option<usize>,
        reserve: impl FnOnce() -> usize,
    ) -> Result<(), BelowBase> {
        let state = self.state.lock();
        self.limits.change(workers, max)?;
        let mut reserved = reserve();
        let mut ranked: Vec<_> = state.workers.iter().filter(|one| !one.has(RETIRED)).collect();
        let can_be_base =
            |one: &&&Arc<WorkerShared<T>>| one.kind().is_main() && !one.has(OVERDUE | SUCCESSOR);
        let mut base = self.limits.workers();
        // Beside these.
        let mut room = self.limits.max() - ranked.iter().filter(can_be_base).count().min(base);
        let missed = |one: &WorkerShared<T>| (one.has(HAS_RESOURCE), one.is_running());
        // Each is looked at once: what it is at may change meanwhile.
        ranked.sort_by_cached_key(|one| {
            let (is_late, is_dismissed) = (one.has(OVERDUE), one.has(DISMISSED));
            let rank = (is_late && is_dismissed, !is_late, !one.is_base());
            (one.has(SUCCESSOR), rank, Reverse(missed(one)))
        });
        for worker in ranked {
            let stays = match worker.kind() {
                WorkerKind::Temporary => true,
                WorkerKind::Reserved => take_one(&mut reserved),
                // The one that it succeeds leaves, or is dismissed and hands that on.
                _ if worker.has(SUCCESSOR) => worker.has(HAS_RESOURCE) || take_one(&mut room),
                _ if worker.has(OVERDUE) => take_one(&mut room),
                _ if take_one(&mut base) => {
                    worker.set(PROMOTED);
                    true
                }
                _ => !worker.is_base() && take_one(&mut room),
            };
            let mark = if stays { WorkerShared::unset } else { WorkerShared::set };
            mark(worker, DISMISSED);
        }
        Ok(())
    }

    /// A successor counts from now on, as the one that it succeeds does not any more.
    pub(in crate::engine) fn count_successor(&self, successor: &WorkerShared<T>) {
        let _state = self.state.lock();
        successor.unset(SUCCESSOR);
    }

    /// Counts a thread in that is busy at the end of the runner and is no worker.
    pub(in crate::engine) fn hold_open(&self) -> HoldOpen<'_, T> {
        self.state.lock().holds += 1;
        HoldOpen(self)
    }

    /// A hold that another thread has left in place.
    pub(in crate::engine) fn take_up_hold(&self) -> HoldOpen<'_, T> {
        HoldOpen(self)
    }

    /// Whether no worker and no hold is left.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.state.lock().is_empty()
    }

    /// Blocks until no worker and no hold is left, and `done`, or the limit passes; true in the
    /// first case. The thread that makes it `done` calls [`changed`](Self::changed).
    pub(in crate::engine) fn wait_empty(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let more = |state: &mut LiveWorkers<T>| !(state.is_empty() && done());
        !more(&mut self.changed.wait_while(self.state.lock(), limit, more))
    }

    fn change<R>(&self, change: impl FnOnce(&mut LiveWorkers<T>) -> R) {
        // What was taken out is dropped after the lock.
        let (empty, _out) = {
            let mut state = self.state.lock();
            let out = change(&mut state);
            (state.is_empty(), out)
        };
        // Not for each that leaves: the threads in `wait_empty` would come up as often, and take
        // the core from the workers that are left.
        if empty {
            self.changed.notify_all();
        }
    }

    /// Has the threads in [`wait_empty`](Self::wait_empty) look again.
    pub(in crate::engine) fn changed(&self) {
        // Under the lock, or a waiter that has just looked would miss it.
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// How many there are at this moment.
    pub(in crate::engine) fn len(&self) -> usize {
        self.state.lock().workers.len()
    }

    /// All workers, at this moment.
    pub(in crate::engine) fn workers(&self) -> Vec<Arc<WorkerShared<T>>> {
        self.state.lock().workers.clone()
    }

    /// Live workers by kind, at this moment.
    pub(in crate::engine) fn counts(&self) -> WorkerCounts {
        count_workers(&self.state.lock().workers)
    }
}

impl<T> HoldOpen<'_, T> {
    /// Leaves the hold in place; [`Roster::take_up_hold`] takes it up again.
    pub(in crate::engine) fn leave(self) {
        std::mem::forget(self);
    }
}

impl<T> Drop for HoldOpen<'_, T> {
    fn drop(&mut self) {
        self.0.change(|state| state.holds -= 1);
    }
}

fn count_workers<'w, T: 'w>(
    workers: impl IntoIterator<Item = &'w Arc<WorkerShared<T>>>,
) -> WorkerCounts {
    let mut counts = WorkerCounts::default();
    for worker in workers.into_iter().filter(|worker| !worker.has(RETIRED)) {
        let has_resource = worker.has(HAS_RESOURCE);
        if !worker.kind().is_main() {
            counts.reserved += 1;
            counts.reserved_without_resource += usize::from(!has_resource);
            continue;
        }
        counts.main += 1;
        counts.main_with_resource += usize::from(has_resource);
        counts.staying += usize::from(!worker.has(SUCCESSOR | DISMISSED));
        if worker.has(OVERDUE) {
            counts.overdue += 1;
            continue;
        }
        if worker.has(SUCCESSOR) {
            continue;
        }
        counts.base_slots += usize::from(worker.is_base() && !worker.has(DISMISSED));
        if !worker.has_begun() {
            counts.starting += 1;
            continue;
        }
        counts.ready += usize::from(has_resource);
        if worker.is_base() { counts.base += 1 } else { counts.burst += 1 }
    }
    counts
}

fn take_one(left: &mut usize) -> bool {
    let takes = *left > 0;
    *left -= usize::from(takes);
    takes
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_overdue_burst_worker_leaves_where_its_room_was_taken_meanwhile() {
        let settings =
            EngineSettings { worker_count: 2, max_worker_count: 4, ..EngineSettings::default() };
        let roster: Roster<()> = Roster::new(&settings);
        let kinds = [WorkerKind::Base, WorkerKind::Base, WorkerKind::Burst, WorkerKind::Burst];
        let workers = kinds.map(|kind| roster.add(&settings, false, |_| Some(kind)).unwrap());
        roster.resize(Some(1), Some(3), || 0).unwrap();
        let [kept, dismissed, bursts @ ..] = workers;
        assert!(dismissed.has(DISMISSED) && !kept.has(DISMISSED));
        for worker in [&kept, &bursts[0], &bursts[1]] {
            worker.set(OVERDUE);
        }
        assert!(roster.count_again(&dismissed), "a base worker is missing");
        assert!(!roster.count_again(&bursts[0]), "three others take the room");
        roster.release_slot(&bursts[0]);
        assert!(!roster.count_again(&kept), "no base worker is missing any more");
        roster.release_slot(&kept);
        assert!(roster.count_again(&bursts[1]), "there is room");
    }
}
