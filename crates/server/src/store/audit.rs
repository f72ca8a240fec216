//! `zt_audit`: the search index over the log's entries.

use super::Store;
use super::StoreError;
use super::columns;
use super::migrations;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use sqlx::sqlite::SqliteRow;
use std::sync::LazyLock;

/// What the index says of one leaf. Columns that its record does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The leaf's index in the log.
    pub leaf_index: u64,
    /// The leaf's RFC 6962 hash.
    pub leaf_hash: Digest,
    /// Its short name.
    pub receipt: String,
    /// The node that wrote it.
    pub node: String,
    /// Its sequence there.
    pub seq: u64,
    /// `decision`, `completion` or `event`.
    pub kind: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What kind of thing happened.
    pub event_type: String,
    /// How it came out.
    pub status: String,
    /// Who.
    pub principal: String,
    /// For whom.
    pub on_behalf_of: String,
    /// The service.
    pub service: String,
    /// Of what.
    pub resource: String,
    /// What was asked.
    pub action: String,
    /// The refusal's code.
    pub code: String,
    /// The pillar that failed.
    pub pillar: String,
    /// Where it came from.
    pub source_ip: String,
}

/// What to look for. Every condition that is set must hold, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Only leaves behind this index, oldest first. Without it, the newest ones.
    pub after: Option<u64>,
    /// At most so many; 0 means 100, and never more than 1000.
    pub limit: u32,
    /// The node.
    pub node: Option<String>,
    /// `decision`, `completion` or `event`.
    pub kind: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// The status.
    pub status: Option<String>,
    /// The principal, or on whose behalf it acted.
    pub principal: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The code.
    pub code: Option<String>,
    /// The pillar.
    pub pillar: Option<String>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}

macro_rules! matching {
    ($order:literal, $code:literal) => {
        concat!(
            "SELECT * FROM zt_audit WHERE leaf_index > ?1
             AND (?3 IS NULL OR node = ?3) AND (?4 IS NULL OR kind = ?4)
             AND (?5 IS NULL OR event_type = ?5) AND (?6 IS NULL OR status = ?6)
             AND (?7 IS NULL OR principal = ?7 OR on_behalf_of = ?7)
             AND (?8 IS NULL OR service = ?8) AND ",
            $code,
            " AND (?10 IS NULL OR pillar = ?10) AND (?11 IS NULL OR timestamp >= ?11)
             AND (?12 IS NULL OR timestamp < ?12) ORDER BY leaf_index ",
            $order,
            " LIMIT ?2"
        )
    };
}

impl Store {
    /// Appends rows, which must follow the last one.
    pub(crate) async fn append_index(&self, rows: &[IndexRow]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let mut rest = rows;
        for (at_once, sql) in &*INSERTS {
            while let Some((some, others)) = rest.split_at_checked(*at_once) {
                insert(sql, some)?.execute(&mut *transaction).await?;
                rest = others;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// How many leaves are indexed. Asked behind whatever is still being written.
    pub(crate) async fn indexed(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(leaf_index) + 1, 0) AS size FROM zt_audit")
            .fetch_one(&self.write)
            .await?;
        columns::number(&row, "size")
    }

    /// Up to `limit` rows from this leaf on, in order, whether or not there are gaps.
    pub(crate) async fn index_from(
        &self,
        leaf: u64,
        limit: u32,
    ) -> Result<Vec<IndexRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM zt_audit WHERE leaf_index >= ?1 ORDER BY leaf_index LIMIT ?2",
        )
        .bind(columns::to_i64(leaf, "leaf_index")?)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Makes the index anew and empty. The triggers come back with the table.
    pub(crate) async fn reset_index(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::raw_sql("DROP TABLE zt_audit")
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(migrations::AUDIT_INDEX)
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(migrations::AUDIT_APPEND_ONLY)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// The rows that match, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search(&self, search: &Search) -> Result<Vec<IndexRow>, StoreError> {
        let limit = if search.limit == 0 {
            100
        } else {
            search.limit.min(1000)
        };
        let moment = |moment: Option<Timestamp>| moment.map(Timestamp::as_micros);
        let after = search
            .after
            .map(|after| columns::to_i64(after, "leaf_index"))
            .transpose()?;
        let sql = match (after.is_some(), search.code.is_some()) {
            (true, false) => matching!("ASC", "(?9 IS NULL OR code = ?9)"),
            (false, false) => matching!("DESC", "(?9 IS NULL OR code = ?9)"),
            // As its index is made: of what was refused alone.
            (true, true) => matching!("ASC", "code = ?9 AND code <> ''"),
            (false, true) => matching!("DESC", "code = ?9 AND code <> ''"),
        };
        let rows = sqlx::query(sql)
            .bind(after.unwrap_or(-1))
            .bind(limit)
            .bind(search.node.as_deref())
            .bind(search.kind.as_deref())
            .bind(search.event_type.as_deref())
            .bind(search.status.as_deref())
            .bind(search.principal.as_deref())
            .bind(search.service.as_deref())
            .bind(search.code.as_deref())
            .bind(search.pillar.as_deref())
            .bind(moment(search.since))
            .bind(moment(search.until))
            .fetch_all(&self.read)
            .await?;
        let mut found: Vec<IndexRow> = rows.iter().map(read).collect::<Result<_, _>>()?;
        found.sort_by_key(|row| row.leaf_index);
        Ok(found)
    }
}

type Query<'a> = sqlx::query::Query<'a, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Statements for so many rows at once, most first: the driver hands each statement to a thread of
/// its own and back, which takes longer than a row.
static INSERTS: LazyLock<[(usize, String); 4]> =
    LazyLock::new(|| [64, 16, 4, 1].map(|rows| (rows, insert_sql(rows))));

/// A placeholder for each column of a row.
const PLACES: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

fn insert_sql(rows: usize) -> String {
    format!(
        "INSERT INTO zt_audit (leaf_index, leaf_hash, receipt, node, seq, kind, timestamp,
           event_type, status, principal, on_behalf_of, service, resource, action, code, pillar,
           source_ip)
         VALUES {}",
        vec![PLACES; rows].join(", ")
    )
}

fn insert<'a>(sql: &'static str, rows: &'a [IndexRow]) -> Result<Query<'a>, StoreError> {
    rows.iter().try_fold(sqlx::query(sql), |query, row| {
        Ok(query
            .bind(columns::to_i64(row.leaf_index, "leaf_index")?)
            .bind(row.leaf_hash.to_string())
            .bind(&row.receipt)
            .bind(&row.node)
            .bind(columns::to_i64(row.seq, "seq")?)
            .bind(&row.kind)
            .bind(row.timestamp.as_micros())
            .bind(&row.event_type)
            .bind(&row.status)
            .bind(&row.principal)
            .bind(&row.on_behalf_of)
            .bind(&row.service)
            .bind(&row.resource)
            .bind(&row.action)
            .bind(&row.code)
            .bind(&row.pillar)
            .bind(&row.source_ip))
    })
}

fn read(row: &SqliteRow) -> Result<IndexRow, StoreError> {
    Ok(IndexRow {
        leaf_index: columns::number(row, "leaf_index")?,
        leaf_hash: columns::digest(row, "leaf_hash")?,
        receipt: columns::text(row, "receipt")?,
        node: columns::text(row, "node")?,
        seq: columns::number(row, "seq")?,
        kind: columns::text(row, "kind")?,
        timestamp: columns::moment(row, "timestamp")?,
        event_type: columns::text(row, "event_type")?,
        status: columns::text(row, "status")?,
        principal: columns::text(row, "principal")?,
        on_behalf_of: columns::text(row, "on_behalf_of")?,
        service: columns::text(row, "service")?,
        resource: columns::text(row, "resource")?,
        action: columns::text(row, "action")?,
        code: columns::text(row, "code")?,
        pillar: columns::text(row, "pillar")?,
        source_ip: columns::text(row, "source_ip")?,
    })
}
