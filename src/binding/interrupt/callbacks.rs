//! What is registered on a context: the callbacks of one attempt's context and of those below it,
//! or of one context outside of tasks.

use super::call::{CallTarget, CancelCall, HelperJob};
use super::helper_threads;
use crate::binding::current;
use crate::binding::error;
use crate::binding::host::state::PyHost;
use crate::engine::Engine;
use crate::engine::task::helper_pool::{Helpers, JobKey};
use crate::engine::task::token::{ReactionKey, Token};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::collections::BTreeMap;

/// See the module's documentation.
pub(in crate::binding) struct CancelCallbacks {
    /// Whose helpers make the calls; `None`: those of the process.
    engine: Option<Weak<Engine<PyHost>>>,
    /// The name of the task whose attempt it is.
    task: Option<Arc<str>>,
    open: Mutex<OpenCalls>,
}

/// Locked for a few instructions, with no call into the interpreter inside.
#[derive(Default)]
struct OpenCalls {
    /// The attempt is over: nothing is registered any more.
    ended: bool,
    /// One of them was called that is closed by now.
    called: bool,
    next: u64,
    calls: BTreeMap<u64, RegisteredCall>,
}

struct RegisteredCall {
    call: Arc<CancelCall>,
    token: Token,
    reacts: Option<ReactionKey>,
    /// Where its deadline is watched.
    due: Option<JobKey>,
}

impl CancelCallbacks {
    /// That of an attempt of the task with this name, or of a context outside of tasks; of an
    /// engine, or of none.
    pub(in crate::binding) fn new(
        engine: Option<&Arc<Engine<PyHost>>>,
        task: Option<&str>,
    ) -> Arc<Self> {
        let (engine, task) = (engine.map(Arc::downgrade), task.map(Into::into));
        Arc::new(Self { engine, task, open: Mutex::default() })
    }

    pub(in crate::binding) fn is_of_attempt(&self) -> bool {
        self.task.is_some()
    }

    /// Has the callback called when the token is cancelled. `None`: the attempt is over, and
    /// nothing will be called.
    pub(super) fn register(
        &self,
        py: Python<'_>,
        token: &Token,
        callback: Py<PyAny>,
    ) -> PyResult<Option<(u64, Arc<CancelCall>)>> {
        let engine = self.engine.as_ref().map(Weak::upgrade);
        if matches!(engine, Some(None)) || self.has_ended() {
            return Ok(None);
        }
        let engine = engine.flatten();
        let helpers = helpers_of(engine.as_ref());
        helper_threads::enlist(py, &helpers, engine.as_ref())
            .map_err(|fault| error::raise(py, fault))?;
        let call = CancelCall::new(Arc::clone(&helpers), self.target(callback));
        let key = {
            let mut open = self.open.lock();
            if open.ended {
                None
            } else {
                open.next += 1;
                let key = open.next;
                let token = token.clone();
                let (call, reacts, due) = (Arc::clone(&call), None, None);
                open.calls.insert(key, RegisteredCall { call, token, reacts, due });
                Some(key)
            }
        };
        let Some(key) = key else {
            call.release(py);
            return Ok(None);
        };
        let reacts = call.follow(token);
        let later = |due| helpers.put_later(due, HelperJob::Due(Arc::downgrade(&call)));
        let due = token.deadline().map(later);
        let late = {
            let mut open = self.open.lock();
            match open.calls.get_mut(&key) {
                Some(registered) => {
                    (registered.reacts, registered.due) = (Some(reacts), due);
                    false
                }
                None => true,
            }
        };
        if late {
            // The attempt ended meanwhile, and did not see these.
            token.deregister(reacts);
            drop(due.and_then(|due| helpers.remove_later(due)));
        }
        Ok(Some((key, call)))
    }

    /// Calls the callback at once, in this thread: its context is cancelled already. An interrupt
    /// goes to the caller.
    pub(super) fn call_here(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        if self.has_ended() {
            return Ok(());
        }
        let engine = self.engine.as_ref().and_then(Weak::upgrade);
        let host = engine.as_ref().map(|engine| &engine.host);
        let call = CancelCall::new(helpers_of(engine.as_ref()), self.target(callback));
        let result = call.enter(py, None);
        let result = match result {
            Err(error) if error.bind(py).is_instance_of::<PyException>() => {
                current::callback_failed(py, PyHost::logger_of(host), &call.name(py), error);
                Ok(())
            }
            result => result.map_err(|error| error::raise(py, error)),
        };
        call.release(py);
        self.open.lock().called = true;
        result
    }

    fn target(&self, callback: Py<PyAny>) -> CallTarget {
        CallTarget::Callback(callback, self.task.clone())
    }

    /// Whether the calls are made by helpers that stay until the end of their runner.
    fn has_own_helpers(&self) -> bool {
        self.engine.is_some()
    }

    fn has_ended(&self) -> bool {
        self.open.lock().ended
    }

    /// Keeps one from being called. It may be under way.
    pub(super) fn close(&self, key: u64) {
        let registered = self.open.lock().calls.remove(&key);
        if let Some(registered) = registered
            && registered.dismiss(self.has_own_helpers())
        {
            self.open.lock().called = true;
        }
    }

    /// The attempt is over: keeps all from being called. Gives those that were, or are under way,
    /// and whether any was.
    pub(in crate::binding) fn end(&self, py: Python<'_>) -> (Vec<Arc<CancelCall>>, bool) {
        let (calls, called) = {
            let mut open = self.open.lock();
            open.ended = true;
            (std::mem::take(&mut open.calls), open.called)
        };
        let mut made = Vec::new();
        for registered in calls.into_values() {
            if registered.dismiss(self.has_own_helpers()) {
                made.push(registered.call);
            } else {
                registered.call.release(py);
            }
        }
        let called = called || !made.is_empty();
        (made, called)
    }

    pub(in crate::binding) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let open = self.open.try_lock();
        let calls = open.iter().flat_map(|open| open.calls.values());
        calls.into_iter().try_for_each(|registered| registered.call.traverse(visit))
    }
}

/// Those of an engine, or of the process: asked for anew each time, for a context may come through a
/// fork, and the helpers of the process not.
fn helpers_of(engine: Option<&Arc<Engine<PyHost>>>) -> Arc<Helpers<HelperJob>> {
    let own = |engine: &Arc<Engine<PyHost>>| Arc::clone(&engine.host.helpers);
    engine.map_or_else(helper_threads::of_process, own)
}

impl RegisteredCall {
    /// Takes it off every list. True when it was called, or is under way.
    fn dismiss(&self, own_helpers: bool) -> bool {
        let Self { call, token, reacts, due } = self;
        if let Some(reacts) = reacts {
            token.deregister(*reacts);
        }
        if call.is_inherited() {
            return false;
        }
        drop(due.and_then(|due| call.helpers.remove_later(due)));
        // The helpers of a runner stay until its end.
        if !own_helpers {
            call.helpers.remove_user();
        }
        call.close()
    }
}

impl Drop for CancelCallbacks {
    fn drop(&mut self) {
        // SAFETY: these die with the last context or handle that is an owner of it: where objects
        // die, a thread is attached.
        let py = unsafe { Python::assume_attached() };
        // The context has gone, so that no canceller can reach it.
        let own_helpers = self.has_own_helpers();
        let calls = std::mem::take(&mut self.open.lock().calls);
        for registered in calls.into_values() {
            registered.dismiss(own_helpers);
            registered.call.let_go(py);
        }
    }
}
