//! Outcomes on their way to event loops: one call of the loop for many.
//!
//! asyncio's futures may be touched by the thread of their loop alone. So whoever settles a task that a coroutine
//! waits for puts a letter into the outbox of the loop. The first letter has the loop called, and what the loop calls
//! then takes out all that are there. A call that never comes, because the loop was closed, takes its letters along.

use super::{Future, Outcome};
use crate::engine::task::Phase;
use crate::python::host::door;
use crate::python::log;
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
pub(in crate::python) struct Outbox {
    /// Weak: a thread remembers its last outbox, and must not keep a loop alive with it.
    event_loop: Py<PyWeakrefReference>,
    /// Locked while attached, for a few instructions, with no call into the interpreter inside.
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    letters: Vec<Letter>,
    /// The loop has been called, and has yet to come for them.
    is_called: bool,
}

/// A settled task and the asyncio future that is to get its outcome.
struct Letter {
    task: Py<Future>,
    promise: Py<PyAny>,
}

impl Letter {
    fn discard(self, py: Python<'_>) {
        door::release(py, self.task.into_any());
        door::release(py, self.promise);
    }
}

/// An asyncio future that waits for a task, and its loop's outbox: what a task keeps of a coroutine.
pub(in crate::python) struct Courier {
    promise: Py<PyAny>,
    outbox: Py<Outbox>,
}

impl Courier {
    pub(in crate::python) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.promise)?;
        visit.call(&self.outbox)
    }

    /// Hands the outcome of a task that is done over on the spot, in the thread of the loop.
    pub(in crate::python) fn hand_over(self, py: Python<'_>, task: &Py<Future>) {
        let Self { promise, outbox } = self;
        let letter = Letter { task: task.clone_ref(py), promise };
        hand_over(py, &letter);
        letter.discard(py);
        door::release(py, outbox.into_any());
    }

    /// Sends the outcome of a task that is done to its loop.
    pub(in crate::python) fn send(self, py: Python<'_>, task: &Py<Future>) {
        let Self { promise, outbox } = self;
        let letter = Letter { task: task.clone_ref(py), promise };
        let is_first = {
            let mut mail = outbox.get().mail.lock();
            mail.letters.push(letter);
            !std::mem::replace(&mut mail.is_called, true)
        };
        if is_first {
            call_loop(py, &outbox, task);
        }
        door::release(py, outbox.into_any());
    }
}

/// Makes an asyncio future of the running loop that is to get a task's outcome, and what is to bring it.
pub(in crate::python) fn promise(
    task: &Bound<'_, Future>,
    outbox: &Py<Outbox>,
    event_loop: &Bound<'_, PyAny>,
) -> PyResult<(Py<PyAny>, Courier)> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = task.py();
    let class = CLASS.get_or_try_init(py, || {
        PyResult::Ok(py.import("tasker._asyncio")?.getattr("Promise")?.unbind())
    })?;
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "loop"), event_loop)?;
    let promise = door::call(py, class, None, None, Some(kwargs.as_unbound()))
        .map_err(|error| crate::python::error::raise(py, error))?;
    promise.bind(py).setattr(intern!(py, "_task"), task)?;
    let courier = Courier { promise: promise.clone_ref(py), outbox: outbox.clone_ref(py) };
    Ok((promise, courier))
}

/// The asyncio loop that runs in this thread. Without asyncio in the process there is none, and it is not imported
/// to learn so.
pub(in crate::python) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
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

/// The running loop of this thread and its outbox.
pub(in crate::python) fn here<'py>(
    py: Python<'py>,
    verb: &str,
) -> PyResult<(Bound<'py, PyAny>, Py<Outbox>)> {
    thread_local! {
        /// The outbox asked for last.
        static LAST: RefCell<Option<Py<Outbox>>> = const { RefCell::new(None) };
    }
    let Some(event_loop) = running_loop(py)? else {
        return Err(PyRuntimeError::new_err(format!(
            "{verb} in asyncio only; a plain function waits with submit(...).result() or queue_task(...), another \
             event loop with anyio.to_thread.run_sync(future.result)"
        )));
    };
    let last = LAST.with_borrow(|last| last.as_ref().map(|outbox| outbox.clone_ref(py)));
    if let Some(outbox) = last {
        let is_its = outbox.get().event_loop.bind(py).upgrade();
        if is_its.is_some_and(|its| its.is(&event_loop)) {
            return Ok((event_loop, outbox));
        }
    }
    let outbox = Outbox {
        event_loop: PyWeakrefReference::new(&event_loop)?.unbind(),
        mail: Mutex::default(),
    };
    let outbox = Py::new(py, outbox)?;
    let former = LAST.replace(Some(outbox.clone_ref(py)));
    drop(former);
    Ok((event_loop, outbox))
}

/// Has the loop come for the letters. That a loop is closed is no error: nobody waits there any more.
fn call_loop(py: Python<'_>, outbox: &Py<Outbox>, task: &Py<Future>) {
    let Some(event_loop) = outbox.get().event_loop.bind(py).upgrade().map(Bound::unbind) else {
        return outbox.get().discard_mail(py);
    };
    let visit = Visit { outbox: outbox.clone_ref(py), is_over: AtomicBool::new(false) };
    let visit = match Py::new(py, visit) {
        Ok(visit) => visit,
        Err(error) => {
            // The visit that was not made has dropped the letters.
            return call_failed(py, task, error.into_value(py).into_any());
        }
    };
    let name = intern!(py, "call_soon_threadsafe");
    match door::call_method(py, &event_loop, name, &[visit.as_any()]) {
        Ok(handle) => door::release(py, handle),
        Err(error) => {
            // Now, and not when the error dies, whose traceback holds it.
            visit.get().give_up(py);
            if is_true(py, &event_loop, intern!(py, "is_closed")) {
                door::release(py, error);
            } else {
                call_failed(py, task, error);
            }
        }
    }
    door::release(py, visit.into_any());
    door::release(py, event_loop);
}

fn call_failed(py: Python<'_>, task: &Py<Future>, error: Py<PyAny>) {
    let host = task.get().origin.as_ref().map(|origin| &origin.core.get().engine.host);
    log::hook_failed(py, host, None, "the call of an event loop", error);
}

impl Outbox {
    fn take_mail(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.mail.lock()).letters
    }

    fn discard_mail(&self, py: Python<'_>) {
        for letter in self.take_mail() {
            letter.discard(py);
        }
    }
}

#[pymethods]
impl Outbox {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // The lock is only ever held by attached threads, for a few instructions without a call into the
        // interpreter: it is free here.
        if let Some(mail) = self.mail.try_lock() {
            for letter in &mail.letters {
                visit.call(&letter.task)?;
                visit.call(&letter.promise)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mail = self.take_mail();
        drop(mail);
    }
}

/// What a loop calls to take the letters out.
#[pyclass(frozen, module = "tasker._tasker")]
struct Visit {
    outbox: Py<Outbox>,
    /// Relaxed: what it guards is under the outbox's lock.
    is_over: AtomicBool,
}

impl Visit {
    /// Drops what is there, unless it has been taken out.
    fn give_up(&self, py: Python<'_>) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.outbox.get().discard_mail(py);
        }
    }
}

#[pymethods]
impl Visit {
    /// Settles everything that is there.
    fn __call__(&self, py: Python<'_>) {
        self.is_over.store(true, Ordering::Relaxed);
        for letter in self.outbox.get().take_mail() {
            hand_over(py, &letter);
            letter.discard(py);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.outbox)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            Python::attach(|py| self.give_up(py));
        }
    }
}

/// Gives an asyncio future the outcome of its task, unless it was cancelled meanwhile.
fn hand_over(py: Python<'_>, letter: &Letter) {
    let (promise, task) = (&letter.promise, letter.task.get());
    let settled = if task.word.phase() == Phase::Cancelled {
        door::call_method(py, promise, intern!(py, "cancel"), &[])
    } else {
        let set_result = intern!(py, "set_result");
        match task.outcome() {
            Outcome::Value(value) => door::call_method(py, promise, set_result, &[value]),
            Outcome::None => door::call_method(py, promise, set_result, &[&py.None()]),
            Outcome::Error(error) => {
                door::call_method(py, promise, intern!(py, "set_exception"), &[error])
            }
        }
    };
    let Err(error) = settled.map(|nothing| door::release(py, nothing)) else {
        return;
    };
    if !is_true(py, promise, intern!(py, "done")) {
        // Not what a coroutine may be given; nobody may be left waiting for ever.
        match door::call_method(py, promise, intern!(py, "set_exception"), &[&error]) {
            Ok(nothing) => door::release(py, nothing),
            Err(other) => call_failed(py, &letter.task, other),
        }
    }
    door::release(py, error);
}

/// Whether a method without arguments says so.
fn is_true(py: Python<'_>, object: &Py<PyAny>, name: &Bound<'_, PyString>) -> bool {
    let answer = door::call_method(py, object, name, &[]);
    match answer {
        Ok(answer) => {
            let truth = answer.bind(py).is_truthy();
            door::release(py, answer);
            truth.unwrap_or(false)
        }
        Err(error) => {
            door::release(py, error);
            false
        }
    }
}
