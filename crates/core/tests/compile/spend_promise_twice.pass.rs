use countersign_core::pillars::audit::{Admission, Sealed};
use countersign_ledger::spool::Promise;

fn admit(one: Sealed, two: Sealed, first: Promise, second: Promise) -> [Option<Admission>; 2] {
    [one.admit(first).ok(), two.admit(second).ok()]
}

fn main() {
    let _ = admit;
}
