//! Opening everything, in the order in which it depends on each other.

use super::Options;
use super::Parts;
use super::ServerError;
use super::ServerOptions;
use super::folder;
use super::spending;
use crate::admin;
use crate::admin::Desk;
use crate::audit::Audit;
use crate::ca::Ca;
use crate::control::Nodes;
use crate::control::Plane;
use crate::issuer;
use crate::issuer::Issuer;
use crate::join::Joins;
use crate::keys;
use crate::keys::FileSeal;
use crate::keys::KeyFolder;
use crate::keys::Schedule;
use crate::keys::SnapshotKey;
use crate::keys::TokenKeys;
use crate::reload;
use crate::reload::Reloader;
use crate::revocation::Revoker;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::updates::Beginning;
use crate::updates::Updates;
use crate::vault::Vault;
use countersign_core::config::Config;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::TrustDomain;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Storage;
use countersign_net::Roots;
use countersign_net::SvidSource;
use countersign_net::TokenVerifier;
use countersign_net::token::CACHED_TOKENS;
use countersign_wire::admin::Endpoints;
use parking_lot::Mutex;
use parking_lot::RwLock;
use std::borrow::Cow;
use std::collections::BTreeMap;
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
    snapshots: Arc<Snapshots>,
    storage: Arc<dyn Storage>,
    store: Store,
    token_keys: Arc<TokenKeys>,
}

pub(super) async fn open(
    options: ServerOptions,
    clock: Arc<dyn Clock>,
) -> Result<Parts, ServerError> {
    countersign_net::install_crypto()?;
    let draft = reload::compile(options.bundle.clone())?;
    check_environment(&draft, options.control)?;
    let config = draft.config();
    folder::claim(&options.data, &config.trust_domain, config.environment)?;
    let kept = kept(&options.data, &config.trust_domain, &*clock).await?;
    let bundle = Bundle {
        roots: vec![kept.ca.root_digest()],
        ..options.bundle.clone()
    };
    let snapshot = reload::checked(bundle)?;
    let spooling = SpoolOptions {
        commit: config.audit.commit,
        ..SpoolOptions::default()
    };
    let (spool, recovered) = Spool::open(kept.storage.clone(), options.node.as_str(), spooling)?;
    tracing::debug!(?recovered, "spool");
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
    activate(&kept, &snapshot, &point).await?;
    assemble(options, kept, audit, point).await
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

async fn kept(data: &Path, domain: &TrustDomain, clock: &dyn Clock) -> Result<Kept, ServerError> {
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
        snapshots,
        storage,
        store,
        token_keys: Arc::new(token_keys),
    })
}

/// Starting with another file is a change like a reload; that it can be is up to who starts it,
/// and that it was is in the log before it is in force.
async fn activate(
    kept: &Kept,
    snapshot: &Snapshot,
    point: &EnforcementPoint,
) -> Result<(), ServerError> {
    let revision = kept.snapshots.keep(snapshot.bundle())?;
    let active = kept.snapshots.active().await?.map(|active| active.revision);
    if active == Some(revision) {
        return Ok(());
    }
    if let Some(previous) = active {
        let before = kept.snapshots.read(&previous).map(reload::compile);
        let removed = match before {
            Ok(Ok(before)) => reload::removed_tests(&before, snapshot).join("; "),
            _ => "unknown: the configuration before can't be read any more".to_owned(),
        };
        let resource = Resource {
            id: Cow::Borrowed("configuration"),
            service: Cow::Borrowed("console"),
        };
        let mut record = Record::event("config.change", point.now(), STARTER, resource);
        record.metadata = BTreeMap::from([
            (Cow::Borrowed("previous"), Cow::Owned(previous.to_string())),
            (Cow::Borrowed("revision"), Cow::Owned(revision.to_string())),
            (Cow::Borrowed("tests_removed"), Cow::Owned(removed)),
        ]);
        let _promise = point.record_event(&record).await?;
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
        node: options.node,
        options: Options {
            admin_socket: options.admin_socket,
            control: options.control,
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
        opened: RwLock::default(),
        point: point.clone(),
        snapshots: kept.snapshots.clone(),
        store: kept.store.clone(),
    });
    let plane = Plane {
        audit: audit.clone(),
        issuer: Arc::new(issuer(kept, point, revoker.clone())),
        joins: joins.clone(),
        nodes: Nodes::new(kept.storage.clone()),
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
        joins,
        point: point.clone(),
        reloader: Reloader::new(point.clone(), kept.snapshots.clone(), updates.clone()),
        revoker,
        secrets,
        snapshots: kept.snapshots.clone(),
        started: point.now(),
        store: kept.store.clone(),
        updates,
    };
    Ok((desk, plane))
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
        snapshot: kept
            .snapshots
            .sign(point.state().revocations.epoch())
            .await?,
        revocations,
        roots: kept.ca.bundle(),
    }))
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
/// machine, of the listeners, and of the services on the mesh.
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
    let domain = config.trust_domain.as_str();
    hosts.extend(
        config
            .services
            .keys()
            .map(|name| format!("{name}.mesh.{domain}")),
    );
    hosts.into_iter().collect()
}
