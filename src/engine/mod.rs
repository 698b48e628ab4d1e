//! Threads that own resources, and the queue in front of them. No Python, no `unsafe`.
//!
//! A task's way: [`Engine::submit`] → [`queue`] (gate, lanes, bell) → [`worker`] (takes it) → [`worker::desk`] (claim,
//! run, settle) → the host's future.
//!
//! [`queue`] holds what waits, [`task`] is what one of them is, [`worker`] who runs it; [`resource`] tells when what a
//! worker owns is made anew, [`staffing`] how many workers there are, [`figures`] what came of it all. `DESIGN.md`
//! beside this file has the states, the counters and the shutdown protocol.
#![forbid(unsafe_code)]

pub mod clock;
mod ending;
#[expect(clippy::module_inception, reason = "the engine of the engine is what the folder is about")]
mod engine;
pub mod figures;
pub mod host;
pub mod queue;
pub mod resource;
pub mod settings;
pub mod staffing;
pub mod task;
pub mod withdrawal;
pub mod worker;

#[cfg(all(test, loom))]
mod loom_tests;

pub use engine::{Engine, Mode, Unserved};
pub use figures::books::{Metrics, Stats};
pub use host::{Host, Ran, Refusal, Verdict};
pub use settings::Settings;
