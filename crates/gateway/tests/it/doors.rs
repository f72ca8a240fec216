//! Listeners that change while they are used.

use crate::support::Answer;
use crate::support::Cast;
use crate::support::Client;
use crate::support::PATIENCE;
use crate::support::request;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Name;
use countersign_gateway::Doors;
use countersign_gateway::GatewayError;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

fn doors(cast: &Cast) -> Doors {
    cast.gateway.as_ref().unwrap().doors()
}

/// The configuration in force, with one thing in place of another.
fn changed(cast: &Cast, from: &str, to: &str) -> Arc<Snapshot> {
    let mut bundle = cast.point.snapshot().bundle().clone();
    for text in bundle.files.values_mut() {
        assert!(text.contains(from), "{from}");
        *text = text.replace(from, to);
    }
    Arc::new(Snapshot::from_bundle(bundle).unwrap())
}

/// Prepares, puts in force, commits, as a server in the same process does.
fn reload(cast: &Cast, next: &Arc<Snapshot>) {
    let prepared = doors(cast).prepare(next).unwrap();
    cast.point.install(next);
    prepared.commit();
}

const MESH: &str = r#"mesh: { bind: "127.0.0.1:9443", peer: service }"#;
const WEB: &str = r#"web: { bind: "127.0.0.1:8443", peer: browser, login: dev }"#;

fn with_door(name: &str, address: SocketAddr) -> String {
    format!("{MESH}\n  {name}: {{ bind: \"{address}\", peer: service }}")
}

/// An address that is free now; nobody else on this host is given it for a while.
async fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap()
}

fn address(cast: &Cast, door: &str) -> Option<SocketAddr> {
    let found = doors(cast).addresses();
    found
        .into_iter()
        .find(|(name, _)| name.as_str() == door)
        .map(|(_, at)| at)
}

/// What a client that never sends anything twice has seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    connections: AtomicUsize,
    /// What came instead of an answer.
    lost: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// Calls again and again, on one connection as long as the other side keeps it.
async fn load(cast: &Cast, mesh: bool, http2: bool, seen: &Seen) {
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let host = cast.web_host();
    let mesh_headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let web_headers = [("host", host.as_str())];
    let (path, headers, status): (_, &[_], _) = if mesh {
        ("/v1/reports", &mesh_headers, 200)
    } else {
        ("/", &web_headers, 401)
    };
    'connections: while !seen.stop.load(Ordering::SeqCst) {
        let mut client = if mesh {
            cast.dial_mesh(&front, "hms-api", http2).await
        } else {
            cast.dial_web(http2).await
        };
        seen.connections.fetch_add(1, Ordering::SeqCst);
        while !seen.stop.load(Ordering::SeqCst) {
            if !client.is_open().await {
                continue 'connections;
            }
            match client.start(request("GET", path, headers, "")).await {
                Ok(response) => {
                    let answer = Answer::read(response).await;
                    if answer.body.is_ok() && answer.status == status {
                        seen.answers.fetch_add(1, Ordering::SeqCst);
                    } else {
                        let Answer {
                            body,
                            headers,
                            status,
                        } = answer;
                        let lost = format!("{status} {headers:?} {body:?}");
                        seen.lost.lock().push(lost);
                        continue;
                    }
                    if answer
                        .headers
                        .get("connection")
                        .is_some_and(|it| it == "close")
                    {
                        continue 'connections;
                    }
                }
                Err(error) if is_unheard(&error) => continue 'connections,
                Err(error) => seen.lost.lock().push(format!("{error:?}")),
            }
        }
    }
}

/// Whether it was not sent, since the other side had said that it takes no more, or that side says
/// that it has not begun with it: streams above the last one that GOAWAY names (RFC 9113 section
/// 6.8). A stream that ends in the middle is neither.
fn is_unheard(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|it| it.downcast_ref::<h2::Error>());
    let gone = source.is_some_and(|it| {
        it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR)
    });
    gone || error.is_canceled() || error.is_closed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_doors_change_under_load() {
    let cast = Cast::new().await;
    let extra = free().await;
    let changes = [
        changed(
            &cast,
            MESH,
            &MESH.replace(
                "service }",
                "service, limits: { connections: 500, idle: 30s } }",
            ),
        ),
        changed(&cast, MESH, &with_door("second", extra)),
        changed(
            &cast,
            WEB,
            &WEB.replace("dev }", "dev, min_tls: { \"1.2\": \"an old reader\" } }"),
        ),
        changed(
            &cast,
            "GET /v1/**, POST /v1/**]\n  front -> dead",
            "GET /v1/**]\n  front -> dead",
        ),
    ];
    let first = cast.point.snapshot();
    let seen: [Seen; 4] = Default::default();
    let [mesh1, mesh2, web1, web2] = &seen;
    let change = async {
        for round in 0.. {
            for next in changes.iter().chain([&first]) {
                let begun = tokio::time::Instant::now();
                let answers = seen.each_ref().map(|it| it.answers.load(Ordering::SeqCst));
                reload(&cast, next);
                // Each kind of client gets through between two changes.
                while seen
                    .iter()
                    .zip(answers)
                    .any(|(it, before)| it.answers.load(Ordering::SeqCst) < before + 2)
                {
                    assert!(begun.elapsed() < PATIENCE, "somebody gets no answer");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            if round == 9 {
                break;
            }
        }
        for it in &seen {
            it.stop.store(true, Ordering::SeqCst);
        }
    };
    tokio::join!(
        load(&cast, true, false, mesh1),
        load(&cast, true, true, mesh2),
        load(&cast, false, false, web1),
        load(&cast, false, true, web2),
        change
    );
    for (it, what) in seen.iter().zip(["mesh h1", "mesh h2", "web h1", "web h2"]) {
        let count = |it: &AtomicUsize| it.load(Ordering::SeqCst);
        let lost = it.lost.lock();
        assert!(lost.is_empty(), "{what} lost requests: {lost:?}");
        assert!(count(&it.answers) >= 100, "{what}: {}", count(&it.answers));
    }
    let kept = [mesh1, mesh2].map(|it| it.connections.load(Ordering::SeqCst));
    assert_eq!(
        kept,
        [1, 1],
        "a connection was ended that nothing changed for"
    );
    let made = [web1, web2].map(|it| it.connections.load(Ordering::SeqCst));
    assert!(
        made.iter().all(|it| *it > 10),
        "old TLS rules live on: {made:?}"
    );
}

#[tokio::test]
async fn a_door_opens_moves_and_closes_with_the_configuration() {
    let cast = Cast::new().await;
    let (here, there) = (free().await, free().await);
    let mesh = cast.mesh;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let call = async |at: SocketAddr| {
        let gateway = cast.pki.id("countersign/gateway/gw");
        let connector = Connector::mutual(front.clone(), cast.roots.clone(), gateway).unwrap();
        Client::open(connector, at, "hms-api", false).await.unwrap()
    };
    let first = cast.point.snapshot();
    let second = changed(&cast, MESH, &with_door("second", here));
    assert!(connect(here).await.is_err());
    reload(&cast, &second);
    assert_eq!(address(&cast, "second"), Some(here));
    let mut client = call(here).await;
    let answer = client
        .send(request("GET", "/v1/reports", &headers, ""))
        .await;
    assert_eq!(answer.status, 200);

    reload(&cast, &first.clone());
    let moved = changed(&cast, MESH, &with_door("second", there));
    reload(&cast, &moved);
    assert_eq!(address(&cast, "second"), Some(there));
    closed(here).await;
    let ended = async {
        while client.is_open().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    ended.expect("a kept connection outlives its door");
    assert_eq!(
        call(there)
            .await
            .send(request("GET", "/v1/reports", &headers, ""))
            .await
            .status,
        200
    );

    // Under way when the door goes: it is answered in full.
    let mut slow = call(there).await;
    let mut answer = slow
        .start(request("GET", "/v1/halting", &headers, ""))
        .await
        .unwrap();
    let begun = answer.frame().await.unwrap().unwrap();
    assert_eq!(begun.into_data().unwrap(), "begun, ");
    reload(&cast, &first);
    closed(there).await;
    let rest = answer.collect().await.unwrap();
    assert_eq!(rest.to_bytes(), "done");
    assert_eq!(address(&cast, "second"), None);
    assert_eq!(address(&cast, "mesh"), Some(mesh));
}

async fn connect(address: SocketAddr) -> Result<TcpStream, countersign_net::dial::DialError> {
    let target = Target {
        host: address.ip().to_string(),
        network: Network::Loopback,
        port: address.port(),
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    Dialer.connect(&target, deadline).await
}

/// Waits until nobody listens there.
async fn closed(address: SocketAddr) {
    let refused = async {
        while connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_bound_changes_nothing() {
    let cast = Cast::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (taken_at, free_at) = (taken.local_addr().unwrap(), free().await);
    let both = format!(
        "{}\n  afree: {{ bind: \"{free_at}\", peer: service }}",
        with_door("second", taken_at)
    );
    let before = doors(&cast).addresses();
    let next = changed(&cast, MESH, &both);
    let failed = doors(&cast).prepare(&next).unwrap_err();
    let GatewayError::Bind { address, name, .. } = &failed else {
        panic!("{failed}")
    };
    assert_eq!((*address, name), (taken_at, &Name::new("second").unwrap()));
    assert!(
        failed.to_string().contains(&taken_at.to_string()),
        "{failed}"
    );
    assert_eq!(doors(&cast).addresses(), before);
    closed(free_at).await;
    drop(taken);
    // Prepared and dropped is as if it had never been.
    drop(doors(&cast).prepare(&next).unwrap());
    closed(free_at).await;
    reload(&cast, &next);
    assert_eq!(doors(&cast).addresses().len(), before.len() + 2);
}

#[tokio::test]
async fn tls_sessions_end_with_the_rules_they_began_under() {
    let cast = Cast::new().await;
    let roots = countersign_net::PublicRoots::none()
        .with_pem(cast.pki.root_pem().as_bytes())
        .unwrap();
    // One connector keeps the tickets it is given.
    let connector = Connector::public(&roots)
        .and_then(|it| it.with_alpn(&["http/1.1"]))
        .unwrap();
    let resumed = async |connector: &Connector| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let stream = connect(cast.web).await.unwrap();
        let (mut stream, established) = connector
            .connect(stream, "localhost", deadline)
            .await
            .unwrap();
        // The tickets come after the handshake, with the first bytes.
        let ask = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            cast.web_host()
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, ask.as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(read.is_ok(), "{read:?} after {text}");
        assert!(text.starts_with("HTTP/1.1 "), "{text}");
        format!("{established:?}").contains("resumed: true")
    };
    assert!(!resumed(&connector).await);
    assert!(
        resumed(&connector).await,
        "sessions are resumed where nothing changed"
    );
    let other = changed(
        &cast,
        WEB,
        &WEB.replace("dev }", "dev, limits: { idle: 20s } }"),
    );
    reload(&cast, &other);
    assert!(resumed(&connector).await, "limits prove nothing");
    let first = changed(
        &cast,
        "dev, limits: { idle: 20s } }",
        "dev, min_tls: { \"1.2\": \"an old reader\" } }",
    );
    let limited = cast.point.snapshot();
    reload(&cast, &first);
    reload(&cast, &limited);
    assert!(!resumed(&connector).await, "a session outlived its rules");
    assert!(resumed(&connector).await);
}
