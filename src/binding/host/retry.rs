//! Whether a task that failed on a good resource is tried again, and after which pause: the user's
//! `Retry` decides.

use super::guarded_call;
use super::hooks::Hook;
use super::interruption;
use super::outcome::interrupt_task;
use super::state::PyHost;
use super::{current, forked_child};
use crate::binding::context::clock;
use crate::binding::future::Future;
use crate::binding::log;
use crate::binding::options::RetryOption;
use crate::engine::clock::Tick;
use crate::engine::task::{CANCEL_REQUESTED, RETRIES};
use crate::engine::worker::session::WorkerSession;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;

impl PyHost {
    /// After which pause a task is to be tried again that failed on a good resource; `None`: it is not.
    /// Whether it [may](Self::may_pause) is another matter.
    pub(super) fn pause_after(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        future: &Future,
        error: &Py<PyAny>,
    ) -> Option<Tick> {
        if !retries(future) || !guarded_call::is_instance::<PyException>(py, error) {
            return None;
        }
        let retry = self.retry_of(py, future)?;
        let count = count_failure(py, session, future);
        let answer = current::with(|this_thread| {
            this_thread.at_session(session, || {
                this_thread.inside_hook(&retry, || ask(py, &retry, error, count))
            })
        });
        forked_child::end_here(py, &answer);
        guarded_call::release(py, retry);
        match answer {
            Ok(pause) => pause.map(clock::ticks_of),
            Err(interrupt) if session.is_on_loan() && interruption::raised(py, &interrupt) => {
                interrupt_task(py, future, interrupt);
                None
            }
            Err(error) => {
                let worker = Some(session.worker.name());
                log::hook_failed(py, &self.logger, worker, "the function of a Retry", error);
                None
            }
        }
    }

    /// Whether a task may pause for so long: that whose `Retry` asks for it, or another one of its
    /// joint call.
    pub(super) fn may_pause(
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        future: &Future,
        pause: Tick,
    ) -> bool {
        if !retries(future) {
            return false;
        }
        count_failure(py, session, future);
        has_time_for(py, session, future, pause)
    }

    /// The `Retry` of a task, which has one.
    fn retry_of(&self, py: Python<'_>, future: &Future) -> Option<Py<PyAny>> {
        match future.options().map(|options| &options.retry) {
            Some(RetryOption::By(retry)) => Some(retry.clone_ref(py)),
            _ => self.hooks.get_one(py, Hook::Retry),
        }
    }
}

/// Whether a task is one that may be tried again later.
fn retries(future: &Future) -> bool {
    future.word.has(RETRIES) && !future.word.has(CANCEL_REQUESTED)
}

/// Counts that this attempt of a task failed, and gives how many have.
fn count_failure(py: Python<'_>, session: &WorkerSession<'_, PyHost>, future: &Future) -> u32 {
    let (attempt, now) = (future.attempts(), session.now());
    future.with_extras(py, |extras| extras.failures.get_or_insert_default().count(attempt, now))
}

/// Whether the time limit of a task leaves room for a pause. It is noted if it does not.
fn has_time_for(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    future: &Future,
    pause: Tick,
) -> bool {
    let has_room = |due| session.now().checked_add(pause).is_some_and(|end| end < due);
    if future.due(py).is_none_or(has_room) {
        return true;
    }
    future.with_extras(py, |extras| {
        extras.failures.get_or_insert_default().too_long = Some(clock::seconds(pause));
    });
    false
}

/// Asks a `Retry` for the pause in seconds after so many failures, the last with this error.
fn ask(
    py: Python<'_>,
    retry: &Py<PyAny>,
    error: &Py<PyAny>,
    failures: u32,
) -> Result<Option<f64>, Py<PyAny>> {
    let raised = |error: PyErr| error.into_value(py).into_any();
    let failures = PyInt::new(py, failures).into_any().unbind();
    let answer = guarded_call::call_method(py, retry, intern!(py, "_pause"), &[error, &failures])?;
    let pause = answer.extract(py).map_err(raised);
    guarded_call::release(py, answer);
    pause
}
