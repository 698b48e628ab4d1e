//! When a good resource is looked at again, and when it has served long enough. Pure functions of ticks.

use super::proof::Failure;
use crate::engine::clock::Tick;
use std::cell::Cell;

/// What a runner asks of its resources beside their health.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// A resource idle for this long is validated before its next use; `None`: never.
    pub validate_after: Option<Tick>,
    /// It is reset after every task.
    pub resets: bool,
    /// It is renewed after so many tasks.
    pub max_tasks: Option<u64>,
    /// It is renewed at this age, give or take a tenth, so that not all go at once.
    pub max_age: Option<Tick>,
}

/// The record of one resource. It belongs to whoever holds the resource.
#[derive(Debug)]
pub struct Care {
    policy: Policy,
    made: Tick,
    /// When its age is up.
    due: Option<Tick>,
    /// The runner's generation when it was made: a recycled runner has a later one.
    generation: u64,
    tasks: Cell<u64>,
    /// When it was last used, or made.
    used: Cell<Tick>,
    /// The failure up to which it is known to be good; see [`proof`](super::proof).
    proven: Cell<Failure>,
    /// It was found bad before its first task.
    useless: Cell<bool>,
    /// A task on it was interrupted, and `validate` has not looked at it since.
    doubtful: Cell<bool>,
}

impl Care {
    /// The record of a resource made now. `proven`: the latest failure before that began. `random` gives any number.
    pub fn new(
        policy: Policy,
        now: Tick,
        generation: u64,
        proven: Failure,
        random: impl FnOnce() -> u64,
    ) -> Self {
        let due = policy.max_age.map(|age| {
            let tenth = age / 10;
            now.saturating_add(age - tenth).saturating_add(random() % (2 * tenth).max(1))
        });
        let (tasks, used, proven) = (Cell::new(0), Cell::new(now), Cell::new(proven));
        let (useless, doubtful) = (Cell::new(false), Cell::new(false));
        Self { policy, made: now, due, generation, tasks, used, proven, useless, doubtful }
    }

    /// It was used until now.
    pub fn served(&self, now: Tick) {
        self.served_many(now, 1);
    }

    /// It was used until now, by so many tasks.
    pub fn served_many(&self, now: Tick, tasks: u64) {
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
    pub fn validated(&self, now: Tick, latest: Failure) {
        self.used.set(now);
        self.doubtful.set(false);
        self.prove(latest);
    }

    /// It was found bad without a task.
    pub fn invalidated(&self) {
        self.useless.set(self.tasks.get() == 0);
    }

    /// Whether it was found bad before its first task.
    pub fn was_useless(&self) -> bool {
        self.useless.get()
    }

    /// A task ended well on it. `latest`: the latest failure before that began.
    pub fn prove(&self, latest: Failure) {
        self.proven.set(latest);
    }

    /// The failure up to which it is known to be good.
    pub fn proven(&self) -> Failure {
        self.proven.get()
    }

    /// Whether anybody can tell that it is good without a task.
    pub fn can_validate(&self) -> bool {
        self.policy.validate_after.is_some()
    }

    /// A task on it was interrupted: it is looked at before its next use, if there is a `validate`.
    pub fn doubt(&self) {
        self.doubtful.set(self.can_validate());
    }

    /// Whether a task on it was interrupted, and it is to be looked at.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.get()
    }

    /// Whether it rested so long that it is looked at before its next use, or is to be for another reason.
    pub fn must_validate(&self, now: Tick) -> bool {
        self.policy.validate_after.is_some_and(|rest| self.idle(now) >= rest) || self.is_doubtful()
    }

    /// Whether it has served long enough.
    pub fn is_worn(&self, now: impl FnOnce() -> Tick, generation: u64) -> bool {
        self.generation != generation
            || self.policy.max_tasks.is_some_and(|most| self.tasks.get() >= most)
            || self.due.is_some_and(|due| now() >= due)
    }

    /// When its age is up, if that is limited.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn care(policy: Policy, random: u64) -> Care {
        Care::new(policy, 1_000, 7, 1, || random)
    }

    #[test]
    fn nothing_is_worn_without_a_policy() {
        let care = care(Policy::default(), 3);
        care.served(2_000);
        assert!(!care.is_worn(|| Tick::MAX, 7));
        assert!(!care.must_validate(Tick::MAX));
    }

    #[test]
    fn a_later_generation_wears_everything_out() {
        assert!(care(Policy::default(), 0).is_worn(|| 0, 8));
    }

    #[test]
    fn is_worn_after_so_many_tasks() {
        let care = care(Policy { max_tasks: Some(2), ..Policy::default() }, 0);
        care.served(0);
        assert!(!care.is_worn(|| 0, 7));
        care.served(0);
        assert!(care.is_worn(|| 0, 7));
    }

    #[test]
    fn ages_end_within_a_tenth_of_the_limit_and_apart() {
        let policy = Policy { max_age: Some(1_000), ..Policy::default() };
        let ends: Vec<_> = (0..500).filter_map(|random| care(policy, random).due()).collect();
        assert_eq!((ends.iter().min(), ends.iter().max()), (Some(&1_900), Some(&2_099)));
        assert!(!care(policy, 0).is_worn(|| 1_899, 7));
        assert!(care(policy, 0).is_worn(|| 1_900, 7));
    }

    #[test]
    fn is_useless_when_found_bad_before_its_first_task() {
        let care = care(Policy::default(), 0);
        assert!(!care.was_useless());
        care.invalidated();
        assert!(care.was_useless());
        care.served(2_000);
        care.invalidated();
        assert!(!care.was_useless());
    }

    #[test]
    fn was_awaited_by_a_task_from_before_it_until_it_has_served() {
        let care = care(Policy::default(), 0);
        assert!(care.was_awaited(1_000) && !care.was_awaited(1_001));
        care.served(2_000);
        assert!(!care.was_awaited(1_000));
    }

    #[test]
    fn is_validated_after_an_interrupt_whenever_it_was_used() {
        let care = care(Policy { validate_after: Some(Tick::MAX), ..Policy::default() }, 0);
        care.doubt();
        care.served(1_001);
        assert!(care.is_doubtful() && care.must_validate(1_001));
        care.validated(1_002, 0);
        assert!(!care.is_doubtful() && !care.must_validate(1_002));
    }

    #[test]
    fn is_not_doubted_where_nobody_can_validate_it() {
        let care = care(Policy::default(), 0);
        care.doubt();
        assert!(!care.is_doubtful() && !care.must_validate(Tick::MAX));
    }

    #[test]
    fn is_validated_after_a_rest_only() {
        let care = care(Policy { validate_after: Some(50), ..Policy::default() }, 0);
        assert!(!care.must_validate(1_049));
        assert!(care.must_validate(1_050));
        care.served(1_050);
        assert!(!care.must_validate(1_099));
        care.validated(1_200, 4);
        assert!(!care.must_validate(1_249));
        assert_eq!(care.proven(), 4);
    }
}
