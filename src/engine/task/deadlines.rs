//! Time limits that the keeper watches: the tasks that have one, in the order in which they fall
//! due.

use crate::engine::clock::Tick;
use crate::sync::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::time::Duration;

/// Identifies one watched task: when it falls due, and a number for tasks due together.
pub type DeadlineKey = (Tick, u64);

/// Tasks by due time. Only tasks with a limit ever come here.
#[derive(Debug)]
pub struct Deadlines<T> {
    state: Mutex<Schedule<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Schedule<T> {
    due: BTreeMap<DeadlineKey, T>,
    next: u64,
    /// When the runner is to stop by itself.
    stop: Option<Tick>,
    /// When the number of burst workers is to be thought over.
    scale: Option<Tick>,
    /// When the runner is to be looked at.
    look: Option<Tick>,
    closed: bool,
    /// Whether a keeper has been started.
    has_keeper: bool,
}

impl<T> Deadlines<T> {
    pub(in crate::engine) fn new() -> Self {
        let state = Schedule {
            due: BTreeMap::new(),
            next: 0,
            stop: None,
            scale: None,
            look: None,
            closed: false,
            has_keeper: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// True for one caller: it starts the keeper.
    pub(in crate::engine) fn claim_keeper(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().has_keeper, true)
    }

    /// The keeper could not be started after all.
    pub(in crate::engine) fn disclaim_keeper(&self) {
        self.state.lock().has_keeper = false;
    }

    /// Watches a task.
    pub(in crate::engine) fn add(&self, due: Tick, task: T) -> DeadlineKey {
        let mut state = self.state.lock();
        let key = (due, state.next);
        state.next += 1;
        let earliest = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, task);
        drop(state);
        if earliest {
            self.changed.notify_all();
        }
        key
    }

    /// Remembers when the runner is to stop.
    pub(in crate::engine) fn stop_at(&self, due: Tick) {
        self.state.lock().stop = Some(due);
        self.changed.notify_all();
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_stop(&self, now: Tick) -> bool {
        self.state.lock().stop.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when the number of workers is to be thought over.
    pub(in crate::engine) fn scale_at(&self, due: Tick) {
        self.state.lock().scale = Some(due);
        self.changed.notify_all();
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_scale(&self, now: Tick) -> bool {
        self.state.lock().scale.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when the runner is to be looked at.
    pub(in crate::engine) fn look_at(&self, due: Tick) {
        self.state.lock().look = Some(due);
        self.changed.notify_all();
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_look(&self, now: Tick) -> bool {
        self.state.lock().look.take_if(|due| *due <= now).is_some()
    }

    /// Stops watching; gives the handle back if it was still watched.
    pub(in crate::engine) fn remove(&self, key: DeadlineKey) -> Option<T> {
        self.state.lock().due.remove(&key)
    }

    /// Takes one task that is due.
    pub(in crate::engine) fn pop_due(&self, now: Tick) -> Option<T> {
        let mut state = self.state.lock();
        let first = state.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Takes one task, due or not: for the end.
    pub(in crate::engine) fn pop(&self) -> Option<T> {
        self.state.lock().due.pop_first().map(|(_, task)| task)
    }

    /// Blocks until something is due, or closed: false then.
    pub(in crate::engine) fn wait(&self, now: impl Fn() -> Tick) -> bool {
        const MAX_WAIT: Tick = 3_600_000_000_000;
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return false;
            }
            let first = state.due.first_key_value().map(|(&(due, _), _)| due);
            let others = [state.stop, state.scale, state.look];
            let next = first.into_iter().chain(others.into_iter().flatten()).min();
            let limit = match next.map(|due| due.saturating_sub(now())) {
                Some(0) => return true,
                Some(left) => left.min(MAX_WAIT),
                None => MAX_WAIT,
            };
            state = self.changed.wait_timeout(state, Duration::from_nanos(limit));
        }
    }

    /// Has the keeper end.
    pub(in crate::engine) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn gives_tasks_in_the_order_they_fall_due() {
        let deadlines = Deadlines::new();
        deadlines.add(30, 'c');
        let b = deadlines.add(20, 'b');
        deadlines.add(10, 'a');
        deadlines.add(10, 'A');
        assert_eq!(deadlines.remove(b), Some('b'));
        assert_eq!(deadlines.remove(b), None);
        assert!(deadlines.wait(|| 10));
        assert_eq!([deadlines.pop_due(10), deadlines.pop_due(10)], [Some('a'), Some('A')]);
        assert_eq!(deadlines.pop_due(29), None);
        assert_eq!(deadlines.pop_due(30), Some('c'));
        deadlines.close();
        assert!(!deadlines.wait(|| 0));
    }
}
