use crate::certificate::Leaf;
use crate::digest::sha256;
use crate::provider;
use crate::x509::SvidError;
use arc_swap::ArcSwap;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A certificate chain (leaf first, root left out) with its private key.
#[derive(Clone)]
pub struct Credential {
    certified: Arc<CertifiedKey>,
    leaf: Digest,
    not_after: Timestamp,
}

/// A [`Credential`] whose leaf is an X.509-SVID: who this process is.
#[derive(Clone)]
pub struct Svid {
    credential: Credential,
    spiffe_id: SpiffeId,
}

/// What a listener or a connector shows, replaceable while it runs: the next handshake shows the
/// new one, and nothing is restarted.
#[derive(Debug)]
pub struct Source<T>(ArcSwap<T>);

/// A rotating [`Svid`].
pub type SvidSource = Source<Svid>;
/// A rotating [`Credential`], such as the web certificate of a browser door.
pub type CredentialSource = Source<Credential>;

/// Why a certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file can't be read.
    #[error("can't read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in the PEM text, or a section of it is malformed.
    #[error("no certificate chain in pem form")]
    Chain,
    /// There is no private key in the PEM text, or it is malformed.
    #[error("no private key in pem form (pkcs#8)")]
    Key,
    /// The key is not the one of the leaf, or of a kind that can't sign in TLS.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The leaf is not an X.509-SVID.
    #[error("the certificate is not usable as an svid: {0}")]
    Svid(#[from] SvidError),
}

impl Credential {
    /// Takes a chain, leaf first, and the leaf's key.
    ///
    /// # Errors
    /// [`CredentialError`] if the leaf is unreadable or the key is not the leaf's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CredentialError> {
        let first = chain.first().ok_or(CredentialError::Chain)?;
        let (leaf, not_after) = (sha256(first), Leaf::validity(first)?.1);
        let certified = CertifiedKey::from_der(chain, key, &provider::tls())
            .map_err(|_| CredentialError::Mismatch)?;
        Ok(Self {
            certified: Arc::new(certified),
            leaf,
            not_after,
        })
    }

    /// Reads a chain and a key in PEM.
    ///
    /// # Errors
    /// [`CredentialError`] names what is missing or wrong.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CredentialError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CredentialError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialError::Key)?;
        Self::new(chain, key)
    }

    /// Reads a chain and a key from PEM files.
    ///
    /// # Errors
    /// [`CredentialError`] names the file, or what is wrong in it.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CredentialError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map(Zeroizing::new)
                .map_err(|source| CredentialError::Read {
                    path: path.to_owned(),
                    source,
                })
        };
        Self::from_pem(&read(chain)?, &read(key)?)
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// SHA-256 of the leaf (DER).
    #[must_use]
    pub const fn leaf(&self) -> Digest {
        self.leaf
    }

    /// When the leaf ends.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(crate) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl Svid {
    /// Takes a credential whose leaf is an X.509-SVID.
    ///
    /// # Errors
    /// [`CredentialError::Svid`] says what the leaf lacks.
    pub fn new(credential: Credential) -> Result<Self, CredentialError> {
        let first = credential.chain().first().ok_or(CredentialError::Chain)?;
        let spiffe_id = Leaf::parse(first)?.spiffe_id;
        Ok(Self {
            credential,
            spiffe_id,
        })
    }

    /// Reads it in PEM.
    ///
    /// # Errors
    /// [`CredentialError`] names what is missing or wrong.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CredentialError> {
        Self::new(Credential::from_pem(chain, key)?)
    }

    /// Reads it from PEM files.
    ///
    /// # Errors
    /// [`CredentialError`] names the file, or what is wrong in it.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CredentialError> {
        Self::new(Credential::from_files(chain, key)?)
    }

    /// Who it says we are.
    #[must_use]
    pub const fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Chain, key, end and digest.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// SHA-256 of the leaf (DER): what our tokens are bound to.
    #[must_use]
    pub const fn leaf(&self) -> Digest {
        self.credential.leaf
    }

    /// When the leaf ends.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.credential.not_after
    }
}

impl<T> Source<T> {
    /// Starts with this one.
    #[must_use]
    pub fn new(first: T) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(first)))
    }

    /// The one in use now.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Shows `next` from the next handshake on.
    pub fn rotate(&self, next: T) {
        self.0.store(Arc::new(next));
    }
}

impl ResolvesServerCert for SvidSource {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().credential.certified.clone())
    }
}

impl ResolvesServerCert for CredentialSource {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} until {}", self.leaf, self.not_after)
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {:?}", self.spiffe_id, self.credential)
    }
}
