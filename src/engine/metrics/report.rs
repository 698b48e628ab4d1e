//! What a runner reports of itself.

use super::busy;
use super::counters::{Totals, WorkerCounter};
use super::events::EventKind;
use super::figures::Figures;
use crate::engine::clock::Tick;
use crate::engine::engine::{Engine, Mode};
use crate::engine::host::Host;
use crate::engine::queue::permits::Permits;
use crate::engine::roster::WorkerCounts;
use crate::engine::task::Phase;
use crate::engine::task::priority::Priority;
use std::ops::Index;

/// What accumulated since the start.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    totals: [u64; EventKind::ALL.len()],
    /// Those among the refused that found the queue full.
    pub refused_full: u64,
    /// Tasks with a key that began on the worker which had the key last.
    pub key_hits: u64,
    /// Tasks with a key that began on another.
    pub key_misses: u64,
    /// Arrivals a second, over the window.
    pub arrival_rate: f64,
    /// Tasks that returned a second, over the window.
    pub completion_rate: f64,
    /// Durations, and what is counted by task name and by reason.
    pub figures: Figures,
}

impl Index<EventKind> for EngineMetrics {
    type Output = u64;

    /// How many events there were of this kind.
    fn index(&self, event: EventKind) -> &u64 {
        &self.totals[event as usize]
    }
}

/// Gauges of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Live workers by kind.
    pub workers: WorkerCounts,
    /// Waiting tasks, of all priorities, retries included.
    pub queued: u64,
    /// Urgent tasks among them.
    pub high: u64,
    /// Those among them that are to wait for all others.
    pub low: u64,
    /// Tasks that wait for a retry without a worker, and are not in `queued`.
    pub paused: u64,
    /// Tasks of the key that has most of them, where they run one after the other; the one that runs
    /// included.
    pub longest_line: usize,
    /// Tasks being run.
    pub running: u64,
    /// Tasks that have timed out and still run.
    pub overdue: u64,
    /// Idle resources for `run_task`.
    pub available: usize,
    /// For how many nanoseconds of how many the base and burst workers were busy, over the last
    /// minute or their lives.
    pub busy: (u64, u64),
    /// For how long resources cannot be made; zero when they can.
    pub creation_failing: Tick,
}

impl<H: Host> Engine<H> {
    /// What accumulated since the start.
    pub fn metrics(&self) -> EngineMetrics {
        let by_workers = self.ledger.totals();
        let (arrival_rate, completion_rate) = self.window.rates(self.clock.now(), self.flow());
        let refused_full = self.refused_full();
        let mut totals = [0; EventKind::ALL.len()];
        // What arrived is read last, so that nothing seems to have left that did not come.
        for (event, _) in EventKind::ALL.into_iter().rev() {
            totals[event as usize] = self.total(event, &by_workers);
        }
        let figures = self.ledger.figures();
        EngineMetrics {
            totals,
            refused_full,
            key_hits: by_workers[WorkerCounter::KeyHits],
            key_misses: by_workers[WorkerCounter::KeyMisses],
            arrival_rate,
            completion_rate,
            figures,
        }
    }

    /// How many tasks wait, from what the caller has read before.
    pub(in crate::engine) fn queued(&self, withdrawn: u64, totals: &Totals) -> u64 {
        let entered = self.main.entered() + self.reserved.entered() + self.loans.accepted();
        entered.saturating_sub(
            withdrawn + totals[WorkerCounter::Started] + totals[WorkerCounter::Resumed],
        )
    }

    /// For how long the task has waited that has waited longest of all that have never started, are
    /// back from a pause, or wait for room; zero when there is none. Discards tombstones that it
    /// comes across.
    pub fn oldest_wait(&self, scope: H::Scope<'_>) -> Tick {
        let waits = |task: &H::Task| self.host.word(task).phase() == Phase::Waiting;
        // What is back from a pause stands among the fresh ones.
        let is_live = |task: &H::Task| self.host.word(task).is_queued();
        let in_lanes = [&self.main, &self.reserved].into_iter().filter_map(|queue| {
            let (oldest, dead) = queue.oldest(is_live, waits);
            self.discard_tombstones(scope, queue, dead);
            oldest
        });
        let others = [
            // The entry of a batch that rejoined its lane is none that never started.
            self.batches.oldest(|task| self.host.cursor(task)),
            self.loans.oldest_call(waits),
            self.main.lingering.oldest(waits),
            self.main.serial_lines.oldest(),
            self.main.permits.as_ref().and_then(Permits::oldest),
        ];
        let oldest = in_lanes.chain(others.into_iter().flatten()).min();
        oldest.map_or(0, |since| self.clock.now().saturating_sub(since))
    }

    /// Gauges of this moment.
    pub fn stats(&self) -> EngineStats {
        // In the order finished, started, accepted: a counter that moves on while this thread reads
        // makes a gauge a little too large, never negative.
        let withdrawn = self.main.withdrawals() + self.reserved.withdrawals();
        let totals = self.ledger.totals();
        let now = self.clock.now();
        let workers = self.workers();
        let main = workers.iter().filter(|worker| worker.kind().is_main() && !worker.is_retired());
        EngineStats {
            workers: self.roster.counts(),
            queued: self.queued(withdrawn, &totals),
            high: self.main.waiting_of(Priority::High),
            low: self.main.waiting_of(Priority::Low),
            paused: self.paused(),
            longest_line: self.main.serial_lines.longest(),
            running: totals.running(),
            overdue: self.shared_counters.overdue(),
            available: if self.settings.thread_bound {
                self.reserved.idle_workers.sleepers()
            } else {
                self.loans.idle()
            },
            busy: busy::sum(main.map(|worker| worker.busy(now))),
            creation_failing: if self.mode() == Mode::Stopped {
                0
            } else {
                // Never zero while it fails.
                let since = self.backoff.failing_since();
                since.map_or(0, |since| now.saturating_sub(since).max(1))
            },
        }
    }
}
