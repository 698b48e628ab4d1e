//! Threads that make calls which may block: one for each call under way, and one more that listens.
//!
//! A canceller only puts a call down and wakes a helper: a keeper, an event loop or a signal
//! handler must neither block nor start a thread. So there is always a helper that listens, started
//! when calls became possible, and a helper that takes a call has another one started first: a call
//! that hangs keeps no other from beginning. Helpers that are too many leave after a while.

use crate::engine::clock::Tick;
use crate::sync::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a helper listens that is not needed.
const IDLE_HELPER_TIMEOUT: Tick = 1_000_000_000;
const MAX_WAIT: Tick = 3_600_000_000_000;

/// Identifies a job that is put down for later.
pub type JobKey = (Tick, u64);

/// See the module's documentation.
#[derive(Debug)]
pub struct Helpers<J> {
    state: Mutex<JobQueue<J>>,
    changed: Condvar,
}

#[derive(Debug)]
struct JobQueue<J> {
    jobs: VecDeque<J>,
    later: BTreeMap<JobKey, J>,
    next: u64,
    /// How many users there are: callbacks, and runners with a hook, that may ask for a job.
    users: usize,
    /// Helpers that listen, and helpers that are being started for it.
    listening: usize,
    closed: bool,
}

impl<J> Helpers<J> {
    /// No helper yet, and no user that needs one.
    pub fn new() -> Self {
        let state = JobQueue {
            jobs: VecDeque::new(),
            later: BTreeMap::new(),
            next: 0,
            users: 0,
            listening: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// One more user may ask for a job from now on. True: no helper listens, for the last one may
    /// be in a call that hangs, and the caller starts one, or says that it [could
    /// not](Self::not_started).
    #[must_use]
    pub fn add_user(&self) -> bool {
        let mut state = self.state.lock();
        state.users += 1;
        state.reserve()
    }

    /// A user asks for nothing any more.
    pub fn remove_user(&self) {
        let mut state = self.state.lock();
        state.users -= 1;
        let unneeded = state.users == 0;
        drop(state);
        if unneeded {
            self.changed.notify_all();
        }
    }

    /// Whether no helper listens. True: the calling helper, about to do a job, starts another one
    /// first, or says that it [could not](Self::not_started).
    #[must_use]
    pub fn reserve(&self) -> bool {
        self.state.lock().reserve()
    }

    /// A helper that was to be started was not.
    pub fn not_started(&self) {
        self.state.lock().listening -= 1;
    }

    /// Puts a job down, to be done at once. Neither blocks nor starts a thread.
    pub fn put(&self, job: J) {
        self.state.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Puts a job down, to be done at a time.
    pub fn put_later(&self, due: Tick, job: J) -> JobKey {
        let mut state = self.state.lock();
        let key = (due, state.next);
        state.next += 1;
        let earliest = state.later.first_key_value().is_none_or(|(first, _)| key < *first);
        state.later.insert(key, job);
        drop(state);
        if earliest {
            self.changed.notify_all();
        }
        key
    }

    /// Takes a job back that is put down for later, if it is still there.
    pub fn remove_later(&self, key: JobKey) -> Option<J> {
        self.state.lock().later.remove(&key)
    }

    /// A helper's wait for a job. `None`: it is not needed any more.
    pub fn next(&self, now: impl Fn() -> Tick) -> Option<J> {
        let mut state = self.state.lock();
        let mut end = None;
        loop {
            let time = now();
            if let Some(job) = state.take(time) {
                state.listening -= 1;
                return Some(job);
            }
            let end_of_rest = if state.is_one_too_many() {
                Some(*end.get_or_insert(time.saturating_add(IDLE_HELPER_TIMEOUT)))
            } else {
                end = None;
                None
            };
            if state.closed || end_of_rest.is_some_and(|end| end <= time) {
                state.listening -= 1;
                return None;
            }
            let due = state.later.first_key_value().map(|(&(due, _), _)| due);
            let until = due.into_iter().chain(end_of_rest).min();
            let limit = until.map_or(MAX_WAIT, |until| until.saturating_sub(time).min(MAX_WAIT));
            state = self.changed.wait_timeout(state, Duration::from_nanos(limit));
        }
    }

    /// A helper has done a job, and listens again.
    pub fn done(&self) {
        self.state.lock().listening += 1;
    }

    /// Has the helpers end.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl<J> JobQueue<J> {
    fn reserve(&mut self) -> bool {
        let start = !self.closed && self.listening == 0;
        if start {
            self.listening += 1;
        }
        start
    }

    fn take(&mut self, now: Tick) -> Option<J> {
        if let Some(job) = self.jobs.pop_front() {
            return Some(job);
        }
        let first = self.later.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn is_one_too_many(&self) -> bool {
        self.listening > 1 || self.users == 0 && self.later.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_first_user_has_a_helper_started_and_each_job_the_next() {
        let helpers = Helpers::new();
        assert!(helpers.add_user() && !helpers.add_user());
        helpers.put('a');
        assert_eq!(helpers.next(|| 0), Some('a'));
        assert!(helpers.reserve() && !helpers.reserve());
    }

    #[test]
    fn one_that_could_not_be_started_is_asked_for_again() {
        let helpers = Helpers::<()>::new();
        assert!(helpers.add_user());
        helpers.not_started();
        helpers.remove_user();
        assert!(helpers.add_user());
    }

    #[test]
    fn jobs_for_later_are_done_when_they_are_due_and_can_be_taken_back() {
        let helpers = Helpers::new();
        assert!(helpers.add_user());
        helpers.put_later(20, 'b');
        let c = helpers.put_later(10, 'c');
        helpers.put_later(10, 'a');
        assert_eq!((helpers.remove_later(c), helpers.remove_later(c)), (Some('c'), None));
        assert_eq!(helpers.next(|| 10), Some('a'));
        helpers.done();
        assert_eq!(helpers.next(|| 20), Some('b'));
    }

    #[test]
    fn a_helper_that_makes_a_call_does_not_keep_the_next_user_from_having_one_that_listens() {
        let helpers = Helpers::new();
        let time = Cell::new(0);
        let tick = || time.replace(time.get() + 2 * IDLE_HELPER_TIMEOUT);
        assert!(helpers.add_user());
        helpers.put('a');
        assert_eq!(helpers.next(|| 0), Some('a'));
        assert!(helpers.reserve());
        helpers.remove_user();
        assert_eq!(helpers.next(tick), None, "no user may ask for anything");
        assert!(helpers.add_user(), "the other one is still in its call");
    }

    #[test]
    fn helpers_leave_that_are_too_many_and_all_at_the_end() {
        let helpers = Helpers::<()>::new();
        let time = Cell::new(0);
        let tick = || time.replace(time.get() + 2 * IDLE_HELPER_TIMEOUT);
        assert!(helpers.add_user());
        helpers.put(());
        assert_eq!(helpers.next(tick), Some(()));
        assert!(helpers.reserve());
        helpers.done();
        assert_eq!(helpers.next(tick), None, "another one listens");
        assert!(!helpers.reserve());
        helpers.remove_user();
        assert_eq!(helpers.next(tick), None, "nobody can ask for anything");
        assert!(helpers.add_user());
        helpers.close();
        assert_eq!(helpers.next(|| 0), None);
        assert!(!helpers.add_user());
    }
}
