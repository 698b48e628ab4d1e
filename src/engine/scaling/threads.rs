//! A worker on its way to a thread, and what the engine asks of the world around it to start one.

use crate::engine::engine::Engine;
use crate::engine::host::{Host, Notice};
use crate::engine::resource::epochs::{self, FailureEpoch};
use crate::engine::roster::shared::WorkerShared;
use crate::engine::roster::startup_latch::StartupStatus;
use crate::sync::Arc;
use std::cell::Cell;

/// See the module's documentation.
pub trait Threads: Host {
    /// Starts an OS thread that calls [`Worker::run`].
    ///
    /// # Errors
    ///
    /// Why no thread could be started; `worker` has been dropped then.
    fn spawn(&self, scope: Self::Scope<'_>, worker: Worker<Self>) -> Result<(), Self::Fault>;

    /// Starts the keeper's thread, which calls [`Engine::run_keeper`].
    ///
    /// # Errors
    ///
    /// Why no thread could be started.
    fn spawn_keeper(
        &self,
        scope: Self::Scope<'_>,
        engine: &Arc<Engine<Self>>,
    ) -> Result<(), Self::Fault>;

    /// Looks at the engine, and tells the user what is wrong with it. Called on the keeper's thread
    /// every [`look_interval`](crate::engine::settings::EngineSettings::look_interval) while tasks
    /// are under way. A host that tells nobody has nothing to do here.
    fn look(&self, scope: Self::Scope<'_>, engine: &Arc<Engine<Self>>) {
        let _ = (scope, engine);
    }
}

/// A worker, to be run on a thread of its own. Dropping it before it ran gives its slot back.
pub struct Worker<H: Host> {
    pub(in crate::engine) engine: Arc<Engine<H>>,
    pub(in crate::engine) shared: Arc<WorkerShared<H::Task>>,
    /// The constructor waits for the first resource, and takes its failure as final.
    pub(in crate::engine) at_startup: bool,
    /// The failure of the last retry that it queued: it comes back for it with a new resource.
    pub(in crate::engine) retry_epoch: Cell<FailureEpoch>,
    /// Its slot has been given back, or is not this process's.
    pub(in crate::engine) left: bool,
}

impl<H: Host> Worker<H> {
    pub(in crate::engine) fn new(
        engine: Arc<Engine<H>>,
        shared: Arc<WorkerShared<H::Task>>,
        at_startup: bool,
    ) -> Self {
        Self { engine, shared, at_startup, retry_epoch: Cell::new(epochs::NO_FAILURE), left: false }
    }

    /// The worker.
    pub fn shared(&self) -> &Arc<WorkerShared<H::Task>> {
        &self.shared
    }

    /// The engine it works for.
    pub fn engine(&self) -> &Arc<Engine<H>> {
        &self.engine
    }

    /// Ends it before it ran: its thread ended before it came up. Called on that thread, once the
    /// thread that called `spawn` waits for it no longer, and so does not see to what follows.
    pub fn fail(self, scope: H::Scope<'_>, fault: H::Fault) {
        let engine = Arc::clone(&self.engine);
        let (kind, at_startup) = (self.shared.kind(), self.at_startup);
        if !at_startup {
            engine.host.notice(scope, Notice::NoThread(fault));
        } else if let Some(late) = engine.startup.fail(fault, StartupStatus::NoThread) {
            engine.host.notice(scope, Notice::Fault(late));
        }
        let held_open = engine.roster.hold_open();
        // Its slot is given back.
        drop(self);
        engine.lost_worker(scope, kind);
        drop(held_open);
        engine.finish_if_over();
    }
}

impl<H: Host> Drop for Worker<H> {
    fn drop(&mut self) {
        if !self.left {
            // It never ran: no thread could be started. Or our own loop panicked: it is not
            // known what it left undone, so the runner is broken.
            self.engine.release_failed(&self.shared);
        }
    }
}
