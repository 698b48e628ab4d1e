//! A worker: makes its resource, serves tasks with it, renews it when it goes bad, destroys it.
//!
//! The loop has one way out of each round: serve, renew, or leave. Every task of every queue, fresh or
//! retried, running or draining, goes through [`Desk::serve`].

use super::bell::Woken;
use super::clock::Tick;
use super::engine::Engine;
use super::figures::{Counter, Recorder};
use super::host::{Host, Ran, Refusal, Verdict};
use super::lanes::Entry;
use super::loans;
use super::queue::Queue;
use super::task::{Claim, EXPRESS};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Arc, Mutex};
use std::cell::Cell;

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

/// What others may know of a worker.
pub struct Badge<H: Host> {
    name: String,
    post: Post,
    /// What it runs, outermost first. Its own thread pushes and pops; others look.
    running: Mutex<Vec<Running<H::Task>>>,
    /// Flags above. Its own thread writes `BEGUN` and `EQUIPPED`; `OVERDUE` is set by the keeper and
    /// cleared by its own thread, under the lock of `running`. Relaxed: each stands for itself.
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
    pub(super) fn new(name: String, post: Post) -> Self {
        Self {
            name,
            post,
            running: Mutex::new(Vec::new()),
            state: AtomicU8::new(0),
        }
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

    pub(super) fn has_begun(&self) -> bool {
        self.has(BEGUN)
    }

    pub(super) fn is_equipped(&self) -> bool {
        self.has(EQUIPPED)
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.has(OVERDUE)
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
        f.debug_struct("Badge").field("name", &self.name).field("post", &self.post).finish()
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
    /// When the last attempt ended, to save a clock read; zero after a wait.
    last: Cell<Tick>,
}

impl<'w, H: Host> Desk<'w, H> {
    pub(super) fn new(
        engine: &'w Arc<Engine<H>>,
        badge: &'w Arc<Badge<H>>,
        resource: &'w H::Resource,
        recorder: &'w Recorder,
    ) -> Self {
        let (spoiled, last) = (Cell::new(false), Cell::new(0));
        Self { engine, badge, resource, recorder, spoiled, last }
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
        let Entry { task, since } = entry;
        let word = host.word(&task);
        let claim = word.claim();
        if claim == Claim::Lost {
            self.engine.queue_of(word).unbury(1);
            host.discard(scope, task);
            return None;
        }
        let first = claim == Claim::First;
        self.engine.queue_of(word).taken(word, first);
        self.recorder.count(if first { Counter::Started } else { Counter::Resumed });
        if self.engine.is_killed() {
            // The mode is looked at after the claim: a task starts when it is claimed, and none starts
            // once a kill was called.
            self.recorder.count(Counter::Ended);
            self.engine.book_refusal(first);
            host.refuse(scope, &task, Refusal::Killed);
            host.discard(scope, task);
            return None;
        }
        self.attempt(scope, task, Some(since), true)
    }

    /// Runs a task that this worker would otherwise wait for, on the resource at hand, inside the task
    /// that waits. False when somebody else started it first.
    pub fn serve_inside(&self, scope: H::Scope<'_>, task: &H::Task) -> bool {
        let host = &self.engine.host;
        let word = host.word(task);
        if !word.claim_fresh() {
            return false;
        }
        let queue = self.engine.queue_of(word);
        queue.taken(word, true);
        queue.bury();
        self.recorder.count(Counter::Started);
        let again = self.attempt(scope, host.share(scope, task), None, false);
        debug_assert!(again.is_none(), "no retry from inside another task");
        true
    }

    /// Books an outcome. Called right before it is published, so that whoever has it finds it counted.
    pub fn delivered(&self, completed: bool) {
        self.engine.note(self.engine.clock.now());
        self.recorder.count(if completed { Counter::Completed } else { Counter::Failed });
        self.recorder.count(Counter::Ended);
    }

    fn attempt(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        since: Option<Tick>,
        may_retry: bool,
    ) -> Option<H::Task> {
        let (host, badge, clock) = (&self.engine.host, self.badge, &self.engine.clock);
        let begin = match self.last.get() {
            0 => clock.now(),
            last => last,
        };
        let shown = host.share(scope, &task);
        badge.running.lock().push(Running { task: shown, since: begin });
        let ran = host.run(scope, self, &task);
        let retry = ran == Ran::Doubtful && self.judge(scope, &task, may_retry);
        let shown = badge.running.lock().pop();
        if ran == Ran::Late {
            self.engine.overdue_ended(host.word(&task));
            self.recorder.count(Counter::Ended);
        }
        let end = clock.now();
        self.last.set(end);
        let wait = since.map_or(0, |since| begin.saturating_sub(since));
        self.recorder.record(wait, end.saturating_sub(begin));
        if let Some(shown) = shown {
            host.discard(scope, shown.task);
        }
        if retry {
            return Some(task);
        }
        host.discard(scope, task);
        None
    }

    /// Decides on an error: true when the task is to be tried again, and has been made ready for it.
    fn judge(&self, scope: H::Scope<'_>, task: &H::Task, may_retry: bool) -> bool {
        let host = &self.engine.host;
        let mut retry = false;
        // After a kill nothing is retried, and nobody is asked.
        if !self.engine.is_killed()
            && let Verdict::Spoiled { retry: wanted } = host.judge(scope, self.badge, task)
        {
            self.spoil();
            retry = wanted && may_retry && !self.engine.is_killed();
        }
        if retry {
            self.recorder.count(Counter::Retried);
            self.recorder.count(Counter::Ended);
            host.prepare_retry(scope, task);
        } else {
            host.fail(scope, self, task);
        }
        retry
    }
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
    left: bool,
}

/// What becomes of a worker when it stops serving with one resource.
pub(super) enum Next {
    Renew,
    Leave,
}

impl<H: Host> Life<H> {
    pub(super) fn new(engine: Arc<Engine<H>>, badge: Arc<Badge<H>>, launching: bool) -> Self {
        Self { engine, badge, launching, left: false }
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
        let mut recorder = self.engine.ledger.enlist();
        let mut resource = self.first_resource(scope);
        let mut gave_up = resource.is_none();
        while let Some(mut good) = resource.take() {
            let next;
            if self.badge.post.is_main() || self.engine.settings.thread_bound {
                next = self.serve(scope, &good, &recorder);
            } else {
                (good, recorder, next) =
                    loans::lend(&self.engine, scope, &self.badge, good, recorder);
            }
            self.badge.unset(EQUIPPED);
            self.engine.host.destroy(scope, &self.badge, good);
            if matches!(next, Next::Renew) && !self.engine.is_killed() {
                resource = self.renew(scope);
                gave_up = resource.is_none();
            }
        }
        // Before the place is given back: an empty roster means that the ledger is complete.
        drop(recorder);
        self.left = true;
        self.engine.retire(scope, &self.badge, gave_up);
    }

    fn first_resource(&self, scope: H::Scope<'_>) -> Option<H::Resource> {
        if !self.launching {
            return self.renew(scope);
        }
        let made = match self.engine.is_killed() {
            true => None,
            false => Some(self.engine.host.create(scope, &self.badge)),
        };
        match made {
            Some(Ok(resource)) => {
                self.badge.set(BEGUN | EQUIPPED);
                self.engine.launch.one_is_ready();
                Some(resource)
            }
            Some(Err(fault)) => {
                if let Some(late) = self.engine.launch.one_failed(fault) {
                    self.engine.host.keep_fault(scope, late);
                }
                None
            }
            None => None,
        }
    }

    /// Creates until it works; gives up when the runner is closing.
    fn renew(&self, scope: H::Scope<'_>) -> Option<H::Resource> {
        let Engine { host, clock, backoff, .. } = &*self.engine;
        loop {
            host.park(scope, || backoff.wait_for_turn(|| clock.now()));
            if self.engine.is_killed() {
                return None;
            }
            let closing = self.engine.is_closing();
            if closing && self.queue().is_drained() {
                return None;
            }
            match host.create(scope, &self.badge) {
                Ok(resource) => {
                    self.badge.set(BEGUN | EQUIPPED);
                    if let Some(trouble) = backoff.succeeded(clock.now()) {
                        host.report_trouble(scope, &self.badge, trouble, None);
                    }
                    return Some(resource);
                }
                Err(fault) => {
                    if let Some(trouble) = backoff.failed(clock.now()) {
                        host.report_trouble(scope, &self.badge, trouble, Some(&fault));
                    }
                    host.keep_fault(scope, fault);
                    if closing {
                        return None;
                    }
                }
            }
        }
    }

    fn serve(&self, scope: H::Scope<'_>, good: &H::Resource, recorder: &Recorder) -> Next {
        let (engine, queue) = (&self.engine, self.queue());
        let desk = Desk::new(engine, &self.badge, good, recorder);
        let mut rung = false;
        loop {
            // ---- BUSY: attached, nothing shared by all workers but the lanes.
            let entry = queue.lanes.pop();
            if rung {
                // After the pop, so that a lone task wakes one worker and not two.
                queue.bell.answered(|| !queue.lanes.is_empty());
                rung = false;
            }
            if let Some(entry) = entry {
                if let Some(task) = desk.serve(scope, entry) {
                    let class = engine.host.word(&task).class();
                    queue.push_again(class, task, desk.last.get());
                }
                if desk.is_spoiled() {
                    return Next::Renew;
                }
                if self.is_surplus() {
                    return Next::Leave;
                }
                continue;
            }
            // ---- IDLE: leave, or detach and sleep.
            if engine.is_closing() && queue.is_drained() {
                return Next::Leave;
            }
            desk.last.set(0);
            let idle = || queue.lanes.is_empty() && !(engine.is_closing() && queue.is_drained());
            let woken = engine.host.park(scope, || queue.bell.sleep(None, idle));
            rung = woken == Woken::Rung;
        }
    }

    /// Whether this worker is one too many: a temporary one after its task, or one whose overdue task has
    /// ended while a stand-in took its place.
    fn is_surplus(&self) -> bool {
        match self.badge.post {
            Post::Temporary => self.queue().lanes.is_empty(),
            Post::Base if self.badge.is_overdue() => {
                let heads = self.engine.roster.headcount();
                if heads.base + heads.starting >= self.engine.settings.worker_count {
                    return true;
                }
                self.badge.unset(OVERDUE);
                false
            }
            _ => false,
        }
    }

    fn queue(&self) -> &Queue<H::Task> {
        if self.badge.post.is_main() { &self.engine.main } else { &self.engine.express }
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
