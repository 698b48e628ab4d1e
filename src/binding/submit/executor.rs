//! The native half of the standard library's executors: tasks are called without a resource.
//!
//! `tasker.ThreadPoolExecutor` has an engine of its own, whose workers are started on demand and
//! own nothing; `Runner.executor()` gives a view of the runner's. Both get their parts from
//! `__init__`, with whatever arguments a subclass has there.

use crate::binding::current;
use crate::binding::engine_end::{self, wait_ended};
use crate::binding::engine_handle::{EngineHandle, EngineHandleRef};
use crate::binding::error;
use crate::binding::exit;
use crate::binding::future::draft::TaskCall;
use crate::binding::future::{Arguments, Future, settle};
use crate::binding::host::exit_guard::ExitGuard;
use crate::binding::host::hooks::UserHooks;
use crate::binding::host::state::PyHost;
use crate::binding::log::Logger;
use crate::binding::options::Asked;
use crate::binding::printable;
use crate::binding::runner::Runner;
use crate::binding::wait::{self, Limit};
use crate::engine::task::key::KeyNumber;
use crate::engine::task::task_group::TaskGroup;
use crate::engine::{Engine, EngineSettings};
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

#[doc = doc!(Executor)]
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(in crate::binding) struct Executor {
    parts: OnceLock<ExecutorParts>,
}

struct ExecutorParts {
    handle: Py<EngineHandle>,
    /// What the engine only borrows, as that of a `Runner` does.
    hooks: Option<Arc<UserHooks>>,
    /// Whose engine it is, if it is a runner's. Strong: as long as there is the executor, there is
    /// the runner.
    runner: Option<Py<Runner>>,
}

impl Executor {
    /// `submit`.
    pub(in crate::binding) fn submit(&self, call: TaskCall<'_>) -> PyResult<Py<Future>> {
        let handle = EngineHandleRef(&self.parts()?.handle);
        let Some(group) = &handle.group else {
            return handle.submit(call);
        };
        let Some(joining) = group.join() else {
            handle.check_alive()?;
            return Err(PyRuntimeError::new_err(error::SHUT_DOWN));
        };
        let future = handle.submit(call)?;
        joining.stay();
        Ok(future)
    }

    fn engine(&self) -> PyResult<&Arc<Engine<PyHost>>> {
        self.parts().map(|parts| &parts.handle.get().engine)
    }

    fn parts(&self) -> PyResult<&ExecutorParts> {
        self.parts
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the executor's __init__() has not been called"))
    }

    fn put(&self, parts: ExecutorParts) -> PyResult<()> {
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
        initializer: Option<Py<PyAny>>,
        finalizer: Option<Py<PyAny>>,
        logger: Py<PyAny>,
    ) -> PyResult<()> {
        let hooks = UserHooks::standard(initializer, finalizer);
        let name = printable::name(name);
        let host = PyHost::standard(&name, hooks, Logger::given(logger));
        let settings = EngineSettings {
            name,
            worker_count,
            on_demand: true,
            max_worker_count: worker_count,
            ..EngineSettings::default()
        };
        let engine = Engine::new(host, settings);
        let hooks = engine.host.hooks.lend();
        let handle = EngineHandle::standard(Arc::clone(&engine));
        self.put(ExecutorParts { handle: Py::new(py, handle)?, hooks, runner: None })?;
        if exit::register(&engine).is_err() {
            // It can be made at exit, as a standard one can, but refuses whatever it is given.
            engine.begin_stop();
        }
        Ok(())
    }

    /// Gives it a look on the engine of a runner.
    fn _look_on(&self, py: Python<'_>, runner: Py<Runner>) -> PyResult<()> {
        let handle = runner.get().handle().view();
        self.put(ExecutorParts { handle: Py::new(py, handle)?, hooks: None, runner: Some(runner) })
    }

    /// `shutdown`: of an engine of its own with its workers, of a look at another of what came by
    /// it.
    fn _shut_down(&self, py: Python<'_>, wait: bool, cancel_futures: bool) -> PyResult<()> {
        let _exit_guard = ExitGuard::install();
        let handle = &self.parts()?.handle;
        let EngineHandle { engine, group, .. } = handle.get();
        if engine.is_left_by_fork() {
            // Nothing of it lives in this process.
            return Ok(());
        }
        match group {
            Some(group) => group.close(),
            None => engine.begin_stop(),
        }
        if cancel_futures {
            let is_ours = |task: &Py<Future>| {
                let origin = task.get().origin.as_ref();
                origin.is_some_and(|origin| origin.handle.is(handle))
            };
            engine.cancel_matching(py, is_ours, |task| {
                settle::cancel(task.bind(py));
            });
        }
        if !wait || current::works_for(engine) {
            return Ok(());
        }
        let forever = Limit::after(None);
        match group {
            Some(group) => {
                let over = || group.is_over() || engine.is_left_by_fork();
                wait::until(py, forever, over, |slice| group.wait_over(slice))
            }
            None => wait_ended(py, engine, forever),
        }
        .map(drop)
    }

    /// The last reference is going, or the collector ends it: what is accepted is finished all the
    /// same.
    fn _let_go(&self, py: Python<'_>) {
        if let Ok(engine) = self.engine() {
            engine_end::let_go(py, engine);
        }
    }

    /// Queues a call, whatever has replaced the standard class's `submit`.
    fn _queue(
        &self,
        function: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Bound<'_, PyDict>,
    ) -> PyResult<Py<Future>> {
        let args = (!args.is_empty()).then(|| args.unbind());
        let has_keywords = !kwargs.is_empty();
        let args = if has_keywords {
            Arguments::of_both(function.py(), args, kwargs)?
        } else {
            Arguments::of_tuple(args)
        };
        let key = KeyNumber::NONE;
        self.submit(TaskCall { function, args, has_keywords, options: None, key })
    }

    /// Raises what `submit` would raise, if nothing is accepted.
    fn _check_open(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.parts()?.handle.get();
        if handle.group.as_ref().is_some_and(TaskGroup::is_closed) {
            handle.check_alive()?;
            return Err(PyRuntimeError::new_err(error::SHUT_DOWN));
        }
        if handle.engine.is_closing() {
            return Err(handle.refuse_closed(py, Asked { function: None, options: None }));
        }
        Ok(())
    }

    fn _is_closed(&self) -> PyResult<bool> {
        let EngineHandle { engine, group, .. } = self.parts()?.handle.get();
        Ok(engine.is_closing() || group.as_ref().is_some_and(TaskGroup::is_closed))
    }

    fn _is_broken(&self) -> PyResult<bool> {
        self.engine().map(|engine| engine.is_broken() || engine.host.is_uninitialised())
    }

    /// How many tasks wait.
    fn _waiting(&self) -> PyResult<u64> {
        let engine = self.engine()?;
        Ok(if engine.is_left_by_fork() { 0 } else { engine.waiting() })
    }

    /// The threads that have not been joined.
    fn _workers(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.engine().map(|engine| engine.host.threads(py))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(ExecutorParts { hooks, runner, .. }) = self.parts.get() else {
            return Ok(());
        };
        visit.call(runner)?;
        // The engine's own references, if it has taken any, are others than these.
        hooks.as_ref().map_or(Ok(()), |hooks| hooks.traverse(visit))
    }
}
