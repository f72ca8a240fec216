//! `check`: what it accepts, what it says otherwise.

use crate::support::Place;

const GOOD: &str = include_str!("../../src/cli/init.yaml");

#[test]
fn what_init_writes_is_sound() {
    let place = Place::new();
    place.write("countersign.yaml", GOOD);
    let done = place.run(&["check", "--strict"]).ok();
    assert_eq!(
        done.out,
        "✔ countersign.yaml: 0 errors, 0 warnings, 5 of 5 tests hold\n"
    );
    assert_eq!(done.err, "");
    let explained = place.run(&["check", "--explain"]).ok();
    insta::assert_snapshot!(explained.out);
}

#[test]
fn a_broken_sentence_is_4_and_says_why() {
    let place = Place::new();
    let broken = GOOD.replace("expect: deny least-privilege", "expect: allow");
    assert_ne!(broken, GOOD);
    place.write("countersign.yaml", &broken);
    let done = place.run(&["check"]);
    assert_eq!((done.code, done.out.as_str()), (4, ""));
    insta::assert_snapshot!(done.err);
}

#[test]
fn every_error_is_told_at_once() {
    let place = Place::new();
    let broken = GOOD
        .replace("web          -> hms-api", "web -> hms-apo")
        .replace("\"stats:read\"] }", "\"stats:raed\"] }");
    place.write("broken.yaml", &broken);
    let done = place.run(&["check", "-c", "broken.yaml"]);
    assert_eq!((done.code, done.out.as_str()), (4, ""));
    assert!(
        done.err.contains("error[CS0203]") && done.err.contains("error[CS0305]"),
        "{}",
        done.err
    );
    assert!(done.err.contains("did you mean `hms-api`?"), "{}", done.err);
    let json = place.run(&["check", "-c", "broken.yaml", "-o", "json"]);
    assert_eq!(json.code, 4);
    let document = json.document("countersign.check/v1");
    assert_eq!(document["sound"], false);
    assert!(document["diagnostics"].as_array().unwrap().len() >= 2);
}

#[test]
fn warnings_pass_unless_strict() {
    let place = Place::new();
    let doubtful = GOOD.replace(
        "may: [\"stats:read\"]",
        "may: [\"stats:read\", \"never:needed\"]",
    );
    assert_ne!(doubtful, GOOD);
    place.write("countersign.yaml", &doubtful);
    let done = place.run(&["check"]).ok();
    assert!(done.err.contains("warning[CS0353]"), "{}", done.err);
    assert_eq!(place.run(&["check", "--strict"]).code, 4);
    assert_eq!(
        place
            .run_with(&["check"], &[("COUNTERSIGN_STRICT", "true")], "")
            .code,
        4
    );
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_the_check() {
    let done = Place::new().run(&["check", "-c", "nowhere.yaml"]);
    assert_eq!(done.code, 4);
    assert!(
        done.err.contains("CS0501") && done.err.contains("no such file"),
        "{}",
        done.err
    );
}
