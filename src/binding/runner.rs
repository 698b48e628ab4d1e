//! The native half of `Runner`: its start, its end, and its figures.

use super::context::Context;
use super::current;
use super::diagnosis;
use super::engine_end::{self, dropped_tasks, kill, wait_ended};
use super::engine_handle::{EngineHandle, EngineHandleRef};
use super::error::{self, RunnerStopped};
use super::exit;
use super::figures;
use super::future::Future;
use super::host::exit_guard::ExitGuard;
use super::host::hooks::UserHooks;
use super::host::observed;
use super::host::state::{PyHost, release_if_over};
use super::interrupt::helper_threads;
use super::limit;
use super::log::{self, Level};
use super::options::{Asked, TaskOptions};
use super::printable;
use super::process;
use super::py_imports::PyImports;
use super::runner_name;
use super::start;
use super::survey::{self, stop_timeout};
use super::wait::Limit;
use crate::engine::roster::limits::BelowBase;
use crate::engine::task::priority::Priority;
use crate::engine::task::token::CancelRegistration;
use crate::engine::{Engine, Mode};
use crate::sync::Arc;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

#[doc = doc!(Runner)]
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(super) struct Runner {
    handle: Py<EngineHandle>,
    #[doc = doc!(Runner.config)]
    #[pyo3(get)]
    config: Py<PyAny>,
    /// The engine borrows them from here, so that a runner that its own callables refer to can be
    /// collected.
    hooks: Option<Arc<UserHooks>>,
    /// As those.
    logger: Option<Arc<Py<PyAny>>>,
    /// Options behind the methods with a name of their own.
    pub(super) high: Arc<TaskOptions>,
    pub(super) once: Arc<TaskOptions>,
    pub(super) urgent_once: Arc<TaskOptions>,
    /// Stops the runner when the config's context is cancelled.
    _cancel_registration: Option<CancelRegistration>,
}

impl Runner {
    pub(super) fn handle(&self) -> EngineHandleRef<'_> {
        EngineHandleRef(&self.handle)
    }

    fn engine(&self) -> &Arc<Engine<PyHost>> {
        &self.handle.get().engine
    }
}

#[pymethods]
impl Runner {
    #[new]
    #[pyo3(
        signature = (config = None, *, timeout = None, **settings),
        text_signature = "(config, *, timeout=None)"
    )]
    fn new(
        py: Python<'_>,
        config: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let _exit_guard = ExitGuard::install();
        let imports = PyImports::get(py)?;
        if let Some(settings) = settings {
            imports.refuse_settings.call1(py, (settings.keys(),))?;
        }
        let none = py.None().into_bound(py);
        let config = config.unwrap_or(&none);
        if process::is_exiting() {
            return Err(RunnerStopped::new_err(error::STOPPED));
        }
        imports.check_config.call1(py, (config,))?;
        let timeout = limit::of_call(timeout)?;
        let name = config.getattr("name")?.extract::<Option<Bound<'_, PyString>>>()?;
        let wanted = name.map(|name| printable::name(&name));
        let claim = runner_name::claim(wanted.as_deref(), runner_name::STEM);
        let (host, settings) = start::read(config, &claim.name)?;
        let context: Option<Bound<'_, Context>> = config.getattr("context")?.extract()?;
        let when_full: String = config.getattr("when_full")?.extract()?;
        let engine = Engine::new(host, settings);
        claim.keep_for(&engine);
        let name = &engine.settings.name;
        if let Some(wanted) = wanted.filter(|wanted| wanted != name) {
            let text = format!("{name}: the name {wanted} is taken by another runner");
            log::say(py, &engine.host.logger, Level::Info, &text, None, None);
        }
        let handle = EngineHandle {
            engine: Arc::clone(&engine),
            task_timeout: config.getattr("task_timeout")?.extract()?,
            copy_contextvars: config.getattr("copy_contextvars")?.extract()?,
            raise_when_full: when_full == "raise",
            bare: false,
            group: None,
        };
        let handle = Py::new(py, handle)?;
        let prepare = || {
            if engine.host.given.interrupts {
                helper_threads::enlist(py, &engine.host.helpers, Some(&engine))
                    .map_err(|fault| error::raise(py, fault))?;
            }
            if engine.limits().bursts() {
                engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
            } else if engine.settings.look_interval.is_some() {
                start_looking(py, &engine)?;
            }
            if let Some(left) = context.as_ref().and_then(|context| context.get().left(py)) {
                engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
                engine.stop_at(engine.clock.now().saturating_add(left));
            }
            exit::register(&engine)
        };
        // A helper or keeper that has come up by then leaves.
        prepare().inspect_err(|_| kill(py, &engine))?;
        // The last thing that can fail: whatever it made it also unmakes.
        start::launch(py, &engine, timeout)?;
        let stop = |context: Bound<'_, Context>| {
            start::when_cancelled(context.get().token(), &engine, Engine::begin_stop)
        };
        Ok(Self {
            handle,
            config: config.clone().unbind(),
            hooks: engine.host.hooks.lend(),
            logger: engine.host.logger.lend(),
            high: TaskOptions::plain(Priority::High, false),
            once: TaskOptions::plain(Priority::Normal, true),
            urgent_once: TaskOptions::plain(Priority::High, true),
            _cancel_registration: context.map(stop),
        })
    }

    #[doc = doc!(Runner.name)]
    #[getter]
    fn name(&self) -> &str {
        &self.engine().settings.name
    }

    #[doc = doc!(Runner.state)]
    #[getter]
    fn state(&self) -> &'static str {
        match self.engine().mode() {
            Mode::Running => "running",
            Mode::Stopping => "stopping",
            Mode::Killed => "killed",
            Mode::Stopped => "stopped",
        }
    }

    #[doc = doc!(Runner.stop)]
    #[pyo3(signature = (timeout = None))]
    fn stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _exit_guard = ExitGuard::install();
        let timeout = limit::of_call(timeout)?;
        let engine = self.engine();
        self.handle.get().check_alive_or_ended()?;
        engine.begin_stop();
        if current::works_for(engine) || wait_ended(py, engine, Limit::after(timeout))? {
            return Ok(());
        }
        engine.host.leave_behind();
        Err(stop_timeout(py, engine, "stop", Vec::new())?)
    }

    #[doc = doc!(Runner.kill)]
    #[pyo3(signature = (timeout = None))]
    fn kill(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Py<PyAny>>> {
        let _exit_guard = ExitGuard::install();
        let timeout = limit::of_call(timeout)?;
        let engine = self.engine();
        self.handle.get().check_alive_or_ended()?;
        engine.host.leave_behind();
        kill(py, engine);
        let ended = current::works_for(engine) || wait_ended(py, engine, Limit::after(timeout))?;
        let dropped = dropped_tasks(py, engine.host.take_dropped())?;
        if ended { Ok(dropped) } else { Err(stop_timeout(py, engine, "kill", dropped)?) }
    }

    #[doc = doc!(Runner.cancel_queued)]
    #[pyo3(signature = (reason = None))]
    fn cancel_queued(&self, py: Python<'_>, reason: Option<&str>) -> PyResult<Vec<Py<PyAny>>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_running()?;
        let engine = self.engine();
        // A callback that waits for another task that is dropped would wait for itself.
        let drop = || engine_end::cancel_queued(py, engine, reason);
        dropped_tasks(py, current::on_behalf(engine, drop))
    }

    #[doc = doc!(Runner.stats)]
    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        figures::stats(py, self.engine())
    }

    #[doc = doc!(Runner.metrics)]
    fn metrics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        figures::metrics(py, self.engine(), &self.engine().metrics())
    }

    /// What the integrations show, taken at one moment: the metrics, and durations as counts up to
    /// these edges in seconds, which the package has checked.
    fn _histograms(
        &self,
        py: Python<'_>,
        wait_edges: &Bound<'_, PyAny>,
        run_edges: &Bound<'_, PyAny>,
    ) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        let metrics = self.engine().metrics();
        let histograms = figures::histograms(
            py,
            self.engine(),
            &metrics,
            &wait_edges.extract::<Vec<_>>()?,
            &run_edges.extract::<Vec<_>>()?,
        )?;
        Ok((figures::metrics(py, self.engine(), &metrics)?, histograms))
    }

    /// Puts an observer around attempts, in place of the one that there was; `None`: takes it away.
    fn _observe(&self, py: Python<'_>, observer: Option<Py<PyAny>>) {
        let engine = self.engine();
        // In a child a thread that is gone may hold the lock.
        if !engine.is_left_by_fork() {
            engine.host.observer.replace(py, observer);
            // The runner may have ended, and then nothing else takes it away.
            release_if_over(py, engine);
        }
    }

    /// The observer, if there is one, and the name of tasks of this function.
    fn _observer_of(&self, r#fn: &Bound<'_, PyAny>) -> Option<(Py<PyAny>, String)> {
        let asked = Asked { function: Some(r#fn.as_unbound()), options: None };
        observed::observer_of(r#fn.py(), self.engine(), asked)
    }

    #[doc = doc!(Runner.workers)]
    #[pyo3(signature = (*, stacks = false))]
    fn workers<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = read_stacks)] stacks: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        survey::workers(py, self.engine(), stacks)
    }

    #[doc = doc!(Runner.diagnose)]
    fn diagnose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        diagnosis::diagnose(py, self.engine())
    }

    /// What the rules of `diagnose` look at.
    fn _snapshot(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_alive_or_ended()?;
        diagnosis::snapshot(py, self.engine())
    }

    #[doc = doc!(Runner.submit_many)]
    #[pyo3(signature = (r#fn, iterable, /))]
    fn submit_many(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Py<Future>>> {
        self.handle().submit_many(r#fn, iterable, None)
    }

    #[doc = doc!(Runner.renew)]
    fn renew(&self, py: Python<'_>) -> PyResult<Py<Future>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_running()?;
        let engine = self.engine();
        let future = Future::renewal(py, self.handle.clone_ref(py))?;
        let waiter = future.clone_ref(py);
        // The callbacks of other renewals may be called here.
        current::on_behalf(engine, || engine.renew_all(py, Some(waiter)));
        Ok(future)
    }

    /// Changes what is given, which the package has checked. What is not possible comes back: the
    /// base workers, and a maximum below them.
    fn _resize(
        &self,
        py: Python<'_>,
        worker_count: Option<usize>,
        max_worker_count: Option<usize>,
    ) -> PyResult<Option<BelowBase>> {
        let _exit_guard = ExitGuard::install();
        self.handle.get().check_running()?;
        let engine = self.engine();
        Ok(current::on_behalf(engine, || engine.resize(py, worker_count, max_worker_count)).err())
    }

    #[doc = doc!(Runner.worker_count)]
    #[getter]
    fn worker_count(&self) -> usize {
        self.engine().limits().workers()
    }

    #[doc = doc!(Runner.max_worker_count)]
    #[getter]
    fn max_worker_count(&self) -> usize {
        self.engine().limits().max()
    }

    /// The last reference is going, or the collector ends it: what is accepted is finished all the
    /// same.
    fn _let_go(&self, py: Python<'_>) {
        engine_end::let_go(py, self.engine());
    }

    /// How many base and burst workers there are, for the runner's text: unlike `stats` it never
    /// fails.
    fn _worker_count(&self) -> usize {
        let engine = self.engine();
        if engine.is_broken() {
            return 0;
        }
        let counts = engine.stats().workers;
        counts.base + counts.burst
    }

    /// Whether this thread works for the runner, and must not wait for its end.
    fn _is_served_here(&self) -> bool {
        current::works_for(self.engine())
    }

    /// Whether `amap` may submit one more item: it holds items back that would be refused, and
    /// counted so, while it has others under way.
    fn _has_room(&self) -> bool {
        self.handle.get().has_room()
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.config)?;
        // The engine's own references, if it has taken any, are others than these.
        if let Some(logger) = &self.logger {
            visit.call(&**logger)?;
        }
        self.hooks.as_ref().map_or(Ok(()), |hooks| hooks.traverse(visit))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Here and not where the `Runner` is let go: its `__del__` may be called for the collector,
        // to which the logger would be in use from then on, and all that this leads to.
        // SAFETY: where objects die, a thread is attached.
        self.engine().host.logger.keep(unsafe { Python::assume_attached() });
    }
}

/// Reads `stacks` of `workers` by the package's rule for flags.
fn read_stacks(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = given.py();
    PyImports::get(py)?.check_type.call1(py, ("stacks", given, py.get_type::<PyBool>()))?;
    given.extract()
}

/// Starts the keeper for the log alone, which a runner can do without.
fn start_looking(py: Python<'_>, engine: &Arc<Engine<PyHost>>) -> PyResult<()> {
    let Err(fault) = engine.need_keeper(py) else {
        return Ok(());
    };
    if !fault.bind(py).is_instance_of::<PyException>() {
        // Ctrl-C, say.
        return Err(error::raise(py, fault));
    }
    let what = format!("{}: the start of the thread that looks at it", engine.settings.name);
    log::hook_failed(py, &engine.host.logger, None, &what, fault);
    Ok(())
}

impl EngineHandle {
    /// Lets calls on an ended runner pass that make sense on it.
    fn check_alive_or_ended(&self) -> PyResult<()> {
        if self.engine.mode() == Mode::Stopped { Ok(()) } else { self.check_alive() }
    }
}
