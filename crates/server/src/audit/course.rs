//! A decision and how its hop ended, which are two records of one node.

use super::Audit;
use super::AuditError;
use super::blocking;
use super::rows;
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
        if let Some(of) = completes(&asked) {
            let decision = self.lookup(of).await?;
            // What another node says of this one's hop is nothing.
            if decision.node == asked.node {
                let ended = Some(asked);
                return Ok(Course { decision, ended });
            }
        }
        let ended = self.completion(&asked).await?;
        let decision = asked;
        Ok(Course { decision, ended })
    }

    async fn completion(&self, decision: &RecordEntry) -> Result<Option<RecordEntry>, AuditError> {
        let refused = decision.record.get("pillar").is_some();
        let Some(index) = decision.index.filter(|_| !refused) else {
            return Ok(None);
        };
        let behind = index + 1..self.log.size().min(index.saturating_add(FOLLOWING));
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
