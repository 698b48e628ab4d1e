//! What may interrupt one attempt, from its begin to the moment at which its worker may go on.

use super::call::{CallTarget, CancelCall, SLOW_CALL};
use crate::binding::context::TaskContext;
use crate::binding::current;
use crate::binding::future::Future;
use crate::binding::host::guarded_call;
use crate::binding::host::state::PyHost;
use crate::binding::wait::Limit;
use crate::binding::wakes;
use crate::engine::worker::session::WorkerSession;
use crate::sync::Arc;
use pyo3::prelude::*;

/// Begins an attempt that the config's `on_cancel` interrupts. One that runs on the same resource,
/// around this one, is not interrupted until this has ended: it would be this one that is hit.
pub(in crate::binding) fn begin(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    owner: &Py<Future>,
) -> Arc<CancelCall> {
    if let Some(outer) = current::with(|this_thread| this_thread.outer_call(session)) {
        outer.cover(py);
    }
    let name = |py: Python<'_>, owner: &Py<PyAny>| {
        let owner = owner.bind(py).cast::<Future>();
        owner.map_or_else(|_| String::from("task"), |owner| owner.get().name(py))
    };
    let (resource, owner) = (session.resource().clone_ref(py), owner.clone_ref(py).into_any());
    let helpers = Arc::clone(&session.engine.host.helpers);
    let call = CancelCall::new(helpers, CallTarget::Hook(resource, owner, name));
    current::with(|this_thread| this_thread.set_call(Some(&call)));
    call
}

/// [`begin`] for a task.
#[cold]
pub(in crate::binding) fn begin_task(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    task: &Py<Future>,
) {
    let call = begin(py, session, task);
    let future = task.get();
    let told = future.with_extras(py, |extras| {
        extras.call = Some(Arc::clone(&call));
        future.word.set(crate::engine::task::HAS_CLEANUP);
        future.word.has(crate::engine::task::CANCEL_REQUESTED)
    });
    // After the call was put where cancellers find it: a canceller that told the task before could
    // not.
    if told || session.engine.is_killed() {
        call.want();
    }
}

/// Ends an attempt whose function has ended: nothing that interrupts it begins from here on. Gives
/// what is still under way after a second: the outcome does not wait for that, the worker does.
pub(in crate::binding) fn end(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    call: Option<Arc<CancelCall>>,
    context: Option<Py<TaskContext>>,
) -> UnderWay {
    let callbacks =
        context.as_ref().and_then(|context| context.bind(py).as_super().get().callbacks());
    let (mut made, mut called) =
        callbacks.map_or_else(Default::default, |callbacks| callbacks.end(py));
    guarded_call::release_some(py, context);
    let mut outer = None;
    if let Some(call) = call {
        outer = current::with(|this_thread| {
            this_thread.set_call(None);
            this_thread.outer_call(session)
        });
        if call.close() {
            called = true;
            made.push(call);
        } else {
            call.release(py);
        }
    }
    if called {
        session.usage().mark_suspect();
    }
    let mut under_way = UnderWay { calls: made, outer };
    under_way.wait_awhile(py, session);
    under_way
}

/// Calls that were under way when their attempt ended.
pub(in crate::binding) struct UnderWay {
    calls: Vec<Arc<CancelCall>>,
    /// The call of the attempt around it, on the same resource.
    outer: Option<Arc<CancelCall>>,
}

impl UnderWay {
    fn wait_awhile(&mut self, py: Python<'_>, session: &WorkerSession<'_, PyHost>) {
        if session.is_on_loan() {
            // No other thread than the caller wants the outcome, and a signal may end its wait.
            let waited = self.calls.iter().try_for_each(|call| call.wait_here(py));
            if let Err(interrupt) = waited {
                // The resource goes back to its worker, which waits instead of the caller.
                session.mark_bad();
                let host = &session.engine.host;
                host.leave_under_way(session.worker.name(), &self.calls);
                self.calls.clear();
                let interrupt = interrupt.into_value(py).into_any();
                let worker = session.worker.name();
                current::hook_failed(py, host, worker, "a signal handler", interrupt);
            }
        } else if self.calls.iter().any(|call| call.is_under_way()) {
            py.detach(|| {
                wakes::wake_now();
                let limit = Limit::after(Some(SLOW_CALL.as_secs_f64()));
                for call in &self.calls {
                    call.interrupt.wait(limit.left().unwrap_or_default());
                }
            });
        }
    }

    /// Waits for them, so that the worker may go on.
    pub(in crate::binding) fn wait(self, py: Python<'_>) {
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
pub(in crate::binding) fn wait_for_left(py: Python<'_>, calls: Vec<Arc<CancelCall>>) {
    UnderWay { calls, outer: None }.wait(py);
}
