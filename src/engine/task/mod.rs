//! The life of one task in one atomic word: who may start, cancel, expire or settle it.
//!
//! ```text
//!            claim                 begin_settle              publish
//!  WAITING ────────► RUNNING ───────────────────► SETTLING ───────────► FINISHED
//!     │                 ▲  │ again                    ▲
//!     │ cancel          │  ▼                          │ a time limit, a kill, a drain without workers
//!     ▼           claim └─ AGAIN ─────────────────────┤
//!  CANCELLED                                          └── WAITING
//! ```
//!
//! Whoever moves the word out of `WAITING` or `AGAIN` owns the task's payload (function, arguments,
//! context) alone; whoever moves it to `SETTLING` owns its outcome alone. So neither needs a lock. An
//! entry in a lane whose claim fails is a *tombstone*. The high bits are flags that may be set at any
//! time; they tell the one who publishes that somebody looks.

pub mod batch;
pub mod deadlines;
pub mod group;
pub mod helpers;
pub mod interrupt;
pub mod token;

use super::queue::lanes::Class;
use crate::sync::atomic::{AtomicU32, Ordering};

const PHASE: u32 = 0b111;
const WAITING: u32 = 0;
const RUNNING: u32 = 1;
const AGAIN: u32 = 2;
const SETTLING: u32 = 3;
const FINISHED: u32 = 4;
const CANCELLED: u32 = 5;

const CLASS_SHIFT: u32 = 3;
const CLASS: u32 = 0b11 << CLASS_SHIFT;

/// Runs at most once, whatever happens.
pub const ONCE: u32 = 1 << 5;
/// For `run_task`: waits in the express queue, holds no permit.
pub const EXPRESS: u32 = 1 << 6;
/// Somebody waits for the outcome or wants to be called: publishing takes the slow road.
pub const OBSERVED: u32 = 1 << 7;
/// The host's own parts (a condition others lock) exist: publishing happens under them.
pub const STANDARD: u32 = 1 << 8;
/// Asked to give up: its context is cancelled and no retry follows.
pub const TOLD: u32 = 1 << 9;
/// Has a time limit that somebody watches.
pub const TIMED: u32 = 1 << 10;
/// Stands for the items of a [`Deal`](self::batch::Deal), and is no task itself.
pub const BATCH: u32 = 1 << 14;
/// Its time limit passed while it ran.
pub const EXPIRED: u32 = 1 << 11;
/// Something ends with its attempt: the context that it asked for, or the call that would interrupt it. Set by the
/// thread that runs it.
pub const ASKED: u32 = 1 << 12;
/// Waits for room in the queue, by itself: not accepted yet, no permit. Whoever settles it leaves it set.
pub const OUTSIDE: u32 = 1 << 13;

/// What others see of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Never started.
    Waiting,
    /// Started; it may be waiting for a retry or be just about to get its outcome.
    Running,
    /// Cancelled before it started.
    Cancelled,
    /// Has its outcome.
    Finished,
}

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The first start: the claimer owns the payload.
    First,
    /// A retry: the claimer owns the payload.
    Retry,
    /// A tombstone: somebody else has it, or had.
    Lost,
}

/// Where a task was when its outcome was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Never started: the taker owns the payload too.
    Fresh,
    /// Waiting for a retry: the taker owns the payload too.
    Retrying,
    /// Running: the payload stays its runner's.
    Running,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct TaskWord {
    /// Phase in the low bits, then class and flags. Moves are `AcqRel`: the winner of a move sees what
    /// the previous owner of payload or outcome wrote, and readers of `FINISHED` see the outcome.
    word: AtomicU32,
}

impl TaskWord {
    /// A waiting task of this class with these flags.
    pub fn new(class: Class, flags: u32) -> Self {
        Self { word: AtomicU32::new(WAITING | (class as u32) << CLASS_SHIFT | flags) }
    }

    /// Its class.
    pub fn class(&self) -> Class {
        Class::from_number(((self.flags() & CLASS) >> CLASS_SHIFT) as u8)
    }

    /// The raw word, for its flags.
    pub fn flags(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// Sets flags and tells the phase at that moment. An observer puts itself down under the host's slot
    /// lock, then sets `OBSERVED` under it: either the publisher sees the flag and finds the observer by
    /// taking that lock, or the observer sees that the task is done.
    pub fn set(&self, flags: u32) -> Phase {
        phase(self.word.fetch_or(flags, Ordering::AcqRel))
    }

    /// Where the task is.
    pub fn phase(&self) -> Phase {
        phase(self.flags())
    }

    /// Whether it waits: for its first start, or for a retry.
    pub fn is_waiting(&self) -> bool {
        matches!(self.flags() & PHASE, WAITING | AGAIN)
    }

    /// Whether it has ended, one way or the other.
    pub fn is_done(&self) -> bool {
        self.flags() & PHASE >= FINISHED
    }

    /// Starts it, if nobody else did anything with it.
    pub fn claim(&self) -> Claim {
        match self.advance(|p| p == WAITING || p == AGAIN, RUNNING) {
            Some(from) if from & PHASE == WAITING => Claim::First,
            Some(_) => Claim::Retry,
            None => Claim::Lost,
        }
    }

    /// Starts a new task that nobody else knows of, at the price of a store.
    pub fn start_unshared(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(word & PHASE, WAITING);
        self.word.store((word & !PHASE) | RUNNING, Ordering::Release);
    }

    /// Starts it only if it was never started: a worker that would wait for it runs it instead.
    pub fn claim_fresh(&self) -> bool {
        self.advance(|p| p == WAITING, RUNNING).is_some()
    }

    /// The running task, its payload put back, is to be tried again; its runner queues it next. `false`:
    /// somebody else settled it meanwhile.
    #[must_use]
    pub fn again(&self) -> bool {
        self.advance(|p| p == RUNNING, AGAIN).is_some()
    }

    /// Cancels it if it was never started, and `allowed` (a look at the flags) agrees. Gives the flags at
    /// that moment: `OBSERVED` among them obliges the caller to serve the observers.
    pub fn cancel(&self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        self.advance_if(|w| w & PHASE == WAITING && allowed(w), CANCELLED, 0)
    }

    /// Lets a task in that waits for room. `false`: somebody settled it meanwhile.
    pub fn admit(&self) -> bool {
        let outside = |w: u32| w & PHASE == WAITING && w & OUTSIDE != 0;
        let mut word = self.word.load(Ordering::Acquire);
        while outside(word) {
            let next = word & !OUTSIDE;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes payload and outcome of a task that waits for room, to turn it away. `false`: it was let in, or has
    /// been settled.
    pub fn turn_away(&self) -> bool {
        let outside = |w: u32| w & PHASE == WAITING && w & OUTSIDE != 0;
        self.advance_if(outside, SETTLING, 0).is_some()
    }

    /// Takes payload and outcome of a task that waits, to refuse it. `None`: a tombstone.
    pub fn withdraw(&self) -> Option<Taken> {
        self.advance(|p| p == WAITING || p == AGAIN, SETTLING)
            .map(|before| if before & PHASE == WAITING { Taken::Fresh } else { Taken::Retrying })
    }

    /// Takes payload and outcome of a task that waits for a retry, which is not to happen.
    pub fn call_off(&self) -> bool {
        self.advance(|p| p == AGAIN, SETTLING).is_some()
    }

    /// Takes the outcome of a running task for its runner. `false`: somebody else settled it.
    pub fn settle_running(&self) -> bool {
        self.advance(|p| p == RUNNING, SETTLING).is_some()
    }

    /// Takes the outcome of a task wherever it is, marking it `EXPIRED`. `None`: it has one.
    pub fn expire(&self) -> Option<Taken> {
        self.take_outcome(EXPIRED)
    }

    /// Takes the outcome for somebody who settles by hand, wherever the task is.
    pub fn settle_by_hand(&self) -> Option<Taken> {
        self.take_outcome(0)
    }

    fn take_outcome(&self, flags: u32) -> Option<Taken> {
        let unsettled = |w: u32| matches!(w & PHASE, WAITING | RUNNING | AGAIN);
        self.advance_if(unsettled, SETTLING, flags).map(|before| match before & PHASE {
            WAITING => Taken::Fresh,
            AGAIN => Taken::Retrying,
            _ => Taken::Running,
        })
    }

    /// Publishes the outcome the caller wrote after taking it, if `allowed` (a look at the flags) agrees
    /// at that moment. Gives the flags: `OBSERVED` among them obliges the caller to serve the observers.
    pub fn publish(&self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        self.advance_if(|w| w & PHASE == SETTLING && allowed(w), FINISHED, 0)
    }

    fn advance(&self, from: impl Fn(u32) -> bool, to: u32) -> Option<u32> {
        self.advance_if(|w| from(w & PHASE), to, 0)
    }

    fn advance_if(&self, from: impl Fn(u32) -> bool, to: u32, flags: u32) -> Option<u32> {
        let mut word = self.word.load(Ordering::Acquire);
        while from(word) {
            let next = (word & !PHASE) | to | flags;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return Some(before),
                Err(now) => word = now,
            }
        }
        None
    }
}

fn phase(word: u32) -> Phase {
    match word & PHASE {
        WAITING => Phase::Waiting,
        FINISHED => Phase::Finished,
        CANCELLED => Phase::Cancelled,
        _ => Phase::Running,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn word() -> TaskWord {
        TaskWord::new(Class::High, ONCE)
    }

    #[test]
    fn keeps_class_and_flags_through_its_life() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert_eq!(word.set(TOLD), Phase::Running);
        assert!(word.settle_running());
        assert!(word.publish(|_| true).is_some());
        assert_eq!(word.class(), Class::High);
        assert!(word.has(ONCE) && word.has(TOLD) && word.is_done());
    }

    #[test]
    fn cannot_be_cancelled_from_the_first_start_on() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert!(word.cancel(|_| true).is_none());
        assert!(word.again());
        assert!(word.cancel(|_| true).is_none());
        assert_eq!(word.phase(), Phase::Running);
        assert!(!word.claim_fresh());
        assert_eq!(word.claim(), Claim::Retry);
    }

    #[test]
    fn a_cancelled_task_is_a_tombstone() {
        let word = word();
        assert!(word.cancel(|_| false).is_none());
        assert!(word.cancel(|_| true).is_some());
        assert_eq!(word.claim(), Claim::Lost);
        assert_eq!(word.expire(), None);
        assert_eq!(word.phase(), Phase::Cancelled);
    }

    #[test]
    fn a_task_outside_is_let_in_or_turned_away_once() {
        let outside = || TaskWord::new(Class::Low, OUTSIDE);
        let (admitted, turned_away, cancelled) = (outside(), outside(), outside());
        assert!(admitted.admit() && !admitted.admit() && !admitted.turn_away());
        assert_eq!(admitted.claim(), Claim::First);
        assert!(turned_away.turn_away() && !turned_away.admit());
        assert!(cancelled.cancel(|_| true).is_some_and(|flags| flags & OUTSIDE != 0));
        assert!(!cancelled.admit() && !cancelled.turn_away());
    }

    #[test]
    fn an_expired_task_leaves_nothing_to_settle_for_its_runner() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert_eq!(word.expire(), Some(Taken::Running));
        assert!(!word.settle_running());
        assert!(!word.again());
        assert_eq!(word.withdraw(), None);
        assert!(word.has(EXPIRED));
        assert!(word.publish(|_| true).is_some());
        assert_eq!(word.phase(), Phase::Finished);
    }
}
