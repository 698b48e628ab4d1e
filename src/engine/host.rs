//! What the engine needs of the world around it: to wait, and to look after tasks that do not run.
//!
//! The binding implements it with Python in it; the engine's own tests implement it without. The
//! engine holds no lock when it calls a verb, and calls it on the thread that the verb's
//! documentation names. What else the engine needs stands where its words do: [`ResourceManager`],
//! [`Threads`](super::scaling::threads::Threads), and
//! [`Attempts`](super::worker::attempt::Attempts) of tasks.

use super::metrics::events::EventKind;
use super::queue::accumulator::Accumulator;
use super::queue::serial_lines::EndedLine;
use super::resource::backoff::Trouble;
use super::resource::manager::ResourceManager;
use super::task::TaskWord;
use super::task::item_cursor::ItemCursor;
use super::task::key::KeyNumber;
use crate::sync::Arc;
use std::ops::Range;

/// See the module's documentation.
pub trait Host: ResourceManager {
    /// A handle on a task, at most 16 bytes. The payload lives behind it, beside its [`TaskWord`].
    type Task: Send + Sync;

    /// What is told of an attempt that another follows.
    type Retry;

    /// Runs `wait` so that it holds up no other thread while it blocks. `wait` touches no object of
    /// the host's.
    fn park<R: Send>(&self, scope: Self::Scope<'_>, wait: impl FnOnce() -> R + Send) -> R;

    /// The word in which the task's state is kept.
    fn word<'t>(&self, task: &'t Self::Task) -> &'t TaskWord;

    /// The number of the task's key, which never changes. A host without keys has nothing to do
    /// here.
    fn key(&self, task: &Self::Task) -> KeyNumber {
        let _ = task;
        KeyNumber::NONE
    }

    /// No task is left of a key whose tasks run one after the other. A host without such keys has
    /// nothing to do here.
    fn line_ended(&self, scope: Self::Scope<'_>, line: EndedLine) {
        let _ = (scope, line);
    }

    /// Another handle on the same task.
    fn share(&self, scope: Self::Scope<'_>, task: &Self::Task) -> Self::Task;

    /// Drops a handle.
    fn discard(&self, scope: Self::Scope<'_>, task: Self::Task);

    /// The items of a batch; `None` for a task. A host without batches has nothing to do here.
    fn cursor<'t>(&self, task: &'t Self::Task) -> Option<&'t ItemCursor> {
        let _ = task;
        None
    }

    /// Where a task waits for others to run in one call with it, if it is [`JOINT`]. It is asked for
    /// as long as the caller owns the payload, and stays where it is meanwhile. A host without such
    /// tasks has nothing to do here.
    ///
    /// [`JOINT`]: super::task::JOINT
    fn accumulator<'t>(&self, task: &'t Self::Task) -> Option<&'t Arc<Accumulator<Self::Task>>> {
        let _ = task;
        None
    }

    /// Publishes the refusal of items that will not run. The engine has claimed and counted them.
    fn abandon_items(
        &self,
        scope: Self::Scope<'_>,
        task: &Self::Task,
        items: Range<usize>,
        why: AbandonReason,
    ) {
        let _ = (scope, task, items, why);
    }

    /// Publishes the refusal of a task that will not run (any more), and drops its payload. The
    /// engine has taken the outcome and counted it as this `event`.
    fn abandon(
        &self,
        scope: Self::Scope<'_>,
        task: &Self::Task,
        why: AbandonReason,
        event: EventKind,
    );

    /// Publishes how many resources a renewal has renewed; `None`: the runner is closing. `waiter`
    /// came with [`Engine::renew_all`](super::engine::Engine::renew_all). A host that waits for no
    /// renewal has nothing to do here.
    fn renewed(&self, scope: Self::Scope<'_>, waiter: Self::Task, renewed: Option<usize>) {
        let _ = renewed;
        self.discard(scope, waiter);
    }

    /// Ends a task that timed out, waiting or running.
    fn expire(&self, scope: Self::Scope<'_>, task: &Self::Task);

    /// Every submitter is refused from here on, those that wait for room too. The last that the
    /// thread that closes does, with nothing of the engine in hand: what is called here may
    /// take long. A host that tells nobody of refusals has nothing to do here.
    fn closed(&self) {}

    /// Lets the user know.
    fn notice(&self, scope: Self::Scope<'_>, notice: Notice<'_, Self::Fault>);

    /// Nothing is left of the engine: no worker, no task. The engine may call it more than once,
    /// and on any thread.
    fn ended(&self) {}
}

/// What the user is to know of, by the log or by the errors of tasks.
#[derive(Debug)]
pub enum Notice<'n, F> {
    /// Creation began to fail on this worker, still fails, or works again.
    Trouble(&'n str, Trouble, Option<&'n F>),
    /// A task overran its limit, and no substitute could be started for this worker, which runs it.
    Overdue(&'n str),
    /// Tasks fail from now on until a resource can be made.
    FailsFast,
    /// No thread could be started for a worker beyond the first ones.
    NoThread(F),
    /// The last creation error, for tasks that time out meanwhile and for the last drain.
    Fault(F),
}

/// Why a task will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbandonReason {
    /// The runner was killed.
    Killed,
    /// The runner is closing and no worker with a resource is left.
    NoWorker,
    /// No worker has a resource, and none could be made for long enough.
    FailsFast,
    /// The runner broke.
    Broken,
}
