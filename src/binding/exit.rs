//! Live engines of this process: ended in order when the interpreter exits, left alone after a fork.

use super::error::RunnerStopped;
use super::facade::Facade;
use super::host::PyHost;
use super::runner::{Elsewhere, kill, survey, wait_ended};
use super::wait::Limit;
use crate::engine::worker::badge::Badge;
use crate::engine::{Engine, Mode};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use std::fmt::Write as _;

/// Locked while attached, for a few instructions. Dropped runners stay alive here only as long as their workers.
static LIVE: Mutex<Vec<Weak<Engine<PyHost>>>> = Mutex::new(Vec::new());
/// Engines of the parent, kept for ever: nothing of theirs is touched in a child, not even to free it.
static INHERITED: Mutex<Vec<Arc<Engine<PyHost>>>> = Mutex::new(Vec::new());
static EXITING: AtomicBool = AtomicBool::new(false);
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Seconds that the exit gives idle workers of an abandoned runner to destroy their resources.
const PARTING: f64 = 0.5;

/// Remembers an engine until it has ended; refuses once the exit hook has run.
pub(super) fn register(engine: &Arc<Engine<PyHost>>) -> PyResult<()> {
    {
        let mut live = LIVE.lock();
        live.retain(|other| other.upgrade().is_some_and(|other| other.mode() != Mode::Stopped));
        live.push(Arc::downgrade(engine));
    }
    // After the push: the hook marks first and looks at the list then, so one of the two sees the other.
    if is_exiting() { Err(RunnerStopped::new_err(super::error::STOPPED)) } else { Ok(()) }
}

/// Whether the exit hook has run.
pub(super) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// How often this process came out of a fork.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

fn live() -> Vec<Arc<Engine<PyHost>>> {
    let engines: Vec<_> = LIVE.lock().iter().filter_map(Weak::upgrade).collect();
    engines.into_iter().filter(|engine| engine.mode() != Mode::Stopped).collect()
}

/// Stops every live engine and waits for it. One whose stop timed out, or that was killed, is not waited for
/// beyond a moment for its idle workers.
#[pyfunction]
pub(super) fn _stop_all_at_exit(py: Python<'_>) -> PyResult<()> {
    EXITING.store(true, Ordering::SeqCst);
    // A package that is gone already must not keep a runner from its stop.
    let loaded = Facade::load(py);
    let engines = live();
    for engine in &engines {
        engine.begin_stop();
    }
    for engine in &engines {
        let abandoned = engine.host.is_abandoned();
        wait_ended(py, engine, Limit::after(abandoned.then_some(0.0)))?;
    }
    part(py, &engines)?;
    loaded
}

/// Kills every live engine and waits for what runs.
#[pyfunction]
pub(super) fn _kill_all_at_exit(py: Python<'_>) -> PyResult<()> {
    let engines = live();
    for engine in &engines {
        kill(py, engine);
    }
    for engine in &engines {
        let abandoned = engine.host.is_abandoned();
        wait_ended(py, engine, Limit::after(abandoned.then_some(0.0)))?;
    }
    part(py, &engines)
}

/// Gives workers that run no task a moment to destroy their resources.
fn part(py: Python<'_>, engines: &[Arc<Engine<PyHost>>]) -> PyResult<()> {
    let leaving =
        || engines.iter().flat_map(|engine| engine.members()).any(|badge| !runs_a_task(&badge));
    super::wait::until(
        py,
        Limit::after(Some(PARTING)),
        || !leaving(),
        |slice| {
            if let Some(engine) = engines.iter().find(|engine| !engine.members().is_empty()) {
                engine.wait_ended(slice.min(std::time::Duration::from_millis(5)));
            }
        },
    )
    .map(|_| ())
}

fn runs_a_task(badge: &Badge<PyHost>) -> bool {
    let mut busy = false;
    badge.look_at_running(|_, _| busy = true);
    busy
}

/// Names what still runs.
#[pyfunction]
pub(super) fn _exit_report(py: Python<'_>) -> PyResult<String> {
    let mut report =
        String::from("tasker: the interpreter exits, and leaves behind what still runs:");
    for engine in live() {
        let (running, elsewhere) = survey(py, &engine)?;
        for task in running {
            let _ = write!(report, "\n  {}", task.bind(py).str()?);
        }
        for Elsewhere { badge, place } in elsewhere {
            let _ = write!(report, "\n  a hook (on {}{place})", badge.name());
        }
    }
    Ok(report)
}

/// Leaves what still runs behind.
#[pyfunction]
pub(super) fn _give_up_at_exit() {
    for engine in live() {
        engine.host.abandon();
    }
}

/// In a child: the parent's engines are dead here.
#[pyfunction]
pub(super) fn _after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    EXITING.store(false, Ordering::SeqCst);
    // The forking thread was attached, so no other thread can have been inside these locks.
    let live = std::mem::take(&mut *LIVE.lock());
    let mut inherited = INHERITED.lock();
    for engine in live.iter().filter_map(Weak::upgrade) {
        engine.forsake();
        inherited.push(engine);
    }
}
