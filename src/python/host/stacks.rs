//! Where threads are that run code of the user's: their stacks, read in one go.
//!
//! A worker notes its thread state on its badge when it enters, and takes the note back before it leaves; so does a
//! caller for as long as it runs a task on a lent resource. Both are attached when they do so, and so is the reader.
//! As long as the reader stays attached and runs nothing that could detach, no thread that is noted moves, ends, or
//! frees a frame. Hence one function, and in it no Python code and no collector: up to 3.11 making a frame object may
//! set that off, whose finalizers let the interpreter go. The interpreter's own list of threads is not touched, and no
//! frame leaves.
//!
//! Where there is no such lock the others do not stand still, and no stack is read.

use super::{PyHost, Task};
use crate::engine::clock::Tick;
use crate::engine::worker::badge::Badge;
use crate::engine::worker::loans::Loan;
use crate::engine::{Engine, Host};
use crate::sync::Arc;
use pyo3::ffi;
use pyo3::prelude::*;

/// A call on a stack: file, line, and name of the function.
pub(in crate::python) type Call = (String, i32, String);

/// What a worker does at this moment.
pub(in crate::python) struct Sight {
    pub(in crate::python) badge: Arc<Badge<PyHost>>,
    /// What it runs and since when, outermost first. To be let go of with [`discard`](super::discard).
    pub(in crate::python) tasks: Vec<(Task, Tick)>,
    /// The stack of the thread that runs it, the innermost call first. Empty when that is not known, or not in Python.
    pub(in crate::python) calls: Vec<Call>,
}

/// Looks at every worker of an engine.
pub(in crate::python) fn look(py: Python<'_>, engine: &Engine<PyHost>) -> Vec<Sight> {
    let members = engine.members();
    let _still = imp::Still::keep(py);
    let sight = |badge: Arc<Badge<PyHost>>| {
        let mut tasks = Vec::new();
        badge.look_at_running(|task, since| tasks.push((engine.host.share(py, task), since)));
        let calls = badge.thread().map_or_else(Vec::new, |thread| imp::calls(py, thread));
        Sight { badge, tasks, calls }
    };
    members.into_iter().map(sight).collect()
}

/// How many calls of Python there are on the stack of this thread.
pub(super) fn depth(py: Python<'_>) -> usize {
    // SAFETY: attached. A new reference, or null.
    let innermost = unsafe { ffi::PyThreadState_GetFrame(ffi::PyThreadState_Get()) };
    // SAFETY: as said.
    let innermost = unsafe { Bound::from_owned_ptr_or_opt(py, innermost.cast()) };
    let outer = |frame: &Bound<'_, PyAny>| {
        // SAFETY: a live frame of this thread. A new reference, or null.
        let outer = unsafe { ffi::PyFrame_GetBack(frame.as_ptr().cast()) };
        // SAFETY: as said.
        unsafe { Bound::from_owned_ptr_or_opt(py, outer.cast()) }
    };
    std::iter::successors(innermost, outer).count()
}

/// Takes the note of a worker back when it is dropped.
pub(in crate::python) struct Noted<'b>(&'b Badge<PyHost>);

/// Notes this thread as the worker's own.
pub(in crate::python) fn note_worker<'b>(py: Python<'_>, badge: &'b Badge<PyHost>) -> Noted<'b> {
    badge.note_worker(imp::this_thread(py));
    Noted(badge)
}

/// Notes this thread as the one that runs a task on a loan. The note is taken back when the loan is let go.
pub(in crate::python) fn note_caller(py: Python<'_>, loan: &Loan<PyHost>) {
    loan.note_caller(imp::this_thread(py));
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.note_worker(0);
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod imp {
    use super::Call;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyString;

    /// More calls than this of one stack are not read.
    const DEEPEST: usize = 100;

    /// Keeps the collector off, if it was on.
    pub(super) struct Still {
        was_on: bool,
    }

    impl Still {
        pub(super) fn keep(_: Python<'_>) -> Self {
            // SAFETY: attached.
            Self { was_on: unsafe { ffi::PyGC_Disable() } == 1 }
        }
    }

    impl Drop for Still {
        fn drop(&mut self) {
            if self.was_on {
                // SAFETY: still attached: it lives on the stack of one function that does not detach.
                unsafe { ffi::PyGC_Enable() };
            }
        }
    }

    pub(super) fn this_thread(_: Python<'_>) -> usize {
        // SAFETY: attached.
        unsafe { ffi::PyThreadState_Get() }.expose_provenance()
    }

    /// The calls of a thread that is noted, the innermost first.
    pub(super) fn calls(py: Python<'_>, thread: usize) -> Vec<Call> {
        let thread = std::ptr::with_exposed_provenance_mut(thread);
        // SAFETY: attached since the note was read, and the thread takes it back, attached, before its state is freed.
        let innermost = unsafe { ffi::PyThreadState_GetFrame(thread) };
        let step = |frame: &Bound<'_, PyAny>| {
            // SAFETY: a live frame of a thread that does not move. A new reference, or null.
            let outer = unsafe { ffi::PyFrame_GetBack(frame.as_ptr().cast()) };
            // SAFETY: as said.
            unsafe { Bound::from_owned_ptr_or_opt(py, outer.cast()) }
        };
        // SAFETY: a new reference, or null.
        let innermost = unsafe { Bound::from_owned_ptr_or_opt(py, innermost.cast()) };
        std::iter::successors(innermost, step).take(DEEPEST).map(|frame| call(py, &frame)).collect()
    }

    fn call(py: Python<'_>, frame: &Bound<'_, PyAny>) -> Call {
        let frame = frame.as_ptr().cast();
        // SAFETY: a live frame, and attached. The code is a new reference.
        let (code, line) = unsafe {
            let code = ffi::PyFrame_GetCode(frame);
            (Bound::from_owned_ptr(py, code.cast()), ffi::PyFrame_GetLineNumber(frame))
        };
        (text(&code, "co_filename"), line, text(&code, "co_name"))
    }

    /// An attribute of a code object, which is a plain slot of its: no Python code runs.
    fn text(code: &Bound<'_, PyAny>, name: &str) -> String {
        let text = code.getattr(name).ok();
        let text = text.as_ref().and_then(|text| text.cast::<PyString>().ok());
        text.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
    }
}

#[cfg(Py_GIL_DISABLED)]
mod imp {
    use super::Call;
    use pyo3::prelude::*;

    /// Nothing: no thread is looked at.
    pub(super) struct Still;

    impl Still {
        pub(super) fn keep(_: Python<'_>) -> Self {
            Self
        }
    }

    pub(super) fn this_thread(_: Python<'_>) -> usize {
        0
    }

    pub(super) fn calls(_: Python<'_>, _: usize) -> Vec<Call> {
        Vec::new()
    }
}
