//! The role × operation matrix: which role gives what each operation needs.

use super::hold::permissions;
use crate::config::Config;
use crate::config::Needs;
use crate::config::Place;
use crate::config::ServiceUrl;
use crate::vocabulary::Name;
use hashbrown::HashSet;
use serde::Serialize;

/// Roles by operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// The roles, in the order of the file.
    pub roles: Vec<Name>,
    /// The operations of configured services, in the order of the file.
    pub rows: Vec<GridRow>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GridRow {
    /// For each role, whether it gives what is needed.
    pub cells: Vec<Cell>,
    /// What is needed; nothing if the edge suffices.
    pub needs: Option<String>,
    /// The operation as a pattern; `**` for all of a service.
    pub operation: String,
    /// Where it is written.
    pub place: Place,
    /// The service.
    pub service: Name,
}

/// Whether a role gives what an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// It does.
    Gives,
    /// It does not.
    Lacks,
    /// Nothing is needed beside the edge.
    Edge,
}

/// The matrix of a configuration.
#[must_use]
pub fn grid(config: &Config) -> Grid {
    let given: Vec<HashSet<&str>> = config
        .roles
        .keys()
        .map(|name| permissions(config, name).into_iter().collect())
        .collect();
    let mut rows = Vec::new();
    for (service, it) in &config.services {
        if matches!(it.url(), Some(ServiceUrl::BuiltIn)) {
            continue;
        }
        for rule in &it.operations {
            let needs = match &rule.needs {
                Needs::Permission(permission) => Some(permission.as_str()),
                Needs::Edge => None,
            };
            let cell = |held: &HashSet<&str>| match needs {
                None => Cell::Edge,
                Some(needs) if held.contains(needs) => Cell::Gives,
                Some(_) => Cell::Lacks,
            };
            rows.push(GridRow {
                cells: given.iter().map(cell).collect(),
                needs: needs.map(str::to_owned),
                operation: rule
                    .pattern
                    .as_ref()
                    .map_or_else(|| "**".to_owned(), ToString::to_string),
                place: rule.place,
                service: service.clone(),
            });
        }
    }
    Grid {
        roles: config.roles.keys().cloned().collect(),
        rows,
    }
}
