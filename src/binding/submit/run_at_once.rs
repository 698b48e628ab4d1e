//! `run_task` where a loan is idle and nothing is asked for beside: in the caller's thread, with the
//! future that is kept with the loan. Buys a quarter of the row *run_task*: 187 ns a call, 265 with a
//! future of its own that is claimed, settled and asked, measured on CPython 3.11.

use super::verbs::outcome;
use crate::binding::context::{decimal, variables};
use crate::binding::current;
use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::future::Future;
use crate::binding::future::draft::TaskCall;
use crate::binding::host::state::PyHost;
use crate::binding::host::{attach_yield, forked_child, guarded_call, stacks};
use crate::binding::options::Asked;
use crate::engine::clock::Tick;
use crate::engine::task::KEYWORDS;
use crate::engine::worker::attempt::Ran;
use crate::engine::worker::serve_at_once::Served;
use crate::engine::worker::serve_loan::LoanOf;
use crate::engine::worker::session::WorkerSession;
use pyo3::prelude::*;

/// What a call has that is accepted to run at once.
pub(super) struct AtOnce {
    loan: LoanOf<PyHost>,
    since: Tick,
    /// It runs in this; `None`: in the caller's own.
    context: Option<Py<PyAny>>,
}

impl EngineHandleRef<'_> {
    /// Accepts a call if it asks for nothing but to be run, and a loan is idle.
    pub(super) fn accept_at_once(&self, call: &TaskCall<'_>) -> PyResult<Option<AtOnce>> {
        let (py, engine) = (call.function.py(), &self.engine);
        let is_plain = call.options.is_none() && self.task_timeout.is_none();
        if !is_plain || engine.host.observer.is_there() {
            return Ok(None);
        }
        attach_yield::before_call(py, call.function.as_unbound());
        let context = self.copy_contextvars.then(|| variables::copy_current(py)).transpose()?;
        let (caller, since) = (stacks::this_thread(py), engine.clock.now());
        // Nothing from here on runs code of the user's, until the task has begun.
        Ok(engine.accept_at_once(since).map(|loan| {
            loan.note_caller_thread(Some(caller));
            AtOnce { loan, since, context }
        }))
    }

    /// Runs a call that is accepted to run at once.
    pub(super) fn run_at_once(&self, call: TaskCall<'_>, accepted: AtOnce) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        let AtOnce { loan, since, context } = accepted;
        let outcome = self.engine.serve_at_once(py, loan, since, |session, future| {
            Future::begin_call(py, future, self.0.clone_ref(py), call);
            self.engine.host.run_kept(py, session, future, context.as_ref())
        });
        if let Some(context) = context {
            guarded_call::release(py, context);
        }
        outcome
    }
}

impl PyHost {
    /// Runs the task that is kept with a loan.
    fn run_kept(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        object: &Py<Future>,
        context: Option<&Py<PyAny>>,
    ) -> Served<PyResult<Py<PyAny>>> {
        // SAFETY: its call has begun on this thread.
        let payload = unsafe { object.get().payload() };
        let Some(function) = &payload.function else {
            unreachable!("a call that has begun has a function");
        };
        self.name_task(py, session, Asked { function: Some(function), options: None });
        let has_keywords = object.get().word.has(KEYWORDS);
        let call = || {
            payload.args.with(py, has_keywords, |args, kwargs| {
                guarded_call::call(py, function, Some(session.resource()), args, kwargs)
            })
        };
        current::with(|this_thread| {
            this_thread.wake_before(function.as_ptr(), session);
            this_thread.at_session(session, || {
                let task = Some((object.as_any(), function.as_ptr()));
                let result = this_thread.inside_task(task, || match context {
                    None => call(),
                    Some(context) => {
                        variables::within(py, context, decimal::may_be_in(context), call)
                    }
                });
                if session.engine.is_left_by_fork() {
                    forked_child::end_here(py, &result);
                }
                match result {
                    Ok(value) if Future::is_as_new(py, object) => {
                        session.count_outcome(true);
                        Future::end_call(py, object);
                        Served { ran: Ran::Completed, is_as_new: true, result: Ok(value) }
                    }
                    result => {
                        let ran = self.conclude(py, session, object, result);
                        let result = outcome(object.bind(py));
                        Served { ran, is_as_new: false, result }
                    }
                }
            })
        })
    }
}
