//! A PKI of its own for each test: root, intermediate, and leaves that are right or wrong in one
//! chosen way.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose PKI can't be made has failed"
)]

use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Credential;
use countersign_net::Svid;
use countersign_net::TrustBundle;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::CustomExtension;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// A trust domain with a root and an intermediate, both on P-256.
pub struct Pki {
    /// The trust domain.
    pub domain: TrustDomain,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    root: CertifiedIssuer<'static, KeyPair>,
    /// The moment that validity is counted from.
    start: SystemTime,
}

/// A leaf with its chain and key.
pub struct Issued {
    /// Leaf first, root left out.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key in PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

/// What is wrong with a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// It is marked as a CA.
    CaFlag,
    /// A non-critical key usage extension.
    KeyUsageNotCritical,
    /// Key usage that allows signing certificates.
    KeyUsageSignsCertificates,
    /// Key usage that allows signing revocation lists.
    KeyUsageSignsLists,
    /// Key usage without digital signature.
    KeyUsageWithoutSignature,
    /// No extended key usage.
    NoExtendedKeyUsage,
    /// No key usage.
    NoKeyUsage,
    /// No SAN at all.
    NoName,
    /// Only a DNS SAN.
    NoUriName,
    /// The URI SAN is not a SPIFFE ID.
    NotSpiffe,
    /// Not yet valid.
    NotYetValid,
    /// Extended key usage for clients only.
    OnlyClient,
    /// Extended key usage for servers only.
    OnlyServer,
    /// A SPIFFE ID of another trust domain.
    OtherDomain,
    /// A SPIFFE ID without a path.
    PathlessSpiffe,
    /// Expired.
    Expired,
    /// A second URI SAN, of another scheme.
    SecondUriName,
    /// A key on P-521.
    KeyP521,
    /// An RSA key of 1,024 bits.
    KeyRsa1024,
    /// Self-signed.
    SelfSigned,
    /// Signed by the intermediate, which is left out of the chain.
    WithoutIntermediate,
}

/// What is wrong with an intermediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntermediateDefect {
    /// Expired.
    Expired,
    /// A key on P-521.
    KeyP521,
    /// Key usage without certificate signing.
    MayNotSign,
}

impl Defect {
    /// Every way of being wrong.
    pub const ALL: [Self; 21] = [
        Self::CaFlag,
        Self::Expired,
        Self::KeyP521,
        Self::KeyRsa1024,
        Self::KeyUsageNotCritical,
        Self::KeyUsageSignsCertificates,
        Self::KeyUsageSignsLists,
        Self::KeyUsageWithoutSignature,
        Self::NoExtendedKeyUsage,
        Self::NoKeyUsage,
        Self::NoName,
        Self::NoUriName,
        Self::NotSpiffe,
        Self::NotYetValid,
        Self::OnlyClient,
        Self::OnlyServer,
        Self::OtherDomain,
        Self::PathlessSpiffe,
        Self::SecondUriName,
        Self::SelfSigned,
        Self::WithoutIntermediate,
    ];
}

const HOUR: Duration = Duration::from_secs(3600);
const RSA_1024: (&str, &str) = (
    include_str!("../fixtures/rsa1024.key.pem"),
    include_str!("../fixtures/rsa1024.pub.pem"),
);
const P_521: (&str, &str) = (
    include_str!("../fixtures/p521.key.pem"),
    include_str!("../fixtures/p521.pub.pem"),
);

impl Pki {
    /// A new root and intermediate for `domain`, valid now.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self::at(domain, SystemTime::now())
    }

    /// The same, with validity counted from another moment.
    #[must_use]
    pub fn at(domain: &str, start: SystemTime) -> Self {
        let root = authority(domain, "root", start);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let intermediate = authority(domain, "intermediate", start);
        Self::signed(
            domain,
            root,
            intermediate,
            KeyPair::generate().unwrap(),
            start,
        )
    }

    /// A PKI whose intermediate is wrong in one way.
    #[must_use]
    pub fn with_intermediate(domain: &str, defect: IntermediateDefect) -> Self {
        let good = Self::new(domain);
        let mut params = authority(domain, "intermediate", good.start);
        let mut key = KeyPair::generate().unwrap();
        match defect {
            IntermediateDefect::Expired => params.not_after = (good.start - HOUR).into(),
            IntermediateDefect::KeyP521 => {
                key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
            }
            IntermediateDefect::MayNotSign => params.key_usages = vec![KeyUsagePurpose::CrlSign],
        }
        Self::signed(domain, good.root, params, key, good.start)
    }

    fn signed(
        domain: &str,
        root: CertifiedIssuer<'static, KeyPair>,
        intermediate: CertificateParams,
        key: KeyPair,
        start: SystemTime,
    ) -> Self {
        let intermediate = CertifiedIssuer::signed_by(intermediate, key, &root).unwrap();
        let domain = TrustDomain::new(domain).unwrap();
        Self {
            domain,
            intermediate,
            root,
            start,
        }
    }

    /// The SPIFFE ID of the identity `name` here.
    #[must_use]
    pub fn id(&self, name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{}/{name}", self.domain)).unwrap()
    }

    /// The root certificate.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        self.root.der()
    }

    /// The root certificate in PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The trust bundle with this root.
    #[must_use]
    pub fn bundle(&self, generation: u64) -> TrustBundle {
        TrustBundle::new(
            self.domain.clone(),
            std::slice::from_ref(self.root()),
            generation,
        )
        .unwrap()
    }

    /// A good leaf for `spiffe://<domain>/<name>`, valid for an hour.
    #[must_use]
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, Defect::None)
    }

    /// The same, ready to be shown.
    #[must_use]
    pub fn svid(&self, name: &str) -> Svid {
        self.issue(name).svid()
    }

    /// A leaf that is wrong in one way.
    #[must_use]
    pub fn issue_with(&self, name: &str, defect: Defect) -> Issued {
        let params = self.leaf(name, defect);
        match defect {
            Defect::KeyRsa1024 => return self.issue_for(&params, RSA_1024),
            Defect::KeyP521 => return self.issue_for(&params, P_521),
            _ => {}
        }
        let key = KeyPair::generate().unwrap();
        let leaf = match defect {
            Defect::SelfSigned => params.self_signed(&key).unwrap(),
            _ => params.signed_by(&key, &self.intermediate).unwrap(),
        };
        let mut chain = vec![leaf.der().clone()];
        if !matches!(defect, Defect::SelfSigned | Defect::WithoutIntermediate) {
            chain.push(self.intermediate.der().clone());
        }
        Issued {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// A certificate for a web server, signed by the root.
    #[must_use]
    pub fn issue_web(&self, host: &str) -> Issued {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = (self.start - HOUR).into();
        params.not_after = (self.start + HOUR).into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.root).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Issued {
            chain: vec![leaf.der().clone()],
            key,
        }
    }

    fn issue_for(&self, params: &CertificateParams, (key, public): (&str, &str)) -> Issued {
        let public = SubjectPublicKeyInfo::from_pem(public).unwrap();
        let leaf = params.signed_by(&public, &self.intermediate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        Issued {
            chain: vec![leaf.der().clone(), self.intermediate.der().clone()],
            key,
        }
    }

    fn leaf(&self, name: &str, defect: Defect) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = match defect {
            Defect::Expired => ((self.start - 2 * HOUR).into(), (self.start - HOUR).into()),
            Defect::NotYetValid => ((self.start + HOUR).into(), (self.start + 2 * HOUR).into()),
            _ => ((self.start - HOUR / 60).into(), (self.start + HOUR).into()),
        };
        params.subject_alt_names = self.names(name, defect);
        if defect == Defect::CaFlag {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.key_usages = match defect {
            Defect::NoKeyUsage | Defect::KeyUsageNotCritical => vec![],
            Defect::KeyUsageWithoutSignature => vec![KeyUsagePurpose::KeyAgreement],
            Defect::KeyUsageSignsCertificates => {
                vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyCertSign,
                ]
            }
            Defect::KeyUsageSignsLists => {
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]
            }
            _ => vec![KeyUsagePurpose::DigitalSignature],
        };
        if defect == Defect::KeyUsageNotCritical {
            // BIT STRING with digitalSignature alone, under id-ce-keyUsage.
            let usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
            params.custom_extensions.push(usage);
        }
        params.extended_key_usages = match defect {
            Defect::NoExtendedKeyUsage => vec![],
            Defect::OnlyServer => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Defect::OnlyClient => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params
    }

    fn names(&self, name: &str, defect: Defect) -> Vec<SanType> {
        let uri = |text: String| SanType::URI(text.as_str().try_into().unwrap());
        let own = || uri(format!("spiffe://{}/{name}", self.domain));
        match defect {
            Defect::NoName => vec![],
            Defect::NoUriName => vec![SanType::DnsName("localhost".try_into().unwrap())],
            Defect::NotSpiffe => vec![uri(format!("https://{}/{name}", self.domain))],
            Defect::OtherDomain => vec![uri(format!("spiffe://other.internal/{name}"))],
            Defect::PathlessSpiffe => vec![uri(format!("spiffe://{}", self.domain))],
            Defect::SecondUriName => vec![own(), uri("https://acme.example/".to_owned())],
            _ => vec![own(), SanType::DnsName("localhost".try_into().unwrap())],
        }
    }
}

impl Issued {
    /// As an SVID of ours.
    #[must_use]
    pub fn svid(self) -> Svid {
        Svid::new(self.credential()).unwrap()
    }

    /// As a web certificate of ours.
    #[must_use]
    pub fn credential(self) -> Credential {
        Credential::new(self.chain, self.key).unwrap()
    }

    /// The chain in PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|certificate| pem("CERTIFICATE", certificate))
            .collect()
    }

    /// The key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }

    /// Writes `<name>.pem` (leaf), `<name>.chain.pem` (whole chain) and `<name>.key`; returns the
    /// three paths.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> [PathBuf; 3] {
        let paths = ["pem", "chain.pem", "key"].map(|end| folder.join(format!("{name}.{end}")));
        let leaf = self
            .chain
            .first()
            .map(|leaf| pem("CERTIFICATE", leaf))
            .unwrap_or_default();
        let texts = [leaf, self.chain_pem(), self.key_pem()];
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
        }
        paths
    }
}

fn authority(domain: &str, name: &str, start: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{domain} {name}"));
    params.not_before = (start - 24 * HOUR).into();
    params.not_after = (start + 24 * HOUR).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
