//! The schema's versions, in order. A version once released is never edited: its statements are
//! hashed, and a store made by others is refused.

use super::StoreError;
use aws_lc_rs::digest;
use sqlx::Row as _;
use sqlx::SqlitePool;

/// The statements of one version, common ones first, then those of this database's dialect.
struct Migration {
    version: i64,
    statements: &'static [&'static str],
}

/// The search index and its triggers, which a rebuild makes again.
pub(super) const AUDIT_INDEX: &str = include_str!("schema/audit_index_2.sqlite.sql");
pub(super) const AUDIT_APPEND_ONLY: &str = include_str!("schema/audit_append_only.sqlite.sql");

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        statements: &[
            include_str!("schema/0001_tables.sql"),
            include_str!("schema/0001_append_only.sqlite.sql"),
            include_str!("schema/audit_index.sql"),
            AUDIT_APPEND_ONLY,
        ],
    },
    Migration {
        version: 2,
        statements: &[include_str!("schema/0002_changes.sql")],
    },
    Migration {
        version: 3,
        statements: &[include_str!("schema/0003_gateways.sql")],
    },
    Migration {
        version: 4,
        statements: &[include_str!("schema/0004_lineage.sql")],
    },
    Migration {
        version: 5,
        statements: &[include_str!("schema/0005_governed.sql")],
    },
    // It is filled again from the log when that is opened.
    Migration {
        version: 6,
        statements: &["DROP TABLE zt_audit;", AUDIT_INDEX, AUDIT_APPEND_ONLY],
    },
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (
    version  BIGINT NOT NULL PRIMARY KEY,
    checksum TEXT   NOT NULL
)";

/// Applies what the store lacks, each version in one transaction.
pub(super) async fn run(pool: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query(VERSIONS).execute(pool).await?;
    let applied = sqlx::query("SELECT version, checksum FROM schema_versions ORDER BY version")
        .fetch_all(pool)
        .await?;
    let known = MIGRATIONS.last().map_or(0, |newest| newest.version);
    let mut newest = 0;
    for row in &applied {
        newest = row.try_get("version")?;
        let checksum: String = row.try_get("checksum")?;
        match MIGRATIONS
            .iter()
            .find(|migration| migration.version == newest)
        {
            Some(migration) if checksum == migration.checksum() => {}
            Some(_) => return Err(StoreError::Schema(newest)),
            None => {
                return Err(StoreError::Newer {
                    found: newest,
                    known,
                });
            }
        }
    }
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| migration.version > newest)
    {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        for statements in migration.statements {
            sqlx::raw_sql(*statements)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("INSERT INTO schema_versions (version, checksum) VALUES (?1, ?2)")
            .bind(migration.version)
            .bind(migration.checksum())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

impl Migration {
    fn checksum(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for statements in self.statements {
            hash.update(statements.as_bytes());
        }
        hex::encode(hash.finish())
    }
}
