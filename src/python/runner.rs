//! The native half of `Runner`: its start, its end, and its figures.

use super::context::Context;
use super::error::{self, ResourceCreationError, RunnerStopped, StopTimeout};
use super::exit;
use super::facade::Facade;
use super::future::Future;
use super::future::settle;
use super::host::hooks::Hooks;
use super::host::net::Net;
use super::host::seat;
use super::host::stacks::{self, Call, Sight};
use super::host::{self, Dropped, PyHost, Task};
use super::limit;
use super::printable;
use super::verbs::core::{Core, CoreRef};
use super::verbs::options::Options;
use super::wait::{self, Limit};
use crate::engine::clock::{Tick, ticks};
use crate::engine::figures::ratios;
use crate::engine::queue::lanes::Class;
use crate::engine::resource::care::Policy;
use crate::engine::resource::proof::HOLD;
use crate::engine::staffing::launch::Launched;
use crate::engine::task::token::{Hook, Token};
use crate::engine::worker::badge::Badge;
use crate::engine::{Engine, Host, Mode, Settings};
use crate::sync::Arc;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

/// How long a failed start waits for the creations that are still under way.
const GRACE: f64 = 1.0;

/// The native half of `tasker.Runner`: the workers, the queue and all that is hot.
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(super) struct Runner {
    core: Py<Core>,
    config: Py<PyAny>,
    /// The engine borrows them from here, so that a runner that its own callables refer to can be collected.
    hooks: Option<Arc<Hooks>>,
    /// Options behind the verbs with a name of their own.
    pub(super) urgent: Arc<Options>,
    pub(super) once: Arc<Options>,
    pub(super) urgent_once: Arc<Options>,
    /// Stops the runner when the config's context is cancelled.
    _hook: Option<Hook>,
}

impl Runner {
    pub(super) fn core(&self) -> CoreRef<'_> {
        CoreRef(&self.core)
    }

    fn engine(&self) -> &Arc<Engine<PyHost>> {
        &self.core.get().engine
    }
}

#[pymethods]
impl Runner {
    #[new]
    #[pyo3(
        signature = (config = None, *, timeout = None, **settings),
        text_signature = "(config, *, timeout=None)"
    )]
    fn new(
        py: Python<'_>,
        config: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let _net = Net::spread();
        let facade = Facade::get(py)?;
        if let Some(settings) = settings {
            facade.refuse_settings.call1(py, (settings.keys(),))?;
        }
        let none = py.None().into_bound(py);
        let config = config.unwrap_or(&none);
        if exit::is_exiting() {
            return Err(RunnerStopped::new_err(error::STOPPED));
        }
        facade.check_config.call1(py, (config,))?;
        let timeout = limit::of_call(timeout)?;
        let (host, settings) = read(config)?;
        let context: Option<Bound<'_, Context>> = config.getattr("context")?.extract()?;
        let when_full: String = config.getattr("when_full")?.extract()?;
        let engine = Engine::new(host, settings);
        let core = Core {
            engine: Arc::clone(&engine),
            task_timeout: config.getattr("task_timeout")?.extract()?,
            copy_contextvars: config.getattr("copy_contextvars")?.extract()?,
            raise_when_full: when_full == "raise",
            bare: false,
            group: None,
        };
        let core = Py::new(py, core)?;
        let prepare = || {
            if engine.host.interrupts() {
                let crew = &engine.host.crew;
                crew.enlist(py, Some(&engine)).map_err(|fault| error::raise(py, fault))?;
            }
            if engine.bursts() {
                engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
            }
            if let Some(left) = context.as_ref().and_then(|context| context.get().left(py)) {
                engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
                engine.stop_at(engine.clock.now().saturating_add(left));
            }
            exit::register(&engine)
        };
        // A helper or keeper that has come up by then leaves.
        prepare().inspect_err(|_| kill(py, &engine))?;
        // The last thing that can fail: whatever it made it also unmakes.
        launch(py, &engine, timeout)?;
        let hook = context.map(|context| {
            let engine = Arc::downgrade(&engine);
            context.get().token().on_cancel(Box::new(move || {
                if let Some(engine) = engine.upgrade() {
                    engine.begin_stop();
                }
            }))
        });
        Ok(Self {
            core,
            config: config.clone().unbind(),
            hooks: engine.host.hooks.lend(),
            urgent: Options::plain(Class::High, false),
            once: Options::plain(Class::Normal, true),
            urgent_once: Options::plain(Class::High, true),
            _hook: hook,
        })
    }

    /// The settings the runner was made with.
    #[getter]
    fn config(&self, py: Python<'_>) -> Py<PyAny> {
        self.config.clone_ref(py)
    }

    /// The runner's name, from its config.
    #[getter]
    fn name(&self) -> &str {
        &self.engine().settings.name
    }

    /// How far the runner's life has come.
    #[getter]
    fn state(&self) -> &'static str {
        match self.engine().mode() {
            Mode::Running => "running",
            Mode::Stopping => "stopping",
            Mode::Killed => "killed",
            Mode::Stopped => "stopped",
        }
    }

    /// Stops gracefully: refuses new tasks, finishes the others, destroys the resources.
    #[pyo3(signature = (timeout = None))]
    fn stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _net = Net::spread();
        let timeout = limit::of_call(timeout)?;
        let engine = self.engine();
        self.core.get().check_alive_or_ended()?;
        engine.begin_stop();
        if seat::works_for(engine) || wait_ended(py, engine, Limit::after(timeout))? {
            return Ok(());
        }
        engine.host.abandon();
        Err(stop_timeout(py, engine, "stop", Vec::new())?)
    }

    /// Stops now: drops what has not started, cancels the contexts of what runs, destroys.
    #[pyo3(signature = (timeout = None))]
    fn kill(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Py<PyAny>>> {
        let _net = Net::spread();
        let timeout = limit::of_call(timeout)?;
        let engine = self.engine();
        self.core.get().check_alive_or_ended()?;
        engine.host.abandon();
        kill(py, engine);
        let ended = seat::works_for(engine) || wait_ended(py, engine, Limit::after(timeout))?;
        let dropped = dropped_tasks(py, engine.host.take_dropped())?;
        if ended { Ok(dropped) } else { Err(stop_timeout(py, engine, "kill", dropped)?) }
    }

    /// Drops what waits and hands it back; what runs is left alone, and the runner goes on.
    #[pyo3(signature = (reason = None))]
    fn cancel_queued(&self, py: Python<'_>, reason: Option<&str>) -> PyResult<Vec<Py<PyAny>>> {
        let _net = Net::spread();
        let core = self.core.get();
        core.check_alive_or_ended()?;
        let engine = &core.engine;
        if engine.is_closing() {
            return Err(core.refusal());
        }
        // A callback that waits for another task that is dropped would wait for itself.
        let drop = || host::drop_waiting(py, engine, reason);
        dropped_tasks(py, seat::on_behalf(engine, drop))
    }

    /// Returns the gauges of this moment.
    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _net = Net::spread();
        self.core.get().check_alive_or_ended()?;
        let stats = self.engine().stats();
        let fields = PyDict::new(py);
        fields.set_item("base_workers", stats.heads.base)?;
        fields.set_item("active_workers", stats.heads.base + stats.heads.burst)?;
        fields.set_item("burst_workers", stats.heads.burst)?;
        fields.set_item("starting_workers", stats.heads.starting)?;
        fields.set_item("equipped_workers", stats.heads.ready)?;
        fields.set_item("queued_tasks", stats.queued)?;
        fields.set_item("priority_tasks", stats.urgent)?;
        fields.set_item("running_tasks", stats.running)?;
        fields.set_item("overdue_tasks", stats.overdue)?;
        fields.set_item("available_resources", stats.available)?;
        Facade::get(py)?.stats.call(py, (), Some(&fields))
    }

    /// Returns the figures since the start.
    fn metrics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _net = Net::spread();
        self.core.get().check_alive_or_ended()?;
        let metrics = self.engine().metrics();
        let fields = PyDict::new(py);
        let spreads =
            [("execution_time", metrics.summary.execution), ("wait_time", metrics.summary.wait)];
        for (what, spread) in spreads {
            let figures = [
                ("average", spread.average),
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
        fields.set_item("average_attach_time", metrics.summary.average_attach)?;
        fields.set_item("task_arrival_rate", metrics.arrival_rate)?;
        fields.set_item("task_completion_rate", metrics.completion_rate)?;
        let (success, failure) = ratios(metrics.completed, metrics.failed);
        fields.set_item("success_rate", success)?;
        fields.set_item("failure_rate", failure)?;
        let totals = [
            ("arrived", metrics.arrived),
            ("completed", metrics.completed),
            ("failed", metrics.failed),
            ("retried", metrics.retried),
            ("refused", metrics.refused),
            ("cancelled", metrics.cancelled),
            ("dropped", metrics.dropped),
            ("timed_out", metrics.timed_out),
        ];
        for (what, total) in totals {
            fields.set_item(format!("total_tasks_{what}"), total)?;
        }
        Facade::get(py)?.metrics.call(py, (), Some(&fields))
    }

    /// Queues a task for each item and returns their futures.
    #[pyo3(signature = (r#fn, iterable, /))]
    fn submit_many(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Py<Future>>> {
        self.core().submit_many(r#fn, iterable, None)
    }

    /// Renews all resources, one after the other: after a change of credentials, say.
    fn recycle(&self) -> PyResult<()> {
        let core = self.core.get();
        core.check_alive_or_ended()?;
        if core.engine.is_closing() {
            return Err(core.refusal());
        }
        core.engine.recycle();
        Ok(())
    }

    /// The last reference is going, or the collector ends it: what is accepted is finished all the same.
    fn _let_go(&self, py: Python<'_>) {
        let_go(py, self.engine());
    }

    /// How many base and burst workers there are, for the runner's text: unlike `stats` it never fails.
    fn _worker_count(&self) -> usize {
        let engine = self.engine();
        if engine.is_broken() {
            return 0;
        }
        let heads = engine.stats().heads;
        heads.base + heads.burst
    }

    /// Whether this thread works for the runner, and must not wait for its end.
    fn _is_served_here(&self) -> bool {
        seat::works_for(self.engine())
    }

    fn _submitter<'py>(
        slf: &Bound<'py, Self>,
        cls: &Bound<'py, PyAny>,
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        cls.call1((slf, priority, once, timeout, name))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.config)?;
        // The engine's own references, if it has taken any, are others than these.
        self.hooks.as_ref().map_or(Ok(()), |hooks| hooks.traverse(visit))
    }
}

impl Core {
    /// Lets calls on an ended runner pass that make sense on it.
    fn check_alive_or_ended(&self) -> PyResult<()> {
        if self.engine.mode() == Mode::Stopped { Ok(()) } else { self.check_alive() }
    }
}

/// Begins to stop an engine whose owner goes, with the callables in its own keeping.
pub(super) fn let_go(py: Python<'_>, engine: &Arc<Engine<PyHost>>) {
    if !engine.is_broken() && engine.mode() != Mode::Stopped {
        engine.host.hooks.keep(py);
        engine.begin_stop();
        release_if_over(py, engine);
    }
}

/// Lets go of the user's callables, if nothing is left that could call one. For whoever may have been the last to
/// leave: perhaps nobody waits for the end.
pub(super) fn release_if_over(py: Python<'_>, engine: &Engine<PyHost>) {
    if engine.mode() == Mode::Stopped {
        engine.host.hooks.release(py);
    }
}

/// Reads what the facade has validated.
fn read(config: &Bound<'_, PyAny>) -> PyResult<(PyHost, Settings)> {
    let hook = |name: &str| -> PyResult<Option<Py<PyAny>>> {
        let hook = config.getattr(name)?;
        Ok((!hook.is_none()).then(|| hook.unbind()))
    };
    let hooks = Hooks {
        on_create: config.getattr("on_create")?.unbind(),
        on_destroy: hook("on_destroy")?,
        is_broken: hook("is_broken")?,
        check_health: hook("check_health")?,
        validate: hook("validate")?,
        reset: hook("reset")?,
        on_cancel: hook("on_cancel")?,
    };
    let seconds = |name: &str| -> PyResult<Option<Tick>> {
        let seconds: Option<f64> = config.getattr(name)?.extract()?;
        Ok(seconds.map(|s| Duration::try_from_secs_f64(s).map_or(Tick::MAX, ticks)))
    };
    let worker_count: usize = config.getattr("worker_count")?.extract()?;
    let max_worker_count: Option<usize> = config.getattr("max_worker_count")?.extract()?;
    let pool_size: Option<usize> = config.getattr("resource_pool_size")?.extract()?;
    let name = printable::name(config.getattr("name")?.cast()?);
    let settings = Settings {
        name: name.clone(),
        worker_count,
        on_demand: false,
        max_worker_count: max_worker_count.unwrap_or(worker_count),
        reserve_limit: match pool_size {
            None | Some(0) => worker_count,
            Some(size) => size,
        },
        reserve_at_start: pool_size.unwrap_or(0),
        keep_reserved: pool_size != Some(0),
        thread_bound: config.getattr("thread_bound")?.extract()?,
        max_queue_size: config.getattr("max_queue_size")?.extract()?,
        care: Policy {
            validate_after: match &hooks.validate {
                Some(_) => seconds("validate_after_idle")?,
                None => None,
            },
            resets: hooks.reset.is_some(),
            max_tasks: config.getattr("max_tasks_per_resource")?.extract()?,
            max_age: seconds("max_resource_age")?,
        },
        burst_interval: seconds("burst_interval")?.unwrap_or(Tick::MAX),
        idle_timeout: seconds("idle_timeout")?.unwrap_or(Tick::MAX),
        hold: HOLD,
    };
    let max_retries = config.getattr("max_retries")?.extract()?;
    Ok((PyHost::new(&name, hooks, hook("logger")?, max_retries), settings))
}

thread_local! {
    /// What abandons the starts of this thread.
    static ABANDON: RefCell<Option<Token>> = const { RefCell::new(None) };
}

/// Has every runner that is started in this thread from now on abandoned when a context is cancelled.
#[pyfunction]
pub(super) fn _abandon_starts_with(context: &Bound<'_, Context>) {
    ABANDON.set(Some(context.get().token().clone()));
}

/// Why a start failed that got no thread.
const UNSTARTED: &str = "a worker's thread could not be started";

/// Starts the first workers and waits for their resources; on failure nothing stays behind but a hung creation.
fn launch(py: Python<'_>, engine: &Arc<Engine<PyHost>>, timeout: Option<f64>) -> PyResult<()> {
    let failed = |text: &str, cause: Option<Py<PyAny>>, grace: f64| {
        kill(py, engine);
        engine.host.abandon();
        wait_ended(py, engine, Limit::after(Some(grace))).err().unwrap_or_else(|| {
            error::raise(py, error::make::<ResourceCreationError>(py, text, cause.as_ref()))
        })
    };
    let abandon = ABANDON.with_borrow(Clone::clone);
    let _hook = abandon.as_ref().map(|abandon| {
        let engine = Arc::downgrade(engine);
        abandon.on_cancel(Box::new(move || {
            if let Some(engine) = engine.upgrade() {
                engine.launch.give_up();
            }
        }))
    });
    if let Err(fault) = engine.launch_workers(py) {
        let interrupted = !fault.bind(py).is_instance_of::<PyException>();
        let failed = failed(UNSTARTED, Some(fault.clone_ref(py)), GRACE);
        return Err(if interrupted { error::raise(py, fault) } else { failed });
    }
    let launched = wait::until(
        py,
        Limit::after(timeout),
        || engine.launch.look() != Launched::Pending,
        |slice| {
            engine.launch.wait(slice);
        },
    );
    match (launched, engine.launch.look()) {
        (Ok(_), Launched::Ready) => Ok(()),
        (Ok(_), Launched::Failed) if abandon.is_some_and(|abandon| abandon.cancelled_flag()) => {
            Err(failed("the start was abandoned", None, 0.0))
        }
        (Ok(_), Launched::NoThread) => Err(failed(UNSTARTED, engine.launch.take_fault(), GRACE)),
        (Ok(_), Launched::Failed) => {
            let fault = engine.launch.take_fault();
            let text = match &fault {
                Some(fault) => {
                    let kind = printable::name(&fault.bind(py).get_type().name()?);
                    format!("on_create failed with {kind}: {}", text_of(py, fault))
                }
                None => String::from("on_create failed"),
            };
            Err(failed(&text, fault, GRACE))
        }
        (Ok(_), Launched::Pending) => {
            // Before they are told to go.
            let not_ready = not_ready(py, engine);
            let text = format!(
                "the workers' resources were not all created within {} s{}",
                timeout.unwrap_or_default(),
                not_ready.as_deref().unwrap_or_default()
            );
            let failed = failed(&text, None, 0.0);
            Err(not_ready.err().unwrap_or(failed))
        }
        (Err(interrupted), _) => {
            // Interrupted again: the first reason stands.
            let _ = failed("interrupted", None, 0.0);
            Err(interrupted)
        }
    }
}

fn text_of(py: Python<'_>, object: &Py<PyAny>) -> String {
    object.bind(py).str().map_or_else(|_| String::from("(no text)"), |text| text.to_string())
}

/// Waits until nothing of the engine is left and its threads have ended; false when the limit passes.
pub(super) fn wait_ended(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    limit: Limit,
) -> PyResult<bool> {
    let ended = wait::until(
        py,
        limit,
        || engine.wait_ended(Duration::ZERO),
        |slice| {
            engine.wait_ended(slice);
        },
    )?;
    if !ended {
        return Ok(false);
    }
    // The native part of these threads is over; what is left of them takes microseconds.
    for thread in engine.host.take_threads() {
        super::host::thread::join(py, &thread)?;
    }
    engine.host.hooks.release(py);
    Ok(true)
}

/// Kills, and cancels the contexts of all running tasks.
pub(super) fn kill(py: Python<'_>, engine: &Arc<Engine<PyHost>>) {
    seat::on_behalf(engine, || engine.kill(py));
    for (_, task, _) in running(py, engine) {
        match task.batch() {
            Some(batch) => batch.get().tell("the runner was killed"),
            None => settle::tell(task.future().get(), Some("the runner was killed".into())),
        }
        super::host::discard(py, task);
    }
}

/// What runs, where, and since when.
fn running(py: Python<'_>, engine: &Arc<Engine<PyHost>>) -> Vec<(Arc<Badge<PyHost>>, Task, Tick)> {
    let mut found = Vec::new();
    for badge in engine.members() {
        badge.look_at_running(|task, since| {
            found.push((Arc::clone(&badge), engine.host.share(py, task), since));
        });
    }
    found
}

/// Writes a stack as `traceback.format_stack` does.
fn format(py: Python<'_>, calls: Vec<Call>) -> PyResult<Vec<String>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    Facade::get(py)?.format_calls.call1(py, (calls,))?.extract(py)
}

/// A worker that runs no task, and where it is: ` at File "app.py", line 7, in connect`, or nothing.
pub(super) struct Elsewhere {
    pub(super) badge: Arc<Badge<PyHost>>,
    pub(super) place: String,
}

/// What the workers do: those that run a task by the facade's objects, and the others.
pub(super) fn survey(
    py: Python<'_>,
    engine: &Engine<PyHost>,
) -> PyResult<(Vec<Py<PyAny>>, Vec<Elsewhere>)> {
    let sights = stacks::look(py, engine);
    let running_task = &Facade::get(py)?.running_task;
    let now = engine.clock.now();
    let (mut running, mut elsewhere) = (Vec::new(), Vec::new());
    for Sight { badge, tasks, calls } in sights {
        let stack = format(py, calls)?;
        if tasks.is_empty() {
            let place = stack.last().and_then(|call| call.trim().lines().next());
            let place = place.map_or_else(String::new, |place| format!(", at {place}"));
            elsewhere.push(Elsewhere { badge, place });
            continue;
        }
        let stack = PyTuple::new(py, stack)?;
        for (task, since) in tasks {
            let name = task.future().get().name(py);
            super::host::discard(py, task);
            #[expect(clippy::cast_precision_loss, reason = "an age for people")]
            let age = now.saturating_sub(since) as f64 / 1e9;
            running.push(running_task.call1(py, (name, age, badge.name(), &stack))?);
        }
    }
    Ok((running, elsewhere))
}

fn stop_timeout(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    verb: &str,
    dropped: Vec<Py<PyAny>>,
) -> PyResult<PyErr> {
    let (running, elsewhere) = survey(py, engine)?;
    let running = PyTuple::new(py, running)?.unbind();
    let runner = printable::quoted(&engine.settings.name);
    let mut text = format!("{verb}() of runner {runner} timed out");
    for Elsewhere { badge, place } in elsewhere {
        let _ = write!(text, "; {} is still ending{place}", badge.name());
    }
    Ok(StopTimeout::new_err((text, running, dropped)))
}

/// Names the workers whose first resource is not made, and where each is.
fn not_ready(py: Python<'_>, engine: &Engine<PyHost>) -> PyResult<String> {
    let (_, elsewhere) = survey(py, engine)?;
    let mut text = String::new();
    for Elsewhere { badge, place } in elsewhere {
        if !badge.has_begun() {
            let _ = write!(text, "; {} is not ready{place}", badge.name());
        }
    }
    Ok(text)
}

/// What was dropped, the higher classes first.
fn dropped_tasks(py: Python<'_>, mut dropped: Vec<Dropped>) -> PyResult<Vec<Py<PyAny>>> {
    dropped.sort_by_key(|task| Reverse(task.class));
    let Facade { priority, dropped_task, without_resource, .. } = Facade::get(py)?;
    let mut tasks = Vec::with_capacity(dropped.len());
    for task in dropped {
        let fields = PyDict::new(py);
        let mut function = task.function;
        if task.bare {
            function = Some(without_resource.call1(py, (function,))?);
        }
        fields.set_item("fn", function)?;
        let args = task.args.unwrap_or_else(|| PyTuple::empty(py).unbind());
        fields.set_item("args", args)?;
        let kwargs = task.kwargs.unwrap_or_else(|| PyDict::new(py).unbind());
        fields.set_item("kwargs", kwargs)?;
        fields.set_item("priority", priority.call1(py, (task.class as u8,))?)?;
        fields.set_item("once", task.once)?;
        fields.set_item("timeout", task.timeout)?;
        fields.set_item("name", task.name)?;
        tasks.push(dropped_task.call(py, (), Some(&fields))?);
    }
    Ok(tasks)
}
