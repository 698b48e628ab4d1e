//! Takes back all that waits, for a runner that goes on.

use super::Engine;
use super::clock::Tick;
use super::host::Host;
use super::queue::Queue;
use super::queue::lanes::Class;
use super::task::Taken;
use std::ops::Range;

/// What was taken back, for its outcome to be given by the caller.
#[derive(Debug)]
pub enum Withdrawn {
    /// A task that never started, and is booked as dropped.
    Fresh,
    /// A task that waited for a retry, and is booked as failed.
    Retrying,
    /// Items of a batch that never started, and are booked as dropped.
    Items(Range<usize>),
}

impl<H: Host> Engine<H> {
    /// Takes back every task that waits now, of all queues, and has `settle` give it its outcome. What was submitted
    /// after the call began is not touched: neither what others submit, nor what `settle` makes room for.
    pub fn withdraw_waiting(
        &self,
        scope: H::Scope<'_>,
        mut settle: impl FnMut(&H::Task, Withdrawn),
    ) {
        let now = self.clock.now();
        // All of it first: what is settled may have something new submitted.
        let calls = self.loans.waiting(|task| self.host.share(scope, task), now);
        let queues = [&self.main, &self.express];
        let taken_out = queues.map(|queue| (queue, self.take_out(queue, now)));
        for task in calls {
            self.withdraw(scope, task, &mut settle);
        }
        for (queue, tasks) in taken_out {
            for task in tasks {
                if !self.withdraw(scope, task, &mut settle) {
                    queue.unbury(1);
                }
            }
        }
        self.withdraw_items(scope, now, |task, items| settle(task, Withdrawn::Items(items)));
    }

    /// False when a worker has started it, or another thread settled it.
    fn withdraw(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        settle: &mut impl FnMut(&H::Task, Withdrawn),
    ) -> bool {
        let word = self.host.word(&task);
        let taken = word.withdraw();
        if let Some(taken) = taken {
            let first = taken == Taken::Fresh;
            self.queue_of(word).withdrawn(word, first);
            self.book_refusal(first);
            settle(&task, if first { Withdrawn::Fresh } else { Withdrawn::Retrying });
        }
        self.host.discard(scope, task);
        taken.is_some()
    }

    /// Takes the entries out of a queue that have waited since then or longer. Those of batches stay: their items are
    /// found elsewhere.
    fn take_out(&self, queue: &Queue<H::Task>, then: Tick) -> Vec<H::Task> {
        let stays = |task: &H::Task, since| since > then || self.host.deal(task).is_some();
        let mut tasks = Vec::new();
        for class in Class::ALL.into_iter().rev() {
            tasks.extend(queue.sift_retries(class, stays));
        }
        tasks.extend(Self::sift(queue, stays));
        tasks
    }
}
