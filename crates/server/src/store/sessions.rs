//! Sessions of people at browser doors, by the hash of their cookie.

use super::Store;
use super::StoreError;
use super::columns;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// A person's session. The cookie itself is nowhere in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie's value.
    pub sid: Digest,
    /// Who signed in: `<login>:<sub>`.
    pub sub: String,
    /// The groups the login vouched for: `<login>/<name>` each.
    pub groups: Vec<String>,
    /// The door it belongs to.
    pub door: Name,
    /// When it began.
    pub created: Timestamp,
    /// When it ends by itself.
    pub ends: Timestamp,
    /// When it was ended, if it was.
    pub ended: Option<Timestamp>,
}

impl Session {
    /// Whether it may be used now.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.ends
    }
}

impl Store {
    /// Keeps a new session.
    ///
    /// # Errors
    /// [`StoreError`], also if there is one with this `sid`.
    pub async fn insert_session(&self, session: &Session) -> Result<(), StoreError> {
        let groups =
            serde_json::to_string(&session.groups).map_err(|_| StoreError::Unreadable("groups"))?;
        sqlx::query(
            "INSERT INTO sessions (sid, sub, groups, door, created, ends, ended)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(session.sid.to_string())
        .bind(&session.sub)
        .bind(groups)
        .bind(session.door.as_str())
        .bind(session.created.as_micros())
        .bind(session.ends.as_micros())
        .bind(session.ended.map(Timestamp::as_micros))
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// The session with this `sid`, live or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, sid: &Digest) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE sid = ?1")
            .bind(sid.to_string())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Ends a session; false if there is none, or it had been ended before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, sid: &Digest, at: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE sessions SET ended = ?2 WHERE sid = ?1 AND ended IS NULL")
            .bind(sid.to_string())
            .bind(at.as_micros())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends every session that has not ended; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions(&self, at: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("UPDATE sessions SET ended = ?1 WHERE ended IS NULL")
            .bind(at.as_micros())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected())
    }

    /// The live sessions of a person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions_of(&self, sub: &str, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE sub = ?1 AND ended IS NULL AND ends > ?2 ORDER BY created",
        )
        .bind(sub)
        .bind(now.as_micros())
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Forgets the sessions that ended by themselves before this moment; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM sessions WHERE ends < ?1")
            .bind(before.as_micros())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected())
    }
}

fn read(row: &SqliteRow) -> Result<Session, StoreError> {
    let groups: String = row.try_get("groups")?;
    let door: String = row.try_get("door")?;
    Ok(Session {
        sid: columns::digest(row, "sid")?,
        sub: columns::text(row, "sub")?,
        groups: serde_json::from_str(&groups).map_err(|_| StoreError::Unreadable("groups"))?,
        door: Name::new(&door).map_err(|_| StoreError::Unreadable("door"))?,
        created: columns::moment(row, "created")?,
        ends: columns::moment(row, "ends")?,
        ended: columns::maybe_moment(row, "ended")?,
    })
}
