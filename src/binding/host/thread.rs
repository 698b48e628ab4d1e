//! The OS threads: `threading.Thread` objects whose target is native.
//!
//! Threads that Python started have a name, show up in `threading.enumerate()`, debuggers and
//! profilers, and keep one thread state, with their `threading.local` data, for life. They are
//! daemons: the exit hook joins them, and a thread that it gave up on must not hold the
//! interpreter.

use super::exit_guard::ExitGuard;
use super::forked_child;
use super::guarded_call;
use crate::binding::error;
use crate::binding::py_imports::PyImports;
use crate::sync::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::time::Duration;

/// A thread that has not come up after this time is not waited for.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// What a thread of ours is there for.
pub(in crate::binding) trait ThreadRole: Send {
    fn name(&self) -> String;

    /// The thread's life.
    fn live(self: Box<Self>, py: Python<'_>);

    /// The thread ended with this fault before it came up, and its starter has gone on.
    fn fail(self: Box<Self>, py: Python<'_>, fault: Py<PyAny>);
}

/// The target of a thread of ours.
#[pyclass(frozen, module = "tasker._tasker")]
struct ThreadTarget {
    start_state: Mutex<StartState>,
    /// Notified when the thread has come up, or ended without.
    changed: Condvar,
}

/// How far a thread has come.
struct StartState {
    /// Taken by the thread when it comes up, or when it ends without.
    role: Option<Box<dyn ThreadRole>>,
    stage: StartStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StartStage {
    /// On its way; its starter waits, and sees to what follows if it ends before it has come up.
    Awaited,
    /// On its way, or up.
    Alone,
    /// It ended before it came up, and is about to drop its role, which gives a worker's slot back.
    Leaving,
    /// It ended before it came up.
    Failed,
}

#[pymethods]
impl ThreadTarget {
    fn __call__(&self, py: Python<'_>) {
        let Some(role) = self.take() else {
            return;
        };
        let _exit_guard = ExitGuard::install();
        forked_child::thread_started(py);
        name_os_thread(&role.name());
        role.live(py);
        forked_child::end_thread(py);
    }

    /// The thread is over. If it never came up, what other libraries put around `Thread.run` has
    /// raised, or a profile function.
    fn _ended(&self, py: Python<'_>) -> PyResult<()> {
        let (role, awaited) = {
            let mut start_state = self.start_state.lock();
            let role = start_state.role.take();
            let awaited = role.is_some() && start_state.stage == StartStage::Awaited;
            if awaited {
                start_state.stage = StartStage::Leaving;
            }
            (role, awaited)
        };
        let Some(role) = role else {
            return Ok(());
        };
        let _exit_guard = ExitGuard::install();
        if awaited {
            // A worker's slot is given back before the starter goes on.
            drop(role);
            self.start_state.lock().stage = StartStage::Failed;
            self.changed.notify_all();
            return Ok(());
        }
        let fault = not_started(py, &role.name());
        role.fail(py, fault);
        PyImports::get(py)?.forget_this_thread.call0(py).map(drop)
    }
}

impl ThreadTarget {
    fn take(&self) -> Option<Box<dyn ThreadRole>> {
        let role = self.start_state.lock().role.take();
        self.changed.notify_all();
        role
    }

    /// Waits until the thread has come up, or a while has passed; false when it ended before it
    /// came up.
    fn has_started(&self, py: Python<'_>) -> bool {
        let comes = |start_state: &mut StartState| match start_state.stage {
            StartStage::Awaited => start_state.role.is_some(),
            stage => stage == StartStage::Leaving,
        };
        // Not in Python, where a signal would end the wait: the thread is on its way whatever
        // happens.
        py.detach(|| {
            let mut start_state =
                self.changed.wait_while(self.start_state.lock(), START_TIMEOUT, comes);
            while start_state.stage == StartStage::Leaving {
                start_state = self.changed.wait_while(start_state, START_TIMEOUT, comes);
            }
            let failed = start_state.stage == StartStage::Failed;
            if !failed {
                start_state.stage = StartStage::Alone;
            }
            !failed
        })
    }
}

/// What a new thread of ours calls first, instead of its own `_bootstrap`: that, and at the very
/// end `ended`.
///
/// The interpreter's own thread start lets no exception of `Thread.run` out, so this is where it
/// shows that the target was never called.
///
/// A weak reference tells who starts a thread whether the system has taken it up: then it holds this.
#[pyclass(frozen, weakref, module = "tasker._tasker")]
pub(in crate::binding) struct _ThreadBootstrap {
    parts: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

#[pymethods]
impl _ThreadBootstrap {
    #[new]
    fn new(bootstrap: Py<PyAny>, ended: Py<PyAny>) -> Self {
        Self { parts: Mutex::new(Some((bootstrap, ended))) }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some((bootstrap, ended)) = self.parts.lock().take() else {
            return Ok(());
        };
        let _exit_guard = ExitGuard::install();
        let ran = guarded_call::call(py, &bootstrap, None, None, None);
        guarded_call::release(py, bootstrap);
        let told = guarded_call::call(py, &ended, None, None, None);
        guarded_call::release(py, ended);
        for outcome in [ran, told] {
            guarded_call::release(py, outcome.map_err(|error| error::raise(py, error))?);
        }
        Ok(())
    }
}

/// Starts a thread. If it is `awaited`, it has come up when this returns, so that any thread may
/// join it.
pub(in crate::binding) fn start(
    py: Python<'_>,
    role: Box<dyn ThreadRole>,
    awaited: bool,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let name = role.name();
    let stage = if awaited { StartStage::Awaited } else { StartStage::Alone };
    let start_state = Mutex::new(StartState { role: Some(role), stage });
    let target = Py::new(py, ThreadTarget { start_state, changed: Condvar::new() })
        .map_err(|error| error.into_value(py).into_any())?;
    let start = || -> PyResult<Py<PyAny>> {
        let ended = target.getattr(py, "_ended")?;
        PyImports::get(py)?.start_thread.call1(py, (target.clone_ref(py), &name, ended))
    };
    let thread = start().map_err(|error| {
        // Now, and not when the error dies, whose traceback holds the target: a worker's slot is
        // given back.
        let unlived = target.get().take();
        drop(unlived);
        error.into_value(py).into_any()
    })?;
    if awaited && !target.get().has_started(py) {
        return Err(not_started(py, &name));
    }
    Ok(thread)
}

/// The fault of a thread that ended before it came up.
fn not_started(py: Python<'_>, name: &str) -> Py<PyAny> {
    let text = format!("the thread {name} ended before it began to work: Thread.run raised");
    error::make::<PyRuntimeError>(py, &text, None)
}

/// Waits for the end of a thread whose native part is over.
pub(in crate::binding) fn join(py: Python<'_>, thread: &Py<PyAny>) -> PyResult<()> {
    PyImports::get(py)?.join_thread.call1(py, (thread,)).map(drop)
}

/// Whether a `threading.Thread` runs, or is still coming up.
pub(in crate::binding) fn is_alive(py: Python<'_>, thread: &Py<PyAny>) -> bool {
    let alive = |thread: &Bound<'_, PyAny>| {
        Ok(thread.getattr("ident")?.is_none() || thread.call_method0("is_alive")?.is_truthy()?)
    };
    let alive: PyResult<bool> = alive(thread.bind(py));
    alive.unwrap_or(false)
}

/// Gives the thread its name in the operating system too, cut to what fits there.
fn name_os_thread(name: &str) {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        const OS_NAME_BYTES: usize = 15;
        let fits = |end: &usize| name.is_char_boundary(*end);
        let end = (0..=name.len().min(OS_NAME_BYTES)).rfind(fits).unwrap_or(0);
        let Ok(name) = std::ffi::CString::new(&name[..end]) else {
            return;
        };
        // SAFETY: a live C string of a length that fits. A failure leaves the name as it was.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::pthread_setname_np(libc::pthread_self(), name.as_ptr());
        }
        // SAFETY: as above.
        #[cfg(target_os = "macos")]
        unsafe {
            libc::pthread_setname_np(name.as_ptr());
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    let _ = name;
}
