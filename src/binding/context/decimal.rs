//! A task's own decimal context: a copy of the one that its `contextvars` context holds.
//!
//! `decimal` keeps one changeable object in a context variable, and a copied context holds the same
//! object: a task that sets its precision would set that of its submitter and of every other task
//! too. So each attempt gets a copy of the object, when it starts and if there is one.
//!
//! The variable is exported by neither module of `decimal`. It is found by its name in an empty
//! context in which the module was asked for its own, once that has been imported; nothing is
//! imported for it.

use crate::binding::host::guarded_call;
use pyo3::exceptions::PyNameError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use std::ptr;

/// The modules of `decimal`: C's, and Python's where that is missing or asked for by name.
static DECIMAL_MODULES: [DecimalModule; 2] =
    [DecimalModule::new("_decimal"), DecimalModule::new("_pydecimal")];
const NAME: &str = "decimal_context";

struct DecimalModule {
    module: &'static str,
    name: PyOnceLock<Py<PyString>>,
    variable: PyOnceLock<Py<PyAny>>,
}

/// Gives the task that is about to run a decimal context of its own, in the copied context that was
/// just entered.
pub(in crate::binding) fn isolate(py: Python<'_>) -> Result<(), Py<PyAny>> {
    for decimal in &DECIMAL_MODULES {
        if let Some(variable) = decimal.variable(py)? {
            copy_for_task(py, variable)?;
        }
    }
    Ok(())
}

/// Whether a context may hold a decimal context.
pub(in crate::binding) fn may_be_in(context: &Py<PyAny>) -> bool {
    // SAFETY: a live context, whose length runs no other code.
    unsafe { ffi::PyObject_Size(context.as_ptr()) != 0 }
}

impl DecimalModule {
    const fn new(module: &'static str) -> Self {
        Self { module, name: PyOnceLock::new(), variable: PyOnceLock::new() }
    }

    /// Its context variable, if the module has been imported.
    fn variable(&self, py: Python<'_>) -> Result<Option<&Py<PyAny>>, Py<PyAny>> {
        if let Some(variable) = self.variable.get(py) {
            return Ok(Some(variable));
        }
        let name = self.name.get_or_init(py, || PyString::intern(py, self.module).unbind());
        // SAFETY: attached; the dictionary is lent by the interpreter.
        let modules = unsafe { Bound::from_borrowed_ptr(py, ffi::PyImport_GetModuleDict()) };
        let module =
            modules.cast::<PyDict>().ok().and_then(|modules| modules.get_item(name).ok()?);
        let Some(module) = module.filter(|module| !module.is_none()) else {
            return Ok(None);
        };
        match find(&module) {
            Ok(variable) => Ok(variable.map(|variable| self.variable.get_or_init(py, || variable))),
            Err(error) if guarded_call::is_instance::<PyNameError>(py, &error) => {
                // Another thread is still importing the module: no context can be set yet.
                guarded_call::release(py, error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Looks for the variable in a context of its own; `None` while another thread is still importing
/// the module, and where `decimal` was built to keep its contexts by thread.
fn find(module: &Bound<'_, PyAny>) -> Result<Option<Py<PyAny>>, Py<PyAny>> {
    let py = module.py();
    let failed = |error: PyErr| error.into_value(py).into_any();
    let Some(get) = module.getattr_opt(intern!(py, "getcontext")).map_err(failed)? else {
        return Ok(None);
    };
    // SAFETY: attached; an owned reference, or null with an exception.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) };
    let context = context.map_err(failed)?.unbind();
    let found = guarded_call::call_method(py, &context, intern!(py, "run"), &[get.as_unbound()])?;
    guarded_call::release(py, found);
    for variable in context.bind(py).try_iter().map_err(failed)? {
        let variable = variable.map_err(failed)?;
        let name = variable.getattr(intern!(py, "name")).map_err(failed)?;
        if name.cast::<PyString>().is_ok_and(|name| name == NAME) {
            return Ok(Some(variable.unbind()));
        }
    }
    Ok(None)
}

/// Puts a copy of what the variable holds into the current context.
fn copy_for_task(py: Python<'_>, variable: &Py<PyAny>) -> Result<(), Py<PyAny>> {
    let failed = || PyErr::fetch(py).into_value(py).into_any();
    let mut value = ptr::null_mut();
    // SAFETY: a live variable; gives an owned reference, or null where it is not set.
    if unsafe { ffi::PyContextVar_Get(variable.as_ptr(), ptr::null_mut(), &raw mut value) } != 0 {
        return Err(failed());
    }
    // SAFETY: as above.
    let Some(value) = (unsafe { Bound::from_owned_ptr_or_opt(py, value) }) else {
        return Ok(());
    };
    let copy = guarded_call::call_method(py, value.as_unbound(), intern!(py, "copy"), &[])?;
    // SAFETY: live objects; an owned reference to a token, or null with an exception.
    let token = unsafe {
        let token = ffi::PyContextVar_Set(variable.as_ptr(), copy.as_ptr());
        Bound::from_owned_ptr_or_opt(py, token)
    };
    guarded_call::release(py, copy);
    let token = token.ok_or_else(failed)?;
    guarded_call::release(py, token.unbind());
    Ok(())
}
