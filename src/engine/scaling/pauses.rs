//! Tasks that wait for their next attempt without a worker: the keeper holds them until their pause
//! is over, and queues them again.
//!
//! A paused task is in no lane. Its queue counts it, and so is not drained before it is back; its
//! hold on the roster keeps the runner from ending where no worker waits for it. Whoever moves its
//! word out of `PAUSED` takes it off both.

use super::threads::Threads;
use crate::engine::engine::Engine;
use crate::engine::host::Host;
use crate::engine::queue::Queue;
use crate::engine::task::deadlines::DeadlineKey;
use crate::engine::task::priority::Priority;
use crate::engine::task::{RESERVED, TaskWord};
use crate::sync::Arc;

impl<H: Host> Engine<H> {
    /// How many tasks are paused.
    pub fn paused(&self) -> u64 {
        self.main.paused() + self.reserved.paused()
    }

    /// Marks a running task as paused, whose payload is back; false when another thread has settled
    /// it, or asked it to give up. The caller hands it to [`hold_paused`](Self::hold_paused).
    pub(in crate::engine) fn mark_paused(&self, word: &TaskWord) -> bool {
        let queue = self.queue_of(word);
        let flags = queue.count_paused();
        self.roster.hold_open().leave();
        if word.pause(flags) {
            return true;
        }
        if flags != 0 {
            queue.give_back_permit();
        }
        self.uncount_paused(queue);
        false
    }

    /// Ends the pause of a task whose thread sat it out, and claims it next; false when another
    /// thread has settled it.
    pub(in crate::engine) fn end_pause(&self, word: &TaskWord) -> bool {
        if !word.resume() {
            return false;
        }
        let queue = self.queue_of(word);
        queue.count_resumed(word.priority());
        self.uncount_paused(queue);
        true
    }

    /// A task that was paused has been taken by the thread that settles it.
    pub(in crate::engine) fn pause_called_off(&self, word: &TaskWord) {
        let queue = self.queue_of(word);
        if word.take_permit() {
            queue.give_back_permit();
        }
        self.uncount_paused(queue);
        self.finish_if_over();
    }

    /// A task that is in no lane is paused no more.
    fn uncount_paused(&self, queue: &Queue<H::Task>) {
        queue.uncount_paused();
        if self.is_closing() {
            // They were kept as long as a call might come back for one.
            self.recall_loans_if_over();
        }
        drop(self.roster.take_up_hold());
    }

    /// Lets go of a paused task that has its outcome.
    pub fn forget_paused(&self, scope: H::Scope<'_>, key: DeadlineKey) {
        if let Some(task) = self.deadlines.unpause(key) {
            self.host.discard(scope, task);
        }
    }
}

impl<H: Threads> Engine<H> {
    /// Has the keeper hold paused tasks, until their time comes or the runner closes.
    pub(in crate::engine) fn hold_paused(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        tasks: Vec<(DeadlineKey, H::Task)>,
    ) {
        let share = |(key, task): &(DeadlineKey, _)| (*key, self.host.share(scope, task));
        let shown: Vec<_> = tasks.iter().map(share).collect();
        let held = self.deadlines.pause(tasks);
        let is_held = held.is_ok();
        if let Err(tasks) = held {
            self.resume(scope, tasks.into_iter().map(|(_, task)| task).collect());
        }
        for (key, task) in shown {
            // A thread that settled it before it was held did not find it.
            if is_held && !self.host.word(&task).is_paused() {
                self.forget_paused(scope, key);
            }
            self.host.discard(scope, task);
        }
    }

    /// Queues every task whose pause is over. Called by the keeper.
    pub(in crate::engine) fn resume_due(self: &Arc<Self>, scope: H::Scope<'_>) {
        self.resume(scope, self.deadlines.take_resumed(self.clock.now()));
    }

    /// Queues tasks that are paused. No pause of them goes on as the first comes into its lane: a worker
    /// that comes to one task of a joint call takes the others along.
    pub(super) fn resume(self: &Arc<Self>, scope: H::Scope<'_>, tasks: Vec<H::Task>) {
        let mut resumed = Vec::new();
        for task in tasks {
            let word = self.host.word(&task);
            if word.resume() {
                self.queue_of(word).count_resumed(word.priority());
                resumed.push(task);
            } else {
                self.host.discard(scope, task);
            }
        }
        for task in resumed {
            self.queue_resumed(scope, task);
        }
    }

    fn queue_resumed(self: &Arc<Self>, scope: H::Scope<'_>, task: H::Task) {
        let word = self.host.word(&task);
        let (queue, is_reserved) = (self.queue_of(word), word.has(RESERVED));
        let lane = if is_reserved { Priority::Normal } else { self.lane_again(&task) };
        let now = self.clock.now();
        queue.push_resumed(lane, task, now);
        if is_reserved {
            self.start_reserved_if_needed(scope);
        } else {
            self.start_base_if_needed(scope);
            self.load_grew(now);
        }
        if self.fails_fast() {
            self.fail_waiting(scope);
        }
        // The worker that left last in a closing runner may have swept the lanes before the push.
        let has_worker = || is_reserved || self.roster.counts().main > 0;
        if self.is_killed() || self.is_closing() && !has_worker() {
            self.abandon_queue(scope, queue);
        }
        drop(self.roster.take_up_hold());
        self.finish_if_over();
    }
}
