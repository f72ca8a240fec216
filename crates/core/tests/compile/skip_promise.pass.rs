use countersign_core::pillars::audit::{Admission, Sealed};
use countersign_ledger::spool::Promise;

fn admit(sealed: Sealed, promise: Promise) -> Option<Admission> {
    sealed.admit(promise).ok()
}

fn main() {
    let _ = admit;
}
