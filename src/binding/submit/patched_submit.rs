//! The detour by what has replaced `submit` of the standard class.
//!
//! Tracers put a wrapper in its place, to carry a request's span or scopes to the threads of the
//! standard pool and of every subclass that calls it. An executor of ours does not; so it looks
//! whether the function there is CPython's own, and calls what it finds otherwise. A wrapper ends
//! in the standard body, which reaches the engine through the parts that `tasker._standard` gives
//! our executors.

use super::executor::Executor;
use crate::binding::error;
use crate::binding::future::draft::TaskCall;
use crate::binding::host::guarded_call;
use crate::sync::atomic::{AtomicU32, Ordering};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{ffi, intern};

/// What is looked at in each call.
struct StandardSubmit {
    class: Py<PyType>,
    is_own: Py<PyAny>,
    loosen: Py<PyAny>,
    /// CPython's own `submit`, once it has been seen, and its code, which other libraries replace
    /// in place. Both are kept, so that no other object gets their addresses.
    own: PyOnceLock<(Py<PyAny>, Py<PyAny>)>,
    /// The class's version when that was found in it last; 0: never. Relaxed, for the version
    /// stands for all of it.
    version: AtomicU32,
}

impl StandardSubmit {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static STANDARD: PyOnceLock<StandardSubmit> = PyOnceLock::new();
        STANDARD.get_or_try_init(py, || {
            let module = py.import("tasker._standard")?;
            Ok(Self {
                class: module.getattr("STANDARD")?.cast_into()?.unbind(),
                is_own: module.getattr("is_own")?.unbind(),
                loosen: module.getattr("loosen")?.unbind(),
                own: PyOnceLock::new(),
                version: AtomicU32::new(0),
            })
        })
    }

    /// Whether nothing was put into the class, nor other code into its `submit`, since that was
    /// found to be CPython's.
    fn is_unchanged(&self, py: Python<'_>) -> bool {
        let version = self.current_version(py);
        // The interpreter takes a class's version away with each change, and gives it a new one,
        // never used before, when it looks a method up in it or in a subclass.
        version != 0
            && version == self.version.load(Ordering::Relaxed)
            && self.own.get(py).is_some_and(|(own, code)| code_of(own) == code.as_ptr())
    }

    fn current_version(&self, py: Python<'_>) -> u32 {
        let class = self.class.bind(py).as_type_ptr();
        // SAFETY: a live class. Other threads write this with atomic stores on free-threaded
        // builds, and attached on all.
        unsafe { AtomicU32::from_ptr(&raw mut (*class).tp_version_tag) }.load(Ordering::Relaxed)
    }

    /// What has replaced the standard `submit`, if anything has.
    #[cold]
    fn replacement<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        // Before the look: what is put there meanwhile changes it.
        let version = self.current_version(py);
        // Not by an attribute, which makes a new object of a wrapper.
        let entries = self.class.getattr(py, intern!(py, "__dict__"))?;
        let entry = entries.bind(py).call_method1(intern!(py, "get"), (intern!(py, "submit"),))?;
        if entry.is_none() {
            return Ok(None);
        }
        let answer = ask(py, &self.is_own, &[entry.as_unbound()])?;
        if !answer.is_truthy(py)? {
            return Ok(Some(entry));
        }
        let code = entry.getattr(intern!(py, "__code__"))?.unbind();
        let (own, _) = self.own.get_or_init(py, || (entry.clone().unbind(), code));
        if entry.is(own) {
            self.version.store(version, Ordering::Relaxed);
        }
        Ok(None)
    }
}

/// The code of a function, only to be compared.
fn code_of(function: &Py<PyAny>) -> *mut ffi::PyObject {
    // SAFETY: attached, and `own` holds a function.
    unsafe { ffi::PyFunction_GetCode(function.as_ptr()) }
}

/// `submit` of both executors.
pub(super) fn submit(executor: &Bound<'_, Executor>, call: TaskCall<'_>) -> PyResult<Py<PyAny>> {
    let py = executor.py();
    let standard = StandardSubmit::get(py)?;
    if standard.is_unchanged(py) {
        return executor.get().submit(call).map(Py::into_any);
    }
    match standard.replacement(py)? {
        None => executor.get().submit(call).map(Py::into_any),
        Some(entry) => standard.call_replacement(executor, &entry, call),
    }
}

impl StandardSubmit {
    /// Calls what has replaced `submit` as the interpreter would call it as a method.
    fn call_replacement(
        &self,
        executor: &Bound<'_, Executor>,
        entry: &Bound<'_, PyAny>,
        call: TaskCall<'_>,
    ) -> PyResult<Py<PyAny>> {
        let py = executor.py();
        let TaskCall { function, args, has_keywords, .. } = call;
        let function = function.unbind();
        let bound = bind(executor, entry)?;
        let result = args.with(py, has_keywords, |args, kwargs| {
            guarded_call::call(py, &bound, Some(&function), args, kwargs)
        });
        guarded_call::release(py, bound);
        self.choose(py, result.map_err(|error| error::raise(py, error))?)
    }

    /// The task's own future in place of the standard body's, if the wrapper returned that as it
    /// was and kept nothing.
    fn choose(&self, py: Python<'_>, result: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let link = ask(py, &self.loosen, &[&result])?;
        if link.is_none(py) {
            return Ok(result);
        }
        // SAFETY: a live object.
        if unsafe { ffi::Py_REFCNT(result.as_ptr()) } == 1 {
            return link.getattr(py, intern!(py, "task"));
        }
        let tie = link.getattr(py, intern!(py, "tie"))?;
        ask(py, &tie, &[&result])?;
        Ok(result)
    }
}

/// What attribute access makes of an entry of the class.
fn bind(executor: &Bound<'_, Executor>, entry: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = executor.py();
    let Some(get) = entry.get_type().getattr_opt(intern!(py, "__get__"))? else {
        return Ok(entry.clone().unbind());
    };
    let class = executor.get_type().into_any().unbind();
    ask(py, &get.unbind(), &[entry.as_unbound(), executor.as_any().as_unbound(), &class])
}

/// Calls a function by a guarded call.
fn ask(py: Python<'_>, function: &Py<PyAny>, args: &[&Py<PyAny>]) -> PyResult<Py<PyAny>> {
    guarded_call::call_with(py, function, args).map_err(|error| error::raise(py, error))
}
