//! A configuration in place of another: who wins, what is kept, what is recorded, who agrees.

use crate::support::CONFIG;
use crate::support::World;
use crate::support::decided;
use crate::support::options;
use crate::support::socket;
use crate::support::user;
use bytes::Bytes;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_enforce::SystemClock;
use countersign_server::Server;
use countersign_server::ServerError;
use countersign_server::Start;
use countersign_server::admin::AdminError;
use countersign_server::admin::Operator;
use countersign_server::admin::Reload;
use countersign_server::drift::FilesNow;
use countersign_server::reload::Prepare;
use countersign_server::reload::Prepared;
use countersign_server::reload::ReloadError;
use countersign_server::reload::Reloaded;
use countersign_server::store::Search;
use countersign_wire::admin::Drift;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Response;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

fn request(text: &str) -> Reload {
    Reload {
        dry_run: false,
        entry: "hms.yaml".to_owned(),
        files: BTreeMap::from([("hms.yaml".to_owned(), text.to_owned())]),
    }
}

async fn reload(operator: &Operator, text: &str) -> Result<Reloaded, AdminError> {
    operator.reload(request(text)).await
}

/// Why nothing was reloaded.
fn error(outcome: Result<Reloaded, AdminError>) -> ReloadError {
    match outcome {
        Err(AdminError::Reload(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn events(server: &Server, event_type: &str) -> Vec<Value> {
    server.audit().advance().await.unwrap();
    let search = Search {
        event_type: Some(event_type.to_owned()),
        ..Search::default()
    };
    let found = server.audit().search(&search).await.unwrap();
    found.into_iter().map(|it| it.record).collect()
}

/// Holds every reload up until it may go on, or says that it can't.
#[derive(Debug)]
struct Gate {
    go: Arc<Semaphore>,
    taken: Option<&'static str>,
}

impl Prepare for Gate {
    fn prepare(&self, _: Arc<Snapshot>) -> BoxFuture<'_, Result<Prepared, String>> {
        async move {
            self.go.acquire().await.unwrap().forget();
            match self.taken {
                Some(address) => Err(format!("can't listen on `{address}` for listener `web`")),
                None => Ok(Prepared::new(|| {})),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn of_two_reloads_at_once_one_wins_and_the_other_is_told() {
    let world = World::new().await;
    let go = Arc::new(Semaphore::new(0));
    let (gate, taken) = (go.clone(), None);
    world
        .server
        .prepare_with(Arc::new(Gate { go: gate, taken }));
    let (one, two) = (format!("{CONFIG}# one\n"), format!("{CONFIG}# two\n"));
    let (first, second) = (reload(&world.operator, &one), reload(&world.operator, &two));
    let opened = async {
        // Both are under way, and one of them waits for the other.
        tokio::time::sleep(Duration::from_millis(300)).await;
        go.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(first, second, opened);
    let (won, lost) = match (first, second) {
        (Ok(won), lost) => (won, lost),
        (lost, Ok(won)) => (won, lost),
        other => panic!("{other:?}"),
    };
    let lost = error(lost);
    let ReloadError::Superseded {
        actor, revision, ..
    } = &lost
    else {
        panic!("{lost}")
    };
    assert_eq!(*revision, won.revision);
    assert_eq!(*actor, format!("unix:{}", user()));
    let text = lost.to_string();
    assert!(
        text.contains(&won.revision.short()) && text.contains(actor),
        "{text}"
    );
    assert_eq!(*world.server.point().snapshot().revision(), won.revision);
    let told = events(&world.server, "config.reload").await;
    let statuses: Vec<_> = told.iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, ["success", "failure"]);
    assert_eq!(told[0]["metadata"]["source"], "command");
}

#[tokio::test]
async fn what_is_not_ready_changes_nothing_and_is_recorded() {
    let world = World::new().await;
    let before = *world.server.point().snapshot().revision();
    let taken = Some("127.0.0.1:1");
    let go = Arc::new(Semaphore::new(1));
    world.server.prepare_with(Arc::new(Gate { go, taken }));
    let next = format!("{CONFIG}# next\n");
    let failed = error(reload(&world.operator, &next).await).to_string();
    assert_eq!(failed, "can't listen on `127.0.0.1:1` for listener `web`");
    assert_eq!(*world.server.point().snapshot().revision(), before);
    let status = world.operator.status().await.unwrap();
    assert_eq!(status.revision, before);
    let told = events(&world.server, "config.reload").await;
    assert_eq!(told[0]["status"], "failure");
    assert_eq!(told[0]["reason"], failed);
    assert_eq!(told[0]["metadata"]["previous"], before.to_string());
}

#[tokio::test]
async fn a_trial_and_the_same_again_change_nothing() {
    let world = World::new().await;
    let before = *world.server.point().snapshot().revision();
    let same = reload(&world.operator, CONFIG).await.unwrap();
    assert_eq!((same.previous, same.revision), (before, before));
    let tried = Reload {
        dry_run: true,
        ..request(&format!("{CONFIG}# next\n"))
    };
    let tried = world.operator.reload(tried).await.unwrap();
    assert!(tried.dry_run && tried.revision != before);
    let broken = Reload {
        dry_run: true,
        ..request(&CONFIG.replace("peer: browser", "peer: bowser"))
    };
    let broken = error(world.operator.reload(broken).await);
    assert!(matches!(broken, ReloadError::Configuration(..)), "{broken}");
    assert_eq!(*world.server.point().snapshot().revision(), before);
    assert!(events(&world.server, "config.reload").await.is_empty());
}

#[tokio::test]
async fn a_record_of_a_broken_file_quotes_nothing_of_it() {
    let world = World::new().await;
    let canary = "hunter2-canary";
    let broken = CONFIG.replace("peer: browser", &format!("peer: {canary}"));
    error(reload(&world.operator, &broken).await);
    let told = events(&world.server, "config.reload").await;
    assert_eq!(told[0]["status"], "failure");
    assert!(!told[0].to_string().contains(canary), "{}", told[0]);
    assert!(
        told[0]["reason"].as_str().unwrap().contains("CS"),
        "{}",
        told[0]
    );
}

#[tokio::test]
async fn the_record_says_what_loosens_and_which_tests_went() {
    let world = World::new().await;
    let without = CONFIG
        .lines()
        .filter(|line| !line.contains("the worker has no vault"));
    let text = without.collect::<Vec<_>>().join("\n");
    let edge = "  rotator -> vault:";
    let opened = format!("  stats-worker -> vault: [read openai_primary]\n{edge}");
    let text = text.replace(edge, &opened);
    let done = reload(&world.operator, &text).await.unwrap();
    assert!(done.difference.allows_more());
    let told = events(&world.server, "config.reload").await;
    let metadata = &told[0]["metadata"];
    let detail = |name: &str| metadata[name].as_str().unwrap().to_owned();
    assert_eq!(detail("tests_removed"), "the worker has no vault");
    assert!(
        detail("diff").contains("stats-worker -> vault"),
        "{metadata}"
    );
    assert!(
        detail("loosens").contains("stats-worker -> vault"),
        "{metadata}"
    );
    assert_eq!(detail("source"), "command");
    assert_eq!(detail("revision"), done.revision.to_string());
    assert!(metadata.to_string().len() <= 4096);
}

/// Stops a server and gives its folder to the next.
async fn stopped(world: World) -> tempfile::TempDir {
    world.server.stop().await;
    let World {
        folder,
        server,
        operator,
        ..
    } = world;
    drop((server, operator));
    folder
}

async fn open(folder: &Path, config: &str, start: Start) -> Result<Server, ServerError> {
    Server::open_with(options(folder, config), start, Arc::new(SystemClock)).await
}

#[tokio::test]
async fn a_restart_serves_what_was_active_and_tells_of_another_file() {
    let world = World::new().await;
    let active = reload(&world.operator, &format!("{CONFIG}# active\n")).await;
    let active = active.unwrap().revision;
    let folder = stopped(world).await;
    let edited = format!("{CONFIG}# edited\n");
    let server = open(folder.path(), &edited, Start::Active).await.unwrap();
    let files = [edited.clone(), format!("{CONFIG}# active\n")];
    assert_eq!(*server.point().snapshot().revision(), active);
    let drift = events(&server, "config.drift").await;
    assert_eq!(drift.len(), 1);
    assert_eq!(drift[0]["metadata"]["revision"], active.to_string());
    let operator = server.operator().unwrap();
    for (text, expected) in files.iter().zip([Drift::Differs, Drift::None]) {
        let now = FilesNow {
            entry: "/elsewhere/hms.yaml".to_owned(),
            files: BTreeMap::from([("/elsewhere/hms.yaml".to_owned(), text.clone())]),
        };
        server.follow_file("hms.yaml".to_owned(), Arc::new(move || Some(now.clone())));
        let status = operator.status().await.unwrap();
        assert_eq!(status.file.unwrap().drift, expected);
        assert_eq!(status.activated_by.unwrap(), format!("unix:{}", user()));
    }
    server.follow_file("hms.yaml".to_owned(), Arc::new(|| None));
    let status = operator.status().await.unwrap();
    assert_eq!(status.file.unwrap().drift, Drift::Unreadable);
    server.stop().await;
    drop((server, operator));

    let server = open(folder.path(), &edited, Start::File).await.unwrap();
    assert_ne!(*server.point().snapshot().revision(), active);
    assert_eq!(events(&server, "config.change").await.len(), 1);
}

#[tokio::test]
async fn what_lasts_can_be_made_before_anything_is_active() {
    let folder = tempfile::tempdir().unwrap();
    let made = open(folder.path(), CONFIG, Start::Nothing).await.unwrap();
    made.stop().await;
    drop(made);
    let edited = format!("{CONFIG}# edited before the first start\n");
    let server = open(folder.path(), &edited, Start::Active).await.unwrap();
    let served = server.point().snapshot().bundle().files["hms.yaml"].clone();
    assert_eq!(served, edited);
    assert!(events(&server, "config.drift").await.is_empty());
}

#[tokio::test]
async fn an_active_revision_that_is_gone_is_a_refused_start_with_a_remedy() {
    let world = World::new().await;
    let active = world.server.point().snapshot().revision().to_string();
    let folder = stopped(world).await;
    let kept = folder.path().join("data/snapshots").join(active);
    std::fs::write(&kept, "{}").unwrap();
    let refused = open(folder.path(), CONFIG, Start::Active)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServerError::Active { .. }), "{refused}");
    assert!(refused.to_string().contains("--from-file"), "{refused}");
    std::fs::remove_file(&kept).unwrap();
    open(folder.path(), CONFIG, Start::File).await.unwrap();
}

/// Two administrators: whoever runs this, and `nobody`.
fn governed() -> String {
    let ours = format!(
        "  ops: {{ attest: {{ unix: {{ user: {} }} }} }}\n  second: {{ attest: {{ unix: {{ user: nobody }} }} }}\n",
        user()
    );
    let roles = "  admins: { members: [ops, second], may: [\"config:admin\"] }\n  security: { members: [second, user:alice], may: [\"config:admin\"] }\n";
    let edges = "  ops -> console: [admin *]\n  second -> console: [admin *]\n";
    let governed = CONFIG
        .replace(
            "  hms-api:      {}\n",
            &format!("  hms-api:      {{}}\n{ours}"),
        )
        .replace("roles:\n", &format!("roles:\n{roles}"))
        .replace("edges:\n", &format!("edges:\n{edges}"));
    format!("{governed}\nchange: {{ approve: [security] }}\n")
}

fn loosened() -> String {
    loosen(&governed())
}

fn loosen(text: &str) -> String {
    let edge = "  rotator -> vault:";
    let opened = format!("  hms-api -> console: [admin status]\n{edge}");
    text.replace(edge, &opened)
}

/// A server with two administrators whose socket both may reach.
async fn two_people() -> Option<World> {
    if !nix::unistd::getuid().is_root() {
        countersign_testkit::not_run("needs root to become somebody else");
        return None;
    }
    let curl = std::process::Command::new("curl").arg("--version").output();
    if curl.is_err() {
        countersign_testkit::not_run("curl is not installed");
        return None;
    }
    let world = World::with(&governed()).await;
    reach(world.folder.path());
    Some(world)
}

fn reach(folder: &Path) {
    let socket = socket(folder);
    for (path, mode) in [
        (folder, 0o755),
        (socket.parent().unwrap(), 0o755),
        (socket.as_path(), 0o666),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// What `nobody` is answered.
async fn as_second(world: &World, method: &str, path: &str) -> Response<Bytes> {
    let mut command = tokio::process::Command::new("curl");
    command.uid(65534).args(["-s", "-i", "-X", method]);
    command
        .arg("--unix-socket")
        .arg(socket(world.folder.path()));
    command.arg(format!("http://localhost/v1/admin/{path}"));
    let text = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response = response.header(name, value);
    }
    response.body(Bytes::from(body.to_owned())).unwrap()
}

async fn asked_for(world: &World, text: &str) -> countersign_server::reload::Pending {
    match error(reload(&world.operator, text).await) {
        ReloadError::NeedsApproval(pending) => *pending,
        other => panic!("{other}"),
    }
}

async fn refused_here(world: &World, id: &str, code: Code) {
    let refusal = match world.operator.approve_change(id).await {
        Err(AdminError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal.code, code);
    let receipt = refusal.receipt.unwrap().to_string();
    let record = world.record(receipt).await.unwrap();
    assert_eq!(record["code"], code.to_string());
}

/// Being in a role that approves does not help.
#[tokio::test]
async fn nobody_approves_or_denies_what_they_asked_for() {
    let text = governed().replace("[second, user:alice]", "[ops, second, user:alice]");
    let world = World::with(&text).await;
    let before = *world.server.point().snapshot().revision();
    let change = asked_for(&world, &loosen(&text)).await;
    assert_eq!(change.others, ["second"]);
    for verdict in ["approve", "deny"] {
        let path = format!("/v1/admin/change/{}/{verdict}", change.id);
        let answer = world.administer("POST", &path, &Value::Null).await;
        let receipt = world.refused(&answer, Code::SELF_APPROVAL).await;
        let record = world.record(receipt).await.unwrap();
        assert_eq!(record["resource"]["id"], "console/approve", "{record}");
        assert_eq!(record["resource"]["service"], "console", "{record}");
        let peer = &record["hop"]["evidence"]["peer"]["local"];
        assert_eq!(peer["user"], user(), "{record}");
    }
    assert_eq!(*world.server.point().snapshot().revision(), before);
    let listed = world.operator.changes().await.unwrap();
    assert_eq!(
        (listed[0].state.as_str(), &listed[0].decided_by),
        ("pending", &None)
    );
    let reloads = events(&world.server, "config.reload").await;
    let done = reloads.iter().find(|it| it["status"] == "success");
    assert_eq!(done, None);
    let denied = events(&world.server, "config.change.deny").await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn what_loosens_waits_for_a_second_person() {
    let Some(world) = two_people().await else {
        return;
    };
    let before = *world.server.point().snapshot().revision();
    let change = asked_for(&world, &loosened()).await;
    assert_eq!(*world.server.point().snapshot().revision(), before);
    assert_eq!(change.others, ["second"]);
    refused_here(&world, &change.id, Code::SELF_APPROVAL).await;
    assert_eq!(*world.server.point().snapshot().revision(), before);

    let folder = stopped(world).await;
    let admin = socket(folder.path()).parent().unwrap().to_owned();
    std::fs::set_permissions(admin, std::fs::Permissions::from_mode(0o700)).unwrap();
    let world = World::in_folder(folder).await;
    reach(world.folder.path());
    let listed = world.operator.changes().await.unwrap();
    assert_eq!(
        (listed[0].id.as_str(), listed[0].state.as_str()),
        (change.id.as_str(), "pending")
    );
    let shown = world.operator.change(&change.id).await.unwrap();
    assert!(shown.difference.allows_more());
    let path = format!("change/{}/approve", change.id);
    let approved = as_second(&world, "POST", &path).await;
    assert_eq!(approved.status(), 200, "{:?}", approved.body());
    assert_eq!(*world.server.point().snapshot().revision(), change.revision);
    let told = events(&world.server, "config.reload").await;
    let record = told.iter().find(|it| it["status"] == "success").unwrap();
    assert_eq!(record["principal"]["id"], "unix:nobody");
    assert_eq!(
        record["metadata"]["requested_by"],
        format!("unix:{}", user())
    );
    assert_eq!(record["metadata"]["source"], "approval");
    assert_eq!(record["metadata"]["change"], change.id);
    assert_eq!(record["metadata"]["revision"], change.revision.to_string());
    let loosens = record["metadata"]["loosens"].as_str().unwrap();
    assert!(loosens.contains("hms-api -> console"), "{record}");
    let decision = decided(&world.server, "console/approve").await;
    assert_eq!(decision["status"], "success", "{decision}");
    let peer = &decision["hop"]["evidence"]["peer"]["local"];
    assert_eq!(peer["user"], "nobody", "{decision}");
    let listed = world.operator.changes().await.unwrap();
    assert_eq!(listed[0].state, "approved");
    assert_eq!(listed[0].decided_by.as_deref(), Some("unix:nobody"));
    assert_eq!(
        events(&world.server, "config.change.request").await.len(),
        1
    );
    let again = as_second(&world, "POST", &path).await;
    world.refused(&again, Code::REPLAYED).await;
}

#[tokio::test]
async fn what_tightens_waits_for_nobody_and_giving_the_rule_up_does() {
    let Some(world) = two_people().await else {
        return;
    };
    let without_rule = governed().replace("change: { approve: [security] }", "");
    asked_for(&world, &without_rule).await;
    let tighter = governed().replace(
        "  ops -> console: [admin *]",
        "  ops -> console: [admin reload, admin approve, admin changes]",
    );
    reload(&world.operator, &tighter).await.unwrap();
}

#[tokio::test]
async fn who_is_in_no_role_or_too_late_approves_nothing() {
    let Some(world) = two_people().await else {
        return;
    };
    // Asked for by somebody else, and approved by somebody who is in no role for it.
    let body = serde_json::to_string(&request(&loosened())).unwrap();
    let file = world.folder.path().join("body.json");
    std::fs::write(&file, body).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = tokio::process::Command::new("curl");
    command.uid(65534).args(["-s", "--unix-socket"]);
    command.arg(socket(world.folder.path()));
    command.arg("-d").arg(format!("@{}", file.display()));
    command.arg("http://localhost/v1/admin/reload");
    let answer = command.output().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let theirs = answer["change"]["id"].as_str().unwrap();
    let told = answer["detail"].as_str().unwrap();
    assert!(
        told.contains("nobody else who administers here is"),
        "{told}"
    );
    refused_here(&world, theirs, Code::ROLE_LACKS).await;

    let old = asked_for(&world, &loosened()).await;
    let path = |id: &str| format!("change/{id}/approve");
    world.advance(Duration::from_secs(3601));
    let late = as_second(&world, "POST", &path(&old.id)).await;
    world.refused(&late, Code::APPROVAL_ENDED).await;

    let outdated = asked_for(&world, &loosened()).await;
    reload(&world.operator, &format!("{}# nothing more\n", governed()))
        .await
        .unwrap();
    let refused = as_second(&world, "POST", &path(&outdated.id)).await;
    world.refused(&refused, Code::APPROVAL_ENDED).await;

    let unwanted = asked_for(&world, &format!("{}# nothing more\n", loosened())).await;
    let denied = as_second(&world, "POST", &format!("change/{}/deny", unwanted.id)).await;
    assert_eq!(denied.status(), 200, "{:?}", denied.body());
    let refused = as_second(&world, "POST", &path(&unwanted.id)).await;
    world.refused(&refused, Code::REPLAYED).await;
    assert_eq!(events(&world.server, "config.change.deny").await.len(), 1);
    let unknown = as_second(&world, "POST", &path("c-000000000000")).await;
    assert_eq!(unknown.status(), 404);
}
