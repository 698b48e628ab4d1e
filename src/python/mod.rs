//! The binding: Python's face of the engine, and the engine's host in Python.
//!
//! From `submit` to the result: [`verbs`] takes the call, drafts a [`future`] and queues it; [`host`] runs it at a
//! worker's desk, through its [`door`](host::door); [`future::settle`] publishes the outcome; [`wait`] is where callers
//! block. [`map`] does so for many items at a time. [`note`] is what an exception carries away.
//!
//! [`runner`] starts and stops the whole, [`exit`] ends it with the interpreter, [`host::thread`] starts threads,
//! [`host::seat`] knows what the current one is doing, [`context`] is what a task runs in, [`interrupt`] ends it early.
//! [`limit`] reads time limits, [`printable`] is what becomes of names on their way into texts. [`inline`] is for tasks that no
//! worker runs.

mod callable;
mod context;
mod error;
mod exit;
mod facade;
mod future;
mod guarded;
mod host;
mod inline;
mod interrupt;
mod limit;
mod log;
mod map;
mod note;
mod once;
mod printable;
mod runner;
mod verbs;
mod wait;

use pyo3::prelude::*;

/// The native half of the package `tasker`.
#[pymodule(gil_used = false)]
mod _tasker {
    #[pymodule_export]
    use super::callable::{_check_answer, _unrun};
    #[pymodule_export]
    use super::context::{Context, TaskContext, current_context};
    #[pymodule_export]
    use super::exit::{
        _after_fork_in_child, _exit_report, _give_up_at_exit, _kill_all_at_exit, _stop_all_at_exit,
    };
    #[pymodule_export]
    use super::future::Future;
    #[pymodule_export]
    use super::host::thread::_Course;
    #[pymodule_export]
    use super::inline::{
        _call_as_task, _call_outside_tasks, _check_task, _note_attempts, _note_calling, _promise,
        _task_name,
    };
    #[pymodule_export]
    use super::interrupt::handle::CancelHandle;
    #[pymodule_export]
    use super::map::Results;
    #[pymodule_export]
    use super::map::failure::_is_handed_out;
    #[pymodule_export]
    use super::once::{_is_first_import, _once};
    #[pymodule_export]
    use super::printable::_printable;
    #[pymodule_export]
    use super::runner::{_abandon_starts_with, Runner};
    #[pymodule_export]
    use super::verbs::executor::Executor;
    #[pymodule_export]
    use super::verbs::options::Submitter;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::refuse_subinterpreter()?;
        super::context::start_clock(module.py());
        super::verbs::install_on_runner(module.py())?;
        super::verbs::install_on_submitter(module.py())?;
        super::verbs::install_on_executor(module.py())?;
        super::map::install(module.py())?;
        super::future::unseen::install(module.py());
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("_debug_build", cfg!(debug_assertions))?;
        module.add("_STOPPED", super::error::STOPPED)?;
        module.add("_STANDSTILL", super::error::STANDSTILL)
    }
}

/// PyO3 keeps one set of types for the whole process, and refuses other interpreters itself from 3.12 on only.
fn refuse_subinterpreter() -> PyResult<()> {
    // SAFETY: attached.
    let here = unsafe { pyo3::ffi::PyInterpreterState_Get() };
    // SAFETY: always allowed.
    let main = unsafe { pyo3::ffi::PyInterpreterState_Main() };
    if here == main {
        return Ok(());
    }
    Err(pyo3::exceptions::PyImportError::new_err(
        "tasker does not support subinterpreters; import it in the main interpreter",
    ))
}
