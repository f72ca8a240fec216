use crate::certificate;
use crate::digest::sha256;
use crate::expected::Expected;
use crate::expected::is_expected;
use crate::handshake;
use crate::handshake::Refused;
use crate::handshake::Verdict;
use crate::provider;
use crate::svid::Svid;
use crate::svid::SvidSource;
use crate::trust::Roots;
use crate::trust::TrustBundle;
use crate::x509::Role;
use arc_swap::ArcSwap;
use countersign_core::hop::Certificate;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::DefaultTimeProvider;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens TLS connections to one peer, or to the public web.
pub struct Connector(Kind);

/// What an outgoing connection proved.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The application protocol agreed on, `h2` or `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// SHA-256 of the leaf that we showed, if we did.
    pub own_leaf: Option<Digest>,
    /// The peer's SVID; none for a peer of the public web.
    pub peer: Option<Arc<Certificate>>,
    /// How it is encrypted.
    pub tls: Tls,
}

/// Whom to believe on the public web: the system's roots (or those of `SSL_CERT_FILE`), and others
/// given to us.
#[derive(Clone, Debug)]
pub struct PublicRoots(Arc<RootCertStore>);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name can't be a server's name.
    #[error("`{0}` is not a host name or address")]
    Name(String),
    /// The handshake failed, on this side or the other.
    #[error("the tls handshake failed: {}", .0.detail)]
    Handshake(Box<Refused>),
    /// The TLS configuration can't be built.
    #[error("can't build the tls configuration: {0}")]
    Config(#[from] rustls::Error),
    /// A file of root certificates can't be read.
    #[error("no root certificates in pem form")]
    Roots,
}

enum Kind {
    Mutual(Box<Mutual>),
    Public(Arc<ClientConfig>),
}

struct Mutual {
    alpn: Vec<Vec<u8>>,
    built: ArcSwap<Built>,
    expected: Expected,
    roots: Arc<Roots>,
    svid: Arc<SvidSource>,
    time: Arc<dyn TimeProvider>,
}

/// One configuration for one SVID of ours and one trust bundle. Sessions live in it: resuming one
/// that another leaf of ours opened would leave our tokens bound to the wrong certificate.
struct Built {
    bundle: Arc<TrustBundle>,
    config: Arc<ClientConfig>,
    svid: Arc<Svid>,
}

impl Connector {
    /// Mutual TLS 1.3 with whoever is expected there. The name it is dialled by is
    /// sent as SNI and proves nothing.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the cryptography provider can't serve it.
    pub fn mutual(
        svid: Arc<SvidSource>,
        roots: Arc<Roots>,
        expected: impl Into<Expected>,
    ) -> Result<Self, ConnectError> {
        let expected = expected.into();
        let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
        let built = Built::new(&svid, &roots, &expected, &alpn, &time)?;
        let built = ArcSwap::from_pointee(built);
        Ok(Self(Kind::Mutual(Box::new(Mutual {
            alpn,
            built,
            expected,
            roots,
            svid,
            time,
        }))))
    }

    /// TLS 1.2 or later with whoever has a certificate for the name from a public authority.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the cryptography provider can't serve it.
    pub fn public(roots: &PublicRoots) -> Result<Self, ConnectError> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ClientConfig::builder_with_provider(provider::tls())
            .with_protocol_versions(&versions)?
            .with_webpki_verifier(roots.verifier()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Kind::Public(Arc::new(config))))
    }

    /// TLS 1.3 with whoever is expected under the root with this SHA-256, for those who have
    /// neither the root nor a certificate yet. The other side is a [`WithRoot`](crate::WithRoot).
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the cryptography provider can't serve it.
    pub fn pinned(
        pin: Digest,
        domain: TrustDomain,
        expected: impl Into<Expected>,
    ) -> Result<Self, ConnectError> {
        let config = crate::pinned::config(pin, domain, expected.into())?;
        Ok(Self(Kind::Public(Arc::new(config))))
    }

    /// The same connector, offering only these application protocols.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the cryptography provider can't serve it.
    pub fn with_alpn(self, protocols: &[&str]) -> Result<Self, ConnectError> {
        let alpn: Vec<Vec<u8>> = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Self(match self.0 {
            Kind::Public(config) => {
                let mut config = config.as_ref().clone();
                config.alpn_protocols = alpn;
                Kind::Public(Arc::new(config))
            }
            Kind::Mutual(mut mutual) => {
                mutual.alpn = alpn;
                mutual.built = ArcSwap::from_pointee(mutual.build()?);
                Kind::Mutual(mutual)
            }
        }))
    }

    /// Takes a connected socket through the handshake, which must end before `deadline`.
    ///
    /// # Errors
    /// [`ConnectError`] says what failed.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        name: &str,
        deadline: Instant,
    ) -> Result<(TlsStream<IO>, Connection), ConnectError> {
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| ConnectError::Name(handshake::shortened(name.to_owned())))?;
        let (config, built) = match &self.0 {
            Kind::Public(config) => (config.clone(), None),
            Kind::Mutual(mutual) => {
                let built = mutual.current()?;
                (built.config.clone(), Some((mutual, built)))
            }
        };
        let handshake = TlsConnector::from(config).connect(server_name, io);
        let timed = tokio::time::timeout_at(deadline, handshake);
        let (outcome, verdict) = handshake::observed(timed).await;
        let refused = |refused| ConnectError::Handshake(Box::new(refused));
        let stream = match outcome {
            Err(_elapsed) => return Err(refused(Refused::timed_out())),
            Ok(Err(error)) => {
                return Err(refused(Refused::of(&error, verdict, None, TlsVersion::V13)));
            }
            Ok(Ok(stream)) => stream,
        };
        let tls = handshake::established(stream.get_ref().1);
        let (peer, own_leaf) = match built {
            None => (None, None),
            Some((mutual, built)) => {
                let peer = mutual
                    .peer(&stream, &built.bundle, verdict, &tls)
                    .map_err(ConnectError::Handshake)?;
                (Some(peer), Some(built.svid.leaf()))
            }
        };
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((
            stream,
            Connection {
                alpn,
                own_leaf,
                peer,
                tls,
            },
        ))
    }

    /// Whether a connection opened earlier may carry one more request: our leaf is still the one
    /// we show, theirs has not ended, and its root is still trusted.
    #[must_use]
    pub fn still_good(&self, connection: &Connection, now: Timestamp) -> bool {
        let Kind::Mutual(mutual) = &self.0 else {
            return true;
        };
        let Some(peer) = &connection.peer else {
            return false;
        };
        connection.own_leaf == Some(mutual.svid.current().leaf())
            && now < peer.not_after
            && mutual
                .roots
                .current()
                .digests()
                .any(|root| root == peer.root)
    }
}

impl Mutual {
    fn current(&self) -> Result<Arc<Built>, ConnectError> {
        let built = self.built.load_full();
        let same_svid = Arc::ptr_eq(&built.svid, &self.svid.current());
        if same_svid && Arc::ptr_eq(&built.bundle, &self.roots.current()) {
            return Ok(built);
        }
        let next = Arc::new(self.build()?);
        self.built.store(next.clone());
        Ok(next)
    }

    fn build(&self) -> Result<Built, rustls::Error> {
        Built::new(
            &self.svid,
            &self.roots,
            &self.expected,
            &self.alpn,
            &self.time,
        )
    }

    /// As on the other side: a resumed session did not ask the verifier.
    fn peer<IO>(
        &self,
        stream: &TlsStream<IO>,
        bundle: &TrustBundle,
        verdict: Option<Verdict>,
        tls: &Tls,
    ) -> Result<Arc<Certificate>, Box<Refused>> {
        if let Some(Verdict {
            outcome: Ok(Peer::Certificate(certificate)),
            ..
        }) = verdict
        {
            return Ok(certificate);
        }
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let now = self.time.current_time().unwrap_or_else(UnixTime::now);
        let leaf = chain.first().map(|leaf| sha256(leaf));
        certificate::check(chain, bundle, now, Role::Server)
            .and_then(|facts| is_expected(&facts, &self.expected).map(|()| facts))
            .map_err(|fault| Box::new(Refused::certificate(&fault, leaf, tls.clone())))
    }
}

impl Built {
    fn new(
        svid: &SvidSource,
        roots: &Roots,
        expected: &Expected,
        alpn: &[Vec<u8>],
        time: &Arc<dyn TimeProvider>,
    ) -> Result<Self, rustls::Error> {
        let (svid, bundle) = (svid.current(), roots.current());
        let verifier = SvidServerVerifier {
            bundle: bundle.clone(),
            expected: expected.clone(),
        };
        let shown = SingleCertAndKey::from(svid.credential().certified().clone());
        let mut config = ClientConfig::builder_with_details(provider::tls(), time.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(shown));
        config.alpn_protocols = alpn.to_vec();
        config.resumption = Resumption::in_memory_sessions(32);
        config.enable_early_data = false;
        Ok(Self {
            bundle,
            config: Arc::new(config),
            svid,
        })
    }
}

impl PublicRoots {
    /// The system's roots, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set.
    #[must_use]
    pub fn native() -> Self {
        let mut store = RootCertStore::empty();
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "a file of root certificates can't be read");
        }
        store.add_parsable_certificates(loaded.certs);
        Self(Arc::new(store))
    }

    /// No roots at all, to be filled with [`Self::with_pem`].
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// These roots and those of a PEM text.
    ///
    /// # Errors
    /// [`ConnectError::Roots`] if there is none in it, or one is unreadable.
    pub fn with_pem(self, pem: &[u8]) -> Result<Self, ConnectError> {
        let mut store = Arc::unwrap_or_clone(self.0);
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| ConnectError::Roots)?;
            store.add(certificate).map_err(|_| ConnectError::Roots)?;
        }
        if store.len() == before {
            return Err(ConnectError::Roots);
        }
        Ok(Self(Arc::new(store)))
    }
}

impl PublicRoots {
    /// What public servers' certificates are verified with.
    pub(crate) fn verifier(&self) -> Result<Arc<WebPkiServerVerifier>, ConnectError> {
        WebPkiServerVerifier::builder_with_provider(self.0.clone(), provider::tls())
            .build()
            .map_err(|_| ConnectError::Roots)
    }
}

#[derive(Debug)]
struct SvidServerVerifier {
    bundle: Arc<TrustBundle>,
    expected: Expected,
}

impl ServerCertVerifier for SvidServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let expected = |facts: &Certificate| is_expected(facts, &self.expected);
        handshake::judge(
            end_entity,
            intermediates,
            &self.bundle,
            now,
            Role::Server,
            expected,
        )
        .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        handshake::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        handshake::verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake::schemes()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Mutual(mutual) => write!(f, "mutual tls to {}", mutual.expected),
            Kind::Public(_) => f.write_str("public tls"),
        }
    }
}
