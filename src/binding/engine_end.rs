//! The end of an engine: kills, what they hand back, and the wait for it.

use super::current;
use super::error::{self, TaskCancelled};
use super::future::{Outcome, settle};
use super::host::guarded_call;
use super::host::outcome::{self, finish};
use super::host::state::{Dropped, PyHost, release_if_over};
use super::host::thread;
use super::map::batch::Batch;
use super::map::run;
use super::options::TaskOptions;
use super::py_imports::{PyImports, PyReports};
use super::wait::{self, Limit};
use crate::engine::cancel_queued::Withdrawn;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::priority::Priority;
use crate::engine::{Engine, Host, Mode};
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cmp::Reverse;
use std::time::Duration;

/// Begins to stop an engine whose owner goes, with the callables in its own keeping.
pub(super) fn let_go(py: Python<'_>, engine: &Arc<Engine<PyHost>>) {
    if !engine.is_broken() && engine.mode() != Mode::Stopped {
        engine.host.hooks.keep(py);
        engine.begin_stop();
        release_if_over(py, engine);
    }
}

/// Waits until nothing of the engine is left and its threads have ended; false when the limit
/// passes.
pub(super) fn wait_ended(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    limit: Limit,
) -> PyResult<bool> {
    if engine.is_left_by_fork() {
        // The hook forked, and this is the child: nothing here is its own.
        return Ok(true);
    }
    let ended = wait::until(
        py,
        limit,
        || engine.wait_ended(Duration::ZERO),
        |slice| engine.wait_ended(slice),
    )?;
    if !ended {
        return Ok(false);
    }
    // The native part of these threads is over; what is left of them takes microseconds. Each of
    // several callers waits for all of them: if the first took them away, the others would return
    // too early.
    for thread in engine.host.threads(py) {
        thread::join(py, &thread)?;
    }
    drop(engine.host.take_threads());
    engine.host.release_own(py);
    Ok(true)
}

/// Kills, and cancels the contexts of all running tasks.
pub(super) fn kill(py: Python<'_>, engine: &Arc<Engine<PyHost>>) {
    current::on_behalf(engine, || engine.kill(py));
    let mut running = Vec::new();
    for worker in engine.workers() {
        worker.for_each_running(|task, _| running.push(engine.host.share(py, task)));
    }
    for task in running {
        if let Some(batch) = Batch::of(task.get()) {
            batch.get().request_cancel("the runner was killed");
        } else {
            let call = engine.tasks_of_call(py, &task.get().word);
            for task in call.iter().chain([&task]) {
                settle::request_cancel(py, task.get(), Some("the runner was killed".into()));
            }
            for task in call {
                guarded_call::release(py, task);
            }
        }
        guarded_call::release(py, task);
    }
}

/// Drops all that waits in the queues of an engine, which goes on; gives what never ran.
pub(super) fn cancel_queued(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    reason: Option<&str>,
) -> Vec<Dropped> {
    let text = match reason {
        Some(reason) => format!("the task was dropped from the queue before it started: {reason}"),
        None => "the task was dropped from the queue before it started".to_owned(),
    };
    let error = || error::make::<TaskCancelled>(py, &text, None);
    let mut dropped = Vec::new();
    engine.cancel_queued(py, |task, what| {
        let future = task.get();
        let (outcome, event) = match what {
            Withdrawn::Items(items) => {
                run::drop_items_waiting(py, task, items, error, &mut dropped);
                return;
            }
            Withdrawn::Task(EventKind::Dropped) => {
                dropped.push(outcome::dropped(py, future));
                (error(), EventKind::Dropped)
            }
            // It has run, and this is how its last attempt ended.
            Withdrawn::Task(event) => (future.take_last_error(py).unwrap_or_else(error), event),
        };
        settle::publish(py, task, Outcome::Error(outcome), event);
        finish(py, future);
    });
    dropped
}

/// What was dropped, the higher priorities first. What runs in order stays in its order, among tasks
/// of the default priority.
pub(super) fn dropped_tasks(py: Python<'_>, mut dropped: Vec<Dropped>) -> PyResult<Vec<Py<PyAny>>> {
    let priority_of = |task: &Dropped| TaskOptions::priority_of(task.options.as_deref());
    let is_serial = |task: &Dropped| task.options.as_deref().is_some_and(|it| it.serial);
    let rank = |task: &Dropped| if is_serial(task) { Priority::Normal } else { priority_of(task) };
    dropped.sort_by_key(|task| Reverse(rank(task)));
    if dropped.is_empty() {
        return Ok(Vec::new());
    }
    let PyImports { priority, unset, .. } = PyImports::get(py)?;
    let PyReports { dropped_task, without_resource, .. } = PyReports::get(py)?;
    let mut tasks = Vec::with_capacity(dropped.len());
    for task in dropped {
        let (fields, urgency) = (PyDict::new(py), priority_of(&task));
        let mut function = task.function;
        if task.bare {
            function = Some(without_resource.call1(py, (function,))?);
        }
        fields.set_item("fn", function)?;
        let args = task.args.unwrap_or_else(|| PyTuple::empty(py).unbind());
        fields.set_item("args", args)?;
        let kwargs = task.kwargs.unwrap_or_else(|| PyDict::new(py).unbind());
        fields.set_item("kwargs", kwargs)?;
        fields.set_item("priority", priority.call1(py, (urgency as u8,))?)?;
        let options = task.options.as_deref();
        fields.set_item("once", options.is_some_and(|options| options.once))?;
        fields.set_item("timeout", options.and_then(|options| options.timeout))?;
        fields.set_item("name", options.and_then(|options| options.name.as_deref()))?;
        fields.set_item(
            "retry",
            options.map_or(unset.clone_ref(py), |options| options.retry_given(py, unset)),
        )?;
        fields.set_item("key", options.and_then(|options| options.key.as_ref()))?;
        fields.set_item("serial", options.is_some_and(|options| options.serial))?;
        tasks.push(dropped_task.call(py, (), Some(&fields))?);
    }
    Ok(tasks)
}
