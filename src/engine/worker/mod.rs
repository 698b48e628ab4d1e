//! A worker: makes its resource, serves tasks with it, renews it when it goes bad, destroys it.
//!
//! The loop has one way out of each round: serve, renew, or leave. Every task of every queue, fresh or
//! retried, running or draining, goes through `Desk::serve`.

pub mod badge;
pub mod desk;
pub mod loans;

use self::badge::{BEGUN, Badge, EQUIPPED, Post};
use self::desk::Desk;
use super::engine::Engine;
use super::figures::Recorder;
use super::host::Host;
use super::queue::Queue;
use super::queue::bell::Woken;
use super::resource::care::Care;
use super::resource::proof::{self, Failure, Proof};
use super::staffing::Relief;
use crate::sync::Arc;
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A worker's whole life, to be lived on a thread of its own. Dropping it unlived gives its place back.
pub struct Life<H: Host> {
    engine: Arc<Engine<H>>,
    badge: Arc<Badge<H>>,
    /// The constructor waits for the first resource, and takes its failure as final.
    launching: bool,
    /// The failure of the last retry that it queued: it comes back for it with a new resource.
    owed: Cell<Failure>,
    left: bool,
}

/// What becomes of a worker when it stops serving with one resource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Renew,
    Leave,
}

/// What a worker knows of the wear of its resource.
struct Wear {
    /// It has rested with it.
    rested: bool,
    /// It was worn before it was of any use, as was the one before: while no task waits another would be no better.
    in_vain: bool,
}

/// What came of the wish for a resource.
enum Made<R> {
    /// With the latest failure before it was begun.
    Ready(R, Failure),
    /// It could not be made, and there will be no other attempt.
    Failed,
    /// There is nothing left to do with it.
    NotNeeded,
}

impl<H: Host> Life<H> {
    pub(super) fn new(engine: Arc<Engine<H>>, badge: Arc<Badge<H>>, launching: bool) -> Self {
        Self { engine, badge, launching, owed: Cell::new(proof::NONE), left: false }
    }

    /// The worker.
    pub fn badge(&self) -> &Arc<Badge<H>> {
        &self.badge
    }

    /// The engine it works for.
    pub fn engine(&self) -> &Arc<Engine<H>> {
        &self.engine
    }

    /// Lives it: returns when the worker has destroyed its resource and given its place back.
    pub fn live(mut self, scope: H::Scope<'_>) {
        let recorder = self.engine.ledger.enlist();
        let mut held = None;
        let work = AssertUnwindSafe(|| self.work(scope, &recorder, &mut held));
        if catch_unwind(work).is_err() {
            self.engine.collapse(scope, &self.badge, &recorder);
            if let Some(resource) = held.take() {
                self.engine.host.destroy(scope, &self.badge, resource);
            }
            self.engine.dismiss(scope, &self.badge, true, self.owed.get());
        }
        if self.engine.is_forsaken() {
            // A task that forked returned in the child too: nothing here is this process's.
            std::mem::forget((held, recorder));
            self.left = true;
            return;
        }
        // Before the place is given back: an empty roster means that the ledger is complete.
        drop(recorder);
        self.left = true;
        self.engine.leave(&self.badge);
    }

    /// Ends it unlived: its thread ended before it came up. Called on that thread, once nobody else sees to what follows.
    pub fn fail(self, scope: H::Scope<'_>, fault: H::Fault) {
        let engine = Arc::clone(&self.engine);
        let (post, launching) = (self.badge.post(), self.launching);
        if !launching {
            engine.host.report_no_thread(scope, fault);
        } else if let Some(late) = engine.launch.one_has_no_thread(fault) {
            engine.host.keep_fault(scope, late);
        }
        let visit = engine.roster.visit();
        // Its place is given back.
        drop(self);
        engine.lost_worker(scope, post);
        drop(visit);
        engine.finish_if_over();
    }

    /// Serves with one resource after the other until it is time to go. `held` is the one there is.
    fn work(&self, scope: H::Scope<'_>, recorder: &Recorder, held: &mut Option<H::Resource>) {
        let Engine { host, settings, renewal, clock, backoff, .. } = &*self.engine;
        let mut relief = None;
        let mut generation = renewal.generation();
        let mut useless = 0;
        let mut made = self.first_resource(scope);
        loop {
            let failed = matches!(made, Made::Failed);
            if let Made::Ready(resource, proven) = made {
                let random = || RandomState::new().build_hasher().finish();
                let care = Care::new(settings.care, clock.now(), generation, proven, random);
                let (next, was_useless);
                if self.badge.post().is_main() || settings.thread_bound {
                    let desk = Desk::new(
                        &self.engine,
                        &self.badge,
                        held.insert(resource),
                        recorder,
                        &care,
                    );
                    next = self.serve(scope, &desk, &mut relief);
                    was_useless = care.was_useless();
                } else {
                    let (back, care, after) =
                        loans::lend(&self.engine, scope, &self.badge, resource, care);
                    *held = Some(back);
                    next = after;
                    was_useless = care.was_useless();
                }
                if self.engine.is_forsaken() {
                    return;
                }
                self.badge.unset(EQUIPPED);
                if let Some(resource) = held.take() {
                    host.destroy(scope, &self.badge, resource);
                }
                // Once is nothing: it may have been idle for long.
                useless = if was_useless { useless + 1 } else { 0 };
                if useless > 1 {
                    backoff.be_wary(true);
                }
                if next == Next::Renew {
                    generation = renewal.generation();
                    made = self.renew(scope);
                    continue;
                }
            }
            if self.engine.dismiss(scope, &self.badge, failed, self.owed.get()) {
                return;
            }
            relief = None;
            generation = renewal.generation();
            made = self.renew(scope);
        }
    }

    fn first_resource(&self, scope: H::Scope<'_>) -> Made<H::Resource> {
        let on_demand = self.engine.settings.on_demand && self.badge.post().is_main();
        if !self.launching && !on_demand {
            return self.renew(scope);
        }
        if self.engine.is_killed() {
            return Made::NotNeeded;
        }
        let latest = self.engine.failures.latest();
        match self.engine.host.create(scope, &self.badge) {
            Ok(resource) => {
                self.badge.set(BEGUN | EQUIPPED);
                if self.launching {
                    self.engine.launch.one_is_ready();
                }
                Made::Ready(resource, latest)
            }
            Err(fault) if on_demand => {
                self.engine.host.keep_fault(scope, fault);
                self.engine.kill(scope);
                Made::Failed
            }
            Err(fault) => {
                if let Some(late) = self.engine.launch.one_failed(fault) {
                    self.engine.host.keep_fault(scope, late);
                }
                Made::Failed
            }
        }
    }

    /// Creates until it works; gives up when the runner is closing.
    fn renew(&self, scope: H::Scope<'_>) -> Made<H::Resource> {
        let Engine { host, clock, backoff, failures, .. } = &*self.engine;
        loop {
            let turn = host.park(scope, || backoff.wait_for_turn(|| clock.now()));
            let closing = self.engine.is_closing();
            if self.engine.is_killed() || closing && self.is_over() {
                return Made::NotNeeded;
            }
            let latest = failures.latest();
            let wary = backoff.is_wary();
            let created = if wary {
                host.create_valid(scope, &self.badge)
            } else {
                host.create(scope, &self.badge)
            };
            match created {
                Ok(resource) => {
                    self.badge.set(BEGUN | EQUIPPED);
                    if wary {
                        backoff.be_wary(false);
                    }
                    if let Some(trouble) = backoff.succeeded(turn, clock.now()) {
                        host.report_trouble(scope, &self.badge, trouble, None);
                    }
                    self.engine.equipped(&self.badge);
                    return Made::Ready(resource, latest);
                }
                Err(fault) => {
                    if let Some(trouble) = backoff.failed(turn, clock.now()) {
                        host.report_trouble(scope, &self.badge, trouble, Some(&fault));
                    }
                    host.keep_fault(scope, fault);
                    if closing {
                        return Made::Failed;
                    }
                }
            }
        }
    }

    /// Serves tasks with one resource, until that is to be replaced or the worker to leave.
    fn serve(
        &self,
        scope: H::Scope<'_>,
        desk: &Desk<'_, H>,
        relief: &mut Option<Arc<Badge<H>>>,
    ) -> Next {
        let (engine, queue) = (&self.engine, self.queue());
        let mut rung = false;
        let stale = desk.care.is_worn(|| engine.clock.now(), engine.renewal.generation());
        let mut wear = Wear { rested: false, in_vain: self.badge.note_stale(stale) };
        loop {
            // ---- BUSY: attached, nothing shared by all workers but the lanes.
            let mut called = std::mem::take(&mut rung);
            if let Some(next) = self.renewal_due(scope, desk, relief, &wear) {
                if called {
                    self.answered();
                }
                return next;
            }
            if called && desk.care.must_validate(desk.last.get()) {
                // That may take long: the others are woken first.
                self.answered();
                called = false;
            }
            // Not looked at for wear again: what wore out meanwhile serves one task.
            let fit = self.is_fit(scope, desk);
            if fit == Some(false) {
                if called {
                    self.answered();
                }
                return Next::Renew;
            }
            let proof = || engine.proof(desk.care.proven());
            let entry = fit.and_then(|_| queue.take(called, proof));
            if called {
                engine.load_is_left();
            }
            if let Some(entry) = entry {
                if let Some(task) = desk.serve(scope, entry) {
                    desk.queue_again(task, desk.last.get());
                }
                if desk.owed.get() != proof::NONE {
                    self.owed.set(desk.owed.get());
                }
                if engine.is_forsaken() || self.is_surplus(desk, proof) {
                    return Next::Leave;
                }
                if desk.is_spoiled() {
                    return Next::Renew;
                }
                continue;
            }
            // ---- IDLE: leave, look after the resource for a retry, or detach and sleep.
            if queue.is_drained() || self.badge.post() == Post::Temporary {
                return Next::Leave;
            }
            if desk.care.can_validate() && queue.lanes.look() {
                if !self.is_valid(scope, desk) {
                    return Next::Renew;
                }
                continue;
            }
            let woken = self.rest(scope, desk, relief.as_ref(), &wear);
            wear.rested = true;
            rung = woken == Woken::Rung;
            if woken == Woken::TimedOut && self.badge.post() == Post::Burst && self.is_idle(desk) {
                return Next::Leave;
            }
        }
    }

    /// Ends a wake-up without taking a task.
    fn answered(&self) {
        self.queue().answered();
        self.engine.load_is_left();
    }

    /// Whether the resource can be used at once: after a rest it is looked at, if there is a task for it.
    /// `None`: there is none, and it was not.
    fn is_fit(&self, scope: H::Scope<'_>, desk: &Desk<'_, H>) -> Option<bool> {
        let engine = &self.engine;
        if !desk.care.must_validate(desk.last.get()) || engine.is_killed() {
            return Some(true);
        }
        if self.queue().lanes.is_empty() {
            return None;
        }
        Some(self.is_valid(scope, desk))
    }

    fn is_valid(&self, scope: H::Scope<'_>, desk: &Desk<'_, H>) -> bool {
        let latest = self.engine.failures.latest();
        let valid = self.engine.host.validate(scope, &self.badge, desk.resource);
        if valid {
            desk.care.validated(desk.now(), latest);
        } else {
            desk.care.invalidated();
        }
        valid
    }

    /// Detaches and sleeps until there is something to do.
    fn rest(
        &self,
        scope: H::Scope<'_>,
        desk: &Desk<'_, H>,
        relief: Option<&Arc<Badge<H>>>,
        wear: &Wear,
    ) -> Woken {
        let (engine, queue) = (&self.engine, self.queue());
        let now = engine.clock.now();
        let burst = (self.badge.post() == Post::Burst).then_some(engine.settings.idle_timeout);
        // An age that is up already waits for its turn, and is told of it by a ring.
        let age = desk.care.due().map(|due| due.saturating_sub(now)).filter(|left| *left > 0);
        let limit = || {
            let hold = engine.hold_left(queue);
            burst.into_iter().chain(age).chain(hold).min().map(Duration::from_nanos)
        };
        let (proven, can_validate) = (desk.care.proven(), desk.care.can_validate());
        let generation = engine.renewal.generation();
        let worn = relief.is_none() && !wear.in_vain && desk.care.is_worn(|| now, generation);
        let relief = relief.cloned();
        // Asked once more while this worker is counted as asleep: what changes later comes with a ring.
        let restless = || {
            can_validate && queue.lanes.has_unlooked()
                || !engine.is_closing()
                    && (relief.as_ref().is_some_and(|new| new.is_equipped())
                        || engine.renewal.generation() != generation
                        || worn && engine.renewal.is_open(|| engine.may_renew()))
        };
        let proof = || engine.proof(proven);
        let warm = desk.last.get() != 0;
        let rest = || (queue.rest(warm, limit, proof, restless), engine.clock.now());
        let (rested, woken) = engine.host.park(scope, rest);
        let back = engine.clock.now();
        desk.recorder.record_attach(back.saturating_sub(woken));
        desk.last.set(back);
        desk.span.set(0);
        rested
    }

    /// Whether a burst worker has had nothing to do for so long that it leaves.
    fn is_idle(&self, desk: &Desk<'_, H>) -> bool {
        self.queue().lanes.is_empty()
            && desk.care.idle(desk.last.get()) >= self.engine.settings.idle_timeout
    }

    /// Looks after a good resource that has served long enough: what to do now, if anything.
    ///
    /// A worker renews at most once between two tasks: a resource that wore out while it was made serves one task that
    /// waits, or a runner whose resources wear out as quickly would serve none. One that rested is renewed first, as
    /// nobody has to wait twice for that.
    fn renewal_due(
        &self,
        scope: H::Scope<'_>,
        desk: &Desk<'_, H>,
        relief: &mut Option<Arc<Badge<H>>>,
        wear: &Wear,
    ) -> Option<Next> {
        let engine = &self.engine;
        desk.spared.set(false);
        if engine.is_closing() {
            // Everybody is of use until the lanes are empty.
            return None;
        }
        if let Some(new) = relief {
            if new.is_equipped() {
                // First the retry that this one has made its new resource for.
                let owes = self.queue().lanes.has_retry(self.owed.get());
                return (!owes).then_some(Next::Leave);
            }
            if engine.renewal.relieves(new) {
                return None;
            }
            // It left again.
            *relief = None;
        }
        let now = || engine.clock.now();
        if !desk.care.is_worn(now, engine.renewal.generation()) {
            return None;
        }
        if self.queue().lanes.has_for(|| engine.proof(desk.care.proven())) {
            if !wear.rested && !desk.care.has_served() {
                desk.spared.set(true);
                return None;
            }
        } else if wear.in_vain {
            return None;
        }
        match engine.begin_renewal(scope, &self.badge)? {
            Relief::OnTheSpot => Some(Next::Renew),
            Relief::By(new) => {
                *relief = Some(new);
                None
            }
        }
    }

    /// Whether nothing is left for it to serve, now and later.
    fn is_over(&self) -> bool {
        if self.badge.post().is_main() || self.engine.settings.thread_bound {
            self.queue().is_drained()
        } else {
            self.engine.loans.is_over(&self.engine)
        }
    }

    /// Whether this worker is one too many: a temporary one after its task, or one whose overdue task has
    /// ended while a stand-in took its place.
    fn is_surplus(&self, desk: &Desk<'_, H>, proof: impl Fn() -> Proof) -> bool {
        let Engine { roster, settings, .. } = &*self.engine;
        match self.badge.post() {
            // One that owes a retry comes back for it.
            Post::Temporary => desk.owed.get() == proof::NONE && !self.queue().lanes.has_for(proof),
            Post::Reserved => false,
            // In a closing runner everybody is of use until the lanes are empty.
            Post::Base | Post::Burst => {
                self.badge.is_overdue()
                    && !roster.take_back(&self.badge, settings.worker_count)
                    && !self.engine.is_closing()
            }
        }
    }

    fn queue(&self) -> &Queue<H::Task> {
        self.engine.queue_at(self.badge.post())
    }
}

impl<H: Host> Drop for Life<H> {
    fn drop(&mut self) {
        if !self.left {
            // Unlived: no thread could be started. Or our own loop panicked: nobody can tell what it
            // left undone, so the runner is broken.
            self.engine.abandon(&self.badge);
        }
    }
}

impl<H: Host> std::fmt::Debug for Life<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").field("badge", &self.badge).finish_non_exhaustive()
    }
}
