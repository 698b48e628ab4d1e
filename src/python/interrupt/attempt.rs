//! What may interrupt one attempt, from its begin to the moment at which its worker may go on.

use super::{Call, Owner, SLOW, Target};
use crate::engine::worker::desk::Desk;
use crate::python::context::TaskContext;
use crate::python::future::Future;
use crate::python::host::{PyHost, door, seat};
use crate::python::wait::Limit;
use crate::sync::Arc;
use pyo3::prelude::*;

/// Begins an attempt that the config's `on_cancel` interrupts. One that runs on the same resource, around this one, is
/// not interrupted until this has ended: it would be this one that is hit.
pub(in crate::python) fn begin(py: Python<'_>, desk: &Desk<'_, PyHost>, owner: Owner) -> Arc<Call> {
    if let Some(outer) = seat::with(|seat| seat.outer_call(desk)) {
        outer.cover(py);
    }
    let crew = Arc::clone(&desk.engine().host.crew);
    let call = Call::new(crew, Target::Hook(desk.resource().clone_ref(py), owner));
    seat::with(|seat| seat.set_call(Some(&call)));
    call
}

/// [`begin`] for a task.
#[cold]
pub(in crate::python) fn begin_task(py: Python<'_>, desk: &Desk<'_, PyHost>, task: &Py<Future>) {
    let call = begin(py, desk, Owner::Task(task.clone_ref(py)));
    let future = task.get();
    let told = {
        let mut slot = future.slot.lock();
        slot.get_or_insert_default().call = Some(Arc::clone(&call));
        future.word.set(crate::engine::task::ASKED);
        future.word.has(crate::engine::task::TOLD)
    };
    // After it was put where cancellers find it: one that told the task before could not.
    if told || desk.engine().is_killed() {
        call.want();
    }
}

/// Ends an attempt whose function has ended: nothing that interrupts it begins from here on. Gives what is still under way
/// after a second: the outcome does not wait for that, the worker does.
pub(in crate::python) fn end(
    py: Python<'_>,
    desk: &Desk<'_, PyHost>,
    call: Option<Arc<Call>>,
    context: Option<Py<TaskContext>>,
) -> UnderWay {
    let ward = context.as_ref().and_then(|context| context.bind(py).as_super().get().ward());
    let (mut made, mut called) = ward.map_or_else(Default::default, |ward| ward.end(py));
    door::release_some(py, context);
    let mut outer = None;
    if let Some(call) = call {
        outer = seat::with(|seat| {
            seat.set_call(None);
            seat.outer_call(desk)
        });
        if call.close() {
            called = true;
            made.push(call);
        } else {
            call.release(py);
        }
    }
    if called {
        desk.doubt();
    }
    let mut under_way = UnderWay { calls: made, outer };
    under_way.wait_awhile(py, desk);
    under_way
}

/// Calls that were under way when their attempt ended.
pub(in crate::python) struct UnderWay {
    calls: Vec<Arc<Call>>,
    /// The call of the attempt around it, on the same resource.
    outer: Option<Arc<Call>>,
}

impl UnderWay {
    fn wait_awhile(&mut self, py: Python<'_>, desk: &Desk<'_, PyHost>) {
        if desk.is_on_loan() {
            // No other thread than the caller wants the outcome, and a signal may end its wait.
            let waited = self.calls.iter().try_for_each(|call| call.wait_here(py));
            if let Err(interrupt) = waited {
                // The resource goes home, and its worker waits in the caller's place.
                desk.spoil();
                let host = &desk.engine().host;
                host.leave_under_way(desk.badge().name(), &self.calls);
                self.calls.clear();
                let interrupt = interrupt.into_value(py).into_any();
                host.hook_failed(py, desk.badge(), "a signal handler", interrupt);
            }
        } else if self.calls.iter().any(|call| call.is_under_way()) {
            py.detach(|| {
                seat::wake_now();
                let limit = Limit::after(Some(SLOW.as_secs_f64()));
                for call in &self.calls {
                    call.interrupt.wait(limit.left().unwrap_or_default());
                }
            });
        }
    }

    /// Waits for them, so that the worker may go on.
    pub(in crate::python) fn wait(self, py: Python<'_>) {
        for call in self.calls {
            call.wait(py);
            call.release(py);
        }
        if let Some(outer) = self.outer {
            outer.uncover();
        }
    }
}

/// Waits for calls that an interrupted caller left to its resource's worker.
pub(in crate::python) fn wait_for_left(py: Python<'_>, calls: Vec<Arc<Call>>) {
    UnderWay { calls, outer: None }.wait(py);
}
