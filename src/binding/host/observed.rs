//! What is observed: an attempt from just before its function is called to just after, and a call
//! that submits many tasks.
//!
//! The observer is called inside the context that the function runs in, so that what it sets there
//! is what the function finds. It is not put in place of the function: tracebacks, and the look
//! whether a call comes in the middle of the function, would find its frames. It gives what is to
//! be called at the end, or `None`.

use super::guarded_call;
use super::state::PyHost;
use crate::binding::current;
use crate::binding::options::Asked;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::worker::session::WorkerSession;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use std::time::Duration;

/// What an observer is told of an attempt that begins.
pub(in crate::binding) struct ObservedAttempt<'a> {
    pub(in crate::binding) asked: Asked<'a>,
    pub(in crate::binding) attempt: u32,
    pub(in crate::binding) waited: Tick,
    /// It runs in a copy of its submitter's context.
    pub(in crate::binding) own_context: bool,
}

/// Calls the function of an attempt with the observer around it. `is_late`, asked when it has
/// ended: its time limit has passed.
#[cold]
pub(in crate::binding) fn around(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    attempt: &ObservedAttempt<'_>,
    is_late: impl FnOnce() -> bool,
    call: impl FnOnce() -> Result<Py<PyAny>, Py<PyAny>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let host = &session.engine.host;
    let Some(observer) = host.observer.get(py) else {
        return call();
    };
    let begun = attempt.tell(py, session, &observer);
    guarded_call::release(py, observer);
    let end = end_or_report(py, session, begun);
    let result = call();
    if let Some(end) = end {
        // What began in the parent ends there, and not in a child that the function forked.
        if !session.engine.is_left_by_fork() {
            let error =
                result.as_ref().err().map_or_else(|| py.None(), |error| error.clone_ref(py));
            let late = PyBool::new(py, is_late()).to_owned().into_any().unbind();
            let ended = guarded_call::call_with(py, &end, &[&error, &late]);
            guarded_call::release(py, error);
            let nothing = end_or_report(py, session, ended);
            guarded_call::release_some(py, nothing);
        }
        guarded_call::release(py, end);
    }
    result
}

impl ObservedAttempt<'_> {
    fn tell(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, PyHost>,
        observer: &Py<PyAny>,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        let facts = self.facts(py, session).map_err(|error| error.into_value(py).into_any())?;
        let begin = guarded_call::get_attribute(py, observer, intern!(py, "begin"))?;
        let answer = guarded_call::call(py, &begin, None, Some(&facts), None);
        guarded_call::release(py, begin);
        guarded_call::release(py, facts.into_any());
        answer
    }

    fn facts(&self, py: Python<'_>, session: &WorkerSession<'_, PyHost>) -> PyResult<Py<PyTuple>> {
        let function = self.asked.function.map(|function| function.clone_ref(py));
        let facts = [
            function.into_py_any(py)?,
            self.asked.name(py).into_py_any(py)?,
            (self.asked.priority() as u8).into_py_any(py)?,
            self.attempt.into_py_any(py)?,
            Duration::from_nanos(self.waited).as_secs_f64().into_py_any(py)?,
            session.worker.resources().into_py_any(py)?,
            self.own_context.into_py_any(py)?,
        ];
        Ok(PyTuple::new(py, facts)?.unbind())
    }
}

/// What was given, unless it is nothing, or what the observer raised, which is reported.
fn end_or_report(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    answer: Result<Py<PyAny>, Py<PyAny>>,
) -> Option<Py<PyAny>> {
    match answer {
        Ok(end) if end.is_none(py) => None,
        Ok(end) => Some(end),
        Err(error) => {
            let host = &session.engine.host;
            current::hook_failed(py, host, session.worker.name(), "the observer", error);
            None
        }
    }
}

/// The observer, if there is one, and the name of the tasks that are asked for.
pub(in crate::binding) fn observer_of(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    asked: Asked<'_>,
) -> Option<(Py<PyAny>, String)> {
    if engine.is_left_by_fork() {
        // A thread that is gone may hold the lock.
        return None;
    }
    Some((engine.host.observer.get(py)?, asked.name(py)))
}

/// Has the observer know of a call that submits tasks for many items, before the first. Gives what
/// is to be called with their futures, or with the exception of the call.
pub(in crate::binding) fn begin_many(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    asked: Asked<'_>,
) -> PyResult<Option<Py<PyAny>>> {
    let Some((observer, name)) = observer_of(py, engine, asked) else {
        return Ok(None);
    };
    let end = observer.bind(py).call_method1(intern!(py, "begin_many"), (name,))?;
    Ok((!end.is_none()).then(|| end.unbind()))
}
