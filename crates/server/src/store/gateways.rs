//! Gateways in other processes, and the tokens by which they become that.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeSet;

/// A gateway that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRow {
    /// SHA-256 of its certificate (DER).
    pub leaf: Option<Digest>,
    /// The listeners that it serves; nothing stands for all of them, now and later.
    pub listeners: Option<BTreeSet<Name>>,
    /// Its name.
    pub name: Name,
    /// SHA-256 of the certificate that it had before.
    pub previous: Option<Digest>,
    /// The raw Ed25519 key that verifies its cosignatures, if it has said one.
    pub witness: Option<Digest>,
}

/// A join token. The token itself is nowhere in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRow {
    /// When it ends by itself.
    pub ends: Timestamp,
    /// The gateway that it makes.
    pub gateway: Name,
    /// SHA-256 of its secret.
    pub hash: Digest,
    /// The listeners that the gateway will serve.
    pub listeners: Option<BTreeSet<Name>>,
}

/// What became of the attempt to use a join token up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// It was good, and now it is used.
    Good(JoinRow),
    /// It was used before.
    Used(JoinRow),
    /// It ended before it was used.
    Ended(JoinRow),
    /// There is none like it.
    Unknown,
}

impl Store {
    /// Keeps a new join token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_join(&self, join: &JoinRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO join_tokens (hash, gateway, listeners, ends) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(join.hash.to_string())
        .bind(join.gateway.as_str())
        .bind(listeners_text(join.listeners.as_ref())?)
        .bind(join.ends.as_micros())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Uses a join token up: of any number of attempts at once, one finds it good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn consume_join(
        &self,
        hash: &Digest,
        now: Timestamp,
    ) -> Result<Consumed, StoreError> {
        // Everybody may guess, but there is one writer: it has no time for those who do.
        let known = sqlx::query("SELECT hash FROM join_tokens WHERE hash = ?1")
            .bind(hash.to_string())
            .fetch_optional(&self.read)
            .await?;
        if known.is_none() {
            return Ok(Consumed::Unknown);
        }
        let mut transaction = self.begin().await?;
        let row = sqlx::query("SELECT * FROM join_tokens WHERE hash = ?1")
            .bind(hash.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else {
            return Ok(Consumed::Unknown);
        };
        let join = JoinRow {
            ends: columns::moment(&row, "ends")?,
            gateway: name(&row, "gateway")?,
            hash: *hash,
            listeners: listeners(&row)?,
        };
        if columns::maybe_moment(&row, "used")?.is_some() {
            return Ok(Consumed::Used(join));
        }
        if now >= join.ends {
            return Ok(Consumed::Ended(join));
        }
        sqlx::query("UPDATE join_tokens SET used = ?2 WHERE hash = ?1")
            .bind(hash.to_string())
            .bind(now.as_micros())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Consumed::Good(join))
    }

    /// Uses up every join token that is not used; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn void_joins(&self, at: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("UPDATE join_tokens SET used = ?1 WHERE used IS NULL")
            .bind(at.as_micros())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected())
    }

    /// Keeps a gateway that joins, instead of an earlier one of its name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_gateway(&self, row: &GatewayRow, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gateways (name, listeners, witness, at, leaf, previous)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (name) DO UPDATE
             SET listeners = ?2, witness = ?3, at = ?4, leaf = ?5, previous = ?6",
        )
        .bind(row.name.as_str())
        .bind(listeners_text(row.listeners.as_ref())?)
        .bind(row.witness.map(|it| it.to_string()))
        .bind(at.as_micros())
        .bind(row.leaf.map(|it| it.to_string()))
        .bind(row.previous.map(|it| it.to_string()))
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Keeps the next certificate of a gateway that showed `shown`; says whether that is one it
    /// gets the next with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_gateway(
        &self,
        name: &Name,
        shown: &Digest,
        next: &Digest,
    ) -> Result<bool, StoreError> {
        let renewed = sqlx::query(
            "UPDATE gateways SET leaf = ?3, previous = ?2
             WHERE name = ?1 AND (leaf = ?2 OR previous = ?2)",
        )
        .bind(name.as_str())
        .bind(shown.to_string())
        .bind(next.to_string())
        .execute(&self.write)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Keeps a certificate that was issued by hand: a gateway that has joined keeps its listeners
    /// and its witness, one that has not serves all listeners and witnesses nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hand_gateway(
        &self,
        name: &Name,
        leaf: &Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gateways (name, listeners, at, leaf) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET previous = leaf, leaf = ?4",
        )
        .bind(name.as_str())
        .bind(listeners_text(None)?)
        .bind(at.as_micros())
        .bind(leaf.to_string())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// The gateways that have joined, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn gateways(&self) -> Result<Vec<Name>, StoreError> {
        let rows = sqlx::query("SELECT name FROM gateways ORDER BY name")
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|row| name(row, "name")).collect()
    }

    /// A gateway that has joined.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn gateway(&self, name: &Name) -> Result<Option<GatewayRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM gateways WHERE name = ?1")
            .bind(name.as_str())
            .fetch_optional(&self.read)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(GatewayRow {
            leaf: maybe_digest(&row, "leaf")?,
            listeners: listeners(&row)?,
            name: name.clone(),
            previous: maybe_digest(&row, "previous")?,
            witness: maybe_digest(&row, "witness")?,
        }))
    }
}

fn maybe_digest(row: &SqliteRow, column: &'static str) -> Result<Option<Digest>, StoreError> {
    let text: Option<String> = row.try_get(column)?;
    let digest = text.as_deref().map(Digest::from_hex).transpose();
    digest.map_err(|_| StoreError::Unreadable(column))
}

fn listeners_text(listeners: Option<&BTreeSet<Name>>) -> Result<String, StoreError> {
    serde_json::to_string(&listeners).map_err(|_| StoreError::Unreadable("listeners"))
}

fn listeners(row: &SqliteRow) -> Result<Option<BTreeSet<Name>>, StoreError> {
    let text = columns::text(row, "listeners")?;
    serde_json::from_str(&text).map_err(|_| StoreError::Unreadable("listeners"))
}

fn name(row: &SqliteRow, column: &'static str) -> Result<Name, StoreError> {
    Name::new(&columns::text(row, column)?).map_err(|_| StoreError::Unreadable(column))
}
