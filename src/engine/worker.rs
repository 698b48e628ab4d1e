//! A worker: makes its resource, serves tasks with it, renews it when it goes bad, destroys it.
//!
//! The loop has one way out of each round: serve, renew, or leave. Every task of every queue, fresh or
//! retried, running or draining, goes through [`Desk::serve`].

use super::bell::Woken;
use super::care::Care;
use super::clock::Tick;
use super::engine::{Engine, Relief};
use super::figures::{Counter, Recorder};
use super::host::{Host, Ran, Verdict};
use super::lanes::{Class, Entry};
use super::loans;
use super::proof::{self, Failure, Proof};
use super::queue::Queue;
use super::task::{Claim, EXPRESS};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Arc, Mutex};
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Always alive.
    Base,
    /// Hired for a while, when there is more to do than the base workers manage.
    Burst,
    /// Serves `run_task` only, and stays.
    Reserved,
    /// Serves one `run_task` call and leaves.
    Temporary,
}

impl Post {
    /// Whether it serves the main queue.
    pub fn is_main(self) -> bool {
        matches!(self, Self::Base | Self::Burst)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Base => "worker",
            Self::Burst => "burst",
            Self::Reserved => "reserved",
            Self::Temporary => "temporary",
        }
    }
}

/// Its first resource was made.
const BEGUN: u8 = 1;
/// It has a resource now.
const EQUIPPED: u8 = 2;
/// The task it runs outlived its time limit.
const OVERDUE: u8 = 4;
/// It has no resource and is about to go: not a worker any more.
const DISMISSED: u8 = 8;
/// The one that it relieves is still there.
const RELIEF: u8 = 16;

/// What others may know of a worker.
pub struct Badge<H: Host> {
    name: String,
    post: Post,
    /// What it runs, outermost first. Its own thread pushes and pops; others look.
    running: Mutex<Vec<Running<H::Task>>>,
    /// Flags above. Its own thread writes `BEGUN` and `EQUIPPED`. `OVERDUE` is set by the keeper under the
    /// lock of `running`; its own thread clears it, and sets `DISMISSED`, under the roster's lock. `RELIEF`
    /// is there from the beginning, and cleared by the one relieved, under that lock too.
    /// Relaxed: what must not change while somebody counts is under that lock, the rest stands for itself.
    state: AtomicU8,
}

/// A task and when it began to run.
#[derive(Debug)]
pub struct Running<T> {
    /// A handle of the badge's own.
    pub task: T,
    /// When this attempt began.
    pub since: Tick,
}

impl<H: Host> Badge<H> {
    pub(super) fn new(name: String, post: Post, relief: bool) -> Self {
        let state = AtomicU8::new(if relief { RELIEF } else { 0 });
        Self { name, post, running: Mutex::new(Vec::new()), state }
    }

    /// The name of its thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is there for.
    pub fn post(&self) -> Post {
        self.post
    }

    /// Shows each task it runs, outermost first, to `look`, under a lock: `look` only copies.
    pub fn look_at_running(&self, mut look: impl FnMut(&H::Task, Tick)) {
        for running in self.running.lock().iter() {
            look(&running.task, running.since);
        }
    }

    /// Whether what it runs is inside another task.
    pub(super) fn runs_within(&self) -> bool {
        self.running.lock().len() > 1
    }

    pub(super) fn push_running(&self, running: Running<H::Task>) {
        self.running.lock().push(running);
    }

    pub(super) fn pop_running(&self) -> Option<H::Task> {
        self.running.lock().pop().map(|running| running.task)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has(BEGUN)
    }

    pub(super) fn is_equipped(&self) -> bool {
        self.has(EQUIPPED)
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.has(OVERDUE)
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.has(DISMISSED)
    }

    pub(super) fn is_relief(&self) -> bool {
        self.has(RELIEF)
    }

    pub(super) fn take_over(&self) {
        self.unset(RELIEF);
    }

    pub(super) fn set_dismissed(&self) {
        self.set(DISMISSED);
    }

    pub(super) fn clear_overdue(&self) {
        self.unset(OVERDUE);
    }

    /// Marks it overdue if it runs a task that `is` the one; true if it was not marked before.
    pub(super) fn mark_overdue(&self, is: impl Fn(&H::Task) -> bool) -> bool {
        let running = self.running.lock();
        running.iter().any(|r| is(&r.task)) && self.set(OVERDUE)
    }

    fn has(&self, flag: u8) -> bool {
        self.state.load(Ordering::Relaxed) & flag != 0
    }

    fn set(&self, flag: u8) -> bool {
        self.state.fetch_or(flag, Ordering::Relaxed) & flag == 0
    }

    fn unset(&self, flag: u8) -> bool {
        self.state.fetch_and(!flag, Ordering::Relaxed) & flag != 0
    }
}

impl<H: Host> std::fmt::Debug for Badge<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Badge")
            .field("name", &self.name)
            .field("post", &self.post)
            .finish_non_exhaustive()
    }
}

/// A worker and its resource at work: what a task, and whatever it calls, can reach.
pub struct Desk<'w, H: Host> {
    engine: &'w Arc<Engine<H>>,
    badge: &'w Arc<Badge<H>>,
    resource: &'w H::Resource,
    recorder: &'w Recorder,
    /// The resource went bad: to be replaced when the outermost task has ended.
    spoiled: Cell<bool>,
    /// When the last attempt or wait ended, to save a clock read; zero before the first.
    last: Cell<Tick>,
    /// How long the last attempt took; zero after a wait.
    span: Cell<Tick>,
    /// It was hired on demand, and is counted as engaged.
    engaged: Cell<bool>,
    care: &'w Care,
    /// The failure of the retry that it queued, if it did: its resource is spoiled then.
    owed: Cell<Failure>,
}

impl<'w, H: Host> Desk<'w, H> {
    pub(super) fn new(
        engine: &'w Arc<Engine<H>>,
        badge: &'w Arc<Badge<H>>,
        resource: &'w H::Resource,
        recorder: &'w Recorder,
        care: &'w Care,
    ) -> Self {
        let (spoiled, engaged) = (Cell::new(false), Cell::new(false));
        let (last, span) = (Cell::new(0), Cell::new(0));
        let owed = Cell::new(proof::NONE);
        Self { engine, badge, resource, recorder, spoiled, last, span, engaged, care, owed }
    }

    /// When the attempt before this one ended, and how long it took; `None` after a wait.
    pub fn last_run(&self) -> Option<(Tick, Tick)> {
        (self.span.get() != 0).then(|| (self.last.get(), self.span.get()))
    }

    /// Says that the next task's time begins then.
    pub(super) fn begin_at(&self, now: Tick) {
        self.last.set(now);
    }

    /// The engine it works for.
    pub fn engine(&self) -> &'w Arc<Engine<H>> {
        self.engine
    }

    /// The worker.
    pub fn badge(&self) -> &'w Arc<Badge<H>> {
        self.badge
    }

    /// What the worker owns.
    pub fn resource(&self) -> &'w H::Resource {
        self.resource
    }

    /// The time.
    pub fn now(&self) -> Tick {
        self.engine.clock.now()
    }

    /// When the last attempt or wait ended.
    pub(super) fn last_end(&self) -> Tick {
        self.last.get()
    }

    /// Whether the resource is to be replaced.
    pub fn is_spoiled(&self) -> bool {
        self.spoiled.get()
    }

    /// Says that the resource is to be replaced.
    pub fn spoil(&self) {
        self.spoiled.set(true);
    }

    /// Claims a task and runs it to its outcome; a tombstone is skipped. Gives the task back when it is
    /// to be tried again: then it is marked so, and waits for the caller to queue it.
    pub(super) fn serve(&self, scope: H::Scope<'_>, entry: Entry<H::Task>) -> Option<H::Task> {
        let host = &self.engine.host;
        let Entry { task, since, .. } = entry;
        let word = host.word(&task);
        let claim = word.claim();
        if claim == Claim::Lost {
            self.engine.queue_of(word).unbury(1);
            host.discard(scope, task);
            return None;
        }
        if host.deal(&task).is_some() {
            self.serve_batch(scope, task);
            return None;
        }
        let first = claim == Claim::First;
        self.engine.queue_of(word).taken(word, first);
        self.recorder.count(if first { Counter::Started } else { Counter::Resumed });
        if !self.badge.post.is_main() || self.engine.has_vacancies() {
            self.engage(scope);
        }
        let again = self.attempt(scope, task, first, Some(since));
        self.served(scope, 1);
        again
    }

    /// Queues a task whose attempt ended just now, to be tried again on another resource.
    pub(super) fn queue_again(&self, task: H::Task, since: Tick) {
        let failed = self.engine.failures.another();
        self.owed.set(failed);
        let class = self.engine.host.word(&task).class();
        self.engine.queue_at(self.badge.post).push_again(class, Entry { task, since, failed });
    }

    /// Says that what began when this was the latest failure has ended well.
    pub(super) fn prove(&self, latest: Failure) {
        self.care.prove(latest);
    }

    /// Looks after the resource when tasks have ended on it.
    fn served(&self, scope: H::Scope<'_>, tasks: u64) {
        self.care.served_many(self.last.get(), tasks);
        if self.engine.settings.care.resets && !self.is_spoiled() && !self.engine.is_killed() {
            if !self.engine.host.reset(scope, self.badge, self.resource) {
                self.spoil();
            }
            // The next task's time begins after it.
            self.last.set(self.now());
        }
    }

    /// Looks after the resource when items of a batch have ended on it, each after `span`.
    pub(super) fn served_items(&self, scope: H::Scope<'_>, now: Tick, span: Tick, items: u64) {
        self.last.set(now);
        self.span.set(span);
        if items > 0 {
            self.served(scope, items);
        }
    }

    /// Whether something is due after every single item of a batch.
    pub(super) fn cares_for_each(&self) -> bool {
        self.care.counts_tasks()
    }

    /// Whether a worker that deals out items of this class has something better to do.
    pub(super) fn is_wanted_elsewhere(&self, class: Class) -> bool {
        let engine = self.engine;
        let worn = || self.care.is_worn(|| self.last.get(), engine.renewal.generation());
        let proof = || engine.proof(self.care.proven());
        self.is_spoiled()
            || engine.main.lanes.has_above_for(class, proof)
            || worn() && !engine.is_closing()
    }

    /// When this worker began what it does now: at the end of what it did before.
    pub(super) fn last_or_now(&self) -> Tick {
        match self.last.get() {
            0 => self.now(),
            last => last,
        }
    }

    /// Its pen.
    pub(super) fn recorder(&self) -> &'w Recorder {
        self.recorder
    }

    /// Runs a task that this worker would otherwise wait for, on the resource at hand, inside the task
    /// that waits. False when somebody else started it first. `queued`: its entry is in a lane, and stays
    /// there as a tombstone.
    pub fn serve_inside(&self, scope: H::Scope<'_>, task: &H::Task, queued: bool) -> bool {
        let host = &self.engine.host;
        let word = host.word(task);
        if !word.claim_fresh() {
            return false;
        }
        let queue = self.engine.queue_of(word);
        queue.taken(word, true);
        if queued {
            self.engine.bury(scope, queue);
        }
        self.recorder.count(Counter::Started);
        let again = self.attempt(scope, host.share(scope, task), true, None);
        debug_assert!(again.is_none(), "no retry from inside another task");
        true
    }

    /// Books an outcome. Called right before it is published, so that whoever has it finds it counted.
    pub fn delivered(&self, completed: bool) {
        let now = self.engine.clock.now();
        self.last.set(now);
        self.engine.note(now);
        self.recorder.count(if completed { Counter::Completed } else { Counter::Failed });
        self.recorder.count(Counter::Ended);
        // Not at the end of the attempt: whoever has the outcome may call `run_task` at once, and finds
        // this worker free. An inner task's outcome frees nobody. Nor is a base worker free while callbacks run.
        if self.engaged.get() && !self.badge.post.is_main() && self.badge.running.lock().len() == 1
        {
            self.disengage();
        }
    }

    /// Runs a claimed task. `since`: when it began to wait, for a task that came through a queue; one that
    /// runs inside another did not, and is not tried again.
    fn attempt(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        first: bool,
        since: Option<Tick>,
    ) -> Option<H::Task> {
        let (host, badge, clock) = (&self.engine.host, self.badge, &self.engine.clock);
        let begin = match self.last.get() {
            last if last != 0 && since.is_some() => last,
            _ => clock.now(),
        };
        let latest = self.engine.failures.latest();
        let shown = host.share(scope, &task);
        badge.running.lock().push(Running { task: shown, since: begin });
        // The mode is looked at after the claim: a task starts when it is claimed, and none starts once a
        // kill was called. And after the task is shown as running: of a kill that goes on to look at what
        // runs, one sees the other.
        let end = if self.engine.is_killed() {
            self.turn_away(scope, &task, first)
        } else {
            match host.run(scope, self, &task) {
                Ran::Doubtful => self.judge(scope, &task, since.is_some(), latest),
                Ran::Completed => {
                    self.care.prove(latest);
                    End::Delivered
                }
                Ran::Failed => End::Delivered,
                Ran::Late => End::Late,
            }
        };
        let shown = badge.running.lock().pop();
        if end != End::Delivered {
            self.last.set(clock.now());
        }
        if end == End::Late {
            self.recorder.count(Counter::Ended);
            self.engine.overdue_ended(host.word(&task));
        }
        if end != End::TurnedAway {
            let wait = since.map_or(0, |since| begin.saturating_sub(since));
            let span = self.last.get().saturating_sub(begin);
            self.span.set(span);
            self.recorder.record(wait, span);
        }
        if since.is_some() {
            self.disengage();
        }
        if let Some(shown) = shown {
            host.discard(scope, shown.task);
        }
        if end == End::Retry {
            return Some(task);
        }
        host.discard(scope, task);
        None
    }

    /// Answers a claimed task that must not run any more.
    fn turn_away(&self, scope: H::Scope<'_>, task: &H::Task, first: bool) -> End {
        let host = &self.engine.host;
        if !host.word(task).settle_running() {
            host.forget(scope, task);
            return End::Late;
        }
        self.recorder.count(Counter::Ended);
        self.engine.book_refusal(first);
        host.refuse(scope, task, self.engine.refusal());
        End::TurnedAway
    }

    /// Decides on an error that an item of a batch ended with, of which the host made a running task. True when it
    /// is to be tried again, and the caller to queue it.
    pub(super) fn judge_item(&self, scope: H::Scope<'_>, task: &H::Task, may_retry: bool) -> bool {
        let end = self.judge(scope, task, may_retry, self.care.proven());
        if end == End::Late {
            self.recorder.count(Counter::Ended);
        }
        end == End::Retry
    }

    /// Decides on an error that a task ended with. `latest`: the latest failure before it began.
    fn judge(&self, scope: H::Scope<'_>, task: &H::Task, may_retry: bool, latest: Failure) -> End {
        let host = &self.engine.host;
        let word = host.word(task);
        let mut retry = false;
        // After a kill nothing is retried, and nobody is asked.
        if !self.engine.is_killed() {
            match host.judge(scope, self, task) {
                Verdict::Healthy => self.care.prove(latest),
                Verdict::Spoiled { retry: wanted } => {
                    self.spoil();
                    retry = wanted && may_retry && !self.engine.is_killed();
                }
            }
        }
        // Meanwhile the time limit may have passed, and the outcome be somebody else's.
        if retry {
            host.prepare_retry(scope, task);
            if word.again() {
                self.recorder.count(Counter::Retried);
                self.recorder.count(Counter::Ended);
                return End::Retry;
            }
        } else if word.settle_running() {
            self.delivered(false);
            host.fail(scope, self, task);
            return End::Delivered;
        }
        host.forget(scope, task);
        End::Late
    }

    /// From here on this worker counts as busy: if more wait, somebody is hired.
    fn engage(&self, scope: H::Scope<'_>) {
        let engine = self.engine;
        self.engaged.set(true);
        engine.engaged.fetch_add(1, Ordering::SeqCst);
        if self.badge.post.is_main() {
            if !engine.main.lanes.is_empty() {
                engine.staff_base(scope);
            }
        } else if engine.settings.thread_bound && !engine.express.lanes.is_empty() {
            engine.staff_express(scope);
        }
    }

    fn disengage(&self) {
        if self.engaged.replace(false) {
            self.engine.engaged.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// How an attempt ended, judgement included.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It ran, and its outcome was delivered.
    Delivered,
    /// Somebody else decided its outcome.
    Late,
    /// It is to be tried again.
    Retry,
    /// It did not run: the runner was killed.
    TurnedAway,
}

impl<H: Host> std::fmt::Debug for Desk<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("badge", &self.badge).finish_non_exhaustive()
    }
}

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

    /// Serves with one resource after the other until it is time to go. `held` is the one there is.
    fn work(&self, scope: H::Scope<'_>, recorder: &Recorder, held: &mut Option<H::Resource>) {
        let Engine { host, settings, renewal, clock, .. } = &*self.engine;
        let mut relief = None;
        let mut generation = renewal.generation();
        let mut made = self.first_resource(scope);
        loop {
            let failed = matches!(made, Made::Failed);
            if let Made::Ready(resource, proven) = made {
                let random = RandomState::new().build_hasher().finish();
                let care = Care::new(settings.care, clock.now(), generation, proven, random);
                let next;
                if self.badge.post.is_main() || settings.thread_bound {
                    let desk = Desk::new(
                        &self.engine,
                        &self.badge,
                        held.insert(resource),
                        recorder,
                        &care,
                    );
                    next = self.serve(scope, &desk, &mut relief);
                } else {
                    let (back, after) =
                        loans::lend(&self.engine, scope, &self.badge, resource, care);
                    *held = Some(back);
                    next = after;
                }
                if self.engine.is_forsaken() {
                    return;
                }
                self.badge.unset(EQUIPPED);
                if let Some(resource) = held.take() {
                    host.destroy(scope, &self.badge, resource);
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
        let on_demand = self.engine.settings.on_demand && self.badge.post.is_main();
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
            match host.create(scope, &self.badge) {
                Ok(resource) => {
                    self.badge.set(BEGUN | EQUIPPED);
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
        loop {
            // ---- BUSY: attached, nothing shared by all workers but the lanes.
            let mut called = std::mem::take(&mut rung);
            if called && desk.care.must_validate(desk.last.get()) {
                // That may take long: the others are woken first.
                queue.answered();
                called = false;
            }
            let fit = self.is_fit(scope, desk);
            let unfit = (fit == Some(false)).then_some(Next::Renew);
            if let Some(next) = unfit.or_else(|| self.renewal_due(scope, desk, relief)) {
                if called {
                    queue.answered();
                }
                return next;
            }
            let proof = || engine.proof(desk.care.proven());
            if let Some(entry) = fit.and_then(|_| queue.take(called, proof)) {
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
            if queue.is_drained() || self.badge.post == Post::Temporary {
                return Next::Leave;
            }
            if desk.care.can_validate() && queue.lanes.look() {
                if !self.is_valid(scope, desk) {
                    return Next::Renew;
                }
                continue;
            }
            let woken = self.rest(scope, desk, relief.as_ref());
            rung = woken == Woken::Rung;
            if woken == Woken::TimedOut && self.badge.post == Post::Burst && self.is_idle(desk) {
                return Next::Leave;
            }
        }
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
        }
        valid
    }

    /// Detaches and sleeps until there is something to do.
    fn rest(
        &self,
        scope: H::Scope<'_>,
        desk: &Desk<'_, H>,
        relief: Option<&Arc<Badge<H>>>,
    ) -> Woken {
        let (engine, queue) = (&self.engine, self.queue());
        let now = engine.clock.now();
        let burst = (self.badge.post == Post::Burst).then_some(engine.settings.idle_timeout);
        // An age that is up already waits for its turn, and is told of it by a ring.
        let age = desk.care.due().map(|due| due.saturating_sub(now)).filter(|left| *left > 0);
        let limit = || {
            let hold = engine.hold_left(queue);
            burst.into_iter().chain(age).chain(hold).min().map(Duration::from_nanos)
        };
        let (proven, can_validate) = (desk.care.proven(), desk.care.can_validate());
        let generation = engine.renewal.generation();
        let worn = relief.is_none() && desk.care.is_worn(|| now, generation);
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
        let rest = || (queue.rest(limit, proof, restless), engine.clock.now());
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
    fn renewal_due(
        &self,
        scope: H::Scope<'_>,
        desk: &Desk<'_, H>,
        relief: &mut Option<Arc<Badge<H>>>,
    ) -> Option<Next> {
        let engine = &self.engine;
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
        if self.badge.post.is_main() || self.engine.settings.thread_bound {
            self.queue().is_drained()
        } else {
            self.engine.loans.is_over(&self.engine)
        }
    }

    /// Whether this worker is one too many: a temporary one after its task, or one whose overdue task has
    /// ended while a stand-in took its place.
    fn is_surplus(&self, desk: &Desk<'_, H>, proof: impl Fn() -> Proof) -> bool {
        let Engine { roster, settings, .. } = &*self.engine;
        match self.badge.post {
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
        self.engine.queue_at(self.badge.post)
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

/// Which queue a task belongs to.
pub(super) fn is_express(flags: u32) -> bool {
    flags & EXPRESS != 0
}
