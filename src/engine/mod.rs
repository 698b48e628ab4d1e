//! Threads that own resources, and the queue in front of them. No Python, no `unsafe`.
//!
//! A task's way: [`Engine::submit`] → [`queue`] (gate, lanes, idle workers) → [`worker`] (takes it)
//! → [`worker::attempt`] (claim, run, settle) → the host's future.
//!
//! [`queue`] holds what waits, [`task`] is what one of them is, [`worker`] runs it; [`resource`]
//! tells when what a worker owns is made anew, [`roster`] which workers there are, [`scaling`] how
//! many of them are started, [`metrics`] what came of it all. `DESIGN.md` beside this file has the
//! states, the counters and the shutdown protocol.
#![forbid(unsafe_code)]

mod accepting;
pub mod cancel_queued;
pub mod clock;
mod counting;
#[expect(clippy::module_inception, reason = "the engine of the engine is what the folder is about")]
mod engine;
pub mod host;
pub mod metrics;
pub mod queue;
pub mod relay;
pub mod resource;
pub mod roster;
pub mod scaling;
mod serial;
pub mod settings;
mod shutdown;
pub mod task;
pub mod worker;

#[cfg(all(test, loom))]
mod loom_tests;

pub use accepting::SubmitError;
pub use engine::{Engine, Mode};
pub use host::{AbandonReason, Host, Notice};
pub use metrics::report::{EngineMetrics, EngineStats};
pub use settings::EngineSettings;
