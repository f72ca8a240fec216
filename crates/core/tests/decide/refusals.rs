//! Pillars 1 to 5: what each single change to an allowed hop leads to.

use crate::fixture::*;
use countersign_core::hop::Binding;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Freshness;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsFault;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::TokenFault;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;

#[test]
fn the_unchanged_hops_are_allowed() {
    allowed(vault_read());
    allowed(summary());
    allowed(browser(
        Operation::named("POST", "/ai/summary"),
        &["ai:invoke-summary"],
    ));
}

#[test]
fn encryption() {
    let with = |tls: Tls| {
        let mut hop = summary();
        hop.evidence.tls = tls;
        hop
    };
    denied(with(Tls::Plain), Code::TLS_ABSENT);
    denied(with(Tls::Kernel), Code::TLS_ABSENT);
    denied(
        with(Tls::Refused {
            fault: TlsFault::Version,
        }),
        Code::TLS_VERSION,
    );
    denied(
        with(Tls::Refused {
            fault: TlsFault::Strength,
        }),
        Code::TLS_STRENGTH,
    );
    denied(
        with(Tls::Refused {
            fault: TlsFault::Handshake,
        }),
        Code::TLS_HANDSHAKE,
    );
    let mut old = summary();
    if let Tls::Established { version, .. } = &mut old.evidence.tls {
        *version = TlsVersion::V12;
    }
    denied(old, Code::TLS_VERSION);
    let mut nowhere = summary();
    nowhere.door = Name::new("garage").unwrap();
    denied(nowhere, Code::TLS_ABSENT);
}

#[test]
fn identity_of_the_certificate() {
    let with = |peer: Peer| {
        let mut hop = summary();
        hop.evidence.peer = peer;
        hop
    };
    denied(with(Peer::Anonymous), Code::CERTIFICATE_ABSENT);
    for (fault, code) in [
        (CertificateFault::Absent, Code::CERTIFICATE_ABSENT),
        (CertificateFault::Untrusted, Code::CERTIFICATE_UNTRUSTED),
        (CertificateFault::Time, Code::CERTIFICATE_TIME),
        (CertificateFault::Form, Code::CERTIFICATE_FORM),
        (CertificateFault::Key, Code::CERTIFICATE_KEY),
    ] {
        denied(with(Peer::Refused { fault, leaf: None }), code);
    }
    let mut stranger = summary();
    edit_certificate(&mut stranger, |it| it.spiffe_id = id("nobody"));
    denied(stranger, Code::IDENTITY_UNKNOWN);
    let mut foreign = summary();
    edit_certificate(&mut foreign, |it| {
        it.spiffe_id = "spiffe://other.dev.invalid/frontend".parse_id();
    });
    denied(foreign, Code::IDENTITY_UNKNOWN);
}

trait ParseId {
    fn parse_id(&self) -> countersign_core::vocabulary::SpiffeId;
}

impl ParseId for str {
    fn parse_id(&self) -> countersign_core::vocabulary::SpiffeId {
        countersign_core::vocabulary::SpiffeId::parse(self).unwrap()
    }
}

#[test]
fn identity_of_the_token() {
    let with = |token: Token| {
        let mut hop = summary();
        hop.evidence.token = token;
        hop
    };
    denied(with(Token::Absent), Code::TOKEN_ABSENT);
    for (fault, code) in [
        (TokenFault::Malformed, Code::TOKEN_MALFORMED),
        (TokenFault::Signature, Code::TOKEN_SIGNATURE),
        (TokenFault::Foreign, Code::TOKEN_AUDIENCE),
        (TokenFault::Static, Code::CREDENTIAL_STATIC),
    ] {
        denied(
            with(Token::Invalid {
                fault,
                hash: leaf("x"),
            }),
            code,
        );
    }
    let edited = |edit: fn(&mut countersign_core::hop::Claims)| {
        let mut hop = summary();
        edit_claims(&mut hop, edit);
        hop
    };
    denied(
        edited(|it| it.aud = "https://hms.dev.invalid/svc/vault".into()),
        Code::TOKEN_AUDIENCE,
    );
    denied(
        edited(|it| it.aud = "https://hms.dev.invalid/svc/".into()),
        Code::TOKEN_AUDIENCE,
    );
    denied(
        edited(|it| it.iss = "https://evil.example".into()),
        Code::TOKEN_AUDIENCE,
    );
    denied(edited(|it| it.exp = NOW.as_secs()), Code::TOKEN_TIME);
    denied(edited(|it| it.iat = NOW.as_secs() + 3), Code::TOKEN_TIME);
    denied(
        edited(|it| it.nbf = Some(NOW.as_secs() + 3)),
        Code::TOKEN_TIME,
    );
    denied(edited(|it| it.cnf = Binding::None), Code::TOKEN_BINDING);
    denied(
        edited(|it| it.sub = "spiffe://hms.dev.invalid/nobody".into()),
        Code::IDENTITY_UNKNOWN,
    );
    denied(
        edited(|it| it.sub = "corp:alice".into()),
        Code::IDENTITY_UNKNOWN,
    );
    denied(edited(|it| it.sub = "alice".into()), Code::IDENTITY_UNKNOWN);
    allowed(edited(|it| it.iat = NOW.as_secs() + 2));
    allowed(edited(|it| it.exp = NOW.as_secs() + 1));
}

#[test]
fn a_token_stolen_from_one_workload_opens_nothing_for_another() {
    let mut thief = summary();
    edit_certificate(&mut thief, |it| {
        it.spiffe_id = id("stats-worker");
        it.leaf = leaf("stats-worker");
    });
    let reason = denied(thief, Code::TOKEN_BINDING);
    assert_eq!(reason, "bound to certificate 6672, shown by 7374");
}

#[test]
fn identity_at_a_browser_door() {
    let asks = || {
        browser(
            Operation::named("POST", "/ai/summary"),
            &["ai:invoke-summary"],
        )
    };
    let mut none = asks();
    none.evidence.session = None;
    denied(none, Code::SESSION_ABSENT);
    let mut ended = asks();
    ended.evidence.session.as_mut().unwrap().ends = NOW;
    denied(ended, Code::SESSION_ABSENT);
    let mut forged = asks();
    forged.facts.same_origin = Some(false);
    denied(forged, Code::CROSS_SITE);
    let mut unlooked = asks();
    unlooked.facts.same_origin = None;
    denied(unlooked, Code::CROSS_SITE);
    let reads = |same_origin| {
        let mut hop = browser(Operation::named("GET", "/reports/1"), &["report:read"]);
        hop.facts.same_origin = same_origin;
        hop
    };
    allowed(reads(None));
    allowed(reads(Some(true)));
    // The opening of a WebSocket is a `GET` too.
    denied(reads(Some(false)), Code::CROSS_SITE);
    let mut other_session = asks();
    edit_claims(&mut other_session, |it| it.sid = Some(leaf("other")));
    denied(other_session, Code::TOKEN_BINDING);
    let mut other_person = asks();
    other_person.evidence.session.as_mut().unwrap().sub = "dev:bob".into();
    denied(other_person, Code::TOKEN_BINDING);
    let mut other_holder = asks();
    edit_claims(&mut other_holder, |it| {
        it.cnf = Binding::Certificate(leaf("elsewhere"))
    });
    denied(other_holder, Code::TOKEN_BINDING);
}

#[test]
fn continuous_verification() {
    let fresh = |freshness: Freshness| {
        let mut hop = summary();
        hop.facts.freshness = freshness;
        hop
    };
    let calm = Freshness::default();
    allowed(fresh(Freshness {
        revocations_age_ms: 15_000,
        ..calm
    }));
    denied(
        fresh(Freshness {
            revocations_age_ms: 15_001,
            ..calm
        }),
        Code::STATE_STALE,
    );
    denied(
        fresh(Freshness {
            policy_age_ms: 300_001,
            ..calm
        }),
        Code::STATE_STALE,
    );
    denied(
        fresh(Freshness {
            clock_skew_ms: 5_001,
            ..calm
        }),
        Code::CLOCK_SKEW,
    );
    let back = |ms| {
        fresh(Freshness {
            clock_stepped_back_ms: ms,
            ..calm
        })
    };
    allowed(back(1_000));
    denied(back(1_001), Code::CLOCK_SKEW);
    let mut ended = summary();
    edit_certificate(&mut ended, |it| it.not_after = NOW);
    denied(ended, Code::CERTIFICATE_ENDED);
    let mut untrusted = summary();
    edit_certificate(&mut untrusted, |it| it.root = Digest::new([9; 32]));
    denied(untrusted, Code::CERTIFICATE_ENDED);
    let mut replayed = summary();
    replayed.facts.fault = Some(RequestFault {
        code: Code::REPLAYED,
        detail: "jti seen".into(),
    });
    denied(replayed, Code::REPLAYED);
}

#[test]
fn whatever_was_revoked_is_refused() {
    for (what, code) in [
        (Revoked::Token("jti-1".into()), Code::TOKEN_REVOKED),
        (Revoked::Subject("dev:alice".into()), Code::SUBJECT_REVOKED),
        (
            Revoked::Certificate(leaf("frontend")),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Issuer(Digest::new([8; 32])),
            Code::CERTIFICATE_REVOKED,
        ),
        (Revoked::Identity(id("frontend")), Code::CERTIFICATE_REVOKED),
    ] {
        let reason = denied_in(summary(), &revoked(what), code);
        assert!(reason.ends_with("revoked 40 ms ago"), "{reason}");
    }
    // Who is above the issuer vouches for it: without them nobody does.
    let (upper, root) = (Digest::new([9; 32]), Digest::new([10; 32]));
    let mut below = summary();
    if let Peer::Certificate(certificate) = &mut below.evidence.peer {
        std::sync::Arc::make_mut(certificate).issuers_above = [upper, root].into();
    }
    for key in [upper, root] {
        let state = revoked(Revoked::Issuer(key));
        denied_in(below.clone(), &state, Code::CERTIFICATE_REVOKED);
    }
    let asks = browser(
        Operation::named("POST", "/ai/summary"),
        &["ai:invoke-summary"],
    );
    denied_in(
        asks,
        &revoked(Revoked::Session(leaf("session"))),
        Code::SESSION_REVOKED,
    );
    // A workload may be revoked as a subject: it is no caller then either, nor on the way.
    let state = revoked(Revoked::Subject(id("hms-api").as_str().into()));
    denied_in(vault_read(), &state, Code::CERTIFICATE_REVOKED);
    let state = revoked(Revoked::Subject(id("frontend").as_str().into()));
    denied_in(summary(), &state, Code::CERTIFICATE_REVOKED);
    let mut local = vault_read();
    local.door = Name::admin();
    local.evidence.peer = Peer::Local {
        pid: 1,
        uid: 1000,
        user: Some("ops".into()),
    };
    local.evidence.tls = Tls::Kernel;
    local.evidence.token = Token::Absent;
    let state = revoked(Revoked::Subject(id("ops").as_str().into()));
    denied_in(local, &state, Code::SUBJECT_REVOKED);
    // A workload somewhere back in the chain counts too.
    let mut onward = summary();
    edit_claims(&mut onward, |it| it.act.insert(1, id("stats-worker")));
    for what in [
        Revoked::Identity(id("stats-worker")),
        Revoked::Subject(id("stats-worker").as_str().into()),
    ] {
        denied_in(onward.clone(), &revoked(what), Code::CERTIFICATE_REVOKED);
    }
}

#[test]
fn micro_segmentation() {
    let asks = |service: &str, operation: Operation| {
        let mut hop = summary();
        edit_claims(&mut hop, |it| {
            it.aud = format!("https://hms.dev.invalid/svc/{service}")
        });
        hop.service = service.to_owned();
        hop.operation = operation;
        hop
    };
    // No edge, no operation, no service: one answer.
    denied(
        asks("openai", Operation::named("POST", "/v1/chat/completions")),
        Code::NO_EDGE,
    );
    denied(
        asks("hms-api", Operation::named("POST", "/reports")),
        Code::NO_EDGE,
    );
    denied(
        asks("hms-api", Operation::named("GET", "/admin")),
        Code::NO_EDGE,
    );
    denied(asks("nothing", Operation::named("GET", "/")), Code::NO_EDGE);
    denied(
        asks("hms-api", Operation::named("DELETE", "/reports/1")),
        Code::NO_EDGE,
    );
    denied(
        asks("hms-api", Operation::named("OPTIONS", "/reports/1")),
        Code::NO_EDGE,
    );
    denied(asks("vault", Operation::named("lease", "x")), Code::NO_EDGE);
    denied(
        asks("console", Operation::named("admin", "reload")),
        Code::NO_EDGE,
    );
    denied(
        asks("audit", Operation::named("read", "records")),
        Code::NO_EDGE,
    );
    let mut worker = vault_read();
    edit_certificate(&mut worker, |it| {
        it.spiffe_id = id("stats-worker");
        it.leaf = leaf("stats-worker");
    });
    edit_claims(&mut worker, |it| {
        it.sub = id("stats-worker").as_str().to_owned();
        it.cnf = Binding::Certificate(leaf("stats-worker"));
    });
    assert_eq!(
        denied(worker, Code::NO_EDGE),
        "no edge `stats-worker -> vault`"
    );
    for code in [Code::PATH_AMBIGUOUS, Code::HOST_MISDIRECTED] {
        let mut odd = summary();
        odd.facts.fault = Some(RequestFault {
            code,
            detail: "x".into(),
        });
        denied(odd, code);
    }
}

#[test]
fn a_stranger_learns_nothing_of_services_or_paths() {
    // Identity fails first, whatever is wrong further down.
    let mut hop = summary();
    hop.service = "nothing".into();
    hop.evidence.token = Token::Absent;
    hop.facts.fault = Some(RequestFault {
        code: Code::PATH_AMBIGUOUS,
        detail: "x".into(),
    });
    denied(hop, Code::TOKEN_ABSENT);
}

#[test]
fn least_privilege() {
    let file = |sub: &str, scope: &[&str]| {
        let mut hop = browser(Operation::named("POST", "/reports"), scope);
        edit_claims(&mut hop, |it| it.sub = sub.to_owned());
        hop.evidence.session.as_mut().unwrap().sub = sub.to_owned();
        hop
    };
    let reason = denied(file("dev:alice", &["report:write"]), Code::ROLE_LACKS);
    assert_eq!(
        reason,
        "needs report:write, `dev:alice` has ai:invoke-summary llm:chat report:read"
    );
    denied(file("dev:bob", &["report:read"]), Code::SCOPE_LACKS);
    allowed(file("dev:bob", &["report:write"]));
    let mut large = file("dev:bob", &["report:write"]);
    large.facts.body_bytes = Some(1025);
    denied(large, Code::BODY_TOO_LARGE);
    // Group membership counts as the token carries it; a `roles` claim counts for nothing.
    let mut grouped = browser(
        Operation::named("POST", "/ai/summary"),
        &["ai:invoke-summary"],
    );
    edit_claims(&mut grouped, |it| {
        it.sub = "dev:carol".into();
        it.groups = vec!["dev/analysts".into()];
    });
    grouped.evidence.session.as_mut().unwrap().sub = "dev:carol".into();
    allowed(grouped.clone());
    edit_claims(&mut grouped, |it| {
        it.groups.clear();
        it.roles = vec!["analyst".into(), "manager".into()];
    });
    denied(grouped, Code::ROLE_LACKS);
}

#[test]
fn only_readers_read_and_only_the_named_secret() {
    let mut by_frontend = vault_read();
    edit_certificate(&mut by_frontend, |it| {
        it.spiffe_id = id("frontend");
        it.leaf = leaf("frontend");
    });
    edit_claims(&mut by_frontend, |it| {
        it.sub = id("frontend").as_str().to_owned();
        it.cnf = Binding::Certificate(leaf("frontend"));
    });
    denied(by_frontend, Code::NOT_A_READER);
    // A delegated token reads only what the person may read.
    let mut for_alice = vault_read();
    edit_claims(&mut for_alice, |it| it.sub = "dev:alice".into());
    denied(for_alice, Code::NOT_A_READER);
    let mut other = vault_read();
    other.operation.object = "model".into();
    denied(other, Code::NO_EDGE);
    let mut without = vault_read();
    edit_claims(&mut without, |it| it.scope = scopes(&["secret:read"]));
    denied(without, Code::SCOPE_LACKS);
}

#[test]
fn a_workload_with_the_same_right_is_still_no_person() {
    let own = claims(
        id("importer").as_str(),
        "hms-api",
        &["report:write"],
        "importer",
    );
    let hop = mesh(
        "importer",
        "mesh",
        "hms-api",
        Operation::named("POST", "/reports"),
        own,
    );
    denied(hop.clone(), Code::PERSON_REQUIRED);
    let mut for_bob = hop;
    edit_claims(&mut for_bob, |it| it.sub = "dev:bob".into());
    allowed(for_bob);
}

#[test]
fn a_request_that_carries_a_credential_is_refused() {
    let mut carrying = summary();
    carrying.facts.fault = Some(RequestFault {
        code: Code::REQUEST_CREDENTIAL,
        detail: "x".into(),
    });
    denied(carrying, Code::REQUEST_CREDENTIAL);
}

#[test]
fn the_decision_reads_no_clock() {
    let mut early = summary();
    early.at = Timestamp::from_secs(NOW.as_secs() - 3600);
    denied(early, Code::TOKEN_TIME);
}
