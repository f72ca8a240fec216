//! Checkpoints (C2SP `tlog-checkpoint`): a tree's origin, size and root as a signed note.

use crate::Hash;
use crate::note::Note;
use crate::note::NoteError;
use crate::note::SigningKey;
use crate::note::VerifierKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not origin, size and root on three lines.
    #[error("not the text of a checkpoint")]
    Malformed,
    /// The note around it was refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The key speaks for another log.
    #[error("the checkpoint is of `{origin}`, the key of `{key}`")]
    WrongOrigin {
        /// The origin line of the checkpoint.
        origin: String,
        /// The name of the key it was to be verified with.
        key: String,
    },
}

/// The state of a log at one size.
///
/// Displays as, and parses from, the three lines of a checkpoint without extension lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, a URL without scheme, equal to the name of its key.
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The root hash over them.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n{}\n{}",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        )
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Malformed)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        let root = STANDARD
            .decode(root)
            .map_err(|_| CheckpointError::Malformed)?;
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| CheckpointError::Malformed)?,
            root: root.try_into().map_err(|_| CheckpointError::Malformed)?,
        };
        // One spelling: this refuses leading zeros and signs before the size.
        if origin.is_empty() || checkpoint.to_string() != text {
            return Err(CheckpointError::Malformed);
        }
        Ok(checkpoint)
    }
}

/// A checkpoint with its signature lines.
///
/// Reading one proves nothing; [`SignedCheckpoint::verify`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs a checkpoint. The caller has made the size and root durable before: a log that
    /// signs two trees which do not extend one another has lied.
    ///
    /// # Errors
    /// [`CheckpointError::WrongOrigin`] when the key has another name than the log.
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey) -> Result<Self, CheckpointError> {
        same_origin(&checkpoint, key.name())?;
        let note = key.sign(&checkpoint.to_string())?;
        Ok(Self { checkpoint, note })
    }

    /// Reads a checkpoint without verifying it.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`], [`CheckpointError::Note`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = note.unverified_text().parse()?;
        Ok(Self { checkpoint, note })
    }

    /// The checkpoint, believed by those who hold the log's key.
    ///
    /// # Errors
    /// [`CheckpointError::WrongOrigin`], [`CheckpointError::Note`].
    pub fn verify(&self, key: &VerifierKey) -> Result<&Checkpoint, CheckpointError> {
        same_origin(&self.checkpoint, key.name())?;
        self.note.verify(std::slice::from_ref(key))?;
        Ok(&self.checkpoint)
    }

    /// What the checkpoint says, whoever wrote it.
    #[must_use]
    pub fn claimed(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, for cosignatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The note, to add a witness's cosignature to.
    pub fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

fn same_origin(checkpoint: &Checkpoint, key: &str) -> Result<(), CheckpointError> {
    if checkpoint.origin == key {
        return Ok(());
    }
    Err(CheckpointError::WrongOrigin {
        origin: checkpoint.origin.clone(),
        key: key.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::EMPTY_ROOT;

    fn signed() -> (SigningKey, SignedCheckpoint) {
        let key = SigningKey::from_seed("audit.example/log", &[3; 32]).unwrap();
        let checkpoint = Checkpoint {
            origin: "audit.example/log".into(),
            size: 0,
            root: EMPTY_ROOT,
        };
        let signed = SignedCheckpoint::sign(checkpoint, &key).unwrap();
        (key, signed)
    }

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let text = "audit.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (0, EMPTY_ROOT));
        assert_eq!(checkpoint.to_string(), text);
        for bad in [
            text.replace("\n0\n", "\n00\n"),
            text.replace("\n0\n", "\n+0\n"),
            text.replace("\n0\n", "\n-1\n"),
            text.replace("\n0\n", "\n\n"),
            text.replace("\n0\n", "\n18446744073709551616\n"),
            text.replace("uFU=", "uFU"),
            text.replace("47DE", ""),
            text.replace("audit.example/log", ""),
            text.trim_end().into(),
            format!("{text}extension\n"),
            format!("{text}\n"),
        ] {
            assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_logs_own_key_verifies() {
        let (key, signed) = signed();
        let read = SignedCheckpoint::parse(signed.to_string().as_bytes()).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.verify(key.verifier()).unwrap(), signed.claimed());
        let forged = SigningKey::from_seed("audit.example/log", &[4; 32]).unwrap();
        assert_eq!(
            read.verify(forged.verifier()),
            Err(NoteError::Unsigned.into())
        );
        let elsewhere = SigningKey::from_seed("audit.example/other", &[3; 32]).unwrap();
        assert!(matches!(
            read.verify(elsewhere.verifier()),
            Err(CheckpointError::WrongOrigin { .. })
        ));
        assert!(SignedCheckpoint::sign(signed.claimed().clone(), &elsewhere).is_err());
    }
}
