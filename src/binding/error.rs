//! The errors of the package, made here and defined in `tasker._errors`.

use super::host::guarded_call;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::types::PyString;

import_exception!(tasker._errors, ConfigError);
import_exception!(tasker._errors, ResourceCreationError);
import_exception!(tasker._errors, RunnerStopped);
import_exception!(tasker._errors, RunnerBroken);
import_exception!(tasker._errors, QueueFull);
import_exception!(tasker._errors, TaskTimeout);
import_exception!(tasker._errors, TaskCancelled);
import_exception!(tasker._stop_timeout, StopTimeout);
import_exception!(concurrent.futures, CancelledError);
import_exception!(concurrent.futures.thread, BrokenThreadPool);

/// What a standard executor says that was shut down.
pub(super) const SHUT_DOWN: &str = "cannot schedule new futures after shutdown";
/// The text of [`RunnerStopped`], which begins as the standard executors' does.
pub(super) const STOPPED: &str =
    "cannot schedule new futures after shutdown: the runner is stopping or has stopped";
/// The text of [`RunnerBroken`] after a fork.
pub(super) const FORKED: &str = "this runner belongs to the process that was forked; \
                                 make a new one in the child";
/// The text of [`BrokenThreadPool`] after a fork.
pub(super) const FORKED_EXECUTOR: &str = "this executor belongs to the process that was forked; \
                                          make a new one in the child";
/// The text of [`RunnerBroken`] after a fault of our own.
pub(super) const BROKEN: &str = "the runner broke down by an internal fault; make a new one";

/// The text of [`BrokenThreadPool`] after an initializer failed, which is the standard's.
pub(super) const UNINITIALISED: &str =
    "A thread initializer failed, the thread pool is not usable anymore";

/// What is wrong with a wait without a limit in a hook, which has no resource at hand to run the
/// task with.
pub(super) const WOULD_DEADLOCK: &str = "a hook, callback, finalizer or signal handler in the middle of a runner's task \
                                     must not wait without a limit for a task of the same runner: nobody may be left \
                                     to run it";

/// What is wrong with a wait without a limit, inside a task, for one that has others of its key before
/// it.
pub(super) const SERIAL_WOULD_DEADLOCK: &str = "a task must not wait without a limit for one that runs in order (serial=True) while others \
     of its key come before that: the one that waits may be one of them, or keep the worker that \
     they need; wait outside of tasks, or with a timeout";

/// What is wrong with `run_task` of a view with keys.
pub(super) const RUN_TASK_WITH_KEY: &str = "run_task() takes no key, as it goes past the queue to any resource that is free: call \
     queue_task(), or a view without key";

/// What is wrong with a wait without a limit for [`Runner.renew`](super::runner::Runner) inside a
/// task or hook.
pub(super) const RENEWAL_WOULD_DEADLOCK: &str = "a task, hook or callback of a runner must not wait without a limit for the renewal of its \
     resources, which waits for its end";

/// Makes an exception by a guarded call, with a cause if there is one.
pub(super) fn make<E: PyTypeInfo>(
    py: Python<'_>,
    text: &str,
    cause: Option<&Py<PyAny>>,
) -> Py<PyAny> {
    let class = E::type_object(py).into_any().unbind();
    let text = PyString::new(py, text).into_any().unbind();
    let error = match guarded_call::call_with(py, &class, &[&text]) {
        Ok(error) | Err(error) => error,
    };
    if let Some(cause) = cause {
        set_cause(py, &error, cause);
    }
    error
}

/// `error.__context__ = context`: what was at hand when it was made.
pub(super) fn set_context(py: Python<'_>, error: &Py<PyAny>, context: &Py<PyAny>) {
    // SAFETY: as below.
    unsafe {
        pyo3::ffi::PyException_SetContext(error.as_ptr(), context.clone_ref(py).into_ptr());
    }
}

/// `error.__cause__ = cause`.
pub(super) fn set_cause(py: Python<'_>, error: &Py<PyAny>, cause: &Py<PyAny>) {
    // SAFETY: both are exceptions (`error` was made above or fetched, `cause` was raised); the
    // function takes over the reference to the cause.
    unsafe {
        pyo3::ffi::PyException_SetCause(error.as_ptr(), cause.clone_ref(py).into_ptr());
    }
}

/// The traceback of an exception, if it was raised where a frame was left by it.
pub(super) fn traceback<'py>(error: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: an exception; a new reference, or null.
    let traceback = unsafe {
        let traceback = pyo3::ffi::PyException_GetTraceback(error.as_ptr());
        Bound::from_owned_ptr_or_opt(error.py(), traceback)
    };
    // Where code took it away, as with `with_traceback(None)`, that is in its place.
    traceback.filter(|traceback| !traceback.is_none())
}

/// Raises an exception object as it is.
pub(super) fn raise(py: Python<'_>, error: Py<PyAny>) -> PyErr {
    PyErr::from_value(error.into_bound(py))
}

/// Whether an error says that a task was not accepted, and not that the call was interrupted or
/// failed.
pub(super) fn is_refusal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<RunnerStopped>(py)
        || error.is_instance_of::<QueueFull>(py)
        || error.is_instance_of::<RunnerBroken>(py)
}

/// An error that `what` raised, and that may go through a generator: `StopIteration` would end that in
/// silence, so it becomes the cause of a `RuntimeError`, as PEP 479 has it.
pub(super) fn not_stopping(py: Python<'_>, error: Py<PyAny>, what: &str) -> Py<PyAny> {
    if !guarded_call::is_instance::<PyStopIteration>(py, &error) {
        return error;
    }
    let text = format!("{what} raised StopIteration");
    let wrapped = make::<PyRuntimeError>(py, &text, Some(&error));
    guarded_call::release(py, error);
    wrapped
}
