//! Tasks that no engine serves: what the double of a runner cannot do in Python.

use super::callable::name_of;
use super::context::{TaskContext, clock};
use super::current;
use super::error;
use super::future::{Callback, Future, loop_notifier, settle};
use super::gc;
use super::host::guarded_call;
use super::interrupt::callbacks::CancelCallbacks;
use super::keys;
use super::note;
use super::options::{Asked, TaskOptions};
use crate::engine::task::key::KeyNumber;
use crate::engine::task::token::Token;
use crate::engine::task::{CANCEL_REQUESTED, HAS_CLEANUP};
use crate::sync::Arc;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Makes a call as an attempt of a task, whose function it calls: `current_context()` works in it.
/// Calls `mark_suspect` when something was called that was to interrupt the task, and may have hit
/// its resource.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "what a worker knows of an attempt")]
pub(super) fn _call_as_task(
    future: &Bound<'_, Future>,
    function: &Bound<'_, PyAny>,
    attempt: u32,
    task_name: String,
    worker_name: String,
    left: Option<f64>,
    last_error: Option<Py<PyAny>>,
    call: Py<PyAny>,
    mark_suspect: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let py = future.py();
    let token = Token::new().child(left.map(|left| clock::due_in(py, left)));
    let callbacks = CancelCallbacks::new(None, Some(&task_name));
    let own = TaskContext { attempt, worker_name, task_name, last_error };
    let context = TaskContext::with(py, Arc::clone(&callbacks), token.clone(), own)?;
    let reason = future.get().with_extras(py, |extras| {
        extras.context = Some((token.clone(), context));
        future.get().word.set(HAS_CLEANUP);
        extras.reason.clone()
    });
    if future.get().word.has(CANCEL_REQUESTED) {
        token.cancel(reason);
    }
    let task = (future.as_any().as_unbound(), function.as_ptr());
    let result = current::with(|this_thread| {
        this_thread.inside_task(Some(task), || guarded_call::call_with(py, &call, &[]))
    });
    guarded_call::release(py, call);
    let (made, called) = callbacks.end(py);
    let waited = made.iter().try_for_each(|call| call.wait_here(py));
    for call in made {
        call.release(py);
    }
    if let Some((_, context)) = future.get().extra(py, |extras| extras.context.take()) {
        guarded_call::release(py, context);
    }
    if called {
        mark_suspect.call0()?;
    }
    waited?;
    result.map_err(|error| error::raise(py, error))
}

/// Calls a function as a hook: it is part of no task, wherever the call is made.
#[pyfunction]
pub(super) fn _call_outside_tasks(py: Python<'_>, function: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let result = current::outside_tasks(|| guarded_call::call_with(py, &function, &[]));
    guarded_call::release(py, function);
    result.map_err(|error| error::raise(py, error))
}

/// Makes an asyncio future of the running loop that gets the outcome of a task which is not done.
#[pyfunction]
pub(super) fn _promise(future: &Bound<'_, Future>) -> PyResult<Py<PyAny>> {
    let (event_loop, notifier) = loop_notifier::here(future.py(), "asubmit works")?;
    let (promise, loop_waiter) = loop_notifier::promise(future, &notifier, &event_loop)?;
    gc::track(future.as_any().as_unbound());
    settle::add_callback(future.py(), future.get(), loop_waiter, Callback::from);
    Ok(promise)
}

/// Notes on the error of a task what a worker notes as the attempt ends: how tasks are called.
#[pyfunction]
pub(super) fn _note_calling(error: &Bound<'_, PyBaseException>) {
    note::calling(error.py(), error.as_any().as_unbound());
}

/// Notes on it how often the task was tried on good ones, and for how long.
#[pyfunction]
pub(super) fn _note_retries(
    error: &Bound<'_, PyBaseException>,
    attempts: u32,
    lasted: f64,
    too_long: Option<f64>,
) {
    note::retries(error.py(), error.as_any().as_unbound(), attempts, lasted, too_long);
}

/// Notes on it how many resources the task was tried on.
#[pyfunction]
pub(super) fn _note_attempts(error: &Bound<'_, PyBaseException>, attempts: u32) {
    note::attempts(error.py(), error.as_any().as_unbound(), attempts);
}

/// Asks for the key of a task, whose function and name say what it is called, and gives its number
/// before it.
#[pyfunction]
pub(super) fn _ask_key(
    function: &Bound<'_, PyAny>,
    name: Option<String>,
    key: Py<PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: &Bound<'_, PyDict>,
) -> PyResult<(usize, Py<PyAny>)> {
    let options = TaskOptions { name, key: Some(key), ..TaskOptions::default() };
    let asked = Asked { function: Some(function.as_unbound()), options: Some(&options) };
    let (args, kwargs) = (Some(args.as_unbound()), Some(kwargs.as_unbound()));
    let py = function.py();
    let asked = keys::ask(py, asked, args, kwargs)?;
    Ok(asked.map_or_else(|| (0, py.None()), |(key, hash)| (KeyNumber::of_hash(hash).index(), key)))
}

/// The name of a task by its function, for people.
#[pyfunction]
pub(super) fn _task_name(function: &Bound<'_, PyAny>) -> String {
    name_of(function.py(), Some(function.as_unbound()))
}
