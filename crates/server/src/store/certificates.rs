//! Certificates that were issued.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use sqlx::sqlite::SqliteRow;

/// One issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// SHA-256 of the certificate (DER).
    pub leaf: Digest,
    /// Its serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the issuing certificate's public key.
    pub issuer: Digest,
    /// From when it counts.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Store {
    /// Keeps an issued certificate. It is kept before it is handed out.
    ///
    /// # Errors
    /// [`StoreError`], also for a serial number that was used before.
    pub async fn insert_certificate(&self, issued: &IssuedCertificate) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO certificates (leaf, serial, spiffe_id, issuer, not_before, not_after)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(issued.leaf.to_string())
        .bind(&issued.serial)
        .bind(issued.spiffe_id.as_str())
        .bind(issued.issuer.to_string())
        .bind(issued.not_before.as_micros())
        .bind(issued.not_after.as_micros())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// The certificate with this digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificate(
        &self,
        leaf: &Digest,
    ) -> Result<Option<IssuedCertificate>, StoreError> {
        let row = sqlx::query("SELECT * FROM certificates WHERE leaf = ?1")
            .bind(leaf.to_string())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The certificates of an identity that have not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates_of(
        &self,
        id: &SpiffeId,
        now: Timestamp,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM certificates WHERE spiffe_id = ?1 AND not_after > ?2 ORDER BY not_after",
        )
        .bind(id.as_str())
        .bind(now.as_micros())
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<IssuedCertificate, StoreError> {
    let spiffe_id = columns::text(row, "spiffe_id")?;
    Ok(IssuedCertificate {
        leaf: columns::digest(row, "leaf")?,
        serial: columns::text(row, "serial")?,
        spiffe_id: SpiffeId::parse(&spiffe_id).map_err(|_| StoreError::Unreadable("spiffe_id"))?,
        issuer: columns::digest(row, "issuer")?,
        not_before: columns::moment(row, "not_before")?,
        not_after: columns::moment(row, "not_after")?,
    })
}
