//! The unix socket: a folder that only its owner may enter, a socket that only its owner may
//! open, and a look at who did.
//!
//! A second person is another system user, so whoever installs the server may let a group in: a
//! folder of mode 0710 that belongs to a group of its own, whose members may open the socket then.
//! Who they are is still what the kernel says, and what they may do is still decided.

use super::Desk;
use super::Operator;
use super::routes;
use crate::http::stopped;
use countersign_net::peer_cred;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open the administration socket `{path}`")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// The bound socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

const CONNECTIONS: usize = 64;
const HEADER_TIME: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(5);

impl Socket {
    /// Binds it. What a crash left of another is removed; a file that is no socket is not.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let wrap = |source| SocketError {
            path: path.to_owned(),
            source,
        };
        let group = prepare(path).map_err(wrap)?;
        let listener = UnixListener::bind(path).map_err(wrap)?;
        let socket = Self {
            listener,
            path: path.to_owned(),
        };
        admit(path, group).map_err(wrap)?;
        Ok(socket)
    }

    /// Serves until told to stop, then lets what is under way end.
    pub(crate) async fn serve(self, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let slot = slots.clone().acquire_owned().await;
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = self.listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let (desk, stop) = (desk.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(desk, stream, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection for administration");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the folder where there is none. Returns the group that may use the socket, if one may.
fn prepare(path: &Path) -> io::Result<Option<u32>> {
    let mut group = None;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        group = check_folder(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(group)
}

/// Lets the owner open the socket, and the group if there is one.
fn admit(path: &Path, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else {
        return std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    };
    // In a folder with the set-group-id bit it has that group already.
    if std::fs::symlink_metadata(path)?.gid() != group {
        std::os::unix::fs::lchown(path, None, Some(group)).map_err(|error| {
            let text = "the server's user is not in the group of its folder (add it, or give the folder mode 2710)";
            io::Error::new(error.kind(), text)
        })?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}

/// A folder that was there is taken as it is or not at all: to close one that others may enter
/// could take it from them, and whoever is in it already stays. Our own group is no group of
/// administrators: files of the service may belong to it.
fn check_folder(folder: &Path) -> io::Result<Option<u32>> {
    let found = std::fs::symlink_metadata(folder)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    let own_group = found.gid() == rustix::process::getegid().as_raw();
    match found.mode() & 0o777 {
        0o700 if ours => Ok(None),
        0o710 if ours && !own_group => Ok(Some(found.gid())),
        _ => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "its folder is not one that only the server's user may enter (mode 0700), or with it a group of administrators that is not the server's own (mode 0710)",
        )),
    }
}

async fn connection(desk: Arc<Desk>, stream: UnixStream, mut stop: watch::Receiver<bool>) {
    let process = match peer_cred::of(&stream) {
        Ok(process) => process,
        Err(error) => {
            tracing::warn!(%error, "the kernel does not say who connected");
            return;
        }
    };
    let operator = Operator::new(desk, &process);
    let service = service_fn(move |request| {
        let operator = operator.clone();
        async move { Ok::<_, Infallible>(routes::answer(&operator, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an administration connection broke off");
    }
}
