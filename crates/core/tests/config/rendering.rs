//! What people and programs see.

use super::check;
use super::files;
use countersign_core::config::render;
use countersign_core::config::render_all;
use countersign_core::config::to_json;
use std::fmt::Write as _;

#[test]
fn every_error_as_printed() {
    let mut all = String::new();
    for (name, text) in files("broken") {
        let loaded = check(&text);
        let rendered = render_all(&loaded.diagnostics, &loaded.sources, false);
        writeln!(all, "## {name}\n{rendered}").unwrap();
    }
    insta::assert_snapshot!("errors", all);
}

fn edge_nowhere() -> countersign_core::config::Loaded {
    let text = files("broken")
        .into_iter()
        .find(|(name, _)| name == "edge-nowhere")
        .unwrap()
        .1;
    check(&text)
}

#[test]
fn in_colour() {
    let loaded = edge_nowhere();
    let coloured = render(&loaded.diagnostics[0], &loaded.sources, true);
    insta::assert_snapshot!(
        "coloured",
        coloured.escape_debug().to_string().replace("\\n", "\n")
    );
    let plain = render(&loaded.diagnostics[0], &loaded.sources, false);
    let mut stripped = coloured;
    for style in ["1;31", "1;34", "1", "0"] {
        stripped = stripped.replace(&format!("\u{1b}[{style}m"), "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn as_json() {
    let loaded = edge_nowhere();
    insta::assert_snapshot!(
        "json",
        serde_json::to_string_pretty(&to_json(&loaded.diagnostics, &loaded.sources)).unwrap()
    );
}

#[test]
fn a_credential_is_never_printed() {
    for (name, text) in files("broken")
        .into_iter()
        .filter(|(name, _)| name.starts_with("literal"))
    {
        let loaded = check(&text);
        let shown = render_all(&loaded.diagnostics, &loaded.sources, true)
            + &to_json(&loaded.diagnostics, &loaded.sources).to_string();
        for secret in ["sk-proj-EX", "hunter2", "ghp_0123"] {
            assert!(!shown.contains(secret), "{name}");
        }
        assert!(shown.contains("****"), "{name}");
    }
}

#[test]
fn a_file_cannot_write_to_the_terminal() {
    let loaded = check("\u{1b}[2J: 1\n\"\\e[2J\": 1\n");
    let shown = render_all(&loaded.diagnostics, &loaded.sources, false);
    assert!(!loaded.diagnostics.is_empty());
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn a_long_line_is_cut_to_the_place() {
    let text = format!(
        "environment: dev # {}\naudit: {{ {}commit: nope }}\n",
        "x".repeat(5_000),
        " ".repeat(5_000)
    );
    let loaded = check(&text);
    let shown = render_all(&loaded.diagnostics, &loaded.sources, false);
    assert!(shown.lines().all(|line| line.chars().count() < 260));
    let lines: Vec<_> = shown.lines().collect();
    let at = lines[3].find('^').unwrap();
    assert_eq!(
        lines[2].chars().skip(at).take(4).collect::<String>(),
        "nope"
    );
}
