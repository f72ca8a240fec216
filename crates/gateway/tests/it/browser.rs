//! People at the browser door.

use crate::support::Answer;
use crate::support::Cast;
use crate::support::request;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use std::sync::atomic::Ordering;

const LOGIN: &str = "/.countersign/login";

/// The value of a cookie that an answer sets.
fn cookie(answer: &Answer, name: &str) -> Option<String> {
    let set = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().unwrap());
    let mut pairs = set.filter_map(|it| it.split(';').next()?.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// Signs somebody in; gives the `Cookie` header.
pub(crate) async fn sign_in(cast: &Cast, before: &str) -> String {
    let mut client = cast.dial_web(true).await;
    let host = cast.web_host();
    let page = client
        .send(request(
            "GET",
            &format!("{LOGIN}?return=/a"),
            &[("host", &host)],
            "",
        ))
        .await;
    assert_eq!(page.status, 200);
    let form = cookie(&page, "__Host-cs-form").unwrap();
    assert!(page.text().contains(&form) && page.text().contains("group:dev/analysts"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    let cookies = format!("__Host-cs-form={form}; {before}");
    let headers = [
        ("host", host.as_str()),
        ("cookie", &cookies),
        ("sec-fetch-site", "same-origin"),
    ];
    let body = format!("form={form}&return=%2Fa&member=group%3Adev%2Fanalysts");
    let answer = client.send(request("POST", LOGIN, &headers, &body)).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/a"));
    let set = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().unwrap());
    let session = set
        .into_iter()
        .find(|it| it.starts_with("__Host-cs="))
        .unwrap();
    assert!(
        session.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"),
        "{session}"
    );
    format!("__Host-cs={}", cookie(&answer, "__Host-cs").unwrap())
}

#[tokio::test]
async fn a_person_signs_in_and_gets_through() {
    let cast = Cast::new().await;
    let host = cast.web_host();
    let session = sign_in(&cast, "").await;
    for http2 in [false, true] {
        let mut client = cast.dial_web(http2).await;
        let cookies = format!("theme=dark; {session}; x=1");
        let headers = [
            ("host", host.as_str()),
            ("cookie", &cookies),
            ("authorization", "Bearer mine"),
        ];
        let answer = client
            .send(request("GET", "/hello?x=1", &headers, ""))
            .await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        let seen = cast.app.last();
        assert!(seen.recorded);
        assert_eq!(seen.target, "/base/hello?x=1");
        assert_eq!(seen.headers["cookie"], "theme=dark; x=1");
        let token = seen.headers["authorization"].to_str().unwrap();
        let claims = crate::support::payload(token);
        assert_eq!(claims["aud"], "https://local.dev.invalid/svc/app");
        assert!(seen.headers.contains_key("countersign-assertion"));
        assert!(!seen.headers.contains_key("countersign-subject"));
        assert_eq!(
            cookie(&answer, "__Host-cs"),
            None,
            "an application set our cookie"
        );
        assert_eq!(cookie(&answer, "application").as_deref(), Some("1"));
        assert!(
            answer
                .header("strict-transport-security")
                .starts_with("max-age=")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(*cast.control.drawn.lock(), 1, "the token was drawn once");
    cast.point
        .revoke(&[Revocation {
            at: Timestamp::from_secs(1),
            epoch: 1,
            lifted: false,
            what: Revoked::Token("unrelated".to_owned()),
        }])
        .unwrap();
    let mut client = cast.dial_web(false).await;
    let headers = [("host", host.as_str()), ("cookie", &session)];
    assert_eq!(
        client.send(request("GET", "/", &headers, "")).await.status,
        200
    );
    assert_eq!(
        *cast.control.drawn.lock(),
        2,
        "another epoch, another token"
    );
}

/// What an upstream was sent it may send back there, where no field or body is looked at.
#[tokio::test]
async fn the_reason_phrase_of_an_upstream_ends_here() {
    let cast = Cast::new().await;
    let host = cast.web_host();
    let session = sign_in(&cast, "").await;
    let mut client = cast.dial_web(false).await;
    let headers = [("host", host.as_str()), ("cookie", &session)];
    let answer = client
        .start(request("GET", "/reason-leak", &headers, ""))
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(cast.app.last().headers.contains_key("authorization"));
    let phrase = answer.extensions().get::<hyper::ext::ReasonPhrase>();
    assert_eq!(phrase, None);
}

#[tokio::test]
async fn nobody_gets_through_unknown() {
    let cast = Cast::new().await;
    let host = cast.web_host();
    let mut client = cast.dial_web(false).await;
    let answer = client
        .send(request("GET", "/x", &[("host", &host)], ""))
        .await;
    cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 0)
        .await;
    let unknown = [("host", host.as_str()), ("cookie", "__Host-cs=made-up")];
    let answer = client.send(request("GET", "/x", &unknown, "")).await;
    cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 0)
        .await;
    // A page is sent to sign in, and back; that is recorded as well.
    let page = [("host", host.as_str()), ("accept", "text/html,*/*")];
    let answer = client.send(request("GET", "/x?y=1", &page, "")).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/.countersign/login?return=/x%3Fy%3D1")
    );
    let receipt = answer.header("countersign-receipt").parse().unwrap();
    assert!(cast.point.spool().find(&receipt).unwrap().is_some());
    assert!(cast.app.seen().is_empty());
    // A bearer token is no session.
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "app"));
    let bearer = [("host", host.as_str()), ("authorization", &token)];
    let answer = client.send(request("GET", "/x", &bearer, "")).await;
    cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 0)
        .await;
}

#[tokio::test]
async fn other_sites_can_change_nothing() {
    let cast = Cast::new().await;
    let host = cast.web_host();
    let session = sign_in(&cast, "").await;
    let mut client = cast.dial_web(false).await;
    let with = |extra: &[(&'static str, &'static str)]| {
        let own = [("host", host.clone()), ("cookie", session.clone())];
        let extra = extra
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        own.into_iter().chain(extra).collect::<Vec<_>>()
    };
    for extra in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        let headers = with(extra);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = client.send(request("POST", "/x", &headers, "a=1")).await;
        cast.refused(&answer, Code::CROSS_SITE, &cast.app, 0).await;
    }
    let origin = format!("https://{host}");
    for allowed in [
        ("sec-fetch-site", "same-origin"),
        ("origin", origin.as_str()),
    ] {
        let headers = [
            ("host", host.as_str()),
            ("cookie", session.as_str()),
            allowed,
        ];
        assert_eq!(
            client
                .send(request("POST", "/x", &headers, "a=1"))
                .await
                .status,
            200
        );
    }
    // Nor sign anybody in or out.
    let count = cast.app.seen().len();
    let headers = [
        ("host", host.as_str()),
        ("cookie", session.as_str()),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = client
        .send(request("POST", "/.countersign/logout", &headers, ""))
        .await;
    cast.refused(&answer, Code::CROSS_SITE, &cast.app, count)
        .await;
    let headers = [
        ("host", host.as_str()),
        ("cookie", "__Host-cs-form=a"),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = client
        .send(request(
            "POST",
            LOGIN,
            &headers,
            "form=b&member=user%3Adev%2Falice",
        ))
        .await;
    cast.refused(&answer, Code::CROSS_SITE, &cast.app, count)
        .await;
}

#[tokio::test]
async fn sessions_end() {
    let cast = Cast::new().await;
    let host = cast.web_host();
    let first = sign_in(&cast, "").await;
    let second = sign_in(&cast, &first).await;
    assert_ne!(first, second, "the session id rotates at sign-in");
    let mut client = cast.dial_web(false).await;
    let old = [("host", host.as_str()), ("cookie", first.as_str())];
    let answer = client.send(request("GET", "/x", &old, "")).await;
    cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 0)
        .await;
    let own = [
        ("host", host.as_str()),
        ("cookie", second.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(
        client.send(request("GET", "/x", &own, "")).await.status,
        200
    );
    // Nobody is told to be signed out who is not, and the cookie is kept to try again with.
    cast.control.away.store(true, Ordering::SeqCst);
    let out = client
        .send(request("POST", "/.countersign/logout", &own, ""))
        .await;
    assert_eq!(out.status, 503);
    assert!(!out.headers.contains_key("set-cookie"));
    cast.control.away.store(false, Ordering::SeqCst);
    let out = client
        .send(request("POST", "/.countersign/logout", &own, ""))
        .await;
    assert_eq!(out.status, 303);
    let answer = client.send(request("GET", "/x", &own, "")).await;
    cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 1)
        .await;
    // Revoked, the cookie may live on; it opens nothing.
    let third = sign_in(&cast, "").await;
    let what = Revoked::Session(Digest::new([7; 32]));
    cast.point
        .revoke(&[Revocation {
            at: Timestamp::from_secs(1),
            epoch: 1,
            lifted: false,
            what,
        }])
        .unwrap();
    let own = [("host", host.as_str()), ("cookie", third.as_str())];
    let answer = client.send(request("GET", "/x", &own, "")).await;
    cast.refused(&answer, Code::SESSION_REVOKED, &cast.app, 1)
        .await;
}

#[tokio::test]
async fn only_hosts_of_this_door() {
    let cast = Cast::new().await;
    let session = sign_in(&cast, "").await;
    for host in ["evil.example", "127.0.0.1", "localhost."] {
        let mut client = cast.dial_web(false).await;
        let headers = [("host", host), ("cookie", session.as_str())];
        let answer = client.send(request("GET", "/x", &headers, "")).await;
        // Whom it is for is not settled, so nobody is signed in.
        let code = cast.records().last().unwrap()["code"]
            .as_str()
            .unwrap()
            .to_owned();
        let code = Code::parse(&code).unwrap();
        assert!(
            [Code::SESSION_ABSENT, Code::HOST_MISDIRECTED].contains(&code),
            "{code}"
        );
        cast.refused(&answer, code, &cast.app, 0).await;
    }
}
