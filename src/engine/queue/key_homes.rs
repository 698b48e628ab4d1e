//! The home of each key: the worker that was the last to begin a task of it, and whether it is free.
//!
//! Nothing depends on a home but which of the free workers gets a task, so that may be out of date,
//! and keys of one number may have moved each other's home. What a home is *promised* is another
//! matter: see [`HomeState`].

use crate::engine::task::key::KeyNumber;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::{CachePadded, OnceLock};

/// loom follows each of them.
const NUMBERS: usize = if cfg!(loom) { 2 } else { KeyNumber::COUNT };
/// Of how many homes the state is known, by their numbers: base workers have the lowest.
const STATES: usize = if cfg!(loom) { 2 } else { 256 };

/// Nothing is known of it: it sleeps, or does what has no key.
const AWAY: u8 = 0;
/// It has begun a task with a key, and has not been idle since.
const BUSY: u8 = 1;
/// It has no task, and is going to look for one before it sleeps.
const COMING: u8 = 2;
/// So it is, and a submitter has a task for it.
const PROMISED: u8 = 3;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct KeyHomes {
    /// Made with the first task that has a key: 544 KiB.
    tables: OnceLock<Tables>,
}

#[derive(Debug)]
struct Tables {
    /// One more than the home's number, by the number of the key; 0: it has none yet. Relaxed: see
    /// above.
    homes: Box<[AtomicU64]>,
    states: Box<[HomeState]>,
}

/// What a home does, in a line of its own.
///
/// A worker and the one that succeeds it have one home and may both write here: so nobody but who
/// *comes* ends a promise, by the swap that ends its coming too. `SeqCst`, like the lanes: a
/// submitter writes the lane and makes a promise, a worker ends its coming and looks at the lane.
#[derive(Debug)]
struct HomeState(CachePadded<AtomicU8>);

impl HomeState {
    /// Moves it on, if it is where that begins.
    fn advance(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::SeqCst) == state
    }
}

impl Tables {
    fn new() -> Self {
        Self {
            homes: (0..NUMBERS).map(|_| AtomicU64::new(0)).collect(),
            states: (0..STATES).map(|_| HomeState(CachePadded::new(AtomicU8::new(AWAY)))).collect(),
        }
    }
}

impl KeyHomes {
    /// Whether a task with a key ever began.
    #[inline]
    pub fn are_used(&self) -> bool {
        self.tables.get().is_some()
    }

    /// The home of a key, if it has one.
    pub fn get(&self, key: KeyNumber) -> Option<u64> {
        self.tables.get()?.homes[key.index()].load(Ordering::Relaxed).checked_sub(1)
    }

    /// A home begins a task of this key. True: the key was there before.
    pub fn begin(&self, key: KeyNumber, home: u64) -> bool {
        let place = &self.tables.get_or_init(Tables::new).homes[key.index()];
        let was_here = place.load(Ordering::Relaxed) == home + 1;
        if !was_here {
            place.store(home + 1, Ordering::Relaxed);
        }
        // One task after the other costs a look: submitters read the same line.
        if let Some(state) = self.state(home)
            && !state.is(BUSY)
        {
            state.advance(AWAY, BUSY);
        }
        was_here
    }

    /// Whether a home has a task, as far as is known.
    pub fn is_busy(&self, home: u64) -> bool {
        self.state(home).is_some_and(|state| state.is(BUSY))
    }

    /// A home is going to look for a task, and will call [`stop_coming`](Self::stop_coming).
    pub fn come(&self, home: u64) {
        if let Some(state) = self.state(home) {
            let _ = state.advance(BUSY, COMING) || state.advance(AWAY, COMING);
        }
    }

    /// Whether it is.
    pub fn is_coming(&self, home: u64) -> bool {
        self.state(home).is_some_and(|state| state.is(COMING))
    }

    /// Promises a task in the lanes to a home that is coming. False: it is not, any more.
    pub fn promise(&self, home: u64) -> bool {
        self.state(home).is_some_and(|state| state.advance(COMING, PROMISED))
    }

    /// Whether a home was promised a task.
    pub fn is_promised(&self, home: u64) -> bool {
        self.state(home).is_some_and(|state| state.is(PROMISED))
    }

    /// The home looks for a task now, or sleeps. True: it was promised one.
    pub fn stop_coming(&self, home: u64) -> bool {
        self.state(home).is_some_and(|state| state.0.swap(AWAY, Ordering::SeqCst) == PROMISED)
    }

    fn state(&self, home: u64) -> Option<&HomeState> {
        self.tables.get()?.states.get(usize::try_from(home).ok()?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn key(hash: u64) -> KeyNumber {
        KeyNumber::of_hash(hash)
    }

    #[test]
    fn a_key_is_where_it_was_last() {
        let homes = KeyHomes::default();
        assert_eq!(homes.get(key(1)), None);
        assert!(!homes.begin(key(1), 0) && homes.begin(key(1), 0));
        assert_eq!((homes.get(key(1)), homes.get(key(2))), (Some(0), None));
        assert!(!homes.begin(key(1), 7_000) && !homes.begin(key(1), 0));
    }

    #[test]
    fn a_home_is_promised_something_while_it_comes() {
        let homes = KeyHomes::default();
        homes.come(0);
        assert!(!homes.promise(0), "there are no keys");
        homes.begin(key(1), 0);
        assert!(homes.is_busy(0) && !homes.promise(0));
        homes.come(0);
        assert!(homes.is_coming(0) && homes.promise(0) && !homes.promise(0));
        // Its successor, as if it were the same.
        homes.begin(key(1), 0);
        homes.come(0);
        assert!(homes.is_promised(0) && homes.stop_coming(0) && !homes.stop_coming(0));
        assert!(!homes.is_busy(0) && !homes.is_coming(0));
    }

    #[test]
    fn of_a_home_beyond_the_table_nothing_is_known() {
        let homes = KeyHomes::default();
        let home = STATES as u64;
        homes.begin(key(1), home);
        homes.come(home);
        assert!(!homes.is_busy(home) && !homes.is_coming(home) && !homes.promise(home));
        assert_eq!(homes.get(key(1)), Some(home));
    }
}
