//! `run_task` without a thread hop: a reserved worker lends its resource to the calling thread.
//!
//! The resource is made and destroyed on its worker's thread. In between it lies in a line of idle loans; a
//! caller takes the one that rested longest, so that none is forgotten, runs its task, and puts it back, or sends it
//! home when the resource went bad or the runner is closing. Holding the loan is holding the resource: nobody else can
//! reach it.

use super::badge::{Badge, Post};
use super::care::Care;
use super::desk::Desk;
use super::engine::Engine;
use super::figures::Recorder;
use super::host::Host;
use super::lanes::Entry;
use super::proof::{self, Failure};
use super::worker::Next;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::channel::{Sender, unbounded};
use crate::sync::{Arc, Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A resource away from its worker, with what its use is written down in. It goes home when it is dropped.
pub struct Loan<H: Host> {
    /// Taken by `drop` alone.
    kit: Option<(H::Resource, Recorder, Care)>,
    badge: Arc<Badge<H>>,
    home: Sender<H::Resource>,
    in_use: Arc<AtomicUsize>,
    /// It is neither idle nor at home, and counted in `in_use`.
    used: bool,
}

/// The idle loans of one engine.
pub struct Loans<H: Host> {
    /// The longest idle in front. No loan is dropped under this lock.
    idle: Mutex<VecDeque<Box<Loan<H>>>>,
    /// A loan came, or more of them will do.
    came: Condvar,
    /// Callers that wait for a loan. Written by them before they look, read by who brings one after it is there.
    waiting: AtomicUsize,
    /// Those among them that wait for one for a retry. As above.
    choosy: AtomicUsize,
    /// Accepted calls that have not had their outcome. Raised inside the gate, so once that is sealed it only
    /// falls; `SeqCst`, against the mode.
    borrowers: AtomicUsize,
    /// Loans that are neither idle nor at home. `SeqCst`, as above.
    in_use: Arc<AtomicUsize>,
    /// The runner is closing, and no resource could be made any more. Set once. `SeqCst`, as above.
    given_up: AtomicBool,
    /// The runner is closing, and one resource could not be made: retries have any. Set once. `SeqCst`, as above.
    any: AtomicBool,
}

/// One accepted call that runs its task on a loan; over when dropped.
pub struct Borrower<'e, H: Host>(&'e Engine<H>);

impl<'e, H: Host> Borrower<'e, H> {
    pub(super) fn new(engine: &'e Engine<H>) -> Self {
        engine.loans.borrowers.fetch_add(1, Ordering::SeqCst);
        Self(engine)
    }
}

impl<H: Host> Drop for Borrower<'_, H> {
    fn drop(&mut self) {
        let engine = self.0;
        let before = engine.loans.borrowers.fetch_sub(1, Ordering::SeqCst);
        if engine.is_forsaken() {
            // A task that forked returned in the child too: the locks may be held by threads that are gone.
            return;
        }
        engine.loans.recall_if_over(engine);
        if before == 1 && engine.is_closing() {
            engine.borrowers_gone();
        }
    }
}

impl<H: Host> std::fmt::Debug for Borrower<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Borrower")
    }
}

impl<H: Host> Loans<H> {
    pub(super) fn new() -> Self {
        Self {
            idle: Mutex::new(VecDeque::new()),
            came: Condvar::new(),
            waiting: AtomicUsize::new(0),
            choosy: AtomicUsize::new(0),
            borrowers: AtomicUsize::new(0),
            in_use: Arc::new(AtomicUsize::new(0)),
            given_up: AtomicBool::new(false),
            any: AtomicBool::new(false),
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// Whether the runner is closing and every accepted call has its loan. One that wants another for a retry finds
    /// a worker hired for it.
    pub(super) fn is_over(&self, engine: &Engine<H>) -> bool {
        let borrowers = || self.borrowers.load(Ordering::SeqCst);
        let in_use = || self.in_use.load(Ordering::SeqCst);
        engine.is_killed() || engine.express.is_drained() && borrowers() <= in_use()
    }

    /// Whether an accepted call has not had its outcome yet.
    pub(super) fn is_wanted(&self) -> bool {
        self.borrowers.load(Ordering::SeqCst) > 0
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Retries have any loan from here on.
    pub(super) fn lend_any(&self) {
        self.any.store(true, Ordering::SeqCst);
        // Under the lock, or one that has just looked would miss it.
        drop(self.idle.lock());
        self.came.notify_all();
    }

    pub(super) fn are_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(super) fn choosy(&self) -> usize {
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
pub(super) fn lend<H: Host>(
    engine: &Arc<Engine<H>>,
    scope: H::Scope<'_>,
    badge: &Arc<Badge<H>>,
    resource: H::Resource,
    care: Care,
) -> (H::Resource, Next) {
    let (home, door) = unbounded();
    let kit = Some((resource, engine.ledger.enlist(), care));
    let in_use = Arc::clone(&engine.loans.in_use);
    let loan = Loan { kit, badge: Arc::clone(badge), home, in_use, used: false };
    engine.loans.put(engine, Box::new(loan));
    let back = engine.host.park(scope, || door.recv());
    let leave = engine.loans.is_over(engine) || badge.post() == Post::Temporary;
    (
        back.expect("a loan goes home before its end of the channel is dropped"),
        if leave { Next::Leave } else { Next::Renew },
    )
}

impl<H: Host> Loans<H> {
    /// Takes an idle loan that will do for this task, waiting up to `limit` for one. A caller that goes on waiting calls
    /// [`Engine::staff_for`] before each wait: the worker it waited for may have left.
    pub fn take(
        &self,
        engine: &Engine<H>,
        entry: &Entry<H::Task>,
        limit: Duration,
    ) -> Option<Box<Loan<H>>> {
        let choosy = usize::from(entry.failed != proof::NONE);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.choosy.fetch_add(choosy, Ordering::SeqCst);
        let loan = self.try_take(engine, entry).or_else(|| {
            let is_held = is_held(engine, entry);
            let none = |idle: &mut VecDeque<_>| self.find(entry, is_held, idle).is_none();
            drop(self.came.wait_while(self.idle.lock(), limit, none));
            self.try_take(engine, entry)
        });
        self.choosy.fetch_sub(choosy, Ordering::SeqCst);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        loan
    }

    /// Takes an idle loan that will do for this task, if there is one.
    pub fn try_take(&self, engine: &Engine<H>, entry: &Entry<H::Task>) -> Option<Box<Loan<H>>> {
        let is_held = is_held(engine, entry);
        let mut idle = self.idle.lock();
        let place = self.find(entry, is_held, &idle)?;
        let mut loan = idle.remove(place)?;
        // Under the lock: a call whose loan is not idle any more has it in use.
        self.in_use.fetch_add(1, Ordering::SeqCst);
        drop(idle);
        loan.used = true;
        Some(loan)
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

    fn put(&self, engine: &Engine<H>, mut loan: Box<Loan<H>>) {
        loan.end_use();
        self.idle.lock().push_back(loan);
        if self.waiting() > 0 {
            // Not every loan will do for a retry.
            if self.choosy() > 0 { self.came.notify_all() } else { self.came.notify_one() }
        }
        // After the push: whoever closes sets the mode first and then calls everything home, so one of the two sees
        // the other.
        self.recall_if_over(engine);
    }

    /// Sends every idle loan home, once nobody will ask for one.
    pub(super) fn recall_if_over(&self, engine: &Engine<H>) {
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
    /// is to be tried again.
    ///
    /// `at_once`: the call found it idle, so that its wait ended when it began.
    pub fn serve(
        self: Box<Self>,
        engine: &Arc<Engine<H>>,
        scope: H::Scope<'_>,
        entry: Entry<H::Task>,
        at_once: bool,
    ) -> Option<Entry<H::Task>> {
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
        let is_valid = || {
            let latest = engine.failures.latest();
            let valid = engine.host.validate(scope, &self.badge, resource);
            if valid {
                care.validated(now(), latest);
            }
            valid
        };
        let doubtful = || entry.failed > care.proven() || care.must_validate(now());
        if worn() || care.can_validate() && doubtful() && !is_valid() {
            // It goes home to be renewed; the task, which nobody has touched, goes on to another.
            return Some(entry);
        }
        let desk = Desk::new(engine, &self.badge, resource, recorder, care);
        if at_once {
            desk.begin_at(entry.since);
        }
        let serve = AssertUnwindSafe(|| desk.serve(scope, entry));
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
            Entry { task, since: desk.last_end(), failed: engine.failures.another() }
        });
        let spent = desk.is_spoiled() || worn();
        if !spent && self.badge.post() != Post::Temporary {
            self.give_back(engine);
        }
        again
    }

    /// Whether a retry of this failure may have it.
    fn suits(&self, failed: Failure) -> bool {
        self.kit.as_ref().is_some_and(|(_, _, care)| care.can_validate() || failed <= care.proven())
    }

    /// Gives a loan back.
    pub fn give_back(self: Box<Self>, engine: &Engine<H>) {
        engine.loans.put(engine, self);
    }
}

impl<H: Host> Loan<H> {
    fn end_use(&mut self) {
        if std::mem::take(&mut self.used) {
            self.in_use.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<H: Host> Drop for Loan<H> {
    fn drop(&mut self) {
        // First: its worker looks whether somebody wants it again.
        self.end_use();
        if let Some((resource, recorder, _care)) = self.kit.take() {
            // First: once its worker is gone, the ledger is complete.
            drop(recorder);
            let sent = self.home.send(resource);
            debug_assert!(sent.is_ok(), "its worker waits at the other end");
        }
    }
}
