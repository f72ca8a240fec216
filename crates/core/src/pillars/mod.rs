//! The six pillars, in the order in which a hop proves them.
//!
//! The order is cheapest and least revealing first: what an outsider can learn from a refusal
//! grows only with what they have proved. A check takes the proof of the pillar before it by value
//! and gives back its own or a denial.
//!
//! | order | folder | proof |
//! |---|---|---|
//! | 1 | `encryption` | [`encryption::EncryptionProof`] |
//! | 2 | `identity` | [`identity::IdentityProof`] |
//! | 3 | `continuous-verification` | [`continuous_verification::ContinuousProof`] |
//! | 4 | `micro-segmentation` | [`micro_segmentation::SegmentationProof`] |
//! | 5 | `least-privilege` | [`least_privilege::Pending`], then [`least_privilege::PrivilegeProof`] |
//! | 6 | `audit` | [`audit::Admission`] |

pub mod audit;
#[path = "continuous-verification/mod.rs"]
pub mod continuous_verification;
pub mod encryption;
pub mod identity;
#[path = "least-privilege/mod.rs"]
pub mod least_privilege;
#[path = "micro-segmentation/mod.rs"]
pub mod micro_segmentation;

mod denial;

pub use denial::Denial;

use crate::hop::Hop;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use std::sync::Arc;

/// What is passed from pillar to pillar: the hop and what it is decided on.
///
/// It has no public constructor, and no pillar lets go of it but to the next one.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) hop: Arc<Hop>,
    pub(crate) state: State,
}

impl Case {
    pub(crate) fn deny<T>(self, code: Code, reason: impl Into<String>) -> Result<T, Box<Denial>> {
        Err(Denial::new(self.hop, self.state, code, reason))
    }

    /// Refuses where the enforcement point found a fault of this pillar in the request itself.
    pub(crate) fn without_fault(self, pillar: Pillar) -> Result<Self, Box<Denial>> {
        match &self.hop.facts.fault {
            Some(fault) if fault.code.pillar() == pillar => {
                let (code, detail) = (fault.code, fault.detail.clone());
                self.deny(code, detail)
            }
            _ => Ok(self),
        }
    }
}
