//! A worker: makes its resource, serves tasks with it, replaces it when it goes bad, renews it when
//! it is worn, destroys it.
//!
//! The loop has one way out of each round: serve, replace, renew, or leave. Every task of every
//! queue, fresh or retried, running or draining, goes through `WorkerSession::serve`.

pub mod attempt;
pub mod chunk;
pub mod joint_call;
pub mod serve_at_once;
pub mod serve_batch;
pub mod serve_loan;
pub mod session;

use self::attempt::Attempts;
use self::session::{Next, WorkerSession};
use super::engine::Engine;
use super::host::Notice;
use super::metrics::recorder::Recorder;
use super::metrics::sample::Sample;
use super::queue::Queue;
use super::queue::idle_workers::{Wakeable, Wakeup};
use super::resource::epochs::{self, Eligibility};
use super::resource::owned_resource::OwnedResource;
use super::resource::usage::ResourceUsage;
use super::roster::shared::{DISMISSED, HAS_RESOURCE, OVERDUE, WorkerKind, WorkerShared};
use super::roster::startup_latch::StartupStatus;
use super::scaling::renewal::RenewalPlan;
use super::scaling::threads::Worker;
use crate::sync::Arc;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What a worker knows of the wear of its resource.
struct Wear {
    /// It has rested with it.
    slept: bool,
    /// How many in a row, it included, were worn as soon as they were made.
    at_once: u32,
}

/// What came of the wish for a resource.
enum Creation<R> {
    Ready(OwnedResource<R>),
    /// It could not be made, and there will be no other attempt.
    Failed,
    /// There is nothing left to do with it.
    NotNeeded,
}

impl<H: Attempts> Worker<H> {
    /// Runs it: returns when the worker has destroyed its resource and given its slot back.
    pub fn run(mut self, scope: H::Scope<'_>) {
        let Engine { ledger, clock, .. } = &*self.engine;
        let recorder = Recorder::new(ledger, Arc::clone(self.shared.counters()), clock.now());
        let mut held = None;
        let work = AssertUnwindSafe(|| self.work(scope, &recorder, &mut held));
        if catch_unwind(work).is_err() {
            self.engine.worker_panicked(scope, &self.shared, &recorder);
            if let Some(owned_resource) = held.take() {
                self.destroy(scope, owned_resource);
            }
            self.engine.retire(scope, &self.shared, true, self.retry_epoch.get());
        }
        if self.engine.is_left_by_fork() {
            // A task that forked returned in the child too: nothing here is this process's.
            std::mem::forget((held, recorder));
            self.left = true;
            return;
        }
        // Before the slot is given back: an empty roster means that the ledger is complete.
        drop(recorder);
        self.left = true;
        self.engine.release_slot(&self.shared);
    }

    /// Serves with one resource after the other until it is time to go. `held` is the one there is.
    fn work(
        &self,
        scope: H::Scope<'_>,
        recorder: &Recorder,
        held: &mut Option<OwnedResource<H::Resource>>,
    ) {
        let Engine { settings, backoff, .. } = &*self.engine;
        let mut successor = None;
        let mut unserved_in_a_row = 0;
        let mut made = self.first_resource(scope);
        loop {
            let failed = matches!(made, Creation::Failed);
            let mut next = Next::Leave;
            if let Creation::Ready(owned_resource) = made {
                if self.shared.kind().is_main() || settings.thread_bound {
                    let owned_resource = held.insert(owned_resource);
                    let session =
                        WorkerSession::new(&self.engine, &self.shared, owned_resource, recorder);
                    next = self.run_tasks(scope, &session, &mut successor);
                } else {
                    let (back, after) =
                        self.engine.lend(scope, &self.shared, owned_resource, recorder);
                    *held = Some(back);
                    next = after;
                }
                if self.engine.is_left_by_fork() {
                    return;
                }
                self.engine.roster.note_no_resource(&self.shared);
                self.engine.fail_fast_if_due(scope);
                if let Some(owned_resource) = held.take() {
                    if next != Next::Leave || successor.is_some() {
                        self.count_replaced(&owned_resource);
                    }
                    let never_served = owned_resource.never_served();
                    self.destroy(scope, owned_resource);
                    // Once is nothing: it may have been idle for long.
                    unserved_in_a_row = if never_served { unserved_in_a_row + 1 } else { 0 };
                }
                if unserved_in_a_row > 1 {
                    backoff.set_validate_on_create(true);
                }
            }
            if next == Next::Leave {
                if self.engine.retire(scope, &self.shared, failed, self.retry_epoch.get()) {
                    return;
                }
                successor = None;
            }
            made = self.make_resource(scope);
        }
    }

    /// Makes a resource, and looks at it if it `may_be_bad`.
    fn create(
        &self,
        scope: H::Scope<'_>,
        may_be_bad: bool,
    ) -> Result<OwnedResource<H::Resource>, H::Fault> {
        let Engine { host, settings, generations, clock, failure_epochs, ledger, .. } =
            &*self.engine;
        let (generation, latest) = (generations.enter(), failure_epochs.latest());
        let begin = clock.now();
        let usage = || {
            let random = || RandomState::new().build_hasher().finish();
            ResourceUsage::new(settings.policy, clock.now(), generation, latest, random)
        };
        let owned_resource =
            OwnedResource::create(host, scope, self.shared.name(), may_be_bad, usage).inspect_err(
                |_| {
                    ledger.creation_failed();
                    self.engine.resource_gone(scope, generation, false);
                },
            )?;
        ledger.resource_created(clock.now().saturating_sub(begin));
        self.engine.roster.note_resource(&self.shared, clock.now());
        Ok(owned_resource)
    }

    fn count_replaced(&self, owned_resource: &OwnedResource<H::Resource>) {
        let Engine { clock, generations, ledger, .. } = &*self.engine;
        if let Some(why) = owned_resource.replacement(clock.now(), generations.current()) {
            ledger.resource_replaced(why);
        }
    }

    fn destroy(&self, scope: H::Scope<'_>, owned_resource: OwnedResource<H::Resource>) {
        let generation = owned_resource.usage().generation;
        owned_resource.destroy(&self.engine.host, scope, self.shared.name());
        self.engine.resource_gone(scope, generation, true);
    }

    fn first_resource(&self, scope: H::Scope<'_>) -> Creation<H::Resource> {
        let on_demand = self.engine.settings.on_demand && self.shared.kind().is_main();
        if !self.at_startup && !on_demand {
            return self.make_resource(scope);
        }
        if self.engine.is_killed() {
            return Creation::NotNeeded;
        }
        match self.create(scope, false) {
            Ok(owned_resource) => {
                if self.at_startup {
                    self.engine.startup.one_is_ready();
                }
                self.engine.resource_ready(&self.shared);
                Creation::Ready(owned_resource)
            }
            Err(fault) if on_demand => {
                self.engine.host.notice(scope, Notice::Fault(fault));
                self.engine.kill(scope);
                Creation::Failed
            }
            Err(fault) => {
                if let Some(late) = self.engine.startup.fail(fault, StartupStatus::Failed) {
                    self.engine.host.notice(scope, Notice::Fault(late));
                }
                Creation::Failed
            }
        }
    }

    /// Creates until it works; gives up when the runner is closing, or the worker dismissed.
    fn make_resource(&self, scope: H::Scope<'_>) -> Creation<H::Resource> {
        let Engine { host, clock, backoff, .. } = &*self.engine;
        loop {
            let (engine, shared) = (&self.engine, &self.shared);
            let is_dismissed = || engine.is_dismissed(shared);
            let wait = || backoff.wait_for_turn(|| clock.now(), || !is_dismissed());
            let turn = host.park(scope, wait);
            let closing = self.engine.is_closing();
            // One that has the turn gives it back by an attempt.
            if self.engine.is_killed() || closing && self.is_over() || !turn && is_dismissed() {
                return Creation::NotNeeded;
            }
            let validate_on_create = backoff.validates_on_create();
            match self.create(scope, validate_on_create) {
                Ok(owned_resource) => {
                    if validate_on_create {
                        backoff.set_validate_on_create(false);
                    }
                    if let Some(trouble) = self.engine.creation_succeeded(turn) {
                        host.notice(scope, Notice::Trouble(self.shared.name(), trouble, None));
                    }
                    self.engine.resource_ready(&self.shared);
                    return Creation::Ready(owned_resource);
                }
                Err(fault) => {
                    if let Some(trouble) = backoff.failed(turn, clock.now()) {
                        let name = self.shared.name();
                        host.notice(scope, Notice::Trouble(name, trouble, Some(&fault)));
                    }
                    // First: tasks that fail tell why.
                    host.notice(scope, Notice::Fault(fault));
                    if closing {
                        return Creation::Failed;
                    }
                    self.engine.fail_fast_if_due(scope);
                }
            }
        }
    }

    /// Serves tasks with one resource, until that is to be replaced or the worker to leave.
    fn run_tasks(
        &self,
        scope: H::Scope<'_>,
        session: &WorkerSession<'_, H>,
        successor: &mut Option<Arc<WorkerShared<H::Task>>>,
    ) -> Next {
        let (engine, shared, queue) = (&self.engine, &self.shared, self.queue());
        let mut wakeup = Wakeup::NotNeeded;
        let at_once = self.shared.note_worn_at_once(session.is_worn());
        let mut wear = Wear { slept: false, at_once };
        loop {
            // ---- BUSY: attached, nothing shared by all workers but the lanes.
            let mut owed = std::mem::replace(&mut wakeup, Wakeup::NotNeeded);
            if let Some(next) = self.plan_renewal(scope, session, successor, &wear) {
                session.leave_next_to_others();
                self.wake_another(owed);
                return next;
            }
            if owed.is_owed() && session.usage().must_validate(session.last.get()) {
                // Validating may take long: the other workers are woken first.
                self.wake_another(owed);
                owed = Wakeup::NotNeeded;
            }
            // Not looked at for wear again: what wore out meanwhile serves one task.
            let is_valid = self.validate_after_idle(scope, session);
            if is_valid == Some(false) {
                session.leave_next_to_others();
                self.wake_another(owed);
                return Next::MakeAnother;
            }
            let eligibility = || engine.eligibility(session.usage().known_good_since());
            let is_mine =
                |task: &H::Task| queue.key_homes.get(engine.host.key(task)) == Some(shared.home());
            let entry = is_valid.and_then(|_| queue.take(owed, eligibility, is_mine));
            // If it took another one, which is more urgent or has waited longer.
            if session.has_next.take() && !queue.lanes.is_empty() {
                queue.idle_workers.wake_one();
            }
            if owed.is_owed() {
                engine.load_is_left();
            }
            if let Some(entry) = entry {
                if let Some(task) = session.serve(scope, entry) {
                    session.queue_retry(scope, task, session.last.get());
                }
                if session.retry_epoch.get() != epochs::NO_FAILURE {
                    self.retry_epoch.set(session.retry_epoch.get());
                }
                if engine.is_left_by_fork() {
                    return Next::Leave;
                }
                if self.is_surplus(session, eligibility) {
                    session.leave_next_to_others();
                    return Next::Leave;
                }
                if session.is_bad() {
                    session.leave_next_to_others();
                    return Next::MakeAnother;
                }
                continue;
            }
            // ---- IDLE: leave, look after the resource for a retry, or detach and sleep.
            if queue.is_drained() || self.shared.kind() == WorkerKind::Temporary {
                return Next::Leave;
            }
            if session.usage().can_validate() && queue.lanes.claim_validation() {
                if !session.is_valid(scope) {
                    return Next::MakeAnother;
                }
                continue;
            }
            wakeup = self.sleep(scope, session, successor.as_ref(), &wear);
            wear.slept = true;
            let is_idle_burst = || {
                self.shared.is_burst()
                    && queue.lanes.is_empty()
                    && session.usage().idle(session.last.get()) >= engine.settings.idle_timeout
            };
            if engine.is_dismissed(&self.shared) || wakeup == Wakeup::TimedOut && is_idle_burst() {
                self.wake_another(wakeup);
                return Next::Leave;
            }
        }
    }

    /// Ends a wake-up, if this is one, without taking a task.
    fn wake_another(&self, wakeup: Wakeup) {
        if wakeup.is_owed() {
            self.queue().wake_another(wakeup);
            self.engine.load_is_left();
        }
    }

    /// Whether the resource can be used at once: after a rest it is looked at, if there is a task
    /// for it. `None`: there is none, and it was not.
    fn validate_after_idle(
        &self,
        scope: H::Scope<'_>,
        session: &WorkerSession<'_, H>,
    ) -> Option<bool> {
        let engine = &self.engine;
        if !session.usage().must_validate(session.last.get()) || engine.is_killed() {
            return Some(true);
        }
        if self.queue().lanes.is_empty() {
            return None;
        }
        Some(session.is_valid(scope))
    }

    /// Detaches and sleeps until there is something to do.
    fn sleep(
        &self,
        scope: H::Scope<'_>,
        session: &WorkerSession<'_, H>,
        successor: Option<&Arc<WorkerShared<H::Task>>>,
        wear: &Wear,
    ) -> Wakeup {
        let (engine, shared, queue) = (&self.engine, &self.shared, self.queue());
        let now = engine.clock.now();
        let burst = shared.is_burst().then_some(engine.settings.idle_timeout);
        // An age that is up already waits for its turn, and is woken for it.
        let age = session.usage().due.map(|due| due.saturating_sub(now)).filter(|left| *left > 0);
        let (known_good_since, can_validate) =
            (session.usage().known_good_since(), session.usage().can_validate());
        let generation = engine.generations.current();
        let worn = successor.is_none() && session.usage().is_worn(|| now, generation);
        let rest = session.usage().rests_until(generation, wear.at_once).saturating_sub(now);
        let rested = worn && rest == 0;
        let rest = (worn && rest > 0).then_some(rest);
        let renews_from = if rested { 0 } else { generation + 1 };
        let (number, home) = (shared.number(), shared.home());
        let wakeable = Wakeable { number, renews_from, home };
        let limit = || {
            let limits = [burst, age, rest, engine.retry_hold_left(queue)];
            limits.into_iter().flatten().min().map(Duration::from_nanos)
        };
        let successor = successor.cloned();
        // Asked once more while this worker is counted as asleep: what changes later wakes it.
        let has_other_work = || {
            can_validate && queue.lanes.has_retry_to_validate()
                || !engine.is_closing()
                    && (shared.has(DISMISSED)
                        || successor.as_ref().is_some_and(|new| new.has(HAS_RESOURCE))
                        || engine.generations.current() != generation
                        || rested
                            && engine.renewal_turn.is_open(|| engine.roster.all_have_resources()))
        };
        let eligibility = || engine.eligibility(known_good_since);
        let warm = session.last.get() != 0;
        let sleep = || {
            let wakeup = queue.wait_for_task(wakeable, warm, limit, eligibility, has_other_work);
            (wakeup, engine.clock.now())
        };
        // Detaching may take long.
        queue.key_homes.come(home);
        let (wakeup, woken_at) = engine.host.park(scope, sleep);
        let back = engine.clock.now();
        session.recorder.record(&Sample::Attach(back.saturating_sub(woken_at)));
        session.last.set(back);
        session.span.set(0);
        wakeup
    }

    /// Looks after a good resource that has served long enough: what to do now, if anything.
    ///
    /// A worker renews at most once between two tasks: a resource that wore out while it was made
    /// serves one task that waits, or a runner whose resources wear out as quickly would serve
    /// none. One that rested is renewed first, as no task has to wait twice for that.
    fn plan_renewal(
        &self,
        scope: H::Scope<'_>,
        session: &WorkerSession<'_, H>,
        successor: &mut Option<Arc<WorkerShared<H::Task>>>,
        wear: &Wear,
    ) -> Option<Next> {
        let engine = &self.engine;
        session.serves_worn.set(false);
        if engine.is_closing() {
            // Every worker is of use until the lanes are empty.
            return None;
        }
        if let Some(new) = successor {
            if new.has(HAS_RESOURCE) {
                // First this worker serves the retry that it has made its new resource for.
                let has_retry = self.queue().lanes.has_retry(self.retry_epoch.get());
                return (!has_retry).then_some(Next::Leave);
            }
            if engine.renewal_turn.predecessor_of(new).is_some() {
                return None;
            }
            // The successor left again.
            *successor = None;
        }
        if !session.is_worn() {
            return None;
        }
        if self.queue().lanes.has_for(|| engine.eligibility(session.usage().known_good_since())) {
            if !wear.slept && !session.usage().has_served() {
                session.serves_worn.set(true);
                return None;
            }
        } else {
            let generation = engine.generations.current();
            let rests_until = session.usage().rests_until(generation, wear.at_once);
            if rests_until > 0 && rests_until > session.now() {
                // It may have been woken to take the turn.
                engine.offer_turn();
                return None;
            }
        }
        match engine.begin_renewal(scope, &self.shared)? {
            RenewalPlan::InPlace => Some(Next::MakeAnother),
            RenewalPlan::BySuccessor(new) => {
                *successor = Some(new);
                None
            }
        }
    }

    /// Whether nothing is left for it to serve, now and later.
    fn is_over(&self) -> bool {
        if self.shared.kind().is_main() || self.engine.settings.thread_bound {
            self.queue().is_drained()
        } else {
            self.engine.loans_are_over()
        }
    }

    /// Whether this worker is one too many: a temporary one after its task, one whose overdue task
    /// has ended while a substitute took its slot, or one that is dismissed.
    fn is_surplus(
        &self,
        session: &WorkerSession<'_, H>,
        eligibility: impl Fn() -> Eligibility,
    ) -> bool {
        match self.shared.kind() {
            // One that queued a retry comes back for it.
            WorkerKind::Temporary => {
                session.retry_epoch.get() == epochs::NO_FAILURE
                    && !self.queue().lanes.has_for(eligibility)
            }
            WorkerKind::Reserved => self.engine.is_dismissed(&self.shared),
            // In a closing runner every worker is of use until the lanes are empty.
            WorkerKind::Base | WorkerKind::Burst => {
                self.shared.has(OVERDUE | DISMISSED)
                    && !self.engine.roster.count_again(&self.shared)
                    && !self.engine.is_closing()
            }
        }
    }

    fn queue(&self) -> &Queue<H::Task> {
        self.engine.queue_for(self.shared.kind())
    }
}
