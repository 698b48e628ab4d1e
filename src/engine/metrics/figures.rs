//! The figures of a runner that are too large for each worker, and what a reader gets of them.

use super::by_name::{NameFigures, NameTable};
use super::sample::Sample;
use super::series::{Series, Timing};
use crate::engine::clock::Tick;
use crate::engine::task::priority::Priority;

/// Why a resource was given up for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// A task failed, and the host judged that the resource is broken; or it was left in the middle
    /// of a call.
    Unhealthy,
    /// It could not be reset after a task.
    Reset,
    /// It was found bad when it was looked at.
    Invalid,
    /// It was old.
    Age,
    /// It had served its number of tasks.
    Tasks,
    /// A renewal of all was asked for.
    Renewed,
}

impl Replacement {
    /// All of them, in order, with their names.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Unhealthy, "unhealthy"),
        (Self::Reset, "reset"),
        (Self::Invalid, "invalid"),
        (Self::Age, "age"),
        (Self::Tasks, "tasks"),
        (Self::Renewed, "renewed"),
    ];
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Times in the queue, of each attempt by itself, by priority.
    wait: [Series; Priority::COUNT],
    execution: Series,
    attach: Series,
    creation: Series,
    creations_failed: u64,
    replaced: [u64; Replacement::ALL.len()],
    /// By task name.
    pub names: NameTable,
}

/// Durations as counts up to some edges, for histograms of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Cumulative {
    /// How many are no longer than each edge.
    pub counts: Vec<u64>,
    /// All of them.
    pub timing: Timing,
}

impl Figures {
    pub(super) fn add(&mut self, sample: &Sample) {
        match *sample {
            Sample::Attempts { wait, execution, times, completed, row, priority } => {
                self.wait[priority as usize].add(wait, times);
                self.execution.add(execution, times);
                self.names.add(row, execution, times, completed);
            }
            Sample::Attach(duration) => self.attach.add(duration, 1),
        }
    }

    pub(super) fn created(&mut self, duration: Tick) {
        self.creation.add(duration, 1);
    }

    pub(super) fn creation_failed(&mut self) {
        self.creations_failed += 1;
    }

    pub(super) fn replaced(&mut self, reason: Replacement) {
        self.replaced[reason as usize] += 1;
    }

    /// Time in the task function, of each attempt by itself.
    pub fn execution(&self) -> Timing {
        self.execution.timing()
    }

    /// Time in the queue, of each attempt by itself.
    pub fn wait(&self) -> Timing {
        let mut all = self.wait[0].clone();
        self.wait[1..].iter().for_each(|wait| all.merge(wait));
        all.timing()
    }

    /// Times that woken workers waited for the interpreter.
    pub fn attach(&self) -> Timing {
        self.attach.timing()
    }

    /// Times that it took to make resources.
    pub fn creation(&self) -> Timing {
        self.creation.timing()
    }

    /// Resources that could not be made.
    pub fn creations_failed(&self) -> u64 {
        self.creations_failed
    }

    /// Resources that were given up for another for this reason.
    pub fn replaced_for(&self, reason: Replacement) -> u64 {
        self.replaced[reason as usize]
    }

    /// By task name, the first to arrive first.
    pub fn by_name(&self) -> impl Iterator<Item = NameFigures> {
        self.names.figures()
    }

    /// Waits of one priority, up to these edges in nanoseconds.
    pub fn wait_up_to(&self, priority: Priority, edges: &[u64]) -> Cumulative {
        cumulative(&self.wait[priority as usize], edges)
    }

    /// Times in the task function, up to these edges in nanoseconds.
    pub fn execution_up_to(&self, edges: &[u64]) -> Cumulative {
        cumulative(&self.execution, edges)
    }

    /// Times that it took to make resources, up to these edges in nanoseconds.
    pub fn creation_up_to(&self, edges: &[u64]) -> Cumulative {
        cumulative(&self.creation, edges)
    }
}

fn cumulative(series: &Series, edges: &[u64]) -> Cumulative {
    Cumulative { counts: series.counts_up_to(edges), timing: series.timing() }
}
