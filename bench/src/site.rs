//! A countersign of the run: its processes, the identities it issued, tokens drawn from it.

use crate::load::http1::Connection;
use crate::machine::LOAD_CORE;
use crate::machine::PROXY_CORE;
use crate::process::Process;
use crate::process::unused;
use crate::tls;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::record::Record;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Who the tokens are for.
pub(crate) const AUDIENCE: &str = "https://bench.internal/svc/reports";
/// Who signs them.
pub(crate) const ISSUER: &str = "https://bench.internal";
/// Tokens in rotation.
pub(crate) const TOKENS: usize = 1_000;
/// Tokens that are each used once.
pub(crate) const FRESH: usize = 4_000;
const CONFIGURATION: &str = include_str!("../proxies/countersign.yaml");
/// Connections over which tokens are drawn.
const DRAWERS: usize = 4;

/// Which processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Server and gateway in one process.
    Whole,
    /// A gateway that joined a server on the other core.
    Apart,
}

/// A running countersign.
#[derive(Debug)]
pub(crate) struct Site {
    /// Everything of it.
    pub(crate) folder: PathBuf,
    /// Where its mesh door listens.
    pub(crate) door: SocketAddr,
    /// Where the service behind it listens.
    pub(crate) upstream: SocketAddr,
    /// The process on the proxies' core.
    pub(crate) measured: Process,
    binary: PathBuf,
    control: SocketAddr,
    shape: Shape,
    others: Vec<Process>,
}

impl Site {
    /// Starts it in `folder`, with its service behind it.
    pub(crate) fn start(
        binary: &Path,
        folder: PathBuf,
        shape: Shape,
        commit: &str,
    ) -> Result<Self> {
        std::fs::create_dir(&folder)?;
        let [door, control, join, upstream] = [unused()?, unused()?, unused()?, unused()?];
        let text = CONFIGURATION
            .replace("@ADDRESS@", &door.to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@COMMIT@", commit);
        std::fs::write(folder.join("countersign.yaml"), text)?;
        let control_text = control.to_string();
        let join_text = join.to_string();
        let mut measured = match shape {
            Shape::Whole => {
                let words = ["up", "--node", "bench", "--control", &control_text];
                Process::start("up", PROXY_CORE, &command(binary, &folder, &words), &folder)?
            }
            Shape::Apart => {
                let words = [
                    "server",
                    "--node",
                    "bench",
                    "--control",
                    &control_text,
                    "--join",
                    &join_text,
                ];
                let command = command(binary, &folder, &words);
                Process::start("server", LOAD_CORE, &command, &folder)?
            }
        };
        measured.listens(control)?;
        let mut others = Vec::new();
        if shape == Shape::Apart {
            let gateway = join_gateway(binary, &folder, &join_text)?;
            others.push(std::mem::replace(&mut measured, gateway));
        }
        measured.listens(door)?;
        for name in ["frontend", "proxy", "reports"] {
            let out = folder.join(name).display().to_string();
            operator(binary, &folder, &["identity", "issue", name, "--out", &out])?;
        }
        others.push(serve_upstream(upstream, &folder)?);
        let binary = binary.to_owned();
        Ok(Self {
            folder,
            door,
            upstream,
            measured,
            binary,
            control,
            shape,
            others,
        })
    }

    /// Ends it in order: who asks first, then who is asked.
    pub(crate) fn end(mut self) -> Result<()> {
        self.measured.end()?;
        self.others.iter_mut().try_for_each(Process::end)
    }

    /// The folder of the identity that asks.
    pub(crate) fn caller(&self) -> PathBuf {
        self.folder.join("frontend")
    }

    /// Draws `count` tokens for `scope` into a file, one a line.
    pub(crate) fn draw(&self, count: usize, scope: &str) -> Result<PathBuf> {
        let path = self
            .folder
            .join(format!("tokens-{}", scope.replace(':', "-")));
        let tokens = runtime()?.block_on(self.drawn(count, scope))?;
        std::fs::write(&path, tokens.join("\n"))?;
        Ok(path)
    }

    async fn drawn(&self, count: usize, scope: &str) -> Result<Vec<String>> {
        let form = format!(
            "grant_type=client_credentials&client_id=spiffe%3A%2F%2Fbench.internal%2Ffrontend\
             &resource={}&scope={}",
            AUDIENCE.replace(':', "%3A").replace('/', "%2F"),
            scope.replace(':', "%3A")
        );
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{form}",
            form.len()
        );
        let mut tasks = Vec::new();
        for drawer in 0..DRAWERS {
            let mut connection = self.connect(true).await?;
            let request = request.clone().into_bytes();
            let share = count / DRAWERS + usize::from(drawer < count % DRAWERS);
            tasks.push(tokio::spawn(async move {
                let mut tokens = Vec::with_capacity(share);
                for _ in 0..share {
                    let status = connection.ask(&request).await?;
                    let text = String::from_utf8_lossy(connection.body()).into_owned();
                    ensure!(status == 200, "the issuer answered {status}: {text}");
                    let answer: Value = serde_json::from_str(&text)?;
                    let token = answer.get("access_token").and_then(Value::as_str);
                    tokens.push(token.context("no token in the answer")?.to_owned());
                }
                anyhow::Ok(tokens)
            }));
        }
        let mut tokens = Vec::with_capacity(count);
        for task in tasks {
            tokens.extend(task.await??);
        }
        Ok(tokens)
    }

    async fn connect(&self, known: bool) -> Result<Connection> {
        let config = tls::client(&self.caller(), known, b"http/1.1", None)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = tls::connect(&connector, self.control, "localhost").await?;
        Ok(Connection::new(stream))
    }

    /// The keys of its tokens (RFC 7517).
    pub(crate) fn keys(&self) -> Result<Value> {
        runtime()?.block_on(async {
            let mut connection = self.connect(true).await?;
            let request = b"GET /oauth2/jwks HTTP/1.1\r\nhost: localhost\r\n\r\n";
            let status = connection.ask(request).await?;
            ensure!(status == 200, "the key set: {status}");
            Ok(serde_json::from_slice(connection.body())?)
        })
    }

    /// Whether it is this very process that answers for its decisions: a gateway apart has no
    /// administration of its own.
    pub(crate) fn counts_here(&self) -> bool {
        self.shape == Shape::Whole
    }

    /// The records that its log got last.
    pub(crate) fn recorded(&self) -> Result<Vec<Record<'static>>> {
        let words = ["audit", "tail", "--lines", "1000", "-o", "json"];
        let answer = operator(&self.binary, &self.folder, &words)?;
        let mut answer: Value = serde_json::from_str(&answer)?;
        let entries = answer.get_mut("records").and_then(Value::as_array_mut);
        let entries = entries.context("no records in the answer")?.iter_mut();
        let records = entries.filter_map(|it| it.get_mut("record").map(Value::take));
        let records = records.map(|it| Ok(Record::from_bytes(it.to_string().as_bytes())?));
        records.collect()
    }

    /// How many hops it decided and recorded: admitted, refused.
    pub(crate) fn decided(&self) -> Result<[u64; 2]> {
        let text = operator(&self.binary, &self.folder, &["status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&text)?;
        let number = |name: &str| status.get(name).and_then(Value::as_u64);
        let both = number("admitted").zip(number("refused"));
        let (admitted, refused) = both.with_context(|| format!("no counts in {text}"))?;
        Ok([admitted, refused])
    }
}

fn serve_upstream(address: SocketAddr, folder: &Path) -> Result<Process> {
    let own = std::env::current_exe()?.display().to_string();
    let identity = folder.join("reports").display().to_string();
    let address_text = address.to_string();
    let words = [
        own.as_str(),
        "upstream",
        "--listen",
        &address_text,
        "--identity",
        &identity,
    ];
    let words = words.map(str::to_owned);
    let mut process = Process::start("upstream", LOAD_CORE, &words, folder)?;
    process.listens(address)?;
    Ok(process)
}

fn join_gateway(binary: &Path, folder: &Path, join: &str) -> Result<Process> {
    let words = ["gateway", "token", "--name", "edge", "-o", "json"];
    let answer: Value = serde_json::from_str(&operator(binary, folder, &words)?)?;
    let token = answer.get("token").and_then(Value::as_str);
    let file = folder.join("join");
    std::fs::write(&file, token.context("no join token")?)?;
    let home = folder.join("gateway").display().to_string();
    let file = file.display().to_string();
    let binary = binary.display().to_string();
    let words = [
        binary.as_str(),
        "gateway",
        "--data",
        &home,
        "--join-file",
        &file,
        "--server",
        join,
    ];
    Process::start("gateway", PROXY_CORE, &words.map(str::to_owned), folder)
}

fn command(binary: &Path, folder: &Path, words: &[&str]) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = vec![binary.display().to_string()];
    command.extend(["-c".to_owned(), path("countersign.yaml")]);
    command.extend(["--data".to_owned(), path("data")]);
    command.extend(["--socket".to_owned(), path("admin/admin.sock")]);
    command.extend(words.iter().map(|&it| it.to_owned()));
    command
}

/// Runs a command of the operator to its end.
fn operator(binary: &Path, folder: &Path, words: &[&str]) -> Result<String> {
    let line = command(binary, folder, words);
    let (program, arguments) = line.split_first().context("no program")?;
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`countersign {}`: {error}", words.join(" "));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The public key that signed `token`, as PEM (SubjectPublicKeyInfo of a P-256 key).
pub(crate) fn pem_of_signer(keys: &Value, token: &str) -> Result<String> {
    let header = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    let all = keys.get("keys").and_then(Value::as_array);
    let key = all.and_then(|keys| keys.iter().find(|key| key.get("kid") == header.get("kid")));
    let key = key.context("the token's key is not in the key set")?;
    let part = |name: &str| {
        let text = key.get(name).and_then(Value::as_str).unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text)
    };
    // RFC 5480: id-ecPublicKey, prime256v1, an uncompressed point.
    let mut der = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    der.extend(part("x")?);
    der.extend(part("y")?);
    ensure!(der.len() == 91, "not a P-256 key");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    Ok(format!(
        "-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"
    ))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}
