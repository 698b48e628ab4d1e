//! The items of a batch: claimed and run by workers, taken back, and refused.

use super::attempt::Attempts;
use super::chunk::Chunk;
use super::session::WorkerSession;
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::Host;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::lanes::ArrivalMark;
use crate::engine::roster::shared::Running;
use crate::engine::task::Taken;
use crate::engine::task::item_cursor::{CHUNK_TIME, ItemCursor};
use crate::engine::task::priority::Priority;
use std::cell::Cell;
use std::ops::Range;

/// Items that take longer are worth the help of other workers, few as they may be.
const SHARED_ITEM_TIME: Tick = 5_000;
/// So are short items that take this long together.
/// With an interpreter lock another worker would only wait for it.
const SHARED_TOTAL_TIME: Tick = if cfg!(Py_GIL_DISABLED) { 20_000 } else { 1_000_000 };
impl<H: Host> Engine<H> {
    /// Invites one more worker to a batch whose items other workers run, if items are left and no
    /// worker is invited already.
    pub fn invite(&self, scope: H::Scope<'_>, task: &H::Task) {
        let word = self.host.word(task);
        if word.requeue() {
            self.main.rejoin(word.priority(), self.host.share(scope, task), self.clock.now());
        }
    }

    /// Takes back the items that no worker has started, counts them as cancelled, and leaves them
    /// to the caller to drop.
    pub fn cancel_items(&self, scope: H::Scope<'_>, task: &H::Task) -> Range<usize> {
        let items = self.host.cursor(task).map_or(0..0, ItemCursor::claim_rest);
        self.main.count_items_withdrawn(self.host.word(task), items.len());
        self.count(EventKind::Cancelled, items.len());
        self.all_items_claimed(scope, task);
        items
    }

    /// Abandons the items that no worker has started of a batch that must not run any more.
    pub(in crate::engine) fn abandon_unclaimed_items(&self, scope: H::Scope<'_>, task: &H::Task) {
        let items = self.host.cursor(task).map_or(0..0, ItemCursor::claim_rest);
        self.abandon_items(scope, task, items);
        self.all_items_claimed(scope, task);
    }

    /// Takes back what no worker has started of the batches submitted up to then, counts it as
    /// dropped, and leaves it to `settle`.
    pub(in crate::engine) fn withdraw_items(
        &self,
        scope: H::Scope<'_>,
        then: Tick,
        mut settle: impl FnMut(&H::Task, Range<usize>),
    ) {
        for task in self.batches_until(scope, then) {
            let items = self.host.cursor(&task).map_or(0..0, ItemCursor::claim_rest);
            if !items.is_empty() {
                self.main.count_items_withdrawn(self.host.word(&task), items.len());
                self.count(EventKind::Dropped, items.len());
                settle(&task, items);
            }
            self.all_items_claimed(scope, &task);
            self.host.discard(scope, task);
        }
    }

    fn batches_until(&self, scope: H::Scope<'_>, then: Tick) -> Vec<H::Task> {
        let is_meant = |task: &_| self.host.cursor(task).is_some_and(|cursor| cursor.since <= then);
        self.batches.all(is_meant, |task| self.host.share(scope, task))
    }

    fn abandon_items(&self, scope: H::Scope<'_>, task: &H::Task, items: Range<usize>) {
        if items.is_empty() {
            return;
        }
        self.main.count_items_withdrawn(self.host.word(task), items.len());
        self.count(EventKind::Dropped, items.len());
        self.host.abandon_items(scope, task, items, self.abandon_reason());
    }

    /// Abandons the batches that stand in no lane, as workers run their items or are about to.
    pub(in crate::engine) fn abandon_running_batches(&self, scope: H::Scope<'_>) {
        for task in self.batches_until(scope, Tick::MAX) {
            self.abandon_unclaimed_items(scope, &task);
            self.host.discard(scope, task);
        }
    }

    /// No worker can claim an item any more: an entry that is still in a lane is a tombstone from
    /// here on.
    fn all_items_claimed(&self, scope: H::Scope<'_>, task: &H::Task) {
        let word = self.host.word(task);
        let Some(taken) = word.settle_by_hand() else {
            return;
        };
        word.publish(|_| true);
        let known = self.host.cursor(task).and_then(|cursor| self.batches.remove(cursor));
        if let Some(known) = known {
            self.host.discard(scope, known);
        }
        if taken != Taken::Running {
            self.compact_if_due(scope, &self.main);
        }
    }
}

impl<H: Attempts> WorkerSession<'_, H> {
    /// Runs items of a claimed batch until none is left, or this worker is wanted elsewhere.
    pub(in crate::engine) fn serve_batch(&self, scope: H::Scope<'_>, task: H::Task) {
        let (engine, host) = (self.engine, &self.engine.host);
        if let Some(cursor) = host.cursor(&task) {
            let taken_at = self.last_or_now();
            let mut begin = taken_at;
            let outer = self.begin_naming();
            let shown = host.share(scope, &task);
            self.worker.push_running(Running { task: shown, since: begin });
            let priority = host.word(&task).priority();
            let mut seen = engine.main.lanes.arrival_mark();
            // What came since the batch was taken out of its lane.
            let mut wanted = self.has_more_urgent(priority, &seen);
            while cursor.left() > 0 {
                // The thread that kills abandons them all at once. So does this worker, and not one
                // after the other.
                if engine.is_killed() {
                    engine.abandon_unclaimed_items(scope, &task);
                    break;
                }
                if wanted {
                    break;
                }
                self.invite_others(scope, &task, cursor);
                let is_grouped = cursor.group() > 1;
                let most = if self.tracks_each_task() && !is_grouped { 1 } else { cursor.chunk() };
                let latest = engine.failure_epochs.latest();
                let chunk = self.chunk(cursor, priority, most, begin, seen);
                let failed = host.run_items(scope, self, &task, &chunk);
                let ran = chunk.ran.get();
                if engine.is_left_by_fork() {
                    return;
                }
                if ran > 0 && !self.is_bad() {
                    self.usage().mark_good(latest);
                }
                let completed = ran - failed;
                self.count_items(scope, cursor, (begin, priority), (ran, completed));
                begin = self.last_or_now();
                // Before this worker looks at what is for it: what comes later is news.
                seen = engine.main.lanes.arrival_mark();
                wanted = self.is_wanted_elsewhere(priority, &seen);
            }
            self.end_naming(outer);
            // Not after each chunk: to what ended readers add what runs, since the batch was shown.
            if let Some(shown) = self.worker.pop_running(|| self.recorder.was_busy(taken_at, begin))
            {
                host.discard(scope, shown);
            }
            if cursor.left() == 0 {
                engine.all_items_claimed(scope, &task);
            } else {
                engine.invite(scope, &task);
            }
        }
        host.discard(scope, task);
    }

    /// Runs one item of a batch, inside the task that would otherwise wait for it. False when none
    /// is left.
    pub fn serve_item_inside(&self, scope: H::Scope<'_>, task: &H::Task) -> bool {
        let host = &self.engine.host;
        let Some(cursor) = host.cursor(task) else {
            return false;
        };
        self.take_key(task, true);
        let begin = self.now();
        self.worker.push_running(Running { task: host.share(scope, task), since: begin });
        let (outer, priority) = (self.begin_naming(), host.word(task).priority());
        let seen = self.engine.main.lanes.arrival_mark();
        let chunk = self.chunk(cursor, priority, 1, begin, seen);
        let failed = host.run_items(scope, self, task, &chunk);
        let ran = chunk.ran.get();
        if let Some(shown) = self.worker.pop_running(|| ()) {
            host.discard(scope, shown);
        }
        if ran > 0 {
            let span = self.now().saturating_sub(begin);
            self.record((0, span), (ran, ran - failed), priority);
        }
        self.end_naming(outer);
        if cursor.left() == 0 {
            self.engine.all_items_claimed(scope, task);
        }
        ran > 0
    }

    fn chunk(
        &self,
        cursor: &ItemCursor,
        priority: Priority,
        most: u64,
        begin: Tick,
        seen: ArrivalMark,
    ) -> Chunk {
        let generation = self.engine.generations.current();
        let between = cursor.between_looks();
        let (ran, look) = (Cell::new(0), Cell::new(between.min(most)));
        Chunk { most, ran, begin, look, between, priority, seen, generation }
    }

    /// Whether the chunk goes on after the items that it ran. The first is run in any case: the one
    /// item that a worker is asked for inside a task has no other worker to run it.
    #[inline]
    fn should_continue(&self, chunk: &Chunk) -> bool {
        let (engine, ran) = (self.engine, chunk.ran.get());
        if ran == 0 {
            return true;
        }
        if ran >= chunk.look.get() {
            if ran >= chunk.most || self.now().saturating_sub(chunk.begin) >= CHUNK_TIME {
                return false;
            }
            chunk.look.set((ran + chunk.between).min(chunk.most));
        }
        !self.is_bad()
            && !self.usage().is_suspect()
            && engine.generations.current() == chunk.generation
            && !engine.main.lanes.has_arrivals_above(chunk.priority, &chunk.seen)
    }

    /// Starts the next item of a chunk, unless that is over, none is left or the runner was killed.
    /// For [`Attempts::run_items`].
    #[expect(clippy::inline_always, reason = "buys 35 instructions of an item of the row *map*")]
    #[inline(always)]
    pub fn start_item(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        cursor: &ItemCursor,
        chunk: &Chunk,
    ) -> Option<usize> {
        if !self.should_continue(chunk) {
            return None;
        }
        let item = cursor.claim()?;
        // The mode is looked at after the claim, as for every task.
        if self.engine.is_killed() {
            self.abandon_item(scope, task, item);
            return None;
        }
        self.engine.main.count_taken(self.engine.host.word(task), true);
        self.recorder.count(WorkerCounter::Started);
        chunk.ran.set(chunk.ran.get() + 1);
        Some(item)
    }

    #[cold]
    fn abandon_item(&self, scope: H::Scope<'_>, task: &H::Task, item: usize) {
        if !self.engine.is_left_by_fork() {
            self.engine.abandon_items(scope, task, item..item + 1);
        }
    }

    fn count_items(
        &self,
        scope: H::Scope<'_>,
        cursor: &ItemCursor,
        (begin, priority): (Tick, Priority),
        (ran, completed): (u64, u64),
    ) {
        let now = self.now();
        let span = now.saturating_sub(begin) / ran.max(1);
        self.last.set(now);
        self.span.set(span);
        if ran > 0 {
            cursor.cost.observe(span);
            self.engine.advance_window(now);
            let wait = begin.saturating_sub(cursor.since);
            self.record((wait, span), (ran, completed), priority);
            // One call wears the resource like one task.
            self.tasks_ended(scope, if cursor.group() > 1 { 1 } else { ran });
        }
    }

    fn invite_others(&self, scope: H::Scope<'_>, task: &H::Task, cursor: &ItemCursor) {
        let others = cursor.left().saturating_sub(cursor.group()) as u64;
        if others == 0 {
            return;
        }
        // Also when no worker sleeps: one that is just about to would not hear of it later.
        let worth = |span: Tick| {
            span >= SHARED_ITEM_TIME || span.saturating_mul(others) >= SHARED_TOTAL_TIME
        };
        if cursor.cost.get().is_none_or(worth) {
            self.engine.invite(scope, task);
        }
    }
}
