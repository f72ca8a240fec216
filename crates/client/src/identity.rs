use crate::error::SetupError;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_net::Svid;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// Name of the file with the certificate chain, leaf first, PEM.
pub const CHAIN_FILE: &str = "svid.pem";
/// Name of the file with the private key, PKCS#8 in PEM, mode 0600.
pub const KEY_FILE: &str = "key.pem";
/// Name of the file with the trusted roots, PEM.
pub const BUNDLE_FILE: &str = "bundle.pem";
/// Name of the file with the [`Endpoints`], JSON.
pub const ENDPOINTS_FILE: &str = "countersign.json";

/// A certificate with less left than this is looked for anew on disk.
const RENEW_BEFORE: Duration = Duration::from_secs(600);
/// How often the folder is looked at for a newer certificate.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a client finds the issuer, the vault and the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Address of a mesh listener, `127.0.0.1:9443`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// Address of the server's mTLS port, `127.0.0.1:7443`.
    pub server: String,
    /// The trust domain.
    pub trust_domain: String,
}

/// Who this client is, read from a folder and read again before the certificate ends.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) domain: TrustDomain,
    pub(crate) endpoints: Endpoints,
    pub(crate) roots: Arc<Roots>,
    pub(crate) svid: Arc<SvidSource>,
    folder: PathBuf,
    looked: Mutex<Timestamp>,
}

impl Identity {
    pub(crate) fn read(folder: &Path) -> Result<Self, SetupError> {
        countersign_net::install_crypto()?;
        let path = folder.join(ENDPOINTS_FILE);
        let wrong = |reason: String| SetupError::Endpoints {
            path: path.clone(),
            reason,
        };
        let endpoints: Endpoints =
            serde_json::from_slice(&read(&path)?).map_err(|error| wrong(error.to_string()))?;
        let domain =
            TrustDomain::new(&endpoints.trust_domain).map_err(|error| wrong(error.to_string()))?;
        target(&endpoints.server)
            .ok_or_else(|| wrong(format!("`{}` is no address", endpoints.server)))?;
        let bundle = read(&folder.join(BUNDLE_FILE))?;
        let roots = Roots::new(TrustBundle::from_pem(domain.clone(), &bundle, 1)?);
        let svid = Source::new(svid(folder)?);
        let looked = Mutex::new(now());
        Ok(Self {
            domain,
            endpoints,
            roots,
            svid,
            folder: folder.to_owned(),
            looked,
        })
    }

    /// Takes up a newer certificate that somebody put into the folder.
    pub(crate) fn refresh(&self) {
        let now = now();
        if self.svid.current().not_after() > now.plus(RENEW_BEFORE) {
            return;
        }
        {
            let mut looked = self.looked.lock();
            if now.since(*looked) < LOOK_EVERY {
                return;
            }
            *looked = now;
        }
        // While files are being replaced, certificate and key may not fit: the old ones stay.
        if let Ok(next) = svid(&self.folder)
            && next.not_after() > self.svid.current().not_after()
        {
            self.svid.rotate(next);
        }
    }
}

/// `host:port` as something to dial; it is our own installation, wherever that is.
pub(crate) fn target(address: &str) -> Option<Target> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Target {
        host: host.to_owned(),
        network: Network::Private,
        port,
    })
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_secs(0).plus(since)
}

fn svid(folder: &Path) -> Result<Svid, SetupError> {
    Ok(Svid::from_files(
        &folder.join(CHAIN_FILE),
        &folder.join(KEY_FILE),
    )?)
}

fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    std::fs::read(path).map_err(|source| SetupError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let host = |text: &str| target(text).map(|target| (target.host, target.port));
        assert_eq!(host("127.0.0.1:7443"), Some(("127.0.0.1".to_owned(), 7443)));
        assert_eq!(host("[::1]:7443"), Some(("::1".to_owned(), 7443)));
        assert_eq!(
            host("cs.acme.example:1"),
            Some(("cs.acme.example".to_owned(), 1))
        );
        for bad in ["", "7443", ":7443", "a:", "a:0", "a:99999"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
