//! Questions, and the hops that ask them.

use crate::drafts::Arrow;
use crate::drafts::DOORS;
use crate::drafts::PERMISSIONS;
use crate::drafts::SERVICES;
use crate::drafts::WORKLOADS;
use crate::reference::Ask;
use crate::reference::Sender;
use crate::reference::Shown;
use crate::reference::Subject;
use countersign_conformance_matching::ROOT;
use countersign_core::hop::Binding;
use countersign_core::hop::Certificate;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Hop;
use countersign_core::hop::Peer;
use countersign_core::hop::Session;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::VerifiedToken;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Monday 2024-01-01, midnight UTC.
const MONDAY: i64 = 1_704_067_200;
const DOMAIN: &str = "maze.dev.invalid";
const SESSION: Digest = Digest::new([4; 32]);

/// What is asked of whom.
#[derive(Clone, Debug)]
struct Target {
    service: String,
    verb: String,
    object: String,
    wanted: Option<&'static str>,
}

/// What of a token is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    Audience,
    Binding,
    Absent,
}

/// Questions of which most follow an arrow of the file, or else few would get past it.
pub(crate) fn ask(arrows: Vec<Arrow>) -> impl Strategy<Value = Ask> {
    let facts = (
        prop_oneof![2 => Just(None), 2 => Just(Some("big-one")), 1 => Just(Some("small")),
            1 => Just(Some("smaller"))],
        prop_oneof![2 => Just(None), 2 => Just(Some(1_024_u64)), 1 => Just(Some(1_025)),
            1 => Just(Some(2_500)), 1 => Just(Some(3_073))],
        0..7_u8,
        prop_oneof![4 => Just(720_u16), 1 => Just(30), 1 => Just(479), 1 => Just(480),
            1 => Just(1_080), 1 => Just(1_380)],
    );
    let flaw = prop_oneof![
        60 => Just(Flaw::None),
        1 => Just(Flaw::Audience),
        1 => Just(Flaw::Binding),
        1 => Just(Flaw::Absent),
    ];
    let any = (sender(), target());
    let both = if arrows.is_empty() {
        any.boxed()
    } else {
        prop_oneof![2 => any, 5 => aimed(arrows)].boxed()
    };
    (both, subject(), scope(), flaw, facts).prop_map(assembled)
}

type Parts = (
    (Sender, Target),
    Option<Subject>,
    Vec<String>,
    Flaw,
    (Option<&'static str>, Option<u64>, u8, u16),
);

fn assembled(((sender, target), subject, scope, flaw, facts): Parts) -> Ask {
    let (model, body, day, minute) = facts;
    let door = match &sender {
        Sender::Door(door) => door.clone(),
        _ if SERVICES.contains(&target.service.as_str()) => "mesh".to_owned(),
        _ => "control".to_owned(),
    };
    let subject = match (&sender, subject) {
        (Sender::Workload(name), None) => Subject::Workload(name.clone()),
        (Sender::Workload(_), Some(subject)) => subject,
        (Sender::Door(_), Some(person @ Subject::Person { .. })) => person,
        (Sender::Door(_), _) => person("ann", &[]),
        (Sender::Gateway, _) => Subject::Process,
    };
    let tokenless = match sender {
        Sender::Workload(_) => target.service == "issuer" || flaw == Flaw::Absent,
        Sender::Door(_) => flaw == Flaw::Absent,
        Sender::Gateway => true,
    };
    let token = (!tokenless).then(|| Shown {
        subject,
        scope,
        audience: match flaw {
            Flaw::Audience => "elsewhere".to_owned(),
            _ => target.service.clone(),
        },
        bound: flaw != Flaw::Binding,
    });
    Ask {
        sender,
        door,
        token,
        service: target.service,
        verb: target.verb,
        object: target.object,
        wanted: target.wanted.map(str::to_owned),
        model: model.map(str::to_owned),
        body,
        day,
        minute,
    }
}

fn sender() -> impl Strategy<Value = Sender> {
    let workload = prop::sample::select(&WORKLOADS[..]);
    let workload = prop_oneof![12 => workload, 3 => Just("keeper"), 1 => Just("stranger")];
    prop_oneof![
        12 => workload.prop_map(|it| Sender::Workload(it.to_owned())),
        4 => prop::sample::select(&DOORS[..]).prop_map(|(door, _)| Sender::Door(door.to_owned())),
        1 => Just(Sender::Gateway),
    ]
}

/// Whom a token speaks for; nothing for the sender itself.
fn subject() -> impl Strategy<Value = Option<Subject>> {
    prop_oneof![
        7 => Just(None),
        2 => Just(Some(person("ann", &[]))),
        1 => Just(Some(person("ben", &["staff"]))),
        2 => Just(Some(person("cid", &["other", "staff"]))),
        1 => Just(Some(person("dee", &["none"]))),
        2 => Just(Some(Subject::Workload("keeper".to_owned()))),
        1 => Just(Some(Subject::Workload("job".to_owned()))),
        1 => strangers(),
    ]
}

/// Of whom the configuration knows nothing.
fn strangers() -> impl Strategy<Value = Option<Subject>> {
    let person = Subject::Person {
        login: "corp".to_owned(),
        sub: "ann".to_owned(),
        groups: vec!["staff".to_owned()],
    };
    let workload = Subject::Workload("stranger".to_owned());
    prop_oneof![Just(Some(person)), Just(Some(workload))]
}

fn person(sub: &str, groups: &[&str]) -> Subject {
    Subject::Person {
        login: "dev".to_owned(),
        sub: sub.to_owned(),
        groups: groups.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn scope() -> impl Strategy<Value = Vec<String>> {
    let all: Vec<_> = PERMISSIONS.iter().map(|it| (*it).to_owned()).collect();
    let part = prop::sample::subsequence(all.clone(), 0..PERMISSIONS.len());
    prop_oneof![3 => Just(all), 1 => part]
}

fn target() -> impl Strategy<Value = Target> {
    let segment = prop_oneof![6 => Just("a"), 4 => Just("b"), 1 => Just("A"), 2 => Just("B")];
    let segments = prop::collection::vec(segment, 0..5);
    let verb = prop_oneof![6 => Just("GET"), 3 => Just("HEAD"), 4 => Just("POST"),
        1 => Just("PUT"), 1 => Just("OPTIONS")];
    let service = prop_oneof![12 => Just("api"), 12 => Just("shop"), 1 => Just("nowhere")];
    let path = (service, verb, segments, prop::bool::weighted(0.3));
    let path = path.prop_map(|(service, verb, segments, slash)| Target {
        service: service.to_owned(),
        verb: verb.to_owned(),
        object: match segments.as_slice() {
            [] => "/".to_owned(),
            some => format!("/{}{}", some.join("/"), if slash { "/" } else { "" }),
        },
        wanted: None,
    });
    let named = |service: &str, verb: &str, object: &str, wanted| {
        Just(Target {
            service: service.to_owned(),
            verb: verb.to_owned(),
            object: object.to_owned(),
            wanted,
        })
    };
    prop_oneof![
        30 => path,
        1 => named("api", "connect", "", None),
        1 => named("shop", "connect", "", None),
        3 => named("vault", "read", "mail", None),
        2 => named("vault", "read", "key", None),
        1 => named("vault", "read", "nothing", None),
        1 => named("vault", "write", "mail", None),
        1 => named("vault", "inject", "key", None),
        1 => named("vault", "inject", "mail", None),
        1 => named("issuer", "revoke", "own", None),
        1 => named("issuer", "revoke", "workload", None),
        1 => named("issuer", "revoke", "lift/workload", None),
        1 => named("issuer", "token", "", Some("api")),
        1 => named("issuer", "token", "", Some("shop")),
        1 => named("issuer", "token", "", None),
        1 => named("audit", "read", "records", None),
        1 => named("audit", "read", "explain", None),
    ]
}

/// Something that an arrow allows, but for what is left to chance.
fn aimed(arrows: Vec<Arrow>) -> impl Strategy<Value = (Sender, Target)> {
    let segment = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just("A"), 1 => Just("B"),
        1 => Just("")];
    let fillers = prop::collection::vec(segment, 4);
    let head = prop::bool::weighted(0.2);
    (prop::sample::select(arrows), fillers, head).prop_map(|(arrow, fillers, head)| {
        let (verb, pattern) = arrow
            .operation
            .split_once(' ')
            .unwrap_or((&arrow.operation, ""));
        let mut rest = fillers.iter().filter(|it| !it.is_empty());
        let mut next = || rest.next().copied().unwrap_or("a");
        let secret = arrow.to == "vault";
        let segments = pattern.split('/').map(|segment| match segment {
            "*" if secret => "key",
            "*" => next(),
            "**" => fillers[0],
            other => other,
        });
        let object: Vec<_> = segments.collect();
        let sender = match DOORS.iter().any(|(door, _)| *door == arrow.from) {
            true => Sender::Door(arrow.from.clone()),
            false => Sender::Workload(arrow.from.clone()),
        };
        let target = Target {
            verb: if head && verb == "GET" { "HEAD" } else { verb }.to_owned(),
            service: arrow.to,
            object: object.join("/"),
            wanted: None,
        };
        (sender, target)
    })
}

impl Ask {
    /// The same as the enforcement point would ask it.
    pub(crate) fn hop(&self) -> Hop {
        let midnight = MONDAY + i64::from(self.day) * 86_400;
        let at = Timestamp::from_secs(midnight + i64::from(self.minute) * 60);
        let leaf = Digest::new([1; 32]);
        let peer = match &self.sender {
            Sender::Workload(name) => certified(name, leaf, at),
            Sender::Gateway => certified("countersign/gateway/edge", leaf, at),
            Sender::Door(_) => Peer::Anonymous,
        };
        let at_door = matches!(self.sender, Sender::Door(_));
        let token = self.token.as_ref().map(|it| claims(it, at_door, leaf, at));
        let session = token.as_ref().filter(|_| at_door).map(|claims| Session {
            ends: at.plus(Duration::from_secs(600)),
            groups: claims.groups.clone(),
            holder: leaf,
            sid: SESSION,
            sub: claims.sub.clone(),
        });
        Hop {
            at,
            door: Name::new(&self.door).unwrap(),
            evidence: Evidence {
                peer,
                session: session.map(Box::new),
                tls: Tls::Established {
                    cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
                    group: "X25519MLKEM768".to_owned(),
                    resumed: false,
                    version: TlsVersion::V13,
                },
                token: token.map_or(Token::Absent, |claims| {
                    Token::Verified(Arc::new(VerifiedToken {
                        claims,
                        hash: Digest::new([3; 32]),
                        kid: "k1".to_owned(),
                    }))
                }),
            },
            facts: Facts {
                body_bytes: self.body,
                model: self.model.clone(),
                requested_service: self.wanted.clone(),
                same_origin: Some(true),
                ..Facts::default()
            },
            operation: Operation::named(&self.verb, &self.object),
            service: self.service.clone(),
        }
    }
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{DOMAIN}/{path}")).unwrap()
}

fn certified(path: &str, leaf: Digest, at: Timestamp) -> Peer {
    Peer::Certificate(Arc::new(Certificate {
        issuer: Digest::new([8; 32]),
        issuers_above: Box::default(),
        leaf,
        not_after: at.plus(Duration::from_secs(600)),
        not_before: at,
        root: ROOT,
        serial: "2a".to_owned(),
        spiffe_id: id(path),
    }))
}

fn claims(shown: &Shown, at_door: bool, leaf: Digest, at: Timestamp) -> Claims {
    let (sub, groups) = match &shown.subject {
        Subject::Workload(name) => (id(name).as_str().to_owned(), Vec::new()),
        Subject::Person { login, sub, groups } => (
            format!("{login}:{sub}"),
            groups.iter().map(|it| format!("{login}/{it}")).collect(),
        ),
        Subject::Process => (String::new(), Vec::new()),
    };
    let bound = if shown.bound {
        leaf
    } else {
        Digest::new([2; 32])
    };
    let scope = shown.scope.iter().map(|it| Permission::new(it).unwrap());
    Claims {
        act: Vec::new(),
        aud: format!("https://{DOMAIN}/svc/{}", shown.audience),
        ceil: Vec::new(),
        client_id: sub.clone(),
        cnf: Binding::Certificate(bound),
        exp: at.as_secs() + 50,
        groups,
        iat: at.as_secs(),
        iss: format!("https://{DOMAIN}"),
        jti: "one".to_owned(),
        nbf: None,
        roles: Vec::new(),
        scope: scope.collect(),
        sid: at_door.then_some(SESSION),
        sub,
    }
}
