//! Batchers: items that come one by one, each a task with a future, and are run by one call of a
//! function for as many as wait.
//!
//! The engine says which tasks run in one call, see its `worker/joint_call.rs`. [`function`] is what
//! these tasks have in common, [`run`] makes the call, [`batcher`] takes the items.

pub(super) mod batcher;
pub(super) mod function;
pub(super) mod run;
