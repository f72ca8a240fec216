//! What both sides of a handshake share: the verdict on the peer's certificate on its way from
//! the verifier to the record, and the facts of an established connection.
//!
//! rustls turns a verifier's error into an alert and drops the connection with everything it
//! knew. The verdict therefore travels beside it, in a task-local slot that [`observed`] opens
//! around one handshake and [`note`] fills.

use crate::certificate;
use crate::digest::sha256;
use crate::partner;
use crate::partner::Authorities;
use crate::provider;
use crate::server_hello::ServerHello;
use crate::trust::TrustBundle;
use crate::x509::Role;
use crate::x509::SvidError;
use countersign_core::hop::Certificate;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsFault;
use countersign_core::hop::TlsVersion;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use rustls::CipherSuite;
use rustls::CommonState;
use rustls::DigitallySignedStruct;
use rustls::NamedGroup;
use rustls::PeerIncompatible;
use rustls::ProtocolVersion;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A handshake that we ended, as evidence for the record.
#[derive(Debug)]
pub struct Refused {
    /// What went wrong, for the operator; at most 256 bytes.
    pub detail: String,
    /// Who it was, as far as it got.
    pub peer: Peer,
    /// How far the encryption got: established where only the certificate was wrong.
    pub tls: Tls,
}

/// What the verifier found out about the peer's certificate.
pub(crate) struct Verdict {
    pub(crate) leaf: Digest,
    pub(crate) outcome: Result<Peer, SvidError>,
}

tokio::task_local! {
    static VERDICT: RefCell<Option<Verdict>>;
}

/// Runs one handshake and returns with it what the verifier noted meanwhile.
pub(crate) async fn observed<F: Future>(handshake: F) -> (F::Output, Option<Verdict>) {
    VERDICT
        .scope(RefCell::new(None), async {
            let output = handshake.await;
            (output, VERDICT.with(RefCell::take))
        })
        .await
}

/// Checks a chain during a handshake, notes the verdict, and answers rustls.
pub(crate) fn judge(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
    role: Role,
    more: impl FnOnce(&Certificate) -> Result<(), SvidError>,
) -> Result<(), rustls::Error> {
    let outcome = certificate::check(&whole(leaf, intermediates), bundle, now, role)
        .and_then(|facts| more(&facts).map(|()| Peer::Certificate(facts)));
    answered(leaf, outcome)
}

/// The same at a door for partners.
pub(crate) fn judge_partner(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    authorities: &Authorities,
    domain: &TrustDomain,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let outcome = partner::check(&whole(leaf, intermediates), authorities, domain, now)
        .map(|facts| Peer::Partner(Arc::new(facts)));
    answered(leaf, outcome)
}

impl Authorities {
    /// Checks a chain (DER, leaf first) that another process was shown at the door of these
    /// authorities, by the rules of that door's own handshake. `ours` are our roots, `issuer` is
    /// the SHA-256 of the public key that signs for us, `tls` is for the record.
    ///
    /// It says whose certificate that is and nothing of who showed it: only the handshake proves
    /// the key. Whoever acts on it may give away no more than what is worthless without that key.
    ///
    /// # Errors
    /// [`Refused`] as the door would state it, also where one of the authorities has a key of
    /// ours, for then no such door opens.
    pub fn check(
        &self,
        chain: &[Vec<u8>],
        (ours, issuer): (&TrustBundle, Digest),
        now: Timestamp,
        tls: &Tls,
    ) -> Result<Peer, Box<Refused>> {
        let chain: Vec<_> = chain.iter().map(|it| it.as_slice().into()).collect();
        // No certificate is good before 1970.
        let time = u64::try_from(now.as_secs()).map_err(|_| SvidError::Time);
        let checked = time.and_then(|now| {
            if self.have_key_of(ours, [issuer]) {
                return Err(SvidError::Untrusted);
            }
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            partner::check(&chain, self, ours.domain(), now)
        });
        match checked {
            Ok(facts) => Ok(Peer::Partner(Arc::new(facts))),
            Err(fault) => {
                let leaf = chain.first().map(|leaf| sha256(leaf));
                Err(Box::new(Refused::certificate(&fault, leaf, tls.clone())))
            }
        }
    }
}

fn whole<'a>(
    leaf: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf)
        .chain(intermediates)
        .cloned()
        .collect()
}

fn answered(
    leaf: &CertificateDer<'_>,
    outcome: Result<Peer, SvidError>,
) -> Result<(), rustls::Error> {
    let answer = outcome.as_ref().map(|_| ()).map_err(SvidError::alert);
    note(Verdict {
        leaf: sha256(leaf),
        outcome,
    });
    answer
}

fn note(verdict: Verdict) {
    // Outside `observed` nobody listens, and the answer to rustls stands by itself.
    let _ = VERDICT.try_with(|slot| slot.replace(Some(verdict)));
}

/// How an established connection is encrypted.
pub(crate) fn established(connection: &CommonState) -> Tls {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::V13,
        _ => TlsVersion::V12,
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .map(|suite| suite.suite());
    let group = connection
        .negotiated_key_exchange_group()
        .map(|group| group.name());
    let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Tls::Established {
        cipher: cipher.map(cipher_name).unwrap_or_default(),
        group: group.map(group_name).unwrap_or_default(),
        resumed,
        version,
    }
}

impl Refused {
    /// A handshake that failed with `error`.
    pub(crate) fn of(
        error: &io::Error,
        verdict: Option<Verdict>,
        hello: Option<ServerHello>,
        version: TlsVersion,
    ) -> Self {
        let tls_error = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let peer = match (verdict, tls_error) {
            (
                Some(Verdict {
                    leaf,
                    outcome: Err(fault),
                }),
                _,
            ) => {
                return Self::certificate(&fault, Some(leaf), negotiated(hello, version));
            }
            (_, Some(rustls::Error::NoCertificatesPresented)) => Peer::Refused {
                fault: CertificateFault::Absent,
                leaf: None,
            },
            // It proved a wrong key for a right certificate, or an unreadable one.
            (verdict, Some(rustls::Error::InvalidCertificate(_))) => Peer::Refused {
                fault: CertificateFault::Untrusted,
                leaf: verdict.map(|verdict| verdict.leaf),
            },
            _ => {
                let fault = tls_error.map_or(TlsFault::Handshake, tls_fault);
                let detail = shortened(error.to_string());
                return Self {
                    detail,
                    peer: Peer::Anonymous,
                    tls: Tls::Refused { fault },
                };
            }
        };
        Self {
            detail: shortened(error.to_string()),
            peer,
            tls: negotiated(hello, version),
        }
    }

    /// A handshake that did not end in time.
    pub(crate) fn timed_out() -> Self {
        Self {
            detail: "the handshake did not end in time".to_owned(),
            peer: Peer::Anonymous,
            tls: Tls::Refused {
                fault: TlsFault::Handshake,
            },
        }
    }

    pub(crate) fn certificate(fault: &SvidError, leaf: Option<Digest>, tls: Tls) -> Self {
        let peer = Peer::Refused {
            fault: fault.fault(),
            leaf,
        };
        Self {
            detail: shortened(fault.to_string()),
            peer,
            tls,
        }
    }
}

fn negotiated(hello: Option<ServerHello>, version: TlsVersion) -> Tls {
    match hello {
        Some(hello) => Tls::Established {
            cipher: cipher_name(hello.cipher),
            group: hello.group.map(group_name).unwrap_or_default(),
            resumed: false,
            version,
        },
        None => Tls::Refused {
            fault: TlsFault::Handshake,
        },
    }
}

const fn tls_fault(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::PeerIncompatible(reason) => match reason {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            // Every client of TLS 1.2 or later names signature algorithms.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => TlsFault::Version,
            PeerIncompatible::ExtendedMasterSecretExtensionRequired
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
            | PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon => TlsFault::Strength,
            _ => TlsFault::Handshake,
        },
        // The same, found by the other side.
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            TlsFault::Version
        }
        rustls::Error::AlertReceived(rustls::AlertDescription::InsufficientSecurity) => {
            TlsFault::Strength
        }
        _ => TlsFault::Handshake,
    }
}

/// The IANA name; rustls writes `TLS13_` where the registry writes `TLS_`.
fn cipher_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

/// The IANA name; only the older curves are spelled in lower case there.
fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => "x25519".to_owned(),
        other => format!("{other:?}"),
    }
}

/// An attacker's text in a record has at most 256 bytes.
pub(crate) fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(256));
    text
}

/// Proof of possession of the leaf's key in TLS 1.3, on either side.
pub(crate) fn verify_tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider::tls().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, leaf, signed, &algorithms)
}

/// SVIDs are never shown in TLS 1.2.
pub(crate) const fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::PeerIncompatible(
        PeerIncompatible::SupportedVersionsExtensionRequired,
    ))
}

/// The signatures that a peer may prove possession with.
pub(crate) fn schemes() -> Vec<SignatureScheme> {
    provider::tls()
        .signature_verification_algorithms
        .supported_schemes()
}
