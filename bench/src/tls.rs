//! One version, one cipher suite and one key exchange for everybody, so that nobody is measured at
//! cheaper cryptography than the next.

use anyhow::Context;
use anyhow::Result;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::ClientSessionStore;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// `Host` of every request, and the name in every TLS hello.
pub(crate) const HOST: &str = "localhost";
/// The key exchange group, as OpenSSL and BoringSSL name it.
pub(crate) const GROUP: &str = "X25519";
/// The cipher suite of TLS 1.3.
pub(crate) const SUITE: &str = "TLS_AES_256_GCM_SHA384";

/// An identity as `countersign identity issue` writes it.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    fn read(folder: &Path) -> Result<Self> {
        let chain = certificates(&folder.join("svid.pem"))?;
        let key = folder.join("key.pem");
        let key = PrivateKeyDer::from_pem_file(&key).with_context(|| key.display().to_string())?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&folder.join("bundle.pem"))? {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        Ok(Self { chain, key, roots })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().with_context(|| path.display().to_string())
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

/// A client with the identity of `folder`, or with none; `protocol` is its only ALPN protocol. It
/// continues the sessions that `tickets` gives it.
pub(crate) fn client(
    folder: &Path,
    known: bool,
    protocol: &[u8],
    tickets: Option<Arc<dyn ClientSessionStore>>,
) -> Result<ClientConfig> {
    let identity = Identity::read(folder)?;
    let provider = provider();
    let chain = WebPkiServerVerifier::builder_with_provider(identity.roots, provider.clone());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(chain.build()?)));
    let mut config = if known {
        config.with_client_auth_cert(identity.chain, identity.key)?
    } else {
        config.with_no_client_auth()
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = tickets.map_or_else(Resumption::disabled, Resumption::store);
    Ok(config)
}

/// Opens a connection and completes its handshake.
#[expect(
    clippy::disallowed_methods,
    reason = "a load generator on loopback is not the product, whose dialer is `net`'s"
)]
pub(crate) async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
    name: &str,
) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned())?;
    connector.connect(name, stream).await.context("handshake")
}

/// A server that wants a certificate of the same authority.
pub(crate) fn server(folder: &Path) -> Result<ServerConfig> {
    let identity = Identity::read(folder)?;
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(identity.roots, provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks the chain as always and not the name: the proxies share a certificate that names a
/// workload (SPIFFE), not a host.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::NotValidForName;
        use rustls::CertificateError::NotValidForNameContext;
        use rustls::Error::InvalidCertificate;
        match self.0.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
