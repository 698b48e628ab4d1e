//! The user's callables: what keeps them alive, and until when.

use super::guarded_call;
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A callable that the user may give.
#[derive(Clone, Copy)]
pub(in crate::binding) enum Hook {
    Create,
    Destroy,
    /// At most one of this and the next is given.
    IsBroken,
    CheckHealth,
    Validate,
    Reset,
    Cancel,
    Event,
    /// No callable, but the `Retry` that calls one.
    Retry,
}

/// What they are called in a config, in the order of [`Hook`].
const NAMES: [&str; 9] = [
    "on_create",
    "on_destroy",
    "is_broken",
    "check_health",
    "validate",
    "reset",
    "on_cancel",
    "on_event",
    "retry",
];

/// What the user gave, by [`Hook`].
#[derive(Default)]
pub(in crate::binding) struct UserHooks([Option<Py<PyAny>>; NAMES.len()]);

/// Which of those were given that a worker looks for at every task.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(in crate::binding) struct GivenHooks {
    /// `is_broken` or `check_health`: a failed task is judged before its error is delivered.
    pub(super) judges: bool,
    /// `on_cancel`: an attempt on a resource can be interrupted.
    pub(in crate::binding) interrupts: bool,
    /// `on_event`: it is told of every task.
    pub(in crate::binding) tells: bool,
    /// `retry`: a task that failed on a good resource may be tried again.
    pub(in crate::binding) retries: bool,
}

impl UserHooks {
    /// Those of a config.
    pub(in crate::binding) fn read(config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut hooks = Self::default();
        for (place, name) in hooks.0.iter_mut().zip(NAMES) {
            *place = config.getattr(name)?.extract()?;
        }
        Ok(hooks)
    }

    /// The initializer of a standard executor, and its finalizer.
    pub(in crate::binding) fn standard(
        initializer: Option<Py<PyAny>>,
        finalizer: Option<Py<PyAny>>,
    ) -> Self {
        Self([initializer, finalizer, None, None, None, None, None, None, None])
    }

    pub(in crate::binding) fn get(&self, hook: Hook) -> Option<&Py<PyAny>> {
        self.0[hook as usize].as_ref()
    }

    pub(super) fn given(&self) -> GivenHooks {
        let is_given = |hook| self.get(hook).is_some();
        GivenHooks {
            judges: is_given(Hook::IsBroken) || is_given(Hook::CheckHealth),
            interrupts: is_given(Hook::Cancel),
            tells: is_given(Hook::Event),
            retries: is_given(Hook::Retry),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.each_ref().map(|hook| hook.as_ref().map(|hook| hook.clone_ref(py))))
    }

    fn release(self, py: Python<'_>) {
        for hook in self.0 {
            guarded_call::release_some(py, hook);
        }
    }

    pub(in crate::binding) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|hook| visit.call(hook))
    }
}

/// What keeps the user's callables alive.
enum HookOwnership {
    /// The engine: while it starts, and after its `Runner` has gone.
    Own(Arc<UserHooks>),
    /// The `Runner`.
    Borrowed(Weak<UserHooks>),
    /// No thread needs them any more.
    Released,
}

/// The engine's hold on the callables. Its lock is held for a few instructions, with no call into
/// the interpreter.
pub(in crate::binding) struct SharedHooks(Mutex<HookOwnership>);

impl SharedHooks {
    pub(in crate::binding) fn new(hooks: UserHooks) -> Self {
        Self(Mutex::new(HookOwnership::Own(Arc::new(hooks))))
    }

    /// Hands the user's callables over to the `Runner`. While that lives the engine only borrows
    /// them: its threads are no part of any cycle, and would keep alive whatever the callables
    /// refer to, the `Runner` mostly.
    pub(in crate::binding) fn lend(&self) -> Option<Arc<UserHooks>> {
        let hooks = self.get()?;
        let borrowed = HookOwnership::Borrowed(Arc::downgrade(&hooks));
        let former = std::mem::replace(&mut *self.0.lock(), borrowed);
        drop(former);
        Some(hooks)
    }

    /// Takes the callables back when the `Runner` goes, with references of its own: to the
    /// collector, which may be what ends the `Runner`, they are in use from here on.
    pub(in crate::binding) fn keep(&self, py: Python<'_>) {
        if let Some(hooks) = self.get() {
            let own = HookOwnership::Own(Arc::new(hooks.clone_ref(py)));
            let former = std::mem::replace(&mut *self.0.lock(), own);
            drop(former);
        }
    }

    /// Lets go of the callables that are the engine's own: it is over. No collector sees what the
    /// engine keeps alive, so what leads from a callable of a `Runner` that has gone back to its
    /// engine would live for ever. What a `Runner` lends goes with that: it tells its `on_event` of
    /// what it refuses.
    pub(in crate::binding) fn release_own(&self, py: Python<'_>) {
        let mut held = self.0.lock();
        if let HookOwnership::Borrowed(_) = *held {
            return;
        }
        let former = std::mem::replace(&mut *held, HookOwnership::Released);
        drop(held);
        if let HookOwnership::Own(hooks) = former
            && let Some(hooks) = Arc::into_inner(hooks)
        {
            hooks.release(py);
        }
    }

    /// The callables, while any thread may need them.
    pub(in crate::binding) fn get(&self) -> Option<Arc<UserHooks>> {
        match &*self.0.lock() {
            HookOwnership::Own(hooks) => Some(Arc::clone(hooks)),
            HookOwnership::Borrowed(hooks) => hooks.upgrade(),
            HookOwnership::Released => None,
        }
    }

    /// One of them, if it was given, by a reference of the caller's own.
    pub(in crate::binding) fn get_one(&self, py: Python<'_>, hook: Hook) -> Option<Py<PyAny>> {
        self.get()?.get(hook).map(|hook| hook.clone_ref(py))
    }
}
