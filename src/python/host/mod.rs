//! The engine's host in Python: creates, runs, judges, destroys through the user's callables.

pub(super) mod breath;
pub(super) mod child;
pub(super) mod door;
pub(super) mod hooks;
pub(super) mod intrusion;
pub(super) mod net;
pub(super) mod seat;
pub(super) mod stacks;
pub(super) mod thread;

use self::hooks::{Given, Hooks, Keeping};
use super::callable;
use super::context::decimal;
use super::error::{
    self, BrokenThreadPool, ResourceCreationError, RunnerBroken, TaskCancelled, TaskTimeout,
};
use super::future::settle;
use super::future::{Future, Outcome, Payload};
use super::interrupt::Call;
use super::interrupt::attempt::{self, UnderWay};
use super::interrupt::crew::Crew;
use super::log::{self, Level};
use super::map::batch::{self, Batch};
use super::note;
use super::verbs::line;
use crate::engine::clock::Tick;
use crate::engine::queue::lanes::Class;
use crate::engine::resource::backoff::Trouble;
use crate::engine::task::batch::{Deal, Stride};
use crate::engine::task::{ASKED, EXPIRED, ONCE, OUTSIDE, TIMED, TOLD, Taken, TaskWord};
use crate::engine::withdrawal::Withdrawn;
use crate::engine::worker::Life;
use crate::engine::worker::badge::Badge;
use crate::engine::worker::desk::Desk;
use crate::engine::{Engine, Host, Ran, Refusal, Verdict};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ops::Range;
use std::ptr;
use std::time::Duration;

/// How long a task that was told of its time limit may take to leave before another worker takes its worker's place.
const GRACE: Tick = 20_000_000;

/// A handle on a task: one reference to its future. Let go of with [`discard`], through the door.
pub(super) struct Task(Py<Future>);

impl Task {
    pub(super) fn new(future: Py<Future>) -> Self {
        Self(future)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.0.get().word.is_done()
    }

    pub(super) fn future(&self) -> &Py<Future> {
        &self.0
    }

    /// The batch that it is the ticket of.
    pub(super) fn batch(&self) -> Option<&Py<Batch>> {
        self.0.get().batch()
    }
}

/// Lets go of a handle.
pub(super) fn discard(py: Python<'_>, task: Task) {
    door::release(py, task.0.into_any());
}

/// Where a task was when its time limit passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overdue {
    /// Its function runs, and may do so for long.
    RunsOn,
    /// Its function has just ended.
    Ended,
    /// It was claimed, and not entered.
    NotEntered,
}

/// A task that a kill answered before it ever ran.
pub(super) struct Dropped {
    pub(super) function: Option<Py<PyAny>>,
    pub(super) args: Option<Py<PyTuple>>,
    pub(super) kwargs: Option<Py<PyDict>>,
    pub(super) class: Class,
    pub(super) once: bool,
    pub(super) timeout: Option<f64>,
    pub(super) name: Option<String>,
    /// It is to be called without the resource.
    pub(super) bare: bool,
}

/// See the module's documentation. Each lock here is held for a few instructions while attached, never with a
/// call into the interpreter inside, and no two at once.
pub(super) struct PyHost {
    /// The runner's, for the log.
    pub(super) name: Box<str>,
    pub(super) hooks: Keeping,
    logger: Option<Py<PyAny>>,
    max_retries: u32,
    given: Given,
    /// The helpers that interrupt.
    pub(super) crew: Arc<Crew>,
    /// Calls under way on resources, by the names of their workers, whose callers were interrupted themselves.
    under_way: Mutex<Vec<(String, Arc<Call>)>>,
    /// The `threading.Thread` objects of live workers, to be joined.
    threads: Mutex<Vec<Py<PyAny>>>,
    dropped: Mutex<Vec<Dropped>>,
    last_fault: Mutex<Option<Py<PyAny>>>,
    /// The last thread could not be started, and the log says so.
    threadless: AtomicBool,
    /// A stop timed out or a kill was called: the exit of the interpreter does not wait for what runs.
    abandoned: AtomicBool,
    /// The engine is a standard executor's: there is no resource, hooks are called without one, and refusals are the
    /// standard's.
    standard: bool,
    /// An initializer of a standard executor failed.
    uninitialised: AtomicBool,
}

impl PyHost {
    pub(super) fn new(
        name: &str,
        hooks: Hooks,
        logger: Option<Py<PyAny>>,
        max_retries: u32,
    ) -> Self {
        Self {
            name: name.into(),
            given: hooks.given(),
            crew: Crew::new(),
            under_way: Mutex::new(Vec::new()),
            hooks: Keeping::new(hooks),
            logger,
            max_retries,
            threads: Mutex::new(Vec::new()),
            dropped: Mutex::new(Vec::new()),
            last_fault: Mutex::new(None),
            threadless: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            standard: false,
            uninitialised: AtomicBool::new(false),
        }
    }

    /// The host of a standard executor. The hooks are its initializer, `None` if it has none, and its finalizer.
    pub(super) fn standard(name: &str, hooks: Hooks, logger: Py<PyAny>) -> Self {
        Self { standard: true, ..Self::new(name, hooks, Some(logger), 0) }
    }

    pub(super) fn is_standard(&self) -> bool {
        self.standard
    }

    /// Whether a hook is called with a resource, or an error that may be its fault, before a task or between attempts.
    pub(super) fn looks_at_resources(&self) -> bool {
        self.given.judges || self.given.validates
    }

    /// Whether an attempt on a resource can be interrupted.
    pub(super) fn interrupts(&self) -> bool {
        self.given.interrupts
    }

    /// Leaves calls to the worker of a resource, which waits for them before it destroys it.
    pub(super) fn leave_under_way(&self, worker: &str, calls: &[Arc<Call>]) {
        let calls = calls.iter().map(|call| (worker.to_owned(), Arc::clone(call)));
        self.under_way.lock().extend(calls);
    }

    /// Notes a thread, to be joined at the end.
    pub(super) fn add_thread(&self, py: Python<'_>, thread: Py<PyAny>) {
        // Helpers come and go, and their threads with them.
        const MANY: usize = 64;
        let known = {
            let mut threads = self.threads.lock();
            threads.push(thread);
            threads.len()
        };
        if known % MANY == 0 {
            self.forget_ended_threads(py);
        }
    }

    pub(super) fn is_uninitialised(&self) -> bool {
        self.uninitialised.load(Ordering::SeqCst)
    }

    /// Where to log; `None`: nowhere.
    pub(super) fn logger(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.logger.as_ref().map(|logger| logger.clone_ref(py))
    }

    pub(super) fn logs(&self) -> bool {
        self.logger.is_some()
    }

    /// A worker's thread has come up.
    fn has_threads(&self) {
        self.threadless.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// The threads it knows of.
    pub(super) fn threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.threads.lock().iter().map(|thread| thread.clone_ref(py)).collect()
    }

    pub(super) fn take_threads(&self) -> Vec<Py<PyAny>> {
        std::mem::take(&mut *self.threads.lock())
    }

    fn forget_ended_threads(&self, py: Python<'_>) {
        let known: Vec<_> = self.threads.lock().iter().map(|thread| thread.clone_ref(py)).collect();
        let ended: Vec<_> =
            known.into_iter().filter(|thread| !thread::is_alive(py, thread)).collect();
        let is_ended = |thread: &mut Py<PyAny>| ended.iter().any(|other| other.is(&*thread));
        let forgotten: Vec<_> = self.threads.lock().extract_if(.., is_ended).collect();
        drop(forgotten);
    }

    pub(super) fn take_dropped(&self) -> Vec<Dropped> {
        std::mem::take(&mut *self.dropped.lock())
    }

    pub(super) fn fault(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.last_fault.lock().as_ref().map(|fault| fault.clone_ref(py))
    }

    /// Whether an error has to be judged before it is delivered.
    pub(super) fn judges(
        &self,
        py: Python<'_>,
        desk: &Desk<'_, Self>,
        error: &Py<PyAny>,
        told: bool,
    ) -> bool {
        self.given.judges && !desk.engine().is_killed() && !told && !is_our_own(py, error)
    }

    /// Keeps a task that a kill hands back.
    pub(super) fn keep(&self, dropped: Dropped) {
        self.dropped.lock().push(dropped);
    }

    /// Calls the task's function in a copy of its submitter's context.
    fn call(
        &self,
        py: Python<'_>,
        resource: Option<&Py<PyAny>>,
        word: &TaskWord,
        payload: &mut Payload,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        payload.attempts += 1;
        let Some(function) = &payload.function else {
            return Err(PyRuntimeError::new_err("the task has no function")
                .into_value(py)
                .into_any());
        };
        let run = |payload: &Payload| {
            let (args, kwargs) = (payload.args.as_ref(), payload.kwargs.as_ref());
            door::call(py, function, resource, args, kwargs)
        };
        if !payload.own_context {
            return run(payload);
        }
        let last = !self.given.judges || self.max_retries == 0 || word.has(ONCE);
        let is_empty = payload.context.is_empty();
        let context = payload.context.open(py, last);
        let context = context.map_err(|error| error.into_value(py).into_any())?;
        let result = door::enter_context(py, &context).and_then(|()| {
            let own = if is_empty || !decimal::may_be_in(&context) {
                Ok(())
            } else {
                decimal::isolate(py)
            };
            let result = own.and_then(|()| run(payload));
            door::exit_context(py, &context);
            result
        });
        door::release(py, context);
        result
    }
}

impl Host for PyHost {
    type Scope<'s> = Python<'s>;
    type Task = Task;
    type Resource = Py<PyAny>;
    type Fault = Py<PyAny>;

    fn park<R: Send>(&self, py: Python<'_>, wait: impl FnOnce() -> R + Send) -> R {
        py.detach(|| {
            seat::wake_now();
            wait()
        })
    }

    fn spawn(&self, py: Python<'_>, life: Life<Self>) -> Result<(), Py<PyAny>> {
        let engine = Arc::clone(life.engine());
        let thread = thread::start_worker(py, life, self.standard)?;
        let known = {
            let mut threads = self.threads.lock();
            threads.push(thread);
            threads.len()
        };
        // Temporary workers come and go, and their threads with them.
        if known > 2 * engine.strength() + 16 {
            self.forget_ended_threads(py);
        }
        Ok(())
    }

    fn create(&self, py: Python<'_>, badge: &Badge<Self>) -> Result<Py<PyAny>, Py<PyAny>> {
        seat::wake_now();
        let Some(hooks) = self.hooks.get() else {
            return Err(error::make::<RunnerBroken>(py, error::BROKEN, None));
        };
        if self.standard {
            self.initialize(py, badge, &hooks.on_create)
        } else {
            let resource = door::call(py, &hooks.on_create, None, None, None);
            child::end_here(py, &resource);
            plain(py, "on_create", resource)
        }
    }

    fn create_valid(&self, py: Python<'_>, badge: &Badge<Self>) -> Result<Py<PyAny>, Py<PyAny>> {
        let resource = self.create(py, badge)?;
        if self.validate(py, badge, &resource) {
            return Ok(resource);
        }
        self.destroy(py, badge, resource);
        let text = "validate refused a resource that was just made";
        Err(error::make::<ResourceCreationError>(py, text, None))
    }

    fn destroy(&self, py: Python<'_>, badge: &Badge<Self>, resource: Py<PyAny>) {
        seat::wake_now();
        let is_ours = |(worker, _): &mut (String, _)| worker == badge.name();
        let left: Vec<_> = self.under_way.lock().extract_if(.., is_ours).collect();
        attempt::wait_for_left(py, left.into_iter().map(|(_, call)| call).collect());
        if let Some(hooks) = self.hooks.get()
            && let Some(on_destroy) = &hooks.on_destroy
        {
            let (what, resource) = if self.standard {
                ("the finalizer", None)
            } else {
                ("on_destroy", Some(&resource))
            };
            let answer = door::call(py, on_destroy, resource, None, None);
            child::end_here(py, &answer);
            let answer = if self.standard { answer } else { plain(py, what, answer) };
            match answer {
                Ok(nothing) => door::release(py, nothing),
                Err(error) => log::hook_failed(py, Some(self), Some(badge.name()), what, error),
            }
        }
        door::release(py, resource);
    }

    fn validate(&self, py: Python<'_>, badge: &Badge<Self>, resource: &Py<PyAny>) -> bool {
        let Some(validate) = self
            .hooks
            .get()
            .and_then(|hooks| hooks.validate.as_ref().map(|hook| hook.clone_ref(py)))
        else {
            return true;
        };
        let answer = door::call(py, &validate, Some(resource), None, None);
        child::end_here(py, &answer);
        door::release(py, validate);
        truth(py, "validate", answer).unwrap_or_else(|error| {
            self.hook_failed(py, badge, "validate", error);
            false
        })
    }

    fn reset(&self, py: Python<'_>, badge: &Badge<Self>, resource: &Py<PyAny>) -> bool {
        let Some(reset) =
            self.hooks.get().and_then(|hooks| hooks.reset.as_ref().map(|hook| hook.clone_ref(py)))
        else {
            return true;
        };
        // The outcome is out, and this may take long.
        seat::wake_now();
        let answer = door::call(py, &reset, Some(resource), None, None);
        child::end_here(py, &answer);
        door::release(py, reset);
        match plain(py, "reset", answer) {
            Ok(nothing) => {
                door::release(py, nothing);
                true
            }
            Err(error) => {
                self.hook_failed(py, badge, "reset", error);
                false
            }
        }
    }

    fn word<'t>(&self, task: &'t Task) -> &'t TaskWord {
        &task.0.get().word
    }

    fn share(&self, py: Python<'_>, task: &Task) -> Task {
        Task(task.0.clone_ref(py))
    }

    fn run(&self, py: Python<'_>, desk: &Desk<'_, Self>, task: &Task) -> Ran {
        let object = &task.0;
        let future = object.get();
        // SAFETY: the engine claimed the task for this thread.
        let payload = unsafe { future.payload() };
        if let Some(function) = &payload.function {
            breath::before(py, function);
        }
        if is_overdue(future, desk) {
            seat::wake_now();
            self.end_overdue(py, object, Overdue::NotEntered);
            finish(py, future);
            return Ran::Late;
        }
        seat::with(|seat| {
            if let Some(function) = &payload.function {
                seat.wake_before(function.as_ptr(), desk);
            }
            seat.at_desk(desk, || {
                if self.given.interrupts && !future.is_bare() {
                    attempt::begin_task(py, desk, object);
                }
                let called_off = payload.attempts > 0 && future.word.has(TOLD);
                let last_error = called_off.then(|| take_last_error(future)).flatten();
                let result = if let Some(error) = last_error {
                    // Told to give up just when its retry was queued.
                    Err(error)
                } else {
                    let function = payload.function.as_ref().map_or(ptr::null_mut(), Py::as_ptr);
                    seat.inside_task(Some((object, function)), || {
                        let resource = (!future.is_bare()).then(|| desk.resource());
                        self.call(py, resource, &future.word, payload)
                    })
                };
                if desk.engine().is_forsaken() {
                    child::end_here(py, &result);
                }
                let asked = future.word.has(ASKED);
                let under_way = asked.then(|| end_attempt(py, desk, future));
                let ran = self.deliver(py, desk, object, result);
                if let Some(under_way) = under_way {
                    under_way.wait(py);
                }
                ran
            })
        })
    }

    fn deal<'t>(&self, task: &'t Task) -> Option<&'t Deal> {
        task.batch().map(|batch| &batch.get().deal)
    }

    fn run_items(&self, py: Python<'_>, desk: &Desk<'_, Self>, task: &Task, stride: &Stride) {
        batch::run(py, self, desk, task, stride);
    }

    fn refuse_items(&self, py: Python<'_>, task: &Task, items: Range<usize>, why: Refusal) {
        batch::refuse(py, self, task, items, why);
    }

    fn judge(&self, py: Python<'_>, desk: &Desk<'_, Self>, task: &Task) -> Verdict {
        let future = task.0.get();
        let error = {
            let slot = future.slot.lock();
            slot.as_deref().and_then(|slot| slot.last_error.as_ref()).map(|e| e.clone_ref(py))
        };
        let (Some(hooks), Some(error)) = (self.hooks.get(), error) else {
            return Verdict::Healthy;
        };
        // They may ask the runner itself, and are answered on this very resource.
        let ask = |what, hook, args: &[&Py<PyAny>]| {
            let call = || door::call_with(py, hook, args);
            let answer = seat::with(|seat| seat.at_desk(desk, || seat.inside_hook(hook, call)));
            child::end_here(py, &answer);
            truth(py, what, answer)
        };
        let (what, broken) = if let Some(is_broken) = &hooks.is_broken {
            ("is_broken", ask("is_broken", is_broken, &[desk.resource(), &error]))
        } else if let Some(check_health) = &hooks.check_health {
            ("check_health", ask("check_health", check_health, &[&error]).map(|healthy| !healthy))
        } else {
            return Verdict::Healthy;
        };
        door::release(py, error);
        match broken {
            Ok(false) => Verdict::Healthy,
            Ok(true) => {
                // SAFETY: the engine claimed the task for this thread.
                let attempts = unsafe { future.payload() }.attempts;
                let may_retry = !future.word.has(ONCE | TOLD);
                Verdict::Spoiled { retry: may_retry && attempts <= self.max_retries }
            }
            Err(interrupt) if desk.is_on_loan() && intrusion::raised(py, &interrupt) => {
                // It was meant for the caller, who gets it instead of what it came upon.
                interrupt_task(py, future, interrupt);
                Verdict::Spoiled { retry: false }
            }
            Err(error) => {
                log::hook_failed(py, Some(self), Some(desk.badge().name()), what, error);
                Verdict::Spoiled { retry: false }
            }
        }
    }

    fn prepare_retry(&self, py: Python<'_>, task: &Task) {
        // The payload never left the future. The next attempt gets a context of its own.
        drop_context(py, task.0.get());
    }

    fn fail(&self, py: Python<'_>, desk: &Desk<'_, Self>, task: &Task) {
        let (object, future) = (&task.0, task.0.get());
        // SAFETY: the engine claimed the task for this thread.
        let attempts = unsafe { future.payload() }.attempts;
        if let Some(error) = take_last_error(future) {
            if attempts > 1
                && let Err(refusal) = note::attempts(py, &error, attempts)
            {
                // It takes no notes. The caller gets it all the same.
                door::release(py, refusal);
            }
            seat::with(|seat| {
                seat.at_desk(desk, || settle::publish_failure(py, object, error));
            });
        }
        finish(py, future);
    }

    fn refuse(&self, py: Python<'_>, task: &Task, why: Refusal) {
        let (object, future) = (&task.0, task.0.get());
        let error = match (take_last_error(future), why) {
            // It has run, and this is how its last attempt ended.
            (Some(error), Refusal::Killed) => {
                settle::publish_failure(py, object, error);
                return finish(py, future);
            }
            (None, Refusal::Killed) if self.is_uninitialised() => {
                error::make::<BrokenThreadPool>(py, error::UNINITIALISED, self.fault(py).as_ref())
            }
            (None, Refusal::Killed) => {
                self.keep_dropped(py, future);
                let text = "the runner was killed before the task started";
                error::make::<TaskCancelled>(py, text, None)
            }
            (last, Refusal::NoWorker) => {
                door::release_some(py, last);
                let text = "the runner stopped while no resource could be created for the task";
                error::make::<ResourceCreationError>(py, text, self.fault(py).as_ref())
            }
            (last, Refusal::Broken) => {
                error::make::<RunnerBroken>(py, error::BROKEN, last.as_ref())
            }
        };
        settle::publish(py, object, Outcome::Error(error));
        finish(py, future);
    }

    fn forget(&self, py: Python<'_>, task: &Task) {
        let future = task.0.get();
        if let Some(error) = take_last_error(future) {
            door::release(py, error);
        }
        finish(py, future);
    }

    fn expire(&self, py: Python<'_>, task: &Task) {
        let future = task.0.get();
        match &future.origin {
            Some(origin) if future.word.has(EXPIRED) => {
                origin.core.get().engine.stand_in(py, |other| other.0.is(&task.0));
            }
            _ => self.end_overdue(py, &task.0, Overdue::RunsOn),
        }
    }

    fn discard(&self, py: Python<'_>, task: Task) {
        discard(py, task);
    }

    fn report_trouble(
        &self,
        py: Python<'_>,
        badge: &Badge<Self>,
        trouble: Trouble,
        fault: Option<&Py<PyAny>>,
    ) {
        let seconds = |lasted: Duration| format!("{:.1} s", lasted.as_secs_f64());
        let (level, what) = match trouble {
            Trouble::Began => (
                Level::Warning,
                "resources cannot be created; trying again with growing pauses".to_owned(),
            ),
            Trouble::Lasts(lasted) => (
                Level::Warning,
                format!("resources still cannot be created after {}", seconds(lasted)),
            ),
            Trouble::Over(lasted) => {
                (Level::Info, format!("resources can be created again after {}", seconds(lasted)))
            }
        };
        let text = format!("{}: {what}", self.name);
        log::say(py, Some(self), level, &text, Some(badge.name()), fault);
    }

    fn report_overdue(&self, py: Python<'_>, badge: &Badge<Self>) {
        let text = format!(
            "{} runs a task that outlived its time limit, and max_worker_count leaves no room for \
             another worker in its place",
            badge.name()
        );
        log::say(py, Some(self), Level::Warning, &text, Some(badge.name()), None);
    }

    fn report_no_thread(&self, py: Python<'_>, fault: Py<PyAny>) {
        // Once for each change: it is tried again for each look at the load, and for each call.
        if !self.threadless.swap(true, Ordering::Relaxed) {
            let text = format!(
                "{}: no thread could be started for another worker; trying again later",
                self.name
            );
            log::say(py, Some(self), Level::Warning, &text, None, Some(&fault));
        }
        self.keep_fault(py, fault);
    }

    fn keep_fault(&self, py: Python<'_>, fault: Py<PyAny>) {
        let former = self.last_fault.lock().replace(fault);
        door::release_some(py, former);
    }

    fn spawn_keeper(&self, py: Python<'_>, engine: &Arc<Engine<Self>>) -> Result<(), Py<PyAny>> {
        let thread = thread::start_keeper(py, Arc::clone(engine))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    fn ended(&self) {
        self.crew.close();
    }
}

impl PyHost {
    /// Ends a task whose time limit passed.
    fn end_overdue(&self, py: Python<'_>, object: &Py<Future>, how: Overdue) {
        let future = object.get();
        let Some(origin) = &future.origin else {
            return;
        };
        let core = origin.core.get();
        if future.word.has(OUTSIDE) && line::expire(py, core, object) {
            return;
        }
        let engine = &core.engine;
        let name = future.name(py);
        let Some(taken) = engine.take_expired(py, &future.word) else {
            return;
        };
        let limit = core.limit_of(future);
        let (verb, cause) = match taken {
            Taken::Running if how != Overdue::NotEntered => ("finish", None),
            _ => ("start", self.fault(py)),
        };
        let text = format!("task {name} did not {verb} within its time limit of {limit} s");
        let error = error::make::<TaskTimeout>(py, &text, cause.as_ref());
        settle::publish(py, object, Outcome::Error(error));
        door::release_some(py, cause);
        if taken == Taken::Running {
            settle::tell(future, Some(super::context::OVERDUE.into()));
            if how == Overdue::RunsOn {
                // It has been told; most tasks leave now. Looked at once more before another worker is hired.
                let due = engine.clock.now() + GRACE;
                let watch = engine.watch(due, Task(object.clone_ref(py)));
                future.slot.lock().get_or_insert_default().watch = Some(watch);
            }
        } else {
            // SAFETY: the word was taken out of a waiting phase by this thread.
            unsafe { future.drop_payload(py) };
        }
    }

    /// Gives a task what came of its function, unless that is to be judged first.
    fn deliver(
        &self,
        py: Python<'_>,
        desk: &Desk<'_, Self>,
        object: &Py<Future>,
        result: Result<Py<PyAny>, Py<PyAny>>,
    ) -> Ran {
        let future = object.get();
        // Left at a point that it does not know of, in the middle of anything: whatever the error would say.
        let interrupted =
            desk.is_on_loan() && result.as_ref().is_err_and(|error| intrusion::raised(py, error));
        if interrupted {
            desk.spoil();
        }
        if is_overdue(future, desk) {
            // Even if the keeper has not come round to it: heeding the limit must not look like a result in time.
            self.end_overdue(py, object, Overdue::Ended);
        }
        let ran = match result {
            Ok(value) => {
                if future.word.settle_running() {
                    desk.delivered(true);
                    settle::publish(py, object, Outcome::Value(value));
                    Ran::Completed
                } else {
                    door::release(py, value);
                    Ran::Late
                }
            }
            Err(error) => {
                let error = storable(py, error);
                if !future.is_bare() {
                    note::calling(py, &error);
                }
                if !interrupted
                    && !future.is_bare()
                    && self.judges(py, desk, &error, future.word.has(TOLD))
                {
                    let former =
                        future.slot.lock().get_or_insert_default().last_error.replace(error);
                    door::release_some(py, former);
                    return Ran::Doubtful;
                }
                if deliver_error(py, desk, object, error) { Ran::Failed } else { Ran::Late }
            }
        };
        finish(py, future);
        ran
    }

    /// Reports what a hook raised: to the caller in whose thread it was interrupted, or to the log.
    pub(super) fn hook_failed(
        &self,
        py: Python<'_>,
        badge: &Badge<Self>,
        what: &str,
        error: Py<PyAny>,
    ) {
        if let Err(error) = seat::interrupt_guest(py, error) {
            log::hook_failed(py, Some(self), Some(badge.name()), what, error);
        }
    }

    /// Runs the initializer of a standard executor. What it returns is of no use.
    fn initialize(
        &self,
        py: Python<'_>,
        badge: &Badge<Self>,
        initializer: &Py<PyAny>,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        if initializer.is_none(py) {
            return Ok(py.None());
        }
        let answer = door::call(py, initializer, None, None, None);
        child::end_here(py, &answer);
        match answer {
            Ok(nothing) => {
                door::release(py, nothing);
                Ok(py.None())
            }
            Err(error) => {
                let text = "Exception in initializer:";
                log::say(py, Some(self), Level::Critical, text, Some(badge.name()), Some(&error));
                self.uninitialised.store(true, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    /// Keeps what a kill hands back. A standard executor has nobody to hand it to.
    fn keep_dropped(&self, py: Python<'_>, future: &Future) {
        if !self.standard {
            self.keep(Dropped::of(py, future));
        }
    }
}

impl Dropped {
    /// What is left of a task that the engine claimed for this thread.
    fn of(py: Python<'_>, future: &Future) -> Self {
        // SAFETY: as said above.
        let payload = unsafe { future.payload() };
        let options = future.options();
        Self {
            function: payload.function.as_ref().map(|function| function.clone_ref(py)),
            args: payload.args.as_ref().map(|args| args.clone_ref(py)),
            kwargs: payload.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
            class: future.word.class(),
            once: future.word.has(ONCE),
            timeout: options.and_then(|options| options.timeout),
            name: options.and_then(|options| options.name.clone()),
            bare: future.is_bare(),
        }
    }
}

/// Drops all that waits in the queues of an engine, which goes on; gives what never ran.
pub(super) fn drop_waiting(
    py: Python<'_>,
    engine: &Engine<PyHost>,
    reason: Option<&str>,
) -> Vec<Dropped> {
    let text = match reason {
        Some(reason) => format!("the task was dropped from the queue before it started: {reason}"),
        None => "the task was dropped from the queue before it started".to_owned(),
    };
    let error = || error::make::<TaskCancelled>(py, &text, None);
    let mut dropped = Vec::new();
    engine.withdraw_waiting(py, |task, what| {
        let (object, future) = (&task.0, task.0.get());
        let outcome = match what {
            Withdrawn::Items(items) => {
                batch::drop_waiting(py, task, items, error, &mut dropped);
                return;
            }
            Withdrawn::Fresh => {
                dropped.push(Dropped::of(py, future));
                error()
            }
            // It has run, and this is how its last attempt ended.
            Withdrawn::Retrying => take_last_error(future).unwrap_or_else(error),
        };
        settle::publish(py, object, Outcome::Error(outcome));
        finish(py, future);
    });
    dropped
}

/// A hook's answer, unless that is a coroutine or the like: an error then.
fn plain(
    py: Python<'_>,
    what: &str,
    answer: Result<Py<PyAny>, Py<PyAny>>,
) -> Result<Py<PyAny>, Py<PyAny>> {
    let answer = answer?;
    match callable::check_answer(py, what, &answer) {
        Ok(()) => Ok(answer),
        Err(error) => {
            door::release(py, answer);
            Err(error)
        }
    }
}

/// What a hook's answer means.
fn truth(
    py: Python<'_>,
    what: &str,
    answer: Result<Py<PyAny>, Py<PyAny>>,
) -> Result<bool, Py<PyAny>> {
    let answer = plain(py, what, answer)?;
    let truth = answer.bind(py).is_truthy();
    door::release(py, answer);
    truth.map_err(|error| error.into_value(py).into_any())
}

/// Gives an error to the task, in its final form.
fn deliver_error(
    py: Python<'_>,
    desk: &Desk<'_, PyHost>,
    object: &Py<Future>,
    error: Py<PyAny>,
) -> bool {
    let future = object.get();
    if !future.word.settle_running() {
        door::release(py, error);
        return false;
    }
    desk.delivered(false);
    settle::publish_failure(py, object, error);
    true
}

/// Ends a task's stay on a worker: nothing of it is kept.
fn finish(py: Python<'_>, future: &Future) {
    settle::stop_watching(py, future);
    drop_context(py, future);
    // SAFETY: the engine claimed the task for this thread.
    unsafe { future.drop_payload(py) };
}

/// Whether its time limit has passed.
fn is_overdue(future: &Future, desk: &Desk<'_, PyHost>) -> bool {
    future.word.has(TIMED) && future.due().is_some_and(|due| due <= desk.now())
}

/// Ends what may interrupt an attempt whose function has ended; see [`attempt::end`].
#[cold]
fn end_attempt(py: Python<'_>, desk: &Desk<'_, PyHost>, future: &Future) -> UnderWay {
    let (call, context) = {
        let mut slot = future.slot.lock();
        let slot = slot.get_or_insert_default();
        let context = slot.context.as_ref().map(|(_, context)| context.clone_ref(py));
        (slot.call.take(), context)
    };
    attempt::end(py, desk, call, context)
}

fn drop_context(py: Python<'_>, future: &Future) {
    if !future.word.has(ASKED) {
        return;
    }
    let context = future.slot.lock().as_deref_mut().and_then(|slot| slot.context.take());
    if let Some((_, context)) = context {
        door::release(py, context.into_any());
    }
}

/// Ends a judged task with what interrupted the judgement, and the task's own error as its context.
fn interrupt_task(py: Python<'_>, future: &Future, interrupt: Py<PyAny>) {
    let slot = &future.slot;
    let error = slot.lock().get_or_insert_default().last_error.replace(interrupt.clone_ref(py));
    if let Some(error) = error
        && !error.is(&interrupt)
    {
        // SAFETY: two exceptions, since both were raised; the function takes over the reference.
        unsafe { pyo3::ffi::PyException_SetContext(interrupt.as_ptr(), error.into_ptr()) };
    }
    door::release(py, interrupt);
}

fn take_last_error(future: &Future) -> Option<Py<PyAny>> {
    future.slot.lock().as_deref_mut().and_then(|slot| slot.last_error.take())
}

/// An error as a future may hold it: `StopIteration` raised out of `result()` inside a generator would end the
/// generator in silence, so it becomes the cause of a `RuntimeError`, as PEP 479 has it.
pub(super) fn storable(py: Python<'_>, error: Py<PyAny>) -> Py<PyAny> {
    if !door::is_instance::<PyStopIteration>(py, &error) {
        return error;
    }
    let wrapped = error::make::<PyRuntimeError>(py, "task raised StopIteration", Some(&error));
    door::release(py, error);
    wrapped
}

/// Whether an error says nothing of the resource: a task that heeded its cancelled context.
fn is_our_own(py: Python<'_>, error: &Py<PyAny>) -> bool {
    door::is_instance::<TaskCancelled>(py, error) || door::is_instance::<TaskTimeout>(py, error)
}
