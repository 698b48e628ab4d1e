//! The bound on waiting tasks: a count of permits, handed over directly to blocked submitters.
//!
//! A permit is taken before a submit and given back by whoever moves the task out of *waiting*: the
//! worker that claims it, the caller that cancels it, a time limit, a kill. With somebody blocked, a
//! permit that comes back goes to the most urgent of them, first come first served within a class, and
//! never to a newcomer. Not only threads wait in line: a task can by itself, for a submitter that must not block.

use super::lanes::Class;
use crate::sync::Arc;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::thread::{self, Thread};
use std::cmp::Reverse;
use std::collections::BTreeMap;

const BLOCKED: u8 = 0;
const GRANTED: u8 = 1;
const CLOSED: u8 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    closed: bool,
    /// Who waits, the next to be served first. Not empty only while `free` is zero.
    line: BTreeMap<Place, Arc<Ticket>>,
    /// How many ever came.
    count: u64,
}

/// A place in line: the most urgent first, then first come first served.
type Place = (Reverse<Class>, u64);

/// A blocked submitter's place in line, which is told of its verdict.
#[derive(Debug)]
pub struct Ticket {
    place: Place,
    /// Written once, under the lock of `Permits`; read without it by the waiting thread. Release and
    /// acquire, so that the waiter sees what the giver of the permit did before.
    verdict: AtomicU8,
    waiter: Waiter,
}

/// Answers for a task that waits: whether it makes use of the permit, if that is the verdict.
type Answer = Box<dyn FnOnce(Verdict) -> bool + Send>;

/// Who waits.
enum Waiter {
    /// A thread, parked. One that gives up gives the permit back by itself.
    Thread(Thread),
    /// Nobody; taken out by whoever brings the verdict.
    Answer(Mutex<Option<Answer>>),
}

/// What became of a wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Still in line.
    Blocked,
    /// The permit is the caller's.
    Granted,
    /// The runner closed.
    Closed,
}

impl Ticket {
    /// Whether the permit has come.
    pub fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            BLOCKED => Verdict::Blocked,
            GRANTED => Verdict::Granted,
            _ => Verdict::Closed,
        }
    }

    /// Tells the one who waits. False: it makes no use of the permit.
    fn tell(&self, verdict: Verdict) -> bool {
        match &self.waiter {
            Waiter::Thread(thread) => {
                thread.unpark();
                true
            }
            Waiter::Answer(answer) => {
                let answer = answer.lock().take();
                answer.is_some_and(|answer| answer(verdict))
            }
        }
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Thread(thread) => thread.fmt(f),
            Self::Answer(_) => f.write_str("Answer"),
        }
    }
}

impl Permits {
    /// `bound` free permits.
    pub fn new(bound: usize) -> Self {
        let state = State { free: bound, closed: false, line: BTreeMap::new(), count: 0 };
        Self { state: Mutex::new(state) }
    }

    /// Takes a permit if one is free.
    pub fn try_take(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.free > 0;
        state.free -= usize::from(free);
        free
    }

    /// Takes as many permits as are free, up to `most`.
    pub fn take_up_to(&self, most: usize) -> usize {
        let mut state = self.state.lock();
        let taken = state.free.min(most);
        state.free -= taken;
        taken
    }

    /// Takes a permit, or a place in line for the current thread.
    ///
    /// # Errors
    ///
    /// The ticket to wait with when no permit is free. Poll [`Ticket::verdict`] between parks, and
    /// [`leave`](Self::leave) to give up.
    pub fn take_or_queue(&self, class: Class) -> Result<(), Arc<Ticket>> {
        self.take_or(class, || Waiter::Thread(thread::current()))
    }

    /// Takes a permit, or a place in line with nobody waiting at it: `answer` is called with the verdict, on the
    /// thread that brings it and with no lock held, and says whether it makes use of the permit; if not, the next
    /// in line is served. It must not block.
    ///
    /// # Errors
    ///
    /// The ticket to [`leave`](Self::leave) with when no permit is free.
    pub fn take_or_answer(
        &self,
        class: Class,
        answer: impl FnOnce(Verdict) -> bool + Send + 'static,
    ) -> Result<(), Arc<Ticket>> {
        self.take_or(class, || Waiter::Answer(Mutex::new(Some(Box::new(answer))))).inspect_err(
            |ticket| {
                if ticket.verdict() == Verdict::Closed {
                    ticket.tell(Verdict::Closed);
                }
            },
        )
    }

    fn take_or(&self, class: Class, waiter: impl FnOnce() -> Waiter) -> Result<(), Arc<Ticket>> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            // Not under the lock: what was to answer is dropped with it.
            drop(state);
            return Ok(());
        }
        state.count += 1;
        let place = (Reverse(class), state.count);
        let verdict = AtomicU8::new(if state.closed { CLOSED } else { BLOCKED });
        let ticket = Arc::new(Ticket { place, verdict, waiter: waiter() });
        if !state.closed {
            state.line.insert(place, Arc::clone(&ticket));
        }
        Err(ticket)
    }

    /// Gives up a place in line. The verdict returned is final: `Granted` means that the permit came in
    /// time after all, and is the caller's.
    pub fn leave(&self, ticket: &Arc<Ticket>) -> Verdict {
        // Only a reference of the line's goes here, never the last.
        self.state.lock().line.remove(&ticket.place);
        ticket.verdict()
    }

    /// Gives a permit back: to the first in line, else to the free ones.
    pub fn give_back(&self) {
        let first = || {
            let mut state = self.state.lock();
            let first = state.line.pop_first().map(|(_, ticket)| ticket);
            match &first {
                Some(ticket) => ticket.verdict.store(GRANTED, Ordering::Release),
                None => state.free += 1,
            }
            first
        };
        while first().is_some_and(|ticket| !ticket.tell(Verdict::Granted)) {}
    }

    /// Turns away everybody in line, and all who come later.
    pub fn close(&self) {
        let turned_away = {
            let mut state = self.state.lock();
            state.closed = true;
            let all = std::mem::take(&mut state.line);
            for ticket in all.values() {
                ticket.verdict.store(CLOSED, Ordering::Release);
            }
            all
        };
        for ticket in turned_away.into_values() {
            ticket.tell(Verdict::Closed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hands_over_by_class_and_then_in_order() {
        let permits = Permits::new(1);
        assert!(permits.take_or_queue(Class::Normal).is_ok());
        let line: Vec<_> = [Class::Low, Class::Normal, Class::High, Class::Normal]
            .map(|class| permits.take_or_queue(class).expect_err("full"))
            .into();
        let mut served = Vec::new();
        for _ in 0..4 {
            permits.give_back();
            let next = (0..4)
                .find(|i| line[*i].verdict() == Verdict::Granted && !served.contains(i))
                .expect("one more was served");
            served.push(next);
        }
        assert_eq!(served, [2, 1, 3, 0]);
        assert!(!permits.try_take());
        permits.give_back();
        assert!(permits.try_take());
    }

    #[test]
    fn a_ticket_that_leaves_is_not_served() {
        let permits = Permits::new(0);
        let ticket = permits.take_or_queue(Class::Normal).expect_err("full");
        assert_eq!(permits.leave(&ticket), Verdict::Blocked);
        permits.give_back();
        assert!(permits.try_take());
    }

    #[test]
    fn a_permit_that_came_in_time_is_not_lost_by_leaving() {
        let permits = Permits::new(0);
        let ticket = permits.take_or_queue(Class::Normal).expect_err("full");
        permits.give_back();
        assert_eq!(permits.leave(&ticket), Verdict::Granted);
    }

    #[test]
    fn a_permit_that_is_of_no_use_goes_to_the_next_in_line() {
        let (permits, verdicts) = (Permits::new(0), Arc::new(Mutex::new(Vec::new())));
        for (who, useful) in [("first", false), ("second", true), ("third", true)] {
            let verdicts = Arc::clone(&verdicts);
            let answer = move |verdict| {
                verdicts.lock().push((who, verdict));
                useful
            };
            assert!(permits.take_or_answer(Class::Normal, answer).is_err());
        }
        permits.give_back();
        permits.close();
        let expected =
            [("first", Verdict::Granted), ("second", Verdict::Granted), ("third", Verdict::Closed)];
        assert_eq!(*verdicts.lock(), expected);
    }

    #[test]
    fn what_left_the_line_is_not_asked() {
        let permits = Permits::new(0);
        let ticket =
            permits.take_or_answer(Class::High, |_| unreachable!("it left")).expect_err("full");
        assert_eq!(permits.leave(&ticket), Verdict::Blocked);
        permits.give_back();
        assert!(permits.try_take());
    }

    #[test]
    fn closing_turns_everybody_away() {
        let permits = Permits::new(0);
        let before = permits.take_or_queue(Class::Low).expect_err("full");
        permits.close();
        let after = permits.take_or_queue(Class::Low).expect_err("closed");
        assert_eq!([before.verdict(), after.verdict()], [Verdict::Closed; 2]);
    }
}
