//! The bound on waiting tasks: a count of permits, handed over directly to blocked submitters.
//!
//! A submitter takes a [`Permit`], which goes back when it is dropped. The push of the task
//! consumes it: the entry owns it from then on, and the thread that moves the task out of *waiting*
//! gives it back (the worker that claims it, the caller that cancels it, the keeper, the thread
//! that kills the runner). While there are waiters, a permit that comes back goes to the most
//! urgent of them, first come first served within a priority, and never to a newcomer. A
//! [`PermitWaiter`] is a blocked submitter, or a task by itself, for a submitter that must not
//! block.

use crate::engine::clock::Tick;
use crate::engine::task::priority::Priority;
use crate::sync::Arc;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::thread::{self, Thread};
use std::cmp::Reverse;
use std::collections::BTreeMap;

const BLOCKED: u8 = 0;
const GRANTED: u8 = 1;
const CLOSED: u8 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub struct Permits {
    state: Mutex<PermitState>,
}

#[derive(Debug)]
struct PermitState {
    free: usize,
    /// Permits that were taken while none was free, by tasks that wait for none. What comes back
    /// makes up for these first.
    overdrawn: usize,
    closed: bool,
    /// The waiters, the next to be served first. There are some only while `free` is zero.
    waiters: BTreeMap<QueueKey, Arc<PermitWaiter>>,
    /// How many waiters ever came: it numbers the next one.
    count: u64,
}

/// Leave for so many tasks to wait in the queue; given back when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped goes back"]
pub struct Permit<'p> {
    /// `None`: there is no bound.
    permits: Option<&'p Permits>,
    count: usize,
}

/// A waiter's position in the queue of waiters: the most urgent first, then first come first
/// served.
type QueueKey = (Reverse<Priority>, u64);

/// A blocked submitter, or a task by itself, in the queue of waiters. It is told of its admission.
#[derive(Debug)]
pub struct PermitWaiter {
    key: QueueKey,
    /// When it began to wait.
    since: Tick,
    /// Written once, under the lock of `Permits`; read without it by the waiting thread. Release
    /// and acquire, so that the waiter sees what the giver of the permit did before.
    admission: AtomicU8,
    kind: PermitWaiterKind,
}

/// Called with a permit, or with `None` once the runner closes. Hands back a permit that the task
/// has no use for, so that the thread that gave it serves the waiters in a loop: a permit dropped
/// in this call would serve the next waiter inside it, and so on.
type OnAdmission = Box<dyn for<'p> FnOnce(Option<Permit<'p>>) -> Option<Permit<'p>> + Send>;

/// What waits.
enum PermitWaiterKind {
    /// A thread, parked. It takes its permit out with [`Permits::leave`].
    Thread(Thread),
    /// A task by itself. The thread that decides its admission takes the callback out.
    Callback(Mutex<Option<OnAdmission>>),
}

/// What became of a wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Still among the waiters.
    Blocked,
    /// The permit is the caller's.
    Granted,
    /// The runner closed.
    Closed,
}

impl PermitWaiter {
    /// Whether the permit has come.
    pub fn admission(&self) -> Admission {
        match self.admission.load(Ordering::Acquire) {
            BLOCKED => Admission::Blocked,
            GRANTED => Admission::Granted,
            _ => Admission::Closed,
        }
    }

    /// Tells the thread or the task that waits. Gives a permit back that is of no use to it.
    fn notify<'p>(&self, permit: Option<Permit<'p>>) -> Option<Permit<'p>> {
        match &self.kind {
            PermitWaiterKind::Thread(thread) => {
                // The thread's own from here on.
                if let Some(permit) = permit {
                    permit.consume();
                }
                thread.unpark();
                None
            }
            PermitWaiterKind::Callback(callback) => {
                let callback = callback.lock().take();
                callback.and_then(|callback| callback(permit))
            }
        }
    }
}

impl Permit<'_> {
    /// For so many tasks of a queue without a bound.
    pub const fn unbounded(count: usize) -> Self {
        Self { permits: None, count }
    }

    /// For how many tasks it is.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The entries in the lanes own it from here on.
    pub(super) fn consume(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(permits) = self.permits {
            (0..self.count).for_each(|_| permits.give_back());
        }
    }
}

impl std::fmt::Debug for PermitWaiterKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Thread(thread) => thread.fmt(f),
            Self::Callback(_) => f.write_str("Callback"),
        }
    }
}

impl Permits {
    /// `bound` free permits.
    pub fn new(bound: usize) -> Self {
        let state = PermitState {
            free: bound,
            overdrawn: 0,
            closed: false,
            waiters: BTreeMap::new(),
            count: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Takes permits for up to `most` tasks, as many as are free; `None`: none is.
    pub fn try_take(&self, most: usize) -> Option<Permit<'_>> {
        let mut state = self.state.lock();
        let count = state.free.min(most);
        state.free -= count;
        (count > 0).then(|| self.permit(count))
    }

    /// Whether no permit is free at this moment.
    pub fn is_used_up(&self) -> bool {
        self.state.lock().free == 0
    }

    /// Takes a permit, or makes the current thread a waiter, since now.
    ///
    /// # Errors
    ///
    /// The waiter, when no permit is free. The thread polls [`PermitWaiter::admission`] between
    /// parks. Once that is decided, or to give up, it calls [`leave`](Self::leave).
    pub fn take_or_queue(
        &self,
        priority: Priority,
        now: Tick,
    ) -> Result<Permit<'_>, Arc<PermitWaiter>> {
        self.take_or(priority, now, || PermitWaiterKind::Thread(thread::current()))
    }

    /// Takes a permit, or makes a task by itself a waiter, since now. `callback` is called with the
    /// permit by the thread that gives it, or with `None` by the thread that closes the runner
    /// (by the caller, if it is closed already), with no lock held. It gives a permit back that
    /// the task has no use for. It must not block.
    ///
    /// # Errors
    ///
    /// The waiter to [`remove`](Self::remove) when no permit is free.
    pub fn take_or_call_back(
        &self,
        priority: Priority,
        now: Tick,
        callback: impl for<'p> FnOnce(Option<Permit<'p>>) -> Option<Permit<'p>> + Send + 'static,
    ) -> Result<Permit<'_>, Arc<PermitWaiter>> {
        let callback = || PermitWaiterKind::Callback(Mutex::new(Some(Box::new(callback))));
        self.take_or(priority, now, callback).inspect_err(|waiter| {
            if waiter.admission() == Admission::Closed {
                drop(waiter.notify(None));
            }
        })
    }

    fn take_or(
        &self,
        priority: Priority,
        since: Tick,
        kind: impl FnOnce() -> PermitWaiterKind,
    ) -> Result<Permit<'_>, Arc<PermitWaiter>> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            // Not under the lock: the return drops `kind`, and a callback with it.
            drop(state);
            return Ok(self.permit(1));
        }
        state.count += 1;
        let key = (Reverse(priority), state.count);
        let admission = AtomicU8::new(if state.closed { CLOSED } else { BLOCKED });
        let waiter = Arc::new(PermitWaiter { key, since, admission, kind: kind() });
        if !state.closed {
            state.waiters.insert(key, Arc::clone(&waiter));
        }
        Err(waiter)
    }

    const fn permit(&self, count: usize) -> Permit<'_> {
        Permit { permits: Some(self), count }
    }

    /// Ends a thread's wait and gives it the permit, if one came, even at the last moment. To be
    /// called once only, as the permit is the thread's then.
    ///
    /// # Errors
    ///
    /// None came; the admission is final.
    pub fn leave(&self, waiter: Arc<PermitWaiter>) -> Result<Permit<'_>, Admission> {
        self.remove(&waiter);
        let admission = waiter.admission();
        drop(waiter);
        match admission {
            Admission::Granted => Ok(self.permit(1)),
            admission => Err(admission),
        }
    }

    /// Takes a waiter out of the queue of waiters, if it is still there.
    pub fn remove(&self, waiter: &Arc<PermitWaiter>) {
        // Only the queue's own reference is dropped here, never the last.
        self.state.lock().waiters.remove(&waiter.key);
    }

    /// Since when the waiter waits that has waited longest.
    pub(in crate::engine) fn oldest(&self) -> Option<Tick> {
        let state = self.state.lock();
        let first = |priority| {
            let first = (Reverse(priority), 0);
            state.waiters.range(first..).next().map(|(_, waiter)| waiter.since)
        };
        // The first of each priority, more or less: where there is none, that of a lower one.
        Priority::ALL.into_iter().filter_map(first).min()
    }

    /// Takes a permit for a task that waits for none: where none is free, the bound is overdrawn.
    pub(in crate::engine) fn overdraw(&self) {
        let mut state = self.state.lock();
        match state.free {
            0 => state.overdrawn += 1,
            _ => state.free -= 1,
        }
    }

    /// Gives a permit back: to the first waiter, else to the free ones.
    pub(in crate::engine) fn give_back(&self) {
        let first = || {
            let mut state = self.state.lock();
            if state.overdrawn > 0 {
                state.overdrawn -= 1;
                return None;
            }
            let first = state.waiters.pop_first().map(|(_, waiter)| waiter);
            match &first {
                Some(waiter) => waiter.admission.store(GRANTED, Ordering::Release),
                None => state.free += 1,
            }
            first
        };
        let has_no_use = |waiter: Arc<PermitWaiter>| {
            waiter.notify(Some(self.permit(1))).map(Permit::consume).is_some()
        };
        while first().is_some_and(has_no_use) {}
    }

    /// Turns away every waiter, and every later one.
    pub fn close(&self) {
        let turned_away = {
            let mut state = self.state.lock();
            state.closed = true;
            let all = std::mem::take(&mut state.waiters);
            for waiter in all.values() {
                waiter.admission.store(CLOSED, Ordering::Release);
            }
            all
        };
        for waiter in turned_away.into_values() {
            drop(waiter.notify(None));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hands_over_by_priority_and_then_in_order() {
        let permits = Permits::new(1);
        let permit = permits.take_or_queue(Priority::Normal, 0).expect("one is free");
        let waiters: Vec<_> = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal]
            .map(|priority| permits.take_or_queue(priority, 0).expect_err("full"))
            .into();
        let mut served = Vec::new();
        drop(permit);
        for round in 0..4 {
            if round > 0 {
                permits.give_back();
            }
            let next = (0..4)
                .find(|i| waiters[*i].admission() == Admission::Granted && !served.contains(i))
                .expect("one more was served");
            served.push(next);
        }
        assert_eq!(served, [2, 1, 3, 0]);
        assert!(permits.try_take(1).is_none());
        permits.give_back();
        assert!(permits.try_take(1).is_some());
    }

    #[test]
    fn the_oldest_waiter_is_found_whatever_its_priority() {
        let permits = Permits::new(0);
        assert_eq!(permits.oldest(), None);
        let wait = |priority, now| permits.take_or_queue(priority, now).expect_err("full");
        let waiters = [(Priority::Low, 3), (Priority::High, 5), (Priority::Low, 6)];
        let [low, ..] = waiters.map(|(priority, now)| wait(priority, now));
        assert_eq!(permits.oldest(), Some(3));
        assert!(permits.leave(low).is_err());
        assert_eq!(permits.oldest(), Some(5));
        permits.give_back();
        assert_eq!(permits.oldest(), Some(6));
    }

    #[test]
    fn is_used_up_until_one_comes_back() {
        let permits = Permits::new(1);
        assert!(!permits.is_used_up());
        let permit = permits.try_take(1);
        assert!(permit.is_some() && permits.is_used_up());
        drop(permit);
        assert!(!permits.is_used_up());
    }

    #[test]
    fn a_waiter_that_leaves_is_not_served() {
        let permits = Permits::new(0);
        let waiter = permits.take_or_queue(Priority::Normal, 0).expect_err("full");
        assert_eq!(permits.leave(waiter).unwrap_err(), Admission::Blocked);
        permits.give_back();
        assert!(permits.try_take(1).is_some());
    }

    #[test]
    fn a_permit_that_came_in_time_is_not_lost_by_leaving() {
        let permits = Permits::new(0);
        let waiter = permits.take_or_queue(Priority::Normal, 0).expect_err("full");
        permits.give_back();
        assert!(permits.leave(waiter).is_ok());
        assert!(permits.try_take(2).is_some_and(|permit| permit.count() == 1));
    }

    #[test]
    fn a_permit_that_is_dropped_is_free_and_one_that_is_consumed_is_not() {
        let permits = Permits::new(3);
        let permit = permits.try_take(2).expect("three are free");
        assert!(permits.try_take(9).is_some_and(|rest| rest.count() == 1));
        drop(permit);
        permits.try_take(2).expect("all are free again").consume();
        assert!(permits.try_take(9).is_some_and(|rest| rest.count() == 1));
    }

    #[test]
    fn what_was_overdrawn_comes_back_before_anybody_is_served() {
        let permits = Permits::new(1);
        permits.overdraw();
        assert!(permits.try_take(1).is_none());
        permits.overdraw();
        let waiter = permits.take_or_queue(Priority::High, 0).expect_err("full");
        permits.give_back();
        assert_eq!(waiter.admission(), Admission::Blocked);
        permits.give_back();
        assert!(permits.leave(waiter).is_ok());
        assert!(permits.try_take(1).is_some());
    }

    #[test]
    fn a_permit_that_is_of_no_use_goes_to_the_next_in_line() {
        let (permits, admissions) = (Permits::new(0), Arc::new(Mutex::new(Vec::new())));
        for (who, useful) in [("first", false), ("second", true), ("third", true)] {
            let admissions = Arc::clone(&admissions);
            let waiter = permits.take_or_call_back(Priority::Normal, 0, move |permit| {
                admissions.lock().push((who, permit.is_some()));
                if useful { permit.map(Permit::consume).and(None) } else { permit }
            });
            assert!(waiter.is_err());
        }
        permits.give_back();
        permits.close();
        let expected = [("first", true), ("second", true), ("third", false)];
        assert_eq!(*admissions.lock(), expected);
    }

    #[test]
    fn what_left_the_line_is_not_asked() {
        let permits = Permits::new(0);
        let waiter = permits
            .take_or_call_back(Priority::High, 0, |_| unreachable!("it left"))
            .expect_err("full");
        permits.remove(&waiter);
        permits.give_back();
        assert!(permits.try_take(1).is_some());
    }

    #[test]
    fn closing_turns_everybody_away() {
        let permits = Permits::new(0);
        let before = permits.take_or_queue(Priority::Low, 0).expect_err("full");
        permits.close();
        let after = permits.take_or_queue(Priority::Low, 0).expect_err("closed");
        assert_eq!([before.admission(), after.admission()], [Admission::Closed; 2]);
    }
}
