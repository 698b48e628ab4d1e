//! The life of one task in one atomic word: which thread may start, cancel, expire or settle it.
//!
//! ```text
//!            claim                settle_running             publish
//!  WAITING ────────► RUNNING ───────────────────► SETTLING ───────────► FINISHED
//!     │                 ▲  │ requeue                  ▲
//!     │ cancel          │  ▼                          │ a time limit, a kill, a drain without workers
//!     ▼           claim ├─ RETRY_WAITS ───────────────┤
//!  CANCELLED            │  ▲ resume                   ├── WAITING
//!                       └─ PAUSED ────────────────────┘
//!                    pause
//! ```
//!
//! A retry on another resource is queued at once; one that is to come later is paused until then,
//! in no lane. The thread that moves the word out of `WAITING`, `RETRY_WAITS` or `PAUSED` owns the
//! task's payload (function, arguments, context) alone; the thread that moves it to `SETTLING` owns its outcome
//! alone. So neither needs a lock. An entry in a lane whose claim fails is a *tombstone*. The high
//! bits are flags that may be set at any time; they tell the thread that publishes that an observer
//! looks.

pub mod deadlines;
pub mod helper_pool;
pub mod interrupt;
pub mod item_cursor;
pub(in crate::engine) mod joint_calls;
pub mod key;
pub mod priority;
pub mod task_group;
pub mod token;

use self::priority::Priority;
use crate::sync::atomic::{AtomicU32, Ordering};

const PHASE: u32 = 0b111;
const WAITING: u32 = 0;
const RUNNING: u32 = 1;
const RETRY_WAITS: u32 = 2;
const PAUSED: u32 = 3;
const SETTLING: u32 = 4;
const FINISHED: u32 = 5;
const CANCELLED: u32 = 6;

const PRIORITY_SHIFT: u32 = 3;
const PRIORITY: u32 = 0b11 << PRIORITY_SHIFT;

/// Runs at most once, whatever happens.
pub const ONCE: u32 = 1 << 5;
/// For `run_task`: waits in the reserved queue, holds no permit.
pub const RESERVED: u32 = 1 << 6;
/// An observer waits for the outcome or wants to be called: publishing takes the slow path.
pub const OBSERVED: u32 = 1 << 7;
/// The host's own parts (a condition that other threads lock) exist: publishing happens under them.
pub const HAS_CONDITION: u32 = 1 << 8;
/// Asked to give up: its context is cancelled and no retry follows.
pub const CANCEL_REQUESTED: u32 = 1 << 9;
/// Has a time limit that the keeper watches.
pub const TIMED: u32 = 1 << 10;
/// Its time limit passed while it ran.
pub const EXPIRED: u32 = 1 << 11;
/// Something ends with its attempt: the context that it asked for, or the call that would interrupt
/// it. Set by the thread that runs it.
pub const HAS_CLEANUP: u32 = 1 << 12;
/// Waits for room in the queue, by itself: not accepted yet, no permit. The thread that settles it
/// leaves it set.
pub const NOT_ADMITTED: u32 = 1 << 13;
/// Stands for the items of an [`ItemCursor`](self::item_cursor::ItemCursor), and is no task itself.
pub const BATCH: u32 = 1 << 14;
/// Both: waits for the end of a renewal, and so is no task itself, and never admitted.
pub const RENEWAL: u32 = BATCH | NOT_ADMITTED;
/// The host's user is told of it when it ends: publishing takes the slow path too.
pub const TOLD: u32 = 1 << 15;
/// Has been paused for a retry, perhaps more than once. Never cleared.
pub const WAS_PAUSED: u32 = 1 << 16;
/// The host may have it tried again after an error that leaves its resource good.
pub const RETRIES: u32 = 1 << 18;
/// Holds a permit again, since it was paused and until it is claimed or settled.
pub const HOLDS_PERMIT: u32 = 1 << 17;
/// May run in one call with other tasks of its batcher.
pub const JOINT: u32 = 1 << 19;
/// Waits in an [`Accumulator`](super::queue::accumulator::Accumulator), and has not ended as far as that
/// knows. Set and cleared under its lock.
pub const ACCUMULATED: u32 = 1 << 20;
/// So it does, and has no entry in a lane, but for one that a timer gave it. Set and cleared likewise.
pub const LINGERS: u32 = 1 << 24;

/// Runs after all tasks of its key that were submitted before, and in no lane until then.
pub const SERIAL: u32 = 1 << 21;
/// Is in the line of its key. Set and cleared under the lock of the lines.
pub const IN_LINE: u32 = 1 << 22;
/// Has been given another entry, in a higher lane, so that the one before is a tombstone.
pub const RAISED: u32 = 1 << 23;
/// Is called with keywords, which its host keeps together with its other arguments. Never changed.
pub const KEYWORDS: u32 = 1 << 27;
/// Runs in what it brought of its submitter's context, and not in that of its worker. Never changed.
pub const OWN_CONTEXT: u32 = 1 << 26;
/// Its outcome is an error. Set by the thread that settles it, before it publishes that.
pub const FAILED: u32 = 1 << 25;

/// What other threads see of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Never started.
    Waiting,
    /// Started; it may be paused or waiting for a retry, or be just about to get its outcome.
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
    /// A tombstone: another thread has the task, or had it.
    Lost,
}

/// Where a task was when its outcome was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Never started: the taker owns the payload too.
    Fresh,
    /// Waiting for a retry: the taker owns the payload too.
    Retrying,
    /// Paused for a retry, in no lane: the taker owns the payload too.
    Paused,
    /// Running: the payload stays its runner's.
    Running,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct TaskWord {
    /// Phase in the low bits, then priority and flags. Moves are `AcqRel`: the winner of a move
    /// sees what the previous owner of payload or outcome wrote, and readers of `FINISHED` see
    /// the outcome.
    word: AtomicU32,
}

impl TaskWord {
    /// A waiting task of this priority with these flags.
    pub fn new(priority: Priority, flags: u32) -> Self {
        Self { word: AtomicU32::new(WAITING | (priority as u32) << PRIORITY_SHIFT | flags) }
    }

    /// Its priority.
    pub fn priority(&self) -> Priority {
        Priority::ALL[((self.flags() & PRIORITY) >> PRIORITY_SHIFT) as usize]
    }

    /// The raw word, for its flags.
    pub fn flags(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// Sets flags and tells the phase at that moment. An observer registers under the host's slot
    /// lock, then sets `OBSERVED` under it: either the thread that publishes sees the flag and
    /// finds the observer by taking that lock, or the observer sees that the task is done.
    pub fn set(&self, flags: u32) -> Phase {
        phase(self.word.fetch_or(flags, Ordering::AcqRel))
    }

    /// Clears flags.
    pub fn clear(&self, flags: u32) {
        self.word.fetch_and(!flags, Ordering::AcqRel);
    }

    /// Where the task is.
    pub fn phase(&self) -> Phase {
        phase(self.flags())
    }

    /// Whether it waits: for its first start, or for a retry.
    pub fn is_waiting(&self) -> bool {
        is_waiting(self.flags() & PHASE)
    }

    /// Whether it waits where a worker can take it: for its first start, or for a retry.
    pub fn is_queued(&self) -> bool {
        matches!(self.flags() & PHASE, WAITING | RETRY_WAITS)
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.flags() & PHASE == PAUSED
    }

    /// Whether it is of a renewal, and no task.
    pub fn is_renewal(&self) -> bool {
        self.flags() & RENEWAL == RENEWAL
    }

    /// Whether its outcome is taken: it has ended, or gets its outcome now.
    pub fn is_taken(&self) -> bool {
        self.flags() & PHASE >= SETTLING
    }

    /// Whether it has ended, one way or the other.
    pub fn is_done(&self) -> bool {
        self.flags() & PHASE >= FINISHED
    }

    /// Starts it, if no other thread did anything with it.
    pub fn claim(&self) -> Claim {
        match self.advance(|p| p == WAITING || p == RETRY_WAITS, RUNNING) {
            Some(from) if from & PHASE == WAITING => Claim::First,
            Some(_) => Claim::Retry,
            None => Claim::Lost,
        }
    }

    /// Starts a new task that no other thread knows of, at the price of a store.
    pub fn start_unshared(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(word & PHASE, WAITING);
        self.word.store((word & !PHASE) | RUNNING, Ordering::Release);
    }

    /// A task of the default priority that runs, with these flags.
    pub fn running(flags: u32) -> Self {
        let word = Self::new(Priority::Normal, flags);
        word.start_unshared();
        word
    }

    /// Whether it runs, and no thread has set a flag since [`running`](Self::running) made it.
    pub fn is_as_made(&self, flags: u32) -> bool {
        self.flags() == Self::running(flags).flags()
    }

    /// Starts it only if it was never started: a worker that would wait for it runs it instead.
    pub fn claim_fresh(&self) -> bool {
        self.advance(|p| p == WAITING, RUNNING).is_some()
    }

    /// The running task, its payload put back, is to be tried again; its runner queues it next.
    /// `false`: another thread settled it meanwhile.
    #[must_use]
    pub fn requeue(&self) -> bool {
        self.advance(|p| p == RUNNING, RETRY_WAITS).is_some()
    }

    /// The running task, its payload put back, is paused until a retry; with these flags. `false`:
    /// another thread settled it meanwhile, or asked it to give up, and would not find it paused.
    #[must_use]
    pub fn pause(&self, flags: u32) -> bool {
        let may_pause = |w| w & (PHASE | CANCEL_REQUESTED) == RUNNING;
        self.advance_if(may_pause, PAUSED, WAS_PAUSED | flags).is_some()
    }

    /// Its pause is over: whoever moves it so queues it next. `false`: another thread did, or
    /// settled it.
    #[must_use]
    pub fn resume(&self) -> bool {
        self.advance(|p| p == PAUSED, RETRY_WAITS).is_some()
    }

    /// Takes the permit from it that it holds since it was paused, if it does.
    pub fn take_permit(&self) -> bool {
        self.has(HOLDS_PERMIT)
            && self.word.fetch_and(!HOLDS_PERMIT, Ordering::AcqRel) & HOLDS_PERMIT != 0
    }

    /// Cancels it if it was never started, and `allowed` (a look at the flags) agrees. Gives the
    /// flags at that moment: `OBSERVED` among them obliges the caller to serve the observers.
    pub fn cancel(&self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        self.advance_if(|w| w & PHASE == WAITING && allowed(w), CANCELLED, 0)
    }

    /// Lets a task in that waits for room. `false`: another thread settled it meanwhile.
    pub fn admit(&self) -> bool {
        self.change(is_outside, |w| w & !NOT_ADMITTED).is_some()
    }

    /// Takes payload and outcome of a task that waits for room, to turn it away. `false`: it was
    /// let in, or has been settled.
    pub fn take_unadmitted(&self) -> bool {
        self.advance_if(is_outside, SETTLING, 0).is_some()
    }

    /// Takes payload and outcome of a task that waits, to refuse it. `None`: a tombstone.
    pub fn take_waiting(&self) -> Option<Taken> {
        self.take(is_waiting, 0)
    }

    /// Takes payload and outcome of a task that waits for a retry, which is not to happen.
    pub fn call_off(&self) -> Option<Taken> {
        self.take(|p| p == RETRY_WAITS || p == PAUSED, 0)
    }

    /// Takes the outcome of a running task for its runner. `false`: another thread settled it.
    pub fn settle_running(&self) -> bool {
        self.advance(|p| p == RUNNING, SETTLING).is_some()
    }

    /// Takes the outcome of a task wherever it is, marking it `EXPIRED`. `None`: it has one.
    pub fn expire(&self) -> Option<Taken> {
        self.take(|p| p < SETTLING, EXPIRED)
    }

    /// Takes the outcome for a caller that settles by hand, wherever the task is.
    pub fn settle_by_hand(&self) -> Option<Taken> {
        self.take(|p| p < SETTLING, 0)
    }

    fn take(&self, from: impl Fn(u32) -> bool, flags: u32) -> Option<Taken> {
        let taken = self.advance_if(|w| from(w & PHASE), SETTLING, flags);
        taken.map(|before| match before & PHASE {
            WAITING => Taken::Fresh,
            RETRY_WAITS => Taken::Retrying,
            PAUSED => Taken::Paused,
            _ => Taken::Running,
        })
    }

    /// Publishes the outcome the caller wrote after taking it, if `allowed` (a look at the flags)
    /// agrees at that moment. Gives the flags: `OBSERVED` and `TOLD` among them oblige the
    /// caller to serve the observers and to tell the user.
    pub fn publish(&self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        self.advance_if(|w| w & PHASE == SETTLING && allowed(w), FINISHED, 0)
    }

    fn advance(&self, from: impl Fn(u32) -> bool, to: u32) -> Option<u32> {
        self.advance_if(|w| from(w & PHASE), to, 0)
    }

    fn advance_if(&self, from: impl Fn(u32) -> bool, to: u32, flags: u32) -> Option<u32> {
        self.change(from, |w| (w & !PHASE) | to | flags)
    }

    fn change(&self, from: impl Fn(u32) -> bool, next: impl Fn(u32) -> u32) -> Option<u32> {
        let next = |w| from(w).then(|| next(w));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()
    }
}

/// Whether a task waits that is in this phase.
const fn is_waiting(phase: u32) -> bool {
    matches!(phase, WAITING | RETRY_WAITS | PAUSED)
}

/// Whether it waits for room in the queue.
fn is_outside(word: u32) -> bool {
    word & PHASE == WAITING && word & NOT_ADMITTED != 0
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
        TaskWord::new(Priority::High, ONCE)
    }

    #[test]
    fn keeps_priority_and_flags_through_its_life() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert_eq!(word.set(CANCEL_REQUESTED), Phase::Running);
        assert!(word.settle_running());
        assert!(word.publish(|_| true).is_some());
        assert_eq!(word.priority(), Priority::High);
        assert!(word.has(ONCE) && word.has(CANCEL_REQUESTED) && word.is_done());
    }

    #[test]
    fn cannot_be_cancelled_from_the_first_start_on() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert!(word.cancel(|_| true).is_none());
        assert!(word.requeue());
        assert!(word.cancel(|_| true).is_none());
        assert_eq!(word.phase(), Phase::Running);
        assert!(!word.claim_fresh());
        assert_eq!(word.claim(), Claim::Retry);
    }

    #[test]
    fn a_paused_task_is_claimed_when_its_pause_is_over_and_gives_its_permit_up_once() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert!(word.pause(HOLDS_PERMIT) && !word.pause(0));
        assert_eq!((word.phase(), word.claim()), (Phase::Running, Claim::Lost));
        assert!(word.cancel(|_| true).is_none());
        assert!(word.resume() && !word.resume());
        assert_eq!(word.claim(), Claim::Retry);
        assert!(word.take_permit() && !word.take_permit());
        assert!(word.pause(0) && !word.take_permit());
        assert_eq!(word.call_off(), Some(Taken::Paused));
        assert!(!word.resume() && word.has(WAS_PAUSED));
    }

    #[test]
    fn a_task_that_was_asked_to_give_up_is_not_paused() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        word.set(CANCEL_REQUESTED);
        assert!(!word.pause(0) && word.settle_running());
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
        let outside = || TaskWord::new(Priority::Low, NOT_ADMITTED);
        let (admitted, turned_away, cancelled) = (outside(), outside(), outside());
        assert!(admitted.admit() && !admitted.admit() && !admitted.take_unadmitted());
        assert_eq!(admitted.claim(), Claim::First);
        assert!(turned_away.take_unadmitted() && !turned_away.admit());
        assert!(cancelled.cancel(|_| true).is_some_and(|flags| flags & NOT_ADMITTED != 0));
        assert!(!cancelled.admit() && !cancelled.take_unadmitted());
    }

    #[test]
    fn an_expired_task_leaves_nothing_to_settle_for_its_runner() {
        let word = word();
        assert_eq!(word.claim(), Claim::First);
        assert_eq!(word.expire(), Some(Taken::Running));
        assert!(!word.settle_running());
        assert!(!word.requeue());
        assert_eq!(word.take_waiting(), None);
        assert!(word.has(EXPIRED));
        assert!(word.publish(|_| true).is_some());
        assert_eq!(word.phase(), Phase::Finished);
    }
}
