//! Which policy revision is active.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// A revision became the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its place in the order of activations; the first is 1.
    pub serial: u64,
    /// The revision.
    pub revision: Digest,
    /// The one it replaced.
    pub predecessor: Option<Digest>,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
}

impl Store {
    /// Makes `revision` active if `expected` is active now; `None` if another is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn activate(
        &self,
        expected: Option<&Digest>,
        revision: &Digest,
        actor: &str,
        at: Timestamp,
    ) -> Result<Option<Activation>, StoreError> {
        let mut transaction = self.begin().await?;
        let newest = sqlx::query("SELECT * FROM revisions ORDER BY serial DESC LIMIT 1")
            .fetch_optional(&mut *transaction)
            .await?;
        let newest = newest.as_ref().map(read).transpose()?;
        if newest.as_ref().map(|newest| &newest.revision) != expected {
            return Ok(None);
        }
        let activation = Activation {
            serial: newest.as_ref().map_or(0, |newest| newest.serial) + 1,
            revision: *revision,
            predecessor: expected.copied(),
            at,
            actor: actor.to_owned(),
        };
        sqlx::query(
            "INSERT INTO revisions (serial, revision, predecessor, at, actor)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(columns::to_i64(activation.serial, "serial")?)
        .bind(revision.to_string())
        .bind(expected.map(Digest::to_string))
        .bind(at.as_micros())
        .bind(actor)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(activation))
    }

    /// The active revision.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn active(&self) -> Result<Option<Activation>, StoreError> {
        let row = sqlx::query("SELECT * FROM revisions ORDER BY serial DESC LIMIT 1")
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Notes whether a revision wants changes approved by a second person. What was noted first
    /// stays: a revision is the hash of what it says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_governed(&self, revision: &Digest, governed: bool) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO governed_revisions (revision, governed) VALUES (?1, ?2)
             ON CONFLICT (revision) DO NOTHING",
        )
        .bind(revision.to_string())
        .bind(i64::from(governed))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What was noted of a revision; `None` if nothing was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_governed(&self, revision: &Digest) -> Result<Option<bool>, StoreError> {
        let row = sqlx::query("SELECT governed FROM governed_revisions WHERE revision = ?1")
            .bind(revision.to_string())
            .fetch_optional(&self.read)
            .await?;
        let governed: Option<i64> = row.map(|row| row.try_get("governed")).transpose()?;
        Ok(governed.map(|it| it != 0))
    }
}

fn read(row: &SqliteRow) -> Result<Activation, StoreError> {
    let predecessor: Option<String> = row.try_get("predecessor")?;
    let predecessor = predecessor.as_deref().map(Digest::from_hex).transpose();
    Ok(Activation {
        serial: columns::number(row, "serial")?,
        revision: columns::digest(row, "revision")?,
        predecessor: predecessor.map_err(|_| StoreError::Unreadable("predecessor"))?,
        at: columns::moment(row, "at")?,
        actor: columns::text(row, "actor")?,
    })
}
