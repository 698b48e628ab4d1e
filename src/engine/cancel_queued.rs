//! Takes back tasks that wait, in a runner that goes on: for a caller, or since no resource can be made.

use super::clock::Tick;
use super::engine::Engine;
use super::host::{AbandonReason, Host};
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
    pub fn cancel_queued(&self, scope: H::Scope<'_>, settle: impl FnMut(&H::Task, Withdrawn)) {
        let now = self.clock.now();
        let mut others = self.loans.waiting_calls(|task| self.host.share(scope, task), now);
        others.extend(self.deadlines.take_paused());
        others.extend(self.deadlines.take_sat_out());
        self.take_back(scope, now, &[&self.main, &self.reserved], others, settle);
    }

    /// Fails what waits for a resource, if tasks fail at once. A call of `run_task` may still get one
    /// that was made for such calls.
    pub fn fail_waiting(&self, scope: H::Scope<'_>) {
        // Before the look at the mark: what is submitted once that is down again is not to fail.
        let now = self.clock.now();
        if !self.fails_fast() {
            return;
        }
        let counts = self.roster.counts();
        let (mut queues, mut calls) = (vec![&self.main], Vec::new());
        if counts.reserved == counts.reserved_without_resource {
            queues.push(&self.reserved);
            calls = self.loans.waiting_calls(|task| self.host.share(scope, task), now);
        }
        let why = AbandonReason::FailsFast;
        self.take_back(scope, now, &queues, calls, |task, withdrawn| match withdrawn {
            Withdrawn::Task(event) => self.host.abandon(scope, task, why, event),
            Withdrawn::Items(items) => self.host.abandon_items(scope, task, items, why),
        });
    }

    /// Takes back what waits in these queues since then or longer, and these others.
    pub(super) fn take_back(
        &self,
        scope: H::Scope<'_>,
        then: Tick,
        queues: &[&Queue<H::Task>],
        others: Vec<H::Task>,
        mut settle: impl FnMut(&H::Task, Withdrawn),
    ) {
        // All of it is taken out first: `settle` may have something new submitted.
        let lingering = self.main.lingering.take_since(then);
        let lines = self.take_lines(scope, &self.main, then);
        let in_lanes: Vec<_> =
            queues.iter().map(|queue| (queue, self.take_out(queue, then))).collect();
        let mut settle_task = |task| {
            self.settle_waiting(scope, task, |task, event| settle(task, Withdrawn::Task(event)))
        };
        for task in others.into_iter().chain(lingering) {
            settle_task(task);
        }
        self.settle_lines(scope, &self.main, lines, &mut settle_task);
        for (queue, tasks) in in_lanes {
            for task in tasks {
                if !settle_task(task) {
                    queue.uncount_tombstones(1);
                }
            }
        }
        self.withdraw_items(scope, then, |task, items| settle(task, Withdrawn::Items(items)));
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
