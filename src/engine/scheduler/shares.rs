//! Fair shares: who has had how much of something that several parties want.

use std::collections::HashMap;
use std::hash::Hash;

/// What each party has had, among those that want something now.
pub(super) struct Shares<K> {
    had: HashMap<K, f64>,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    pub(super) fn new() -> Self {
        Self { had: HashMap::new() }
    }

    /// Adds a party that did not want anything before. It starts level with the one that has had the least: it gets nothing for the
    /// time it was away, and owes nothing, because nobody had to wait for it then.
    pub(super) fn join(&mut self, party: K) {
        let least = self.had.values().copied().reduce(f64::min).unwrap_or(0.0);
        self.had.entry(party).or_insert(least);
    }

    /// Removes a party that wants nothing any more.
    pub(super) fn leave(&mut self, party: K) {
        self.had.remove(&party);
    }

    /// Notes that a party got something; without effect if it has left.
    pub(super) fn charge(&mut self, party: K, amount: f64) {
        if let Some(had) = self.had.get_mut(&party) {
            *had += amount;
        }
    }

    /// What a party has had; parties with less come first.
    pub(super) fn had(&self, party: K) -> f64 {
        self.had.get(&party).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_level_with_the_one_that_had_least() {
        let mut shares = Shares::new();
        for party in ['a', 'b'] {
            shares.join(party);
        }
        shares.charge('a', 3.0);
        shares.charge('b', 1.0);
        shares.join('c');
        assert_eq!(['a', 'b', 'c'].map(|party| shares.had(party)), [3.0, 1.0, 1.0]);
        shares.leave('a');
        shares.charge('a', 9.0);
        shares.join('a');
        assert_eq!(shares.had('a'), 1.0, "who was away owes nothing");
    }
}
