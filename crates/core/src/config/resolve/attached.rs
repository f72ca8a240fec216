//! Files that the configuration names and another engine reads: JSON Schemas and Rego modules. What
//! is wrong with them is said here, not when the first request needs them.

use super::Resolver;
use crate::config::Attached;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::json_schema::Schema;
use crate::config::parse;
use crate::config::parse::Given;
use crate::config::parse::listed;
use crate::vocabulary::Name;
use hashbrown::HashSet;

impl<'a> Resolver<'a> {
    /// A schema is one.
    pub(super) fn check_schema(&mut self, given: &Given<Attached>) {
        let Some(schema) = given.spanned() else {
            return;
        };
        if let Err(error) = Schema::compile(&schema.value.text) {
            let path = &schema.value.path;
            let message = format!("`{path}` is not a json schema");
            let it = Diagnostic::error(codes::BAD_SCHEMA, schema.span, message);
            let help = format!("correct `{path}`: {error}");
            self.report.push(it.label(error.to_string()).help(help));
        }
    }

    /// Policies say something, are asked by something, and are tested by something.
    pub(super) fn check_policies(&mut self) {
        let document = self.document;
        let rules = || {
            let services = document.services.values();
            services.flat_map(|service| service.operations.items())
        };
        let used: HashSet<&Name> = rules().filter_map(|rule| rule.policy.value()).collect();
        let tested = self.tested_policies();
        let clear = !document.services.trouble();
        for (name, policy) in document.policies.iter() {
            self.check_modules(policy);
            let own_tests = policy.modules.items().iter().any(has_tests);
            if !used.contains(name) && clear {
                let help = "name it in the `policy` of an operation, or remove it";
                let message = format!("no operation asks the policy `{name}`");
                self.warn(codes::UNUSED, policy.name, message, help);
            } else if !own_tests && !tested.contains(name) {
                let message = format!("nothing tests the policy `{name}`");
                let help = "add a sentence to `tests` whose call asks it, or rules that start with `test_`";
                self.warn(codes::UNTESTED_POLICY, policy.name, message, help);
            }
        }
        let drawn: HashSet<&Name> = rules().filter_map(|rule| rule.budget.value()).collect();
        for (name, budget) in document.budgets.iter() {
            if !drawn.contains(name) && clear {
                let help = "name it in the `budget` of an operation, or remove it";
                let message = format!("nothing draws on the budget `{name}`");
                self.warn(codes::UNUSED, budget.name, message, help);
            }
        }
    }

    /// The policies that the call of some sentence asks.
    fn tested_policies(&self) -> HashSet<&'a Name> {
        let document = self.document;
        let calls = document.tests.iter().filter_map(|test| test.call.value());
        let asked = calls.flat_map(|call| {
            let name = Name::new(&call.service.value).ok();
            let service = name.and_then(|name| document.services.get(&name));
            let fold = service.is_some_and(|it| it.fold_case.value() == Some(&true));
            let rules = service.map_or(&[][..], |it| it.operations.items());
            let asked = rules.iter().filter(move |rule| {
                rule.pattern.matches(&call.operation, fold)
                    && !rule
                        .except
                        .iter()
                        .any(|it| it.value.matches(&call.operation, fold))
            });
            asked.filter_map(|rule| rule.policy.value())
        });
        asked.collect()
    }

    fn check_modules(&mut self, policy: &parse::Policy) {
        let Some(modules) = policy.modules.spanned() else {
            return;
        };
        for module in &modules.value {
            let reason = match first_word(&module.text) {
                None => "is empty",
                Some("package") => continue,
                Some(_) => "does not start with its `package`",
            };
            let message = format!("`{}` is no rego module: it {reason}", module.path);
            let help = format!(
                "start `{}` with a line such as `package sandbox`",
                module.path
            );
            self.error(codes::BAD_MODULE, modules.span, message, help);
        }
    }

    /// Roles of which somebody approves: they exist, and people have them.
    pub(super) fn check_approvers(
        &mut self,
        given: &Given<Vec<parse::Spanned<Name>>>,
        by: Approvers,
    ) {
        let document = self.document;
        let roles = &document.roles;
        for role in given.items() {
            if !roles.knows(&role.value) {
                self.check_named(codes::UNKNOWN_ROLE, role, roles.keys(), ("role", "roles"));
                continue;
            }
            if roles.get(&role.value).is_none() || roles.trouble() {
                continue;
            }
            if !self.has_people(&role.value, by) {
                let message = format!(
                    "no person has the role `{}`, so nobody can approve",
                    role.value
                );
                let help = format!(
                    "add people to `{}`, such as `members: [group:managers]`, or name another role",
                    role.value
                );
                self.error(codes::NO_APPROVERS, role.span, message, help);
            }
        }
        if let Some(empty) = given.spanned().filter(|it| it.value.is_empty()) {
            let help = match listed(roles.keys().map(Name::as_str)).as_str() {
                "" => "name a role, or remove `approve`".to_owned(),
                names => format!("name one of {names}, or remove `approve`"),
            };
            self.error(
                codes::NO_APPROVERS,
                empty.span,
                "an empty list of approvers",
                help,
            );
        }
    }
}

impl Resolver<'_> {
    /// Whether some person has a role: as its member, or as one of a role that includes it.
    fn has_people(&self, role: &Name, by: Approvers) -> bool {
        let identities = &self.document.identities;
        let at_a_terminal = |name: &Name| {
            let attest = identities.get(name).and_then(|it| it.attest.value());
            by == Approvers::PeopleAndSystemUsers
                && attest.is_some_and(|attest| attest.unix.value().is_some())
        };
        let roles = &self.document.roles;
        let mut above: HashSet<&Name> = HashSet::new();
        above.insert(role);
        let mut next = vec![role];
        while let Some(name) = next.pop() {
            let members = roles.get(name).map_or(&[][..], |it| it.members.items());
            let person = |it: &parse::Spanned<parse::Member>| match &it.value {
                parse::Member::Identity(name) => at_a_terminal(name),
                parse::Member::Group { .. } | parse::Member::User { .. } => true,
            };
            if members.iter().any(person) {
                return true;
            }
            let including = roles.iter().filter(|(_, it)| {
                let mut includes = it.includes.items().iter();
                includes.any(|included| included.value == *name)
            });
            next.extend(including.map(|(it, _)| it).filter(|it| above.insert(it)));
        }
        false
    }
}

/// Who can approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approvers {
    /// People who sign in.
    People,
    /// Those, and who comes by the administration socket as a system user.
    PeopleAndSystemUsers,
}

/// The first word of a Rego module that is no comment.
fn first_word(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim_start);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    line.split_whitespace().next()
}

/// Whether a module has rules that `countersign policy test` runs.
fn has_tests(module: &Attached) -> bool {
    module.text.lines().any(|line| line.starts_with("test_"))
}
