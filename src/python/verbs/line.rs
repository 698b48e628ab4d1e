//! Tasks that wait for room in a full queue by themselves: in a thread with an event loop nothing may block.
//!
//! Such a task stands in the same line as blocked submitters. Whoever brings the permit lets it in on the spot, with
//! no way round by its loop. Until then it is not accepted: who settles it there books a refusal at most.

use super::core::{Core, CoreRef};
use crate::engine::queue::Late;
use crate::engine::queue::permits::{Permits, Verdict};
use crate::python::error::{self, QueueFull, RunnerBroken, RunnerStopped};
use crate::python::future::settle;
use crate::python::future::{Future, Outcome};
use crate::python::host::door;
use crate::python::host::{Task, discard};
use pyo3::prelude::*;

/// Has a task queued as soon as there is room. Its word says that it is outside.
pub(in crate::python) fn line_up(
    core: &CoreRef<'_>,
    permits: &Permits,
    object: &Py<Future>,
    py: Python<'_>,
) {
    let (owner, task) = (core.0.clone_ref(py), Task::new(object.clone_ref(py)));
    let answer = move |verdict| {
        Python::attach(|py| {
            let comes_in = if verdict == Verdict::Granted {
                let_in(py, owner.get(), task)
            } else {
                refuse(py, owner.get(), task);
                false
            };
            door::release(py, owner.into_any());
            comes_in
        })
    };
    match permits.take_or_answer(object.get().word.class(), answer) {
        Ok(()) => {
            if !let_in(py, core, Task::new(object.clone_ref(py))) {
                permits.give_back();
            }
        }
        Err(place) => object.get().slot.lock().get_or_insert_default().place = Some(place),
    }
}

/// Queues a task that has a permit now; false when it is gone, or the runner is closing.
fn let_in(py: Python<'_>, core: &Core, task: Task) -> bool {
    match core.engine.admit(task.future().get().word.class(), task) {
        Ok(()) => true,
        Err(Late::Settled(task)) => {
            discard(py, task);
            false
        }
        Err(Late::Closed(task)) => {
            refuse(py, core, task);
            false
        }
    }
}

/// Tells a task in line that the runner accepts nothing any more.
fn refuse(py: Python<'_>, core: &Core, task: Task) {
    let error = if core.engine.is_broken() {
        error::make::<RunnerBroken>(py, error::BROKEN, None)
    } else {
        error::make::<RunnerStopped>(py, error::STOPPED, None)
    };
    turn_away(py, core, task.future(), error);
    discard(py, task);
}

/// Ends a task whose time limit passed while it stood in line; false when it does not stand there.
pub(in crate::python) fn expire(py: Python<'_>, core: &Core, object: &Py<Future>) -> bool {
    let text = core.full(", and the task's time limit passed while it waited");
    let error = error::make::<QueueFull>(py, &text, None);
    turn_away(py, core, object, error)
}

/// Settles a task in line with an error; false when it was let in, or settled, before.
fn turn_away(py: Python<'_>, core: &Core, object: &Py<Future>, error: Py<PyAny>) -> bool {
    let future = object.get();
    if !future.word.turn_away() {
        door::release(py, error);
        return false;
    }
    if !core.engine.is_broken() {
        core.engine.refused();
    }
    leave(core, future);
    settle::stop_watching(py, future);
    // SAFETY: this thread moved the word out of waiting.
    unsafe { future.drop_payload(py) };
    settle::publish(py, object, Outcome::Error(error));
    true
}

/// Gives up the place of a task that is settled.
pub(in crate::python) fn leave(core: &Core, future: &Future) {
    let place = future.slot.lock().as_deref_mut().and_then(|slot| slot.place.take());
    if let (Some(place), Some(permits)) = (place, core.engine.permits()) {
        permits.leave(&place);
    }
}
