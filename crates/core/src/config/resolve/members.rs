//! Roles, and who is meant: members of roles, readers of secrets, speakers of tests.

use super::Resolver;
use crate::config::Member;
use crate::config::Role;
use crate::config::Secret;
use crate::config::codes;
use crate::config::parse;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use hashbrown::HashMap;
use indexmap::IndexMap;

/// Roles include each other at most this deep.
const MAX_INCLUDES: usize = 32;

impl<'a> Resolver<'a> {
    pub(super) fn roles(&mut self) -> IndexMap<Name, Role> {
        let roles = &self.document.roles;
        for role in roles.values() {
            for included in role.includes.items() {
                self.check_role(included);
            }
            self.check_tier(role);
        }
        self.check_circles();
        let mut resolved = IndexMap::with_capacity(roles.len());
        for (name, role) in roles.iter() {
            self.check_twice(role.includes.items());
            self.check_twice(role.may.items());
            let role = Role {
                place: self.place(role.name),
                members: self.members(role.members.items()),
                includes: role
                    .includes
                    .items()
                    .iter()
                    .map(|it| it.value.clone())
                    .collect(),
                may: role.may.items().iter().map(|it| it.value.clone()).collect(),
                tier: role.tier.value().cloned(),
            };
            resolved.insert(name.clone(), role);
        }
        resolved
    }

    pub(super) fn check_role(&mut self, role: &Spanned<Name>) {
        let roles = &self.document.roles;
        if !roles.knows(&role.value) {
            let names = roles.keys().map(Name::as_str);
            let help = self.meant(role.value.as_str(), names, "remove it");
            let message = format!("no role is named `{}`", role.value);
            self.error(codes::UNKNOWN_ROLE, role.span, message, help);
        }
    }

    /// Walks the includes with a stack of its own; a role is visited once.
    fn check_circles(&mut self) {
        let mut depth: HashMap<&Name, Option<usize>> = HashMap::new();
        for start in self.document.roles.keys() {
            let mut stack: Vec<(&Name, usize)> = Vec::new();
            if !depth.contains_key(start) {
                depth.insert(start, None);
                stack.push((start, 0));
            }
            while let Some((name, next)) = stack.pop() {
                let includes = self
                    .document
                    .roles
                    .get(name)
                    .map_or(&[][..], |role| role.includes.items());
                let Some(included) = includes.get(next) else {
                    let below = includes
                        .iter()
                        .filter_map(|it| depth.get(&it.value).copied().flatten())
                        .max();
                    let own = below.map_or(0, |below| below + 1);
                    depth.insert(name, Some(own));
                    self.check_depth(name, own);
                    continue;
                };
                stack.push((name, next + 1));
                match depth.get(&included.value) {
                    Some(None) => self.circle(name, included),
                    None if self.document.roles.contains_key(&included.value) => {
                        depth.insert(&included.value, None);
                        stack.push((&included.value, 0));
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_depth(&mut self, name: &Name, depth: usize) {
        if depth == MAX_INCLUDES + 1 {
            let span = self
                .document
                .roles
                .get(name)
                .map_or(self.document.span, |role| role.name);
            let message = format!("roles include each other more than {MAX_INCLUDES} levels deep");
            self.error(
                codes::TOO_BIG,
                span,
                message,
                "include the lower roles directly",
            );
        }
    }

    fn circle(&mut self, name: &Name, included: &Spanned<Name>) {
        let message = format!(
            "`{name}` includes `{}`, which includes it again",
            included.value
        );
        self.error(
            codes::ROLE_CYCLE,
            included.span,
            message,
            "remove one of the `includes` of the circle",
        );
    }

    pub(super) fn secrets(&mut self) -> IndexMap<Name, Secret> {
        let mut resolved = IndexMap::with_capacity(self.document.secrets.len());
        let default = Permission::new("secret:read").ok();
        for (name, secret) in self.document.secrets.iter() {
            let readers = self.members(secret.readers.items());
            let needs = secret.needs.value().cloned().or_else(|| default.clone());
            if let (Some(from), Some(needs)) = (secret.from.value().cloned(), needs) {
                let place = self.place(secret.name);
                resolved.insert(
                    name.clone(),
                    Secret {
                        place,
                        from,
                        needs,
                        readers,
                        rotate: secret.rotate.value().copied(),
                    },
                );
            }
        }
        resolved
    }

    /// Members with their logins filled in; those that name nobody are reported and left out.
    fn members(&mut self, members: &'a [Spanned<parse::Member>]) -> Vec<Member> {
        let mut resolved: Vec<Member> = Vec::with_capacity(members.len());
        let mut seen = hashbrown::HashSet::new();
        for member in members {
            let Some(known) = self.member(&member.value, member.span) else {
                continue;
            };
            if seen.insert(known.clone()) {
                resolved.push(known);
            } else {
                self.warn(
                    codes::SAID_TWICE,
                    member.span,
                    "the list has this entry already",
                    "remove it",
                );
            }
        }
        resolved
    }

    pub(super) fn member(&mut self, member: &parse::Member, span: Span) -> Option<Member> {
        match member {
            parse::Member::Identity(name) => self.workload(name, span).map(Member::Identity),
            parse::Member::Group { login, name } => {
                let login = self.vouching(login.as_deref(), &format!("group:{name}"), span)?;
                Some(Member::Group {
                    login,
                    name: name.clone(),
                })
            }
            parse::Member::User { login, sub } => {
                let login = self.vouching(login.as_deref(), &format!("user:{sub}"), span)?;
                Some(Member::User {
                    login,
                    sub: sub.clone(),
                })
            }
        }
    }

    fn workload(&mut self, name: &Name, span: Span) -> Option<Name> {
        if self.document.identities.knows(name) {
            return Some(name.clone());
        }
        let names = self.document.identities.keys().map(Name::as_str);
        let otherwise =
            format!("add `{name}: {{}}` to `identities`, or write `group:{name}` for people");
        let help = self.meant(name.as_str(), names, &otherwise);
        self.error(
            codes::UNKNOWN_MEMBER,
            span,
            format!("no identity is named `{name}`"),
            help,
        );
        None
    }
}
