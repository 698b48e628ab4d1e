//! What the engine knows of the key of a task: a number.

/// Sixteen bits of a hash, so that what is remembered of keys is bounded: keys of the same bits share
/// a home, and nothing else comes of it. Above them the number of the key's *line*, if its tasks run
/// one after the other: no two keys that have tasks share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyNumber(u64);

const LINE_SHIFT: u32 = 16;

/// The number of a line, which no other ever had: at a million new ones a second they last for nine
/// years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineNumber(u64);

impl LineNumber {
    /// The line made after so many others.
    pub(in crate::engine) fn after(others: u64) -> Self {
        Self(others + 1)
    }
}

impl KeyNumber {
    /// The task has no key.
    pub const NONE: Self = Self(0);

    /// The number of a key with this hash, of which similar keys may have similar ones.
    pub fn of_hash(hash: u64) -> Self {
        // An odd multiplier near 2^64 over the golden ratio spreads what is close together over
        // the uppermost bits.
        let [first, second, ..] = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        Self(u16::from_be_bytes([first, second]).max(1).into())
    }

    /// The same, of a key with this line.
    #[must_use]
    pub fn in_line(self, line: LineNumber) -> Self {
        Self(self.0 | line.0 << LINE_SHIFT)
    }

    /// The line of a key whose tasks run one after the other.
    pub fn line(self) -> Option<LineNumber> {
        Some(LineNumber(self.0 >> LINE_SHIFT)).filter(|line| line.0 != 0)
    }

    /// The number with this place, for tests.
    #[cfg(all(test, loom))]
    pub(in crate::engine) const fn of_index(index: u16) -> Self {
        Self(index as u64)
    }

    /// Whether there is a key.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// Its place in a table of all homes.
    pub fn index(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }

    /// How many places there are, that of no key included.
    pub(in crate::engine) const COUNT: usize = 1 << LINE_SHIFT;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_in_a_row_have_numbers_of_their_own() {
        let numbers: HashSet<_> = (0..1_000).map(|key| KeyNumber::of_hash(key).index()).collect();
        assert!(numbers.len() > 990, "{}", numbers.len());
    }

    #[test]
    fn every_key_has_a_number_that_is_none_of_no_key() {
        for hash in [0, 1, u64::MAX, 1 << 48] {
            let key = KeyNumber::of_hash(hash);
            assert!(key.is_some() && key.index() < KeyNumber::COUNT && key.line().is_none());
        }
        assert!(!KeyNumber::NONE.is_some());
    }

    #[test]
    fn a_line_changes_nothing_of_where_a_key_is_at_home() {
        let (key, line) = (KeyNumber::of_hash(7), LineNumber::after(1 << 40));
        let in_line = key.in_line(line);
        assert_eq!((in_line.line(), in_line.index()), (Some(line), key.index()));
        assert_ne!(in_line, key.in_line(LineNumber::after(1)));
    }
}
