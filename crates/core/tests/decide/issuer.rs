//! What the issuer may sign: scope, ceiling, chain.

use crate::fixture::*;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::explain::explain;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Hop;
use countersign_core::hop::Session;
use countersign_core::hop::Token;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::pillars::least_privilege::TokenGrant;
use countersign_core::remedy::remedy;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use std::sync::Arc;
use std::time::Duration;

fn ask(caller: &str, service: &str, scope: &[&str]) -> Hop {
    let mut hop = mesh(
        caller,
        "control",
        "issuer",
        Operation::named("token", ""),
        claims("", "", &[], caller),
    );
    hop.evidence.token = Token::Absent;
    hop.facts.requested_service = Some(service.to_owned());
    hop.facts.requested_scope = scope.iter().map(|it| (*it).to_owned()).collect();
    hop
}

fn exchange(caller: &str, parent: Claims, service: &str, scope: &[&str]) -> Hop {
    let mut hop = ask(caller, service, scope);
    hop.evidence.token = token(parent);
    hop
}

fn at_the_door(service: &str) -> Hop {
    let mut hop = ask("countersign/gateway/gw", service, &[]);
    hop.facts.requested_door = Some(Name::new("web").unwrap());
    hop.evidence.session = Some(Box::new(Session {
        ends: NOW.plus(Duration::from_secs(3600)),
        groups: Vec::new(),
        holder: leaf("countersign/gateway/gw"),
        sid: leaf("session"),
        sub: "dev:alice".to_owned(),
    }));
    hop
}

fn grant(hop: Hop) -> TokenGrant {
    let state = state();
    let pending = match decide(hop, &state) {
        Verdict::Allow(pending) => pending,
        Verdict::Deny(denial) => panic!("{}: {}", denial.code(), denial.reason()),
    };
    let found = pending.grant().cloned().unwrap();
    assert!(pending.complete(Reservation::default()).is_ok());
    found
}

/// What hms-api got of the frontend for a person at the door.
fn handed_on(sub: &str, scope: &[&str]) -> Claims {
    let mut parent = claims(sub, "hms-api", scope, "frontend");
    parent.act = vec![id("frontend"), id("countersign/door/web")];
    parent.ceil = scopes(&["llm:chat"]);
    parent
}

fn carried(grant: &TokenGrant, bound_to: &str) -> Claims {
    let mut claims = claims(&grant.subject, "", &[], bound_to);
    claims.aud.clone_from(&grant.audience);
    claims.scope.clone_from(&grant.scope);
    claims.ceil.clone_from(&grant.ceil);
    claims.act.clone_from(&grant.act);
    claims.sid = grant.sid;
    claims
}

#[test]
fn a_chain_narrows_at_every_hop_and_names_everyone() {
    let door = grant(at_the_door("frontend"));
    assert_eq!(door.scope, []);
    assert_eq!(
        door.ceil,
        scopes(&["ai:invoke-summary", "llm:chat", "report:read"])
    );
    assert_eq!(door.act, [id("countersign/door/web")]);
    assert_eq!(door.roles, ["analyst"]);
    assert_eq!(door.lifetime, Duration::from_secs(60));

    let to_api = grant(exchange(
        "frontend",
        carried(&door, "countersign/gateway/gw"),
        "hms-api",
        &["ai:invoke-summary"],
    ));
    assert_eq!(to_api.scope, scopes(&["ai:invoke-summary"]));
    assert_eq!(to_api.ceil, scopes(&["llm:chat"]));
    assert_eq!(to_api.act, [id("frontend"), id("countersign/door/web")]);
    assert_eq!(to_api.subject, "dev:alice");
    assert_eq!(to_api.lifetime, Duration::from_secs(50));
    assert_eq!(to_api.sid, Some(leaf("session")));

    let to_model = grant(exchange(
        "hms-api",
        carried(&to_api, "frontend"),
        "openai",
        &["llm:chat"],
    ));
    assert_eq!(to_model.scope, scopes(&["llm:chat"]));
    assert_eq!(to_model.ceil, []);
    assert_eq!(
        to_model.act,
        [id("hms-api"), id("frontend"), id("countersign/door/web")]
    );
}

#[test]
fn a_workload_for_itself() {
    let own = grant(ask("hms-api", "vault", &["ai:key:read"]));
    assert_eq!(own.scope, scopes(&["ai:key:read"]));
    assert_eq!(own.subject, "spiffe://hms.dev.invalid/hms-api");
    assert_eq!(own.act, []);
    assert_eq!(
        grant(ask("hms-api", "vault", &[])).scope,
        scopes(&["ai:key:read"])
    );
    // What is asked for beyond its rights is left out; nothing left is a refusal.
    assert_eq!(
        grant(ask("hms-api", "vault", &["ai:key:read", "secret:write"])).scope,
        scopes(&["ai:key:read"])
    );
    denied(ask("hms-api", "vault", &["secret:write"]), Code::ROLE_LACKS);
    denied(ask("hms-api", "openai", &["llm:chat"]), Code::ROLE_LACKS);
}

#[test]
fn no_token_for_where_no_edge_leads() {
    assert_eq!(
        denied(
            ask("stats-worker", "vault", &["ai:key:read"]),
            Code::NO_EDGE
        ),
        "no edge `stats-worker -> vault`"
    );
    denied(ask("frontend", "nothing", &[]), Code::NO_EDGE);
    let mut unsaid = ask("frontend", "hms-api", &[]);
    unsaid.facts.requested_service = None;
    denied(unsaid, Code::NO_EDGE);
    denied(at_the_door("openai"), Code::NO_EDGE);
}

#[test]
fn only_the_workload_a_token_was_given_to_exchanges_it() {
    let parent = handed_on("dev:alice", &["ai:invoke-summary"]);
    let hop = exchange("frontend", parent.clone(), "hms-api", &[]);
    denied(hop, Code::SUBJECT_MISMATCH);
    denied(
        exchange("stats-worker", parent.clone(), "openai", &[]),
        Code::SUBJECT_MISMATCH,
    );
    assert_eq!(
        grant(exchange("hms-api", parent.clone(), "openai", &[])).scope,
        scopes(&["llm:chat"])
    );
    // An expired subject token hands on nothing.
    let mut expired = parent.clone();
    expired.exp = NOW.as_secs();
    denied(
        exchange("hms-api", expired, "openai", &[]),
        Code::TOKEN_TIME,
    );
    let mut above = parent.clone();
    above.ceil.clear();
    denied(
        exchange("hms-api", above, "openai", &["llm:chat"]),
        Code::ABOVE_CEILING,
    );
    let mut long = parent;
    long.act = vec![id("frontend"); 8];
    denied(
        exchange("hms-api", long, "openai", &["llm:chat"]),
        Code::ABOVE_CEILING,
    );
}

#[test]
fn a_session_held_elsewhere_draws_nothing() {
    let mut stolen = at_the_door("frontend");
    stolen.evidence.session.as_mut().unwrap().holder = leaf("other-gateway");
    denied(stolen, Code::TOKEN_BINDING);
}

#[test]
fn only_a_gateway_draws_from_a_session() {
    for caller in ["frontend", "countersign/server/s1"] {
        let mut asks = at_the_door("frontend");
        edit_certificate(&mut asks, |it| {
            it.spiffe_id = id(caller);
            it.leaf = leaf(caller);
        });
        asks.evidence.session.as_mut().unwrap().holder = leaf(caller);
        denied(asks, Code::SUBJECT_MISMATCH);
    }
}

#[test]
fn a_session_of_a_revoked_person_draws_nothing() {
    let alice = revoked(Revoked::Subject("dev:alice".into()));
    denied_in(at_the_door("frontend"), &alice, Code::SUBJECT_REVOKED);
}

#[test]
fn a_token_ends_with_the_session_it_is_drawn_from() {
    let mut ending = at_the_door("frontend");
    ending.evidence.session.as_mut().unwrap().ends = NOW.plus(Duration::from_secs(20));
    assert_eq!(grant(ending).lifetime, Duration::from_secs(20));
}

#[test]
fn nobody_hands_on_a_person_who_came_by_no_door() {
    let mut invented = handed_on("dev:alice", &["ai:invoke-summary"]);
    invented.act.clear();
    let hop = exchange("hms-api", invented, "openai", &["llm:chat"]);
    assert_eq!(
        denied(hop, Code::ABOVE_CEILING),
        "a person's token says by which door they came"
    );
}

#[test]
fn a_scope_has_few_and_short_words() {
    let asks = |words: Vec<String>| {
        let mut hop = ask("hms-api", "vault", &["ai:key:read"]);
        hop.facts.requested_scope.extend(words);
        hop
    };
    allowed(asks(vec!["x:y".into(); 63]));
    allowed(asks(vec!["x".repeat(128)]));
    denied(asks(vec!["x:y".into(); 64]), Code::BODY_UNREADABLE);
    denied(asks(vec!["x".repeat(129)]), Code::BODY_UNREADABLE);
}

#[test]
fn zt_off_gives_the_scope_asked_for() {
    let mut open = bundle();
    open.zt_off = true;
    let state = State {
        snapshot: Arc::new(Snapshot::from_bundle(open).unwrap()),
        ..state()
    };
    let asks = |scope: &[&str]| {
        let mut hop = ask("hms-api", "openai", scope);
        hop.evidence = Evidence::none();
        hop
    };
    let granted = |hop| match decide(hop, &state) {
        Verdict::Allow(pending) => pending.grant().cloned().unwrap(),
        Verdict::Deny(denial) => panic!("{}: {}", denial.code(), denial.reason()),
    };
    let some = granted(asks(&["llm:chat", "any:thing"]));
    assert_eq!(some.scope, scopes(&["any:thing", "llm:chat"]));
    assert!(some.roles.contains(&"manager".to_owned()));
    assert!(granted(asks(&[])).scope.contains(&scopes(&["llm:chat"])[0]));
    let mut unsaid = asks(&[]);
    unsaid.facts.requested_service = None;
    denied_in(unsaid, &state, Code::NO_EDGE);
}

#[test]
fn a_person_demoted_since_loses_it_at_the_next_exchange() {
    let parent = handed_on("dev:carol", &[]);
    denied(
        exchange("hms-api", parent, "openai", &["llm:chat"]),
        Code::ROLE_LACKS,
    );
}

#[test]
fn what_the_subject_has_but_no_edge_leads_to_is_wanting_an_edge() {
    let asked = |sub: &str| {
        let mut parent = claims(sub, "frontend", &[], "frontend");
        parent.act = vec![id("countersign/door/web")];
        parent.ceil = scopes(&["report:read", "report:write"]);
        exchange("frontend", parent, "hms-api", &["report:write"])
    };
    let state = state();
    // Bob is a manager; the arrow from the frontend leads to other operations.
    assert_eq!(
        denied(asked("dev:bob"), Code::ROLE_LACKS),
        "`dev:bob` has `report:write`, but no edge leads to an operation that needs it"
    );
    let told = explain(asked("dev:bob"), &state);
    let near: Vec<_> = told.near.iter().map(|it| it.rule.as_str()).collect();
    assert!(
        near.contains(&"frontend -> hms-api [GET /reports/**, POST /ai/summary]"),
        "{near:?}"
    );
    let fix = remedy(&asked("dev:bob"), &state).unwrap();
    assert_eq!(fix.add, "frontend -> hms-api: [POST /reports]");
    assert_eq!(fix.then, None);
    // Alice has no role that gives it, whatever the edges are.
    assert_eq!(
        denied(asked("dev:alice"), Code::ROLE_LACKS),
        "`dev:alice` may not have `report:write` here"
    );
    let told = explain(asked("dev:alice"), &state);
    assert!(told.near.iter().all(|it| it.rule.starts_with("role ")));
    let fix = remedy(&asked("dev:alice"), &state).unwrap();
    assert_eq!(fix.add, "user:dev/alice to the members of role manager");
}
