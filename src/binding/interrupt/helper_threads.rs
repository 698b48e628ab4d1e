//! The helper threads of one runner, or of all contexts outside of tasks: they make the calls that
//! interrupt.

use super::call::HelperJob;
use crate::binding::context::clock;
use crate::binding::current;
use crate::binding::host::guarded_call;
use crate::binding::host::state::PyHost;
use crate::binding::host::thread::{self, ThreadRole};
use crate::binding::log::{self, Level};
use crate::binding::process;
use crate::engine::Engine;
use crate::engine::task::helper_pool::Helpers;
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;

/// The helpers of all contexts outside of tasks, and the generation of forks that its threads
/// belong to.
static OF_PROCESS: Mutex<Option<(u64, Arc<Helpers<HelperJob>>)>> = Mutex::new(None);

/// Those of all contexts outside of tasks.
pub(super) fn of_process() -> Arc<Helpers<HelperJob>> {
    let forks = process::forks();
    let mut known = OF_PROCESS.lock();
    match &*known {
        Some((of, helpers)) if *of == forks => Arc::clone(helpers),
        _ => {
            let helpers = Arc::new(Helpers::new());
            let former = known.replace((forks, Arc::clone(&helpers)));
            // One that a fork left without its threads: its locks may be held by one of them.
            std::mem::forget(former);
            helpers
        }
    }
}

/// Has a helper listen from now on. `engine`: the one whose tasks it interrupts.
pub(in crate::binding) fn enlist(
    py: Python<'_>,
    helpers: &Arc<Helpers<HelperJob>>,
    engine: Option<&Arc<Engine<PyHost>>>,
) -> Result<(), Py<PyAny>> {
    if helpers.add_user() {
        let helper = Helper { helpers: Arc::clone(helpers), engine: engine.cloned() };
        helper.start(py, true).inspect_err(|_| helpers.remove_user())?;
    }
    Ok(())
}

/// A helper of this engine, or of contexts outside of tasks.
#[derive(Clone)]
struct Helper {
    helpers: Arc<Helpers<HelperJob>>,
    engine: Option<Arc<Engine<PyHost>>>,
}

impl Helper {
    fn host(&self) -> Option<&PyHost> {
        self.engine.as_ref().map(|engine| &engine.host)
    }

    /// Starts the thread of one like this.
    fn start(&self, py: Python<'_>, awaited: bool) -> Result<(), Py<PyAny>> {
        let started = thread::start(py, Box::new(self.clone()), awaited);
        let thread = started.inspect_err(|_| self.helpers.not_started())?;
        match self.host() {
            Some(host) => host.add_thread(py, thread),
            None => guarded_call::release(py, thread),
        }
        Ok(())
    }

    fn help(&self, py: Python<'_>) {
        let (host, logger) = (self.host(), PyHost::logger_of(self.host()));
        let now = clock::now(py);
        while let Some(job) = py.detach(|| self.helpers.next(now)) {
            match job {
                HelperJob::Make(call) => {
                    self.have_another_listen(py);
                    call.make(py, host.map(|host| &host.hooks), logger);
                    call.let_go(py);
                }
                HelperJob::Due(call) => {
                    if let Some(call) = call.upgrade() {
                        call.want();
                    }
                }
                HelperJob::Slow(call) => {
                    // The log's handlers are the user's, too.
                    self.have_another_listen(py);
                    call.report_slow(py, logger);
                    call.let_go(py);
                }
            }
            self.helpers.done();
        }
    }

    /// Before something of the user's is called, which may never return.
    fn have_another_listen(&self, py: Python<'_>) {
        if !self.helpers.reserve() {
            return;
        }
        if let Err(fault) = self.start(py, false) {
            // An interpreter that ends starts no thread, and that is no news.
            if !process::is_exiting() {
                let text =
                    "no thread could be started for another on_cancel; it waits for the one before";
                let logger = PyHost::logger_of(self.host());
                log::say(py, logger, Level::Warning, text, None, Some(&fault));
            }
            guarded_call::release(py, fault);
        }
    }
}

impl ThreadRole for Helper {
    fn name(&self) -> String {
        // Not the default name of a runner: it would look like a thread that one left behind.
        let name = self.engine.as_ref().map_or("context", |engine| engine.settings.name.as_str());
        format!("{name}-canceller")
    }

    fn live(self: Box<Self>, py: Python<'_>) {
        match &self.engine {
            Some(engine) => current::live_for(py, engine, || self.help(py)),
            None => self.help(py),
        }
    }

    fn fail(self: Box<Self>, py: Python<'_>, fault: Py<PyAny>) {
        guarded_call::release(py, fault);
        self.helpers.not_started();
    }
}
