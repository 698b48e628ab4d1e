//! Interrupts: which exceptions a signal raised in the middle of something, and which calls came in
//! the middle of a task.
//!
//! Between two instructions of a function the interpreter may run something else on its thread: a
//! signal handler on the main thread, a finalizer anywhere. If what runs so raises, the function is
//! left at a point that it does not know of, between a request and its reply perhaps; and if it
//! calls the runner, it must not be given the resource which that function is using.
//!
//! `CPython` keeps no count of either. But the frame of a signal handler has the frame that it
//! interrupted twice: as what it will return to, and as its second argument. And a finalizer is
//! called `__del__`, or is the one that `weakref.finalize` registers.

use super::frames;
use super::guarded_call;
use crate::binding::{callable, error, wait};
use pyo3::exceptions::{PyException, PyKeyError, PyKeyboardInterrupt, PyNameError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyWeakref, PyWeakrefMethods};
use pyo3::{ffi, intern};
use std::collections::HashSet;
use std::ffi::c_int;

/// Whether an exception that left a call on this thread came out of an interrupt: it is no
/// `Exception`, or a signal handler raised it, or one that it followed. To be asked right after the
/// call, outside of any `except`.
pub(in crate::binding) fn raised(py: Python<'_>, error: &Py<PyAny>) -> bool {
    if !guarded_call::is_instance::<PyException>(py, error) {
        return true;
    }
    // Without memory for the look: what may be bad is taken for bad.
    wait::on_main_thread(py) && came_of_handler(error.bind(py)).unwrap_or(true)
}

fn came_of_handler(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = error.py();
    // What the caller is handling was there before, and is the context of whatever is raised now.
    // SAFETY: attached; an owned reference, or null.
    let former = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetHandledException()) };
    let mut seen: HashSet<*mut ffi::PyObject> = former.iter().map(Bound::as_ptr).collect();
    let mut left = vec![error.clone()];
    while let Some(error) = left.pop() {
        if !seen.insert(error.as_ptr()) {
            continue;
        }
        // The handler of Ctrl-C is C's, and has no frame.
        if error.is_instance_of::<PyKeyboardInterrupt>() {
            return Ok(true);
        }
        // SAFETY: an exception; owned references, or null.
        let (context, cause) = unsafe {
            let own = |object| Bound::from_owned_ptr_or_opt(py, object);
            (
                own(ffi::PyException_GetContext(error.as_ptr())),
                own(ffi::PyException_GetCause(error.as_ptr())),
            )
        };
        let mut traceback = error::traceback(&error);
        while let Some(entry) = traceback {
            if is_handler(&entry.getattr(intern!(py, "tb_frame"))?)? {
                return Ok(true);
            }
            let next = entry.getattr(intern!(py, "tb_next"))?;
            traceback = (!next.is_none()).then_some(next);
        }
        left.extend([context, cause].into_iter().flatten());
    }
    Ok(false)
}

/// Whether the call of the runner that this thread makes just now comes in the middle of a task,
/// from what was run there and the task did not call. `function`: the task's, where the look ends.
pub(in crate::binding) fn has_interruption(py: Python<'_>, function: &Bound<'_, PyAny>) -> bool {
    // Without memory for the look: a task that waits for another is common, this is not.
    find_interruption(py, function).unwrap_or(false)
}

fn find_interruption(py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let entered = callable::code(function)?;
    // Signal handlers run nowhere else.
    let on_main_thread = wait::on_main_thread(py);
    for frame in frames::of_this_thread(py) {
        let code = frames::code(&frame);
        if entered.as_ref().is_some_and(|entered| entered.is(&code)) {
            return Ok(false);
        }
        if is_finalizer(&frame, &code)? || on_main_thread && is_handler(&frame)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a frame is that of a finalizer which the interpreter called.
fn is_finalizer(frame: &Bound<'_, PyAny>, code: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = frame.py();
    let is = |attribute: &Bound<'_, PyString>, name: &Bound<'_, PyString>| -> PyResult<bool> {
        let value = code.getattr(attribute)?;
        Ok(value.is(name) || value.eq(name)?)
    };
    if is(intern!(py, "co_name"), intern!(py, "__del__"))? {
        return Ok(true);
    }
    // Called by hand it gets no reference.
    Ok(is(intern!(py, "co_qualname"), intern!(py, "finalize.__call__"))?
        && has_argument(frame, |argument| {
            argument.cast::<PyWeakref>().is_ok_and(|reference| reference.upgrade().is_none())
        })?)
}

/// Whether a frame is that of a signal handler: what it returns to is among its arguments.
fn is_handler(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let back = frame.getattr(intern!(frame.py(), "f_back"))?;
    Ok(!back.is_none() && has_argument(frame, |argument| argument.is(&back))?)
}

/// Whether `is` holds for an argument of the function that a frame is of, those in `*args`
/// included.
fn has_argument(
    frame: &Bound<'_, PyAny>,
    is: impl Fn(&Bound<'_, PyAny>) -> bool,
) -> PyResult<bool> {
    let py = frame.py();
    let code = frame.getattr(intern!(py, "f_code"))?;
    let number = |name| code.getattr(name)?.extract::<c_int>();
    let single = number(intern!(py, "co_argcount"))? + number(intern!(py, "co_kwonlyargcount"))?;
    let spread = number(intern!(py, "co_flags"))? & ffi::CO_VARARGS != 0;
    let count = usize::try_from(single).unwrap_or(0) + usize::from(spread);
    if count == 0 {
        return Ok(false);
    }
    let names = code.getattr(intern!(py, "co_varnames"))?.cast_into::<PyTuple>()?;
    for (index, name) in names.iter().take(count).enumerate() {
        let Some(argument) = variable(frame, &name)? else {
            continue;
        };
        // Those of `*args` come after the named ones.
        let found = if spread && index + 1 == count {
            argument.cast::<PyTuple>().is_ok_and(|all| all.iter().any(|argument| is(&argument)))
        } else {
            is(&argument)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A variable of a frame; `None` when it was deleted.
fn variable<'py>(
    frame: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = frame.py();
    #[cfg(Py_3_12)]
    let found = {
        // SAFETY: a live frame and a name; an owned reference, or null with an exception.
        let value = unsafe { ffi::PyFrame_GetVar(frame.as_ptr().cast(), name.as_ptr()) };
        // SAFETY: as above.
        unsafe { Bound::from_owned_ptr_or_err(py, value) }
    };
    #[cfg(not(Py_3_12))]
    let found = frame.getattr(intern!(py, "f_locals")).and_then(|all| all.get_item(name));
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.is_instance_of::<PyNameError>(py)
                || error.is_instance_of::<PyKeyError>(py) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
