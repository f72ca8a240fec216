//! The store: what the server must remember beside the log, in one SQL database.
//!
//! Nothing in it is secret in the clear, and nothing in it is believed blindly: secrets are sealed
//! and authenticated by the vault, the search index is compared with the log's entries, and what
//! must only grow is held by triggers as well as by this module.
//!
//! All writing goes through one connection, so a transaction never waits for another inside this
//! process, and "read, then write what follows from it" is atomic.

mod audit;
mod certificates;
mod changes;
mod columns;
mod gateways;
mod migrations;
mod revisions;
mod revocations;
mod secrets;
mod sessions;
mod token_keys;

pub use audit::IndexRow;
pub use audit::Search;
pub use certificates::IssuedCertificate;
pub use changes::ChangeRow;
pub use changes::Verdict;
pub use gateways::Consumed;
pub use gateways::GatewayRow;
pub use gateways::JoinRow;
pub use revisions::Activation;
pub use secrets::HeadRow;
pub use secrets::SecretTable;
pub use secrets::VersionRow;
pub(crate) use secrets::write_secret;
pub use sessions::Session;
pub use token_keys::TokenKeyRow;

use sqlx::Connection as _;
use sqlx::SqliteConnection;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteSynchronous;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection waits for another process (a backup) to let go of the file.
const BUSY: Duration = Duration::from_secs(5);

// Result codes of SQLite (sqlite3.h).
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_NOTADB: u32 = 26;

/// Connections that read.
const READERS: u32 = 4;

/// The database of one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    write: SqlitePool,
    read: SqlitePool,
}

/// A transaction on the writing connection; dropping it undoes it.
pub(crate) type Transaction = sqlx::Transaction<'static, sqlx::Sqlite>;

/// Why the store can't do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be made.
    #[error("can't open `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else holds the file for longer than this waits.
    #[error("`store.db` is locked by another process: {0}")]
    Busy(#[source] sqlx::Error),
    /// The file is no database any more, or a part of it is not what was written.
    #[error("`store.db` is damaged: {0}")]
    Damaged(#[source] sqlx::Error),
    /// The database failed or refused.
    #[error("the store failed: {0}")]
    Sql(#[source] sqlx::Error),
    /// A newer program has changed the schema.
    #[error("the store has schema version `{found}`, this program knows `{known}`")]
    Newer {
        /// The version in the store.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// The schema was made by other statements than this program's.
    #[error("schema version `{0}` of the store is not this program's")]
    Schema(i64),
    /// A column holds what was never written there.
    #[error("the store holds an unreadable `{0}`")]
    Unreadable(&'static str),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(told) => told.code().and_then(|code| code.parse::<u32>().ok()),
            _ => None,
        };
        // The low byte is the kind, the rest says more (`SQLITE_BUSY_SNAPSHOT`).
        match code.map(|code| code & 0xff) {
            Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy(error),
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Damaged(error),
            _ => Self::Sql(error),
        }
    }
}

impl Store {
    /// Opens the database in this file, readable by its owner alone, and brings its schema up to
    /// date.
    ///
    /// Journal in WAL mode with a sync at each commit: what was answered survives a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Newer`] if a newer program has used it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File {
            path: path.to_owned(),
            source,
        };
        // SQLite makes its journal files with the mode of this one.
        let create = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        create.map_err(file)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .synchronous(SqliteSynchronous::Full);
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async { Ok(is_whole(connection)) }))
            .connect_with(writing)
            .await?;
        migrations::run(&write).await?;
        let reading = options.read_only(true);
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(reading)
            .await?;
        Ok(Self { write, read })
    }

    /// Closes the database after what is under way; used for tests of restarts and at the end.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// Begins a transaction that will write. Only one is open at a time.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Raises a number that never falls, and returns whether it was at most `value` before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise(&self, name: &str, value: u64) -> Result<bool, StoreError> {
        let value = columns::to_i64(value, "number")?;
        let done = sqlx::query(
            "INSERT INTO high_water (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = ?2 WHERE high_water.value <= ?2",
        )
        .bind(name)
        .bind(value)
        .execute(&self.write)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Whether a connection is in no transaction any more. On a full or failing disk SQLite undoes a
/// transaction by itself (sqlite.org/lang_transaction.html, "Response To Errors Within A
/// Transaction"); the driver's own `ROLLBACK` fails then, and it would refuse every later `BEGIN`.
/// Such a connection is closed and made anew.
fn is_whole(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_commit_is_synced_and_readers_only_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let pragma =
            |sql: &'static str| sqlx::query_scalar::<_, String>(sql).fetch_one(&store.write);
        let journal = pragma("SELECT journal_mode FROM pragma_journal_mode")
            .await
            .unwrap();
        assert_eq!(journal, "wal");
        let full = pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous")
            .await
            .unwrap();
        assert_eq!(full, "2");
        let refused = sqlx::query("DELETE FROM sessions")
            .execute(&store.read)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("readonly"), "{refused}");
    }

    #[tokio::test]
    async fn a_transaction_that_the_database_undid_is_not_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        // The pages that there are, and no more: a full disk, for this connection.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&store.write)
            .await
            .unwrap();
        let mut transaction = store.begin().await.unwrap();
        let mut number = 0;
        let full = loop {
            let name = format!("{number}{}", "x".repeat(4096));
            let row = sqlx::query("INSERT INTO high_water (name, value) VALUES (?1, 0)")
                .bind(name)
                .execute(&mut *transaction)
                .await;
            match row {
                Ok(_) => number += 1,
                Err(error) => break error,
            }
        };
        assert!(full.to_string().contains("full"), "{full}");
        drop(transaction);
        let transaction = store.begin().await.unwrap();
        transaction.commit().await.unwrap();
        let kept = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM high_water WHERE value = 0")
            .fetch_one(&store.read)
            .await;
        assert_eq!(kept.unwrap(), 0, "what was undone is there");
        assert!(store.raise("after", 1).await.unwrap());
    }
}
