//! `diff`, `policy`, `map` and the explanations: what a configuration means, before it is in force
//! and after.

use crate::support::Place;

const GOOD: &str = include_str!("../../src/cli/init.yaml");

fn place(files: &[(&str, String)]) -> Place {
    let place = Place::new();
    for (name, text) in files {
        place.write(name, text);
    }
    place
}

fn edited(from: &str, to: &str) -> String {
    let text = GOOD.replace(from, to);
    assert_ne!(text, GOOD);
    text
}

#[test]
fn a_difference_says_what_allows_more() {
    let more = edited(
        "stats-worker -> hms-api: [GET /stats]",
        "stats-worker -> hms-api: [GET /stats, GET /reports/**]",
    );
    let less = GOOD
        .lines()
        .filter(|line| !line.contains("the worker has no vault"));
    let less = less.collect::<Vec<_>>().join("\n");
    let place = place(&[
        ("old.yaml", GOOD.to_owned()),
        ("same.yaml", format!("# another comment\n{GOOD}")),
        ("more.yaml", more),
        ("less.yaml", less),
    ]);
    let same = place
        .line("diff same.yaml --against old.yaml --exit-code")
        .ok();
    assert_eq!(
        (same.out.as_str(), same.err.as_str()),
        ("old.yaml -> same.yaml: no difference\n", "")
    );
    let more = place.line("diff more.yaml --against old.yaml").ok();
    assert!(
        more.out
            .contains("~ edge stats-worker -> hms-api   allows more   more.yaml:34"),
        "{}",
        more.out
    );
    assert!(more.out.ends_with("+ 0  ~ 1 edge  - 0\n"), "{}", more.out);
    assert!(
        more.err
            .contains("warning: 1 change allows more than before"),
        "{}",
        more.err
    );
    let coded = place.line("diff more.yaml --against old.yaml --exit-code -o json");
    assert_eq!(coded.code, 4);
    let document = coded.document("countersign.diff/v1");
    assert_eq!(document["same"], false);
    assert_eq!(document["loosens"], true);
    assert_eq!(document["difference"]["loosens"][0]["section"], "edge");
    let back = place.line("diff old.yaml --against more.yaml").ok();
    assert!(!back.err.contains("allows more"), "{}", back.err);
    let less = place.line("diff less.yaml --against old.yaml").ok();
    assert!(
        less.err.contains("tests removed: the worker has no vault"),
        "{}",
        less.err
    );
}

#[test]
fn a_difference_needs_two_sound_files_and_somebody_to_ask() {
    let place = place(&[
        ("countersign.yaml", GOOD.to_owned()),
        (
            "broken.yaml",
            edited("hms-api: [GET /stats]", "hms-apo: [GET /stats]"),
        ),
    ]);
    let broken = place.line("diff broken.yaml --against countersign.yaml");
    assert_eq!(broken.code, 4);
    assert!(broken.err.contains("CS0203"), "{}", broken.err);
    assert_eq!(place.line("diff --against nowhere.yaml").code, 4);
    let nobody = place.line("diff --socket nowhere.sock");
    assert_eq!(nobody.code, 6, "{nobody:?}");
}

#[test]
fn one_question_is_0_or_3() {
    let place = place(&[("countersign.yaml", GOOD.to_owned())]);
    let ask = |args: &[&str]| place.run(&[&["policy", "eval"], args].concat());
    let allowed = ask(&[
        "--as",
        "group:analysts",
        "--via",
        "web",
        "--call",
        "GET hms-api/reports/42",
    ])
    .ok();
    assert_eq!(allowed.out.matches('✔').count(), 5, "{}", allowed.out);
    assert!(allowed.out.contains("- audit"), "{}", allowed.out);
    assert!(
        allowed.out.contains("rule  web -> hms-api   line 33"),
        "{}",
        allowed.out
    );
    let refused = ask(&[
        "--as",
        "group:analysts",
        "--via",
        "web",
        "--call",
        "POST hms-api/reports",
        "-o",
        "json",
    ]);
    assert_eq!(refused.code, 3);
    let document = refused.document("countersign.evaluation/v1");
    assert_eq!(document["answer"], "deny");
    assert_eq!(document["code"], "CSD502");
    let way = ask(&[
        "--as",
        "group:analysts",
        "--via",
        "web > stats-worker",
        "--call",
        "GET hms-api/stats",
    ]);
    assert_eq!(way.code, 3);
    assert!(
        way.out.contains("no edge `web -> stats-worker`"),
        "{}",
        way.out
    );
}

#[test]
fn what_is_no_question_is_2() {
    let place = place(&[("countersign.yaml", GOOD.to_owned())]);
    let ask = |args: &[&str]| place.run(&[&["policy", "eval"], args].concat());
    let unknown = ask(&["--as", "stats-wroker", "--call", "GET hms-api/stats"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(
        unknown.err.contains("did you mean `stats-worker`?"),
        "{}",
        unknown.err
    );
    let with = ask(&[
        "--as",
        "stats-worker",
        "--call",
        "GET hms-api/stats",
        "--with",
        "model",
    ]);
    assert_eq!(with.code, 2);
}

#[test]
fn tests_by_themselves() {
    let undecided = GOOD.replace(
        "{ needs: \"stats:read\" }",
        "{ needs: \"stats:read\", approve: [analyst] }",
    );
    let place = place(&[
        ("countersign.yaml", GOOD.to_owned()),
        (
            "failing.yaml",
            edited("expect: deny least-privilege", "expect: allow"),
        ),
        ("undecided.yaml", undecided),
    ]);
    let good = place.line("policy test").ok();
    assert!(good.out.ends_with("5 of 5 tests hold\n"), "{}", good.out);
    let failing = place.line("policy test failing.yaml -o json");
    assert_eq!(failing.code, 4);
    let document = failing.document("countersign.policy-test/v1");
    assert_eq!(
        (&document["held"], &document["failed"]),
        (&4.into(), &1.into())
    );
    let undecided = place.line("policy test undecided.yaml").ok();
    let told = "5 tests: 4 hold, 1 undecided\n";
    assert!(undecided.out.ends_with(told), "{}", undecided.out);
    assert_eq!(place.line("policy test undecided.yaml --strict").code, 4);
    assert_eq!(place.line("check --strict -c undecided.yaml").code, 4);
    assert_eq!(place.line("policy test nowhere.yaml").code, 4);
}

#[test]
fn a_map_is_a_table_a_document_or_a_drawing() {
    let place = place(&[("countersign.yaml", GOOD.to_owned())]);
    let table = place.line("map").ok();
    insta::assert_snapshot!(table.out);
    let document = place.line("map -o json").ok();
    let document = document.document("countersign.map/v1");
    assert_eq!(document["arrows"].as_array().unwrap().len(), 3);
    let drawing = place.line("map -o svg").ok();
    assert!(drawing.out.starts_with("<svg "), "{}", drawing.out);
    assert_eq!(drawing.out.matches("class=\"arrow\"").count(), 3);
    assert_eq!(place.line("check -o svg").code, 2);
}

#[test]
fn the_table_of_rights_is_filtered() {
    let place = place(&[("countersign.yaml", GOOD.to_owned())]);
    let managers = place.line("check --explain --who managers").ok();
    assert!(!managers.out.contains("analysts "), "{}", managers.out);
    assert!(
        managers.out.contains("group:dev/managers"),
        "{}",
        managers.out
    );
    let vault = place.line("check --explain --service vault -o json").ok();
    let document = vault.document("countersign.check/v1");
    let rows = document["permissions"].as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.iter().all(|it| it["service"] == "vault"),
        "{rows:?}"
    );
    assert_eq!(place.line("check --who managers").code, 2);
}

#[test]
fn what_runs_is_compared_asked_and_explained() {
    let place = Place::new();
    place.line("init").ok();
    let file = place.path().join("countersign.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9443", "127.0.0.1:0");
    place.write("countersign.yaml", &text);
    let serving = place.serve(&["up", "--control", "127.0.0.1:0"], &[]);
    let same = place.line("diff --exit-code").ok();
    assert!(same.out.contains("no difference"), "{}", same.out);
    place
        .line("identity issue stats-worker --out id/worker")
        .ok();

    let more = "hms-api: [GET /stats, GET /reports/**]";
    place.write(
        "countersign.yaml",
        &text.replace("hms-api: [GET /stats]", more),
    );
    assert_eq!(place.line("diff --exit-code").code, 4);
    let revision = place.line("status -o json").ok();
    let revision = revision.document("countersign.status/v1")["revision"].clone();
    let revision = revision.as_str().unwrap();
    assert_eq!(
        place
            .line(&format!("diff --against {revision} --exit-code"))
            .code,
        4
    );
    let explained = place.line("check --explain").code;
    assert_eq!(explained, 4, "a test of the file fails now");
    let ask = [
        "policy",
        "eval",
        "--as",
        "stats-worker",
        "--call",
        "GET hms-api/reports/42",
    ];
    let file = place.run(&ask);
    assert!(file.out.contains("✘ least-privilege"), "{}", file.out);
    let running = place.run(&[&ask[..], &["--running"]].concat());
    assert_eq!(running.code, 3);
    assert!(
        running.out.contains("✘ micro-segmentation"),
        "{}",
        running.out
    );

    let call = "call POST hms-api/reports --identity id/worker -o json";
    let refused = place.line(call);
    assert_eq!(refused.code, 3, "{refused:?}");
    let document = refused.document("countersign.call/v1");
    let receipt = document["receipt"].as_str().unwrap();
    let story = place.line(&format!("explain {receipt}")).ok();
    assert!(
        story
            .out
            .contains("to allow, add:   stats-worker -> hms-api: ["),
        "{}",
        story.out
    );
    // Who looked is in the record.
    let tail = place.line("audit tail -n 100").ok();
    assert!(tail.out.contains("configuration"), "{}", tail.out);
    assert_eq!(serving.stop(), 0);
    let alone = place.line("diff");
    assert_eq!(alone.code, 6, "{alone:?}");
}

#[test]
fn a_check_says_how_the_file_differs_from_what_runs() {
    let place = Place::new();
    place.line("init").ok();
    let file = place.path().join("countersign.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9443", "127.0.0.1:0");
    place.write("countersign.yaml", &text);
    let before = place.line("check --explain").ok();
    assert!(!before.out.contains("vs running"), "{}", before.out);
    let _serving = place.serve(&["up", "--control", "127.0.0.1:0"], &[]);
    let same = place.line("check --explain").ok();
    assert!(same.out.contains(": the same\n"), "{}", same.out);
    place.write(
        "countersign.yaml",
        &text.replace("[\"stats:read\"] }", "[\"stats:read\", \"report:read\"] }"),
    );
    let other = place.line("check --explain").ok();
    assert!(
        other.out.contains("+ 0  ~ 1 role  - 0   allows more"),
        "{}",
        other.out
    );
}
