use crate::config::Member;
use crate::config::Role;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use hashbrown::HashMap;
use hashbrown::HashSet;
use indexmap::IndexMap;
use std::collections::BTreeSet;

/// Who holds which permission by which role, with `includes` followed.
///
/// A look-up costs one hash per name of the subject and one binary search, however many roles
/// there are.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    permissions: HashMap<Permission, u32>,
    /// The other way round.
    names: Vec<Permission>,
    identities: HashMap<Name, Held>,
    /// By `<login>/<name>`, as tokens carry them.
    groups: HashMap<String, Held>,
    /// By `<login>:<sub>`, as tokens carry them.
    users: HashMap<String, Held>,
}

/// Sorted pairs of permission and the role (by its place in the configuration) that gives it.
type Held = Vec<(u32, u32)>;

/// The names under which somebody may hold permissions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder<'a> {
    /// A workload.
    Identity(&'a str),
    /// A person and the groups their login vouches for.
    Person {
        /// `<login>:<sub>`.
        user: &'a str,
        /// `<login>/<name>` each.
        groups: &'a [String],
    },
}

impl Grants {
    /// Flattens the roles of a configuration.
    #[must_use]
    pub fn compile(roles: &IndexMap<Name, Role>) -> Self {
        let mut grants = Self::default();
        for (index, (name, role)) in roles.iter().enumerate() {
            let mut seen = HashSet::new();
            let mut permissions = Vec::new();
            gather(roles, name, &mut seen, &mut permissions);
            let by = u32::try_from(index).unwrap_or(u32::MAX);
            let ids: Vec<_> = permissions
                .iter()
                .map(|it| (grants.intern(it), by))
                .collect();
            for member in &role.members {
                grants.held_by(member).extend(&ids);
            }
        }
        let all = [&mut grants.groups, &mut grants.users];
        all.into_iter().flat_map(HashMap::values_mut).for_each(tidy);
        grants.identities.values_mut().for_each(tidy);
        grants
    }

    /// The role (by its place in the configuration) that gives the holder this permission.
    pub(crate) fn role(&self, holder: Holder<'_>, permission: &str) -> Option<usize> {
        let id = *self.permissions.get(permission)?;
        self.lists(holder).find_map(|held| {
            let at = held.partition_point(|(other, _)| *other < id);
            held.get(at)
                .filter(|(other, _)| *other == id)
                .map(|(_, role)| *role as usize)
        })
    }

    /// Every permission the holder has, sorted by name.
    pub(crate) fn permissions(&self, holder: Holder<'_>) -> Vec<Permission> {
        let held = self.lists(holder).flatten();
        let named = held.filter_map(|(id, _)| self.names.get(*id as usize));
        let all: BTreeSet<_> = named.cloned().collect();
        all.into_iter().collect()
    }

    /// Every role the holder has, by its place in the configuration.
    pub(crate) fn roles(&self, holder: Holder<'_>) -> Vec<usize> {
        let mut roles: Vec<_> = self
            .lists(holder)
            .flatten()
            .map(|(_, role)| *role as usize)
            .collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    fn lists<'a>(&'a self, holder: Holder<'a>) -> impl Iterator<Item = &'a Held> {
        let (first, groups) = match holder {
            Holder::Identity(name) => (self.identities.get(name), [].as_slice()),
            Holder::Person { user, groups } => (self.users.get(user), groups),
        };
        first.into_iter().chain(
            groups
                .iter()
                .filter_map(|group| self.groups.get(group.as_str())),
        )
    }

    fn held_by(&mut self, member: &Member) -> &mut Held {
        match member {
            Member::Identity(name) => self.identities.entry(name.clone()).or_default(),
            Member::Group { login, name } => {
                self.groups.entry(format!("{login}/{name}")).or_default()
            }
            Member::User { login, sub } => self.users.entry(format!("{login}:{sub}")).or_default(),
        }
    }

    fn intern(&mut self, permission: &Permission) -> u32 {
        if let Some(id) = self.permissions.get(permission) {
            return *id;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(permission.clone());
        self.permissions.insert(permission.clone(), id);
        id
    }
}

fn tidy(held: &mut Held) {
    held.sort_unstable();
    held.dedup();
    held.shrink_to_fit();
}

fn gather<'a>(
    roles: &'a IndexMap<Name, Role>,
    name: &'a Name,
    seen: &mut HashSet<&'a Name>,
    out: &mut Vec<&'a Permission>,
) {
    if !seen.insert(name) {
        return;
    }
    let Some(role) = roles.get(name) else { return };
    out.extend(&role.may);
    for included in &role.includes {
        gather(roles, included, seen, out);
    }
}
