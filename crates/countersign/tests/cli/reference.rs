//! The schema, the help about keys and codes, and the pages of `docs/reference`.

use crate::support::Place;
use serde_json::Value;
use std::path::Path;

#[test]
fn the_schema_is_printed_and_written() {
    let place = Place::new();
    let printed = place.run(&["schema"]).ok().out;
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(schema["properties"]["listeners"].is_object());
    let written = place.run(&["schema", "-o", "s.json"]).ok();
    assert_eq!(written.out, "");
    assert!(
        written
            .err
            .contains("# yaml-language-server: $schema=./s.json"),
        "{}",
        written.err
    );
    let file = std::fs::read_to_string(place.path().join("s.json")).unwrap();
    assert_eq!(file, printed);
    assert_eq!(place.run(&["schema", "-o", "json"]).ok().out, printed);
    let name = place.run(&["schema", "-o", "short"]).ok().out;
    assert_eq!(name.trim_end(), schema["$id"]);
    assert_eq!(place.run(&["schema", "-o", "no/folder.json"]).code, 1);
}

#[test]
fn keys_are_explained() {
    let place = Place::new();
    let page = place.run(&["explain", "listeners.limits.header_time"]).ok();
    insta::assert_snapshot!(page.out);
    let key = place.run(&["explain", "listeners.web.peer", "-o", "json"]);
    let key = key.document("countersign.explanation/v1");
    assert_eq!(key["key"], "listeners.<name>.peer");
    assert_eq!(key["required"], true);
    let section = place.run(&["explain", "services"]).ok();
    assert!(section.out.contains("max_stream"), "{}", section.out);
}

#[test]
fn what_is_misspelt_is_named() {
    let place = Place::new();
    for (asked, meant) in [
        (
            "listeners.limits.heder_time",
            "did you mean `listeners.limits.header_time`?",
        ),
        ("CSD400", "did you mean `CSD401`?"),
        ("CS0999", "did you mean `CS09"),
        ("needs", "`services.needs`"),
        ("zebra", "`listeners.limits.header_time`"),
    ] {
        let done = place.run(&["explain", asked]);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{asked}");
        assert!(done.err.contains(meant), "{asked}: {}", done.err);
    }
}

#[test]
fn the_reference_pages_are_what_the_program_writes() {
    let place = Place::new();
    place.run(&["reference", "pages"]).ok();
    let made = place.path().join("pages");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        // `openapi/` is written by hand and held to the routes by the server's tests.
        let files = entries
            .map(Result::unwrap)
            .filter(|it| it.file_type().unwrap().is_file());
        let mut names: Vec<_> = files.map(|it| it.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&kept), names(&made), "run `cargo xtask docs`");
    for name in names(&made) {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(&name)).unwrap();
        let (kept, made) = (read(&kept), read(&made));
        let lines = kept.lines().zip(made.lines()).enumerate();
        let different = lines.filter(|(_, (kept, made))| kept != made);
        let shown: Vec<_> = different
            .map(|(at, (kept, made))| format!("{}:\n- {kept}\n+ {made}", at + 1))
            .take(5)
            .collect();
        let same = kept == made;
        assert!(
            same,
            "{name:?}: run `cargo xtask docs`\n{}",
            shown.join("\n")
        );
    }
}

#[test]
fn new_commands_are_completed_and_have_a_manual() {
    let place = Place::new();
    let bash = place.run(&["completions", "bash"]).ok().out;
    assert!(bash.contains("countersign__subcmd__schema") || bash.contains("countersign,schema"));
    place.run(&["man", "pages"]).ok();
    assert!(place.path().join("pages/countersign-schema.1").exists());
}
