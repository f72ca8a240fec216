//! What partners ask of the issuer at the door of a gateway in another process, and what such a
//! gateway tries in their name.

use crate::gateways::ask;
use crate::gateways::gateway;
use crate::support::CONFIG;
use crate::support::DOMAIN;
use crate::support::Workload;
use crate::support::World;
use crate::support::access_token;
use crate::support::claims;
use crate::support::document;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_gateway::remote::RemotePlane;
use countersign_net::SvidSource;
use countersign_testkit::pki::Defect;
use countersign_testkit::pki::Issued;
use countersign_testkit::pki::Pki;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane as _;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::RelayedAnswer;
use countersign_wire::control::RelayedRequest;
use http::Response;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;

const FORM: &str = "grant_type=client_credentials&client_id=globex&audience=hms-api";

/// Globex and two others at one door, initech at another; `gw7` serves the first.
struct Doors {
    /// Its certificates say that they are ours.
    acme: Pki,
    folder: tempfile::TempDir,
    globex: Pki,
    gw7: Workload,
    /// A partner by another name than its certificates have.
    hooli: Pki,
    initech: Pki,
    world: World,
}

impl Doors {
    async fn new() -> Self {
        let pki = |domain: &str| Pki::new(domain);
        let (globex, hooli) = (pki("globex.example"), pki("hooli.example"));
        let (initech, acme) = (pki("initech.example"), pki(DOMAIN));
        let config = CONFIG
            .replace(
                "identities:\n",
                r#"  b2b:   { bind: "127.0.0.1:8445", peer: partner, hosts: [localhost], client_ca: all.pem }
  other: { bind: "127.0.0.1:8446", peer: partner, hosts: [localhost], client_ca: initech.pem }
identities:
  globex:  { kind: partner, certificate: { ca: globex.pem, dns: localhost } }
  hooli:   { kind: partner, certificate: { ca: hooli.pem, dns: api.hooli.example } }
  acme:    { kind: partner, certificate: { ca: acme.pem, dns: localhost } }
  initech: { kind: partner, certificate: { ca: initech.pem, dns: localhost } }
"#,
            )
            .replace("roles:\n", "roles:\n  buyer: { members: [globex], may: [\"report:read\"] }\n")
            .replace("edges:\n", "edges:\n  globex -> hms-api:    [GET /reports/**]\n");
        let all = globex.root_pem() + &hooli.root_pem() + &acme.root_pem();
        let files = [
            ("all.pem", all),
            ("globex.pem", globex.root_pem()),
            ("hooli.pem", hooli.root_pem()),
            ("acme.pem", acme.root_pem()),
            ("initech.pem", initech.root_pem()),
        ];
        let world = World::with_files(&config, &files).await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        world.server.open_join(any).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let gw7 = gateway(&world, folder.path(), "b2b").await;
        Self {
            acme,
            folder,
            globex,
            gw7,
            hooli,
            initech,
            world,
        }
    }

    /// What the issuer answers to what `gw7` relays.
    async fn relay(&self, request: &Value) -> Response<Bytes> {
        let answer = ask(&self.gw7, "relay", request).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answered(&answer)
    }

    /// The record of a refusal by the issuer, with the gateway in it.
    async fn refused(&self, request: &Value, code: Code) -> Value {
        let receipt = self.world.refused(&self.relay(request).await, code).await;
        let record = self.world.record(receipt).await.unwrap();
        assert_eq!(record["hop"]["facts"]["relayed_by"], "gw7", "{record}");
        assert_eq!(record["hop"]["door"], "b2b", "{record}");
        record
    }

    /// The reason in the record of what a gateway was not let carry.
    async fn not_carried(&self, by: &Workload, request: &Value, code: Code) -> String {
        let receipt = self
            .world
            .refused(&ask(by, "relay", request).await, code)
            .await;
        let record = self.world.record(receipt).await.unwrap();
        assert_eq!(record["action"], "connect", "{record}");
        record["reason"].as_str().unwrap().to_owned()
    }
}

fn request(shown: &Issued) -> Value {
    asked(shown, "POST", "/oauth2/token", FORM)
}

fn asked(shown: &Issued, method: &str, path: &str, form: &str) -> Value {
    let chain = shown.chain.iter().map(|it| STANDARD.encode(it));
    json!({
        "body": STANDARD.encode(form),
        "chain": chain.collect::<Vec<_>>(),
        "door": "b2b",
        "method": method,
        "path": path,
        "source_ip": "192.0.2.7",
    })
}

fn with(mut request: Value, name: &str, value: Value) -> Value {
    request[name] = value;
    request
}

fn answered(answer: &Response<Bytes>) -> Response<Bytes> {
    let answer: RelayedAnswer = serde_json::from_slice(answer.body()).unwrap();
    let answer = countersign_wire::control::IssuerResponse::from(answer);
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", "application/json");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Bytes::from(answer.body)).unwrap()
}

#[tokio::test]
async fn a_partner_gets_a_token_that_its_own_certificate_alone_opens_anything_with() {
    let doors = Doors::new().await;
    let shown = doors.globex.issue("api");
    let answer = doors.relay(&request(&shown)).await;
    let token = access_token(&answer);
    let says = claims(&token);
    let leaf = digest::digest(&digest::SHA256, &shown.chain[0]);
    let bound = json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(leaf) });
    assert_eq!(says["cnf"], bound, "{says}");
    let globex = format!("spiffe://{DOMAIN}/globex");
    assert_eq!(says["sub"], globex);
    assert_eq!(says["client_id"], globex);
    let receipt = answer.headers()["countersign-receipt"].to_str().unwrap();
    let record = doors.world.record(receipt.to_owned()).await.unwrap();
    assert_eq!(record["status"], "success", "{record}");
    assert_eq!(record["principal"]["id"], globex, "{record}");
    assert_eq!(record["source_ip"], "192.0.2.7", "{record}");
    assert_eq!(record["hop"]["facts"]["relayed_by"], "gw7", "{record}");
    assert_eq!(record["hop"]["door"], "b2b", "{record}");

    // It is the partner's to revoke, and by whoever sees it.
    let active = async || {
        let introspected = doors.world.workload("hms-api").await;
        let form = [("token", &*token)];
        let answer = introspected.form("/oauth2/introspect", &form).await;
        document(&answer)["active"].clone()
    };
    assert_eq!(active().await, true);
    let form = format!("token={token}");
    let request = asked(&shown, "POST", "/oauth2/revoke", &form);
    assert_eq!(doors.relay(&request).await.status(), 200);
    assert_eq!(active().await, false);
    for (path, member) in [
        ("/oauth2/jwks", "keys"),
        ("/.well-known/oauth-authorization-server", "token_endpoint"),
    ] {
        let answer = doors.relay(&asked(&shown, "GET", path, "")).await;
        assert!(!document(&answer)[member].is_null(), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn certificates_that_the_door_refuses_are_refused_whoever_shows_them() {
    let doors = Doors::new().await;
    let unknown = Code::PARTNER_UNKNOWN;
    let untrusted = Code::CERTIFICATE_UNTRUSTED;
    for (shown, code) in [
        // Of an authority of another door, of nobody's, and of ours.
        (doors.initech.issue("api"), untrusted),
        (Pki::new("globex.example").issue("api"), untrusted),
        (
            doors.globex.issue_with("api", Defect::SelfSigned),
            untrusted,
        ),
        // It says that it is one of ours, by an authority that the door believes.
        (doors.acme.issue("hms-api"), untrusted),
        // Of an authority of the door, and of no partner.
        (doors.hooli.issue("api"), unknown),
        (
            doors.globex.issue_with("api", Defect::Expired),
            Code::CERTIFICATE_TIME,
        ),
        (
            doors.globex.issue_with("api", Defect::OnlyServer),
            Code::CERTIFICATE_FORM,
        ),
        (
            doors.globex.issue_with("api", Defect::KeyP521),
            Code::CERTIFICATE_KEY,
        ),
    ] {
        doors.refused(&request(&shown), code).await;
    }
    // Its own certificate, and what is none.
    let pem = std::fs::read_to_string(doors.folder.path().join("svid.pem")).unwrap();
    let own = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let own = own.map(|it| it.split("-----END").next().unwrap().replace('\n', ""));
    let own: Vec<_> = own.collect();
    let good = request(&doors.globex.issue("api"));
    let shown = with(good.clone(), "chain", json!(own));
    doors.refused(&shown, untrusted).await;
    let shown = with(good.clone(), "chain", json!(["AAAA"]));
    doors.refused(&shown, Code::CERTIFICATE_FORM).await;
    // A partner that is known gets what edges lead to, as itself.
    let form = FORM.replace("hms-api", "openai");
    let shown = with(good.clone(), "body", json!(STANDARD.encode(form)));
    doors.refused(&shown, Code::NO_EDGE).await;
    let form = FORM.replace("globex", "hms-api");
    let shown = with(good, "body", json!(STANDARD.encode(form)));
    let record = doors.refused(&shown, Code::IDENTITY_UNKNOWN).await;
    let globex = format!("spiffe://{DOMAIN}/globex");
    assert_eq!(record["principal"]["id"], globex, "{record}");
}

#[tokio::test]
async fn a_gateway_relays_what_partners_ask_at_its_own_doors_and_nothing_else() {
    let doors = Doors::new().await;
    let good = request(&doors.globex.issue("api"));
    let foreign = "the door is not among this gateway's listeners";
    for door in ["other", "mesh", "nowhere"] {
        let asked = with(good.clone(), "door", json!(door));
        let why = doors.not_carried(&doors.gw7, &asked, Code::NO_EDGE).await;
        assert_eq!(why, foreign, "{door}");
    }
    let everywhere = doors.world.gateway("gw2").await;
    for door in ["mesh", "web", "nowhere"] {
        let asked = with(good.clone(), "door", json!(door));
        let why = doors.not_carried(&everywhere, &asked, Code::NO_EDGE).await;
        assert!(
            [foreign, "the door is none for partners"].contains(&&*why),
            "{door}: {why}"
        );
    }
    let workload = doors.world.workload("hms-api").await;
    doors
        .not_carried(&workload, &good, Code::TOKEN_ABSENT)
        .await;

    let of = |count| with(good.clone(), "chain", json!(vec!["MAA="; count]));
    let large = json!(vec![STANDARD.encode(vec![0; 32_768]); 2]);
    for (asked, why) in [
        (of(0), "a chain has 1 to 16 certificates; this has 0"),
        (of(17), "a chain has 1 to 16 certificates; this has 17"),
        (
            with(good.clone(), "chain", large),
            "the certificates have more than 65535 bytes",
        ),
        (
            with(good.clone(), "chain", json!(["*"])),
            "the body or a certificate is not base64",
        ),
        (
            with(good.clone(), "path", json!("/".repeat(5000))),
            "the method or the path is too long",
        ),
        (
            with(good.clone(), "peer", json!("globex")),
            "the body is not what is asked with",
        ),
        (of(60_000), "the body is not what is asked with"),
    ] {
        let said = doors
            .not_carried(&doors.gw7, &asked, Code::BODY_UNREADABLE)
            .await;
        assert_eq!(said, why);
    }
    // Revoked, it carries nothing.
    let leaf = doors.gw7.svid.current().leaf();
    let what = countersign_core::snapshot::Revoked::Certificate(leaf);
    let revoke = countersign_wire::admin::Revoke { lift: false, what };
    doors.world.operator.revoke(revoke).await.unwrap();
    doors
        .not_carried(&doors.gw7, &good, Code::CERTIFICATE_REVOKED)
        .await;
}

#[tokio::test]
async fn a_gateway_says_when_the_issuer_is_away_or_does_not_listen() {
    let doors = Doors::new().await;
    let told = doors.world.operator.join().await.unwrap();
    let svid: std::sync::Arc<SvidSource> = doors.gw7.svid.clone();
    let plane = RemotePlane::new(&told, svid).unwrap();
    let shown = doors.globex.issue("api");
    let chain: Vec<_> = shown.chain.iter().map(|it| it.to_vec()).collect();
    let door = |name: &str| Name::new(name).unwrap();
    let (b2b, other) = (door("b2b"), door("other"));
    let asking = |door, chain| IssuerRequest {
        body: FORM.as_bytes(),
        chain,
        context: countersign_core::record::Context::default(),
        door,
        evidence: countersign_core::hop::Evidence::none(),
        method: "POST",
        path: "/oauth2/token",
    };
    assert!(
        plane.issuer(asking(&b2b, &[])).is_none(),
        "a workload has another way"
    );
    let answer = plane.issuer(asking(&b2b, &chain)).unwrap().await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let refused = plane.issuer(asking(&other, &chain)).unwrap().await;
    assert!(
        matches!(
            refused,
            Err(ControlError::Refused {
                code: Code::NO_EDGE,
                ..
            })
        ),
        "{refused:?}"
    );
    let long = vec![chain[0].clone(); RelayedRequest::CERTIFICATES + 1];
    let refused = plane.issuer(asking(&b2b, &long)).unwrap().await;
    assert!(
        matches!(
            refused,
            Err(ControlError::Refused {
                code: Code::BODY_UNREADABLE,
                ..
            })
        ),
        "{refused:?}"
    );
    doors.world.server.stop().await;
    let away = plane.issuer(asking(&b2b, &chain)).unwrap().await;
    assert!(
        matches!(away, Err(ControlError::Unavailable(_))),
        "{away:?}"
    );
}
