//! The bound on waiting tasks: a count of permits, handed over directly to blocked submitters.
//!
//! A permit is taken before a submit and given back by whoever moves the task out of *waiting*: the
//! worker that claims it, the caller that cancels it, a time limit, a kill. With somebody blocked, a
//! permit that comes back goes to the most urgent of them, first come first served within a class, and
//! never to a newcomer.

use super::lanes::Class;
use crate::sync::Arc;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::thread::{self, Thread};
use std::collections::VecDeque;

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
    /// One line for each class. Not empty only while `free` is zero.
    lines: [VecDeque<Arc<Ticket>>; 3],
}

/// A blocked submitter's place in line. Its thread is unparked when its verdict comes.
#[derive(Debug)]
pub struct Ticket {
    class: Class,
    /// Written once, under the lock of `Permits`; read without it by the waiting thread. Release and
    /// acquire, so that the waiter sees what the giver of the permit did before.
    verdict: AtomicU8,
    thread: Thread,
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
}

impl Permits {
    /// `bound` free permits.
    pub fn new(bound: usize) -> Self {
        let lines = [(); 3].map(|()| VecDeque::new());
        Self { state: Mutex::new(State { free: bound, closed: false, lines }) }
    }

    /// Takes a permit if one is free.
    pub fn try_take(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.free > 0;
        state.free -= usize::from(free);
        free
    }

    /// Takes a permit, or a place in line for the current thread.
    ///
    /// # Errors
    ///
    /// The ticket to wait with when no permit is free. Poll [`Ticket::verdict`] between parks, and
    /// [`leave`](Self::leave) to give up.
    pub fn take_or_queue(&self, class: Class) -> Result<(), Arc<Ticket>> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(());
        }
        let verdict = AtomicU8::new(if state.closed { CLOSED } else { BLOCKED });
        let ticket = Arc::new(Ticket { class, verdict, thread: thread::current() });
        if !state.closed {
            state.lines[class as usize].push_back(Arc::clone(&ticket));
        }
        Err(ticket)
    }

    /// Gives up a place in line. The verdict returned is final: `Granted` means that the permit came in
    /// time after all, and is the caller's.
    pub fn leave(&self, ticket: &Arc<Ticket>) -> Verdict {
        let mut state = self.state.lock();
        state.lines[ticket.class as usize].retain(|other| !Arc::ptr_eq(other, ticket));
        ticket.verdict()
    }

    /// Gives a permit back: to the first in the most urgent line, else to the free ones.
    pub fn give_back(&self) {
        let served = {
            let mut state = self.state.lock();
            let first = state.lines.iter_mut().rev().find_map(VecDeque::pop_front);
            match &first {
                Some(ticket) => ticket.verdict.store(GRANTED, Ordering::Release),
                None => state.free += 1,
            }
            first
        };
        if let Some(ticket) = served {
            ticket.thread.unpark();
        }
    }

    /// Turns away everybody in line, and all who come later.
    pub fn close(&self) {
        let turned_away: Vec<_> = {
            let mut state = self.state.lock();
            state.closed = true;
            let all: Vec<_> = state.lines.iter_mut().flat_map(|line| line.drain(..)).collect();
            for ticket in &all {
                ticket.verdict.store(CLOSED, Ordering::Release);
            }
            all
        };
        for ticket in turned_away {
            ticket.thread.unpark();
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
    fn closing_turns_everybody_away() {
        let permits = Permits::new(0);
        let before = permits.take_or_queue(Class::Low).expect_err("full");
        permits.close();
        let after = permits.take_or_queue(Class::Low).expect_err("closed");
        assert_eq!([before.verdict(), after.verdict()], [Verdict::Closed; 2]);
    }
}
