use super::world::World;
use anyhow::Context as _;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::recompute;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::tiles::Kind;
use countersign_ledger::tiles::TilePath;
use countersign_wire::admin::RecordEntry;
use std::path::Path;
use std::path::PathBuf;

/// A record proved to be in the log.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) leaf: u64,
    pub(super) origin: String,
    pub(super) receipt: String,
    pub(super) size: u64,
}

/// A record that was changed on disk, and what verifying the log then says.
#[derive(Clone, Debug)]
pub(super) struct Tampered {
    pub(super) finding: Option<String>,
    pub(super) leaf: u64,
    pub(super) receipt: String,
}

/// Fetches the proof of a record, keeps it, and verifies it with the log's key.
pub(super) async fn prove(world: &World, receipt: &str, keep: &Path) -> anyhow::Result<Proof> {
    let bytes = world
        .admin
        .get_bytes(&format!("/v1/admin/records/{receipt}/proof"))
        .await?;
    let document = Receipt::from_json(&bytes)?;
    std::fs::write(keep, document.to_json())?;
    let key: VerifierKey = world.log_key.parse()?;
    let verified = document.verify(&key, None)?;
    anyhow::ensure!(
        verified.receipt.to_string() == receipt,
        "the proof is of another record"
    );
    Ok(Proof {
        leaf: verified.index,
        origin: document.checkpoint().claimed().origin.clone(),
        receipt: receipt.to_owned(),
        size: verified.size,
    })
}

/// The place of a record in the log.
pub(super) async fn index(world: &World, receipt: &str) -> anyhow::Result<u64> {
    let entry: RecordEntry = world
        .admin
        .get(&format!("/v1/admin/records/{receipt}"))
        .await?;
    entry
        .index
        .with_context(|| format!("`{receipt}` is not in the log yet"))
}

/// Changes one word of a record in a copy of the log, and verifies the copy.
pub(super) fn tamper(
    folder: &Path,
    leaf: u64,
    receipt: &str,
    key: &str,
) -> anyhow::Result<Tampered> {
    let (log, copy) = (folder.join("data/log"), folder.join("tampered/log"));
    copy_tree(&log, &copy)?;
    let signed = SignedCheckpoint::parse(&std::fs::read(copy.join("checkpoint"))?)?;
    let checkpoint = signed.verify(&key.parse()?)?.clone();
    let path = bundle(&copy, leaf, checkpoint.size)?;
    let entries =
        std::fs::read(&path).with_context(|| format!("can't read `{}`", path.display()))?;
    std::fs::write(&path, change(entries, usize::try_from(leaf % 256)?)?)?;
    let storage = FsStorage::new(&copy);
    let verdict = recompute(&storage, "", &checkpoint, &[], |_, _| {});
    let finding = verdict.err().map(|finding| finding.to_string());
    Ok(Tampered {
        finding,
        leaf,
        receipt: receipt.to_owned(),
    })
}

/// Turns the refusal of an entry into something else of the same length:
/// `"status":"denied"` becomes `"status":"permit"`.
fn change(mut entries: Vec<u8>, which: usize) -> anyhow::Result<Vec<u8>> {
    let mut at = 0;
    for _ in 0..which {
        at += 2 + length(&entries, at)?;
    }
    let end = at + 2 + length(&entries, at)?;
    let entry = entries
        .get_mut(at + 2..end)
        .context("the entry ends early")?;
    let word = b"\"status\":\"denied\"";
    let found = entry.windows(word.len()).position(|window| window == word);
    let found = found.context("the record is no refusal")?;
    let place = entry
        .get_mut(found..found + word.len())
        .context("the entry ends early")?;
    place.copy_from_slice(b"\"status\":\"permit\"");
    Ok(entries)
}

fn length(entries: &[u8], at: usize) -> anyhow::Result<usize> {
    match entries.get(at..at + 2) {
        Some([high, low]) => Ok(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => anyhow::bail!("the bundle ends early"),
    }
}

/// Where the entry bundle of a leaf is, in a log of this size.
fn bundle(log: &Path, leaf: u64, size: u64) -> anyhow::Result<PathBuf> {
    let number = leaf / 256;
    let width = if (number + 1) * 256 <= size {
        256
    } else {
        size % 256
    };
    Ok(log.join(TilePath::new(Kind::Entries, number, width)?.to_string()))
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
