//! One object that is kept for its next use, where the interpreter's lock orders who takes it.
//! Without that lock none is kept.

use pyo3::prelude::*;
#[cfg(not(Py_GIL_DISABLED))]
use std::cell::UnsafeCell;

/// See the module's documentation.
pub(super) struct KeptOne<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    object: UnsafeCell<Option<Py<T>>>,
    #[cfg(Py_GIL_DISABLED)]
    none: std::marker::PhantomData<fn() -> T>,
}

// SAFETY: touched only while attached, with no call into the interpreter in between: its lock
// orders all accesses.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T> Sync for KeptOne<T> {}

#[cfg_attr(
    Py_GIL_DISABLED,
    expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "with an interpreter's lock it keeps one"
    )
)]
impl<T> KeptOne<T> {
    /// With none yet.
    pub(super) const fn new() -> Self {
        Self {
            #[cfg(not(Py_GIL_DISABLED))]
            object: UnsafeCell::new(None),
            #[cfg(Py_GIL_DISABLED)]
            none: std::marker::PhantomData,
        }
    }

    /// Takes it, if there is one.
    pub(super) fn take(&self, _py: Python<'_>) -> Option<Py<T>> {
        #[cfg(not(Py_GIL_DISABLED))]
        // SAFETY: attached, as the token says; a move, and nothing else.
        unsafe {
            (*self.object.get()).take()
        }
        #[cfg(Py_GIL_DISABLED)]
        None
    }

    /// Keeps an object that `is_as_new`, to which only the caller has a reference; gives back what
    /// is not kept.
    pub(super) fn keep(
        &self,
        _py: Python<'_>,
        object: Py<T>,
        is_as_new: impl FnOnce(&Py<T>) -> bool,
    ) -> Option<Py<T>> {
        #[cfg(not(Py_GIL_DISABLED))]
        // SAFETY: a live object; attached, as the token says; a move, and nothing else.
        unsafe {
            if pyo3::ffi::Py_REFCNT(object.as_ptr()) == 1 && is_as_new(&object) {
                (*self.object.get()).replace(object)
            } else {
                Some(object)
            }
        }
        #[cfg(Py_GIL_DISABLED)]
        {
            drop(is_as_new);
            Some(object)
        }
    }
}
