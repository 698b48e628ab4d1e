//! How far this process has come: whether the interpreter exits, and how often it was forked.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static EXITING: AtomicBool = AtomicBool::new(false);
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Whether the exit hook has run.
pub(super) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// The exit hook runs.
pub(super) fn set_exiting() {
    EXITING.store(true, Ordering::SeqCst);
}

/// How often this process came out of a fork.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// This is a child that was forked just now.
pub(super) fn set_forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    EXITING.store(false, Ordering::SeqCst);
}
