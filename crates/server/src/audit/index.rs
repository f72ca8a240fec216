//! Keeping `zt_audit` level with the log, and comparing the two.

use super::AuditError;
use super::Difference;
use super::entries::Entries;
use super::fresh::Fresh;
use super::rows;
use crate::store::IndexRow;
use crate::store::Store;
use crate::store::StoreError;
use std::sync::Arc;

/// Rows per transaction.
const ROWS: u64 = 4096;

/// Rows per comparison.
const BATCH: u64 = 256;

/// Adds the rows of the leaves that have none yet, up to `size`.
pub(super) async fn catch_up(
    store: &Store,
    mut entries: Entries,
    fresh: &Arc<Fresh>,
    size: u64,
) -> Result<(), AuditError> {
    let mut next = store.indexed().await?;
    if next > size {
        return Err(Difference::Extra { leaf: size }.into());
    }
    while next < size {
        let end = size.min(next + ROWS);
        let fresh = fresh.clone();
        let (returned, batch) = super::blocking(move || {
            fresh.forget_before(next);
            let rows = (next..end).map(|index| match fresh.take(index) {
                Some(row) => Ok(row),
                None => Ok(rows::row(index, entries.at(index)?)),
            });
            let rows = rows.collect::<Result<Vec<IndexRow>, AuditError>>()?;
            Ok((entries, rows))
        })
        .await?;
        store.append_index(&batch).await?;
        (entries, next) = (returned, end);
    }
    Ok(())
}

/// Compares every row with its leaf, of the first `size`, and looks for rows without a leaf.
pub(super) async fn compare(
    store: &Store,
    mut entries: Entries,
    size: u64,
) -> Result<(), AuditError> {
    let mut next = 0;
    while next < size {
        let end = size.min(next + BATCH);
        let stored = stored(store, next, end).await?;
        entries = super::blocking(move || {
            let mut stored = stored.into_iter();
            for leaf in next..end {
                let row = rows::row(leaf, entries.at(leaf)?);
                let found = stored.next().filter(|found| found.leaf_index == leaf);
                let receipt = row.receipt.clone();
                let found = found.ok_or(Difference::Missing { leaf, receipt })?;
                if let Some(column) = rows::differs(&found, &row) {
                    let receipt = row.receipt;
                    return Err(Difference::Column {
                        leaf,
                        receipt,
                        column,
                    }
                    .into());
                }
            }
            Ok(entries)
        })
        .await?;
        next = end;
    }
    match store.index_from(size, 1).await?.first() {
        Some(extra) => Err(Difference::Extra {
            leaf: extra.leaf_index,
        }
        .into()),
        None => Ok(()),
    }
}

/// The rows of these leaves. A value that no row of ours can have is named like any other.
async fn stored(store: &Store, from: u64, end: u64) -> Result<Vec<IndexRow>, AuditError> {
    let limit = u32::try_from(end - from).unwrap_or(u32::MAX);
    match store.index_from(from, limit).await {
        Err(StoreError::Unreadable(_) | StoreError::Sql(_) | StoreError::Damaged(_)) => {}
        rows => return Ok(rows?),
    }
    for leaf in from..end {
        if let Err(StoreError::Unreadable(column)) = store.index_from(leaf, 1).await {
            return Err(Difference::Unreadable { leaf, column }.into());
        }
    }
    Ok(store.index_from(from, limit).await?)
}
