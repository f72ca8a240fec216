//! `gateway`: a gateway that is a process of its own, and the tokens by which one joins.

use super::activation;
use super::args::GatewayArgs;
use super::args::GatewayCommand;
use super::args::GatewayTokenArgs;
use super::args::Globals;
use super::damage;
use super::notify::Phase;
use super::notify::notify;
use super::telemetry;
use super::telemetry::OfGateway;
use super::ui::Answer;
use super::ui::Ui;
use super::up::Doors;
use super::up::LAST;
use super::up::Signals;
use super::watchdog::Watchdog;
use crate::boot;
use crate::boot::Places;
use crate::operate::Failure;
use crate::operate::with_causes;
use crate::telemetry::Check;
use crate::telemetry::Telemetry;
use countersign_client::AccessDenied;
use countersign_client::remedy;
use countersign_core::config::Environment;
use countersign_enforce::SystemClock;
use countersign_gateway::Apart;
use countersign_gateway::ApartError;
use countersign_gateway::ApartOptions;
use countersign_net::Sockets;
use countersign_wire::join::JoinToken;
use countersign_wire::join::MintJoin;
use countersign_wire::join::Minted;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the server was heard.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn run(
    args: GatewayArgs,
    sockets: Sockets,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match &args.command {
        Some(GatewayCommand::Token(token)) => mint(token, globals, ui).await,
        None => serve(&args, sockets, globals, ui).await,
    }
}

async fn mint(args: &GatewayTokenArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let message = MintJoin {
        gateway: args.name.clone(),
        listeners: args.listeners.clone(),
    };
    let minted: Minted = globals
        .admin()
        .post("/v1/admin/join/token", &message)
        .await?;
    let token = minted.token.expose_secret();
    let names: Vec<_> = minted.listeners.iter().map(ToString::to_string).collect();
    // The token alone is the answer, so that `> FILE` makes the file that `--join-file` reads.
    ui.note(&format!(
        "gateway {}, once, until {}; listeners: {}\nnext:  countersign gateway --join-file FILE   \
         (on its machine, with this token in FILE)",
        minted.gateway,
        minted.ends,
        names.join(", ")
    ));
    ui.answer(Answer {
        document: json!({
            "ends": minted.ends, "gateway": minted.gateway, "listeners": names, "token": token,
        }),
        schema: "countersign.gateway.token/v1",
        short: token,
        text: token,
    })
}

async fn serve(
    args: &GatewayArgs,
    sockets: Sockets,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let environment = if args.dev {
        Environment::Dev
    } else {
        Environment::Prod
    };
    // The server's snapshot opens everything or doesn't; a gateway has no say, and refuses to
    // start where somebody thought it had.
    let variable = |name: &str| std::env::var_os(name).map(|it| it.to_string_lossy().into_owned());
    boot::zt_off(variable, environment).map_err(|error| {
        Failure::usage(error.to_string()).with_help("unset `ZT_OFF`; nothing was started")
    })?;
    countersign_net::install_crypto().map_err(|error| Failure::failed(error.to_string()))?;
    let mut telemetry = telemetry::open(&args.telemetry, "gateway", &sockets, args.dev, ui)?;
    let folder = folder(environment, globals);
    let token = token(args)?;
    if let Some(token) = &token
        && !countersign_gateway::is_joined(&folder)
    {
        become_one(&folder, token, args, ui).await?;
    }
    if args.set_aside_damaged {
        let done = Apart::set_aside_damaged(&folder, &SystemClock).await;
        damage::told(done.map_err(failed)?.as_ref(), &folder, ui);
    }
    let mut signals = Signals::new()?;
    let gateway = tokio::select! {
        started = start(&folder, token.as_ref(), (args, &sockets), ui) => started?,
        () = signals.stop() => return Err(Failure::Interrupted),
    };
    let _watchdog = Watchdog::start(gateway.point());
    let listeners = gateway.listeners();
    let names = listeners.iter().map(|(name, _)| name.as_str());
    if let Err(failure) = activation::check(&sockets, &["metrics"], names) {
        gateway.drain(args.drain).await;
        return Err(failure);
    }
    follow(&mut telemetry, &gateway);
    announce(&gateway, &folder, telemetry.address(), ui)?;
    tokio::select! {
        () = ready(&telemetry) => notify(Phase::Ready),
        () = signals.stop() => {
            return stop((gateway, telemetry), args.drain, &mut signals, ui).await;
        }
    }
    signals.stop().await;
    stop((gateway, telemetry), args.drain, &mut signals, ui).await
}

async fn stop(
    (gateway, telemetry): (Apart, Telemetry),
    drain: Duration,
    signals: &mut Signals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    // Before anything else: whoever sends people here stops doing so.
    telemetry.health().drain();
    notify(Phase::Stopping);
    notify(Phase::Within(drain + LAST));
    ui.note("stopping: what is under way may finish");
    let stopped = async {
        gateway.drain(drain).await;
        telemetry.end().await;
    };
    tokio::select! {
        () = stopped => Ok(()),
        () = signals.stop() => Err(Failure::Interrupted),
    }
}

/// It serves: from now on it is measured, and has to be well.
fn follow(telemetry: &mut Telemetry, gateway: &Apart) {
    let point = gateway.point();
    let checks = vec![
        Check::ledger(point),
        Check::fresh(point),
        Check::tasks(point),
        Check::listeners(point, gateway.doors()),
    ];
    gateway.observe(telemetry.observer());
    telemetry.follow(point, Box::new(OfGateway::new(gateway)), checks);
}

/// Until the server was heard and all else is well, too.
async fn ready(telemetry: &Telemetry) {
    while !telemetry.health().is_ready() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Starts; where the certificate has ended while it was away, a token given helps.
async fn start(
    folder: &Path,
    token: Option<&JoinToken>,
    (args, sockets): (&GatewayArgs, &Sockets),
    ui: &mut Ui<'_>,
) -> Result<Apart, Failure> {
    let options = ApartOptions {
        bind_override: args.listeners.iter().cloned().collect(),
        dev: args.dev,
        folder: folder.to_owned(),
        sockets: sockets.clone(),
    };
    let started = Apart::start(options.clone(), Arc::new(SystemClock)).await;
    let started = match (started, token) {
        (Err(ApartError::Ended), Some(token)) => {
            become_one(folder, token, args, ui).await?;
            Apart::start(options, Arc::new(SystemClock)).await
        }
        (started, _) => started,
    };
    started.map_err(failed)
}

async fn become_one(
    folder: &Path,
    token: &JoinToken,
    args: &GatewayArgs,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let joined = countersign_gateway::join(folder, token, args.server.as_deref()).await;
    joined.map_err(failed)?;
    ui.note(&format!("joined as gateway `{}`", token.gateway));
    Ok(())
}

fn token(args: &GatewayArgs) -> Result<Option<JoinToken>, Failure> {
    let text = match (&args.join, &args.join_file) {
        (Some(text), _) => SecretString::from(text.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("can't read `{}`: {error}", path.display()))
            })?;
            SecretString::from(text)
        }
        (None, None) => return Ok(None),
    };
    let token = JoinToken::from_text(text.expose_secret());
    token.map(Some).ok_or_else(|| {
        Failure::usage("that is not a join token")
            .with_help("have one made where the server is: `countersign gateway token --name NAME`")
    })
}

fn folder(environment: Environment, globals: &Globals) -> PathBuf {
    let data = globals.data.as_deref();
    let places = Places::new(environment, globals.config.as_deref(), data, None);
    match data {
        Some(_) => places.data,
        None => places.data.join("gateway"),
    }
}

fn announce(
    gateway: &Apart,
    folder: &Path,
    metrics: Option<SocketAddr>,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let doors: Doors = gateway.listeners();
    let mut lines = vec![format!(
        "countersign {}  gateway {}",
        env!("CARGO_PKG_VERSION"),
        gateway.name()
    )];
    lines.extend(
        doors
            .iter()
            .map(|(name, address)| format!("  door {name:<10} {address}")),
    );
    lines.push(format!("  server          {}", gateway.server()));
    lines.extend(
        metrics.map(|it| format!("  metrics         http://{it}/metrics   and /livez, /readyz")),
    );
    lines.push(format!("  witness key     {}", gateway.witness_key()));
    let listeners: serde_json::Map<_, _> = doors
        .iter()
        .map(|(name, at)| (name.to_string(), json!(at)))
        .collect();
    ui.answer(Answer {
        document: json!({
            "data": folder, "gateway": gateway.name(), "listeners": listeners,
            "metrics": metrics,
            "server": gateway.server(), "witness_key": gateway.witness_key().to_string(),
        }),
        schema: "countersign.gateway/v1",
        short: gateway.name().as_str(),
        text: &lines.join("\n"),
    })
}

fn failed(error: ApartError) -> Failure {
    match error {
        ApartError::Refused { code, receipt } => AccessDenied {
            pillar: code.pillar(),
            code: Some(code),
            receipt,
            fix: remedy(code.pillar(), Some(code)),
        }
        .into(),
        error @ ApartError::NotJoined => Failure::usage(error.to_string()).with_help(
            "have a token made where the server is: `countersign gateway token --name NAME`",
        ),
        error @ ApartError::Http(_) => Failure::unreachable(with_causes(&error)),
        error => damage::of_gateway(&error),
    }
}
