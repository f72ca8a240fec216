//! Credentials that somebody wrote down are refused, and printed nowhere: not in messages, not in
//! remedies, not in the lines beside them, whether the file can be read or not.

use super::Case;
use super::ENTRY;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::codes;
use countersign_core::config::render_all;
use countersign_core::config::to_json;

const KEY: &str = "sk-proj-abcDEF0123456789xyzXYZ";
const OTHER: &str = "sk-proj-ghiJKL9876543210uvwUVW";

fn load(text: &str) -> Loaded {
    Case::new(text).load(&Options::default())
}

/// Everything that a user and their programs see, in lower case.
fn printed(loaded: &Loaded) -> String {
    let people = render_all(&loaded.diagnostics, &loaded.sources, false);
    let programs = to_json(&loaded.diagnostics, &loaded.sources);
    format!("{people}\n{programs}").to_lowercase()
}

/// The file is refused, and what is printed about it has none of these.
fn is_kept_out(loaded: &Loaded, secrets: &[&str]) {
    let printed = printed(loaded);
    assert!(loaded.errors().next().is_some(), "{printed}");
    for secret in secrets {
        assert!(!printed.contains(&secret.to_lowercase()), "{printed}");
    }
}

fn literals(loaded: &Loaded) -> usize {
    let errors = loaded.errors();
    errors
        .filter(|it| it.code == codes::LITERAL_CREDENTIAL)
        .count()
}

#[test]
fn a_file_that_is_no_yaml_prints_no_credentials() {
    for text in [
        format!("secrets:\n  openai: {{ from: \"{KEY} }}\nedges: {{}}\n"),
        format!("secrets:\n  openai: {{ from: \"{KEY}\"\nedges: {{}}\n"),
        format!("secrets:\n  openai: {{ from: \"{KEY}\" }}\t# gone\n"),
        format!("secrets:\n  openai: {{ from: \"{KEY}\t\" }}\n"),
        format!("secrets:\n  openai: !x {KEY}\n"),
        format!("secrets:\n  openai: &x {KEY}\n"),
        format!("secrets: {{\"from\": \"env:X\" \"{KEY}\"}}\n"),
        format!("secrets:\n  openai: *{KEY}\n"),
        format!("secrets:\n  openai: @{KEY}\n"),
        format!("secrets: {{ openai: {{ from: \"{KEY}\", from: \"{OTHER}\" }} }}\n"),
        format!("secrets: {{ {KEY}: {{}}, {KEY}: {{}} }}\n"),
        format!("a: 1\n---\nb: {KEY}\n"),
    ] {
        let loaded = load(&text);
        is_kept_out(&loaded, &[KEY, OTHER, "abcdef0123", "ghijkl9876"]);
        assert!(literals(&loaded) > 0, "{text}");
    }
}

/// An escape hides a key from a search of the text.
#[test]
fn a_key_written_with_escapes_is_in_no_message() {
    let escaped = KEY.replacen("sk-", "sk\\u002d", 1);
    let text = format!("secrets: {{ \"{escaped}\": {{}}, \"{escaped}\": {{}} }}\n");
    let loaded = load(&text);
    assert!(loaded.errors().any(|it| it.code == codes::DUPLICATE_KEY));
    for it in loaded.errors() {
        assert!(!it.message.contains(KEY), "{}", it.message);
    }
}

#[test]
fn an_included_file_that_is_no_yaml_prints_no_credentials() {
    let mut case = Case::new("environment: dev\ninclude: [conf.d/*.yaml]\n");
    let text = format!("secrets:\n  openai: {{ from: \"{KEY} }}\n");
    case.0.insert("conf.d/a.yaml".to_owned(), text);
    let loaded = case.load(&Options::default());
    is_kept_out(&loaded, &[KEY, "abcdef0123"]);
    assert_eq!(literals(&loaded), 1);
}

#[test]
fn comments_are_searched_for_every_kind_of_key() {
    for secret in [
        KEY,
        "sk-ant-api03-abcDEF0123456789",
        "hvs.CAESIabcDEF0123456789abc",
        "xoxb-1234567890-abcdef",
    ] {
        let loaded = load(&format!("environment: dev\n# old key {secret}\n"));
        is_kept_out(&loaded, &[secret]);
        assert_eq!(literals(&loaded), 1, "{secret}");
        let place = loaded.sources.place(loaded.diagnostics[0].span());
        assert_eq!((place.line, place.column), (2, 11));
    }
    let loaded = load("environment: dev\n# postgres://u:hunter2secret@db\n");
    is_kept_out(&loaded, &["hunter2secret"]);
    assert_eq!(literals(&loaded), 1);
    let loaded = load("environment: dev\n# see https://host:8443/@scope and sk-frontend-12\n");
    assert_eq!(literals(&loaded), 0);
}

const SERVICE: &str = "environment: dev\nservices: { db: { peer: service, needs: edge, URL } }\n";

#[test]
fn passwords_of_urls_are_printed_nowhere() {
    for text in [
        SERVICE.replace("URL", "url: \"postgres://user:hunter2secret@db/x\""),
        SERVICE.replace("URL", "url: \"ftp://hunter2secret@db/x\""),
        SERVICE.replace("URL", "url: \"https://hunter2secret@db/x\""),
        SERVICE.replace("URL", "url: \"https://db/x?token=hunter2secret\""),
        SERVICE.replace("URL", "url: \"ftp://db/x?token=hunter2secret\""),
        SERVICE.replace("URL", "urls: \"https://db/x?token=hunter2secret\""),
        "login: { corp: { oidc: \"https://u:hunter2secret@x\" } }\n".to_owned(),
        "login: { corp: { oidc: \"https://x?hunter2secret\" } }\n".to_owned(),
        "secrets: { k: { from: \"vault:https://u:hunter2secret@v\" } }\n".to_owned(),
        "secrets: { k: { from: \"vault:https://hunter2secret@v\" } }\n".to_owned(),
        "audit: { sinks: { s: { ocsf: \"https://x/y?token=hunter2secret\" } } }\n".to_owned(),
        "listeners: { web: { hosts: [\"https://u:hunter2secret@x\"] } }\n".to_owned(),
    ] {
        is_kept_out(&load(&text), &["hunter2secret"]);
    }
}

/// Where the name of a secret belongs, people write the secret.
#[test]
fn what_is_no_name_of_a_secret_is_printed_nowhere() {
    for text in [
        "login: { corp: { client_secret: \"Summer2024!\" } }\n",
        "login: { corp: { client_secret: [\"Summer2024!\"] } }\n",
        "listeners: { hooks: { signature: { secret: \"Summer2024!\", scheme: stripe } } }\n",
        "services: { a: { certificate: { chain: a.pem, key: \"Summer2024!\" } } }\n",
        "services: { a: { credential: { secret: \"Summer2024!\", as: bearer } } }\n",
    ] {
        let loaded = load(text);
        is_kept_out(&loaded, &["Summer2024", "summer"]);
        let literal = loaded
            .errors()
            .find(|it| it.code == codes::LITERAL_CREDENTIAL);
        let help = literal.and_then(|it| it.help.as_deref()).unwrap();
        assert!(
            help.starts_with("`countersign secret put <name>`"),
            "{help}"
        );
    }
    let text =
        "listeners: { hooks: { signature: { secret: whsec_abcDEF0123456789, scheme: stripe } } }\n";
    is_kept_out(&load(text), &["abcDEF0123456789"]);
    // A key that is missing altogether is no secret.
    let nothing = load("login: { corp: { client_secret: } }\n");
    assert_eq!(literals(&nothing), 0);
}

/// Files that name credentials as they should are told what they are told without them.
#[test]
fn what_is_masked_does_not_blur_other_messages() {
    let loaded = load("environment: dev\nsecrets: { openai: { from: openai } }\n");
    let help = loaded.errors().find_map(|it| it.help.as_deref()).unwrap();
    assert!(help.contains("`countersign secret put openai`"), "{help}");
    assert_eq!(loaded.sources.name(0), ENTRY);
}
