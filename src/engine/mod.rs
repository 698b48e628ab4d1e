//! Threads that own resources, and the queue in front of them. No Python, no `unsafe`.
//!
//! A task's way: [`Engine::submit`] → [`queue`] (gate, lanes, bell) → [`worker`] (takes it) → [`desk`] (claim, run, settle) →
//! the host's future. `DESIGN.md` beside this file has the states, the counters and the shutdown protocol.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod badge;
pub mod batch;
pub mod bell;
mod books;
pub mod care;
pub mod clock;
pub mod deadlines;
pub mod desk;
mod ending;
#[expect(clippy::module_inception, reason = "the engine of the engine is what the folder is about")]
mod engine;
pub mod figures;
pub mod gate;
pub mod host;
pub mod lanes;
pub mod launch;
pub mod loans;
pub mod permits;
pub mod proof;
pub mod queue;
pub mod renewal;
pub mod roster;
pub mod scaler;
pub mod settings;
mod staffing;
pub mod task;
pub mod token;
pub mod worker;

#[cfg(all(test, loom))]
mod loom_tests;

pub use books::{Metrics, Stats};
pub use engine::{Engine, Mode, Unserved};
pub use host::{Host, Ran, Refusal, Verdict};
pub use settings::Settings;
