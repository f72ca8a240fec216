//! A gateway's own key: made here, kept here, certified by the server again and again.

use super::ApartError;
use crate::home::Home;
use crate::remote::RemotePlane;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::EnforcementPoint;
use countersign_net::Svid;
use countersign_net::SvidSource;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Key and certificate in one file, so that they are replaced together.
pub(super) const SVID: &str = "svid.pem";
/// The seed of the key that cosigns.
pub(super) const WITNESS: &str = "witness.key";
/// An SVID is replaced when less than this is left of its hour.
const RENEWAL: Duration = Duration::from_secs(30 * 60);
const LOOK: Duration = Duration::from_secs(20);

/// A new P-256 key, and the request that carries its public half.
pub(super) fn request() -> Result<(Zeroizing<String>, String), ApartError> {
    let key = KeyPair::generate().map_err(|_| ApartError::Key)?;
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(|_| ApartError::Key)?;
    Ok((Zeroizing::new(key.serialize_pem()), csr))
}

pub(super) fn both(key: &str, chain: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{key}{chain}"))
}

/// The certificate of last time.
pub(super) fn kept(home: &Home) -> Result<Svid, ApartError> {
    let bytes = home.read(SVID).map_err(ApartError::folder(home.path()))?;
    let bytes = Zeroizing::new(bytes.ok_or(ApartError::NotJoined)?);
    Ok(Svid::from_pem(&bytes, &bytes)?)
}

/// The key that cosigns.
pub(super) fn witness(home: &Home) -> Result<[u8; 32], ApartError> {
    let text = home
        .read(WITNESS)
        .map_err(ApartError::folder(home.path()))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.ok_or(ApartError::NotJoined)?, &mut seed)
        .map_err(|_| ApartError::Kept)?;
    Ok(seed)
}

/// Renews the certificate in time, for as long as the gateway lives. The old one is shown for as
/// long as there is no other.
pub(super) async fn renew(
    plane: RemotePlane,
    svid: Arc<SvidSource>,
    home: Home,
    point: EnforcementPoint,
) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !is_due(&svid, point.now()) {
            continue;
        }
        match once(&plane, &home).await {
            Ok(next) => svid.rotate(next),
            Err(error) => tracing::error!(%error, "the gateway's certificate is not renewed"),
        }
    }
}

async fn once(plane: &RemotePlane, home: &Home) -> Result<Svid, ApartError> {
    let (pem, csr) = request()?;
    let renewed = plane.renew(&csr).await?;
    let next = Svid::from_pem(renewed.chain.as_bytes(), pem.as_bytes())?;
    home.write(SVID, both(&pem, &renewed.chain).as_bytes())
        .map_err(ApartError::folder(home.path()))?;
    Ok(next)
}

fn is_due(svid: &SvidSource, now: Timestamp) -> bool {
    svid.current().not_after() < now.plus(RENEWAL)
}
