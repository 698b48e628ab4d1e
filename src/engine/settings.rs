//! What the engine needs to know. The thread that builds the engine has checked it.

use super::clock::Tick;
use super::resource::usage::ResourcePolicy;

/// Settings of one engine. The Python package validates what users give; this only carries it.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// In the names of workers.
    pub name: String,
    /// Base workers, always alive: so many to begin with. The engine's
    /// [`Limits`](super::roster::limits::Limits) say how many are asked for after a resize.
    pub worker_count: usize,
    /// A base worker is started when a task finds none free, not at the start of the runner, and
    /// then stays. No thread waits for its first resource, so one that gets none kills the runner.
    /// Such a runner has no bound, no burst workers and no `run_task`.
    pub on_demand: bool,
    /// Hard limit on base and burst workers together, to begin with.
    pub max_worker_count: usize,
    /// Limit on reserved and temporary workers together; `None`: as many as base workers.
    pub reserve_limit: Option<usize>,
    /// Reserved workers made at the start.
    pub reserve_at_start: usize,
    /// Whether workers for `run_task` stay, or leave after the task they were made for.
    pub keep_reserved: bool,
    /// Whether `run_task` hands its task to a reserved worker's thread. Otherwise the caller of
    /// `run_task` borrows the resource.
    pub thread_bound: bool,
    /// Bound on waiting tasks; `None`: no bound.
    pub max_queue_size: Option<usize>,
    /// When good resources are validated, reset and renewed.
    pub policy: ResourcePolicy,
    /// Time between two decisions on burst workers.
    pub burst_interval: Tick,
    /// An idle burst worker leaves after this time.
    pub idle_timeout: Tick,
    /// A retry that waits for a resource known to be good has any after this time; see
    /// [`epochs`](super::resource::epochs).
    pub retry_hold: Tick,
    /// Once creation has failed for so long and no base or burst worker has a resource, waiting and
    /// new tasks fail. `None`: they wait.
    pub fail_fast_after: Option<Tick>,
    /// Time between two looks at the runner while tasks are under way. The host that gives it has
    /// the keeper started. `None`: there are none.
    pub look_interval: Option<Tick>,
}

impl EngineSettings {
    /// How many base workers the start brings.
    pub(super) fn base_at_start(&self) -> usize {
        if self.on_demand { 0 } else { self.worker_count }
    }
}

impl Default for EngineSettings {
    /// One worker without a name, and no bound, limit or pause.
    fn default() -> Self {
        Self {
            name: String::new(),
            worker_count: 1,
            on_demand: false,
            max_worker_count: 1,
            reserve_limit: Some(0),
            reserve_at_start: 0,
            keep_reserved: false,
            thread_bound: true,
            max_queue_size: None,
            policy: ResourcePolicy::default(),
            burst_interval: Tick::MAX,
            idle_timeout: Tick::MAX,
            retry_hold: Tick::MAX,
            fail_fast_after: None,
            look_interval: None,
        }
    }
}
