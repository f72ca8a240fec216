//! What tests of the program share that have it as a process: ports for it, and callers of its
//! doors.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "part of tests, which fail by panicking"
)]

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// Ports that are free now and that the kernel hands to nobody meanwhile: below its own range.
///
/// # Panics
/// If the clock stands before 1970.
#[must_use]
pub fn ports<const N: usize>() -> [u16; N] {
    let mut held: Vec<TcpListener> = Vec::new();
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let mut seed = u64::from(std::process::id()) ^ u64::from(clock.subsec_nanos());
    while held.len() < N {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let port = 12_000 + u16::try_from((seed >> 33) % 18_000).unwrap();
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}

/// A caller that speaks `protocol` (ALPN), trusts the roots in the folder of an identity as
/// `countersign identity issue` writes it, and shows that identity if it is `certified`.
///
/// # Panics
/// If the folder holds no identity.
#[must_use]
pub fn caller(identity: &Path, certified: bool, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(identity.join("bundle.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if certified {
        let chain = CertificateDer::pem_file_iter(identity.join("svid.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(identity.join("key.pem")).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}
