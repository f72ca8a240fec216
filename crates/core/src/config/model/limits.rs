//! Spending limits and policies by name.

use super::Attached;
use super::Place;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::Serialize;

/// A Rego policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Where it was written.
    pub place: Place,
    /// Its modules.
    pub modules: Vec<Attached>,
    /// What it reads as `data.config`.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// A spending limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Where it was written.
    pub place: Place,
    /// Micro-dollars per window.
    pub limit_microusd: u64,
    /// The window, aligned to the calendar in UTC.
    pub window: Window,
    /// Whose spending is added up.
    pub per: BudgetScope,
    /// Prices by model, `*` as a wildcard, first match wins; the public list prices by default.
    pub prices: IndexMap<String, Price>,
    /// The share of the limit at which to warn, percent.
    pub warn: Option<u8>,
}

/// Prices in micro-dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// For tokens sent.
    pub input: u64,
    /// For tokens received.
    pub output: u64,
}

/// The window of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// A clock hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
}

/// Whose spending a budget adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetScope {
    /// Everybody's together.
    All,
    /// Each subject's.
    Subject,
    /// Each team's.
    Team,
}
