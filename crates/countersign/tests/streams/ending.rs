//! Whatever is revoked, by whichever name, every kind of stream that stands on it ends, in the way
//! its protocol has for that, and its record says why.

use crate::caller::Connection;
use crate::caller::Door;
use crate::pipe::Pipe;
use crate::place::DOMAIN;
use crate::place::Place;
use crate::place::Roles;
use crate::stream::ALL;
use crate::stream::BROWSER;
use crate::stream::Kind;
use crate::stream::Stream;
use crate::stream::receipt;
use crate::upstream::Upstream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde_json::Value;
use std::time::Duration;

/// Who is revoked in which way, and the codes that may say so: a workload is its own subject, so
/// whichever is looked at first.
const WAYS: [(&str, &[&str]); 6] = [
    ("token", &["CSD301"]),
    ("subject", &["CSD302", "CSD303"]),
    ("identity", &["CSD302", "CSD303"]),
    ("certificate", &["CSD303"]),
    ("edge", &["CSD401"]),
    ("issuer", &["CSD303"]),
];

fn configuration(place: &Place, upstream: &Upstream, without: &str) {
    let names = [
        "loader",
        "by-token",
        "by-subject",
        "by-identity",
        "by-certificate",
    ];
    let names = [&names[..], &["by-edge", "by-issuer"]].concat();
    let ways = names.iter().filter(|name| **name != without);
    let edges = ways.map(|name| format!("  {name} -> api: [GET /**, POST /**, connect]\n"));
    let edges: String = edges.collect();
    let all = names.join(", ");
    let listed = names.iter().map(|name| format!("{name}: {{}}"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    place.configure(
        &format!(
            "  web: {{ bind: \"127.0.0.1:{}\", peer: browser, hosts: [localhost], login: dev }}\n",
            place.web
        ),
        &format!(
            "identities: {{ {listed} }}
roles: {{ reader: {{ members: [{all}, \"user:alice\"], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /**: {{ needs: \"item:read\" }}, POST /**: {{ needs: \"item:read\" }}, connect: {{ needs: \"item:read\" }} }}
edges:
  web -> api: [GET /**]
{edges}",
            upstream.port
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_stream_ends_in_its_own_way() {
    let upstream = Upstream::start().await;
    let place = Place::new(Roles::Together);
    configuration(&place, &upstream, "");
    let running = place.start();
    let (loader, _) = place.issue("loader");
    let door = Door::mesh(&loader, place.mesh);
    let bearer = format!("Bearer {}", place.token(&loader).await);
    let shown = [("authorization", bearer.as_str())];
    // Somebody who has nothing to do with it.
    let other = Stream::open(Kind::Events(true), &door, &shown, &upstream).await;
    session(&place, &loader, &upstream).await;
    for (way, codes) in WAYS {
        assert!(!other.following.is_finished(), "it ended before {way}");
        revoked(&place, &upstream, way, codes).await;
    }
    // But its certificate has the same issuer.
    let (kind, ended) = other.ended().await;
    kind.check(&ended.how, &["CSD303"]);
    drop(running);
}

/// Opens one of each kind, revokes, and looks at each end.
async fn revoked(place: &Place, upstream: &Upstream, way: &str, codes: &[&str]) {
    let (identity, issued) = place.issue(&format!("by-{way}"));
    let door = Door::mesh(&identity, place.mesh);
    let token = place.token(&identity).await;
    let bearer = format!("Bearer {token}");
    let shown = [("authorization", bearer.as_str())];
    let mut kept = [
        door.open(false).await.unwrap(),
        door.open(true).await.unwrap(),
    ];
    for connection in &mut kept {
        assert_eq!(ask(connection, &shown).await.status(), 200, "{way}");
    }
    // A second session of TLS, resumed from the first one's ticket.
    let mut again = door.open(false).await.unwrap();
    assert!(again.resumed, "{way}: no session was resumed");
    let answer = ask(&mut again, &shown).await;
    assert_eq!(answer.status(), 200, "{way}");
    let record = place.json(&["audit", "show", &receipt(answer.headers())]);
    let issuer = &record["record"]["record"]["hop"]["evidence"]["peer"];
    let mut streams = Vec::new();
    for kind in ALL {
        streams.push(Stream::open(kind, &door, &shown, upstream).await);
    }
    assert!(
        streams.iter().all(|it| !it.following.is_finished()),
        "{way}"
    );
    let subject = format!("spiffe://{DOMAIN}/by-{way}");
    match way {
        "edge" => {
            configuration(place, upstream, "by-edge");
            place.told(&["reload"]).await;
        }
        _ => {
            let value = match way {
                "token" => jti(&token),
                "subject" | "identity" => subject,
                "certificate" => issued["leaf"].as_str().unwrap().to_owned(),
                _ => text_below(issuer, "issuer").expect("no issuer in the record"),
            };
            let said = place.told(&["identity", "revoke", way, &value]).await;
            let ended = usize::try_from(said["ended"].as_u64().unwrap()).unwrap();
            assert!(ended >= ALL.len(), "{way}: {said}");
        }
    }
    // Kept connections, a resumed session and a cached token get nothing more.
    for connection in kept.iter_mut().chain([&mut again]) {
        let answer = ask(connection, &shown).await;
        let told = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(
            codes.iter().any(|code| told.contains(code)),
            "{way}: {told}"
        );
    }
    let mut ends = Vec::new();
    for stream in streams {
        if way == "edge" && !stream.kind.is_stream() {
            // It finishes on the policy it began on.
            assert!(!stream.following.is_finished(), "{way}: {:?}", stream.kind);
            stream.following.abort();
            continue;
        }
        let (kind, ended) = stream.ended().await;
        kind.check(&ended.how, codes);
        ends.push((kind, ended.receipt));
    }
    recorded(place, &ends, codes).await;
    println!("{way}: {} kinds ended", ends.len());
}

/// Streams of a person end with their session.
async fn session(place: &Place, roots: &std::path::Path, upstream: &Upstream) {
    let door = Door::web(roots, place.web);
    let cookie = sign_in(&door).await;
    let origin = format!("https://localhost:{}", place.web);
    let shown = [
        ("cookie", cookie.as_str()),
        ("origin", origin.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("accept", "application/json"),
    ];
    let mut kept = door.open(false).await.unwrap();
    let answer = ask(&mut kept, &shown).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let record = place.json(&["audit", "show", &receipt(answer.headers())]);
    let sid = text_below(&record, "sid").expect("no session in the record");
    let mut streams = Vec::new();
    for kind in BROWSER {
        streams.push(Stream::open(kind, &door, &shown, upstream).await);
    }
    place.told(&["identity", "revoke", "session", &sid]).await;
    let answer = ask(&mut kept, &shown).await;
    assert_ne!(answer.status(), 200, "{answer:?}");
    let mut ends = Vec::new();
    for stream in streams {
        let (kind, ended) = stream.ended().await;
        kind.check(&ended.how, &["CSD304"]);
        ends.push((kind, ended.receipt));
    }
    recorded(place, &ends, &["CSD304"]).await;
}

/// The records of the ends say why, and how much there was.
async fn recorded(place: &Place, ends: &[(Kind, String)], codes: &[&str]) {
    let completions = place
        .completions(ends.iter().map(|(_, receipt)| receipt))
        .await;
    for ((kind, _), completion) in ends.iter().zip(completions) {
        told(*kind, &completion, codes);
    }
}

fn told(kind: Kind, completion: &Value, codes: &[&str]) {
    assert_eq!(completion["ending"], "cut", "{kind:?}: {completion}");
    let code = completion["code"].as_str().unwrap();
    assert!(codes.contains(&code), "{kind:?}: {completion}");
    let some = |name: &str| completion[name].as_u64().unwrap() > 0;
    let (input, output) = match kind {
        Kind::GrpcClient => (true, false),
        Kind::Long(_) | Kind::Events(_) | Kind::GrpcServer => (false, true),
        _ => (true, true),
    };
    assert!(!input || some("bytes_in"), "{kind:?}: {completion}");
    assert!(!output || some("bytes_out"), "{kind:?}: {completion}");
    if kind.has_messages() {
        assert!(!input || some("messages_in"), "{kind:?}: {completion}");
        assert!(!output || some("messages_out"), "{kind:?}: {completion}");
    }
    assert_eq!(completion["attempts"], 1, "{kind:?}: {completion}");
}

async fn ask(connection: &mut Connection, fields: &[(&str, &str)]) -> Response<Bytes> {
    let request = connection.request("GET", "/items/1", fields);
    assert!(connection.is_open().await, "a kept connection was closed");
    let answer = connection.send(request.body(Pipe::empty()).unwrap()).await;
    let (head, body) = answer.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// The first text under this name, however deep.
fn text_below(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let here = fields.get(name).and_then(Value::as_str).map(str::to_owned);
            here.or_else(|| fields.values().find_map(|it| text_below(it, name)))
        }
        Value::Array(items) => items.iter().find_map(|it| text_below(it, name)),
        _ => None,
    }
}

pub(crate) fn jti(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

/// Signs Alice in on the page of `login: dev`; the session's cookie.
async fn sign_in(web: &Door) -> String {
    let mut connection = web.open(false).await.unwrap();
    let page = connection.request("GET", "/.countersign/login", &[]);
    let page = connection.send(page.body(Pipe::empty()).unwrap()).await;
    let (head, body) = page.unwrap().into_parts();
    let proof = cookie(&head.headers, "__Host-cs-form=");
    let html = body.collect().await.unwrap().to_bytes();
    let html = String::from_utf8_lossy(&html).into_owned();
    let form = html.split("name=\"form\" value=\"").nth(1).unwrap();
    let form = form.split('"').next().unwrap();
    let body = format!("form={form}&return=%2F&member=user%3Adev%2Falice");
    let fields = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("cookie", proof.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let post = connection.request("POST", "/.countersign/login", &fields);
    let body = Pipe::whole([Frame::data(Bytes::from(body))]);
    let answer = tokio::time::timeout(
        Duration::from_secs(60),
        connection.send(post.body(body).unwrap()),
    );
    cookie(answer.await.unwrap().unwrap().headers(), "__Host-cs=")
}

fn cookie(fields: &http::HeaderMap, start: &str) -> String {
    let set = fields.get_all("set-cookie").iter();
    let mut pairs = set.map(|it| it.to_str().unwrap().split(';').next().unwrap());
    let found = pairs.find(|pair| pair.starts_with(start));
    found
        .unwrap_or_else(|| panic!("no cookie {start}: {fields:?}"))
        .to_owned()
}
