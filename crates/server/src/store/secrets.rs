//! Rows of the vault. What they mean, and whether they are genuine, the vault knows.

use super::Store;
use super::StoreError;
use super::Transaction;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use sqlx::sqlite::SqliteRow;

/// The head of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRow {
    /// The path.
    pub path: String,
    /// The newest version.
    pub version: u64,
    /// When that was written.
    pub updated: Timestamp,
    /// The path's data key, wrapped.
    pub data_key: Vec<u8>,
    /// What authenticates this row and the digests of the versions kept.
    pub mac: Digest,
}

/// One version of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The version.
    pub version: u64,
    /// When it was written.
    pub created: Timestamp,
    /// SHA-256 of the ciphertext.
    pub digest: Digest,
}

/// What authenticates all heads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretTable {
    /// How many writes there have been.
    pub generation: u64,
    /// What authenticates all heads and the number of writes.
    pub mac: Digest,
}

impl Store {
    /// Every head, in the order of the paths.
    pub(crate) async fn secret_heads(&self) -> Result<Vec<HeadRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM secret_heads ORDER BY path")
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(read_head).collect()
    }

    /// The row over all heads.
    pub(crate) async fn secret_table(&self) -> Result<Option<SecretTable>, StoreError> {
        let row = sqlx::query("SELECT * FROM secret_table")
            .fetch_optional(&self.read)
            .await?;
        let read = |row: &SqliteRow| {
            Ok(SecretTable {
                generation: columns::number(row, "generation")?,
                mac: columns::digest(row, "mac")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// The head of a path and its versions, as one moment has them.
    pub(crate) async fn secret(
        &self,
        path: &str,
    ) -> Result<Option<(HeadRow, Vec<VersionRow>)>, StoreError> {
        let mut transaction = self.read.begin().await?;
        let head = sqlx::query("SELECT * FROM secret_heads WHERE path = ?1")
            .bind(path)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(head) = head else { return Ok(None) };
        let versions = sqlx::query(
            "SELECT version, created, digest FROM secret_versions WHERE path = ?1 ORDER BY version",
        )
        .bind(path)
        .fetch_all(&mut *transaction)
        .await?;
        let versions = versions
            .iter()
            .map(read_version)
            .collect::<Result<_, _>>()?;
        Ok(Some((read_head(&head)?, versions)))
    }

    /// The ciphertext of one version.
    pub(crate) async fn secret_ciphertext(
        &self,
        path: &str,
        version: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row =
            sqlx::query("SELECT ciphertext FROM secret_versions WHERE path = ?1 AND version = ?2")
                .bind(path)
                .bind(columns::to_i64(version, "version")?)
                .fetch_optional(&self.read)
                .await?;
        row.as_ref()
            .map(|row| columns::bytes(row, "ciphertext"))
            .transpose()
    }
}

/// Writes a head, one new version of it, and the row over all heads; forgets versions before
/// `oldest`.
pub(crate) async fn write_secret(
    transaction: &mut Transaction,
    head: &HeadRow,
    version: &VersionRow,
    ciphertext: &[u8],
    oldest: u64,
    table: &SecretTable,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO secret_heads (path, version, updated, data_key, mac)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (path) DO UPDATE SET version = ?2, updated = ?3, data_key = ?4, mac = ?5",
    )
    .bind(&head.path)
    .bind(columns::to_i64(head.version, "version")?)
    .bind(head.updated.as_micros())
    .bind(&head.data_key)
    .bind(head.mac.to_string())
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "INSERT INTO secret_versions (path, version, created, ciphertext, digest)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&head.path)
    .bind(columns::to_i64(version.version, "version")?)
    .bind(version.created.as_micros())
    .bind(ciphertext)
    .bind(version.digest.to_string())
    .execute(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM secret_versions WHERE path = ?1 AND version < ?2")
        .bind(&head.path)
        .bind(columns::to_i64(oldest, "version")?)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO secret_table (id, generation, mac) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET generation = ?1, mac = ?2",
    )
    .bind(columns::to_i64(table.generation, "generation")?)
    .bind(table.mac.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn read_head(row: &SqliteRow) -> Result<HeadRow, StoreError> {
    Ok(HeadRow {
        path: columns::text(row, "path")?,
        version: columns::number(row, "version")?,
        updated: columns::moment(row, "updated")?,
        data_key: columns::bytes(row, "data_key")?,
        mac: columns::digest(row, "mac")?,
    })
}

fn read_version(row: &SqliteRow) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        version: columns::number(row, "version")?,
        created: columns::moment(row, "created")?,
        digest: columns::digest(row, "digest")?,
    })
}
