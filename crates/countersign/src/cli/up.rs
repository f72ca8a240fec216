//! `up` and `server`: processes that serve until they are told to stop.

use super::activation;
use super::announce::announce;
use super::args::Globals;
use super::args::ServeArgs;
use super::args::ServerArgs;
use super::args::UpArgs;
use super::check;
use super::damage;
use super::notify::Phase;
use super::notify::notify;
use super::reload;
use super::telemetry::OfServer;
use super::ui::Style;
use super::ui::Ui;
use super::watchdog::Watchdog;
use crate::boot;
use crate::boot::Bundle;
use crate::boot::DiskFiles;
use crate::boot::Places;
use crate::boot::Source;
use crate::operate::Failure;
use crate::operate::with_causes;
use crate::telemetry::Check;
use crate::telemetry::Telemetry;
use countersign_core::config::Config;
use countersign_core::config::Environment;
use countersign_core::config::Options;
use countersign_core::config::PeerKind;
use countersign_core::config::Sources;
use countersign_core::config::load;
use countersign_core::config::load_text;
use countersign_core::config::render_all;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_enforce::SystemClock;
use countersign_gateway::Doors as GatewayDoors;
use countersign_gateway::Gateway;
use countersign_gateway::GatewayOptions;
use countersign_net::Sockets;
use countersign_server::Server;
use countersign_server::ServerOptions;
use countersign_server::Start;
use countersign_server::admin::AdminError;
use countersign_server::admin::Reload;
use countersign_server::drift::FilesNow;
use countersign_server::reload::Prepare;
use countersign_server::reload::Prepared as Ready;
use countersign_server::reload::ReloadError;
use countersign_wire::admin::Drift;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// What ending may take beside waiting for what is under way: the last records, and their place in
/// the log.
pub(crate) const LAST: Duration = Duration::from_secs(30);

/// What `init` made.
pub(crate) struct Made {
    /// The log's verifier key.
    pub(crate) log_key: String,
    /// SHA-256 of the root certificate.
    pub(crate) root: Digest,
}

/// What a process serves from.
struct Prepared {
    bundle: Bundle,
    node: Name,
    places: Places,
    /// Whether the data folder was brought back from a backup.
    restored: bool,
    /// Whether damaged files of the spool are set aside first.
    set_aside: bool,
    sockets: Sockets,
    source: Source,
    start: Start,
}

/// Binds a gateway's doors before a policy is in force, and tells clients where the mesh is after.
#[derive(Debug)]
struct DoorsFirst {
    doors: GatewayDoors,
    server: Weak<Server>,
}

/// The doors of a running process.
pub(crate) type Doors = Vec<(Name, SocketAddr)>;

/// `up`.
pub(crate) async fn up(
    args: UpArgs,
    sockets: Sockets,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let source = match &args.to {
        Some(to) => {
            let text = boot::configuration_for(to);
            Source::Text(text.map_err(|error| Failure::usage(error.to_string()))?)
        }
        None => Source::File(check::file(globals)?),
    };
    let prepared = prepare(&args.serve, (source, sockets), globals, ui)?;
    let mut telemetry = telemetry(&args.serve, "all", &prepared, ui)?;
    let mut signals = Signals::new()?;
    let server = Arc::new(open(&prepared, args.serve.control, ui).await?);
    let _watchdog = Watchdog::start(server.point());
    check_sockets(&prepared, &["control", "metrics"], true, &server).await?;
    let control = server.start().await.map_err(failed)?;
    let gateway = match gateway(&server, &prepared).await {
        Ok(gateway) => gateway,
        Err(failure) => {
            server.stop().await;
            return Err(failure);
        }
    };
    let doors = gateway.listeners();
    if let Some(mesh) = mesh(server.point().snapshot().config(), &doors) {
        server.set_mesh_address(mesh);
    }
    server.prepare_with(Arc::new(DoorsFirst {
        doors: gateway.doors(),
        server: Arc::downgrade(&server),
    }));
    gateway.observe(telemetry.observer());
    follow(&mut telemetry, &server, Some(gateway.doors()));
    let at = (control, &doors, &telemetry);
    serve(&prepared, at, &server, &mut signals, ui).await?;
    notify(Phase::Within(args.serve.drain + LAST));
    let stopped = async {
        gateway.drain(args.serve.drain).await;
        server.stop().await;
        telemetry.end().await;
    };
    tokio::select! {
        () = stopped => Ok(()),
        () = signals.stop() => Err(Failure::Interrupted),
    }
}

/// `server`.
pub(crate) async fn server(
    args: ServerArgs,
    sockets: Sockets,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let source = Source::File(check::file(globals)?);
    let prepared = prepare(&args.serve, (source, sockets), globals, ui)?;
    let mut telemetry = telemetry(&args.serve, "server", &prepared, ui)?;
    let mut signals = Signals::new()?;
    let server = Arc::new(open(&prepared, args.serve.control, ui).await?);
    let _watchdog = Watchdog::start(server.point());
    check_sockets(&prepared, &["control", "join", "metrics"], false, &server).await?;
    let control = server.start().await.map_err(failed)?;
    if let Err(error) = server.open_join(args.join).await {
        server.stop().await;
        return Err(failed(error));
    }
    follow(&mut telemetry, &server, None);
    let at = (control, &Vec::new(), &telemetry);
    serve(&prepared, at, &server, &mut signals, ui).await?;
    notify(Phase::Within(LAST));
    let stopped = async {
        server.stop().await;
        telemetry.end().await;
    };
    tokio::select! {
        () = stopped => Ok(()),
        () = signals.stop() => Err(Failure::Interrupted),
    }
}

/// Says that everything is open, and waits until the process is told to stop.
async fn serve(
    prepared: &Prepared,
    (control, doors, telemetry): (SocketAddr, &Doors, &Telemetry),
    server: &Server,
    signals: &mut Signals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    warn_of_drift(server, ui).await;
    let at = (control, telemetry.address());
    announce(&prepared.places, at, doors, server, ui)?;
    notify(Phase::Ready);
    signals.serve(prepared, server, ui).await;
    // Before anything else: whoever sends people here stops doing so.
    telemetry.health().drain();
    notify(Phase::Stopping);
    ui.note("stopping: what is under way may finish");
    Ok(())
}

/// Makes keys, authority and ledger of a new installation, without opening a door; its first start
/// puts the file in force as it is then.
pub(crate) async fn create(
    config: &Config,
    sources: &Sources,
    places: &Places,
    ui: &mut Ui<'_>,
) -> Result<Made, Failure> {
    let prepared = Prepared {
        bundle: boot::bundle(config, sources, boot::operator(), false),
        node: Name::new("main").map_err(|error| Failure::failed(error.to_string()))?,
        places: places.clone(),
        restored: false,
        set_aside: false,
        sockets: Sockets::default(),
        source: Source::Text(String::new()),
        start: Start::Nothing,
    };
    let server = open(&prepared, SocketAddr::from(([127, 0, 0, 1], 0)), ui).await?;
    let root = server.point().snapshot().bundle().roots.first().copied();
    let log_key = server.log_key().to_string();
    server.stop().await;
    root.map(|root| Made { log_key, root })
        .ok_or_else(|| Failure::failed("no root was made"))
}

/// Reads the configuration and applies the rules of development, before anything is opened.
fn prepare(
    args: &ServeArgs,
    (source, sockets): (Source, Sockets),
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<Prepared, Failure> {
    let made_up = matches!(source, Source::Text(_));
    let options = Options {
        dev: args.dev || made_up,
        strict: false,
    };
    let loaded = match &source {
        Source::File(path) => load(&DiskFiles, &path.display().to_string(), &options),
        Source::Text(text) => load_text("--to", text.clone(), &options),
    };
    let (config, sources) = check::require(loaded, ui)?;
    let variable = |name: &str| std::env::var_os(name).map(|it| it.to_string_lossy().into_owned());
    let open = boot::zt_off(variable, config.environment).map_err(|error| {
        Failure::usage(error.to_string()).with_help("unset `ZT_OFF`; nothing was started")
    })?;
    let dev = config.environment == Environment::Dev;
    if dev && !args.control.ip().is_loopback() {
        let text = format!(
            "`--control {}`: in development a door is on loopback",
            args.control
        );
        return Err(Failure::usage(text));
    }
    let node =
        Name::new(&args.node).map_err(|error| Failure::usage(format!("`--node`: {error}")))?;
    let file = match &source {
        Source::File(path) => Some(path.as_path()),
        Source::Text(_) => None,
    };
    let (data, socket) = (globals.data.as_deref(), globals.socket.as_deref());
    let places = Places::new(config.environment, file, data, socket);
    banner(dev, open, ui);
    let bundle = boot::bundle(&config, &sources, boot::operator(), open);
    // What a command line says is not on disk to drift from.
    let start = if args.from_file || made_up {
        Start::File
    } else {
        Start::Active
    };
    Ok(Prepared {
        bundle,
        node,
        places,
        restored: args.restored,
        set_aside: args.set_aside_damaged,
        sockets,
        source,
        start,
    })
}

async fn open(
    prepared: &Prepared,
    control: SocketAddr,
    ui: &mut Ui<'_>,
) -> Result<Server, Failure> {
    let data = &prepared.places.data;
    folder(data)
        .map_err(|error| Failure::failed(format!("can't make `{}`: {error}", data.display())))?;
    let options = ServerOptions {
        admin_socket: Some(prepared.places.socket.clone()),
        bundle: prepared.bundle.clone(),
        control,
        data: data.clone(),
        node: prepared.node.clone(),
        sockets: prepared.sockets.clone(),
    };
    if prepared.set_aside {
        let done = Server::set_aside_damaged(&options, &SystemClock).await;
        damage::told(
            done.map_err(|error| damage::of_server(&error))?.as_ref(),
            data,
            ui,
        );
    }
    let opened = Server::open_with(options, prepared.start, Arc::new(SystemClock));
    let server = opened.await.map_err(|error| damage::of_server(&error))?;
    if prepared.restored {
        let restored = server
            .record_restore()
            .await
            .map_err(|error| damage::of_server(&error))?;
        damage::told_restored(&restored, ui);
    }
    if let Source::File(path) = &prepared.source {
        let (path, dev) = (path.clone(), prepared.bundle.dev);
        let shown = path.display().to_string();
        server.follow_file(shown, Arc::new(move || files_now(&path, dev)));
    }
    Ok(server)
}

/// A socket that was passed is somebody's, or nothing starts.
async fn check_sockets(
    prepared: &Prepared,
    ours: &[&str],
    with_doors: bool,
    server: &Server,
) -> Result<(), Failure> {
    let snapshot = server.point().snapshot();
    let listeners = snapshot.config().listeners.keys().map(Name::as_str);
    let checked = activation::check(&prepared.sockets, ours, listeners.filter(|_| with_doors));
    if checked.is_err() {
        server.stop().await;
    }
    checked
}

/// The files of a configuration as they are now, errors and all; none if there are none.
fn files_now(path: &Path, dev: bool) -> Option<FilesNow> {
    let options = Options { dev, strict: false };
    let loaded = load(&DiskFiles, &path.display().to_string(), &options);
    let files = loaded.sources.files();
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let files = FilesNow {
        entry: loaded.sources.name(0).to_owned(),
        files: files.collect(),
    };
    path.is_file().then_some(files)
}

/// Loud, since what is served is not what the file says.
async fn warn_of_drift(server: &Server, ui: &mut Ui<'_>) {
    let Some(file) = server.file_status().await else {
        return;
    };
    if file.drift == Drift::None {
        return;
    }
    let (path, revision) = (file.path, server.point().snapshot().revision().short());
    let text = format!(
        " {path} DIFFERS from the active revision {revision}, which is served: `countersign \
         reload` applies the file "
    );
    let text = ui.paint_err(Style::Banner, &text);
    ui.warn(&text);
}

impl Prepare for DoorsFirst {
    fn prepare(
        &self,
        next: Arc<Snapshot>,
    ) -> Pin<Box<dyn Future<Output = Result<Ready, String>> + Send + '_>> {
        Box::pin(async move {
            let prepared = self.doors.prepare(&next);
            let prepared = prepared.map_err(|error| with_causes(&error))?;
            let (doors, server) = (self.doors.clone(), self.server.clone());
            Ok(Ready::new(move || {
                prepared.commit();
                let mesh = mesh(next.config(), &doors.addresses());
                if let (Some(mesh), Some(server)) = (mesh, server.upgrade()) {
                    server.set_mesh_address(mesh);
                }
            }))
        })
    }
}

fn telemetry(
    args: &ServeArgs,
    role: &'static str,
    prepared: &Prepared,
    ui: &mut Ui<'_>,
) -> Result<Telemetry, Failure> {
    let sockets = &prepared.sockets;
    super::telemetry::open(&args.telemetry, role, sockets, prepared.bundle.dev, ui)
}

/// Everything is open: from now on it is measured, and has to be well.
fn follow(telemetry: &mut Telemetry, server: &Arc<Server>, doors: Option<GatewayDoors>) {
    let point = server.point();
    let mut checks = vec![
        Check::ledger(point),
        Check::fresh(point),
        Check::tasks(point),
    ];
    checks.extend(doors.map(|doors| Check::listeners(point, doors)));
    telemetry.follow(point, Box::new(OfServer(server.clone())), checks);
}

async fn gateway(server: &Server, prepared: &Prepared) -> Result<Gateway, Failure> {
    let node = &prepared.node;
    let (control, svid) = server.control_plane(node).await.map_err(failed)?;
    let options = GatewayOptions {
        bind_override: std::collections::HashMap::new(),
        name: node.clone(),
        snapshot_key: None,
        sockets: prepared.sockets.clone(),
        third_party_roots: None,
    };
    let point = server.point().clone();
    let started = Gateway::start(
        point,
        control,
        svid,
        server.roots().clone(),
        server.keys().clone(),
        options,
    );
    started.await.map_err(failed)
}

fn mesh(config: &Config, doors: &Doors) -> Option<SocketAddr> {
    let is_mesh = |name: &Name| {
        config
            .listeners
            .get(name)
            .is_some_and(|door| door.peer == PeerKind::Service)
    };
    doors
        .iter()
        .find(|(name, _)| is_mesh(name))
        .map(|(_, address)| *address)
}

fn banner(dev: bool, open: bool, ui: &mut Ui<'_>) {
    if dev {
        let text = " DEVELOPMENT: loopback only, people choose who they are, every record says so ";
        let text = ui.paint_err(Style::Banner, text);
        ui.warn(&text);
    }
    if open {
        let text = " ZT_OFF: every edge and every role is open; it is still decided and recorded ";
        let text = ui.paint_err(Style::Banner, text);
        ui.warn(&text);
    }
}

/// What a serving process is told from outside.
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let of = |kind| signal(kind).map_err(|it| Failure::failed(format!("no signals: {it}")));
        Ok(Self {
            hangup: of(SignalKind::hangup())?,
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
        })
    }

    /// Until the process is told to stop; reloads when it is told to.
    async fn serve(&mut self, prepared: &Prepared, server: &Server, ui: &mut Ui<'_>) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    notify(Phase::Reloading);
                    match again(prepared, server, ui).await {
                        Ok(told) => ui.warn(&told),
                        Err(failure) => ui.failed(&failure),
                    }
                    notify(Phase::Ready);
                }
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
            }
        }
    }

    /// Told to stop, once more where it was told before.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Reloads the file by the same decision as `countersign reload`; a failure keeps what is in force.
async fn again(prepared: &Prepared, server: &Server, ui: &mut Ui<'_>) -> Result<String, Failure> {
    let Source::File(path) = &prepared.source else {
        return Err(Failure::usage("nothing to reload: there is no file"));
    };
    let now = files_now(path, prepared.bundle.dev);
    let now = now.ok_or_else(|| Failure::failed(format!("there is no `{}`", path.display())))?;
    let request = Reload {
        dry_run: false,
        entry: now.entry,
        files: now.files,
    };
    let operator = server.operator().map_err(failed)?;
    match operator.reload_on_signal(request).await {
        Ok(done) => Ok(reload::told(&done)),
        Err(error) => {
            if let AdminError::Reload(ReloadError::Configuration(diagnostics, sources)) = &error {
                ui.warn(&render_all(diagnostics, sources, ui.colour_err()));
            }
            Err(Failure::Check(with_causes(&error)))
        }
    }
}

/// A folder that nobody else may look into.
fn folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::failed(with_causes(&error))
}
