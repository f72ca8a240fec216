//! The sentences of `tests`, judged by the same decision as the traffic.

use crate::config::Diagnostic;
use crate::config::Expectation;
use crate::config::IdentityKind;
use crate::config::Listener;
use crate::config::Member;
use crate::config::Needs;
use crate::config::PeerKind;
use crate::config::Sources;
use crate::config::Test;
use crate::config::codes;
use crate::decide::Verdict;
use crate::decide::decide;
use crate::explain::Near;
use crate::explain::nearest;
use crate::hop::Binding;
use crate::hop::Certificate;
use crate::hop::Claims;
use crate::hop::Evidence;
use crate::hop::Facts;
use crate::hop::Hop;
use crate::hop::PartnerCertificate;
use crate::hop::Peer;
use crate::hop::SchemaVerdict;
use crate::hop::Session;
use crate::hop::Tls;
use crate::hop::TlsVersion;
use crate::hop::Token;
use crate::hop::VerifiedToken;
use crate::pillars::least_privilege::Charge;
use crate::pillars::least_privilege::Outcome;
use crate::pillars::least_privilege::PrivilegeProof;
use crate::pillars::least_privilege::Reservation;
use crate::pillars::micro_segmentation::Way;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use crate::vocabulary::SpiffeId;
use crate::vocabulary::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What came of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// What came out: the refusal, or nothing if it was allowed.
    pub got: Option<Code>,
    /// Whether that is what the sentence expects.
    pub outcome: Judgement,
    /// Why it came out so: the refusal's reason, or what let it through.
    pub reason: String,
    /// The rules that decided, or come closest, with where they are written.
    pub rules: Vec<Near>,
}

/// Whether a sentence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// What it expects came out.
    Holds,
    /// Something else came out.
    Fails,
    /// It takes a part that is not in this build; never a pass.
    Undecided,
}

/// Judges every sentence of a configuration.
#[must_use]
pub fn prove_all(state: &State) -> Vec<(&Test, Proved)> {
    state
        .snapshot
        .config()
        .tests
        .iter()
        .map(|test| (test, prove(state, test)))
        .collect()
}

/// Judges one sentence.
///
/// The caller is taken to have done everything right (TLS 1.3, a good certificate, a fresh token
/// with every permission the subject holds), so that what comes out is the policy's answer.
#[must_use]
pub fn prove(state: &State, test: &Test) -> Proved {
    let Answer { got, reason, rules } = match missing_edge(&state.snapshot, &test.via) {
        Some(reason) => Answer {
            got: Some(Code::NO_EDGE),
            reason,
            rules: Vec::new(),
        },
        None => lacking(&state.snapshot, test, ask(state, test)),
    };
    let outcome = match test.expect {
        _ if got == Some(Code::UNDECIDABLE) => Judgement::Undecided,
        // What a schema says to a body that nobody wrote down is not known.
        _ if got == Some(Code::BODY_SCHEMA) && test.with.is_empty() => Judgement::Undecided,
        Expectation::Allow if got.is_none() => Judgement::Holds,
        Expectation::Deny(pillar) if got.map(Code::pillar) == Some(pillar) => Judgement::Holds,
        Expectation::Allow | Expectation::Deny(_) | Expectation::NeedsApproval => Judgement::Fails,
    };
    Proved {
        got,
        outcome,
        reason,
        rules,
    }
}

/// The hop that a sentence is judged by, for whoever wants to know more than whether it holds.
#[must_use]
pub fn asked(snapshot: &Snapshot, test: &Test) -> Hop {
    hop(snapshot, test)
}

/// What there is to say about sentences that do not hold, each at the place where it says what it
/// expects: an error for one that fails, a warning for one that can't be decided. Nothing for those
/// that hold.
#[must_use]
pub fn diagnostics(proved: &[(&Test, Proved)], sources: &Sources) -> Vec<Diagnostic> {
    let about = |(test, proved): &(&Test, Proved)| match proved.outcome {
        Judgement::Holds => None,
        Judgement::Fails => Some(failed(test, proved, sources)),
        Judgement::Undecided => Some(undecided(test, proved, sources)),
    };
    proved.iter().filter_map(about).collect()
}

fn failed(test: &Test, proved: &Proved, sources: &Sources) -> Diagnostic {
    let expected = match test.expect {
        Expectation::Allow => "allow".to_owned(),
        Expectation::Deny(pillar) => format!("deny {pillar}"),
        Expectation::NeedsApproval => "needs-approval".to_owned(),
    };
    let got = match proved.got {
        None => "allow".to_owned(),
        Some(code) => format!("deny {} ({code})", code.pillar()),
    };
    let place = sources.word_at(test.expect_place);
    let message = format!("test failed: {}", test.name);
    let mut it = Diagnostic::error(codes::TEST_FAILED, place, message)
        .label(format!("expected {expected}, got {got}"));
    let mut help = proved.reason.clone();
    if let (Some(near), true) = (proved.rules.first(), proved.got.is_some()) {
        help = format!(
            "{help}; the nearest rule is `{}` at line {}",
            near.rule, near.place.line
        );
    }
    for near in proved.rules.iter().filter(|it| it.place.line > 0) {
        it = it.and(sources.word_at(near.place), near.hint.clone());
    }
    it.help(help)
}

fn undecided(test: &Test, proved: &Proved, sources: &Sources) -> Diagnostic {
    let place = sources.word_at(test.expect_place);
    let message = format!("test undecided: {}", test.name);
    let help = match proved.got {
        Some(Code::BODY_SCHEMA) => "it is not counted as passed; write the body in `with`",
        _ => "it is not counted as passed; use a build that has this part",
    };
    Diagnostic::warning(codes::TEST_UNDECIDED, place, message)
        .label(proved.reason.clone())
        .help(help)
}

/// What the decision says to a sentence.
struct Answer {
    got: Option<Code>,
    reason: String,
    rules: Vec<Near>,
}

/// A moment inside working hours: Wednesday 2025-01-01, noon.
const NOON: Timestamp = Timestamp::from_secs(1_735_732_800);
const LEAF: Digest = Digest::new([1; 32]);

fn missing_edge(snapshot: &Snapshot, via: &[Name]) -> Option<String> {
    let mut hops = via.iter().zip(via.iter().skip(1));
    let (from, to) =
        hops.find(|(from, to)| snapshot.edges(from.as_str(), to.as_str()).next().is_none())?;
    Some(format!("no edge `{from} -> {to}`"))
}

/// An answer that stands on a part that this build lacks is none. A refusal that such a part could
/// not have changed is one.
fn lacking(snapshot: &Snapshot, test: &Test, answer: Answer) -> Answer {
    let config = snapshot.config();
    let door = test.via.iter().find_map(|stop| config.listeners.get(stop));
    let missing = door.and_then(Listener::undecidable).filter(|_| {
        // Edges of such a door are its callers'; nothing else about it could let them through.
        let name = test.via.last().map_or("", Name::as_str);
        let mut edges = snapshot.edges(name, &test.service);
        answer.got.is_none() || (answer.got == Some(Code::NO_EDGE) && edges.next().is_some())
    });
    let person = !matches!(test.subject, Member::Identity(_));
    let agents = test
        .via
        .iter()
        .filter_map(|stop| config.identities.get(stop));
    let mut agents = agents.filter(|it| matches!(it.kind, IdentityKind::AiAgent { .. }));
    let agent = agents.find_map(crate::config::Identity::undecidable);
    let missing = missing.or(agent.filter(|_| person && answer.got.is_none()));
    let service = snapshot.service(&test.service);
    let service = service.and_then(crate::config::Service::undecidable);
    let missing = missing.or(service.filter(|_| answer.got.is_none()));
    match missing {
        None => answer,
        Some(what) => Answer {
            got: Some(Code::UNDECIDABLE),
            reason: format!("{what} is not in this build"),
            ..answer
        },
    }
}

fn ask(state: &State, test: &Test) -> Answer {
    let refused = |denial: &crate::pillars::Denial| Answer {
        got: Some(denial.code()),
        reason: denial.reason().to_owned(),
        rules: nearest(denial).0,
    };
    match decide(hop(&state.snapshot, test), state) {
        Verdict::Deny(denial) => refused(&denial),
        Verdict::Allow(pending) => {
            let demands = pending.demands().iter().cloned();
            let outcomes = demands
                .map(|demand| Outcome {
                    granted: demand.amount <= demand.limit,
                    demand,
                    spent: 0,
                })
                .collect();
            let charges = pending.charges().iter().cloned();
            let charged = charges.map(Charge::first).collect();
            match pending.complete(Reservation::new(outcomes).counted(charged)) {
                Ok(proof) => allowed(&proof, test),
                Err(denial) => refused(&denial),
            }
        }
    }
}

/// What let it through: the edge, and what its operations ask for.
fn allowed(proof: &PrivilegeProof, test: &Test) -> Answer {
    let snapshot = &proof.state().snapshot;
    let config = snapshot.config();
    let edge = match proof.way() {
        Way::Edge(index) => config.edges.get(index),
        Way::BuiltIn | Way::Open => None,
    };
    let by = match (edge, proof.way()) {
        (Some(edge), _) => format!("edge at line {} allows it", edge.place.line),
        (None, Way::Open) => "`ZT_OFF` allows it".to_owned(),
        (None, _) => "it is built in".to_owned(),
    };
    let mut rules: Vec<Near> = edge
        .map(|edge| Near {
            place: edge.place,
            rule: format!("{} -> {}", edge.from, edge.to),
            hint: "this edge allows it".to_owned(),
        })
        .into_iter()
        .collect();
    let asked = snapshot.rules(&test.service, &test.operation);
    let mut asks = Vec::new();
    for (_, rule) in asked {
        if let Needs::Permission(permission) = &rule.needs {
            asks.push(format!("`{permission}`"));
            rules.push(Near {
                place: rule.place,
                rule: format!("needs {permission}"),
                hint: format!("asks for `{permission}`, which the subject has"),
            });
        }
    }
    let reason = if asks.is_empty() {
        format!("{by} and no operation asks for more")
    } else {
        format!("{by}, and the subject has {}", asks.join(", "))
    };
    Answer {
        got: None,
        reason,
        rules,
    }
}

fn hop(snapshot: &Snapshot, test: &Test) -> Hop {
    let listeners = &snapshot.config().listeners;
    let door = test.via.last().filter(|stop| listeners.contains_key(*stop));
    let peer = door.and_then(|door| listeners.get(door)).map(|it| it.peer);
    let browser = door.filter(|_| peer == Some(PeerKind::Browser));
    let caller = browser
        .is_none()
        .then(|| workload(snapshot, test))
        .flatten();
    let door = door.cloned().unwrap_or_else(Name::control);
    let peer = caller.map_or(Peer::Anonymous, |name| {
        partner(snapshot, &door, name)
            .unwrap_or_else(|| Peer::Certificate(Arc::new(certificate(snapshot, name))))
    });
    let claims = claims(snapshot, test, browser.is_some());
    let model = test
        .with
        .get("model")
        .and_then(|it| it.as_str())
        .map(str::to_owned);
    let session = browser.map(|_| Session {
        ends: NOON.plus(Duration::from_secs(60)),
        groups: claims.groups.clone(),
        holder: LEAF,
        sid: LEAF,
        sub: claims.sub.clone(),
    });
    Hop {
        at: NOON,
        door,
        evidence: Evidence {
            peer,
            tls: established(),
            token: Token::Verified(Arc::new(VerifiedToken {
                claims,
                hash: LEAF,
                kid: "test".to_owned(),
            })),
            session: session.map(Box::new),
        },
        facts: Facts {
            body_bytes: model.is_some().then_some(0),
            max_output_tokens: model.is_some().then_some(1),
            model,
            same_origin: Some(true),
            schemas: schemas(snapshot, test),
            ..Facts::default()
        },
        operation: test.operation.clone(),
        service: test.service.clone(),
    }
}

/// A good certificate of ours.
fn certificate(snapshot: &Snapshot, name: &Name) -> Certificate {
    Certificate {
        issuer: LEAF,
        issuers_above: Box::default(),
        leaf: LEAF,
        not_after: NOON.plus(Duration::from_secs(3600)),
        not_before: NOON,
        root: snapshot.bundle().roots.first().copied().unwrap_or(LEAF),
        serial: "01".to_owned(),
        spiffe_id: SpiffeId::of_identity(&snapshot.config().trust_domain, name),
    }
}

/// A good certificate of a partner, under the authority that it and the door have in common.
fn partner(snapshot: &Snapshot, door: &Name, name: &Name) -> Option<Peer> {
    let identity = snapshot.config().identities.get(name)?;
    let IdentityKind::Partner { ca, dns } = &identity.kind else {
        return None;
    };
    let authorities = ca.authorities();
    let mut common = authorities.iter().filter(|it| snapshot.trusts_at(door, it));
    let root = common.next().or(authorities.first()).copied();
    Some(Peer::Partner(Arc::new(PartnerCertificate {
        dns_names: vec![dns.to_ascii_lowercase()],
        issuer: LEAF,
        issuers_above: Box::default(),
        leaf: LEAF,
        not_after: NOON.plus(Duration::from_secs(3600)),
        not_before: NOON,
        root: root.unwrap_or(LEAF),
        serial: "01".to_owned(),
    })))
}

/// What the schemas of the call's rules say to the body that the sentence writes down.
fn schemas(snapshot: &Snapshot, test: &Test) -> Vec<SchemaVerdict> {
    if test.with.is_empty() {
        return Vec::new();
    }
    let body = serde_json::Value::Object(test.with.clone());
    let rules = snapshot.rules(&test.service, &test.operation);
    let schemas = rules.filter_map(|(place, _)| snapshot.body_schema(&test.service, place));
    schemas.map(|schema| schema.judge(&body)).collect()
}

fn established() -> Tls {
    Tls::Established {
        cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
        group: "X25519MLKEM768".to_owned(),
        resumed: false,
        version: TlsVersion::V13,
    }
}

/// The workload at the other end: the last one on the way, or who asks.
fn workload<'t>(snapshot: &Snapshot, test: &'t Test) -> Option<&'t Name> {
    let identities = &snapshot.config().identities;
    let last = test
        .via
        .last()
        .filter(|stop| identities.contains_key(*stop));
    last.or(match &test.subject {
        Member::Identity(name) => Some(name),
        _ => None,
    })
}

fn claims(snapshot: &Snapshot, test: &Test, browser: bool) -> Claims {
    let domain = &snapshot.config().trust_domain;
    let (sub, groups) = match &test.subject {
        Member::Identity(name) => (
            SpiffeId::of_identity(domain, name).as_str().to_owned(),
            Vec::new(),
        ),
        Member::User { login, sub } => (format!("{login}:{sub}"), Vec::new()),
        Member::Group { login, name } => {
            (format!("{login}:somebody"), vec![format!("{login}/{name}")])
        }
    };
    let ends = test.via.last().into_iter().chain(workload(snapshot, test));
    let scope: std::collections::BTreeSet<_> = ends
        .flat_map(|from| snapshot.needed(from.as_str(), &test.service))
        .collect();
    Claims {
        act: Vec::new(),
        aud: domain.audience(&test.service),
        ceil: Vec::new(),
        client_id: sub.clone(),
        cnf: Binding::Certificate(LEAF),
        exp: NOON.as_secs() + 60,
        groups,
        iat: NOON.as_secs(),
        iss: domain.issuer(),
        jti: "test".to_owned(),
        nbf: None,
        roles: Vec::new(),
        scope: scope.into_iter().collect(),
        sid: browser.then_some(LEAF),
        sub,
    }
}
