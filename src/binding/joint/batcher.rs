//! The native half of `Batcher`: takes items, each as a task of its runner.

use super::function::BatchFunction;
use crate::binding::context::clock;
use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::error;
use crate::binding::future::draft::TaskCall;
use crate::binding::future::{Arguments, Future, Outcome, loop_notifier};
use crate::binding::keys;
use crate::binding::map::reader::FunctionOf;
use crate::binding::map::results::{MapSettings, Results};
use crate::binding::options::{Asked, RetryOption, TaskOptions};
use crate::binding::py_imports::PyImports;
use crate::binding::runner::Runner;
use crate::engine::queue::accumulator::JointSettings;
use crate::engine::task::JOINT;
use crate::engine::task::key::KeyNumber;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// From so many keys on, those of which nothing waits are forgotten.
const MANY_KEYS: usize = 64;

/// The function of a batcher, one for each key. Shared by the views of the batcher.
#[pyclass(frozen, module = "tasker._tasker", name = "_BatchFunctions")]
pub(in crate::binding) struct BatchFunctions {
    function: Py<PyAny>,
    key: Option<Py<PyAny>>,
    joint: JointSettings,
    settings: Py<PyAny>,
    /// That of all items, where there are no keys.
    common: Option<Py<BatchFunction>>,
    by_key: Py<PyDict>,
    /// How many keys there are when the next are forgotten. Relaxed: it only spaces the looks.
    forget_at: AtomicUsize,
}

#[pymethods]
impl BatchFunctions {
    /// `settings`: what another runner makes the like of.
    #[new]
    fn new(
        py: Python<'_>,
        function: Py<PyAny>,
        max_size: usize,
        max_wait: f64,
        key: Option<Py<PyAny>>,
        split_failed: bool,
        settings: Py<PyAny>,
    ) -> PyResult<Self> {
        let joint =
            JointSettings { max_size, max_wait: clock::ticks_of(max_wait), splits: split_failed };
        let make = || BatchFunction::new(py, function.clone_ref(py), settings.clone_ref(py), joint);
        let common = key.is_none().then(make).transpose()?;
        let (by_key, forget_at) = (PyDict::new(py).unbind(), AtomicUsize::new(MANY_KEYS));
        Ok(Self { function, key, joint, settings, common, by_key, forget_at })
    }

    #[getter]
    fn max_size(&self) -> usize {
        self.joint.max_size
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.key)?;
        visit.call(&self.settings)?;
        visit.call(&self.common)?;
        visit.call(&self.by_key)
    }
}

impl BatchFunctions {
    /// The function for an item. Asks the user's `key` for it, in the thread that submits.
    fn for_item(&self, item: &Bound<'_, PyAny>) -> PyResult<Py<BatchFunction>> {
        let py = item.py();
        let Some(ask) = &self.key else {
            let make = || self.make(py);
            return self.common.as_ref().map_or_else(make, |common| Ok(common.clone_ref(py)));
        };
        let found = ask.bind(py).call1((item,)).and_then(|key| self.for_key(&key));
        found.map_err(|error| keys::raised(py, error.into_value(py).into_any()))
    }

    fn for_key(&self, key: &Bound<'_, PyAny>) -> PyResult<Py<BatchFunction>> {
        let py = key.py();
        let by_key = self.by_key.bind(py);
        if let Some(found) = by_key.get_item(key)? {
            return Ok(found.cast_into::<BatchFunction>()?.unbind());
        }
        if by_key.len() >= self.forget_at.load(Ordering::Relaxed) {
            self.forget_idle(by_key)?;
        }
        let made = self.make(py)?;
        by_key.set_item(key, &made)?;
        Ok(made)
    }

    fn make(&self, py: Python<'_>) -> PyResult<Py<BatchFunction>> {
        let (function, settings) = (self.function.clone_ref(py), self.settings.clone_ref(py));
        BatchFunction::new(py, function, settings, self.joint)
    }

    /// Forgets keys of which nothing waits. A submitter may hold the function of one of them: its
    /// item then meets none that comes later.
    fn forget_idle(&self, by_key: &Bound<'_, PyDict>) -> PyResult<()> {
        for (key, function) in by_key.copy()? {
            if function.cast::<BatchFunction>()?.get().accumulator.is_empty() {
                by_key.del_item(key)?;
            }
        }
        self.forget_at.store((2 * by_key.len()).max(MANY_KEYS), Ordering::Relaxed);
        Ok(())
    }
}

#[doc = doc!(Batcher)]
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(in crate::binding) struct Batcher {
    // Strong, as that of a view.
    #[doc = doc!(Batcher.runner)]
    #[pyo3(get)]
    runner: Py<Runner>,
    #[pyo3(get, name = "_functions")]
    functions: Py<BatchFunctions>,
    options: Arc<TaskOptions>,
}

impl Batcher {
    fn handle(&self) -> EngineHandleRef<'_> {
        self.runner.get().handle()
    }

    #[doc = doc!(Batcher.submit)]
    pub(in crate::binding) fn submit(&self, item: &Bound<'_, PyAny>) -> PyResult<Py<Future>> {
        let py = item.py();
        match self.call(item)? {
            Ok(call) => self.handle().submit_checked(call, JOINT),
            Err(error) => Future::settled_with(py, Outcome::Error(error.into_value(py).into_any())),
        }
    }

    #[doc = doc!(Batcher.asubmit)]
    pub(in crate::binding) fn asubmit(&self, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = item.py();
        match self.call(item)? {
            Ok(call) => self.handle().asubmit_checked(call, None, JOINT),
            Err(error) => {
                let (event_loop, notifier) = loop_notifier::here(py, "asubmit works")?;
                let error = error.into_value(py).into_any();
                let future = Future::settled_with(py, Outcome::Error(error.clone_ref(py)))?;
                let (promise, _) = loop_notifier::promise(future.bind(py), &notifier, &event_loop)?;
                promise.bind(py).call_method1(intern!(py, "set_exception"), (error,))?;
                Ok(promise)
            }
        }
    }

    #[doc = doc!(Batcher.queue_task)]
    pub(in crate::binding) fn queue_task(&self, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.handle().queue_checked(self.call(item)??, JOINT)
    }

    /// The call of an item, as far as the runner takes any. The inner error is that of `key`.
    fn call<'py>(&self, item: &Bound<'py, PyAny>) -> PyResult<Result<TaskCall<'py>, PyErr>> {
        let (py, handle, functions) = (item.py(), self.handle(), self.functions.get());
        if handle.engine.is_closing() {
            let function = Some(&functions.function);
            return Err(handle.refuse_closed(py, Asked { function, options: Some(&self.options) }));
        }
        if functions.joint.max_wait > 0 {
            handle.engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
        }
        let function = match functions.for_item(item) {
            Ok(function) => function,
            Err(error) if error.is_instance_of::<PyException>(py) => return Ok(Err(error)),
            Err(interrupt) => return Err(interrupt),
        };
        Ok(Ok(TaskCall {
            function: function.into_bound(py).into_any(),
            args: Arguments::of_item(item.clone().unbind()),
            has_keywords: false,
            options: Some(Arc::clone(&self.options)),
            key: KeyNumber::NONE,
        }))
    }
}

#[pymethods]
impl Batcher {
    #[new]
    fn new(
        runner: Py<Runner>,
        functions: Py<BatchFunctions>,
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
        retry: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let options = TaskOptions::checked(priority, once, timeout, name, retry, (None, false))?;
        Ok(Self { runner, functions, options })
    }

    /// What `map` gives, of arguments that the package has checked.
    fn _begin_map(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        buffersize: Option<u64>,
        ordered: bool,
    ) -> PyResult<Results> {
        let (py, batcher) = (slf.py(), slf.get());
        let functions = batcher.functions.get();
        if functions.joint.max_wait > 0 {
            let engine = &batcher.handle().engine;
            engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
        }
        let group = functions.joint.max_size;
        let (function, by_key) = if let Some(common) = &functions.common {
            (common.clone_ref(py), None)
        } else {
            let function_of = FunctionOf {
                owner: batcher.functions.clone_ref(py).into_any(),
                find: |functions, item| {
                    let function = functions.cast::<BatchFunctions>()?.get().for_item(item)?;
                    Ok(function.into_any())
                },
            };
            (functions.make(py)?, Some(function_of))
        };
        let how = MapSettings { buffersize, ordered, return_exceptions: false };
        Results::begin(
            batcher.runner.bind(py),
            Some(Arc::clone(&batcher.options)),
            function.bind(py).as_any(),
            &PyTuple::new(py, [items])?,
            &how,
            Some((group, by_key)),
        )
    }

    /// What its views have besides.
    #[getter]
    fn _kept_options(&self, py: Python<'_>) -> PyResult<(bool, Py<PyAny>)> {
        let retry = self.options.retry_given(py, &PyImports::get(py)?.unset);
        Ok((self.options.once, retry))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (batcher, kind) = (slf.get(), slf.get_type().name()?);
        let runner = &batcher.handle().engine.settings.name;
        let function = Some(&batcher.functions.get().function);
        let name = Asked { function, options: Some(&batcher.options) }.name(slf.py());
        Ok(format!("<{kind} of runner '{runner}': {name}>"))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // As of a view.
        if let RetryOption::By(retry) = &self.options.retry
            && Arc::strong_count(&self.options) == 1
        {
            visit.call(retry)?;
        }
        visit.call(&self.runner)?;
        visit.call(&self.functions)
    }
}
