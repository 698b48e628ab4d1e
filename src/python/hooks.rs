//! The user's callables: who keeps them alive, and until when.

use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What the user gave.
pub(super) struct Hooks {
    pub(super) on_create: Py<PyAny>,
    pub(super) on_destroy: Option<Py<PyAny>>,
    pub(super) check_health: Option<Py<PyAny>>,
    pub(super) validate: Option<Py<PyAny>>,
    pub(super) reset: Option<Py<PyAny>>,
}

impl Hooks {
    fn all(&self) -> [Option<&Py<PyAny>>; 5] {
        let Self { on_create, on_destroy, check_health, validate, reset } = self;
        [
            Some(on_create),
            on_destroy.as_ref(),
            check_health.as_ref(),
            validate.as_ref(),
            reset.as_ref(),
        ]
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let [on_create, on_destroy, check_health, validate, reset] =
            self.all().map(|hook| hook.map(|hook| hook.clone_ref(py)));
        let on_create = on_create.unwrap_or_else(|| py.None());
        Self { on_create, on_destroy, check_health, validate, reset }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
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
pub(super) struct Keeping {
    held: Mutex<Held>,
}

impl Keeping {
    pub(super) fn new(hooks: Hooks) -> Self {
        Self { held: Mutex::new(Held::Own(Arc::new(hooks))) }
    }

    /// Hands the user's callables over to the `Runner`. While that lives the engine only borrows them: its threads
    /// are no part of any cycle, and would keep alive whatever the callables refer to, the `Runner` mostly.
    pub(super) fn lend(&self) -> Option<Arc<Hooks>> {
        let hooks = self.get()?;
        let former =
            std::mem::replace(&mut *self.held.lock(), Held::Borrowed(Arc::downgrade(&hooks)));
        drop(former);
        Some(hooks)
    }

    /// Takes the callables back when the `Runner` goes, with references of its own: to the collector, which may be
    /// what ends the `Runner`, they are in use from here on.
    pub(super) fn keep(&self, py: Python<'_>) {
        if let Some(hooks) = self.get() {
            let own = Held::Own(Arc::new(hooks.clone_ref(py)));
            let former = std::mem::replace(&mut *self.held.lock(), own);
            drop(former);
        }
    }

    /// Lets go of the user's callables.
    pub(super) fn release(&self) {
        let former = std::mem::replace(&mut *self.held.lock(), Held::Released);
        drop(former);
    }

    /// The callables, while anybody may need them.
    pub(super) fn get(&self) -> Option<Arc<Hooks>> {
        match &*self.held.lock() {
            Held::Own(hooks) => Some(Arc::clone(hooks)),
            Held::Borrowed(hooks) => hooks.upgrade(),
            Held::Released => None,
        }
    }
}
