//! What the package defines in Python and native code makes or calls.

use super::error;
use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What every runner needs. Found once, when the first is made.
pub(super) struct PyImports {
    pub(super) check_config: Py<PyAny>,
    pub(super) refuse_settings: Py<PyAny>,
    pub(super) check_deadline: Py<PyAny>,
    pub(super) check_type: Py<PyAny>,
    pub(super) standard_deadline: Py<PyAny>,
    pub(super) priority: Py<PyAny>,
    pub(super) unset: Py<PyAny>,
    pub(super) native_id: Py<PyAny>,
    pub(super) write_record: Py<PyAny>,
    pub(super) on_signals: Py<PyAny>,
    pub(super) start_thread: Py<PyAny>,
    pub(super) join_thread: Py<PyAny>,
    pub(super) forget_this_thread: Py<PyAny>,
    pub(super) format_calls: Py<PyAny>,
}

impl PyImports {
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static IMPORTS: PyOnceLock<PyImports> = PyOnceLock::new();
        IMPORTS.get_or_try_init(py, || {
            let find = |module, name| find(py, module, name);
            Ok(Self {
                check_config: find("tasker._config", "check_config")?,
                refuse_settings: find("tasker._config", "refuse_settings")?,
                check_deadline: find("tasker._checks", "check_deadline")?,
                check_type: find("tasker._checks", "check_type")?,
                standard_deadline: find("tasker._checks", "standard_deadline")?,
                priority: find("tasker._priority", "Priority")?,
                unset: find("tasker._retry", "Unset")?.getattr(py, "UNSET")?,
                native_id: find("threading", "get_native_id")?,
                write_record: find("tasker._log", "write")?,
                on_signals: find("tasker._signals", "on_signals")?,
                start_thread: find("tasker._threads", "start")?,
                join_thread: find("tasker._threads", "join")?,
                forget_this_thread: find("tasker._threads", "forget_this_thread")?,
                format_calls: find("tasker._threads", "format_calls")?,
            })
        })
    }
}

/// What a runner tells of itself and hands back. Most programs ask for none of it, and these classes
/// take long to import.
pub(super) struct PyReports {
    pub(super) stats: Py<PyAny>,
    pub(super) metrics: Py<PyAny>,
    pub(super) task_metrics: Py<PyAny>,
    pub(super) timing: Py<PyAny>,
    pub(super) dropped_task: Py<PyAny>,
    pub(super) without_resource: Py<PyAny>,
    pub(super) running_task: Py<PyAny>,
    pub(super) worker_info: Py<PyAny>,
    pub(super) snapshot: Py<PyAny>,
    pub(super) memory: Py<PyAny>,
}

impl PyReports {
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static REPORTS: PyOnceLock<PyReports> = PyOnceLock::new();
        REPORTS.get_or_try_init(py, || {
            let find = |module, name| find(py, module, name);
            Ok(Self {
                stats: find("tasker._stats", "Stats")?,
                metrics: find("tasker._stats", "Metrics")?,
                task_metrics: find("tasker._stats", "TaskMetrics")?,
                timing: find("tasker._stats", "Timing")?,
                dropped_task: find("tasker._dropped", "DroppedTask")?,
                without_resource: find("tasker._dropped", "without_resource")?,
                running_task: find("tasker._running_task", "RunningTask")?,
                worker_info: find("tasker._workers", "WorkerInfo")?,
                snapshot: find("tasker._findings", "Snapshot")?,
                memory: find("tasker._looks", "Memory")?,
            })
        })
    }
}

/// Finds what may still be needed when the interpreter begins to exit: at its very end nothing can be
/// imported any more, and a destructor may still want to kill its runner. Where no runner is alive
/// that is the errors that a call may raise.
pub(super) fn load(py: Python<'_>, is_any_alive: bool) -> PyResult<()> {
    if is_any_alive {
        PyImports::get(py)?;
        PyReports::get(py)?;
    }
    error::RunnerStopped::type_object(py);
    error::RunnerBroken::type_object(py);
    error::BrokenThreadPool::type_object(py);
    error::StopTimeout::type_object(py);
    error::CancelledError::type_object(py);
    Ok(())
}

fn find(py: Python<'_>, module: &str, name: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import(module)?.getattr(name)?.unbind())
}
