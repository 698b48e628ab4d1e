//! The native half of the standard library's executors: tasks are called without a resource.
//!
//! `tasker.ThreadPoolExecutor` has an engine of its own, whose workers are hired on demand and own nothing;
//! `Runner.executor()` gives a look on the runner's. Both get their parts from `__init__`, with whatever arguments a
//! subclass has there.

use super::core::{Call, Core, CoreRef};
use crate::engine::clock::Tick;
use crate::engine::resource::care::Policy;
use crate::engine::task::group::Group;
use crate::engine::{Engine, Settings};
use crate::python::error;
use crate::python::exit;
use crate::python::future::{Future, settle};
use crate::python::host::hooks::Hooks;
use crate::python::host::net::Net;
use crate::python::host::seat;
use crate::python::host::{PyHost, Task};
use crate::python::printable;
use crate::python::runner::{Runner, wait_ended};
use crate::python::wait::{self, Limit};
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// The native half of `tasker.ThreadPoolExecutor` and of the executor of a runner.
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(in crate::python) struct Executor {
    parts: OnceLock<Parts>,
}

struct Parts {
    core: Py<Core>,
    /// What the engine only borrows, as that of a `Runner` does.
    hooks: Option<Arc<Hooks>>,
    /// Whose engine it is, if it is a runner's. Strong: as long as there is the executor, there is the runner.
    runner: Option<Py<Runner>>,
}

impl Executor {
    /// `submit`.
    pub(in crate::python) fn submit(&self, call: Call<'_>) -> PyResult<Py<Future>> {
        let core = CoreRef(&self.parts()?.core);
        let Some(group) = &core.group else {
            return core.submit(call, None);
        };
        let Some(joining) = group.join() else {
            core.check_alive()?;
            return Err(PyRuntimeError::new_err(error::SHUT_DOWN));
        };
        let future = core.submit(call, None)?;
        joining.keep();
        Ok(future)
    }

    fn engine(&self) -> PyResult<&Arc<Engine<PyHost>>> {
        self.parts().map(|parts| &parts.core.get().engine)
    }

    fn parts(&self) -> PyResult<&Parts> {
        self.parts
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the executor's __init__() has not been called"))
    }

    fn put(&self, parts: Parts) -> PyResult<()> {
        self.parts.set(parts).map_err(|_| {
            PyRuntimeError::new_err("the executor's __init__() has been called already")
        })
    }
}

#[pymethods]
impl Executor {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { parts: OnceLock::new() }
    }

    /// Gives it an engine of its own.
    fn _open(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        worker_count: usize,
        initializer: Py<PyAny>,
        finalizer: Option<Py<PyAny>>,
        logger: Py<PyAny>,
    ) -> PyResult<()> {
        let hooks = Hooks {
            on_create: initializer,
            on_destroy: finalizer,
            is_broken: None,
            check_health: None,
            validate: None,
            reset: None,
            on_cancel: None,
        };
        let name = printable::name(name);
        let host = PyHost::standard(&name, hooks, logger);
        let settings = Settings {
            name,
            worker_count,
            on_demand: true,
            max_worker_count: worker_count,
            reserve_limit: 0,
            reserve_at_start: 0,
            keep_reserved: false,
            thread_bound: true,
            max_queue_size: None,
            care: Policy::default(),
            burst_interval: Tick::MAX,
            idle_timeout: Tick::MAX,
            hold: Tick::MAX,
        };
        let engine = Engine::new(host, settings);
        let hooks = engine.host.hooks.lend();
        let core = Core {
            engine: Arc::clone(&engine),
            task_timeout: None,
            copy_contextvars: false,
            raise_when_full: false,
            bare: true,
            group: None,
        };
        self.put(Parts { core: Py::new(py, core)?, hooks, runner: None })?;
        if exit::register(&engine).is_err() {
            // It can be made at exit, as a standard one can, but refuses whatever it is given.
            engine.begin_stop();
        }
        Ok(())
    }

    /// Gives it a look on the engine of a runner.
    fn _look_on(&self, py: Python<'_>, runner: Py<Runner>) -> PyResult<()> {
        let core = runner.get().core().view();
        self.put(Parts { core: Py::new(py, core)?, hooks: None, runner: Some(runner) })
    }

    /// `shutdown`: of an engine of its own with its workers, of a look at another of what came by it.
    fn _shut_down(&self, py: Python<'_>, wait: bool, cancel_futures: bool) -> PyResult<()> {
        let _net = Net::spread();
        let core = &self.parts()?.core;
        let Core { engine, group, .. } = core.get();
        if engine.is_forsaken() {
            // Nothing of it lives in this process.
            return Ok(());
        }
        match group {
            Some(group) => group.close(),
            None => engine.begin_stop(),
        }
        if cancel_futures {
            let is_ours = |task: &Task| {
                let origin = task.future().get().origin.as_ref();
                origin.is_some_and(|origin| origin.core.is(core))
            };
            engine.cancel_waiting(py, is_ours, |task| {
                settle::cancel(task.future().bind(py));
            });
        }
        if !wait || seat::works_for(engine) {
            return Ok(());
        }
        let forever = Limit::after(None);
        match group {
            Some(group) => {
                let over = || group.is_over() || engine.is_forsaken();
                wait::until(py, forever, over, |slice| group.wait_over(slice))
            }
            None => wait_ended(py, engine, forever),
        }
        .map(drop)
    }

    /// The last reference is going, or the collector ends it: what is accepted is finished all the same.
    fn _let_go(&self, py: Python<'_>) {
        if let Ok(engine) = self.engine() {
            crate::python::runner::let_go(py, engine);
        }
    }

    /// Queues a call, whatever has replaced the standard class's `submit`.
    fn _queue(
        &self,
        function: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Bound<'_, PyDict>,
    ) -> PyResult<Py<Future>> {
        let args = (!args.is_empty()).then_some(args);
        let kwargs = (!kwargs.is_empty()).then_some(kwargs);
        self.submit(Call { function, args, kwargs })
    }

    /// Raises what `submit` would raise, if nothing is accepted.
    fn _check_open(&self) -> PyResult<()> {
        let core = self.parts()?.core.get();
        if core.group.as_ref().is_some_and(Group::is_closed) {
            core.check_alive()?;
            return Err(PyRuntimeError::new_err(error::SHUT_DOWN));
        }
        if core.engine.is_closing() { Err(core.refuse()) } else { Ok(()) }
    }

    fn _is_closed(&self) -> PyResult<bool> {
        let Core { engine, group, .. } = self.parts()?.core.get();
        Ok(engine.is_closing() || group.as_ref().is_some_and(Group::is_closed))
    }

    fn _is_broken(&self) -> PyResult<bool> {
        self.engine().map(|engine| engine.is_broken() || engine.host.is_uninitialised())
    }

    /// How many tasks wait.
    fn _waiting(&self) -> PyResult<u64> {
        let engine = self.engine()?;
        Ok(if engine.is_forsaken() { 0 } else { engine.waiting() })
    }

    /// The threads that have not been joined.
    fn _workers(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.engine().map(|engine| engine.host.threads(py))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(Parts { hooks, runner, .. }) = self.parts.get() else {
            return Ok(());
        };
        visit.call(runner)?;
        // The engine's own references, if it has taken any, are others than these.
        hooks.as_ref().map_or(Ok(()), |hooks| hooks.traverse(visit))
    }
}
