use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// One of the six things every hop proves, in the order in which they are proved.
///
/// The word of a pillar is the word in the refusal, the folder, the test and the docs page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pillar {
    /// TLS version, key exchange and cipher are good enough for the listener's peer kind.
    Encryption,
    /// The certificate chains to the trust domain; the token is ours, current and bound to it.
    Identity,
    /// All of that is still true now: nothing revoked, nothing stale.
    ContinuousVerification,
    /// An edge leads from the caller to this service and operation.
    MicroSegmentation,
    /// Scope, role, rules and limits agree.
    LeastPrivilege,
    /// The decision is durably in the ledger.
    Audit,
}

impl Pillar {
    /// All six, in order.
    pub const ALL: [Self; 6] = [
        Self::Encryption,
        Self::Identity,
        Self::ContinuousVerification,
        Self::MicroSegmentation,
        Self::LeastPrivilege,
        Self::Audit,
    ];

    /// The word used on the wire, in records and in documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Encryption => "encryption",
            Self::Identity => "identity",
            Self::ContinuousVerification => "continuous-verification",
            Self::MicroSegmentation => "micro-segmentation",
            Self::LeastPrivilege => "least-privilege",
            Self::Audit => "audit",
        }
    }

    /// The pillar with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pillar| pillar.word() == word)
    }
}

impl fmt::Display for Pillar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
