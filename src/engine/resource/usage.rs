//! When a good resource is looked at again, and when it has served long enough. Pure functions of
//! ticks.

use super::epochs::FailureEpoch;
use crate::engine::clock::Tick;
use crate::engine::metrics::figures::Replacement;
use std::cell::Cell;

/// The first pause before a resource is renewed that was outdated as soon as it was made, as those
/// before it were; it doubles with each.
const FIRST_REST: Tick = 1_000_000_000;
/// So often the pause doubles.
const REST_DOUBLINGS: u32 = 5;

/// What a runner asks of its resources beside their health.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourcePolicy {
    /// A resource idle for this long is validated before its next use; `None`: never.
    pub validate_after: Option<Tick>,
    /// It is reset after every task.
    pub resets: bool,
    /// It is renewed after so many tasks.
    pub max_tasks: Option<u64>,
    /// It is renewed at this age, give or take a tenth, so that not all go at once.
    pub max_age: Option<Tick>,
}

/// The record of one resource. It belongs to the thread that holds the resource.
#[derive(Debug)]
pub struct ResourceUsage {
    policy: ResourcePolicy,
    made: Tick,
    /// When its age is up, if that is limited.
    pub(in crate::engine) due: Option<Tick>,
    /// The runner's generation when its creation began: a renewal of all begins a later one.
    pub(in crate::engine) generation: u64,
    tasks: Cell<u64>,
    /// When it was last used, or made.
    used: Cell<Tick>,
    /// The failure since which it is known to be good; see [`epochs`](super::epochs).
    known_good_since: Cell<FailureEpoch>,
    /// A task on it was interrupted, and `validate` has not looked at it since.
    suspect: Cell<bool>,
}

impl ResourceUsage {
    /// The record of a resource made now. `known_good_since`: the latest failure before that began.
    /// `random` gives any number.
    pub fn new(
        policy: ResourcePolicy,
        now: Tick,
        generation: u64,
        known_good_since: FailureEpoch,
        random: impl FnOnce() -> u64,
    ) -> Self {
        let due = policy.max_age.map(|age| {
            let tenth = age / 10;
            now.saturating_add(age - tenth).saturating_add(random() % (2 * tenth).max(1))
        });
        Self {
            policy,
            made: now,
            due,
            generation,
            tasks: Cell::new(0),
            used: Cell::new(now),
            known_good_since: Cell::new(known_good_since),
            suspect: Cell::new(false),
        }
    }

    /// It was used until now, by so many tasks.
    pub fn served(&self, now: Tick, tasks: u64) {
        self.tasks.set(self.tasks.get() + tasks);
        self.used.set(now);
    }

    /// Whether something is due after every single task.
    pub fn counts_tasks(&self) -> bool {
        self.policy.resets || self.policy.max_tasks.is_some()
    }

    /// Whether a task has ended on it.
    pub fn has_served(&self) -> bool {
        self.tasks.get() > 0
    }

    /// Whether a task that waits since then waited when it was made, and it has served none.
    pub fn was_awaited(&self, since: Tick) -> bool {
        since <= self.made && !self.has_served()
    }

    /// How long it has been idle.
    pub fn idle(&self, now: Tick) -> Tick {
        now.saturating_sub(self.used.get())
    }

    /// It was found good now. `latest`: the latest failure before that began.
    pub fn validated(&self, now: Tick, latest: FailureEpoch) {
        self.used.set(now);
        self.suspect.set(false);
        self.mark_good(latest);
    }

    /// A task ended well on it. `latest`: the latest failure before that began.
    pub fn mark_good(&self, latest: FailureEpoch) {
        self.known_good_since.set(latest);
    }

    /// The failure since which it is known to be good.
    pub fn known_good_since(&self) -> FailureEpoch {
        self.known_good_since.get()
    }

    /// Whether its holder can tell that it is good without a task.
    pub fn can_validate(&self) -> bool {
        self.policy.validate_after.is_some()
    }

    /// A task on it was interrupted: its holder validates it before its next use, if there is a
    /// `validate`.
    pub fn mark_suspect(&self) {
        self.suspect.set(self.can_validate());
    }

    /// Whether a task on it was interrupted, and it is to be looked at.
    pub fn is_suspect(&self) -> bool {
        self.suspect.get()
    }

    /// Whether its holder is to validate it before its next use: it rested so long, or is suspect.
    pub fn must_validate(&self, now: Tick) -> bool {
        self.policy.validate_after.is_some_and(|rest| self.idle(now) >= rest) || self.is_suspect()
    }

    /// Whether a renewal was asked for since its creation began.
    pub fn is_outdated(&self, generation: u64) -> bool {
        self.generation != generation
    }

    /// Until when its holder leaves it alone while no task waits, worn as it is. `in_a_row`: so
    /// many resources, it included, were worn as soon as they were made.
    ///
    /// While its wear is its own, another one would be no better. A renewal that was asked for is
    /// done in the end; but where a renewal asks for the next one, as an `on_create` may that calls
    /// `renew`, there are pauses between them.
    pub fn rests_until(&self, generation: u64, in_a_row: u32) -> Tick {
        match in_a_row {
            0 | 1 => 0,
            _ if !self.is_outdated(generation) => Tick::MAX,
            _ => self.made.saturating_add(FIRST_REST << (in_a_row - 2).min(REST_DOUBLINGS)),
        }
    }

    /// Whether it has served long enough, or is outdated.
    pub fn is_worn(&self, now: impl FnOnce() -> Tick, generation: u64) -> bool {
        self.wear(now, generation).is_some()
    }

    /// Why it is to be renewed, if it is.
    pub fn wear(&self, now: impl FnOnce() -> Tick, generation: u64) -> Option<Replacement> {
        match () {
            () if self.is_outdated(generation) => Some(Replacement::Renewed),
            () if self.policy.max_tasks.is_some_and(|most| self.tasks.get() >= most) => {
                Some(Replacement::Tasks)
            }
            () if self.due.is_some_and(|due| now() >= due) => Some(Replacement::Age),
            () => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn usage(policy: ResourcePolicy, random: u64) -> ResourceUsage {
        ResourceUsage::new(policy, 1_000, 7, 1, || random)
    }

    #[test]
    fn nothing_is_worn_without_a_policy() {
        let usage = usage(ResourcePolicy::default(), 3);
        usage.served(2_000, 1);
        assert!(!usage.is_worn(|| Tick::MAX, 7));
        assert!(!usage.must_validate(Tick::MAX));
    }

    #[test]
    fn a_later_generation_wears_everything_out() {
        assert!(usage(ResourcePolicy::default(), 0).is_worn(|| 0, 8));
    }

    #[test]
    fn rests_where_those_before_it_were_worn_at_once_too() {
        let usage = usage(ResourcePolicy::default(), 0);
        for (in_a_row, outdated, otherwise) in [
            (0, 0, 0),
            (1, 0, 0),
            (2, 1_000 + FIRST_REST, Tick::MAX),
            (3, 1_000 + 2 * FIRST_REST, Tick::MAX),
            (u32::MAX, 1_000 + 32 * FIRST_REST, Tick::MAX),
        ] {
            assert_eq!(usage.rests_until(8, in_a_row), outdated);
            assert_eq!(usage.rests_until(7, in_a_row), otherwise);
        }
    }

    #[test]
    fn is_worn_after_so_many_tasks() {
        let usage = usage(ResourcePolicy { max_tasks: Some(2), ..ResourcePolicy::default() }, 0);
        usage.served(0, 1);
        assert!(!usage.is_worn(|| 0, 7));
        usage.served(0, 1);
        assert!(usage.is_worn(|| 0, 7));
    }

    #[test]
    fn ages_end_within_a_tenth_of_the_limit_and_apart() {
        let policy = ResourcePolicy { max_age: Some(1_000), ..ResourcePolicy::default() };
        let ends: Vec<_> = (0..500).filter_map(|random| usage(policy, random).due).collect();
        assert_eq!((ends.iter().min(), ends.iter().max()), (Some(&1_900), Some(&2_099)));
        assert!(!usage(policy, 0).is_worn(|| 1_899, 7));
        assert!(usage(policy, 0).is_worn(|| 1_900, 7));
    }

    #[test]
    fn was_awaited_by_a_task_from_before_it_until_it_has_served() {
        let usage = usage(ResourcePolicy::default(), 0);
        assert!(usage.was_awaited(1_000) && !usage.was_awaited(1_001));
        usage.served(2_000, 1);
        assert!(!usage.was_awaited(1_000));
    }

    #[test]
    fn is_validated_after_an_interrupt_whenever_it_was_used() {
        let usage = usage(
            ResourcePolicy { validate_after: Some(Tick::MAX), ..ResourcePolicy::default() },
            0,
        );
        usage.mark_suspect();
        usage.served(1_001, 1);
        assert!(usage.is_suspect() && usage.must_validate(1_001));
        usage.validated(1_002, 0);
        assert!(!usage.is_suspect() && !usage.must_validate(1_002));
    }

    #[test]
    fn is_not_doubted_where_nobody_can_validate_it() {
        let usage = usage(ResourcePolicy::default(), 0);
        usage.mark_suspect();
        assert!(!usage.is_suspect() && !usage.must_validate(Tick::MAX));
    }

    #[test]
    fn is_validated_after_a_rest_only() {
        let usage =
            usage(ResourcePolicy { validate_after: Some(50), ..ResourcePolicy::default() }, 0);
        assert!(!usage.must_validate(1_049));
        assert!(usage.must_validate(1_050));
        usage.served(1_050, 1);
        assert!(!usage.must_validate(1_099));
        usage.validated(1_200, 4);
        assert!(!usage.must_validate(1_249));
        assert_eq!(usage.known_good_since(), 4);
    }
}
