//! Which sequence numbers were accepted, which arrived: a bit each, so that losses and duplicates are exact and not
//! the difference of two counters that happen to agree.

/// Sequence numbers above this are not ours; a stamp that claims one is malformed.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 30;

/// A growing set of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    words: Vec<u64>,
}

impl Ledger {
    /// Enters `sequence` (at most [`SEQUENCE_MAX`]); false if it was there already.
    pub(crate) fn enter(&mut self, sequence: u64) -> bool {
        debug_assert!(sequence <= SEQUENCE_MAX, "callers check stamps that come from outside");
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    pub(crate) fn has(&self, sequence: u64) -> bool {
        self.words.get((sequence / 64) as usize).is_some_and(|word| word & 1 << (sequence % 64) != 0)
    }

    /// How many numbers are here and not in `other`.
    pub(crate) fn missing_from(&self, other: &Ledger) -> u64 {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter().zip(others).map(|(mine, theirs)| u64::from((mine & !theirs).count_ones())).sum()
    }

    /// The set as bytes for the sink's control port.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Ledger {
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Ledger { words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: impl IntoIterator<Item = u64>) -> Ledger {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.enter(number);
        }
        ledger
    }

    #[test]
    fn a_number_entered_twice_is_told_apart() {
        let mut ledger = Ledger::default();
        assert!(ledger.enter(64));
        assert!(!ledger.enter(64));
        assert!(ledger.enter(63));
        assert_eq!([62, 63, 64, 65, 1_000].map(|number| ledger.has(number)), [false, true, true, false, false]);
    }

    #[test]
    fn losses_are_what_was_accepted_and_never_seen_whatever_the_order_and_the_ends() {
        let accepted = of([0, 1, 2, 3, 63, 64, 65, 1_000]);
        assert_eq!(accepted.missing_from(&accepted), 0);
        assert_eq!(accepted.missing_from(&of([1_000, 3, 2, 0])), 4);
        assert_eq!(accepted.missing_from(&of([0])), 7);
        assert_eq!(accepted.missing_from(&Ledger::default()), 8);
    }

    #[test]
    fn what_arrived_without_having_been_accepted_is_no_loss() {
        assert_eq!(of([5]).missing_from(&of(0..500)), 0);
    }

    #[test]
    fn a_ledger_survives_the_control_port() {
        let ledger = of((0..1_000).step_by(7));
        assert_eq!(Ledger::from_bytes(&ledger.to_bytes()), ledger);
    }
}
