use countersign_core::pillars::audit::{Admission, Sealed};
use countersign_ledger::spool::Promise;

fn admit(sealed: Sealed, promise: Promise) -> Option<Admission> {
    Some(Admission { proof: sealed.proof, promise })
}

fn main() {
    let _ = admit;
}
