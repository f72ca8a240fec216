//! `ZT_OFF` works in development and nowhere else.

use crate::support::Done;
use crate::support::Place;

const DEV: &str = include_str!("../../src/cli/init.yaml");
const PROD: &str = r#"
trust_domain: hms.internal
environment: prod
listeners: { mesh: { bind: "127.0.0.1:9443", peer: service } }
identities: { stats-worker: {} }
services: { hms-api: { peer: service, url: "http://127.0.0.1:8000", needs: edge } }
edges: { stats-worker -> hms-api: [GET /stats] }
"#;

fn up(file: &str, args: &[&str], env: &[(&str, &str)]) -> (Place, Done) {
    let place = Place::new();
    place.write("countersign.yaml", file);
    let args = [&["up", "--control", "127.0.0.1:0"], args].concat();
    let done = place.run_with(&args, env, "");
    (place, done)
}

fn nothing_was_started(place: &Place, done: &Done) {
    assert_eq!(done.code, 2, "{done:?}");
    assert_eq!(done.out, "", "{done:?}");
    assert!(done.err.contains("ZT_OFF"), "{}", done.err);
    assert!(
        !place.path().join(".countersign").exists(),
        "keys were made"
    );
    assert!(!place.path().join("data").exists(), "keys were made");
}

#[test]
fn not_in_production() {
    let data = &["--data", "data", "--socket", "s.sock"];
    for value in ["true", "1", "TRUE"] {
        let (place, done) = up(PROD, data, &[("ZT_OFF", value)]);
        nothing_was_started(&place, &done);
        assert!(done.err.contains("`environment` is `prod`"), "{}", done.err);
    }
}

#[test]
fn not_where_software_is_built() {
    for ci in ["true", "1", "woodpecker"] {
        let (place, done) = up(DEV, &[], &[("ZT_OFF", "true"), ("CI", ci)]);
        nothing_was_started(&place, &done);
        assert!(done.err.contains("`CI`"), "{}", done.err);
    }
    let (place, done) = up(DEV, &["--dev"], &[("ZT_OFF", "1"), ("CI", "true")]);
    nothing_was_started(&place, &done);
}

#[test]
fn not_by_a_slip_of_the_finger() {
    let (place, done) = up(DEV, &[], &[("ZT_OFF", "ture")]);
    nothing_was_started(&place, &done);
}

#[test]
fn a_production_file_refuses_dev() {
    let (place, done) = up(PROD, &["--dev"], &[]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("CS0311"), "{}", done.err);
    assert!(!place.path().join(".countersign").exists());
}

#[test]
fn in_development_every_door_is_on_loopback() {
    let place = Place::new();
    place.write("countersign.yaml", DEV);
    let done = place.run(&["up", "--control", "0.0.0.0:0"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("loopback"), "{}", done.err);
    place.write(
        "countersign.yaml",
        &DEV.replace("127.0.0.1:9443", "0.0.0.0:9443"),
    );
    let done = place.run(&["up"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("CS0309"), "{}", done.err);
}
