//! The figures of a runner as the Python package's objects.

use super::context::clock::seconds;
use super::host::state::PyHost;
use super::py_imports::PyReports;
use crate::engine::metrics::by_name::NameFigures;
use crate::engine::metrics::events::EventKind;
use crate::engine::metrics::figures::{Cumulative, Replacement};
use crate::engine::metrics::series::Timing;
use crate::engine::metrics::{busy, ratios};
use crate::engine::task::priority::Priority;
use crate::engine::{Engine, EngineMetrics};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Gauges of this moment.
pub(super) fn stats(py: Python<'_>, engine: &Engine<PyHost>) -> PyResult<Py<PyAny>> {
    let stats = engine.stats();
    let fields = PyDict::new(py);
    fields.set_item("base_workers", stats.workers.base)?;
    fields.set_item("active_workers", stats.workers.base + stats.workers.burst)?;
    fields.set_item("burst_workers", stats.workers.burst)?;
    fields.set_item("starting_workers", stats.workers.starting)?;
    fields.set_item("equipped_workers", stats.workers.ready)?;
    fields.set_item("queued_tasks", stats.queued)?;
    fields.set_item("priority_tasks", stats.high)?;
    fields.set_item("paused_tasks", stats.paused)?;
    fields.set_item("longest_line", stats.longest_line)?;
    fields.set_item("oldest_wait", seconds(engine.oldest_wait(py)))?;
    fields.set_item("running_tasks", stats.running)?;
    fields.set_item("overdue_tasks", stats.overdue)?;
    fields.set_item("available_resources", stats.available)?;
    fields.set_item("busy_share", busy::share(stats.busy))?;
    fields.set_item("creation_failing_for", seconds(stats.creation_failing))?;
    PyReports::get(py)?.stats.call(py, (), Some(&fields))
}

/// What accumulated since the start.
pub(super) fn metrics(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    metrics: &EngineMetrics,
) -> PyResult<Py<PyAny>> {
    let figures = &metrics.figures;
    let fields = PyDict::new(py);
    let (execution, wait, attach) = (figures.execution(), figures.wait(), figures.attach());
    for (what, spread) in [("execution_time", &execution), ("wait_time", &wait)] {
        let figures = [
            ("average", spread.mean),
            ("min", spread.min),
            ("max", spread.max),
            ("p50", spread.p50),
            ("p95", spread.p95),
            ("p99", spread.p99),
        ];
        for (which, figure) in figures {
            fields.set_item(format!("{which}_{what}"), figure)?;
        }
    }
    fields.set_item("average_attach_time", attach.mean)?;
    fields.set_item("task_arrival_rate", metrics.arrival_rate)?;
    fields.set_item("task_completion_rate", metrics.completion_rate)?;
    let (success, failure) = ratios(metrics[EventKind::Completed], metrics[EventKind::Failed]);
    fields.set_item("success_rate", success)?;
    fields.set_item("failure_rate", failure)?;
    for (event, name) in EventKind::ALL {
        fields.set_item(format!("total_tasks_{name}"), metrics[event])?;
    }
    fields.set_item("total_tasks_refused_full", metrics.refused_full)?;
    fields.set_item("total_key_hits", metrics.key_hits)?;
    fields.set_item("total_key_misses", metrics.key_misses)?;
    fields.set_item("total_creations_failed", figures.creations_failed())?;
    fields.set_item("execution", timing(py, &execution)?)?;
    fields.set_item("wait", timing(py, &wait)?)?;
    fields.set_item("attach", timing(py, &attach)?)?;
    fields.set_item("creation", timing(py, &figures.creation())?)?;
    let by_task = PyDict::new(py);
    let task_metrics = &PyReports::get(py)?.task_metrics;
    for NameFigures { name, completed, failed, retried, execution } in figures.by_name() {
        let execution = timing(py, &execution)?;
        by_task
            .set_item(&*name, task_metrics.call1(py, (completed, failed, retried, execution))?)?;
    }
    fields.set_item("by_task", by_task)?;
    let errors = PyDict::new(py);
    for (name, count) in engine.host.errors.counts() {
        errors.set_item(&*name, count)?;
    }
    fields.set_item("errors", errors)?;
    let replaced = PyDict::new(py);
    for (reason, name) in Replacement::ALL {
        replaced.set_item(name, figures.replaced_for(reason))?;
    }
    fields.set_item("replaced", replaced)?;
    PyReports::get(py)?.metrics.call(py, (), Some(&fields))
}

fn timing(py: Python<'_>, timing: &Timing) -> PyResult<Py<PyAny>> {
    let Timing { count, total, mean, min, max, p50, p95, p99 } = *timing;
    PyReports::get(py)?.timing.call1(py, (count, total, mean, min, max, p50, p95, p99))
}

/// What is no figure of the package's objects: `queued` tasks by priority, and durations by kind,
/// `wait` by priority too: how many are no longer than each edge, how many there are, and their sum
/// in seconds.
pub(super) fn histograms(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    metrics: &EngineMetrics,
    wait_edges: &[f64],
    run_edges: &[f64],
) -> PyResult<Py<PyAny>> {
    let figures = &metrics.figures;
    let (wait_edges, run_edges) = (nanoseconds(wait_edges), nanoseconds(run_edges));
    let shown = |Cumulative { counts, timing }: Cumulative| (counts, timing.count, timing.total);
    let wait = PyDict::new(py);
    for (priority, name) in
        [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")]
    {
        wait.set_item(name, shown(figures.wait_up_to(priority, &wait_edges)))?;
    }
    let stats = engine.stats();
    let queued = PyDict::new(py);
    queued.set_item("low", stats.low)?;
    queued.set_item("normal", stats.queued.saturating_sub(stats.low + stats.high))?;
    queued.set_item("high", stats.high)?;
    let histograms = PyDict::new(py);
    histograms.set_item("queued", queued)?;
    histograms.set_item("wait", wait)?;
    histograms.set_item("execution", shown(figures.execution_up_to(&run_edges)))?;
    histograms.set_item("creation", shown(figures.creation_up_to(&run_edges)))?;
    Ok(histograms.into_any().unbind())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "edges are positive, and what is beyond 584 years is as good as endless"
)]
fn nanoseconds(edges: &[f64]) -> Vec<u64> {
    edges.iter().map(|seconds| (seconds * 1e9) as u64).collect()
}
