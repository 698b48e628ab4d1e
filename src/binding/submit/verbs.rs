//! `submit`, `submit_many`, `asubmit` and `queue_task`.

use crate::binding::context::snapshot::Snapshot;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::error;
use crate::binding::future::draft::TaskCall;
use crate::binding::future::{
    Arguments, Callback, Future, Outcome, loop_notifier, settle, waiting_submits,
};
use crate::binding::host::observed;
use crate::binding::options::{Asked, TaskOptions};
use crate::binding::task_key::{LineHold, TaskKey};
use crate::binding::wait::Limit;
use crate::engine::clock::Tick;
use crate::engine::task::{JOINT, NOT_ADMITTED, RESERVED};
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::time::Duration;

impl EngineHandleRef<'_> {
    /// `Runner.submit`.
    pub(in crate::binding) fn submit(&self, call: TaskCall<'_>) -> PyResult<Py<Future>> {
        self.check_open(&call.function, call.options.as_deref())?;
        self.submit_checked(call, 0)
    }

    /// [`submit`](Self::submit) for what is a task, of a runner that is open. `flags`: of its word.
    #[inline]
    pub(in crate::binding) fn submit_checked(
        &self,
        call: TaskCall<'_>,
        flags: u32,
    ) -> PyResult<Py<Future>> {
        let due = self.due_from_now(call.function.py(), call.options.as_deref())?;
        self.enqueue(call, due, flags)
    }

    /// Makes a task with a copy of the context, if tasks run in one. A joint call runs in none of
    /// its tasks'. `flags`: of its word.
    #[inline]
    pub(super) fn new_task(
        &self,
        call: TaskCall<'_>,
        due: Option<Tick>,
        flags: u32,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        let tells = self.engine.host.given.tells;
        let copies = self.copy_contextvars && (tells || flags & JOINT == 0);
        let take = if flags & RESERVED == 0 { Snapshot::take } else { Snapshot::take_whole };
        let context = copies.then(|| take(py)).transpose()?;
        if tells {
            return self.new_told_task(call, context, due, flags);
        }
        self.draft(call, context, due, flags)
    }

    /// [`new_task`](Self::new_task) where the user's `on_event` is told of it.
    #[cold]
    fn new_told_task(
        &self,
        call: TaskCall<'_>,
        mut context: Option<Snapshot>,
        due: Option<Tick>,
        flags: u32,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        let copy = context.as_mut().map(|context| context.open(py, false)).transpose()?;
        let record = self.record(py, call.asked(), 1, copy);
        let future = self.draft(call, context.filter(|_| flags & JOINT == 0), due, flags)?;
        future.get().set_record(py, record);
        Ok(future)
    }

    /// Waits for room if need be, and queues a task.
    #[inline]
    fn enqueue(&self, call: TaskCall<'_>, due: Option<Tick>, flags: u32) -> PyResult<Py<Future>> {
        let py = call.function.py();
        let left = |due: Tick| due.saturating_sub(self.engine.clock.now());
        let left = || due.map(|due| Duration::from_nanos(left(due)).as_secs_f64());
        let permit = self.room(py, call.asked(), || Limit::after(left()))?;
        let future = self.new_task(call, due, flags)?;
        self.accept(py, &future, permit)?;
        Ok(future)
    }

    /// `Runner.submit_many`. The workers are woken once: a woken worker wakes the next.
    pub(in crate::binding) fn submit_many(
        &self,
        function: &Bound<'_, PyAny>,
        items: &Bound<'_, PyAny>,
        options: Option<&Arc<TaskOptions>>,
    ) -> PyResult<Vec<Py<Future>>> {
        let py = function.py();
        self.check_open(function, options.map(Arc::as_ref))?;
        // All of them first: an input that fails must not leave tasks behind whose futures the
        // caller never gets.
        let items = items.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let asked =
            Asked { function: Some(function.as_unbound()), options: options.map(Arc::as_ref) };
        let key = |item| self.key_of_item(asked, item, false);
        let keys = asked.has_key().then(|| items.iter().map(key).collect()).transpose()?;
        let end = observed::begin_many(py, &self.engine, asked)?;
        let futures = self.enqueue_each(function, items, options, keys);
        if let Some(end) = end {
            let outcome = match &futures {
                Ok(futures) => PyList::new(py, futures).map(Bound::into_any),
                Err(error) => Ok(error.value(py).clone().into_any()),
            };
            let told = outcome.and_then(|outcome| end.call1(py, (outcome,)));
            if let (Ok(futures), Err(interrupted)) = (&futures, told) {
                return Err(give_up(py, futures, interrupted));
            }
        }
        futures
    }

    fn enqueue_each<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        items: Vec<Bound<'py, PyAny>>,
        options: Option<&Arc<TaskOptions>>,
        keys: Option<Vec<TaskKey>>,
    ) -> PyResult<Vec<Py<Future>>> {
        let py = function.py();
        // One for all, so that it bounds the whole call.
        let due = self.due_from_now(py, options.map(Arc::as_ref))?;
        let mut futures = Vec::with_capacity(items.len());
        let mut keys = keys.into_iter().flatten();
        for item in items {
            let TaskKey { number: key, hold: _hold } = keys.next().unwrap_or(TaskKey::NONE);
            let args = Arguments::of_tuple(Some(PyTuple::new(py, [item])?.unbind()));
            let (function, options) = (function.clone(), options.cloned());
            match self.enqueue(
                TaskCall { function, args, has_keywords: false, options, key },
                due,
                0,
            ) {
                Ok(future) => futures.push(future),
                Err(refusal) if error::is_refusal(py, &refusal) => {
                    let refusal = refusal.into_value(py).into_any();
                    futures.push(Future::settled_with(py, Outcome::Error(refusal))?);
                }
                Err(interrupted) => return Err(give_up(py, &futures, interrupted)),
            }
        }
        Ok(futures)
    }

    /// `Runner.asubmit`.
    pub(in crate::binding) fn asubmit(
        &self,
        call: TaskCall<'_>,
        hold: Option<LineHold>,
    ) -> PyResult<Py<PyAny>> {
        self.check_open(&call.function, call.options.as_deref())?;
        self.asubmit_checked(call, hold, 0)
    }

    /// [`asubmit`](Self::asubmit) for what is a task, of a runner that is open.
    pub(in crate::binding) fn asubmit_checked(
        &self,
        call: TaskCall<'_>,
        hold: Option<LineHold>,
        flags: u32,
    ) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        let (event_loop, notifier) = loop_notifier::here(py, "asubmit works")?;
        let due = self.due_from_now(py, call.options.as_deref())?;
        let permit = self.engine.try_permits(1);
        if permit.is_none() {
            self.may_wait_for_room(py, call.asked())?;
        }
        let future = self.new_task(call, due, flags)?;
        let (promise, loop_waiter) =
            loop_notifier::promise(future.bind(py), &notifier, &event_loop)?;
        settle::add_callback(py, future.get(), loop_waiter, Callback::from);
        if let Some(permit) = permit {
            self.accept(py, &future, permit).inspect_err(|_| {
                // The promise and the task know each other, and no thread settles this one.
                let extras = future.get().extras.with(py, Option::take);
                drop(extras);
            })?;
        } else {
            future.get().word.set(NOT_ADMITTED);
            future.get().with_extras(py, |extras| {
                if let Some(record) = &mut extras.record {
                    record.arrives_late = true;
                }
                extras.line_hold = hold;
            });
            waiting_submits::line_up(self, &future, py);
            self.watch(py, &future);
        }
        Ok(promise)
    }

    /// `Runner.queue_task`.
    pub(in crate::binding) fn queue_task(&self, call: TaskCall<'_>) -> PyResult<Py<PyAny>> {
        self.check_open(&call.function, call.options.as_deref())?;
        self.queue_checked(call, 0)
    }

    /// [`queue_task`](Self::queue_task) for what is a task, of a runner that is open.
    pub(in crate::binding) fn queue_checked(
        &self,
        call: TaskCall<'_>,
        flags: u32,
    ) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        let bounded = self.engine.settings.max_queue_size.is_some();
        // What runs in order cannot go past its line.
        let goes_through = bounded && call.key.line().is_none();
        if goes_through && current::session_of(py, &self.engine, |_| ()).is_some() {
            // It runs here and now anyhow, and needs no room in the queue for that.
            return self.run_task(call);
        }
        let future = self.submit_checked(call, flags)?;
        outcome(future.bind(py))
    }
}

/// Cancels what was submitted by a call that was interrupted.
fn give_up(py: Python<'_>, futures: &[Py<Future>], interrupted: PyErr) -> PyErr {
    let reason = "the call that submitted it was interrupted";
    for future in futures {
        Future::request_cancel(future.bind(py), Some(reason.into()));
    }
    interrupted
}

/// The outcome of a task that a blocking call made: Ctrl-C takes the task along.
pub(super) fn outcome(future: &Bound<'_, Future>) -> PyResult<Py<PyAny>> {
    Future::result(future, None).inspect_err(|_| {
        if !future.get().word.is_done() {
            let reason = "the call that waited for it was interrupted";
            Future::request_cancel(future, Some(reason.into()));
        }
    })
}
