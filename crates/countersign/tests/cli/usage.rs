//! Help, wrong usage, explanations, and what is said when nobody is there.

use crate::support::Place;

#[test]
fn help_lists_every_command() {
    let help = Place::new().run(&["--help"]).ok();
    insta::assert_snapshot!(help.out);
    assert_eq!(help.err, "");
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    for args in [
        &["frobnicate"][..],
        &[],
        &["check", "--no-such-flag"],
        &["token"],
        &["check", "-o", "toml"],
        &["status", "--timeout", "soon"],
        &["explain", "zebra"],
        &["check"],
        &["up"],
        &["call", "GET", "hms-api/x"],
        &["up", "--to", "ftp://x"],
        &["identity", "revoke", "certificate", "xyz"],
        &["audit", "show", "../status"],
        &["reload"],
        &["map"],
        &["policy", "test"],
        &["policy", "eval", "--as", "user"],
        &["change"],
        &["change", "approve"],
        &["gateway"],
        &["gateway", "token"],
    ] {
        let done = place.run(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert_eq!(done.out, "", "{args:?}");
        assert!(!done.err.is_empty(), "{args:?}");
    }
    assert!(place.run(&["check"]).err.contains("countersign init"));
    assert!(
        place
            .run(&["call", "GET", "x/y"])
            .err
            .contains("COUNTERSIGN_IDENTITY")
    );
}

#[test]
fn a_secret_is_never_taken_from_the_command_line() {
    let place = Place::new();
    let done = place.run(&["secret", "put", "mailer", "hunter2"]);
    assert_eq!(done.code, 2, "{done:?}");
    let done = place.run_with(&["secret", "put", "mailer"], &[], "\n");
    assert_eq!(done.code, 2, "an empty value: {done:?}");
}

#[test]
fn nobody_there_is_6() {
    let place = Place::new();
    let socket = place.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for args in [
        &["status"][..],
        &["audit", "tail"],
        &["identity", "ls"],
        &["explain", "r-000000000000"],
        &["identity", "issue", "hms-api", "--out", "id"],
        &["diff"],
        &["change", "ls"],
        &["change", "approve", "c-1f2e3d4c5b6a"],
        &["gateway", "token", "--name", "gw1"],
    ] {
        let done = place.run_with(args, &[("COUNTERSIGN_SOCKET", socket)], "");
        assert_eq!(done.code, 6, "{args:?}: {done:?}");
        assert!(
            done.err.contains("no server is running here"),
            "{}",
            done.err
        );
    }
    assert!(
        !place.path().join("id").exists(),
        "a key was written for nothing"
    );
}

#[test]
fn codes_are_explained() {
    let place = Place::new();
    let page = place.run(&["explain", "cs0203"]).ok();
    assert!(page.out.starts_with("CS0203  "), "{}", page.out);
    let refusal = place.run(&["explain", "CSD401", "-o", "json"]).ok();
    let refusal = refusal.document("countersign.explanation/v1");
    assert_eq!(refusal["pillar"], "micro-segmentation");
    assert_eq!(refusal["title"], "no edge to this operation");
    assert_eq!(place.run(&["explain", "CSD999"]).code, 2);
}

#[test]
fn answers_come_in_four_forms() {
    let place = Place::new();
    let version = env!("CARGO_PKG_VERSION");
    let out = |form: &str| place.run(&["version", "-o", form]).ok().out;
    assert_eq!(out("table"), format!("countersign {version}\n"));
    assert_eq!(out("short"), format!("{version}\n"));
    let json = place
        .run(&["version", "-o", "json"])
        .document("countersign.version/v1");
    assert_eq!(json["version"], version);
    assert!(
        out("yaml").contains("schema: countersign.version/v1"),
        "{}",
        out("yaml")
    );
    let from_env = place.run_with(&["version"], &[("COUNTERSIGN_OUTPUT", "short")], "");
    assert_eq!(from_env.out, format!("{version}\n"));
}

#[test]
fn completions_and_man_pages_come_from_the_declaration() {
    let place = Place::new();
    for (shell, how) in [
        ("bash", "complete -F _countersign"),
        ("fish", "complete -c countersign"),
        ("zsh", "#compdef countersign"),
    ] {
        let script = place.run(&["completions", shell]).ok().out;
        assert!(
            script.contains(how) && script.contains("identity"),
            "{shell}"
        );
    }
    place.run(&["man", "pages"]).ok();
    let page = std::fs::read_to_string(place.path().join("pages/countersign-check.1")).unwrap();
    assert!(page.contains("strict"));
}

#[test]
fn colour_only_where_it_is_wanted() {
    let place = Place::new();
    let coloured = place.run(&["check", "--color", "always"]);
    assert!(coloured.err.contains('\u{1b}'), "{}", coloured.err);
    let plain = place.run(&["check"]);
    assert!(!plain.err.contains('\u{1b}'), "{}", plain.err);
}
