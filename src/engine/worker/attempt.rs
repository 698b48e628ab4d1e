//! One task after the other is claimed, run and settled on the resource at hand; an attempt may end
//! in another.

use super::chunk::Chunk;
use super::session::WorkerSession;
use crate::engine::clock::Tick;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::queue::lanes::Entry;
use crate::engine::resource::epochs::FailureEpoch;
use crate::engine::roster::shared::Running;
use crate::engine::scaling::threads::Threads;
use crate::engine::task::deadlines::DeadlineKey;
use crate::engine::task::token::Token;
use crate::engine::task::{ACCUMULATED, Claim, JOINT, RAISED};
use crate::sync::atomic::Ordering;
use std::time::Duration;

/// What the engine asks of the world around it to run tasks.
pub trait Attempts: Threads {
    /// Runs a claimed task on the session's resource, and delivers its outcome unless it asks for
    /// judgement. It takes the outcome with
    /// [`TaskWord::settle_running`](crate::engine::task::TaskWord::settle_running), calls
    /// [`WorkerSession::count_outcome`], and publishes.
    fn run(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Self::Task,
    ) -> Ran;

    /// A task that is none yet, to be kept with a loan: the host makes it each call's that finds the
    /// loan idle. `None`: each call brings its own. A host without such tasks has nothing to do
    /// here.
    fn spare_task(&self, scope: Self::Scope<'_>) -> Option<Self::Task> {
        let _ = scope;
        None
    }

    /// Runs a chunk of items of a batch, each from [`WorkerSession::start_item`] to its outcome,
    /// until that starts no more. It may end earlier, and does so after an item that failed by itself.
    /// Gives how many failed. A host without batches has nothing to do here.
    fn run_items(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Self::Task,
        chunk: &Chunk,
    ) -> u64 {
        let _ = (scope, session, task, chunk);
        0
    }

    /// Ends a claimed task of a joint call whose time limit has passed before that began. False: it
    /// has not. A host without such tasks has nothing to do here, nor below.
    fn leave_out(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Self::Task,
    ) -> bool {
        let _ = (scope, session, task);
        false
    }

    /// Runs claimed tasks in one call, which the `token` tells to give up. Delivers what came of
    /// each: it takes the outcome with [`WorkerSession::take_joint_outcome`], and publishes. An
    /// error of the call itself is kept with each task, for the engine to decide on.
    fn run_joint(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        tasks: &[Self::Task],
        token: &Token,
    ) -> JointRan {
        let _ = (scope, session, tasks, token);
        JointRan::Returned { completed: 0 }
    }

    /// Whether a task may be entered again that failed on a bad resource, or after this `pause`. In a
    /// joint call the error of one is judged for all. A host whose [`judge`](Self::judge) decides this
    /// too, and that has no joint calls, has nothing to do here.
    fn may_retry(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Self::Task,
        pause: Option<Tick>,
    ) -> bool {
        let _ = (scope, session, task, pause);
        true
    }

    /// Asks whether the error a task ended with means that the resource went bad.
    fn judge(
        &self,
        scope: Self::Scope<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Self::Task,
    ) -> Verdict;

    /// Puts the payload of a judged task back; the engine moves the word after this, and queues the
    /// task, or has the keeper hold it by this `pause`: the thread that settles it then calls
    /// [`forget_paused`](crate::engine::Engine::forget_paused). Gives what
    /// [`retried`](Self::retried) is to tell: another thread may change the task by then.
    fn prepare_retry(
        &self,
        scope: Self::Scope<'_>,
        task: &Self::Task,
        pause: Option<DeadlineKey>,
    ) -> Self::Retry;

    /// Blocks the thread that runs a task, and would have to wait for its next attempt anyhow, for
    /// this pause, or until it `ends` otherwise, which no thread tells of. False when an exception
    /// interrupted that, which is the task's error then. A host that never answers
    /// [`Verdict::Later`] has nothing to do here.
    fn sit_out(
        &self,
        scope: Self::Scope<'_>,
        task: &Self::Task,
        pause: Duration,
        ends: impl Fn() -> bool + Sync,
    ) -> bool {
        let _ = (scope, task, pause, ends);
        true
    }

    /// A task is going to be tried again: the engine has counted that, and queued it. A host that
    /// tells nobody has nothing to do here.
    fn retried(&self, scope: Self::Scope<'_>, retry: Self::Retry) {
        let _ = (scope, retry);
    }

    /// Publishes the error that a judged task ended with, and drops its payload. The engine has
    /// taken the outcome and counted it.
    fn fail(&self, scope: Self::Scope<'_>, session: &WorkerSession<'_, Self>, task: &Self::Task);

    /// Drops the payload of a claimed task that does not run (any more), and whose outcome another
    /// thread decided meanwhile: the keeper mostly, when the time limit passed.
    fn forget(&self, scope: Self::Scope<'_>, task: &Self::Task);
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It returned, and its result was delivered.
    Completed,
    /// It failed, and its error was delivered.
    Failed,
    /// Its time limit had passed before its function was entered.
    NotEntered,
    /// Its outcome was decided before it ended (its time limit passed, mostly); what it gave was
    /// dropped.
    Overdue,
    /// It failed; the task holds the error, and the engine asks for judgement.
    Suspect,
}

/// How a joint call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JointRan {
    /// It returned, and all outcomes were delivered.
    Returned {
        /// So many tasks got a result.
        completed: u64,
    },
    /// It failed, and its tasks hold the error.
    Failed {
        /// The error may tell of the resource, or that the call is to be made again: the engine asks
        /// for judgement.
        is_suspect: bool,
    },
}

/// What a failed task says of the resource, and of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The resource is as good as before.
    Healthy,
    /// It is as good as before, and the task is to be tried again after this pause.
    Later(Tick),
    /// The resource went bad.
    Bad {
        /// Tasks that [may be entered again](Attempts::may_retry) are tried on another one.
        retry: bool,
    },
}

/// How an attempt ended, judgement included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    /// It ran, and its outcome was delivered.
    Settled,
    /// Another thread decided its outcome.
    Overdue,
    /// It is to be tried again at once, on another resource.
    Retry,
    /// It is paused: by this key if the keeper is to hold it, and otherwise by the thread that ran
    /// it.
    Paused(Option<DeadlineKey>),
    /// It did not run: the runner was killed.
    Abandoned,
}

impl<H: Attempts> WorkerSession<'_, H> {
    /// Claims a task and runs it to its outcome; a tombstone is skipped. Gives the task back when
    /// it is to be tried again: then it is marked so, and waits for the caller to queue it, or is
    /// paused and waits for the caller to sit that out.
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
            self.engine.queue_of(word).uncount_tombstones(1);
            host.discard(scope, task);
            return None;
        }
        self.take_key(&task, claim == Claim::First);
        if host.cursor(&task).is_some() {
            self.serve_batch(scope, task);
            return None;
        }
        self.serve_claimed(scope, task, since, claim == Claim::First)
    }

    /// [`serve`](Self::serve) for a new task that no other thread knows of.
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
        engine.queue_of(word).count_taken(word, first);
        self.recorder.count(if first { WorkerCounter::Started } else { WorkerCounter::Resumed });
        let is_main = self.worker.kind().is_main();
        let started_on_demand =
            if is_main { engine.has_unstarted_base() } else { engine.settings.thread_bound };
        if started_on_demand {
            self.count_busy(scope);
        }
        let again = if word.has(JOINT) {
            self.attempt_joint(scope, task, first, since);
            None
        } else {
            self.attempt(scope, task, first, Some(since))
        };
        self.tasks_ended(scope, 1);
        again
    }

    /// Looks after the resource when tasks have ended on it.
    pub(super) fn tasks_ended(&self, scope: H::Scope<'_>, tasks: u64) {
        self.usage().served(self.last.get(), tasks);
        if self.engine.settings.policy.resets && !self.is_bad() && !self.engine.is_killed() {
            self.leave_next_to_others();
            self.owned_resource.reset(&self.engine.host, scope, self.worker.name());
            // The next task's time begins after it.
            self.last.set(self.now());
        }
    }

    /// Runs a task that this worker would otherwise wait for, on the resource at hand, inside the
    /// task that waits. False when another worker claimed it first, or another thread settled
    /// it. `queued`: its entry is in a lane, and stays there as a tombstone.
    pub fn serve_inside(&self, scope: H::Scope<'_>, task: &H::Task, queued: bool) -> bool {
        let host = &self.engine.host;
        let word = host.word(task);
        if !word.claim_fresh() {
            return false;
        }
        self.take_key(task, true);
        let queue = self.engine.queue_of(word);
        queue.count_taken(word, true);
        if queued {
            self.engine.compact_if_due(scope, queue);
        }
        if word.has(ACCUMULATED) {
            self.leave_accumulator(scope, task);
        }
        self.recorder.count(WorkerCounter::Started);
        let mut again = self.attempt(scope, host.share(scope, task), true, None);
        while let Some(task) = again {
            again = self.sit_out(scope, task);
        }
        true
    }

    /// Sits the pause out of a task that ran inside another, and tries it again.
    fn sit_out(&self, scope: H::Scope<'_>, task: H::Task) -> Option<H::Task> {
        let (engine, host) = (self.engine, &self.engine.host);
        if let Some(retry) = self.retry.take() {
            host.retried(scope, retry);
        }
        let word = host.word(&task);
        let pause = Duration::from_nanos(self.resumes.take().saturating_sub(self.now()));
        let ends = || !word.is_paused() || engine.is_closing();
        let noted = engine.deadlines.sit_out(host.share(scope, &task));
        let was_left = host.sit_out(scope, &task, pause, ends);
        if engine.is_left_by_fork() {
            return None;
        }
        if let Some(shown) = engine.deadlines.end_sitting_out(noted) {
            host.discard(scope, shown);
        }
        if engine.is_killed() {
            engine.abandon_unless_taken(scope, task);
            return None;
        }
        if !engine.end_pause(word) || word.claim() == Claim::Lost {
            host.discard(scope, task);
            return None;
        }
        engine.queue_of(word).count_taken(word, false);
        self.recorder.count(WorkerCounter::Resumed);
        if was_left {
            return self.attempt(scope, task, false, None);
        }
        if word.settle_running() {
            self.count_outcome(false);
            host.fail(scope, self, &task);
        } else {
            self.recorder.count(WorkerCounter::Ended);
            host.forget(scope, &task);
        }
        self.leave_line(scope, &task, false);
        host.discard(scope, task);
        None
    }

    /// Runs a claimed task. `since`: when it began to wait, for a task that came through a queue;
    /// one that runs inside another did not, and is not tried on another resource.
    fn attempt(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        first: bool,
        since: Option<Tick>,
    ) -> Option<H::Task> {
        let (host, worker, clock) = (&self.engine.host, self.worker, &self.engine.clock);
        let begin = match self.last.get() {
            last if last != 0 && since.is_some() => last,
            _ => clock.now(),
        };
        let wait = since.map_or(0, |since| begin.saturating_sub(since));
        self.waited.set(wait);
        let latest = self.engine.failure_epochs.latest();
        let outer = self.begin_naming();
        let shown = host.share(scope, &task);
        worker.push_running(Running { task: shown, since: begin });
        // The mode is looked at after the claim: a task starts when it is claimed, and none starts
        // once a kill was called. And after the task is shown as running: either this worker sees
        // the kill, or the thread that kills, and goes on to look at what runs, sees the task.
        let (mut completed, mut entered) = (0, true);
        let end = if self.engine.is_killed() {
            entered = false;
            self.abandon_claimed(scope, &task, first)
        } else {
            match host.run(scope, self, &task) {
                Ran::Suspect => self.handle_failure(scope, &task, since.is_some(), latest),
                Ran::Completed => {
                    self.usage().mark_good(latest);
                    completed = 1;
                    AttemptEnd::Settled
                }
                Ran::Failed => AttemptEnd::Settled,
                Ran::Overdue => AttemptEnd::Overdue,
                Ran::NotEntered => {
                    entered = false;
                    AttemptEnd::Overdue
                }
            }
        };
        if end != AttemptEnd::Settled {
            self.last.set(clock.now());
        }
        let shown = worker.pop_running(|| {
            if since.is_some() {
                self.recorder.was_busy(begin, self.last.get());
            }
        });
        if end == AttemptEnd::Overdue {
            self.recorder.count(WorkerCounter::Ended);
            self.engine.overdue_ended(host.word(&task));
        }
        if end != AttemptEnd::Abandoned {
            let span = self.last.get().saturating_sub(begin);
            self.span.set(span);
            if entered {
                self.record((wait, span), (1, completed), host.word(&task).priority());
            }
        }
        self.end_naming(outer);
        if since.is_some() {
            self.uncount_busy();
        }
        if let Some(shown) = shown {
            host.discard(scope, shown);
        }
        match end {
            AttemptEnd::Retry | AttemptEnd::Paused(None) => return Some(task),
            AttemptEnd::Paused(Some(key)) => self.hand_to_keeper(scope, key, task),
            _ => {
                self.leave_line(scope, &task, since.is_some());
                host.discard(scope, task);
            }
        }
        None
    }

    /// Has the keeper hold a task that was paused just now, and the host tell of it.
    fn hand_to_keeper(&self, scope: H::Scope<'_>, key: DeadlineKey, task: H::Task) {
        self.engine.hold_paused(scope, vec![(key, task)]);
        if let Some(retry) = self.retry.take() {
            self.engine.host.retried(scope, retry);
        }
    }

    /// Abandons a claimed task that must not run any more.
    pub(super) fn abandon_claimed(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        first: bool,
    ) -> AttemptEnd {
        let host = &self.engine.host;
        if !host.word(task).settle_running() {
            host.forget(scope, task);
            return AttemptEnd::Overdue;
        }
        self.recorder.count(WorkerCounter::Ended);
        let event = self.engine.count_abandoned(first);
        host.abandon(scope, task, self.engine.abandon_reason(), event);
        AttemptEnd::Abandoned
    }

    /// Decides on an error that an item of a batch ended with. The host made a running task of the
    /// item, which holds it.
    pub fn item_failed(&self, scope: H::Scope<'_>, task: H::Task) {
        // No other resource from inside another task, as the resource is that task's too.
        let may_retry = !self.worker.runs_within();
        match self.handle_failure(scope, &task, may_retry, self.usage().known_good_since()) {
            AttemptEnd::Retry => return self.queue_retry(scope, task, self.now()),
            AttemptEnd::Paused(Some(key)) => return self.hand_to_keeper(scope, key, task),
            AttemptEnd::Paused(None) => {
                let mut again = Some(task);
                while let Some(task) = again {
                    again = self.sit_out(scope, task);
                }
                return;
            }
            AttemptEnd::Overdue => self.recorder.count(WorkerCounter::Ended),
            AttemptEnd::Settled | AttemptEnd::Abandoned => {}
        }
        self.engine.host.discard(scope, task);
    }

    /// Decides on an error that a task ended with. `may_retry`: on another resource, which a task may
    /// not that runs inside another. `latest`: the latest failure before it began.
    fn handle_failure(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        may_retry: bool,
        latest: FailureEpoch,
    ) -> AttemptEnd {
        let host = &self.engine.host;
        let word = host.word(task);
        let mut next = None;
        // After a kill nothing is retried, and the host is not asked.
        if !self.engine.is_killed() {
            match host.judge(scope, self, task) {
                Verdict::Healthy => self.usage().mark_good(latest),
                Verdict::Later(pause) => {
                    self.usage().mark_good(latest);
                    let may_pause = host.may_retry(scope, self, task, Some(pause));
                    next = may_pause.then(|| self.pause(scope, pause, may_retry)).flatten();
                }
                Verdict::Bad { retry } => {
                    self.mark_bad();
                    let may_retry = may_retry && host.may_retry(scope, self, task, None);
                    let retry = retry && may_retry && !self.engine.is_killed();
                    next = retry.then_some(AttemptEnd::Retry);
                }
            }
        }
        // Meanwhile the time limit may have passed, and the keeper have decided the outcome; or the
        // task was asked to give up, and is not paused.
        if let Some(next) = next {
            let (pauses, key) = match next {
                AttemptEnd::Paused(key) => (true, key),
                _ => (false, None),
            };
            if let Some(told) = self.requeue(scope, task, pauses, key) {
                self.retry.set(Some(told));
                return next;
            }
        }
        if word.settle_running() {
            self.count_outcome(false);
            host.fail(scope, self, task);
            return AttemptEnd::Settled;
        }
        host.forget(scope, task);
        AttemptEnd::Overdue
    }

    /// How an attempt ends after which the task is to pause. A thread that has to wait for the task
    /// anyhow sits the pause out: it `came_through_queue` and has no caller with a loan otherwise.
    /// `None` in a closing runner, where no pause begins, and where there is no keeper.
    fn pause(
        &self,
        scope: H::Scope<'_>,
        pause: Tick,
        came_through_queue: bool,
    ) -> Option<AttemptEnd> {
        let engine = self.engine;
        if engine.is_closing() {
            return None;
        }
        let due = self.now().saturating_add(pause);
        if !came_through_queue || self.is_on_loan() {
            self.resumes.set(due);
            return Some(AttemptEnd::Paused(None));
        }
        let reserve = || AttemptEnd::Paused(Some(engine.deadlines.reserve(due)));
        engine.has_keeper(scope).then(reserve)
    }

    /// Marks a task that is to be tried again, at once or when it has been paused, and counts that.
    /// `key`: by which the keeper is going to hold it. Gives what is to be told of it, once it is
    /// queued, or held; `None`: another thread has settled it.
    pub(super) fn requeue(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        pauses: bool,
        key: Option<DeadlineKey>,
    ) -> Option<H::Retry> {
        let host = &self.engine.host;
        let word = host.word(task);
        if word.has(RAISED) {
            word.clear(RAISED);
            self.engine.drop_stale_entries(scope);
        }
        let told = host.prepare_retry(scope, task, key);
        let was_running = if pauses { self.engine.mark_paused(word) } else { word.requeue() };
        was_running.then(|| {
            self.recorder.count(WorkerCounter::Retried);
            self.count_retried();
            self.recorder.count(WorkerCounter::Ended);
            told
        })
    }

    /// Queues a task whose attempt ended just now, to be tried again on another resource, and has
    /// the host tell of it.
    pub(in crate::engine) fn queue_retry(&self, scope: H::Scope<'_>, task: H::Task, since: Tick) {
        let failure_epoch = self.engine.failure_epochs.advance();
        self.retry_epoch.set(failure_epoch);
        self.push_retry(Entry { task, since, failure_epoch });
        if let Some(retry) = self.retry.take() {
            self.engine.host.retried(scope, retry);
        }
    }

    pub(super) fn push_retry(&self, entry: Entry<H::Task>) {
        let priority = self.engine.host.word(&entry.task).priority();
        let lane = self.engine.lane_again(&entry.task);
        self.engine.queue_for(self.worker.kind()).push_retry(priority, lane, entry);
    }

    /// From here on this worker counts as busy: if more tasks wait, another worker is started.
    fn count_busy(&self, scope: H::Scope<'_>) {
        let engine = self.engine;
        self.counted_busy.set(true);
        engine.busy_on_demand.fetch_add(1, Ordering::SeqCst);
        if self.worker.kind().is_main() {
            if !engine.main.lanes.is_empty() {
                engine.start_base_if_needed(scope);
            }
        } else if !engine.reserved.lanes.is_empty() {
            engine.start_reserved_if_needed(scope);
        }
    }
}
