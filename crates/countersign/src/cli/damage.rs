//! Starts that fail because of what is on the disk: where it is, and what helps.

use super::ui::Ui;
use crate::operate::Failure;
use crate::operate::with_causes;
use countersign_core::vocabulary::Name;
use countersign_gateway::ApartError;
use countersign_gateway::GatewayError;
use countersign_ledger::spool::SetAside;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::storage::StorageError;
use countersign_server::Restored;
use countersign_server::ServerError;
use countersign_server::audit::AuditError;
use countersign_server::keys::KeyError;
use countersign_server::snapshots::SnapshotError;
use countersign_server::store::StoreError;
use countersign_wire::control::ControlError;
use std::path::Path;

const IN_USE: &str =
    "stop the other process, or give this one a folder of its own with `--data DIR`";
const SPOOL: &str = "bring the file back from a backup if it was damaged there alone; to go on \
                     without what can't be read, start once with `--set-aside-damaged`: nothing is \
                     deleted, and the record says what was set aside";
const SPACE: &str = "make space on the disk of the data folder, and start again";
const STORE: &str = "bring the whole data folder back from one backup: `store.db` alone would \
                     forget what was revoked since";
const BUSY: &str = "another process holds `store.db`: let it end (a backup, a shell of sqlite3)";
const KEYS: &str = "bring `keys/` back from a backup: what it sealed can't be made anew";
const LOG: &str = "bring the whole data folder back from one backup; gateways refuse a log that \
                   has less than they have witnessed";
const JOIN: &str = "join anew, in an empty folder and under a new name: have a token made where \
                    the server is with `countersign gateway token --name NAME`";
const SNAPSHOT: &str = "remove `snapshot.json` from this gateway's folder: it is fetched from the \
                        server again, which says what is in force";

/// Says what was set aside, or that there was nothing to.
pub(crate) fn told(done: Option<&SetAside>, data: &Path, ui: &mut Ui<'_>) {
    let Some(done) = done else {
        ui.note("`--set-aside-damaged`: nothing in the spool is damaged");
        return;
    };
    let folder = done.files.first().map(|file| Path::new(&file.path));
    let folder = folder.and_then(Path::parent).unwrap_or(Path::new(""));
    let what = if done.forked {
        "is not what the log has"
    } else {
        "could not be read"
    };
    ui.warn(&format!(
        "{} of {} {what} from byte {} on (record {}): {} files are in `{}` now, {} records that \
         are in no other place were among them; the record says so",
        done.segment,
        done.node,
        done.offset,
        done.broken,
        done.files.len(),
        data.join(folder).display(),
        done.lost()
    ));
}

/// Says what a restore has for consequences.
pub(crate) fn told_restored(restored: &Restored, ui: &mut Ui<'_>) {
    let names: Vec<_> = restored.gateways.iter().map(Name::as_str).collect();
    let gateways = match names.as_slice() {
        [] => "no gateway was known".to_owned(),
        names => format!(
            "{} have to join anew, in empty folders and under other names",
            names.join(", ")
        ),
    };
    ui.warn(&format!(
        "recorded as restored: the log goes on from {} leaves (root {}), epoch {}; {gateways}; what \
         was revoked after the backup was taken has to be revoked again",
        restored.size,
        restored.root.short(),
        restored.epoch
    ));
}

/// Why a server does not start.
pub(crate) fn of_server(error: &ServerError) -> Failure {
    let failure = Failure::failed(with_causes(error));
    match help_of_server(error) {
        Some(help) => failure.with_help(help),
        None => failure,
    }
}

fn help_of_server(error: &ServerError) -> Option<&'static str> {
    match error {
        ServerError::InUse(_) => Some(IN_USE),
        ServerError::Spool(error) | ServerError::Audit(AuditError::Spool(error)) => of_spool(error),
        ServerError::Audit(AuditError::Regressed { .. }) => Some(SPOOL),
        ServerError::Audit(AuditError::Log(_)) => Some(LOG),
        ServerError::Store(error)
        | ServerError::Audit(AuditError::Store(error))
        | ServerError::Key(KeyError::Store(error))
        | ServerError::Snapshot(SnapshotError::Store(error)) => of_store(error),
        ServerError::Revocations(_) => Some(STORE),
        ServerError::Key(_) | ServerError::Seal(_) | ServerError::Ca(_) => Some(KEYS),
        _ => None,
    }
}

/// Why a gateway does not start.
pub(crate) fn of_gateway(error: &ApartError) -> Failure {
    let failure = Failure::failed(with_causes(error));
    let help = match error {
        ApartError::InUse(_) => Some(IN_USE),
        ApartError::Spool(error) => of_spool(error),
        ApartError::Policy(_) => Some(SNAPSHOT),
        // It was revoked, or the server was restored.
        ApartError::Gateway(GatewayError::Publish(ControlError::Refused { .. })) => Some(JOIN),
        ApartError::Memory(error) if error.is_of_the_policy() => Some(SNAPSHOT),
        ApartError::Kept
        | ApartError::Ended
        | ApartError::Credential(_)
        | ApartError::Memory(_) => Some(JOIN),
        _ => None,
    };
    match help {
        Some(help) => failure.with_help(help),
        None => failure,
    }
}

const fn of_store(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Busy(_) => Some(BUSY),
        StoreError::Damaged(_) | StoreError::Schema(_) | StoreError::Unreadable(_) => Some(STORE),
        _ => None,
    }
}

fn of_spool(error: &SpoolError) -> Option<&'static str> {
    match error {
        SpoolError::Corrupt { .. } => Some(SPOOL),
        SpoolError::Full => Some(SPACE),
        SpoolError::Storage(StorageError::Locked { .. }) => Some(IN_USE),
        _ => None,
    }
}
