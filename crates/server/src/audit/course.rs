//! A decision and how its hop ended, which are two records of one node.

use super::Audit;
use super::AuditError;
use super::blocking;
use super::rows;
use countersign_ledger::ReceiptId;
use countersign_wire::admin::RecordEntry;
use memchr::memmem::Finder;
use serde_json::Value;

/// So many leaves behind a decision are looked through for its completion.
const FOLLOWING: u64 = 10_000;

/// A decision, with how its hop ended.
#[derive(Clone, Debug)]
pub struct Course {
    /// The decision. Any other record stands for itself.
    pub decision: RecordEntry,
    /// Its completion, if that was asked for or follows soon enough.
    pub ended: Option<RecordEntry>,
}

impl Audit {
    /// The decision whose receipt is this, or starts like this, or whose completion's does.
    ///
    /// The completion of a hop that took long is found by its own receipt only: of what follows a
    /// decision in the log, ten thousand records are looked through.
    ///
    /// # Errors
    /// [`AuditError::NotAReceipt`], [`AuditError::NotFound`], [`AuditError::Ambiguous`].
    pub async fn course(&self, receipt: &str) -> Result<Course, AuditError> {
        let asked = self.lookup(receipt).await?;
        if let Some(decision) = self.decision(&asked).await? {
            let ended = Some(asked);
            return Ok(Course { decision, ended });
        }
        let ended = self.completion(&asked).await;
        let ended = ended.unwrap_or_else(|error| {
            tracing::warn!(%error, receipt = asked.receipt, "its completion is not found");
            None
        });
        let decision = asked;
        Ok(Course { decision, ended })
    }

    /// The decision that a record completes. What another node says of this one's hop is nothing.
    async fn decision(&self, ended: &RecordEntry) -> Result<Option<RecordEntry>, AuditError> {
        let of = completes(ended);
        let Some(of) = of.filter(|of| of.parse::<ReceiptId>().is_ok()) else {
            return Ok(None);
        };
        match self.lookup(of).await {
            Ok(decision) => Ok(Some(decision).filter(|it| it.node == ended.node)),
            Err(AuditError::NotFound(_) | AuditError::Ambiguous { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn completion(&self, decision: &RecordEntry) -> Result<Option<RecordEntry>, AuditError> {
        let says = |key| decision.record.get(key).and_then(Value::as_str);
        let admitted = says("kind") == Some("decision") && says("pillar").is_none();
        let Some(behind) = decision.index.filter(|_| admitted).map(|index| index + 1) else {
            return Ok(None);
        };
        let behind = behind..self.log.size().min(behind.saturating_add(FOLLOWING));
        let (node, receipt) = (decision.node.clone(), decision.receipt.clone());
        let mut entries = self.entries();
        blocking(move || {
            // Most are not even parsed.
            let named = Finder::new(&receipt);
            for index in behind {
                let leaf = entries.at(index)?;
                if named.find(leaf).is_some() {
                    let entry = rows::entry(Some(index), leaf);
                    if entry.node == node && completes(&entry) == Some(&receipt) {
                        return Ok(Some(entry));
                    }
                }
            }
            Ok(None)
        })
        .await
    }
}

/// The receipt of the decision that this is the completion of.
fn completes(entry: &RecordEntry) -> Option<&str> {
    let decision = entry.record.pointer("/completion/decision");
    decision.and_then(Value::as_str)
}
