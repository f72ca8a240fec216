//! The certificate authority of the trust domain.
//!
//! Three levels. The *root* is trusted for ten years; its key lies under a seal of its own, which
//! is opened to sign an intermediate and at no other time, so it can be kept elsewhere meanwhile.
//! The *intermediate* lasts 90 days and is replaced when 30 are left. A *leaf* is an X.509-SVID of
//! at most one hour, and never outlives the intermediate that signed it: nothing waits for a
//! revocation list.
//!
//! ```text
//! ca-root.key       the seal of the root     ca-root.sealed        ca-root.pem
//! (the root key)                             intermediate.sealed   ca-intermediate.pem
//! ```

mod profile;
mod request;
mod signer;

use self::profile::Validity;
use self::signer::Signer;
use crate::keys::KeyFolder;
use crate::keys::RootKey;
use crate::keys::Seal;
use crate::keys::SealError;
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Credential;
use countersign_net::CredentialError;
use countersign_net::Svid;
use countersign_net::TrustBundle;
use countersign_net::TrustError;
use rcgen::CertificateParams;
use rcgen::Issuer;
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const ROOT: &str = "ca-root";
/// Name of the file with the root certificate (PEM), in the folder of the keys.
pub const ROOT_CERTIFICATE: &str = "ca-root.pem";
const INTERMEDIATE: &str = "ca-intermediate";
const INTERMEDIATE_CERTIFICATE: &str = "ca-intermediate.pem";

const DAY: Duration = Duration::from_hours(24);
const ROOT_LIFETIME: Duration = DAY.saturating_mul(3652);
const INTERMEDIATE_LIFETIME: Duration = DAY.saturating_mul(90);
const INTERMEDIATE_RENEWAL: Duration = DAY.saturating_mul(30);

/// The longest a leaf counts, from its `notBefore` to its `notAfter`.
pub const LEAF_LIFETIME: Duration = Duration::from_hours(1);

/// How far back certificates are dated, for verifiers whose clock is slow.
const SKEW: Duration = Duration::from_secs(30);

/// Why a certificate was not issued, or the authority can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Not a certificate signing request in PEM.
    #[error("not a certificate signing request (pkcs#10 in pem form)")]
    Request,
    /// A key of another kind than P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits.
    #[error("the key of the request is of a weak or unknown kind")]
    WeakKey,
    /// The request is not signed by its own key, or with an algorithm that is not accepted.
    #[error("the request is not signed by its own key")]
    Possession,
    /// Another trust domain's identity.
    #[error("`{0}` is not of this trust domain")]
    TrustDomain(SpiffeId),
    /// One of our own processes that no request can ask for.
    #[error("`{0}` is reserved")]
    Reserved(SpiffeId),
    /// Neither a DNS name nor an IP address that a certificate can carry.
    #[error("`{0}` can't be a name in a certificate")]
    Name(String),
    /// The intermediate has ended, and no other was made.
    #[error("the intermediate authority has ended; it could not be renewed")]
    Ended,
    /// The authority's files are not what was written: some are gone, or belong to another.
    #[error("the authority's `{0}` is missing, or belongs to another key or trust domain")]
    Files(&'static str),
    /// A key can't be made or used.
    #[error("the authority has no usable key")]
    Key,
    /// A certificate can't be written.
    #[error("can't write a certificate: {0}")]
    Writing(#[from] rcgen::Error),
    /// Sealing or opening a key failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was issued is not usable, which is a defect here.
    #[error("the issued certificate is not usable: {0}")]
    Unusable(#[from] CredentialError),
    /// The root can't be trusted, which is a defect here.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// The certificate authority.
pub struct Ca {
    folder: Arc<KeyFolder>,
    root_seal: Box<dyn Seal>,
    domain: TrustDomain,
    root: CertificateDer<'static>,
    root_ends: Timestamp,
    intermediate: ArcSwap<Intermediate>,
}

/// An issued certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, then the intermediate, PEM.
    pub chain: String,
    /// SHA-256 of the leaf (DER).
    pub leaf: Digest,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the public key that signed it.
    pub issuer: Digest,
    /// From when it counts.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    certificates: Vec<CertificateDer<'static>>,
}

struct Intermediate {
    issuer: Issuer<'static, Signer>,
    certificate: CertificateDer<'static>,
    public_key: Digest,
    from: Timestamp,
    to: Timestamp,
}

impl Ca {
    /// Opens the authority in this folder, or makes a new one where there is none.
    ///
    /// `root_seal` keeps what opens the root's key; it is asked only when an intermediate must be
    /// signed.
    ///
    /// # Errors
    /// [`CaError`]; [`CaError::Files`] if some of it is gone or another trust domain's.
    pub fn open_or_create(
        folder: Arc<KeyFolder>,
        root_seal: Box<dyn Seal>,
        domain: TrustDomain,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let certificate = match folder.load_public(ROOT_CERTIFICATE)? {
            Some(pem) => read_certificate(&pem, ROOT_CERTIFICATE, &domain)?,
            None => create_root(&folder, &*root_seal, &domain, now)?,
        };
        let root_ends = validity_of(&certificate, ROOT_CERTIFICATE)?.to;
        let intermediate = match folder.load_public(INTERMEDIATE_CERTIFICATE)? {
            Some(pem) => open_intermediate(&folder, &pem, &domain)?,
            None => create_intermediate(&folder, &*root_seal, &domain, &certificate, now)?,
        };
        let ca = Self {
            folder,
            root_seal,
            domain,
            root: certificate,
            root_ends,
            intermediate: ArcSwap::from_pointee(intermediate),
        };
        ca.tick(now)?;
        Ok(ca)
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificate (DER).
    #[must_use]
    pub const fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The root certificate, PEM: what whoever trusts this domain needs.
    #[must_use]
    pub fn bundle(&self) -> String {
        pem(&self.root)
    }

    /// SHA-256 of the root certificate (DER).
    #[must_use]
    pub fn root_digest(&self) -> Digest {
        sha256(&self.root)
    }

    /// When the root ends.
    #[must_use]
    pub const fn root_ends(&self) -> Timestamp {
        self.root_ends
    }

    /// SHA-256 of the public key that signs leaves now.
    #[must_use]
    pub fn issuer(&self) -> Digest {
        self.intermediate.load().public_key
    }

    /// When the intermediate that signs now ends.
    #[must_use]
    pub fn intermediate_ends(&self) -> Timestamp {
        self.intermediate.load().to
    }

    /// The roots as `net` takes them.
    ///
    /// # Errors
    /// [`CaError::Trust`].
    pub fn trust_bundle(&self, generation: u64) -> Result<TrustBundle, CaError> {
        Ok(TrustBundle::new(
            self.domain.clone(),
            std::slice::from_ref(&self.root),
            generation,
        )?)
    }

    /// Issues an SVID for the key of a request. Only the key is taken from it.
    ///
    /// # Errors
    /// [`CaError`]: the request's form, key or proof of possession; an identity of another trust
    /// domain; one of our own processes other than a gateway.
    pub fn issue(&self, csr: &str, id: &SpiffeId, now: Timestamp) -> Result<Issued, CaError> {
        if id.is_reserved() && !matches!(id.process(), Some(("gateway", _))) {
            return Err(CaError::Reserved(id.clone()));
        }
        self.sign(&request::public_key(csr)?, id, &[], now)
    }

    /// Issues an SVID for a gateway in another process, which has the key. `hosts` are the DNS
    /// names and IP addresses of its listeners.
    ///
    /// # Errors
    /// [`CaError`], as [`Self::issue`].
    pub fn issue_gateway(
        &self,
        csr: &str,
        name: &Name,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let id = SpiffeId::of_process(&self.domain, "gateway", name);
        self.sign(&request::public_key(csr)?, &id, hosts, now)
    }

    /// Issues an SVID for one of our own processes, with a new key that never leaves this process.
    /// `hosts` are the DNS names and IP addresses of its own listeners.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue_own(
        &self,
        role: &str,
        name: &Name,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<(Svid, Issued), CaError> {
        let id = SpiffeId::of_process(&self.domain, role, name);
        let der = signer::generate_p256()?;
        let issued = self.sign(&Signer::from_pkcs8(&der)?, &id, hosts, now)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec()));
        let svid = Svid::new(Credential::new(issued.certificates.clone(), key)?)?;
        Ok((svid, issued))
    }

    /// Replaces the intermediate when it is due; says whether it was.
    ///
    /// # Errors
    /// [`CaError`]. While the intermediate still lasts for leaves, only a warning is logged: the
    /// root's seal may be kept elsewhere until somebody brings it.
    pub fn tick(&self, now: Timestamp) -> Result<bool, CaError> {
        let ends = self.intermediate_ends();
        if now.plus(INTERMEDIATE_RENEWAL) < ends {
            return Ok(false);
        }
        match self.rotate(now) {
            Ok(()) => Ok(true),
            Err(error) if now.plus(LEAF_LIFETIME) < ends => {
                tracing::warn!(%error, %ends, "the intermediate authority can't be renewed yet");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a new intermediate, which signs from now on. What the old one signed stays good.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn rotate(&self, now: Timestamp) -> Result<(), CaError> {
        let root = &self.root;
        let next = create_intermediate(&self.folder, &*self.root_seal, &self.domain, root, now)?;
        self.intermediate.store(Arc::new(next));
        Ok(())
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        if id.trust_domain() != self.domain.as_str() {
            return Err(CaError::TrustDomain(id.clone()));
        }
        let intermediate = self.intermediate.load();
        let from = back(now).max(intermediate.from);
        let to = from.plus(LEAF_LIFETIME).min(intermediate.to);
        if to <= now {
            return Err(CaError::Ended);
        }
        let params = profile::svid(id, hosts, Validity { from, to })?;
        let leaf = params.signed_by(key, &intermediate.issuer)?;
        let certificates = vec![leaf.into(), intermediate.certificate.clone()];
        Ok(Issued {
            chain: certificates.iter().map(pem).collect(),
            leaf: certificates
                .first()
                .map_or(Digest::new([0; 32]), |leaf| sha256(leaf)),
            serial: profile::serial_of(&params),
            spiffe_id: id.clone(),
            issuer: intermediate.public_key,
            not_before: from,
            not_after: to,
            certificates,
        })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "authority of {} until {}",
            self.domain.as_str(),
            self.root_ends
        )
    }
}

fn create_root(
    folder: &KeyFolder,
    seal: &dyn Seal,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<CertificateDer<'static>, CaError> {
    // A certificate that is gone is no reason to make another root: nobody would trust it.
    if folder.load_public(INTERMEDIATE_CERTIFICATE)?.is_some() {
        return Err(CaError::Files(ROOT_CERTIFICATE));
    }
    let sealing = match seal.unseal() {
        Err(SealError::Missing(_)) => seal.initialise()?,
        unsealed => unsealed?,
    };
    let (signer, der) = Signer::generate()?;
    let name = format!("countersign root of {}", domain.as_str());
    let params = profile::authority(domain, &name, 1, lasting(now, ROOT_LIFETIME))?;
    let certificate: CertificateDer<'static> = params.self_signed(&signer)?.into();
    folder.save_under(&sealing, ROOT, "", &der)?;
    // Last, because with it the root exists.
    folder.save_public(ROOT_CERTIFICATE, pem(&certificate).as_bytes())?;
    Ok(certificate)
}

/// Signs an intermediate with the root's key, which is in memory during this call only.
fn create_intermediate(
    folder: &KeyFolder,
    seal: &dyn Seal,
    domain: &TrustDomain,
    root: &CertificateDer<'static>,
    now: Timestamp,
) -> Result<Intermediate, CaError> {
    let root_signer = open_root(folder, &seal.unseal()?)?;
    let root_issuer = Issuer::from_ca_cert_der(root, root_signer)?;
    let root_ends = validity_of(root, ROOT_CERTIFICATE)?.to;
    let mut validity = lasting(now, INTERMEDIATE_LIFETIME);
    validity.to = validity.to.min(root_ends);
    if validity.to <= now {
        return Err(CaError::Ended);
    }
    let (signer, der) = Signer::generate()?;
    let name = format!("countersign intermediate of {}", domain.as_str());
    let params: CertificateParams = profile::authority(domain, &name, 0, validity)?;
    let certificate: CertificateDer<'static> = params.signed_by(&signer, &root_issuer)?.into();
    // Under an id of its own, so that a crash between the two files leaves the old pair whole.
    let id = key_id(&certificate)?;
    folder.save(INTERMEDIATE, &id, &der)?;
    let before = folder.load_public(INTERMEDIATE_CERTIFICATE)?;
    folder.save_public(INTERMEDIATE_CERTIFICATE, pem(&certificate).as_bytes())?;
    if let Some(before) = before {
        let old = read_certificate(&before, INTERMEDIATE_CERTIFICATE, domain)?;
        folder.destroy(INTERMEDIATE, &key_id(&old)?)?;
    }
    intermediate(certificate, signer)
}

fn open_root(folder: &KeyFolder, sealing: &RootKey) -> Result<Signer, CaError> {
    let der = folder
        .load_under(sealing, ROOT, "")?
        .ok_or(CaError::Files("ca-root.sealed"))?;
    Signer::from_pkcs8(&der)
}

fn open_intermediate(
    folder: &KeyFolder,
    pem: &[u8],
    domain: &TrustDomain,
) -> Result<Intermediate, CaError> {
    let certificate = read_certificate(pem, INTERMEDIATE_CERTIFICATE, domain)?;
    let der = folder.load(INTERMEDIATE, &key_id(&certificate)?)?;
    let signer = Signer::from_pkcs8(&der.ok_or(CaError::Files("ca-intermediate.sealed"))?)?;
    if sha256(&signer.subject_public_key_info()) != public_key(&certificate)? {
        return Err(CaError::Files("ca-intermediate.sealed"));
    }
    intermediate(certificate, signer)
}

fn intermediate(
    certificate: CertificateDer<'static>,
    signer: Signer,
) -> Result<Intermediate, CaError> {
    let Validity { from, to } = validity_of(&certificate, INTERMEDIATE_CERTIFICATE)?;
    let public_key = public_key(&certificate)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, signer)?;
    Ok(Intermediate {
        issuer,
        certificate,
        public_key,
        from,
        to,
    })
}

/// Reads one of our own authorities, which must be this trust domain's.
fn read_certificate(
    pem: &[u8],
    file: &'static str,
    domain: &TrustDomain,
) -> Result<CertificateDer<'static>, CaError> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| CaError::Files(file))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|_| CaError::Files(file))?;
    let mut organizations = certificate.subject().iter_organization();
    let ours = organizations.next().and_then(|name| name.as_str().ok()) == Some(domain.as_str());
    if ours {
        Ok(der.clone())
    } else {
        Err(CaError::Files(file))
    }
}

fn validity_of(der: &CertificateDer<'_>, file: &'static str) -> Result<Validity, CaError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|_| CaError::Files(file))?;
    let validity = certificate.validity();
    Ok(Validity {
        from: Timestamp::from_secs(validity.not_before.timestamp()),
        to: Timestamp::from_secs(validity.not_after.timestamp()),
    })
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER).
fn public_key(der: &CertificateDer<'_>) -> Result<Digest, CaError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der)
        .map_err(|_| CaError::Files(INTERMEDIATE_CERTIFICATE))?;
    Ok(sha256(certificate.public_key().raw))
}

fn key_id(der: &CertificateDer<'_>) -> Result<String, CaError> {
    Ok(public_key(der)?.to_string().chars().take(16).collect())
}

fn lasting(now: Timestamp, lifetime: Duration) -> Validity {
    let from = back(now);
    Validity {
        from,
        to: from.plus(lifetime),
    }
}

/// This moment less the skew, in whole seconds.
fn back(now: Timestamp) -> Timestamp {
    let skew = i64::try_from(SKEW.as_secs()).unwrap_or_default();
    Timestamp::from_secs(now.as_secs() - skew)
}

fn pem(der: &CertificateDer<'static>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (place, character) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + "\n-----END CERTIFICATE-----\n"
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest::new(hash)
}
