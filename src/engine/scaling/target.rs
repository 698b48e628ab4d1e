//! How many workers a load needs, after Little's law. A pure function of numbers.

use crate::engine::clock::Tick;

/// What the scaler looks at: the time since it looked last, and what is now.
#[derive(Debug, Clone, Copy)]
pub struct LoadSample {
    /// Time since the last look.
    pub elapsed: Tick,
    /// Tasks that arrived in that time.
    pub arrived: u64,
    /// Attempts that ended in that time.
    pub ended: u64,
    /// Time those took to run, together.
    pub run_time: Tick,
    /// Tasks that wait now.
    pub waiting: u64,
    /// Base and burst workers now, beginning ones included.
    pub workers: usize,
    /// Most there may be.
    pub most: usize,
    /// The time within which what waits should have begun.
    pub target_wait: Tick,
}

/// How many workers there should be: enough for the arrivals, and enough to clear the backlog
/// within the target wait. Never fewer than there are: workers leave by themselves when they have
/// been idle.
pub fn target_workers(load: LoadSample) -> usize {
    let LoadSample { workers, most, waiting, .. } = load;
    if waiting == 0 {
        return workers;
    }
    let more = match load.run_time.checked_div(load.ended) {
        // Nothing ended: whatever runs takes longer than a look, and each that waits would too.
        None => waiting,
        Some(mean) => {
            let mean = u128::from(mean.max(1));
            let erlangs = ceil(u128::from(load.arrived) * mean, load.elapsed);
            let backlog = ceil(u128::from(waiting) * mean, load.target_wait);
            (erlangs + backlog).saturating_sub(workers as u64)
        }
    };
    // At most twice as many at once: a look later the first of them have shown what they are good
    // for.
    let more = usize::try_from(more).unwrap_or(usize::MAX).min(workers.max(1));
    workers.saturating_add(more).min(most.max(workers))
}

fn ceil(work: u128, per: Tick) -> u64 {
    u64::try_from(work.div_ceil(u128::from(per.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Tick = 1_000_000;

    fn load() -> LoadSample {
        LoadSample {
            elapsed: 100 * MS,
            arrived: 0,
            ended: 0,
            run_time: 0,
            waiting: 0,
            workers: 2,
            most: 16,
            target_wait: 100 * MS,
        }
    }

    #[test]
    fn no_worker_is_added_while_nothing_waits() {
        assert_eq!(
            target_workers(LoadSample { arrived: 1_000, ended: 900, run_time: 200 * MS, ..load() }),
            2
        );
    }

    #[test]
    fn quick_tasks_need_nobody_though_many_wait() {
        // 1,000 tasks of 10 microseconds are 10 ms of work.
        let quick = LoadSample { ended: 1_000, run_time: 10 * MS, waiting: 1_000, ..load() };
        assert_eq!(target_workers(quick), 2);
    }

    #[test]
    fn arrivals_and_backlog_each_get_their_workers() {
        // 8 arrivals of 50 ms in 100 ms keep four busy; 2 that wait are 100 ms of work: one more.
        let busy = LoadSample {
            arrived: 8,
            ended: 4,
            run_time: 200 * MS,
            waiting: 2,
            workers: 3,
            ..load()
        };
        assert_eq!(target_workers(busy), 5);
    }

    #[test]
    fn tasks_longer_than_a_look_get_a_worker_each() {
        assert_eq!(target_workers(LoadSample { waiting: 1, ..load() }), 3);
    }

    #[test]
    fn the_number_at_most_doubles_and_never_passes_the_limit() {
        let flood =
            LoadSample { arrived: 1_000, ended: 2, run_time: 200 * MS, waiting: 998, ..load() };
        assert_eq!(target_workers(flood), 4);
        assert_eq!(target_workers(LoadSample { workers: 12, ..flood }), 16);
        assert_eq!(target_workers(LoadSample { workers: 20, ..flood }), 20);
    }

    #[test]
    fn is_total() {
        for value in [0, 1, u64::MAX] {
            let odd = LoadSample {
                elapsed: value,
                arrived: value,
                ended: value,
                run_time: value,
                waiting: value,
                workers: 0,
                most: usize::MAX,
                target_wait: value,
            };
            assert!(target_workers(odd) <= 1);
        }
    }
}
