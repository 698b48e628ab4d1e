//! Tasks that wait for room in a full queue by themselves: in a thread with an event loop nothing
//! may block.
//!
//! Such a task is a *waiter* for a permit, in the same line as blocked submitters. The thread that
//! gives the permit back queues the task on the spot, without a detour by its loop. Until then it
//! is not accepted: what settles it there counts as a refusal at most.

use super::settle;
use super::{Future, Outcome};
use crate::binding::context::clock;
use crate::binding::engine_handle::{EngineHandle, EngineHandleRef};
use crate::binding::error::{self, QueueFull, RunnerBroken, RunnerStopped};
use crate::binding::host::events;
use crate::binding::host::guarded_call;
use crate::binding::options::Asked;
use crate::engine::SubmitError;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::Rejected;
use crate::engine::queue::permits::Permit;
use pyo3::prelude::*;

/// Has a task queued as soon as there is room. Its word says that it is outside the queue.
pub(in crate::binding) fn line_up(
    handle: &EngineHandleRef<'_>,
    object: &Py<Future>,
    py: Python<'_>,
) {
    let Some(permits) = handle.engine.permits() else {
        return;
    };
    let (owner, task) = (handle.0.clone_ref(py), object.clone_ref(py));
    let (asked, now) =
        (Asked { function: None, options: object.get().options() }, handle.engine.clock.now());
    let priority = asked.room_priority();
    let lined_up = permits.take_or_call_back(priority, now, move |permit| {
        Python::attach(|py| {
            let unused = if let Some(permit) = permit {
                let_in(py, owner.get(), task, permit)
            } else {
                refuse(py, owner.get(), task);
                None
            };
            guarded_call::release(py, owner);
            unused
        })
    });
    match lined_up {
        Ok(permit) => drop(let_in(py, handle, object.clone_ref(py), permit)),
        Err(place) => object.get().with_extras(py, |extras| extras.permit_waiter = Some(place)),
    }
    handle.engine.host.tell_refusals(py);
}

/// Queues a task that has a permit now. Gives that back when the task is gone, or the runner is
/// closing.
fn let_in<'p>(
    py: Python<'_>,
    handle: &EngineHandle,
    task: Py<Future>,
    permit: Permit<'p>,
) -> Option<Permit<'p>> {
    let (engine, object) = (&handle.engine, task.clone_ref(py));
    let now = clock::monotonic_now(py);
    // Before a worker can have it.
    object.get().extra(py, |extras| {
        extras.record.as_mut()?.facts.submitted = now;
        Some(())
    });
    let hold = object.get().extra(py, |extras| extras.line_hold.take());
    let submitted = engine.submit(py, &object.get().word, task, engine.clock.now(), permit);
    drop(hold);
    guarded_call::release(py, object);
    match submitted {
        Ok(()) => None,
        Err(SubmitError::Rejected(Rejected { task, permit, is_settled })) => {
            if is_settled {
                guarded_call::release(py, task);
            } else {
                refuse(py, handle, task);
            }
            Some(permit)
        }
        Err(SubmitError::NoThread(fault)) => {
            unreachable!("a queue with a bound has its workers from the start: {fault}")
        }
    }
}

/// Settles a waiting task as refused: the runner accepts nothing any more.
fn refuse(py: Python<'_>, handle: &EngineHandle, task: Py<Future>) {
    let error = if handle.engine.is_broken() {
        error::make::<RunnerBroken>(py, error::BROKEN, None)
    } else {
        error::make::<RunnerStopped>(py, error::STOPPED, None)
    };
    fail_unadmitted(py, handle, &task, error, false);
    guarded_call::release(py, task);
}

/// Ends a task whose time limit passed while it waited for room; false when it does not wait for
/// that.
pub(in crate::binding) fn expire(
    py: Python<'_>,
    handle: &EngineHandle,
    object: &Py<Future>,
) -> bool {
    let text = handle.full(", and the task's time limit passed while it waited");
    let error = error::make::<QueueFull>(py, &text, None);
    let refused = fail_unadmitted(py, handle, object, error, true);
    handle.engine.host.tell_refusals(py);
    refused
}

/// Settles a task that waits for room with an error; false when it was let in, or settled, before.
/// `full`: there was no room in time. The user is told of it by `tell_refusals` alone: this thread
/// may be in the middle of closing, or hold the claim of another task.
fn fail_unadmitted(
    py: Python<'_>,
    handle: &EngineHandle,
    object: &Py<Future>,
    error: Py<PyAny>,
    full: bool,
) -> bool {
    let future = object.get();
    if !future.word.take_unadmitted() {
        guarded_call::release(py, error);
        return false;
    }
    let counts = handle.count_refused(full);
    // Taken out: nothing else is told of this task.
    let record = future.extra(py, |extras| extras.record.take()).filter(|_| counts);
    let told = record.map(|record| (record, error.clone_ref(py)));
    settle::leave_waiting_submits(py, future);
    settle::stop_watching(py, future);
    // SAFETY: this thread moved the word out of waiting.
    unsafe { future.drop_payload(py) };
    settle::publish(py, object, Outcome::Error(error), EventKind::Refused);
    if let Some((record, error)) = told {
        events::tell_refusal_later(py, &handle.engine, *record, error);
    }
    true
}
