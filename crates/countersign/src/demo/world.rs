use super::hms_api::HmsApi;
use super::model::FakeModel;
use super::serve::fake_tls;
use crate::boot;
use crate::operate::Admin;
use crate::operate::issue_into;
use anyhow::Context as _;
use countersign_client::Client;
use countersign_core::config::Options;
use countersign_core::config::load_text;
use countersign_core::proving::Judgement;
use countersign_core::proving::prove_all;
use countersign_core::vocabulary::Name;
use countersign_enforce::SystemClock;
use countersign_gateway::Gateway;
use countersign_gateway::GatewayOptions;
use countersign_net::Sockets;
use countersign_server::Server;
use countersign_server::ServerOptions;
use countersign_wire::admin::IssuedIdentity;
use parking_lot::Mutex;
use serde_json::json;
use std::future::Future;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Everything the story needs, running.
pub(super) struct World {
    pub(super) admin: Admin,
    /// The roots of the trust domain, PEM.
    pub(super) bundle: String,
    pub(super) log_key: String,
    pub(super) mesh: SocketAddr,
    /// The token of alice that reached the API: what a thief would find there.
    pub(super) overheard: Arc<Mutex<Option<String>>>,
    pub(super) ready: Ready,
    pub(super) web: SocketAddr,
    /// The folder of the identity that attacks.
    pub(super) worker: PathBuf,
    apps: JoinSet<()>,
    gateway: Gateway,
    server: Server,
}

/// What was set up, and how long it took.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) identities: usize,
    pub(super) services: usize,
    pub(super) tests: usize,
    pub(super) took: Duration,
    pub(super) trust_domain: String,
}

/// The clinic's configuration, as the example of separate processes has it.
const CONFIGURATION: &str = include_str!("../../../../examples/hms/countersign.yaml");
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Ends what hangs: a slow machine gets through the tour as well.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Starts the fake model, the server, the gateway and the API, in this order.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        countersign_net::install_crypto()?;
        let (api, model) = (TcpListener::bind(ANY).await?, TcpListener::bind(ANY).await?);
        let text = CONFIGURATION
            .replace(
                "localhost:7101",
                &format!("localhost:{}", api.local_addr()?.port()),
            )
            .replace(
                "localhost:7102",
                &format!("localhost:{}", model.local_addr()?.port()),
            );
        let (server, mut ready) = server(folder, text).await?;
        let control = server.start().await?;
        tracing::debug!(%control, "the server is up");
        let model_key = secret()?;
        let (fake_roots, fake) = fake_tls()?;
        let gateway = gateway(&server, fake_roots).await?;
        let web = address(&gateway, "web")?;
        let mesh = address(&gateway, "mesh")?;
        server.set_mesh_address(mesh);
        let admin = Admin::at(folder.join("run/admin/admin.sock"), PATIENCE);
        put(&admin, "model", &model_key).await?;
        put(&admin, "openai_primary", &secret()?).await?;
        let issued = issue(&admin, folder, "hms-api").await?;
        issue(&admin, folder, "stats-worker").await?;
        issue(&admin, folder, "research-bot").await?;
        ready.identities = 3;

        let overheard = Arc::new(Mutex::new(None));
        let api_client = Client::from_dir(folder.join("hms-api"))?;
        let hms = HmsApi::new(api_client)?.overheard_by(overheard.clone());
        let mut apps = JoinSet::new();
        spawn(&mut apps, hms.serve(api));
        spawn(&mut apps, FakeModel::new(&model_key).serve(model, fake));
        ready.took = started.elapsed();
        Ok(Self {
            admin,
            bundle: issued.bundle,
            log_key: server.log_key().to_string(),
            mesh,
            overheard,
            ready,
            web,
            worker: folder.join("stats-worker"),
            apps,
            gateway,
            server,
        })
    }

    /// Stops everything; the log is complete when this returns.
    pub(super) async fn stop(mut self) {
        self.gateway.drain(Duration::from_secs(2)).await;
        self.apps.shutdown().await;
        self.server.stop().await;
    }
}

async fn server(folder: &Path, text: String) -> anyhow::Result<(Server, Ready)> {
    let options = Options {
        dev: true,
        strict: false,
    };
    let loaded = load_text("countersign.yaml", text, &options);
    let config = loaded
        .config
        .as_ref()
        .context("the configuration of the tour has errors")?;
    let operator = boot::operator();
    let bundle = boot::bundle(config, &loaded.sources, operator, false);
    let trust_domain = config.trust_domain.to_string();
    let services = config
        .services
        .values()
        .filter(|it| it.url() != Some(&countersign_core::config::ServiceUrl::BuiltIn))
        .count();
    let options = ServerOptions {
        admin_socket: Some(folder.join("run/admin/admin.sock")),
        bundle,
        control: ANY,
        data: folder.join("data"),
        node: Name::new("demo")?,
        sockets: Sockets::default(),
    };
    let server = Server::open(options, Arc::new(SystemClock)).await?;
    let state = server.point().state();
    let sentences = prove_all(&state);
    if let Some((test, proved)) = sentences
        .iter()
        .find(|(_, proved)| proved.outcome != Judgement::Holds)
    {
        anyhow::bail!("policy test `{}` failed: {}", test.name, proved.reason);
    }
    let tests = sentences.len();
    drop(sentences);
    Ok((
        server,
        Ready {
            identities: 0,
            services,
            tests,
            took: Duration::ZERO,
            trust_domain,
        },
    ))
}

async fn gateway(server: &Server, third_party_roots: String) -> anyhow::Result<Gateway> {
    let name = Name::new("gw")?;
    let (control, svid) = server.control_plane(&name).await?;
    let bind_override = [("web", ANY), ("mesh", ANY)];
    let bind_override = bind_override
        .into_iter()
        .map(|(name, at)| Ok((Name::new(name)?, at)));
    let options = GatewayOptions {
        bind_override: bind_override.collect::<anyhow::Result<_>>()?,
        name,
        snapshot_key: None,
        sockets: Sockets::default(),
        third_party_roots: Some(third_party_roots),
    };
    let (point, roots, keys) = (
        server.point().clone(),
        server.roots().clone(),
        server.keys().clone(),
    );
    Ok(Gateway::start(point, control, svid, roots, keys, options).await?)
}

fn address(gateway: &Gateway, listener: &str) -> anyhow::Result<SocketAddr> {
    let mut listeners = gateway.listeners().into_iter();
    let found = listeners.find(|(name, _)| name.as_str() == listener);
    Ok(found
        .with_context(|| format!("the gateway has no listener `{listener}`"))?
        .1)
}

async fn put(admin: &Admin, name: &str, value: &str) -> anyhow::Result<()> {
    let body = json!({ "data": { "value": value } });
    let _: serde_json::Value = admin
        .post(&format!("/v1/admin/secret/{name}"), &body)
        .await?;
    Ok(())
}

async fn issue(admin: &Admin, folder: &Path, name: &str) -> anyhow::Result<IssuedIdentity> {
    Ok(issue_into(admin, name, false, &folder.join(name)).await?)
}

fn spawn(apps: &mut JoinSet<()>, app: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
    apps.spawn(async move {
        if let Err(error) = app.await {
            tracing::error!(error = format!("{error:#}"), "a part of the tour stopped");
        }
    });
}

/// 192 random bits in hex.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
    Ok(hex::encode(bytes))
}
