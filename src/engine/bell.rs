//! Wakes idle workers: one for the first task, who wakes the next when there is more.
//!
//! One word counts the sleepers and remembers whether a wake-up is under way. A submitter pushes, then
//! rings: with nobody asleep, or a woken worker still on its way, that is one load. The woken worker
//! clears the mark *after* it took its task and rings on when more waits, so that N tasks reach N idle
//! workers in a chain, and a burst of submits costs one system call instead of one each.
//!
//! Why no wake-up is lost: both sides do *write, fence, read* (`SeqCst`). The submitter writes the lane
//! and reads this word; a sleeper writes this word and looks at the lane; a woken worker clears the mark
//! and looks at the lane. Whichever comes second sees the other.
//!
//! The waker takes the sleeper off the count, so tokens in the channel plus sleepers in the count are
//! always the number of workers inside `sleep`.

use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::channel::{Receiver, Sender, unbounded};
use std::time::Duration;

const SLEEPER: u64 = 1;
const SLEEPERS: u64 = (1 << 32) - 1;
const RINGING: u64 = 1 << 32;

/// See the module's documentation.
#[derive(Debug)]
pub struct Bell {
    /// Sleepers below, the mark above. Written by sleepers and by whoever rings.
    word: CachePadded<AtomicU64>,
    sender: Sender<()>,
    receiver: Receiver<()>,
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
        let (sender, receiver) = unbounded();
        Self { word: CachePadded::new(AtomicU64::new(0)), sender, receiver }
    }

    /// Wakes one sleeper, unless none sleeps or one is on its way. True when it woke one.
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let mut word = self.word.load(Ordering::SeqCst);
        while word & SLEEPERS != 0 && word & RINGING == 0 {
            let rung = (word - SLEEPER) | RINGING;
            match self.word.compare_exchange(word, rung, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    self.send();
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Wakes every sleeper: for a change of mode.
    pub fn ring_all(&self) {
        let before = self.word.fetch_and(!SLEEPERS, Ordering::SeqCst);
        for _ in 0..before & SLEEPERS {
            self.send();
        }
    }

    /// Ends the wake-up that made [`sleep`](Self::sleep) return `Rung`, and passes it on when there is
    /// more. The caller has taken its own task by now.
    pub fn answered(&self, more: impl FnOnce() -> bool) {
        self.word.fetch_and(!RINGING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if more() {
            self.ring();
        }
    }

    /// Blocks until somebody rings. `idle` is asked once more after the caller has been counted.
    pub fn sleep(&self, limit: Option<Duration>, idle: impl FnOnce() -> bool) -> Woken {
        self.word.fetch_add(SLEEPER, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !idle() && self.withdraw() {
            return Woken::NotNeeded;
        }
        let Some(limit) = limit else {
            return self.receive();
        };
        match self.receiver.recv_timeout(limit) {
            Err(_) if self.withdraw() => Woken::TimedOut,
            Err(_) => self.receive(),
            Ok(()) => Woken::Rung,
        }
    }

    /// How many workers sleep.
    pub fn sleepers(&self) -> usize {
        usize::try_from(self.word.load(Ordering::SeqCst) & SLEEPERS).unwrap_or(usize::MAX)
    }

    fn receive(&self) -> Woken {
        // Both ends live in this struct: an error is impossible, and a wake-up too many is harmless.
        let _ = self.receiver.recv();
        Woken::Rung
    }

    /// Takes the caller off the count; false when a waker did so first and its token is due.
    fn withdraw(&self) -> bool {
        let mut word = self.word.load(Ordering::SeqCst);
        while word & SLEEPERS != 0 {
            let fewer = word - SLEEPER;
            match self.word.compare_exchange(word, fewer, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn send(&self) {
        let sent = self.sender.send(());
        debug_assert!(sent.is_ok());
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
