//! Which resource a retry may have: one that was seen to work after the failure that the retry
//! comes from.
//!
//! A server that restarts takes all connections with it, and an idle worker does not know that its
//! own is dead. Were a retry to go to the next idle worker, it would meet one dead connection after
//! the other, and use its attempts up. So failures are numbered. A resource is *known to be good*
//! since the failure that was the latest when it was asked for, when it was validated with success,
//! or when a task began that ended well on it; it may have the retries of failures up to there. The
//! worker that ran into the failure makes a new resource at once, so a retry seldom waits for
//! longer.
//!
//! Should that worker hang, any worker may take a retry that was held for a while.
//!
//! Numbers and not times: they are exact, whatever clocks do.

use crate::engine::clock::Tick;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The number of a failure.
pub type FailureEpoch = u64;

/// Of a task that did not fail.
pub const NO_FAILURE: FailureEpoch = 0;
/// Before every resource: any worker may take what waits for this.
pub const INITIAL_EPOCH: FailureEpoch = 1;

/// For how long a retry waits for a resource known to be good before any will do.
pub const RETRY_HOLD: Tick = 10_000_000_000;

/// Numbers the failures of one runner.
#[derive(Debug)]
pub struct FailureEpochs {
    /// The latest. Acquire and release: what begins after a look at a number began after that
    /// failure.
    latest: CachePadded<AtomicU64>,
}

impl FailureEpochs {
    /// None yet.
    pub fn new() -> Self {
        Self { latest: CachePadded::new(AtomicU64::new(INITIAL_EPOCH)) }
    }

    /// The latest failure: what begins now and ends well proves a resource up to it.
    pub fn latest(&self) -> FailureEpoch {
        self.latest.load(Ordering::Acquire)
    }

    /// Numbers one more failure.
    pub fn advance(&self) -> FailureEpoch {
        self.latest.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Which retries a worker, or a caller with a loan, may take at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Eligibility {
    /// The failure since which its resource is known to be good.
    pub known_good_since: FailureEpoch,
    /// Any worker may take a retry that waits since then or longer.
    pub held_since: Option<Tick>,
}

impl Eligibility {
    /// Takes what any worker may take from the beginning.
    pub const NONE: Self = Self { known_good_since: INITIAL_EPOCH, held_since: None };
    /// Takes everything.
    pub const ANY: Self = Self { known_good_since: FailureEpoch::MAX, held_since: None };

    /// Whether it may take a retry of this failure, which waits since then.
    pub fn covers(self, failure_epoch: FailureEpoch, since: Tick) -> bool {
        failure_epoch <= self.known_good_since || self.held_since.is_some_and(|held| since <= held)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_known_good_up_to_the_failure_before_it() {
        let failures = FailureEpochs::new();
        let (old, first) = (failures.latest(), failures.advance());
        let (new, second) = (failures.latest(), failures.advance());
        let covers = |known_good_since, failure_epoch| {
            Eligibility { known_good_since, held_since: None }.covers(failure_epoch, 0)
        };
        assert!(covers(old, INITIAL_EPOCH) && !covers(old, first) && !covers(old, second));
        assert!(covers(new, first) && !covers(new, second));
    }

    #[test]
    fn what_was_held_for_long_is_anybodys() {
        let eligibility = Eligibility { known_good_since: INITIAL_EPOCH, held_since: Some(50) };
        assert!(
            eligibility.covers(7, 49) && eligibility.covers(7, 50) && !eligibility.covers(7, 51)
        );
        assert!(!Eligibility::NONE.covers(7, 0) && Eligibility::NONE.covers(INITIAL_EPOCH, 0));
        assert!(Eligibility::ANY.covers(FailureEpoch::MAX, 0));
    }
}
