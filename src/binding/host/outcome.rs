//! What comes of a task on a worker: its call, and what its outcome is.

use super::guarded_call;
use super::interruption;
use super::observed::{self, ObservedAttempt};
use super::state::{Dropped, PyHost};
use crate::binding::context;
use crate::binding::context::{decimal, kept_empty, variables};
use crate::binding::error::{
    self, BrokenThreadPool, ResourceCreationError, RunnerBroken, TaskCancelled, TaskTimeout,
};
use crate::binding::future::settle;
use crate::binding::future::waiting_submits;
use crate::binding::future::{Future, Outcome, Payload};
use crate::binding::interrupt::cancel_attempt::{self, UnderWay};
use crate::binding::note;
use crate::binding::options::Asked;
use crate::engine::AbandonReason;
use crate::engine::clock::Tick;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::{
    CANCEL_REQUESTED, HAS_CLEANUP, JOINT, KEYWORDS, NOT_ADMITTED, ONCE, OWN_CONTEXT, RETRIES,
    TIMED, Taken,
};
use crate::engine::worker::attempt::Ran;
use crate::engine::worker::session::WorkerSession;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// How long a task that was told of its time limit may take to leave before a *substitute* is
/// started for its worker.
const OVERDUE_GRACE: Tick = 20_000_000;

/// Where a task was when its time limit passed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::binding) enum Overdue {
    /// Its function runs, and may do so for long.
    RunsOn,
    /// Its function has just ended.
    Ended,
    /// It was claimed, and not entered.
    NotEntered,
}

impl PyHost {
    /// Whether an error has to be judged before it is delivered, of a task that was `told` to give
    /// up or not, and that `retries` after errors of its own or not.
    pub(in crate::binding) fn judges(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        error: &Py<PyAny>,
        told: bool,
        retries: bool,
    ) -> bool {
        let judges = retries || self.given.judges && !is_our_own(py, error);
        judges && !session.engine.is_killed() && !told
    }

    /// Calls the task's function in a copy of its submitter's context.
    pub(super) fn call(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        future: &Future,
        payload: &mut Payload,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        let Payload { function: Some(function), args, context: snapshot } = payload else {
            return Err(PyRuntimeError::new_err("the task has no function")
                .into_value(py)
                .into_any());
        };
        let flags = future.word.flags();
        let own_context = flags & OWN_CONTEXT != 0;
        let run = || {
            let resource = (!future.is_bare()).then(|| session.resource());
            let call = || {
                if flags & JOINT != 0 {
                    // In no call with others.
                    let both = resource.into_iter().chain(args.item()).collect::<Vec<_>>();
                    return guarded_call::call_with(py, function, &both);
                }
                args.with(py, flags & KEYWORDS != 0, |args, kwargs| {
                    guarded_call::call(py, function, resource, args, kwargs)
                })
            };
            if !self.observer.is_there() {
                return call();
            }
            let attempt = ObservedAttempt {
                asked: Asked { function: Some(function), options: future.options() },
                attempt: future.attempts(),
                waited: session.waited(),
                own_context,
            };
            observed::around(py, session, &attempt, || is_overdue(py, future, session), call)
        };
        if !own_context {
            return run();
        }
        let once = !self.given.judges || self.max_retries == 0 || future.word.has(ONCE);
        let last = once && !future.word.has(RETRIES);
        let is_empty = snapshot.peek().is_none();
        let context = if is_empty {
            kept_empty::take(py)?
        } else {
            let context = snapshot.open(py, last);
            context.map_err(|error| error.into_value(py).into_any())?
        };
        let has_variables = !is_empty && decimal::may_be_in(&context);
        let result = variables::within(py, &context, has_variables, run);
        if is_empty {
            kept_empty::give_back(py, context);
        } else {
            guarded_call::release(py, context);
        }
        result
    }

    /// Ends a task whose time limit passed.
    pub(in crate::binding) fn end_overdue(
        &self,
        py: Python<'_>,
        object: &Py<Future>,
        how: Overdue,
    ) {
        let future = object.get();
        let Some(origin) = &future.origin else {
            return;
        };
        let handle = origin.handle.get();
        if future.word.has(NOT_ADMITTED) && waiting_submits::expire(py, handle, object) {
            return;
        }
        let engine = &handle.engine;
        let name = future.name(py);
        let Some(taken) = engine.take_expired(py, object) else {
            return;
        };
        let limit = future.time_limit();
        let cause = match taken {
            Taken::Running if how != Overdue::NotEntered => None,
            _ => self.fault(py),
        };
        // What waits to be tried again has started.
        let verb = if future.attempts() > 0 { "finish" } else { "start" };
        let text = format!("task {name} did not {verb} within its time limit of {limit} s");
        let error = error::make::<TaskTimeout>(py, &text, cause.as_ref());
        // One that runs has its own use for it, as `current_context().last_error`.
        let last = match taken {
            Taken::Running => future.last_error(py),
            _ => future.take_last_error(py),
        };
        if let Some(last) = &last {
            error::set_context(py, &error, last);
        }
        settle::publish(py, object, Outcome::Error(error), EventKind::TimedOut);
        guarded_call::release_some(py, cause);
        guarded_call::release_some(py, last);
        if taken == Taken::Running {
            settle::request_cancel(py, future, Some(context::OVERDUE.into()));
            if how == Overdue::RunsOn {
                // It has been told; most tasks leave now. The keeper looks once more before a
                // substitute is started.
                let due = engine.clock.now() + OVERDUE_GRACE;
                let watch = engine.watch_deadline(due, object.clone_ref(py));
                future.with_extras(py, |extras| extras.deadline_key = Some(watch));
            }
        } else {
            settle::stop_watching(py, future);
            // SAFETY: the word was taken out of a waiting phase by this thread.
            unsafe { future.drop_payload(py) };
        }
    }

    /// Ends an attempt whose function has ended, and gives the task what came of it, unless that is
    /// to be judged first.
    pub(in crate::binding) fn conclude(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        object: &Py<Future>,
        result: Result<Py<PyAny>, Py<PyAny>>,
    ) -> Ran {
        let future = object.get();
        let asked = future.word.has(HAS_CLEANUP);
        let under_way = asked.then(|| end_attempt(py, session, future));
        let ran = self.deliver(py, session, object, result);
        if let Some(under_way) = under_way {
            under_way.wait(py);
        }
        ran
    }

    /// Gives a task what came of its function, unless that is to be judged first.
    pub(super) fn deliver(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        object: &Py<Future>,
        result: Result<Py<PyAny>, Py<PyAny>>,
    ) -> Ran {
        let future = object.get();
        // Left at a point that it does not know of, in the middle of anything: whatever the error
        // would say.
        let interrupted = session.is_on_loan()
            && result.as_ref().is_err_and(|error| interruption::raised(py, error));
        if interrupted {
            session.mark_bad();
        }
        if is_overdue(py, future, session) {
            // Even if the keeper has not come round to it: heeding the limit must not look like a
            // result in time.
            self.end_overdue(py, object, Overdue::Ended);
        }
        let ran = match result {
            Ok(value) => {
                if future.word.settle_running() {
                    session.count_outcome(true);
                    settle::publish(py, object, Outcome::Value(value), EventKind::Completed);
                    Ran::Completed
                } else {
                    guarded_call::release(py, value);
                    Ran::Overdue
                }
            }
            Err(error) => {
                let error = storable(py, error);
                if !future.is_bare() {
                    note::calling(py, &error);
                }
                if !interrupted
                    && !future.is_bare()
                    && self.judges(
                        py,
                        session,
                        &error,
                        future.word.has(CANCEL_REQUESTED),
                        future.word.has(RETRIES),
                    )
                {
                    let former = future.with_extras(py, |extras| extras.last_error.replace(error));
                    guarded_call::release_some(py, former);
                    return Ran::Suspect;
                }
                if deliver_error(py, session, object, error) { Ran::Failed } else { Ran::Overdue }
            }
        };
        finish(py, future);
        ran
    }

    /// The error of a task that will not run. `last`: that of its last attempt, if it was tried.
    pub(in crate::binding) fn abandoned(
        &self,
        py: Python<'_>,
        why: AbandonReason,
        last: Option<&Py<PyAny>>,
    ) -> Py<PyAny> {
        match why {
            AbandonReason::Killed if self.is_uninitialised() => {
                error::make::<BrokenThreadPool>(py, error::UNINITIALISED, self.fault(py).as_ref())
            }
            AbandonReason::Killed => {
                let text = "the runner was killed before the task started";
                error::make::<TaskCancelled>(py, text, None)
            }
            AbandonReason::NoWorker => {
                let text = "the runner stopped while no resource could be created for the task";
                self.without_resource(py, text, last)
            }
            AbandonReason::FailsFast => {
                let text =
                    "no worker has a resource, and none could be created within fail_fast_after";
                self.without_resource(py, text, last)
            }
            AbandonReason::Broken => error::make::<RunnerBroken>(py, error::BROKEN, last),
        }
    }

    fn without_resource(&self, py: Python<'_>, text: &str, last: Option<&Py<PyAny>>) -> Py<PyAny> {
        let error = error::make::<ResourceCreationError>(py, text, self.fault(py).as_ref());
        if let Some(last) = last {
            error::set_context(py, &error, last);
        }
        error
    }

    /// Keeps what a kill hands back. A standard executor has no caller to hand it to.
    pub(super) fn keep_dropped(&self, py: Python<'_>, future: &Future) {
        if !self.standard {
            self.add_dropped(dropped(py, future));
        }
    }
}

/// What is left of a task that the engine claimed for this thread.
pub(in crate::binding) fn dropped(py: Python<'_>, future: &Future) -> Dropped {
    // SAFETY: as said above.
    let payload = unsafe { future.payload() };
    let args = &payload.args;
    let (args, kwargs) = if future.word.has(JOINT) {
        // Without memory for a tuple the item is lost, as all else is soon.
        (PyTuple::new(py, args.item()).ok().map(Bound::unbind), None)
    } else {
        args.with(py, future.word.has(KEYWORDS), |args, kwargs| {
            (args.map(|args| args.clone_ref(py)), kwargs.map(|kwargs| kwargs.clone_ref(py)))
        })
    };
    Dropped {
        function: payload.function.as_ref().map(|function| function.clone_ref(py)),
        args,
        kwargs,
        options: future.origin.as_ref().and_then(|origin| origin.options.clone()),
        bare: future.is_bare(),
    }
}

/// Gives an error to the task, in its final form.
fn deliver_error(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    object: &Py<Future>,
    error: Py<PyAny>,
) -> bool {
    let future = object.get();
    if !future.word.settle_running() {
        guarded_call::release(py, error);
        return false;
    }
    session.count_outcome(false);
    settle::publish_failure(py, object, error);
    true
}

/// Ends a task's stay on a worker: nothing of it is kept.
pub(in crate::binding) fn finish(py: Python<'_>, future: &Future) {
    settle::stop_watching(py, future);
    drop_context(py, future);
    if future.attempts() > 1 {
        guarded_call::release_some(py, future.take_last_error(py));
    }
    // SAFETY: the engine claimed the task for this thread.
    unsafe { future.drop_payload(py) };
}

/// Whether its time limit has passed.
pub(in crate::binding) fn is_overdue(
    py: Python<'_>,
    future: &Future,
    session: &WorkerSession<'_, PyHost>,
) -> bool {
    future.word.has(TIMED) && future.due(py).is_some_and(|due| due <= session.now())
}

/// Ends what may interrupt an attempt whose function has ended; see [`cancel_attempt::end`].
#[cold]
pub(super) fn end_attempt(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    future: &Future,
) -> UnderWay {
    let (call, context) = future.with_extras(py, |extras| {
        let context = extras.context.as_ref().map(|(_, context)| context.clone_ref(py));
        (extras.call.take(), context)
    });
    cancel_attempt::end(py, session, call, context)
}

#[inline]
pub(super) fn drop_context(py: Python<'_>, future: &Future) {
    if future.word.has(HAS_CLEANUP) {
        drop_asked_context(py, future);
    }
}

#[cold]
fn drop_asked_context(py: Python<'_>, future: &Future) {
    if let Some((_, context)) = future.extra(py, |extras| extras.context.take()) {
        guarded_call::release(py, context);
    }
}

/// Ends a judged task with what interrupted the judgement, and the task's own error as its context.
pub(super) fn interrupt_task(py: Python<'_>, future: &Future, interrupt: Py<PyAny>) {
    let error = future.with_extras(py, |extras| extras.last_error.replace(interrupt.clone_ref(py)));
    if let Some(error) = error
        && !error.is(&interrupt)
    {
        // SAFETY: two exceptions, since both were raised; the function takes over the reference.
        unsafe { pyo3::ffi::PyException_SetContext(interrupt.as_ptr(), error.into_ptr()) };
    }
    guarded_call::release(py, interrupt);
}

/// An error of a task as its future may hold it.
pub(in crate::binding) fn storable(py: Python<'_>, error: Py<PyAny>) -> Py<PyAny> {
    error::not_stopping(py, error, "task")
}

/// Whether an error says nothing of the resource: a task that heeded its cancelled context.
pub(super) fn is_our_own(py: Python<'_>, error: &Py<PyAny>) -> bool {
    guarded_call::is_instance::<TaskCancelled>(py, error)
        || guarded_call::is_instance::<TaskTimeout>(py, error)
}
