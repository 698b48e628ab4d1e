//! The item of a `map` that this thread runs, or the joint call: its context, made when asked for,
//! and what interrupts it.

use super::TaskContext;
use crate::binding::current;
use crate::binding::future::Future;
use crate::binding::host::state::PyHost;
use crate::binding::interrupt::call::CancelCall;
use crate::binding::interrupt::cancel_attempt::{self, UnderWay};
use crate::engine::task::token::{ReactionKey, Token};
use crate::engine::worker::session::WorkerSession;
use crate::sync::Arc;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::RefCell;

/// See the module's documentation.
pub(in crate::binding) struct CurrentItem<'a> {
    /// The ticket of its batch, by which it is named; of a joint call the task that leads it.
    ticket: &'a Py<Future>,
    /// Cancelled when all items of the map, or all tasks of the call, are told to give up.
    token: &'a Token,
    attempt: u32,
    context: RefCell<Option<Py<TaskContext>>>,
    /// What interrupts it, where the config's `on_cancel` does, and its place with the token.
    call: RefCell<Option<(Arc<CancelCall>, ReactionKey)>>,
}

impl<'a> CurrentItem<'a> {
    pub(in crate::binding) fn new(ticket: &'a Py<Future>, token: &'a Token, attempt: u32) -> Self {
        Self { ticket, token, attempt, context: RefCell::new(None), call: RefCell::new(None) }
    }

    /// The context of the item that this thread runs.
    pub(super) fn context(&self, py: Python<'_>) -> PyResult<Py<TaskContext>> {
        if let Some(context) = &*self.context.borrow() {
            return Ok(context.clone_ref(py));
        }
        let ticket = self.ticket.get();
        let Some(engine) = ticket.engine() else {
            return Err(PyRuntimeError::new_err("the item has no runner"));
        };
        let token = self.token.child(None);
        // Of a joint call that is made again; a ticket has none.
        let last_error = ticket.last_error(py);
        let name = ticket.name(py);
        let context = TaskContext::make(py, engine, token.clone(), self.attempt, name, last_error)?;
        *self.context.borrow_mut() = Some(context.clone_ref(py));
        if let Some((call, _)) = &*self.call.borrow() {
            call.follow(&token);
        }
        // After the batch was shown as running: a kill that came before could not find it.
        if current::is_killed() {
            token.cancel(Some("the runner was killed".into()));
        }
        Ok(context)
    }

    /// An item begins that can be interrupted.
    #[cold]
    pub(in crate::binding) fn begin(&self, py: Python<'_>, session: &WorkerSession<'_, PyHost>) {
        let call = cancel_attempt::begin(py, session, self.ticket);
        let key = call.follow(self.token);
        // As above.
        if session.engine.is_killed() {
            call.want();
        }
        self.call.replace(Some((call, key)));
    }

    /// The item has ended: no task uses its context any more, and nothing interrupts it from here
    /// on.
    #[inline]
    pub(in crate::binding) fn end(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, PyHost>,
    ) -> Option<UnderWay> {
        let has_none = self.context.borrow().is_none() && self.call.borrow().is_none();
        if has_none { None } else { Some(self.clean_up(py, session)) }
    }

    #[cold]
    fn clean_up(&self, py: Python<'_>, session: &WorkerSession<'_, PyHost>) -> UnderWay {
        let (context, call) = (self.context.take(), self.call.take());
        let call = call.map(|(call, key)| {
            self.token.deregister(key);
            call
        });
        cancel_attempt::end(py, session, call, context)
    }
}
