//! What the ledger's disk has left, and what was done where it was damaged.

use crate::point::EnforcementPoint;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::Room;
use countersign_ledger::spool::SetAside;
use countersign_ledger::spool::SpoolError;
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// A record names so many files at most; the folder they are in has them all.
const FILES: usize = 64;

impl EnforcementPoint {
    /// Looks at what the ledger can still take, and warns once when that becomes little: in the
    /// log of the process and in the record, while there is room for that. Meant to be called each
    /// second. While only the reserve is left, refusals of strangers are counted and not kept.
    pub fn look_at_room(&self) {
        let room = match self.spool().room() {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!(%error, "the ledger's disk does not say what it has left");
                return;
            }
        };
        let inner = &self.inner;
        inner
            .reserve_only
            .store(room.is_reserve_only(), Ordering::Relaxed);
        let low = room.is_low();
        if inner.low.swap(low, Ordering::Relaxed) == low {
            return;
        }
        let left = room.left;
        if low {
            tracing::warn!(
                left,
                "the ledger has little room left: make space on its disk"
            );
        } else {
            tracing::info!(left, "the ledger has room again");
        }
        let (spool, record) = (inner.spool.clone(), room_record(room, self.now()));
        inner.later(async move {
            if let Err(error) = spool.append_reserved(record).await {
                tracing::error!(%error, "that the ledger has little room left was not recorded");
            }
        });
    }

    /// How much more the ledger can take.
    ///
    /// # Errors
    /// [`SpoolError`] if its disk does not say.
    pub fn room(&self) -> Result<Room, SpoolError> {
        self.spool().room()
    }

    /// Why nothing is admitted although the ledger takes records; nothing if it is.
    #[must_use]
    pub fn distrusted(&self) -> Option<String> {
        let why = self.inner.unsound.load();
        why.as_ref().map(|why| String::clone(why))
    }
}

fn room_record(room: Room, at: Timestamp) -> Vec<u8> {
    let event = if room.is_low() {
        "ledger.room.low"
    } else {
        "ledger.room.enough"
    };
    let mut record = Record::event(event, at, "system", ledger("spool"));
    for (name, bytes) in [
        ("left", room.left),
        ("reserve", room.reserve),
        ("warn", room.warn),
    ] {
        let bytes = Cow::Owned(bytes.to_string());
        record.metadata.insert(Cow::Borrowed(name), bytes);
    }
    record.to_bytes()
}

/// The record of damaged files of a spool having been set aside, by whom.
#[must_use]
pub fn damage_record<'a>(done: &SetAside, at: Timestamp, actor: &'a str) -> Record<'a> {
    let mut record = Record::event("ledger.damage.alarm", at, actor, ledger("spool"));
    let files: Vec<_> = done
        .files
        .iter()
        .take(FILES)
        .map(|file| {
            format!(
                "{} {} bytes sha256:{}",
                file.path,
                file.bytes,
                Digest::new(file.sha256)
            )
        })
        .collect();
    for (name, value) in [
        ("broken", done.broken.to_string()),
        ("files", files.join("\n")),
        ("forked", done.forked.to_string()),
        ("lost", done.lost().to_string()),
        ("offset", done.offset.to_string()),
        ("resumed", done.resumed.to_string()),
        ("saved", done.saved.to_string()),
        ("segment", done.segment.clone()),
        ("written", done.written.to_string()),
    ] {
        record
            .metadata
            .insert(Cow::Borrowed(name), Cow::Owned(value));
    }
    record
}

fn ledger(id: &'static str) -> Resource<'static> {
    Resource {
        id: Cow::Borrowed(id),
        service: Cow::Borrowed("audit"),
    }
}
