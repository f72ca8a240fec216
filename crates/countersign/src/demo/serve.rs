use super::hms_api::HmsApi;
use super::model::FakeModel;
use anyhow::Context as _;
use countersign_client::Client;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Runs the clinic's API as a process of its own.
///
/// # Errors
/// If it can't be started, or the socket breaks.
pub async fn hms_api(listen: SocketAddr, identity: &Path) -> anyhow::Result<()> {
    let client = Client::from_dir(identity)?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}"))?;
    HmsApi::new(client)?.serve(listener).await
}

/// Runs the fake model API as a process of its own. `folder` gets `ca.pem`, the certificate of the
/// authority it has made for itself; the key it accepts is in `key_file`.
///
/// # Errors
/// If it can't be started, or the socket breaks.
pub async fn model(listen: SocketAddr, folder: &Path, key_file: &Path) -> anyhow::Result<()> {
    countersign_net::install_crypto()?;
    let key = std::fs::read_to_string(key_file)
        .with_context(|| format!("can't read `{}`", key_file.display()))?;
    let (roots, tls) = fake_tls()?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("ca.pem"), roots)?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}"))?;
    FakeModel::new(key.trim_end()).serve(listener, tls).await
}

/// A certificate for `localhost` from an authority made on the spot; the authority's as PEM.
pub(super) fn fake_tls() -> anyhow::Result<(String, TlsAcceptor)> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow::anyhow!(error))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)?;
    Ok((issuer.pem(), TlsAcceptor::from(Arc::new(config))))
}
