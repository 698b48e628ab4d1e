//! How many items of a batch a worker runs before it looks up.

use crate::engine::clock::Tick;
use crate::engine::queue::lanes::ArrivalMark;
use crate::engine::task::priority::Priority;
use std::cell::Cell;

/// Some items that a worker runs one after the other, with a few loads in between.
///
/// The chunk ends when they are enough, when they take longer than they were taken to, or when the
/// worker is wanted elsewhere. Whatever ends a batch ends a chunk of it.
#[derive(Debug)]
pub struct Chunk {
    pub(super) most: u64,
    /// How many items were started.
    pub(super) ran: Cell<u64>,
    pub(super) begin: Tick,
    /// After how many items in all the worker reads the clock next, and after how many more each
    /// time.
    pub(super) look: Cell<u64>,
    pub(super) between: u64,
    pub(super) priority: Priority,
    /// What waited when the worker looked whether that is for it. That look reads a clock and
    /// takes locks, so there is one for the whole chunk.
    pub(super) seen: ArrivalMark,
    /// The runner's generation then.
    pub(super) generation: u64,
}
