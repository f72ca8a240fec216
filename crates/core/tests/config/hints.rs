//! Remedies that would be wrong if they were taken by their word, and what is said once only.

use super::Case;
use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::Severity;
use countersign_core::config::codes;
use countersign_core::config::load;
use std::fmt::Write as _;

fn check(text: &str) -> Loaded {
    Case::new(text).load(&Options::default())
}

/// The helps of one code.
fn helps(loaded: &Loaded, code: codes::ConfigCode) -> Vec<&str> {
    let these = loaded.errors().filter(|it| it.code == code);
    these.filter_map(|it| it.help.as_deref()).collect()
}

fn many_unused(count: usize) -> String {
    let mut text = String::from(
        "environment: dev\nlisteners: { mesh: { bind: \"127.0.0.1:9443\", peer: service } }\nidentities: { a: {} }\nservices: { b: { peer: service, url: \"http://127.0.0.1:1\", needs: edge } }\nedges: { a -> b: [GET /**] }\nsecrets:\n",
    );
    for index in 0..count {
        writeln!(text, "  s{index}: {{ from: \"store:s{index}\" }}").unwrap();
    }
    text
}

/// However many things were perhaps not meant, the configuration can be used.
#[test]
fn warnings_beyond_the_most_are_one_more_warning() {
    let loaded = check(&many_unused(1_001));
    assert!(loaded.config.is_some());
    assert_eq!(loaded.errors().count(), 0);
    assert_eq!(loaded.warnings().count(), 1_001);
    let last = loaded.diagnostics.last().unwrap();
    assert_eq!(last.message, "1 more problems are not shown");
    assert_eq!(last.severity, Severity::Warning);
    let exactly = check(&many_unused(1_000));
    assert_eq!(exactly.warnings().count(), 1_000);
    assert!(exactly.warnings().all(|it| it.code != codes::TOO_BIG));
}

/// Warnings must not use up the room of errors.
#[test]
fn an_error_behind_many_warnings_is_reported() {
    let text = many_unused(1_100).replace("environment: dev", "environment: dev\nnonsense: 1");
    let loaded = check(&text);
    assert!(loaded.config.is_none());
    let errors: Vec<_> = loaded.diagnostics.iter().map(|it| it.code).collect();
    assert_eq!(errors, [codes::UNKNOWN_KEY]);
}

#[test]
fn approvers_that_are_no_list_are_one_error() {
    let loaded = check("environment: dev\nchange: { approve: admin }\n");
    let about_approvers: Vec<_> = loaded
        .errors()
        .filter(|it| loaded.sources.place(it.span()).line == 2)
        .map(|it| it.code)
        .collect();
    assert_eq!(about_approvers, [codes::SHAPE]);
}

#[test]
fn quantities_out_of_range_are_told_the_range() {
    for (text, help) in [
        ("0s", "write a duration above 0, such as `30s`"),
        ("-5m", "write a duration above 0, such as `30s`"),
        ("99999999999999999999d", "write at most `500000000y`"),
    ] {
        let loaded = check(&format!(
            "environment: dev\nstaleness: {{ policy: {text} }}\n"
        ));
        assert_eq!(helps(&loaded, codes::QUANTITY), [help], "{text}");
    }
    let most = check("environment: dev\nstaleness: { policy: 500000000y }\n");
    assert_eq!(helps(&most, codes::QUANTITY), Vec::<&str>::new());
    for (text, help) in [
        ("0/s", "write a count above 0, such as `100/min`"),
        ("-1/min", "write a count above 0, such as `100/min`"),
        ("4294967296/h", "write a count of at most `4294967295`"),
    ] {
        let loaded = check(&format!("environment: dev\ntiers: {{ gold: {text} }}\n"));
        assert_eq!(helps(&loaded, codes::QUANTITY), [help], "{text}");
    }
}

#[test]
fn a_limit_without_a_currency_keeps_its_window() {
    let loaded = check(
        "environment: dev\nbudgets: { llm: { limit: 50/day, prices: { m: { input: $1, output: $1 } } } }\n",
    );
    assert_eq!(helps(&loaded, codes::QUANTITY), ["write `$50/day`"]);
}

/// A service is suggested only if there is one.
#[test]
fn a_door_that_leads_nowhere_names_what_there_is() {
    let door = "environment: dev\nlisteners: { web: { bind: \"127.0.0.1:8443\", peer: browser, login: dev } }\n";
    let none = check(door);
    assert_eq!(
        helps(&none, codes::NO_ROUTE),
        ["add a service to `services`, and an edge from here to it"]
    );
    let some = format!(
        "{door}services: {{ app: {{ peer: service, url: \"http://127.0.0.1:1\", needs: edge }} }}\n"
    );
    assert_eq!(
        helps(&check(&some), codes::NO_ROUTE),
        ["add the edge `web -> app: [GET /**]`"]
    );
}

#[test]
fn lone_carriage_returns_are_one_error() {
    let loaded = check("environment: dev\rlisteners: {}\rservices: {}\r");
    let said: Vec<_> = loaded
        .errors()
        .filter(|it| it.code == codes::CHARACTER)
        .map(|it| (it.message.as_str(), it.help.as_deref().unwrap()))
        .collect();
    assert_eq!(
        said,
        [(
            "a carriage return without a line feed is in the file",
            "save the file with line feeds at the ends of its lines"
        )]
    );
}

/// Files none of which can be read.
struct Unreadable(&'static str);

impl Files for Unreadable {
    fn read(&self, path: &str) -> Result<String, FileError> {
        if path == super::ENTRY && self.0 == FileError::NOT_REGULAR {
            return Ok("environment: dev\ninclude: a.yaml\n".to_owned());
        }
        Err(FileError {
            path: path.to_owned(),
            reason: self.0.to_owned(),
        })
    }

    fn list(&self, _: &str) -> Result<Vec<String>, FileError> {
        Ok(Vec::new())
    }
}

#[test]
fn what_is_no_text_file_is_told_what_to_do() {
    for (reason, help) in [
        (FileError::NOT_UTF8, "save the file as UTF-8"),
        (FileError::FOLDER, "name a file in it"),
        (
            FileError::NOT_REGULAR,
            "copy what it gives into a file, and name that",
        ),
    ] {
        let loaded = load(&Unreadable(reason), super::ENTRY, &Options::default());
        assert_eq!(helps(&loaded, codes::NO_FILE), [help]);
    }
}
