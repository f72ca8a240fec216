//! Realistic files are clean, and mean what they say.

use super::Case;
use super::check;
use super::directive;
use super::files;
use countersign_core::config::BudgetScope;
use countersign_core::config::Config;
use countersign_core::config::CredentialForm;
use countersign_core::config::DoorTls;
use countersign_core::config::Environment;
use countersign_core::config::Expectation;
use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::IdentityKind;
use countersign_core::config::Member;
use countersign_core::config::Needs;
use countersign_core::config::Options;
use countersign_core::config::Place;
use countersign_core::config::SecretSource;
use countersign_core::config::ServiceUrl;
use countersign_core::config::Window;
use countersign_core::config::codes;
use countersign_core::config::is_listed;
use countersign_core::config::load;
use countersign_core::config::load_text;
use countersign_core::config::render_all;
use countersign_core::vocabulary::Pillar;
use std::collections::BTreeMap;
use std::fmt::Write as _;
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
    assert!(files.len() >= 12);
    let mut wrong = String::new();
    for (name, text) in files {
        let strict = Options {
            strict: true,
            ..super::options(&text)
        };
        let loaded = Case::new(&text).load(&strict);
        let warned: Vec<_> = directive(&text, "warns")
            .iter()
            .flat_map(|it| it.split(", "))
            .collect();
        let found = super::found_in_any_build(&loaded);
        let parts = super::beyond(&loaded);
        let mut expected: Vec<_> = directive(&text, "beyond")
            .iter()
            .flat_map(|it| it.split("; "))
            .collect();
        expected.sort_unstable();
        if found != warned || parts != expected || check(&text).config.is_none() {
            let shown = render_all(&loaded.diagnostics, &loaded.sources, false);
            writeln!(wrong, "## {name}: {found:?}, {parts:#?}\n{shown}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Of what is said beside the caret or below it, nothing depends on where files come from.
#[test]
fn a_bundle_reads_as_its_files() {
    let mut several = 0;
    for (name, text) in files("good") {
        let options = super::options(&text);
        let loaded = Case::new(&text).load(&options);
        let kept = Kept(
            loaded
                .sources
                .files()
                .map(|(path, text)| (path.to_owned(), text.to_owned()))
                .collect(),
        );
        several += usize::from(kept.0.len() > 1);
        let again = load(&kept, loaded.sources.name(0), &options);
        assert_eq!(again.config, loaded.config, "{name}");
        assert_eq!(again.diagnostics, loaded.diagnostics, "{name}");
        assert!(again.sources.files().eq(loaded.sources.files()), "{name}");
    }
    assert!(several >= 3, "{several}");
}

#[test]
fn places_are_in_the_file_that_says_it() {
    let text = files("good")
        .into_iter()
        .find(|(name, _)| name == "several-files")
        .unwrap()
        .1;
    let loaded = check(&text);
    let config = loaded.config.unwrap();
    let file = |place: Place| loaded.sources.name(place.file).to_owned();
    assert_eq!(file(config.listeners["web"].place), super::ENTRY);
    assert_eq!(file(config.services["shop"].place), "conf.d/shop.yaml");
    assert_eq!(file(config.edges[0].place), "conf.d/shop.yaml");
    assert_eq!(config.audit.keep, Duration::from_secs(10 * 366 * 86_400));
    let schema = config.services["shop"].operations[0].body_schema.as_ref();
    assert_eq!(schema.unwrap().path, "schemas/report.json");
}

#[test]
fn the_whole_company_is_understood() {
    let config = config("whole-company");
    assert_eq!(config.listeners["web"].tls, DoorTls::Acme);
    assert_eq!(config.logins["corp"].roles_from.as_deref(), Some("groups"));
    let IdentityKind::Partner { ca, dns } = &config.identities["globex"].kind else {
        panic!("globex is a partner");
    };
    assert_eq!(
        (ca.path.as_str(), dns.as_str()),
        ("partners/globex.pem", "api.globex.example")
    );
    assert_eq!(config.listeners["partners"].client_ca.as_ref(), Some(ca));
    let IdentityKind::AiAgent { owner } = &config.identities["infra-bot"].kind else {
        panic!("infra-bot is an agent");
    };
    assert_eq!(owner.login, "corp");
    let pipeline = config.identities["deploy-ci"].pipeline.as_ref().unwrap();
    assert_eq!(pipeline.claims["repository"], "acme/infra");
    let member = Member::Group {
        login: "corp".into(),
        name: "analysts".into(),
    };
    assert_eq!(config.roles["analyst"].members, [member]);
    let pro = config.tiers["pro"].rate;
    assert_eq!((pro.count, pro.burst), (100, 150));
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

/// The files of a bundle.
struct Kept(BTreeMap<String, String>);

impl Files for Kept {
    fn read(&self, path: &str) -> Result<String, FileError> {
        self.0.get(path).cloned().ok_or_else(|| FileError {
            path: path.to_owned(),
            reason: "not in the bundle".to_owned(),
        })
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError> {
        let listed = self.0.keys().filter(|path| is_listed(pattern, path));
        Ok(listed.cloned().collect())
    }
}

struct Folder;

impl Files for Folder {
    fn read(&self, path: &str) -> Result<String, FileError> {
        match path {
            "here.yaml" => Ok(files("good")
                .into_iter()
                .find(|(name, _)| name == "three-lines")
                .unwrap()
                .1),
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
        load(&Folder, "here.yaml", &super::options("#! dev\n"))
            .config
            .is_some()
    );
    let missing = load(&Folder, "there.yaml", &Options::default());
    assert_eq!(super::found(&missing), ["CS0501 1:1"]);
}

/// Who has a role that includes the approvers' role has that one too.
#[test]
fn people_of_a_role_above_can_approve() {
    let nobody = files("broken")
        .into_iter()
        .find(|(name, _)| name == "approver-nobody")
        .unwrap()
        .1;
    let at = "roles:\n";
    for (above, can) in [
        (
            "  a: { includes: [b] }\n  b: { includes: [builders], members: [group:x] }\n",
            true,
        ),
        (
            "  a: { includes: [b], members: [group:x] }\n  b: { includes: [builders] }\n",
            true,
        ),
        (
            "  a: { includes: [b], members: [bot] }\n  b: { includes: [builders] }\n",
            false,
        ),
    ] {
        let text = nobody.replacen(at, &format!("{at}{above}"), 1);
        assert_ne!(text, nobody);
        let loaded = check(&text);
        let refused = loaded.errors().any(|it| it.code == codes::NO_APPROVERS);
        assert_eq!(refused, !can, "{above}");
    }
}
