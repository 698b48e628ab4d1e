//! What is registered on a context: the callbacks of one attempt's context and of those below it, or of one context
//! outside of tasks.

use super::crew::{Crew, Job};
use super::{Call, Target};
use crate::engine::Engine;
use crate::engine::task::helpers::Key;
use crate::engine::task::token::{Reacts, Token};
use crate::python::error;
use crate::python::host::PyHost;
use crate::python::log;
use crate::sync::{Arc, Mutex, Weak};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::collections::BTreeMap;

/// See the module's documentation.
pub(in crate::python) struct Ward {
    crew: Arc<Crew>,
    /// Whose helpers make the calls; `None`: those of the process.
    engine: Option<Weak<Engine<PyHost>>>,
    /// The name of the task whose attempt it is.
    task: Option<Arc<str>>,
    open: Mutex<Open>,
}

/// Locked for a few instructions, with no call into the interpreter inside.
#[derive(Default)]
struct Open {
    /// The attempt is over: nothing is registered any more.
    ended: bool,
    /// One of them was called that is closed by now.
    called: bool,
    next: u64,
    calls: BTreeMap<u64, Registered>,
}

struct Registered {
    call: Arc<Call>,
    token: Token,
    reacts: Option<Reacts>,
    /// Where its deadline is watched.
    due: Option<Key>,
}

impl Ward {
    /// That of an attempt.
    pub(in crate::python) fn of_attempt(engine: &Arc<Engine<PyHost>>, task: &str) -> Arc<Self> {
        Arc::new(Self {
            crew: Arc::clone(&engine.host.crew),
            engine: Some(Arc::downgrade(engine)),
            task: Some(task.into()),
            open: Mutex::default(),
        })
    }

    /// That of an attempt that no engine makes.
    pub(in crate::python) fn of_inline_attempt(task: &str) -> Arc<Self> {
        let task = Some(task.into());
        Arc::new(Self { crew: Crew::of_process(), engine: None, task, open: Mutex::default() })
    }

    /// That of a context outside of tasks.
    pub(in crate::python) fn of_context() -> Arc<Self> {
        Arc::new(Self {
            crew: Crew::of_process(),
            engine: None,
            task: None,
            open: Mutex::default(),
        })
    }

    pub(in crate::python) fn is_of_attempt(&self) -> bool {
        self.task.is_some()
    }

    /// Has the callback called when the token is cancelled. `None`: the attempt is over, and nothing will be called.
    pub(super) fn register(
        &self,
        py: Python<'_>,
        token: &Token,
        callback: Py<PyAny>,
    ) -> PyResult<Option<(u64, Arc<Call>)>> {
        let engine = match &self.engine {
            Some(engine) => match engine.upgrade() {
                Some(engine) => Some(engine),
                None => return Ok(None),
            },
            None => None,
        };
        if self.has_ended() {
            return Ok(None);
        }
        // A context may come through a fork, and its first helpers not.
        let crew = if engine.is_some() { Arc::clone(&self.crew) } else { Crew::of_process() };
        crew.enlist(py, engine.as_ref()).map_err(|fault| error::raise(py, fault))?;
        let call = Call::new(Arc::clone(&crew), self.target(callback));
        let key = {
            let mut open = self.open.lock();
            if open.ended {
                None
            } else {
                open.next += 1;
                let key = open.next;
                let token = token.clone();
                let (call, reacts, due) = (Arc::clone(&call), None, None);
                open.calls.insert(key, Registered { call, token, reacts, due });
                Some(key)
            }
        };
        let Some(key) = key else {
            call.release(py);
            return Ok(None);
        };
        let reacts = call.follow(token);
        let later = |due| crew.helpers.put_later(due, Job::Due(Arc::downgrade(&call)));
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
            token.withdraw(reacts);
            drop(due.and_then(|due| crew.helpers.take_back(due)));
        }
        Ok(Some((key, call)))
    }

    /// Calls the callback at once, in this thread: its context is cancelled already. An interrupt goes to the caller.
    pub(super) fn call_here(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        if self.has_ended() {
            return Ok(());
        }
        let engine = self.engine.as_ref().and_then(Weak::upgrade);
        let host = engine.as_ref().map(|engine| &engine.host);
        let call = Call::new(Arc::clone(&self.crew), self.target(callback));
        let result = call.enter(py, host);
        let result = match result {
            Err(error) if error.bind(py).is_instance_of::<PyException>() => {
                log::hook_failed(py, host, None, &call.name(py), error);
                Ok(())
            }
            result => result.map_err(|error| error::raise(py, error)),
        };
        call.release(py);
        self.open.lock().called = true;
        result
    }

    fn target(&self, callback: Py<PyAny>) -> Target {
        Target::Callback(callback, self.task.clone())
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

    /// The attempt is over: keeps all from being called. Gives those that were, or are under way, and whether any was.
    pub(in crate::python) fn end(&self, py: Python<'_>) -> (Vec<Arc<Call>>, bool) {
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

    pub(in crate::python) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let open = self.open.try_lock();
        let calls = open.iter().flat_map(|open| open.calls.values());
        calls.into_iter().try_for_each(|registered| registered.call.traverse(visit))
    }
}

impl Registered {
    /// Takes it off every list. True when it was called, or is under way.
    fn dismiss(&self, own_helpers: bool) -> bool {
        let Self { call, token, reacts, due } = self;
        if let Some(reacts) = reacts {
            token.withdraw(*reacts);
        }
        if call.is_inherited() {
            return false;
        }
        drop(due.and_then(|due| call.crew.helpers.take_back(due)));
        // The helpers of a runner stay until its end.
        if !own_helpers {
            call.crew.helpers.retire();
        }
        call.close()
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        // The context has gone, so that no canceller can reach it.
        let own_helpers = self.has_own_helpers();
        for registered in std::mem::take(&mut self.open.lock().calls).into_values() {
            registered.dismiss(own_helpers);
        }
    }
}
