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
/// long as there is no other. One that can't be kept is shown all the same: the server has made it
/// this gateway's, and knows the one before it, which is in the folder, for as long as that lasts.
pub(super) async fn renew(
    plane: RemotePlane,
    svid: Arc<SvidSource>,
    home: Home,
    point: EnforcementPoint,
) {
    let mut renewal = Renewal {
        home,
        svid,
        unkept: None,
    };
    loop {
        tokio::time::sleep(LOOK).await;
        if is_due(&renewal.svid, point.now()) {
            match once(&plane).await {
                Ok((next, file)) => renewal.took(next, file),
                Err(error) => tracing::error!(%error, "the gateway's certificate is not renewed"),
            }
        }
        renewal.keep();
    }
}

/// What becomes of a certificate that was renewed.
struct Renewal {
    home: Home,
    svid: Arc<SvidSource>,
    /// Shown, and not in the folder yet.
    unkept: Option<Zeroizing<String>>,
}

impl Renewal {
    fn took(&mut self, next: Svid, file: Zeroizing<String>) {
        self.svid.rotate(next);
        self.unkept = Some(file);
    }

    fn keep(&mut self) {
        let Some(file) = self.unkept.take() else {
            return;
        };
        if let Err(error) = self.home.write(SVID, file.as_bytes()) {
            tracing::error!(%error, "the gateway's new certificate can't be kept; it is tried again");
            self.unkept = Some(file);
        }
    }
}

async fn once(plane: &RemotePlane) -> Result<(Svid, Zeroizing<String>), ApartError> {
    let (pem, csr) = request()?;
    let renewed = plane.renew(&csr).await?;
    let next = Svid::from_pem(renewed.chain.as_bytes(), pem.as_bytes())?;
    Ok((next, both(&pem, &renewed.chain)))
}

fn is_due(svid: &SvidSource, now: Timestamp) -> bool {
    svid.current().not_after() < now.plus(RENEWAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_testkit::pki::Pki;

    #[test]
    fn a_certificate_that_can_not_be_kept_is_shown_and_kept_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw");
        let home = Home::open(&path).unwrap();
        let authority = Pki::new("hms.dev.invalid");
        let svid = SvidSource::new(authority.svid("gateway/gw1"));
        let next = authority.svid("gateway/gw1");
        let mut renewal = Renewal {
            home,
            svid: svid.clone(),
            unkept: None,
        };
        std::fs::remove_dir(&path).unwrap();
        let leaf = next.leaf();
        assert_ne!(svid.current().leaf(), leaf);
        renewal.took(next, Zeroizing::new("the new one".to_owned()));
        renewal.keep();
        assert_eq!(svid.current().leaf(), leaf, "it is shown");
        assert!(renewal.unkept.is_some());

        std::fs::create_dir(&path).unwrap();
        renewal.keep();
        assert!(renewal.unkept.is_none());
        let kept = std::fs::read_to_string(path.join(SVID)).unwrap();
        assert_eq!(kept, "the new one");
    }
}
