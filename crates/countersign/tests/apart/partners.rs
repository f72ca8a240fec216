//! Partners at a door of a gateway in another process: certificates by openssl, requests by curl.

use crate::pair::DOMAIN;
use crate::pair::Pair;
use crate::pair::Running;
use crate::pair::until;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::not_run;
use countersign_testkit::program::ports;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Whether the programs are here; says so if not.
fn others() -> bool {
    let here = |program: &str, argument: &str| {
        let ran = Command::new(program).arg(argument).output();
        ran.is_ok_and(|output| output.status.success())
    };
    if here("curl", "--version") && here("openssl", "version") {
        return true;
    }
    not_run("curl and openssl are not installed");
    false
}

/// Nothing of the system's own configuration.
const OPENSSL: &str = "[req]
distinguished_name = dn
prompt = no
[dn]
O = unnamed
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
";

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("OPENSSL_CONF", folder.join("openssl.cnf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
}

/// An authority and a client of it, for a day.
fn partner(folder: &Path, name: &str) {
    std::fs::write(folder.join("openssl.cnf"), OPENSSL).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
    openssl(
        folder,
        &format!(
            "req -x509 {key} -keyout {name}-ca.key -out {name}.pem -days 1 -subj /O={name} \
             -extensions authority"
        ),
    );
    let client = "basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
";
    let text = format!("{client}subjectAltName = DNS:api.{name}.example\n");
    std::fs::write(folder.join("client.cnf"), text).unwrap();
    openssl(
        folder,
        &format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}-ca.key -set_serial 7 -days 1 \
             -extfile client.cnf -out {name}.crt"
        ),
    );
}

/// A door for two partners on a gateway of its own; a third has a certificate that nobody believes.
struct Partners {
    door: u16,
    pair: Pair,
}

/// What curl was answered, if it was.
struct Answer {
    body: String,
    head: String,
    status: u16,
}

impl Answer {
    fn document(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}{}", self.head, self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|it| it.0.eq_ignore_ascii_case(name))
            .map(|it| it.1)
    }
}

impl Partners {
    fn new() -> Self {
        let [door] = ports();
        let pair = Pair::configured(|folder, text| {
            for name in ["globex", "initech", "hooli"] {
                partner(folder, name);
            }
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
            let both = read("globex.pem") + &read("initech.pem");
            std::fs::write(folder.join("both.pem"), both).unwrap();
            let listener = format!(
                r#"  b2b: {{ bind: "127.0.0.1:{door}", peer: partner, hosts: [localhost], client_ca: both.pem }}"#
            );
            let known = |name| {
                format!(
                    "{name}: {{ kind: partner, certificate: {{ ca: {name}.pem, dns: api.{name}.example }} }}"
                )
            };
            let (globex, initech) = (known("globex"), known("initech"));
            text.replace(
                "identities: {",
                &format!("{listener}\nidentities: {{ {globex}, {initech},"),
            )
            .replace("members: [caller,", "members: [globex, initech, caller,")
            .replace("edges: {", "edges: { globex -> api: [GET /items/**],")
        });
        Self { door, pair }
    }

    fn curl(&self, who: &str, path: &str, more: &[&str]) -> Option<Answer> {
        let file = |ending: &str| self.pair.path().join(format!("{who}.{ending}"));
        let shown = (file("crt"), file("key"));
        curl(&self.pair, &shown, (self.door, path), more)
    }

    fn token(&self, who: &str, service: &str) -> Option<Answer> {
        let form = format!("grant_type=client_credentials&client_id={who}&audience={service}");
        self.curl(who, "/oauth2/token", &["-d", &form])
    }

    fn call(&self, who: &str, path: &str, token: &str) -> Answer {
        let bearer = format!("authorization: Bearer {token}");
        self.curl(who, path, &["-H", &bearer]).unwrap()
    }
}

/// A request by who has these certificates and their key. The door is known by the roots that a
/// workload has.
fn curl(
    pair: &Pair,
    (certificates, key): &(PathBuf, PathBuf),
    (port, path): (u16, &str),
    more: &[&str],
) -> Option<Answer> {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60", "--cacert"])
        .arg(pair.path().join("id/bundle.pem"))
        .arg("--cert")
        .arg(certificates)
        .arg("--key")
        .arg(key)
        .args(more)
        .arg(format!("https://localhost:{port}{path}"))
        .output()
        .unwrap();
    // In one form for both versions of HTTP.
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n")?;
    Some(Answer {
        body: body.to_owned(),
        head: head.to_owned(),
        status: head.split(' ').nth(1)?.parse().ok()?,
    })
}

/// Checks what the caller was told, and gives the record of it once it is in the log.
async fn refused(pair: &Pair, answer: &Answer, code: &str, pillar: &str) -> Value {
    let told = format!("{}{}", answer.head, answer.body);
    assert_eq!(answer.header("countersign-pillar"), Some(pillar), "{told}");
    assert_eq!(answer.document()["code"], code, "{told}");
    let record = recorded(pair, answer).await;
    assert_eq!(record["code"], code, "{record}");
    assert_eq!(record["status"], "denied", "{record}");
    record
}

async fn recorded(pair: &Pair, answer: &Answer) -> Value {
    let receipt = answer.header("countersign-receipt").unwrap();
    until("the record is in the log", async || {
        let args = ["audit", "show", receipt, "-o", "json"];
        let output = pair.run(&args, &pair.data());
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(shown["record"]["record"].clone())
    })
    .await
}

/// Server and gateway, and the first answer with a token that globex gets at the gateway's door.
async fn serving() -> (Partners, (Running, Running), Answer) {
    let partners = Partners::new();
    let server = partners.pair.server();
    let join = partners.pair.token_for("gw1", "b2b");
    let gateway = partners
        .pair
        .gateway(&["--join-file", join.to_str().unwrap()]);
    partners.pair.caller();
    let answer = until("globex gets a token", async || {
        partners
            .token("globex", "api")
            .filter(|it| it.status == 200)
    })
    .await;
    (partners, (server, gateway), answer)
}

/// The token in an answer of the issuer, and what it says.
fn token_of(answer: &Answer) -> (String, Value) {
    let token = answer.document()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let says = token.split('.').nth(1).unwrap();
    let says = URL_SAFE_NO_PAD.decode(says).unwrap();
    (token, serde_json::from_slice(&says).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_gets_its_token_at_a_gateway_apart_and_calls_through_it() {
    if !others() {
        return;
    }
    let (partners, (server, gateway), answer) = serving().await;
    let pair = &partners.pair;
    let (token, says) = token_of(&answer);
    assert_eq!(says["sub"], format!("spiffe://{DOMAIN}/globex"));
    // The server's own record of it, with who carried it.
    let record = recorded(pair, &answer).await;
    assert_eq!(record["status"], "success", "{record}");
    assert_eq!(record["principal"]["id"], says["sub"], "{record}");
    assert_eq!(record["hop"]["facts"]["relayed_by"], "gw1", "{record}");
    assert_eq!(record["hop"]["door"], "b2b", "{record}");
    assert_eq!(record["source_ip"], "127.0.0.1", "{record}");

    let before = pair.upstream.count();
    let called = partners.call("globex", "/~/api/items/1", &token);
    assert_eq!(called.status, 200, "{}{}", called.head, called.body);
    assert_eq!(pair.upstream.count(), before + 1);
    // It is bound: to another partner it is nothing, and the gateway is no other.
    let stolen = partners.call("initech", "/~/api/items/1", &token);
    refused(pair, &stolen, "CSD216", "identity").await;
    let no_edge = partners.token("initech", "api").unwrap();
    let record = refused(pair, &no_edge, "CSD401", "micro-segmentation").await;
    assert_eq!(record["hop"]["facts"]["relayed_by"], "gw1", "{record}");
    let beyond = partners.token("globex", "page").unwrap();
    refused(pair, &beyond, "CSD401", "micro-segmentation").await;
    assert!(
        partners.token("hooli", "api").is_none(),
        "a stranger was answered"
    );
    assert_eq!(pair.upstream.count(), before + 1);

    let jwks = partners.curl("globex", "/oauth2/jwks", &[]).unwrap();
    assert_eq!(jwks.document()["keys"].as_array().map(Vec::len), Some(1));
    let form = format!("token={token}");
    let revoked = partners.curl("globex", "/oauth2/revoke", &["-d", &form]);
    assert_eq!(revoked.unwrap().status, 200);
    let last = until("the gateway has heard of it", async || {
        let answer = partners.call("globex", "/~/api/items/1", &token);
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused(pair, &last, "CSD301", "continuous-verification").await;

    drop((server, gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_server_no_partner_gets_a_token_and_who_was_revoked_gets_none_with_it() {
    if !others() {
        return;
    }
    let (partners, (server, gateway), _) = serving().await;
    let pair = &partners.pair;
    server.kill();
    let away = partners.token("globex", "api").unwrap();
    assert_eq!(away.status, 503, "{}{}", away.head, away.body);
    let server = pair.server();
    pair.json(&["identity", "revoke", "identity", "globex"]);
    let last = until("the server answers again", async || {
        partners
            .token("globex", "api")
            .filter(|it| it.status != 503)
    })
    .await;
    refused(pair, &last, "CSD303", "continuous-verification").await;
    drop((server, gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_is_told_that_the_issuer_is_elsewhere() {
    if !others() {
        return;
    }
    let pair = Pair::new();
    let (server, gateway) = pair.both();
    let folder = pair.caller();
    let shown = (folder.join("svid.pem"), folder.join("key.pem"));
    let form = "grant_type=client_credentials&client_id=caller&audience=api";
    let mesh = (pair.mesh, "/oauth2/token");
    let answer = until("the gateway decides", async || {
        curl(&pair, &shown, mesh, &["-d", form]).filter(|it| it.status != 503)
    })
    .await;
    assert_eq!(answer.status, 421, "{}{}", answer.head, answer.body);
    let record = refused(&pair, &answer, "CSD403", "micro-segmentation").await;
    let why = record["reason"].as_str().unwrap();
    assert!(
        why.starts_with("the issuer is asked at the server's own port"),
        "{why}"
    );
    drop((server, gateway));
}
