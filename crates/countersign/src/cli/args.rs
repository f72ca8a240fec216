//! Every flag and command. Parser, help, completions and man pages come from here.

mod apart;
mod audit;
mod meaning;
mod operate;
mod secret;
mod telemetry;

pub(crate) use apart::GatewayArgs;
pub(crate) use apart::GatewayCommand;
pub(crate) use apart::GatewayTokenArgs;
pub(crate) use apart::ServerArgs;
pub(crate) use audit::AuditArgs;
pub(crate) use audit::AuditCommand;
pub(crate) use audit::TailArgs;
pub(crate) use audit::VerifyArgs;

pub(crate) use meaning::CheckArgs;
pub(crate) use meaning::DiffArgs;
pub(crate) use meaning::EvalArgs;
pub(crate) use meaning::ExplainArgs;
pub(crate) use meaning::PolicyArgs;
pub(crate) use meaning::PolicyCommand;
pub(crate) use meaning::PolicyTestArgs;
pub(crate) use operate::DoctorArgs;
pub(crate) use operate::TopArgs;
pub(crate) use secret::GetArgs;
pub(crate) use secret::PutArgs;
pub(crate) use secret::SecretArgs;
pub(crate) use secret::SecretCommand;
pub(crate) use telemetry::MetricsAt;
pub(crate) use telemetry::TelemetryArgs;

use crate::boot;
use crate::operate::Admin;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Every hop proves six things, or is refused by name.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done or allowed, 1 failed, 2 usage, 3 denied by policy, 4 a check \
                  or test failed,\n5 verification failed (tampering), 6 server unreachable, 130 \
                  interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Configuration [default: countersign.yaml, then /etc/countersign/countersign.yaml]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "COUNTERSIGN_CONFIG",
        hide_env = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Form of the answer: table, json, yaml or short
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        env = "COUNTERSIGN_OUTPUT",
        hide_env = true
    )]
    pub(crate) output: Output,
    /// When to use colours; `NO_COLOR` is heeded
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, env = "COUNTERSIGN_COLOR", hide_env = true)]
    pub(crate) color: When,
    /// Say nothing but the answer
    #[arg(short, long, global = true, env = "COUNTERSIGN_QUIET", hide_env = true)]
    pub(crate) quiet: bool,
    /// Log more: -v debug, -vv trace (`RUST_LOG` is finer)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log lines are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, env = "COUNTERSIGN_LOG", hide_env = true)]
    pub(crate) log: LogForm,
    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration, env = "COUNTERSIGN_TIMEOUT", hide_env = true)]
    pub(crate) timeout: Duration,
    /// Answer yes to what would be asked
    #[arg(long, global = true, env = "COUNTERSIGN_YES", hide_env = true)]
    pub(crate) yes: bool,
    /// Data folder [default: /var/lib/countersign; in development .countersign]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "COUNTERSIGN_DATA",
        hide_env = true
    )]
    pub(crate) data: Option<PathBuf>,
    /// Administration socket [default: /run/countersign/admin/admin.sock; in development that of
    /// the data folder]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "COUNTERSIGN_SOCKET",
        hide_env = true
    )]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a tour of a few seconds in a temporary folder; it leaves nothing behind
    Demo(DemoArgs),
    /// Write countersign.yaml, create the CA, and say what to do next
    Init,
    /// Run server and gateway in one process
    Up(UpArgs),
    /// Run the server alone
    Server(ServerArgs),
    /// Run a gateway alone, or have a token made for one to join
    Gateway(GatewayArgs),
    /// Check the configuration and run its tests
    Check(CheckArgs),
    /// Show what another configuration would change, and whether it allows more
    Diff(DiffArgs),
    /// Ask the policy, and run its tests
    Policy(PolicyArgs),
    /// Draw who reaches what: -o table, json or svg
    Map,
    /// Put the changed configuration in force, or change nothing
    Reload(ReloadArgs),
    /// Decide on changes of the configuration that wait for a second person
    Change(ChangeArgs),
    /// Make one call through all six pillars, as myself
    Call(CallArgs),
    /// Print a token for a service, for 60 s at most
    Token(TokenArgs),
    /// Explain a code, a key of the configuration, or the record of a decision
    Explain(ExplainArgs),
    /// Print the configuration language as JSON Schema; `-o FILE` writes it there
    Schema,
    /// Issue, list and revoke identities
    Identity(IdentityArgs),
    /// List, write and read secrets
    Secret(SecretArgs),
    /// Read, prove and verify the record
    Audit(AuditArgs),
    /// Say whether this installation is healthy, and what to do where it is not
    Doctor(DoctorArgs),
    /// Show what the server is doing
    Status,
    /// Watch requests, refusals, time added and the ledger
    Top(TopArgs),
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write man pages, one for each command
    Man(ManArgs),
    /// Write the reference pages of the documentation
    #[command(hide = true)]
    Reference(ReferenceArgs),
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    /// Keep the tour's log, records and proof in this empty folder
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_KEEP", hide_env = true)]
    pub(crate) keep: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) part: Option<DemoPart>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DemoPart {
    /// Run one part of the story as a process of its own
    Serve(ServePartArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ServePartArgs {
    #[command(subcommand)]
    pub(crate) what: ServedPart,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServedPart {
    /// The clinic's API
    HmsApi {
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7101")]
        listen: std::net::SocketAddr,
        /// Folder that `identity issue hms-api` wrote
        #[arg(
            long,
            value_name = "DIR",
            env = "COUNTERSIGN_IDENTITY",
            hide_env = true
        )]
        identity: PathBuf,
    },
    /// A fake model API that says it is one
    Model {
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7102")]
        listen: std::net::SocketAddr,
        /// Folder that gets `ca.pem`, the authority of its certificate
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// File with the key it accepts
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Put this address behind a browser door, without a file
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "config",
        env = "COUNTERSIGN_TO",
        hide_env = true
    )]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Development: loopback only, watermarked, `login: dev`
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
    /// Address of the mTLS port for control, issuer and vault
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7443",
        env = "COUNTERSIGN_CONTROL",
        hide_env = true
    )]
    pub(crate) control: std::net::SocketAddr,
    /// How long what is under way may take when the process is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, env = "COUNTERSIGN_DRAIN", hide_env = true)]
    pub(crate) drain: Duration,
    /// Serve the file even where another revision is active; recorded like a reload
    #[arg(long, env = "COUNTERSIGN_FROM_FILE", hide_env = true)]
    pub(crate) from_file: bool,
    /// Record that the data folder was brought back from a backup; gateways have to join anew then,
    /// under other names
    #[arg(long, env = "COUNTERSIGN_RESTORED", hide_env = true)]
    pub(crate) restored: bool,
    /// Start although records that were promised can't be read any more: their files are set aside,
    /// and the record says so
    #[arg(long, env = "COUNTERSIGN_SET_ASIDE_DAMAGED", hide_env = true)]
    pub(crate) set_aside_damaged: bool,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
    /// Name of this node in the record
    #[arg(
        long,
        value_name = "NAME",
        default_value = "main",
        env = "COUNTERSIGN_NODE",
        hide_env = true
    )]
    pub(crate) node: String,
}

#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    /// Do everything but bind and commit
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    #[command(subcommand)]
    pub(crate) command: ChangeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// List changes, the newest first
    Ls,
    /// Show what a change would do
    Show(ChangeId),
    /// Agree to a change that somebody else asked for, which puts it in force
    Approve(ChangeId),
    /// See to it that a change is never put in force
    Deny(ChangeId),
}

#[derive(Args, Debug)]
pub(crate) struct ChangeId {
    /// Change such as c-1f2e3d4c5b6a
    pub(crate) id: String,
}

/// Who is calling.
#[derive(Args, Debug)]
pub(crate) struct AsIdentity {
    /// Folder that `identity issue` wrote
    #[arg(
        long,
        value_name = "DIR",
        env = "COUNTERSIGN_IDENTITY",
        hide_env = true
    )]
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// Method, such as GET
    #[arg(value_name = "VERB")]
    pub(crate) method: String,
    /// Service and path, such as hms-api/v1/reports/42
    #[arg(value_name = "SERVICE/PATH")]
    pub(crate) target: String,
    /// Body; `@FILE` reads it from a file, `-` from standard input
    #[arg(short = 'd', long, value_name = "BODY")]
    pub(crate) body: Option<String>,
    /// Content type of the body
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    pub(crate) content_type: String,
    /// Permission to ask for; none where the edge suffices
    #[arg(
        long,
        value_name = "PERMISSION",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) scope: String,
    #[command(flatten)]
    pub(crate) by: AsIdentity,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    /// Service that the token is for
    #[arg(long = "for", value_name = "SERVICE")]
    pub(crate) service: String,
    /// Permissions to ask for, separated by spaces
    #[arg(
        long,
        value_name = "PERMISSIONS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) scope: String,
    #[command(flatten)]
    pub(crate) by: AsIdentity,
}

#[derive(Args, Debug)]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    pub(crate) command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// List the identities of the configuration
    Ls,
    /// Make a key and get a certificate of one hour for it
    Issue(IssueArgs),
    /// Revoke something, everywhere and at once
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct IssueArgs {
    /// Identity of the configuration
    pub(crate) name: String,
    /// Folder to write svid.pem, key.pem, bundle.pem and countersign.json to
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// It is one of our own gateways
    #[arg(long)]
    pub(crate) gateway: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// What kind of thing it is
    #[arg(value_enum)]
    pub(crate) kind: RevokeKind,
    /// Identity name, `login:sub` or SPIFFE ID, jti, or SHA-256 in hex
    pub(crate) value: String,
    /// Take an earlier revocation back
    #[arg(long)]
    pub(crate) lift: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RevokeKind {
    /// A workload: all its certificates, and it as a subject
    Identity,
    /// A person or workload as tokens name it
    Subject,
    /// One token, by its `jti`
    Token,
    /// One certificate, by its SHA-256
    Certificate,
    /// One session, by its SHA-256
    Session,
    /// Every certificate that a key has issued, by the SHA-256 of that public key
    Issuer,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Folder to write the pages to
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct ReferenceArgs {
    /// Folder to write the pages to
    pub(crate) folder: PathBuf,
}

/// Form of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One stable, versioned document.
    Json,
    /// The same as YAML.
    Yaml,
    /// The one thing a script wants.
    Short,
    /// A drawing, where a command has one.
    Svg,
    /// A file, where a command writes one.
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    Text,
    Json,
}

impl Globals {
    /// The server that a command talks to.
    pub(crate) fn admin(&self) -> Admin {
        let file = self.config.as_deref();
        let socket = boot::admin_socket(file, self.data.as_deref(), self.socket.as_deref());
        Admin::at(socket, self.timeout)
    }
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub(crate) const fn serves(&self) -> bool {
        matches!(
            self,
            Self::Up(_) | Self::Server(_) | Self::Gateway(GatewayArgs { command: None, .. })
        )
    }

    /// Whether it has a drawing.
    pub(crate) const fn draws(&self) -> bool {
        matches!(self, Self::Map)
    }

    /// Whether `-o` may name a file.
    pub(crate) const fn writes_a_file(&self) -> bool {
        matches!(
            self,
            Self::Schema
                | Self::Audit(AuditArgs {
                    command: AuditCommand::Prove(_)
                })
        )
    }
}

impl FromStr for Output {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "short" => Self::Short,
            "svg" => Self::Svg,
            file => Self::File(file.into()),
        })
    }
}

/// `500ms`, `10s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let parts = text.split_at_checked(digits);
    let parsed = parts.and_then(|(number, unit)| {
        let number: u64 = number.parse().ok()?;
        match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        }
    });
    parsed
        .ok_or_else(|| "write a whole number with `ms`, `s`, `m` or `h`, such as `10s`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "10 s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
