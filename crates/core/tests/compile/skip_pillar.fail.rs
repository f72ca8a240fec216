use countersign_core::hop::Hop;
use countersign_core::pillars::encryption;
use countersign_core::pillars::micro_segmentation;
use countersign_core::snapshot::State;

fn ask(hop: Hop, state: &State) -> bool {
    encryption::prove(Box::new(hop), state).and_then(micro_segmentation::prove).is_ok()
}

fn main() {
    let _ = ask;
}
