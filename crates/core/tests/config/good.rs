//! Realistic files are clean, and mean what they say.

use super::check;
use super::files;
use countersign_core::config::BudgetScope;
use countersign_core::config::Config;
use countersign_core::config::CredentialForm;
use countersign_core::config::Environment;
use countersign_core::config::Expectation;
use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::Loaded;
use countersign_core::config::Member;
use countersign_core::config::Needs;
use countersign_core::config::Options;
use countersign_core::config::SecretSource;
use countersign_core::config::ServiceUrl;
use countersign_core::config::Window;
use countersign_core::config::load;
use countersign_core::config::load_text;
use countersign_core::config::render_all;
use countersign_core::vocabulary::Pillar;
use std::time::Duration;

fn config(name: &str) -> Config {
    let text = files("good")
        .into_iter()
        .find(|(it, _)| it == name)
        .unwrap()
        .1;
    check(&text).config.unwrap()
}

#[test]
fn realistic_files_are_clean() {
    let files = files("good");
    assert!(files.len() >= 6);
    for (name, text) in files {
        let strict = Options {
            strict: true,
            ..super::options(&text)
        };
        let shown = |loaded: &Loaded| render_all(&loaded.diagnostics, &loaded.sources, false);
        let loaded = super::Case::new(&text).load(&strict);
        let doubts = super::found_in_any_build(&loaded);
        assert!(doubts.is_empty(), "{name}\n{}", shown(&loaded));
        let mut expected = super::directive(&text, "beyond");
        expected.sort_unstable();
        assert_eq!(super::beyond(&loaded), expected, "{name}");
        let loaded = check(&text);
        assert!(loaded.config.is_some(), "{name}\n{}", shown(&loaded));
    }
}

#[test]
fn three_lines_get_the_defaults() {
    let config = config("three-lines");
    assert_eq!(config.environment, Environment::Dev);
    assert_eq!(config.trust_domain.as_str(), "local.dev.invalid");
    assert_eq!(config.staleness.policy, Duration::from_secs(300));
    assert_eq!(
        config.audit.commit,
        countersign_ledger::spool::Commit::Fsync
    );
    assert!(config.audit.keep >= Duration::from_secs(2_557 * 86_400));
    let app = &config.services["app"];
    let url = ServiceUrl::Http {
        host: "127.0.0.1".into(),
        port: 8000,
        base: String::new(),
    };
    assert_eq!(
        (&app.urls[0], app.timeout, app.max_stream),
        (&url, Duration::from_secs(30), Duration::from_secs(3600))
    );
    assert_eq!(app.operations.len(), 1);
    assert_eq!(
        (&app.operations[0].pattern, &app.operations[0].needs),
        (&None, &Needs::Edge)
    );
    let names: Vec<_> = config
        .services
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    assert_eq!(names, ["app", "vault", "issuer", "audit", "console"]);
}

#[test]
fn the_hms_story_is_understood() {
    let config = config("hms");
    let analysts = Member::Group {
        login: "dev".into(),
        name: "analysts".into(),
    };
    assert_eq!(config.roles["analyst"].members, [analysts]);
    assert_eq!(config.roles["manager"].includes[0].as_str(), "analyst");
    let openai = &config.services["openai"];
    assert_eq!(
        openai.credential.as_ref().unwrap().form,
        CredentialForm::Bearer
    );
    assert_eq!(openai.operations[0].models, ["gpt-*"]);
    assert_eq!(
        openai.operations[0].budget.as_ref().unwrap().as_str(),
        "llm"
    );
    let llm = &config.budgets["llm"];
    assert_eq!(
        (llm.limit_microusd, llm.window, llm.per),
        (50_000_000, Window::Day, BudgetScope::All)
    );
    assert_eq!(
        (llm.prices["gpt-*"].input, llm.prices["gpt-*"].output),
        (2_500_000, 10_000_000)
    );
    let vault: Vec<_> = config.services["vault"]
        .operations
        .iter()
        .map(|it| it.pattern.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(
        vault,
        [
            "write openai",
            "read openai_primary",
            "write openai_primary"
        ]
    );
    let refused = &config.tests[3];
    assert_eq!(
        (refused.service.as_str(), refused.operation.to_string()),
        ("vault", "read openai_primary".to_owned())
    );
    assert_eq!(refused.expect, Expectation::Deny(Pillar::MicroSegmentation));
    let model = config.tests.last().unwrap();
    assert_eq!(model.with["model"], "gpt-4o");
    assert_eq!(
        model.via.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        ["web", "frontend", "hms-api"]
    );
    let edge = &config.edges[2];
    assert_eq!(
        (edge.from.as_str(), edge.to.as_str(), edge.place.line),
        ("hms-api", "openai", 37)
    );
}

#[test]
fn the_most_specific_route_comes_first() {
    let config = config("routes");
    let routes: Vec<_> = config.listeners["web"]
        .routes
        .iter()
        .map(|it| format!("{}{} {}", it.host, it.path.object(), it.service))
        .collect();
    assert_eq!(
        routes,
        [
            "app.localhost/** shop",
            "localhost/api/health status",
            "localhost/api/** api",
            "localhost/** shop"
        ]
    );
    let api = ServiceUrl::Http {
        host: "localhost".into(),
        port: 8001,
        base: "/v1".into(),
    };
    assert_eq!(config.services["api"].urls[0], api);
}

#[test]
fn production_is_understood() {
    let config = config("production");
    assert_eq!(config.environment, Environment::Prod);
    let mesh = &config.listeners["mesh"];
    assert!(mesh.bind.ip().is_unspecified());
    assert_eq!((mesh.limits.body, mesh.limits.connections), (4 << 20, 5000));
    let rule = &config.services["billing"].operations[0];
    let hours = rule.hours.unwrap();
    assert_eq!(
        (hours.first_day, hours.last_day, hours.from, hours.to),
        (0, 4, 450, 1140)
    );
    assert_eq!(rule.except[0].to_string(), "GET /Invoices/health");
    assert_eq!(config.identities["billing"].unix_user(), Some("billing"));
    let third = self::config("third-parties");
    assert_eq!(
        third.secrets["signing"].from,
        SecretSource::Store("team/signing".into())
    );
    assert_eq!(
        third.services["anthropic"]
            .credential
            .as_ref()
            .unwrap()
            .form,
        CredentialForm::Header("x-api-key".into())
    );
    assert_eq!(
        third.budgets["llm"].prices.get_index(0).unwrap().0,
        "claude-opus-*"
    );
    let people = self::config("people");
    let bob = Member::User {
        login: "dev".into(),
        sub: "bob@acme.example".into(),
    };
    assert!(people.roles["readers"].members.contains(&bob));
    assert_eq!(
        people.listeners["web"].tls12.as_deref(),
        Some("kiosks in the lobby until 2027")
    );
}

#[test]
fn dev_needs_to_be_said() {
    let text = files("good")
        .into_iter()
        .find(|(name, _)| name == "three-lines")
        .unwrap()
        .1;
    let loaded = load_text("countersign.yaml", text, &Options::default());
    assert_eq!(
        super::found(&loaded),
        ["CS0310 2:1", "CS0324 2:14", "CS0308 2:67"]
    );
}

#[test]
fn the_example_is_accepted() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/hms/countersign.yaml"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let loaded = load_text("countersign.yaml", text, &Options::default());
    let shown = render_all(&loaded.diagnostics, &loaded.sources, false);
    assert!(loaded.config.is_some(), "{shown}");
    assert!(loaded.diagnostics.is_empty(), "{shown}");
}

struct Folder;

impl Files for Folder {
    fn read(&self, path: &str) -> Result<String, FileError> {
        match path {
            "here.yaml" => Ok(files("good").swap_remove(0).1),
            other => Err(FileError {
                path: other.to_owned(),
                reason: "no such file".to_owned(),
            }),
        }
    }

    fn list(&self, _: &str) -> Result<Vec<String>, FileError> {
        Ok(Vec::new())
    }
}

#[test]
fn files_come_through_the_trait() {
    assert!(
        load(&Folder, "here.yaml", &Options::default())
            .config
            .is_some()
    );
    let missing = load(&Folder, "there.yaml", &Options::default());
    assert_eq!(super::found(&missing), ["CS0501 1:1"]);
}
