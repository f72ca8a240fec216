//! What a configuration asks for and this build does not enforce.
//!
//! The language is whole; a build may lack a part of it. A restriction that is read and not
//! enforced is worse than none, so a configuration that asks for such a part is checked, warned
//! about, and not put in force.

use super::Attached;
use super::Config;
use super::DoorTls;
use super::Identity;
use super::IdentityKind;
use super::Listener;
use super::Login;
use super::OperationRule;
use super::PeerKind;
use super::Place;
use super::SecretSource;
use super::Service;

/// A part of the configuration that this build does not enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Where it is written.
    pub place: Place,
    /// What it is, such as `` `peer: broker` ``.
    pub what: &'static str,
}

impl Config {
    /// What this build does not enforce, in the order of the sections.
    #[must_use]
    pub fn beyond(&self) -> Vec<Beyond> {
        let mut found = Vec::new();
        let mut add = |place: Place, asked: bool, what: &'static str| {
            if asked {
                found.push(Beyond { place, what });
            }
        };
        for listener in self.listeners.values() {
            door(listener, &mut add);
        }
        for identity in self.identities.values() {
            caller(identity, &mut add);
        }
        for role in self.roles.values() {
            add(role.place, role.tier.is_some(), "`tier`");
        }
        for service in self.services.values() {
            upstream(service, &mut add);
            for rule in &service.operations {
                operation(rule, &mut add);
            }
        }
        for edge in &self.edges {
            let leased = edge.operations.iter().any(|it| it.verb() == "lease");
            add(edge.place, leased, "`lease` from the vault");
        }
        for secret in self.secrets.values() {
            let elsewhere = matches!(
                secret.from,
                SecretSource::Vault(_) | SecretSource::Aws(_) | SecretSource::K8s(_)
            );
            add(secret.place, elsewhere, "a secret of another store");
            add(secret.place, secret.rotate.is_some(), "`rotate`");
        }
        for budget in self.budgets.values() {
            let team = budget.per == super::BudgetScope::Team;
            add(budget.place, team, "`per: team`");
            add(budget.place, budget.warn.is_some(), "`warn`");
            add(
                budget.place,
                budget.prices.is_empty(),
                "a budget at list prices",
            );
        }
        for sink in self.audit.sinks.values() {
            add(sink.place, true, "`sinks`");
        }
        found
    }
}

impl OperationRule {
    /// What the operation asks for that this build can't judge; such a call is never allowed.
    #[must_use]
    pub fn undecidable(&self) -> Option<&'static str> {
        let mut first = None;
        operation(self, &mut |_, asked, what| {
            first = first.or(asked.then_some(what));
        });
        first
    }
}

impl Listener {
    /// What its callers prove that this build can't judge.
    #[must_use]
    pub fn undecidable(&self) -> Option<&'static str> {
        let mut first = None;
        door_peer(self, &mut |_, asked, what| {
            first = first.or(asked.then_some(what));
        });
        first
    }
}

impl Identity {
    /// What it is that bears on what it may do, and this build does not know.
    #[must_use]
    pub fn undecidable(&self) -> Option<&'static str> {
        let mut first = None;
        kind(self, &mut |_, asked, what| {
            first = first.or(asked.then_some(what));
        });
        first
    }
}

fn door(listener: &Listener, add: &mut impl FnMut(Place, bool, &'static str)) {
    let place = listener.place;
    let oidc = matches!(listener.login, Some(Login::Oidc(_)));
    door_peer(listener, add);
    add(place, oidc, "sign-in by `oidc`");
    add(place, listener.tls == DoorTls::Acme, "`tls: acme`");
    add(
        place,
        matches!(listener.tls, DoorTls::Files { .. }),
        "`tls` from files",
    );
    add(place, listener.rate.is_some(), "`rate` of a listener");
    add(place, listener.cors.is_some(), "`cors`");
}

fn door_peer(listener: &Listener, add: &mut impl FnMut(Place, bool, &'static str)) {
    let (place, peer) = (listener.place, listener.peer);
    let third_party = peer == PeerKind::ThirdParty;
    add(
        place,
        peer == PeerKind::Partner,
        "a door of `peer: partner`",
    );
    add(place, third_party, "a door of `peer: third-party`");
}

fn kind(identity: &Identity, add: &mut impl FnMut(Place, bool, &'static str)) {
    let place = identity.place;
    let partner = matches!(identity.kind, IdentityKind::Partner { .. });
    let agent = matches!(identity.kind, IdentityKind::AiAgent { .. });
    add(place, partner, "`kind: partner`");
    add(place, agent, "`kind: ai-agent`");
}

fn caller(identity: &Identity, add: &mut impl FnMut(Place, bool, &'static str)) {
    let place = identity.place;
    let unix = identity.attest.unix.as_ref();
    kind(identity, add);
    add(
        place,
        unix.is_some_and(|it| it.sha256.is_some()),
        "`sha256` of an executable",
    );
    add(place, identity.attest.k8s.is_some(), "attestation by `k8s`");
    add(place, identity.pipeline.is_some(), "a pipeline's `login`");
    add(place, !identity.fronts.is_empty(), "`fronts`");
}

fn upstream(service: &Service, add: &mut impl FnMut(Place, bool, &'static str)) {
    let place = service.place;
    let kind = match service.peer {
        PeerKind::Service | PeerKind::ThirdParty | PeerKind::Browser => None,
        PeerKind::Partner => Some("a service of `peer: partner`"),
        PeerKind::Database => Some("`peer: database`"),
        PeerKind::Broker => Some("`peer: broker`"),
        PeerKind::Provisioner => Some("`peer: provisioner`"),
    };
    add(place, kind.is_some(), kind.unwrap_or_default());
    add(place, service.through_agent, "`through: agent`");
}

fn operation(rule: &OperationRule, add: &mut impl FnMut(Place, bool, &'static str)) {
    let schema = rule.body_schema.as_ref().map(|it: &Attached| &it.path);
    add(rule.place, schema.is_some(), "`body: { schema }`");
    add(rule.place, !rule.screens.is_empty(), "`body: { screen }`");
    add(rule.place, rule.rate.is_some(), "`rate` of an operation");
    add(rule.place, rule.policy.is_some(), "`policy`");
    add(rule.place, !rule.approve.is_empty(), "`approve`");
    add(rule.place, rule.input.is_some(), "`input`");
    add(rule.place, rule.token.is_some(), "`token`");
}
