//! Takes back all tasks that wait, for a runner that goes on.

use super::clock::Tick;
use super::engine::Engine;
use super::host::Host;
use super::metrics::events::EventKind;
use super::queue::Queue;
use super::task::priority::Priority;
use std::ops::Range;

/// What was taken back, and gets its outcome from the caller.
#[derive(Debug)]
pub enum Withdrawn {
    /// A task, and what it is counted as: dropped if it never started, failed if it waited for a
    /// retry.
    Task(EventKind),
    /// Items of a batch that never started, and are counted as dropped.
    Items(Range<usize>),
}

impl<H: Host> Engine<H> {
    /// Takes back every task that waits now, of all queues, and has `settle` give it its outcome.
    /// What was submitted after the call began is not touched: neither what other threads submit,
    /// nor what gets in because `settle` makes room.
    pub fn cancel_queued(&self, scope: H::Scope<'_>, mut settle: impl FnMut(&H::Task, Withdrawn)) {
        let now = self.clock.now();
        // All of it is taken out first: `settle` may have something new submitted.
        let calls = self.loans.waiting_calls(|task| self.host.share(scope, task), now);
        let paused = self.deadlines.take_paused().into_iter().chain(self.deadlines.take_sat_out());
        let queues = [&self.main, &self.reserved];
        let lingering = self.main.lingering.take_since(now);
        let lines = self.take_lines(scope, &self.main, now);
        let taken_out = queues.map(|queue| (queue, self.take_out(queue, now)));
        let mut settle_task = |task| {
            self.settle_waiting(scope, task, |task, event| settle(task, Withdrawn::Task(event)))
        };
        for task in calls.into_iter().chain(paused).chain(lingering) {
            settle_task(task);
        }
        self.settle_lines(scope, &self.main, lines, &mut settle_task);
        for (queue, tasks) in taken_out {
            for task in tasks {
                if !settle_task(task) {
                    queue.uncount_tombstones(1);
                }
            }
        }
        self.withdraw_items(scope, now, |task, items| settle(task, Withdrawn::Items(items)));
    }

    /// Takes the entries out of a queue that have waited since `then` or longer. Those of batches
    /// stay: `withdraw_items` finds their items.
    fn take_out(&self, queue: &Queue<H::Task>, then: Tick) -> Vec<H::Task> {
        let stays = |task: &H::Task, since| since > then || self.host.cursor(task).is_some();
        let mut tasks = Vec::new();
        for priority in Priority::ALL.into_iter().rev() {
            tasks.extend(queue.compact_retries(priority, stays));
        }
        tasks.extend(Self::compact(queue, stays));
        tasks
    }
}
