//! The unix socket: a folder that only its owner may enter, a socket that only its owner may
//! open, and a look at who did.

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
        prepare(path).map_err(wrap)?;
        let listener = UnixListener::bind(path).map_err(wrap)?;
        let owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, owner).map_err(wrap)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
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

fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        check_folder(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A folder that was there is taken as it is or not at all: to close one that others may enter
/// could take it from them, and whoever is in it already stays.
fn check_folder(folder: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(folder)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && ours && found.mode() & 0o777 == 0o700 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "its folder is not one that only the server's user may enter (mode 0700)",
    ))
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
