//! One call that interrupts: wanted by cancellers, made by a helper, and closed before the worker
//! goes on.

use crate::binding::callable::{self, name_of};
use crate::binding::context::clock;
use crate::binding::host::hooks::{Hook, SharedHooks};
use crate::binding::host::{forked_child, guarded_call};
use crate::binding::log::{self, Level, Logger};
use crate::binding::process;
use crate::binding::wait::{self, Limit};
use crate::engine::clock::ticks;
use crate::engine::task::helper_pool::Helpers;
use crate::engine::task::interrupt::InterruptCall;
use crate::engine::task::token::{ReactionKey, Token};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::time::Duration;

/// A call that takes longer is logged, and the outcome of its task does not wait for it.
pub(super) const SLOW_CALL: Duration = Duration::from_secs(1);

/// What a helper is asked for.
pub(in crate::binding) enum HelperJob {
    /// To make a call.
    Make(Arc<CancelCall>),
    /// The deadline of a call's context has passed.
    Due(Weak<CancelCall>),
    /// A call has been under way for long.
    Slow(Arc<CancelCall>),
}

/// What a call is made on.
pub(super) enum CallTarget {
    /// The config's `on_cancel`, with this resource; and whose attempt it is, with what tells its
    /// name.
    Hook(Py<PyAny>, Py<PyAny>, fn(Python<'_>, &Py<PyAny>) -> String),
    /// A callback of a context, and the name of the context's task.
    Callback(Py<PyAny>, Option<Arc<str>>),
}

impl CallTarget {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Hook(resource, owner, name) => {
                Self::Hook(resource.clone_ref(py), owner.clone_ref(py), *name)
            }
            Self::Callback(callback, task) => Self::Callback(callback.clone_ref(py), task.clone()),
        }
    }

    fn release(self, py: Python<'_>) {
        match self {
            Self::Hook(resource, owner, _) => {
                guarded_call::release(py, resource);
                guarded_call::release(py, owner);
            }
            Self::Callback(callback, _) => guarded_call::release(py, callback),
        }
    }
}

/// See the module's documentation.
pub(in crate::binding) struct CancelCall {
    pub(super) interrupt: InterruptCall,
    /// Taken by the thread that closes the call, so that nothing of the user's dies with a helper.
    /// Locked while attached, for a few instructions.
    target: Mutex<Option<CallTarget>>,
    pub(super) helpers: Arc<Helpers<HelperJob>>,
    /// The generation of forks that it belongs to: a call of the parent's is not touched in a
    /// child, where no helper would ever end it, nor made there.
    forks: u64,
}

thread_local! {
    /// The calls that this thread makes, the innermost last.
    static MAKING: RefCell<Vec<*const CancelCall>> = const { RefCell::new(Vec::new()) };
}

impl CancelCall {
    pub(super) fn new(helpers: Arc<Helpers<HelperJob>>, target: CallTarget) -> Arc<Self> {
        let (interrupt, target) = (InterruptCall::new(), Mutex::new(Some(target)));
        Arc::new(Self { interrupt, target, helpers, forks: process::forks() })
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.forks != process::forks()
    }

    /// Has a helper make the call, once. Neither blocks nor calls into the interpreter.
    pub(in crate::binding) fn want(self: &Arc<Self>) {
        if !self.is_inherited() && self.interrupt.want() {
            self.helpers.put(HelperJob::Make(Arc::clone(self)));
        }
    }

    /// Has it made when this token is cancelled, for as long as it lives.
    pub(in crate::binding) fn follow(self: &Arc<Self>, token: &Token) -> ReactionKey {
        let call = Arc::downgrade(self);
        token.react(Box::new(move || {
            if let Some(call) = call.upgrade() {
                call.want();
            }
        }))
    }

    /// Keeps it from being made while another task runs on the resource, inside its own, and waits
    /// for one under way.
    pub(super) fn cover(&self, py: Python<'_>) {
        if !self.is_inherited() {
            self.interrupt.cover();
            self.wait(py);
        }
    }

    /// Ends that.
    pub(super) fn uncover(self: &Arc<Self>) {
        if !self.is_inherited() && self.interrupt.uncover() {
            self.helpers.put(HelperJob::Make(Arc::clone(self)));
        }
    }

    /// Keeps it from beginning, for good. True when it was made, or is under way.
    pub(super) fn close(&self) -> bool {
        !self.is_inherited() && self.interrupt.close()
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.is_inherited() && self.interrupt.is_under_way()
    }

    /// Whether this very thread makes it.
    pub(super) fn is_made_here(&self) -> bool {
        MAKING.with_borrow(|making| making.iter().any(|other| std::ptr::eq(*other, self)))
    }

    /// Waits until it is not under way, in a thread that nothing interrupts.
    pub(super) fn wait(&self, py: Python<'_>) {
        if self.is_under_way() {
            py.detach(|| while !self.interrupt.wait(SLOW_CALL) {});
        }
    }

    /// [`wait`](Self::wait) in a thread of the user's, where a signal ends it.
    pub(in crate::binding) fn wait_here(&self, py: Python<'_>) -> PyResult<()> {
        let block = |slice| self.interrupt.wait(slice);
        wait::until(py, Limit::after(None), || !self.is_under_way(), block).map(|_| ())
    }

    /// Lets go of what it was to be made on.
    pub(in crate::binding) fn release(&self, py: Python<'_>) {
        let target = self.target.lock().take();
        if let Some(target) = target {
            target.release(py);
        }
    }

    /// Lets go of one owner's share. The last owner lets go of what the call was to be made on, by
    /// a guarded call.
    pub(in crate::binding) fn let_go(self: Arc<Self>, py: Python<'_>) {
        if let Some(call) = Arc::into_inner(self) {
            call.release(py);
        }
    }

    /// Makes it, on a helper.
    pub(super) fn make(
        self: &Arc<Self>,
        py: Python<'_>,
        hooks: Option<&SharedHooks>,
        logger: &Logger,
    ) {
        if !self.interrupt.begin() {
            return;
        }
        let due = clock::now(py)().saturating_add(ticks(SLOW_CALL));
        let watch = self.helpers.put_later(due, HelperJob::Slow(Arc::clone(self)));
        // Calls share a thread, not the variables that one of them sets.
        let entered = guarded_call::empty_context(py);
        let result = entered.and_then(|context| {
            let result = guarded_call::enter_context(py, &context).and_then(|()| {
                let result = self.enter(py, hooks);
                guarded_call::exit_context(py, &context);
                result
            });
            guarded_call::release(py, context);
            result
        });
        drop(self.helpers.remove_later(watch));
        if let Err(error) = result {
            log::hook_failed(py, logger, None, &self.name(py), error);
        }
        // The last act: from here on its owner goes on.
        self.interrupt.end();
    }

    /// Calls what it is made on.
    pub(super) fn enter(
        self: &Arc<Self>,
        py: Python<'_>,
        hooks: Option<&SharedHooks>,
    ) -> Result<(), Py<PyAny>> {
        let (function, argument) = match &*self.target.lock() {
            Some(CallTarget::Hook(resource, ..)) => (None, Some(resource.clone_ref(py))),
            Some(CallTarget::Callback(callback, _)) => (Some(callback.clone_ref(py)), None),
            None => return Ok(()),
        };
        let hook = || hooks?.get_one(py, Hook::Cancel);
        let result = match function.or_else(hook) {
            Some(function) => {
                MAKING.with_borrow_mut(|making| making.push(Arc::as_ptr(self)));
                let result = guarded_call::call(py, &function, argument.as_ref(), None, None);
                forked_child::end_here(py, &result);
                MAKING.with_borrow_mut(Vec::pop);
                guarded_call::release(py, function);
                result.and_then(|answer| {
                    let answered = callable::check_answer(py, "on_cancel", &answer);
                    guarded_call::release(py, answer);
                    answered
                })
            }
            None => Ok(()),
        };
        guarded_call::release_some(py, argument);
        result
    }

    /// What it is, for people.
    pub(super) fn name(&self, py: Python<'_>) -> String {
        let target = self.target.lock().as_ref().map(|target| target.clone_ref(py));
        let of = |task: &str| format!(" of task {task}");
        let name = match &target {
            Some(CallTarget::Hook(_, owner, name)) => format!("on_cancel{}", of(&name(py, owner))),
            Some(CallTarget::Callback(callback, task)) => {
                let callback = name_of(py, Some(callback));
                let of = task.as_deref().map(of).unwrap_or_default();
                format!("on_cancel callback {callback}{of}")
            }
            None => "on_cancel".to_owned(),
        };
        if let Some(target) = target {
            target.release(py);
        }
        name
    }

    /// It is still under way after a second.
    pub(super) fn report_slow(&self, py: Python<'_>, logger: &Logger) {
        if self.is_under_way() {
            let text = format!("{} takes longer than {} s", self.name(py), SLOW_CALL.as_secs());
            log::say(py, logger, Level::Warning, &text, None, None);
        }
    }

    /// Shows the collector what it holds, unless a helper is to call it.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.target.try_lock().as_deref() {
            Some(Some(CallTarget::Callback(callback, _))) if !self.interrupt.is_wanted() => {
                visit.call(callback)
            }
            _ => Ok(()),
        }
    }
}
