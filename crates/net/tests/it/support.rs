//! A listener in this process and a client that shows whatever it is given.

#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

use crate::pki::Issued;
use crate::pki::Pki;
use countersign_net::Acceptor;
use countersign_net::Dialer;
use countersign_net::Established;
use countersign_net::Listener;
use countersign_net::Refused;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Outcome = Result<Established, Box<Refused>>;

/// A listener that reports how each handshake ended, and echoes.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    outcomes: tokio::sync::mpsc::UnboundedReceiver<Outcome>,
}

impl Server {
    pub(crate) async fn start(acceptor: Acceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (report, outcomes) = tokio::sync::mpsc::unbounded_channel();
        let acceptor = Arc::new(acceptor);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, report) = (acceptor.clone(), report.clone());
                tokio::spawn(async move {
                    match acceptor.accept(stream, soon()).await {
                        Ok((mut stream, established)) => {
                            let _ = report.send(Ok(established));
                            let mut buffer = [0; 1024];
                            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                                let said = buffer.get(..count).unwrap();
                                if stream.write_all(said).await.is_err() {
                                    break;
                                }
                            }
                        }
                        Err(refused) => {
                            let _ = report.send(Err(refused));
                        }
                    }
                });
            }
        });
        Self { address, outcomes }
    }

    pub(crate) async fn outcome(&mut self) -> Outcome {
        let next = tokio::time::timeout(Duration::from_secs(60), self.outcomes.recv());
        next.await.unwrap().unwrap()
    }
}

pub(crate) fn mutual(pki: &Pki) -> Acceptor {
    countersign_net::install_crypto().unwrap();
    let (roots, svid) = (Roots::new(pki.bundle(1)), Source::new(pki.svid("server")));
    Acceptor::new(Listener::Mutual {
        resumption: true,
        roots,
        svid,
    })
    .unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(crate) fn local(port: u16) -> Target {
    Target {
        host: "127.0.0.1".to_owned(),
        network: Network::Loopback,
        port,
    }
}

/// A client configuration that believes any server and shows this credential.
pub(crate) fn careless(shown: Option<Issued>) -> ClientConfig {
    let builder = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelievesAnyone));
    match shown {
        Some(issued) => builder
            .with_client_auth_cert(issued.chain, issued.key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// `openssl s_client` against a port of this host: everything it printed.
pub(crate) async fn s_client(port: u16, arguments: Vec<String>) -> String {
    let run = move || {
        std::process::Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Connects, sends and reads back one word.
pub(crate) async fn echo(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = Dialer
        .connect(&local(address.port()), soon())
        .await
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    ping(&mut stream).await?;
    Ok(stream)
}

pub(crate) async fn ping(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"ping");
    Ok(())
}

#[derive(Debug)]
struct BelievesAnyone;

impl ServerCertVerifier for BelievesAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
