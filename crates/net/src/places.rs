//! How many connections each peer may have at once.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::hash::Hash;
use std::sync::Arc;

/// How many there are of each peer, whatever peers are told apart by. No more peers are remembered
/// than have connections.
#[derive(Debug)]
pub struct Places<K>(Mutex<HashMap<K, usize>>);

/// One connection of a peer, until it is dropped.
#[derive(Debug)]
pub struct Held<K: Eq + Hash> {
    peer: K,
    places: Arc<Places<K>>,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// None is taken yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// One more for this peer, if it has fewer than `most`.
    #[must_use]
    pub fn enter(self: &Arc<Self>, peer: K, most: usize) -> Option<Held<K>> {
        let mut all = self.0.lock();
        let taken = all.get(&peer).copied().unwrap_or_default();
        if taken >= most {
            return None;
        }
        all.insert(peer.clone(), taken + 1);
        drop(all);
        let places = self.clone();
        Some(Held { peer, places })
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut all = self.places.0.lock();
        let left = all.get_mut(&self.peer).map(|taken| {
            *taken = taken.saturating_sub(1);
            *taken
        });
        if left == Some(0) {
            all.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_its_part_and_no_more() {
        let places = Places::new();
        let mut held: Vec<_> = (0..4).map(|_| places.enter("one", 4).unwrap()).collect();
        assert!(places.enter("one", 4).is_none());
        let other = places.enter("other", 4).unwrap();
        held.pop();
        held.push(places.enter("one", 4).unwrap());
        assert!(
            places.enter("one", 3).is_none(),
            "by the limit of the moment"
        );
        drop((held, other));
        assert!(places.0.lock().is_empty(), "nobody is remembered for ever");
    }
}
