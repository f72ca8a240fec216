//! Compact JWS (RFC 7515) as our own tokens use it: one `typ`, one algorithm and one key set for
//! each kind of token, and nothing in the header but these three.

use crate::json;
use crate::provider;
use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::Signature;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use countersign_core::hop::TokenFault;
use countersign_core::vocabulary::SpiffeId;
use hashbrown::HashMap;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// The longest token that is looked at: 8 KiB.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

/// How a key signs. Each kind of token has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256: access tokens, ID tokens, JWT-SVIDs.
    Es256,
    /// Ed25519: assertions of enforcement points.
    EdDsa,
}

/// One kind of token.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) algorithm: KeyAlgorithm,
    /// What we write.
    pub(crate) typ: &'static str,
    /// What else means the same (the media type in full, RFC 7515 section 4.1.9).
    pub(crate) typ_in_full: &'static str,
}

/// A private key with its id.
pub struct SigningKey {
    algorithm: KeyAlgorithm,
    /// The first part of the tokens that it signed first, and their type: mostly of all of them.
    header: OnceLock<(&'static str, Option<String>)>,
    kid: String,
    pkcs8: Zeroizing<Vec<u8>>,
    private: Pair,
    public: Vec<u8>,
}

/// A key pair as it signs: read once, since for Ed25519 reading costs as much as signing.
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// The public keys that one kind of token is verified with, at one generation.
#[derive(Clone, Debug)]
pub struct KeySet {
    generation: u64,
    keys: HashMap<String, PublicKey>,
}

/// The key set in force, replaceable while requests are served.
#[derive(Debug)]
pub struct Keys(ArcSwap<KeySet>);

/// One public key of a [`KeySet`].
#[derive(Clone)]
struct PublicKey {
    algorithm: KeyAlgorithm,
    key: ParsedPublicKey,
    owner: Option<SpiffeId>,
    point: Vec<u8>,
}

/// A key can't be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// No randomness, or a key that is not PKCS#8 of this algorithm.
    #[error("not a usable signing key")]
    Key,
    /// The payload can't be written as JSON, or signing failed.
    #[error("can't sign this payload")]
    Sign,
}

/// A document is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JSON object with `keys`, or a member of it appears twice.
    #[error("not a json web key set")]
    Form,
    /// It holds a private key: whoever made it gave it away.
    #[error("key `{0}` of the set is a private key")]
    Private(String),
    /// A key of a kind we use is malformed or not on its curve.
    #[error("key `{0}` of the set is malformed")]
    Key(String),
    /// A key of a kind we use has no id, or one of more than 128 bytes: no token could name it.
    #[error("a key of the set has no id")]
    Unnamed,
    /// Two keys with one id.
    #[error("key id `{0}` appears twice in the set")]
    Duplicate(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// A token whose signature and header are good.
pub(crate) struct Opened {
    pub(crate) kid: String,
    pub(crate) owner: Option<SpiffeId>,
    pub(crate) payload: Value,
}

/// Signs `payload` as a token of this kind.
pub(crate) fn sign<T: Serialize>(
    kind: &Kind,
    key: &SigningKey,
    payload: &T,
) -> Result<String, JwsError> {
    if key.algorithm != kind.algorithm {
        return Err(JwsError::Key);
    }
    let mut token = String::with_capacity(1024);
    let (typ, header) = key.header.get_or_init(|| (kind.typ, key.header(kind)));
    match header {
        Some(header) if *typ == kind.typ => token.push_str(header),
        _ => token.push_str(&key.header(kind).ok_or(JwsError::Sign)?),
    }
    token.push('.');
    encode(&serde_json::to_vec(payload), &mut token)?;
    let signature = key.private.sign(token.as_bytes())?;
    token.push('.');
    BASE64.encode_string(signature, &mut token);
    Ok(token)
}

fn encode(json: &Result<Vec<u8>, serde_json::Error>, token: &mut String) -> Result<(), JwsError> {
    let json = json.as_ref().map_err(|_| JwsError::Sign)?;
    BASE64.encode_string(json, token);
    Ok(())
}

/// Verifies a token of this kind: form, header, key, signature, in this order; then reads its
/// payload, in which no member may appear twice.
///
/// The algorithm is the kind's, not the header's (RFC 8725 section 3.1), and a header member
/// beyond `alg`, `kid` and `typ` is refused: each one that others know (`jku`, `jwk`, `x5u`,
/// `x5c`, `crit`, `b64`, `zip`) would let the token say how to verify it.
pub(crate) fn open(kind: &Kind, keys: &KeySet, token: &str) -> Result<Opened, TokenFault> {
    let malformed = TokenFault::Malformed;
    if token.len() > MAX_TOKEN {
        return Err(malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = message.split_once('.').ok_or(malformed)?;
    let decode = |part: &str| BASE64.decode(part).map_err(|_| malformed);
    let (header, payload_bytes) = (decode(header)?, decode(payload)?);
    let signature = decode(signature)?;
    let header = json::strict(&header).map_err(|_| malformed)?;
    let header: Header = serde_json::from_value(header).map_err(|_| malformed)?;
    if header.alg != kind.algorithm.name() {
        return Err(malformed);
    }
    let same = |typ: &str| header.typ.eq_ignore_ascii_case(typ);
    if !same(kind.typ) && !same(kind.typ_in_full) {
        return Err(TokenFault::Foreign);
    }
    let key = keys.keys.get(&header.kid).ok_or(TokenFault::Signature)?;
    if key.algorithm != kind.algorithm || !key.signed(message, &signature) {
        return Err(TokenFault::Signature);
    }
    let payload = json::strict(&payload_bytes).map_err(|_| malformed)?;
    Ok(Opened {
        kid: header.kid,
        owner: key.owner.clone(),
        payload,
    })
}

impl KeyAlgorithm {
    /// As it stands in `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl Pair {
    /// Takes a private key in PKCS#8 (DER).
    fn read(algorithm: KeyAlgorithm, der: &[u8]) -> Option<Self> {
        match algorithm {
            KeyAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
                pair.ok().map(Self::Es256)
            }
            KeyAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(der).ok().map(Self::EdDsa),
        }
    }

    fn public(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// Signs as JWS wants it: for ES256 both numbers one after the other (RFC 7518 section 3.4).
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], JwsError> {
        // The library's own type has room for the longest signature of all, some five KiB.
        let bytes = |signature: Signature| signature.as_ref().first_chunk().copied();
        let signature = match self {
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), message).map(bytes),
            Self::EdDsa(pair) => pair.try_sign(message).map(bytes),
        };
        signature.ok().flatten().ok_or(JwsError::Sign)
    }
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`JwsError::Key`] where the system has no randomness.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, JwsError> {
        let rng = SystemRandom::new();
        let pkcs8 = match algorithm {
            KeyAlgorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            }
            KeyAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&rng),
        };
        Self::from_pkcs8(algorithm, pkcs8.map_err(|_| JwsError::Key)?.as_ref())
    }

    /// Takes a private key in PKCS#8 (DER). Its id is its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// [`JwsError::Key`] if it is not one of this algorithm.
    pub fn from_pkcs8(algorithm: KeyAlgorithm, der: &[u8]) -> Result<Self, JwsError> {
        let private = Pair::read(algorithm, der).ok_or(JwsError::Key)?;
        let public = private.public().to_vec();
        let kid = thumbprint(algorithm, &public).ok_or(JwsError::Key)?;
        Ok(Self {
            algorithm,
            header: OnceLock::new(),
            kid,
            pkcs8: Zeroizing::new(der.to_vec()),
            private,
            public,
        })
    }

    /// The first part of a token of this kind.
    fn header(&self, kind: &Kind) -> Option<String> {
        let header = Header {
            alg: self.algorithm.name().to_owned(),
            kid: self.kid.clone(),
            typ: kind.typ.to_owned(),
        };
        Some(BASE64.encode(serde_json::to_vec(&header).ok()?))
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private key in PKCS#8 (DER), to be sealed.
    #[must_use]
    pub fn pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }
}

impl KeySet {
    /// No key at all: it verifies nothing.
    #[must_use]
    pub fn empty(generation: u64) -> Self {
        Self {
            generation,
            keys: HashMap::new(),
        }
    }

    /// Adds the public half of a key that belongs to everybody, such as the issuer's.
    pub fn add(&mut self, key: &SigningKey) {
        self.insert(key, None);
    }

    /// Adds the public half of a key that only `owner` signs with.
    pub fn add_owned(&mut self, key: &SigningKey, owner: SpiffeId) {
        self.insert(key, Some(owner));
    }

    fn insert(&mut self, key: &SigningKey, owner: Option<SpiffeId>) {
        let (algorithm, point) = (key.algorithm, key.public.clone());
        if let Some(public) = PublicKey::new(algorithm, point, owner) {
            self.keys.insert(key.kid.clone(), public);
        }
    }

    /// Which generation this is; it grows with each change.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The ids of its keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Reads a JSON Web Key Set (RFC 7517 section 5). Keys of kinds we don't use, or for another
    /// `use`, are left out.
    ///
    /// # Errors
    /// [`KeySetError`] if it is none, or a key of ours in it is malformed, doubled or private.
    pub fn from_jwks(document: &[u8], generation: u64) -> Result<Self, KeySetError> {
        let document = json::strict(document).map_err(|_| KeySetError::Form)?;
        let list = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::Form)?;
        let mut keys = HashMap::new();
        for jwk in list {
            let member = |name: &str| jwk.get(name).and_then(Value::as_str);
            let kid = member("kid").filter(|kid| kid.len() <= 128);
            if jwk.get("d").is_some() {
                let kid = kid.unwrap_or_default().to_owned();
                return Err(KeySetError::Private(kid));
            }
            let Some(algorithm) = algorithm_of(jwk) else {
                continue;
            };
            let kid = kid.ok_or(KeySetError::Unnamed)?;
            let key =
                read_public(jwk, algorithm).ok_or_else(|| KeySetError::Key(kid.to_owned()))?;
            if keys.insert(kid.to_owned(), key).is_some() {
                return Err(KeySetError::Duplicate(kid.to_owned()));
            }
        }
        Ok(Self { generation, keys })
    }

    /// Writes it as a JSON Web Key Set, keys in the order of their ids.
    #[must_use]
    pub fn to_jwks(&self) -> Value {
        let mut keys: Vec<(&String, &PublicKey)> = self.keys.iter().collect();
        keys.sort_by_key(|(kid, _)| *kid);
        let keys: Vec<Value> = keys.into_iter().map(|(kid, key)| key.to_jwk(kid)).collect();
        serde_json::json!({ "keys": keys })
    }
}

impl Keys {
    /// Starts with this set.
    #[must_use]
    pub fn new(set: KeySet) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(set)))
    }

    /// The set in force.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        self.0.load_full()
    }

    /// Puts `next` in force; its generation must differ.
    pub fn replace(&self, next: KeySet) {
        self.0.store(Arc::new(next));
    }
}

fn algorithm_of(jwk: &Value) -> Option<KeyAlgorithm> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let algorithm = match (member("kty")?, member("crv")?) {
        ("EC", "P-256") => KeyAlgorithm::Es256,
        ("OKP", "Ed25519") => KeyAlgorithm::EdDsa,
        _ => return None,
    };
    // A member of another type than a string is not one that fits (RFC 7517 section 4).
    let fits = |name: &str, value: &str| jwk.get(name).is_none_or(|given| given == value);
    let verifies = jwk.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one == "verify"))
    });
    (fits("use", "sig") && fits("alg", algorithm.name()) && verifies).then_some(algorithm)
}

fn read_public(jwk: &Value, algorithm: KeyAlgorithm) -> Option<PublicKey> {
    let coordinate = |name: &str| {
        let bytes = BASE64.decode(jwk.get(name)?.as_str()?).ok()?;
        (bytes.len() == 32).then_some(bytes)
    };
    let owner = match jwk.get("spiffe_id") {
        Some(owner) => Some(SpiffeId::parse(owner.as_str()?).ok()?),
        None => None,
    };
    let point = match algorithm {
        KeyAlgorithm::Es256 => [vec![4], coordinate("x")?, coordinate("y")?].concat(),
        KeyAlgorithm::EdDsa => coordinate("x")?,
    };
    PublicKey::new(algorithm, point, owner)
}

impl PublicKey {
    /// Takes an uncompressed P-256 point, which must be on the curve, or an Ed25519 key.
    fn new(algorithm: KeyAlgorithm, point: Vec<u8>, owner: Option<SpiffeId>) -> Option<Self> {
        let key = match algorithm {
            KeyAlgorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point),
            KeyAlgorithm::EdDsa => ParsedPublicKey::new(&ED25519, &point),
        };
        let key = key.ok()?;
        Some(Self {
            algorithm,
            key,
            owner,
            point,
        })
    }

    fn signed(&self, message: &str, signature: &[u8]) -> bool {
        self.key.verify_sig(message.as_bytes(), signature).is_ok()
    }

    fn to_jwk(&self, kid: &str) -> Value {
        let mut jwk = public_members(self.algorithm, &self.point);
        let owner = self
            .owner
            .as_ref()
            .map(|owner| ("spiffe_id", owner.as_str()));
        let beside = [("alg", self.algorithm.name()), ("kid", kid), ("use", "sig")];
        if let Value::Object(members) = &mut jwk {
            members.extend(
                beside
                    .into_iter()
                    .chain(owner)
                    .map(|(name, value)| (name.to_owned(), value.into())),
            );
        }
        jwk
    }
}

/// The members that make the key, in the order in which RFC 7638 hashes them.
fn public_members(algorithm: KeyAlgorithm, point: &[u8]) -> Value {
    match algorithm {
        KeyAlgorithm::Es256 => {
            let (x, y) = point
                .get(1..)
                .and_then(|xy| xy.split_at_checked(32))
                .unwrap_or_default();
            let (x, y) = (BASE64.encode(x), BASE64.encode(y));
            serde_json::json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y })
        }
        KeyAlgorithm::EdDsa => {
            serde_json::json!({ "crv": "Ed25519", "kty": "OKP", "x": BASE64.encode(point) })
        }
    }
}

fn thumbprint(algorithm: KeyAlgorithm, point: &[u8]) -> Option<String> {
    let _ = provider::install_crypto();
    let jwk = serde_json::from_value::<jsonwebtoken::jwk::Jwk>(public_members(algorithm, point));
    jwk.ok()?
        .thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)
        .ok()
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key `{}`", self.algorithm.name(), self.kid)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key of {:?}", self.algorithm.name(), self.owner)
    }
}

#[cfg(test)]
mod tests;
