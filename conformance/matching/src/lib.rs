//! The decision of `core`, and copies of it with one mistake each.
//!
//! The tests of this crate ask all of them, and a naive interpreter, the same questions. They agree
//! about the real one, and each copy is found out: so the questions would find that mistake.

use countersign_core::config::Config;
use countersign_core::hop::Hop;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use std::sync::Arc;

/// The root of every caller's certificate.
pub const ROOT: Digest = Digest::new([7; 32]);

/// A configuration made ready: it says why a hop is refused, or nothing if it is allowed.
pub type Decider = Box<dyn Fn(Hop) -> Option<Code>>;

/// A wrong copy of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// Makes a configuration ready.
    pub compile: fn(Config) -> Decider,
}

macro_rules! compile {
    ($visible:vis $core:ident) => {
        /// Makes a configuration ready for its decisions.
        $visible fn $core(config: Config) -> Decider {
            let bundle = $core::snapshot::Bundle {
                dev: true,
                roots: vec![ROOT],
                ..Default::default()
            };
            let state = $core::snapshot::State {
                revocations: Arc::default(),
                snapshot: Arc::new($core::snapshot::Snapshot::new(bundle, config)),
            };
            Box::new(move |hop| match $core::decide::decide(hop, &state) {
                $core::decide::Verdict::Deny(denial) => Some(denial.code()),
                $core::decide::Verdict::Allow(_) => None,
            })
        }
    };
}

/// The real one.
mod own {
    use super::Arc;
    use super::Config;
    use super::Decider;
    use super::ROOT;
    use countersign_core as real;

    compile!(pub real);
}

// The copies are nobody's source: neither clippy nor rustdoc has anything to say about them.
#[cfg(not(any(clippy, doc)))]
mod mutants {
    use super::Arc;
    use super::Config;
    use super::Decider;
    use super::Mutant;
    use super::ROOT;

    include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
}

pub use own::real;

#[cfg(not(any(clippy, doc)))]
pub use mutants::MUTANTS;

/// Nothing to look at.
#[cfg(any(clippy, doc))]
pub const MUTANTS: &[Mutant] = &[];
