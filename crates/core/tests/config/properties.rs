//! Whatever the bytes: no panic, no hang, and every span lies in the file.

use super::Case;
use super::check;
use super::files;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::codes;
use countersign_core::config::load_text;
use countersign_core::config::render_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
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

/// Words, marks and blanks, so that a change keeps most of what the parser looks at.
fn tokens(text: &str) -> Vec<String> {
    let kind = |c: char| match c {
        '\n' => 0,
        ' ' => 1,
        c if c.is_alphanumeric() || "_-./*$%@".contains(c) => 2,
        // A mark is a token of its own.
        c => u32::from(c) + 3,
    };
    let mut tokens: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars() {
        let this = kind(c);
        match tokens.last_mut() {
            Some(token) if last == Some(this) && this < 3 => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        last = Some(this);
    }
    tokens
}

/// What can happen to tokens.
#[derive(Clone, Debug)]
enum Edit {
    Delete(Index),
    Duplicate(Index),
    Swap(Index, Index),
    /// Copies some tokens to another place.
    Copy(Index, usize, Index),
    Replace(Index, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Edit::Delete),
        at().prop_map(Edit::Duplicate),
        (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        (at(), 1_usize..12, at()).prop_map(|(from, count, to)| Edit::Copy(from, count, to)),
        (at(), "[a-z*&!|>'\"%@`#?~<]{0,3}").prop_map(|(at, text)| Edit::Replace(at, text)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut all = tokens(text);
    for edit in edits.iter().cloned() {
        let count = all.len();
        match edit {
            _ if count == 0 => break,
            Edit::Delete(at) => drop(all.remove(at.index(count))),
            Edit::Duplicate(at) => all.insert(at.index(count), all[at.index(count)].clone()),
            Edit::Swap(one, other) => all.swap(one.index(count), other.index(count)),
            Edit::Copy(from, length, to) => {
                let from = from.index(count);
                let some = all[from..(from + length).min(count)].to_vec();
                let to = to.index(count);
                all.splice(to..to, some);
            }
            Edit::Replace(at, text) => all[at.index(count)] = text,
        }
    }
    all.concat()
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
    fn any_bytes(bytes in vec(any::<u8>(), 0..400)) {
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
        edits in vec((any::<Index>(), 0_usize..4, "[-a-z:{}\\[\\],&*!'\"\n #>/$é]{0,3}"), 1..6),
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
    fn mutated_tokens(text in some_good_file(), edits in vec(edit(), 1..8)) {
        both(&edited(&text, &edits));
    }

    /// Whatever an included file holds, and whatever the entry takes from it.
    #[test]
    fn mutated_includes(
        entry in some_good_file(),
        text in some_good_file(),
        edits in vec(edit(), 0..4),
    ) {
        let body = |text: &str| text.lines().filter(|it| !it.starts_with("#!")).collect::<Vec<_>>().join("\n");
        let mut case = Case::new(&format!("include: [conf.d/*.yaml, other.yaml]\n{}", body(&entry)));
        case.0.insert("conf.d/a.yaml".to_owned(), edited(&body(&text), &edits));
        case.0.insert("other.yaml".to_owned(), "audit: {}\n".to_owned());
        let loaded = case.load(&Options { dev: true, strict: false });
        spans_are_inside(&loaded);
        let ordered = loaded.diagnostics.is_sorted_by_key(|it| it.span());
        prop_assert!(ordered, "{:?}", super::found(&loaded));
        prop_assert_eq!(loaded.config.is_none(), loaded.errors().next().is_some());
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

/// What a hostile file may take in memory, of the most that this process ever had. A tree of 200,000
/// nodes with the text and the events they come from is far below.
fn memory_is_bounded() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(kilobytes.unwrap() < 1 << 20, "{kilobytes:?} kB");
}

/// The limits hold for all files of a configuration together.
#[test]
fn included_bombs_are_refused() {
    let entry = "environment: dev\ninclude: [conf.d/*.yaml]\n";
    let with = |files: usize, text: &dyn Fn(usize) -> String| {
        let mut case = Case::new(entry);
        for index in 0..files {
            case.0.insert(format!("conf.d/{index}.yaml"), text(index));
        }
        let start = Instant::now();
        let loaded = case.load(&Options::default());
        spans_are_inside(&loaded);
        assert!(start.elapsed() < LIMIT, "took {:?}", start.elapsed());
        loaded
    };
    let too_big = |loaded: &Loaded| {
        let first = loaded.errors().next().unwrap();
        assert_eq!(first.code, codes::TOO_BIG);
        first.message.clone()
    };
    let empty = |_: usize| "audit: {}\n".to_owned();
    assert_eq!(too_big(&with(256, &empty)), "256 files are included");
    let comment = |_: usize| format!("# {}\naudit: {{}}\n", "x".repeat(1_000_000));
    let loaded = with(5, &comment);
    assert!(
        loaded
            .errors()
            .any(|it| it.message.contains("4194304 bytes together"))
    );
    let nodes = |index: usize| {
        format!(
            "identities: {{ {} }}\n",
            (0..30_000)
                .map(|it| format!("i{index}-{it}: {{}}, "))
                .collect::<String>()
        )
    };
    let loaded = with(4, &nodes);
    assert!(
        loaded
            .errors()
            .any(|it| it.message == "more than 200000 values")
    );
    // Each file says the same again.
    let same = |_: usize| {
        format!(
            "identities: {{ {} }}\n",
            (0..1_000)
                .map(|it| format!("i{it}: {{}}, "))
                .collect::<String>()
        )
    };
    let loaded = with(60, &same);
    assert!(
        loaded
            .errors()
            .filter(|it| it.code == codes::DUPLICATE_KEY)
            .count()
            > 900
    );
    memory_is_bounded();
}

/// Files that are attached have limits as well.
#[test]
fn attached_bombs_are_refused() {
    let entry = "trust_domain: acme.internal\nidentities: { p: { kind: partner, certificate: { ca: a.pem, dns: p.example } } }\n";
    for (text, code) in [
        ("x".repeat((1 << 20) + 1), codes::TOO_BIG),
        (
            "-----BEGIN CERTIFICATE-----\n".repeat(30_000),
            codes::NOT_A_CERTIFICATE,
        ),
        (
            format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(1_000_000)),
            codes::NOT_A_CERTIFICATE,
        ),
    ] {
        let mut case = Case::new(entry);
        case.0.insert("a.pem".to_owned(), text);
        let start = Instant::now();
        let loaded = case.load(&Options::default());
        assert!(start.elapsed() < LIMIT, "took {:?}", start.elapsed());
        assert_eq!(loaded.errors().next().map(|it| it.code), Some(code));
    }
}

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
            loaded.errors().any(|it| it.code == codes::TOO_BIG),
            "{:.40}",
            text
        );
    }
    memory_is_bounded();
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
