//! Between columns and values.

use super::StoreError;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

pub(super) fn to_i64(value: u64, what: &'static str) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Unreadable(what))
}

pub(super) fn number(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| StoreError::Unreadable(column))
}

pub(super) fn text(row: &SqliteRow, column: &'static str) -> Result<String, StoreError> {
    Ok(row.try_get(column)?)
}

pub(super) fn bytes(row: &SqliteRow, column: &'static str) -> Result<Vec<u8>, StoreError> {
    Ok(row.try_get(column)?)
}

pub(super) fn digest(row: &SqliteRow, column: &'static str) -> Result<Digest, StoreError> {
    let text: String = row.try_get(column)?;
    Digest::from_hex(&text).map_err(|_| StoreError::Unreadable(column))
}

pub(super) fn moment(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

pub(super) fn maybe_moment(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<Timestamp>, StoreError> {
    let value: Option<i64> = row.try_get(column)?;
    Ok(value.map(Timestamp::from_micros))
}
