//! The frames on the stack of a thread.

use pyo3::ffi;
use pyo3::prelude::*;

/// The frames of a thread, the innermost first.
///
/// # Safety
///
/// The thread's state is live, and the thread does not move while this is used.
pub(super) unsafe fn of_thread(
    py: Python<'_>,
    thread: *mut ffi::PyThreadState,
) -> impl Iterator<Item = Bound<'_, PyAny>> {
    // SAFETY: the caller's. A new reference, or null.
    let innermost = unsafe { ffi::PyThreadState_GetFrame(thread) };
    // SAFETY: as said.
    let innermost = unsafe { Bound::from_owned_ptr_or_opt(py, innermost.cast()) };
    std::iter::successors(innermost, move |frame| {
        // SAFETY: a live frame of a thread that does not move. A new reference, or null.
        let outer = unsafe { ffi::PyFrame_GetBack(frame.as_ptr().cast()) };
        // SAFETY: as said.
        unsafe { Bound::from_owned_ptr_or_opt(py, outer.cast()) }
    })
}

/// The frames of this thread, the innermost first.
pub(super) fn of_this_thread(py: Python<'_>) -> impl Iterator<Item = Bound<'_, PyAny>> {
    // SAFETY: attached, so that this thread has a state, and runs nothing else meanwhile.
    unsafe { of_thread(py, ffi::PyThreadState_Get()) }
}

/// The code that a frame runs.
pub(super) fn code<'py>(frame: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    // SAFETY: a live frame, and attached. A new reference.
    unsafe {
        let code = ffi::PyFrame_GetCode(frame.as_ptr().cast());
        Bound::from_owned_ptr(frame.py(), code.cast())
    }
}
