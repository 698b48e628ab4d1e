//! What happens to tasks as far as it is counted for the whole runner, and the counters of what no
//! worker counts.

use crate::sync::atomic::{AtomicU64, Ordering};

/// One kind for each total of a runner. Those of the refused that found the queue full are counted
/// once more, by `refused_full` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Accepted. Counted by the gate, in the step that accepts.
    Arrived,
    /// Returned a result.
    Completed,
    /// Failed for good.
    Failed,
    /// An attempt was followed by another.
    Retried,
    /// Not accepted.
    Refused,
    /// Cancelled before it started.
    Cancelled,
    /// Accepted, and settled by the runner without ever being started.
    Dropped,
    /// Its time limit passed, waiting or running. The function of some may still run.
    TimedOut,
}

impl EventKind {
    /// All of them, in order, with their names.
    pub const ALL: [(Self, &str); 8] = [
        (Self::Arrived, "arrived"),
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Retried, "retried"),
        (Self::Refused, "refused"),
        (Self::Cancelled, "cancelled"),
        (Self::Dropped, "dropped"),
        (Self::TimedOut, "timed_out"),
    ];
}

/// What no worker counts. Written by the thread that brings it about.
#[derive(Debug, Default)]
pub(in crate::engine) struct SharedCounters {
    pub(in crate::engine) events: [AtomicU64; EventKind::ALL.len()],
    /// Refused tasks that found the queue full. Read before all refused ones, and counted after.
    pub(in crate::engine) refused_full: AtomicU64,
    /// Tasks that timed out while they ran; below, how many of their functions have returned.
    pub(in crate::engine) overran: AtomicU64,
    pub(in crate::engine) overran_ended: AtomicU64,
}

impl SharedCounters {
    /// Tasks that have timed out and still run. A function may return before its overrun is
    /// counted: the difference is then below zero, and shown as zero.
    pub(in crate::engine) fn overdue(&self) -> u64 {
        let ended = self.overran_ended.load(Ordering::SeqCst);
        self.overran.load(Ordering::SeqCst).saturating_sub(ended)
    }
}
