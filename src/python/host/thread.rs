//! The OS threads: `threading.Thread` objects whose target is native.
//!
//! Threads that Python started have a name, show up in `threading.enumerate()`, debuggers and profilers, and keep
//! one thread state, with their `threading.local` data, for life. They are daemons: the exit hook joins them, and
//! what it gave up on must not hold the interpreter.

use super::PyHost;
use super::child;
use super::door;
use super::net::Net;
use super::seat;
use super::stacks;
use crate::engine::Engine;
use crate::engine::worker::Life;
use crate::python::error;
use crate::python::interrupt::crew::Crew;
use crate::python::log::{self, Level};
use crate::python::runner;
use crate::sync::{Arc, Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A thread that has not come up after this time is not waited for.
const COMING_UP: Duration = Duration::from_secs(1);

/// What a thread of ours is there for.
enum Work {
    Worker(Life<PyHost>),
    Keeper(Arc<Engine<PyHost>>),
    /// A helper of this engine, or of contexts outside of tasks.
    Helper(Arc<Crew>, Option<Arc<Engine<PyHost>>>),
}

/// The target of a thread of ours.
#[pyclass(frozen, module = "tasker._tasker")]
struct Target {
    coming: Mutex<Coming>,
    /// Notified when the thread has come up, or ended without.
    changed: Condvar,
}

/// How far a thread has come.
struct Coming {
    /// Taken by the thread when it comes up, or when it ends without.
    work: Option<Work>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On its way; its starter waits, and sees to what follows if it ends before it has come up.
    Awaited,
    /// On its way, or up.
    Alone,
    /// It ended before it came up, and is about to give its place back.
    Leaving,
    /// It ended before it came up.
    Failed,
}

#[pymethods]
impl Target {
    fn __call__(&self, py: Python<'_>) {
        let Some(work) = self.take() else {
            return;
        };
        let _net = Net::spread();
        child::thread_came_up(py);
        match work {
            Work::Worker(life) => {
                let engine = Arc::clone(life.engine());
                let badge = Arc::clone(life.badge());
                engine.host.has_threads();
                name_os_thread(badge.name());
                let _noted = stacks::note_worker(py, &badge);
                seat::on_behalf(&engine, || contain(py, &engine, || life.live(py)));
                runner::release_if_over(py, &engine);
            }
            Work::Keeper(engine) => {
                name_os_thread(&keeper_name(&engine));
                seat::on_behalf(&engine, || contain(py, &engine, || engine.keep(py)));
            }
            Work::Helper(crew, Some(engine)) => {
                name_os_thread(&helper_name(Some(&engine)));
                let life = || crew.help(py, Some(&engine));
                seat::on_behalf(&engine, || contain(py, &engine, life));
            }
            Work::Helper(crew, None) => {
                name_os_thread(&helper_name(None));
                crew.help(py, None);
            }
        }
        child::end_thread(py);
    }

    /// The thread is over. If it never came up, what others put around `Thread.run` has raised, or a profile function.
    fn _ended(&self, py: Python<'_>) -> PyResult<()> {
        let (work, awaited) = {
            let mut coming = self.coming.lock();
            let work = coming.work.take();
            let awaited = work.is_some() && coming.stage == Stage::Awaited;
            if awaited {
                coming.stage = Stage::Leaving;
            }
            (work, awaited)
        };
        let Some(work) = work else {
            return Ok(());
        };
        let _net = Net::spread();
        if awaited {
            // Its place is given back before the starter goes on.
            drop(work);
            self.coming.lock().stage = Stage::Failed;
            self.changed.notify_all();
            return Ok(());
        }
        match work {
            Work::Worker(life) => {
                let fault = no_show(py, life.badge().name());
                let engine = Arc::clone(life.engine());
                seat::on_behalf(&engine, || life.fail(py, fault));
                runner::release_if_over(py, &engine);
            }
            Work::Keeper(engine) => engine.lost_keeper(),
            Work::Helper(crew, _) => crew.lost_helper(),
        }
        python(py, "forget_this_thread")?.call0(py).map(drop)
    }
}

impl Target {
    fn take(&self) -> Option<Work> {
        let work = self.coming.lock().work.take();
        self.changed.notify_all();
        work
    }

    /// Waits until the thread has come up, or a while has passed; false when it ended before it came up.
    fn comes_up(&self, py: Python<'_>) -> bool {
        let comes = |coming: &mut Coming| match coming.stage {
            Stage::Awaited => coming.work.is_some(),
            stage => stage == Stage::Leaving,
        };
        // Not in Python, where a signal would end the wait: the thread is on its way whatever happens.
        py.detach(|| {
            let mut coming = self.changed.wait_while(self.coming.lock(), COMING_UP, comes);
            while coming.stage == Stage::Leaving {
                coming = self.changed.wait_while(coming, COMING_UP, comes);
            }
            let failed = coming.stage == Stage::Failed;
            if !failed {
                coming.stage = Stage::Alone;
            }
            !failed
        })
    }
}

/// What a new thread of ours calls first, in the place of its own `_bootstrap`: that, and at the very end `ended`.
///
/// The interpreter's own thread start lets no exception of `Thread.run` out, so this is where it shows that the target
/// was never called.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::python) struct _Course {
    parts: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

#[pymethods]
impl _Course {
    #[new]
    fn new(bootstrap: Py<PyAny>, ended: Py<PyAny>) -> Self {
        Self { parts: Mutex::new(Some((bootstrap, ended))) }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some((bootstrap, ended)) = self.parts.lock().take() else {
            return Ok(());
        };
        let _net = Net::spread();
        let ran = door::call(py, &bootstrap, None, None, None);
        door::release(py, bootstrap);
        let told = door::call(py, &ended, None, None, None);
        door::release(py, ended);
        for outcome in [ran, told] {
            door::release(py, outcome.map_err(|error| error::raise(py, error))?);
        }
        Ok(())
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
    start(py, Work::Worker(life), &name, awaited)
}

/// Starts a keeper's thread. It has come up when this returns: nobody else would miss one that did not.
pub(in crate::python) fn start_keeper(
    py: Python<'_>,
    engine: Arc<Engine<PyHost>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let name = keeper_name(&engine);
    start(py, Work::Keeper(engine), &name, true)
}

/// Starts a helper's thread. If it is `awaited`, it has come up when this returns.
pub(in crate::python) fn start_helper(
    py: Python<'_>,
    crew: Arc<Crew>,
    engine: Option<Arc<Engine<PyHost>>>,
    awaited: bool,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let name = helper_name(engine.as_ref());
    start(py, Work::Helper(crew, engine), &name, awaited)
}

fn helper_name(engine: Option<&Arc<Engine<PyHost>>>) -> String {
    // Not the default name of a runner: it would look like a thread that one left behind.
    let name = engine.map_or("context", |engine| engine.settings.name.as_str());
    format!("{name}-canceller")
}

fn keeper_name(engine: &Engine<PyHost>) -> String {
    format!("{}-keeper", engine.settings.name)
}

fn start(py: Python<'_>, work: Work, name: &str, awaited: bool) -> Result<Py<PyAny>, Py<PyAny>> {
    let stage = if awaited { Stage::Awaited } else { Stage::Alone };
    let coming = Mutex::new(Coming { work: Some(work), stage });
    let target = Py::new(py, Target { coming, changed: Condvar::new() })
        .map_err(|error| error.into_value(py).into_any())?;
    let start = || -> PyResult<Py<PyAny>> {
        let ended = target.getattr(py, "_ended")?;
        python(py, "start")?.call1(py, (target.clone_ref(py), name, ended))
    };
    let thread = start().map_err(|error| {
        // Now, and not when the error dies, whose traceback holds the target: its place is given back.
        let unlived = target.get().take();
        drop(unlived);
        error.into_value(py).into_any()
    })?;
    if awaited && !target.get().comes_up(py) {
        return Err(no_show(py, name));
    }
    Ok(thread)
}

/// The fault of a thread that ended before it came up.
fn no_show(py: Python<'_>, name: &str) -> Py<PyAny> {
    let text = format!("the thread {name} ended before it began to work: Thread.run raised");
    error::make::<PyRuntimeError>(py, &text, None)
}

/// A function of `tasker._threads`.
fn python(py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE
        .get_or_try_init(py, || PyResult::Ok(py.import("tasker._threads")?.into_any().unbind()))?;
    module.getattr(py, name)
}

/// Waits for the end of a thread whose native part is over.
pub(in crate::python) fn join(py: Python<'_>, thread: &Py<PyAny>) -> PyResult<()> {
    python(py, "join")?.call1(py, (thread,)).map(drop)
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
