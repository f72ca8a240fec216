use super::browser::Browser;
use super::world::PATIENCE;
use super::world::World;
use anyhow::Context as _;
use bytes::Bytes;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Pillar;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::Roots;
use countersign_net::Svid;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Limits;
use countersign_wire::admin::RecordEntry;
use countersign_wire::admin::Revoke;
use countersign_wire::admin::RevokedNow;
use http::Request;
use http::Response;
use http::header;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A step of the tour and how it came out.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whether it was allowed.
    pub allowed: bool,
    /// The code of the refusal.
    pub code: Option<Code>,
    /// What it should have been: nothing, or the pillar that refuses it.
    pub expected: Option<Pillar>,
    /// Its number, from 1.
    pub number: usize,
    /// The pillar that refused it.
    pub pillar: Option<Pillar>,
    /// The reason in its record.
    pub reason: Option<String>,
    /// Names its record.
    pub receipt: String,
    /// The status on the wire; none where the handshake was refused.
    pub status: Option<u16>,
    /// What somebody tries.
    pub title: &'static str,
    /// What the answer said, for the request that is allowed.
    pub answer: Option<Value>,
}

/// What came back on a socket.
struct Outcome {
    status: Option<u16>,
    receipt: String,
    answer: Option<Value>,
}

/// The six steps, in order.
pub(super) async fn all(world: &World) -> anyhow::Result<Vec<Step>> {
    let mut alice = Browser::new(world.web, &world.bundle)?;
    alice.sign_in("user:dev/alice").await?;
    let plan: [(&'static str, Option<Pillar>); 6] = [
        ("alice (analyst) asks for a research summary", None),
        ("a client offers TLS 1.2", Some(Pillar::Encryption)),
        (
            "her token, stolen, replayed from another workload",
            Some(Pillar::Identity),
        ),
        (
            "her session, revoked, asks again",
            Some(Pillar::ContinuousVerification),
        ),
        (
            "stats-worker reads openai_primary from the vault",
            Some(Pillar::MicroSegmentation),
        ),
        (
            "alice, signed in again, files a report",
            Some(Pillar::LeastPrivilege),
        ),
    ];
    let mut steps: Vec<Step> = Vec::new();
    for (index, (title, expected)) in plan.into_iter().enumerate() {
        let outcome = match index {
            0 => summary(&alice).await,
            1 => old_tls(world).await,
            2 => stolen(world).await,
            3 => revoked(world, &alice, steps.first()).await,
            4 => vault(world).await,
            _ => report(world).await,
        };
        let outcome = outcome.with_context(|| format!("step {}: {title}", index + 1))?;
        steps.push(step(world, index + 1, title, expected, outcome).await?);
    }
    Ok(steps)
}

/// Puts beside what the caller saw what the record says.
async fn step(
    world: &World,
    number: usize,
    title: &'static str,
    expected: Option<Pillar>,
    outcome: Outcome,
) -> anyhow::Result<Step> {
    let record = record(world, &outcome.receipt).await?.record;
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    Ok(Step {
        allowed: text("status") == Some("success"),
        code: text("code").and_then(Code::parse),
        expected,
        number,
        pillar: text("pillar").and_then(Pillar::from_word),
        reason: text("reason").map(str::to_owned),
        receipt: outcome.receipt,
        status: outcome.status,
        title,
        answer: outcome.answer,
    })
}

impl Step {
    /// Whether it came out as it should.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.allowed == self.expected.is_none() && self.pillar == self.expected
    }
}

async fn summary(alice: &Browser) -> anyhow::Result<Outcome> {
    let response = alice
        .post("/ai/summary", &json!({ "prompt": "Summarize the visit" }))
        .await?;
    let outcome = seen(&response)?;
    let answer = outcome.answer.as_ref();
    let own = answer
        .and_then(|it| it.get("model_saw_our_token"))
        .and_then(Value::as_bool);
    anyhow::ensure!(
        own == Some(false),
        "the model's answer is not what the story needs: {answer:?}"
    );
    Ok(outcome)
}

/// A handshake has no response; its record is found by its code.
async fn old_tls(world: &World) -> anyhow::Result<Outcome> {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let target = Target {
        host: world.mesh.ip().to_string(),
        network: Network::Loopback,
        port: world.mesh.port(),
    };
    let socket = Dialer.connect(&target, deadline()).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(old));
    let name = rustls::pki_types::ServerName::try_from("hms-api")?;
    let refused = connector.connect(name, socket).await;
    anyhow::ensure!(refused.is_err(), "a TLS 1.2 handshake went through");
    let query = format!("/v1/admin/records?code={}&limit=1", Code::TLS_VERSION);
    let end = deadline();
    while tokio::time::Instant::now() < end {
        let found: Vec<RecordEntry> = world.admin.get(&query).await?;
        if let Some(entry) = found.into_iter().next() {
            return Ok(Outcome {
                status: None,
                receipt: entry.receipt,
                answer: None,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the refused handshake left no record")
}

async fn stolen(world: &World) -> anyhow::Result<Outcome> {
    let token = world
        .overheard
        .lock()
        .clone()
        .context("the API heard no token")?;
    let request =
        Request::get("/reports/42").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let response = as_worker(world)?
        .request(request.body(Bytes::new())?, LIMITS)
        .await?;
    seen(&response)
}

/// The session of the first step is revoked while its cookie is still good.
async fn revoked(world: &World, alice: &Browser, first: Option<&Step>) -> anyhow::Result<Outcome> {
    let first = first.context("there is no first step")?;
    let record = record(world, &first.receipt).await?.record;
    let sid = record
        .pointer("/hop/evidence/session/sid")
        .and_then(Value::as_str);
    let sid = Digest::from_hex(sid.context("the first record names no session")?)?;
    let revoke = Revoke {
        lift: false,
        what: Revoked::Session(sid),
    };
    let _: RevokedNow = world.admin.post("/v1/admin/revoke", &revoke).await?;
    anyhow::ensure!(alice.session().is_some(), "alice has no cookie");
    tokio::time::sleep(Duration::from_millis(40)).await;
    let response = alice
        .post("/ai/summary", &json!({ "prompt": "And again" }))
        .await?;
    seen(&response)
}

async fn vault(world: &World) -> anyhow::Result<Outcome> {
    let worker = Client::from_dir(&world.worker)?;
    match worker
        .read_secret_with("openai_primary", "ai:key:read")
        .await
    {
        Ok(_) => anyhow::bail!("stats-worker read the secret"),
        Err(CallError::AccessDenied(denied)) => Ok(Outcome {
            status: denied.code.map(Code::status),
            receipt: denied.receipt.context("the refusal has no receipt")?,
            answer: None,
        }),
        Err(error) => Err(error.into()),
    }
}

async fn report(world: &World) -> anyhow::Result<Outcome> {
    let mut alice = Browser::new(world.web, &world.bundle)?;
    alice.sign_in("user:dev/alice").await?;
    let response = alice.post("/reports", &json!({ "text": "mine" })).await?;
    seen(&response)
}

const LIMITS: Limits = Limits {
    body: 1 << 20,
    time: PATIENCE,
};

/// stats-worker's own connection to the mesh, with its own good certificate.
fn as_worker(world: &World) -> anyhow::Result<countersign_net::http::Client> {
    let svid = Svid::from_files(
        &world.worker.join("svid.pem"),
        &world.worker.join("key.pem"),
    )?;
    let domain = countersign_core::vocabulary::TrustDomain::new(&world.ready.trust_domain)?;
    let roots = Roots::new(TrustBundle::from_pem(domain, world.bundle.as_bytes(), 0)?);
    let connector = Connector::mutual(SvidSource::new(svid), roots, Expected::Process("gateway"))?;
    let name = format!("hms-api.mesh.{}", world.ready.trust_domain);
    let target = Target {
        host: world.mesh.ip().to_string(),
        network: Network::Loopback,
        port: world.mesh.port(),
    };
    Ok(countersign_net::http::Client::tls(
        Dialer, connector, &name, target,
    ))
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + PATIENCE
}

fn seen(response: &Response<Bytes>) -> anyhow::Result<Outcome> {
    let receipt = response
        .headers()
        .get("countersign-receipt")
        .and_then(|it| it.to_str().ok());
    let status = response.status().as_u16();
    let body = String::from_utf8_lossy(response.body());
    let receipt = receipt.with_context(|| format!("no receipt in the answer: {status} {body}"))?;
    Ok(Outcome {
        status: Some(status),
        receipt: receipt.to_owned(),
        answer: serde_json::from_str(&body).ok(),
    })
}

/// The record of a receipt, once it is in the log.
async fn record(world: &World, receipt: &str) -> anyhow::Result<RecordEntry> {
    let path = format!("/v1/admin/records/{receipt}");
    let mut found = world.admin.get(&path).await;
    let end = deadline();
    while found.is_err() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = world.admin.get(&path).await;
    }
    Ok(found?)
}
