//! A bounded map that forgets what was of no use for longest.

use hashbrown::Equivalent;
use hashbrown::HashMap;
use std::hash::Hash;

/// Two generations: when the young one is full it becomes the old one, and what is still there of
/// the one before is forgotten. A look-up makes young again. Every operation takes the same time,
/// however much there is.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    half: usize,
    old: HashMap<K, V>,
    young: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Keeps at most `capacity` entries, and at least the last half as many that were used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            half: capacity.div_ceil(2).max(1),
            old: HashMap::new(),
            young: HashMap::new(),
        }
    }

    /// Keeps `value`, in place of what was there for `key`.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Looks an entry up.
    pub(crate) fn find<Q>(&mut self, key: &Q) -> Option<&V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Takes an entry out.
    pub(crate) fn take<Q>(&mut self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut recent = Recent::new(10);
        recent.insert(0, "used");
        for key in 1..1_000 {
            recent.insert(key, "not used");
            assert_eq!(recent.find(&0), Some(&"used"), "gone after {key}");
            assert!(recent.len() <= 10);
        }
        assert_eq!(recent.find(&1), None);
        assert_eq!(recent.find(&999), Some(&"not used"));
    }

    #[test]
    fn what_is_taken_is_gone() {
        let mut recent = Recent::new(4);
        for key in 0..3 {
            recent.insert(key, key * 10);
        }
        assert_eq!((recent.take(&0), recent.take(&0)), (Some(0), None));
        assert_eq!((recent.take(&2), recent.take(&2)), (Some(20), None));
    }

    proptest! {
        #[test]
        fn never_gives_another_value_and_never_more_than_it_may(steps in proptest::collection::vec((0_u8..3, 0_u8..20), 0..200)) {
            let mut recent = Recent::new(6);
            let mut last = HashMap::new();
            for (number, (step, key)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        recent.insert(key, number);
                        last.insert(key, number);
                        prop_assert_eq!(recent.find(&key), Some(&number));
                    }
                    1 => {
                        let found = recent.find(&key).copied();
                        prop_assert!(found.is_none() || found == last.get(&key).copied());
                    }
                    _ => {
                        let taken = recent.take(&key);
                        prop_assert!(taken.is_none() || taken == last.get(&key).copied());
                        last.remove(&key);
                    }
                }
                prop_assert!(recent.len() <= 6);
            }
        }
    }
}
