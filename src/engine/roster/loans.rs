//! Reserved workers' resources on loan, and the calls of `run_task` that wait for one.
//!
//! A resource is made and destroyed on its worker's thread. In between it is in a queue of idle
//! loans. A caller takes the one that rested longest, so that none is forgotten, runs its task, and
//! puts it back. When the resource went bad or the runner is closing, the caller sends it back to
//! its worker instead. Holding the loan is holding the resource: no other thread can reach it.

use super::shared::{ThreadMark, WorkerShared};
use crate::engine::clock::Tick;
use crate::engine::metrics::recorder::Recorder;
use crate::engine::queue::lanes::Entry;
use crate::engine::resource::epochs::FailureEpoch;
use crate::engine::resource::owned_resource::OwnedResource;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::channel::Sender;
use crate::sync::{Arc, Condvar, Mutex};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

/// A resource away from its worker, with what its use is written down in. It goes back to its
/// worker when it is dropped.
#[derive(Debug)]
pub struct Loan<T, R> {
    /// Taken by `drop` alone.
    pub(in crate::engine) lent: Option<(OwnedResource<R>, Recorder)>,
    /// The task of the calls that find the loan idle, one after the other; `None`: each brings its
    /// own. Goes home with the resource.
    pub(in crate::engine) kept: Option<T>,
    /// When the call of that task ended.
    pub(in crate::engine) ended: Tick,
    pub(in crate::engine) worker: Arc<WorkerShared<T>>,
    return_to: Sender<LoanReturn<T, R>>,
    /// Until when it is left alone while idle, outdated as it was when it was lent.
    rests_until: Tick,
    /// A call that waits passed it over, for it would not do. Written and read by the caller that
    /// holds the loan, or under the lock of the idle ones.
    passed_over: Cell<bool>,
}

/// What comes home: the resource, and the task that was kept with the loan.
pub(in crate::engine) type LoanReturn<T, R> = (OwnedResource<R>, Option<T>);

/// The idle loans of one engine.
#[derive(Debug)]
pub struct Loans<T, R> {
    /// The longest idle in front. No loan is dropped under this lock.
    idle: Mutex<VecDeque<Box<Loan<T, R>>>>,
    /// A loan came, or more of them will do.
    came: Condvar,
    /// Calls that were accepted by taking a loan. Written under the lock of `idle`, before the
    /// task starts.
    accepted: AtomicU64,
    /// Accepted calls that have no loan. A caller raises it inside the gate, or when it is about
    /// to let its loan go, and in both cases before it looks for an idle one. The thread that
    /// puts a loan back reads it after the loan is there. `SeqCst`, against the mode.
    waiters: AtomicUsize,
    /// Those among them that want one for a retry. As above.
    retry_waiters: AtomicUsize,
    /// Tasks of calls that had to wait for a loan, or for what is done before a task is entered,
    /// until they return. They are in no lane, and a thread that kills, or that takes back what
    /// waits, is to find them.
    waiting_calls: Mutex<Vec<WaitingCall<T>>>,
    /// The runner is closing, and no resource could be made any more. Set once. `SeqCst`, as
    /// above.
    waiting_over: AtomicBool,
    /// The runner is closing, and one resource could not be made: retries have any. Set once.
    /// `SeqCst`, as above.
    any: AtomicBool,
}

/// A handle on the task of a call, and since when it waits.
#[derive(Debug)]
struct WaitingCall<T> {
    task: T,
    since: Tick,
    key: u64,
}

impl<T, R> Loans<T, R> {
    pub(in crate::engine) fn new() -> Self {
        Self {
            idle: Mutex::new(VecDeque::new()),
            came: Condvar::new(),
            accepted: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            retry_waiters: AtomicUsize::new(0),
            waiting_calls: Mutex::new(Vec::new()),
            waiting_over: AtomicBool::new(false),
            any: AtomicBool::new(false),
        }
    }

    pub(in crate::engine) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// How many calls were accepted by taking a loan.
    pub(in crate::engine) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whether an accepted call has neither a loan nor its outcome.
    pub(in crate::engine) fn has_waiters(&self) -> bool {
        self.waiters() > 0
    }

    pub(in crate::engine) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::SeqCst)
    }

    pub(in crate::engine) fn retry_waiters(&self) -> usize {
        self.retry_waiters.load(Ordering::SeqCst)
    }

    /// Counts a call that has no loan. `for_retry`: not every loan will do, as it is for a retry.
    ///
    /// In this order, against [`is_awaited`](Self::is_awaited).
    pub(in crate::engine) fn add_waiter(&self, for_retry: bool) {
        self.retry_waiters.fetch_add(usize::from(for_retry), Ordering::SeqCst);
        self.waiters.fetch_add(1, Ordering::SeqCst);
    }

    /// Tells whether it was the last.
    pub(in crate::engine) fn remove_waiter(&self, for_retry: bool) -> bool {
        let was_last = self.waiters.fetch_sub(1, Ordering::SeqCst) == 1;
        self.retry_waiters.fetch_sub(usize::from(for_retry), Ordering::SeqCst);
        was_last
    }

    /// Whether a call waits that has any loan. One for a retry is taken for such a call only while
    /// it is taken off the count, and the thread that does that looks for outdated loans
    /// afterwards: none is left to a call that would pass it over.
    pub(in crate::engine) fn is_awaited(&self) -> bool {
        let waiters = self.waiters();
        waiters > self.retry_waiters()
    }

    /// Handles, made by `share`, which does no more, on the tasks of calls that began up to then
    /// and wait. Some of them may run by now.
    pub(in crate::engine) fn waiting_calls(&self, share: impl Fn(&T) -> T, then: Tick) -> Vec<T> {
        let waiting_calls = self.waiting_calls.lock();
        waiting_calls.iter().filter(|one| one.since <= then).map(|one| share(&one.task)).collect()
    }

    /// Since when the call waits that has waited longest of those that `waits` picks, which only
    /// looks.
    pub(in crate::engine) fn oldest_call(&self, waits: impl Fn(&T) -> bool) -> Option<Tick> {
        let waiting_calls = self.waiting_calls.lock();
        waiting_calls.iter().filter(|one| waits(&one.task)).map(|one| one.since).min()
    }

    /// Has a task found that stands in no lane, until
    /// [`remove_waiting_call`](Self::remove_waiting_call) is called with what this gives.
    pub fn add_waiting_call(&self, task: T, since: Tick) -> u64 {
        let mut waiting_calls = self.waiting_calls.lock();
        let key = waiting_calls.last().map_or(0, |last| last.key + 1);
        waiting_calls.push(WaitingCall { task, since, key });
        key
    }

    /// Gives the handle back that was left with [`add_waiting_call`](Self::add_waiting_call).
    pub fn remove_waiting_call(&self, key: u64) -> Option<T> {
        let mut waiting_calls = self.waiting_calls.lock();
        let index = waiting_calls.binary_search_by_key(&key, |one| one.key).ok()?;
        Some(waiting_calls.remove(index).task)
    }

    pub(in crate::engine) fn stop_waiting(&self) {
        self.waiting_over.store(true, Ordering::SeqCst);
    }

    pub(in crate::engine) fn waiting_is_over(&self) -> bool {
        self.waiting_over.load(Ordering::SeqCst)
    }

    /// Retries have any loan from here on.
    pub(in crate::engine) fn lend_any(&self) {
        self.any.store(true, Ordering::SeqCst);
        // Under the lock, or a caller that has just looked would miss it.
        drop(self.idle.lock());
        self.came.notify_all();
    }

    /// Takes the longest idle loan for a new call, which is accepted by that. `None`: there is
    /// none, or the runner `is_closing`.
    ///
    /// One step against a close, as the gate is: the thread that closes sets the mode first and
    /// then calls the idle loans back, under the same lock. A loan that is taken before keeps its
    /// worker, and so the runner, from ending.
    pub(in crate::engine) fn accept(
        &self,
        is_closing: impl FnOnce() -> bool,
    ) -> Option<Box<Loan<T, R>>> {
        let mut idle = self.idle.lock();
        if is_closing() { None } else { self.take_front(&mut idle) }
    }

    /// [`accept`](Self::accept) for a call that runs the task which is kept with the loan: from here
    /// on that is seen to run. `None` too if the longest idle loan keeps none, or does not `fit`.
    ///
    /// A kill sets the mode first and then calls the idle loans back. So the thread that kills, and
    /// goes on to look at what runs, sees a task that was accepted before.
    pub(in crate::engine) fn accept_kept(
        &self,
        since: Tick,
        is_closing: impl FnOnce() -> bool,
        fits: impl FnOnce(&Loan<T, R>) -> bool,
    ) -> Option<Box<Loan<T, R>>> {
        let mut idle = self.idle.lock();
        let loan = idle.front()?;
        if is_closing() || loan.kept.is_none() || !fits(loan) {
            return None;
        }
        loan.worker.lent.show(since);
        self.take_front(&mut idle)
    }

    fn take_front(&self, idle: &mut VecDeque<Box<Loan<T, R>>>) -> Option<Box<Loan<T, R>>> {
        let loan = idle.pop_front()?;
        // Not an addition in one step: no other thread writes it while this one has the lock.
        let accepted = self.accepted.load(Ordering::Relaxed) + 1;
        self.accepted.store(accepted, Ordering::Release);
        Some(loan)
    }

    /// The call of the loan's own task is over, and the loan is not idle yet.
    pub(in crate::engine) fn end_call(&self, loan: &Loan<T, R>) {
        let _idle = self.idle.lock();
        loan.end_call();
    }

    /// For how many nanoseconds of how many a worker was busy, as
    /// [`WorkerShared::busy`] tells it. A call of a loan's own task ends under this lock: a reader
    /// finds it either among what runs or in the total.
    pub fn busy(&self, worker: &WorkerShared<T>, now: Tick) -> (u64, u64) {
        let _idle = self.idle.lock();
        worker.busy(now)
    }

    /// Waits for a loan that will do for this task, but no longer than `limit`.
    pub(in crate::engine) fn wait(&self, entry: &Entry<T>, is_held: bool, limit: Duration) {
        let none = |idle: &mut VecDeque<_>| self.find(entry, is_held, idle).is_none();
        drop(self.came.wait_while(self.idle.lock(), limit, none));
    }

    /// Takes an idle loan that will do for this task, if there is one. `is_held`: it is a retry
    /// that still waits for one known to be good.
    pub(in crate::engine) fn take(
        &self,
        entry: &Entry<T>,
        is_held: bool,
    ) -> Option<Box<Loan<T, R>>> {
        let mut idle = self.idle.lock();
        let index = self.find(entry, is_held, &idle)?;
        idle.remove(index)
    }

    /// The first loan; for a retry that is held, of those that are known to be good since its
    /// failure or can be, see [`epochs`](crate::engine::resource::epochs).
    fn find(
        &self,
        entry: &Entry<T>,
        is_held: bool,
        idle: &VecDeque<Box<Loan<T, R>>>,
    ) -> Option<usize> {
        let any = !is_held || self.any.load(Ordering::SeqCst);
        idle.iter().position(|loan| any || loan.suits(entry.failure_epoch))
    }

    /// Makes a loan idle, or sends it home if its worker `is_dismissed`. Afterwards the caller
    /// looks whether the runner is closing, and calls all of them back then: the thread that
    /// closes sets the mode first and then does the same, so one of the two sees the other.
    pub(in crate::engine) fn put(
        &self,
        loan: Box<Loan<T, R>>,
        is_dismissed: impl FnOnce(&WorkerShared<T>) -> bool,
    ) {
        // Before the next caller can have it.
        loan.note_caller_thread(None);
        let mut idle = self.idle.lock();
        loan.end_call();
        // Looked at under the lock: the thread that dismisses marks the worker first and then
        // recalls the idle loans.
        if is_dismissed(&loan.worker) {
            drop(idle);
            return;
        }
        idle.push_back(loan);
        drop(idle);
        if self.has_waiters() {
            // Not every loan will do for a retry.
            if self.retry_waiters() > 0 { self.came.notify_all() } else { self.came.notify_one() }
        }
    }

    /// Sends the idle loans of `those` workers home; tells whether there were any.
    pub(in crate::engine) fn recall(&self, those: impl Fn(&WorkerShared<T>) -> bool) -> bool {
        let recalled: VecDeque<_> = {
            let mut idle = self.idle.lock();
            let (recalled, stay) = idle.drain(..).partition(|loan| those(&loan.worker));
            *idle = stay;
            recalled
        };
        !recalled.is_empty()
    }

    /// The worker of an idle loan from before this generation that is to rest no longer. One that
    /// has not served yet is left to a call that waits for one: recalled before that call is awake,
    /// and so the next one, it would keep the call waiting for as long as renewals follow each
    /// other. The thread that takes a call off the count looks again.
    pub(in crate::engine) fn find_outdated(
        &self,
        now: Tick,
        generation: u64,
    ) -> Option<Arc<WorkerShared<T>>> {
        let idle = self.idle.lock();
        let is_awaited = self.is_awaited();
        let outdated = idle.iter().find(|loan| {
            loan.lent.as_ref().is_some_and(|(owned_resource, _)| {
                let usage = owned_resource.usage();
                let is_taken_soon = is_awaited && !usage.has_served() && !loan.was_passed_over();
                usage.is_outdated(generation) && loan.rests_until <= now && !is_taken_soon
            })
        });
        outdated.map(|loan| Arc::clone(&loan.worker))
    }
}

impl<T, R> Loan<T, R> {
    pub(in crate::engine) fn new(
        worker: Arc<WorkerShared<T>>,
        owned_resource: OwnedResource<R>,
        recorder: Recorder,
        kept: Option<T>,
        return_to: Sender<LoanReturn<T, R>>,
        rests_until: Tick,
    ) -> Box<Self> {
        let (lent, passed_over) = (Some((owned_resource, recorder)), Cell::new(false));
        Box::new(Self { lent, kept, ended: 0, worker, return_to, rests_until, passed_over })
    }

    /// The call of its own task is over, if it was one: it is no longer seen to run.
    fn end_call(&self) {
        if let (Some(began), Some((_, recorder))) = (self.worker.lent.hide(), &self.lent) {
            recorder.was_busy(began, self.ended);
        }
    }

    /// Whether a call with a retry of this failure may have it.
    fn suits(&self, failure_epoch: FailureEpoch) -> bool {
        let suits = self.lent.as_ref().is_some_and(|(owned_resource, _)| {
            let usage = owned_resource.usage();
            usage.can_validate() || failure_epoch <= usage.known_good_since()
        });
        self.passed_over.set(self.passed_over.get() || !suits);
        suits
    }

    /// Whether a call passed it over.
    pub(in crate::engine) fn was_passed_over(&self) -> bool {
        self.passed_over.get()
    }

    /// Notes the host's mark of the caller's thread, until the loan is given back or goes back to
    /// its worker.
    pub fn note_caller_thread(&self, mark: Option<ThreadMark>) {
        self.worker.note_caller_thread(mark);
    }
}

impl<T, R> Drop for Loan<T, R> {
    fn drop(&mut self) {
        self.worker.note_caller_thread(None);
        if let Some((owned_resource, _recorder)) = self.lent.take() {
            let sent = self.return_to.send((owned_resource, self.kept.take()));
            debug_assert!(sent.is_ok(), "its worker waits at the other end");
        }
    }
}
