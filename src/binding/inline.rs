//! Tasks that no engine serves: what the double of a runner cannot do in Python.

use super::context::TaskContext;
use super::error;
use super::future::outbox;
use super::future::settle::{self, Callback};
use super::future::{Future, name_of, track};
use super::host::{door, seat};
use super::interrupt::ward::Ward;
use super::note;
use super::verbs::core::check_task;
use crate::engine::task::token::Token;
use crate::engine::task::{ASKED, TOLD};
use crate::sync::Arc;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

/// Makes a call as an attempt of a task, whose function it calls: `current_context()` works in it. Calls `doubt` when
/// something was called that was to interrupt the task, and may have spoiled its resource.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "what a worker knows of an attempt")]
pub(super) fn _call_as_task(
    future: &Bound<'_, Future>,
    function: &Bound<'_, PyAny>,
    attempt: u32,
    task_name: String,
    worker_name: String,
    left: Option<f64>,
    call: Py<PyAny>,
    doubt: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let py = future.py();
    let token = Token::new().child(left.map(|left| super::context::due_in(py, left)));
    let ward = Ward::of_inline_attempt(&task_name);
    let own = TaskContext { attempt, worker_name, task_name };
    let context = TaskContext::with(py, Arc::clone(&ward), token.clone(), own)?;
    let reason = {
        let mut slot = future.get().slot.lock();
        let slot = slot.get_or_insert_default();
        slot.context = Some((token.clone(), context));
        future.get().word.set(ASKED);
        slot.reason.clone()
    };
    if future.get().word.has(TOLD) {
        token.cancel(reason);
    }
    let task = (future.as_unbound(), function.as_ptr());
    let result =
        seat::with(|seat| seat.inside_task(Some(task), || door::call_with(py, &call, &[])));
    door::release(py, call);
    let (made, called) = ward.end(py);
    let waited = made.iter().try_for_each(|call| call.wait_here(py));
    for call in made {
        call.release(py);
    }
    let context = future.get().slot.lock().as_deref_mut().and_then(|slot| slot.context.take());
    if let Some((_, context)) = context {
        door::release(py, context.into_any());
    }
    if called {
        doubt.call0()?;
    }
    waited?;
    result.map_err(|error| error::raise(py, error))
}

/// Calls a function as a hook: it is part of no task, wherever the call is made.
#[pyfunction]
pub(super) fn _call_outside_tasks(py: Python<'_>, function: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let result = seat::with(|seat| seat.inside_task(None, || door::call_with(py, &function, &[])));
    door::release(py, function);
    result.map_err(|error| error::raise(py, error))
}

/// Makes an asyncio future of the running loop that gets the outcome of a task which is not done.
#[pyfunction]
pub(super) fn _promise(future: &Bound<'_, Future>) -> PyResult<Py<PyAny>> {
    let (event_loop, outbox) = outbox::here(future.py(), "asubmit works")?;
    let (promise, courier) = outbox::promise(future, &outbox, &event_loop)?;
    track(future.as_any().as_unbound());
    settle::observe(future.get(), |slot| slot.callbacks.push(Callback::Courier(courier)));
    Ok(promise)
}

/// Raises for what no runner takes as a task.
#[pyfunction]
pub(super) fn _check_task(function: &Bound<'_, PyAny>) -> PyResult<()> {
    check_task(function)
}

/// Notes on the error of a task what a worker notes as the attempt ends: how tasks are called.
#[pyfunction]
pub(super) fn _note_calling(error: &Bound<'_, PyBaseException>) {
    note::calling(error.py(), error.as_any().as_unbound());
}

/// Notes on it how many resources the task was tried on.
#[pyfunction]
pub(super) fn _note_attempts(error: &Bound<'_, PyBaseException>, attempts: u32) {
    let py = error.py();
    if let Err(refusal) = note::attempts(py, error.as_any().as_unbound(), attempts) {
        // It takes no notes. The caller gets it all the same.
        door::release(py, refusal);
    }
}

/// The name of a task by its function, for people.
#[pyfunction]
pub(super) fn _task_name(function: &Bound<'_, PyAny>) -> String {
    name_of(function.py(), Some(function.as_unbound()))
}
