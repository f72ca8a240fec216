use countersign_core::pillars::audit::Sealed;
use countersign_core::pillars::least_privilege::{Pending, Reservation};
use countersign_core::record::Context;

fn seal(pending: Pending, _: Reservation, context: &Context<'_>) -> Option<Sealed> {
    Some(pending.seal(context))
}

fn main() {
    let _ = seal;
}
