//! What a configuration asks for and this build does not enforce.
//!
//! The language is whole; a build may lack a part of it. A restriction that is read and not
//! enforced is worse than none, so a configuration that asks for such a part is checked, warned
//! about, and not put in force.

use super::Attest;
use super::Audit;
use super::Budget;
use super::BudgetScope;
use super::Change;
use super::Config;
use super::DoorTls;
use super::Edge;
use super::Identity;
use super::IdentityKind;
use super::Limits;
use super::Listener;
use super::Login;
use super::OperationRule;
use super::PeerKind;
use super::Place;
use super::Secret;
use super::SecretSource;
use super::Service;
use super::Sink;
use super::Staleness;
use super::UnixProcess;

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
    ///
    /// Every entry is taken apart by name, here and below, so that a key that is added to the model
    /// has to be judged: what is passed over is enforced, or restricts nothing by itself.
    #[must_use]
    pub fn beyond(&self) -> Vec<Beyond> {
        let Self {
            trust_domain: _,
            environment: _,
            staleness:
                Staleness {
                    revocations: _,
                    policy: _,
                },
            change: Change {
                place: _,
                approve: _,
            },
            listeners,
            // They let people in by a door, pipelines by `login`, and both are judged there.
            logins: _,
            identities,
            // Members, what they may and how often: each is enforced.
            roles: _,
            // It is a role that has one.
            tiers: _,
            services,
            edges,
            secrets,
            budgets,
            // It is an operation that asks one.
            policies: _,
            audit,
            // They are judged before a configuration is put in force.
            tests: _,
        } = self;
        let mut found = Vec::new();
        let mut add = |place: Place, asked: bool, what: &'static str| {
            if asked {
                found.push(Beyond { place, what });
            }
        };
        for listener in listeners.values() {
            door(listener, &mut add);
        }
        for identity in identities.values() {
            caller(identity, &mut add);
        }
        for service in services.values() {
            upstream(service, &mut add);
            for rule in &service.operations {
                operation(rule, &mut add);
            }
        }
        for edge in edges {
            arrow(edge, &mut add);
        }
        for it in secrets.values() {
            secret(it, &mut add);
        }
        for it in budgets.values() {
            budget(it, &mut add);
        }
        ledger(audit, &mut add);
        found
    }
}

impl Service {
    /// What it is, or is reached by, that this build does not have: no call of it is allowed.
    #[must_use]
    pub fn undecidable(&self) -> Option<&'static str> {
        let mut first = None;
        reached(self, &mut |_, asked, what| {
            first = first.or(asked.then_some(what));
        });
        first
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
    let Listener {
        place,
        bind: _,
        peer: _,
        hosts: _,
        login,
        client_ca: _,
        // For doors of third parties, which are judged with their peer.
        signature: _,
        tls,
        routes: _,
        tls12: _,
        limits:
            Limits {
                header: _,
                header_time: _,
                body: _,
                idle: _,
                connections: _,
                streams: _,
            },
        rate: _,
        cors: _,
    } = listener;
    let place = *place;
    let oidc = matches!(login, Some(Login::Oidc(_)));
    let files = matches!(
        tls,
        DoorTls::Files {
            certificate: _,
            key: _
        }
    );
    door_peer(listener, add);
    add(place, oidc, "sign-in by `oidc`");
    add(place, *tls == DoorTls::Acme, "`tls: acme`");
    add(place, files, "`tls` from files");
}

fn door_peer(listener: &Listener, add: &mut impl FnMut(Place, bool, &'static str)) {
    let kind = match listener.peer {
        PeerKind::Service | PeerKind::Browser | PeerKind::Partner => None,
        PeerKind::ThirdParty => Some("a door of `peer: third-party`"),
        // A door has none of these.
        PeerKind::Database | PeerKind::Broker | PeerKind::Provisioner => {
            Some("a door of this kind")
        }
    };
    add(listener.place, kind.is_some(), kind.unwrap_or_default());
}

fn kind(identity: &Identity, add: &mut impl FnMut(Place, bool, &'static str)) {
    let kind = match &identity.kind {
        IdentityKind::Workload | IdentityKind::Partner { ca: _, dns: _ } => None,
        IdentityKind::AiAgent { owner: _ } => Some("`kind: ai-agent`"),
    };
    add(identity.place, kind.is_some(), kind.unwrap_or_default());
}

fn caller(identity: &Identity, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Identity {
        place,
        kind: _,
        attest: Attest { k8s, unix },
        pipeline,
        // It is a budget `per: team` that reads it.
        team: _,
        fronts,
    } = identity;
    let place = *place;
    kind(identity, add);
    if let Some(UnixProcess {
        user: _,
        nodes: _,
        sha256,
    }) = unix
    {
        add(place, sha256.is_some(), "`sha256` of an executable");
    }
    add(place, k8s.is_some(), "attestation by `k8s`");
    add(place, pipeline.is_some(), "a pipeline's `login`");
    add(place, !fronts.is_empty(), "`fronts`");
}

fn upstream(service: &Service, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Service {
        place: _,
        peer: _,
        urls: _,
        balance: _,
        health: _,
        retry: _,
        identity: _,
        credential: _,
        headers: _,
        // For databases, provisioners, partners and brokers, which are judged with their peer.
        lease: _,
        engine: _,
        certificate: _,
        server_ca: _,
        through_agent: _,
        timeout: _,
        max_stream: _,
        private_network: _,
        fold_case: _,
        // Each is judged by itself.
        operations: _,
    } = service;
    reached(service, add);
}

fn reached(service: &Service, add: &mut impl FnMut(Place, bool, &'static str)) {
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
    let OperationRule {
        place,
        pattern: _,
        needs: _,
        except: _,
        person: _,
        body_max: _,
        body_schema: _,
        screens,
        models: _,
        budget: _,
        hours: _,
        rate: _,
        policy,
        approve,
        input,
        token,
    } = rule;
    let place = *place;
    add(place, !screens.is_empty(), "`body: { screen }`");
    add(place, policy.is_some(), "`policy`");
    add(place, !approve.is_empty(), "`approve`");
    add(place, input.is_some(), "`input`");
    add(place, token.is_some(), "`token`");
}

fn arrow(edge: &Edge, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Edge {
        place,
        from: _,
        to: _,
        operations,
    } = edge;
    let leased = operations.iter().any(|it| it.verb() == "lease");
    add(*place, leased, "`lease` from the vault");
}

fn secret(secret: &Secret, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Secret {
        place,
        from,
        needs: _,
        readers: _,
        rotate,
    } = secret;
    let elsewhere = match from {
        SecretSource::Store(_) | SecretSource::Env(_) | SecretSource::File(_) => false,
        SecretSource::Vault(_) | SecretSource::Aws(_) | SecretSource::K8s(_) => true,
    };
    add(*place, elsewhere, "a secret of another store");
    add(*place, rotate.is_some(), "`rotate`");
}

fn budget(budget: &Budget, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Budget {
        place,
        limit_microusd: _,
        window: _,
        per,
        prices,
        warn,
    } = budget;
    let place = *place;
    add(place, *per == BudgetScope::Team, "`per: team`");
    add(place, warn.is_some(), "`warn`");
    add(place, prices.is_empty(), "a budget at list prices");
}

fn ledger(audit: &Audit, add: &mut impl FnMut(Place, bool, &'static str)) {
    let Audit {
        commit: _,
        // Nothing is deleted at all.
        keep: _,
        sinks,
    } = audit;
    for Sink { place, kind: _ } in sinks.values() {
        add(*place, true, "`sinks`");
    }
}
