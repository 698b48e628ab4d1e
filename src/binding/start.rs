//! The start of an engine: its settings, its first workers, and what becomes of a start that fails.

use super::context::{Context, clock};
use super::diagnosis;
use super::engine_end::{kill, wait_ended};
use super::error::{self, ResourceCreationError};
use super::host::hooks::{Hook, UserHooks};
use super::host::state::PyHost;
use super::log::Logger;
use super::printable;
use super::survey::not_ready;
use super::wait::{self, Limit};
use crate::engine::clock::Tick;
use crate::engine::resource::epochs::RETRY_HOLD;
use crate::engine::resource::usage::ResourcePolicy;
use crate::engine::roster::startup_latch::StartupStatus;
use crate::engine::task::token::{CancelRegistration, Token};
use crate::engine::{Engine, EngineSettings};
use crate::sync::Arc;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::cell::RefCell;

/// How long a failed start waits for the creations that are still under way.
const CREATION_GRACE_SECONDS: f64 = 1.0;

/// Reads what the Python package has validated.
pub(super) fn read(config: &Bound<'_, PyAny>, name: &str) -> PyResult<(PyHost, EngineSettings)> {
    let hooks = UserHooks::read(config)?;
    let seconds = |name: &str| -> PyResult<Option<Tick>> {
        let seconds: Option<f64> = config.getattr(name)?.extract()?;
        Ok(seconds.map(clock::ticks_of))
    };
    let worker_count: usize = config.getattr("worker_count")?.extract()?;
    let max_worker_count: Option<usize> = config.getattr("max_worker_count")?.extract()?;
    let pool_size: Option<usize> = config.getattr("resource_pool_size")?.extract()?;
    let logger: Option<Py<PyAny>> = config.getattr("logger")?.extract()?;
    let settings = EngineSettings {
        name: name.to_owned(),
        worker_count,
        on_demand: false,
        max_worker_count: max_worker_count.unwrap_or(worker_count),
        reserve_limit: pool_size.filter(|size| *size > 0),
        reserve_at_start: pool_size.unwrap_or(0),
        keep_reserved: pool_size != Some(0),
        thread_bound: config.getattr("thread_bound")?.extract()?,
        max_queue_size: config.getattr("max_queue_size")?.extract()?,
        policy: ResourcePolicy {
            validate_after: match hooks.get(Hook::Validate) {
                Some(_) => seconds("validate_after_idle")?,
                None => None,
            },
            resets: hooks.get(Hook::Reset).is_some(),
            max_tasks: config.getattr("max_tasks_per_resource")?.extract()?,
            max_age: seconds("max_resource_age")?,
        },
        burst_interval: seconds("burst_interval")?.unwrap_or(Tick::MAX),
        idle_timeout: seconds("idle_timeout")?.unwrap_or(Tick::MAX),
        retry_hold: RETRY_HOLD,
        fail_fast_after: seconds("fail_fast_after")?,
        look_interval: match &logger {
            Some(_) => Some(diagnosis::look_interval(config.py())?),
            None => None,
        },
    };
    let max_retries = config.getattr("max_retries")?.extract()?;
    let logger = logger.map_or(Logger::Nowhere, Logger::given);
    Ok((PyHost::new(name, hooks, logger, max_retries), settings))
}

thread_local! {
    /// What abandons the starts of this thread.
    static ABANDON: RefCell<Option<Token>> = const { RefCell::new(None) };
}

/// Has every runner that is started in this thread from now on abandoned when a context is
/// cancelled.
#[pyfunction]
pub(super) fn _abandon_starts_with(context: &Bound<'_, Context>) {
    ABANDON.set(Some(context.get().token().clone()));
}

/// Why a start failed that got no thread.
const UNSTARTED: &str = "a worker's thread could not be started";

/// Starts the first workers and waits for their resources; on failure nothing stays behind but a
/// hung creation.
pub(super) fn launch(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    timeout: Option<f64>,
) -> PyResult<()> {
    let failed = |text: &str, cause: Option<Py<PyAny>>, grace: f64| {
        kill(py, engine);
        engine.host.leave_behind();
        wait_ended(py, engine, Limit::after(Some(grace))).err().unwrap_or_else(|| {
            error::raise(py, error::make::<ResourceCreationError>(py, text, cause.as_ref()))
        })
    };
    let abandon = ABANDON.with_borrow(Clone::clone);
    let cancel = |engine: &Engine<PyHost>| engine.startup.cancel();
    let _hook = abandon.as_ref().map(|abandon| when_cancelled(abandon, engine, cancel));
    if let Err(fault) = engine.start_workers(py) {
        let interrupted = !fault.bind(py).is_instance_of::<PyException>();
        let failed = failed(UNSTARTED, Some(fault.clone_ref(py)), CREATION_GRACE_SECONDS);
        return Err(if interrupted { error::raise(py, fault) } else { failed });
    }
    let launched = wait::until(
        py,
        Limit::after(timeout),
        || engine.startup.status() != StartupStatus::Pending,
        |slice| engine.startup.wait(slice),
    );
    if let Err(interrupted) = launched {
        // Interrupted again: the first reason stands.
        let _ = failed("interrupted", None, 0.0);
        return Err(interrupted);
    }
    let (text, fault, grace) = match engine.startup.status() {
        StartupStatus::Ready => return Ok(()),
        StartupStatus::Failed if abandon.is_some_and(|abandon| abandon.cancelled_flag()) => {
            ("the start was abandoned".to_owned(), None, 0.0)
        }
        StartupStatus::NoThread => {
            (UNSTARTED.to_owned(), engine.startup.take_fault(), CREATION_GRACE_SECONDS)
        }
        StartupStatus::Failed => {
            let (mut text, fault) = ("on_create failed".to_owned(), engine.startup.take_fault());
            if let Some(fault) = fault.as_ref().map(|fault| fault.bind(py)) {
                let kind = printable::name(&fault.get_type().name()?);
                let what = fault.str().map_or_else(|_| "(no text)".to_owned(), |it| it.to_string());
                text = format!("{text} with {kind}: {what}");
            }
            (text, fault, CREATION_GRACE_SECONDS)
        }
        StartupStatus::Pending => {
            // Before the workers are told to leave.
            let not_ready = not_ready(py, engine);
            let text = format!(
                "the workers' resources were not all created within {} s{}",
                timeout.unwrap_or_default(),
                not_ready.as_deref().unwrap_or_default()
            );
            let failed = failed(&text, None, 0.0);
            return Err(not_ready.err().unwrap_or(failed));
        }
    };
    Err(failed(&text, fault, grace))
}

/// Has this done with an engine when a token is cancelled, as long as there is the engine.
pub(super) fn when_cancelled(
    token: &Token,
    engine: &Arc<Engine<PyHost>>,
    act: fn(&Engine<PyHost>),
) -> CancelRegistration {
    let engine = Arc::downgrade(engine);
    token.on_cancel(Box::new(move || {
        if let Some(engine) = engine.upgrade() {
            act(&engine);
        }
    }))
}
