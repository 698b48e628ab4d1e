//! Events: the user's `on_event` is told of a task each time that a total counts it.
//!
//! Two functions, one for each moment. The engine's `count` is called inside the gate, and before
//! an outcome is published; no code of the user's may run there. [`tell`] is called after that, by
//! the same thread: it is outside the gate then, or the outcome is published, and it holds no lock
//! and no claim. So the hook may wait for the task that it is told of, and the sums are equal once
//! the runner has ended and every call of it has returned. A thread that refuses a task which
//! waited for room may hold a claim, or be closing the runner: it leaves that to
//! [`PyHost::tell_refusals`].
//!
//! A task has a [`TaskRecord`] only where there is a hook, and the flag `TOLD` with it.

use super::forked_child;
use super::guarded_call;
use super::hooks::Hook;
use super::state::{PyHost, UntoldRefusal};
use super::task_record::{AttemptFacts, TaskFacts, TaskRecord};
use crate::binding::context::{clock, variables};
use crate::binding::current;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::log::{self, Level};
use crate::binding::options::Asked;
use crate::binding::py_imports::PyImports;
use crate::binding::wait;
use crate::binding::wakes;
use crate::engine::Engine;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::priority::Priority;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

impl EngineHandle {
    /// Numbers tasks that are made now, and makes their record.
    #[cold]
    pub(in crate::binding) fn record(
        &self,
        py: Python<'_>,
        asked: Asked<'_>,
        tasks: usize,
        context: Option<Py<PyAny>>,
    ) -> TaskRecord {
        let before = self.engine.host.events.tasks.fetch_add(tasks as u64, Ordering::Relaxed);
        TaskRecord { facts: self.facts(py, before + 1, asked), context, arrives_late: false }
    }

    fn facts(&self, py: Python<'_>, id: u64, asked: Asked<'_>) -> TaskFacts {
        let (name, priority) = (asked.name(py).into(), asked.priority());
        let (submitted, attempt) = (clock::monotonic_now(py), AttemptFacts::default());
        let by_call = current::telling_calls(&self.engine).next().unwrap_or(0);
        TaskFacts { id, name, priority, submitted, attempt, by_call }
    }

    /// Counts a refusal and tells of it. Gives back what the caller raises. `full`: the queue was.
    pub(in crate::binding) fn refused(
        &self,
        py: Python<'_>,
        asked: Asked<'_>,
        full: bool,
        error: PyErr,
    ) -> PyErr {
        if self.count_refused(full) && self.engine.host.given.tells {
            let facts = self.facts(py, 0, asked);
            let told = Some(error.value(py).clone().into_any().unbind());
            tell(py, &self.engine, EventKind::Refused, facts, None, None, told);
            // The interpreter looks at signals when a call returns, and this one raises.
            if wait::on_main_thread(py)
                && let Err(interrupt) = wait::check_signals(py)
            {
                return interrupt;
            }
        }
        error
    }
}

/// Calls the hook, in a copy of `context`. What a call of it submits to this very runner is not
/// told on its thread while it lasts: a hook that submits at each arrival would never return. One
/// that submits at each outcome feeds itself through the workers all the same.
///
/// `context`: where not in the thread's own. `ended`: when the attempt did, or the task. The caller
/// holds no lock and no claim, and the outcome is published.
#[cold]
pub(in crate::binding) fn tell(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    kind: EventKind,
    facts: TaskFacts,
    context: Option<&Py<PyAny>>,
    ended: Option<f64>,
    error: Option<Py<PyAny>>,
) {
    call_hook(py, engine, kind, facts, context, ended, error);
    if !engine.is_left_by_fork() {
        engine.host.tell_refusals(py);
    }
}

fn call_hook(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    kind: EventKind,
    facts: TaskFacts,
    context: Option<&Py<PyAny>>,
    ended: Option<f64>,
    error: Option<Py<PyAny>>,
) {
    // A child has nothing to say of the parent's tasks.
    if engine.is_left_by_fork() || current::telling_calls(engine).any(|call| call == facts.by_call)
    {
        return;
    }
    let Some(hook) = engine.host.hooks.get_one(py, Hook::Event) else {
        return;
    };
    // A destructor may have got here, while its thread raises something.
    guarded_call::with_exception_set_aside(py, || {
        // The hook may take long.
        wakes::wake_now();
        let call = || {
            let runner = Arc::clone(&engine.host.name);
            let event = TaskEvent { kind, runner, facts, ended, error };
            let event = Py::new(py, event).map_err(|error| error.into_value(py).into_any())?;
            let event = event.into_any();
            let answer = current::outside_tasks(|| guarded_call::call_with(py, &hook, &[&event]));
            guarded_call::release(py, event);
            answer
        };
        let number = engine.host.events.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = current::telling(engine, number, || match context {
            Some(context) => variables::within_copy(py, context, call),
            None => call(),
        });
        forked_child::end_here(py, &answer);
        match answer {
            Ok(nothing) => guarded_call::release(py, nothing),
            Err(error) => engine.host.event_failed(py, error),
        }
    });
    guarded_call::release(py, hook);
}

/// Has it told later of a task that waited for room, was refused now, and is published.
pub(in crate::binding) fn tell_refusal_later(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    record: TaskRecord,
    error: Py<PyAny>,
) {
    let TaskRecord { mut facts, context, .. } = record;
    (facts.id, facts.submitted) = (0, clock::monotonic_now(py));
    let refusal = UntoldRefusal { engine: Arc::clone(engine), facts, context, error };
    engine.host.events.refusals.lock().push_back(refusal);
}

impl PyHost {
    /// Tells of what was refused, unless this thread is in the hook: the outermost call tells it,
    /// one after the other and not each inside the last. The caller holds no lock and no claim.
    pub(in crate::binding) fn tell_refusals(&self, py: Python<'_>) {
        let may_tell = |engine: &Engine<Self>| current::telling_calls(engine).next().is_none();
        loop {
            let mut refusals = self.events.refusals.lock();
            let is_due = refusals.front().is_some_and(|refusal| may_tell(&refusal.engine));
            let next = if is_due { refusals.pop_front() } else { None };
            drop(refusals);
            let Some(UntoldRefusal { engine, facts, context, error }) = next else {
                return;
            };
            call_hook(py, &engine, EventKind::Refused, facts, context.as_ref(), None, Some(error));
            guarded_call::release_some(py, context);
            if engine.is_left_by_fork() {
                // A thread that is gone may hold the lock.
                return;
            }
        }
    }

    /// The hook raised.
    fn event_failed(&self, py: Python<'_>, error: Py<PyAny>) {
        let is_interrupt = guarded_call::is_instance::<PyKeyboardInterrupt>(py, &error);
        let error = if is_interrupt { wait::raise_later(py, error).err() } else { Some(error) };
        if let Some(error) = error {
            let failures = self.events.failures.fetch_add(1, Ordering::Relaxed) + 1;
            // Never switched off, and no record for each of a million tasks.
            if failures.is_power_of_two() {
                let text = format!("{}: on_event failed, {failures} times so far", self.name);
                log::say(py, &self.logger, Level::Error, &text, None, Some(&error));
            }
            guarded_call::release(py, error);
        }
    }
}

#[doc = doc!(TaskEvent)]
#[pyclass(frozen, module = "tasker")]
pub(in crate::binding) struct TaskEvent {
    kind: EventKind,
    runner: Arc<str>,
    facts: TaskFacts,
    #[doc = doc!(TaskEvent.ended)]
    #[pyo3(get)]
    ended: Option<f64>,
    #[doc = doc!(TaskEvent.error)]
    #[pyo3(get)]
    error: Option<Py<PyAny>>,
}

#[pymethods]
impl TaskEvent {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Err(PyTypeError::new_err(
            "a TaskEvent is made by a runner alone, which calls its Config(on_event=...) with it",
        ))
    }

    #[doc = doc!(TaskEvent.kind)]
    #[getter]
    fn kind(&self) -> &'static str {
        EventKind::ALL[self.kind as usize].1
    }

    #[doc = doc!(TaskEvent.runner)]
    #[getter]
    fn runner(&self) -> &str {
        &self.runner
    }

    #[doc = doc!(TaskEvent.task_id)]
    #[getter]
    fn task_id(&self) -> u64 {
        self.facts.id
    }

    #[doc = doc!(TaskEvent.name)]
    #[getter]
    fn name(&self) -> &str {
        &self.facts.name
    }

    #[doc = doc!(TaskEvent.priority)]
    #[getter]
    fn priority(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        PyImports::get(py)?.priority.call1(py, (self.facts.priority as u8,))
    }

    #[doc = doc!(TaskEvent.attempt)]
    #[getter]
    fn attempt(&self) -> u32 {
        self.facts.attempt.number
    }

    #[doc = doc!(TaskEvent.worker)]
    #[getter]
    fn worker(&self) -> Option<&str> {
        self.facts.attempt.worker.as_deref()
    }

    #[doc = doc!(TaskEvent.submitted)]
    #[getter]
    fn submitted(&self) -> f64 {
        self.facts.submitted
    }

    #[doc = doc!(TaskEvent.started)]
    #[getter]
    fn started(&self) -> Option<f64> {
        self.facts.attempt.started
    }

    fn __repr__(&self) -> String {
        let Self { runner, facts: TaskFacts { id, name, attempt, .. }, .. } = self;
        let (kind, attempt) = (self.kind(), attempt.number);
        format!("<TaskEvent '{kind}' of runner '{runner}': task {id} '{name}', attempt {attempt}>")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.error)
    }
}

/// Makes an event of a task that no engine serves.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "what an event tells")]
pub(in crate::binding) fn _event(
    kind: &str,
    runner: &str,
    task_id: u64,
    name: &str,
    priority: u8,
    attempt: u32,
    worker: Option<&str>,
    submitted: f64,
    started: Option<f64>,
    ended: Option<f64>,
    error: Option<Py<PyAny>>,
) -> PyResult<TaskEvent> {
    let known = EventKind::ALL.into_iter().find(|(_, known)| *known == kind);
    let (Some((kind, _)), Some(priority)) = (known, Priority::from_number(priority)) else {
        return Err(PyValueError::new_err("no such event"));
    };
    let attempt = AttemptFacts { number: attempt, worker: worker.map(Arc::from), started };
    let facts =
        TaskFacts { id: task_id, name: name.into(), priority, submitted, attempt, by_call: 0 };
    Ok(TaskEvent { kind, runner: runner.into(), facts, ended, error })
}
