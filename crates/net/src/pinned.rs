//! The first connection of somebody who knows the server's root by its hash alone.
//!
//! The server shows its root with its chain. A certificate is believed to be the root only if it
//! has the hash that was given some other way; from there on everything is checked as always.

use crate::digest::sha256;
use crate::expected::Expected;
use crate::expected::is_expected;
use crate::handshake;
use crate::provider;
use crate::svid::SvidSource;
use crate::trust::TrustBundle;
use crate::x509::Role;
use countersign_core::hop::Certificate;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::TrustDomain;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// An SVID that is shown with its root, to those who know the root by its hash.
#[derive(Debug)]
pub struct WithRoot {
    /// The root certificate (DER).
    pub root: CertificateDer<'static>,
    /// Who we are.
    pub svid: Arc<SvidSource>,
}

impl ResolvesServerCert for WithRoot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let svid = self.svid.current();
        let mut shown = svid.credential().certified().as_ref().clone();
        shown.cert.push(self.root.clone());
        Some(Arc::new(shown))
    }
}

/// TLS 1.3 with whoever is expected under the root with this hash; nothing is shown in return.
pub(crate) fn config(
    pin: Digest,
    domain: TrustDomain,
    expected: Expected,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = PinnedVerifier {
        domain,
        expected,
        pin,
    };
    let mut config = ClientConfig::builder_with_provider(provider::tls())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct PinnedVerifier {
    domain: TrustDomain,
    expected: Expected,
    pin: Digest,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let (roots, between): (Vec<_>, Vec<_>) = intermediates
            .iter()
            .cloned()
            .partition(|it| sha256(it) == self.pin);
        let root = roots.first().ok_or_else(unknown)?;
        let bundle = TrustBundle::new(self.domain.clone(), std::slice::from_ref(root), 1);
        let bundle = bundle.map_err(|_| unknown())?;
        let expected = |facts: &Certificate| is_expected(facts, &self.expected);
        handshake::judge(end_entity, &between, &bundle, now, Role::Server, expected)
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
