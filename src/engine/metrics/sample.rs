//! What a worker records of the durations of attempts, as it stands in its ring.

use super::by_name::NameRow;
use crate::engine::task::priority::Priority;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a worker records of durations, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// So many attempts waited and ran about as long as each other.
    Attempts {
        /// How long each waited.
        wait: u64,
        /// How long each ran.
        execution: u64,
        /// How many they were.
        times: u64,
        /// How many of them gave a result. All but one at most.
        completed: u64,
        /// The name of their task.
        row: NameRow,
        /// Its priority.
        priority: Priority,
    },
    /// The worker waited so long for the interpreter.
    Attach(u64),
}

/// A sample as it stands in the ring.
#[derive(Debug, Default)]
pub(super) struct RingSample {
    wait: AtomicU64,
    /// That of an attempt, or the whole of an attach.
    duration: AtomicU64,
    times: AtomicU64,
    /// The row of the name, the priority and the flags below.
    label: AtomicU64,
}

const PRIORITY_SHIFT: u32 = 8;
/// One of the attempts gave no result.
const ONE_LESS: u64 = 1 << 16;
/// No attempt, but a wait for the interpreter.
const ATTACH: u64 = 1 << 17;

impl RingSample {
    pub(super) fn write(&self, sample: &Sample) {
        let (wait, duration, times, label) = match *sample {
            Sample::Attempts { wait, execution, times, completed, row, priority } => {
                let one_less = if completed < times { ONE_LESS } else { 0 };
                let priority = u64::from(priority as u8) << PRIORITY_SHIFT;
                (wait, execution, times, u64::from(row.number()) | priority | one_less)
            }
            Sample::Attach(duration) => (0, duration, 1, ATTACH),
        };
        self.wait.store(wait, Ordering::Relaxed);
        self.duration.store(duration, Ordering::Relaxed);
        self.times.store(times, Ordering::Relaxed);
        self.label.store(label, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Sample {
        let label = self.label.load(Ordering::Relaxed);
        let duration = self.duration.load(Ordering::Relaxed);
        if label & ATTACH != 0 {
            return Sample::Attach(duration);
        }
        let times = self.times.load(Ordering::Relaxed);
        let [row, priority, ..] = label.to_le_bytes();
        Sample::Attempts {
            wait: self.wait.load(Ordering::Relaxed),
            execution: duration,
            times,
            completed: times - u64::from(label & ONE_LESS != 0),
            row: NameRow::from_number(row),
            priority: Priority::from_number(priority).unwrap_or(Priority::Normal),
        }
    }
}
