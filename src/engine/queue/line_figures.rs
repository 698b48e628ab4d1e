//! What is told of all lines of keys: how long the longest is, and since when the follower waits that has
//! waited longest. Kept up to date as lines change, so that a look costs the same however many there are.

use crate::engine::clock::Tick;
use crate::engine::task::key::LineNumber;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct LineFigures {
    /// How many lines have so many tasks, for each length that there is: not a row of all up to the
    /// longest, which would take as much memory as the tasks of one key that wait.
    by_length: BTreeMap<usize, usize>,
    /// Since when the first follower waits of each line that has any.
    followers: BTreeSet<(Tick, LineNumber)>,
}

/// What counts of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineFigure {
    /// How many tasks it has.
    pub(super) length: usize,
    /// Since when its first follower waits.
    pub(super) follower: Option<Tick>,
}

impl LineFigures {
    /// Of no lines.
    pub(super) fn new() -> Self {
        Self { by_length: BTreeMap::new(), followers: BTreeSet::new() }
    }

    /// Notes that a line has changed.
    pub(super) fn update(&mut self, number: LineNumber, before: LineFigure, after: LineFigure) {
        if before.length != after.length {
            if after.length > 0 {
                *self.by_length.entry(after.length).or_default() += 1;
            }
            if let Entry::Occupied(mut same) = self.by_length.entry(before.length) {
                *same.get_mut() -= 1;
                if *same.get() == 0 {
                    same.remove();
                }
            }
        }
        if before.follower != after.follower {
            if let Some(since) = before.follower {
                self.followers.remove(&(since, number));
            }
            if let Some(since) = after.follower {
                self.followers.insert((since, number));
            }
        }
    }

    /// How many tasks the longest line has.
    pub(super) fn longest(&self) -> usize {
        self.by_length.last_key_value().map_or(0, |(length, _)| *length)
    }

    /// Since when the follower waits that has waited longest.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.followers.first().map(|(since, _)| *since)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NONE: LineFigure = LineFigure { length: 0, follower: None };

    #[test]
    fn the_longest_and_the_oldest_are_those_of_the_lines_that_there_are() {
        let mut figures = LineFigures::new();
        let [first, second] = [0, 1].map(LineNumber::after);
        let [long, short] =
            [(3, 20), (2, 10)].map(|(length, since)| LineFigure { length, follower: Some(since) });
        figures.update(first, NONE, long);
        figures.update(second, NONE, short);
        assert_eq!((figures.longest(), figures.oldest()), (3, Some(10)));
        figures.update(second, short, LineFigure { length: 1, follower: None });
        assert_eq!((figures.longest(), figures.oldest()), (3, Some(20)));
        figures.update(first, long, NONE);
        assert_eq!((figures.longest(), figures.oldest()), (1, None));
        figures.update(second, LineFigure { length: 1, follower: None }, NONE);
        assert_eq!((figures.longest(), figures.oldest()), (0, None));
    }
}
