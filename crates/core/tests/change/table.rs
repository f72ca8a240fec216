//! One edit at a time.

use crate::HMS;
use crate::config;
use crate::edit;
use countersign_core::change::Kind;
use countersign_core::change::Section;
use countersign_core::change::difference;

const EDGE: &str = "research-bot -> hms-api: [POST /ai/summary]";
const SUMMARY: &str = "POST /ai/summary: { needs: \"ai:invoke-summary\", body: { max: 16KiB } }";

#[test]
fn what_allows_more() {
    for (from, to, what) in [
        (
            EDGE,
            "research-bot -> hms-api: [POST /ai/summary, GET /reports/**]",
            "operations",
        ),
        (EDGE, "research-bot -> hms-api: [POST /ai/*]", "operations"),
        (
            EDGE,
            &format!("{EDGE}\n  stats-worker -> hms-api: [POST /ai/summary]"),
            "added",
        ),
        (
            "may: [\"report:write\"]",
            "may: [\"report:write\", \"llm:chat\"]",
            "may",
        ),
        (
            "members: [user:alice]",
            "members: [user:alice, user:eve]",
            "members",
        ),
        ("needs: \"report:read\"", "needs: edge", "needs"),
        ("needs: \"report:read\"", "needs: \"llm:chat\"", "needs"),
        (", subject: person", "", "subject: person"),
        ("max: 16KiB", "max: 17KiB", "body.max"),
        ("body: { max: 16KiB }", "body: {}", "body.max"),
        (
            "needs: \"report:read\" }",
            "needs: \"report:read\", except: [GET /reports/x] }",
            "except",
        ),
        ("models: [\"gpt-*\"]", "models: [\"gpt-*\", o3]", "models"),
        ("models: [\"gpt-*\"], ", "", "models"),
        (", budget: llm", "", "budget"),
        ("$50/day", "$51/day", "limit"),
        ("$50/day", "$50/hour", "window"),
        ("per: subject", "per: all", "per"),
        (
            "readers: [hms-api]",
            "readers: [hms-api, stats-worker]",
            "readers",
        ),
        ("\"ai:key:read\"", "\"llm:chat\"", "needs"),
        ("\"store:openai_primary\"", "\"store:model\"", "from"),
        (
            "audit: { commit: fsync }",
            "audit: { commit: os }",
            "commit",
        ),
        ("audit: { commit: fsync }", "audit: { keep: 30d }", "keep"),
        (
            "environment: dev",
            "environment: dev\nstaleness: { revocations: 16s }",
            "staleness",
        ),
        ("https://localhost:7102", "https://localhost:7103", "url"),
        (
            "hosts: [localhost]",
            "hosts: [localhost, other.localhost]",
            "hosts",
        ),
        ("hms.dev.invalid", "hms2.dev.invalid", "trust_domain"),
        (
            "  mesh:",
            "  more: { bind: \"127.0.0.1:9444\", peer: service }\n  mesh:",
            "added",
        ),
        (
            "  stats-worker: {}",
            "  stats-worker: {}\n  other: {}",
            "added",
        ),
    ] {
        let difference = edit(from, to);
        let told: Vec<_> = difference.loosens.iter().map(|it| &it.what).collect();
        assert!(
            told.iter().any(|it| it.contains(what)),
            "{from} => {to}: {told:?}"
        );
        assert!(difference.allows_more());
    }
}

#[test]
fn what_allows_less_and_nothing_more() {
    for (from, to, what) in [
        (EDGE, "", "removed"),
        (
            "[POST /ai/summary, GET /reports/**, POST /reports]",
            "[POST /ai/summary]",
            "operations",
        ),
        (
            "GET /reports/**, POST /reports]",
            "GET /reports/*, POST /reports]",
            "operations",
        ),
        (", \"llm:chat\"] }\n  manager", "] }\n  manager", "may"),
        ("members: [user:alice]", "members: []", "members"),
        ("max: 16KiB", "max: 15KiB", "body.max"),
        ("models: [\"gpt-*\"]", "models: [\"gpt-4*\"]", "models"),
        ("$50/day", "$49/day", "limit"),
        (
            "needs: \"report:read\" }",
            "needs: \"report:read\", subject: person }",
            "subject: person",
        ),
        (
            "needs: \"report:read\" }",
            "needs: \"report:read\", hours: \"mon-fri 08:00-18:00\" }",
            "hours",
        ),
        (
            SUMMARY,
            &format!("{SUMMARY}\n      POST /ai/*: {{ needs: \"llm:chat\" }}"),
            "added",
        ),
        (
            "environment: dev",
            "environment: dev\nstaleness: { revocations: 10s }",
            "staleness",
        ),
    ] {
        let difference = edit(from, to);
        let told: Vec<_> = difference.tightens.iter().map(|it| &it.what).collect();
        assert!(
            told.iter().any(|it| it.contains(what)),
            "{from} => {to}: {told:?}"
        );
    }
    // Each of them but the one that adds a rule, whose pattern takes in what none did.
    assert!(!edit(EDGE, "").allows_more());
    assert!(!edit("max: 16KiB", "max: 15KiB").allows_more());
    assert!(
        edit(
            SUMMARY,
            &format!("{SUMMARY}\n      POST /ai/*: {{ needs: \"llm:chat\" }}")
        )
        .allows_more()
    );
}

#[test]
fn a_rule_within_another_asks_for_more_and_without_it_for_less() {
    let narrow = "GET /reports/**:  { needs: \"report:read\" }";
    let both = format!("{narrow}\n      GET /reports/secret: {{ needs: \"report:write\" }}");
    let (one, two) = (config(HMS), config(&HMS.replace(narrow, &both)));
    let came = difference(&one, &two);
    assert!(!came.allows_more(), "{:?}", came.loosens);
    assert_eq!(came.tightens.len(), 1);
    let went = difference(&two, &one);
    assert!(went.allows_more(), "the other rule still allows it");
}

#[test]
fn hours_within_hours_are_stricter() {
    let at = |hours: &str| {
        let to = format!("needs: \"report:read\", hours: \"{hours}\" }}");
        config(&HMS.replace("needs: \"report:read\" }", &to))
    };
    let week = at("mon-fri 08:00-18:00");
    assert!(!difference(&week, &at("tue-thu 09:00-18:00")).allows_more());
    for wider in [
        "mon-sat 08:00-18:00",
        "mon-fri 07:00-18:00",
        "mon-fri 18:00-08:00",
        "fri-mon 09:00-10:00",
    ] {
        assert!(difference(&week, &at(wider)).allows_more(), "{wider}");
    }
}

#[test]
fn tests_that_went_or_ask_something_else_are_told_apart() {
    let gone = HMS.lines().filter(|line| !line.contains("not any model"));
    let gone = gone.collect::<Vec<_>>().join("\n");
    let gone = difference(&config(HMS), &config(&gone));
    assert_eq!(gone.tests_removed, ["not any model"]);
    assert_eq!(gone.loosens.len(), 1);
    let weak = edit("with: { model: o3 }", "with: { model: o4 }");
    assert_eq!(
        (weak.tests_weakened.as_slice(), weak.loosens.len()),
        (["not any model".to_owned()].as_slice(), 1)
    );
    let other = edit(
        "as: hms-api, call: read model, expect: deny micro-segmentation",
        "as: hms-api, call: read model, expect: deny least-privilege",
    );
    assert_eq!(other.tests_weakened, ["nobody reads the model key"]);
    let added = edit(
        "\ntests:\n",
        "\ntests:\n  one more: { as: hms-api, call: read model, expect: allow }\n",
    );
    assert!(!added.allows_more() && added.tests_removed.is_empty());
}

#[test]
fn what_means_the_same_is_no_difference() {
    let same = HMS
        .replace(
            "[POST /ai/summary, GET /reports/**, POST /reports]",
            "[POST   /reports, GET /reports/**, POST /ai/summary]",
        )
        .replace(
            "  stats-worker: {}\n  research-bot: {}",
            "  research-bot: {}\n\n  stats-worker: {}   # moved",
        );
    assert_ne!(same, HMS);
    let difference = difference(&config(HMS), &config(&same));
    assert!(difference.is_empty(), "{difference:?}");
    assert_eq!(difference.summary(), "+ 0  ~ 0  - 0");
}

#[test]
fn entries_are_told_with_their_places_and_what_they_said() {
    let difference = edit(EDGE, "stats-worker -> hms-api: [POST /ai/summary]");
    assert_eq!(difference.summary(), "+ 1 edge  ~ 0  - 1 edge");
    let [came, went] = difference.changes.as_slice() else {
        panic!("{difference:?}");
    };
    assert_eq!(
        (came.kind, came.section, came.name.as_str()),
        (Kind::Added, Section::Edge, "stats-worker -> hms-api")
    );
    assert_eq!(came.after.unwrap().line, went.before.unwrap().line);
    assert_eq!((came.before, went.after), (None, None));
    assert_eq!(came.keys[0].after.as_deref(), Some("POST /ai/summary"));
    let changed = edit("$50/day", "$60/day");
    let key = &changed.changes[0].keys[0];
    assert_eq!(
        (key.before.as_deref(), key.after.as_deref()),
        (Some("$50"), Some("$60"))
    );
    assert_eq!(changed.loosens[0].what, "`limit` $50 -> $60");
    // It survives the way over a wire.
    let text = serde_json::to_string(&changed).unwrap();
    assert_eq!(changed, serde_json::from_str(&text).unwrap());
}

#[test]
fn a_service_comes_and_goes_with_its_operations() {
    let more = "  more:\n    peer: service\n    url: \"https://localhost:7105\"\n    operations:\n      GET /a: { needs: \"report:read\" }\n";
    let with = HMS
        .replace("  stats-worker: {}", "  stats-worker: {}\n  more: {}")
        .replace("\nservices:\n", &format!("\nservices:\n{more}"));
    let (without, with) = (config(HMS), config(&with));
    let came = difference(&without, &with);
    assert_eq!(came.summary(), "+ 1 identity, 1 service  ~ 0  - 0");
    assert_eq!(came.loosens.len(), 2);
    let went = difference(&with, &without);
    assert_eq!(went.summary(), "+ 0  ~ 0  - 1 identity, 1 service");
    assert!(!went.allows_more());
}

#[test]
fn without_system_users_whoever_runs_the_server_administers_it() {
    let named = HMS.replace(
        "  stats-worker: {}",
        "  stats-worker: { attest: { unix: { user: ops } } }",
    );
    let difference = difference(&config(&named), &config(HMS));
    assert!(
        difference
            .loosens
            .iter()
            .any(|it| it.what.contains("administers it")),
        "{difference:?}"
    );
}

#[test]
fn a_change_below_a_second_is_one() {
    let at = |age: &str| {
        let to = format!("environment: dev\nstaleness: {{ revocations: {age} }}");
        config(&HMS.replace("environment: dev", &to))
    };
    let (short, long) = (at("14100ms"), at("14900ms"));
    let wider = difference(&short, &long);
    assert_eq!(
        wider.loosens[0].what,
        "`staleness.revocations` 14100ms -> 14900ms"
    );
    assert!(wider.allows_more());
    let narrower = difference(&long, &at("14s"));
    assert!(!narrower.allows_more() && !narrower.is_empty());
    assert_eq!(
        narrower.tightens[0].what,
        "`staleness.revocations` 14900ms -> 14s"
    );
}
