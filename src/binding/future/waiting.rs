//! How a thread waits for a task: it looks, yields its core, runs the task itself, and parks.

use super::Future;
use super::settle;
use crate::binding::current;
use crate::binding::error;
use crate::binding::host::guarded_call;
use crate::binding::limit;
use crate::binding::wait::{self, Limit};
use crate::binding::wakes;
use crate::engine::queue::serial_lines::Place;
use crate::engine::task::{IN_LINE, NOT_ADMITTED, OBSERVED, Phase};
use crate::engine::worker::session::WorkerSession;
use crate::sync::{Arc, thread};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use std::time::Duration;

/// How often a worker looks whether the task before another one has left their line.
const MOMENT: Duration = Duration::from_millis(1);

/// Blocks until the task is done.
pub(super) fn wait_for(
    slf: &Bound<'_, Future>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (py, future) = (slf.py(), slf.get());
    let timeout = limit::standard(timeout)?;
    if timeout.is_none() && (wait_in_line(slf)? || run_instead(slf)) {
        return Ok(());
    }
    if future.is_forked() {
        return Err(error::RunnerBroken::new_err(error::FORKED));
    }
    if timeout.is_none()
        && let Some(engine) = future.engine()
    {
        check_renewal(future)?;
        if current::would_deadlock(py, engine) {
            // Its outcome has been asked for all the same.
            future.word.set(OBSERVED);
            return Err(PyRuntimeError::new_err(error::WOULD_DEADLOCK));
        }
    }
    let limit = Limit::after(timeout);
    // Before it registers, which costs as much as the rest of a quick task.
    if wait::offer(py, limit, || future.word.is_done()) {
        return Ok(());
    }
    settle::add_observer(py, future, |extras| extras.result_waiters.push(wakes::this_thread()));
    let waited = wait::parked_until(py, limit, || future.word.is_done() || future.is_forked());
    if waited.is_ok() && future.word.is_done() {
        return Ok(());
    }
    stop_waiting(py, future);
    match waited {
        Ok(true) => Err(error::RunnerBroken::new_err(error::FORKED)),
        Ok(false) => Err(PyTimeoutError::new_err(())),
        // Even if the task is done by now: no other caller would hear of the interrupt.
        Err(interrupted) => Err(interrupted),
    }
}

/// Raises where the future is that of a renewal, and this thread keeps it from its end.
pub(super) fn check_renewal(future: &Future) -> PyResult<()> {
    if future.word.is_renewal() && future.engine().is_some_and(current::works_for) {
        return Err(PyRuntimeError::new_err(error::RENEWAL_WOULD_DEADLOCK));
    }
    Ok(())
}

/// A worker that waits without a limit for a task of its own runner runs it, if no other thread has
/// started it.
pub(in crate::binding) fn run_instead(slf: &Bound<'_, Future>) -> bool {
    let future = slf.get();
    let Some(engine) = future.engine() else {
        return false;
    };
    if future.word.phase() != Phase::Waiting || future.word.has(NOT_ADMITTED) {
        return false;
    }
    if engine.place_in_line(slf.as_unbound()) != Place::Next {
        return false;
    }
    let task = slf.clone().unbind();
    let run = |session: &WorkerSession<'_, _>| session.serve_inside(slf.py(), &task, true);
    let ran = current::session_of(slf.py(), engine, run).unwrap_or(false);
    guarded_call::release(slf.py(), task);
    ran
}

/// Has a worker wait until it may run a task of its own runner that runs in order; true when that is
/// over by then. Raises where that might never be.
fn wait_in_line(slf: &Bound<'_, Future>) -> PyResult<bool> {
    let (py, future) = (slf.py(), slf.get());
    let Some(engine) = future.engine().filter(|_| future.word.has(IN_LINE)) else {
        return Ok(false);
    };
    if future.is_forked() || !current::works_for(engine) {
        return Ok(false);
    }
    let task = slf.as_unbound();
    let place = || {
        let waits = task.get().word.phase() == Phase::Waiting;
        if waits { engine.place_in_line(task) } else { Place::Next }
    };
    // Whoever ended the one before is about to take it out, and tells nobody.
    let is_clear = || place() != Place::Soon;
    if !is_clear() && !wait::offer(py, Limit::after(None), is_clear) {
        wait::until(py, Limit::after(None), is_clear, |_| thread::park_timeout(MOMENT))?;
    }
    if place() == Place::Behind {
        // Its outcome has been asked for all the same.
        future.word.set(OBSERVED);
        return Err(PyRuntimeError::new_err(error::SERIAL_WOULD_DEADLOCK));
    }
    Ok(future.word.is_done())
}

fn stop_waiting(py: Python<'_>, future: &Future) {
    let me = wakes::this_thread();
    let waiter = future.extra(py, |extras| {
        let place = extras.result_waiters.iter().position(|waiter| Arc::ptr_eq(waiter, &me))?;
        Some(extras.result_waiters.swap_remove(place))
    });
    drop(waiter);
}
