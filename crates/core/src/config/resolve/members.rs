//! Who is meant: members of roles, readers of secrets, speakers of tests.

use super::Resolver;
use crate::config::Attest;
use crate::config::Identity;
use crate::config::IdentityKind;
use crate::config::Member;
use crate::config::PeerKind;
use crate::config::Pipeline;
use crate::config::Role;
use crate::config::Secret;
use crate::config::UnixProcess;
use crate::config::codes;
use crate::config::parse;
use crate::config::parse::Document;
use crate::config::parse::Given;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use hashbrown::HashMap;
use indexmap::IndexMap;
use std::collections::BTreeSet;

/// Roles include each other at most this deep.
const MAX_INCLUDES: usize = 32;

/// The logins of all doors.
#[derive(Debug)]
pub(super) struct Logins {
    names: BTreeSet<String>,
    /// Whether a login could not be read, so that nothing can be said about who exists.
    unclear: bool,
}

impl Logins {
    pub(super) fn of(document: &Document) -> Self {
        let given = || document.listeners.values().map(|listener| &listener.login);
        let names = given().filter_map(Given::value).map(ToString::to_string);
        let names = names.chain(document.other_logins.iter().cloned());
        // A login that is missing where it must be is reported there.
        let unclear = |listener: &parse::Listener| {
            listener.login.value().is_none()
                && (!listener.login.is_absent()
                    || listener.peer.value() != Some(&PeerKind::Service))
        };
        let unclear = document.listeners.trouble() || document.listeners.values().any(unclear);
        Self {
            names: names.collect(),
            unclear,
        }
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn identities(&self) -> IndexMap<Name, Identity> {
        let entry = |(name, it): (&Name, &parse::Identity)| (name.clone(), self.identity(it));
        self.document.identities.iter().map(entry).collect()
    }

    fn identity(&self, it: &parse::Identity) -> Identity {
        let partner = it.certificate.value().and_then(|it| {
            Some(IdentityKind::Partner {
                ca: it.ca.value()?.clone(),
                dns: it.dns.value()?.clone(),
            })
        });
        let agent = it.owner.value().cloned();
        let kind = match it.kind.value() {
            Some(parse::Kind::AiAgent) => agent.map(|owner| IdentityKind::AiAgent { owner }),
            Some(parse::Kind::Partner) => partner,
            _ => None,
        };
        let attest = it.attest.value();
        let unix = attest
            .and_then(|attest| attest.unix.value())
            .and_then(|unix| {
                Some(UnixProcess {
                    user: unix.user.value()?.clone(),
                    nodes: unix
                        .nodes
                        .items()
                        .iter()
                        .map(|it| it.value.clone())
                        .collect(),
                    sha256: unix.sha256.value().copied(),
                })
            });
        let pipeline = it.login.value().map(|login| Pipeline {
            login: login.clone(),
            claims: it.claims.value().cloned().unwrap_or_default(),
        });
        Identity {
            place: self.place(it.name),
            kind: kind.unwrap_or_default(),
            attest: Attest {
                k8s: attest.and_then(|attest| attest.k8s.value()).cloned(),
                unix,
            },
            pipeline,
            team: it.team.value().cloned(),
            fronts: it
                .fronts
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect(),
        }
    }

    pub(super) fn roles(&mut self) -> IndexMap<Name, Role> {
        let roles = &self.document.roles;
        for role in roles.values() {
            for included in role.includes.items() {
                if !roles.knows(&included.value) {
                    let names = roles.keys().map(Name::as_str);
                    let help = self.meant(included.value.as_str(), names, "remove it");
                    let message = format!("no role is named `{}`", included.value);
                    self.error(codes::UNKNOWN_ROLE, included.span, message, help);
                }
            }
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
                let login = self.login(login.as_deref(), &format!("group:{name}"), span)?;
                Some(Member::Group {
                    login,
                    name: name.clone(),
                })
            }
            parse::Member::User { login, sub } => {
                let login = self.login(login.as_deref(), &format!("user:{sub}"), span)?;
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

    fn login(&mut self, given: Option<&str>, short: &str, span: Span) -> Option<String> {
        let logins = &self.logins.names;
        if let Some(login) = given.or_else(|| {
            logins
                .first()
                .filter(|_| logins.len() == 1)
                .map(String::as_str)
        }) && logins.contains(login)
        {
            return Some(login.to_owned());
        }
        if self.logins.unclear {
            return None;
        }
        let (message, help) = match (given, logins.len()) {
            (_, 0) => (
                format!("no listener has a login, so nobody vouches for `{short}`"),
                "give a `browser` listener a login, such as `login: dev` with `environment: dev`"
                    .to_owned(),
            ),
            (Some(login), _) => {
                let help = self.meant(
                    login,
                    logins.iter().map(String::as_str),
                    "name a login of a listener",
                );
                (format!("no listener has the login `{login}`"), help)
            }
            (None, _) => {
                let full = short.replacen(
                    ':',
                    &format!(":{}/", logins.first().map_or("", String::as_str)),
                    1,
                );
                (
                    format!("there are several logins, so `{short}` could be two"),
                    format!("write `{full}`"),
                )
            }
        };
        self.error(codes::UNKNOWN_LOGIN, span, message, help);
        None
    }
}
