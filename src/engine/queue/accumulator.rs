//! The tasks of one batcher that wait: whichever of them a worker comes to takes others along, into
//! one *joint call*.
//!
//! Each task has an entry of its own in a lane, or [lingers](super::lingering) before it gets one.
//! So it keeps its place among all tasks, and whatever ends a waiting task ends it here: the worker
//! claims what it finds, and leaves out what is gone. What it took along leaves a tombstone in the
//! lane.

use super::lingering::LingerKey;
use crate::engine::clock::Tick;
use crate::engine::task::priority::Priority;
use crate::engine::task::{ACCUMULATED, LINGERS, Phase, TaskWord};
use crate::sync::Mutex;
use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Debug)]
pub struct Accumulator<T> {
    settings: JointSettings,
    state: Mutex<Waiting<T>>,
}

/// How many tasks run in one call, and what they wait for.
#[derive(Debug, Clone, Copy)]
pub struct JointSettings {
    /// The most tasks of one call, at least one.
    pub max_size: usize,
    /// For how long a task lets others come, at most.
    pub max_wait: Tick,
    /// Tasks of a call that failed are run again one by one.
    pub splits: bool,
}

/// A waiting task.
#[derive(Debug)]
pub(in crate::engine) struct Member<T> {
    pub(in crate::engine) task: T,
    pub(in crate::engine) since: Tick,
    /// Where it lingers, or did; `None`: its entry went straight into its lane.
    pub(in crate::engine) linger: Option<LingerKey>,
}

impl<T> Member<T> {
    fn of_retry(task: T) -> Self {
        Self { task, since: 0, linger: None }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    /// Never started, by priority, the oldest first.
    fresh: [VecDeque<Member<T>>; Priority::COUNT],
    /// How many of these have not ended.
    live: usize,
    /// How many of those have an entry in a lane. Those that a timer released are not known here: one
    /// entry more than needed is no harm.
    entries: usize,
    /// Tasks of calls that are made again, by the number of the call.
    retries: Vec<(u64, T)>,
    calls: u64,
    /// How many of all have ended. They are taken out when they are many.
    gone: usize,
}

impl<T> Waiting<T> {
    fn len(&self) -> usize {
        self.fresh.iter().map(VecDeque::len).sum::<usize>() + self.retries.len()
    }

    /// Ends the counts of a member that was taken out.
    fn uncount(&mut self, member: &Member<T>, word: &TaskWord) {
        if word.has(ACCUMULATED) {
            self.live -= 1;
            self.entries -= usize::from(member.linger.is_none());
            word.clear(ACCUMULATED | LINGERS);
        } else {
            self.gone -= 1;
        }
    }

    /// Has so many linger no more that every full call has an entry, which brings a worker for all of
    /// it. Gives where they linger.
    fn fill(&mut self, size: usize, word: impl Fn(&T) -> &TaskWord) -> Vec<LingerKey> {
        let mut full = Vec::new();
        while self.live >= (self.entries + 1).saturating_mul(size) {
            let lingers = |member: &&mut Member<T>| {
                member.linger.is_some() && word(&member.task).phase() == Phase::Waiting
            };
            // The oldest of the highest priority.
            let Some(first) = self.fresh.iter_mut().rev().flatten().find(lingers) else {
                break;
            };
            word(&first.task).clear(LINGERS);
            full.extend(first.linger.take());
            self.entries += 1;
        }
        full
    }

    /// Takes out what has ended, when that is much of what is here.
    fn sweep_if_due(&mut self, word: impl Fn(&T) -> &TaskWord) -> Vec<Member<T>> {
        if self.gone == 0 || self.gone * 2 < self.len() {
            return Vec::new();
        }
        let mut dead = Vec::new();
        for index in 0..Priority::COUNT {
            for member in std::mem::take(&mut self.fresh[index]) {
                if word(&member.task).is_taken() {
                    self.uncount(&member, word(&member.task));
                    dead.push(member);
                } else {
                    self.fresh[index].push_back(member);
                }
            }
        }
        let is_meant = |task: &T| word(task).is_taken();
        dead.extend(self.take_retries(|_, task| is_meant(task), &word));
        dead
    }

    /// Takes out the retries that are meant, by the numbers of their calls.
    fn take_retries(
        &mut self,
        is_meant: impl Fn(u64, &T) -> bool,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Vec<Member<T>> {
        let meant = self.retries.extract_if(.., |(call, task)| is_meant(*call, task));
        let taken: Vec<_> = meant.map(|(_, task)| Member::of_retry(task)).collect();
        for member in &taken {
            let word = word(&member.task);
            self.gone -= usize::from(!word.has(ACCUMULATED));
            word.clear(ACCUMULATED);
        }
        taken
    }
}

impl<T> Accumulator<T> {
    /// An empty one.
    pub fn new(settings: JointSettings) -> Self {
        let waiting = Waiting {
            fresh: Priority::ALL.map(|_| VecDeque::new()),
            live: 0,
            entries: 0,
            retries: Vec::new(),
            calls: 0,
            gone: 0,
        };
        Self { settings, state: Mutex::new(waiting) }
    }

    /// What it was made with.
    pub fn settings(&self) -> &JointSettings {
        &self.settings
    }

    /// Whether no task waits here. Another thread may add one at any time.
    pub fn is_empty(&self) -> bool {
        self.state.lock().len() == 0
    }

    /// Adds a task that is accepted at this moment. Gives where those linger that are to linger no
    /// more, as a call is full. The error: it comes back, as a worker has started it, or it has ended.
    pub(in crate::engine) fn add(
        &self,
        member: Member<T>,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Result<Vec<LingerKey>, Member<T>> {
        let mut state = self.state.lock();
        let (own, has_entry) = (word(&member.task), member.linger.is_none());
        if own.phase() != Phase::Waiting {
            // It lingered before it came here: it may be among the retries by now.
            return Err(member);
        }
        // Who ends it from here on finds that it is here.
        if own.set(if has_entry { ACCUMULATED } else { ACCUMULATED | LINGERS }) != Phase::Waiting {
            own.clear(ACCUMULATED | LINGERS);
            return Err(member);
        }
        state.live += 1;
        state.entries += usize::from(has_entry);
        let priority = own.priority();
        state.fresh[priority as usize].push_back(member);
        Ok(state.fill(self.settings.max_size, word))
    }

    /// Where those linger that are to linger no more, as calls are full of what is left.
    pub(in crate::engine) fn fill(&self, word: impl Fn(&T) -> &TaskWord) -> Vec<LingerKey> {
        self.state.lock().fill(self.settings.max_size, word)
    }

    /// Takes out a task that a thread has come by otherwise, if it is here; and what has ended, when that
    /// is much of what is left.
    pub(in crate::engine) fn remove(
        &self,
        lead: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Vec<Member<T>> {
        let mut state = self.state.lock();
        let lane = &mut state.fresh[lead.priority() as usize];
        // The first, mostly.
        let place = lane.iter().position(|member| std::ptr::eq(word(&member.task), lead));
        let member = place.and_then(|place| lane.remove(place));
        if let Some(member) = &member {
            state.uncount(member, lead);
        }
        member.into_iter().chain(state.sweep_if_due(word)).collect()
    }

    /// Takes out up to `most` tasks for a worker to claim, the most urgent first; and what has ended, when
    /// that is much of what is left.
    pub(in crate::engine) fn take(
        &self,
        most: usize,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Vec<Member<T>> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        for lane in state.fresh.iter_mut().rev() {
            let count = lane.len().min(most - taken.len());
            taken.extend(lane.drain(..count));
        }
        for member in &taken {
            state.uncount(member, word(&member.task));
        }
        taken.extend(state.sweep_if_due(word));
        taken
    }

    /// Adds the running tasks of a call that is to be made again, with these tasks alone.
    pub(in crate::engine) fn add_retries(&self, tasks: Vec<T>, word: impl Fn(&T) -> &TaskWord) {
        let mut state = self.state.lock();
        state.calls += 1;
        let call = state.calls;
        for task in tasks {
            word(&task).set(ACCUMULATED);
            state.retries.push((call, task));
        }
    }

    /// Takes out the tasks of the call that is made again with this one, it included, but for those
    /// that are still paused; and what has ended, when that is much of what is left.
    pub(in crate::engine) fn take_retries(
        &self,
        lead: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Vec<Member<T>> {
        let mut state = self.state.lock();
        let found = state.retries.iter().find(|(_, task)| std::ptr::eq(word(task), lead));
        let Some(call) = found.map(|(call, _)| *call) else {
            return Vec::new();
        };
        let is_meant = |of, task: &T| of == call && !word(task).is_paused();
        let mut taken = state.take_retries(is_meant, &word);
        taken.extend(state.sweep_if_due(word));
        taken
    }

    /// Notes that a task has ended which waits here, if it still does: `first` if it never started. Gives
    /// what the caller is to let go of, when much of what is here has ended, and where those linger
    /// that are to linger no more: the entry of this one brings no worker.
    pub(in crate::engine) fn note_gone(
        &self,
        gone: &TaskWord,
        first: bool,
        word: impl Fn(&T) -> &TaskWord,
    ) -> (Vec<Member<T>>, Vec<LingerKey>) {
        let mut state = self.state.lock();
        if !gone.has(ACCUMULATED) {
            return (Vec::new(), Vec::new());
        }
        state.gone += 1;
        state.live -= usize::from(first);
        state.entries -= usize::from(first && !gone.has(LINGERS));
        gone.clear(ACCUMULATED | LINGERS);
        (state.sweep_if_due(&word), state.fill(self.settings.max_size, word))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::task::JOINT;
    use crate::sync::Arc;

    type Task = Arc<(u32, TaskWord)>;

    fn task(number: u32, priority: Priority) -> Task {
        Arc::new((number, TaskWord::new(priority, JOINT)))
    }

    fn word(task: &Task) -> &TaskWord {
        &task.1
    }

    fn accumulator(max_size: usize) -> Accumulator<Task> {
        Accumulator::new(JointSettings { max_size, max_wait: 9, splits: false })
    }

    fn add(accumulator: &Accumulator<Task>, task: &Task, key: Option<u64>) -> Option<LingerKey> {
        let linger = key.map(|key| (key, key));
        let member = Member { task: Arc::clone(task), since: 0, linger };
        let full = accumulator.add(member, word).expect("it waits");
        assert!(full.len() < 2);
        full.first().copied()
    }

    fn numbers(members: &[Member<Task>]) -> Vec<u32> {
        members.iter().map(|member| member.task.0).collect()
    }

    #[test]
    fn gives_the_higher_classes_first_and_then_the_oldest() {
        let accumulator = accumulator(3);
        let lead = task(0, Priority::Normal);
        add(&accumulator, &lead, None);
        for (number, priority) in
            [(1, Priority::Low), (2, Priority::Normal), (3, Priority::High), (4, Priority::Normal)]
        {
            add(&accumulator, &task(number, priority), None);
        }
        assert_eq!(numbers(&accumulator.remove(&lead.1, word)), [0]);
        assert!(accumulator.remove(&lead.1, word).is_empty());
        assert_eq!(numbers(&accumulator.take(2, word)), [3, 2]);
        assert_eq!(numbers(&accumulator.take(9, word)), [4, 1]);
        assert!(accumulator.is_empty());
    }

    #[test]
    fn every_max_size_one_lingers_no_more() {
        let accumulator = accumulator(2);
        let mut released = Vec::new();
        for number in 1..=5 {
            let task = task(number, Priority::Normal);
            released.push(add(&accumulator, &task, Some(number.into())));
        }
        assert_eq!(released, [None, Some((1, 1)), None, Some((2, 2)), None]);
        // What went straight into its lane brings a worker for a whole call, too.
        add(&accumulator, &task(6, Priority::High), None);
        assert_eq!(add(&accumulator, &task(7, Priority::Normal), Some(7)), None);
        assert_eq!(add(&accumulator, &task(8, Priority::Normal), Some(8)), Some((3, 3)));
    }

    #[test]
    fn what_has_ended_fills_no_call_and_is_let_go() {
        let accumulator = accumulator(3);
        let tasks = [1, 2, 3].map(|number| task(number, Priority::Normal));
        for task in &tasks[..2] {
            add(&accumulator, task, Some(task.0.into()));
        }
        assert!(tasks[0].1.cancel(|_| true).is_some());
        let (gone, full) = accumulator.note_gone(&tasks[0].1, true, word);
        assert_eq!(gone.iter().map(|gone| gone.linger).collect::<Vec<_>>(), [Some((1, 1))]);
        assert!(full.is_empty());
        assert_eq!(add(&accumulator, &tasks[2], Some(3)), None);
        assert_eq!(add(&accumulator, &task(4, Priority::Normal), Some(4)), Some((2, 2)));
    }

    #[test]
    fn every_full_call_has_an_entry_whatever_becomes_of_others() {
        let accumulator = accumulator(2);
        let tasks: Vec<_> = (0..6).map(|number| task(number, Priority::Normal)).collect();
        for task in &tasks {
            add(&accumulator, task, Some(task.0.into()));
        }
        // The first three have entries, and the first call has two of them in it.
        assert_eq!(numbers(&accumulator.remove(&tasks[0].1, word)), [0]);
        assert_eq!(numbers(&accumulator.take(1, word)), [1]);
        assert_eq!(accumulator.fill(word), [(3, 3)]);
        assert_eq!(numbers(&accumulator.take(1, word)), [2]);
        assert_eq!(accumulator.fill(word), []);
        // An entry that brings no worker.
        assert!(tasks[3].1.cancel(|_| true).is_some());
        assert_eq!(accumulator.note_gone(&tasks[3].1, true, word).1, [(4, 4)]);
        // Twice is once.
        assert_eq!(accumulator.note_gone(&tasks[3].1, true, word).1, []);
    }

    #[test]
    fn a_task_that_is_to_be_tried_again_before_it_was_added_is_let_go_once_it_has_ended() {
        let accumulator = accumulator(4);
        let task = task(1, Priority::Normal);
        assert!(task.1.claim_fresh());
        accumulator.add_retries(vec![Arc::clone(&task)], word);
        assert!(task.1.requeue());
        let late = Member { task: Arc::clone(&task), since: 0, linger: Some((1, 1)) };
        assert!(accumulator.add(late, word).is_err());
        assert!(task.1.call_off().is_some());
        assert_eq!(numbers(&accumulator.note_gone(&task.1, false, word).0), [1]);
        assert!(accumulator.is_empty());
    }

    #[test]
    fn what_has_ended_goes_with_the_last_that_is_taken_out() {
        let accumulator = accumulator(4);
        let [first, second, ended] = [1, 2, 3].map(|number| task(number, Priority::Normal));
        assert!(ended.1.claim_fresh());
        accumulator.add_retries(vec![Arc::clone(&ended)], word);
        add(&accumulator, &first, None);
        add(&accumulator, &second, None);
        assert!(ended.1.settle_running());
        assert!(accumulator.note_gone(&ended.1, false, word).0.is_empty());
        assert_eq!(numbers(&accumulator.remove(&first.1, word)), [1, 3]);
        assert_eq!(numbers(&accumulator.remove(&second.1, word)), [2]);
        assert!(accumulator.is_empty());
    }

    #[test]
    fn a_call_is_made_again_with_its_own_tasks() {
        let accumulator = accumulator(4);
        let tasks = [1, 2, 3].map(|number| task(number, Priority::Normal));
        accumulator.add_retries(tasks[..2].to_vec(), word);
        accumulator.add_retries(tasks[2..].to_vec(), word);
        let again = accumulator.take_retries(&tasks[1].1, word);
        assert_eq!(numbers(&again), [1, 2]);
        assert!(accumulator.take_retries(&tasks[1].1, word).is_empty());
        assert_eq!(accumulator.take_retries(&tasks[2].1, word).len(), 1);
    }
}
