//! What workers do with the tasks of a joint call: they leave out what is too late, make the call,
//! and give each task what came of it.

use super::function::{self, BatchFunction};
use crate::binding::context::item::CurrentItem;
use crate::binding::current;
use crate::binding::future::{Future, Outcome, settle};
use crate::binding::host::observed::{self, ObservedAttempt};
use crate::binding::host::outcome::{Overdue, finish, is_overdue, storable};
use crate::binding::host::state::PyHost;
use crate::binding::host::{attach_yield, forked_child, guarded_call};
use crate::binding::interrupt::cancel_attempt::UnderWay;
use crate::binding::options::Asked;
use crate::binding::wakes;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::RETRIES;
use crate::engine::task::token::Token;
use crate::engine::worker::attempt::JointRan;
use crate::engine::worker::session::WorkerSession;
use pyo3::prelude::*;

/// Ends a task whose time limit has passed before its call began; false when it has not.
pub(in crate::binding) fn leave_out(
    py: Python<'_>,
    host: &PyHost,
    session: &WorkerSession<'_, PyHost>,
    task: &Py<Future>,
) -> bool {
    let is_late = is_overdue(py, task.get(), session);
    if is_late {
        wakes::wake_now();
        host.end_overdue(py, task, Overdue::NotEntered);
        finish(py, task.get());
    }
    is_late
}

/// Runs claimed tasks in one call.
pub(in crate::binding) fn run(
    py: Python<'_>,
    host: &PyHost,
    session: &WorkerSession<'_, PyHost>,
    tasks: &[Py<Future>],
    token: &Token,
) -> JointRan {
    let Some((lead, function)) =
        tasks.first().and_then(|lead| Some((lead, BatchFunction::of(lead.get())?.clone_ref(py))))
    else {
        return JointRan::Returned { completed: 0 };
    };
    let asked = Asked { function: Some(&function.get().function), options: lead.get().options() };
    attach_yield::before_call(py, &function.get().function);
    host.name_task(py, session, asked);
    let call = JointRun { py, host, session, tasks, lead, function: &function, asked };
    let ran = current::with(|this_thread| {
        this_thread.wake_before(function.as_ptr(), session);
        this_thread.at_session(session, || {
            let (result, under_way) = call.call(token);
            if session.engine.is_left_by_fork() {
                forked_child::end_here(py, &result);
            }
            session.joint_call_ended();
            let ran = match result {
                Ok(results) => call.deliver(results),
                Err(error) => call.fail(error, token),
            };
            if let Some(under_way) = under_way {
                under_way.wait(py);
            }
            ran
        })
    });
    guarded_call::release(py, function);
    ran
}

/// As many results as tasks, or what the call raised.
type JointResults = Result<Vec<Py<PyAny>>, Py<PyAny>>;

/// What a worker needs to make one joint call.
struct JointRun<'a, 'py> {
    py: Python<'py>,
    host: &'a PyHost,
    session: &'a WorkerSession<'a, PyHost>,
    tasks: &'a [Py<Future>],
    lead: &'a Py<Future>,
    function: &'a Py<BatchFunction>,
    asked: Asked<'a>,
}

impl JointRun<'_, '_> {
    /// Makes the call. Gives as many results as tasks, and what interrupts the call and is still
    /// under way.
    fn call(&self, token: &Token) -> (JointResults, Option<UnderWay>) {
        let Self { py, host, session, tasks, lead, function, .. } = *self;
        for task in tasks {
            let future = task.get();
            future.set_attempts(future.attempts() + 1);
            PyHost::note_attempt(py, session, future, future.attempts());
        }
        let current = CurrentItem::new(lead, token, lead.get().attempts());
        let user = &function.get().function;
        current::with(|this_thread| {
            this_thread.inside_item(lead.as_any(), user, &current, || {
                if host.given.interrupts {
                    current.begin(py, session);
                }
                let result = self.in_context();
                (result, current.end(py, session))
            })
        })
    }

    /// Calls the function, with the observer around it if there is one.
    fn in_context(&self) -> JointResults {
        let Self { py, host, session, tasks, lead, function, asked } = *self;
        let items = tasks.iter().map(|task| {
            // SAFETY: the engine claimed the tasks for this thread.
            let payload = unsafe { task.get().payload() };
            payload.args.item().map(|item| item.clone_ref(py))
        });
        let origin = lead.get().origin.as_ref();
        let own_context = origin.is_some_and(|it| it.handle.get().copy_contextvars);
        function.get().call_with_context(py, items, own_context, |call| {
            let mut call = || call(session.resource());
            if !host.observer.is_there() {
                return call();
            }
            let (attempt, waited) = (lead.get().attempts(), session.waited());
            let attempt = ObservedAttempt { asked, attempt, waited, own_context };
            observed::around(py, session, &attempt, || false, call)
        })
    }

    /// Gives each task its result.
    fn deliver(&self, results: Vec<Py<PyAny>>) -> JointRan {
        let Self { py, host, session, tasks, .. } = *self;
        let mut completed = 0;
        for (task, result) in tasks.iter().zip(results) {
            let future = task.get();
            if is_overdue(py, future, session) {
                // As for every task: heeding the limit must not look like a result in time.
                host.end_overdue(py, task, Overdue::Ended);
            }
            let is_error = function::is_error(py, &result);
            if !session.take_joint_outcome(&future.word, !is_error) {
                guarded_call::release(py, result);
            } else if is_error {
                settle::publish_failure(py, task, storable(py, result));
            } else {
                completed += 1;
                settle::publish(py, task, Outcome::Value(result), EventKind::Completed);
            }
            if future.attempts() > 1 {
                guarded_call::release_some(py, future.take_last_error(py));
            }
            finish(py, future);
        }
        JointRan::Returned { completed }
    }

    /// Keeps the error of the call with each task, until the engine has decided on it.
    fn fail(&self, error: Py<PyAny>, token: &Token) -> JointRan {
        let Self { py, host, session, tasks, .. } = *self;
        let error = storable(py, error);
        for task in tasks {
            if is_overdue(py, task.get(), session) {
                host.end_overdue(py, task, Overdue::Ended);
            }
            let kept = error.clone_ref(py);
            let former = task.get().with_extras(py, |extras| extras.last_error.replace(kept));
            guarded_call::release_some(py, former);
        }
        let retries = tasks.iter().any(|task| task.get().word.has(RETRIES));
        let is_suspect = host.judges(py, session, &error, token.cancelled_flag(), retries);
        guarded_call::release(py, error);
        JointRan::Failed { is_suspect }
    }
}
