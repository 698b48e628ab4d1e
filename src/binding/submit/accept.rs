//! How every task is accepted: a permit, a copy of the context, the task's future, its push, and
//! the watch on its time limit.
//!
//! A method takes the steps that it needs in this order. A step that fails leaves nothing behind: a
//! permit goes back when it is dropped, and only the push consumes it.

use crate::binding::context::clock;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::error;
use crate::binding::future::{Future, loop_notifier, settle};
use crate::binding::host::events;
use crate::binding::host::guarded_call;
use crate::binding::host::state::PyHost;
use crate::binding::host::task_record::AttemptFacts;
use crate::binding::map::batch::Batch;
use crate::binding::options::{Asked, TaskOptions};
use crate::binding::shared_count;
use crate::binding::wait::{self, Limit};
use crate::engine::SubmitError;
use crate::engine::clock::Tick;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::permits::{Admission, Permit, Permits};
use crate::engine::task::TIMED;
use pyo3::prelude::*;

impl EngineHandle {
    /// Raises where no submitter may wait for room in a full queue, neither by blocking nor
    /// otherwise.
    pub(super) fn may_wait_for_room(&self, py: Python<'_>, asked: Asked<'_>) -> PyResult<()> {
        if self.engine.is_closing() {
            return Err(self.refuse_closed(py, asked));
        }
        let why = if self.raise_when_full {
            ""
        } else if current::works_for(&self.engine) {
            ", and a worker of the runner must not wait for room"
        } else {
            return Ok(());
        };
        Err(self.refuse_full(py, asked, why))
    }

    /// Whether a submit here is let in now, waits for room, or is refused for another reason than a
    /// full queue. Counts nothing.
    pub(in crate::binding) fn has_room(&self) -> bool {
        let engine = &self.engine;
        let may_wait = !self.raise_when_full && !current::works_for(engine);
        let is_full = || engine.permits().is_some_and(Permits::is_used_up);
        may_wait || engine.is_closing() || !is_full()
    }

    /// Takes a permit of the bounded queue, waiting up to the limit where that is allowed.
    #[inline]
    pub(in crate::binding) fn room(
        &self,
        py: Python<'_>,
        asked: Asked<'_>,
        limit: impl FnOnce() -> Limit,
    ) -> PyResult<Permit<'_>> {
        match self.engine.permits() {
            None => Ok(Permit::unbounded(1)),
            Some(permits) => self.bounded_room(py, permits, asked, limit),
        }
    }

    fn bounded_room<'p>(
        &self,
        py: Python<'_>,
        permits: &'p Permits,
        asked: Asked<'_>,
        limit: impl FnOnce() -> Limit,
    ) -> PyResult<Permit<'p>> {
        if let Some(permit) = permits.try_take(1) {
            return Ok(permit);
        }
        self.may_wait_for_room(py, asked)?;
        if loop_notifier::running_loop(py)?.is_some() {
            let why = ", and a thread with a running event loop must not wait for room";
            return Err(self.refuse_full(py, asked, why));
        }
        permits.take_or_queue(asked.room_priority(), self.engine.clock.now()).or_else(|waiter| {
            let waited = wait::parked_until(py, limit(), || {
                waiter.admission() != Admission::Blocked || self.engine.is_broken()
            });
            // A permit that came while the wait was interrupted goes back.
            let admitted = permits.leave(waiter);
            let in_time = waited.inspect_err(|_| self.engine.host.tell_refusals(py))?;
            admitted.map_err(|admission| {
                if in_time || admission == Admission::Closed {
                    self.refuse_closed(py, asked)
                } else {
                    self.refuse_full(
                        py,
                        asked,
                        ", and the task's time limit passed while it waited",
                    )
                }
            })
        })
    }

    /// When the time limit of a task passes that is submitted now.
    #[inline]
    pub(in crate::binding) fn due_from_now(
        &self,
        py: Python<'_>,
        options: Option<&TaskOptions>,
    ) -> PyResult<Option<Tick>> {
        let limit = self.limit(py, options)?;
        Ok(limit.map(|limit| self.engine.clock.now().saturating_add(clock::ticks_of(limit))))
    }

    /// The time limit of a task, in seconds. The keeper lives when there is one.
    pub(in crate::binding) fn limit(
        &self,
        py: Python<'_>,
        options: Option<&TaskOptions>,
    ) -> PyResult<Option<f64>> {
        let limit = options.and_then(|options| options.timeout).or(self.task_timeout);
        let limit = limit.filter(|limit| limit.is_finite());
        if limit.is_some() {
            self.engine.need_keeper(py).map_err(|fault| error::raise(py, fault))?;
        }
        Ok(limit)
    }

    /// Has a task accepted, or a batch, and its time limit watched.
    #[inline]
    pub(in crate::binding) fn accept(
        &self,
        py: Python<'_>,
        future: &Py<Future>,
        permit: Permit<'_>,
    ) -> PyResult<()> {
        let (word, task) = (&future.get().word, shared_count::share(py, future));
        self.engine
            .submit(py, word, task, self.engine.clock.now(), permit)
            .map_err(|error| self.not_accepted(py, future, error))?;
        self.watch(py, future);
        self.tell_arrival(py, future);
        Ok(())
    }

    #[cold]
    fn not_accepted(
        &self,
        py: Python<'_>,
        future: &Py<Future>,
        error: SubmitError<'_, PyHost>,
    ) -> PyErr {
        match error {
            SubmitError::Rejected(rejected) => {
                guarded_call::release(py, rejected.task);
                drop(rejected.permit);
                self.refuse_task(py, future)
            }
            SubmitError::NoThread(fault) => error::raise(py, fault),
        }
    }

    /// Tells the user that a task was accepted, or the items of a batch.
    #[inline]
    pub(super) fn tell_arrival(&self, py: Python<'_>, object: &Py<Future>) {
        if self.engine.host.given.tells {
            self.tell_arrivals(py, object);
        }
    }

    #[cold]
    fn tell_arrivals(&self, py: Python<'_>, object: &Py<Future>) {
        let arrived = |facts| {
            events::tell(py, &self.engine, EventKind::Arrived, facts, None, None, None);
        };
        if let Some(batch) = Batch::of(object.get()) {
            batch.get().arrivals().for_each(arrived);
        } else {
            let facts = object
                .get()
                .extra(py, |extras| Some(extras.record.as_ref()?.item(0, AttemptFacts::default())));
            facts.into_iter().for_each(arrived);
        }
    }

    /// Why a task that was made is not accepted, counted as a refusal.
    pub(super) fn refuse_task(&self, py: Python<'_>, future: &Py<Future>) -> PyErr {
        future.get().with_asked(py, |asked| self.refuse_closed(py, asked))
    }

    /// Has an accepted task's time limit watched, if it has one.
    #[inline]
    pub(super) fn watch(&self, py: Python<'_>, future: &Py<Future>) {
        if future.get().word.has(TIMED) {
            self.watch_timed(py, future);
        }
    }

    #[cold]
    fn watch_timed(&self, py: Python<'_>, future: &Py<Future>) {
        let task = future.get();
        let Some(due) = task.due(py) else {
            return;
        };
        let watch = self.engine.watch_deadline(due, future.clone_ref(py));
        task.with_extras(py, |extras| extras.deadline_key = Some(watch));
        if task.word.is_done() {
            // Settled before the watch was noted: no other thread takes it off.
            settle::stop_watching(py, task);
        }
    }
}
