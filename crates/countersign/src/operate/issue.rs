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
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Makes a key, has it certified, and writes the identity's folder.
///
/// The key is on disk before the server is asked, so that nothing is issued that can't be kept;
/// everything is on disk before anything is replaced. Key and chain are two files, as those who
/// read them expect, and change places one right after the other: a crash between the two leaves
/// a pair that does not fit, which is refused when it is loaded, until the next issue.
pub(crate) async fn issue_into(
    admin: &Admin,
    name: &str,
    gateway: bool,
    folder: &Path,
) -> Result<IssuedIdentity, Failure> {
    Name::new(name).map_err(|error| Failure::usage(error.to_string()))?;
    let (key, csr) = request().map_err(|error| Failure::failed(format!("no key: {error}")))?;
    let failed = |error: io::Error| {
        Failure::failed(format!("can't write to `{}`: {error}", folder.display()))
    };
    let _made = Made::folder(folder).map_err(failed)?;
    let key = Pending::write(folder, KEY_FILE, key.as_bytes(), 0o600).map_err(failed)?;
    let message = IssueIdentity {
        csr,
        gateway,
        name: name.to_owned(),
    };
    let issued: IssuedIdentity = admin.post("/v1/admin/identity/issue", &message).await?;
    let endpoints = serde_json::to_string_pretty(&issued.endpoints);
    let endpoints = endpoints.map_err(|error| Failure::failed(error.to_string()))? + "\n";
    put_all(folder, key, &issued, &endpoints).map_err(failed)?;
    Ok(issued)
}

fn put_all(
    folder: &Path,
    key: Pending,
    issued: &IssuedIdentity,
    endpoints: &str,
) -> io::Result<()> {
    let write = |name, text: &str| Pending::write(folder, name, text.as_bytes(), 0o644);
    let bundle = write(BUNDLE_FILE, &issued.bundle)?;
    let endpoints = write(ENDPOINTS_FILE, endpoints)?;
    let chain = write(CHAIN_FILE, &issued.chain)?;
    for file in [bundle, endpoints, chain, key] {
        file.keep()?;
    }
    // The names are durable when the folder is.
    std::fs::File::open(folder)?.sync_all()
}

/// A new P-256 key, and the request that carries its public half. Key and PEM are wiped.
fn request() -> Result<(Zeroizing<String>, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    Ok((Zeroizing::new(key.serialize_pem()), csr))
}

/// A folder that was made for what comes; gone when dropped if nothing came.
struct Made<'a>(Option<&'a Path>);

impl<'a> Made<'a> {
    fn folder(folder: &'a Path) -> io::Result<Self> {
        let there = folder.exists();
        std::fs::create_dir_all(folder)?;
        Ok(Self((!there).then_some(folder)))
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // Only an empty folder can be removed so: what is in it stays.
        let _ = self.0.map(std::fs::remove_dir);
    }
}

/// A file that is written whole beside the one it replaces; gone when dropped.
struct Pending {
    name: PathBuf,
    temporary: PathBuf,
}

impl Pending {
    /// Durable, and never with more rights than it should have.
    fn write(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let temporary = folder.join(format!(".{name}.{}", std::process::id()));
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        options.create_new(true).write(true).mode(mode);
        let mut file = options.open(&temporary)?;
        let pending = Self {
            name: folder.join(name),
            temporary,
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(pending)
    }

    fn keep(self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.name)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Not there any more if it was kept. If it is and can't be removed, it is a key that
        // nothing was issued for, readable by its owner.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn a_file_is_replaced_whole_or_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        std::fs::write(&path, "before").unwrap();
        let dropped = Pending::write(folder.path(), KEY_FILE, b"after", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        drop(dropped);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let kept = Pending::write(folder.path(), KEY_FILE, b"after", 0o600).unwrap();
        kept.keep().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_refused_issue_leaves_the_old_pair() {
        let folder = tempfile::tempdir().unwrap();
        for name in [KEY_FILE, CHAIN_FILE] {
            std::fs::write(folder.path().join(name), "before").unwrap();
        }
        let nobody = folder.path().join("none.sock");
        let admin = Admin::at(nobody, Duration::from_secs(1));
        let failed = issue_into(&admin, "api", false, folder.path()).await;
        assert!(failed.is_err());
        for name in [KEY_FILE, CHAIN_FILE] {
            let kept = std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(kept, b"before");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let new = folder.path().join("new");
        assert!(issue_into(&admin, "api", false, &new).await.is_err());
        assert!(!new.exists());
    }
}
