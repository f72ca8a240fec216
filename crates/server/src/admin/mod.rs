//! Administration by whoever the kernel says is at the other end of a unix socket.
//!
//! An [`Operator`] is one such process. Each of its verbs is a hop at door `admin`: the user must
//! be an identity of the configuration (`attest: { unix: { user: .. } }`) with the edge and the
//! role. There is no other way in, and none past the decision.

mod changes;
mod configuration;
mod identities;
mod process;
mod records;
mod routes;
mod secrets;
mod socket;

pub use changes::ShownChange;
pub use configuration::Configuration;
pub use identities::IdentityEntry;
pub(crate) use identities::certificate;
pub use process::Reload;
pub use records::Explained;
pub use records::ReplayedRecord;
pub(crate) use socket::Socket;
pub use socket::SocketError;

use crate::audit::Audit;
use crate::audit::AuditError;
use crate::ca::Ca;
use crate::ca::CaError;
use crate::control::Nodes;
use crate::drift::ConfigurationFile;
use crate::ids::request_id;
use crate::join::JoinError;
use crate::join::Joins;
use crate::reload::ReloadError;
use crate::reload::Reloader;
use crate::revocation::Revoker;
use crate::secret_sources::SourceError;
use crate::secrets::Secrets;
use crate::secrets::WriteError;
use crate::snapshots::SnapshotError;
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::store::StoreError;
use crate::updates::Updates;
use crate::vault::VaultError;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Tls;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_net::peer_cred;
use countersign_wire::admin::Endpoints;
use parking_lot::RwLock;
use std::sync::Arc;

/// What administration works on.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) audit: Arc<Audit>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) endpoints: Arc<RwLock<Endpoints>>,
    pub(crate) file: Arc<ConfigurationFile>,
    pub(crate) joins: Arc<Joins>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) point: EnforcementPoint,
    pub(crate) reloader: Reloader,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) started: Timestamp,
    pub(crate) store: Store,
    pub(crate) updates: Arc<Updates>,
}

/// A local process that administers, or tries to.
#[derive(Clone, Debug)]
pub struct Operator {
    desk: Arc<Desk>,
    /// Why it may do nothing, whoever it is.
    fault: Option<RequestFault>,
    peer: Peer,
}

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Refused by decision; recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was asked can't be done as it was asked.
    #[error("{0}")]
    Invalid(String),
    /// The configuration was not reloaded.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// It was admitted and failed.
    #[error("{0}")]
    Failed(String),
}

impl Operator {
    /// A process, by what the kernel says of it.
    pub(crate) fn new(desk: Arc<Desk>, process: &peer_cred::LocalProcess) -> Self {
        // Another mount or pid namespace is another machine as far as paths and process ids go.
        let found = match process.shares_our_namespaces() {
            Ok(true) => None,
            Ok(false) => Some("the process is in other mount or pid namespaces than the server"),
            // proc(5): another user's namespaces are told to whoever may trace the process.
            Err(_) => Some(
                "the server can't see which mount and pid namespaces the process is in: for other users it needs CAP_SYS_PTRACE",
            ),
        };
        let fault = found.map(|detail| RequestFault {
            code: Code::IDENTITY_UNKNOWN,
            detail: detail.to_owned(),
        });
        Self {
            desk,
            fault,
            peer: process.peer(),
        }
    }

    /// Asks; the answer is in force until the admission is dropped.
    async fn ask(&self, service: &str, operation: Operation) -> Result<Admitted, AdminError> {
        self.ask_despite(service, operation, None).await
    }

    /// Asks, with something found that speaks against it.
    async fn ask_despite(
        &self,
        service: &str,
        operation: Operation,
        found: Option<RequestFault>,
    ) -> Result<Admitted, AdminError> {
        let id = request_id();
        let mut evidence = Evidence::none();
        evidence.tls = Tls::Kernel;
        evidence.peer = self.peer.clone();
        let ask = Ask {
            door: Name::admin(),
            service: service.to_owned(),
            operation,
            evidence,
            facts: Facts {
                fault: self.fault.clone().or(found),
                ..Facts::default()
            },
            context: Context {
                request_id: &id,
                ..Context::default()
            },
        };
        Ok(self.desk.point.enforce(ask).await?)
    }

    /// As records name it.
    fn name(&self) -> String {
        match &self.peer {
            Peer::Local { uid, user, .. } => {
                format!("unix:{}", user.clone().unwrap_or_else(|| uid.to_string()))
            }
            _ => "anonymous".to_owned(),
        }
    }
}

/// Completes an admitted verb.
fn done<T>(admitted: &Admitted, outcome: Result<T, AdminError>) -> Result<T, AdminError> {
    let status = outcome
        .as_ref()
        .map_or_else(|error| error.status(), |_| 200);
    admitted.answered(status);
    admitted.ended(Ending::Done);
    outcome
}

impl AdminError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// HTTP status of the answer.
    const fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.code.status(),
            Self::NotFound(_) => 404,
            Self::Invalid(_) => 400,
            Self::Reload(error) => reload_status(error),
            Self::Failed(_) => 500,
        }
    }
}

const fn reload_status(error: &ReloadError) -> u16 {
    match error {
        ReloadError::Superseded { .. }
        | ReloadError::NeedsApproval(_)
        | ReloadError::Anonymous
        | ReloadError::Spent(_)
        | ReloadError::Snapshot(SnapshotError::Superseded { .. }) => 409,
        ReloadError::Snapshot(_) | ReloadError::Store(_) => 500,
        ReloadError::Configuration(..)
        | ReloadError::NotInBuild(_)
        | ReloadError::Tests(_)
        | ReloadError::OtherDomain
        | ReloadError::NotReady(_) => 422,
    }
}

impl From<AuditError> for AdminError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::NotFound(_) | AuditError::NotMerged(_) => Self::NotFound(error.to_string()),
            AuditError::NotAReceipt(_) | AuditError::Ambiguous { .. } => {
                Self::Invalid(error.to_string())
            }
            error => Self::failed(error),
        }
    }
}

impl From<CaError> for AdminError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Request
            | CaError::WeakKey
            | CaError::Possession
            | CaError::TrustDomain(_)
            | CaError::Reserved(_) => Self::Invalid(error.to_string()),
            error => Self::failed(error),
        }
    }
}

impl From<JoinError> for AdminError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Refused(refusal) => Self::Refused(refusal),
            JoinError::Invalid(why) => Self::Invalid(why),
            error => Self::failed(error),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<SnapshotError> for AdminError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Unknown(_) => Self::NotFound(error.to_string()),
            error => Self::failed(error),
        }
    }
}

impl From<SourceError> for AdminError {
    fn from(error: SourceError) -> Self {
        if error.is_not_found() {
            return Self::NotFound("no such secret or version".to_owned());
        }
        Self::failed(error)
    }
}

impl From<VaultError> for AdminError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::NotFound => Self::NotFound(error.to_string()),
            VaultError::CasMismatch
            | VaultError::NoData
            | VaultError::TooLarge
            | VaultError::Path(_) => Self::Invalid(error.to_string()),
            error => Self::failed(error),
        }
    }
}

impl From<WriteError> for AdminError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Vault(error) => error.into(),
            WriteError::Elsewhere => Self::Invalid(error.to_string()),
            WriteError::Unrecorded(_) => Self::failed(error),
        }
    }
}
