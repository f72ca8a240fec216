use countersign_core::hop::Hop;
use countersign_core::pillars::encryption;
use countersign_core::pillars::micro_segmentation;
use countersign_core::snapshot::State;
use std::sync::Arc;

fn ask(hop: Hop, state: &State) -> bool {
    encryption::prove(Arc::new(hop), state).and_then(micro_segmentation::prove).is_ok()
}

fn main() {
    let _ = ask;
}
