//! A map that many versions of share what they have in common.

use hashbrown::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A map of which a copy costs next to nothing, so that a state may be replaced by one with a single
/// entry more while others read the one before.
///
/// It consists of layers, of which each hides what is below it. A change makes a new layer on top;
/// neighbours are merged so that each layer is at least [`RATIO`] times as large as the one above
/// it. There are thus at most as many as the logarithm of the size, and an entry is copied at most
/// [`RATIO`] times for each.
#[derive(Clone, Debug)]
pub(super) struct Layers<K, V> {
    /// The lowest first; nothing for a key says that it was removed.
    layers: Vec<Arc<HashMap<K, Option<V>>>>,
}

/// How much larger a layer is than the one above it.
const RATIO: usize = 8;

impl<K, V> Default for Layers<K, V> {
    fn default() -> Self {
        Self { layers: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Copy> Layers<K, V> {
    /// Whether there is nothing at all.
    pub(super) const fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// What is there for a key.
    pub(super) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + hashbrown::Equivalent<K> + ?Sized,
    {
        let mut found = self.layers.iter().rev().map(|layer| layer.get(key));
        found.find_map(|it| it.copied()).flatten()
    }

    /// Sets what is there for a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.set(key, Some(value));
    }

    /// Removes what is there for a key.
    pub(super) fn remove(&mut self, key: K) {
        if self.get(&key).is_some() {
            self.set(key, None);
        }
    }

    fn set(&mut self, key: K, value: Option<V>) {
        // What nobody else has may be changed where it is: as long as a log is read, there is one
        // layer.
        if let Some(top) = self.layers.last_mut().and_then(Arc::get_mut) {
            top.insert(key, value);
        } else {
            let top = HashMap::from_iter([(key, value)]);
            self.layers.push(Arc::new(top));
        }
        self.merge();
    }

    /// Restores the ratio from the top down.
    fn merge(&mut self) {
        while let Some([below, top]) = self.layers.last_chunk() {
            if below.len() >= top.len().saturating_mul(RATIO) {
                return;
            }
            let (top, below) = (self.layers.pop(), self.layers.pop());
            let Some((top, below)) = top.zip(below) else {
                return;
            };
            let mut below = Arc::unwrap_or_clone(below);
            below.extend(top.iter().map(|(key, value)| (key.clone(), *value)));
            if self.layers.is_empty() {
                // Nothing is left to hide.
                below.retain(|_, value| value.is_some());
            }
            if !below.is_empty() {
                self.layers.push(Arc::new(below));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn there_are_few_layers_though_every_version_is_kept() {
        let mut layers = Layers::default();
        let mut versions = Vec::new();
        for number in 0..5_000_u32 {
            layers.insert(number, number);
            versions.push(layers.clone());
            assert!(layers.layers.len() <= 6, "{}", layers.layers.len());
        }
        for (number, version) in (0..).zip(&versions) {
            assert_eq!(version.get(&number), Some(number));
            assert_eq!(version.get(&(number + 1)), None, "it is another version");
        }
    }

    #[test]
    fn what_nobody_shares_is_one_layer() {
        let mut layers = Layers::default();
        for number in 0..10_000_u32 {
            layers.insert(number, ());
        }
        assert_eq!(layers.layers.len(), 1);
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0_u8..40, any::<Option<u8>>(), any::<bool>()), 0..300)) {
            let mut layers = Layers::default();
            let mut map = BTreeMap::new();
            let mut kept = Vec::new();
            for (key, value, keep) in steps {
                if let Some(value) = value {
                    layers.insert(key, value);
                    map.insert(key, value);
                } else {
                    layers.remove(key);
                    map.remove(&key);
                }
                if keep {
                    kept.push((layers.clone(), map.clone()));
                }
            }
            kept.push((layers, map));
            for (layers, map) in kept {
                for key in 0..40 {
                    prop_assert_eq!(layers.get(&key), map.get(&key).copied());
                }
            }
        }
    }
}
