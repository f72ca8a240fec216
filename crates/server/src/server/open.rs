//! Opening everything, in the order in which it depends on each other.

use super::Options;
use super::Parts;
use super::ServerError;
use super::ServerOptions;
use super::Start;
use super::folder;
use super::spending;
use crate::admin;
use crate::admin::Desk;
use crate::audit::Audit;
use crate::ca::Ca;
use crate::control::Nodes;
use crate::control::Plane;
use crate::drift::ConfigurationFile;
use crate::issuer;
use crate::issuer::Issuer;
use crate::join;
use crate::join::Joins;
use crate::keys;
use crate::keys::FileSeal;
use crate::keys::KeyFolder;
use crate::keys::Schedule;
use crate::keys::SnapshotKey;
use crate::keys::TokenKeys;
use crate::reload;
use crate::reload::ReloadError;
use crate::reload::Reloader;
use crate::reload::Report;
use crate::reload::Via;
use crate::revocation::Revoker;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::snapshots::Snapshots;
use crate::store::Activation;
use crate::store::Store;
use crate::updates::Beginning;
use crate::updates::Updates;
use crate::vault::Vault;
use countersign_core::change::Difference;
use countersign_core::change::difference;
use countersign_core::config::Config;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::TrustDomain;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::Storage;
use countersign_net::Roots;
use countersign_net::SvidSource;
use countersign_net::TokenVerifier;
use countersign_net::token::CACHED_TOKENS;
use countersign_wire::admin::Endpoints;
use countersign_wire::control::SignedSnapshot;
use parking_lot::Mutex;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Who changes the configuration by starting with another.
const STARTER: &str = "start";

/// What is on disk, opened.
struct Kept {
    ca: Arc<Ca>,
    folder: Arc<KeyFolder>,
    /// Nobody else's process uses the data folder meanwhile.
    lock: Box<dyn Lock>,
    snapshots: Arc<Snapshots>,
    storage: Arc<dyn Storage>,
    store: Store,
    token_keys: Arc<TokenKeys>,
}

/// What is served, and what was active before.
struct Chosen {
    active: Option<Activation>,
    /// The policy before, where there was another one that can be read.
    before: Option<Arc<Snapshot>>,
    /// Whether the file says something else than what is served.
    drift: bool,
    snapshot: Arc<Snapshot>,
}

pub(super) async fn open(
    options: ServerOptions,
    start: Start,
    clock: Arc<dyn Clock>,
) -> Result<Parts, ServerError> {
    countersign_net::install_crypto()?;
    let draft = reload::compile(options.bundle.clone())?;
    check_environment(&draft, options.control)?;
    let config = draft.config();
    let lock = folder::claim(&options.data, &config.trust_domain, config.environment)?;
    let kept = kept(&options.data, &config.trust_domain, &*clock, lock).await?;
    let bundle = Bundle {
        node: (!options.bundle.dev).then(|| options.node.to_string()),
        roots: vec![kept.ca.root_digest()],
        ..options.bundle.clone()
    };
    let chosen = match choose(&kept, bundle, start).await {
        Err(error @ (ServerError::NeedsApproval | ServerError::Unread { .. })) => {
            let point = EnforcementPoint::new(spool(&kept, &options, config)?, draft, clock);
            let report = Report::new("config.change", point.now(), STARTER).via(Via::Start);
            let report = report.failed(&error.to_string());
            let _promise = point.record_event(&report.into_record()).await?;
            return Err(error);
        }
        chosen => chosen?,
    };
    let snapshot = chosen.snapshot.clone();
    let spool = spool(&kept, &options, snapshot.config())?;
    let log_key = keys::log_key(&kept.folder, &config.trust_domain)?;
    let origin = keys::log_name(&config.trust_domain);
    let audit = Audit::open(
        kept.storage.clone(),
        &origin,
        log_key,
        spool.clone(),
        kept.store.clone(),
    );
    let audit = Arc::new(audit.await?);
    let point = EnforcementPoint::new(spool, snapshot.clone(), clock);
    if start != Start::Nothing {
        activate(&kept, &chosen, &point).await?;
    }
    assemble(options, kept, audit, point).await
}

fn spool(kept: &Kept, options: &ServerOptions, config: &Config) -> Result<Spool, ServerError> {
    let spooling = SpoolOptions {
        commit: config.audit.commit,
        ..SpoolOptions::default()
    };
    let (spool, recovered) = Spool::open(kept.storage.clone(), options.node.as_str(), spooling)?;
    tracing::debug!(?recovered, "spool");
    if recovered.truncated_bytes > 0 {
        let (bytes, records) = (recovered.truncated_bytes, recovered.head.next);
        tracing::warn!(
            bytes,
            records,
            "the spool ended in a record that was not whole and had not been promised; it was cut off"
        );
    }
    Ok(spool)
}

/// Development and everything else never meet.
fn check_environment(snapshot: &Snapshot, control: SocketAddr) -> Result<(), ServerError> {
    let domain = &snapshot.config().trust_domain;
    let development = snapshot.is_development() || snapshot.is_open();
    match (development, domain.is_development()) {
        (true, false) => Err(ServerError::NotDevelopment(domain.clone())),
        (false, true) => Err(ServerError::Development(domain.clone())),
        (true, true) if !control.ip().is_loopback() => Err(ServerError::NotLoopback(control)),
        _ => Ok(()),
    }
}

async fn kept(
    data: &Path,
    domain: &TrustDomain,
    clock: &dyn Clock,
    lock: Box<dyn Lock>,
) -> Result<Kept, ServerError> {
    let now = clock.now();
    let keys = data.join("keys");
    let folder = Arc::new(KeyFolder::open(
        &keys,
        &FileSeal::new(keys.join("root.key")),
    )?);
    let root_seal = Box::new(FileSeal::new(keys.join("ca-root.key")));
    let ca = Arc::new(Ca::open_or_create(
        folder.clone(),
        root_seal,
        domain.clone(),
        now,
    )?);
    let store = Store::open(&data.join("store.db")).await?;
    let schedule = Schedule::default();
    let token_keys = TokenKeys::open(folder.clone(), store.clone(), schedule, now).await?;
    let storage: Arc<dyn Storage> = Arc::new(FsStorage::new(data));
    let snapshot_key = SnapshotKey::open(&folder)?;
    let snapshots = Arc::new(Snapshots::new(storage.clone(), store.clone(), snapshot_key));
    Ok(Kept {
        ca,
        folder,
        lock,
        snapshots,
        storage,
        store,
        token_keys: Arc::new(token_keys),
    })
}

/// The active revision is what is served, whatever the file says by now, unless whoever starts
/// the process says otherwise: a restart, planned or not, is no reload.
///
/// What this process is started with beside the files (roots, the operator of development,
/// `ZT_OFF`) is of this start.
async fn choose(kept: &Kept, file: Bundle, start: Start) -> Result<Chosen, ServerError> {
    let active = kept.snapshots.active().await?;
    let Some(revision) = active.as_ref().map(|active| active.revision) else {
        return Ok(Chosen {
            active,
            before: None,
            drift: false,
            snapshot: reload::checked(file)?,
        });
    };
    let unusable = |error: ReloadError| ServerError::Active {
        revision,
        source: Box::new(error),
    };
    let before = kept.snapshots.read(&revision).map_err(ReloadError::from);
    let same = matches!(&before, Ok(bundle) if reload::same_files(bundle, &file));
    if !same && start != Start::Active {
        let before = before.and_then(reload::compile).ok();
        let snapshot = reload::checked(file)?;
        if start == Start::File {
            may_start_with(kept, (revision, before.as_deref()), &snapshot).await?;
        }
        return Ok(Chosen {
            active,
            before,
            drift: false,
            snapshot,
        });
    }
    let before = before.map_err(unusable)?;
    let served = Bundle {
        entry: before.entry.clone(),
        files: before.files.clone(),
        ..file
    };
    let before = reload::compile(before).map_err(unusable)?;
    Ok(Chosen {
        active,
        before: Some(before),
        drift: !same,
        snapshot: reload::checked(served).map_err(unusable)?,
    })
}

/// A restart is no way around the second person. In development one person is often alone.
async fn may_start_with(
    kept: &Kept,
    (revision, before): (Digest, Option<&Snapshot>),
    next: &Snapshot,
) -> Result<(), ServerError> {
    // The folder was claimed for one environment, so that the one before was the same.
    if next.is_development() {
        return Ok(());
    }
    let Some(before) = before else {
        // What a file loosens can't be told where what it replaces can't be read, and somebody who
        // may write here could have seen to that.
        return match kept.store.is_governed(&revision).await? {
            Some(false) => Ok(()),
            Some(true) | None => Err(ServerError::Unread { revision }),
        };
    };
    let (old, new) = (before.config(), next.config());
    let loosens = difference(old, new).allows_more();
    if loosens && !old.change.approve.is_empty() {
        return Err(ServerError::NeedsApproval);
    }
    Ok(())
}

/// A start that changes what is in force is a change like a reload, and is in the log before it
/// is in force. So is a file that differs from it.
async fn activate(
    kept: &Kept,
    chosen: &Chosen,
    point: &EnforcementPoint,
) -> Result<(), ServerError> {
    let revision = kept.snapshots.keep(chosen.snapshot.bundle())?;
    if chosen.drift {
        tracing::warn!(revision = %revision.short(), "the file differs from the active revision, which is served");
        let report = Report::new("config.drift", point.now(), STARTER).via(Via::Start);
        let report = report.with("revision", revision.to_string());
        let _promise = point.record_event(&report.into_record()).await?;
    }
    kept.snapshots.note(&chosen.snapshot).await?;
    let active = chosen.active.as_ref().map(|active| active.revision);
    if active == Some(revision) {
        return Ok(());
    }
    if let Some(previous) = active {
        let report = Report::new("config.change", point.now(), STARTER).via(Via::Start);
        let report = report.revisions(&previous, &revision);
        let report = match &chosen.before {
            Some(before) => {
                report.difference(&difference(before.config(), chosen.snapshot.config()))
            }
            None => report.difference(&Difference::default()).with(
                "diff",
                "unknown: the configuration before can't be read any more",
            ),
        };
        let _promise = point.record_event(&report.into_record()).await?;
    }
    kept.snapshots
        .activate(active.as_ref(), &revision, STARTER, point.now())
        .await?;
    Ok(())
}

async fn assemble(
    options: ServerOptions,
    kept: Kept,
    audit: Arc<Audit>,
    point: EnforcementPoint,
) -> Result<Parts, ServerError> {
    let (desk, plane) = doors(&kept, &audit, &point, &options).await?;
    spending::restore(&point, &audit).await?;
    let hosts = hosts(&point.snapshot(), options.control);
    let (svid, issued) = kept
        .ca
        .issue_own("server", &options.node, &hosts, point.now())?;
    kept.store
        .insert_certificate(&admin::certificate(&issued))
        .await?;
    Ok(Parts {
        audit,
        roots: Roots::new(kept.ca.trust_bundle(1)?),
        ca: kept.ca,
        endpoints: desk.endpoints.clone(),
        updates: desk.updates.clone(),
        desk: Arc::new(desk),
        gateways: Mutex::default(),
        _lock: kept.lock,
        node: options.node,
        options: Options {
            admin_socket: options.admin_socket,
            control: options.control,
            sockets: options.sockets,
        },
        plane: Arc::new(plane),
        point,
        snapshots: kept.snapshots,
        store: kept.store,
        svid: SvidSource::new(svid),
        token_keys: kept.token_keys,
    })
}

/// What is behind the administration socket, and what is behind the mTLS port.
async fn doors(
    kept: &Kept,
    audit: &Arc<Audit>,
    point: &EnforcementPoint,
    options: &ServerOptions,
) -> Result<(Desk, Plane), ServerError> {
    let updates = Arc::new(updates(kept, point).await?);
    let revoker = Arc::new(Revoker::new(
        point.clone(),
        kept.snapshots.clone(),
        kept.store.clone(),
        updates.clone(),
    ));
    let vault = Arc::new(Vault::open(kept.store.clone(), kept.folder.root()).await?);
    let secrets = Arc::new(Secrets::new(point.clone(), vault));
    let domain = point.snapshot().config().trust_domain.clone();
    let endpoints = Arc::new(RwLock::new(Endpoints {
        mesh: None,
        server: options.control.to_string(),
        trust_domain: domain.as_str().to_owned(),
    }));
    let joins = Arc::new(Joins {
        audit: audit.clone(),
        ca: kept.ca.clone(),
        endpoints: endpoints.clone(),
        node: options.node.clone(),
        opened: RwLock::default(),
        point: point.clone(),
        revoker: revoker.clone(),
        snapshots: kept.snapshots.clone(),
        store: kept.store.clone(),
    });
    let plane = Plane {
        audit: audit.clone(),
        issuer: Arc::new(issuer(kept, point, revoker.clone())),
        joins: joins.clone(),
        nodes: Arc::new(Nodes::new(kept.storage.clone())),
        point: point.clone(),
        revoker: revoker.clone(),
        secrets: secrets.clone(),
        sessions: Sessions::new(kept.store.clone()),
        snapshots: kept.snapshots.clone(),
        store: kept.store.clone(),
        updates: updates.clone(),
    };
    let loaded = plane.open_assertion_keys().await;
    loaded.map_err(ServerError::AssertionKeys)?;
    let desk = Desk {
        audit: audit.clone(),
        ca: kept.ca.clone(),
        endpoints,
        file: Arc::new(ConfigurationFile::default()),
        joins,
        nodes: plane.nodes.clone(),
        point: point.clone(),
        reloader: reloader(kept, point, &updates),
        revoker,
        secrets,
        snapshots: kept.snapshots.clone(),
        started: point.now(),
        store: kept.store.clone(),
        updates,
    };
    Ok((desk, plane))
}

fn reloader(kept: &Kept, point: &EnforcementPoint, updates: &Arc<Updates>) -> Reloader {
    let (snapshots, store) = (kept.snapshots.clone(), kept.store.clone());
    Reloader::new(point.clone(), snapshots, store, updates.clone())
}

/// Puts the kept revocations in force, and begins to tell of them and of everything else.
async fn updates(kept: &Kept, point: &EnforcementPoint) -> Result<Updates, ServerError> {
    let revocations = kept.store.revocations_after(0).await?;
    point
        .revoke(&revocations)
        .map_err(ServerError::Revocations)?;
    Ok(Updates::new(Beginning {
        at: point.now(),
        keys: kept.token_keys.jwks(),
        revision: *point.snapshot().revision(),
        snapshot: signed(kept, point).await?,
        revocations,
        roots: kept.ca.bundle(),
    }))
}

/// The policy in force, signed; that it is active too is up to the start.
async fn signed(kept: &Kept, point: &EnforcementPoint) -> Result<SignedSnapshot, ServerError> {
    let epoch = point.state().revocations.epoch();
    let snapshot = point.snapshot();
    match kept.snapshots.active().await? {
        Some(active) if active.revision == *snapshot.revision() => {
            Ok(kept.snapshots.sign(epoch).await?)
        }
        active => {
            let revision = kept.snapshots.keep(snapshot.bundle())?;
            let predecessor = active.map(|it| it.revision);
            let signed = kept.snapshots.sign_as(epoch, predecessor, &revision).await;
            Ok(signed?)
        }
    }
}

fn issuer(kept: &Kept, point: &EnforcementPoint, revoker: Arc<Revoker>) -> Issuer {
    let name = point.snapshot().config().trust_domain.issuer();
    let verifying = kept.token_keys.verifying().clone();
    Issuer::new(issuer::Parts {
        point: point.clone(),
        revoker,
        roots: kept.ca.bundle(),
        token_keys: kept.token_keys.clone(),
        verifier: Arc::new(TokenVerifier::new(verifying, name, CACHED_TOKENS)),
    })
}

/// The names and addresses that clients who know nothing of SPIFFE IDs compare: those of this
/// machine, of the listeners, and of the mesh.
pub(super) fn hosts(snapshot: &Snapshot, control: SocketAddr) -> Vec<String> {
    let config: &Config = snapshot.config();
    let mut hosts = BTreeSet::from(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let bound = config
        .listeners
        .values()
        .map(|it| it.bind.ip())
        .chain([control.ip()]);
    hosts.extend(
        bound
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    hosts.extend(
        config
            .listeners
            .values()
            .flat_map(|it| it.hosts.iter().cloned()),
    );
    let services = config.services.keys().map(Name::as_str);
    hosts.extend(join::meshed(&config.trust_domain, services));
    hosts.into_iter().collect()
}
