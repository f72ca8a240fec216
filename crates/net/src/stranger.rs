//! What a door shows to somebody who shows nothing: for finding out whether it is the one that is
//! meant, and whether it keeps strangers out.

use crate::dial::DialError;
use crate::dial::Dialer;
use crate::dial::Target;
use crate::handshake;
use crate::handshake::Refused;
use crate::provider;
use crate::trust::TrustBundle;
use crate::x509::Role;
use countersign_core::hop::Certificate;
use countersign_core::hop::Peer;
use countersign_core::hop::TlsVersion;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// What a stranger was shown, and was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The status of the answer to `GET /`; none if the connection was ended instead.
    pub answer: Option<u16>,
    /// The door's certificate, which is of our own authority.
    pub certificate: Arc<Certificate>,
}

/// Why a stranger was shown nothing.
#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    /// Nobody is there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No handshake: it is no TLS 1.3, or the certificate is not one of a process of ours.
    #[error("no handshake: {}", .0.detail)]
    Handshake(Box<Refused>),
    /// The name can't be one.
    #[error("`{0}` can't be the name of a server")]
    Name(String),
}

/// Long enough for a status line.
const LINE: usize = 64;

/// Connects to `target` without a certificate, asks for `/` in the name of `host`, and says what
/// came of it before `deadline`. Whoever is there leaves a record of it.
///
/// # Errors
/// [`KnockError`]; a connection that is ended after the handshake is an answer, not an error.
pub async fn knock(
    dialer: Dialer,
    target: &Target,
    host: &str,
    trusted: &Arc<TrustBundle>,
    deadline: Instant,
) -> Result<Shown, KnockError> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| KnockError::Name(host.chars().take(256).collect()))?;
    let stream = dialer.connect(target, deadline).await?;
    let refused = |refused| KnockError::Handshake(Box::new(refused));
    let config = config(trusted).map_err(|error| {
        let error = std::io::Error::other(error);
        refused(Refused::of(&error, None, None, TlsVersion::V13))
    })?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let timed = tokio::time::timeout_at(deadline, handshake);
    let (outcome, verdict) = handshake::observed(timed).await;
    let mut stream = match outcome {
        Err(_elapsed) => return Err(refused(Refused::timed_out())),
        Ok(Err(error)) => {
            return Err(refused(Refused::of(&error, verdict, None, TlsVersion::V13)));
        }
        Ok(Ok(stream)) => stream,
    };
    let Some(Ok(Peer::Certificate(certificate))) = verdict.map(|it| it.outcome) else {
        // A full handshake has a certificate, which was judged.
        return Err(refused(Refused::timed_out()));
    };
    let asked = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = async {
        // TLS 1.3 refuses a client after its handshake, so writing may fail as well as reading.
        stream.write_all(asked.as_bytes()).await.ok()?;
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(LINE as u64);
        while !line.contains(&b'\n') && limited.read_buf(&mut line).await.ok()? > 0 {}
        status(&line)
    };
    let answer = tokio::time::timeout_at(deadline, answer).await;
    Ok(Shown {
        answer: answer.unwrap_or_default(),
        certificate,
    })
}

/// The status of an HTTP/1.1 status line (RFC 9112 section 4).
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    status.parse().ok()
}

fn config(trusted: &Arc<TrustBundle>) -> Result<ClientConfig, rustls::Error> {
    let verifier = Ours(trusted.clone());
    let mut config = ClientConfig::builder_with_provider(provider::tls())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Any process of ours; which one is for the caller to say.
#[derive(Debug)]
struct Ours(Arc<TrustBundle>);

impl ServerCertVerifier for Ours {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let any = |_: &Certificate| Ok(());
        handshake::judge(end_entity, intermediates, &self.0, now, Role::Server, any)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_of_a_status_line() {
        assert_eq!(status(b"HTTP/1.1 403 Forbidden\r\n"), Some(403));
        for line in [
            &b""[..],
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 2",
            b"\xff\xfe",
            b"SSH-2.0-x\r\n",
        ] {
            assert_eq!(status(line), None, "{line:?}");
        }
    }
}
