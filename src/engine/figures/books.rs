//! What a runner counts beside its workers' tallies, and what it tells of itself.

use super::{Counter, Summary, Totals};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::host::Host;
use crate::engine::staffing::roster::Headcount;
use crate::engine::task::TaskWord;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Outcomes that no worker's tally counts. Written by whoever brings them about.
#[derive(Debug, Default)]
pub(in crate::engine) struct Strays {
    /// Tasks settled by hand while they ran.
    pub(in crate::engine) completed: AtomicU64,
    pub(in crate::engine) refused: AtomicU64,
    pub(in crate::engine) cancelled: AtomicU64,
    pub(in crate::engine) dropped: AtomicU64,
    pub(in crate::engine) timed_out: AtomicU64,
    /// Retries that were waiting when the runner was killed: they had run, and failed.
    pub(in crate::engine) failed: AtomicU64,
    /// Tasks whose time limit passed while they ran, and those of them whose function has returned.
    pub(in crate::engine) overran: AtomicU64,
    pub(in crate::engine) overran_ended: AtomicU64,
}

impl Strays {
    /// Tasks whose function runs on after their time limit. The function may return before its overrun
    /// is counted, which is then a difference below zero.
    pub(in crate::engine) fn overdue(&self) -> u64 {
        let ended = self.overran_ended.load(Ordering::SeqCst);
        self.overran.load(Ordering::SeqCst).saturating_sub(ended)
    }
}

/// What accumulated since the start.
#[derive(Debug, Clone, Copy)]
pub struct Metrics {
    /// Accepted tasks.
    pub arrived: u64,
    /// Tasks that returned.
    pub completed: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Submits that were refused.
    pub refused: u64,
    /// Tasks cancelled before they started.
    pub cancelled: u64,
    /// Accepted tasks that the runner answered without ever starting them.
    pub dropped: u64,
    /// Tasks whose time limit passed, waiting or running. The function of some may still run.
    pub timed_out: u64,
    /// Arrivals a second, over the window.
    pub arrival_rate: f64,
    /// Tasks that returned a second, over the window.
    pub completion_rate: f64,
    /// Times.
    pub summary: Summary,
}

/// Gauges of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live workers by kind.
    pub heads: Headcount,
    /// Waiting tasks, of all classes, retries included.
    pub queued: u64,
    /// Urgent tasks among them.
    pub urgent: u64,
    /// Tasks being run.
    pub running: u64,
    /// Tasks whose function runs on after their time limit.
    pub overdue: u64,
    /// Idle resources for `run_task`.
    pub available: usize,
}

impl<H: Host> Engine<H> {
    pub(in crate::engine) fn book_cancelled(&self, tasks: usize) {
        self.strays.cancelled.fetch_add(tasks as u64, Ordering::SeqCst);
    }

    /// Books a refused submit.
    pub fn refused(&self) {
        self.strays.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A task ended whose outcome somebody else had decided.
    pub(in crate::engine) fn overdue_ended(&self, word: &TaskWord) {
        if word.has(crate::engine::task::EXPIRED) {
            self.strays.overran_ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(in crate::engine) fn note(&self, now: Tick) {
        self.window.note(now, || self.flow());
    }

    /// Tasks that ever arrived and tasks that ever returned.
    pub(in crate::engine) fn flow(&self) -> (u64, u64) {
        let completed = self.completed(&self.ledger.totals());
        (self.arrived(), completed)
    }

    pub(in crate::engine) fn arrived(&self) -> u64 {
        self.main.gate.accepted() + self.express.gate.accepted() + self.loans.accepted()
    }

    fn completed(&self, totals: &Totals) -> u64 {
        totals[Counter::Completed] + self.strays.completed.load(Ordering::SeqCst)
    }

    /// What accumulated since the start.
    pub fn metrics(&self) -> Metrics {
        let strays = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let totals = self.ledger.totals();
        let (arrival_rate, completion_rate) = self.window.rates(self.clock.now(), self.flow());
        Metrics {
            completed: self.completed(&totals),
            failed: totals[Counter::Failed] + strays(&self.strays.failed),
            retried: totals[Counter::Retried],
            refused: strays(&self.strays.refused),
            cancelled: strays(&self.strays.cancelled),
            dropped: strays(&self.strays.dropped),
            timed_out: strays(&self.strays.timed_out),
            arrived: self.arrived(),
            arrival_rate,
            completion_rate,
            summary: self.ledger.summary(),
        }
    }

    /// How many tasks wait, from what was read before.
    pub(in crate::engine) fn queued(&self, withdrawn: u64, totals: &Totals) -> u64 {
        let entered = self.main.entered() + self.express.entered() + self.loans.accepted();
        entered.saturating_sub(withdrawn + totals[Counter::Started] + totals[Counter::Resumed])
    }

    /// Gauges of this moment.
    pub fn stats(&self) -> Stats {
        // In the order finished, started, accepted: what moves on while we read makes a gauge a little
        // too large, never negative.
        let withdrawn = self.main.withdrawals() + self.express.withdrawals();
        let totals = self.ledger.totals();
        Stats {
            heads: self.roster.headcount(),
            queued: self.queued(withdrawn, &totals),
            urgent: self.main.high(),
            running: totals.running(),
            overdue: self.strays.overdue(),
            available: if self.settings.thread_bound {
                self.express.bell.sleepers()
            } else {
                self.loans.idle()
            },
        }
    }
}
