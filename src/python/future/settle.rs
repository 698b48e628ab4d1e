//! How a task gets its outcome, and how those who wait for it learn of it.
//!
//! While nobody looks, publishing is one compare-and-swap. An observer (a waiting thread, a callback) puts
//! itself into the slot under its lock and sets a flag; the publisher that meets the flag takes the
//! observers out under that lock and serves them without it.
//!
//! The standard library's `wait` and `as_completed` lock a future's condition and read its state under it.
//! For them the condition is made on first need; from then on the state changes only while the publisher
//! holds it. Changing the state outside it loses waits.

use super::outbox::Courier;
use super::unseen::Unseen;
use super::{Future, Outcome};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::queue::permits::Ticket;
use crate::engine::task::deadlines::Key;
use crate::engine::task::token::Token;
use crate::engine::task::{OBSERVED, OUTSIDE, Phase, STANDARD, TOLD, Taken};
use crate::python::context::TaskContext;
use crate::python::host::PyHost;
use crate::python::host::child;
use crate::python::host::door;
use crate::python::host::seat;
use crate::python::interrupt::Call;
use crate::python::log::{self, Level};
use crate::python::map::batch::Berth;
use crate::python::verbs::core::Core;
use crate::python::verbs::line;
use crate::sync::Arc;
use crate::sync::thread::Thread;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};

/// What only some futures need. Locked while attached, for a few instructions, with no call into the
/// interpreter inside.
#[derive(Default)]
pub(in crate::python) struct Slot {
    pub(in crate::python) waiters: Vec<Thread>,
    pub(in crate::python) callbacks: Vec<Callback>,
    /// The standard parts: a `threading.Condition` and the list of the standard library's waiters.
    standard: Option<(Py<PyAny>, Py<PyList>)>,
    /// What `current_context()` gave the task, and the token in it.
    pub(in crate::python) context: Option<(Token, Py<TaskContext>)>,
    /// What interrupts the attempt, where the config's `on_cancel` does.
    pub(in crate::python) call: Option<Arc<Call>>,
    /// Why the task was told to give up.
    pub(in crate::python) reason: Option<Arc<str>>,
    /// When its time is up, and the watch on it.
    pub(in crate::python) due: Option<Tick>,
    pub(in crate::python) watch: Option<Key>,
    /// Where it stands while it waits for room.
    pub(in crate::python) place: Option<Arc<Ticket>>,
    /// The error of the last attempt, while it is judged or a retry waits.
    pub(in crate::python) last_error: Option<Py<PyAny>>,
    /// Where the outcome goes when the task is an item of a `map`.
    pub(in crate::python) berth: Option<Berth>,
    /// The task's own exception, until a reader asks for it.
    pub(super) unseen: Option<Py<Unseen>>,
}

/// What is to be done with a task that is done, in the order in which it was asked for.
pub(in crate::python) enum Callback {
    /// Call this.
    Function(Py<PyAny>),
    /// Bring the outcome to an event loop.
    Courier(Courier),
}

impl Slot {
    pub(in crate::python) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for callback in &self.callbacks {
            match callback {
                Callback::Function(function) => visit.call(function)?,
                Callback::Courier(courier) => courier.traverse(visit)?,
            }
        }
        if let Some((condition, waiters)) = &self.standard {
            visit.call(condition)?;
            visit.call(waiters)?;
        }
        if let Some((_, context)) = &self.context {
            visit.call(context)?;
        }
        if let Some(berth) = &self.berth {
            berth.traverse(visit)?;
        }
        visit.call(&self.unseen)?;
        visit.call(&self.last_error)
    }
}

/// Puts an observer into the slot, unless the task is done already: false then.
pub(in crate::python) fn observe(future: &Future, put: impl FnOnce(&mut Slot)) -> bool {
    let mut slot = future.slot.lock();
    let done = matches!(future.word.set(OBSERVED), Phase::Finished | Phase::Cancelled);
    if !done {
        put(slot.get_or_insert_default());
    }
    !done
}

/// Gives a task its own exception for an outcome. The caller moved its word to settling, and still has the payload.
pub(in crate::python) fn publish_failure(py: Python<'_>, object: &Py<Future>, error: Py<PyAny>) {
    Unseen::expect(py, object.get(), &error);
    publish(py, object, Outcome::Error(error));
}

/// A reader asks for the outcome: if it is an exception, that needs no record.
pub(in crate::python) fn look(py: Python<'_>, future: &Future) {
    let unseen = future.slot.lock().as_deref_mut().and_then(|slot| slot.unseen.take());
    if let Some(unseen) = unseen {
        Unseen::settle(py, unseen);
    }
}

/// Gives a task its outcome. The caller moved its word to settling.
pub(in crate::python) fn publish(py: Python<'_>, object: &Py<Future>, outcome: Outcome) {
    let future = object.get();
    if let Outcome::Value(value) | Outcome::Error(value) = &outcome
        && is_collectable(value)
    {
        super::track(object.as_any());
    }
    // SAFETY: the word is settling, and the caller moved it there.
    unsafe { future.set_outcome(outcome) };
    let plain = |flags: u32| flags & STANDARD == 0;
    if let Some(flags) = future.word.publish(plain) {
        if flags & OBSERVED != 0 {
            serve(py, object, None);
        }
        return;
    }
    let standard = Standard::acquire(py, future);
    future.word.publish(|_| true);
    serve(py, object, standard);
}

/// Cancels a task that was never started.
pub(in crate::python) fn cancel(slf: &Bound<'_, Future>) -> bool {
    let (py, object) = (slf.py(), slf.as_unbound());
    let future = slf.get();
    let mut standard = None;
    let flags = loop {
        let holding = standard.is_some();
        if let Some(flags) = future.word.cancel(|flags| holding || flags & STANDARD == 0) {
            break flags;
        }
        if holding || future.word.phase() != Phase::Waiting {
            if let Some(held) = standard.take() {
                Standard::let_go(py, held, false);
            }
            return future.word.phase() == Phase::Cancelled;
        }
        standard = Standard::acquire(py, future);
    };
    if let Some((core, engine)) = future.origin.as_ref().zip(living_engine(future)) {
        if flags & OUTSIDE == 0 {
            engine.cancelled(py, &future.word);
        } else {
            line::leave(core.core.get(), future);
        }
        stop_watching(py, future);
    }
    // SAFETY: this thread moved the word out of waiting.
    unsafe { future.drop_payload(py) };
    if flags & (OBSERVED | STANDARD) != 0 {
        serve(py, object, standard);
    }
    true
}

/// Settles a future for somebody who does it by hand.
pub(in crate::python) fn by_hand(slf: &Bound<'_, Future>, outcome: Outcome) -> PyResult<()> {
    let (py, future) = (slf.py(), slf.get());
    let Some(taken) = future.word.settle_by_hand() else {
        let class = py.import("concurrent.futures")?.getattr("InvalidStateError")?;
        let text = format!("{}: {}", future.state_name(), slf.repr()?);
        return Err(PyErr::from_value(class.call1((text,))?));
    };
    if let Some(engine) = living_engine(future) {
        let completed = matches!(outcome, Outcome::Value(_));
        engine.settled_by_hand(py, &future.word, taken, completed);
    }
    if taken != Taken::Running {
        stop_watching(py, future);
        // SAFETY: this thread moved the word out of a waiting phase.
        unsafe { future.drop_payload(py) };
    }
    publish(py, slf.as_unbound(), outcome);
    Ok(())
}

/// Tells a started task to give up: its context is cancelled, and no retry follows.
pub(in crate::python) fn tell(future: &Future, reason: Option<String>) {
    let reason: Option<Arc<str>> = reason.map(Into::into);
    let (token, call) = {
        let mut slot = future.slot.lock();
        let slot = slot.get_or_insert_default();
        if slot.reason.is_none() {
            slot.reason.clone_from(&reason);
        }
        future.word.set(TOLD);
        (slot.context.as_ref().map(|(token, _)| token.clone()), slot.call.clone())
    };
    if let Some(token) = token {
        token.cancel(reason);
    }
    if let Some(call) = call {
        call.want();
    }
}

/// Ends a task that waits for a retry with the error of its last attempt, if that is where it is.
pub(in crate::python) fn call_off_retry(py: Python<'_>, object: &Py<Future>) {
    let future = object.get();
    if !future.word.call_off() {
        return;
    }
    if let Some(engine) = living_engine(future) {
        engine.called_off(py, &future.word);
    }
    stop_watching(py, future);
    let error = future.slot.lock().as_deref_mut().and_then(|slot| slot.last_error.take());
    let error = error.unwrap_or_else(|| {
        crate::python::error::make::<crate::python::error::TaskCancelled>(
            py,
            "the retry was called off",
            None,
        )
    });
    publish_failure(py, object, error);
    // SAFETY: this thread moved the word out of a waiting phase.
    unsafe { future.drop_payload(py) };
}

/// The engine a task belongs to, if there is one to tell: one that a fork left behind is not touched.
fn living_engine(future: &Future) -> Option<&Arc<Engine<PyHost>>> {
    let engine = &future.origin.as_ref()?.core.get().engine;
    (!engine.is_forsaken()).then_some(engine)
}

/// Ends the membership of a task that is done, if it is one of a group.
fn leave_group(future: &Future) {
    let core = future.origin.as_ref().map(|origin| origin.core.get());
    if let Some(Core { engine, group: Some(group), .. }) = core
        && !engine.is_forsaken()
    {
        group.leave();
    }
}

/// Stops watching the time limit of a task that needs it no more.
pub(in crate::python) fn stop_watching(py: Python<'_>, future: &Future) {
    if !future.word.has(crate::engine::task::TIMED) {
        return;
    }
    let watch = future.slot.lock().as_deref_mut().and_then(|slot| slot.watch.take());
    if let (Some(watch), Some(engine)) = (watch, living_engine(future)) {
        engine.unwatch(py, watch);
    }
}

/// The standard parts, made on first need.
pub(in crate::python) fn materialise(slf: &Bound<'_, Future>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let (py, future) = (slf.py(), slf.get());
    super::track(slf.as_any().as_unbound());
    let parts = |slot: &Option<Box<Slot>>| {
        let (condition, waiters) = slot.as_deref()?.standard.as_ref()?;
        Some((condition.clone_ref(py), waiters.clone_ref(py).into_any()))
    };
    if let Some(parts) = parts(&future.slot.lock()) {
        return Ok(parts);
    }
    // Made before the lock is taken; of two that race, one is dropped after it.
    let condition = py.import("threading")?.call_method0("Condition")?.unbind();
    let mut fresh = Some((condition, PyList::empty(py).unbind()));
    let result = {
        let mut slot = future.slot.lock();
        let room = slot.get_or_insert_default();
        if room.standard.is_none() {
            room.standard = fresh.take();
        }
        future.word.set(STANDARD | OBSERVED);
        parts(&slot)
    };
    drop(fresh);
    if future.word.is_done() {
        look(py, future);
    }
    result.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the future lost its parts"))
}

/// The standard parts while their condition is held.
struct Standard {
    condition: Py<PyAny>,
    waiters: Py<PyList>,
}

impl Standard {
    /// Takes the condition, if the parts exist. No lock of ours is held while it waits.
    fn acquire(py: Python<'_>, future: &Future) -> Option<Self> {
        let (condition, waiters) = {
            let slot = future.slot.lock();
            let (condition, waiters) = slot.as_deref()?.standard.as_ref()?;
            (condition.clone_ref(py), waiters.clone_ref(py))
        };
        method(py, &condition, intern!(py, "__enter__").as_unbound(), &[]);
        Some(Self { condition, waiters })
    }

    /// Tells everybody who waits on it, if there is news, and lets go.
    fn let_go(py: Python<'_>, held: Self, news: bool) {
        if news {
            method(py, &held.condition, intern!(py, "notify_all").as_unbound(), &[]);
        }
        let none = py.None();
        method(py, &held.condition, intern!(py, "__exit__").as_unbound(), &[&none, &none, &none]);
        door::release(py, held.condition);
        door::release(py, held.waiters.into_any());
    }
}

/// Serves the observers of a task that is done.
fn serve(py: Python<'_>, object: &Py<Future>, standard: Option<Standard>) {
    let future = object.get();
    // Before the callbacks: one may wait for the group.
    leave_group(future);
    let (waiters, callbacks, berth, unseen) = {
        let mut slot = future.slot.lock();
        match slot.as_deref_mut() {
            Some(slot) => (
                std::mem::take(&mut slot.waiters),
                std::mem::take(&mut slot.callbacks),
                slot.berth.take(),
                slot.unseen.take(),
            ),
            None => Default::default(),
        }
    };
    if let Some(unseen) = unseen {
        Unseen::settle(py, unseen);
    }
    if let Some(berth) = berth {
        berth.deliver(py, future);
    }
    if let Some(standard) = standard {
        let how = match (future.word.phase(), future.raised()) {
            (Phase::Cancelled, _) => intern!(py, "add_cancelled"),
            (_, true) => intern!(py, "add_exception"),
            _ => intern!(py, "add_result"),
        };
        let this = object.clone_ref(py).into_any();
        for waiter in standard.waiters.bind(py).iter() {
            method(py, waiter.as_unbound(), how.as_unbound(), &[&this]);
        }
        door::release(py, this);
        Standard::let_go(py, standard, true);
    }
    for waiter in waiters {
        seat::wake_later(waiter);
    }
    let mut callbacks = callbacks.into_iter();
    while !is_inherited(future)
        && let Some(callback) = callbacks.next()
    {
        call_back(py, object, callback);
    }
    // What is left are the parent's, and nothing of its is touched.
    std::mem::forget(callbacks);
}

/// Whether its engine is the parent's, in a child.
fn is_inherited(future: &Future) -> bool {
    future.origin.as_ref().is_some_and(|origin| origin.core.get().engine.is_forsaken())
}

/// Calls every callback that waits, for somebody who does it by hand.
pub(in crate::python) fn call_back_all(py: Python<'_>, object: &Py<Future>) {
    let callbacks = {
        let mut slot = object.get().slot.lock();
        slot.as_deref_mut().map(|slot| std::mem::take(&mut slot.callbacks)).unwrap_or_default()
    };
    for callback in callbacks {
        call_back(py, object, callback);
    }
}

/// Does what one callback asks for.
fn call_back(py: Python<'_>, object: &Py<Future>, callback: Callback) {
    match callback {
        Callback::Function(function) => {
            seat::with(|seat| seat.inside_task(None, || call_function(py, object, function)));
        }
        Callback::Courier(courier) => courier.send(py, object),
    }
}

/// Calls a function with a future that is done. What it raises is logged and dropped.
pub(in crate::python) fn call_function(py: Python<'_>, object: &Py<Future>, callback: Py<PyAny>) {
    let this = object.clone_ref(py).into_any();
    let answer = door::call_with(py, &callback, &[&this]);
    child::end_here(py, &answer);
    match answer {
        Ok(nothing) => door::release(py, nothing),
        Err(error) => {
            let origin = object.get().origin.as_ref();
            match origin.map(|origin| &origin.core.get().engine.host) {
                // As the standard's futures say it, for programs that look for it in their log.
                Some(host) if host.is_standard() => {
                    let future = Future::__repr__(object.bind(py));
                    let future = future.unwrap_or_else(|_| String::from("a future"));
                    let text = format!("exception calling callback for {future}");
                    log::say(py, Some(host), Level::Error, &text, None, Some(&error));
                    door::release(py, error);
                }
                host => log::hook_failed(py, host, None, "a done-callback", error),
            }
        }
    }
    door::release(py, this);
    door::release(py, callback);
}

/// Calls a method by the door. The standard parts' methods do not fail; a subclass that does is logged.
fn method(
    py: Python<'_>,
    object: &Py<PyAny>,
    name: &Py<pyo3::types::PyString>,
    args: &[&Py<PyAny>],
) {
    let bound = match object.getattr(py, name.bind(py)) {
        Ok(bound) => bound,
        Err(error) => {
            return log::hook_failed(
                py,
                None,
                None,
                "a future's waiter",
                error.into_value(py).into_any(),
            );
        }
    };
    match door::call_with(py, &bound, args) {
        Ok(nothing) => door::release(py, nothing),
        Err(error) => log::hook_failed(py, None, None, "a future's waiter", error),
    }
    door::release(py, bound);
}

/// Whether an object can be part of a cycle.
fn is_collectable(object: &Py<PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { pyo3::ffi::PyObject_IS_GC(object.as_ptr()) != 0 }
}
