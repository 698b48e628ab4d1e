//! The engine's host in Python: creates, runs, judges, destroys through the user's callables.

pub(super) mod attach_yield;
mod error_types;
pub(super) mod events;
pub(super) mod exit_guard;
pub(super) mod forked_child;
mod frames;
pub(super) mod guarded_call;
pub(super) mod hooks;
pub(super) mod interruption;
pub(super) mod observed;
mod observer;
pub(super) mod outcome;
mod resources;
mod retry;
pub(super) mod stacks;
pub(super) mod state;
mod task_names;
pub(super) mod task_record;
pub(super) mod thread;
mod worker_threads;

use self::hooks::{GivenHooks, Hook};
use self::outcome::{Overdue, drop_context, finish, interrupt_task, is_our_own, is_overdue};
use self::resources::truth;
use self::state::PyHost;
use self::task_record::AttemptFacts;
use super::context::clock;
use super::current;
use super::error::{self, RunnerBroken, RunnerStopped};
use super::future::{Future, Outcome, settle};
use super::interrupt::cancel_attempt;
use super::joint::function::BatchFunction;
use super::joint::run as joint_call;
use super::log::{self, Level};
use super::map::batch::Batch;
use super::map::run;
use super::note;
use super::options::Asked;
use super::wait;
use super::wakes;
use crate::engine::clock::Tick;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::accumulator::Accumulator;
use crate::engine::queue::serial_lines::EndedLine;
use crate::engine::resource::backoff::Trouble;
use crate::engine::task::deadlines::DeadlineKey;
use crate::engine::task::item_cursor::ItemCursor;
use crate::engine::task::key::KeyNumber;
use crate::engine::task::token::Token;
use crate::engine::task::{CANCEL_REQUESTED, EXPIRED, ONCE, TOLD, TaskWord, WAS_PAUSED};
use crate::engine::worker::attempt::{Attempts, JointRan, Ran, Verdict};
use crate::engine::worker::chunk::Chunk;
use crate::engine::worker::session::WorkerSession;
use crate::engine::{AbandonReason, Host, Notice};
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use std::ops::Range;
use std::ptr;
use std::time::Duration;

/// What is told of an attempt that another follows.
pub(in crate::binding) struct Retry {
    task: Py<Future>,
    attempt: AttemptFacts,
    ended: f64,
    error: Option<Py<PyAny>>,
}

impl Host for PyHost {
    type Task = Py<Future>;
    type Retry = Option<Retry>;

    fn park<R: Send>(&self, py: Python<'_>, wait: impl FnOnce() -> R + Send) -> R {
        py.detach(|| {
            wakes::wake_now();
            wait()
        })
    }

    fn word<'t>(&self, task: &'t Py<Future>) -> &'t TaskWord {
        &task.get().word
    }

    fn key(&self, task: &Py<Future>) -> KeyNumber {
        task.get().key
    }

    fn line_ended(&self, py: Python<'_>, line: EndedLine) {
        self.serial_keys.forget(py, line);
    }

    fn share(&self, py: Python<'_>, task: &Py<Future>) -> Py<Future> {
        task.clone_ref(py)
    }

    fn discard(&self, py: Python<'_>, task: Py<Future>) {
        guarded_call::release(py, task);
    }

    fn cursor<'t>(&self, task: &'t Py<Future>) -> Option<&'t ItemCursor> {
        Batch::of(task.get()).map(|batch| &batch.get().cursor)
    }

    fn accumulator<'t>(&self, task: &'t Py<Future>) -> Option<&'t Arc<Accumulator<Py<Future>>>> {
        BatchFunction::of(task.get()).map(|function| &function.get().accumulator)
    }

    fn abandon_items(
        &self,
        py: Python<'_>,
        task: &Py<Future>,
        items: Range<usize>,
        why: AbandonReason,
    ) {
        run::abandon(py, self, task, items, why);
    }

    fn abandon(&self, py: Python<'_>, task: &Py<Future>, why: AbandonReason, event: EventKind) {
        let future = task.get();
        let last_error = match future.take_last_error(py) {
            // It has run, and this is how its last attempt ended.
            Some(error) if why == AbandonReason::Killed => {
                // One that its `Retry` knows is expected of a task that is told to give up.
                if future.word.has(WAS_PAUSED) {
                    future.word.set(CANCEL_REQUESTED);
                }
                settle::publish_failure(py, task, error);
                return finish(py, future);
            }
            last_error => last_error,
        };
        if why == AbandonReason::Killed {
            self.keep_dropped(py, future);
        }
        let error = self.abandoned(py, why, last_error.as_ref());
        guarded_call::release_some(py, last_error);
        settle::publish(py, task, Outcome::Error(error), event);
        finish(py, future);
    }

    fn renewed(&self, py: Python<'_>, waiter: Py<Future>, renewed: Option<usize>) {
        let future = waiter.get();
        // Or it was cancelled.
        if future.word.take_unadmitted() {
            let outcome = match renewed {
                Some(renewed) => Outcome::Value(PyInt::new(py, renewed).into_any().unbind()),
                None if future.is_forked() => {
                    Outcome::Error(error::make::<RunnerBroken>(py, error::BROKEN, None))
                }
                None => Outcome::Error(error::make::<RunnerStopped>(py, error::STOPPED, None)),
            };
            // No task, and so nothing that the user is told of.
            settle::publish(py, &waiter, outcome, EventKind::Completed);
        }
        guarded_call::release(py, waiter);
    }

    fn expire(&self, py: Python<'_>, task: &Py<Future>) {
        let future = task.get();
        match future.engine() {
            Some(engine) if future.word.has(EXPIRED) => {
                // Its worker is overdue with all tasks of a joint call alone.
                let call = engine.tasks_of_call(py, &future.word);
                if call.is_empty() || engine.given_up_call(&future.word).is_some() {
                    let shown = call.first().unwrap_or(task);
                    engine.start_substitute(py, |other| other.is(shown));
                }
                for task in call {
                    guarded_call::release(py, task);
                }
            }
            _ => self.end_overdue(py, task, Overdue::RunsOn),
        }
    }

    fn notice(&self, py: Python<'_>, notice: Notice<'_, Py<PyAny>>) {
        match notice {
            Notice::Trouble(worker, trouble, fault) => {
                // First: the log may take its time.
                if let Some(fault) = fault {
                    self.keep_fault(py, fault.clone_ref(py));
                } else if matches!(trouble, Trouble::Over(_)) {
                    self.forget_fault(py);
                }
                self.report_trouble(py, worker, trouble, fault);
            }
            Notice::FailsFast => self.report_failing_fast(py),
            Notice::Overdue(worker) => self.report_overdue(py, worker),
            Notice::NoThread(fault) => {
                self.report_no_thread(py, &fault);
                self.keep_fault(py, fault);
            }
            Notice::Fault(fault) => self.keep_fault(py, fault),
        }
    }

    fn closed(&self) {
        if self.given.tells {
            Python::attach(|py| self.tell_refusals(py));
        }
    }

    fn ended(&self) {
        self.helpers.close();
    }
}

impl Attempts for PyHost {
    fn run(&self, py: Python<'_>, session: &WorkerSession<'_, Self>, task: &Py<Future>) -> Ran {
        let future = task.get();
        // SAFETY: the engine claimed the task for this thread.
        let payload = unsafe { future.payload() };
        if let Some(function) = &payload.function {
            attach_yield::before_call(py, function);
        }
        if is_overdue(py, future, session) {
            wakes::wake_now();
            self.end_overdue(py, task, Overdue::NotEntered);
            finish(py, future);
            return Ran::NotEntered;
        }
        if let Some(function) = &payload.function {
            let task = Asked { function: Some(function), options: future.options() };
            self.name_task(py, session, task);
        }
        current::with(|this_thread| {
            if let Some(function) = &payload.function {
                this_thread.wake_before(function.as_ptr(), session);
            }
            this_thread.at_session(session, || {
                let attempts = future.attempts();
                let called_off = attempts > 0 && future.word.has(CANCEL_REQUESTED);
                let last_error = called_off.then(|| future.take_last_error(py)).flatten();
                if self.given.interrupts | self.given.tells {
                    self.begin_attempt(py, session, task, last_error.is_none());
                }
                let result = if let Some(error) = last_error {
                    // Told to give up just when its retry was queued.
                    Err(error)
                } else {
                    let function = payload.function.as_ref().map_or(ptr::null_mut(), Py::as_ptr);
                    this_thread.inside_task(Some((task.as_any(), function)), || {
                        future.set_attempts(attempts + 1);
                        self.call(py, session, future, payload)
                    })
                };
                if session.engine.is_left_by_fork() {
                    forked_child::end_here(py, &result);
                }
                self.conclude(py, session, task, result)
            })
        })
    }

    fn spare_task(&self, py: Python<'_>) -> Option<Py<Future>> {
        let GivenHooks { judges, interrupts, tells, retries } = self.given;
        let is_plain = !(judges || interrupts || tells || retries || self.standard);
        // Whether a thread has a handle cannot be told without an interpreter's lock.
        let is_kept = is_plain && !cfg!(Py_GIL_DISABLED);
        // Without memory for it, each call asks for its own.
        is_kept.then(|| Future::spare(py).ok()).flatten()
    }

    fn run_items(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Py<Future>,
        chunk: &Chunk,
    ) -> u64 {
        run::run(py, self, session, task, chunk)
    }

    fn leave_out(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Py<Future>,
    ) -> bool {
        joint_call::leave_out(py, self, session, task)
    }

    fn run_joint(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        tasks: &[Py<Future>],
        token: &Token,
    ) -> JointRan {
        joint_call::run(py, self, session, tasks, token)
    }

    fn may_retry(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Py<Future>,
        pause: Option<Tick>,
    ) -> bool {
        let future = task.get();
        match pause {
            Some(pause) => Self::may_pause(py, session, future, pause),
            None => {
                !future.word.has(ONCE | CANCEL_REQUESTED) && future.attempts() <= self.max_retries
            }
        }
    }

    fn judge(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Py<Future>,
    ) -> Verdict {
        let future = task.get();
        let error = future.last_error(py);
        let Some(error) = error else {
            return Verdict::Healthy;
        };
        let verdict = self.judge_resource(py, session, future, &error);
        let pause = match verdict {
            Verdict::Healthy => self.pause_after(py, session, future, &error),
            _ => None,
        };
        guarded_call::release(py, error);
        pause.map_or(verdict, Verdict::Later)
    }

    fn prepare_retry(
        &self,
        py: Python<'_>,
        task: &Py<Future>,
        pause: Option<DeadlineKey>,
    ) -> Option<Retry> {
        let future = task.get();
        // The payload never left the future. The next attempt gets a context of its own.
        drop_context(py, future);
        if pause.is_some() {
            future.with_extras(py, |extras| extras.failures.get_or_insert_default().pause = pause);
        }
        if !future.word.has(TOLD) {
            return None;
        }
        let (task, ended) = (task.clone_ref(py), clock::monotonic_now(py));
        future.extra(py, |extras| {
            let attempt = extras.record.as_ref()?.facts.attempt.clone();
            let error = extras.last_error.as_ref().map(|error| error.clone_ref(py));
            Some(Retry { task, attempt, ended, error })
        })
    }

    fn sit_out(
        &self,
        py: Python<'_>,
        task: &Py<Future>,
        pause: Duration,
        ends: impl Fn() -> bool + Sync,
    ) -> bool {
        let waited = wait::polling(py, pause.as_secs_f64(), ends);
        let interrupt = waited.map_err(|error| error.into_value(py).into_any());
        interrupt.map_err(|interrupt| interrupt_task(py, task.get(), interrupt)).is_ok()
    }

    fn retried(&self, py: Python<'_>, retry: Option<Retry>) {
        if let Some(Retry { task, attempt, ended, error }) = retry {
            settle::tell_user(py, &task, EventKind::Retried, Some(attempt), ended, error);
            guarded_call::release(py, task);
        }
    }

    fn fail(&self, py: Python<'_>, session: &WorkerSession<'_, Self>, task: &Py<Future>) {
        let future = task.get();
        let attempts = future.attempts();
        if let Some(error) = future.take_last_error(py) {
            match future.extra(py, |extras| extras.failures.take()) {
                Some(failures) => {
                    let lasted = failures.lasted(session.now());
                    note::retries(py, &error, attempts, lasted, failures.too_long);
                }
                None if attempts > 1 => note::attempts(py, &error, attempts),
                None => {}
            }
            current::with(|this_thread| {
                this_thread.at_session(session, || settle::publish_failure(py, task, error));
            });
        }
        finish(py, future);
    }

    fn forget(&self, py: Python<'_>, task: &Py<Future>) {
        let future = task.get();
        if let Some(error) = future.take_last_error(py) {
            guarded_call::release(py, error);
        }
        finish(py, future);
    }
}

impl PyHost {
    /// Asks the user whether an error means that the resource went bad.
    fn judge_resource(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        future: &Future,
        error: &Py<PyAny>,
    ) -> Verdict {
        let Some(hooks) = self.hooks.get().filter(|_| self.given.judges && !is_our_own(py, error))
        else {
            return Verdict::Healthy;
        };
        // A hook may call the runner itself, and is served on this very resource.
        let ask = |what, hook, args: &[&Py<PyAny>]| {
            let call = || guarded_call::call_with(py, hook, args);
            let answer = current::with(|this_thread| {
                this_thread.at_session(session, || this_thread.inside_hook(hook, call))
            });
            forked_child::end_here(py, &answer);
            truth(py, what, answer)
        };
        let (what, broken) = if let Some(is_broken) = hooks.get(Hook::IsBroken) {
            ("is_broken", ask("is_broken", is_broken, &[session.resource(), error]))
        } else if let Some(check_health) = hooks.get(Hook::CheckHealth) {
            ("check_health", ask("check_health", check_health, &[error]).map(|healthy| !healthy))
        } else {
            return Verdict::Healthy;
        };
        match broken {
            Ok(false) => Verdict::Healthy,
            Ok(true) => Verdict::Bad { retry: true },
            Err(interrupt) if session.is_on_loan() && interruption::raised(py, &interrupt) => {
                // It was meant for the caller, which gets it instead of what it came upon.
                interrupt_task(py, future, interrupt);
                Verdict::Bad { retry: false }
            }
            Err(error) => {
                log::hook_failed(py, &self.logger, Some(session.worker.name()), what, error);
                Verdict::Bad { retry: false }
            }
        }
    }

    /// Notes an attempt with what may interrupt it, and what tells of it if it is `entered`.
    #[cold]
    fn begin_attempt(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: &Py<Future>,
        entered: bool,
    ) {
        let future = task.get();
        if entered {
            Self::note_attempt(py, session, future, future.attempts() + 1);
        }
        if self.given.interrupts && !future.is_bare() {
            cancel_attempt::begin_task(py, session, task);
        }
    }

    /// Notes an attempt that begins, if the user is told of its task.
    pub(in crate::binding) fn note_attempt(
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        future: &Future,
        attempt: u32,
    ) {
        if future.word.has(TOLD) {
            let begun = AttemptFacts::begin(py, attempt, session.worker.name());
            future.with_extras(py, |extras| {
                if let Some(record) = &mut extras.record {
                    record.facts.attempt = begun;
                }
            });
        }
    }

    /// Creation began to fail, still fails, or works again.
    fn report_trouble(
        &self,
        py: Python<'_>,
        worker: &str,
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
        log::say(py, &self.logger, level, &text, Some(worker), fault);
    }

    /// No worker has a resource any more, and tasks fail at once.
    fn report_failing_fast(&self, py: Python<'_>) {
        let text = format!(
            "{}: no worker has a resource, and none can be created; tasks fail until one can",
            self.name
        );
        let fault = self.fault(py);
        log::say(py, &self.logger, Level::Warning, &text, None, fault.as_ref());
        guarded_call::release_some(py, fault);
    }

    /// A task overran its limit, and no *substitute* could be started for the worker that runs it.
    fn report_overdue(&self, py: Python<'_>, worker: &str) {
        let text = format!(
            "{worker} runs a task that outlived its time limit, and max_worker_count leaves no room for \
             another worker in its place"
        );
        log::say(py, &self.logger, Level::Warning, &text, Some(worker), None);
    }

    /// No thread could be started for another worker.
    fn report_no_thread(&self, py: Python<'_>, fault: &Py<PyAny>) {
        // Once for each change: it is tried again for each look at the load, and for each call.
        if self.has_no_threads() {
            let text = format!(
                "{}: no thread could be started for another worker; trying again later",
                self.name
            );
            log::say(py, &self.logger, Level::Warning, &text, None, Some(fault));
        }
    }

    fn keep_fault(&self, py: Python<'_>, fault: Py<PyAny>) {
        let former = self.last_fault.lock().replace(fault);
        guarded_call::release_some(py, former);
    }
}
