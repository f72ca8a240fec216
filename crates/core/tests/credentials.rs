//! Hard-coded credentials, judged by gitleaks' own samples: what each of its rules finds, and what
//! it must not.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests look at the clock"
)]

use countersign_core::credentials::find;
use countersign_core::credentials::find_in;
use countersign_core::credentials::is_skipped;
use countersign_core::credentials::rules;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

#[derive(Deserialize)]
struct Sample {
    rule: String,
    found: bool,
    text: String,
}

/// Samples of the rules there are: gitleaks keeps some that it does not use.
fn samples() -> Vec<Sample> {
    let mut all: Vec<Sample> =
        serde_json::from_str(include_str!("data/gitleaks/samples.json")).unwrap();
    let known: BTreeSet<_> = rules().collect();
    all.retain(|it| known.contains(it.rule.as_str()));
    all
}

/// Names that are right for every rule that is for some files only.
const PATHS: [&str; 4] = ["a.yaml", "a.tf", "a.php", "nuget.config"];

#[test]
fn what_each_rule_must_find_is_found() {
    let mut missed = Vec::new();
    let (mut own, mut all, mut seen) = (0, 0, BTreeSet::new());
    for sample in samples().into_iter().filter(|it| it.found) {
        let found: BTreeSet<_> = PATHS
            .iter()
            .flat_map(|path| find_in(path, &sample.text))
            .map(|it| it.rule)
            .collect();
        all += 1;
        own += usize::from(found.contains(sample.rule.as_str()));
        if found.is_empty() {
            missed.push(format!("{}: {:?}", sample.rule, sample.text));
        } else {
            seen.insert(sample.rule);
        }
    }
    assert_eq!(missed, Vec::<String>::new());
    assert!(seen.len() >= 190, "samples of {} rules", seen.len());
    // Two rules may know one key; the other one may be the first.
    assert!(own * 20 >= all * 19, "{own} of {all} by the rule itself");
}

#[test]
fn what_a_rule_must_not_find_it_does_not() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for sample in samples().into_iter().filter(|it| !it.found) {
        count += 1;
        if find(&sample.text).any(|it| it.rule == sample.rule) {
            wrong.push(format!("{}: {:?}", sample.rule, sample.text));
        }
    }
    assert!(count > 100, "{count}");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_range_is_the_key_and_no_more() {
    let text = "# old\nopenai_token: \"sk-proj-0123456789\"\ngithub: ghp_x7Kq2mZ9aB4cD6eF8gH1iJ3kL5nM0pQrStUv # gone\n";
    let found: Vec<_> = find(text)
        .map(|it| (it.rule, text.get(it.range).unwrap()))
        .collect();
    let key = "ghp_x7Kq2mZ9aB4cD6eF8gH1iJ3kL5nM0pQrStUv";
    assert!(found.contains(&("github-pat", key)), "{found:?}");
    let accents = "clé: é\nschlüssel_token = 'ghp_x7Kq2mZ9aB4cD6eF8gH1iJ3kL5nM0pQrStUv'é";
    let found: Vec<_> = find(accents).map(|it| accents.get(it.range)).collect();
    assert_eq!(found, [Some(key)]);
}

/// A keyword may stand on another page than the key, at the border of what is searched.
#[test]
fn a_key_far_from_its_keyword_is_found() {
    let key = format!("pat{}.{}", "aB3dE6gH9jK2mN", "0123456789abcdef".repeat(4));
    for pages in [0, 1, 3, 50] {
        let text = format!("# airtable\n{}\n{key}\n", "x y\n".repeat(pages * 1024));
        let found: Vec<_> = find(&text).map(|it| it.rule).collect();
        assert_eq!(found, ["airtable-personnal-access-token"], "{pages}");
    }
    assert_eq!(find(&key).count(), 0);
    let padded = format!(
        "{}token: {}",
        "- a\n".repeat(3000),
        "ghp_x7Kq2mZ9aB4cD6eF8gH1iJ3kL5nM0pQrStUv"
    );
    assert_eq!(find(&padded).count(), 1);
}

#[test]
fn ordinary_texts_have_none() {
    for text in [
        "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "spiffe://acme.internal/api-gateway",
        "credential: { secret: openai-primary-2024, as: bearer }",
        "client_secret: corp-sso-2",
        "openai: { from: \"store:openai\", needs: \"ai:key:read\", readers: [hms-api] }",
        "key: { from: \"aws:prod/openai-key#field\" }",
        "frontend -> api-keys: [GET /v1/keys/**, POST /v1/tokens/rotate]",
        "https://login.acme.example/realms/corp/protocol/openid-connect/token",
        "from: \"vault:secret/data/api-token#value\"",
        "from: \"k8s:hms/api-token-secret#token\"",
        "claims: { repository_id: \"123456789\", job_workflow_ref: acme/infra/.github/workflows/deploy.yml@refs/heads/main }",
        "GET /v1/access-reports/**: { needs: \"access:report:read-all\" }",
    ] {
        let found: Vec<_> = find_in("countersign.yaml", text).collect();
        assert_eq!(found, [], "{text}");
    }
}

#[test]
fn some_files_are_credentials_and_some_are_nobodys() {
    let found: Vec<_> = find_in("certs/server.p12", "").map(|it| it.rule).collect();
    assert_eq!(found, ["pkcs12-file"]);
    assert_eq!(find("").count(), 0);
    assert!(is_skipped("web/node_modules/x/index.js") && is_skipped("logo.png"));
    assert!(!is_skipped("countersign.yaml") && !is_skipped("src/main.rs"));
}

#[test]
fn rules_have_names_of_their_own() {
    let names: BTreeSet<_> = rules().collect();
    assert_eq!(names.len(), rules().count());
    assert!(names.contains("aws-access-token"));
}

/// What is not searched once takes minutes: one mebibyte in which every line has keywords.
#[test]
fn a_megabyte_is_searched_in_time() {
    let line =
        "api-key-service: { secret: openai, token: 10m, auth: access, credential: password }\n";
    let text = line.repeat((1 << 20) / line.len());
    find("token: x").for_each(drop);
    let start = Instant::now();
    assert_eq!(find(&text).count(), 0);
    let took = start.elapsed();
    println!("{took:?}");
    assert!(took < Duration::from_secs(60), "took {took:?}");
}
