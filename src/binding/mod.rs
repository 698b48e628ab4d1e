//! The binding: the engine's interface in Python, and the engine's host in Python.
//!
//! From the call to the result: [`submit`] takes it, drafts a [`future`] and queues it; [`host`]
//! runs it at a worker's session, by a [guarded call](host::guarded_call); [`future::settle`]
//! publishes the outcome; [`wait`] is where callers block. [`map`] does so for many items at a
//! time, [`joint`] for many tasks by one call. [`note`] is what an exception carries away.
//!
//! [`start`] and [`engine_end`] begin and end an engine, [`runner`] is its interface, [`exit`] ends
//! it with the interpreter. [`host::thread`] starts threads, [`current`] knows what the present one
//! is doing, [`wakes`] which other threads it has yet to wake. [`context`] is what a task runs in,
//! [`interrupt`] ends it early. [`limit`] reads time limits, [`printable`] is what becomes of names
//! on their way into texts. [`keys`] makes numbers of keys. [`py_imports`] finds what the Python package defines. [`inline`] is for
//! tasks that no worker runs.

#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "the docstrings of the stub are Google style, and not Markdown"
)]

// `doc!`, which gives these docstrings. Before all modules, for they use it.
include!(concat!(env!("OUT_DIR"), "/doc.rs"));

mod attached_cell;
mod callable;
mod class_name;
mod context;
mod current;
mod diagnosis;
mod engine_end;
mod engine_handle;
mod error;
mod exit;
mod figures;
mod future;
mod gc;
mod host;
mod inline;
mod interrupt;
mod joint;
mod kept_one;
mod keys;
mod limit;
mod log;
mod map;
mod note;
mod once;
mod options;
mod printable;
mod process;
mod py_imports;
mod runner;
mod runner_name;
mod serial_keys;
mod shared_count;
mod start;
mod submit;
mod survey;
mod task_key;
mod wait;
mod wakes;

use pyo3::prelude::*;

#[doc = doc!(_tasker)]
#[pymodule(gil_used = false)]
mod _tasker {
    #[pymodule_export]
    use super::callable::{_check_answer, check_task, unrun};
    #[pymodule_export]
    use super::class_name::_error_name;
    #[pymodule_export]
    use super::context::current_context::current_context;
    #[pymodule_export]
    use super::context::{Context, TaskContext};
    #[pymodule_export]
    use super::exit::{
        _after_fork_in_child, _exit_report, _give_up_at_exit, _kill_all_at_exit, _stop_all_at_exit,
    };
    #[pymodule_export]
    use super::future::Future;
    #[pymodule_export]
    use super::host::events::{_event, TaskEvent};
    #[pymodule_export]
    use super::host::thread::_ThreadBootstrap;
    #[pymodule_export]
    use super::inline::{
        _ask_key, _call_as_task, _call_outside_tasks, _note_attempts, _note_calling, _note_retries,
        _promise, _task_name,
    };
    #[pymodule_export]
    use super::interrupt::handle::CancelHandle;
    #[pymodule_export]
    use super::joint::batcher::{BatchFunctions, Batcher};
    #[pymodule_export]
    use super::joint::function::BatchFunction;
    #[pymodule_export]
    use super::map::item_error::_is_handed_out;
    #[pymodule_export]
    use super::map::look_ahead::TimedLookAhead;
    #[pymodule_export]
    use super::map::results::Results;
    #[pymodule_export]
    use super::once::{_is_first_import, _once};
    #[pymodule_export]
    use super::printable::_printable;
    #[pymodule_export]
    use super::runner::Runner;
    #[pymodule_export]
    use super::runner_name::{_free_name, _take_name};
    #[pymodule_export]
    use super::start::_abandon_starts_with;
    #[pymodule_export]
    use super::submit::executor::Executor;
    #[pymodule_export]
    use super::submit::submitter::Submitter;
    #[pymodule_export]
    use super::wait::_raise_later;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::refuse_subinterpreter()?;
        super::context::clock::start(module.py());
        super::submit::install_on_runner(module.py())?;
        super::submit::install_on_submitter(module.py())?;
        super::submit::install_on_executor(module.py())?;
        super::submit::install_on_batcher(module.py())?;
        super::map::results::install(module.py())?;
        super::future::unretrieved::install(module.py());
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("_debug_build", cfg!(debug_assertions))?;
        module.add("_STOPPED", super::error::STOPPED)?;
        module.add("_RENEWAL_WOULD_DEADLOCK", super::error::RENEWAL_WOULD_DEADLOCK)?;
        module.add("_RUN_TASK_WITH_KEY", super::error::RUN_TASK_WITH_KEY)?;
        module.add("_SERIAL_WOULD_DEADLOCK", super::error::SERIAL_WOULD_DEADLOCK)?;
        module.add("_WOULD_DEADLOCK", super::error::WOULD_DEADLOCK)
    }
}

/// PyO3 keeps one set of types for the whole process, and refuses other interpreters itself from
/// 3.12 on only.
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
