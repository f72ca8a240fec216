//! Pages of other origins at the browser door.

use crate::browser::sign_in;
use crate::support::Answer;
use crate::support::Cast;
use crate::support::More;
use crate::support::request;
use countersign_core::vocabulary::Code;
use countersign_testkit::pki::Pki;
use std::sync::Arc;

const DOCS: &str = "https://docs.acme.example";
const OTHERS: [&str; 9] = [
    "null",
    "*",
    "https://evil.example",
    "https://docs.acme.example.evil.example",
    "https://evildocs.acme.example",
    "https://a.docs.acme.example",
    "https://docs.acme.example:8443",
    "http://docs.acme.example",
    "https://DOCS.acme.example",
];

async fn stage(keys: &str) -> Cast {
    let more = More {
        web: format!(", cors: {{ origins: [\"{DOCS}\", \"http://localhost:3000\"], {keys} }}"),
        ..More::default()
    };
    Cast::with(Arc::new(Pki::new("local.dev.invalid")), &more).await
}

/// What an answer says of other origins.
fn says(answer: &Answer) -> Vec<(String, String)> {
    let names = answer.headers.iter();
    let said = names.filter(|(name, _)| name.as_str().starts_with("access-control-"));
    let mut said: Vec<_> = said
        .map(|(name, value)| {
            let name = name.as_str().trim_start_matches("access-control-");
            (name.to_owned(), value.to_str().unwrap().to_owned())
        })
        .collect();
    said.sort_unstable();
    said
}

fn varies(answer: &Answer) -> bool {
    let names = answer.headers.get_all("vary").iter();
    let mut names = names.flat_map(|it| it.to_str().unwrap().split(','));
    names.any(|it| it.trim().eq_ignore_ascii_case("origin"))
}

async fn ask(cast: &Cast, http2: bool, method: &str, path: &str, extra: &[(&str, &str)]) -> Answer {
    let host = cast.web_host();
    let own = [("host", host.as_str())];
    let headers: Vec<_> = own.into_iter().chain(extra.iter().copied()).collect();
    let mut client = cast.dial_web(http2).await;
    client.send(request(method, path, &headers, "")).await
}

#[tokio::test]
async fn preflights_are_answered_by_the_door() {
    let cast =
        stage("methods: [PUT, DELETE], headers: [x-page], credentials: true, max_age: 5m").await;
    let asks = ("access-control-request-method", "PUT");
    for http2 in [false, true] {
        for origin in [DOCS, "http://localhost:3000"] {
            let answer = ask(&cast, http2, "OPTIONS", "/x", &[("origin", origin), asks]).await;
            assert_eq!((answer.status, answer.text().as_str()), (204, ""));
            let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let expected = [
                own("allow-credentials", "true"),
                own("allow-headers", "x-page"),
                own("allow-methods", "PUT, DELETE"),
                own("allow-origin", origin),
                own(
                    "expose-headers",
                    "countersign-pillar, countersign-receipt, ratelimit, ratelimit-policy, \
                     retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, \
                     x-request-id",
                ),
                own("max-age", "300"),
            ];
            assert_eq!(says(&answer), expected);
            assert!(varies(&answer));
        }
        for origin in OTHERS {
            let answer = ask(&cast, http2, "OPTIONS", "/x", &[("origin", origin), asks]).await;
            assert_eq!(
                (answer.status, says(&answer)),
                (204, Vec::new()),
                "{origin}"
            );
            assert!(varies(&answer));
        }
        let twice = [("origin", DOCS), ("origin", DOCS), asks];
        let answer = ask(&cast, http2, "OPTIONS", "/x", &twice).await;
        assert_eq!(says(&answer), Vec::new());
        // Signing in and out is for pages of this door, however its path is written.
        let login = [("origin", DOCS), asks];
        for ours in ["/.countersign/logout", "/%2Ecountersign/%6Cogout"] {
            let answer = ask(&cast, http2, "OPTIONS", ours, &login).await;
            assert_eq!((answer.status, says(&answer)), (204, Vec::new()), "{ours}");
            let answer = ask(&cast, http2, "GET", ours, &[("origin", DOCS)]).await;
            assert_eq!((answer.status, says(&answer)), (404, Vec::new()), "{ours}");
        }
    }
    assert!(cast.app.seen().is_empty(), "a preflight went upstream");
    let decided = cast
        .records()
        .into_iter()
        .any(|it| it["kind"] == "decision");
    assert!(!decided, "a preflight asks for nothing");
}

#[tokio::test]
async fn what_is_no_preflight_is_decided() {
    let cast = stage("credentials: true").await;
    let plain = stage_without().await;
    let asks = ("access-control-request-method", "PUT");
    for (cast, extra) in [
        (&cast, &[("origin", DOCS)][..]),
        (&cast, &[asks]),
        // A door that shares with nobody has no preflights.
        (&plain, &[("origin", DOCS), asks]),
    ] {
        let answer = ask(cast, false, "OPTIONS", "/x", extra).await;
        cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, 0)
            .await;
    }
    // Nor does one for a host of somebody else get an answer.
    let mut client = cast.dial_web(false).await;
    let headers = [("host", "evil.example"), ("origin", DOCS), asks];
    let answer = client.send(request("OPTIONS", "/x", &headers, "")).await;
    assert_eq!(answer.status / 100, 4);
}

async fn stage_without() -> Cast {
    Cast::with(Arc::new(Pki::new("local.dev.invalid")), &More::default()).await
}

#[tokio::test]
async fn only_listed_origins_read_answers_and_refusals() {
    for (keys, credentials) in [("credentials: true", true), ("methods: [GET]", false)] {
        let cast = stage(keys).await;
        let session = sign_in(&cast, "").await;
        let cookie = ("cookie", session.as_str());
        for http2 in [false, true] {
            // What the upstream says of other origins is not passed on.
            let before = cast.app.seen().len();
            for origin in [None, Some(DOCS), Some(OTHERS[0]), Some(OTHERS[3])] {
                let extra: Vec<_> = [cookie]
                    .into_iter()
                    .chain(origin.map(|it| ("origin", it)))
                    .collect();
                let answer = ask(&cast, http2, "GET", "/cors", &extra).await;
                assert_eq!(answer.status, 200);
                assert!(varies(&answer), "{origin:?}");
                let said = says(&answer);
                let allowed = said.iter().find(|(name, _)| name == "allow-origin");
                let expected = origin.filter(|it| *it == DOCS);
                assert_eq!(allowed.map(|(_, value)| value.as_str()), expected);
                let with = said.iter().any(|(name, _)| name == "allow-credentials");
                assert_eq!(with, credentials && expected.is_some());
                assert_eq!(said.is_empty(), expected.is_none(), "{said:?}");
            }
            assert_eq!(cast.app.seen().len(), before + 4);
            // Scripts may read which pillar it was.
            let before = cast.app.seen().len();
            let answer = ask(&cast, http2, "GET", "/x", &[("origin", DOCS)]).await;
            cast.refused(&answer, Code::SESSION_ABSENT, &cast.app, before)
                .await;
            assert_eq!(answer.header("access-control-allow-origin"), DOCS);
            let exposed = answer.header("access-control-expose-headers");
            assert!(exposed.contains("countersign-pillar"), "{exposed}");
            let answer = ask(&cast, http2, "GET", "/x", &[("origin", OTHERS[2])]).await;
            assert_eq!(says(&answer), Vec::new());
        }
    }
}

#[tokio::test]
async fn a_listed_origin_changes_something_only_with_credentials() {
    let shares = stage("credentials: true").await;
    let reads = stage("methods: [POST]").await;
    for (cast, may) in [(&shares, true), (&reads, false)] {
        let session = sign_in(cast, "").await;
        let cookie = ("cookie", session.as_str());
        let site = ("sec-fetch-site", "cross-site");
        let before = cast.app.seen().len();
        for extra in [
            &[cookie, site, ("origin", DOCS)][..],
            &[cookie, ("origin", DOCS)],
        ] {
            let answer = ask(cast, true, "POST", "/x", extra).await;
            if may {
                assert_eq!(answer.status, 200);
            } else {
                cast.refused(&answer, Code::CROSS_SITE, &cast.app, before)
                    .await;
            }
        }
    }
}

/// As many as are recorded one by one within a second, whatever the machine's speed.
#[tokio::test]
async fn no_other_origin_changes_anything() {
    let cast = &stage("credentials: true").await;
    let session = sign_in(cast, "").await;
    let cookie = ("cookie", session.as_str());
    let site = ("sec-fetch-site", "cross-site");
    let before = cast.app.seen().len();
    for origin in OTHERS {
        let answer = ask(
            cast,
            true,
            "POST",
            "/x",
            &[cookie, site, ("origin", origin)],
        )
        .await;
        cast.refused(&answer, Code::CROSS_SITE, &cast.app, before)
            .await;
        assert_eq!(says(&answer), Vec::new());
    }
}

#[tokio::test]
async fn sockets_and_sign_out_are_for_our_own_pages() {
    for keys in ["credentials: true", "methods: [POST]"] {
        let cast = &stage(keys).await;
        let session = sign_in(cast, "").await;
        let cookie = ("cookie", session.as_str());
        let before = cast.app.seen().len();
        // A WebSocket knows no preflight.
        let socket = [
            cookie,
            ("origin", DOCS),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = ask(cast, false, "GET", "/x", &socket).await;
        cast.refused(&answer, Code::CROSS_SITE, &cast.app, before)
            .await;
        let answer = ask(
            cast,
            true,
            "POST",
            "/.countersign/logout",
            &[cookie, ("origin", DOCS)],
        )
        .await;
        cast.refused(&answer, Code::CROSS_SITE, &cast.app, before)
            .await;
        assert_eq!(says(&answer), Vec::new());
    }
}

#[tokio::test]
async fn our_own_answers_are_hardened() {
    let cast = stage_without().await;
    let refusal = ask(&cast, true, "GET", "/x", &[]).await;
    cast.refused(&refusal, Code::SESSION_ABSENT, &cast.app, 0)
        .await;
    let page = ask(&cast, true, "GET", "/.countersign/login", &[]).await;
    let nothing = ask(&cast, true, "GET", "/.countersign/nothing", &[]).await;
    for answer in [&refusal, &page, &nothing] {
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let hsts = answer.header("strict-transport-security");
        assert_eq!(hsts, "max-age=63072000; includeSubDomains");
    }
}
