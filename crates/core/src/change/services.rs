//! Services and their operations, key by key.

use super::Effect;
use super::Section;
use super::entries::Entry;
use super::entries::Weight;
use super::entries::entry;
use super::entries::word;
use super::value::Text;
use super::value::Unit;
use super::value::Value;
use super::value::millis;
use crate::config::ClientCertificate;
use crate::config::Config;
use crate::config::CredentialForm;
use crate::config::Engine;
use crate::config::Lease;
use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::Service;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;

/// Which operations a rule is about.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) pattern: Option<OperationPattern>,
    pub(super) service: Name,
}

#[expect(clippy::too_many_lines, reason = "every field of the model, by name")]
pub(super) fn service(name: &Name, it: &Service) -> Entry {
    let Service {
        place,
        peer,
        urls,
        balance,
        health,
        retry,
        identity,
        credential,
        headers,
        lease,
        through_agent,
        engine,
        certificate,
        server_ca,
        timeout,
        max_stream,
        private_network,
        fold_case,
        operations: _,
    } = it;
    let credential = credential.as_ref().map(|it| match &it.form {
        CredentialForm::Bearer => format!("{} as bearer", it.secret),
        CredentialForm::Header(name) => format!("{} as {name}", it.secret),
    });
    let health = health.as_ref().map(|it| {
        let shown = |time| Value::time(time).shown().unwrap_or_default();
        format!(
            "{} every {} in {}",
            it.path,
            shown(it.every),
            shown(it.timeout)
        )
    });
    let mut keys = vec![
        ("peer", Value::text(Some(word(peer)))),
        (
            "url",
            Value::text((!urls.is_empty()).then(|| Value::list(urls).join(", "))),
        ),
        ("identity", Value::text(Some(identity.as_str()))),
        ("credential", Value::text(credential)),
        ("headers", Value::Grants(headers.clone())),
        ("engine", Value::text(engine.as_ref().map(engine_text))),
        (
            "certificate",
            Value::Other(certificate.as_ref().map(shown_by)),
        ),
        (
            "server_ca",
            Value::Other(server_ca.as_ref().map(Text::file)),
        ),
        ("timeout", Value::time(*timeout)),
        ("max_stream", Value::time(*max_stream)),
        ("network: private", Value::yes(*private_network)),
        ("case: fold", Value::text(fold_case.then_some("yes"))),
        (
            "through: agent",
            Value::demand(through_agent.then_some("yes")),
        ),
        ("balance", Value::Indifferent(Some(word(balance)))),
        ("retry", Value::Indifferent(Some(word(retry)))),
        ("health", Value::Indifferent(health)),
    ];
    if let Some(Lease {
        place: _,
        ttl,
        grants,
    }) = lease
    {
        let grants = grants
            .iter()
            .map(|it| format!("{} on {}", it.privilege, it.object));
        keys.push(("lease.ttl", Value::time(*ttl)));
        keys.push(("lease.grants", Value::Grants(grants.collect())));
    }
    entry(Section::Service, name, *place, keys, Weight::Allows)
}

pub(super) fn operations<'a>(
    name: &'a Name,
    service: &'a Service,
) -> impl Iterator<Item = Entry> + 'a {
    service
        .operations
        .iter()
        .map(move |rule| operation(name, rule))
}

#[expect(clippy::too_many_lines, reason = "every field of the model, by name")]
fn operation(name: &Name, it: &OperationRule) -> Entry {
    let OperationRule {
        place,
        pattern,
        needs,
        except,
        person,
        body_max,
        body_schema,
        screens,
        models,
        budget,
        hours,
        rate,
        policy,
        approve,
        input,
        token,
    } = it;
    let needs = match needs {
        Needs::Permission(permission) => Some(Text::new(permission.as_str())),
        Needs::Edge => None,
    };
    // What leaves this rule may fall under another, or under none that keeps it: undecidable.
    let mut except = Value::list(except);
    except.sort();
    let screens: Vec<_> = screens.iter().map(word).collect();
    let named = |it: &Option<Name>| Value::demand(it.as_ref().map(Name::as_str));
    let keys = vec![
        ("needs", Value::Demand(needs)),
        (
            "except",
            Value::text((!except.is_empty()).then(|| except.join(", "))),
        ),
        ("subject: person", Value::demand(person.then_some("yes"))),
        ("body.max", Value::AtMost(*body_max, Unit::Bytes)),
        (
            "body.schema",
            Value::Demand(body_schema.as_ref().map(Text::file)),
        ),
        ("body.screen", Value::Demands(screens)),
        ("models", Value::OneOf(models.clone())),
        ("budget", named(budget)),
        ("hours", Value::Hours(*hours)),
        ("rate", Value::Rate(*rate)),
        ("policy", named(policy)),
        ("approve", Value::OneOf(Value::list(approve))),
        ("input", Value::Demand(input.as_ref().map(Text::file))),
        ("token", Value::AtMost(token.map(millis), Unit::Millis)),
    ];
    let name_of = pattern
        .as_ref()
        .map_or_else(|| "all operations".to_owned(), ToString::to_string);
    Entry {
        keys,
        name: format!("{name}: {name_of}"),
        place: *place,
        section: Section::Operation,
        weight: Weight::Operation(Rule {
            pattern: pattern.clone(),
            service: name.clone(),
        }),
    }
}

impl Rule {
    /// All rules of an operation apply together, and one that falls under none is refused. So a new
    /// rule only asks for more where an old one already covers all of it.
    pub(super) fn effect_of_coming(&self, before: &Config) -> Effect {
        let Some(service) = before.services.get(&self.service) else {
            return Effect::LOOSENS;
        };
        let covers = |rule: &&OperationRule| {
            rule.except.is_empty()
                && match (&rule.pattern, &self.pattern) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(wide), Some(new)) => wide.covers(new),
                }
        };
        let covered = service.operations.iter().any(|rule| covers(&rule));
        Effect::of(!covered, self.meets(service))
    }

    /// What another rule still allows is asked for less without this one.
    pub(super) fn effect_of_going(&self, after: &Config) -> Effect {
        match after.services.get(&self.service) {
            Some(service) => Effect::of(self.meets(service), true),
            None => Effect::TIGHTENS,
        }
    }

    /// Whether an operation may fall under this rule and under one of the service.
    fn meets(&self, service: &Service) -> bool {
        service.operations.iter().any(|rule| {
            service.fold_case
                || match (&rule.pattern, &self.pattern) {
                    (Some(one), Some(other)) => one.overlaps(other),
                    _ => true,
                }
        })
    }
}

fn engine_text(engine: &Engine) -> String {
    match engine {
        Engine::Terraform(it) => format!("terraform {it}"),
        Engine::Opentofu(it) => format!("opentofu {it}"),
        Engine::Calm(it) => format!("calm {it}"),
        Engine::Infoblox(it) => format!("infoblox {it}"),
    }
}

fn shown_by(it: &ClientCertificate) -> Text {
    let ClientCertificate {
        place: _,
        chain,
        key,
    } = it;
    Text::shown_as(
        format!("{key} {}", chain.text),
        format!("{} with {key}", chain.path),
    )
}
