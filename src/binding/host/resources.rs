//! A resource's life, by the user's hooks.

use super::forked_child;
use super::guarded_call;
use super::hooks::Hook;
use super::state::PyHost;
use crate::binding::callable;
use crate::binding::current;
use crate::binding::error::{self, ResourceCreationError, RunnerBroken};
use crate::binding::interrupt::cancel_attempt;
use crate::binding::log::{self, Level};
use crate::binding::wakes;
use crate::engine::resource::manager::ResourceManager;
use crate::sync::atomic::Ordering;
use pyo3::prelude::*;

impl ResourceManager for PyHost {
    type Scope<'s> = Python<'s>;
    type Resource = Py<PyAny>;
    type Fault = Py<PyAny>;

    fn create(&self, py: Python<'_>, worker: &str) -> Result<Py<PyAny>, Py<PyAny>> {
        wakes::wake_now();
        match self.ask(py, Hook::Create, None) {
            Some(made) if self.standard => self.initialized(py, worker, made),
            Some(made) => plain(py, "on_create", made),
            // A standard executor may have no initializer.
            None if self.standard => Ok(py.None()),
            None => Err(error::make::<RunnerBroken>(py, error::BROKEN, None)),
        }
    }

    fn bad_from_the_start(&self, py: Python<'_>) -> Py<PyAny> {
        let text = "validate refused a resource that was just made";
        error::make::<ResourceCreationError>(py, text, None)
    }

    fn destroy(&self, py: Python<'_>, worker: &str, resource: Py<PyAny>) {
        wakes::wake_now();
        cancel_attempt::wait_for_left(py, self.take_under_way(worker));
        let (what, given) =
            if self.standard { ("the finalizer", None) } else { ("on_destroy", Some(&resource)) };
        if let Some(answer) = self.ask(py, Hook::Destroy, given) {
            let answer = if self.standard { answer } else { plain(py, what, answer) };
            match answer {
                Ok(nothing) => guarded_call::release(py, nothing),
                Err(error) => log::hook_failed(py, &self.logger, Some(worker), what, error),
            }
        }
        guarded_call::release(py, resource);
    }

    fn validate(&self, py: Python<'_>, worker: &str, resource: &Py<PyAny>) -> bool {
        let Some(answer) = self.ask(py, Hook::Validate, Some(resource)) else {
            return true;
        };
        truth(py, "validate", answer).unwrap_or_else(|error| {
            current::hook_failed(py, self, worker, "validate", error);
            false
        })
    }

    fn reset(&self, py: Python<'_>, worker: &str, resource: &Py<PyAny>) -> bool {
        // The outcome is out, and this may take long.
        wakes::wake_now();
        let Some(answer) = self.ask(py, Hook::Reset, Some(resource)) else {
            return true;
        };
        match plain(py, "reset", answer) {
            Ok(nothing) => {
                guarded_call::release(py, nothing);
                true
            }
            Err(error) => {
                current::hook_failed(py, self, worker, "reset", error);
                false
            }
        }
    }
}

impl PyHost {
    /// What a hook answers, if it was given: called with this resource, or with none.
    fn ask(
        &self,
        py: Python<'_>,
        hook: Hook,
        resource: Option<&Py<PyAny>>,
    ) -> Option<Result<Py<PyAny>, Py<PyAny>>> {
        let hook = self.hooks.get_one(py, hook)?;
        let answer = guarded_call::call(py, &hook, resource, None, None);
        forked_child::end_here(py, &answer);
        guarded_call::release(py, hook);
        Some(answer)
    }

    /// What becomes of the answer of a standard executor's initializer, which is of no use.
    fn initialized(
        &self,
        py: Python<'_>,
        worker: &str,
        answer: Result<Py<PyAny>, Py<PyAny>>,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        match answer {
            Ok(nothing) => {
                guarded_call::release(py, nothing);
                Ok(py.None())
            }
            Err(error) => {
                let text = "Exception in initializer:";
                log::say(py, &self.logger, Level::Critical, text, Some(worker), Some(&error));
                self.uninitialised.store(true, Ordering::SeqCst);
                Err(error)
            }
        }
    }
}

/// A hook's answer, unless that is a coroutine or the like: an error then.
pub(super) fn plain(
    py: Python<'_>,
    what: &str,
    answer: Result<Py<PyAny>, Py<PyAny>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let answer = answer?;
    match callable::check_answer(py, what, &answer) {
        Ok(()) => Ok(answer),
        Err(error) => {
            guarded_call::release(py, answer);
            Err(error)
        }
    }
}

/// What a hook's answer means.
pub(super) fn truth(
    py: Python<'_>,
    what: &str,
    answer: Result<Py<PyAny>, Py<PyAny>>,
) -> Result<bool, Py<PyAny>> {
    let answer = plain(py, what, answer)?;
    let truth = answer.bind(py).is_truthy();
    guarded_call::release(py, answer);
    truth.map_err(|error| error.into_value(py).into_any())
}
