//! Guarded calls, the only way from a worker's thread into Python: calls, drops, contexts.
//!
//! A worker that could not be joined is still inside user code when the process ends. `CPython` up
//! to 3.13.7 then ends that thread with `pthread_exit` as soon as it asks for the interpreter
//! again, from *inside* Python code; glibc unwinds the stack for it, and a Rust frame that called
//! the interpreter through an ordinary `extern "C"` function aborts the process, for such a call is
//! declared not to unwind.
//!
//! So every call that may run Python code goes through a pointer typed `extern "C-unwind"`, under a
//! guard whose `Drop` parks the thread for ever: the unwinding stops there, and the thread ends
//! with the process. The pointer is kept opaque to the optimiser, which would otherwise fold the
//! cast away, and the guard with it. Attaching and detaching are `PyO3`'s, which guards them
//! itself.
//!
//! Not everything can be a guarded call: an object of ours that dies takes one of the user's with
//! it, an allocation sets the collector off, a thread is started. So each thread of ours has a
//! [`ExitGuard`](super::exit_guard::ExitGuard) under it besides.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTypeInfo, ffi};
use std::ffi::c_int;
use std::hint::black_box;
use std::ptr;

pub(in crate::binding) type Object = *mut ffi::PyObject;

/// Parks for ever the thread that is unwound through it.
struct ParkOnUnwind;

impl Drop for ParkOnUnwind {
    fn drop(&mut self) {
        loop {
            crate::sync::thread::park();
        }
    }
}

/// Calls an interpreter function under the guard.
macro_rules! guarded_call {
    ($function:path as fn($($argument:ty),*) -> $result:ty, $($value:expr),*) => {{
        type Silent = unsafe extern "C" fn($($argument),*) -> $result;
        type Truthful = unsafe extern "C-unwind" fn($($argument),*) -> $result;
        // SAFETY: the two types differ only in what they say about unwinding.
        let function = unsafe { std::mem::transmute::<Silent, Truthful>($function) };
        let function = black_box(function);
        let guard = ParkOnUnwind;
        // SAFETY: the caller's; it holds what the function asks for and is attached.
        let result = unsafe { function($($value),*) };
        std::mem::forget(guard);
        result
    }};
}

/// Calls `callable(first, *args, **kwargs)`; `first` may be left out. The error is the exception
/// itself.
pub(in crate::binding) fn call(
    py: Python<'_>,
    callable: &Py<PyAny>,
    first: Option<&Py<PyAny>>,
    args: Option<&Py<PyTuple>>,
    kwargs: Option<&Py<PyDict>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    const INLINE: usize = 8;
    let count = args.map_or(0, |args| args.bind(py).len());
    // One slot in front, which the callee may use to put `self` there without copying.
    let mut inline: [Object; INLINE + 2] = [ptr::null_mut(); INLINE + 2];
    let mut spilled = Vec::new();
    let slots: &mut [Object] = if count <= INLINE {
        &mut inline
    } else {
        spilled.resize(count + 2, ptr::null_mut());
        &mut spilled
    };
    let mut used = 1;
    if let Some(first) = first {
        slots[used] = first.as_ptr();
        used += 1;
    }
    if let Some(args) = args {
        for index in 0..count {
            // SAFETY: a tuple of this length, alive and immutable during the call; borrowed items.
            slots[used] = unsafe {
                ffi::PyTuple_GET_ITEM(
                    args.as_ptr(),
                    index.try_into().unwrap_or(ffi::Py_ssize_t::MAX),
                )
            };
            used += 1;
        }
    }
    let flagged = (used - 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: `slots` has at least one slot in front of the arguments.
    let arguments = unsafe { slots.as_ptr().add(1) };
    let result = match kwargs {
        None => guarded_call!(
            ffi::PyObject_Vectorcall as fn(Object, *const Object, usize, Object) -> Object,
            callable.as_ptr(),
            arguments,
            flagged,
            ptr::null_mut()
        ),
        Some(kwargs) => guarded_call!(
            ffi::PyObject_VectorcallDict as fn(Object, *const Object, usize, Object) -> Object,
            callable.as_ptr(),
            arguments,
            flagged,
            kwargs.as_ptr()
        ),
    };
    // SAFETY: a new reference, or null with an exception.
    unsafe { owned(py, result) }
}

/// Calls `callable(*args)` with borrowed arguments.
pub(in crate::binding) fn call_with(
    py: Python<'_>,
    callable: &Py<PyAny>,
    args: &[&Py<PyAny>],
) -> Result<Py<PyAny>, Py<PyAny>> {
    let Ok(args) = PyTuple::new(py, args.iter().map(|arg| arg.bind(py))) else {
        return Err(raised(py));
    };
    let args = args.unbind();
    let result = call(py, callable, None, Some(&args), None);
    release(py, args);
    result
}

/// Calls `object.name(*args)` with borrowed arguments, without a tuple; at most three.
pub(in crate::binding) fn call_method(
    py: Python<'_>,
    object: &Py<PyAny>,
    name: &Bound<'_, PyString>,
    args: &[&Py<PyAny>],
) -> Result<Py<PyAny>, Py<PyAny>> {
    // One slot in front, as in `call`.
    let mut slots: [Object; 5] = [ptr::null_mut(); 5];
    debug_assert!(args.len() <= slots.len() - 2);
    slots[1] = object.as_ptr();
    for (slot, arg) in slots[2..].iter_mut().zip(args) {
        *slot = arg.as_ptr();
    }
    let flagged = (args.len() + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    let arguments = slots[1..].as_ptr();
    let result = guarded_call!(
        ffi::PyObject_VectorcallMethod as fn(Object, *const Object, usize, Object) -> Object,
        name.as_ptr(),
        arguments,
        flagged,
        ptr::null_mut()
    );
    // SAFETY: a new reference, or null with an exception.
    unsafe { owned(py, result) }
}

/// Asks an object for its hash.
pub(in crate::binding) fn hash(py: Python<'_>, object: &Py<PyAny>) -> Result<isize, Py<PyAny>> {
    match guarded_call!(ffi::PyObject_Hash as fn(Object) -> ffi::Py_hash_t, object.as_ptr()) {
        -1 => Err(raised(py)),
        hash => Ok(hash),
    }
}

/// Looks an attribute up.
pub(in crate::binding) fn get_attribute(
    py: Python<'_>,
    object: &Py<PyAny>,
    name: &Bound<'_, PyString>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let value = guarded_call!(
        ffi::PyObject_GetAttr as fn(Object, Object) -> Object,
        object.as_ptr(),
        name.as_ptr()
    );
    // SAFETY: a new reference, or null with an exception.
    unsafe { owned(py, value) }
}

/// Imports a module, by whatever `__import__` is at the moment.
pub(in crate::binding) fn import(
    py: Python<'_>,
    name: &Bound<'_, PyString>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let module = guarded_call!(ffi::PyImport_Import as fn(Object) -> Object, name.as_ptr());
    // SAFETY: a new reference, or null with an exception.
    unsafe { owned(py, module) }
}

/// A callable that is called many times, with what the interpreter would look up each time.
#[derive(Clone, Copy)]
pub(in crate::binding) struct Callee<'a> {
    callable: &'a Py<PyAny>,
    entry: Option<VectorcallFn>,
}

/// A vectorcall function, said truthfully.
type VectorcallFn = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;

impl<'a> Callee<'a> {
    pub(in crate::binding) fn of(callable: &'a Py<PyAny>) -> Self {
        // SAFETY: a live object.
        let entry = unsafe { ffi::PyVectorcall_Function(callable.as_ptr()) };
        // SAFETY: the two types differ only in what they say about unwinding.
        let entry = entry.map(|entry| unsafe {
            std::mem::transmute::<ffi::vectorcallfunc, VectorcallFn>(entry)
        });
        Self { callable, entry }
    }

    /// Calls `callable(first, item)`, or `callable(first, *item)` where the item is a tuple to be
    /// `spread`. The item is an object that the caller borrows.
    #[expect(clippy::inline_always, reason = "buys 16 instructions of an item of the row *map*")]
    #[inline(always)]
    pub(in crate::binding) fn call(
        self,
        py: Python<'_>,
        first: &Py<PyAny>,
        item: Object,
        spread: bool,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        if spread || self.entry.is_none() {
            return self.call_slowly(py, first, item, spread);
        }
        let slots = [ptr::null_mut(), first.as_ptr(), item];
        let guard = ParkOnUnwind;
        // SAFETY: as `PyObject_Vectorcall` does: two arguments, and one slot in front of them.
        let result = self.entry.map_or(ptr::null_mut(), |entry| unsafe {
            entry(
                self.callable.as_ptr(),
                slots[1..].as_ptr(),
                2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                ptr::null_mut(),
            )
        });
        std::mem::forget(guard);
        // SAFETY: a new reference, or null with an exception.
        unsafe { owned(py, result) }
    }

    fn call_slowly(
        self,
        py: Python<'_>,
        first: &Py<PyAny>,
        item: Object,
        spread: bool,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        // SAFETY: a live object.
        let item = unsafe { Bound::from_borrowed_ptr(py, item) };
        let args = if spread {
            item.cast_into::<PyTuple>().map_err(PyErr::from)
        } else {
            PyTuple::new(py, [item])
        };
        let args = args.map_err(|error| error.into_value(py).into_any())?.unbind();
        let result = call(py, self.callable, Some(first), Some(&args), None);
        release(py, args);
        result
    }
}

/// The next item of an iterator; `None` at its end.
#[inline]
pub(in crate::binding) fn next(
    py: Python<'_>,
    iterator: &Py<PyAny>,
) -> Result<Option<Py<PyAny>>, Py<PyAny>> {
    // SAFETY: a live object; what `iter()` gives has this slot.
    let step = unsafe { (*ffi::Py_TYPE(iterator.as_ptr())).tp_iternext };
    // SAFETY: the two types differ only in what they say about unwinding.
    let step =
        step.map(|step| unsafe { std::mem::transmute::<ffi::iternextfunc, IterNextFn>(step) });
    let guard = ParkOnUnwind;
    // SAFETY: attached, with the object that the slot is of.
    let item = step.map_or(ptr::null_mut(), |step| unsafe { step(iterator.as_ptr()) });
    std::mem::forget(guard);
    // SAFETY: a new reference, or null.
    if let Some(item) = unsafe { Bound::from_owned_ptr_or_opt(py, item) } {
        return Ok(Some(item.unbind()));
    }
    // SAFETY: attached; gives a borrowed reference, or null.
    if unsafe { ffi::PyErr_Occurred() }.is_null() {
        return Ok(None);
    }
    let error = raised(py);
    if is_instance::<pyo3::exceptions::PyStopIteration>(py, &error) {
        release(py, error);
        return Ok(None);
    }
    Err(error)
}

/// The `tp_iternext` of a type, said truthfully.
type IterNextFn = unsafe extern "C-unwind" fn(Object) -> Object;

/// Drops a reference. What dies of it may run code of the user's.
pub(in crate::binding) fn release<T>(py: Python<'_>, object: Py<T>) {
    let _ = py;
    let pointer = object.into_ptr();
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: attached, so no other thread changes the count; not the last reference, so nothing
    // dies.
    unsafe {
        if ffi::Py_REFCNT(pointer) > 1 {
            ffi::Py_DECREF(pointer);
            return;
        }
    }
    guarded_call!(ffi::Py_DecRef as fn(Object) -> (), pointer);
}

/// [`release`] for what may be absent.
pub(in crate::binding) fn release_some<T>(py: Python<'_>, object: Option<Py<T>>) {
    if let Some(object) = object {
        release(py, object);
    }
}

/// A `contextvars` context without variables.
pub(in crate::binding) fn empty_context(py: Python<'_>) -> Result<Py<PyAny>, Py<PyAny>> {
    // SAFETY: attached; gives an owned reference, or null with an exception.
    unsafe { owned(py, ffi::PyContext_New()) }
}

/// Enters a `contextvars` context; an error when it is entered already.
pub(in crate::binding) fn enter_context(
    py: Python<'_>,
    context: &Py<PyAny>,
) -> Result<(), Py<PyAny>> {
    match guarded_call!(ffi::PyContext_Enter as fn(Object) -> c_int, context.as_ptr()) {
        0 => Ok(()),
        _ => Err(raised(py)),
    }
}

/// Leaves the context entered last.
pub(in crate::binding) fn exit_context(py: Python<'_>, context: &Py<PyAny>) {
    if guarded_call!(ffi::PyContext_Exit as fn(Object) -> c_int, context.as_ptr()) != 0 {
        // A task that entered a context by hand and did not leave it: nothing that we could mend.
        let lost = raised(py);
        release(py, lost);
    }
}

/// What a call gave, or what it raised.
///
/// # Safety
///
/// A new reference, or null with an exception.
unsafe fn owned(py: Python<'_>, result: Object) -> Result<Py<PyAny>, Py<PyAny>> {
    // SAFETY: the caller's.
    let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
    result.map(Bound::unbind).ok_or_else(|| raised(py))
}

/// Takes the exception that is being raised.
fn raised(py: Python<'_>) -> Py<PyAny> {
    #[cfg(Py_3_12)]
    let value = guarded_call!(ffi::PyErr_GetRaisedException as fn() -> Object,);
    #[cfg(not(Py_3_12))]
    let value = {
        let (mut class, mut value, mut traceback) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        guarded_call!(
            ffi::PyErr_Fetch as fn(*mut Object, *mut Object, *mut Object) -> (),
            &raw mut class,
            &raw mut value,
            &raw mut traceback
        );
        guarded_call!(
            ffi::PyErr_NormalizeException as fn(*mut Object, *mut Object, *mut Object) -> (),
            &raw mut class,
            &raw mut value,
            &raw mut traceback
        );
        // SAFETY: three owned references or null pointers; the value has been normalised.
        unsafe {
            if !traceback.is_null() && !value.is_null() {
                ffi::PyException_SetTraceback(value, traceback);
            }
            ffi::Py_XDECREF(traceback);
            ffi::Py_XDECREF(class);
        }
        value
    };
    // SAFETY: an owned reference, or null when a callee reported failure without an exception.
    match unsafe { Bound::from_owned_ptr_or_opt(py, value) } {
        Some(value) => value.unbind(),
        None => pyo3::exceptions::PySystemError::new_err("error return without an exception set")
            .into_value(py)
            .into_any(),
    }
}

/// Runs `run` while the exception that this thread raises, if it does, is set aside: for what a
/// destructor does.
pub(in crate::binding) fn with_exception_set_aside(py: Python<'_>, run: impl FnOnce()) {
    // SAFETY: attached; gives a borrowed reference, or null.
    let pending = unsafe { !ffi::PyErr_Occurred().is_null() };
    let pending = pending.then(|| raised(py));
    run();
    if let Some(pending) = pending {
        PyErr::from_value(pending.into_bound(py)).restore(py);
    }
}

/// Whether an exception is an instance of a class, by type alone: no `__instancecheck__` runs.
pub(in crate::binding) fn is_instance<T: PyTypeInfo>(py: Python<'_>, object: &Py<PyAny>) -> bool {
    let class = T::type_object_raw(py);
    // SAFETY: both are live types; the walk over the resolution order runs no Python code.
    unsafe { ffi::PyType_IsSubtype(ffi::Py_TYPE(object.as_ptr()), class) != 0 }
}
