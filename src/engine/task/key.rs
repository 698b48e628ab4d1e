//! What the engine knows of the key of a task: a number.

/// Sixteen bits of a hash, so that what is remembered of keys is bounded. Keys of the same number
/// share a home, and nothing else comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyNumber(u16);

impl KeyNumber {
    /// The task has no key.
    pub const NONE: Self = Self(0);

    /// The number of a key with this hash, of which similar keys may have similar ones.
    pub fn of_hash(hash: u64) -> Self {
        // An odd multiplier near 2^64 over the golden ratio spreads what is close together over
        // the uppermost bits.
        let [first, second, ..] = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        Self(u16::from_be_bytes([first, second]).max(1))
    }

    /// The number with this place, for tests.
    #[cfg(all(test, loom))]
    pub(in crate::engine) fn of_index(index: u16) -> Self {
        Self(index)
    }

    /// Whether there is a key.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// Its place in a table of all numbers.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// How many numbers there are, that of no key included.
    pub(in crate::engine) const COUNT: usize = 1 << 16;
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
            assert!(key.is_some() && key.index() < KeyNumber::COUNT);
        }
        assert!(!KeyNumber::NONE.is_some());
    }
}
