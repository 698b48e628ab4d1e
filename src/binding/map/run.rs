//! What workers do with the items of a batch: run them, publish that they will not run, make a task
//! of one that failed.

use super::batch::{Batch, ItemCall};
use super::shared::MapShared;
use crate::binding::context::item::CurrentItem;
use crate::binding::context::variables::ContextCopy;
use crate::binding::current::{self, CurrentThread};
use crate::binding::future::{Future, Outcome};
use crate::binding::host::observed::{self, ObservedAttempt};
use crate::binding::host::outcome::storable;
use crate::binding::host::state::{Dropped, PyHost};
use crate::binding::host::task_record::AttemptFacts;
use crate::binding::host::{attach_yield, forked_child, guarded_call};
use crate::binding::joint::function::{self, BatchFunction};
use crate::binding::note;
use crate::binding::options::{Asked, TaskOptions};
use crate::engine::AbandonReason;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::CANCEL_REQUESTED;
use crate::engine::worker::chunk::Chunk;
use crate::engine::worker::session::WorkerSession;
use pyo3::prelude::*;
use std::iter;
use std::ops::Range;

/// Runs a chunk of items of a batch in a session. Tells how many failed.
pub(in crate::binding) fn run(
    py: Python<'_>,
    host: &PyHost,
    session: &WorkerSession<'_, PyHost>,
    task: &Py<Future>,
    chunk: &Chunk,
) -> u64 {
    let future = task.get();
    let Some(batch) = Batch::of(future) else {
        return 0;
    };
    let Some(call) = batch.get().call(py) else {
        return 0;
    };
    attach_yield::before_call(py, &call.function);
    let asked = Asked { function: Some(&call.function), options: future.options() };
    session.name_task(row(py, session, &batch.get().shared, asked));
    let run = ChunkRun { py, host, session, task, batch, call: &call, asked };
    let failed = current::with(|this_thread| {
        this_thread.wake_before(call.function.as_ptr(), session);
        let failed = this_thread.at_session(session, || {
            if batch.get().shared.group.is_some() {
                return Err(run.run_together(this_thread, chunk));
            }
            Ok(run.run(this_thread, chunk))
        });
        match failed {
            Err(failed) => failed,
            Ok(None) => 0,
            Ok(Some(failed)) => {
                this_thread.at_session(session, || run.fail(*failed));
                1
            }
        }
    });
    batch.get().wake_reader();
    call.release(py);
    failed
}

/// Where the figures by name count the items of a map. To ask for the name may run code of the
/// user's and detach, so no other worker waits for it meanwhile: each asks until one has told.
fn row(
    py: Python<'_>,
    session: &WorkerSession<'_, PyHost>,
    shared: &MapShared,
    asked: Asked<'_>,
) -> NameRow {
    if let Some(row) = shared.row.get() {
        return *row;
    }
    let found = session.engine.host.row(py, session.engine.ledger(), asked);
    *shared.row.get_or_init(|| found)
}

/// What a worker needs to run some items one after the other.
struct ChunkRun<'a, 'py> {
    py: Python<'py>,
    host: &'a PyHost,
    session: &'a WorkerSession<'a, PyHost>,
    task: &'a Py<Future>,
    batch: &'a Py<Batch>,
    call: &'a ItemCall,
    asked: Asked<'a>,
}

/// An item that failed, and ends its chunk.
struct Failed {
    index: usize,
    error: Py<PyAny>,
    attempt: AttemptFacts,
}

impl ChunkRun<'_, '_> {
    /// Runs items until the chunk is over, or one fails. Gives the failure.
    fn run(&self, this_thread: &CurrentThread, chunk: &Chunk) -> Option<Box<Failed>> {
        let Self { py, session, task, call, .. } = *self;
        let batch = self.batch.get();
        // Not two loops, one for each: what an item calls would be inlined into neither.
        let tells = self.host.given.tells;
        let is_observed = self.host.observer.is_there();
        let callee = guarded_call::Callee::of(&call.function);
        let current = CurrentItem::new(task, &batch.shared.token, 1);
        let mut copy = ContextCopy::of(call.context.as_ref());
        let failed = this_thread.inside_item(task.as_any(), &call.function, &current, || {
            loop {
                let index = session.start_item(py, task, &batch.cursor, chunk)?;
                if self.host.given.interrupts {
                    current.begin(py, session);
                }
                let attempt = if tells { self.attempt() } else { AttemptFacts::default() };
                let result = copy.refresh(py).and_then(|()| {
                    let item = batch.slots[index].item();
                    let call = || callee.call(py, session.resource(), item, batch.shared.spread);
                    if is_observed { self.observe(call) } else { call() }
                });
                if session.engine.is_left_by_fork() {
                    forked_child::end_here(py, &result);
                }
                let under_way = current.end(py, session);
                let failed = match result {
                    Ok(value) => {
                        session.count_item_outcome(true);
                        batch.put(py, index, Outcome::Value(value));
                        if tells {
                            batch.tell(py, index, attempt, EventKind::Completed, None);
                        }
                        None
                    }
                    Err(error) => Some(Box::new(Failed { index, error, attempt })),
                };
                if let Some(under_way) = under_way {
                    under_way.wait(py);
                }
                if failed.is_some() {
                    return failed;
                }
            }
        });
        copy.leave(py);
        failed
    }

    fn attempt(&self) -> AttemptFacts {
        AttemptFacts::begin(self.py, 1, self.session.worker.name())
    }

    /// Calls the function with an observer around it. An item with a time limit is a task.
    #[cold]
    fn observe(
        &self,
        call: impl FnOnce() -> Result<Py<PyAny>, Py<PyAny>>,
    ) -> Result<Py<PyAny>, Py<PyAny>> {
        let attempt = ObservedAttempt {
            asked: self.asked,
            attempt: 1,
            waited: self.batch.get().cursor.waited(self.session.now()),
            own_context: self.call.context.is_some(),
        };
        observed::around(self.py, self.session, &attempt, || false, call)
    }

    /// Runs items of a batcher by one call. Gives how many failed.
    fn run_together(&self, this_thread: &CurrentThread, chunk: &Chunk) -> u64 {
        let Self { py, session, task, call, asked, .. } = *self;
        let batch = self.batch.get();
        let Ok(function) = call.function.bind(py).cast::<BatchFunction>() else {
            return 0;
        };
        let claim = || session.start_item(py, task, &batch.cursor, chunk);
        let indices: Vec<_> = iter::from_fn(claim).collect();
        if indices.is_empty() {
            return 0;
        }
        let attempt = self.attempt();
        let current = CurrentItem::new(task, &batch.shared.token, 1);
        let function = function.get();
        let (results, under_way) =
            this_thread.inside_item(task.as_any(), function.user(), &current, || {
                if self.host.given.interrupts {
                    current.begin(py, session);
                }
                let items = indices.iter().map(|&index| batch.slots[index].share(py));
                let own_context = call.context.is_some();
                let results = function.call_with_context(py, items, own_context, |call| {
                    let mut call = || call(session.resource());
                    if self.host.observer.is_there() {
                        let waited = batch.cursor.waited(session.now());
                        let attempt = ObservedAttempt { asked, attempt: 1, waited, own_context };
                        observed::around(py, session, &attempt, || false, call)
                    } else {
                        call()
                    }
                });
                (results, current.end(py, session))
            });
        if session.engine.is_left_by_fork() {
            forked_child::end_here(py, &results);
        }
        let failed = match results {
            Ok(results) => {
                let outcomes = indices.iter().zip(results);
                let failed = outcomes.map(|(&index, result)| {
                    u64::from(!self.put_result(index, result, attempt.clone()))
                });
                failed.sum()
            }
            Err(error) => {
                self.fail_together(&indices, error, &attempt);
                indices.len() as u64
            }
        };
        if let Some(under_way) = under_way {
            under_way.wait(py);
        }
        failed
    }

    /// Gives an item its result, or the error in its place: false then.
    fn put_result(&self, index: usize, result: Py<PyAny>, attempt: AttemptFacts) -> bool {
        let py = self.py;
        if function::is_error(py, &result) {
            self.put_error(index, storable(py, result), attempt);
            return false;
        }
        self.session.count_item_outcome(true);
        self.batch.get().put(py, index, Outcome::Value(result));
        if self.host.given.tells {
            self.batch.get().tell(py, index, attempt, EventKind::Completed, None);
        }
        true
    }

    /// Ends an item with an error.
    fn put_error(&self, index: usize, error: Py<PyAny>, attempt: AttemptFacts) {
        let Self { py, host, session, asked, .. } = *self;
        session.count_item_outcome(false);
        host.count_failed(py, session.engine.ledger(), asked, &error);
        let told = host.given.tells.then(|| error.clone_ref(py));
        self.batch.get().put(py, index, Outcome::Error(error));
        self.batch.get().tell(py, index, attempt, EventKind::Failed, told);
    }

    /// Makes tasks of the items of a call that failed: as those of a joint call they are judged, split
    /// or tried again.
    fn fail_together(&self, indices: &[usize], error: Py<PyAny>, attempt: &AttemptFacts) {
        let Self { py, session, .. } = *self;
        let error = storable(py, error);
        let told = self.batch.get().shared.token.cancelled_flag();
        let mut tasks = Vec::with_capacity(indices.len());
        for &index in indices {
            // Without memory for a task the error is delivered as it is.
            match (!told).then(|| self.started_task(index, &error, attempt)) {
                Some(Ok(future)) => tasks.push(future),
                _ => self.put_error(index, error.clone_ref(py), attempt.clone()),
            }
        }
        guarded_call::release(py, error);
        session.items_failed(py, tasks);
    }

    /// Makes a task of an item whose call failed with this error.
    fn started_task(
        &self,
        index: usize,
        error: &Py<PyAny>,
        attempt: &AttemptFacts,
    ) -> PyResult<Py<Future>> {
        let (py, batch) = (self.py, self.batch);
        let task = Batch::make_task(batch.bind(py), index, self.call, attempt.clone())?;
        let future = task.get();
        future.word.claim_fresh();
        future.set_attempts(1);
        future.with_extras(py, |extras| extras.last_error = Some(error.clone_ref(py)));
        if batch.get().shared.is_closed() {
            // The reader, who wants no outcome any more, ends what waits to be tried again. It may have
            // done that before.
            future.word.set(CANCEL_REQUESTED);
        }
        Ok(task)
    }

    /// Decides on an error that an item ended with.
    fn fail(&self, Failed { index, error, attempt }: Failed) {
        let Self { py, host, session, .. } = *self;
        let batch = self.batch.get();
        let error = storable(py, error);
        note::calling(py, &error);
        // Without memory for a task the error is delivered as it is.
        let retries = TaskOptions::retries(self.asked.options, batch.handle.get().retries());
        if host.judges(py, session, &error, batch.shared.token.cancelled_flag(), retries)
            && let Ok(future) = self.started_task(index, &error, &attempt)
        {
            guarded_call::release(py, error);
            session.item_failed(py, future);
            return;
        }
        self.put_error(index, error, attempt);
    }
}

/// Publishes the refusal of items that will not run.
pub(in crate::binding) fn abandon(
    py: Python<'_>,
    host: &PyHost,
    task: &Py<Future>,
    items: Range<usize>,
    why: AbandonReason,
) {
    publish_errors(py, task, items, |batch, index| {
        if why == AbandonReason::Killed {
            host.add_dropped(batch.dropped(py, index));
        }
        host.abandoned(py, why, None)
    });
}

/// Publishes that items were dropped that will not run, and tells which.
pub(in crate::binding) fn drop_items_waiting(
    py: Python<'_>,
    task: &Py<Future>,
    items: Range<usize>,
    error: impl Fn() -> Py<PyAny>,
    dropped: &mut Vec<Dropped>,
) {
    publish_errors(py, task, items, |batch, index| {
        dropped.push(batch.dropped(py, index));
        error()
    });
}

fn publish_errors(
    py: Python<'_>,
    task: &Py<Future>,
    items: Range<usize>,
    mut error: impl FnMut(&Batch, usize) -> Py<PyAny>,
) {
    let Some(batch) = Batch::of(task.get()) else {
        return;
    };
    let batch = batch.get();
    let mut told = Vec::new();
    for index in items {
        let error = error(batch, index);
        told.extend(batch.record.is_some().then(|| (index, error.clone_ref(py))));
        batch.put(py, index, Outcome::Error(error));
    }
    batch.wake_reader();
    // This thread has claimed all of them, and the hook may wait for any.
    for (index, error) in told {
        batch.tell(py, index, AttemptFacts::default(), EventKind::Dropped, Some(error));
    }
}

impl Batch {
    /// What is left of an item that the engine claimed for this thread.
    fn dropped(&self, py: Python<'_>, index: usize) -> Dropped {
        let function = self.call(py).map(|ItemCall { function, context, .. }| {
            guarded_call::release_some(py, context);
            function
        });
        let item = self.slots[index].share(py);
        let args = item.and_then(|item| self.arguments(py, item).ok());
        let options = self.shared.options.clone();
        Dropped { function, args, kwargs: None, options, bare: false }
    }
}
