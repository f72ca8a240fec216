use super::least_privilege::Outcome;
use crate::hop::Hop;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;

/// A refusal: what was asked, which pillar failed and why.
#[derive(Debug)]
pub struct Denial {
    hop: Box<Hop>,
    state: State,
    code: Code,
    reason: String,
    outcomes: Vec<Outcome>,
}

impl Denial {
    pub(crate) fn new(
        hop: Box<Hop>,
        state: State,
        code: Code,
        reason: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            hop,
            state,
            code,
            reason: reason.into(),
            outcomes: Vec::new(),
        })
    }

    pub(crate) fn after(mut self: Box<Self>, outcomes: Vec<Outcome>) -> Box<Self> {
        self.outcomes = outcomes;
        self
    }

    /// What came of the reservations, if it got that far.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The code, which also says the pillar and the status.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The pillar that failed.
    #[must_use]
    pub const fn pillar(&self) -> Pillar {
        self.code.pillar()
    }

    /// Why, for those who may know.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What was asked.
    #[must_use]
    pub const fn hop(&self) -> &Hop {
        &self.hop
    }

    /// What it was decided on.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }
}
