//! The ordered revocation log.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Timestamp;
use sqlx::sqlite::SqliteRow;

impl Store {
    /// Appends a line; its epoch is the one after the last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append_revocation(
        &self,
        what: &Revoked,
        lifted: bool,
        at: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let text = serde_json::to_string(what).map_err(|_| StoreError::Unreadable("revocation"))?;
        let row = sqlx::query(
            "INSERT INTO revocations (epoch, at, lifted, what)
             SELECT COALESCE(MAX(epoch), 0) + 1, ?1, ?2, ?3 FROM revocations RETURNING *",
        )
        .bind(at.as_micros())
        .bind(i64::from(lifted))
        .bind(text)
        .fetch_one(&self.write)
        .await?;
        read(&row)
    }

    /// The lines after `epoch`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocations_after(&self, epoch: u64) -> Result<Vec<Revocation>, StoreError> {
        let rows = sqlx::query("SELECT * FROM revocations WHERE epoch > ?1 ORDER BY epoch")
            .bind(columns::to_i64(epoch, "epoch")?)
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The last line's epoch; 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(epoch), 0) AS epoch FROM revocations")
            .fetch_one(&self.read)
            .await?;
        columns::number(&row, "epoch")
    }
}

fn read(row: &SqliteRow) -> Result<Revocation, StoreError> {
    let what = columns::text(row, "what")?;
    Ok(Revocation {
        at: columns::moment(row, "at")?,
        epoch: columns::number(row, "epoch")?,
        lifted: columns::number(row, "lifted")? == 1,
        what: serde_json::from_str(&what).map_err(|_| StoreError::Unreadable("revocation"))?,
    })
}
