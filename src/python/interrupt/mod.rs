//! Interrupting what runs: calls of the user's that end a task from a helper thread when its context is cancelled.
//!
//! A [`Call`] is one of them: the config's `on_cancel`, for one attempt, or what was given to `Context.on_cancel`, see
//! [`ward`]. The canceller only wants it. A helper of the task's runner makes it, see [`crew`]. Before the worker goes on
//! it closes what is left and waits for what is under way, see [`attempt`]: whatever it does next is not interrupted.

pub(super) mod attempt;
pub(super) mod crew;
pub(super) mod handle;
pub(super) mod ward;

use self::crew::{Crew, Job};
use super::callable;
use super::exit;
use super::future::{Future, name_of};
use super::host::{PyHost, child, door};
use super::log::{self, Level};
use super::map::batch::Batch;
use super::wait::{self, Limit};
use crate::engine::task::interrupt::Interrupt;
use crate::engine::task::token::{Reacts, Token};
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::time::Duration;

/// A call that takes longer is logged, and the outcome of its task does not wait for it.
const SLOW: Duration = Duration::from_secs(1);

/// What a call is made on.
enum Target {
    /// The config's `on_cancel`, with this resource.
    Hook(Py<PyAny>, Owner),
    /// A callback of a context, and the name of the context's task.
    Callback(Py<PyAny>, Option<Arc<str>>),
}

/// Whose attempt it is, for people.
pub(super) enum Owner {
    Task(Py<Future>),
    Item(Py<Batch>),
}

/// See the module's documentation.
pub(super) struct Call {
    interrupt: Interrupt,
    /// Taken by whoever closes the call, so that nothing of the user's dies with a helper. Locked while attached, for a
    /// few instructions.
    target: Mutex<Option<Target>>,
    crew: Arc<Crew>,
    /// The generation of forks that it belongs to: a call of the parent's is not touched in a child, where no helper would
    /// ever end it, nor made there.
    forks: u64,
}

thread_local! {
    /// The calls that this thread makes, the innermost last.
    static MAKING: RefCell<Vec<*const Call>> = const { RefCell::new(Vec::new()) };
}

impl Call {
    fn new(crew: Arc<Crew>, target: Target) -> Arc<Self> {
        let (interrupt, target) = (Interrupt::new(), Mutex::new(Some(target)));
        Arc::new(Self { interrupt, target, crew, forks: exit::forks() })
    }

    fn is_inherited(&self) -> bool {
        self.forks != exit::forks()
    }

    /// Has a helper make the call, once. Neither blocks nor calls into the interpreter.
    pub(super) fn want(self: &Arc<Self>) {
        if !self.is_inherited() && self.interrupt.want() {
            self.crew.helpers.put(Job::Make(Arc::clone(self)));
        }
    }

    /// Has it made when this token is cancelled, for as long as it lives.
    pub(super) fn follow(self: &Arc<Self>, token: &Token) -> Reacts {
        let call = Arc::downgrade(self);
        token.react(Box::new(move || {
            if let Some(call) = call.upgrade() {
                call.want();
            }
        }))
    }

    /// Keeps it from being made while another task runs on the resource, inside its own, and waits for one under way.
    fn cover(&self, py: Python<'_>) {
        if !self.is_inherited() {
            self.interrupt.cover();
            self.wait(py);
        }
    }

    /// Ends that.
    fn uncover(self: &Arc<Self>) {
        if !self.is_inherited() && self.interrupt.uncover() {
            self.crew.helpers.put(Job::Make(Arc::clone(self)));
        }
    }

    /// Keeps it from beginning, for good. True when it was made, or is under way.
    fn close(&self) -> bool {
        !self.is_inherited() && self.interrupt.close()
    }

    fn is_under_way(&self) -> bool {
        !self.is_inherited() && self.interrupt.is_under_way()
    }

    /// Whether this very thread makes it.
    fn is_made_here(&self) -> bool {
        MAKING.with_borrow(|making| making.iter().any(|other| std::ptr::eq(*other, self)))
    }

    /// Waits until it is not under way, in a thread that nothing interrupts.
    fn wait(&self, py: Python<'_>) {
        if self.is_under_way() {
            py.detach(|| while !self.interrupt.wait(SLOW) {});
        }
    }

    /// [`wait`](Self::wait) in a thread of the user's, where a signal ends it.
    pub(in crate::python) fn wait_here(&self, py: Python<'_>) -> PyResult<()> {
        let block = |slice| {
            self.interrupt.wait(slice);
        };
        wait::until(py, Limit::after(None), || !self.is_under_way(), block).map(|_| ())
    }

    /// Lets go of what it was to be made on.
    pub(in crate::python) fn release(&self, py: Python<'_>) {
        let target = self.target.lock().take();
        match target {
            Some(Target::Hook(object, owner)) => {
                door::release(py, object);
                match owner {
                    Owner::Task(task) => door::release(py, task.into_any()),
                    Owner::Item(batch) => door::release(py, batch.into_any()),
                }
            }
            Some(Target::Callback(object, _)) => door::release(py, object),
            None => {}
        }
    }

    /// Makes it, on a helper.
    fn make(self: &Arc<Self>, py: Python<'_>, host: Option<&PyHost>) {
        if !self.interrupt.begin() {
            return;
        }
        let watch = self.crew.watch(py, self);
        // Calls share a thread, not the variables that one of them sets.
        let entered = door::empty_context(py);
        let result = entered.and_then(|context| {
            let result = door::enter_context(py, &context).and_then(|()| {
                let result = self.enter(py, host);
                door::exit_context(py, &context);
                result
            });
            door::release(py, context);
            result
        });
        self.crew.unwatch(watch);
        if let Err(error) = result {
            log::hook_failed(py, host, None, &self.name(py), error);
        }
        // The last act: from here on its owner goes on.
        self.interrupt.end();
    }

    /// Calls what it is made on.
    fn enter(self: &Arc<Self>, py: Python<'_>, host: Option<&PyHost>) -> Result<(), Py<PyAny>> {
        let (function, argument) = match &*self.target.lock() {
            Some(Target::Hook(resource, _)) => (None, Some(resource.clone_ref(py))),
            Some(Target::Callback(callback, _)) => (Some(callback.clone_ref(py)), None),
            None => return Ok(()),
        };
        let hook = || host?.hooks.get()?.on_cancel.as_ref().map(|hook| hook.clone_ref(py));
        let result = match function.or_else(hook) {
            Some(function) => {
                MAKING.with_borrow_mut(|making| making.push(Arc::as_ptr(self)));
                let result = door::call(py, &function, argument.as_ref(), None, None);
                child::end_here(py, &result);
                MAKING.with_borrow_mut(Vec::pop);
                door::release(py, function);
                result.and_then(|answer| {
                    let answered = callable::check_answer(py, "on_cancel", &answer);
                    door::release(py, answer);
                    answered
                })
            }
            None => Ok(()),
        };
        door::release_some(py, argument);
        result
    }

    /// What it is, for people.
    fn name(&self, py: Python<'_>) -> String {
        let (task, batch, callback, name) = match &*self.target.lock() {
            Some(Target::Hook(_, Owner::Task(task))) => {
                (Some(task.clone_ref(py)), None, None, None)
            }
            Some(Target::Hook(_, Owner::Item(batch))) => {
                (None, Some(batch.clone_ref(py)), None, None)
            }
            Some(Target::Callback(callback, name)) => {
                (None, None, Some(callback.clone_ref(py)), name.clone())
            }
            None => return String::from("on_cancel"),
        };
        let of = task.as_ref().map(|task| task.get().name(py));
        let of = of.or_else(|| batch.as_ref().map(|batch| batch.get().name(py)));
        let of = of.or_else(|| name.map(|name| name.to_string()));
        let of = of.map(|name| format!(" of task {name}")).unwrap_or_default();
        let text = match &callback {
            Some(callback) => format!("on_cancel callback {}{of}", name_of(py, Some(callback))),
            None => format!("on_cancel{of}"),
        };
        door::release_some(py, task);
        door::release_some(py, batch);
        door::release_some(py, callback);
        text
    }

    /// It is still under way after a second.
    fn report_slow(&self, py: Python<'_>, host: Option<&PyHost>) {
        if self.is_under_way() {
            let text = format!("{} takes longer than {} s", self.name(py), SLOW.as_secs());
            log::say(py, host, Level::Warning, &text, None, None);
        }
    }

    /// Shows the collector what it holds, unless a helper is to call it.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.target.try_lock().as_deref() {
            Some(Some(Target::Callback(callback, _))) if !self.interrupt.is_wanted() => {
                visit.call(callback)
            }
            _ => Ok(()),
        }
    }
}
