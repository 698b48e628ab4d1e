//! Wakes idle workers: one for the first task, which wakes the next when there is more.
//!
//! Sleepers stand on a stack, and a word beside it tells how many they are and whether a wake-up is
//! under way. A submitter pushes, then wakes one: with none asleep, or a woken worker still on its
//! way, that is one load. The woken worker clears the mark *after* it took its task and wakes the
//! next when more waits, so that N tasks reach N idle workers in a chain, and a burst of submits
//! costs one system call instead of one each.
//!
//! A worker that has run out of tasks yields its core a few times before it sleeps, with the mark
//! set: submitters then need not wake a worker. Where callers wait for each task this is most of
//! the speed: the caller that just got its outcome submits the next task within that moment. One
//! worker looks at a time.
//!
//! Last asleep, first woken: a few workers stay warm and the others stay asleep.
//!
//! A task with a key wakes the *home* of the key, if that sleeps. Until it has looked it is *expected*,
//! and others leave as many tasks to those that are: they would have the task before it is awake.
//! Which of the tasks it takes is up to their order, and nothing is kept for it: where more waits
//! than workers are expected, any worker takes any task.
//!
//! What is not a task concerns certain workers, and wakes no other. Many that are wanted at once, as
//! those that are dismissed, are *called*: taken off the stack together, and woken one by the other
//! like those for tasks, after which they come. All at once would fight for the interpreter, and
//! keep it from all other threads.
//!
//! Why no wake-up is lost: both sides do *write, fence, read* (`SeqCst`). The submitter writes the
//! lane and reads this word; a sleeper writes this word and looks at the lane; a woken worker
//! clears the mark and looks at the lane. Whichever comes second sees the other.
//!
//! Parked threads and not a channel, whose receivers are woken first come first served, and each of
//! which spins before it blocks.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, CachePadded, Mutex};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SLEEPER: u64 = 1;
const SLEEPERS: u64 = (1 << 32) - 1;
const WAKING: u64 = 1 << 32;
const CALLED: u64 = 1 << 33;
const EXPECTED: u64 = 1 << 34;
/// How often a worker yields its core before it sleeps.
const YIELDS_BEFORE_PARK: usize = if cfg!(loom) { 1 } else { 6 };
/// How often a worker that another worker woke yields its core before it takes a task. More than
/// two cost more context switches than they save.
const YIELDS_AFTER_WAKE: usize = if cfg!(loom) { 1 } else { 2 };

/// See the module's documentation.
#[derive(Debug)]
pub struct IdleWorkers {
    /// Sleepers below, then the marks, above them how many are expected. The first number is
    /// written under the lock of `asleep` and is the height of the stack. `WAKING` is set under it,
    /// and cleared by the woken worker without it; `CALLED` says under it that some are called. A
    /// worker becomes expected under it, and ends that itself without it.
    word: CachePadded<AtomicU64>,
    asleep: Mutex<Asleep>,
}

#[derive(Debug, Default)]
struct Asleep {
    stack: Vec<Arc<Sleeper>>,
    /// Taken off the stack, and woken in this order.
    called: VecDeque<Arc<Sleeper>>,
}

/// What a worker can be woken for while it sleeps, beside tasks.
#[derive(Debug, Clone, Copy)]
pub struct Wakeable {
    /// Its number on the roster.
    pub number: u64,
    /// The generation of resources from which on it waits for the turn to renew its own.
    pub renews_from: u64,
    /// By which keys know it.
    pub home: u64,
}

#[derive(Debug)]
struct Sleeper {
    thread: Thread,
    wakeable: Wakeable,
    /// When it wakes up by itself.
    end: Option<Instant>,
    /// Set once, by the waker that took it off the stack. Release and acquire: the woken worker
    /// sees what the waker did before.
    woken: AtomicBool,
    /// Woken by a worker, and not by a submitter: that worker may be through with everything in a
    /// moment. Written before `woken`, read after it.
    by_worker: AtomicBool,
    /// Woken as the home of a key. Written under the lock under which it is taken off the stack.
    expected: AtomicBool,
}

/// Why `sleep` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// Another thread woke it: the caller owes a [`wake_another`](IdleWorkers::wake_another).
    Woken,
    /// So did one that has a task for it, and until then it is expected.
    Expected,
    /// There was something to do before it slept.
    NotNeeded,
    /// The limit passed.
    TimedOut,
}

impl IdleWorkers {
    /// No worker sleeps yet.
    pub fn new() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(0)), asleep: Mutex::default() }
    }

    /// Wakes one sleeper, unless none sleeps or one is on its way. True when it woke one.
    #[inline]
    pub fn wake_one(&self) -> bool {
        self.wake_next(false)
    }

    fn wake_next(&self, by_worker: bool) -> bool {
        fence(Ordering::SeqCst);
        let can_wake = |word: u64| word & SLEEPERS != 0 && word & WAKING == 0;
        if !can_wake(self.word.load(Ordering::SeqCst)) {
            return false;
        }
        let sleeper = {
            let mut asleep = self.asleep.lock();
            if !can_wake(self.word.load(Ordering::SeqCst)) {
                return false;
            }
            let sleeper = asleep.stack.pop();
            if sleeper.is_some() {
                self.word.fetch_sub(SLEEPER, Ordering::SeqCst);
                self.word.fetch_or(WAKING, Ordering::SeqCst);
            }
            sleeper
        };
        let woke = sleeper.is_some();
        if let Some(sleeper) = sleeper {
            sleeper.by_worker.store(by_worker, Ordering::Relaxed);
            sleeper.wake();
        }
        woke
    }

    /// Wakes a worker for a task with a key, which is expected then: the home of the key, or if that
    /// `cannot_come`, or there is none, the worker that has slept longest, so that keys spread. False:
    /// none of these sleeps.
    pub fn wake_home(&self, home: Option<u64>, cannot_come: impl Fn(u64) -> bool) -> bool {
        let found = {
            let stack = &mut self.asleep.lock().stack;
            let is_home = |sleeper: &Arc<Sleeper>| home == Some(sleeper.wakeable.home);
            let index = stack
                .iter()
                .rposition(is_home)
                .or_else(|| (!stack.is_empty() && home.is_none_or(cannot_come)).then_some(0));
            index.map(|index| {
                self.word.fetch_add(EXPECTED - SLEEPER, Ordering::SeqCst);
                let sleeper = stack.remove(index);
                sleeper.expected.store(true, Ordering::Relaxed);
                sleeper
            })
        };
        let woke = found.is_some();
        found.into_iter().for_each(Sleeper::wake);
        woke
    }

    /// A worker that does not sleep is expected, or is to be.
    pub fn expect_one(&self) {
        self.word.fetch_add(EXPECTED, Ordering::SeqCst);
    }

    /// It is not expected after all. The caller wakes a worker.
    pub fn expect_one_less(&self) {
        self.word.fetch_sub(EXPECTED, Ordering::SeqCst);
    }

    /// How many workers are expected.
    #[inline]
    pub fn expected(&self) -> u64 {
        self.word.load(Ordering::SeqCst) / EXPECTED
    }

    /// Wakes every sleeper, also those that are called: the one that was to wake the next may be
    /// gone.
    pub fn wake_all(&self) {
        self.wake_matching(|_| true);
        while self.wake_called() {}
    }

    /// Wakes the worker with this number, if it sleeps.
    pub fn wake_worker(&self, number: u64) {
        self.wake_first(|sleeper| sleeper.wakeable.number == number, || ());
    }

    /// Wakes the one that has slept longest of those that wait for the turn to renew what is older
    /// than this generation; `before` that calls a function. False: none does.
    pub fn wake_renewer(&self, generation: u64, before: impl FnOnce()) -> bool {
        self.wake_first(|sleeper| sleeper.wakeable.renews_from <= generation, before)
    }

    fn wake_first(&self, which: impl Fn(&Sleeper) -> bool, before: impl FnOnce()) -> bool {
        let first = {
            let stack = &mut self.asleep.lock().stack;
            let index = stack.iter().position(|sleeper| which(sleeper));
            index.map(|index| {
                self.word.fetch_sub(SLEEPER, Ordering::SeqCst);
                stack.remove(index)
            })
        };
        let woke = first.is_some();
        if let Some(sleeper) = first {
            before();
            sleeper.wake();
        }
        woke
    }

    /// Calls the sleepers whose numbers `are_meant`: wakes the first of them, which wakes the next
    /// with its [`wake_another`](Self::wake_another).
    pub fn call(&self, are_meant: impl Fn(u64) -> bool) {
        {
            let Asleep { stack, called } = &mut *self.asleep.lock();
            let before = called.len();
            called.extend(stack.extract_if(.., |sleeper| are_meant(sleeper.wakeable.number)));
            let count = (called.len() - before) as u64;
            if count > 0 {
                self.word.fetch_sub(count * SLEEPER, Ordering::SeqCst);
                self.word.fetch_or(CALLED, Ordering::SeqCst);
            }
        }
        self.wake_called();
    }

    /// Wakes the next one that is called. False: none is.
    fn wake_called(&self) -> bool {
        let next = {
            let called = &mut self.asleep.lock().called;
            let next = called.pop_front();
            if called.is_empty() {
                self.word.fetch_and(!CALLED, Ordering::SeqCst);
            }
            next
        };
        let woke = next.is_some();
        next.into_iter().for_each(Sleeper::wake);
        woke
    }

    /// Wakes every sleeper that would sleep for longer than this.
    pub fn wake_beyond(&self, limit: Option<Duration>) {
        fence(Ordering::SeqCst);
        if self.sleepers() == 0 {
            return;
        }
        let limit = end_of(limit);
        let beyond = |end: Instant| limit.is_some_and(|limit| end > limit);
        self.wake_matching(|sleeper| sleeper.end.is_none_or(beyond));
    }

    fn wake_matching(&self, which: impl Fn(&Sleeper) -> bool) {
        let those: Vec<_> = {
            let stack = &mut self.asleep.lock().stack;
            let those: Vec<_> = stack.extract_if(.., |sleeper| which(sleeper)).collect();
            self.word.fetch_sub(those.len() as u64 * SLEEPER, Ordering::SeqCst);
            those
        };
        those.into_iter().for_each(Sleeper::wake);
    }

    /// Ends the wake-up that made [`sleep`](Self::sleep) return, and passes it on when there is
    /// more, or else to the next one that is called. The caller has taken its own task by now.
    pub fn wake_another(&self, wakeup: Wakeup, more: impl FnOnce() -> bool) {
        let word = match wakeup {
            Wakeup::NotNeeded | Wakeup::TimedOut => return,
            Wakeup::Woken => self.word.fetch_and(!WAKING, Ordering::SeqCst),
            Wakeup::Expected => self.word.fetch_sub(EXPECTED, Ordering::SeqCst),
        };
        fence(Ordering::SeqCst);
        if !(more() && self.wake_next(true)) && word & CALLED != 0 {
            self.wake_called();
        }
    }

    /// Looks for work a little longer before sleeping. True when there is some: the caller owes a
    /// [`wake_another`](Self::wake_another).
    pub fn yield_for_work(&self, idle: impl Fn() -> bool) -> bool {
        if self.word.fetch_or(WAKING, Ordering::SeqCst) & WAKING != 0 {
            // Another worker looks, or is on its way.
            return false;
        }
        for _ in 0..YIELDS_BEFORE_PARK {
            if !idle() {
                return true;
            }
            thread::yield_now();
        }
        // Submitters that found the mark woke no worker. If they brought several tasks, further
        // workers must be woken.
        self.word.fetch_and(!WAKING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !idle()
    }

    /// Blocks until another thread wakes it. `idle` is asked once more after the caller has been
    /// counted.
    pub fn sleep(
        &self,
        wakeable: Wakeable,
        limit: Option<Duration>,
        idle: impl Fn() -> bool,
    ) -> Wakeup {
        let end = end_of(limit);
        let me = Arc::new(Sleeper {
            thread: thread::current(),
            wakeable,
            end,
            woken: AtomicBool::new(false),
            by_worker: AtomicBool::new(false),
            expected: AtomicBool::new(false),
        });
        {
            let stack = &mut self.asleep.lock().stack;
            stack.push(Arc::clone(&me));
            self.word.fetch_add(SLEEPER, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        if !idle() {
            return if self.remove(&me) { Wakeup::NotNeeded } else { me.wakeup() };
        }
        while !me.woken.load(Ordering::Acquire) {
            match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => {
                    return if self.remove(&me) { Wakeup::TimedOut } else { me.wakeup() };
                }
                Some(left) => thread::park_timeout(left),
            }
        }
        if me.by_worker.load(Ordering::Relaxed) {
            // Quick tasks are gone before a second worker could have one: it would only ask for the
            // interpreter in vain. A task that blocks leaves the other tasks waiting, and this
            // worker takes one after this moment.
            for _ in 0..YIELDS_AFTER_WAKE {
                if idle() {
                    break;
                }
                thread::yield_now();
            }
        }
        me.wakeup()
    }

    /// How many workers sleep.
    pub fn sleepers(&self) -> usize {
        usize::try_from(self.word.load(Ordering::SeqCst) & SLEEPERS).unwrap_or(usize::MAX)
    }

    /// Takes the caller off the stack; false when a waker did so first. One that is called has come
    /// by itself then.
    fn remove(&self, me: &Arc<Sleeper>) -> bool {
        let Asleep { stack, called } = &mut *self.asleep.lock();
        let index = stack.iter().rposition(|other| Arc::ptr_eq(other, me));
        if let Some(index) = index {
            stack.remove(index);
            self.word.fetch_sub(SLEEPER, Ordering::SeqCst);
        } else {
            called.retain(|other| !Arc::ptr_eq(other, me));
        }
        index.is_some()
    }
}

/// When a wait ends; never, if no clock can hold it.
fn end_of(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

impl Wakeup {
    /// Whether the caller owes a [`wake_another`](IdleWorkers::wake_another).
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Woken | Self::Expected)
    }
}

impl Sleeper {
    /// What it was woken as, once it is off the stack.
    fn wakeup(&self) -> Wakeup {
        if self.expected.load(Ordering::Relaxed) { Wakeup::Expected } else { Wakeup::Woken }
    }

    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
