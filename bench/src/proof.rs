//! Before anything is measured: everybody refuses what they are there to refuse, and logs it.
//!
//! A comparison with a proxy that lets things pass would be worth nothing.

use crate::load::http1::Connection;
use crate::load::http1::request;
use crate::proxies::Kind;
use crate::proxies::Proxy;
use crate::site::Site;
use crate::tls;
use crate::tls::HOST;
use crate::upstream::SIZES;
use crate::upstream::SMALL;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio_rustls::TlsConnector;

/// How long a log may take to be written.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a token that opens nothing is answered: it proves nothing, or not enough.
const REFUSALS: [u16; 2] = [401, 403];

/// The tokens that are tried.
struct Tokens {
    good: String,
    scope: String,
    forged: String,
}

impl Tokens {
    fn draw(site: &Site) -> Result<Self> {
        let one = |scope: &str| {
            let path = site.draw(1, scope)?;
            anyhow::Ok(std::fs::read_to_string(path)?.trim().to_owned())
        };
        let good = one("report:read")?;
        let (head, signature) = good.rsplit_once('.').context("not a token")?;
        // Another first character of the signature: another number, the same form.
        let other = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged: String = std::iter::once(other)
            .chain(signature.chars().skip(1))
            .collect();
        let forged = format!("{head}.{forged}");
        let scope = one("report:list")?;
        Ok(Self {
            good,
            scope,
            forged,
        })
    }
}

/// What came back: a status and the length of the body, or no answer at all.
type Outcome = Option<(u16, usize)>;

/// Proves countersign.
pub(crate) fn countersign(site: &Site, door: &str) -> Result<()> {
    let tokens = Tokens::draw(site)?;
    let before = site.decided()?;
    let path = format!("/~/reports{SMALL}");
    refuses(site.door, &site.caller(), &tokens, &path, true)
        .with_context(|| format!("countersign's door `{door}`"))?;
    if site.counts_here() {
        let [admitted, refused] = site.decided()?;
        ensure!(admitted > before[0], "an admitted call was not counted");
        ensure!(refused >= before[1] + 3, "refusals were not counted");
    }
    Ok(())
}

/// Proves one of the others.
pub(crate) fn other(kind: Kind, proxy: &Proxy, site: &Site) -> Result<()> {
    let tokens = Tokens::draw(site)?;
    let length = || std::fs::metadata(&proxy.log).map_or(0, |it| it.len());
    let before = length();
    refuses(proxy.address, &site.caller(), &tokens, SMALL, kind.full())
        .with_context(|| format!("{kind:?}"))?;
    if kind == Kind::Bare {
        return Ok(());
    }
    let start = Instant::now();
    while length() <= before {
        ensure!(start.elapsed() < PATIENCE, "{kind:?} logs nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn refuses(
    address: SocketAddr,
    caller: &Path,
    tokens: &Tokens,
    path: &str,
    full: bool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    let ask = |known: bool, token: &str| {
        let bytes = request(HOST, path, token);
        runtime.block_on(async {
            let limit = Duration::from_secs(10);
            let asked = tokio::time::timeout(limit, one(address, caller, known, &bytes));
            asked.await.ok().and_then(Result::ok)
        })
    };
    let good: Outcome = ask(true, &tokens.good);
    let fine = Some((200, SIZES[0]));
    ensure!(good == fine, "a good call: {good:?}");
    let stranger = ask(false, &tokens.good);
    let refused = |it: Outcome| it.is_none_or(|(status, _)| (400..500).contains(&status));
    ensure!(
        refused(stranger),
        "a call without certificate: {stranger:?}"
    );
    if full {
        for (what, token) in [
            ("a forged token", tokens.forged.as_str()),
            ("a token of another scope", &tokens.scope),
            ("no token", "-"),
        ] {
            let outcome = ask(true, token);
            let named = outcome.is_some_and(|(status, _)| REFUSALS.contains(&status));
            ensure!(named, "a call with {what}: {outcome:?}");
        }
    }
    Ok(())
}

async fn one(
    address: SocketAddr,
    caller: &Path,
    known: bool,
    request: &[u8],
) -> Result<(u16, usize)> {
    let config = tls::client(caller, known, b"http/1.1", None)?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut connection = Connection::new(tls::connect(&connector, address, HOST).await?);
    let status = connection.ask(request).await?;
    Ok((status, connection.body().len()))
}
