//! Which resource a retry may have: one that was seen to work after the failure that the retry comes from.
//!
//! A server that restarts takes all connections with it, and an idle worker does not know that its own is dead. Were
//! a retry to go to the next idle worker, it would meet one dead connection after the other, and use its attempts up.
//! So failures are numbered. A resource is *proven* up to the failure that was the latest when it was asked for, when
//! it was validated with success, or when a task began that ended well on it; it may have the retries of failures up
//! to there. The worker that ran into the failure makes a new resource at once, so a retry seldom waits for longer.
//!
//! Should that worker hang, a retry that was held for a while is anybody's.
//!
//! Numbers and not times: they are exact, whatever clocks do.

use crate::engine::clock::Tick;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The number of a failure.
pub type Failure = u64;

/// Of a task that did not fail.
pub const NONE: Failure = 0;
/// Before every resource: what waits for this is anybody's.
pub const LONG_AGO: Failure = 1;

/// For how long a retry waits for a proven resource before any will do.
pub const HOLD: Tick = 10_000_000_000;

/// Numbers the failures of one runner.
#[derive(Debug)]
pub struct Failures {
    /// The latest. Acquire and release: what begins after a look at a number began after that failure.
    latest: CachePadded<AtomicU64>,
}

impl Failures {
    /// None yet.
    pub fn new() -> Self {
        Self { latest: CachePadded::new(AtomicU64::new(LONG_AGO)) }
    }

    /// The latest failure: what begins now and ends well proves a resource up to it.
    pub fn latest(&self) -> Failure {
        self.latest.load(Ordering::Acquire)
    }

    /// Numbers one more failure.
    pub fn another(&self) -> Failure {
        self.latest.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Default for Failures {
    fn default() -> Self {
        Self::new()
    }
}

/// Which retries somebody may take at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Proof {
    /// The failure up to which its resource is proven.
    pub proven: Failure,
    /// Retries that wait since then or longer are anybody's.
    pub held_since: Option<Tick>,
}

impl Proof {
    /// Takes what is anybody's from the beginning.
    pub const NONE: Self = Self { proven: LONG_AGO, held_since: None };
    /// Takes everything.
    pub const ANY: Self = Self { proven: Failure::MAX, held_since: None };

    /// Whether it may take a retry of this failure, which waits since then.
    pub fn covers(self, failed: Failure, since: Tick) -> bool {
        failed <= self.proven || self.held_since.is_some_and(|held| since <= held)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_proven_up_to_the_failure_before_it() {
        let failures = Failures::new();
        let (old, first) = (failures.latest(), failures.another());
        let (new, second) = (failures.latest(), failures.another());
        let covers = |proven, failed| Proof { proven, held_since: None }.covers(failed, 0);
        assert!(covers(old, LONG_AGO) && !covers(old, first) && !covers(old, second));
        assert!(covers(new, first) && !covers(new, second));
    }

    #[test]
    fn what_was_held_for_long_is_anybodys() {
        let proof = Proof { proven: LONG_AGO, held_since: Some(50) };
        assert!(proof.covers(7, 49) && proof.covers(7, 50) && !proof.covers(7, 51));
        assert!(!Proof::NONE.covers(7, 0) && Proof::NONE.covers(LONG_AGO, 0));
        assert!(Proof::ANY.covers(Failure::MAX, 0));
    }
}
