//! How many workers are asked for: at the start by the settings, and after that by each resize.

use crate::engine::settings::EngineSettings;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// See the module's documentation.
///
/// Written under the roster's lock, so that the thread which counts the workers under it goes by
/// both numbers of one resize. Atomic, as submitters, maps and getters read one of them without the
/// lock; relaxed, as nothing but a hint depends on what those read.
#[derive(Debug)]
pub struct Limits {
    workers: AtomicUsize,
    max: AtomicUsize,
}

/// A maximum below the number of base workers: the base workers, and the maximum.
pub type BelowBase = (usize, usize);

impl Limits {
    pub(super) fn new(settings: &EngineSettings) -> Self {
        let EngineSettings { worker_count, max_worker_count, .. } = settings;
        Self { workers: AtomicUsize::new(*worker_count), max: AtomicUsize::new(*max_worker_count) }
    }

    /// Base workers.
    pub fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Hard limit on base and burst workers together.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Whether there may be burst workers.
    pub fn bursts(&self) -> bool {
        self.max() > self.workers()
    }

    /// Changes what is given. The maximum follows the base workers where there are no burst
    /// workers.
    pub(super) fn change(
        &self,
        workers: Option<usize>,
        max: Option<usize>,
    ) -> Result<(), BelowBase> {
        let follows = workers.filter(|_| !self.bursts());
        let workers = workers.unwrap_or(self.workers());
        let max = max.or(follows).unwrap_or(self.max());
        if max < workers {
            return Err((workers, max));
        }
        self.workers.store(workers, Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn limits(worker_count: usize, max_worker_count: usize) -> Limits {
        Limits::new(&EngineSettings { worker_count, max_worker_count, ..EngineSettings::default() })
    }

    fn changed(limits: &Limits, workers: Option<usize>, max: Option<usize>) -> (usize, usize) {
        limits.change(workers, max).expect("the maximum is large enough");
        (limits.workers(), limits.max())
    }

    #[test]
    fn the_maximum_follows_where_there_are_no_burst_workers() {
        let limits = limits(2, 2);
        assert_eq!(changed(&limits, Some(5), None), (5, 5));
        assert_eq!(changed(&limits, Some(3), None), (3, 3));
        assert_eq!(changed(&limits, None, Some(8)), (3, 8));
        assert!(limits.bursts());
    }

    #[test]
    fn what_is_not_given_stays_where_there_are_burst_workers() {
        let limits = limits(2, 4);
        assert_eq!(changed(&limits, Some(3), None), (3, 4));
        assert_eq!(changed(&limits, None, Some(6)), (3, 6));
        assert_eq!(changed(&limits, Some(1), Some(2)), (1, 2));
    }

    #[test]
    fn a_maximum_below_the_base_workers_changes_nothing() {
        let limits = limits(2, 4);
        assert_eq!(limits.change(Some(5), None), Err((5, 4)));
        assert_eq!(limits.change(None, Some(1)), Err((2, 1)));
        assert_eq!((limits.workers(), limits.max()), (2, 4));
    }
}
