//! The user's callables: who keeps them alive, and until when.

use super::door;
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What the user gave.
pub(in crate::python) struct Hooks {
    pub(in crate::python) on_create: Py<PyAny>,
    pub(in crate::python) on_destroy: Option<Py<PyAny>>,
    /// At most one of the two that judge errors is there.
    pub(in crate::python) is_broken: Option<Py<PyAny>>,
    pub(in crate::python) check_health: Option<Py<PyAny>>,
    pub(in crate::python) validate: Option<Py<PyAny>>,
    pub(in crate::python) reset: Option<Py<PyAny>>,
    pub(in crate::python) on_cancel: Option<Py<PyAny>>,
}

/// Which of those were given that a worker looks for at every task.
#[derive(Clone, Copy)]
pub(super) struct Given {
    /// `is_broken` or `check_health`: a failed task is judged before its error is delivered.
    pub(super) judges: bool,
    /// `validate`.
    pub(super) validates: bool,
    /// `on_cancel`: an attempt on a resource can be interrupted.
    pub(super) interrupts: bool,
}

impl Hooks {
    pub(super) fn given(&self) -> Given {
        Given {
            judges: self.is_broken.is_some() || self.check_health.is_some(),
            validates: self.validate.is_some(),
            interrupts: self.on_cancel.is_some(),
        }
    }

    fn all(&self) -> [Option<&Py<PyAny>>; 7] {
        let Self { on_create, on_destroy, is_broken, check_health, validate, reset, on_cancel } =
            self;
        [
            Some(on_create),
            on_destroy.as_ref(),
            is_broken.as_ref(),
            check_health.as_ref(),
            validate.as_ref(),
            reset.as_ref(),
            on_cancel.as_ref(),
        ]
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let [on_create, on_destroy, is_broken, check_health, validate, reset, on_cancel] =
            self.all().map(|hook| hook.map(|hook| hook.clone_ref(py)));
        let on_create = on_create.unwrap_or_else(|| py.None());
        Self { on_create, on_destroy, is_broken, check_health, validate, reset, on_cancel }
    }

    fn release(self, py: Python<'_>) {
        let Self { on_create, on_destroy, is_broken, check_health, validate, reset, on_cancel } =
            self;
        door::release(py, on_create);
        for hook in [on_destroy, is_broken, check_health, validate, reset, on_cancel] {
            door::release_some(py, hook);
        }
    }

    pub(in crate::python) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.all().into_iter().try_for_each(|hook| visit.call(hook))
    }
}

/// Who keeps the user's callables alive.
enum Held {
    /// The engine: while it starts, and after its `Runner` has gone.
    Own(Arc<Hooks>),
    /// The `Runner`.
    Borrowed(Weak<Hooks>),
    /// Nobody needs them any more.
    Released,
}

/// The engine's hold on the callables. Its lock is held for a few instructions, with no call into the interpreter.
pub(in crate::python) struct Keeping {
    held: Mutex<Held>,
}

impl Keeping {
    pub(in crate::python) fn new(hooks: Hooks) -> Self {
        Self { held: Mutex::new(Held::Own(Arc::new(hooks))) }
    }

    /// Hands the user's callables over to the `Runner`. While that lives the engine only borrows them: its threads
    /// are no part of any cycle, and would keep alive whatever the callables refer to, the `Runner` mostly.
    pub(in crate::python) fn lend(&self) -> Option<Arc<Hooks>> {
        let hooks = self.get()?;
        let former =
            std::mem::replace(&mut *self.held.lock(), Held::Borrowed(Arc::downgrade(&hooks)));
        drop(former);
        Some(hooks)
    }

    /// Takes the callables back when the `Runner` goes, with references of its own: to the collector, which may be
    /// what ends the `Runner`, they are in use from here on.
    pub(in crate::python) fn keep(&self, py: Python<'_>) {
        if let Some(hooks) = self.get() {
            let own = Held::Own(Arc::new(hooks.clone_ref(py)));
            let former = std::mem::replace(&mut *self.held.lock(), own);
            drop(former);
        }
    }

    /// Lets go of the user's callables: the engine is over. No collector sees what the engine keeps alive, so what
    /// leads from a callable of a `Runner` that has gone back to its engine would live for ever.
    pub(in crate::python) fn release(&self, py: Python<'_>) {
        let former = std::mem::replace(&mut *self.held.lock(), Held::Released);
        if let Held::Own(hooks) = former
            && let Some(hooks) = Arc::into_inner(hooks)
        {
            hooks.release(py);
        }
    }

    /// The callables, while anybody may need them.
    pub(in crate::python) fn get(&self) -> Option<Arc<Hooks>> {
        match &*self.held.lock() {
            Held::Own(hooks) => Some(Arc::clone(hooks)),
            Held::Borrowed(hooks) => hooks.upgrade(),
            Held::Released => None,
        }
    }
}
