//! The corpus of `conformance/attacks` at the server's own ports: each attack comes to what it
//! must, is in the record, and whoever comes next is served.

use crate::support::Workload;
use crate::support::World;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::PublicRoots;
use countersign_net::dial::Network;
use countersign_net::dial::Target as Address;
use countersign_net::token::UNKNOWN_BURST;
use countersign_server::store::Search;
use countersign_testkit::attacks;
use countersign_testkit::attacks::Attack;
use countersign_testkit::attacks::Outcome;
use countersign_testkit::attacks::Target;
use countersign_testkit::tokens::Signature;
use countersign_testkit::tokens::forge;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Request;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(60);

fn target() -> Target {
    Target {
        door: "server",
        host: "localhost".to_owned(),
        path: "/livez".to_owned(),
        fields: Vec::new(),
    }
}

async fn dial(connector: Connector, address: SocketAddr, alpn: &str) -> TlsStream<TcpStream> {
    let connector = connector.with_alpn(&[alpn]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let target = Address {
        host: address.ip().to_string(),
        network: Network::Loopback,
        port: address.port(),
    };
    let stream = Dialer.connect(&target, deadline).await.unwrap();
    let connected = connector.connect(stream, "localhost", deadline).await;
    connected.unwrap().0
}

/// How many connections were ended for a flood, by the log.
async fn floods(world: &World) -> usize {
    world.server.audit().advance().await.unwrap();
    let search = Search {
        kind: Some("decision".to_owned()),
        ..Search::default()
    };
    let found = world.server.audit().search(&search).await.unwrap();
    let code = Code::CONNECTION_FLOOD.to_string();
    found.iter().filter(|it| it.record["code"] == code).count()
}

/// Attacks under way at once.
const LANES: usize = 8;

async fn play(attacks: Vec<Attack>, http2: bool) {
    let world = World::new().await;
    let workload = world.workload("hms-api").await;
    let (world, workload) = (&world, &workload);
    let played = stream::iter(attacks.iter().filter(|it| it.is_for("server")))
        .map(|attack| async move {
            let outcome = play_one(world, workload, attack, http2).await;
            let name = attack.name();
            if let Ok(outcome) = &outcome {
                for receipt in &outcome.receipts {
                    let record = world.record(receipt.clone()).await;
                    assert!(record.is_some(), "{name}");
                }
            }
            let next = workload.get("/livez").await;
            assert_eq!(next.status(), 200, "after {name}");
            outcome.map_err(|what| format!("{name}: {what}"))
        })
        .buffer_unordered(LANES)
        .collect::<Vec<_>>()
        .await;
    // Each connection that was ended for a flood is in the record, and no more than were attacked so.
    let ended = played.iter().flatten().filter(|it| it.flood).count();
    let deadline = Instant::now() + PATIENCE;
    while floods(world).await < ended {
        assert!(Instant::now() < deadline, "no record of a flood");
    }
    let attacked = attacks.iter().filter(|it| it.may_flood()).count();
    assert!(floods(world).await <= attacked);
    let wrong: Vec<_> = played.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn play_one(
    world: &World,
    workload: &Workload,
    attack: &Attack,
    http2: bool,
) -> Result<Outcome, String> {
    let server = Expected::Process("server");
    let connector = Connector::mutual(workload.svid.clone(), world.roots(), server).unwrap();
    let alpn = if http2 { "h2" } else { "http/1.1" };
    let stream = dial(connector, world.address, alpn).await;
    if http2 {
        attack.http2(stream, &target()).await
    } else {
        attack.http1(stream, &target()).await
    }
}

#[tokio::test]
async fn http1_at_the_control_port() {
    play(attacks::by_http1(), false).await;
}

#[tokio::test]
async fn http2_at_the_control_port() {
    play(attacks::by_http2(), true).await;
}

#[tokio::test]
async fn what_has_two_readings_is_no_request_to_join() {
    let world = World::new().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = world.server.open_join(any).await.unwrap();
    let pem = world.server.roots_pem();
    let roots = PublicRoots::none().with_pem(pem.as_bytes()).unwrap();
    for (bytes, code) in [
        (
            "POST /v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}".to_owned(),
            Code::MESSAGE_AMBIGUOUS,
        ),
        (
            format!("POST /v1/join HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "b".repeat(9_000)),
            Code::HEAD_TOO_LARGE,
        ),
    ] {
        let connector = Connector::public(&roots).unwrap();
        let mut stream = dial(connector, address, "http/1.1").await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let read = stream.read_to_end(&mut heard);
        let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
        let heard = String::from_utf8(heard).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let mut response = http::Response::builder()
            .status(head.split(' ').nth(1).unwrap());
        for (name, value) in head.split("\r\n").filter_map(|line| line.split_once(": ")) {
            response = response.header(name, value);
        }
        let response = response.body(Bytes::from(body.to_owned())).unwrap();
        world.refused(&response, code).await;
    }
}

#[tokio::test]
async fn tokens_that_nobody_issued_are_looked_at_so_often_and_no_more() {
    let world = World::new().await;
    world.stand_still();
    let forger = world.workload("hms-api").await;
    // Another certificate is another peer, also of the same workload.
    let victim = world.workload("hms-api").await;
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"none"}"#;
    let mut refused = None;
    for number in 0..=UNKNOWN_BURST {
        let signature = [number.to_be_bytes(); 16].concat();
        let token = forge(header, "{}", Signature::Bytes(&signature));
        let answer = forger
            .form("/oauth2/introspect", &[("token", &token)])
            .await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), 200);
    }
    let refused = refused.expect("forged tokens were looked at for ever");
    world.refused(&refused, Code::TOKENS_UNKNOWN).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    // A token that was not looked at is not said to be revoked.
    let token = forge(header, "{}", Signature::Bytes(&[1; 64]));
    let revoked = forger.form("/oauth2/revoke", &[("token", &token)]).await;
    assert_eq!(revoked.status(), 429);
    let vault = Request::get("/v1/secret/data/openai").header("x-vault-token", &token);
    let read = forger.send(vault.body(Bytes::new()).unwrap()).await;
    assert_eq!(read.status(), 429);
    world.refused(&read, Code::TOKENS_UNKNOWN).await;
    let fine = victim
        .form("/oauth2/introspect", &[("token", &token)])
        .await;
    assert_eq!(fine.status(), 200);
}
