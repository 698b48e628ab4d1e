//! The threads of an engine's workers and of its keeper.

use super::stacks;
use super::state::{PyHost, release_if_over};
use super::thread::{self, ThreadRole};
use crate::binding::current;
use crate::binding::diagnosis;
use crate::binding::host::guarded_call;
use crate::engine::Engine;
use crate::engine::scaling::threads::{Threads, Worker};
use crate::sync::Arc;
use pyo3::prelude::*;

impl ThreadRole for Worker<PyHost> {
    fn name(&self) -> String {
        self.shared().name().to_owned()
    }

    fn live(self: Box<Self>, py: Python<'_>) {
        let (engine, shared) = (Arc::clone(self.engine()), Arc::clone(self.shared()));
        engine.host.has_threads();
        let _noted = stacks::note_worker(py, &shared);
        current::live_for(py, &engine, || self.run(py));
        engine.host.tell_refusals(py);
        release_if_over(py, &engine);
    }

    fn fail(self: Box<Self>, py: Python<'_>, fault: Py<PyAny>) {
        let engine = Arc::clone(self.engine());
        current::on_behalf(&engine, || Self::fail(*self, py, fault));
        release_if_over(py, &engine);
    }
}

/// What keeps an engine's deadlines and counts.
struct Keeper(Arc<Engine<PyHost>>);

impl ThreadRole for Keeper {
    fn name(&self) -> String {
        format!("{}-keeper", self.0.settings.name)
    }

    fn live(self: Box<Self>, py: Python<'_>) {
        current::live_for(py, &self.0, || self.0.run_keeper(py));
    }

    fn fail(self: Box<Self>, py: Python<'_>, fault: Py<PyAny>) {
        guarded_call::release(py, fault);
        self.0.lost_keeper(py);
    }
}

impl Threads for PyHost {
    fn spawn(&self, py: Python<'_>, worker: Worker<Self>) -> Result<(), Py<PyAny>> {
        self.add_thread(py, thread::start(py, Box::new(worker), self.standard)?);
        Ok(())
    }

    fn spawn_keeper(&self, py: Python<'_>, engine: &Arc<Engine<Self>>) -> Result<(), Py<PyAny>> {
        // It has come up when this returns: one that did not would be missed by no other thread.
        self.add_thread(py, thread::start(py, Box::new(Keeper(Arc::clone(engine))), true)?);
        Ok(())
    }

    fn look(&self, py: Python<'_>, engine: &Arc<Engine<Self>>) {
        diagnosis::log(py, engine);
    }
}
