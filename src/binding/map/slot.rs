//! The slot of an item: one word, which holds the item and later its outcome.

use crate::binding::future::Outcome;
use crate::binding::host::guarded_call;
use crate::sync::atomic::{AtomicUsize, Ordering};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// What a slot holds, in the low bits of its word. Objects are aligned to more than that.
const KIND_MASK: usize = 0b11;
/// The item's argument, or the tuple of its arguments.
const ITEM: usize = 0;
const VALUE: usize = 1;
const ERROR: usize = 2;
/// Nothing: the item became a task, whose future the batch knows.
const TASK: usize = 3;

/// A pointer with a reference, and its kind; zero when it was taken out.
///
/// Until the item is claimed it belongs to the batch, then to its claimer, and with an outcome to
/// the reader.
pub(super) struct ItemSlot(AtomicUsize);

impl ItemSlot {
    pub(super) fn new(item: Py<PyAny>) -> Self {
        Self(AtomicUsize::new(item.into_ptr() as usize | ITEM))
    }

    fn kind(&self) -> usize {
        self.0.load(Ordering::Acquire) & KIND_MASK
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.kind(), VALUE | ERROR)
    }

    /// The item, borrowed for the slot's owner.
    pub(super) fn item(&self) -> guarded_call::Object {
        object(self.0.load(Ordering::Relaxed))
    }

    /// Another reference to the object, for the slot's owner.
    pub(super) fn share(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the slot's object is alive while its owner leaves it there.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, object(word)) }.map(Bound::unbind)
    }

    /// Puts the outcome in the item's place, for the slot's owner.
    #[inline]
    pub(super) fn settle(&self, py: Python<'_>, outcome: Outcome) {
        let word = match outcome {
            Outcome::Value(value) => value.into_ptr() as usize | VALUE,
            Outcome::Error(error) => error.into_ptr() as usize | ERROR,
            Outcome::None => 0,
        };
        guarded_call::release_some(py, self.replace(py, word));
    }

    /// Says that the item became a task, for the slot's owner.
    pub(super) fn become_task(&self, py: Python<'_>) {
        guarded_call::release_some(py, self.replace(py, TASK));
    }

    /// Empties the slot, for its owner.
    pub(super) fn clear(&self, py: Python<'_>) {
        guarded_call::release_some(py, self.replace(py, 0));
    }

    /// Takes a value out for the reader; `None` when there is none (yet).
    pub(super) fn take_value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.kind() == VALUE { self.replace(py, 0) } else { None }
    }

    /// Takes an outcome out for the reader.
    pub(super) fn take(&self, py: Python<'_>) -> Option<Outcome> {
        let outcome = match self.kind() {
            VALUE => Outcome::Value,
            ERROR => Outcome::Error,
            _ => return None,
        };
        self.replace(py, 0).map(outcome)
    }

    fn replace(&self, py: Python<'_>, word: usize) -> Option<Py<PyAny>> {
        // No swap, which costs as much as all the rest: only the owner writes.
        let before = self.0.load(Ordering::Acquire);
        self.0.store(word, Ordering::Release);
        // SAFETY: the slot had a reference, which is the caller's now.
        unsafe { Bound::from_owned_ptr_or_opt(py, object(before)) }.map(Bound::unbind)
    }

    /// For the collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(pointer) = NonNull::new(object(self.0.load(Ordering::Acquire))) else {
            return Ok(());
        };
        // SAFETY: the slot's own reference, lent for the visit and not dropped; `Py` is laid out
        // like it.
        let object = unsafe { std::mem::transmute::<NonNull<ffi::PyObject>, Py<PyAny>>(pointer) };
        visit.call(&*ManuallyDrop::new(object))
    }
}

/// The pointer in a slot's word.
fn object(word: usize) -> guarded_call::Object {
    (word & !KIND_MASK) as guarded_call::Object
}
