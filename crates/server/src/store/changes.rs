//! Changes of the configuration that wait for a second person.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// A change that somebody asked for and somebody else decides on, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// Its name.
    pub id: String,
    /// The revision it is to replace.
    pub base: Digest,
    /// The revision it is to put in force; its bundle is kept.
    pub revision: Digest,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested: Timestamp,
    /// Until when it may be decided on.
    pub ends: Timestamp,
    /// What it loosens, a line each.
    pub loosens: Vec<String>,
    /// Who decided what and when, if somebody did.
    pub verdict: Option<Verdict>,
}

/// What a second person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be put in force.
    pub approved: bool,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Store {
    /// Keeps a change that waits.
    ///
    /// # Errors
    /// [`StoreError`], also if there is one of this name.
    pub async fn insert_change(&self, change: &ChangeRow) -> Result<(), StoreError> {
        let loosens = serde_json::to_string(&change.loosens)
            .map_err(|_| StoreError::Unreadable("loosens"))?;
        sqlx::query(
            "INSERT INTO changes (id, base, revision, requested_by, requested, ends, loosens)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&change.id)
        .bind(change.base.to_string())
        .bind(change.revision.to_string())
        .bind(&change.requested_by)
        .bind(change.requested.as_micros())
        .bind(change.ends.as_micros())
        .bind(loosens)
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// A change, whatever became of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change(&self, id: &str) -> Result<Option<ChangeRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM changes WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The newest changes, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes(&self, most: u32) -> Result<Vec<ChangeRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM changes ORDER BY requested DESC, id LIMIT ?1")
            .bind(most)
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Decides on a change that waits, once and before it ends; false if it waits no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn decide_change(&self, id: &str, verdict: &Verdict) -> Result<bool, StoreError> {
        let word = if verdict.approved {
            "approved"
        } else {
            "denied"
        };
        let done = sqlx::query(
            "UPDATE changes SET verdict = ?2, decided_by = ?3, decided = ?4
             WHERE id = ?1 AND verdict IS NULL AND ends > ?4",
        )
        .bind(id)
        .bind(word)
        .bind(&verdict.by)
        .bind(verdict.at.as_micros())
        .execute(&self.write)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

fn read(row: &SqliteRow) -> Result<ChangeRow, StoreError> {
    let loosens = columns::text(row, "loosens")?;
    let verdict: Option<String> = row.try_get("verdict")?;
    let by: Option<String> = row.try_get("decided_by")?;
    let at = columns::maybe_moment(row, "decided")?;
    let verdict = match (verdict, by, at) {
        (None, ..) => None,
        (Some(word), Some(by), Some(at)) => Some(Verdict {
            approved: word == "approved",
            by,
            at,
        }),
        _ => return Err(StoreError::Unreadable("verdict")),
    };
    Ok(ChangeRow {
        id: columns::text(row, "id")?,
        base: columns::digest(row, "base")?,
        revision: columns::digest(row, "revision")?,
        requested_by: columns::text(row, "requested_by")?,
        requested: columns::moment(row, "requested")?,
        ends: columns::moment(row, "ends")?,
        loosens: serde_json::from_str(&loosens).map_err(|_| StoreError::Unreadable("loosens"))?,
        verdict,
    })
}
