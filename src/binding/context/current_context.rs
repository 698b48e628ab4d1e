//! `current_context`: the context of the task that runs on this thread, made on first need.

use super::item::CurrentItem;
use super::{TaskContext, clock};
use crate::binding::current;
use crate::binding::future::{Future, FutureExtras};
use crate::engine::clock::Tick;
use crate::engine::task::token::Token;
use crate::engine::task::{CANCEL_REQUESTED, HAS_CLEANUP};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

#[doc = doc!(current_context)]
#[pyfunction]
pub(in crate::binding) fn current_context(py: Python<'_>) -> PyResult<Py<TaskContext>> {
    let Some(task) = current::task(py) else {
        return Err(PyRuntimeError::new_err(
            "current_context() is for tasks: no task of a runner runs on this thread",
        ));
    };
    // SAFETY: items are noted as such, and as nothing else.
    if let Some(context) = unsafe { current::item(|item: &CurrentItem<'_>| item.context(py)) } {
        return context;
    }
    let task = task.cast_into::<Future>()?;
    let future = task.get();
    let known = |extras: &mut FutureExtras| Some(extras.context.as_ref()?.1.clone_ref(py));
    if let Some(context) = future.extra(py, known) {
        return Ok(context);
    }
    let Some(engine) = future.engine() else {
        return Err(PyRuntimeError::new_err("the task has no runner"));
    };
    let token = Token::new().child(due(py, future));
    let last_error = future.last_error(py);
    let (attempt, name) = (future.attempts(), future.name(py));
    let context = TaskContext::make(py, engine, token.clone(), attempt, name, last_error)?;
    let (reason, call) = future.with_extras(py, |extras| {
        extras.context = Some((token.clone(), context.clone_ref(py)));
        future.word.set(HAS_CLEANUP);
        (extras.reason.clone(), extras.call.clone())
    });
    if let Some(call) = call {
        call.follow(&token);
    }
    // After the context was put where cancellers find it: one that told the task before could not.
    let killed = current::is_killed();
    if killed || future.word.has(CANCEL_REQUESTED) {
        token.cancel(reason.or_else(|| killed.then(|| "the runner was killed".into())));
    }
    Ok(context)
}

/// The task's time limit on the clock of contexts.
fn due(py: Python<'_>, future: &Future) -> Option<Tick> {
    let due = future.due(py)?;
    let now = future.engine()?.clock.now();
    Some(clock::now(py)().saturating_add(due.saturating_sub(now)))
}
