//! Tasks that run one after the other by key: how they come into their line, and what the end of one
//! does for the next.
//!
//! Whoever ends a task that waits takes it out of its line; a task that a worker has claimed is taken
//! out by that worker when the function has returned, whoever has decided the outcome before. The same
//! thread gives the next one its entry.

use super::clock::Tick;
use super::engine::Engine;
use super::host::Host;
use super::queue::serial_lines::{Added, Departure, Left, Place, SerialLines};
use super::queue::{Admitted, Queue};
use super::task::key::KeyNumber;
use super::task::priority::Priority;
use super::task::{IN_LINE, TaskWord};

impl<H: Host> Engine<H> {
    /// Puts a task that is being accepted into its line. Only a head gets an entry.
    #[cold]
    pub(super) fn line_up(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        since: Tick,
    ) -> Admitted<H::Task> {
        let (host, main) = (&self.host, &self.main);
        let Some(line) = host.key(&task).line() else {
            return Admitted::Queued(task);
        };
        let added = main.serial_lines.add(
            line,
            task,
            since,
            |task| host.word(task),
            |task| host.share(scope, task),
        );
        match added {
            Added::Head(task) => return Admitted::Queued(task),
            Added::Follower(None) => {}
            Added::Follower(Some(raise)) => {
                if let Some(task) = main.raise(raise, |task| host.word(task)) {
                    host.discard(scope, task);
                }
            }
            // Whoever ended it has counted that.
            Added::Gone(task) => host.discard(scope, task),
        }
        Admitted::Lingers
    }

    /// The lines of keys, for the host's submitters.
    pub fn serial_lines(&self) -> &SerialLines<H::Task> {
        &self.main.serial_lines
    }

    /// Where a task stands that has not started.
    pub fn place_in_line(&self, task: &H::Task) -> Place {
        let (host, own) = (&self.host, self.host.word(task));
        match host.key(task).line() {
            Some(line) if own.has(IN_LINE) => {
                self.main.serial_lines.place(line, own, |task| host.word(task))
            }
            _ => Place::Next,
        }
    }

    /// Takes a task with this key and word out of its line that has ended, and gives the next one its
    /// entry; `looks_next`: as in [`Queue::push_head`]. `None`: it is in no line.
    pub(super) fn leave_line(
        &self,
        scope: H::Scope<'_>,
        key: KeyNumber,
        word: &TaskWord,
        looks_next: bool,
    ) -> Option<Departure> {
        if !word.has(IN_LINE) {
            return None;
        }
        let (host, main) = (&self.host, &self.main);
        let share = |task: &H::Task| host.share(scope, task);
        let left = main.serial_lines.leave(key.line()?, word, |task| host.word(task), share);
        let Left { lane, next, dead, ended } = left?;
        let has_next = next.is_some();
        if let Some((lane, next, since)) = next {
            main.push_head((lane, key), next, since, looks_next);
        } else {
            // Perhaps the last that workers waited for.
            main.retry_left();
        }
        for task in dead {
            host.discard(scope, task);
        }
        if let Some(line) = ended {
            host.line_ended(scope, line);
        }
        Some(Departure { lane, has_next })
    }

    /// Settles what waits in lines, and has waited since then or longer; `settle` is false for what was
    /// settled before. Of each line it is given the tasks in their order.
    pub(super) fn settle_lines(
        &self,
        scope: H::Scope<'_>,
        queue: &Queue<H::Task>,
        tasks: Vec<(H::Task, bool)>,
        mut settle: impl FnMut(H::Task) -> bool,
    ) {
        for (task, is_head) in tasks {
            if settle(task) && is_head {
                self.compact_if_due(scope, queue);
            }
        }
    }

    /// Takes what waits in the lines of a queue, for [`settle_lines`](Self::settle_lines).
    pub(super) fn take_lines(
        &self,
        scope: H::Scope<'_>,
        queue: &Queue<H::Task>,
        then: Tick,
    ) -> Vec<(H::Task, bool)> {
        let host = &self.host;
        queue.serial_lines.take_since(then, |task| host.word(task), |task| host.share(scope, task))
    }

    /// The lane in which a task is to wait for its next attempt.
    pub(super) fn lane_again(&self, task: &H::Task) -> Priority {
        let word = self.host.word(task);
        match self.host.key(task).line() {
            Some(line) if word.has(IN_LINE) => self.main.serial_lines.again(line, word),
            _ => word.priority(),
        }
    }
}
