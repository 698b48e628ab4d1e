//! What the keeper waits for: tasks whose time limit passes, tasks whose pause ends, and its other
//! appointments.

use crate::engine::clock::Tick;
use crate::sync::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::time::Duration;

/// Identifies one task that the keeper waits for: when it falls due, and a number for tasks due
/// together.
pub type DeadlineKey = (Tick, u64);

/// Tasks by due time. Only tasks with a limit, and paused ones, ever come here.
#[derive(Debug)]
pub struct Deadlines<T> {
    state: Mutex<Schedule<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Schedule<T> {
    due: BTreeMap<DeadlineKey, T>,
    /// Tasks that are paused, by the end of their pauses.
    paused: BTreeMap<DeadlineKey, T>,
    /// Paused tasks whose threads sit their pauses out: for those who end all pauses.
    sat_out: BTreeMap<u64, T>,
    /// Every pause is over, and none begins any more.
    pauses_are_cut: bool,
    next: u64,
    /// When the runner is to stop by itself.
    stop: Option<Tick>,
    /// When the number of burst workers is to be thought over.
    scale: Option<Tick>,
    /// When the runner is to be looked at.
    look: Option<Tick>,
    /// When what waits may have to fail, as no resource can be made.
    fail_fast: Option<Tick>,
    /// When the first task that lingers is to get its entry, or earlier.
    release: Option<Tick>,
    closed: bool,
    /// Whether a keeper has been started.
    has_keeper: bool,
    /// When the keeper, which sleeps, wakes by itself; 0 while it does not, and so is going to look.
    /// It may wake for what is not there any more: a task that begins has nobody woken whose limit
    /// passes later, and mostly it has ended by then.
    wakes_at: Tick,
}

impl<T> Deadlines<T> {
    pub(in crate::engine) fn new() -> Self {
        let state = Schedule {
            due: BTreeMap::new(),
            paused: BTreeMap::new(),
            sat_out: BTreeMap::new(),
            pauses_are_cut: false,
            next: 0,
            stop: None,
            scale: None,
            look: None,
            fail_fast: None,
            release: None,
            closed: false,
            has_keeper: false,
            wakes_at: 0,
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
        state.due.insert(key, task);
        self.tell(state, due);
        key
    }

    /// Wakes the keeper, if it would sleep beyond the time at which something falls due.
    fn tell(&self, state: MutexGuard<'_, Schedule<T>>, due: Tick) {
        let sleeps_beyond = due < state.wakes_at;
        drop(state);
        if sleeps_beyond {
            self.changed.notify_all();
        }
    }

    /// The key of a pause that is to begin, for [`pause`](Self::pause).
    pub(in crate::engine) fn reserve(&self, due: Tick) -> DeadlineKey {
        let mut state = self.state.lock();
        state.next += 1;
        (due, state.next - 1)
    }

    /// Keeps tasks until their pauses are over, all of them from one moment on. The error: they come
    /// back, as all pauses are over, or there is no keeper after all.
    pub(in crate::engine) fn pause(
        &self,
        tasks: Vec<(DeadlineKey, T)>,
    ) -> Result<(), Vec<(DeadlineKey, T)>> {
        let mut state = self.state.lock();
        if state.pauses_are_cut || !state.has_keeper {
            return Err(tasks);
        }
        state.paused.extend(tasks);
        if let Some((&(first, _), _)) = state.paused.first_key_value() {
            self.tell(state, first);
        }
        Ok(())
    }

    /// Ends all pauses, now and later: the keeper finds each to be over.
    pub(in crate::engine) fn cut_pauses(&self) {
        self.state.lock().pauses_are_cut = true;
        self.changed.notify_all();
    }

    /// Takes the tasks whose pauses are over.
    pub(in crate::engine) fn take_resumed(&self, now: Tick) -> Vec<T> {
        let mut state = self.state.lock();
        let later = match now.checked_add(1) {
            Some(end) if !state.pauses_are_cut => state.paused.split_off(&(end, 0)),
            _ => BTreeMap::new(),
        };
        std::mem::replace(&mut state.paused, later).into_values().collect()
    }

    /// Takes a paused task, if it still is.
    pub(in crate::engine) fn unpause(&self, key: DeadlineKey) -> Option<T> {
        self.state.lock().paused.remove(&key)
    }

    /// Notes a paused task whose thread sits its pause out. Gives what to call
    /// [`end_sitting_out`](Self::end_sitting_out) with.
    pub(in crate::engine) fn sit_out(&self, task: T) -> u64 {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.sat_out.insert(number, task);
        number
    }

    /// The thread sits it out no more: gives the task, if it is still noted.
    pub(in crate::engine) fn end_sitting_out(&self, number: u64) -> Option<T> {
        self.state.lock().sat_out.remove(&number)
    }

    /// Takes all paused tasks whose threads sit their pauses out. The threads notice what is ended.
    pub(in crate::engine) fn take_sat_out(&self) -> Vec<T> {
        std::mem::take(&mut self.state.lock().sat_out).into_values().collect()
    }

    /// Takes all other paused tasks.
    pub(in crate::engine) fn take_paused(&self) -> Vec<T> {
        std::mem::take(&mut self.state.lock().paused).into_values().collect()
    }

    /// Remembers when the runner is to stop.
    pub(in crate::engine) fn stop_at(&self, due: Tick) {
        let mut state = self.state.lock();
        state.stop = Some(due);
        self.tell(state, due);
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_stop(&self, now: Tick) -> bool {
        self.state.lock().stop.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when the number of workers is to be thought over.
    pub(in crate::engine) fn scale_at(&self, due: Tick) {
        let mut state = self.state.lock();
        state.scale = Some(due);
        self.tell(state, due);
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_scale(&self, now: Tick) -> bool {
        self.state.lock().scale.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when the runner is to be looked at.
    pub(in crate::engine) fn look_at(&self, due: Tick) {
        let mut state = self.state.lock();
        state.look = Some(due);
        self.tell(state, due);
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_look(&self, now: Tick) -> bool {
        self.state.lock().look.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when what waits may have to fail.
    pub(in crate::engine) fn fail_fast_at(&self, due: Tick) {
        let mut state = self.state.lock();
        state.fail_fast = Some(due);
        self.tell(state, due);
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn may_fail_fast(&self, now: Tick) -> bool {
        self.state.lock().fail_fast.take_if(|due| *due <= now).is_some()
    }

    /// Remembers when a task that lingers is to get its entry.
    pub(in crate::engine) fn release_at(&self, due: Tick) {
        let mut state = self.state.lock();
        if state.release.is_none_or(|first| due < first) {
            state.release = Some(due);
            self.tell(state, due);
        }
    }

    /// Whether that time has come; true once.
    pub(in crate::engine) fn must_release(&self, now: Tick) -> bool {
        self.state.lock().release.take_if(|due| *due <= now).is_some()
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
        let mut state = self.state.lock();
        let first = state.due.pop_first().or_else(|| state.paused.pop_first());
        first.map(|(_, task)| task)
    }

    /// Blocks until something is due, or closed: false then.
    pub(in crate::engine) fn wait(&self, now: impl Fn() -> Tick) -> bool {
        const MAX_WAIT: Tick = 3_600_000_000_000;
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return false;
            }
            let first = |tasks: &BTreeMap<DeadlineKey, T>| {
                tasks.first_key_value().map(|(&(due, _), _)| due)
            };
            let resumed =
                first(&state.paused).map(|due| if state.pauses_are_cut { 0 } else { due });
            let others = [state.stop, state.scale, state.look, state.release, state.fail_fast];
            let next = [first(&state.due), resumed].into_iter().chain(others).flatten().min();
            let now = now();
            let limit = match next.map(|due| due.saturating_sub(now)) {
                Some(0) => return true,
                Some(left) => left.min(MAX_WAIT),
                None => MAX_WAIT,
            };
            state.wakes_at = now.saturating_add(limit);
            state = self.changed.wait_timeout(state, Duration::from_nanos(limit));
            state.wakes_at = 0;
        }
    }

    /// Has the keeper end.
    pub(in crate::engine) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "a keeper that sleeps")]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

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

    #[test]
    fn the_keeper_is_woken_for_what_falls_due_before_it_wakes_by_itself() {
        const FAR: Tick = 1_000_000_000_000;
        let (deadlines, looks) = (Deadlines::new(), AtomicU64::new(0));
        let sleeps = || deadlines.state.lock().wakes_at > 0;
        thread::scope(|scope| {
            let keeper = scope.spawn(|| deadlines.wait(|| looks.fetch_add(1, Ordering::SeqCst)));
            let first = deadlines.add(FAR, 'a');
            while !sleeps() {
                thread::yield_now();
            }
            deadlines.remove(first);
            for later in 1..1_000 {
                let key = deadlines.add(FAR + later, 'b');
                thread::yield_now();
                deadlines.remove(key);
            }
            let looked = looks.load(Ordering::SeqCst);
            deadlines.add(1, 'c');
            assert!(keeper.join().is_ok_and(|is_due| is_due));
            // One look before it slept, and another if it slept before there was the first.
            assert!(looked <= 2, "it was woken {looked} times");
        });
        assert_eq!(deadlines.pop_due(1), Some('c'));
    }

    #[test]
    fn pauses_end_in_order_or_all_at_once() {
        let deadlines = Deadlines::new();
        let keys = [30, 10, 20].map(|due| deadlines.reserve(due));
        let tasks: Vec<_> = keys.into_iter().zip(['c', 'a', 'b']).collect();
        assert_eq!(deadlines.pause(tasks.clone()), Err(tasks.clone()), "nobody would end it");
        assert!(deadlines.claim_keeper());
        assert_eq!(deadlines.pause(tasks), Ok(()));
        assert_eq!(deadlines.unpause(keys[2]), Some('b'));
        assert!(deadlines.wait(|| 10));
        assert_eq!((deadlines.take_resumed(9), deadlines.take_resumed(10)), (vec![], vec!['a']));
        deadlines.cut_pauses();
        assert!(deadlines.wait(|| 10));
        assert_eq!((deadlines.take_resumed(10), deadlines.take_resumed(10)), (vec!['c'], vec![]));
        assert!(deadlines.pause(vec![(deadlines.reserve(40), 'd')]).is_err());
    }
}
