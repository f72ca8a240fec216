//! A witness of one log: remembers the last checkpoint it believed, and believes no other that does
//! not continue it.

use crate::Hash;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::SignedCheckpoint;
use crate::note::VerifierKey;
use crate::tree;
use crate::tree::ProofError;

/// What a witness knows of a log. Where it is kept is for its owner to say.
#[derive(Debug, Clone)]
pub struct Witness {
    log: VerifierKey,
    last: Option<SignedCheckpoint>,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// It is no checkpoint of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log has fewer leaves than it had.
    #[error("the log shows `{shown}` leaves, but had `{known}` before")]
    Smaller {
        /// What it had.
        known: u64,
        /// What it shows.
        shown: u64,
    },
    /// The tree is not a continuation of the one before.
    #[error("the log's tree of `{shown}` leaves does not continue that of `{known}`: {source}")]
    Forked {
        /// The tree before.
        known: u64,
        /// The tree shown.
        shown: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
}

impl Witness {
    /// A witness of the log with this key, from the checkpoint it kept, if it kept one.
    ///
    /// # Errors
    /// [`WitnessError::Checkpoint`] if what was kept is not of this log.
    pub fn new(log: VerifierKey, kept: Option<&[u8]>) -> Result<Self, WitnessError> {
        let last = kept.map(SignedCheckpoint::parse).transpose()?;
        if let Some(last) = &last {
            last.verify(&log)?;
        }
        Ok(Self { log, last })
    }

    /// How many leaves of the log it has seen.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.claimed().size)
    }

    /// The last checkpoint believed.
    #[must_use]
    pub fn last(&self) -> Option<&SignedCheckpoint> {
        self.last.as_ref()
    }

    /// Judges a checkpoint with the proof that it continues the last one. It counts as believed
    /// only when it is handed to [`Self::believe`], after it was kept.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn judge(&self, bytes: &[u8], proof: &[Hash]) -> Result<SignedCheckpoint, WitnessError> {
        let shown = SignedCheckpoint::parse(bytes)?;
        let next = shown.verify(&self.log)?;
        if let Some(last) = &self.last {
            let last = last.claimed();
            if next.size < last.size {
                let (known, shown) = (last.size, next.size);
                return Err(WitnessError::Smaller { known, shown });
            }
            tree::verify_consistency(last.size, &last.root, next.size, &next.root, proof).map_err(
                |source| WitnessError::Forked {
                    known: last.size,
                    shown: next.size,
                    source,
                },
            )?;
        }
        Ok(shown)
    }

    /// Goes on from here.
    pub fn believe(&mut self, checkpoint: SignedCheckpoint) {
        self.last = Some(checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::note::SigningKey;
    use crate::tree::Tree;
    use crate::tree::leaf_hash;

    struct Grown {
        tree: Tree,
        leaves: Vec<Hash>,
    }

    fn grown(words: &[&str]) -> Grown {
        let mut tree = Tree::default();
        let leaves: Vec<_> = words
            .iter()
            .map(|word| leaf_hash(word.as_bytes()))
            .collect();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        Grown { tree, leaves }
    }

    impl Grown {
        fn signed(&self, key: &SigningKey) -> Vec<u8> {
            let checkpoint = Checkpoint {
                origin: key.name().to_owned(),
                size: self.tree.size(),
                root: self.tree.root(),
            };
            let signed = SignedCheckpoint::sign(checkpoint, key).unwrap();
            signed.to_string().into_bytes()
        }

        /// The proof from 2 leaves to 3, written down by hand: the third leaf.
        fn proof_of_three(&self) -> Vec<Hash> {
            vec![self.leaves[2]]
        }
    }

    #[test]
    fn a_continuation_is_believed_and_nothing_else() {
        let key = SigningKey::from_seed("log", &[1; 32]).unwrap();
        let witness = |last: &[u8]| Witness::new(key.verifier().clone(), Some(last)).unwrap();
        let (two, three) = (grown(&["a", "b"]), grown(&["a", "b", "c"]));
        let at_two = witness(&two.signed(&key));
        assert_eq!(at_two.size(), 2);
        let next = at_two
            .judge(&three.signed(&key), &three.proof_of_three())
            .unwrap();
        assert_eq!(next.claimed().size, 3);
        assert!(
            at_two.judge(&two.signed(&key), &[]).is_ok(),
            "the same again"
        );
        // No proof, or one of another tree.
        assert!(matches!(
            at_two.judge(&three.signed(&key), &[]),
            Err(WitnessError::Forked {
                known: 2,
                shown: 3,
                ..
            })
        ));
        let forked = grown(&["a", "x", "c"]);
        assert!(matches!(
            at_two.judge(&forked.signed(&key), &forked.proof_of_three()),
            Err(WitnessError::Forked { .. })
        ));
        let same_size = grown(&["a", "x"]);
        assert!(matches!(
            at_two.judge(&same_size.signed(&key), &[]),
            Err(WitnessError::Forked { .. })
        ));
        assert_eq!(
            witness(&three.signed(&key)).judge(&two.signed(&key), &[]),
            Err(WitnessError::Smaller { known: 3, shown: 2 })
        );
    }

    #[test]
    fn another_logs_checkpoint_is_none_also_where_it_was_kept() {
        let key = SigningKey::from_seed("log", &[1; 32]).unwrap();
        let other = SigningKey::from_seed("log", &[2; 32]).unwrap();
        let two = grown(&["a", "b"]);
        let fresh = Witness::new(key.verifier().clone(), None).unwrap();
        assert!(fresh.judge(&two.signed(&key), &[]).is_ok());
        assert!(fresh.judge(&two.signed(&other), &[]).is_err());
        assert!(Witness::new(key.verifier().clone(), Some(&two.signed(&other))).is_err());
    }
}
