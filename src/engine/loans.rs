//! `run_task` without a thread hop: a reserved worker lends its resource to the calling thread.
//!
//! The resource is made and destroyed on its worker's thread. In between it lies in a channel of idle
//! loans; a caller takes one, runs its task, and puts it back, or sends it home when the resource went bad
//! or the runner is closing. Holding the loan is holding the resource: nobody else can reach it.

use super::care::Care;
use super::engine::Engine;
use super::figures::Recorder;
use super::host::Host;
use super::lanes::Entry;
use super::proof::{self, Failure};
use super::worker::{Badge, Desk, Next, Post};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{Arc, Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A resource away from its worker, with what its use is written down in. It goes home when it is dropped.
pub struct Loan<H: Host> {
    /// Taken by `drop` alone.
    kit: Option<(H::Resource, Recorder, Care)>,
    badge: Arc<Badge<H>>,
    home: Sender<H::Resource>,
    /// Set while it is neither idle nor at home.
    usage: Option<Usage>,
}

/// Counts one loan in use; no more when dropped.
struct Usage(Arc<AtomicUsize>);

impl Drop for Usage {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The idle loans of one engine.
pub struct Loans<H: Host> {
    sender: Sender<Loan<H>>,
    receiver: Receiver<Loan<H>>,
    /// Callers in [`take`](Self::take). Written by them; `SeqCst`, like the channel.
    waiting: AtomicUsize,
    /// Accepted calls that have not had their outcome. Raised inside the gate, so once that is sealed it only
    /// falls; `SeqCst`, against the mode.
    borrowers: AtomicUsize,
    /// Loans that are neither idle nor at home. `SeqCst`, as above.
    in_use: Arc<AtomicUsize>,
    /// The runner is closing, and no resource could be made any more. Set once. `SeqCst`, as above.
    given_up: AtomicBool,
    /// The runner is closing, and one resource could not be made: retries have any. Set once. `SeqCst`, as above.
    any: AtomicBool,
    /// Callers that wait for a loan for a retry. Written by them; `SeqCst`, against the channel.
    choosy: AtomicUsize,
    /// Held by the one of them that looks through the idle loans, so that none misses what another has in its hands.
    choice: Mutex<()>,
    /// How often they were told that a loan came.
    news: Mutex<u64>,
    told: Condvar,
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
        engine.loans.recall_if_over(engine);
        if before == 1 && engine.is_closing() && !engine.is_forsaken() {
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
        let (sender, receiver) = unbounded();
        let (waiting, borrowers, in_use) = <(AtomicUsize, AtomicUsize, _)>::default();
        let (given_up, any) = <(AtomicBool, AtomicBool)>::default();
        let (choosy, choice) = (AtomicUsize::new(0), Mutex::new(()));
        let (news, told) = (Mutex::new(0), Condvar::new());
        Self {
            sender,
            receiver,
            waiting,
            borrowers,
            in_use,
            given_up,
            any,
            choosy,
            choice,
            news,
            told,
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.receiver.len()
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
        self.tell();
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
    engine.loans.put(engine, Loan { kit, badge: Arc::clone(badge), home, usage: None });
    let back = engine.host.park(scope, || door.recv());
    let leave = engine.loans.is_over(engine) || badge.post() == Post::Temporary;
    (
        back.expect("a loan goes home before its end of the channel is dropped"),
        if leave { Next::Leave } else { Next::Renew },
    )
}

impl<H: Host> Loans<H> {
    /// Takes an idle loan, waiting up to `limit` for one. A caller that goes on waiting calls
    /// [`Engine::staff_express`] before each wait: the worker it waited for may have left.
    pub fn take(&self, limit: Duration) -> Option<Loan<H>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let loan = self.receiver.recv_timeout(limit).ok();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        loan.map(|loan| self.hand_over(loan))
    }

    /// Takes an idle loan if there is one.
    pub fn try_take(&self) -> Option<Loan<H>> {
        self.receiver.try_recv().ok().map(|loan| self.hand_over(loan))
    }

    /// [`take`](Self::take), for this task, which may be a retry.
    pub fn take_for(
        &self,
        engine: &Engine<H>,
        entry: &Entry<H::Task>,
        limit: Duration,
    ) -> Option<Loan<H>> {
        if entry.failed == proof::NONE {
            return self.take(limit);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.choosy.fetch_add(1, Ordering::SeqCst);
        let news = *self.news.lock();
        let loan = self.choose(engine, entry).or_else(|| {
            drop(self.told.wait_while(self.news.lock(), limit, |now| *now == news));
            self.choose(engine, entry)
        });
        self.choosy.fetch_sub(1, Ordering::SeqCst);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        loan
    }

    /// [`try_take`](Self::try_take), for this task, which may be a retry.
    pub fn try_take_for(&self, engine: &Engine<H>, entry: &Entry<H::Task>) -> Option<Loan<H>> {
        if entry.failed == proof::NONE { self.try_take() } else { self.choose(engine, entry) }
    }

    /// Takes the first idle loan that is proven since the failure of this retry, or can be; see [`proof`].
    fn choose(&self, engine: &Engine<H>, entry: &Entry<H::Task>) -> Option<Loan<H>> {
        let any = self.any.load(Ordering::SeqCst)
            || engine.proof(proof::NONE).covers(entry.failed, entry.since);
        let choice = self.choice.lock();
        let mut others = Vec::new();
        let chosen = loop {
            match self.receiver.try_recv() {
                Ok(loan) if any || loan.suits(entry.failed) => break Some(self.hand_over(loan)),
                Ok(loan) => others.push(loan),
                Err(_) => break None,
            }
        };
        for loan in others {
            let sent = self.sender.send(loan);
            debug_assert!(sent.is_ok());
        }
        drop(choice);
        // Whoever called everything home meanwhile has not seen the others.
        self.recall_if_over(engine);
        chosen
    }

    /// Has those who wait for a loan for a retry look again.
    fn tell(&self) {
        if self.choosy.load(Ordering::SeqCst) > 0 {
            *self.news.lock() += 1;
            self.told.notify_all();
        }
    }

    fn hand_over(&self, mut loan: Loan<H>) -> Loan<H> {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        loan.usage = Some(Usage(Arc::clone(&self.in_use)));
        loan
    }

    fn put(&self, engine: &Engine<H>, mut loan: Loan<H>) {
        loan.usage = None;
        let sent = self.sender.send(loan);
        debug_assert!(sent.is_ok());
        self.tell();
        // After the send: whoever closes sets the mode first and then calls everything home, so one of
        // the two sees the other.
        self.recall_if_over(engine);
    }

    /// Sends every idle loan home, once nobody will ask for one.
    pub(super) fn recall_if_over(&self, engine: &Engine<H>) {
        if self.is_over(engine) {
            while let Some(loan) = self.try_take() {
                drop(loan);
            }
        }
    }
}

impl<H: Host> Loan<H> {
    /// Runs one task on it in the calling thread, then gives the loan back. The task comes back when it
    /// is to be tried again.
    pub fn serve(
        self,
        engine: &Arc<Engine<H>>,
        scope: H::Scope<'_>,
        entry: Entry<H::Task>,
    ) -> Option<Entry<H::Task>> {
        let Some((resource, recorder, care)) = &self.kit else {
            unreachable!("only `drop` takes it");
        };
        let now = engine.clock.now();
        let worn = |now| {
            care.is_worn(|| now, engine.renewal.generation())
                && !engine.is_closing()
                && engine.begin_renewal(scope, &self.badge).is_some()
        };
        let is_valid = || {
            let latest = engine.failures.latest();
            let valid = engine.host.validate(scope, &self.badge, resource);
            if valid {
                care.validated(now, latest);
            }
            valid
        };
        let unproven = entry.failed > care.proven() && care.can_validate();
        if worn(now) || (unproven || care.must_validate(now)) && !is_valid() {
            // It goes home to be renewed; the task, which nobody has touched, goes on to another.
            return Some(entry);
        }
        let desk = Desk::new(engine, &self.badge, resource, recorder, care);
        let serve = AssertUnwindSafe(|| desk.serve(scope, entry));
        let again = catch_unwind(serve).unwrap_or_else(|panic| {
            engine.collapse(scope, &self.badge, recorder);
            resume_unwind(panic)
        });
        let again = again.map(|task| {
            engine.express.returned();
            Entry { task, since: desk.last_end(), failed: engine.failures.another() }
        });
        let spent = desk.is_spoiled() || worn(engine.clock.now());
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
    pub fn give_back(self, engine: &Engine<H>) {
        engine.loans.put(engine, self);
    }
}

impl<H: Host> Drop for Loan<H> {
    fn drop(&mut self) {
        // First: its worker looks whether somebody wants it again.
        self.usage = None;
        if let Some((resource, recorder, _care)) = self.kit.take() {
            // First: once its worker is gone, the ledger is complete.
            drop(recorder);
            let sent = self.home.send(resource);
            debug_assert!(sent.is_ok(), "its worker waits at the other end");
        }
    }
}
