//! Live engines of this process: ended in order when the interpreter exits, left alone after a
//! fork.

use super::engine_end::{kill, wait_ended};
use super::error::RunnerStopped;
use super::future::Future;
use super::host::state::PyHost;
use super::process;
use super::py_imports;
use super::runner_name;
use super::survey::{OutsideTask, survey};
use super::wait::Limit;
use crate::engine::roster::shared::WorkerShared;
use crate::engine::{Engine, Mode};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use std::fmt::Write as _;

/// Locked while attached, for a few instructions. Dropped runners stay alive here only as long as
/// their workers.
static LIVE: Mutex<Vec<Weak<Engine<PyHost>>>> = Mutex::new(Vec::new());
/// Engines of the parent, kept for ever: nothing of theirs is touched in a child, not even to free
/// it.
static INHERITED: Mutex<Vec<Arc<Engine<PyHost>>>> = Mutex::new(Vec::new());

/// Seconds that the exit gives idle workers of an abandoned runner to destroy their resources.
const EXIT_GRACE_SECONDS: f64 = 0.5;

/// Remembers an engine until it has ended; refuses once the exit hook has run.
pub(super) fn register(engine: &Arc<Engine<PyHost>>) -> PyResult<()> {
    {
        let mut live = LIVE.lock();
        live.retain(|other| other.upgrade().is_some_and(|other| other.mode() != Mode::Stopped));
        live.push(Arc::downgrade(engine));
    }
    // After the push: the hook marks first and looks at the list then, so one of the two sees the
    // other.
    if process::is_exiting() { Err(RunnerStopped::new_err(super::error::STOPPED)) } else { Ok(()) }
}

fn live() -> Vec<Arc<Engine<PyHost>>> {
    let engines: Vec<_> = LIVE.lock().iter().filter_map(Weak::upgrade).collect();
    engines.into_iter().filter(|engine| engine.mode() != Mode::Stopped).collect()
}

/// Stops every live engine and waits for it. One whose stop timed out, or that was killed, is not
/// waited for beyond a moment for its idle workers.
#[pyfunction]
pub(super) fn _stop_all_at_exit(py: Python<'_>) -> PyResult<()> {
    process::set_exiting();
    let engines = live();
    // A package that is gone already must not keep a runner from its stop.
    let loaded = py_imports::load(py, !engines.is_empty());
    for engine in &engines {
        engine.begin_stop();
    }
    wait_for_all(py, &engines)?;
    loaded
}

/// Kills every live engine and waits for what runs.
#[pyfunction]
pub(super) fn _kill_all_at_exit(py: Python<'_>) -> PyResult<()> {
    let engines = live();
    for engine in &engines {
        kill(py, engine);
    }
    wait_for_all(py, &engines)
}

/// Waits for the end of engines. Where one was abandoned, its workers that run no task get a moment
/// to destroy their resources.
fn wait_for_all(py: Python<'_>, engines: &[Arc<Engine<PyHost>>]) -> PyResult<()> {
    for engine in engines {
        let left_behind = engine.host.is_left_behind();
        wait_ended(py, engine, Limit::after(left_behind.then_some(0.0)))?;
    }
    let leaving =
        || engines.iter().flat_map(|engine| engine.workers()).any(|worker| !runs_a_task(&worker));
    super::wait::until(
        py,
        Limit::after(Some(EXIT_GRACE_SECONDS)),
        || !leaving(),
        |slice| {
            if let Some(engine) = engines.iter().find(|engine| !engine.workers().is_empty()) {
                engine.wait_ended(slice.min(std::time::Duration::from_millis(5)));
            }
        },
    )
    .map(|_| ())
}

fn runs_a_task(worker: &WorkerShared<Py<Future>>) -> bool {
    let mut busy = false;
    worker.for_each_running(|_, _| busy = true);
    busy
}

/// Names what still runs.
#[pyfunction]
pub(super) fn _exit_report(py: Python<'_>) -> PyResult<String> {
    let mut report =
        String::from("tasker: the interpreter exits, and leaves behind what still runs:");
    for engine in live() {
        let (running, outside_task) = survey(py, &engine)?;
        for task in running {
            let _ = write!(report, "\n  {}", task.bind(py).str()?);
        }
        for OutsideTask { worker, place } in outside_task {
            let _ = write!(report, "\n  a hook (on {}{place})", worker.name());
        }
    }
    Ok(report)
}

/// Leaves what still runs behind.
#[pyfunction]
pub(super) fn _give_up_at_exit() {
    for engine in live() {
        engine.host.leave_behind();
    }
}

/// In a child: the parent's engines are dead here.
#[pyfunction]
pub(super) fn _after_fork_in_child() {
    process::set_forked();
    runner_name::free_all();
    // The forking thread was attached, so no other thread can have been inside these locks.
    let live = std::mem::take(&mut *LIVE.lock());
    let mut inherited = INHERITED.lock();
    for engine in live.iter().filter_map(Weak::upgrade) {
        engine.mark_left_by_fork();
        inherited.push(engine);
    }
}
