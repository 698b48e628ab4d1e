//! `run_task` without a thread hop: a reserved worker lends its resource to the calling thread.
//!
//! The resource is made and destroyed on its worker's thread. In between it lies in a line of idle loans; a
//! caller takes the one that rested longest, so that none is forgotten, runs its task, and puts it back, or sends it
//! home when the resource went bad or the runner is closing. Holding the loan is holding the resource: nobody else can
//! reach it.

use super::Next;
use super::badge::{Badge, Post};
use super::desk::Desk;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::figures::Recorder;
use crate::engine::host::Host;
use crate::engine::queue::lanes::Entry;
use crate::engine::resource::care::Care;
use crate::engine::resource::proof::{self, Failure};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::channel::{Sender, unbounded};
use crate::sync::{Arc, Condvar, Mutex};
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A resource away from its worker, with what its use is written down in. It goes home when it is dropped.
pub struct Loan<H: Host> {
    /// Taken by `drop` alone.
    kit: Option<(H::Resource, Recorder, Care)>,
    badge: Arc<Badge<H>>,
    home: Sender<(H::Resource, Care)>,
    /// A call that waits passed it over, for it would not do: it rests. Written and read by the caller that holds the loan,
    /// or under the lock of the idle ones.
    rests: Cell<bool>,
}

/// The idle loans of one engine.
pub struct Loans<H: Host> {
    /// The longest idle in front. No loan is dropped under this lock.
    idle: Mutex<VecDeque<Box<Loan<H>>>>,
    /// A loan came, or more of them will do.
    came: Condvar,
    /// Calls that were accepted by taking a loan. Written under the lock of `idle`, before the task starts.
    accepted: AtomicU64,
    /// Accepted calls that have no loan. Raised inside the gate, or by a call that is about to let its loan go; written
    /// before its caller looks for an idle one, read by who brings one after it is there. `SeqCst`, against the mode.
    seekers: AtomicUsize,
    /// Those among them that want one for a retry. As above.
    choosy: AtomicUsize,
    /// Tasks of calls that had to wait for a loan, or for what is done before a task is entered, until they return: in
    /// no lane, and to be found by a kill that answers what waits.
    waiting: Mutex<Vec<Waiting<H::Task>>>,
    /// The runner is closing, and no resource could be made any more. Set once. `SeqCst`, as above.
    given_up: AtomicBool,
    /// The runner is closing, and one resource could not be made: retries have any. Set once. `SeqCst`, as above.
    any: AtomicBool,
}

/// How a task on a loan gets its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// Nobody but its caller knows of it, who found the loan idle.
    Unshared,
    /// In a race with others that may end it.
    Shared,
}

/// A handle on the task of a call, and since when it waits.
struct Waiting<T> {
    task: T,
    since: Tick,
    key: u64,
}

/// One accepted call that has no loan. To be dropped when it has one, or its outcome.
pub struct Seeker<'e, H: Host> {
    engine: &'e Engine<H>,
    choosy: bool,
}

impl<'e, H: Host> Seeker<'e, H> {
    /// `choosy`: not every loan will do, as it is for a retry.
    pub(in crate::engine) fn new(engine: &'e Engine<H>, choosy: bool) -> Self {
        engine.loans.seekers.fetch_add(1, Ordering::SeqCst);
        engine.loans.choosy.fetch_add(usize::from(choosy), Ordering::SeqCst);
        Self { engine, choosy }
    }
}

impl<H: Host> Drop for Seeker<'_, H> {
    fn drop(&mut self) {
        let engine = self.engine;
        engine.loans.choosy.fetch_sub(usize::from(self.choosy), Ordering::SeqCst);
        let before = engine.loans.seekers.fetch_sub(1, Ordering::SeqCst);
        // Against the one in `close`, which seals and then looks for seekers: either it sees that this one is gone, or
        // whoever puts this one's loan back sees the seal.
        fence(Ordering::SeqCst);
        if before == 1 && engine.is_closing() && !engine.is_forsaken() {
            engine.loans.recall_if_over(engine);
            engine.seekers_gone();
        }
    }
}

impl<H: Host> std::fmt::Debug for Seeker<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seeker").field("choosy", &self.choosy).finish_non_exhaustive()
    }
}

impl<H: Host> Loans<H> {
    pub(in crate::engine) fn new() -> Self {
        Self {
            idle: Mutex::new(VecDeque::new()),
            came: Condvar::new(),
            accepted: AtomicU64::new(0),
            seekers: AtomicUsize::new(0),
            choosy: AtomicUsize::new(0),
            waiting: Mutex::new(Vec::new()),
            given_up: AtomicBool::new(false),
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

    /// Whether the runner is closing and every accepted call has its loan.
    pub(in crate::engine) fn is_over(&self, engine: &Engine<H>) -> bool {
        engine.is_killed() || engine.express.is_drained() && !self.is_sought()
    }

    /// Whether an accepted call has neither a loan nor its outcome.
    pub(in crate::engine) fn is_sought(&self) -> bool {
        self.seekers() > 0
    }

    /// Handles, made by `share`, which does no more, on the tasks of calls that began up to then and wait. Some of them
    /// may run by now.
    pub(in crate::engine) fn waiting(
        &self,
        share: impl Fn(&H::Task) -> H::Task,
        then: Tick,
    ) -> Vec<H::Task> {
        let waiting = self.waiting.lock();
        waiting.iter().filter(|one| one.since <= then).map(|one| share(&one.task)).collect()
    }

    /// Has a task found that stands in no lane, until [`strike`](Self::strike) is called with what this gives.
    pub fn enrol(&self, task: H::Task, since: Tick) -> u64 {
        let mut waiting = self.waiting.lock();
        let key = waiting.last().map_or(0, |last| last.key + 1);
        waiting.push(Waiting { task, since, key });
        key
    }

    /// Gives the handle back that was left with [`enrol`](Self::enrol).
    pub fn strike(&self, key: u64) -> Option<H::Task> {
        let mut waiting = self.waiting.lock();
        let place = waiting.binary_search_by_key(&key, |one| one.key).ok()?;
        Some(waiting.remove(place).task)
    }

    pub(in crate::engine) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Retries have any loan from here on.
    pub(in crate::engine) fn lend_any(&self) {
        self.any.store(true, Ordering::SeqCst);
        // Under the lock, or one that has just looked would miss it.
        drop(self.idle.lock());
        self.came.notify_all();
    }

    pub(in crate::engine) fn are_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    pub(in crate::engine) fn seekers(&self) -> usize {
        self.seekers.load(Ordering::SeqCst)
    }

    pub(in crate::engine) fn choosy(&self) -> usize {
        self.choosy.load(Ordering::SeqCst)
    }
}

impl<H: Host> std::fmt::Debug for Loans<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loans").field("idle", &self.idle()).finish()
    }
}

impl<H: Host> std::fmt::Debug for Loan<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loan").field("badge", &self.badge).finish_non_exhaustive()
    }
}

/// A worker's part: lends its resource until it comes home, for good or to be renewed.
pub(in crate::engine) fn lend<H: Host>(
    engine: &Arc<Engine<H>>,
    scope: H::Scope<'_>,
    badge: &Arc<Badge<H>>,
    resource: H::Resource,
    care: Care,
) -> (H::Resource, Care, Next) {
    let (home, door) = unbounded();
    let kit = Some((resource, engine.ledger.enlist(), care));
    let rests = Cell::new(false);
    engine.loans.put(engine, Box::new(Loan { kit, badge: Arc::clone(badge), home, rests }));
    let back = engine.host.park(scope, || door.recv());
    let (resource, care) = back.expect("a loan goes home before its end of the channel is dropped");
    // One that has served nobody stays for the call that it was hired for.
    let is_done = badge.post() == Post::Temporary && !care.was_useless();
    let leave = engine.loans.is_over(engine) || is_done;
    (resource, care, if leave { Next::Leave } else { Next::Renew })
}

impl<H: Host> Loans<H> {
    /// Takes the longest idle loan for a new call, which is accepted by that. `None`: there is none, or the runner is
    /// closing.
    ///
    /// One step against a close, as the gate is: whoever closes sets the mode first and then calls the idle loans home,
    /// under the same lock; one that is taken before keeps its worker, and so the runner, from ending.
    pub fn accept(&self, engine: &Engine<H>) -> Option<Box<Loan<H>>> {
        let mut idle = self.idle.lock();
        if engine.is_closing() {
            return None;
        }
        let loan = idle.pop_front()?;
        // Not an addition in one step: nobody else writes it now.
        let accepted = self.accepted.load(Ordering::Relaxed) + 1;
        self.accepted.store(accepted, Ordering::Release);
        Some(loan)
    }

    /// Takes an idle loan that will do for this task, waiting up to `limit` for one. A caller that goes on waiting calls
    /// [`Engine::staff_for`] before each wait: the worker it waited for may have left.
    pub fn take(
        &self,
        engine: &Engine<H>,
        entry: &Entry<H::Task>,
        limit: Duration,
    ) -> Option<Box<Loan<H>>> {
        self.try_take(engine, entry).or_else(|| {
            let is_held = is_held(engine, entry);
            let none = |idle: &mut VecDeque<_>| self.find(entry, is_held, idle).is_none();
            drop(self.came.wait_while(self.idle.lock(), limit, none));
            self.try_take(engine, entry)
        })
    }

    /// Takes an idle loan that will do for this task, if there is one.
    pub fn try_take(&self, engine: &Engine<H>, entry: &Entry<H::Task>) -> Option<Box<Loan<H>>> {
        let is_held = is_held(engine, entry);
        let mut idle = self.idle.lock();
        let place = self.find(entry, is_held, &idle)?;
        idle.remove(place)
    }

    /// The first loan; for a retry that is held, of those that are proven since its failure or can be, see [`proof`].
    fn find(
        &self,
        entry: &Entry<H::Task>,
        is_held: bool,
        idle: &VecDeque<Box<Loan<H>>>,
    ) -> Option<usize> {
        let any = !is_held || self.any.load(Ordering::SeqCst);
        idle.iter().position(|loan| any || loan.suits(entry.failed))
    }

    fn put(&self, engine: &Engine<H>, loan: Box<Loan<H>>) {
        // Before the next caller can have it.
        loan.badge.note_caller(0);
        self.idle.lock().push_back(loan);
        if self.is_sought() {
            // Not every loan will do for a retry.
            if self.choosy() > 0 { self.came.notify_all() } else { self.came.notify_one() }
        }
        // After the push: whoever closes sets the mode first and then calls everything home, so one of the two sees
        // the other.
        self.recall_if_over(engine);
    }

    /// Sends every idle loan home, once nobody will ask for one.
    pub(in crate::engine) fn recall_if_over(&self, engine: &Engine<H>) {
        if self.is_over(engine) {
            let all = std::mem::take(&mut *self.idle.lock());
            drop(all);
        }
    }
}

/// Whether a task is a retry that still waits for a proven loan. Asked before the lock is taken: it looks at the clock,
/// and under another lock.
fn is_held<H: Host>(engine: &Engine<H>, entry: &Entry<H::Task>) -> bool {
    let covered = || engine.proof(proof::NONE).covers(entry.failed, entry.since);
    entry.failed != proof::NONE && !covered()
}

impl<H: Host> Loan<H> {
    /// Runs one task on it in the calling thread, then gives the loan back. The task comes back when it
    /// is to be tried on another, as one that seeks it.
    pub fn serve<'e>(
        self: Box<Self>,
        engine: &'e Arc<Engine<H>>,
        scope: H::Scope<'_>,
        entry: Entry<H::Task>,
        claim: Claiming,
    ) -> Option<(Entry<H::Task>, Seeker<'e, H>)> {
        let Some((resource, recorder, care)) = &self.kit else {
            unreachable!("only `drop` takes it");
        };
        // The clock is read for those alone who limit an age or validate.
        let now = || engine.clock.now();
        let worn = || {
            care.is_worn(now, engine.renewal.generation())
                && !engine.is_closing()
                && engine.begin_renewal(scope, &self.badge).is_some()
        };
        // As for a worker of its own: what wore out while it was made serves one call that waited for it.
        let spared = care.was_awaited(entry.since) && !self.rests.get();
        let is_valid = || {
            let latest = engine.failures.latest();
            let valid = engine.host.validate(scope, &self.badge, resource);
            if valid {
                care.validated(now(), latest);
            } else {
                care.invalidated();
            }
            valid
        };
        let doubtful = || entry.failed > care.proven() || care.must_validate(now());
        if !spared && worn() || care.can_validate() && doubtful() && !is_valid() {
            if engine.is_forsaken() {
                // The hook forked: nothing here is the child's.
                std::mem::forget(self);
                return None;
            }
            // It goes home to be renewed; the task, which nobody has touched, goes on to another.
            let seeker = Seeker::new(engine, entry.failed != proof::NONE);
            return Some((entry, seeker));
        }
        let desk = Desk::new(engine, &self.badge, resource, recorder, care);
        let serve = AssertUnwindSafe(|| match claim {
            Claiming::Unshared => {
                // The call found it idle, so that its wait ended when it began.
                desk.begin_at(entry.since);
                desk.serve_unshared(scope, entry)
            }
            Claiming::Shared => desk.serve(scope, entry),
        });
        let again = catch_unwind(serve).unwrap_or_else(|panic| {
            engine.collapse(scope, &self.badge, recorder);
            resume_unwind(panic)
        });
        if engine.is_forsaken() {
            std::mem::forget(self);
            return None;
        }
        let again = again.map(|task| {
            engine.express.returned();
            let failed = engine.failures.another();
            (Entry { task, since: desk.last_end(), failed }, Seeker::new(engine, true))
        });
        let spent = desk.is_spoiled() || worn();
        if !spent && self.badge.post() != Post::Temporary {
            self.give_back(engine);
        }
        again
    }

    /// Whether a retry of this failure may have it.
    fn suits(&self, failed: Failure) -> bool {
        let suits = |care: &Care| care.can_validate() || failed <= care.proven();
        let suits = self.kit.as_ref().is_some_and(|(_, _, care)| suits(care));
        self.rests.set(self.rests.get() || !suits);
        suits
    }

    /// Notes the host's mark of the caller's thread, until the loan is given back or goes home.
    pub fn note_caller(&self, mark: usize) {
        self.badge.note_caller(mark);
    }

    /// Gives a loan back.
    pub fn give_back(self: Box<Self>, engine: &Engine<H>) {
        engine.loans.put(engine, self);
    }
}

impl<H: Host> Drop for Loan<H> {
    fn drop(&mut self) {
        self.badge.note_caller(0);
        if let Some((resource, recorder, care)) = self.kit.take() {
            // First: once its worker is gone, the ledger is complete.
            drop(recorder);
            let sent = self.home.send((resource, care));
            debug_assert!(sent.is_ok(), "its worker waits at the other end");
        }
    }
}
