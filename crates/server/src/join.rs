//! How gateways in other processes come to be: join tokens, and the certificates they turn into.
//!
//! A token is 256 random bits, kept as a hash, for one gateway, once, for ten minutes. It is used
//! up before anything is decided: whether it was good is a fact of the decision, and a second
//! attempt is refused however close it follows the first. Making one, using one and each way of
//! misusing one is in the record.

use crate::audit::Audit;
use crate::ca::Ca;
use crate::ca::Issued;
use crate::revocation::Revoker;
use crate::snapshots::Snapshots;
use crate::store::Consumed;
use crate::store::GatewayRow;
use crate::store::IssuedCertificate;
use crate::store::JoinRow;
use crate::store::Store;
use crate::store::StoreError;
use aws_lc_rs::rand::SecureRandom as _;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::config::PeerKind;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::TrustDomain;
use countersign_core::vocabulary::clip;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_wire::admin::Endpoints;
use countersign_wire::admin::Join;
use countersign_wire::join::JoinRequest;
use countersign_wire::join::JoinToken;
use countersign_wire::join::Joined;
use countersign_wire::join::Minted;
use parking_lot::RwLock;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a join token waits to be used.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// Makes gateways.
#[derive(Debug)]
pub(crate) struct Joins {
    pub(crate) audit: Arc<Audit>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) endpoints: Arc<RwLock<Endpoints>>,
    /// The server's own node, whose records are in the log under this name.
    pub(crate) node: Name,
    /// Where gateways join, once that port is open.
    pub(crate) opened: RwLock<Option<String>>,
    pub(crate) point: EnforcementPoint,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) store: Store,
}

/// Why nobody joined, or will.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// Refused by decision; recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was asked for can't be.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No certificate could be made, or no token.
    #[error("{0}")]
    Failed(String),
}

impl Joins {
    /// Makes a token; that somebody may is decided before. `actor` is for the record.
    pub(crate) async fn mint(
        &self,
        gateway: &str,
        listeners: &[String],
        actor: &str,
    ) -> Result<Minted, JoinError> {
        let gateway = Name::new(gateway).map_err(invalid)?;
        self.check_name(&gateway)?;
        let snapshot = self.point.snapshot();
        let wanted = wanted(&snapshot, listeners)?;
        let closed = || {
            JoinError::Invalid(
                "this server takes in no gateways: start it with `--join ADDRESS`".to_owned(),
            )
        };
        let server = self.opened.read().clone().ok_or_else(closed)?;
        let mut bits = [0_u8; 32];
        SystemRandom::new()
            .fill(&mut bits)
            .map_err(|_| JoinError::Failed("no randomness".to_owned()))?;
        let secret = SecretString::from(URL_SAFE_NO_PAD.encode(bits));
        let row = JoinRow {
            ends: self.point.now().plus(TOKEN_LIFETIME),
            gateway: gateway.clone(),
            hash: hash(&secret),
            listeners: wanted.clone(),
        };
        // Recorded before it can be used, so that no token is without its record.
        self.record(&row, actor).await?;
        self.store.insert_join(&row).await?;
        let token = JoinToken {
            gateway: gateway.clone(),
            pin: self.ca.root_digest(),
            secret,
            server,
            trust_domain: self.ca.domain().as_str().to_owned(),
        };
        Ok(Minted {
            ends: row.ends,
            gateway,
            listeners: own(&snapshot, wanted.as_ref()).into_iter().collect(),
            token: token.to_text(),
        })
    }

    /// Turns a token into a certificate. Whatever else is wrong with the request, the token is
    /// used up by it.
    pub(crate) async fn join(
        &self,
        request: Option<JoinRequest>,
        mut evidence: Evidence,
        context: Context<'_>,
    ) -> Result<Joined, JoinError> {
        // Where the store fails nothing is known of the token: that is refused and recorded too.
        let ((fault, row), failed) = match self.attempt(request.as_ref()).await {
            Ok(attempt) => (attempt, None),
            Err(error) => {
                let unknown = (Code::TOKEN_ABSENT, "whether the token is good is not known");
                ((Some(unknown), None), Some(error))
            }
        };
        if let Some(row) = &row {
            evidence.peer = Peer::Joining {
                gateway: row.gateway.clone(),
                token: row.hash,
            };
        }
        let name = row.as_ref().map_or("", |row| row.gateway.as_str());
        let ask = Ask {
            door: Name::join(),
            service: "issuer".to_owned(),
            operation: Operation::named("join", name),
            evidence,
            facts: Facts {
                fault: fault.map(|(code, detail)| RequestFault {
                    code,
                    detail: detail.to_owned(),
                }),
                ..Facts::default()
            },
            context,
        };
        let admitted = match (self.point.enforce(ask).await, failed) {
            (_, Some(error)) => return Err(error.into()),
            (decided, None) => decided?,
        };
        let (Some(request), Some(row)) = (request, row) else {
            return Err(JoinError::Failed("nothing was asked for".to_owned()));
        };
        let joined = self.issue_first(&request, row).await;
        admitted.answered(if joined.is_ok() { 200 } else { 500 });
        admitted.ended(Ending::Done);
        joined
    }

    /// Refuses, with its record, what can't be read as a request to join at all.
    pub(crate) async fn refuse(
        &self,
        fault: RequestFault,
        evidence: Evidence,
        context: Context<'_>,
    ) -> Result<Joined, JoinError> {
        let ask = Ask {
            door: Name::join(),
            service: "issuer".to_owned(),
            operation: Operation::named("join", ""),
            evidence,
            facts: Facts {
                fault: Some(fault),
                ..Facts::default()
            },
            context,
        };
        let admitted = self.point.enforce(ask).await?;
        admitted.ended(Ending::Done);
        Err(JoinError::Failed(
            "a faulty request was admitted".to_owned(),
        ))
    }

    async fn attempt(&self, request: Option<&JoinRequest>) -> Result<Attempt, StoreError> {
        let Some(request) = request else {
            let unread = (Code::TOKEN_MALFORMED, "the request can't be read");
            return Ok((Some(unread), None));
        };
        let now = self.point.now();
        let consumed = self.store.consume_join(&hash(&request.secret), now).await?;
        Ok(match consumed {
            Consumed::Good(row) => {
                let logged = self.audit.log().position(row.gateway.as_str());
                let lost = logged.is_some_and(|it| it.next > request.records);
                let lost = lost.then_some((
                    Code::SUBJECT_MISMATCH,
                    "the log has more records of this gateway than the folder that joins: a new \
                     folder needs a new name",
                ));
                (lost, Some(row))
            }
            Consumed::Used(row) => (
                Some((Code::REPLAYED, "the join token was used before")),
                Some(row),
            ),
            Consumed::Ended(_) => (Some((Code::TOKEN_TIME, "the join token has expired")), None),
            Consumed::Unknown => (
                Some((Code::TOKEN_SIGNATURE, "no such join token was made")),
                None,
            ),
        })
    }

    async fn issue_first(&self, request: &JoinRequest, row: JoinRow) -> Result<Joined, JoinError> {
        let mut gateway = GatewayRow {
            leaf: None,
            listeners: row.listeners,
            name: row.gateway,
            previous: None,
            witness: Some(request.witness),
        };
        if self.store.gateway(&gateway.name).await?.is_some() {
            self.end_earlier(&gateway.name).await?;
        }
        let issued = self.issue(&gateway, &request.csr).await?;
        gateway.leaf = Some(issued.leaf);
        self.store.put_gateway(&gateway, self.point.now()).await?;
        Ok(Joined {
            chain: issued.chain,
            join: self.told(),
        })
    }

    /// Whoever had this name before is not this gateway any more.
    async fn end_earlier(&self, gateway: &Name) -> Result<(), StoreError> {
        let id = SpiffeId::of_process(self.ca.domain(), "gateway", gateway);
        let actor = format!("gateway:{gateway}");
        for earlier in self.store.certificates_of(&id, self.point.now()).await? {
            let what = Revoked::Certificate(earlier.leaf);
            self.revoker.revoke(what, false, &actor).await?;
        }
        Ok(())
    }

    /// A certificate for a gateway, with the names of its own listeners.
    pub(crate) async fn issue(&self, gateway: &GatewayRow, csr: &str) -> Result<Issued, JoinError> {
        let snapshot = self.point.snapshot();
        let listeners = own(&snapshot, gateway.listeners.as_ref());
        let hosts = hosts(&snapshot, &listeners);
        let issued = self
            .ca
            .issue_gateway(csr, &gateway.name, &hosts, self.point.now())
            .map_err(|error| JoinError::Failed(error.to_string()))?;
        let row = IssuedCertificate {
            leaf: issued.leaf,
            serial: issued.serial.clone(),
            spiffe_id: issued.spiffe_id.clone(),
            issuer: issued.issuer,
            not_before: issued.not_before,
            not_after: issued.not_after,
        };
        self.store.insert_certificate(&row).await?;
        Ok(issued)
    }

    /// Refuses a gateway the name of the server's own node: records are told apart by the name of
    /// the node that wrote them, so whoever had it could write the server's.
    pub(crate) fn check_name(&self, gateway: &Name) -> Result<(), JoinError> {
        if *gateway == self.node {
            return Err(JoinError::Invalid(format!(
                "`{gateway}` is this server's own node: a gateway needs another name"
            )));
        }
        Ok(())
    }

    /// What a gateway needs to find and believe this server.
    pub(crate) fn told(&self) -> Join {
        let Endpoints {
            server,
            trust_domain,
            ..
        } = self.endpoints.read().clone();
        Join {
            log_key: self.audit.verifier().to_string(),
            roots: self.ca.bundle(),
            server,
            snapshot_key: hex::encode(self.snapshots.public_key()),
            trust_domain,
        }
    }

    async fn record(&self, row: &JoinRow, actor: &str) -> Result<(), JoinError> {
        let resource = Resource {
            id: Cow::Borrowed(row.gateway.as_str()),
            service: Cow::Borrowed("issuer"),
        };
        let mut record = Record::event("gateway.join.mint", self.point.now(), actor, resource);
        let listeners = row.listeners.as_ref().map_or_else(
            || "all".to_owned(),
            |names| names.iter().map(Name::as_str).collect::<Vec<_>>().join(" "),
        );
        let metadata = [
            ("ends", row.ends.to_string()),
            ("listeners", listeners),
            ("token", row.hash.to_string()),
        ];
        for (name, value) in metadata {
            record
                .metadata
                .insert(Cow::Borrowed(name), Cow::Owned(value));
        }
        let recorded = self.point.record_event(&record).await;
        recorded
            .map(|_| ())
            .map_err(|error| JoinError::Failed(error.to_string()))
    }
}

/// What is wrong with a token, and which it is if there is one.
type Attempt = (Option<(Code, &'static str)>, Option<JoinRow>);

/// The listeners of a gateway, as the configuration in force has them.
pub(crate) fn own(snapshot: &Snapshot, listeners: Option<&BTreeSet<Name>>) -> BTreeSet<Name> {
    let all = snapshot.config().listeners.keys();
    all.filter(|name| listeners.is_none_or(|own| own.contains(*name)))
        .cloned()
        .collect()
}

fn wanted(snapshot: &Snapshot, listeners: &[String]) -> Result<Option<BTreeSet<Name>>, JoinError> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let known = |text: &String| {
        let name = Name::new(text).map_err(invalid)?;
        if snapshot.config().listeners.contains_key(&name) {
            return Ok(name);
        }
        Err(JoinError::Invalid(format!(
            "no listener is named `{}`",
            clip(text, 64)
        )))
    };
    listeners
        .iter()
        .map(known)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The names that people's browsers compare.
fn hosts(snapshot: &Snapshot, listeners: &BTreeSet<Name>) -> Vec<String> {
    let config = snapshot.config();
    let mut hosts = BTreeSet::from(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let own = config.listeners.iter();
    for (_, listener) in own.filter(|(name, _)| listeners.contains(*name)) {
        hosts.extend(listener.hosts.iter().cloned());
        let ip = listener.bind.ip();
        hosts.extend((!ip.is_unspecified()).then(|| ip.to_string()));
    }
    let mesh = config
        .listeners
        .iter()
        .any(|(name, listener)| listener.peer != PeerKind::Browser && listeners.contains(name));
    if mesh {
        let services = snapshot.meshed_behind(listeners).into_iter();
        hosts.extend(meshed(&config.trust_domain, services));
    }
    hosts.into_iter().collect()
}

/// The names of services on the mesh. Whoever connects is shown them, with or without a
/// certificate, so that one name stands for all and tells of none; but it stands for no name with
/// a dot (RFC 9525 section 6.3).
pub(crate) fn meshed<'a>(
    domain: &TrustDomain,
    services: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = String> {
    let dotted = services.filter(|name| name.contains('.'));
    std::iter::once("*")
        .chain(dotted)
        .map(|name| format!("{name}.mesh.{}", domain.as_str()))
}

fn hash(secret: &SecretString) -> Digest {
    let bytes = secret.expose_secret().as_bytes();
    Digest::new(countersign_ledger::tree::sha256(bytes))
}

fn invalid(error: impl std::fmt::Display) -> JoinError {
    JoinError::Invalid(error.to_string())
}
