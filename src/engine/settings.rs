//! What the engine needs to know, checked by whoever builds it.

use super::clock::Tick;
use super::resource::care::Policy;
use super::worker::badge::Post;

/// Settings of one engine. The facade validates what users give; this only carries it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In the names of workers.
    pub name: String,
    /// Base workers, always alive.
    pub worker_count: usize,
    /// Base workers are not hired at the start but when a task finds nobody free, and then stay. Nobody waits for
    /// their first resources, so one that gets none kills the runner. Such a runner has no bound, no
    /// burst workers and no `run_task`.
    pub on_demand: bool,
    /// Hard limit on base and burst workers together.
    pub max_worker_count: usize,
    /// Limit on reserved and temporary workers together.
    pub reserve_limit: usize,
    /// Reserved workers made at the start.
    pub reserve_at_start: usize,
    /// Whether workers for `run_task` stay, or leave after the task they were made for.
    pub keep_reserved: bool,
    /// Whether `run_task` hands its task to a reserved worker's thread. Otherwise the caller borrows the
    /// resource.
    pub thread_bound: bool,
    /// Bound on waiting tasks; `None`: no bound.
    pub max_queue_size: Option<usize>,
    /// When good resources are validated, reset and renewed.
    pub care: Policy,
    /// Time between two decisions on burst workers.
    pub burst_interval: Tick,
    /// An idle burst worker leaves after this time.
    pub idle_timeout: Tick,
    /// A retry that waits for a proven resource has any after this time; see [`proof`](super::resource::proof).
    pub hold: Tick,
}

impl Settings {
    /// How many base workers the start brings.
    pub(super) fn base_at_start(&self) -> usize {
        if self.on_demand { 0 } else { self.worker_count }
    }

    /// The name of a worker, by how many were hired before it. On demand it is formed as the standard library's
    /// executors form it.
    pub(super) fn worker_name(&self, post: Post, before: u64) -> String {
        if self.on_demand {
            format!("{}_{before}", self.name)
        } else {
            format!("{}-{}-{}", self.name, post.word(), before + 1)
        }
    }
}
