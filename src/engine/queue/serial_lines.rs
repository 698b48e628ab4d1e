//! The lines of keys whose tasks run one after the other: those that were accepted and have not
//! ended, in the order of their submission.
//!
//! The first one is the *head*, and it alone has an entry in a lane; those behind it are *followers*.
//! A head is *held* from its claim on, until its function has returned and no retry is to come. What
//! is to run next of a line is in the highest class of all that wait there.

use super::line_figures::{LineFigure, LineFigures};
use crate::engine::clock::Tick;
use crate::engine::task::key::LineNumber;
use crate::engine::task::priority::Priority;
use crate::engine::task::{EXPIRED, IN_LINE, Phase, RAISED, SERIAL, TaskWord};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use std::collections::{BTreeMap, VecDeque};

/// See the module's documentation.
#[derive(Debug)]
pub struct SerialLines<T> {
    table: Mutex<LineTable<T>>,
    /// How many tasks wait here that have no entry in a lane. `SeqCst`, like the lanes: raised
    /// before the gate is left, and lowered after the entry is in its lane.
    outside: AtomicUsize,
}

#[derive(Debug)]
struct LineTable<T> {
    /// How many lines ever were.
    count: u64,
    lines: BTreeMap<LineNumber, Line<T>>,
    figures: LineFigures,
}

#[derive(Debug)]
struct Line<T> {
    /// The hash of its key, for the host.
    hash: u64,
    /// How many submitters are about to add a task.
    holds: usize,
    /// The first two have not ended.
    tasks: VecDeque<Member<T>>,
    /// Where the head waits; `None`: it is held, or there is none.
    lane: Option<Priority>,
    /// How many tasks wait, by their own priorities; a head that is held does not.
    waiting: [usize; Priority::COUNT],
    /// How many followers have ended. They are taken out when they are many.
    gone: usize,
}

#[derive(Debug)]
struct Member<T> {
    task: T,
    since: Tick,
}

/// Where a task stands that has not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the next, or has no line.
    Next,
    /// Those before it have their outcomes, and leave in a moment.
    Soon,
    /// Others come before it.
    Behind,
}

/// What became of a task that was added to its line.
#[derive(Debug)]
pub(in crate::engine) enum Added<T> {
    /// It is the head: this is for its lane.
    Head(T),
    /// It follows. The head is to be raised, where that waits in a lower class.
    Follower(Option<Raise<T>>),
    /// Another thread had ended it already.
    Gone(T),
}

/// A head that waits in a lane, and belongs in a higher one.
#[derive(Debug)]
pub(in crate::engine) struct Raise<T> {
    pub(in crate::engine) task: T,
    pub(in crate::engine) since: Tick,
    pub(in crate::engine) from: Priority,
    pub(in crate::engine) to: Priority,
}

/// What a task left behind in its line.
#[derive(Debug)]
pub(in crate::engine) struct Left<T> {
    /// Where its entry is.
    pub(in crate::engine) lane: Option<Priority>,
    /// The new head: its lane is to be given the entry, and [`SerialLines::entered`] called then.
    pub(in crate::engine) next: Option<(Priority, T, Tick)>,
    /// For the caller to drop.
    pub(in crate::engine) dead: Vec<T>,
    /// The line is no more.
    pub(in crate::engine) ended: Option<EndedLine>,
}

/// What a task left behind that is in its line no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Departure {
    /// Where it stood: its entry is a tombstone.
    pub(in crate::engine) lane: Option<Priority>,
    /// The next one has its entry.
    pub(in crate::engine) has_next: bool,
}

impl Departure {
    /// Whether a task that has waited, and left its line if it was in one, had no entry.
    pub(in crate::engine) fn was_outside(departure: Option<Self>, word: &TaskWord) -> bool {
        word.has(SERIAL) && departure.is_none_or(|departure| departure.lane.is_none())
    }
}

/// A line that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedLine {
    /// Its number, which no other line gets.
    pub number: LineNumber,
    /// What it was opened with.
    pub hash: u64,
}

impl<T> Line<T> {
    /// The highest class that waits.
    fn class(&self) -> Option<Priority> {
        Priority::ALL.into_iter().rev().find(|class| self.waiting[*class as usize] > 0)
    }

    fn is_head(&self, word: &TaskWord, of: impl Fn(&T) -> &TaskWord) -> bool {
        self.tasks.front().is_some_and(|head| std::ptr::eq(of(&head.task), word))
    }

    fn figure(&self) -> LineFigure {
        let follower = self.tasks.get(1).map(|follower| follower.since);
        LineFigure { length: self.tasks.len() - self.gone, follower }
    }

    /// Takes out the followers that have ended and are the first, and all of them when they are many.
    fn sweep(&mut self, word: impl Fn(&T) -> &TaskWord) -> Vec<T> {
        let has_ended = |member: &Member<T>| !word(&member.task).has(IN_LINE);
        let mut dead = Vec::new();
        if self.gone * 2 >= self.tasks.len() {
            let tasks = std::mem::take(&mut self.tasks);
            let (gone, live) = tasks.into_iter().partition::<VecDeque<_>, _>(has_ended);
            self.tasks = live;
            dead.extend(gone);
        } else {
            while self.tasks.get(1).is_some_and(has_ended) {
                dead.extend(self.tasks.remove(1));
            }
        }
        self.gone -= dead.len();
        dead.into_iter().map(|member| member.task).collect()
    }
}

impl<T> LineTable<T> {
    /// Forgets a line that has neither tasks nor submitters.
    fn end_if_over(&mut self, number: LineNumber) -> Option<EndedLine> {
        let line = self.lines.get(&number)?;
        if line.holds > 0 || !line.tasks.is_empty() {
            return None;
        }
        self.lines.remove(&number).map(|line| EndedLine { number, hash: line.hash })
    }
}

impl<T> SerialLines<T> {
    pub(in crate::engine) fn new() -> Self {
        let table = LineTable { count: 0, lines: BTreeMap::new(), figures: LineFigures::new() };
        Self { table: Mutex::new(table), outside: AtomicUsize::new(0) }
    }

    /// Makes a line for a key with this hash, and holds it.
    pub fn open(&self, hash: u64) -> LineNumber {
        let mut table = self.table.lock();
        let number = LineNumber::after(table.count);
        table.count += 1;
        let line = Line {
            hash,
            holds: 1,
            tasks: VecDeque::new(),
            lane: None,
            waiting: [0; Priority::COUNT],
            gone: 0,
        };
        table.lines.insert(number, line);
        number
    }

    /// Keeps a line from its end until [`let_go`](Self::let_go); false when it is no more.
    pub fn hold(&self, number: LineNumber) -> bool {
        let mut table = self.table.lock();
        table.lines.get_mut(&number).map(|line| line.holds += 1).is_some()
    }

    /// Ends a hold.
    pub fn let_go(&self, number: LineNumber) -> Option<EndedLine> {
        let mut table = self.table.lock();
        table.lines.get_mut(&number)?.holds -= 1;
        table.end_if_over(number)
    }

    /// Adds a task that is accepted at this moment, whose line the submitter holds. `share`, which is
    /// called under the lock, makes a handle and does nothing else, here and below.
    pub(in crate::engine) fn add(
        &self,
        number: LineNumber,
        task: T,
        since: Tick,
        word: impl Fn(&T) -> &TaskWord,
        share: impl Fn(&T) -> T,
    ) -> Added<T> {
        let LineTable { lines, figures, .. } = &mut *self.table.lock();
        let Some(line) = lines.get_mut(&number) else {
            return Added::Gone(task);
        };
        let own = word(&task);
        let priority = own.priority();
        // Under the lock, under which the thread that ends it looks for the flag.
        if own.set(IN_LINE) != Phase::Waiting {
            own.clear(IN_LINE);
            return Added::Gone(task);
        }
        let before = line.figure();
        line.waiting[priority as usize] += 1;
        line.tasks.push_back(Member { task, since });
        figures.update(number, before, line.figure());
        if line.tasks.len() == 1 {
            line.lane = Some(priority);
            return Added::Head(share(&line.tasks[0].task));
        }
        self.outside.fetch_add(1, Ordering::SeqCst);
        let raised = line.lane.filter(|lane| priority > *lane).map(|from| {
            line.lane = Some(priority);
            let head = &line.tasks[0];
            word(&head.task).set(RAISED);
            Raise { task: share(&head.task), since: head.since, from, to: priority }
        });
        Added::Follower(raised)
    }

    /// Where a task stands that has not started.
    pub(in crate::engine) fn place(
        &self,
        number: LineNumber,
        own: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Place {
        let table = self.table.lock();
        let Some(line) = table.lines.get(&number) else {
            return Place::Next;
        };
        let mut place = Place::Next;
        for member in &line.tasks {
            let other = word(&member.task);
            if std::ptr::eq(other, own) {
                break;
            }
            // What outlived its time limit has its outcome, and holds the line all the same.
            if !other.is_done() || other.has(EXPIRED) {
                return Place::Behind;
            }
            place = Place::Soon;
        }
        place
    }

    /// A head was claimed, and is held.
    pub(in crate::engine) fn begin(&self, number: LineNumber, own: &TaskWord) {
        if let Some(line) = self.table.lock().lines.get_mut(&number)
            && line.lane.take().is_some()
        {
            line.waiting[own.priority() as usize] -= 1;
        }
    }

    /// The head is to wait again, for a retry: gives in which lane. Another thread may have ended it
    /// meanwhile.
    pub(in crate::engine) fn again(&self, number: LineNumber, own: &TaskWord) -> Priority {
        let mut table = self.table.lock();
        let priority = own.priority();
        match table.lines.get_mut(&number) {
            Some(line) if own.has(IN_LINE) => {
                line.waiting[priority as usize] += 1;
                line.lane = line.class();
                line.lane.unwrap_or(priority)
            }
            _ => priority,
        }
    }

    /// Takes a task out that has ended. `None`: it is in no line.
    pub(in crate::engine) fn leave(
        &self,
        number: LineNumber,
        own: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
        share: impl Fn(&T) -> T,
    ) -> Option<Left<T>> {
        let mut table = self.table.lock();
        let LineTable { lines, figures, .. } = &mut *table;
        let line = lines.get_mut(&number).filter(|_| own.has(IN_LINE))?;
        let before = line.figure();
        own.clear(IN_LINE);
        let mut left = Left { lane: None, next: None, dead: Vec::new(), ended: None };
        if line.is_head(own, &word) {
            left.lane = line.lane.take();
            if left.lane.is_some() {
                line.waiting[own.priority() as usize] -= 1;
            }
            left.dead.extend(line.tasks.pop_front().map(|head| head.task));
            left.dead.extend(line.sweep(word));
            if let Some(head) = line.tasks.front() {
                line.lane = line.class();
                left.next = line.lane.map(|lane| (lane, share(&head.task), head.since));
            }
        } else {
            line.waiting[own.priority() as usize] -= 1;
            line.gone += 1;
            self.outside.fetch_sub(1, Ordering::SeqCst);
            left.dead = line.sweep(word);
        }
        figures.update(number, before, line.figure());
        if line.tasks.is_empty() {
            left.ended = table.end_if_over(number);
        }
        Some(left)
    }

    /// A new head has its entry in its lane.
    pub(in crate::engine) fn entered(&self) {
        self.outside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes those out that wait since then or longer, for the caller to settle, in the order of their
    /// lines. Heads stay, and are among them all the same: true beside one whose entry is in a lane, or
    /// about to be.
    pub(in crate::engine) fn take_since(
        &self,
        then: Tick,
        word: impl Fn(&T) -> &TaskWord,
        share: impl Fn(&T) -> T,
    ) -> Vec<(T, bool)> {
        let mut taken = Vec::new();
        let LineTable { lines, figures, .. } = &mut *self.table.lock();
        for (number, line) in lines {
            let before = line.figure();
            let Some(head) = line.tasks.pop_front() else {
                continue;
            };
            if line.lane.is_some() && head.since <= then {
                taken.push((share(&head.task), true));
            }
            let mut stay = VecDeque::from([head]);
            for member in std::mem::take(&mut line.tasks) {
                let own = word(&member.task);
                if own.has(IN_LINE) {
                    if member.since > then {
                        stay.push_back(member);
                        continue;
                    }
                    own.clear(IN_LINE);
                    line.waiting[own.priority() as usize] -= 1;
                    self.outside.fetch_sub(1, Ordering::SeqCst);
                }
                taken.push((member.task, false));
            }
            (line.tasks, line.gone) = (stay, 0);
            figures.update(*number, before, line.figure());
        }
        taken
    }

    /// How many tasks wait here that have no entry in a lane.
    pub(in crate::engine) fn outside(&self) -> usize {
        self.outside.load(Ordering::SeqCst)
    }

    /// How many tasks the longest line has, the one that runs included.
    pub(in crate::engine) fn longest(&self) -> usize {
        self.table.lock().figures.longest()
    }

    /// Since when the follower waits that has waited longest.
    pub(in crate::engine) fn oldest(&self) -> Option<Tick> {
        self.table.lock().figures.oldest()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::task::SERIAL;
    use crate::sync::Arc;

    type Task = Arc<TaskWord>;

    fn word(task: &Task) -> &TaskWord {
        task
    }

    /// Lines, one of them, and so many tasks in it. Submitters hold it no more.
    fn line<const N: usize>(classes: [Priority; N]) -> (SerialLines<Task>, LineNumber, [Task; N]) {
        let lines = SerialLines::new();
        let number = lines.open(7);
        let tasks = classes.map(|class| Arc::new(TaskWord::new(class, SERIAL)));
        for (since, task) in (0..).zip(&tasks) {
            add(&lines, number, task, since);
        }
        assert!(lines.let_go(number).is_none());
        (lines, number, tasks)
    }

    fn add(lines: &SerialLines<Task>, line: LineNumber, task: &Task, since: Tick) -> Added<Task> {
        lines.add(line, Arc::clone(task), since, word, Arc::clone)
    }

    fn leave(lines: &SerialLines<Task>, line: LineNumber, task: &Task) -> Left<Task> {
        lines.leave(line, task, word, Arc::clone).expect("it is in its line")
    }

    fn next(left: &Left<Task>) -> Option<(Priority, *const TaskWord)> {
        left.next.as_ref().map(|(lane, task, _)| (*lane, Arc::as_ptr(task)))
    }

    #[test]
    fn the_end_of_a_task_brings_the_next_in_the_highest_class_that_waits() {
        use Priority::{High, Low, Normal};
        let (lines, number, tasks) = line([Normal, Low, High, Low]);
        assert_eq!((lines.outside(), lines.longest()), (3, 4));
        lines.begin(number, &tasks[0]);
        let left = leave(&lines, number, &tasks[0]);
        assert_eq!(next(&left), Some((High, Arc::as_ptr(&tasks[1]))));
        assert_eq!(left.lane, None);
        lines.entered();
        lines.begin(number, &tasks[1]);
        assert_eq!(next(&leave(&lines, number, &tasks[1])), Some((High, Arc::as_ptr(&tasks[2]))));
        lines.begin(number, &tasks[2]);
        assert_eq!(next(&leave(&lines, number, &tasks[2])), Some((Low, Arc::as_ptr(&tasks[3]))));
        let left = leave(&lines, number, &tasks[3]);
        assert_eq!((left.lane, left.ended), (Some(Low), Some(EndedLine { number, hash: 7 })));
        assert!(!lines.hold(number) && lines.longest() == 0);
        assert_ne!(lines.open(7), number);
    }

    #[test]
    fn a_more_urgent_task_raises_a_head_that_waits() {
        use Priority::{High, Low, Normal};
        let (lines, number, tasks) = line([Low]);
        assert!(lines.hold(number));
        let urgent = |class| Arc::new(TaskWord::new(class, SERIAL));
        let Added::Follower(Some(raise)) = add(&lines, number, &urgent(Normal), 1) else {
            panic!("it follows, and raises");
        };
        assert!(Arc::ptr_eq(&raise.task, &tasks[0]) && tasks[0].has(RAISED));
        assert_eq!((raise.since, raise.from, raise.to), (0, Low, Normal));
        assert!(matches!(add(&lines, number, &urgent(Low), 2), Added::Follower(None)));
        lines.begin(number, &tasks[0]);
        assert!(matches!(add(&lines, number, &urgent(High), 3), Added::Follower(None)));
        assert_eq!(lines.again(number, &tasks[0]), High);
    }

    #[test]
    fn what_has_ended_is_skipped_and_let_go_of() {
        let (lines, number, tasks) = line([Priority::Normal; 6]);
        let dead = |task: &Task| {
            assert!(task.cancel(|_| true).is_some());
            leave(&lines, number, task).dead.len()
        };
        assert_eq!([&tasks[1], &tasks[3], &tasks[4]].map(dead), [1, 0, 0]);
        assert_eq!((lines.outside(), lines.longest(), lines.oldest()), (2, 3, Some(2)));
        lines.begin(number, &tasks[0]);
        assert_eq!((dead(&tasks[2]), lines.oldest()), (3, Some(5)));
        let left = leave(&lines, number, &tasks[0]);
        assert_eq!(next(&left), Some((Priority::Normal, Arc::as_ptr(&tasks[5]))));
        assert_eq!((left.dead.len(), lines.longest(), lines.oldest()), (1, 1, None));
        assert!(lines.leave(number, &tasks[1], word, Arc::clone).is_none());
    }

    #[test]
    fn followers_are_taken_out_and_heads_that_wait_are_shown() {
        let (lines, number, tasks) = line([Priority::Normal; 4]);
        let since: Vec<_> = lines.take_since(1, word, Arc::clone);
        assert_eq!(since.iter().map(|(_, is_head)| *is_head).collect::<Vec<_>>(), [true, false]);
        assert!(tasks[0].has(IN_LINE) && !tasks[1].has(IN_LINE) && tasks[2].has(IN_LINE));
        lines.begin(number, &tasks[0]);
        assert_eq!(lines.take_since(Tick::MAX, word, Arc::clone).len(), 2);
        assert_eq!(lines.outside(), 0);
        assert!(leave(&lines, number, &tasks[0]).ended.is_some());
    }

    #[test]
    fn a_follower_is_soon_next_when_all_before_it_have_ended_in_time() {
        let (lines, number, tasks) = line([Priority::Normal; 3]);
        let place = |task: &Task| lines.place(number, task, word);
        assert_eq!(tasks.each_ref().map(place), [Place::Next, Place::Behind, Place::Behind]);
        tasks[0].claim();
        lines.begin(number, &tasks[0]);
        assert!(tasks[0].settle_running() && tasks[0].publish(|_| true).is_some());
        assert_eq!(tasks.each_ref().map(place), [Place::Next, Place::Soon, Place::Behind]);
        tasks[0].set(EXPIRED);
        assert_eq!(place(&tasks[1]), Place::Behind);
    }
}
