//! The OS threads: `threading.Thread` objects whose target is native.
//!
//! Threads that Python started have a name, show up in `threading.enumerate()`, debuggers and profilers, and keep
//! one thread state, with their `threading.local` data, for life. They are daemons: the exit hook joins them, and
//! what it gave up on must not hold the interpreter.

use super::PyHost;
use super::net::Net;
use super::seat;
use crate::engine::Engine;
use crate::engine::worker::Life;
use crate::python::log::{self, Level};
use crate::python::runner;
use crate::sync::{Arc, Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A thread that has not come up after this time is not waited for.
const COMING_UP: Duration = Duration::from_secs(1);

/// The target of a worker's thread.
#[pyclass(frozen, module = "tasker._tasker")]
struct Worker {
    life: Mutex<Option<Life<PyHost>>>,
    /// Notified when the life has been taken, if somebody waits for that.
    begun: Option<Condvar>,
}

#[pymethods]
impl Worker {
    fn __call__(&self, py: Python<'_>) {
        let Some(life) = self.life.lock().take() else {
            return;
        };
        if let Some(begun) = &self.begun {
            begun.notify_all();
        }
        let _net = Net::spread();
        let engine = Arc::clone(life.engine());
        name_os_thread(life.badge().name());
        seat::on_behalf(&engine, || contain(py, &engine, || life.live(py)));
        runner::release_if_over(py, &engine);
    }
}

/// The target of a keeper's thread.
#[pyclass(frozen, module = "tasker._tasker")]
struct Keeper {
    engine: Arc<Engine<PyHost>>,
}

#[pymethods]
impl Keeper {
    fn __call__(&self, py: Python<'_>) {
        let _net = Net::spread();
        name_os_thread(&keeper_name(&self.engine));
        seat::on_behalf(&self.engine, || contain(py, &self.engine, || self.engine.keep(py)));
    }
}

/// Runs a thread's life. A panic of our own breaks the runner, in the open, and nothing else.
fn contain(py: Python<'_>, engine: &Arc<Engine<PyHost>>, life: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(life)) {
        engine.break_down(py);
        let reason = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| String::from("unknown"));
        let text = format!(
            "{}: internal fault, the runner is broken; please report this: {reason}",
            engine.host.name
        );
        log::say(py, Some(&engine.host), Level::Error, &text, None, None);
    }
    seat::wake_now();
}

/// Starts a worker's thread. If it is `awaited`, it has come up when this returns, so that anybody may join it.
pub(in crate::python) fn start_worker(
    py: Python<'_>,
    life: Life<PyHost>,
    awaited: bool,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let name = life.badge().name().to_owned();
    let worker = Worker { life: Mutex::new(Some(life)), begun: awaited.then(Condvar::new) };
    let worker = Py::new(py, worker).map_err(|error| error.into_value(py).into_any())?;
    let thread = start(py, worker.clone_ref(py).into_any(), &name).inspect_err(|_| {
        // Now, and not when the error dies, whose traceback holds the worker: its place is given back.
        let unlived = worker.get().life.lock().take();
        drop(unlived);
    })?;
    if let Worker { life, begun: Some(begun) } = worker.get() {
        // Not in Python, where a signal would end the wait: the thread is on its way whatever happens.
        py.detach(|| drop(begun.wait_while(life.lock(), COMING_UP, |life| life.is_some())));
    }
    Ok(thread)
}

/// Starts a keeper's thread.
pub(in crate::python) fn start_keeper(
    py: Python<'_>,
    engine: Arc<Engine<PyHost>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let name = keeper_name(&engine);
    let keeper = Py::new(py, Keeper { engine }).map_err(|error| error.into_value(py).into_any())?;
    start(py, keeper.into_any(), &name)
}

fn keeper_name(engine: &Engine<PyHost>) -> String {
    format!("{}-keeper", engine.settings.name)
}

fn start(py: Python<'_>, target: Py<PyAny>, name: &str) -> Result<Py<PyAny>, Py<PyAny>> {
    static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let start = || -> PyResult<Py<PyAny>> {
        let start = START.get_or_try_init(py, || {
            PyResult::Ok(py.import("tasker._threads")?.getattr("start")?.unbind())
        })?;
        start.call1(py, (target, name))
    };
    start().map_err(|error| error.into_value(py).into_any())
}

/// Waits for the end of a thread whose native part is over.
pub(in crate::python) fn join(py: Python<'_>, thread: &Py<PyAny>) -> PyResult<()> {
    static JOIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let join = JOIN.get_or_try_init(py, || {
        PyResult::Ok(py.import("tasker._threads")?.getattr("join")?.unbind())
    })?;
    join.call1(py, (thread,)).map(|_| ())
}

/// Whether a `threading.Thread` runs, or is still coming up.
pub(in crate::python) fn is_alive(py: Python<'_>, thread: &Py<PyAny>) -> bool {
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
        const LONGEST: usize = 15;
        let fits = |end: &usize| name.is_char_boundary(*end);
        let end = (0..=name.len().min(LONGEST)).rfind(fits).unwrap_or(0);
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
