//! The future that is kept with a loan, and used by one call of `run_task` after the other.
//!
//! The caller of such a call never sees it. It is there for threads that look at what runs, and for
//! the task itself, which may ask for its context. What became known to any of them is not used
//! again.

use super::{Future, Origin, Payload, allocate};
use crate::binding::context::snapshot::Snapshot;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::future::draft::TaskCall;
use crate::binding::gc;
use crate::engine::task::{KEYWORDS, RESERVED, TaskWord};
use crate::sync::atomic::AtomicU32;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;

/// The loan's, and the one by which other threads see it.
const HANDLES: ffi::Py_ssize_t = 2;

impl Future {
    /// Makes one that can be kept. The collector does not watch it: it is not part of any cycle.
    pub(in crate::binding) fn spare(py: Python<'_>) -> PyResult<Py<Self>> {
        let object = allocate(py, Self::bare())?;
        gc::untrack(object.as_any());
        Ok(object)
    }

    /// Makes it the task of a call, which runs from now on. The caller holds the loan, and has been
    /// attached since it took that: no other thread has looked.
    pub(in crate::binding) fn begin_call(
        _py: Python<'_>,
        object: &Py<Self>,
        handle: Py<EngineHandle>,
        call: TaskCall<'_>,
    ) {
        let flags = RESERVED | if call.has_keywords { KEYWORDS } else { 0 };
        let native = Self::native(object);
        // SAFETY: no other code uses it, as said above. What was left by the last call has nothing
        // to drop.
        unsafe {
            (&raw mut (*native).word).write(TaskWord::running(flags));
            (&raw mut (*native).attempts).write(AtomicU32::new(1));
            (&raw mut (*native).payload).write(UnsafeCell::new(Payload {
                function: Some(call.function.unbind()),
                args: call.args,
                context: Snapshot::default(),
            }));
            (&raw mut (*native).origin).write(Some(Origin { handle, options: None }));
        }
    }

    /// Whether its call, which is over, left no trace in it.
    pub(in crate::binding) fn is_as_new(_py: Python<'_>, object: &Py<Self>) -> bool {
        // SAFETY: a live object.
        let handles = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
        let word = &object.get().word;
        handles == HANDLES && word.is_as_made(RESERVED | word.flags() & KEYWORDS)
    }

    /// Lets go of what the call brought. It [is as new](Self::is_as_new).
    pub(in crate::binding) fn end_call(py: Python<'_>, object: &Py<Self>) {
        debug_assert!(
            object.get().extras.with(py, |extras| extras.is_none()),
            "a flag tells of each of them"
        );
        // SAFETY: the caller ran it, and owns the payload.
        unsafe { object.get().drop_payload(py) };
        let native = Self::native(object);
        // SAFETY: no other code has a handle on it that it uses.
        let origin = unsafe { (*native).origin.take() };
        drop(origin);
    }
}
