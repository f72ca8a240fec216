//! A second person: no signal and no start goes around them, and they can be let in.

use crate::support::options;
use crate::support::socket;
use crate::support::user;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Digest;
use countersign_enforce::SystemClock;
use countersign_server::Server;
use countersign_server::ServerError;
use countersign_server::ServerOptions;
use countersign_server::Start;
use countersign_server::admin::AdminError;
use countersign_server::admin::Reload;
use countersign_server::reload::ReloadError;
use countersign_server::reload::Reloaded;
use countersign_server::store::Search;
use serde_json::Value;
use sqlx::Connection;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Two administrators: whoever runs this, and `nobody`.
fn governed() -> String {
    format!(
        "\
environment: dev
trust_domain: hms.dev.invalid

listeners:
  web: {{ bind: \"127.0.0.1:8443\", peer: browser, login: dev, routes: {{ \"localhost/**\": page }} }}

identities:
  ops:    {{ attest: {{ unix: {{ user: {} }} }} }}
  second: {{ attest: {{ unix: {{ user: nobody }} }} }}
  api:    {{}}

roles:
  admins: {{ members: [ops, second, user:alice], may: [\"config:admin\", \"page:read\"] }}

services:
  page: {{ peer: service, identity: api, url: \"https://localhost:7001\", needs: \"page:read\" }}

edges:
  web -> page:       [GET /**]
  ops -> console:    [admin *]
  second -> console: [admin *]

change: {{ approve: [admins] }}
",
        user()
    )
}

fn loosened() -> String {
    let edge = "  second -> console:";
    governed().replace(edge, &format!("  api -> console: [admin status]\n{edge}"))
}

/// Outside development.
const PRODUCTION: &str = "\
trust_domain: hms.example

listeners:
  mesh: { bind: \"127.0.0.1:9443\", peer: service }
";

async fn open(folder: &Path, config: &str, start: Start) -> Result<Server, ServerError> {
    let options = options(folder, config);
    let production = config.starts_with(PRODUCTION);
    let bundle = Bundle {
        dev: !production,
        dev_operator: None,
        ..options.bundle
    };
    let options = ServerOptions { bundle, ..options };
    Server::open_with(options, start, Arc::new(SystemClock)).await
}

fn request(text: &str) -> Reload {
    Reload {
        dry_run: false,
        entry: "hms.yaml".to_owned(),
        files: BTreeMap::from([("hms.yaml".to_owned(), text.to_owned())]),
    }
}

async fn refusals(server: &Server, event_type: &str) -> Vec<Value> {
    server.audit().advance().await.unwrap();
    let search = Search {
        event_type: Some(event_type.to_owned()),
        ..Search::default()
    };
    let found = server.audit().search(&search).await.unwrap();
    let records = found.into_iter().map(|it| it.record);
    records.filter(|it| it["status"] == "failure").collect()
}

/// A first start with this configuration; what is left is the folder.
async fn active(config: &str) -> (tempfile::TempDir, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path(), config, Start::Active).await.unwrap();
    let revision = *server.point().snapshot().revision();
    server.stop().await;
    (folder, revision)
}

fn kept(folder: &Path, revision: &Digest) -> PathBuf {
    folder.join("data/snapshots").join(revision.to_string())
}

#[tokio::test]
async fn a_signal_asks_for_nothing_that_somebody_else_has_to_approve() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path(), &governed(), Start::Active)
        .await
        .unwrap();
    let operator = server.operator().unwrap();
    let before = *server.point().snapshot().revision();
    let refused = operator.reload_on_signal(request(&loosened())).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, AdminError::Reload(ReloadError::Anonymous)),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("`countersign reload`"),
        "{refused}"
    );
    assert_eq!(*server.point().snapshot().revision(), before);
    assert!(operator.changes().await.unwrap().is_empty());
    let records = refusals(&server, "config.reload").await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["metadata"]["source"], "sighup");
    let reason = records[0]["reason"].as_str().unwrap();
    assert!(reason.contains("does not say who asks"), "{reason}");

    // The same by somebody who has a name waits, and what loosens nothing needs no name.
    match operator.reload(request(&loosened())).await {
        Err(AdminError::Reload(ReloadError::NeedsApproval(pending))) => {
            assert_eq!(pending.requested_by, format!("unix:{}", user()));
        }
        other => panic!("{other:?}"),
    }
    let same = format!("{}# the same\n", governed());
    let done = operator.reload_on_signal(request(&same)).await.unwrap();
    assert_eq!(*server.point().snapshot().revision(), done.revision);
    assert_ne!(done.revision, before);
}

#[tokio::test]
async fn losing_the_active_revision_does_not_replace_a_second_person() {
    let (folder, revision) = active(PRODUCTION).await;
    let next = format!("{PRODUCTION}# another\n");
    let kept = kept(folder.path(), &revision);
    let whole = std::fs::read(&kept).unwrap();
    for noted in [
        "UPDATE governed_revisions SET governed = 1",
        // A store that was made before this was noted.
        "DELETE FROM governed_revisions",
    ] {
        note(folder.path(), noted).await;
        std::fs::remove_file(&kept).unwrap();
        let refused = open(folder.path(), &next, Start::File).await.unwrap_err();
        assert!(
            matches!(refused, ServerError::Unread { revision: it } if it == revision),
            "{refused}"
        );
        assert!(refused.to_string().contains("from a backup"), "{refused}");
        std::fs::write(&kept, &whole).unwrap();
    }
    // The remedy, and what is in the log by then.
    let server = open(folder.path(), &next, Start::Active).await.unwrap();
    assert_eq!(*server.point().snapshot().revision(), revision);
    let records = refusals(&server, "config.change").await;
    assert_eq!(records.len(), 2, "{records:?}");
    for record in records {
        assert_eq!(record["metadata"]["source"], "start");
        let reason = record["reason"].as_str().unwrap();
        assert!(reason.contains("can't be loaded"), "{reason}");
    }
}

async fn note(folder: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", folder.join("data/store.db").display());
    let mut store = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let noted = sqlx::query(statement).execute(&mut store).await.unwrap();
    assert_eq!(noted.rows_affected(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn where_nobody_has_to_approve_a_lost_revision_is_replaced_by_the_file() {
    let (folder, revision) = active(PRODUCTION).await;
    std::fs::remove_file(kept(folder.path(), &revision)).unwrap();
    let next = format!("{PRODUCTION}# another\n");
    let server = open(folder.path(), &next, Start::File).await.unwrap();
    assert_ne!(*server.point().snapshot().revision(), revision);
}

/// The exit code of `curl`, and what it was answered.
async fn as_user(id: u32, folder: &Path, method: &str, path: &str) -> (Option<i32>, Value) {
    let mut command = tokio::process::Command::new("curl");
    command.uid(id).gid(id).args(["-s", "-X", method]);
    command.arg("--unix-socket").arg(socket(folder));
    command.arg(format!("http://localhost/v1/admin/{path}"));
    let output = command.output().await.unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), document)
}

#[tokio::test]
async fn a_group_of_administrators_has_a_second_person_in_it() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::getuid().is_root() {
        countersign_testkit::not_run("needs root to become somebody else");
        return;
    }
    let curl = std::process::Command::new("curl").arg("--version").output();
    if curl.is_err() {
        countersign_testkit::not_run("curl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o711);
    let path = socket(folder.path());
    let admin = path.parent().unwrap();
    std::fs::create_dir(admin).unwrap();
    mode(admin, 0o710);
    let server = open(folder.path(), &governed(), Start::Active)
        .await
        .unwrap();
    // The server's own group is no group of administrators.
    let refused = server.start().await.unwrap_err();
    assert!(matches!(refused, ServerError::Socket(_)), "{refused}");
    std::os::unix::fs::chown(admin, None, Some(NOBODY)).unwrap();
    server.start().await.unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o777, found.gid()), (0o660, NOBODY));

    let operator = server.operator().unwrap();
    let pending = match operator.reload(request(&loosened())).await {
        Err(AdminError::Reload(ReloadError::NeedsApproval(pending))) => pending,
        other => panic!("{other:?}"),
    };
    assert_eq!(pending.others, ["second"]);
    let approve = format!("change/{}/approve", pending.id);
    let (outside, _) = as_user(NOBODY - 1, folder.path(), "POST", &approve).await;
    assert_eq!(outside, Some(7), "the kernel lets nobody else in");
    let (done, document) = as_user(NOBODY, folder.path(), "POST", &approve).await;
    assert_eq!(done, Some(0));
    let reloaded: Reloaded = serde_json::from_value(document).unwrap();
    assert_eq!(reloaded.revision, pending.revision);
    assert_eq!(*server.point().snapshot().revision(), pending.revision);
    let changes = operator.changes().await.unwrap();
    assert_eq!(changes[0].decided_by.as_deref(), Some("unix:nobody"));
    server.stop().await;
}
