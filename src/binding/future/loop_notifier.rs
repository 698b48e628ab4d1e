//! Outcomes on their way to event loops: one call of the loop for many.
//!
//! asyncio's futures may be touched by the thread of their loop alone. So the thread that settles a
//! task for which a coroutine waits gives a completion to the notifier of the loop. The first
//! completion has the loop called, and what the loop calls then takes out all that are there. A
//! call that never comes, because the loop was closed, takes the completions along.

use super::{Callback, Future, Observer, Outcome};
use crate::binding::current;
use crate::binding::host::guarded_call;
use crate::binding::host::state::PyHost;
use crate::engine::task::Phase;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::cell::RefCell;

/// Where the outcomes for one event loop are put.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::binding) struct LoopNotifier {
    /// Weak: a thread remembers its last notifier, and must not keep a loop alive with it.
    event_loop: Py<PyWeakrefReference>,
    /// Locked while attached, for a few instructions, with no call into the interpreter inside.
    pending: Mutex<PendingCompletions>,
}

#[derive(Default)]
struct PendingCompletions {
    completions: Vec<Completion>,
    /// The loop has been called, and has yet to take them out.
    is_scheduled: bool,
}

/// A settled task and the asyncio future that is to get its outcome.
struct Completion {
    task: Py<Future>,
    promise: Py<PyAny>,
}

impl Completion {
    fn discard(self, py: Python<'_>) {
        guarded_call::release(py, self.task);
        guarded_call::release(py, self.promise);
    }
}

/// An asyncio future that waits for a task, and its loop's notifier: what a task keeps of a
/// coroutine.
pub(in crate::binding) struct LoopWaiter {
    promise: Py<PyAny>,
    notifier: Py<LoopNotifier>,
}

impl LoopWaiter {
    /// Hands the outcome of a task that is done over on the spot, in the thread of the loop.
    pub(in crate::binding) fn hand_over(self, py: Python<'_>, task: &Py<Future>) {
        let Self { promise, notifier } = self;
        let completion = Completion { task: task.clone_ref(py), promise };
        hand_over(py, &completion);
        completion.discard(py);
        guarded_call::release(py, notifier);
    }
}

impl Observer for LoopWaiter {
    /// Sends the outcome to the loop.
    fn task_done(self: Box<Self>, py: Python<'_>, task: &Py<Future>) {
        let Self { promise, notifier } = *self;
        let completion = Completion { task: task.clone_ref(py), promise };
        let is_first = {
            let mut pending = notifier.get().pending.lock();
            pending.completions.push(completion);
            !std::mem::replace(&mut pending.is_scheduled, true)
        };
        if is_first {
            schedule(py, &notifier, task);
        }
        guarded_call::release(py, notifier);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.promise)?;
        visit.call(&self.notifier)
    }
}

impl From<LoopWaiter> for Callback {
    fn from(loop_waiter: LoopWaiter) -> Self {
        Self::Native(Box::new(loop_waiter))
    }
}

/// Makes an asyncio future of the running loop that is to get a task's outcome, and what is to
/// bring it.
pub(in crate::binding) fn promise(
    task: &Bound<'_, Future>,
    notifier: &Py<LoopNotifier>,
    event_loop: &Bound<'_, PyAny>,
) -> PyResult<(Py<PyAny>, LoopWaiter)> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = task.py();
    let class = CLASS.import(py, "tasker._asyncio", "Promise")?.as_unbound();
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "loop"), event_loop)?;
    let promise = guarded_call::call(py, class, None, None, Some(kwargs.as_unbound()))
        .map_err(|error| crate::binding::error::raise(py, error))?;
    promise.bind(py).setattr(intern!(py, "_task"), task)?;
    let loop_waiter =
        LoopWaiter { promise: promise.clone_ref(py), notifier: notifier.clone_ref(py) };
    Ok((promise, loop_waiter))
}

/// The asyncio loop that runs in this thread. Without asyncio in the process there is none, and it
/// is not imported to learn so.
pub(in crate::binding) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = if let Some(ask) = ASK.get(py) {
        ask
    } else {
        let modules = py.import("sys")?.getattr("modules")?;
        let Some(asyncio) = modules.cast::<PyDict>()?.get_item("asyncio")? else {
            return Ok(None);
        };
        // Not there while asyncio is just being imported.
        let Ok(ask) = asyncio.getattr("_get_running_loop") else {
            return Ok(None);
        };
        ASK.get_or_init(py, || ask.unbind())
    };
    let event_loop = ask.bind(py).call0()?;
    Ok((!event_loop.is_none()).then_some(event_loop))
}

/// The running loop of this thread and its notifier.
pub(in crate::binding) fn here<'py>(
    py: Python<'py>,
    verb: &str,
) -> PyResult<(Bound<'py, PyAny>, Py<LoopNotifier>)> {
    thread_local! {
        /// The notifier asked for last.
        static LAST: RefCell<Option<Py<LoopNotifier>>> = const { RefCell::new(None) };
    }
    let Some(event_loop) = running_loop(py)? else {
        return Err(PyRuntimeError::new_err(format!(
            "{verb} in asyncio only; a plain function waits with submit(...).result() or queue_task(...), another \
             event loop with anyio.to_thread.run_sync(future.result)"
        )));
    };
    let last = LAST.with_borrow(|last| last.as_ref().map(|notifier| notifier.clone_ref(py)));
    if let Some(notifier) = last {
        let is_its = notifier.get().event_loop.bind(py).upgrade();
        if is_its.is_some_and(|its| its.is(&event_loop)) {
            return Ok((event_loop, notifier));
        }
    }
    let notifier = LoopNotifier {
        event_loop: PyWeakrefReference::new(&event_loop)?.unbind(),
        pending: Mutex::default(),
    };
    let notifier = Py::new(py, notifier)?;
    let former = LAST.replace(Some(notifier.clone_ref(py)));
    drop(former);
    Ok((event_loop, notifier))
}

/// Has the loop take the completions out. That a loop is closed is no error: no coroutine waits
/// there any more.
fn schedule(py: Python<'_>, notifier: &Py<LoopNotifier>, task: &Py<Future>) {
    let Some(event_loop) = notifier.get().event_loop.bind(py).upgrade().map(Bound::unbind) else {
        return notifier.get().discard_pending(py);
    };
    let callback =
        LoopCallback { notifier: notifier.clone_ref(py), is_over: AtomicBool::new(false) };
    let callback = match Py::new(py, callback) {
        Ok(callback) => callback,
        Err(error) => {
            // The callback that was not made has dropped the completions.
            return call_failed(py, task, error.into_value(py).into_any());
        }
    };
    let name = intern!(py, "call_soon_threadsafe");
    match guarded_call::call_method(py, &event_loop, name, &[callback.as_any()]) {
        Ok(handle) => guarded_call::release(py, handle),
        Err(error) => {
            // Now, and not when the error dies, whose traceback holds it.
            callback.get().discard_outcome(py);
            if is_true(py, &event_loop, intern!(py, "is_closed")) {
                guarded_call::release(py, error);
            } else {
                call_failed(py, task, error);
            }
        }
    }
    guarded_call::release(py, callback);
    guarded_call::release(py, event_loop);
}

fn call_failed(py: Python<'_>, task: &Py<Future>, error: Py<PyAny>) {
    let host = task.get().engine().map(|engine| &engine.host);
    current::callback_failed(py, PyHost::logger_of(host), "the call of an event loop", error);
}

impl LoopNotifier {
    fn take_pending(&self) -> Vec<Completion> {
        std::mem::take(&mut *self.pending.lock()).completions
    }

    fn discard_pending(&self, py: Python<'_>) {
        for completion in self.take_pending() {
            completion.discard(py);
        }
    }
}

#[pymethods]
impl LoopNotifier {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // The lock is only ever held by attached threads, for a few instructions without a call
        // into the interpreter: it is free here.
        if let Some(pending) = self.pending.try_lock() {
            for completion in &pending.completions {
                visit.call(&completion.task)?;
                visit.call(&completion.promise)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let pending = self.take_pending();
        drop(pending);
    }
}

/// What a loop calls to take the completions out.
#[pyclass(frozen, module = "tasker._tasker")]
struct LoopCallback {
    notifier: Py<LoopNotifier>,
    /// Relaxed: what it says is under the notifier's lock.
    is_over: AtomicBool,
}

impl LoopCallback {
    /// Drops what is there, unless it has been taken out.
    fn discard_outcome(&self, py: Python<'_>) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.notifier.get().discard_pending(py);
        }
    }
}

#[pymethods]
impl LoopCallback {
    /// Settles everything that is there.
    fn __call__(&self, py: Python<'_>) {
        self.is_over.store(true, Ordering::Relaxed);
        for completion in self.notifier.get().take_pending() {
            hand_over(py, &completion);
            completion.discard(py);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.notifier)
    }
}

impl Drop for LoopCallback {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            Python::attach(|py| self.discard_outcome(py));
        }
    }
}

/// Gives an asyncio future the outcome of its task, unless it was cancelled meanwhile.
fn hand_over(py: Python<'_>, completion: &Completion) {
    let (promise, task) = (&completion.promise, completion.task.get());
    let settled = if task.word.phase() == Phase::Cancelled {
        guarded_call::call_method(py, promise, intern!(py, "cancel"), &[])
    } else {
        let none = py.None();
        let (set, outcome) = match task.outcome() {
            Outcome::Value(value) => (intern!(py, "set_result"), value),
            Outcome::None => (intern!(py, "set_result"), &none),
            Outcome::Error(error) => (intern!(py, "set_exception"), error),
        };
        guarded_call::call_method(py, promise, set, &[outcome])
    };
    let Err(error) = settled.map(|nothing| guarded_call::release(py, nothing)) else {
        return;
    };
    if !is_true(py, promise, intern!(py, "done")) {
        // The outcome is not what a coroutine may be given, and the coroutine must not wait for
        // ever.
        match guarded_call::call_method(py, promise, intern!(py, "set_exception"), &[&error]) {
            Ok(nothing) => guarded_call::release(py, nothing),
            Err(other) => call_failed(py, &completion.task, other),
        }
    }
    guarded_call::release(py, error);
}

/// Whether a method without arguments says so.
fn is_true(py: Python<'_>, object: &Py<PyAny>, name: &Bound<'_, PyString>) -> bool {
    let answer = guarded_call::call_method(py, object, name, &[]);
    match answer {
        Ok(answer) => {
            let truth = answer.bind(py).is_truthy();
            guarded_call::release(py, answer);
            truth.unwrap_or(false)
        }
        Err(error) => {
            guarded_call::release(py, error);
            false
        }
    }
}
