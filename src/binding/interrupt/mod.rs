//! Interrupting what runs: calls of the user's that end a task from a helper thread when its
//! context is cancelled.
//!
//! A [`CancelCall`](call::CancelCall) is one of them: the config's `on_cancel`, for one attempt, or
//! what was given to `Context.on_cancel`, see [`callbacks`]. The canceller only wants it. A helper
//! of the task's runner makes it, see [`helper_threads`]. Before the worker goes on it closes what
//! is left and waits for what is under way, see [`cancel_attempt`]: whatever it does next is not
//! interrupted.

pub(super) mod call;
pub(super) mod callbacks;
pub(super) mod cancel_attempt;
pub(super) mod handle;
pub(super) mod helper_threads;
