//! A certificate for an identity, in the folder that clients read.

use super::admin::Admin;
use super::failure::Failure;
use countersign_client::BUNDLE_FILE;
use countersign_client::CHAIN_FILE;
use countersign_client::ENDPOINTS_FILE;
use countersign_client::KEY_FILE;
use countersign_core::vocabulary::Name;
use countersign_wire::admin::IssueIdentity;
use countersign_wire::admin::IssuedIdentity;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Makes a key, has it certified, and writes the identity's folder.
pub(crate) async fn issue_into(
    admin: &Admin,
    name: &str,
    gateway: bool,
    folder: &Path,
) -> Result<IssuedIdentity, Failure> {
    Name::new(name).map_err(|error| Failure::usage(error.to_string()))?;
    let (key, csr) = request().map_err(|error| Failure::failed(format!("no key: {error}")))?;
    let message = IssueIdentity {
        csr,
        gateway,
        name: name.to_owned(),
    };
    let issued: IssuedIdentity = admin.post("/v1/admin/identity/issue", &message).await?;
    let endpoints = serde_json::to_string_pretty(&issued.endpoints);
    let endpoints = endpoints.map_err(|error| Failure::failed(error.to_string()))? + "\n";
    let failed = |error: io::Error| {
        Failure::failed(format!("can't write to `{}`: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    // The key goes last: until then, what was there before still fits together.
    for (name, text, mode) in [
        (BUNDLE_FILE, issued.bundle.as_str(), 0o644),
        (ENDPOINTS_FILE, endpoints.as_str(), 0o644),
        (CHAIN_FILE, issued.chain.as_str(), 0o644),
        (KEY_FILE, key.as_str(), 0o600),
    ] {
        put(folder, name, text.as_bytes(), mode).map_err(failed)?;
    }
    Ok(issued)
}

/// A new P-256 key, and the request that carries its public half. Key and PEM are wiped.
fn request() -> Result<(Zeroizing<String>, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    Ok((Zeroizing::new(key.serialize_pem()), csr))
}

/// Writes a file whole or not at all, and never with more rights than it should have.
fn put(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let moved = written.and_then(|()| std::fs::rename(&temporary, folder.join(name)));
    if moved.is_err() {
        // What is left of it holds a key; that it can't be removed is the lesser problem.
        let _ = std::fs::remove_file(&temporary);
    }
    moved
}
