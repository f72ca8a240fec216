//! Why a hop came out as it did, for whoever may know: the six lines, the nearest rule, and what
//! would let it through.

use crate::config::Place;
use crate::decide::Verdict;
use crate::decide::decide;
use crate::hop::Evidence;
use crate::hop::Hop;
use crate::hop::Tls;
use crate::pillars::Denial;
use crate::pillars::identity::Subject;
use crate::pillars::least_privilege::Pending;
use crate::pillars::least_privilege::PrivilegeProof;
use crate::pillars::micro_segmentation::Way;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use serde::Serialize;

/// An explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The code of the refusal, if it is one.
    pub code: Option<Code>,
    /// The rules that come closest, with where they are written.
    pub near: Vec<Near>,
    /// A line per pillar that was asked, in order; `audit` is the ledger's to say.
    pub pillars: Vec<Line>,
    /// The configuration that would let it through, if policy alone stands against it.
    pub to_allow: Option<String>,
    /// Why it was refused, if it was.
    pub why: Option<String>,
}

/// What one pillar said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Whether it held.
    pub holds: bool,
    /// The pillar.
    pub pillar: Pillar,
    /// In a few words.
    pub text: String,
}

/// A rule that comes close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Near {
    /// Where it is written.
    pub place: Place,
    /// The rule.
    pub rule: String,
    /// What is different.
    pub hint: String,
}

/// Explains a hop by deciding it.
#[must_use]
pub fn explain(hop: Hop, state: &State) -> Explanation {
    match decide(hop, state) {
        Verdict::Allow(pending) => Explanation {
            code: None,
            near: Vec::new(),
            pillars: allowed(&pending),
            to_allow: None,
            why: None,
        },
        Verdict::Deny(denial) => {
            let (near, to_allow) = nearest(&denial);
            Explanation {
                code: Some(denial.code()),
                near,
                pillars: refused(&denial),
                to_allow,
                why: Some(denial.reason().to_owned()),
            }
        }
    }
}

/// What let an admitted hop through, in a few words.
#[must_use]
pub fn way(proof: &PrivilegeProof) -> String {
    way_text(&proof.state().snapshot, proof.way())
}

fn way_text(snapshot: &Snapshot, way: Way) -> String {
    match way {
        Way::Edge(index) => match snapshot.config().edges.get(index) {
            Some(edge) => format!("{} -> {} (line {})", edge.from, edge.to, edge.place.line),
            None => "an edge".to_owned(),
        },
        Way::BuiltIn => "built-in".to_owned(),
        Way::Open => "ZT_OFF".to_owned(),
    }
}

fn allowed(pending: &Pending) -> Vec<Line> {
    let hop = pending.hop();
    let snapshot = pending.snapshot();
    let mut lines = proved(hop, Pillar::MicroSegmentation);
    let way = way_text(snapshot, pending.way());
    lines.push(Line {
        holds: true,
        pillar: Pillar::MicroSegmentation,
        text: way,
    });
    lines.push(Line {
        holds: true,
        pillar: Pillar::LeastPrivilege,
        text: privilege(pending),
    });
    lines
}

fn refused(denial: &Denial) -> Vec<Line> {
    let failed = denial.pillar();
    let mut lines = proved(denial.hop(), failed);
    if failed > Pillar::MicroSegmentation {
        let text = format!("-> {} {}", denial.hop().service, denial.hop().operation);
        lines.push(Line {
            holds: true,
            pillar: Pillar::MicroSegmentation,
            text,
        });
    }
    lines.push(Line {
        holds: false,
        pillar: failed,
        text: denial.reason().to_owned(),
    });
    lines
}

/// The lines of the pillars before `until`, as far as the hop itself tells them.
fn proved(hop: &Hop, until: Pillar) -> Vec<Line> {
    let told = [
        (Pillar::Encryption, encryption(&hop.evidence)),
        (Pillar::Identity, identity(&hop.evidence)),
        (Pillar::ContinuousVerification, freshness(hop)),
    ];
    let before = told.into_iter().filter(|(pillar, _)| *pillar < until);
    before
        .map(|(pillar, text)| Line {
            holds: true,
            pillar,
            text,
        })
        .collect()
}

fn encryption(evidence: &Evidence) -> String {
    match &evidence.tls {
        Tls::Established {
            version,
            group,
            resumed,
            ..
        } => {
            format!(
                "{version} {group}{}",
                if *resumed { ", resumed" } else { "" }
            )
        }
        Tls::Kernel => "unix socket".to_owned(),
        Tls::Plain | Tls::Refused { .. } => "none".to_owned(),
    }
}

fn identity(evidence: &Evidence) -> String {
    let subject = evidence
        .verified_token()
        .map(|token| token.claims.sub.as_str());
    match (evidence.certificate(), subject) {
        (Some(certificate), Some(subject)) if subject != certificate.spiffe_id.as_str() => {
            format!("{} for {subject}", certificate.spiffe_id)
        }
        (Some(certificate), _) => certificate.spiffe_id.to_string(),
        // A partner speaks for itself alone, and its token says who that is here.
        (None, Some(subject)) => subject.to_owned(),
        (None, None) => crate::record::principal_id(evidence),
    }
}

fn freshness(hop: &Hop) -> String {
    let heard = hop.facts.freshness.revocations_age_ms;
    match hop.evidence.verified_token() {
        Some(token) => {
            let issued = crate::vocabulary::Timestamp::from_secs(token.claims.iat);
            format!(
                "token {} s old, not revoked, heard {heard} ms ago",
                hop.at.since(issued).as_secs()
            )
        }
        None => format!("not revoked, heard {heard} ms ago"),
    }
}

fn privilege(pending: &Pending) -> String {
    let snapshot = pending.snapshot();
    let hop = pending.hop();
    if snapshot.service(&hop.service).is_none() {
        return "built-in".to_owned();
    }
    let needs = snapshot
        .rules(&hop.service, &hop.operation)
        .filter_map(|(_, rule)| match &rule.needs {
            crate::config::Needs::Permission(permission) => Some(permission.as_str()),
            crate::config::Needs::Edge => None,
        });
    let told: Vec<_> = needs
        .map(|permission| with_role(pending, permission))
        .collect();
    if told.is_empty() {
        "the edge suffices".to_owned()
    } else {
        told.join(", ")
    }
}

fn with_role(pending: &Pending, permission: &str) -> String {
    let snapshot = pending.snapshot();
    let role = pending
        .subject()
        .holder()
        .and_then(|holder| snapshot.grants().role(holder, permission));
    match role.and_then(|index| snapshot.config().roles.get_index(index)) {
        Some((role, _)) => format!("{permission} (role {role})"),
        None => permission.to_owned(),
    }
}

pub(crate) fn nearest(denial: &Denial) -> (Vec<Near>, Option<String>) {
    match denial.code() {
        Code::NO_EDGE => edges(denial),
        Code::ROLE_LACKS if wants_edge(denial.hop(), &denial.state().snapshot) => edges(denial),
        Code::ROLE_LACKS => roles(denial),
        _ => (Vec::new(), None),
    }
}

/// Whether a token was asked for whose subject has what it should open, so that not a role is
/// wanting but an edge to an operation that needs it.
pub(crate) fn wants_edge(hop: &Hop, snapshot: &Snapshot) -> bool {
    let subject = Subject::of_hop(snapshot, hop);
    let holder = subject.as_ref().and_then(Subject::holder);
    let held = holder.map(|holder| snapshot.grants().permissions(holder));
    let mut asked = hop.facts.requested_scope.iter();
    hop.facts.requested_service.is_some()
        && asked.any(|asked| held.iter().flatten().any(|it| it.as_str() == asked))
}

/// Edges to the same service from somebody else, or from this caller for something else.
fn edges(denial: &Denial) -> (Vec<Near>, Option<String>) {
    let snapshot = &denial.state().snapshot;
    let hop = denial.hop();
    let wanted = hop
        .facts
        .requested_service
        .as_deref()
        .unwrap_or(&hop.service);
    let caller = snapshot.id_of(&hop.evidence.peer);
    let caller = caller.as_ref().and_then(|it| snapshot.identity(it));
    let caller = caller.unwrap_or(&hop.door);
    let to_it = snapshot
        .config()
        .edges
        .iter()
        .filter(|edge| edge.to.as_str() == wanted);
    let near = to_it.map(|edge| {
        let operations: Vec<_> = edge.operations.iter().map(ToString::to_string).collect();
        let hint = if edge.from == *caller {
            "another operation"
        } else {
            "is the caller the wrong one?"
        };
        Near {
            place: edge.place,
            rule: format!("{} -> {} [{}]", edge.from, edge.to, operations.join(", ")),
            hint: hint.to_owned(),
        }
    });
    let near: Vec<_> = near.take(5).collect();
    let to_allow = snapshot.service(wanted).map(|_| {
        let operation = if wanted == hop.service {
            hop.operation.to_string()
        } else {
            "...".to_owned()
        };
        format!("{caller} -> {wanted}: [{operation}]")
    });
    (near, to_allow)
}

/// Roles that would give what is needed.
fn roles(denial: &Denial) -> (Vec<Near>, Option<String>) {
    let snapshot = &denial.state().snapshot;
    let hop = denial.hop();
    let asked = hop.facts.requested_scope.iter().map(String::as_str);
    let rules = snapshot.rules(&hop.service, &hop.operation);
    let needs = rules.filter_map(|(_, rule)| match &rule.needs {
        crate::config::Needs::Permission(permission) => Some(permission.as_str()),
        crate::config::Needs::Edge => None,
    });
    let needs: Vec<_> = needs.chain(asked).collect();
    let giving = snapshot.config().roles.iter().filter(|(_, role)| {
        role.may
            .iter()
            .any(|permission| needs.contains(&permission.as_str()))
    });
    let near: Vec<_> = giving
        .map(|(name, role)| Near {
            place: role.place,
            rule: format!(
                "role {name} may {}",
                role.may
                    .iter()
                    .map(|it| it.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            hint: "the subject is not among its members".to_owned(),
        })
        .take(5)
        .collect();
    let to_allow = near.first().map(|first| {
        format!(
            "the subject among the members of {}",
            first.rule.split(" may").next().unwrap_or_default()
        )
    });
    (near, to_allow)
}
