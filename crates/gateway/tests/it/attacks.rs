//! The corpus of `conformance/attacks` at a mesh door and a browser door: each attack comes to what
//! it must, nothing of it goes upstream that should not, and whoever comes next is served.

use crate::browser::sign_in;
use crate::support::Answer;
use crate::support::Cast;
use crate::support::Client;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::Upstream;
use crate::support::request;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Clock;
use countersign_enforce::SystemClock;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::PublicRoots;
use countersign_net::SvidSource;
use countersign_net::dial::Network;
use countersign_net::dial::Target as Address;
use countersign_net::token::UNKNOWN_BURST;
use countersign_testkit::attacks;
use countersign_testkit::attacks::Attack;
use countersign_testkit::attacks::Outcome;
use countersign_testkit::attacks::Target;
use countersign_testkit::pki::Pki;
use countersign_testkit::tokens::Signature;
use countersign_testkit::tokens::forge;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// Stands still, so that nothing here depends on how fast it runs.
#[derive(Debug)]
struct Still(Timestamp, Duration);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn boot(&self) -> Duration {
        self.1
    }
}

/// The time of soon, for good: tokens that are made by the system's clock within half a minute of
/// this are good by it.
pub(crate) fn still() -> Arc<dyn Clock> {
    let soon = SystemClock.now().plus(Duration::from_secs(30));
    Arc::new(Still(soon, SystemClock.boot()))
}

pub(crate) async fn cast() -> Cast {
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    Cast::by(still(), pki, &More::default()).await
}

async fn dial(
    connector: Connector,
    address: SocketAddr,
    sni: &str,
    http2: bool,
) -> TlsStream<TcpStream> {
    let alpn = if http2 { "h2" } else { "http/1.1" };
    let connector = connector.with_alpn(&[alpn]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let target = Address {
        host: address.ip().to_string(),
        network: Network::Loopback,
        port: address.port(),
    };
    let stream = Dialer.connect(&target, deadline).await.unwrap();
    connector.connect(stream, sni, deadline).await.unwrap().0
}

pub(crate) async fn dial_mesh(
    cast: &Cast,
    who: &Arc<SvidSource>,
    sni: &str,
    http2: bool,
) -> TlsStream<TcpStream> {
    let gateway = cast.pki.id("countersign/gateway/gw");
    let connector = Connector::mutual(who.clone(), cast.roots.clone(), gateway).unwrap();
    dial(connector, cast.mesh, sni, http2).await
}

async fn dial_web(cast: &Cast, http2: bool) -> TlsStream<TcpStream> {
    let roots = PublicRoots::none().with_pem(cast.pki.root_pem().as_bytes());
    let connector = Connector::public(&roots.unwrap()).unwrap();
    dial(connector, cast.web, "localhost", http2).await
}

pub(crate) fn mesh_target(cast: &Cast, front: &SvidSource) -> Target {
    let token = cast.token(front, "hms-api");
    Target {
        door: "mesh",
        host: "hms-api".to_owned(),
        path: "/v1/reports/1".to_owned(),
        fields: vec![("authorization".to_owned(), format!("Bearer {token}"))],
    }
}

async fn web_target(cast: &Cast) -> Target {
    let field = |name: &str, value: String| (name.to_owned(), value);
    let session = sign_in(cast, "").await;
    Target {
        door: "browser",
        host: cast.web_host(),
        path: "/a".to_owned(),
        fields: vec![
            field("cookie", session),
            field("sec-fetch-site", "same-origin".to_owned()),
        ],
    }
}

/// How many connections were ended for a flood, by the record.
fn floods(cast: &Cast) -> usize {
    let code = Code::CONNECTION_FLOOD.to_string();
    let records = cast.records();
    records.iter().filter(|it| it["code"] == code).count()
}

/// Each connection that was ended for a flood is in the record, and no more than were `attacked`
/// so: of two reasons to end a connection the caller hears one.
async fn floods_are_recorded(cast: &Cast, ended: usize, attacked: usize) {
    let deadline = Instant::now() + PATIENCE;
    while floods(cast) < ended {
        assert!(Instant::now() < deadline, "no record of a flood");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(floods(cast) <= attacked);
}

/// The field by which an upstream tells one attack from another.
const MARK: &str = "x-attack";
/// Attacks under way at once.
const LANES: usize = 8;

/// Of an attack nothing came upstream but what was answered.
fn upstream_is_clean(upstream: &Upstream, mark: &str, outcome: &Outcome, name: &str) {
    let seen = upstream.seen();
    let own = seen
        .iter()
        .filter(|it| it.headers.get(MARK).is_some_and(|it| it == mark));
    if !outcome.cut {
        assert_eq!(own.count(), outcome.admitted, "{name}");
    }
}

/// And nothing at all of what was smuggled.
fn nothing_is_smuggled(upstream: &Upstream) {
    for seen in upstream.seen() {
        assert!(seen.headers.contains_key(MARK), "{}", seen.target);
        assert!(!seen.target.contains("smuggled"), "{}", seen.target);
        assert!(!seen.target.contains('#'), "{}", seen.target);
        let headers = &seen.headers;
        let smuggled = headers.keys().any(|it| it.as_str().contains("smuggled"));
        // One way to tell the length of its body, which is the gateway's own.
        let count = |name| headers.get_all(name).iter().count();
        let lengths = count("content-length") + count("transfer-encoding");
        assert!(!smuggled && lengths <= 1, "{headers:?}");
    }
}

/// Plays all attacks of one protocol at one door; what did not go as it must.
async fn play(
    cast: &Cast,
    (target, front): (&Target, &Arc<SvidSource>),
    attacks: &[Attack],
    http2: bool,
) -> Vec<String> {
    let upstream = upstream(cast, target);
    let attacks = attacks.iter().filter(|it| it.is_for(target.door));
    let floods = attacks.clone().filter(|it| it.may_flood()).count();
    // Floods last, among themselves: whoever resets enough of what is under way at a service has the
    // service end the connection to it, and a `POST` of another attack that is on it fails.
    let (flooding, calm): (Vec<_>, Vec<_>) = attacks.partition(|it| it.may_flood());
    let mut played = in_lanes(cast, (target, front), &calm, http2, 0).await;
    played.extend(in_lanes(cast, (target, front), &flooding, http2, calm.len()).await);
    nothing_is_smuggled(upstream);
    // Strangers are recorded so often a second, and counted beyond it.
    if target.door == "mesh" {
        let ended = played.iter().flatten().filter(|it| it.flood).count();
        floods_are_recorded(cast, ended, floods).await;
    }
    let next = dial_next(cast, target, front, http2).await;
    next_is_served(next, target).await;
    played.into_iter().filter_map(Result::err).collect()
}

/// Plays attacks beside each other, numbered from `first` on.
async fn in_lanes(
    cast: &Cast,
    (target, front): (&Target, &Arc<SvidSource>),
    attacks: &[&Attack],
    http2: bool,
    first: usize,
) -> Vec<Result<Outcome, String>> {
    let upstream = upstream(cast, target);
    stream::iter((first..).zip(attacks))
        .map(|(number, attack)| async move {
            let mark = number.to_string();
            let mut target = target.clone();
            target.fields.push((MARK.to_owned(), mark.clone()));
            // Connected before the attack and asking after it.
            let bystander = dial_next(cast, &target, front, http2).await;
            let outcome = play_one(cast, (&target, front), attack, http2).await;
            let name = attack.name();
            if let Ok(outcome) = &outcome {
                upstream_is_clean(upstream, &mark, outcome, name);
            }
            next_is_served(bystander, &target).await;
            outcome.map_err(|what| format!("{name}: {what}"))
        })
        .buffer_unordered(LANES)
        .collect()
        .await
}

fn upstream<'a>(cast: &'a Cast, target: &Target) -> &'a Upstream {
    match target.door {
        "mesh" => &cast.api,
        _ => &cast.app,
    }
}

async fn play_one(
    cast: &Cast,
    (target, front): (&Target, &Arc<SvidSource>),
    attack: &Attack,
    http2: bool,
) -> Result<Outcome, String> {
    let mesh = target.door == "mesh";
    let stream = if mesh {
        dial_mesh(cast, front, "hms-api", http2).await
    } else {
        dial_web(cast, http2).await
    };
    let outcome = if http2 {
        attack.http2(stream, target).await
    } else {
        attack.http1(stream, target).await
    }?;
    // As above of strangers.
    for receipt in outcome.receipts.iter().filter(|_| mesh) {
        let id = receipt.parse().unwrap();
        let found = cast.point.spool().find(&id).unwrap();
        if found.is_none() {
            return Err(format!("no record {receipt}"));
        }
    }
    Ok(outcome)
}

pub(crate) async fn dial_next(
    cast: &Cast,
    target: &Target,
    front: &Arc<SvidSource>,
    http2: bool,
) -> Client {
    match target.door {
        "mesh" => cast.dial_mesh(front, "hms-api", http2).await,
        _ => cast.dial_web(http2).await,
    }
}

/// Whoever comes next gets their own answer.
pub(crate) async fn next_is_served(mut client: Client, target: &Target) {
    let fields = target.fields.iter().filter(|(name, _)| name != MARK);
    let mut headers = vec![("host", target.host.as_str()), (MARK, "next")];
    headers.extend(fields.map(|(name, value)| (name.as_str(), value.as_str())));
    let answer = client
        .send(request("GET", &target.path, &headers, ""))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
}

#[tokio::test]
async fn http1_at_a_mesh_door() {
    let cast = cast().await;
    let front = cast.workload("front");
    let target = mesh_target(&cast, &front);
    let wrong = play(&cast, (&target, &front), &attacks::by_http1(), false).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn http1_at_a_browser_door() {
    let cast = cast().await;
    let target = web_target(&cast).await;
    let front = cast.workload("front");
    let wrong = play(&cast, (&target, &front), &attacks::by_http1(), false).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn http2_at_a_mesh_door() {
    let cast = cast().await;
    let front = cast.workload("front");
    let target = mesh_target(&cast, &front);
    let wrong = play(&cast, (&target, &front), &attacks::by_http2(), true).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn http2_at_a_browser_door() {
    let cast = cast().await;
    let target = web_target(&cast).await;
    let front = cast.workload("front");
    let wrong = play(&cast, (&target, &front), &attacks::by_http2(), true).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_forger_runs_out_of_looks_and_nobody_else_does() {
    let cast = cast().await;
    let front = cast.workload("front");
    let good = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    let ask = |token: &str| {
        let headers = [("host", "hms-api"), ("authorization", token)];
        request("GET", "/v1/reports/1", &headers, "")
    };
    assert_eq!(client.send(ask(&good)).await.status, 200);
    // Good in every way but that nobody we know has signed it.
    let (head, payload) = parts(&good);
    let mut refused: Option<Answer> = None;
    let before = cast.api.seen().len();
    for number in 0..=UNKNOWN_BURST {
        let signature = [number.to_be_bytes(); 16].concat();
        let token = forge(&head, &payload, Signature::Bytes(&signature));
        let answer = client.send(ask(&format!("Bearer {token}"))).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let refused = refused.expect("forged tokens were looked at for ever");
    cast.refused(&refused, Code::TOKENS_UNKNOWN, &cast.api, before)
        .await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(client.send(ask(&good)).await.status, 200, "remembered");
    // Another certificate of the same workload is another peer.
    let victim = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&victim, "hms-api"));
    let mut other = cast.dial_mesh(&victim, "hms-api", false).await;
    assert_eq!(other.send(ask(&token)).await.status, 200);
}

/// Header and payload of a token, as text.
fn parts(bearer: &str) -> (String, String) {
    use base64::Engine as _;
    let decoded: Vec<String> = bearer
        .trim_start_matches("Bearer ")
        .split('.')
        .take(2)
        .map(|part| {
            let part = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part);
            String::from_utf8(part.unwrap()).unwrap()
        })
        .collect();
    (decoded[0].clone(), decoded[1].clone())
}

/// The configuration in force, with other limits at the mesh door.
pub(crate) fn limited(cast: &Cast, limits: &str) {
    let mut bundle = cast.point.snapshot().bundle().clone();
    for text in bundle.files.values_mut() {
        let before = r#"mesh: { bind: "127.0.0.1:9443", peer: service }"#;
        assert!(text.contains(before));
        let after = before.replace(" }", &format!(", limits: {{ {limits} }} }}"));
        *text = text.replace(before, &after);
    }
    let next = Arc::new(Snapshot::from_bundle(bundle).unwrap());
    let prepared = cast.gateway.as_ref().unwrap().doors().prepare(&next);
    let prepared = prepared.unwrap();
    cast.point.install(&next);
    prepared.commit();
}

/// Whether the door ends the connection by itself.
pub(crate) async fn ends(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = stream.read_to_end(&mut heard);
    let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
    heard
}

#[tokio::test]
async fn one_peer_takes_its_part_of_a_doors_connections() {
    let cast = cast().await;
    limited(&cast, "connections: 40");
    let front = cast.workload("front");
    let target = mesh_target(&cast, &front);
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = cast.dial_mesh(&front, "hms-api", false).await;
        let token = target.fields[0].1.as_str();
        let headers = [("host", "hms-api"), ("authorization", token)];
        let answer = client
            .send(request("GET", &target.path, &headers, ""))
            .await;
        assert_eq!(answer.status, 200);
        held.push(client);
    }
    let mut more = dial_mesh(&cast, &front, "hms-api", false).await;
    assert!(ends(&mut more).await.is_empty());
    // Another peer finds its place.
    let other = cast.workload("front");
    let target = mesh_target(&cast, &other);
    next_is_served(dial_next(&cast, &target, &other, false).await, &target).await;
    // And so does the first one with what it gives back.
    drop(held);
    places_come_back(&cast, &front).await;
}

/// Waits until a caller who had all of their places finds one again.
pub(crate) async fn places_come_back(cast: &Cast, front: &Arc<SvidSource>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut again = dial_mesh(cast, front, "hms-api", false).await;
        let closed = tokio::time::timeout(Duration::from_millis(200), again.read_u8()).await;
        if closed.is_err() {
            break;
        }
        assert!(Instant::now() < deadline, "its places never came back");
    }
}
