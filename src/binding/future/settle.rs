//! How a task gets its outcome, and how its observers learn of it.
//!
//! While no observer looks, publishing is one compare-and-swap. An observer (a waiting thread, a
//! callback) puts itself into the extras and sets a flag while no other thread looks into these; the
//! publisher that meets the flag takes the observers out in the same way and serves them after that.
//!
//! The standard library's `wait` and `as_completed` lock a future's condition and read its state
//! under it. For them the condition is made on first need; from then on the state changes only
//! while the publisher holds it. Changing the state outside it loses waits.

use super::unretrieved::UnretrievedError;
use super::{Callback, Future, FutureExtras, Outcome, StandardParts};
use crate::binding::context::clock;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::error::{self, TaskCancelled};
use crate::binding::gc;
use crate::binding::host::events;
use crate::binding::host::forked_child;
use crate::binding::host::guarded_call;
use crate::binding::host::state::PyHost;
use crate::binding::host::task_record::AttemptFacts;
use crate::binding::log::{self, Level, Logger};
use crate::binding::shared_count;
use crate::binding::wakes;
use crate::engine::Engine;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::{
    CANCEL_REQUESTED, HAS_CONDITION, JOINT, NOT_ADMITTED, OBSERVED, Phase, RESERVED, RETRIES,
    TIMED, TOLD, Taken, WAS_PAUSED,
};
use crate::sync::Arc;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

/// Puts an observer into the extras, unless the task is done already.
pub(in crate::binding) fn add_observer(
    py: Python<'_>,
    future: &Future,
    put: impl FnOnce(&mut FutureExtras),
) {
    future.extras.with(py, |extras| {
        if !matches!(future.word.set(OBSERVED), Phase::Finished | Phase::Cancelled) {
            put(extras.get_or_insert_default());
        }
    });
}

/// Has something done with a task when it is done; if it is already, it comes back.
pub(in crate::binding) fn add_callback<T>(
    py: Python<'_>,
    future: &Future,
    callback: T,
    wrap: impl FnOnce(T) -> Callback,
) -> Option<T> {
    let mut callback = Some(callback);
    add_observer(py, future, |extras| extras.callbacks.extend(callback.take().map(wrap)));
    callback
}

/// Gives a task its own exception for an outcome. The caller moved its word to settling, and still
/// has the payload.
pub(in crate::binding) fn publish_failure(py: Python<'_>, object: &Py<Future>, error: Py<PyAny>) {
    expect_reader(py, object.get(), &error);
    publish(py, object, Outcome::Error(error), EventKind::Failed);
}

/// Has a task's own exception logged if its future is never asked, where that is due. The caller is
/// about to publish it.
fn expect_reader(py: Python<'_>, future: &Future, error: &Py<PyAny>) {
    // The caller of `run_task` gets it, and the observers of the task are told. After `kill` or
    // `request_cancel` an error is what was asked for: a driver's own word for a query that
    // `on_cancel` has ended, say.
    let is_expected = future.word.has(OBSERVED | RESERVED | CANCEL_REQUESTED);
    let Some(origin) = future.origin.as_ref().filter(|_| !is_expected) else {
        return;
    };
    let handle = origin.handle.get();
    // The contract of a standard executor is the standard's.
    let is_due = !handle.bare && !matches!(handle.engine.host.logger, Logger::Nowhere);
    if !is_due || guarded_call::is_instance::<TaskCancelled>(py, error) {
        return;
    }
    let unretrieved = UnretrievedError::new(py, &origin.handle, future.name(py), error);
    // Without memory for it there is none for a record either.
    if let Ok(unretrieved) = unretrieved {
        let unretrieved = shared_count::hand_over(py, unretrieved);
        future.with_extras(py, |extras| extras.unretrieved = Some(unretrieved));
    }
}

/// A reader asks for the outcome: if it is an exception, that needs no record.
pub(in crate::binding) fn mark_retrieved(py: Python<'_>, future: &Future) {
    if let Some(unretrieved) = future.extra(py, |extras| extras.unretrieved.take()) {
        UnretrievedError::settle(py, unretrieved);
    }
}

/// Gives a task its outcome, which was counted as this `event`. The caller moved its word to
/// settling.
pub(in crate::binding) fn publish(
    py: Python<'_>,
    object: &Py<Future>,
    outcome: Outcome,
    event: EventKind,
) {
    let future = object.get();
    if let (EventKind::Failed, Outcome::Error(error), Some(origin)) =
        (event, &outcome, &future.origin)
    {
        let engine = &origin.handle.get().engine;
        future.with_asked(py, |asked| {
            engine.host.count_failed(py, engine.ledger(), asked, error);
        });
    }
    if let Outcome::Value(value) | Outcome::Error(value) = &outcome
        && gc::is_collectable(value)
    {
        gc::track(object.as_any());
    }
    // SAFETY: the word is settling, and the caller moved it there.
    unsafe { future.set_outcome(py, outcome) };
    let plain = |flags: u32| flags & HAS_CONDITION == 0;
    if let Some(flags) = future.word.publish(plain) {
        if flags & (OBSERVED | TOLD) != 0 {
            tell_outcome(py, object, None, Some(event));
        }
        return;
    }
    let standard = hold_condition(py, future);
    future.word.publish(|_| true);
    tell_outcome(py, object, standard, Some(event));
}

/// Cancels a task that was never started.
pub(in crate::binding) fn cancel(slf: &Bound<'_, Future>) -> bool {
    let (py, object) = (slf.py(), slf.as_unbound());
    let future = slf.get();
    let mut standard = None;
    let flags = loop {
        let holding = standard.is_some();
        if let Some(flags) = future.word.cancel(|flags| holding || flags & HAS_CONDITION == 0) {
            break flags;
        }
        if holding || future.word.phase() != Phase::Waiting {
            if let Some(held) = standard.take() {
                let_go(py, held, false);
            }
            return future.word.phase() == Phase::Cancelled;
        }
        standard = hold_condition(py, future);
    };
    if let Some(engine) = living_engine(future) {
        if flags & NOT_ADMITTED == 0 {
            engine.count_settled(py, object, Taken::Fresh, false);
        } else {
            leave_waiting_submits(py, future);
        }
        stop_watching(py, future);
    }
    // SAFETY: this thread moved the word out of waiting.
    unsafe { future.drop_payload(py) };
    if flags & (OBSERVED | HAS_CONDITION | TOLD) != 0 {
        // One that waited for room never arrived.
        let arrived = flags & NOT_ADMITTED == 0;
        tell_outcome(py, object, standard, arrived.then_some(EventKind::Cancelled));
    }
    true
}

/// Cancels a task that has not started, and ends one that waits for a retry. What runs goes on, and is
/// not paused when it fails.
pub(in crate::binding) fn abandon(slf: &Bound<'_, Future>) {
    slf.get().word.clear(RETRIES);
    if !cancel(slf) {
        call_off_retry(slf.py(), slf.as_unbound());
    }
}

/// Settles a future for a caller that does it by hand, as by `set_result` or `set_exception`.
pub(in crate::binding) fn settle_by_hand(
    slf: &Bound<'_, Future>,
    outcome: Outcome,
) -> PyResult<()> {
    let (py, future) = (slf.py(), slf.get());
    let Some(taken) = future.word.settle_by_hand() else {
        let class = py.import("concurrent.futures")?.getattr("InvalidStateError")?;
        let text = format!("{}: {}", future.state_name(), slf.repr()?);
        return Err(PyErr::from_value(class.call1((text,))?));
    };
    let completed = matches!(outcome, Outcome::Value(_));
    let count =
        |engine: &Arc<Engine<PyHost>>| engine.count_settled(py, slf.as_unbound(), taken, completed);
    // What was not admitted is counted nowhere.
    let engine = living_engine(future).filter(|_| !future.word.has(NOT_ADMITTED));
    let event = engine.map_or(EventKind::Cancelled, count);
    if event == EventKind::Completed
        && let Some(engine) = engine
    {
        future.with_asked(py, |asked| {
            engine.host.count_completed_by_hand(py, engine.ledger(), asked);
        });
    }
    if taken != Taken::Running {
        stop_watching(py, future);
    }
    publish(py, slf.as_unbound(), outcome, event);
    if taken != Taken::Running {
        // Not before the task is counted by its name.
        // SAFETY: this thread moved the word out of a waiting phase.
        unsafe { future.drop_payload(py) };
    }
    Ok(())
}

/// Tells a started task to give up: its context is cancelled, and no retry follows.
pub(in crate::binding) fn request_cancel(py: Python<'_>, future: &Future, reason: Option<String>) {
    let reason: Option<Arc<str>> = reason.map(Into::into);
    let (token, call) = future.with_extras(py, |extras| {
        if extras.reason.is_none() {
            extras.reason.clone_from(&reason);
        }
        future.word.set(CANCEL_REQUESTED);
        (extras.context.as_ref().map(|(token, _)| token.clone()), extras.call.clone())
    });
    if future.word.has(JOINT)
        && let Some(call) = living_engine(future).and_then(|it| it.given_up_call(&future.word))
    {
        call.cancel(reason.clone());
    }
    if let Some(token) = token {
        token.cancel(reason);
    }
    if let Some(call) = call {
        call.want();
    }
}

/// Ends a task that waits for a retry with the error of its last attempt, if that is where it is.
pub(in crate::binding) fn call_off_retry(py: Python<'_>, object: &Py<Future>) {
    let future = object.get();
    let Some(taken) = future.word.call_off() else {
        return;
    };
    if let Some(engine) = living_engine(future) {
        engine.count_settled(py, object, taken, false);
    }
    stop_watching(py, future);
    let called_off = || error::make::<TaskCancelled>(py, "the retry was called off", None);
    publish_failure(py, object, future.take_last_error(py).unwrap_or_else(called_off));
    // SAFETY: this thread moved the word out of a waiting phase.
    unsafe { future.drop_payload(py) };
}

/// The engine a task belongs to, if there is one to tell: one that a fork left behind is not
/// touched.
fn living_engine(future: &Future) -> Option<&Arc<Engine<PyHost>>> {
    future.engine().filter(|engine| !engine.is_left_by_fork())
}

/// Ends the membership of a task that is done, if it is one of a group.
fn leave_group(future: &Future) {
    let handle = future.origin.as_ref().map(|origin| origin.handle.get());
    if let Some(EngineHandle { engine, group: Some(group), .. }) = handle
        && !engine.is_left_by_fork()
    {
        group.leave();
    }
}

/// Withdraws the *waiter* for a permit of a task that waited for room, and is settled.
pub(super) fn leave_waiting_submits(py: Python<'_>, future: &Future) {
    let left =
        future.extra(py, |extras| Some((extras.permit_waiter.take(), extras.line_hold.take())));
    let (place, hold) = left.unwrap_or_default();
    drop(hold);
    let permits = future.engine().and_then(|engine| engine.permits());
    if let (Some(place), Some(permits)) = (place, permits) {
        permits.remove(&place);
    }
}

/// Has the keeper forget a task that needs it no more: its time limit, and its pause.
#[inline]
pub(in crate::binding) fn stop_watching(py: Python<'_>, future: &Future) {
    if future.word.has(TIMED | WAS_PAUSED) {
        forget_watched(py, future);
    }
}

#[cold]
fn forget_watched(py: Python<'_>, future: &Future) {
    let keys = future.extra(py, |extras| {
        let pause = extras.failures.as_mut().and_then(|failures| failures.pause.take());
        Some((extras.deadline_key.take(), pause))
    });
    let (Some((watch, pause)), Some(engine)) = (keys, living_engine(future)) else {
        return;
    };
    if let Some(watch) = watch {
        engine.unwatch(py, watch);
    }
    if let Some(pause) = pause {
        engine.forget_paused(py, pause);
    }
}

/// The standard parts, made on first need.
pub(super) fn materialise(slf: &Bound<'_, Future>) -> PyResult<StandardParts> {
    let (py, future) = (slf.py(), slf.get());
    gc::track(slf.as_any().as_unbound());
    let parts = future.extra(py, |extras| extras.standard.as_ref().map(|it| it.clone_ref(py)));
    if let Some(parts) = parts {
        return Ok(parts);
    }
    // Made before the extras are looked into; of two that race, one is dropped after that.
    let condition = py.import("threading")?.call_method0("Condition")?.unbind();
    let mut fresh = Some(StandardParts { condition, waiters: PyList::empty(py).unbind() });
    let result = future.with_extras(py, |extras| {
        if extras.standard.is_none() {
            extras.standard = fresh.take();
        }
        future.word.set(HAS_CONDITION | OBSERVED);
        extras.standard.as_ref().map(|parts| parts.clone_ref(py))
    });
    drop(fresh);
    if future.word.is_done() {
        mark_retrieved(py, future);
    }
    result.ok_or_else(|| PyRuntimeError::new_err("the future lost its parts"))
}

/// Takes the condition, if there is one. No lock of ours is held while it waits.
fn hold_condition(py: Python<'_>, future: &Future) -> Option<StandardParts> {
    let parts = future.extra(py, |extras| extras.standard.as_ref().map(|it| it.clone_ref(py)))?;
    method(py, &parts.condition, intern!(py, "__enter__"), &[]);
    Some(parts)
}

/// Tells whatever waits on the condition, if there is news, and lets go of it.
fn let_go(py: Python<'_>, held: StandardParts, news: bool) {
    if news {
        method(py, &held.condition, intern!(py, "notify_all"), &[]);
    }
    let none = py.None();
    method(py, &held.condition, intern!(py, "__exit__"), &[&none, &none, &none]);
    guarded_call::release(py, held.condition);
    guarded_call::release(py, held.waiters);
}

/// Tells the observers of a task of its outcome, and then the user, if there is an `event` to tell.
fn tell_outcome(
    py: Python<'_>,
    object: &Py<Future>,
    standard: Option<StandardParts>,
    event: Option<EventKind>,
) {
    let future = object.get();
    let told =
        event.filter(|_| future.word.has(TOLD)).map(|event| (event, clock::monotonic_now(py)));
    if standard.is_some() || future.word.has(OBSERVED) {
        notify_observers(py, object, standard);
    }
    if let Some((event, ended)) = told {
        let error = match future.settled() {
            Some(Outcome::Error(error)) if event != EventKind::Cancelled => {
                Some(error.clone_ref(py))
            }
            _ => None,
        };
        tell_user(py, object, event, None, ended, error);
    }
}

/// Tells the user that a task has its outcome, or waits for a retry after this `attempt`.
#[cold]
pub(in crate::binding) fn tell_user(
    py: Python<'_>,
    object: &Py<Future>,
    event: EventKind,
    attempt: Option<AttemptFacts>,
    ended: f64,
    error: Option<Py<PyAny>>,
) {
    let future = object.get();
    let known = future.extra(py, |extras| {
        let record = extras.record.as_mut()?;
        let context = record.context.as_ref().map(|context| context.clone_ref(py));
        let facts = record.item(0, attempt.unwrap_or_else(|| record.facts.attempt.clone()));
        Some((facts, context, std::mem::take(&mut record.arrives_late)))
    });
    let (Some(engine), Some((facts, context, late))) = (future.engine(), known) else {
        return;
    };
    // One that was settled while it waited for room never arrived.
    if late && !future.word.has(NOT_ADMITTED) {
        let mut arrived = facts.clone();
        arrived.attempt = AttemptFacts::default();
        events::tell(py, engine, EventKind::Arrived, arrived, context.as_ref(), None, None);
    }
    events::tell(py, engine, event, facts, context.as_ref(), Some(ended), error);
    guarded_call::release_some(py, context);
}

/// Serves the observers of a task that is done.
fn notify_observers(py: Python<'_>, object: &Py<Future>, standard: Option<StandardParts>) {
    let future = object.get();
    // Before the callbacks: one may wait for the group.
    leave_group(future);
    let observers = future.extra(py, |extras| {
        let waiters = std::mem::take(&mut extras.result_waiters);
        Some((waiters, std::mem::take(&mut extras.callbacks), extras.unretrieved.take()))
    });
    let (waiters, callbacks, unretrieved) = observers.unwrap_or_default();
    if let Some(unretrieved) = unretrieved {
        UnretrievedError::settle(py, unretrieved);
    }
    if let Some(standard) = standard {
        let how = match (future.word.phase(), future.raised()) {
            (Phase::Cancelled, _) => intern!(py, "add_cancelled"),
            (_, true) => intern!(py, "add_exception"),
            _ => intern!(py, "add_result"),
        };
        let this = object.clone_ref(py).into_any();
        for waiter in standard.waiters.bind(py).iter() {
            method(py, waiter.as_unbound(), how, &[&this]);
        }
        guarded_call::release(py, this);
        let_go(py, standard, true);
    }
    for waiter in waiters {
        wakes::wake_later(waiter);
    }
    let mut callbacks = callbacks.into_iter();
    // Its engine may be the parent's, in a child.
    while !future.engine().is_some_and(|engine| engine.is_left_by_fork())
        && let Some(callback) = callbacks.next()
    {
        call_back(py, object, callback);
    }
    // What is left are the parent's, and nothing of its is touched.
    std::mem::forget(callbacks);
}

/// Calls every callback that waits, for a caller that does it by hand.
pub(in crate::binding) fn call_back_all(py: Python<'_>, object: &Py<Future>) {
    let callbacks = object.get().extra(py, |extras| Some(std::mem::take(&mut extras.callbacks)));
    for callback in callbacks.into_iter().flatten() {
        call_back(py, object, callback);
    }
}

/// Does what one callback asks for.
fn call_back(py: Python<'_>, object: &Py<Future>, callback: Callback) {
    match callback {
        Callback::Function(function) => {
            current::outside_tasks(|| call_function(py, object, function));
        }
        Callback::Native(observer) => observer.task_done(py, object),
    }
}

/// Calls a function with a future that is done. What it raises is logged and dropped.
pub(in crate::binding) fn call_function(py: Python<'_>, object: &Py<Future>, callback: Py<PyAny>) {
    let this = object.clone_ref(py).into_any();
    let answer = guarded_call::call_with(py, &callback, &[&this]);
    forked_child::end_here(py, &answer);
    match answer {
        Ok(nothing) => guarded_call::release(py, nothing),
        Err(error) => {
            match object.get().engine().map(|engine| &engine.host) {
                // As the standard's futures say it, for programs that look for it in their log.
                Some(host) if host.standard => {
                    let future = Future::shown(object.bind(py));
                    let future = future.unwrap_or_else(|_| String::from("a future"));
                    let text = format!("exception calling callback for {future}");
                    log::say(py, &host.logger, Level::Error, &text, None, Some(&error));
                    guarded_call::release(py, error);
                }
                host => {
                    current::callback_failed(py, PyHost::logger_of(host), "a done-callback", error);
                }
            }
        }
    }
    guarded_call::release(py, this);
    guarded_call::release(py, callback);
}

/// Calls a method by a guarded call. The standard parts' methods do not fail; a subclass that does
/// is logged.
fn method(py: Python<'_>, object: &Py<PyAny>, name: &Bound<'_, PyString>, args: &[&Py<PyAny>]) {
    match guarded_call::call_method(py, object, name, args) {
        Ok(nothing) => guarded_call::release(py, nothing),
        Err(error) => current::callback_failed(py, &Logger::Package, "a future's waiter", error),
    }
}
