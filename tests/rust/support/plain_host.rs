//! The plainest host there is, for the races that loom explores and for the benchmarks: a resource
//! is nothing, and a task knows what it does. The file that includes this one has `engine`, `Arc`
//! and `spawn` in scope: loom's, or std's.

use super::engine::host::{AbandonReason, Host, Notice};
use super::engine::metrics::events::EventKind;
use super::engine::queue::accumulator::Accumulator;
use super::engine::resource::manager::ResourceManager;
use super::engine::scaling::threads::{Threads, Worker};
use super::engine::task::TaskWord;
use super::engine::task::deadlines::DeadlineKey;
use super::engine::task::key::KeyNumber;
use super::engine::task::token::Token;
use super::engine::worker::attempt::{Attempts, JointRan, Ran, Verdict};
use super::engine::worker::session::WorkerSession;
use super::{Arc, engine, spawn};

/// What a task of the plain host is.
pub(super) trait PlainTask: Send + Sync + Sized + 'static {
    /// Its life.
    fn word(&self) -> &TaskWord;

    /// What it does. False: it fails, as its resource went bad.
    fn work(&self, session: &WorkerSession<'_, PlainHost<Self>>) -> bool;

    /// What it says of the resource when it fails.
    fn verdict(&self) -> Verdict {
        Verdict::Bad { retry: true }
    }

    /// Publishes the outcome that the caller took.
    fn publish(&self);

    /// The number of its key.
    fn key(&self) -> KeyNumber {
        KeyNumber::NONE
    }

    /// Where it waits for others to run in one call with it.
    fn accumulator(&self) -> Option<&Arc<Accumulator<Arc<Self>>>> {
        None
    }
}

/// A host of nothing but threads.
pub(super) struct PlainHost<J> {
    on_create: Box<dyn Fn() + Send + Sync>,
    /// Asked before each resource is made: whether it can be.
    pub(super) can_create: Box<dyn Fn() -> bool + Send + Sync>,
    /// Asked on each worker's thread: whether it comes up.
    pub(super) comes_up: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether there is a thread that watches: most tests need none.
    pub(super) has_keeper: bool,
    /// The tasks that are kept with loans: most tests need none.
    pub(super) spare_task: Box<dyn Fn() -> Option<Arc<J>> + Send + Sync>,
}

impl<J> PlainHost<J> {
    /// `on_create` is called before each resource is made.
    pub(super) fn new(on_create: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            on_create: Box::new(on_create),
            can_create: Box::new(|| true),
            comes_up: Box::new(|| true),
            has_keeper: false,
            spare_task: Box::new(|| None),
        }
    }
}

impl<J: PlainTask> ResourceManager for PlainHost<J> {
    type Scope<'s> = ();
    type Resource = ();
    type Fault = ();

    fn create(&self, (): (), _: &str) -> Result<(), ()> {
        (self.on_create)();
        if (self.can_create)() { Ok(()) } else { Err(()) }
    }

    fn bad_from_the_start(&self, (): ()) {}

    fn destroy(&self, (): (), _: &str, (): ()) {}
}

impl<J: PlainTask> Host for PlainHost<J> {
    type Task = Arc<J>;
    type Retry = ();

    fn park<R: Send>(&self, (): (), wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn word<'t>(&self, task: &'t Arc<J>) -> &'t TaskWord {
        task.as_ref().word()
    }

    fn key(&self, task: &Arc<J>) -> KeyNumber {
        task.as_ref().key()
    }

    fn share(&self, (): (), task: &Arc<J>) -> Arc<J> {
        Arc::clone(task)
    }

    fn discard(&self, (): (), task: Arc<J>) {
        drop(task);
    }

    fn accumulator<'t>(&self, task: &'t Arc<J>) -> Option<&'t Arc<Accumulator<Arc<J>>>> {
        task.as_ref().accumulator()
    }

    fn abandon(&self, (): (), task: &Arc<J>, _: AbandonReason, _: EventKind) {
        task.publish();
    }

    fn renewed(&self, (): (), waiter: Arc<J>, _: Option<usize>) {
        if waiter.as_ref().word().settle_by_hand().is_some() {
            waiter.publish();
        }
    }

    fn expire(&self, (): (), _: &Arc<J>) {}

    fn notice(&self, (): (), _: Notice<'_, ()>) {}
}

impl<J: PlainTask> Threads for PlainHost<J> {
    fn spawn(&self, (): (), worker: Worker<Self>) -> Result<(), ()> {
        drop(spawn(move || {
            if (worker.engine().host.comes_up)() {
                worker.run(());
            } else {
                worker.fail((), ());
            }
        }));
        Ok(())
    }

    fn spawn_keeper(&self, (): (), engine: &Arc<engine::Engine<Self>>) -> Result<(), ()> {
        if self.has_keeper {
            let engine = Arc::clone(engine);
            drop(spawn(move || engine.run_keeper(())));
        }
        Ok(())
    }
}

impl<J: PlainTask> Attempts for PlainHost<J> {
    fn spare_task(&self, (): ()) -> Option<Arc<J>> {
        (self.spare_task)()
    }

    fn run(&self, (): (), session: &WorkerSession<'_, Self>, task: &Arc<J>) -> Ran {
        if !task.work(session) {
            return Ran::Suspect;
        }
        if !task.as_ref().word().settle_running() {
            return Ran::Overdue;
        }
        session.count_outcome(true);
        task.publish();
        Ran::Completed
    }

    fn run_joint(
        &self,
        (): (),
        session: &WorkerSession<'_, Self>,
        tasks: &[Arc<J>],
        _: &Token,
    ) -> JointRan {
        let failed = tasks.iter().filter(|task| !task.work(session)).count();
        if failed > 0 {
            return JointRan::Failed { is_suspect: true };
        }
        session.joint_call_ended();
        let completed = tasks.iter().filter(|task| {
            let taken = session.take_joint_outcome(task.as_ref().word(), true);
            if taken {
                task.publish();
            }
            taken
        });
        JointRan::Returned { completed: completed.count() as u64 }
    }

    fn judge(&self, (): (), _: &WorkerSession<'_, Self>, task: &Arc<J>) -> Verdict {
        task.verdict()
    }

    fn prepare_retry(&self, (): (), _: &Arc<J>, _: Option<DeadlineKey>) {}

    fn fail(&self, (): (), _: &WorkerSession<'_, Self>, task: &Arc<J>) {
        task.publish();
    }

    fn forget(&self, (): (), _: &Arc<J>) {}
}
