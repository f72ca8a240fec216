//! Every entry of a configuration as a name and keys that say what more or less of them does.
//!
//! Each part of the model is taken apart with all its fields by name, so that a field that is added
//! to the model has to be judged here before it compiles.

use super::Effect;
use super::Key;
use super::Section;
use super::doors;
use super::services;
use super::value::Text;
use super::value::Unit;
use super::value::Value;
use super::value::millis;
use crate::config::Audit;
use crate::config::Budget;
use crate::config::Change;
use crate::config::Config;
use crate::config::Edge;
use crate::config::Environment;
use crate::config::Expectation;
use crate::config::Identity;
use crate::config::IdentityKind;
use crate::config::ObjectLock;
use crate::config::Pipeline;
use crate::config::Place;
use crate::config::Policy;
use crate::config::Role;
use crate::config::Secret;
use crate::config::SecretSource;
use crate::config::ServiceUrl;
use crate::config::Sink;
use crate::config::SinkKind;
use crate::config::Test;
use crate::config::Tier;
use crate::vocabulary::Name;
use countersign_ledger::spool::Commit;
use indexmap::IndexMap;

/// An entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) section: Section,
    /// What it does, as a whole, to come or to go.
    pub(super) weight: Weight,
}

/// What an entry does by being there.
#[derive(Clone, Debug)]
pub(super) enum Weight {
    /// It allows something.
    Allows,
    /// It allows something, and sets a limit that goes with it.
    Bounds,
    /// It allows nothing until something else names it.
    Named,
    /// It holds the configuration to something.
    Holds,
    /// An operation: it allows what no other rule does, and asks more of what another allows.
    Operation(services::Rule),
}

/// All entries; the two configurations that are compared tell what is judged by both.
pub(super) fn all(config: &Config, before: &Config, after: &Config) -> Vec<Entry> {
    // By name, so that a section that is added to the model has to be compared.
    let Config {
        trust_domain: _,
        environment: _,
        staleness: _,
        change: _,
        listeners,
        logins,
        identities,
        roles,
        tiers,
        services,
        edges,
        secrets,
        budgets,
        policies,
        audit,
        tests,
    } = config;
    let mut all = vec![top(config), ledger(audit)];
    all.extend(each(listeners, doors::listener));
    all.extend(each(logins, doors::login));
    all.extend(each(identities, |name, it| {
        let both = [before, after].iter().all(|config| {
            let of = config.identities.get(name);
            of.is_some_and(|it| it.attest.unix.is_some())
        });
        identity(name, it, both)
    }));
    all.extend(each(roles, |name, it| role(name, it, config, before)));
    all.extend(each(tiers, tier));
    for (name, service) in services {
        // What our own need follows from us and from the secrets.
        if matches!(service.url(), Some(ServiceUrl::BuiltIn)) {
            continue;
        }
        all.push(services::service(name, service));
        all.extend(services::operations(name, service));
    }
    all.extend(arrows(edges));
    all.extend(each(secrets, secret));
    all.extend(each(budgets, budget));
    all.extend(each(policies, policy));
    all.extend(each(&audit.sinks, sink));
    all.extend(tests.iter().map(test));
    all
}

impl Entry {
    pub(super) fn id(&self) -> (Section, &str) {
        (self.section, &self.name)
    }

    /// The service that an operation belongs to.
    pub(super) fn owner(&self) -> Option<(Section, &str)> {
        match &self.weight {
            Weight::Operation(rule) => Some((Section::Service, rule.service.as_str())),
            _ => None,
        }
    }

    pub(super) fn key(&self, key: &str) -> Option<&Value> {
        self.keys
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// What it does to add it to a configuration.
    pub(super) fn effect_of_coming(&self, before: &Config) -> Effect {
        match &self.weight {
            Weight::Allows | Weight::Bounds => Effect::LOOSENS,
            Weight::Named => Effect::NONE,
            Weight::Holds => Effect::TIGHTENS,
            Weight::Operation(rule) => rule.effect_of_coming(before),
        }
    }

    /// What it does to take it away, with what is left.
    pub(super) fn effect_of_going(&self, after: &Config) -> Effect {
        match &self.weight {
            Weight::Allows => Effect::TIGHTENS,
            Weight::Bounds => Effect::of(true, true),
            Weight::Named => Effect::NONE,
            Weight::Holds => Effect::LOOSENS,
            Weight::Operation(rule) => rule.effect_of_going(after),
        }
    }

    /// What its keys say, all of them on one side.
    pub(super) fn told(
        &self,
        side: impl Fn(String) -> (Option<String>, Option<String>),
    ) -> Vec<Key> {
        let shown = self
            .keys
            .iter()
            .filter_map(|(key, value)| Some((key, value.shown()?)));
        shown
            .map(|(key, text)| {
                let (before, after) = side(text);
                Key {
                    after,
                    before,
                    effect: Effect::NONE,
                    key: (*key).to_owned(),
                }
            })
            .collect()
    }
}

fn each<'a, T>(
    section: &'a IndexMap<Name, T>,
    entry: impl Fn(&Name, &T) -> Entry + 'a,
) -> impl Iterator<Item = Entry> + 'a {
    section.iter().map(move |(name, it)| entry(name, it))
}

fn top(config: &Config) -> Entry {
    let Change { place, approve } = &config.change;
    let staleness = config.staleness;
    // Development shows more and asks less.
    let dev = config.environment == Environment::Dev;
    Entry {
        keys: vec![
            (
                "trust_domain",
                Value::text(Some(config.trust_domain.as_str())),
            ),
            ("environment: dev", Value::yes(dev)),
            ("staleness.revocations", Value::time(staleness.revocations)),
            ("staleness.policy", Value::time(staleness.policy)),
            ("change.approve", Value::OneOf(Value::list(approve))),
        ],
        name: "configuration".to_owned(),
        place: *place,
        section: Section::Top,
        weight: Weight::Named,
    }
}

fn identity(name: &Name, it: &Identity, both_are_users: bool) -> Entry {
    let Identity {
        place,
        kind,
        attest,
        pipeline,
        team,
        fronts,
    } = it;
    let crate::config::Attest { k8s, unix } = attest;
    let account = k8s
        .as_ref()
        .map(|it| format!("{}/{}/{}", it.cluster, it.namespace, it.name));
    let user = unix.as_ref().map(|it| it.user.clone());
    let kind = match kind {
        IdentityKind::Workload => None,
        IdentityKind::AiAgent { owner } => Some(Text::new(format!(
            "ai-agent of {}:{}",
            owner.login, owner.person
        ))),
        IdentityKind::Partner { ca, dns } => Some(Text::shown_as(
            format!("{dns} {}", ca.text),
            format!("partner {dns} under {}", ca.path),
        )),
    };
    let mut keys = vec![
        ("kind", Value::Other(kind)),
        ("attest.k8s", Value::Grants(account.into_iter().collect())),
        ("attest.unix", Value::Grants(user.into_iter().collect())),
        ("team", Value::text(team.clone())),
        ("fronts", Value::Grants(Value::list(fronts))),
    ];
    if let (Some(unix), true) = (unix, both_are_users) {
        let crate::config::UnixProcess {
            user: _,
            nodes,
            sha256,
        } = unix;
        keys.push(("attest.unix.nodes", Value::OneOf(nodes.clone())));
        keys.push((
            "attest.unix.sha256",
            Value::demand(sha256.map(|it| it.to_string())),
        ));
    }
    if let Some(Pipeline { login, claims }) = pipeline {
        let claims = claims.iter().map(|(name, text)| format!("{name}={text}"));
        keys.push(("login", Value::text(Some(login.as_str()))));
        keys.push(("claims", Value::Demands(claims.collect())));
    }
    entry(Section::Identity, name, *place, keys, Weight::Allows)
}

fn role(name: &Name, it: &Role, config: &Config, before: &Config) -> Entry {
    let Role {
        place,
        members,
        includes,
        may,
        tier,
    } = it;
    let rate = tier
        .as_ref()
        .and_then(|tier| Some((tier.to_string(), config.tiers.get(tier)?.rate)));
    let elsewhere = before
        .roles
        .iter()
        .any(|(other, role)| other != name && role.tier.is_some());
    let permissions = may.iter().map(|it| it.as_str().to_owned()).collect();
    let keys = vec![
        ("members", Value::Grants(Value::list(members))),
        ("includes", Value::Grants(Value::list(includes))),
        ("may", Value::Grants(permissions)),
        (
            "tier",
            Value::Tier {
                tier: rate,
                elsewhere,
            },
        ),
    ];
    let weight = if tier.is_some() {
        Weight::Bounds
    } else {
        Weight::Allows
    };
    entry(Section::Role, name, *place, keys, weight)
}

fn tier(name: &Name, it: &Tier) -> Entry {
    let Tier { place, rate } = it;
    let keys = vec![("rate", Value::Rate(Some(*rate)))];
    entry(Section::Tier, name, *place, keys, Weight::Named)
}

/// All arrows from one to the other are one.
fn arrows(edges: &[Edge]) -> Vec<Entry> {
    let mut arrows: IndexMap<(&Name, &Name), (Place, Vec<_>)> = IndexMap::new();
    for Edge {
        place,
        from,
        to,
        operations,
    } in edges
    {
        let arrow = arrows.entry((from, to)).or_insert((*place, Vec::new()));
        arrow.1.extend(operations.iter().cloned());
    }
    arrows
        .into_iter()
        .map(|((from, to), (place, operations))| Entry {
            keys: vec![("operations", Value::Operations(operations))],
            name: format!("{from} -> {to}"),
            place,
            section: Section::Edge,
            weight: Weight::Allows,
        })
        .collect()
}

fn secret(name: &Name, it: &Secret) -> Entry {
    let Secret {
        place,
        from,
        needs,
        readers,
        rotate,
    } = it;
    let from = match from {
        SecretSource::Store(it) => format!("store:{it}"),
        SecretSource::Env(it) => format!("env:{it}"),
        SecretSource::File(it) => format!("file:{it}"),
        SecretSource::Vault(it) => format!("vault:{it}"),
        SecretSource::Aws(it) => format!("aws:{it}"),
        SecretSource::K8s(it) => format!("k8s:{it}"),
    };
    let keys = vec![
        ("from", Value::text(Some(from))),
        ("needs", Value::text(Some(needs.as_str()))),
        ("readers", Value::Grants(Value::list(readers))),
        ("rotate", Value::AtMost(rotate.map(millis), Unit::Millis)),
    ];
    // One that nobody reads is put into calls at most, and then a service names it.
    let weight = if readers.is_empty() {
        Weight::Named
    } else {
        Weight::Allows
    };
    entry(Section::Secret, name, *place, keys, weight)
}

fn budget(name: &Name, it: &Budget) -> Entry {
    let Budget {
        place,
        limit_microusd,
        window,
        per,
        prices,
        warn,
    } = it;
    let prices: Vec<_> = prices
        .iter()
        .map(|(model, price)| {
            let dollars = super::value::micro_dollars;
            format!(
                "{model}: ${} in, ${} out",
                dollars(price.input),
                dollars(price.output)
            )
        })
        .collect();
    let keys = vec![
        ("limit", Value::AtMost(Some(*limit_microusd), Unit::Dollars)),
        ("window", Value::text(Some(word(window)))),
        ("per", Value::text(Some(word(per)))),
        (
            "prices",
            Value::text((!prices.is_empty()).then(|| prices.join("; "))),
        ),
        ("warn", Value::Indifferent(warn.map(|it| format!("{it}%")))),
    ];
    entry(Section::Budget, name, *place, keys, Weight::Named)
}

fn policy(name: &Name, it: &Policy) -> Entry {
    let Policy {
        place,
        modules,
        data,
    } = it;
    let texts: Vec<_> = modules.iter().map(|it| it.text.as_ref()).collect();
    let paths: Vec<_> = modules.iter().map(|it| it.path.as_str()).collect();
    let data = (!data.is_empty()).then(|| serde_json::Value::Object(data.clone()).to_string());
    let keys = vec![
        (
            "rego",
            Value::Other(Some(Text::shown_as(texts.join("\0"), paths.join(", ")))),
        ),
        ("data", Value::text(data)),
    ];
    entry(Section::Policy, name, *place, keys, Weight::Named)
}

fn ledger(it: &Audit) -> Entry {
    let Audit {
        commit,
        keep,
        sinks: _,
    } = it;
    let commit = match commit {
        Commit::Fsync => Some("fsync"),
        Commit::Os => None,
    };
    Entry {
        keys: vec![
            ("commit", Value::demand(commit)),
            ("keep", Value::AtLeast(Some(millis(*keep)), Unit::Millis)),
        ],
        name: "audit".to_owned(),
        place: Place::default(),
        section: Section::Audit,
        weight: Weight::Named,
    }
}

fn sink(name: &Name, it: &Sink) -> Entry {
    let Sink { place, kind } = it;
    let to = match kind {
        SinkKind::Ocsf(url) => format!("ocsf {url}"),
        SinkKind::S3 { url, lock: None } => format!("s3 {url}"),
        SinkKind::S3 {
            url,
            lock: Some(ObjectLock::Compliance),
        } => format!("s3 {url}, lock compliance"),
        SinkKind::S3 {
            url,
            lock: Some(ObjectLock::Governance),
        } => format!("s3 {url}, lock governance"),
        SinkKind::File(path) => format!("file {path}"),
    };
    let keys = vec![("to", Value::text(Some(to)))];
    entry(Section::Sink, name, *place, keys, Weight::Holds)
}

fn test(it: &Test) -> Entry {
    let Test {
        place,
        expect_place: _,
        name,
        subject,
        via,
        service,
        operation,
        with,
        expect,
    } = it;
    let via = Value::list(via).join(" > ");
    let with = (!with.is_empty()).then(|| serde_json::Value::Object(with.clone()).to_string());
    let expect = match expect {
        Expectation::Allow => "allow".to_owned(),
        Expectation::Deny(pillar) => format!("deny {pillar}"),
        Expectation::NeedsApproval => "needs-approval".to_owned(),
    };
    Entry {
        keys: vec![
            ("as", Value::text(Some(subject.to_string()))),
            ("via", Value::text((!via.is_empty()).then_some(via))),
            (
                "call",
                Value::text(Some(format!("{operation} at {service}"))),
            ),
            ("with", Value::text(with)),
            ("expect", Value::text(Some(expect))),
        ],
        name: name.clone(),
        place: *place,
        section: Section::Test,
        weight: Weight::Holds,
    }
}

pub(super) fn entry(
    section: Section,
    name: &Name,
    place: Place,
    keys: Vec<(&'static str, Value)>,
    weight: Weight,
) -> Entry {
    Entry {
        keys,
        name: name.to_string(),
        place,
        section,
        weight,
    }
}

/// The word that the file has for a choice.
pub(super) fn word(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice)
        .ok()
        .and_then(|it| it.as_str().map(str::to_owned))
        .unwrap_or_default()
}
