//! Before anything is measured: everybody refuses what they are there to refuse, and logs it.
//!
//! A comparison with a proxy that lets things pass would be worth nothing.

use crate::bare::proven;
use crate::load::http1::Connection;
use crate::load::http1::request;
use crate::proxies::Kind;
use crate::proxies::Proxy;
use crate::site::AUDIENCE;
use crate::site::Site;
use crate::tls;
use crate::tls::HOST;
use crate::upstream::ASSERTION;
use crate::upstream::SIZES;
use crate::upstream::SMALL;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use countersign_core::record;
use countersign_core::record::Record;
use countersign_ledger::ReceiptId;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_net::KeySet;
use countersign_net::assertion;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio_rustls::TlsConnector;

/// How long a log may take to be written.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many assertions are looked at.
const ASSERTIONS: usize = 5;

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
    if let Kind::Bare { proven } = kind {
        return if proven {
            leaves_proof(proxy, site)
        } else {
            Ok(())
        };
    }
    let start = Instant::now();
    while length() <= before {
        ensure!(start.elapsed() < PATIENCE, "{kind:?} logs nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// That each request takes an assertion of its own along, for this very request and under the receipt
/// of its decision, and leaves that decision and its completion, as large as countersign's are.
fn leaves_proof(proxy: &Proxy, site: &Site) -> Result<()> {
    let keys = KeySet::from_jwks(&std::fs::read(proxy.log.join(proven::KEYS))?, 1)?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    let (mut ids, mut receipts) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ASSERTIONS {
        let bytes = request(HOST, ASSERTION, "-");
        let (_, body) = runtime.block_on(one(proxy.address, &site.caller(), true, &bytes))?;
        let assertion = assertion::verify(&keys, std::str::from_utf8(&body)?);
        let assertion = assertion.map_err(|fault| anyhow!("an assertion that is {fault:?}"))?;
        assertion.fits(AUDIENCE, "GET", ASSERTION, proven::now()?)?;
        ensure!(ids.insert(assertion.jti), "two assertions have one id");
        let other = receipts.insert(assertion.receipt);
        ensure!(other, "two assertions name one receipt");
    }
    // The good call before has left its own.
    let expected = 2 * (ASSERTIONS + 1);
    let start = Instant::now();
    let records = loop {
        let records = spooled(&proxy.log)?;
        if records.len() >= expected {
            break records;
        }
        ensure!(start.elapsed() < PATIENCE, "{} records", records.len());
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(records.len() == expected, "{} records", records.len());
    let (mut decisions, mut completed) = (BTreeSet::new(), BTreeSet::new());
    for (receipt, record) in &records {
        match &record.completion {
            Some(completion) => completed.insert(completion.decision.clone()),
            None => decisions.insert(receipt.clone()),
        };
    }
    ensure!(decisions.len() == ASSERTIONS + 1, "{decisions:?} decided");
    ensure!(decisions == completed, "{completed:?} completed");
    ensure!(receipts.is_subset(&decisions), "{receipts:?} asserted");
    let own = site.recorded()?;
    for kind in [record::Kind::Decision, record::Kind::Completion] {
        let size = size(records.iter().map(|(_, it)| it), kind);
        let [size, real] = [size?, self::size(own.iter(), kind)?];
        eprintln!("{kind:?} of {size} bytes, countersign's of {real}");
        // Numbers in them have more digits or fewer.
        ensure!(size.abs_diff(real) * 50 <= real, "that is another record");
    }
    Ok(())
}

/// Bytes of the first record of this kind about an admitted call of the small answer.
fn size<'a>(
    mut records: impl Iterator<Item = &'a Record<'a>>,
    kind: record::Kind,
) -> Result<usize> {
    let path = format!("reports{SMALL}");
    let record = records.find(|it| {
        it.kind == kind && it.status == record::Status::Success && it.resource.id == path
    });
    Ok(record
        .with_context(|| format!("no {kind:?}"))?
        .to_bytes()
        .len())
}

/// What is in the spool in `folder`, with receipts: read from a copy, for its owner is at work.
fn spooled(folder: &Path) -> Result<Vec<(String, Record<'static>)>> {
    let copy = tempfile::tempdir()?;
    let inner = format!("spool/{}", proven::NODE);
    std::fs::create_dir_all(copy.path().join(&inner))?;
    for entry in std::fs::read_dir(folder.join(&inner))? {
        let entry = entry?;
        let to = copy.path().join(&inner).join(entry.file_name());
        std::fs::copy(entry.path(), to)?;
    }
    let storage = Arc::new(FsStorage::new(copy.path()));
    let (spool, _) = Spool::open(storage, proven::NODE, SpoolOptions::default())?;
    let leaves = spool.read_from(0, 1_000)?.into_iter().map(|it| {
        let leaf: Value = serde_json::from_slice(&it.leaf)?;
        let record = leaf.get("record").context("a leaf without record")?;
        let record = Record::from_bytes(record.to_string().as_bytes())?;
        Ok((ReceiptId::from(&it.leaf_hash).to_string(), record))
    });
    leaves.collect()
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
            let answered = asked.await.ok().and_then(Result::ok);
            answered.map(|(status, body)| (status, body.len()))
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
) -> Result<(u16, Vec<u8>)> {
    let config = tls::client(caller, known, b"http/1.1", None)?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut connection = Connection::new(tls::connect(&connector, address, HOST).await?);
    let status = connection.ask(request).await?;
    Ok((status, connection.body().to_vec()))
}
