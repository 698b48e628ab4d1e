//! Wakes idle workers: one for the first task, who wakes the next when there is more.
//!
//! Sleepers stand on a stack, and a word beside it tells how many they are and whether a wake-up is under way.
//! A submitter pushes, then rings: with nobody asleep, or a woken worker still on its way, that is one load. The
//! woken worker clears the mark *after* it took its task and rings on when more waits, so that N tasks reach N idle
//! workers in a chain, and a burst of submits costs one system call instead of one each.
//!
//! A worker that has run out of tasks offers its core a few times before it sleeps, with the mark set: submitters
//! then need not wake anybody. With callers that wait for each task this is most of the speed: the caller that was
//! just answered submits the next task within that moment. One worker looks at a time.
//!
//! Last asleep, first woken: a few workers stay warm and the others stay asleep.
//!
//! Why no wake-up is lost: both sides do *write, fence, read* (`SeqCst`). The submitter writes the lane
//! and reads this word; a sleeper writes this word and looks at the lane; a woken worker clears the mark
//! and looks at the lane. Whichever comes second sees the other.
//!
//! Parked threads and not a channel, whose receivers are woken first come first served, and each of which spins
//! before it blocks.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, CachePadded, Mutex};
use std::time::{Duration, Instant};

const SLEEPER: u64 = 1;
const SLEEPERS: u64 = (1 << 32) - 1;
const RINGING: u64 = 1 << 32;
/// How often a worker offers its core before it sleeps.
const LOOKS: usize = if cfg!(loom) { 1 } else { 6 };
/// How often a worker that another worker woke offers its core before it takes a task. More than two costs more changes
/// of threads than it saves.
const PATIENCE: usize = if cfg!(loom) { 1 } else { 2 };

/// See the module's documentation.
#[derive(Debug)]
pub struct Bell {
    /// Sleepers below, the mark above. The number is written under the lock of `stack` and is its height; the mark
    /// is set under it, and cleared by the woken worker without it.
    word: CachePadded<AtomicU64>,
    stack: Mutex<Vec<Arc<Sleeper>>>,
}

#[derive(Debug)]
struct Sleeper {
    thread: Thread,
    /// When it wakes up by itself.
    end: Option<Instant>,
    /// Set once, by the waker that took it off the stack. Release and acquire: the woken worker sees what the
    /// waker did before.
    woken: AtomicBool,
    /// Woken by a worker, and not by a submitter: that worker may be through with everything in a moment. Written
    /// before `woken`, read after it.
    by_worker: AtomicBool,
}

/// Why `sleep` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Somebody rang: the caller owes an [`answered`](Bell::answered).
    Rung,
    /// There was something to do before it slept.
    NotNeeded,
    /// The limit passed.
    TimedOut,
}

impl Bell {
    /// A bell nobody listens to yet.
    pub fn new() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(0)), stack: Mutex::new(Vec::new()) }
    }

    /// Wakes one sleeper, unless none sleeps or one is on its way. True when it woke one.
    pub fn ring(&self) -> bool {
        self.wake_one(false)
    }

    fn wake_one(&self, by_worker: bool) -> bool {
        fence(Ordering::SeqCst);
        let can_ring = |word: u64| word & SLEEPERS != 0 && word & RINGING == 0;
        if !can_ring(self.word.load(Ordering::SeqCst)) {
            return false;
        }
        let sleeper = {
            let mut stack = self.stack.lock();
            if !can_ring(self.word.load(Ordering::SeqCst)) {
                return false;
            }
            let sleeper = stack.pop();
            if sleeper.is_some() {
                self.word.fetch_sub(SLEEPER, Ordering::SeqCst);
                self.word.fetch_or(RINGING, Ordering::SeqCst);
            }
            sleeper
        };
        let rang = sleeper.is_some();
        if let Some(sleeper) = sleeper {
            sleeper.by_worker.store(by_worker, Ordering::Relaxed);
            sleeper.wake();
        }
        rang
    }

    /// Wakes every sleeper: for a change of mode.
    pub fn ring_all(&self) {
        self.wake_those(|_| true);
    }

    /// Wakes every sleeper that would sleep for longer than this.
    pub fn ring_beyond(&self, limit: Option<Duration>) {
        fence(Ordering::SeqCst);
        if self.sleepers() == 0 {
            return;
        }
        let limit = end_of(limit);
        let beyond = |end: Instant| limit.is_some_and(|limit| end > limit);
        self.wake_those(|sleeper| sleeper.end.is_none_or(beyond));
    }

    fn wake_those(&self, which: impl Fn(&Sleeper) -> bool) {
        let those: Vec<_> = {
            let mut stack = self.stack.lock();
            let those: Vec<_> = stack.extract_if(.., |sleeper| which(sleeper)).collect();
            self.word.fetch_sub(those.len() as u64 * SLEEPER, Ordering::SeqCst);
            those
        };
        those.into_iter().for_each(Sleeper::wake);
    }

    /// Ends the wake-up that made [`sleep`](Self::sleep) return `Rung`, and passes it on when there is
    /// more. The caller has taken its own task by now.
    pub fn answered(&self, more: impl FnOnce() -> bool) {
        self.word.fetch_and(!RINGING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if more() {
            self.wake_one(true);
        }
    }

    /// Looks for work a little longer before sleeping. True when there is some: the caller owes an
    /// [`answered`](Self::answered).
    pub fn look_again(&self, idle: impl Fn() -> bool) -> bool {
        if self.word.fetch_or(RINGING, Ordering::SeqCst) & RINGING != 0 {
            // Another worker looks, or is on its way.
            return false;
        }
        for _ in 0..LOOKS {
            if !idle() {
                return true;
            }
            thread::yield_now();
        }
        // Submitters that found the mark woke nobody: with several tasks of theirs, others must be woken.
        self.word.fetch_and(!RINGING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !idle()
    }

    /// Blocks until somebody rings. `idle` is asked once more after the caller has been counted.
    pub fn sleep(&self, limit: Option<Duration>, idle: impl Fn() -> bool) -> Woken {
        let end = end_of(limit);
        let me = Arc::new(Sleeper {
            thread: thread::current(),
            end,
            woken: AtomicBool::new(false),
            by_worker: AtomicBool::new(false),
        });
        {
            let mut stack = self.stack.lock();
            stack.push(Arc::clone(&me));
            self.word.fetch_add(SLEEPER, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        if !idle() {
            return if self.withdraw(&me) { Woken::NotNeeded } else { Woken::Rung };
        }
        while !me.woken.load(Ordering::Acquire) {
            match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => {
                    return if self.withdraw(&me) { Woken::TimedOut } else { Woken::Rung };
                }
                Some(left) => thread::park_timeout(left),
            }
        }
        if me.by_worker.load(Ordering::Relaxed) {
            // Quick tasks are gone before a second worker could have one: it would only ask for the interpreter in
            // vain. One that blocks leaves the others waiting, and they are taken after this moment.
            for _ in 0..PATIENCE {
                if idle() {
                    break;
                }
                thread::yield_now();
            }
        }
        Woken::Rung
    }

    /// How many workers sleep.
    pub fn sleepers(&self) -> usize {
        usize::try_from(self.word.load(Ordering::SeqCst) & SLEEPERS).unwrap_or(usize::MAX)
    }

    /// Takes the caller off the stack; false when a waker did so first.
    fn withdraw(&self, me: &Arc<Sleeper>) -> bool {
        let mut stack = self.stack.lock();
        let place = stack.iter().rposition(|other| Arc::ptr_eq(other, me));
        if let Some(place) = place {
            stack.remove(place);
            self.word.fetch_sub(SLEEPER, Ordering::SeqCst);
        }
        place.is_some()
    }
}

/// When a wait ends; never, if no clock can hold it.
fn end_of(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

impl Sleeper {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
