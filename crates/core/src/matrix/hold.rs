//! Who holds which permission, and by which role.

use crate::config::Config;
use crate::config::Member;
use crate::config::Rate;
use crate::config::Role;
use crate::snapshot::Tiers;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use hashbrown::HashSet;
use std::fmt;

/// Whose rows are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Whoever signs in by a login, whatever else they are.
    Anyone(String),
    /// Somebody that the file names.
    Member(Member),
}

/// Who holds what.
pub(super) struct Holders<'a> {
    /// By member, then by permission: the first role that gives it.
    held: HashMap<&'a Member, HashMap<&'a str, (&'a Name, &'a Role)>>,
    /// People, in the order of the file.
    people: Vec<Member>,
    tiers: Tiers,
}

impl<'a> Holders<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let mut held: HashMap<&Member, HashMap<&str, (&Name, &Role)>> = HashMap::new();
        let mut people = Vec::new();
        let mut known = HashSet::new();
        let mut add = |member: &'a Member| {
            if !matches!(member, Member::Identity(_)) && known.insert(member) {
                people.push(member.clone());
            }
        };
        for (name, role) in &config.roles {
            let given = permissions(config, name);
            for member in &role.members {
                add(member);
                let theirs = held.entry(member).or_default();
                for permission in &given {
                    theirs.entry(*permission).or_insert((name, role));
                }
            }
        }
        config
            .secrets
            .values()
            .flat_map(|secret| &secret.readers)
            .for_each(add);
        let tiers = Tiers::compile(config);
        Self {
            held,
            people,
            tiers,
        }
    }

    /// The people and groups of a login.
    pub(super) fn people(&self, login: &str) -> Vec<Member> {
        let of_it = |member: &&Member| match member {
            Member::Group { login: it, .. } | Member::User { login: it, .. } => it == login,
            Member::Identity(_) => false,
        };
        self.people.iter().filter(of_it).cloned().collect()
    }

    /// The role that gives the subject a permission.
    pub(super) fn role(&self, subject: &Subject, permission: &str) -> Option<(&'a Name, &'a Role)> {
        let Subject::Member(member) = subject else {
            return None;
        };
        self.held.get(member)?.get(permission).copied()
    }

    /// How often the subject may call.
    pub(super) fn tier(&self, subject: &Subject) -> Option<(&Name, Rate)> {
        let Subject::Member(member) = subject else {
            return None;
        };
        self.tiers.of_member(member)
    }
}

impl Subject {
    /// Whether the rows of `anyone` are theirs too.
    pub(super) fn is_covered(&self) -> bool {
        matches!(
            self,
            Self::Member(Member::Group { .. } | Member::User { .. })
        )
    }

    pub(super) fn is_person(&self) -> bool {
        !matches!(self, Self::Member(Member::Identity(_)))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone(login) => write!(f, "anyone at {login}"),
            Self::Member(member) => member.fmt(f),
        }
    }
}

/// What a role gives, with the roles it includes; its own first.
pub(super) fn permissions<'a>(config: &'a Config, role: &'a Name) -> Vec<&'a str> {
    let mut seen: HashSet<&Name> = [role].into_iter().collect();
    let mut ahead = vec![role];
    let mut all = Vec::new();
    while let Some(role) = ahead.pop().and_then(|name| config.roles.get(name)) {
        all.extend(role.may.iter().map(|it| it.as_str()));
        ahead.extend(role.includes.iter().filter(|name| seen.insert(*name)));
    }
    all
}
