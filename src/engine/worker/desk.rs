//! A worker's desk: where one task after the other is claimed, run and settled on the resource at hand.

use super::badge::{Badge, Running};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::figures::{Counter, Recorder};
use crate::engine::host::{Host, Ran, Verdict};
use crate::engine::queue::lanes::{Class, Entry};
use crate::engine::resource::care::Care;
use crate::engine::resource::proof::{self, Failure};
use crate::engine::task::Claim;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use std::cell::Cell;

/// A worker and its resource at work: what a task, and whatever it calls, can reach.
pub struct Desk<'w, H: Host> {
    pub(in crate::engine) engine: &'w Arc<Engine<H>>,
    pub(in crate::engine) badge: &'w Arc<Badge<H>>,
    pub(in crate::engine) resource: &'w H::Resource,
    pub(in crate::engine) recorder: &'w Recorder,
    /// The resource went bad: to be replaced when the outermost task has ended.
    pub(in crate::engine) spoiled: Cell<bool>,
    /// When the last attempt or wait ended, to save a clock read; zero before the first.
    pub(in crate::engine) last: Cell<Tick>,
    /// How long the last attempt took; zero after a wait.
    pub(in crate::engine) span: Cell<Tick>,
    /// It was hired on demand, and is counted as engaged.
    pub(in crate::engine) engaged: Cell<bool>,
    pub(in crate::engine) care: &'w Care,
    /// The failure of the retry that it queued, if it did: its resource is spoiled then.
    pub(in crate::engine) owed: Cell<Failure>,
    /// The resource is worn, and serves one task all the same; see `Life::renewal_due`.
    pub(in crate::engine) spared: Cell<bool>,
}

impl<'w, H: Host> Desk<'w, H> {
    pub(in crate::engine) fn new(
        engine: &'w Arc<Engine<H>>,
        badge: &'w Arc<Badge<H>>,
        resource: &'w H::Resource,
        recorder: &'w Recorder,
        care: &'w Care,
    ) -> Self {
        let (spoiled, engaged) = (Cell::new(false), Cell::new(false));
        let (last, span) = (Cell::new(0), Cell::new(0));
        let (owed, spared) = (Cell::new(proof::NONE), Cell::new(false));
        Self { engine, badge, resource, recorder, spoiled, last, span, engaged, care, owed, spared }
    }

    /// When the attempt before this one ended, and how long it took; `None` after a wait.
    pub fn last_run(&self) -> Option<(Tick, Tick)> {
        (self.span.get() != 0).then(|| (self.last.get(), self.span.get()))
    }

    /// Says that the next task's time begins then.
    pub(in crate::engine) fn begin_at(&self, now: Tick) {
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

    /// Whether the resource is away from its worker, and this the thread of whoever called `run_task`.
    pub fn is_on_loan(&self) -> bool {
        !self.engine.settings.thread_bound && !self.badge.post().is_main()
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
    pub(in crate::engine) fn last_end(&self) -> Tick {
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

    /// Says that a task was interrupted on the resource: it is looked at before its next use, if there is a
    /// `validate`.
    pub fn doubt(&self) {
        self.care.doubt();
    }

    /// Whether that is still to be done.
    pub fn is_doubtful(&self) -> bool {
        self.care.is_doubtful()
    }

    /// Claims a task and runs it to its outcome; a tombstone is skipped. Gives the task back when it is
    /// to be tried again: then it is marked so, and waits for the caller to queue it.
    pub(in crate::engine) fn serve(
        &self,
        scope: H::Scope<'_>,
        entry: Entry<H::Task>,
    ) -> Option<H::Task> {
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
        self.serve_claimed(scope, task, since, claim == Claim::First)
    }

    /// [`serve`](Self::serve) for a new task that nobody else knows of.
    pub(in crate::engine) fn serve_unshared(
        &self,
        scope: H::Scope<'_>,
        entry: Entry<H::Task>,
    ) -> Option<H::Task> {
        self.engine.host.word(&entry.task).start_unshared();
        self.serve_claimed(scope, entry.task, entry.since, true)
    }

    fn serve_claimed(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        since: Tick,
        first: bool,
    ) -> Option<H::Task> {
        let engine = self.engine;
        let word = engine.host.word(&task);
        engine.queue_of(word).taken(word, first);
        self.recorder.count(if first { Counter::Started } else { Counter::Resumed });
        let is_main = self.badge.post().is_main();
        let hired_on_demand =
            if is_main { engine.has_vacancies() } else { engine.settings.thread_bound };
        if hired_on_demand {
            self.engage(scope);
        }
        let again = self.attempt(scope, task, first, Some(since));
        self.served(scope, 1);
        again
    }

    /// Queues a task whose attempt ended just now, to be tried again on another resource.
    pub(in crate::engine) fn queue_again(&self, task: H::Task, since: Tick) {
        let failed = self.engine.failures.another();
        self.owed.set(failed);
        let class = self.engine.host.word(&task).class();
        self.engine.queue_at(self.badge.post()).push_again(class, Entry { task, since, failed });
    }

    /// Says that what began when this was the latest failure has ended well.
    pub(in crate::engine) fn prove(&self, latest: Failure) {
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
    pub(in crate::engine) fn served_items(
        &self,
        scope: H::Scope<'_>,
        now: Tick,
        span: Tick,
        items: u64,
    ) {
        self.last.set(now);
        self.span.set(span);
        if items > 0 {
            self.served(scope, items);
        }
    }

    /// Whether something is due after every single item of a batch.
    pub(in crate::engine) fn cares_for_each(&self) -> bool {
        self.care.counts_tasks() || self.spared.get()
    }

    /// Whether a worker that deals out items of this class has something better to do.
    pub(in crate::engine) fn is_wanted_elsewhere(&self, class: Class) -> bool {
        let engine = self.engine;
        let worn = || self.care.is_worn(|| self.last.get(), engine.renewal.generation());
        self.is_spoiled()
            || self.is_doubtful()
            || self.has_more_urgent(class)
            || worn() && !engine.is_closing()
    }

    /// Whether something more urgent than this class waits that this worker may take.
    pub(in crate::engine) fn has_more_urgent(&self, class: Class) -> bool {
        let proof = || self.engine.proof(self.care.proven());
        self.engine.main.lanes.has_above_for(class, proof)
    }

    /// When this worker began what it does now: at the end of what it did before.
    pub(in crate::engine) fn last_or_now(&self) -> Tick {
        match self.last.get() {
            0 => self.now(),
            last => last,
        }
    }

    /// Its pen.
    pub(in crate::engine) fn recorder(&self) -> &'w Recorder {
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
        if self.engaged.get() && !self.badge.post().is_main() && !self.badge.runs_within() {
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
        badge.push_running(Running { task: shown, since: begin });
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
        let shown = badge.pop_running();
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
            host.discard(scope, shown);
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
    pub(in crate::engine) fn judge_item(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        may_retry: bool,
    ) -> bool {
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
        if self.badge.post().is_main() {
            if !engine.main.lanes.is_empty() {
                engine.staff_base(scope);
            }
        } else if !engine.express.lanes.is_empty() {
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
