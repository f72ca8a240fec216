//! The sentences of `tests`, judged by the same decision as the traffic.

use crate::config::Expectation;
use crate::config::Member;
use crate::config::Test;
use crate::decide::Verdict;
use crate::decide::decide;
use crate::hop::Binding;
use crate::hop::Certificate;
use crate::hop::Claims;
use crate::hop::Evidence;
use crate::hop::Facts;
use crate::hop::Hop;
use crate::hop::Peer;
use crate::hop::Session;
use crate::hop::Tls;
use crate::hop::TlsVersion;
use crate::hop::Token;
use crate::hop::VerifiedToken;
use crate::pillars::least_privilege::Outcome;
use crate::pillars::least_privilege::Reservation;
use crate::snapshot::DoorKind;
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
    let (got, reason) = match missing_edge(&state.snapshot, &test.via) {
        Some(reason) => (Some(Code::NO_EDGE), reason),
        None => ask(state, test),
    };
    let outcome = match test.expect {
        _ if got == Some(Code::UNDECIDABLE) => Judgement::Undecided,
        Expectation::Allow if got.is_none() => Judgement::Holds,
        Expectation::Deny(pillar) if got.map(Code::pillar) == Some(pillar) => Judgement::Holds,
        Expectation::Allow | Expectation::Deny(_) | Expectation::NeedsApproval => Judgement::Fails,
    };
    Proved {
        got,
        outcome,
        reason,
    }
}

/// The hop that a sentence is judged by, for whoever wants to know more than whether it holds.
#[must_use]
pub fn asked(snapshot: &Snapshot, test: &Test) -> Hop {
    hop(snapshot, test)
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

fn ask(state: &State, test: &Test) -> (Option<Code>, String) {
    match decide(hop(&state.snapshot, test), state) {
        Verdict::Deny(denial) => (Some(denial.code()), denial.reason().to_owned()),
        Verdict::Allow(pending) => {
            let demands = pending.demands().iter().cloned();
            let outcomes = demands
                .map(|demand| Outcome {
                    granted: demand.amount <= demand.limit,
                    demand,
                    spent: 0,
                })
                .collect();
            match pending.complete(Reservation::new(outcomes)) {
                Ok(proof) => (None, format!("allowed by {}", crate::explain::way(&proof))),
                Err(denial) => (Some(denial.code()), denial.reason().to_owned()),
            }
        }
    }
}

fn hop(snapshot: &Snapshot, test: &Test) -> Hop {
    let browser = test
        .via
        .last()
        .filter(|door| snapshot.door(door.as_str()) == Some(DoorKind::Browser));
    let caller = browser.is_none().then(|| workload(test)).flatten();
    let door = browser.cloned().unwrap_or_else(Name::control);
    let domain = &snapshot.config().trust_domain;
    let peer = caller.map_or(Peer::Anonymous, |name| {
        Peer::Certificate(Arc::new(Certificate {
            issuer: LEAF,
            leaf: LEAF,
            not_after: NOON.plus(Duration::from_secs(3600)),
            not_before: NOON,
            root: snapshot.bundle().roots.first().copied().unwrap_or(LEAF),
            serial: "01".to_owned(),
            spiffe_id: SpiffeId::of_identity(domain, name),
        }))
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
            tls: Tls::Established {
                cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
                group: "X25519MLKEM768".to_owned(),
                resumed: false,
                version: TlsVersion::V13,
            },
            token: Token::Verified(Arc::new(VerifiedToken {
                claims,
                hash: LEAF,
                kid: "test".to_owned(),
            })),
            session,
        },
        facts: Facts {
            body_bytes: model.is_some().then_some(0),
            max_output_tokens: model.is_some().then_some(1),
            model,
            same_origin: Some(true),
            ..Facts::default()
        },
        operation: test.operation.clone(),
        service: test.service.clone(),
    }
}

fn workload(test: &Test) -> Option<&Name> {
    test.via.last().or(match &test.subject {
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
    let from = test
        .via
        .last()
        .map(Name::as_str)
        .or(workload(test).map(Name::as_str))
        .unwrap_or_default();
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
        scope: snapshot.needed(from, &test.service).into_iter().collect(),
        sid: browser.then_some(LEAF),
        sub,
    }
}
