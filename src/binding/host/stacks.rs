//! Where threads are that run code of the user's: their stacks, read in one go.
//!
//! A worker notes its thread state on its worker when it enters, and takes the note back before it
//! leaves; so does a caller for as long as it runs a task on a lent resource. Both are attached
//! when they do so, and so is the reader. As long as the reader stays attached and runs nothing
//! that could detach, no thread that is noted moves, ends, or frees a frame. Hence one function,
//! and in it no Python code and no collector: up to 3.11 making a frame object may set that off,
//! whose finalizers let the interpreter go. The interpreter's own list of threads is not touched,
//! and no frame leaves.
//!
//! Where there is no such lock the other threads do not stand still, and no stack is read.

use super::guarded_call;
use super::state::PyHost;
use crate::binding::future::Future;
use crate::binding::process;
use crate::binding::py_imports::PyImports;
use crate::engine::clock::Tick;
use crate::engine::roster::loans::Loan;
use crate::engine::roster::shared::{ThreadMark, WorkerShared};
use crate::engine::{Engine, Host};
use crate::sync::Arc;
use pyo3::prelude::*;
use std::cell::Cell;

/// A call on a stack: file, line, and name of the function.
pub(in crate::binding) type StackCall = (String, i32, String);

/// What a worker does at this moment.
pub(in crate::binding) struct WorkerStack {
    pub(in crate::binding) worker: Arc<WorkerShared<Py<Future>>>,
    /// What it runs and since when, outermost first. To be let go of by a guarded
    /// call.
    pub(in crate::binding) tasks: Vec<(Py<Future>, Tick)>,
    /// The stack of the thread that runs it, the innermost call first. Empty when that is not
    /// known, or not in Python.
    pub(in crate::binding) calls: Vec<StackCall>,
    pub(in crate::binding) thread: Option<ThreadMark>,
}

/// Looks at every worker of an engine, and at the calls on its thread if that `is_wanted`.
pub(in crate::binding) fn look(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    is_wanted: bool,
) -> Vec<WorkerStack> {
    let workers = engine.workers();
    let _still = imp::CollectorPause::keep(py);
    let worker_stack = |worker: Arc<WorkerShared<Py<Future>>>| {
        let mut tasks = Vec::new();
        worker.for_each_running(|task, since| tasks.push((engine.host.share(py, task), since)));
        let thread = worker.thread();
        let calls = thread.filter(|_| is_wanted).map(|thread| imp::calls(py, thread.handle));
        WorkerStack { worker, tasks, calls: calls.unwrap_or_default(), thread }
    };
    workers.into_iter().map(worker_stack).collect()
}

/// Takes the note of a worker back when it is dropped.
pub(in crate::binding) struct NotedThread<'b>(&'b WorkerShared<Py<Future>>);

/// Notes this thread as the worker's own.
pub(in crate::binding) fn note_worker<'b>(
    py: Python<'_>,
    worker: &'b WorkerShared<Py<Future>>,
) -> NotedThread<'b> {
    worker.note_own_thread(Some(this_thread(py)));
    NotedThread(worker)
}

/// Notes this thread as the one that runs a task on a loan. The note is taken back when the loan is
/// let go.
pub(in crate::binding) fn note_caller(py: Python<'_>, loan: &Loan<Py<Future>, Py<PyAny>>) {
    loan.note_caller_thread(Some(this_thread(py)));
}

/// The mark of this thread.
#[inline]
pub(in crate::binding) fn this_thread(py: Python<'_>) -> ThreadMark {
    // The system is asked once: that costs more than all else that is done for a call.
    thread_local! {
        static NATIVE_ID: Cell<(u64, u64)> = const { Cell::new((u64::MAX, 0)) };
    }
    // The one thread of a forked child has another number than it had in the parent.
    let forks = process::forks();
    let native_id = match NATIVE_ID.get() {
        (asked_at, native_id) if asked_at == forks => native_id,
        _ => {
            let native_id = ask_native_id(py);
            NATIVE_ID.set((forks, native_id));
            native_id
        }
    };
    ThreadMark { handle: imp::this_thread(py), native_id }
}

#[cold]
fn ask_native_id(py: Python<'_>) -> u64 {
    let asked = PyImports::get(py).ok().and_then(|it| {
        guarded_call::call(py, &it.native_id, None, None, None).ok()?.extract(py).ok()
    });
    asked.unwrap_or(0)
}

impl Drop for NotedThread<'_> {
    fn drop(&mut self) {
        self.0.note_own_thread(None);
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod imp {
    use super::StackCall;
    use crate::binding::host::frames;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyString;

    /// More calls than this of one stack are not read.
    const MAX_CALLS: usize = 100;

    /// Keeps the collector off, if it was on.
    pub(super) struct CollectorPause {
        was_on: bool,
    }

    impl CollectorPause {
        pub(super) fn keep(_: Python<'_>) -> Self {
            // SAFETY: attached.
            Self { was_on: unsafe { ffi::PyGC_Disable() } == 1 }
        }
    }

    impl Drop for CollectorPause {
        fn drop(&mut self) {
            if self.was_on {
                // SAFETY: still attached: it lives on the stack of one function that does not
                // detach.
                unsafe { ffi::PyGC_Enable() };
            }
        }
    }

    pub(super) fn this_thread(_: Python<'_>) -> usize {
        // SAFETY: attached.
        unsafe { ffi::PyThreadState_Get() }.expose_provenance()
    }

    /// The calls of a thread that is noted, the innermost first.
    pub(super) fn calls(py: Python<'_>, thread: usize) -> Vec<StackCall> {
        let thread = std::ptr::with_exposed_provenance_mut(thread);
        // SAFETY: attached since the note was read, and the thread takes it back, attached, before
        // its state is freed.
        let frames = unsafe { frames::of_thread(py, thread) };
        frames.take(MAX_CALLS).map(|frame| call(&frame)).collect()
    }

    fn call(frame: &Bound<'_, PyAny>) -> StackCall {
        let code = frames::code(frame);
        // SAFETY: a live frame, and attached.
        let line = unsafe { ffi::PyFrame_GetLineNumber(frame.as_ptr().cast()) };
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
    use super::StackCall;
    use pyo3::prelude::*;

    /// Nothing: no thread is looked at.
    pub(super) struct CollectorPause;

    impl CollectorPause {
        pub(super) fn keep(_: Python<'_>) -> Self {
            Self
        }
    }

    /// Any number but 0: the thread is known, but not looked at.
    pub(super) fn this_thread(_: Python<'_>) -> usize {
        1
    }

    pub(super) fn calls(_: Python<'_>, _: usize) -> Vec<StackCall> {
        Vec::new()
    }
}
