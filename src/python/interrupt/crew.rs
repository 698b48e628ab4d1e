//! The helper threads of one runner, or of all contexts outside of tasks.

use super::{Call, SLOW};
use crate::engine::Engine;
use crate::engine::clock::ticks;
use crate::engine::task::helpers::{Helpers, Key};
use crate::python::context::now;
use crate::python::exit;
use crate::python::host::door;
use crate::python::host::{PyHost, thread};
use crate::python::log::{self, Level};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;

/// What a helper is asked for.
pub(in crate::python) enum Job {
    /// To make a call.
    Make(Arc<Call>),
    /// The deadline of a call's context has passed.
    Due(Weak<Call>),
    /// A call has been under way for long.
    Slow(Arc<Call>),
}

/// See the module's documentation.
pub(in crate::python) struct Crew {
    pub(super) helpers: Helpers<Job>,
}

/// The crew of all contexts outside of tasks, and the generation of forks that its threads belong to.
static PROCESS: Mutex<Option<(u64, Arc<Crew>)>> = Mutex::new(None);

impl Crew {
    pub(in crate::python) fn new() -> Arc<Self> {
        Arc::new(Self { helpers: Helpers::new() })
    }

    /// The one of all contexts outside of tasks.
    pub(super) fn of_process() -> Arc<Self> {
        let forks = exit::forks();
        let mut process = PROCESS.lock();
        match &*process {
            Some((of, crew)) if *of == forks => Arc::clone(crew),
            _ => {
                let crew = Self::new();
                let former = process.replace((forks, Arc::clone(&crew)));
                // One that a fork left without its threads: its locks may be held by one of them.
                std::mem::forget(former);
                crew
            }
        }
    }

    /// Has a helper listen from now on. `engine`: the one whose tasks it interrupts.
    pub(in crate::python) fn enlist(
        self: &Arc<Self>,
        py: Python<'_>,
        engine: Option<&Arc<Engine<PyHost>>>,
    ) -> Result<(), Py<PyAny>> {
        if self.helpers.enlist() {
            self.start(py, engine, true).inspect_err(|_| self.helpers.retire())?;
        }
        Ok(())
    }

    fn start(
        self: &Arc<Self>,
        py: Python<'_>,
        engine: Option<&Arc<Engine<PyHost>>>,
        awaited: bool,
    ) -> Result<(), Py<PyAny>> {
        let started = thread::start_helper(py, Arc::clone(self), engine.cloned(), awaited);
        let thread = started.inspect_err(|_| self.helpers.not_started())?;
        match engine {
            Some(engine) => engine.host.add_thread(py, thread),
            None => door::release(py, thread),
        }
        Ok(())
    }

    /// A helper's thread ended before it came up.
    pub(in crate::python) fn lost_helper(&self) {
        self.helpers.not_started();
    }

    /// A helper's life.
    pub(in crate::python) fn help(
        self: &Arc<Self>,
        py: Python<'_>,
        engine: Option<&Arc<Engine<PyHost>>>,
    ) {
        let host = engine.map(|engine| &engine.host);
        let time = now(py);
        while let Some(job) = py.detach(|| self.helpers.next(time)) {
            match job {
                Job::Make(call) => {
                    self.have_another_listen(py, engine);
                    call.make(py, host);
                }
                Job::Due(call) => {
                    if let Some(call) = call.upgrade() {
                        call.want();
                    }
                }
                Job::Slow(call) => {
                    // The log's handlers are the user's, too.
                    self.have_another_listen(py, engine);
                    call.report_slow(py, host);
                }
            }
            self.helpers.done();
        }
    }

    /// Before something of the user's is called, which may never return.
    fn have_another_listen(self: &Arc<Self>, py: Python<'_>, engine: Option<&Arc<Engine<PyHost>>>) {
        if !self.helpers.reserve() {
            return;
        }
        if let Err(fault) = self.start(py, engine, false) {
            // An interpreter that ends starts no thread, and that is no news.
            if !exit::is_exiting() {
                let text =
                    "no thread could be started for another on_cancel; it waits for the one before";
                let host = engine.map(|engine| &engine.host);
                log::say(py, host, Level::Warning, text, None, Some(&fault));
            }
            door::release(py, fault);
        }
    }

    /// Lets the helpers go.
    pub(in crate::python) fn close(&self) {
        self.helpers.close();
    }

    /// Has it logged if a call takes long.
    pub(super) fn watch(&self, py: Python<'_>, call: &Arc<Call>) -> Key {
        let due = now(py)().saturating_add(ticks(SLOW));
        self.helpers.put_later(due, Job::Slow(Arc::clone(call)))
    }

    pub(super) fn unwatch(&self, watch: Key) {
        drop(self.helpers.take_back(watch));
    }
}
