use super::AdminError;
use super::Operator;
use super::done;
use crate::audit::Course;
use crate::store::Search;
use countersign_core::explain;
use countersign_core::explain::Explanation;
use countersign_core::record::Record;
use countersign_core::remedy;
use countersign_core::remedy::Remedy;
use countersign_core::replay;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Admitted;
use countersign_ledger::receipt::Receipt;
use countersign_wire::admin::RecordEntry;
use serde::Serialize;
use std::sync::Arc;

/// A record with the reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The configuration file that the lines are of.
    pub configuration: String,
    /// Its completion, where that was asked for or is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<RecordEntry>,
    /// The record of the decision.
    pub entry: RecordEntry,
    /// The six lines, the nearest rules, and what would let it through.
    pub explanation: Explanation,
    /// What would let it through, tried on a copy, and the tests that it would break.
    pub remedy: Option<Remedy>,
}

/// A recorded decision, made again.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayedRecord {
    /// Receipt id.
    pub receipt: String,
    /// What the record says: the code of its refusal, or nothing if it was allowed.
    pub recorded: Option<Code>,
    /// What comes out now.
    pub replayed: Option<Code>,
    /// Whether both say the same.
    pub same: bool,
}

impl Operator {
    /// The records that match, oldest first. Decided as `read records` of `audit`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn records(&self, search: &Search) -> Result<Vec<RecordEntry>, AdminError> {
        let admitted = self.reading().await?;
        let found = self.desk.audit.search(search).await;
        done(&admitted, found.map_err(AdminError::from))
    }

    /// The record of a receipt, or of a start of one. Decided as `read records` of `audit`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn record(&self, receipt: &str) -> Result<RecordEntry, AdminError> {
        let admitted = self.reading().await?;
        let found = self.desk.audit.lookup(receipt).await;
        done(&admitted, found.map_err(AdminError::from))
    }

    /// The proof of a record, which waits until a checkpoint covers it. Decided as `read records`
    /// of `audit`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn prove(&self, receipt: &str) -> Result<Receipt, AdminError> {
        let admitted = self.reading().await?;
        let proof = self.desk.audit.prove(receipt).await;
        done(&admitted, proof.map_err(AdminError::from))
    }

    /// The last signed checkpoint, a signed note. Decided as `read records` of `audit`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn checkpoint(&self) -> Result<String, AdminError> {
        let admitted = self.reading().await?;
        done(&admitted, Ok(self.desk.audit.signed().to_string()))
    }

    /// Why a recorded hop came out as it did; of a completion, the hop that it completes. Decided as
    /// `read explain` of `audit`.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a record that belongs to no decision, and the others.
    pub async fn explain(&self, receipt: &str) -> Result<Explained, AdminError> {
        let admitted = self
            .ask("audit", Operation::named("read", "explain"))
            .await?;
        let explained = self.explained(receipt).await;
        done(&admitted, explained)
    }

    /// Decides a recorded hop again, on the policy and revocations of that moment. Decided as
    /// `read records` of `audit`.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a record that is no decision, and the others.
    pub async fn replay(&self, receipt: &str) -> Result<ReplayedRecord, AdminError> {
        let admitted = self.reading().await?;
        let replayed = self.replayed(receipt).await;
        done(&admitted, replayed)
    }

    async fn reading(&self) -> Result<Admitted, AdminError> {
        self.ask("audit", Operation::named("read", "records")).await
    }

    async fn explained(&self, receipt: &str) -> Result<Explained, AdminError> {
        let Course { decision, ended } = self.desk.audit.course(receipt).await?;
        let (record, state) = self.decided(&decision)?;
        let hop = record.hop.ok_or_else(no_decision)?.into_owned();
        let configuration = state.snapshot.bundle().entry.clone();
        let remedy = remedy::remedy(&hop, &state);
        Ok(Explained {
            configuration,
            ended,
            entry: decision,
            remedy,
            explanation: explain::explain(hop, &state),
        })
    }

    async fn replayed(&self, receipt: &str) -> Result<ReplayedRecord, AdminError> {
        let entry = self.desk.audit.lookup(receipt).await?;
        let (record, state) = self.decided(&entry)?;
        let replayed = replay::replay(&record, &state, true);
        let replayed = replayed.map_err(|error| AdminError::Invalid(error.to_string()))?;
        Ok(ReplayedRecord {
            receipt: entry.receipt,
            recorded: replayed.recorded,
            replayed: replayed.replayed,
            same: replayed.same(),
        })
    }

    /// A decision's record with the state it was made on, from the kept snapshot.
    fn decided(&self, entry: &RecordEntry) -> Result<(Record<'static>, State), AdminError> {
        let text = entry.record.to_string();
        let record = Record::from_bytes(text.as_bytes()).map_err(AdminError::failed)?;
        let id = record.state.ok_or_else(no_decision)?;
        let bundle = self.desk.snapshots.read(&id.revision)?;
        let snapshot = Snapshot::from_bundle(bundle).map_err(AdminError::failed)?;
        let lines = self.desk.updates.revocations_up_to(id.epoch);
        let revocations = Arc::new(Revocations::up_to(&lines, id.epoch));
        let snapshot = Arc::new(snapshot);
        let state = State {
            revocations,
            snapshot,
        };
        Ok((record, state))
    }
}

fn no_decision() -> AdminError {
    AdminError::Invalid("the record is no decision".to_owned())
}
