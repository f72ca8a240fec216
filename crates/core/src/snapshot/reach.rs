use super::Snapshot;
use super::VAULT;
use crate::config::Edge;
use crate::config::Needs;
use crate::config::Service;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Permission;
use std::collections::BTreeSet;
use std::collections::VecDeque;

impl Snapshot {
    /// The permissions that operations of `to` need, as far as edges lead there from `from`.
    #[must_use]
    pub fn needed(&self, from: &str, to: &str) -> BTreeSet<Permission> {
        self.edges(from, to)
            .flat_map(|(_, edge)| self.needed_over(edge))
            .collect()
    }

    /// The permissions needed anywhere that edges lead from a service, directly and onward: the
    /// most that a token for this service may hand on.
    #[must_use]
    pub fn reach(&self, service: &str) -> Option<&BTreeSet<Permission>> {
        let index = self.config().services.get_index_of(service)?;
        Some(self.reach.get(index)?.get_or_init(|| self.walk(service)))
    }

    fn walk(&self, service: &str) -> BTreeSet<Permission> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::from([service]);
        let mut ahead = VecDeque::from([service]);
        while let Some(next) = ahead.pop_front() {
            let Some(identity) = self.service(next).map(|service| &service.identity) else {
                continue;
            };
            for (to, edges) in self.reachable(identity.as_str()) {
                found.extend(edges.flat_map(|edge| self.needed_over(edge)));
                if seen.insert(to.as_str()) {
                    ahead.push_back(to.as_str());
                }
            }
        }
        found
    }

    fn needed_over<'a>(&'a self, edge: &'a Edge) -> Vec<Permission> {
        if edge.to.as_str() == VAULT {
            return self.secrets_over(edge);
        }
        let rules = self
            .service(edge.to.as_str())
            .map(|it: &Service| it.operations.iter());
        let touched = rules.into_iter().flatten().filter(|rule| {
            let within = |wanted: &OperationPattern| {
                rule.pattern.as_ref().is_none_or(|it| it.overlaps(wanted))
            };
            edge.operations.iter().any(within)
        });
        let needs = touched.filter_map(|rule| match &rule.needs {
            Needs::Permission(permission) => Some(permission.clone()),
            Needs::Edge => None,
        });
        needs.collect()
    }

    fn secrets_over(&self, edge: &Edge) -> Vec<Permission> {
        let names = |name: &Name| {
            let read = crate::vocabulary::Operation::named("read", name.as_str());
            edge.operations
                .iter()
                .any(|pattern| pattern.matches(&read, false))
        };
        let secrets = self.config().secrets.iter().filter(|(name, _)| names(name));
        let mut needed: Vec<_> = secrets.map(|(_, secret)| secret.needs.clone()).collect();
        if edge
            .operations
            .iter()
            .any(|pattern| pattern.verb() == "write")
        {
            needed.extend(Permission::new("secret:write"));
        }
        needed
    }
}
