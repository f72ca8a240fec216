//! What never passes from one side to the other, as an upstream and a caller see it.

use crate::browser::sign_in;
use crate::support::Cast;
use crate::support::request;

/// What a caller says of itself that only we say, or that would make some upstream see another
/// request than the one decided.
const CLAIMS: [(&str, &str); 27] = [
    ("client-cert", ":Zm9v:"),
    ("client-cert-chain", ":Zm9v:"),
    ("countersign-assertion", "FORGED"),
    ("countersign-subject", "FORGED"),
    ("forwarded", "for=FORGED"),
    ("remote-user", "FORGED"),
    ("via", "1.1 FORGED"),
    ("x-auth-user", "FORGED"),
    ("x-authentik-username", "FORGED"),
    ("x-cs-identity", "FORGED"),
    ("x-forwarded-client-cert", "By=FORGED"),
    ("x-forwarded-for", "FORGED"),
    ("x-forwarded-host", "FORGED"),
    ("x-forwarded-port", "FORGED"),
    ("x-forwarded-proto", "FORGED"),
    ("x-forwarded-user", "FORGED"),
    ("x-http-method", "FORGED"),
    ("x-http-method-override", "FORGED"),
    ("x-method-override", "FORGED"),
    ("x-original-uri", "/FORGED"),
    ("x-original-url", "/FORGED"),
    ("x-real-ip", "FORGED"),
    ("x-request-id", "FORGED"),
    ("x-remote-group", "FORGED"),
    ("x-rewrite-url", "/FORGED"),
    ("x-webauth-user", "FORGED"),
    ("x_forwarded_for", "FORGED"),
];

#[tokio::test]
async fn an_upstream_hears_only_us_about_its_caller() {
    let cast = Cast::new().await;
    let (host, session) = (cast.web_host(), sign_in(&cast, "").await);
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    for http2 in [false, true] {
        for web in [false, true] {
            let own = if web {
                [("host", host.as_str()), ("cookie", session.as_str())]
            } else {
                [("host", "hms-api"), ("authorization", token.as_str())]
            };
            let mut headers: Vec<_> = own.into_iter().chain(CLAIMS).collect();
            headers.push(("x-kept", "1"));
            // Over HTTP/2 that alone would be an error of the protocol.
            if !http2 {
                headers.push((
                    "connection",
                    "x-named, countersign-assertion, authorization",
                ));
                headers.push(("x-named", "FORGED"));
                headers.push(("keep-alive", "FORGED"));
                headers.push(("proxy-connection", "FORGED"));
            }
            let (mut client, upstream) = if web {
                (cast.dial_web(http2).await, &cast.app)
            } else {
                (cast.dial_mesh(&front, "hms-api", http2).await, &cast.api)
            };
            let answer = client.send(request("GET", "/v1/x", &headers, "")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let seen = upstream.last().headers;
            for (name, value) in &seen {
                let value = value.to_str().unwrap();
                assert!(!value.contains("FORGED"), "{name}: {value}");
                assert!(!name.as_str().contains('_'), "{name}");
            }
            let said = |name: &str| seen[name].to_str().unwrap().to_owned();
            assert_eq!(said("x-kept"), "1");
            assert_eq!(said("x-forwarded-for"), "127.0.0.1");
            assert_eq!(said("x-forwarded-proto"), "https");
            let (at, port) = if web {
                (host.clone(), cast.web.port().to_string())
            } else {
                ("hms-api".to_owned(), "443".to_owned())
            };
            assert_eq!(
                (said("x-forwarded-host"), said("x-forwarded-port")),
                (at, port)
            );
            assert!(said("authorization").starts_with("Bearer "));
            assert!(seen.contains_key("countersign-assertion"));
            for gone in [
                "client-cert",
                "x-forwarded-client-cert",
                "via",
                "cookie",
                "connection",
                "keep-alive",
            ] {
                assert!(!seen.contains_key(gone), "{gone}");
            }
        }
    }
}

#[tokio::test]
async fn a_caller_hears_only_us_about_us() {
    let cast = Cast::new().await;
    let (host, session) = (cast.web_host(), sign_in(&cast, "").await);
    for http2 in [false, true] {
        let headers = [("host", host.as_str()), ("cookie", session.as_str())];
        let mut client = cast.dial_web(http2).await;
        let answer = client.send(request("GET", "/cors", &headers, "")).await;
        assert_eq!(answer.status, 200);
        let receipts: Vec<_> = answer
            .headers
            .get_all("countersign-receipt")
            .iter()
            .collect();
        assert_eq!(receipts.len(), 1);
        assert_ne!(receipts[0], "r-forged");
        // A door that shares with nobody says so by saying nothing.
        let shared = answer.headers.keys();
        let mut shared = shared.filter(|it| it.as_str().starts_with("access-control-"));
        assert_eq!(shared.next(), None);
        assert_eq!(answer.header("vary"), "accept");
    }
}
