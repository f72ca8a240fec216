//! What is known of the keys that sign: their schedule, never their private half.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use sqlx::sqlite::SqliteRow;

/// One access-token key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKeyRow {
    /// Its id, the thumbprint of its public half.
    pub kid: String,
    /// When it was made, and published from then on.
    pub created: Timestamp,
    /// From when it signs.
    pub signs_from: Timestamp,
}

impl Store {
    /// Keeps a new key's schedule.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_token_key(&self, key: &TokenKeyRow) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO token_keys (kid, created, signs_from) VALUES (?1, ?2, ?3)")
            .bind(&key.kid)
            .bind(key.created.as_micros())
            .bind(key.signs_from.as_micros())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// The keys that have not been withdrawn, in the order in which they sign.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_keys(&self) -> Result<Vec<TokenKeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM token_keys WHERE withdrawn_at IS NULL ORDER BY signs_from, created",
        )
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Says that a key verifies nothing any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn withdraw_token_key(&self, kid: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE token_keys SET withdrawn_at = ?2 WHERE kid = ?1")
            .bind(kid)
            .bind(at.as_micros())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Keeps the public key (JWK) with which a gateway signs its assertions. Says whether it did:
    /// a key that another gateway has is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_gateway_key(
        &self,
        gateway: &Name,
        jwk: &serde_json::Value,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO gateway_keys (gateway, jwk, at)
             SELECT ?1, ?2, ?3 WHERE NOT EXISTS (
                 SELECT 1 FROM gateway_keys WHERE gateway <> ?1 AND json_valid(jwk)
                     AND json_extract(jwk, '$.kid') = json_extract(?2, '$.kid'))
             ON CONFLICT (gateway) DO UPDATE SET jwk = ?2, at = ?3",
        )
        .bind(gateway.as_str())
        .bind(jwk.to_string())
        .bind(at.as_micros())
        .execute(&self.write)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The gateways' names and public keys (JWK) as they are kept: whether they are usable is for
    /// the reader to find out, one by one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn gateway_keys(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("SELECT gateway, jwk FROM gateway_keys ORDER BY gateway")
            .fetch_all(&self.read)
            .await?;
        let read =
            |row: &SqliteRow| Ok((columns::text(row, "gateway")?, columns::text(row, "jwk")?));
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<TokenKeyRow, StoreError> {
    Ok(TokenKeyRow {
        kid: columns::text(row, "kid")?,
        created: columns::moment(row, "created")?,
        signs_from: columns::moment(row, "signs_from")?,
    })
}
