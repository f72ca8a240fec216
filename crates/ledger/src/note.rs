//! Signed notes (C2SP `signed-note`): text, an empty line, signature lines. Ed25519 only.

use crate::Hash;
use crate::tree::sha256;
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::encoding::Curve25519SeedBin;
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The algorithm byte of a plain Ed25519 signature over the text.
const ED25519_TYPE: u8 = 0x01;

/// What a signature line starts with: an em dash and a space.
const LINE_START: &str = "\u{2014} ";

/// A note over this many bytes is refused before anything else is looked at.
const MAX_NOTE: usize = 1 << 20;

/// Signature lines accepted in one note; the specification asks for at least 16.
const MAX_SIGNATURES: usize = 64;

/// Why a key or a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key name is empty, or has white space, a control character or `+` in it.
    #[error("`{0}` is no key name: it must be non-empty, without white space and without `+`")]
    KeyName(String),
    /// A verifier key is not `<name>+<8 hex digits>+<base64>` of an Ed25519 key with its own id.
    #[error("not an Ed25519 verifier key `<name>+<hash>+<base64>`")]
    VerifierKey,
    /// A private key was refused by the cryptographic library.
    #[error("not an Ed25519 private key")]
    SigningKey,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// The text of a note must be UTF-8, end in a line feed and hold no other control character.
    #[error("not the text of a note")]
    Text,
    /// The note has no signature part, or a signature line that is none.
    #[error("not a signed note")]
    Malformed,
    /// None of the known keys has signed.
    #[error("the note carries no signature by a known key")]
    Unsigned,
    /// A signature that names a known key does not verify.
    #[error("the signature by `{0}` does not verify")]
    BadSignature(String),
}

/// The private half of a note key; its memory is wiped when dropped.
pub struct SigningKey {
    name: String,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl SigningKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// [`NoteError::KeyName`], [`NoteError::NoRandomness`].
    pub fn generate(name: &str) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(seed.as_mut())
            .map_err(|_| NoteError::NoRandomness)?;
        Self::from_seed(name, &seed)
    }

    /// The key of an RFC 8032 seed.
    ///
    /// # Errors
    /// [`NoteError::KeyName`], [`NoteError::SigningKey`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::SigningKey)?;
        let public = pair.public_key().as_ref();
        let public = public.try_into().map_err(|_| NoteError::SigningKey)?;
        let verifier = VerifierKey::new(name, public)?;
        Ok(Self {
            name: name.to_owned(),
            seed: Zeroizing::new(*seed),
            pair,
            verifier,
        })
    }

    /// The key in a PKCS#8 document (RFC 8410).
    ///
    /// # Errors
    /// [`NoteError::KeyName`], [`NoteError::SigningKey`].
    pub fn from_pkcs8(name: &str, document: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|_| NoteError::SigningKey)?;
        let seed = pair.seed().map_err(|_| NoteError::SigningKey)?;
        let bytes: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| NoteError::SigningKey)?;
        let mut copy = Zeroizing::new([0; 32]);
        copy.iter_mut()
            .zip(bytes.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self::from_seed(name, &copy)
    }

    /// The RFC 8032 seed, for whoever seals the key.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.seed.clone()
    }

    /// The key name that signature lines carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text.
    ///
    /// # Errors
    /// [`NoteError::Text`].
    pub fn sign(&self, text: &str) -> Result<Note, NoteError> {
        check_text(text)?;
        let signature = Signature {
            name: self.name.clone(),
            key_id: self.verifier.key_id,
            signature: self.pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        Ok(Note {
            text: text.to_owned(),
            signatures: vec![signature],
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

/// The public half of a note key, written `<name>+<8 hex digits of its id>+<base64>`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: u32,
    public: [u8; 32],
}

impl VerifierKey {
    /// A verifier from its parts.
    ///
    /// # Errors
    /// [`NoteError::KeyName`].
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            key_id: key_id(name, &public),
            public,
        })
    }

    /// The key name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of `SHA-256(name || 0x0A || 0x01 || public key)`.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The raw Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn made(&self, signature: &Signature) -> bool {
        self.key_id == signature.key_id && self.name == signature.name
    }

    fn accepts(&self, text: &str, signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public)
            .verify(text.as_bytes(), &signature.signature)
            .is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode(typed(&self.public));
        write!(f, "{}+{:08x}+{key}", self.name, self.key_id)
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        // The base64 part may hold `+`, names and ids may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::VerifierKey)?;
        let Some((&ED25519_TYPE, public)) = key.split_first() else {
            return Err(NoteError::VerifierKey);
        };
        let public = public.try_into().map_err(|_| NoteError::VerifierKey)?;
        let verifier = Self::new(name, public)?;
        let same_id = format!("{:08x}", verifier.key_id) == id;
        if same_id {
            Ok(verifier)
        } else {
            Err(NoteError::VerifierKey)
        }
    }
}

/// One signature line: who says to have signed, and the signature bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key name on the line.
    pub name: String,
    /// The key id in front of the signature.
    pub key_id: u32,
    /// The signature bytes; what they are depends on the key.
    pub signature: Vec<u8>,
}

/// A note and its signature lines, not yet believed: see [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Reads a note without verifying it.
    ///
    /// # Errors
    /// [`NoteError::Malformed`], [`NoteError::Text`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Malformed);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        // The last empty line separates: the text itself may have empty lines.
        let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, rest) = note
            .split_at_checked(split + 1)
            .ok_or(NoteError::Malformed)?;
        check_text(text)?;
        let lines = rest
            .strip_prefix('\n')
            .and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Malformed)?;
        let signatures: Vec<_> = lines
            .split('\n')
            .take(MAX_SIGNATURES + 1)
            .map(Signature::parse)
            .collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Malformed);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text of the note, believed by those who verified it.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] when a line that names a known key does not verify,
    /// [`NoteError::Unsigned`] when no known key has signed. Lines by unknown keys are ignored.
    pub fn verify(&self, known: &[VerifierKey]) -> Result<&str, NoteError> {
        let mut verified = false;
        for signature in &self.signatures {
            for key in known.iter().filter(|key| key.made(signature)) {
                if !key.accepts(&self.text, signature) {
                    return Err(NoteError::BadSignature(key.name.clone()));
                }
                verified = true;
            }
        }
        if verified {
            Ok(&self.text)
        } else {
            Err(NoteError::Unsigned)
        }
    }

    /// The text, whoever wrote it.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The signature lines, whoever wrote them.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature line made elsewhere, for example a witness's cosignature.
    ///
    /// # Errors
    /// [`NoteError::KeyName`]; [`NoteError::Malformed`] when the note has 64 signatures already.
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        check_name(&signature.name)?;
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::Malformed);
        }
        self.signatures.push(signature);
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let mut bytes = signature.key_id.to_be_bytes().to_vec();
            bytes.extend_from_slice(&signature.signature);
            writeln!(
                f,
                "{LINE_START}{} {}",
                signature.name,
                STANDARD.encode(bytes)
            )?;
        }
        Ok(())
    }
}

impl Signature {
    fn parse(line: &str) -> Result<Self, NoteError> {
        let line = line.strip_prefix(LINE_START).ok_or(NoteError::Malformed)?;
        let (name, bytes) = line.split_once(' ').ok_or(NoteError::Malformed)?;
        check_name(name)?;
        let bytes = STANDARD.decode(bytes).map_err(|_| NoteError::Malformed)?;
        let (key_id, signature) = bytes.split_first_chunk().ok_or(NoteError::Malformed)?;
        if signature.is_empty() {
            return Err(NoteError::Malformed);
        }
        let key_id = u32::from_be_bytes(*key_id);
        Ok(Self {
            name: name.to_owned(),
            key_id,
            signature: signature.to_vec(),
        })
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(NoteError::KeyName(name.escape_debug().take(256).collect()));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), NoteError> {
    let control = |c: char| c < ' ' && c != '\n';
    if !text.ends_with('\n') || text.contains(control) {
        return Err(NoteError::Text);
    }
    Ok(())
}

fn key_id(name: &str, public: &[u8; 32]) -> u32 {
    let hash: Hash = sha256(&[name.as_bytes(), b"\n", &typed(public)].concat());
    let [a, b, c, d, ..] = hash;
    u32::from_be_bytes([a, b, c, d])
}

fn typed(public: &[u8; 32]) -> Vec<u8> {
    [&[ED25519_TYPE], public.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key() -> VerifierKey {
        KEY.parse().unwrap()
    }

    #[test]
    fn the_published_example_verifies() {
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(
            note.verify(&[key()]).unwrap(),
            "This is an example message.\n"
        );
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(key().to_string(), KEY);
    }

    #[test]
    fn a_known_key_with_a_bad_signature_rejects_the_note() {
        let note = Note::parse(NOTE.replace("example m", "exemple m").as_bytes()).unwrap();
        assert_eq!(
            note.verify(&[key()]),
            Err(NoteError::BadSignature("example.com/foo".into()))
        );
        // A good signature beside it does not help.
        let signer = SigningKey::from_seed("other", &[1; 32]).unwrap();
        let mut both = signer.sign(note.unverified_text()).unwrap();
        both.add(note.signatures()[0].clone()).unwrap();
        assert!(both.verify(&[signer.verifier().clone()]).is_ok());
        assert!(both.verify(&[signer.verifier().clone(), key()]).is_err());
    }

    #[test]
    fn unknown_keys_are_ignored_and_do_not_count() {
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        let other = SigningKey::from_seed("example.com/foo", &[1; 32]).unwrap();
        assert_eq!(note.verify(&[]), Err(NoteError::Unsigned));
        assert_eq!(
            note.verify(&[other.verifier().clone()]),
            Err(NoteError::Unsigned)
        );
        let mut many = note.clone();
        for n in 0..16 {
            let signer = SigningKey::from_seed(&format!("w{n}"), &[n; 32]).unwrap();
            many.add(signer.sign(note.unverified_text()).unwrap().signatures()[0].clone())
                .unwrap();
        }
        let many = Note::parse(many.to_string().as_bytes()).unwrap();
        assert_eq!(many.signatures().len(), 17);
        assert!(many.verify(&[key()]).is_ok());
    }

    #[test]
    fn the_separator_is_the_last_empty_line() {
        let signer = SigningKey::generate("k").unwrap();
        let note = signer.sign("a\n\nb\n\n\n").unwrap();
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(read, note);
        assert!(read.verify(&[signer.verifier().clone()]).is_ok());
    }

    #[test]
    fn what_is_no_note() {
        let line = NOTE.rsplit("\n\n").next().unwrap();
        for bad in [
            String::new(),
            "\n".into(),
            "text\n".into(),
            "text\n\n".into(),
            format!("text\n{line}"),
            NOTE.trim_end().into(),
            format!("{NOTE}\n"),
            format!("{NOTE}more\n"),
            NOTE.replace('\u{2014}', "-"),
            NOTE.replace("example.com/foo ", "example.com/foo  "),
            NOTE.replace("example.com/foo ", " "),
            NOTE.replace("example.com/foo ", "a+b "),
            NOTE.replace("aQM=", "aQM"),
            NOTE.replace("message", "mess\tage"),
            NOTE.replace("message", "mess\rage"),
            "text\n\n\u{2014} k AAAAAA==\n".into(),
        ] {
            assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Note::parse(b"\xff\n\n").is_err());
        assert!(Note::parse(&vec![b'a'; MAX_NOTE + 1]).is_err());
        let many = format!("{NOTE}{}", line.repeat(MAX_SIGNATURES));
        assert!(Note::parse(many.as_bytes()).is_err());
        let signer = SigningKey::from_seed("k", &[1; 32]).unwrap();
        assert_eq!(signer.sign("no line feed"), Err(NoteError::Text));
    }

    #[test]
    fn what_is_no_key() {
        for bad in [
            "",
            "a",
            "a+b",
            "a+b+c",
            "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
            "example.com /foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
        assert!(SigningKey::generate("a b").is_err());
        assert!(SigningKey::from_pkcs8("a", b"junk").is_err());
    }

    #[test]
    fn keys_survive_their_encodings_and_hide_in_debug_output() {
        let signer = SigningKey::generate("k").unwrap();
        let again = SigningKey::from_seed("k", &signer.seed()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        let document = Ed25519KeyPair::from_seed_unchecked(&signer.seed()[..]).unwrap();
        let document = document.to_pkcs8().unwrap();
        let pkcs8 = SigningKey::from_pkcs8("k", document.as_ref()).unwrap();
        assert_eq!(pkcs8.verifier(), signer.verifier());
        let shown = format!("{signer:?}");
        assert!(!shown.contains(&hex::encode(signer.seed())) && !shown.contains("seed"));
    }
}
