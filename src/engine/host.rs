//! What the engine asks of the world around it: threads, resources, and the tasks themselves.
//!
//! The binding implements it with Python in it; the engine's own tests implement it without. The engine
//! holds no lock when it calls a verb, and calls them on the thread that the verb's documentation names.

use super::resource::backoff::Trouble;
use super::task::TaskWord;
use super::task::batch::{Deal, Stride};
use super::worker::Life;
use super::worker::badge::Badge;
use super::worker::desk::Desk;
use crate::sync::Arc;
use std::ops::Range;

/// See the module's documentation.
pub trait Host: Send + Sync + Sized + 'static {
    /// Proof of being where the host's objects may be used: `Python<'s>` in the binding, `()` in tests.
    type Scope<'s>: Copy;
    /// A handle on a task, at most 16 bytes. The payload lives behind it, beside its [`TaskWord`].
    type Task: Send;
    /// What a worker owns. It stays on its thread but for loans (see [`loans`](super::worker::loans)).
    type Resource: Send;
    /// Why a resource could not be made, or a thread not started.
    type Fault: Send;

    /// Runs `wait` so that nobody else is held up while it blocks. It touches no object of the host's.
    fn park<R: Send>(&self, scope: Self::Scope<'_>, wait: impl FnOnce() -> R + Send) -> R;

    /// Starts an OS thread that calls [`Life::live`].
    ///
    /// # Errors
    ///
    /// Why no thread could be started; `life` has been dropped then.
    fn spawn(&self, scope: Self::Scope<'_>, life: Life<Self>) -> Result<(), Self::Fault>;

    /// Makes a resource, on the thread of the worker that will use it.
    ///
    /// # Errors
    ///
    /// Why it could not be made.
    fn create(
        &self,
        scope: Self::Scope<'_>,
        badge: &Badge<Self>,
    ) -> Result<Self::Resource, Self::Fault>;

    /// Makes a resource and looks at it as [`validate`](Self::validate) does; one that is bad has been cleaned up.
    /// By default it is `create`, for a host that finds none bad.
    ///
    /// # Errors
    ///
    /// Why it could not be made, or that it was bad.
    fn create_valid(
        &self,
        scope: Self::Scope<'_>,
        badge: &Badge<Self>,
    ) -> Result<Self::Resource, Self::Fault> {
        self.create(scope, badge)
    }

    /// Cleans a resource up, once, on the thread that made it. Failures are the host's to report.
    fn destroy(&self, scope: Self::Scope<'_>, badge: &Badge<Self>, resource: Self::Resource);

    /// Looks at a resource that has been idle for long, before its next use. False: it is bad.
    fn validate(
        &self,
        scope: Self::Scope<'_>,
        badge: &Badge<Self>,
        resource: &Self::Resource,
    ) -> bool {
        let _ = (scope, badge, resource);
        true
    }

    /// Tidies a resource up after a task, whose outcome has been delivered. False: it is bad.
    fn reset(
        &self,
        scope: Self::Scope<'_>,
        badge: &Badge<Self>,
        resource: &Self::Resource,
    ) -> bool {
        let _ = (scope, badge, resource);
        true
    }

    /// The task's life.
    fn word<'t>(&self, task: &'t Self::Task) -> &'t TaskWord;

    /// Another handle on the same task.
    fn share(&self, scope: Self::Scope<'_>, task: &Self::Task) -> Self::Task;

    /// Runs a claimed task on the desk's resource, and delivers its outcome unless it asks for judgement.
    /// It takes the outcome with [`TaskWord::settle_running`], calls [`Desk::delivered`], and publishes.
    fn run(&self, scope: Self::Scope<'_>, desk: &Desk<'_, Self>, task: &Self::Task) -> Ran;

    /// The items of a batch; `None` for a task. A host without batches has nothing to do here.
    fn deal<'t>(&self, task: &'t Self::Task) -> Option<&'t Deal> {
        let _ = task;
        None
    }

    /// Runs a stride of items of a batch, each from [`Desk::start_item`] to its outcome, until that starts no more.
    /// It may end earlier, and does so after an item that had to be judged.
    fn run_items(
        &self,
        scope: Self::Scope<'_>,
        desk: &Desk<'_, Self>,
        task: &Self::Task,
        stride: &Stride,
    ) {
        let _ = (scope, desk, task, stride);
    }

    /// Publishes the refusal of items that will not run. The engine has claimed and booked them.
    fn refuse_items(
        &self,
        scope: Self::Scope<'_>,
        task: &Self::Task,
        items: Range<usize>,
        why: Refusal,
    ) {
        let _ = (scope, task, items, why);
    }

    /// Asks whether the error a task ended with means that the resource went bad.
    fn judge(&self, scope: Self::Scope<'_>, desk: &Desk<'_, Self>, task: &Self::Task) -> Verdict;

    /// Puts the payload of a judged task back; the engine moves the word and queues the task after this.
    fn prepare_retry(&self, scope: Self::Scope<'_>, task: &Self::Task);

    /// Publishes the error that a judged task ended with, and drops its payload. The engine has taken the
    /// outcome and booked it.
    fn fail(&self, scope: Self::Scope<'_>, desk: &Desk<'_, Self>, task: &Self::Task);

    /// Publishes the refusal of a task that will not run (any more), and drops its payload. The engine has
    /// taken the outcome and booked it.
    fn refuse(&self, scope: Self::Scope<'_>, task: &Self::Task, why: Refusal);

    /// Drops the payload of a claimed task that does not run (any more), and whose outcome somebody else
    /// decided meanwhile.
    fn forget(&self, scope: Self::Scope<'_>, task: &Self::Task);

    /// Ends a task whose time limit passed, waiting or running.
    fn expire(&self, scope: Self::Scope<'_>, task: &Self::Task);

    /// Lets go of a handle.
    fn discard(&self, scope: Self::Scope<'_>, task: Self::Task);

    /// Lets the user know that creation began to fail, still fails, or works again.
    fn report_trouble(
        &self,
        scope: Self::Scope<'_>,
        badge: &Badge<Self>,
        trouble: Trouble,
        fault: Option<&Self::Fault>,
    );

    /// Lets the user know that a task overran its limit and no worker could take its worker's place.
    fn report_overdue(&self, scope: Self::Scope<'_>, badge: &Badge<Self>);

    /// Lets the user know that no thread could be started for a worker beyond the first ones.
    fn report_no_thread(&self, scope: Self::Scope<'_>, fault: Self::Fault) {
        self.keep_fault(scope, fault);
    }

    /// Keeps the last creation error, for tasks whose time runs out meanwhile and for the last drain.
    fn keep_fault(&self, scope: Self::Scope<'_>, fault: Self::Fault);

    /// Starts the keeper's thread, which calls [`Engine::keep`](super::Engine::keep).
    ///
    /// # Errors
    ///
    /// Why no thread could be started.
    fn spawn_keeper(
        &self,
        scope: Self::Scope<'_>,
        engine: &Arc<super::Engine<Self>>,
    ) -> Result<(), Self::Fault>;

    /// Nothing is left of the engine: no worker, no task. May be called more than once, and from anywhere.
    fn ended(&self) {}
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It returned, and its result was delivered.
    Completed,
    /// It failed, and its error was delivered.
    Failed,
    /// Its outcome was decided before it ended (its time limit passed, mostly); what it gave was dropped.
    Late,
    /// It failed; the task holds the error, and the engine asks for judgement.
    Doubtful,
}

/// What a failed task says of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The resource is as good as before.
    Healthy,
    /// The resource went bad; whether the task may be tried again on another one.
    Spoiled {
        /// It has attempts left, and may be entered again.
        retry: bool,
    },
}

/// Why a task will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The runner was killed.
    Killed,
    /// The runner is closing and no worker with a resource is left.
    NoWorker,
    /// The runner broke.
    Broken,
}
