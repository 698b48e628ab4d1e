//! What the workers of an engine do at this moment, told in the Python package's objects and in
//! texts.

use super::context::clock::seconds;
use super::error::StopTimeout;
use super::future::Future;
use super::host::guarded_call;
use super::host::stacks::{self, StackCall, WorkerStack};
use super::host::state::PyHost;
use super::printable;
use super::py_imports::{PyImports, PyReports};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::metrics::busy;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::roster::shared::{WorkerKind, WorkerShared};
use crate::engine::task::EXPIRED;
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::fmt::Write as _;

/// Writes a stack as `traceback.format_stack` does.
fn format(py: Python<'_>, calls: Vec<StackCall>) -> PyResult<Vec<String>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    PyImports::get(py)?.format_calls.call1(py, (calls,))?.extract(py)
}

/// A worker that runs no task, and where it is: ` at File "app.py", line 7, in connect`, or
/// nothing.
pub(super) struct OutsideTask {
    pub(super) worker: Arc<WorkerShared<Py<Future>>>,
    pub(super) place: String,
}

/// What the workers do: those that run a task by the Python package's objects, and the others.
pub(super) fn survey(
    py: Python<'_>,
    engine: &Engine<PyHost>,
) -> PyResult<(Vec<Py<PyAny>>, Vec<OutsideTask>)> {
    let (mut running, mut outside_task) = (Vec::new(), Vec::new());
    for WorkerStack { worker, tasks, calls, .. } in stacks::look(py, engine, true) {
        let stack = format(py, calls)?;
        if tasks.is_empty() {
            let place = stack.last().and_then(|call| call.trim().lines().next());
            let place = place.map_or_else(String::new, |place| format!(", at {place}"));
            outside_task.push(OutsideTask { worker, place });
            continue;
        }
        running.extend(describe(py, engine, &worker, tasks, stack)?);
    }
    Ok((running, outside_task))
}

/// Tells what a worker runs, outermost first, by the Python package's objects.
fn describe(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    worker: &WorkerShared<Py<Future>>,
    tasks: Vec<(Py<Future>, Tick)>,
    stack: Vec<String>,
) -> PyResult<Vec<Py<PyAny>>> {
    let running_task = &PyReports::get(py)?.running_task;
    let (stack, now) = (PyTuple::new(py, stack)?, engine.clock.now());
    let described = tasks.into_iter().map(|(task, since)| {
        let future = task.get();
        let (name, overdue) = (future.name(py), future.word.has(EXPIRED));
        // Batches count no attempts, and the first is counted when the function is entered.
        let attempt = future.attempts().max(1);
        guarded_call::release(py, task);
        let age = seconds(now.saturating_sub(since));
        running_task.call1(py, (name, age, worker.name(), &stack, attempt, overdue))
    });
    described.collect()
}

/// Every worker, for `Runner.workers`.
pub(super) fn workers<'py>(
    py: Python<'py>,
    engine: &Engine<PyHost>,
    with_stacks: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut found = Vec::new();
    for WorkerStack { worker, tasks, calls, thread } in stacks::look(py, engine, with_stacks) {
        if worker.is_retired() {
            continue;
        }
        let stack = format(py, calls)?;
        let task = describe(py, engine, &worker, tasks, stack)?.into_iter().next();
        let made = worker.resource_made();
        let state = match () {
            () if task.is_some() => "busy",
            () if !worker.has_begun() => "starting",
            () if made.is_some() => "idle",
            () => "equipping",
        };
        let kind = match worker.kind() {
            WorkerKind::Burst if !worker.is_base() => "burst",
            WorkerKind::Base | WorkerKind::Burst => "base",
            WorkerKind::Reserved => "reserved",
            WorkerKind::Temporary => "temporary",
        };
        let age = made.map(|made| seconds(engine.clock.now().saturating_sub(made)));
        let native_id = thread.map(|thread| thread.native_id).filter(|native_id| *native_id != 0);
        let fields = PyDict::new(py);
        fields.set_item("name", worker.name())?;
        fields.set_item("native_id", native_id)?;
        fields.set_item("kind", kind)?;
        fields.set_item("state", state)?;
        fields.set_item("task", task)?;
        fields.set_item("tasks_done", worker.total(WorkerCounter::Ended))?;
        fields.set_item("busy_seconds", seconds(worker.total(WorkerCounter::ExecutionTime)))?;
        fields
            .set_item("busy_share", busy::share(engine.loans.busy(&worker, engine.clock.now())))?;
        fields.set_item("resource_generation", worker.resources())?;
        fields.set_item("resource_age", age)?;
        found.push(PyReports::get(py)?.worker_info.call(py, (), Some(&fields))?);
    }
    PyTuple::new(py, found)
}

/// What a stop or kill raises that timed out.
pub(super) fn stop_timeout(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    verb: &str,
    dropped: Vec<Py<PyAny>>,
) -> PyResult<PyErr> {
    let (running, outside_task) = survey(py, engine)?;
    let running = PyTuple::new(py, running)?.unbind();
    let runner = printable::quoted(&engine.settings.name);
    let mut text = format!("{verb}() of runner {runner} timed out");
    for OutsideTask { worker, place } in outside_task {
        let _ = write!(text, "; {} is still ending{place}", worker.name());
    }
    Ok(StopTimeout::new_err((text, running, dropped)))
}

/// Names the workers whose first resource is not made, and where each is.
pub(super) fn not_ready(py: Python<'_>, engine: &Engine<PyHost>) -> PyResult<String> {
    let (_, outside_task) = survey(py, engine)?;
    let mut text = String::new();
    for OutsideTask { worker, place } in outside_task {
        if !worker.has_begun() {
            let _ = write!(text, "; {} is not ready{place}", worker.name());
        }
    }
    Ok(text)
}
