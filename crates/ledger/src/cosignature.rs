//! Cosignatures (C2SP `tlog-cosignature`, version 1): a witness says when it saw a checkpoint, and
//! that every earlier one it signed is a beginning of it.

use crate::checkpoint::SignedCheckpoint;
use crate::note::NoteError;
use crate::note::Signature;
use crate::note::SigningKey;
use crate::note::VerifierKey;
use crate::tree::sha256;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::UnparsedPublicKey;

/// The type of a timestamped Ed25519 cosignature in key ids.
const TYPE: u8 = 0x04;

/// Signs a checkpoint as a witness, at `time` in seconds since the epoch.
///
/// # Errors
/// [`NoteError`] if the checkpoint's text can't be signed.
pub fn cosign(
    checkpoint: &SignedCheckpoint,
    key: &SigningKey,
    time: u64,
) -> Result<Signature, NoteError> {
    let signed = key.sign(&message(checkpoint, time))?;
    let made = signed.signatures().first().ok_or(NoteError::Malformed)?;
    let mut signature = time.to_be_bytes().to_vec();
    signature.extend_from_slice(&made.signature);
    Ok(Signature {
        name: key.name().to_owned(),
        key_id: key_id(key.verifier()),
        signature,
    })
}

/// Verifies a witness's line under a checkpoint; when it was signed, in seconds since the epoch.
///
/// # Errors
/// [`NoteError::BadSignature`] if it is not this witness's, or for another checkpoint.
pub fn verify(
    checkpoint: &SignedCheckpoint,
    key: &VerifierKey,
    line: &Signature,
) -> Result<u64, NoteError> {
    let bad = || NoteError::BadSignature(key.name().to_owned());
    let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(bad)?;
    if line.name != key.name() || line.key_id != key_id(key) {
        return Err(bad());
    }
    let time = u64::from_be_bytes(*time);
    UnparsedPublicKey::new(&ED25519, key.public())
        .verify(message(checkpoint, time).as_bytes(), signature)
        .map_err(|_| bad())?;
    Ok(time)
}

/// The first four bytes of `SHA-256(name || 0x0A || 0x04 || public key)`.
#[must_use]
pub fn key_id(key: &VerifierKey) -> u32 {
    let bytes = [
        key.name().as_bytes(),
        &[b'\n', TYPE],
        key.public().as_slice(),
    ]
    .concat();
    let [a, b, c, d, ..] = sha256(&bytes);
    u32::from_be_bytes([a, b, c, d])
}

fn message(checkpoint: &SignedCheckpoint, time: u64) -> String {
    let text = checkpoint.note().unverified_text();
    format!("cosignature/v1\ntime {time}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn checkpoint(size: u64) -> SignedCheckpoint {
        let log = SigningKey::from_seed("log", &[1; 32]).unwrap();
        let checkpoint = Checkpoint {
            origin: "log".to_owned(),
            size,
            root: [9; 32],
        };
        SignedCheckpoint::sign(checkpoint, &log).unwrap()
    }

    #[test]
    fn a_line_is_of_one_witness_for_one_checkpoint_at_one_time() {
        let witness = SigningKey::from_seed("log/witness/gw1", &[2; 32]).unwrap();
        let line = cosign(&checkpoint(5), &witness, 1_795_600_800).unwrap();
        let key = witness.verifier();
        assert_eq!(verify(&checkpoint(5), key, &line), Ok(1_795_600_800));
        assert!(verify(&checkpoint(6), key, &line).is_err());
        let other = SigningKey::from_seed("log/witness/gw1", &[3; 32]).unwrap();
        assert!(verify(&checkpoint(5), other.verifier(), &line).is_err());
        let mut later = line.clone();
        later.signature[7] ^= 1;
        assert!(verify(&checkpoint(5), key, &later).is_err());
        let mut short = line;
        short.signature.truncate(7);
        assert!(verify(&checkpoint(5), key, &short).is_err());
    }

    /// The log's own signature and a cosignature by the same key are never taken for one another.
    #[test]
    fn the_id_of_a_cosigning_key_is_another() {
        let key = SigningKey::from_seed("k", &[2; 32]).unwrap();
        assert_ne!(key_id(key.verifier()), key.verifier().key_id());
        let mut note = checkpoint(5);
        let line = cosign(&note, &key, 1).unwrap();
        note.note_mut().add(line).unwrap();
        assert!(note.note().verify(&[key.verifier().clone()]).is_err());
    }
}
