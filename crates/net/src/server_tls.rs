use crate::certificate;
use crate::digest::sha256;
use crate::handshake;
use crate::handshake::Refused;
use crate::handshake::Verdict;
use crate::partner;
use crate::partner::Authorities;
use crate::provider;
use crate::server_hello::Transcribed;
use crate::sessions::Sessions;
use crate::svid::Svid;
use crate::svid::SvidSource;
use crate::trust::Roots;
use crate::trust::TrustBundle;
use crate::trust::TrustError;
use crate::x509::Role;
use crate::x509::SvidError;
use arc_swap::ArcSwap;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::DefaultTimeProvider;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a listener shows, and what it wants to see.
pub enum Listener {
    /// Both sides show an X.509-SVID; TLS 1.3 only.
    Mutual {
        /// Whether sessions may be resumed (never 0-RTT). A control listener says no.
        resumption: bool,
        /// Whom to believe.
        roots: Arc<Roots>,
        /// Who we are.
        svid: Arc<SvidSource>,
    },
    /// The listener shows its X.509-SVID and wants a certificate of a partner; TLS 1.3 only.
    Partner {
        /// Whom to believe here, and only here.
        authorities: Arc<Authorities>,
        /// Our own trust domain, which none of them may speak for.
        roots: Arc<Roots>,
        /// Who we are.
        svid: Arc<SvidSource>,
    },
    /// Only the listener shows a certificate: people come here.
    Browser {
        /// Picks the certificate by SNI, such as a [`CredentialSource`](crate::CredentialSource).
        certificates: Arc<dyn ResolvesServerCert>,
        /// Whether TLS 1.2 is accepted too; sessions are not resumed then, because a resumed
        /// TLS 1.2 session has no key exchange to state.
        tls12: bool,
    },
}

/// Accepts TLS connections of one listener and states what they prove.
///
/// Sessions, and so resumption, belong to this listener and to one trust bundle: when
/// [`Roots::replace`] puts another in force, all of them are discarded.
pub struct Acceptor {
    built: ArcSwap<Built>,
    listener: Listener,
    time: Arc<dyn TimeProvider>,
}

/// What an accepted connection proves.
#[derive(Clone, Debug)]
pub struct Established {
    /// The application protocol agreed on, `h2` or `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// At a door for partners the certificates as they were shown (DER), leaf first; else none.
    pub chain: Vec<Vec<u8>>,
    /// Generation of the trust bundle it was checked with; none where that is not ours.
    pub generation: Option<u64>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The server name the client asked for.
    pub sni: Option<String>,
    /// How it is encrypted.
    pub tls: Tls,
}

/// A listener can't be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcceptorError {
    /// The cryptography provider can't serve it.
    #[error("can't build the tls configuration of a listener: {0}")]
    Tls(#[from] rustls::Error),
    /// What a door for partners should believe is no authority.
    #[error("can't use the authority of a partner: {0}")]
    Authority(#[from] TrustError),
    /// A door for partners that would open for every certificate of our own.
    #[error("the authority of a partner has a key of our own authority")]
    OwnAuthority,
}

struct Built {
    config: Arc<ServerConfig>,
    trust: Trust,
}

/// Whom a listener believes.
enum Trust {
    /// Nobody is asked.
    Nobody,
    /// Our own roots.
    Ours(Arc<TrustBundle>),
    /// A partner's authorities; beside our roots and our SVID, against which they were held.
    Theirs(Arc<Authorities>, Arc<TrustBundle>, Arc<Svid>),
}

/// How many sessions of a listener are kept for resumption.
const SESSIONS: usize = 8192;
/// How long a refused client may take to read the alert.
const LINGER: Duration = Duration::from_millis(250);
/// How much a refused client may still send meanwhile.
const LINGER_BYTES: usize = 64 * 1024;

impl Acceptor {
    /// Prepares a listener.
    ///
    /// # Errors
    /// [`AcceptorError`] if the cryptography provider can't serve it.
    pub fn new(listener: Listener) -> Result<Self, AcceptorError> {
        Self::with_time(listener, Arc::new(DefaultTimeProvider))
    }

    /// Prepares a listener that reads another clock.
    ///
    /// # Errors
    /// [`AcceptorError`] if the cryptography provider can't serve it.
    pub fn with_time(
        listener: Listener,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, AcceptorError> {
        let built = Built::new(&listener, &time)?;
        Ok(Self {
            built: ArcSwap::from_pointee(built),
            listener,
            time,
        })
    }

    /// Takes one connection through its handshake, which must end before `deadline`.
    ///
    /// # Errors
    /// [`Refused`] says why it did not, as evidence for the record. By then the client has been
    /// sent its alert and the socket is closed.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        deadline: Instant,
    ) -> Result<(TlsStream<Transcribed<IO>>, Established), Box<Refused>> {
        let built = self.current()?;
        let acceptor = TlsAcceptor::from(built.config.clone());
        let handshake = acceptor.accept(Transcribed::new(io)).into_fallible();
        let timed = tokio::time::timeout_at(deadline, handshake);
        let (outcome, verdict) = handshake::observed(timed).await;
        match outcome {
            Err(_elapsed) => Err(Box::new(Refused::timed_out())),
            Ok(Err((error, io))) => {
                let hello = io.server_hello();
                let refused = Refused::of(&error, verdict, hello, TlsVersion::V13);
                linger(io).await;
                Err(Box::new(refused))
            }
            Ok(Ok(mut stream)) => {
                stream.get_mut().0.forget();
                match self.evidence(&stream, &built, verdict) {
                    Ok(established) => Ok((stream, established)),
                    Err(refused) => {
                        // The session was resumed, so the alert of the verifier is not sent; a
                        // shut-down is all there is.
                        let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
                        Err(refused)
                    }
                }
            }
        }
    }

    /// The configuration of the trust bundle in force: another bundle, another session store.
    fn current(&self) -> Result<Arc<Built>, Box<Refused>> {
        let built = self.built.load_full();
        if built.is_current(&self.listener) {
            return Ok(built);
        }
        // Two tasks may both get here; the second store only discards the first's sessions.
        let next = Built::new(&self.listener, &self.time).map_err(|error| {
            tracing::error!(%error, "a listener serves nobody");
            let error = std::io::Error::other(error.to_string());
            Box::new(Refused::of(&error, None, None, TlsVersion::V13))
        })?;
        let next = Arc::new(next);
        self.built.store(next.clone());
        Ok(next)
    }

    fn evidence<IO>(
        &self,
        stream: &TlsStream<Transcribed<IO>>,
        built: &Built,
        verdict: Option<Verdict>,
    ) -> Result<Established, Box<Refused>> {
        let connection = stream.get_ref().1;
        let tls = handshake::established(connection);
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = self.peer(chain, &built.trust, verdict, &tls)?;
        let shown = match &peer {
            Peer::Partner(_) => chain,
            _ => &[],
        };
        Ok(Established {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            chain: shown.iter().map(|it| it.to_vec()).collect(),
            generation: match &built.trust {
                Trust::Ours(bundle) => Some(bundle.generation()),
                Trust::Nobody | Trust::Theirs(..) => None,
            },
            peer,
            sni: connection.server_name().map(str::to_owned),
            tls,
        })
    }

    /// rustls does not ask the verifier on a resumed session but takes the chain from the ticket,
    /// so there the chain is checked again: an ended leaf or a dropped root resumes nothing.
    fn peer(
        &self,
        chain: &[CertificateDer<'_>],
        trust: &Trust,
        verdict: Option<Verdict>,
        tls: &Tls,
    ) -> Result<Peer, Box<Refused>> {
        if let Some(Verdict {
            outcome: Ok(peer), ..
        }) = verdict
        {
            return Ok(peer);
        }
        let now = self.time.current_time().unwrap_or_else(UnixTime::now);
        let leaf = chain.first().map(|leaf| sha256(leaf));
        trust
            .peer(chain, now)
            .map_err(|fault| Box::new(Refused::certificate(&fault, leaf, tls.clone())))
    }
}

/// Lets the client read its alert: closing a socket with unread data resets the connection, and
/// the alert is lost.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let drain = async {
        io.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match io.read(&mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl Trust {
    fn peer(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Peer, SvidError> {
        Ok(match self {
            Self::Nobody => Peer::Anonymous,
            Self::Ours(bundle) => {
                Peer::Certificate(certificate::check(chain, bundle, now, Role::Client)?)
            }
            Self::Theirs(authorities, bundle, _) => {
                let facts = partner::check(chain, authorities, bundle.domain(), now)?;
                Peer::Partner(Arc::new(facts))
            }
        })
    }
}

impl Built {
    fn new(listener: &Listener, time: &Arc<dyn TimeProvider>) -> Result<Self, AcceptorError> {
        let builder = ServerConfig::builder_with_details(provider::tls(), time.clone());
        let (mut config, trust, resumption) = match listener {
            Listener::Mutual {
                resumption,
                roots,
                svid,
            } => {
                let bundle = roots.current();
                let verifier = Arc::new(SvidClientVerifier(bundle.clone()));
                let config = builder
                    .with_protocol_versions(&[&rustls::version::TLS13])?
                    .with_client_cert_verifier(verifier)
                    .with_cert_resolver(svid.clone());
                (config, Trust::Ours(bundle), *resumption)
            }
            Listener::Partner {
                authorities,
                roots,
                svid,
            } => {
                let own = svid.current();
                let verifier = PartnerVerifier::new(authorities, roots.current(), &own)?;
                let trust = Trust::Theirs(authorities.clone(), verifier.bundle.clone(), own);
                let config = builder
                    .with_protocol_versions(&[&rustls::version::TLS13])?
                    .with_client_cert_verifier(Arc::new(verifier))
                    .with_cert_resolver(svid.clone());
                (config, trust, true)
            }
            Listener::Browser {
                certificates,
                tls12,
            } => {
                let versions: &[_] = match tls12 {
                    true => &[&rustls::version::TLS13, &rustls::version::TLS12],
                    false => &[&rustls::version::TLS13],
                };
                let config = builder
                    .with_protocol_versions(versions)?
                    .with_no_client_auth()
                    .with_cert_resolver(certificates.clone());
                (config, Trust::Nobody, !tls12)
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // No 0-RTT: early data can be replayed (RFC 8446 section 8), and a decision can't.
        config.max_early_data_size = 0;
        if resumption {
            config.session_storage = Arc::new(Sessions::new(SESSIONS));
            config.send_tls13_tickets = 1;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: Arc::new(config),
            trust,
        })
    }

    fn is_current(&self, listener: &Listener) -> bool {
        match (listener, &self.trust) {
            (Listener::Mutual { roots, .. }, Trust::Ours(trust)) => {
                Arc::ptr_eq(&roots.current(), trust)
            }
            (Listener::Partner { roots, svid, .. }, Trust::Theirs(_, trust, own)) => {
                Arc::ptr_eq(&roots.current(), trust) && is_signed_alike(&svid.current(), own)
            }
            _ => true,
        }
    }
}

/// Whether the same authorities signed both. A new leaf alone says nothing new of who signs for us,
/// and costs nobody a session.
fn is_signed_alike(one: &Arc<Svid>, other: &Arc<Svid>) -> bool {
    let (chain, others) = (one.credential().chain(), other.credential().chain());
    Arc::ptr_eq(one, other) || chain.iter().skip(1).eq(others.iter().skip(1))
}

/// Asks for a certificate of our own.
#[derive(Debug)]
struct SvidClientVerifier(Arc<TrustBundle>);

/// Asks for a certificate of a partner.
#[derive(Debug)]
struct PartnerVerifier {
    authorities: Arc<Authorities>,
    bundle: Arc<TrustBundle>,
}

impl PartnerVerifier {
    fn new(
        authorities: &Arc<Authorities>,
        bundle: Arc<TrustBundle>,
        own: &Svid,
    ) -> Result<Self, AcceptorError> {
        if authorities.are_ours(&bundle, own) {
            return Err(AcceptorError::OwnAuthority);
        }
        Ok(Self {
            authorities: authorities.clone(),
            bundle,
        })
    }
}

/// What both ways of asking for a certificate have in common.
macro_rules! client_verifier {
    ($verifier:ty, |$this:ident, $leaf:ident, $between:ident, $now:ident| $judged:expr) => {
        impl ClientCertVerifier for $verifier {
            /// None: the names of authorities are nobody's business before a handshake.
            fn root_hint_subjects(&self) -> &[DistinguishedName] {
                &[]
            }

            fn verify_client_cert(
                &self,
                $leaf: &CertificateDer<'_>,
                $between: &[CertificateDer<'_>],
                $now: UnixTime,
            ) -> Result<ClientCertVerified, rustls::Error> {
                let $this = self;
                $judged.map(|()| ClientCertVerified::assertion())
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
    };
}

client_verifier!(SvidClientVerifier, |this, leaf, between, now| {
    let anyone = |_: &_| Ok(());
    handshake::judge(leaf, between, &this.0, now, Role::Client, anyone)
});

client_verifier!(PartnerVerifier, |this, leaf, between, now| {
    let domain = this.bundle.domain();
    handshake::judge_partner(leaf, between, &this.authorities, domain, now)
});

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mutual { svid, .. } => write!(f, "mutual tls as {:?}", svid.current()),
            Self::Partner { authorities, .. } => write!(f, "door for partners of {authorities:?}"),
            Self::Browser { tls12, .. } => write!(f, "browser door (tls 1.2: {tls12})"),
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.listener, f)
    }
}
