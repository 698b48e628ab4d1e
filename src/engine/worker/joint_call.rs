//! Joint calls: one call of a function for several tasks, which a worker takes out of their
//! accumulator when it comes to one of them.
//!
//! Each of them is claimed, counted, settled and tried again by itself. The worker shows the *lead*
//! alone as running, the task that it came by; the host knows the others of its call.

use super::attempt::{AttemptEnd, Attempts, JointRan, Verdict};
use super::session::WorkerSession;
use crate::engine::clock::Tick;
use crate::engine::host::Host;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::queue::accumulator::Member;
use crate::engine::queue::lanes::Entry;
use crate::engine::resource::epochs::{self, FailureEpoch};
use crate::engine::roster::shared::Running;
use crate::engine::task::deadlines::DeadlineKey;
use crate::engine::task::priority::Priority;
use crate::engine::task::token::Token;
use crate::engine::task::{CANCEL_REQUESTED, Claim, RETRIES, TaskWord};
use crate::sync::Arc;

impl<H: Attempts> WorkerSession<'_, H> {
    /// Runs a claimed task in one call with others, claimed here.
    #[cold]
    pub(super) fn attempt_joint(
        &self,
        scope: H::Scope<'_>,
        lead: H::Task,
        first: bool,
        since: Tick,
    ) {
        let (engine, worker) = (self.engine, self.worker);
        let host = &engine.host;
        let begin = self.last_or_now();
        let (mut tasks, since) = if first {
            self.gather(scope, lead, since)
        } else {
            (self.gather_again(scope, lead), since)
        };
        let late = |task: &mut H::Task| host.leave_out(scope, self, task);
        for task in tasks.extract_if(.., late) {
            self.count_taken_away(host.word(&task));
            host.discard(scope, task);
        }
        // Told to give up just when its retry was queued.
        let is_called_off = |task: &mut H::Task| !first && host.word(task).has(CANCEL_REQUESTED);
        for task in tasks.extract_if(.., is_called_off) {
            self.end_with_error(scope, &task);
            host.discard(scope, task);
        }
        if tasks.is_empty() {
            self.last.set(self.now());
            return self.uncount_busy();
        }
        let tasks = Arc::new(tasks);
        self.waited.set(begin.saturating_sub(since));
        let latest = engine.failure_epochs.latest();
        let outer = self.begin_naming();
        let (lead, token) = (host.word(&tasks[0]), Token::new());
        let priority = lead.priority();
        engine.joint_calls.begin(Arc::clone(&tasks), token.clone());
        worker.push_running(Running { task: host.share(scope, &tasks[0]), since: begin });
        let (mut completed, mut again) = (0, None);
        // The mode is looked at after the claims, and after the call is shown as running: as for
        // every attempt. So are tasks that were given up.
        let was_killed = engine.is_killed();
        if was_killed {
            for task in &*tasks {
                if self.abandon_claimed(scope, task, first) == AttemptEnd::Overdue {
                    self.count_taken_away(host.word(task));
                }
            }
        } else {
            if engine.given_up_call(lead).is_some() {
                token.cancel(None);
            }
            match host.run_joint(scope, self, &tasks, &token) {
                JointRan::Returned { completed: count } => {
                    self.usage().mark_good(latest);
                    completed = count;
                }
                JointRan::Failed { is_suspect } => {
                    again = self.joint_call_failed(scope, &tasks, is_suspect, latest);
                }
            }
        }
        // Not the last reference.
        drop(engine.joint_calls.end(lead, |task| host.word(task)));
        self.last.set(self.now());
        let shown = worker.pop_running(|| self.recorder.was_busy(begin, self.last.get()));
        if !was_killed {
            let (span, count) = (self.last.get().saturating_sub(begin), tasks.len() as u64);
            self.span.set(span);
            let times = (self.waited.get(), span / count);
            self.record(times, (count, completed), priority);
        }
        self.end_naming(outer);
        self.uncount_busy();
        if let Some((how, tasks)) = again {
            self.queue_call(scope, how, tasks);
        }
        let tasks = Arc::into_inner(tasks).unwrap_or_default();
        for task in tasks.into_iter().chain(shown) {
            host.discard(scope, task);
        }
    }

    /// Claims what waits beside a task that was claimed for the first time, up to a full call. Gives
    /// all of them, and since when they have waited on average.
    fn gather(&self, scope: H::Scope<'_>, lead: H::Task, since: Tick) -> (Vec<H::Task>, Tick) {
        let (engine, host) = (self.engine, &self.engine.host);
        let mut tasks = vec![lead];
        let mut since_total = u128::from(since);
        let mut entries = [0; Priority::COUNT];
        let lead = host.word(&tasks[0]);
        let Some(accumulator) = host.accumulator(&tasks[0]) else {
            return (tasks, since);
        };
        let most = accumulator.settings().max_size;
        for gone in accumulator.remove(lead, |task| host.word(task)) {
            engine.discard_gone(scope, gone);
        }
        let mut others = Vec::new();
        while others.len() + 1 < most {
            let found = accumulator.take(most - 1 - others.len(), |task| host.word(task));
            if found.is_empty() {
                break;
            }
            for member in found {
                if !host.word(&member.task).claim_fresh() {
                    engine.discard_gone(scope, member);
                    continue;
                }
                let Member { task, since, linger } = member;
                let word = host.word(&task);
                engine.main.count_taken(word, true);
                self.recorder.count(WorkerCounter::Started);
                since_total += u128::from(since);
                match linger.and_then(|key| engine.main.lingering.take(key)) {
                    Some(handle) => host.discard(scope, handle),
                    None => entries[word.priority() as usize] += 1,
                }
                others.push(task);
            }
        }
        if accumulator.settings().max_wait > 0 {
            // The entries that were to bring workers for them may have been taken along.
            engine.release_full(accumulator);
        }
        self.leave_tombstones(scope, entries);
        tasks.extend(others);
        let since = since_total / tasks.len() as u128;
        (tasks, Tick::try_from(since).unwrap_or(Tick::MAX))
    }

    /// The entries of so many tasks of each priority are tombstones now. Most of them are the next in
    /// their lanes: taken out together, each costs a fourth of what a worker's round would.
    fn leave_tombstones(&self, scope: H::Scope<'_>, entries: [u64; Priority::COUNT]) {
        let engine = self.engine;
        let is_due = engine.main.count_tombstones(entries.iter().sum());
        for priority in Priority::ALL {
            if entries[priority as usize] > 0 {
                let waits = |task: &H::Task| engine.host.word(task).is_waiting();
                let dead = engine.main.take_tombstones(priority, waits);
                engine.discard_tombstones(scope, &engine.main, dead);
            }
        }
        if is_due {
            engine.compact_tombstones(scope, &engine.main);
        }
    }

    /// Claims the others of a call that is made again.
    fn gather_again(&self, scope: H::Scope<'_>, lead: H::Task) -> Vec<H::Task> {
        let (engine, host) = (self.engine, &self.engine.host);
        let mut tasks = vec![lead];
        let lead = host.word(&tasks[0]);
        let call = host
            .accumulator(&tasks[0])
            .map(|accumulator| accumulator.take_retries(lead, |task| host.word(task)));
        let mut others = Vec::new();
        for member in call.into_iter().flatten() {
            let word = host.word(&member.task);
            if std::ptr::eq(word, lead) || word.claim() != Claim::Retry {
                engine.discard_gone(scope, member);
                continue;
            }
            engine.main.count_taken(word, false);
            self.recorder.count(WorkerCounter::Resumed);
            engine.compact_if_due(scope, &engine.main);
            others.push(member.task);
        }
        tasks.extend(others);
        tasks
    }

    /// Decides on the error of a joint call, which its tasks hold. Gives those that are tried again,
    /// which are marked so, with what is to be told of each.
    fn joint_call_failed(
        &self,
        scope: H::Scope<'_>,
        tasks: &[H::Task],
        is_suspect: bool,
        latest: FailureEpoch,
    ) -> Option<(How, Again<H>)> {
        let (engine, host) = (self.engine, &self.engine.host);
        let is_given_up =
            |task: &H::Task| host.word(task).has(CANCEL_REQUESTED) || host.word(task).is_taken();
        let live = || tasks.iter().filter(|task| !is_given_up(task));
        // What is asked of one holds for all.
        let asked = live().find(|task| host.word(task).has(RETRIES));
        let asked = asked.or_else(|| live().next()).or(tasks.first())?;
        let verdict = if is_suspect && !engine.is_killed() {
            host.judge(scope, self, asked)
        } else {
            Verdict::Healthy
        };
        let splits =
            tasks.len() > 1 && host.accumulator(asked).is_some_and(|it| it.settings().splits);
        if is_suspect && !matches!(verdict, Verdict::Bad { .. }) {
            self.usage().mark_good(latest);
        }
        let how = match verdict {
            Verdict::Healthy => splits.then_some(How::OneByOne),
            Verdict::Later(pause) => {
                let may_pause = !engine.is_closing() && engine.has_keeper(scope);
                may_pause.then_some(How::Later(pause))
            }
            Verdict::Bad { retry } => {
                self.mark_bad();
                retry.then_some(How::Together)
            }
        };
        // No retry from inside another task, as the resource is that task's too.
        let how = how.filter(|_| !engine.is_killed() && !self.worker.runs_within());
        let goes_on = |task: &H::Task| match how {
            None => false,
            Some(How::OneByOne) => !is_given_up(task),
            Some(How::Together) => host.may_retry(scope, self, task, None),
            Some(How::Later(pause)) => host.may_retry(scope, self, task, Some(pause)),
        };
        let (goes_on, ends): (Vec<_>, Vec<_>) = tasks.iter().partition(|task| goes_on(task));
        if how.is_some_and(|how| how != How::OneByOne)
            && let Some(accumulator) = host.accumulator(asked)
        {
            // Before a worker can come to one of them.
            let call = goes_on.iter().map(|task| host.share(scope, task)).collect();
            accumulator.add_retries(call, |task| host.word(task));
        }
        for task in ends {
            self.end_with_error(scope, task);
        }
        let due = match how {
            Some(How::Later(pause)) => Some(self.now().saturating_add(pause)),
            _ => None,
        };
        if how == Some(How::Together) {
            engine.drop_stale_entries(scope);
        }
        let mut again = Vec::new();
        for task in goes_on {
            let key = due.map(|due| engine.deadlines.reserve(due));
            if let Some(told) = self.requeue(scope, task, key.is_some(), key) {
                again.push((host.share(scope, task), key, told));
            } else {
                // Settled meanwhile, or asked to give up.
                self.end_with_error(scope, task);
            }
        }
        how.filter(|_| !again.is_empty()).map(|how| (how, again))
    }

    /// Gives a task of a call the error that it holds, unless another thread has decided its outcome.
    fn end_with_error(&self, scope: H::Scope<'_>, task: &H::Task) {
        let host = &self.engine.host;
        let taken = self.take_joint_outcome(host.word(task), false);
        self.engine.leave_accumulator(scope, task, false);
        if taken {
            host.fail(scope, self, task);
        } else {
            host.forget(scope, task);
        }
    }

    /// Queues tasks of a call that failed, to be tried again, or has the keeper hold them before, and
    /// has the host tell of it.
    fn queue_call(&self, scope: H::Scope<'_>, how: How, tasks: Again<H>) {
        let (engine, since) = (self.engine, self.last.get());
        let failure_epoch = if how == How::Together {
            let failure_epoch = engine.failure_epochs.advance();
            self.retry_epoch.set(failure_epoch);
            failure_epoch
        } else {
            // On any worker: the resource is not to blame.
            epochs::INITIAL_EPOCH
        };
        let (mut retries, mut paused) = (Vec::new(), Vec::new());
        for (task, pause, told) in tasks {
            match pause {
                Some(key) => paused.push((key, task)),
                None => self.push_retry(Entry { task, since, failure_epoch }),
            }
            retries.push(told);
        }
        if !paused.is_empty() {
            engine.hold_paused(scope, paused);
        }
        for told in retries {
            engine.host.retried(scope, told);
        }
    }

    /// Decides on the error of one call for items of a batch, of which the host made running tasks that
    /// hold it.
    pub fn items_failed(&self, scope: H::Scope<'_>, tasks: Vec<H::Task>) {
        self.last.set(self.now());
        let latest = self.usage().known_good_since();
        if let Some((how, again)) = self.joint_call_failed(scope, &tasks, true, latest) {
            self.queue_call(scope, how, again);
        }
        for task in tasks {
            self.engine.host.discard(scope, task);
        }
    }

    /// Takes a task out of its accumulator that this thread has claimed by itself, and that is counted as
    /// a tombstone.
    pub(super) fn leave_accumulator(&self, scope: H::Scope<'_>, task: &H::Task) {
        let host = &self.engine.host;
        let word = host.word(task);
        let Some(accumulator) = host.accumulator(task) else {
            return;
        };
        for gone in accumulator.remove(word, |task| host.word(task)) {
            self.engine.discard_gone(scope, gone);
        }
        self.engine.release_full(accumulator);
    }

    /// A joint call has returned: from here on its tasks are given their outcomes.
    pub fn joint_call_ended(&self) {
        let now = self.now();
        self.last.set(now);
        self.engine.advance_window(now);
    }

    /// Takes the outcome of a task of a joint call, and counts it. False: another thread has decided
    /// it.
    pub fn take_joint_outcome(&self, word: &TaskWord, completed: bool) -> bool {
        let taken = word.settle_running();
        if taken {
            self.count_item_outcome(completed);
        } else {
            self.count_taken_away(word);
        }
        taken
    }

    /// Counts a task of a joint call that has ended there, and whose outcome another thread has
    /// decided.
    pub fn count_taken_away(&self, word: &TaskWord) {
        self.recorder.count(WorkerCounter::Ended);
        self.engine.overdue_ended(word);
    }
}

/// Tasks that are tried again, with what they are held by while they are paused, and what is to be
/// told of each.
type Again<H> = Vec<(<H as Host>::Task, Option<DeadlineKey>, <H as Host>::Retry)>;

/// How tasks of a failed call are tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// In one call, on another resource.
    Together,
    /// In one call, after this pause.
    Later(Tick),
    /// Each by itself.
    OneByOne,
}
