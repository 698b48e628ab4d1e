//! What is counted beside the workers' own counters: once for each kind of event, at the moment
//! that the table in `DESIGN.md` says.
//!
//! That is before the outcome is published, so that a thread that sees the outcome finds it
//! counted. No code of the user's is called there.

use super::clock::Tick;
use super::engine::Engine;
use super::host::Host;
use super::metrics::counters::{Totals, WorkerCounter};
use super::metrics::events::EventKind;
use super::task::{EXPIRED, TaskWord};
use crate::sync::atomic::Ordering;

impl<H: Host> Engine<H> {
    /// Counts an event that has happened to so many tasks, and that no worker's counters count.
    pub fn count(&self, event: EventKind, tasks: usize) {
        self.shared_counters.events[event as usize].fetch_add(tasks as u64, Ordering::SeqCst);
    }

    /// Counts a submit that is not accepted. `full`: it found the queue full.
    pub fn count_refused(&self, full: bool) {
        self.count(EventKind::Refused, 1);
        if full {
            self.refusals.advance(self.clock.now(), || (self.refused_full(), 0));
            self.shared_counters.refused_full.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How many tasks ever found the queue full.
    pub(super) fn refused_full(&self) -> u64 {
        self.shared_counters.refused_full.load(Ordering::SeqCst)
    }

    /// How many tasks found the queue full in the last minute.
    pub fn refused_lately(&self) -> u64 {
        self.refusals.counts(self.clock.now(), (self.refused_full(), 0)).0
    }

    /// Counts a task that will not run, and gives what it counts as. `first`: it never did;
    /// otherwise it waited for a retry.
    pub(super) fn count_abandoned(&self, first: bool) -> EventKind {
        let event = if first { EventKind::Dropped } else { EventKind::Failed };
        self.count(event, 1);
        event
    }

    /// Counts a task that has ended, if it outlived its time limit.
    pub(super) fn overdue_ended(&self, word: &TaskWord) {
        if word.has(EXPIRED) {
            self.shared_counters.overran_ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn advance_window(&self, now: Tick) {
        if self.window.advance(now, || self.flow()) {
            self.request_look(now);
        }
    }

    /// Has the keeper look at the runner when the time has come.
    pub(super) fn request_look(&self, now: Tick) {
        if let Some(due) = self.looks.request(now) {
            self.deadlines.look_at(due);
        }
    }

    /// Tasks that ever arrived and tasks that ever returned.
    pub(super) fn flow(&self) -> (u64, u64) {
        let completed = self.total(EventKind::Completed, &self.ledger.totals());
        (self.arrived(), completed)
    }

    pub(super) fn arrived(&self) -> u64 {
        self.main.gate.accepted() + self.reserved.gate.accepted() + self.loans.accepted()
    }

    /// How many events there were of this kind. The caller has read the workers' part before.
    pub(super) fn total(&self, event: EventKind, by_workers: &Totals) -> u64 {
        let counted_elsewhere = match event {
            EventKind::Arrived => self.arrived(),
            EventKind::Completed => by_workers[WorkerCounter::Completed],
            EventKind::Failed => by_workers[WorkerCounter::Failed],
            EventKind::Retried => by_workers[WorkerCounter::Retried],
            _ => 0,
        };
        self.shared_counters.events[event as usize].load(Ordering::SeqCst) + counted_elsewhere
    }
}
