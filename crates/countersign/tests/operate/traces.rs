//! Spans at a collector that reads the wire and knows no types of ours.

use crate::door::Door;
use crate::door::code;
use crate::door::receipt;
use crate::exposition::Metrics;
use crate::scene::PATIENCE;
use crate::scene::Scene;
use countersign_testkit::collector::Collector;
use countersign_testkit::collector::Field;
use countersign_testkit::collector::Fields;
use countersign_testkit::collector::fields;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

/// A span by the field numbers of `opentelemetry/proto/trace/v1/trace.proto`.
#[derive(Debug)]
pub(crate) struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    start: u64,
    end: u64,
    attributes: BTreeMap<String, String>,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_two_spans_of_the_callers_trace() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let scene = Scene::new(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20clinic"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]);
    let bearer = format!("Bearer {}", scene.token());
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [
        ("authorization", bearer.as_str()),
        ("traceparent", &traceparent),
    ];
    let mut mesh = scene.mesh().await;
    let path = "/items/7?q=canary-query";
    let answer = mesh.ask(("GET", path), &headers, "").await.unwrap();
    assert_eq!(code(&answer), None);
    let refused = mesh.ask(("GET", "/nothing"), &headers, "").await.unwrap();
    assert_eq!(code(&refused).as_deref(), Some("CSD401"));
    let told = scene.application.last();
    scene.running.stop();

    let taken = collector.taken();
    assert!(!taken.is_empty(), "nothing was exported before the end");
    for request in &taken {
        assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(request.fields["content-type"], "application/x-protobuf");
        assert_eq!(request.fields["x-tenant"], "a clinic");
        assert!(!holds(&request.body, "canary"), "a query is in a span");
    }
    let spans = spans(&collector);
    let of_trace: Vec<_> = spans.iter().filter(|it| it.trace == TRACE).collect();
    assert_eq!(of_trace.len(), 3, "{spans:#?}");
    let by_receipt = |receipt: &str| {
        let mut found = of_trace.iter();
        let is = |it: &&&Span| {
            it.attributes
                .get("countersign.receipt")
                .is_some_and(|r| r == receipt)
        };
        *found
            .find(is)
            .unwrap_or_else(|| panic!("{receipt}: {spans:#?}"))
    };
    let server = by_receipt(&receipt(&answer));
    assert_eq!((server.kind, server.parent.as_str()), (SERVER, PARENT));
    assert_eq!(server.name, "GET /items/**");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.scheme", "https"),
        ("network.protocol.version", "1.1"),
        ("countersign.route", "api GET /items/**"),
        ("countersign.service", "api"),
        ("countersign.door", "mesh"),
    ] {
        assert_eq!(server.attributes[key], value, "{server:#?}");
    }
    let client = of_trace.iter().find(|it| it.kind == CLIENT).unwrap();
    assert_eq!(client.parent, server.id);
    assert_eq!(client.attributes["http.response.status_code"], "200");
    assert!(
        server.start <= client.start && client.end <= server.end,
        "{spans:#?}"
    );
    let sent = format!("traceparent: 00-{TRACE}-{}-01", client.id);
    assert!(told.contains(&sent), "{told}");
    let denied = by_receipt(&receipt(&refused));
    assert_eq!(denied.attributes["countersign.code"], "CSD401");
    assert_eq!(
        denied.attributes["countersign.pillar"],
        "micro-segmentation"
    );
    assert_eq!(denied.attributes["countersign.route"], "api -");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_chooses_no_trace() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let scene = Scene::new(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let door = Door::browser(&scene.identity, scene.site.web);
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("accept", "application/json"),
    ];
    let mut web = door.http2().await.unwrap();
    let answer = web.ask(("GET", "/app/1"), &headers, "").await.unwrap();
    assert!(code(&answer).is_some(), "{answer:?}");
    scene.running.stop();
    let spans = spans(&collector);
    let of_door = spans
        .iter()
        .filter(|it| it.attributes["countersign.door"] == "web");
    assert!(of_door.count() > 0, "{spans:#?}");
    assert!(
        spans
            .iter()
            .all(|it| it.trace != TRACE && it.parent != PARENT),
        "{spans:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nobody() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let scene = Scene::new(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ]);
    let token = scene.token();
    let begun = Instant::now();
    loop {
        assert_eq!(code(&scene.call("/items/1", &token).await), None);
        let metrics = Metrics::prometheus(&scene.get("/metrics").body);
        let lost = |outcome| metrics.sum("countersign_trace_spans_total", &[("outcome", outcome)]);
        if lost("dropped") > 0.0 && lost("failed") > 0.0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is dropped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_meant_does_not_start() {
    let site = crate::scene::site(1);
    for (name, value) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://collector.example:4318",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ] {
        let env = [
            ("COUNTERSIGN_METRICS", "off"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            (name, value),
        ];
        let (code, said) = site.refuses(&[], &env);
        assert_eq!(code, 2, "{name}: {said}");
        assert!(said.contains(name), "{said}");
    }
}

fn spans(collector: &Collector) -> Vec<Span> {
    let mut found = Vec::new();
    for request in collector.taken() {
        let export = fields(&request.body).expect("not protobuf");
        for resource in messages(&export, 1) {
            let [about] = messages(&resource, 1).try_into().unwrap();
            assert_eq!(attributes(&about, 1)["service.name"], "countersign");
            for scope in messages(&resource, 2) {
                found.extend(messages(&scope, 2).iter().map(span));
            }
        }
    }
    found
}

fn span(of: &Fields) -> Span {
    let hex = |number| hex::encode(bytes(of, number));
    let number = |number| match of[&number].as_slice() {
        [Field::Number(it)] => *it,
        other => panic!("{other:?}"),
    };
    let span = Span {
        trace: hex(1),
        id: hex(2),
        parent: hex(4),
        name: String::from_utf8(bytes(of, 5)).unwrap(),
        kind: number(6),
        start: number(7),
        end: number(8),
        attributes: attributes(of, 9),
    };
    assert_eq!((span.trace.len(), span.id.len()), (32, 16), "{span:?}");
    assert!(span.start > 0 && span.start <= span.end, "{span:?}");
    span
}

/// `KeyValue { key = 1, value = 2 }`, where a value is text (1) or a number (3).
fn attributes(of: &Fields, number: u64) -> BTreeMap<String, String> {
    let pairs = messages(of, number).into_iter().map(|pair| {
        let key = String::from_utf8(bytes(&pair, 1)).unwrap();
        let [value] = messages(&pair, 2).try_into().unwrap();
        let value = match (value.get(&1), value.get(&3)) {
            (Some(_), None) => String::from_utf8(bytes(&value, 1)).unwrap(),
            (None, Some(number)) => match number.as_slice() {
                [Field::Number(it)] => it.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        (key, value)
    });
    pairs.collect()
}

fn messages(of: &Fields, number: u64) -> Vec<Fields> {
    let found = of.get(&number).into_iter().flatten();
    let found = found.map(|it| match it {
        Field::Bytes(bytes) => fields(bytes).expect("no message"),
        other @ Field::Number(_) => panic!("{other:?}"),
    });
    found.collect()
}

fn bytes(of: &Fields, number: u64) -> Vec<u8> {
    match of.get(&number).map(Vec::as_slice) {
        None => Vec::new(),
        Some([Field::Bytes(bytes)]) => bytes.clone(),
        Some(other) => panic!("{other:?}"),
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}
