//! Whatever the bytes: no panic, no hang, and every span lies in the file.

use super::check;
use super::files;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::load_text;
use countersign_core::config::render_all;
use proptest::prelude::*;
use std::time::Duration;
use std::time::Instant;

fn spans_are_inside(loaded: &Loaded) {
    for label in loaded.diagnostics.iter().flat_map(|it| &it.labels) {
        let text = loaded.sources.text(label.span.file);
        assert!(
            text.get(label.span.range()).is_some(),
            "{:?} of {} bytes",
            label.span,
            text.len()
        );
    }
    let _ = render_all(&loaded.diagnostics, &loaded.sources, true);
}

fn both(text: &str) {
    for dev in [false, true] {
        let loaded = load_text("a.yaml", text, &Options { dev, strict: false });
        spans_are_inside(&loaded);
        assert_eq!(loaded.config.is_none(), loaded.errors().next().is_some());
        if loaded.config.is_none() {
            assert!(
                loaded.diagnostics.iter().all(|it| it.help.is_some()),
                "an error without help: {text:?}"
            );
        }
    }
}

fn some_good_file() -> impl Strategy<Value = String> {
    let all: Vec<_> = files("good").into_iter().map(|(_, text)| text).collect();
    proptest::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text(text in any::<String>()) {
        both(&text);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        both(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn anything_like_yaml(text in "([a-z]{0,3}[-:{}\\[\\],&*!|>'\"%@`#?~<\n \t]{1,4}){0,40}") {
        both(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_files(
        text in some_good_file(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0_usize..4, "[-a-z:{}\\[\\],&*!'\"\n #>/$é]{0,3}"), 1..6),
    ) {
        let mut characters: Vec<char> = text.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, inserted.chars());
        }
        both(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn lines_in_another_order(text in some_good_file(), seed in any::<u64>()) {
        let mut lines: Vec<&str> = text.lines().collect();
        let count = lines.len() as u64;
        for index in 0..lines.len() {
            let other = usize::try_from((seed.rotate_left(u32::try_from(index % 64).unwrap())) % count).unwrap();
            lines.swap(index, other);
        }
        both(&lines.join("\n"));
    }
}

fn within(limit: Duration, text: &str) -> Loaded {
    let start = Instant::now();
    let loaded = check(text);
    spans_are_inside(&loaded);
    assert!(start.elapsed() < limit, "took {:?}", start.elapsed());
    loaded
}

/// What is not refused at once takes hours. Debug builds are about twenty times slower than what is
/// shipped, and machines that run tests have other things to do.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn bombs_are_refused() {
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let block: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    let many = format!("a: [{}]", "1,".repeat(300_000));
    let long = format!("a: {}", "x".repeat(2 << 20));
    for text in [&deep, &block, &many, &long] {
        let loaded = within(LIMIT, text);
        assert!(
            loaded
                .errors()
                .any(|it| it.code == countersign_core::config::codes::TOO_BIG),
            "{:.40}",
            text
        );
    }
}

#[test]
fn a_hopeless_file_ends() {
    let wrong: String = (0..30_000)
        .map(|index| format!("unknown{index}: [*x, !y z, \"\u{fffd}\"]\n"))
        .collect();
    within(LIMIT, &wrong);
    let stars: String = (0..30_000).map(|index| format!("k{index}: *x\n")).collect();
    within(LIMIT, &stars);
    let tabs = "\t\n".repeat(400_000);
    within(LIMIT, &tabs);
    // Everything on one line: neither columns nor excerpts may cost its length each time.
    let names: String = (0..30_000)
        .map(|index| format!("\"i{index}\": {{}}, "))
        .collect();
    within(
        LIMIT,
        &format!("{{\"environment\": \"dev\", \"identities\": {{{names}\"z\": {{}}}}}}"),
    );
    let keys: String = (0..10_000)
        .map(|index| format!("i{index}: {{from: sk-012345678901234{index}}}, "))
        .collect();
    within(LIMIT, &format!("{{secrets: {{{keys}z: {{}}}}}}"));
    // Every edge against every operation.
    let operations: String = (0..4_000)
        .map(|index| format!("GET /*/*/*/a{index}: {{needs: edge}}, "))
        .collect();
    let wanted: String = (0..9_000)
        .map(|index| format!("GET /*/*/*/b{index}, "))
        .collect();
    let service = format!(
        "services: {{s: {{peer: service, url: \"http://127.0.0.1:1\", operations: {{{operations}}}}}}}"
    );
    within(
        LIMIT,
        &format!("environment: dev\n{service}\nedges: {{c -> s: [{wanted}]}}\n"),
    );
}

#[test]
fn a_megabyte_is_read_in_time() {
    let mut text = String::from(
        "environment: dev\nlisteners: { mesh: { bind: 127.0.0.1:0, peer: service } }\nidentities: { caller: {} }\nroles: { r: { members: [caller], may: [a:b] } }\nservices:\n",
    );
    let mut edges = String::from("edges:\n");
    for index in 0..7_000 {
        text += &format!(
            "  s{index}: {{ peer: service, url: \"http://127.0.0.1:1\", operations: {{ GET /a{index}/**: {{ needs: edge }} }} }}\n"
        );
        edges += &format!("  caller -> s{index}: [GET /a{index}/*]\n");
    }
    text += &edges;
    text = text.replace("[a:b]", "[\"secret:read\"]");
    assert!(
        text.len() > 900_000 && text.len() < 1 << 20,
        "{}",
        text.len()
    );
    let loaded = within(LIMIT, &text);
    assert_eq!(super::found(&loaded), Vec::<String>::new());
    assert_eq!(loaded.config.unwrap().edges.len(), 7_000);
}
