//! A worker's session: what a task, and whatever it calls, can reach while it runs.

use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::Host;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::metrics::figures::Replacement;
use crate::engine::metrics::recorder::Recorder;
use crate::engine::metrics::sample::Sample;
use crate::engine::queue::lanes::ArrivalMark;
use crate::engine::resource::epochs::{self, FailureEpoch};
use crate::engine::resource::owned_resource::OwnedResource;
use crate::engine::resource::usage::ResourceUsage;
use crate::engine::roster::shared::WorkerShared;
use crate::engine::task::IN_LINE;
use crate::engine::task::key::KeyNumber;
use crate::engine::task::priority::Priority;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use std::cell::Cell;

/// What becomes of a worker when it stops serving with one resource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Next {
    /// The resource is bad, or worn: make another.
    MakeAnother,
    Leave,
}

/// A worker and its resource at work: what a task, and whatever it calls, can reach.
pub struct WorkerSession<'w, H: Host> {
    /// The engine it works for.
    pub engine: &'w Arc<Engine<H>>,
    /// The worker.
    pub worker: &'w Arc<WorkerShared<H::Task>>,
    pub(in crate::engine) owned_resource: &'w OwnedResource<H::Resource>,
    pub(in crate::engine) recorder: &'w Recorder,
    /// When the last attempt or wait ended, to save a clock read; zero before the first.
    pub(in crate::engine) last: Cell<Tick>,
    /// How long the last attempt took; zero after a wait.
    pub(in crate::engine) span: Cell<Tick>,
    /// How long the attempt that was begun last had waited; zero for one inside another.
    pub(in crate::engine) waited: Cell<Tick>,
    /// It was started on demand, and is counted as busy.
    pub(in crate::engine) counted_busy: Cell<bool>,
    /// The failure of the retry that it queued, if it did: its resource is bad then.
    pub(in crate::engine) retry_epoch: Cell<FailureEpoch>,
    /// What the host is to tell of that retry, or of one that a call with a loan has to look
    /// after.
    pub(in crate::engine) retry: Cell<Option<H::Retry>>,
    /// When the pause is over of the task that this thread has to sit out; 0 once it is about to.
    pub(in crate::engine) resumes: Cell<Tick>,
    /// A task waits for which no worker was woken, as this one is going to look.
    pub(in crate::engine) has_next: Cell<bool>,
    /// The resource is worn, and serves one task all the same; see `Worker::plan_renewal`.
    pub(in crate::engine) serves_worn: Cell<bool>,
    /// The name of the task that runs, as the figures know it: the innermost one, where one runs
    /// inside another.
    row: Cell<NameRow>,
}

impl<'w, H: Host> WorkerSession<'w, H> {
    pub(in crate::engine) fn new(
        engine: &'w Arc<Engine<H>>,
        worker: &'w Arc<WorkerShared<H::Task>>,
        owned_resource: &'w OwnedResource<H::Resource>,
        recorder: &'w Recorder,
    ) -> Self {
        Self {
            engine,
            worker,
            owned_resource,
            recorder,
            last: Cell::new(0),
            span: Cell::new(0),
            waited: Cell::new(0),
            counted_busy: Cell::new(false),
            retry_epoch: Cell::new(epochs::NO_FAILURE),
            retry: Cell::new(None),
            resumes: Cell::new(0),
            has_next: Cell::new(false),
            serves_worn: Cell::new(false),
            row: Cell::new(NameRow::NONE),
        }
    }

    /// This worker is the home of the task's key from now on, if it has one. `first`: it never began
    /// before.
    #[inline]
    pub(super) fn take_key(&self, task: &H::Task, first: bool) {
        let key = self.engine.host.key(task);
        if key.is_some() {
            self.become_home(key, first);
            if let Some(line) = key.line() {
                self.engine.main.serial_lines.begin(line, self.engine.host.word(task));
            }
        }
    }

    /// A task has ended that this worker has run: the next one of its key may start. It is this
    /// worker's to take or to leave to others, if the one before `came_through_queue`.
    #[inline]
    pub(super) fn leave_line(&self, scope: H::Scope<'_>, task: &H::Task, came_through_queue: bool) {
        let (engine, word) = (self.engine, self.engine.host.word(task));
        if word.has(IN_LINE) && !engine.is_left_by_fork() {
            let key = engine.host.key(task);
            let departure = engine.leave_line(scope, key, word, came_through_queue);
            if came_through_queue && departure.is_some_and(|departure| departure.has_next) {
                self.has_next.set(true);
            }
        }
    }

    /// Before this worker does something else than to look for a task.
    #[inline]
    pub(in crate::engine) fn leave_next_to_others(&self) {
        if self.has_next.take() {
            self.engine.main.idle_workers.wake_one();
        }
    }

    #[cold]
    fn become_home(&self, key: KeyNumber, first: bool) {
        let was_here = self.engine.main.key_homes.begin(key, self.worker.home());
        if first {
            let found = if was_here { WorkerCounter::KeyHits } else { WorkerCounter::KeyMisses };
            self.recorder.count(found);
        }
    }

    /// Says by which name the figures know the task that begins to run.
    pub fn name_task(&self, row: NameRow) {
        self.row.set(row);
    }

    /// Begins a task, which may run inside another: the host names it. Gives the name of the other,
    /// for [`end_naming`](Self::end_naming).
    pub(super) fn begin_naming(&self) -> NameRow {
        self.row.replace(NameRow::NONE)
    }

    /// The task is tried again.
    pub(super) fn count_retried(&self) {
        self.engine.ledger.name_retried(self.row.get());
    }

    /// The task is over.
    pub(super) fn end_naming(&self, outer: NameRow) {
        self.row.set(outer);
    }

    /// Records so many attempts of the task that runs, or of its items, which waited and ran about
    /// as long as each other.
    pub(super) fn record(
        &self,
        (wait, execution): (u64, u64),
        (times, completed): (u64, u64),
        priority: Priority,
    ) {
        let row = self.row.get();
        let attempts = Sample::Attempts { wait, execution, times, completed, row, priority };
        self.recorder.record(&attempts);
    }

    /// When the attempt before this one ended, and how long it took; `None` after a wait.
    pub fn last_run(&self) -> Option<(Tick, Tick)> {
        (self.span.get() != 0).then(|| (self.last.get(), self.span.get()))
    }

    /// How long the attempt that was begun last had waited for its start.
    pub fn waited(&self) -> Tick {
        self.waited.get()
    }

    /// Whether the resource is on loan, and this the thread of the caller of `run_task`.
    pub fn is_on_loan(&self) -> bool {
        !self.engine.settings.thread_bound && !self.worker.kind().is_main()
    }

    /// What the worker owns.
    pub fn resource(&self) -> &'w H::Resource {
        self.owned_resource.resource()
    }

    /// The record of the resource.
    pub fn usage(&self) -> &'w ResourceUsage {
        self.owned_resource.usage()
    }

    /// The time.
    pub fn now(&self) -> Tick {
        self.engine.clock.now()
    }

    /// When this worker began what it does now: at the end of what it did before.
    pub(in crate::engine) fn last_or_now(&self) -> Tick {
        match self.last.get() {
            0 => self.now(),
            last => last,
        }
    }

    /// Whether the resource is to be replaced.
    pub fn is_bad(&self) -> bool {
        self.owned_resource.is_bad()
    }

    /// Says that the resource is to be replaced, as a task on it went wrong.
    pub fn mark_bad(&self) {
        self.owned_resource.mark_bad(Replacement::Unhealthy);
    }

    /// Whether the resource has served long enough. The clock is read only where an age is limited.
    pub(in crate::engine) fn is_worn(&self) -> bool {
        self.usage().is_worn(|| self.now(), self.engine.generations.current())
    }

    /// Has the host look at the resource. False: it is bad.
    pub(in crate::engine) fn is_valid(&self, scope: H::Scope<'_>) -> bool {
        let Engine { host, failure_epochs, clock, .. } = &**self.engine;
        self.owned_resource.validate(host, scope, self.worker.name(), failure_epochs, clock)
    }

    /// Whether something is due after every single item of a batch.
    pub(in crate::engine) fn tracks_each_task(&self) -> bool {
        self.usage().counts_tasks() || self.serves_worn.get()
    }

    /// Whether a worker that runs items of a batch of this priority has something else to do first.
    pub(in crate::engine) fn is_wanted_elsewhere(
        &self,
        priority: Priority,
        seen: &ArrivalMark,
    ) -> bool {
        let engine = self.engine;
        let worn = || self.usage().is_worn(|| self.last.get(), engine.generations.current());
        self.is_bad()
            || self.usage().is_suspect()
            || self.has_more_urgent(priority, seen)
            || engine.is_dismissed(self.worker)
            || worn() && !engine.is_closing()
    }

    /// Whether something more urgent than this priority waits that this worker may take.
    pub(in crate::engine) fn has_more_urgent(
        &self,
        priority: Priority,
        seen: &ArrivalMark,
    ) -> bool {
        let eligibility = || self.engine.eligibility(self.usage().known_good_since());
        self.engine.main.lanes.has_above_for(priority, seen, eligibility)
    }

    /// Counts an outcome. Called right before it is published, so that a thread that reads the
    /// outcome finds it counted.
    pub fn count_outcome(&self, completed: bool) {
        let now = self.engine.clock.now();
        self.last.set(now);
        self.engine.advance_window(now);
        self.count_item_outcome(completed);
        // Not at the end of the attempt: a thread that has the outcome may call `run_task` at once,
        // and finds this worker free. An inner task's outcome frees no worker. Nor is a base worker
        // free while callbacks run.
        if self.counted_busy.get() && !self.worker.kind().is_main() && !self.worker.runs_within() {
            self.uncount_busy();
        }
    }

    /// Counts an outcome, of a task too, right before it is published.
    pub fn count_item_outcome(&self, completed: bool) {
        self.recorder.count(if completed {
            WorkerCounter::Completed
        } else {
            WorkerCounter::Failed
        });
        self.recorder.count(WorkerCounter::Ended);
    }

    pub(super) fn uncount_busy(&self) {
        if self.counted_busy.replace(false) {
            self.engine.busy_on_demand.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
