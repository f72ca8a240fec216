use crate::config::Window;
use crate::vocabulary::Name;
use serde::Deserialize;
use serde::Serialize;

/// A budget that must be drawn on before a hop is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// How much to set aside, in micro-dollars: an upper bound of what the call can cost.
    pub amount: u64,
    /// Which budget.
    pub budget: Name,
    /// Whose spending is added up; empty for everybody's together.
    pub key: String,
    /// The most that may be spent in a window, in micro-dollars.
    pub limit: u64,
    /// The window.
    pub window: Window,
}

/// What came of one demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was demanded.
    pub demand: Demand,
    /// Whether it was set aside.
    pub granted: bool,
    /// Micro-dollars spent or set aside in this window before.
    pub spent: u64,
}
