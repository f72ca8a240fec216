use super::AdminError;
use super::Operator;
use super::done;
use crate::reload::Pending;
use crate::reload::Reloaded;
use countersign_core::change::Difference;
use countersign_core::hop::Peer;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::clip;
use serde::Deserialize;
use serde::Serialize;

/// A change of the configuration that waits for a second person, with what it would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownChange {
    /// The change.
    #[serde(flatten)]
    pub change: Pending,
    /// What it would change.
    pub difference: Difference,
}

impl Operator {
    /// The newest changes that wait for a second person, or waited. Decided as `admin changes` of
    /// `console`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn changes(&self) -> Result<Vec<Pending>, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "changes"))
            .await?;
        let listed = self.desk.reloader.changes().await;
        done(&admitted, listed.map_err(AdminError::from))
    }

    /// One of them, and what it would change. Decided as `admin changes` of `console`.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], and the others.
    pub async fn change(&self, id: &str) -> Result<ShownChange, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "changes"))
            .await?;
        let found = self.desk.reloader.change(id).await;
        let shown = match found {
            Ok(Some((change, difference))) => Ok(ShownChange { change, difference }),
            Ok(None) => Err(unknown(id)),
            Err(error) => Err(error.into()),
        };
        done(&admitted, shown)
    }

    /// Agrees to a change that somebody else asked for, which puts it in force. Decided as
    /// `admin approve` of `console`, and refused to whoever asked, to who is in no role of
    /// `change: { approve }`, after an hour, and where something else was put in force meanwhile.
    ///
    /// # Errors
    /// [`AdminError`]; then nothing has changed.
    pub async fn approve_change(&self, id: &str) -> Result<Reloaded, AdminError> {
        let decided = self.decide_change(id, true).await?;
        decided.ok_or_else(|| unknown(id))
    }

    /// Sees to it that a change is never put in force. Decided as `admin approve` of `console`, by
    /// the rules of [`Self::approve_change`].
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn deny_change(&self, id: &str) -> Result<Pending, AdminError> {
        self.decide_change(id, false).await?;
        let denied = self.desk.reloader.changes().await?;
        let denied = denied.into_iter().find(|it| it.id == id);
        denied.ok_or_else(|| unknown(id))
    }

    async fn decide_change(&self, id: &str, approve: bool) -> Result<Option<Reloaded>, AdminError> {
        let reloader = &self.desk.reloader;
        let (actor, snapshot) = (self.name(), self.desk.point.snapshot());
        let identity = self.local_user().and_then(|it| snapshot.local_identity(it));
        let objection = reloader.objection(id, (&actor, identity)).await?;
        let operation = Operation::named("admin", "approve");
        let admitted = self.ask_despite("console", operation, objection).await?;
        let known = reloader.change(id).await;
        let decided = match known {
            Ok(None) => Err(unknown(id)),
            Ok(Some(_)) => reloader
                .conclude(id, approve, &actor)
                .await
                .map_err(AdminError::from),
            Err(error) => Err(error.into()),
        };
        done(&admitted, decided)
    }

    /// The system user at the other end.
    fn local_user(&self) -> Option<&str> {
        match &self.peer {
            Peer::Local { user, .. } => user.as_deref(),
            _ => None,
        }
    }
}

fn unknown(id: &str) -> AdminError {
    AdminError::NotFound(format!("no change `{}` waits", clip(id, 64)))
}
