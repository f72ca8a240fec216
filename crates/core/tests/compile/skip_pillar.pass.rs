use countersign_core::decide::{Verdict, decide};
use countersign_core::hop::Hop;
use countersign_core::snapshot::State;

fn ask(hop: Hop, state: &State) -> bool {
    matches!(decide(hop, state), Verdict::Allow(_))
}

fn main() {
    let _ = ask;
}
