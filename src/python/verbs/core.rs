//! From a call to an accepted task: the verbs behind `Runner` and its views.
//!
//! The core is what futures, workers and views hold on to. None of them holds the `Runner`, so dropping the last
//! reference to that is noticed.

use super::line;
use super::options::Options;
use crate::engine::clock::{Tick, ticks};
use crate::engine::queue::lanes::{Class, Entry};
use crate::engine::queue::permits::{Ticket, Verdict};
use crate::engine::task::group::Group;
use crate::engine::task::{OUTSIDE, TIMED, TaskWord};
use crate::engine::worker::loans::{Claiming, Loan, Seeker};
use crate::engine::{Engine, Unserved};
use crate::python::callable;
use crate::python::context::snapshot::Snapshot;
use crate::python::error::{self, BrokenThreadPool, QueueFull, RunnerBroken, RunnerStopped};
use crate::python::future::outbox;
use crate::python::future::settle::{self, Callback};
use crate::python::future::spare;
use crate::python::future::{Draft, Future, Outcome};
use crate::python::host::seat;
use crate::python::host::stacks;
use crate::python::host::{PyHost, Task, discard};
use crate::python::map::batch::Batch;
use crate::python::wait::{self, Limit};
use crate::sync::{Arc, Mutex};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::time::Duration;

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::python) struct Core {
    pub(in crate::python) engine: Arc<Engine<PyHost>>,
    /// The time limit of tasks that have none of their own, in seconds.
    pub(in crate::python) task_timeout: Option<f64>,
    pub(in crate::python) copy_contextvars: bool,
    /// A full queue refuses at once, everybody.
    pub(in crate::python) raise_when_full: bool,
    /// Tasks are called without the resource, as the standard library's executors call theirs, and may be anything.
    pub(in crate::python) bare: bool,
    /// Its tasks, where somebody waits for them and not for the engine.
    pub(in crate::python) group: Option<Group>,
}

/// What a verb was called with.
pub(in crate::python) struct Call<'py> {
    pub(in crate::python) function: Bound<'py, PyAny>,
    /// `None`: no arguments.
    pub(in crate::python) args: Option<Bound<'py, PyTuple>>,
    pub(in crate::python) kwargs: Option<Bound<'py, PyDict>>,
}

/// A core by its Python object, which futures keep a reference to.
pub(in crate::python) struct CoreRef<'a>(pub(in crate::python) &'a Py<Core>);

impl std::ops::Deref for CoreRef<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        self.0.get()
    }
}

impl Core {
    /// The time limit that holds for a task, in seconds.
    pub(in crate::python) fn limit_of(&self, future: &Future) -> f64 {
        let own = future.options().and_then(|options| options.timeout);
        own.or(self.task_timeout).unwrap_or(f64::INFINITY)
    }

    /// Another core of the same engine, for a standard executor over it.
    pub(in crate::python) fn view(&self) -> Self {
        let engine = Arc::clone(&self.engine);
        Self { engine, bare: true, group: Some(Group::new()), ..*self }
    }

    /// Why nothing is accepted.
    pub(in crate::python) fn refusal(&self) -> PyErr {
        if self.engine.host.is_standard() {
            return self.standard_refusal();
        }
        if self.engine.is_broken() {
            let forked = self.engine.is_forsaken();
            return RunnerBroken::new_err(if forked { error::FORKED } else { error::BROKEN });
        }
        RunnerStopped::new_err(error::STOPPED)
    }

    /// Why a standard executor accepts nothing, in the standard's words.
    fn standard_refusal(&self) -> PyErr {
        let Engine { host, .. } = &*self.engine;
        if self.engine.is_broken() {
            let forked = self.engine.is_forsaken();
            return BrokenThreadPool::new_err(if forked {
                error::FORKED_EXECUTOR
            } else {
                error::BROKEN
            });
        }
        if host.is_uninitialised() {
            return BrokenThreadPool::new_err(error::UNINITIALISED);
        }
        PyRuntimeError::new_err(if crate::python::exit::is_exiting() {
            "cannot schedule new futures after interpreter shutdown"
        } else {
            error::SHUT_DOWN
        })
    }

    /// Raises if a fork left this runner behind, or it broke.
    pub(in crate::python) fn check_alive(&self) -> PyResult<()> {
        if self.engine.is_broken() { Err(self.refusal()) } else { Ok(()) }
    }

    /// Why nothing is accepted, counted as a refusal.
    pub(super) fn refuse(&self) -> PyErr {
        if !self.engine.is_broken() {
            self.engine.refused();
        }
        self.refusal()
    }

    /// Raises for what is no task, and early when the runner is closed: nothing is made for what is refused
    /// anyway, and at the very end of the interpreter nothing can be made any more.
    pub(in crate::python) fn check_open(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.bare {
            check_task(r#fn)?;
        }
        if self.engine.is_closing() { Err(self.refuse()) } else { Ok(()) }
    }

    /// What is wrong when the queue is full.
    pub(in crate::python) fn full(&self, why: &str) -> String {
        let bound = self.engine.settings.max_queue_size.unwrap_or_default();
        format!("the queue holds max_queue_size={bound} tasks{why}")
    }

    /// Raises where nobody may wait for room in a full queue, neither by blocking nor otherwise.
    fn may_wait_for_room(&self) -> PyResult<()> {
        if self.engine.is_closing() {
            return Err(self.refuse());
        }
        let why = if self.raise_when_full {
            ""
        } else if seat::works_for(&self.engine) {
            ", and a worker of the runner must not wait for room"
        } else {
            return Ok(());
        };
        self.engine.refused();
        Err(QueueFull::new_err(self.full(why)))
    }

    /// Gets a permit of the bounded queue, waiting where that is allowed.
    pub(in crate::python) fn room(
        &self,
        py: Python<'_>,
        class: Class,
        limit: Limit,
    ) -> PyResult<()> {
        if self.engine.try_permit() {
            return Ok(());
        }
        let Some(permits) = self.engine.permits() else {
            return Ok(());
        };
        self.may_wait_for_room()?;
        let full = |why: &str| {
            self.engine.refused();
            QueueFull::new_err(self.full(why))
        };
        if outbox::running_loop(py)?.is_some() {
            return Err(full(", and a thread with a running event loop must not wait for room"));
        }
        let Err(ticket) = permits.take_or_queue(class) else {
            return Ok(());
        };
        let waited = wait::parked_until(py, limit, || {
            Ticket::verdict(&ticket) != Verdict::Blocked || self.engine.is_broken()
        });
        match (permits.leave(&ticket), waited) {
            (Verdict::Granted, Ok(_)) => Ok(()),
            (Verdict::Granted, Err(interrupted)) => {
                permits.give_back();
                Err(interrupted)
            }
            (_, Err(interrupted)) => Err(interrupted),
            (Verdict::Blocked, Ok(false)) => {
                Err(full(", and the task's time limit passed while it waited"))
            }
            (_, Ok(_)) => Err(self.refuse()),
        }
    }
}

impl CoreRef<'_> {
    /// Makes the future of a task.
    fn draft(
        &self,
        call: Call<'_>,
        context: Option<Snapshot>,
        options: Option<&Arc<Options>>,
        express: bool,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        Future::draft(
            py,
            Draft {
                core: self.0.clone_ref(py),
                options: options.cloned(),
                class: options.map_or(Class::Normal, |options| options.class),
                once: options.is_some_and(|options| options.once),
                express,
                function: call.function.unbind(),
                args: call.args.map(Bound::unbind),
                kwargs: call.kwargs.map(Bound::unbind),
                context,
            },
        )
    }

    /// The time limit of a task, in seconds. The keeper lives when there is one.
    pub(in crate::python) fn limit(
        &self,
        py: Python<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Option<f64>> {
        let limit = options.and_then(|options| options.timeout).or(self.task_timeout);
        let limit = limit.filter(|limit| limit.is_finite());
        if limit.is_some() {
            self.engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
        }
        Ok(limit)
    }

    /// When a time limit passes that counts from `since`.
    fn due(since: Tick, limit: f64) -> Tick {
        let length = Duration::try_from_secs_f64(limit).map_or(Tick::MAX, ticks);
        since.saturating_add(length)
    }

    /// Puts down when a task's time limit passes, if it has one, before anybody else sees the task.
    fn put_due(future: &Py<Future>, due: Option<Tick>) {
        if due.is_some() {
            future.get().word.set(TIMED);
            future.get().slot.lock().get_or_insert_default().due = due;
        }
    }

    /// Has an accepted task's time limit watched, if it has one.
    fn watch(&self, py: Python<'_>, future: &Py<Future>, due: Option<Tick>) {
        let Some(due) = due else {
            return;
        };
        let watch = self.engine.watch(due, Task::new(future.clone_ref(py)));
        future.get().slot.lock().get_or_insert_default().watch = Some(watch);
        if future.get().word.is_done() {
            // Settled before the watch was noted: nobody else takes it off.
            settle::stop_watching(py, future.get());
        }
    }

    /// `Runner.submit`.
    pub(in crate::python) fn submit(
        &self,
        call: Call<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        self.check_open(&call.function)?;
        let due = self.due_from_now(py, options)?;
        self.enqueue(call, options, due)
    }

    /// When the time limit of a task passes that is submitted now.
    fn due_from_now(
        &self,
        py: Python<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Option<Tick>> {
        let limit = self.limit(py, options)?;
        Ok(limit.map(|limit| Self::due(self.engine.clock.now(), limit)))
    }

    /// Waits for room if need be, and queues a task.
    fn enqueue(
        &self,
        call: Call<'_>,
        options: Option<&Arc<Options>>,
        due: Option<Tick>,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        if self.engine.settings.max_queue_size.is_some() {
            let class = options.map_or(Class::Normal, |options| options.class);
            let left = |due: Tick| due.saturating_sub(self.engine.clock.now());
            let left = due.map(|due| Duration::from_nanos(left(due)).as_secs_f64());
            self.room(py, class, Limit::after(left))?;
        }
        let context = self.copy_contextvars.then(|| Snapshot::take(py)).transpose();
        let context = context.inspect_err(|_| self.give_back())?;
        self.accept(call, context, options, due, |_| ())
    }

    /// `Runner.submit_many`. The workers are woken once: who is on its way wakes the others.
    pub(in crate::python) fn submit_many(
        &self,
        function: &Bound<'_, PyAny>,
        items: &Bound<'_, PyAny>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Vec<Py<Future>>> {
        let py = function.py();
        self.check_open(function)?;
        // All of them first: an input that fails must not leave tasks behind that nobody knows of.
        let items = items.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        // One for all, so that it bounds the whole call.
        let due = self.due_from_now(py, options)?;
        let mut futures = Vec::with_capacity(items.len());
        for item in items {
            let args = PyTuple::new(py, [item])?;
            let call = Call { function: function.clone(), args: Some(args), kwargs: None };
            match self.enqueue(call, options, due) {
                Ok(future) => futures.push(future),
                Err(refusal) if error::is_refusal(py, &refusal) => {
                    let refusal = refusal.into_value(py).into_any();
                    futures.push(Future::settled_with(py, Outcome::Error(refusal))?);
                }
                Err(interrupted) => {
                    let reason = "the call that submitted it was interrupted";
                    for future in futures {
                        Future::request_cancel(future.bind(py), Some(reason.into()));
                    }
                    return Err(interrupted);
                }
            }
        }
        Ok(futures)
    }

    /// Submits an item of a `map` as a task of its own. The caller holds a permit for it; `mark` sees its
    /// future first.
    pub(in crate::python) fn submit_item(
        &self,
        call: Call<'_>,
        context: Option<Snapshot>,
        options: Option<&Arc<Options>>,
        mark: impl FnOnce(&Py<Future>),
    ) -> PyResult<Py<Future>> {
        let due = self.due_from_now(call.function.py(), options);
        let due = due.inspect_err(|_| self.give_back())?;
        self.accept(call, context, options, due, mark)
    }

    /// Submits a batch. The caller holds a permit for each item.
    pub(in crate::python) fn submit_batch(
        &self,
        py: Python<'_>,
        class: Class,
        batch: &Py<Batch>,
    ) -> PyResult<Py<Future>> {
        let items = batch.get().len();
        let ticket = Future::ticket(py, self.0.clone_ref(py), class, batch.clone_ref(py))
            .inspect_err(|_| (0..items).for_each(|_| self.give_back()))?;
        let task = Task::new(ticket.clone_ref(py));
        match self.engine.submit_batch(py, class, task, self.engine.clock.now(), items) {
            Ok(()) => Ok(ticket),
            Err(closed) => {
                discard(py, closed.0);
                Err(self.refuse())
            }
        }
    }

    fn give_back(&self) {
        if let Some(permits) = self.engine.permits() {
            permits.give_back();
        }
    }

    /// Queues a task for which the caller holds a permit. `mark` sees its future before anybody else.
    fn accept(
        &self,
        call: Call<'_>,
        context: Option<Snapshot>,
        options: Option<&Arc<Options>>,
        due: Option<Tick>,
        mark: impl FnOnce(&Py<Future>),
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        let since = self.engine.clock.now();
        let future = self.draft(call, context, options, false).inspect_err(|_| self.give_back())?;
        let word: &TaskWord = &future.get().word;
        Self::put_due(&future, due);
        mark(&future);
        let task = Task::new(future.clone_ref(py));
        let accepted = if self.engine.settings.on_demand {
            self.engine.submit_on_demand(py, word, task, since)
        } else {
            self.engine
                .submit(word.class(), task, since)
                .map_err(|closed| Unserved::Closed(closed.0))
        };
        match accepted {
            Ok(()) => {
                self.watch(py, &future, due);
                Ok(future)
            }
            Err(Unserved::Closed(task)) => {
                discard(py, task);
                Err(self.refuse())
            }
            Err(Unserved::NoThread(fault)) => Err(error::raise(py, fault)),
        }
    }

    /// `Runner.asubmit`.
    pub(in crate::python) fn asubmit(
        &self,
        call: Call<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        self.check_open(&call.function)?;
        let (event_loop, outbox) = outbox::here(py, "asubmit works")?;
        let limit = self.limit(py, options)?;
        let full = self.engine.permits().filter(|permits| !permits.try_take());
        if full.is_some() {
            self.may_wait_for_room()?;
        }
        let since = self.engine.clock.now();
        let context = self.copy_contextvars.then(|| Snapshot::take(py)).transpose();
        let drafted = context.and_then(|context| {
            let future = self.draft(call, context, options, false)?;
            let (promise, courier) = outbox::promise(future.bind(py), &outbox, &event_loop)?;
            Ok((future, promise, courier))
        });
        let (future, promise, courier) = drafted.inspect_err(|_| {
            if let (Some(permits), None) = (self.engine.permits(), full) {
                permits.give_back();
            }
        })?;
        settle::observe(future.get(), |slot| slot.callbacks.push(Callback::Courier(courier)));
        let due = limit.map(|limit| Self::due(since, limit));
        Self::put_due(&future, due);
        if let Some(permits) = full {
            future.get().word.set(OUTSIDE);
            line::line_up(self, permits, &future, py);
        } else {
            let task = Task::new(future.clone_ref(py));
            if let Err(closed) = self.engine.submit(future.get().word.class(), task, since) {
                // The promise and the task know each other, and nobody settles this one.
                let slot = future.get().slot.lock().take();
                drop(slot);
                discard(py, closed.0);
                return Err(self.refuse());
            }
        }
        self.watch(py, &future, due);
        Ok(promise)
    }

    /// `Runner.queue_task`.
    pub(in crate::python) fn queue_task(
        &self,
        call: Call<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        let bounded = self.engine.settings.max_queue_size.is_some();
        if bounded && seat::desk_of(py, &self.engine, |_| ()).is_some() {
            // It runs here and now anyhow, and needs no room in the queue for that.
            return self.run_task(call, options);
        }
        let future = self.submit(call, options)?;
        outcome(future.bind(py))
    }

    /// `Runner.run_task`.
    pub(in crate::python) fn run_task(
        &self,
        call: Call<'_>,
        options: Option<&Arc<Options>>,
    ) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        self.check_open(&call.function)?;
        let limit = self.limit(py, options)?;
        let since = self.engine.clock.now();
        let inside = seat::desk_of(py, &self.engine, |_| ()).is_some();
        let here = inside || !self.engine.settings.thread_bound;
        // Unless a hook can change the context before the task is called, or called again.
        let is_current = inside || here && !self.engine.host.looks_at_resources();
        let take = || if is_current { Ok(Snapshot::CURRENT) } else { Snapshot::take(py) };
        let context = self.copy_contextvars.then(take).transpose()?;
        let future = self.draft(call, context, options, true)?;
        let due = limit.map(|limit| Self::due(since, limit));
        Self::put_due(&future, due);
        if inside {
            if !self.engine.accept_inside(since) {
                discard(py, Task::new(future));
                return Err(self.refuse());
            }
            self.watch(py, &future, due);
            let task = Task::new(future.clone_ref(py));
            seat::same_desk_of(&self.engine, |desk| desk.serve_inside(py, &task, false));
            discard(py, task);
        } else if here {
            self.run_on_loan(py, &future, since, due)?;
        } else {
            let task = Task::new(future.clone_ref(py));
            if let Err(closed) = self.engine.submit_express(py, task, since) {
                discard(py, closed.0);
                return Err(self.refuse());
            }
            self.watch(py, &future, due);
        }
        let outcome = outcome(future.bind(py));
        spare::keep(py, future);
        outcome
    }

    /// Runs a task in this thread, on resources that reserved workers lend.
    fn run_on_loan(
        &self,
        py: Python<'_>,
        future: &Py<Future>,
        since: Tick,
        due: Option<Tick>,
    ) -> PyResult<()> {
        let engine = &self.engine;
        let mut loan = engine.accept_on_loan(since);
        let mut seeker = None;
        if loan.is_none() {
            if seat::works_for(engine) {
                return Err(PyRuntimeError::new_err(error::STANDSTILL));
            }
            // It may wait, and a signal handler change the context meanwhile. First: this may fail.
            future.get().keep_context(py)?;
            seeker = engine.accept_seeker();
            if seeker.is_none() {
                return Err(self.refuse());
            }
        }
        self.watch(py, future, due);
        // A kill answers also those that wait while their resource is looked at.
        let waits = loan.is_none() || engine.settings.care.validate_after.is_some();
        let mut claim = if waits || due.is_some() { Claiming::Shared } else { Claiming::Unshared };
        let mut entry = Entry::fresh(Task::new(future.clone_ref(py)), since);
        let mut enrolled = waits.then(|| Enrolled::new(py, engine, future, since));
        loop {
            let found = loan.take().map(|loan| (Some(loan), Ok(())));
            let (found, ended) = found.unwrap_or_else(|| self.find_loan(py, &entry, &mut seeker));
            let found = match (found, ended) {
                (Some(found), Ok(())) => found,
                (unused, ended) => {
                    // Not started, or between two attempts: nobody else would settle it.
                    engine.decline(py, entry.task);
                    // After it: the loan keeps the runner from ending.
                    if let Some(loan) = unused {
                        loan.give_back(engine);
                    }
                    return ended;
                }
            };
            drop(seeker.take());
            stacks::note_caller(py, &found);
            let serve = || found.serve(engine, py, entry, claim);
            let (again, interrupt) = seat::as_guest(engine, serve);
            if let Some(interrupt) = interrupt {
                if let Some((entry, _seeker)) = again {
                    engine.decline(py, entry.task);
                }
                return Err(error::raise(py, interrupt));
            }
            let Some((again, seeks)) = again else {
                return Ok(());
            };
            (entry, seeker, claim) = (again, Some(seeks), Claiming::Shared);
            enrolled.get_or_insert_with(|| Enrolled::new(py, engine, future, since));
        }
    }

    /// Finds a loan for one that seeks it, waiting if need be; none when none will come, when the task has been settled
    /// meanwhile, or when the wait was interrupted.
    fn find_loan<'e>(
        &'e self,
        py: Python<'_>,
        entry: &Entry<Task>,
        seeker: &mut Option<Seeker<'e, PyHost>>,
    ) -> (Option<Box<Loan<PyHost>>>, PyResult<()>) {
        // Short: a worker that could not be started is asked for again.
        const PATIENCE: f64 = 0.05;
        let engine = &self.engine;
        let mut found = engine.loans.try_take(engine, entry);
        while found.is_none() && !entry.task.is_settled() && engine.may_lend() {
            engine.staff_for(py, entry);
            let taken = Mutex::new((None, seeker.take()));
            let waited = wait::until(
                py,
                Limit::after(Some(PATIENCE)),
                || taken.lock().0.is_some(),
                |slice| {
                    let loan = engine.loans.take(engine, entry, slice);
                    let mut taken = taken.lock();
                    // At once, and not after the wait for the interpreter: others would hire for it.
                    let seeker = if loan.is_some() { taken.1.take() } else { None };
                    taken.0 = loan;
                    drop(taken);
                    drop(seeker);
                },
            );
            let mut taken = taken.lock();
            (found, *seeker) = (taken.0.take(), taken.1.take());
            drop(taken);
            if let Err(interrupted) = waited {
                return (found, Err(interrupted));
            }
        }
        (found, Ok(()))
    }
}

/// The task of a call that waits for a loan, to be found by a kill that answers what waits.
struct Enrolled<'a, 'py> {
    py: Python<'py>,
    engine: &'a Engine<PyHost>,
    key: u64,
}

impl<'a, 'py> Enrolled<'a, 'py> {
    fn new(py: Python<'py>, engine: &'a Engine<PyHost>, future: &Py<Future>, since: Tick) -> Self {
        let key = engine.loans.enrol(Task::new(future.clone_ref(py)), since);
        Self { py, engine, key }
    }
}

impl Drop for Enrolled<'_, '_> {
    fn drop(&mut self) {
        // After a fork a thread that is gone may hold the lock.
        if !self.engine.is_forsaken()
            && let Some(task) = self.engine.loans.strike(self.key)
        {
            discard(self.py, task);
        }
    }
}

/// The outcome of a task that a blocking call made: Ctrl-C takes the task along.
fn outcome(future: &Bound<'_, Future>) -> PyResult<Py<PyAny>> {
    let result = Future::result(future, None);
    if result.is_err() && !future.get().word.is_done() {
        Future::request_cancel(future, Some("the call that waited for it was interrupted".into()));
    }
    result
}

/// Raises for what cannot be called, and for what a call of it would not run.
pub(in crate::python) fn check_task(r#fn: &Bound<'_, PyAny>) -> PyResult<()> {
    if !r#fn.is_callable() {
        let kind = r#fn.get_type().name()?;
        let text = format!("a task must be callable, not {kind}: {}", r#fn.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    let Some(kind) = callable::unrun(r#fn)? else {
        return Ok(());
    };
    let text = format!("a task must be a plain function, got {kind}: {}", r#fn.repr()?);
    Err(PyTypeError::new_err(text))
}
