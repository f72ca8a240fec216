//! What roles grant against what operations need, and what nothing uses.

use super::Resolver;
use super::built_in;
use crate::config::Needs;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::config::suggest::closest;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use hashbrown::HashMap;
use hashbrown::HashSet;

/// What is needed where, except by built-in services.
struct Need<'a> {
    service: &'a Name,
    permission: &'a Spanned<Needs>,
    person: bool,
    /// Absent for a service-wide `needs`.
    rule: Option<&'a parse::OperationRule>,
}

impl<'a> Resolver<'a> {
    pub(super) fn check_permissions(&mut self) {
        let needs = self.needs();
        self.check_granted(&needs);
        self.check_needed(&needs);
        self.check_empty_roles();
        self.check_secret_uses();
        self.check_deputies(&needs);
    }

    fn needs(&self) -> Vec<Need<'a>> {
        let mut all = Vec::new();
        for (service, entry) in self.document.services.iter() {
            let whole = entry.needs.spanned();
            all.extend(whole.map(|permission| Need {
                service,
                permission,
                person: false,
                rule: None,
            }));
            for rule in entry.operations.items() {
                let permission = rule.needs.spanned();
                all.extend(permission.map(|permission| Need {
                    service,
                    permission,
                    person: rule.person,
                    rule: Some(rule),
                }));
            }
        }
        all
    }

    fn granted(&self) -> impl Iterator<Item = &'a Spanned<Permission>> + use<'a> {
        self.document
            .roles
            .values()
            .flat_map(|role| role.may.items())
    }

    fn check_granted(&mut self, needs: &[Need<'a>]) {
        if self.document.roles.trouble() {
            return;
        }
        let granted: HashSet<&Permission> = self.granted().map(|it| &it.value).collect();
        for need in needs {
            let Needs::Permission(permission) = &need.permission.value else {
                continue;
            };
            if granted.contains(permission) {
                continue;
            }
            let message = format!("no role grants `{permission}`, so nobody can make this call");
            let names = granted.iter().map(|it| it.as_str());
            let close = self
                .report
                .may_suggest()
                .then(|| closest(permission.as_str(), names))
                .flatten();
            let help = match close {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("add it to the `may` of a role: `may: [\"{permission}\"]`"),
            };
            let it = Diagnostic::error(codes::NEVER_GRANTED, need.permission.span, message);
            self.report.push(it.label("never granted").help(help));
        }
    }

    fn check_needed(&mut self, needs: &[Need<'a>]) {
        let mut needed: HashSet<&str> = built_in::permissions().collect();
        needed.extend(
            needs
                .iter()
                .filter_map(|need| match &need.permission.value {
                    Needs::Permission(permission) => Some(permission.as_str()),
                    Needs::Edge => None,
                }),
        );
        let secrets = self
            .document
            .secrets
            .values()
            .filter_map(|secret| secret.needs.value());
        needed.extend(secrets.map(Permission::as_str));
        for granted in self
            .granted()
            .filter(|it| !needed.contains(it.value.as_str()))
        {
            let message = format!("nothing asks for `{}`", granted.value);
            let close = self
                .report
                .may_suggest()
                .then(|| closest(granted.value.as_str(), needed.iter().copied()))
                .flatten();
            let help = match close {
                Some(name) => format!("did you mean `{name}`?"),
                None => "remove it, or say `needs` on the operation it is for".to_owned(),
            };
            self.warn(codes::NEVER_NEEDED, granted.span, message, help);
        }
    }

    fn check_empty_roles(&mut self) {
        let roles = &self.document.roles;
        let included: HashSet<_> = roles
            .values()
            .flat_map(|role| role.includes.items())
            .map(|it| &it.value)
            .collect();
        for (name, role) in roles.iter() {
            let none = role.members.is_absent() || role.members.value().is_some_and(Vec::is_empty);
            if none && !included.contains(name) {
                let help = "add `members`, such as `members: [group:analysts]`, or remove the role";
                self.warn(
                    codes::EMPTY_ROLE,
                    role.name,
                    format!("nobody has the role `{name}`"),
                    help,
                );
            }
        }
    }

    /// Secrets that countersign itself uses.
    pub(super) fn injected(&self) -> HashSet<&'a Name> {
        let document = self.document;
        let services = document.services.values();
        let put_in = services.flat_map(|it| {
            let credential = it.credential.value().and_then(|it| it.secret.value());
            let key = it.certificate.value().and_then(|it| it.key.value());
            credential.into_iter().chain(key)
        });
        let doors = document.listeners.values();
        let signatures = doors.filter_map(|it| it.signature.value()?.secret.value());
        let logins = document.logins.values();
        let logins = logins.filter_map(|it| it.client_secret.value());
        put_in.chain(signatures).chain(logins).collect()
    }

    fn check_secret_uses(&mut self) {
        let injected = self.injected();
        for (name, secret) in self.document.secrets.iter() {
            let readable = !secret.readers.is_absent()
                && secret.readers.value().is_none_or(|it| !it.is_empty());
            match (injected.contains(name), readable) {
                (true, true) => {
                    let message = format!("`{name}` is injected and can be read as well");
                    let help = "remove `readers`, or use two secrets";
                    self.warn(codes::INJECTED_AND_READ, secret.name, message, help);
                }
                (false, false) => {
                    let help = "add `readers`, name it in a `credential`, or remove it";
                    self.warn(
                        codes::UNUSED_SECRET,
                        secret.name,
                        format!("nobody uses `{name}`"),
                        help,
                    );
                }
                _ => {}
            }
        }
    }

    /// A workload that could make by itself the calls it makes for people. Only one that is called
    /// itself can be: tokens of people are exchanged by the workload their `aud` names.
    fn check_deputies(&mut self, needs: &[Need<'a>]) {
        let held = self.held();
        let is_person = |member: &parse::Member| !matches!(member, parse::Member::Identity(_));
        let mut peoples: HashSet<&Permission> = HashSet::new();
        for (role, permissions) in &held {
            if role.members.items().iter().any(|it| is_person(&it.value)) {
                peoples.extend(permissions);
            }
        }
        let called = self.called();
        let mut own = self.own_reach(needs);
        own.retain(|name, _| called.contains(name));
        let mut said: HashSet<(&Name, &Permission)> = HashSet::new();
        for (role, permissions) in &held {
            for member in role.members.items() {
                let parse::Member::Identity(name) = &member.value else {
                    continue;
                };
                for permission in own.get(name).into_iter().flatten() {
                    if permissions.contains(permission)
                        && peoples.contains(permission)
                        && said.insert((name, *permission))
                    {
                        self.deputy(name, permission, member.span);
                    }
                }
            }
        }
    }

    fn deputy(&mut self, name: &Name, permission: &Permission, span: Span) {
        let message = format!(
            "`{name}` holds `{permission}` itself, so it could drop its user and go on alone"
        );
        let help =
            format!("take `{permission}` from its role, or say `subject: person` on the operation");
        self.warn(codes::DEPUTY, span, message, help);
    }

    /// The identities of services that edges lead to.
    fn called(&self) -> HashSet<&'a Name> {
        let services = &self.document.services;
        let identity = |name: &'a Name| {
            let service = services.get(name)?;
            Some(service.identity.value().unwrap_or(name))
        };
        let edges = self.document.edges.iter();
        edges.filter_map(|edge| identity(&edge.to.value)).collect()
    }

    /// Each role with its permissions, those of included roles too.
    fn held(&self) -> Vec<(&'a parse::Role, HashSet<&'a Permission>)> {
        let roles = &self.document.roles;
        let gather = |role: &'a parse::Role| {
            let mut seen: HashSet<&Name> = HashSet::new();
            let mut ahead = vec![role];
            let mut permissions = HashSet::new();
            while let Some(next) = ahead.pop() {
                permissions.extend(next.may.items().iter().map(|it| &it.value));
                let new = next
                    .includes
                    .items()
                    .iter()
                    .filter(|it| seen.insert(&it.value));
                ahead.extend(new.filter_map(|it| roles.get(&it.value)));
            }
            (role, permissions)
        };
        roles
            .values()
            .filter(|role| !role.members.items().is_empty())
            .map(gather)
            .collect()
    }

    /// What the operations that each workload has an edge to need, as far as others than people
    /// may make them.
    fn own_reach(&self, needs: &[Need<'a>]) -> HashMap<&'a Name, HashSet<&'a Permission>> {
        let mut by_service: HashMap<&Name, Vec<&Need<'a>>> = HashMap::new();
        for need in needs.iter().filter(|need| !need.person) {
            by_service.entry(need.service).or_default().push(need);
        }
        let mut reach: HashMap<&'a Name, HashSet<&'a Permission>> = HashMap::new();
        let holders: HashSet<&Name> = self
            .document
            .roles
            .values()
            .flat_map(|role| role.members.items())
            .filter_map(|it| match &it.value {
                parse::Member::Identity(name) => Some(name),
                _ => None,
            })
            .collect();
        for edge in self
            .document
            .edges
            .iter()
            .filter(|edge| holders.contains(&edge.from.value))
        {
            for need in by_service.get(&edge.to.value).into_iter().flatten() {
                let Needs::Permission(permission) = &need.permission.value else {
                    continue;
                };
                let allowed = edge.operations.items();
                if need
                    .rule
                    .is_none_or(|rule| allowed.iter().any(|it| rule.pattern.overlaps(&it.value)))
                {
                    reach
                        .entry(&edge.from.value)
                        .or_default()
                        .insert(permission);
                }
            }
        }
        reach
    }
}
