//! What is counted, and that nobody outside chooses its names.

use crate::door::code;
use crate::exposition::Metrics;
use crate::scene::Scene;
use countersign_testkit::not_run;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;

const OPEN: &str = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\
                    accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n";

/// The names that dashboards and alerts are built on, where there is no budget.
const NAMES: [&str; 19] = [
    "countersign_audit_append_duration_seconds",
    "countersign_audit_tree_size",
    "countersign_audit_unshipped_records",
    "countersign_build",
    "countersign_certificate_not_after_timestamp_seconds",
    "countersign_config_last_reload_successful",
    "countersign_decision_duration_seconds",
    "countersign_denials",
    "countersign_draining",
    "countersign_open_streams",
    "countersign_overhead_duration_seconds",
    "countersign_ready",
    "countersign_refusals_counted",
    "countersign_requests",
    "countersign_revocation_propagation_seconds",
    "countersign_spool_bytes",
    "countersign_spool_free_bytes",
    "countersign_trace_spans",
    "countersign_upstream_duration_seconds",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_are_counted_by_what_policy_has_a_name_for() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    for _ in 0..3 {
        assert_eq!(code(&scene.call("/items/1", &token).await), None);
    }
    let refused = scene.call("/canary/nobody-has-this", &token).await;
    assert_eq!(code(&refused).as_deref(), Some("CSD401"));
    // Not TLS: nobody knows what a stranger wants, and nobody counts by what it says.
    let mut stranger = TcpStream::connect(("127.0.0.1", scene.site.mesh)).unwrap();
    stranger
        .write_all(b"GET /canary HTTP/1.1\r\nhost: canary\r\n\r\n")
        .unwrap();
    let counted = r#"countersign_requests_total{route="-""#;
    let answer = scene
        .until("/metrics", |it| it.body.contains(counted))
        .await;
    assert!(
        answer.head.contains("text/plain; version=0.0.4"),
        "{answer:?}"
    );
    let metrics = Metrics::prometheus(&answer.body);
    let requests = |labels: &[(&str, &str)]| metrics.sum("countersign_requests_total", labels);
    let served = [
        ("route", "api GET /items/**"),
        ("peer", "caller"),
        ("decision", "allow"),
    ];
    assert!((requests(&served) - 3.0).abs() < 0.5, "{}", answer.body);
    let denied = [("route", "api -"), ("peer", "caller"), ("decision", "deny")];
    assert!((requests(&denied) - 1.0).abs() < 0.5, "{}", answer.body);
    let why = [
        ("pillar", "micro-segmentation"),
        ("code", "CSD401"),
        ("route", "api -"),
    ];
    let denials = metrics.sum("countersign_denials_total", &why);
    assert!((denials - 1.0).abs() < 0.5, "{}", answer.body);
    assert!(
        requests(&[("route", "-"), ("decision", "deny")]) >= 1.0,
        "{}",
        answer.body
    );
    assert!(
        !answer.body.contains("canary"),
        "a caller's text is a label"
    );
    let calls = metrics.sum(
        "countersign_upstream_duration_seconds_count",
        &[("service", "api")],
    );
    assert!((calls - 3.0).abs() < 0.5, "{}", answer.body);
    for (name, labels) in [
        ("countersign_overhead_duration_seconds_count", &[][..]),
        ("countersign_audit_append_duration_seconds_count", &[]),
        (
            "countersign_decision_duration_seconds_count",
            &[("pillar", "audit")],
        ),
        (
            "countersign_certificate_not_after_timestamp_seconds",
            &[("name", "server")],
        ),
        (
            "countersign_certificate_not_after_timestamp_seconds",
            &[("name", "gateway/main")],
        ),
        ("countersign_config_last_reload_successful", &[]),
        ("countersign_ready", &[]),
        ("countersign_spool_free_bytes", &[]),
        ("countersign_build_info", &[("role", "all")]),
    ] {
        assert!(
            metrics.sum(name, labels) > 0.0,
            "{name} {labels:?}: {}",
            answer.body
        );
    }
    for label in ["user", "subject", "sub", "path"] {
        assert!(metrics.values(label).is_empty(), "{label}");
    }
    promtool(&answer.body);

    let answer = scene.ask(OPEN);
    assert!(
        answer.head.contains("application/openmetrics-text"),
        "{answer:?}"
    );
    let metrics = Metrics::open_metrics(&answer.body);
    let names: Vec<_> = metrics.names().into_iter().collect();
    assert_eq!(names, NAMES);
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_and_a_failed_reload_are_measured() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    scene.site.ok(&["identity", "revoke", "identity", "caller"]);
    let refused = scene.call("/items/1", &token).await;
    assert_eq!(code(&refused).as_deref(), Some("CSD303"));
    let measured = |name: &str, labels: &[(&str, &str)]| {
        Metrics::prometheus(&scene.get("/metrics").body).sum(name, labels)
    };
    let taken = measured("countersign_revocation_propagation_seconds_count", &[]);
    assert!((taken - 1.0).abs() < 0.5, "{taken}");
    let denied = [("pillar", "continuous-verification"), ("code", "CSD303")];
    assert!(measured("countersign_denials_total", &denied) >= 1.0);

    let file = scene.site.path().join("countersign.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    let reloaded = || measured("countersign_config_last_reload_successful", &[]);
    assert!(reloaded() > 0.5);
    // An address that somebody else has: it is right in itself and can't be put in force.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let bound = format!("127.0.0.1:{}", scene.site.mesh);
    std::fs::write(&file, good.replace(&bound, &format!("127.0.0.1:{port}"))).unwrap();
    assert!(!scene.site.run(&["reload"]).status.success());
    assert!(reloaded() < 0.5);
    std::fs::write(&file, format!("{good}# changed\n")).unwrap();
    scene.site.ok(&["reload"]);
    assert!(reloaded() > 0.5);
    scene.running.stop();
}

/// The judge of Prometheus itself, where it is installed.
fn promtool(text: &str) {
    let judge = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut judge) = judge else {
        not_run("promtool (Debian: prometheus) is not installed");
        return;
    };
    judge
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
