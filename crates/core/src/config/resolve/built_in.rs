//! The services that are countersign itself. Their operations obey the same rules as any other's;
//! what each needs is the micro-segmentation pillar's to enforce and listed here for the checker.

use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::Place;
use crate::config::Service;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Permission;

pub(super) const VAULT: &str = "vault";
/// Names that no entry of `services` may have.
pub(super) const RESERVED: [&str; 4] = [VAULT, "issuer", "audit", "console"];

/// Names that, beside those, no listener and no identity may have: our own doors, and the operator
/// that development adds by itself.
pub(super) const OWN: [&str; 4] = ["control", "admin", "join", "operator"];

/// Operations with what they need (nothing: the edge) and what is carved out of them.
const OPERATIONS: [(&str, &str, &str, &str); 12] = [
    ("issuer", "token", "", ""),
    ("issuer", "revoke own", "", ""),
    ("issuer", "revoke *", "identity:revoke", "revoke own"),
    ("issuer", "revoke lift/*", "identity:revoke", ""),
    ("issuer", "introspect", "token:introspect", ""),
    ("issuer", "issue *", "identity:issue", ""),
    ("issuer", "issue gateway/*", "gateway:issue", ""),
    ("audit", "read explain", "decision:explain", ""),
    ("audit", "read *", "audit:read", "read explain"),
    ("audit", "read", "audit:read", ""),
    ("console", "admin *", "config:admin", ""),
    ("console", "admin", "config:admin", ""),
];

/// All built-in services. The vault's operations come from the secrets: `read` where somebody may
/// read, `write` for each.
pub(super) fn services<'s>(
    secrets: impl Iterator<Item = (&'s Name, Place, Option<Permission>)>,
) -> Vec<(Name, Service)> {
    let mut vault = Vec::new();
    for (name, place, reading) in secrets {
        let read = reading.map(Needs::Permission);
        let write = Permission::new("secret:write").ok().map(Needs::Permission);
        vault.extend(read.and_then(|needs| rule(&format!("read {name}"), needs, "", place)));
        vault.extend(write.and_then(|needs| rule(&format!("write {name}"), needs, "", place)));
    }
    let build = |name: &str| {
        let operations = if name == VAULT {
            vault.clone()
        } else {
            fixed(name)
        };
        Some((
            Name::new(name).ok()?,
            service(Name::new(name).ok()?, operations),
        ))
    };
    RESERVED.into_iter().filter_map(build).collect()
}

/// The permissions that built-in services ask for by themselves.
pub(super) fn permissions() -> impl Iterator<Item = &'static str> {
    let fixed = OPERATIONS
        .iter()
        .map(|(_, _, needs, _)| *needs)
        .filter(|needs| !needs.is_empty());
    fixed.chain(["secret:read", "secret:write"])
}

fn fixed(service: &str) -> Vec<OperationRule> {
    let mine = OPERATIONS.iter().filter(|(owner, ..)| *owner == service);
    mine.filter_map(|(_, pattern, needs, except)| {
        let needs = Permission::new(needs).map_or(Needs::Edge, Needs::Permission);
        rule(pattern, needs, except, Place::default())
    })
    .collect()
}

fn service(identity: Name, operations: Vec<OperationRule>) -> Service {
    Service::built_in(identity, operations)
}

fn rule(pattern: &str, needs: Needs, except: &str, place: Place) -> Option<OperationRule> {
    let pattern = OperationPattern::parse(pattern).ok()?;
    Some(OperationRule {
        except: OperationPattern::parse(except).ok().into_iter().collect(),
        ..OperationRule::plain(place, Some(pattern), needs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_well_formed() {
        let secret = Name::new("mailer").unwrap();
        let read = Permission::new("mail:key:read").unwrap();
        let all = services([(&secret, Place::default(), Some(read))].into_iter());
        let count: usize = all
            .iter()
            .map(|(_, service)| service.operations.len())
            .sum();
        assert_eq!(all.len(), RESERVED.len());
        assert_eq!(count, OPERATIONS.len() + 2);
        let needy = all.iter().flat_map(|(_, service)| &service.operations);
        assert_eq!(needy.filter(|rule| rule.needs == Needs::Edge).count(), 2);
    }
}
