use super::Bundle;
use super::Grants;
use super::Tiers;
use super::index::PatternIndex;
use super::schemas::Schemas;
use crate::config::Config;
use crate::config::Edge;
use crate::config::Identity;
use crate::config::IdentityKind;
use crate::config::Login;
use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::PeerKind;
use crate::config::Secret;
use crate::config::Service;
use crate::hop::PartnerCertificate;
use crate::hop::Peer;
use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::Permission;
use crate::vocabulary::SpiffeId;
use hashbrown::HashMap;
use hashbrown::HashSet;
use indexmap::IndexMap;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// The policy of one revision, indexed for decisions.
#[derive(Debug)]
pub struct Snapshot {
    bundle: Bundle,
    config: Config,
    revision: Digest,
    grants: Grants,
    tiers: Tiers,
    /// Edges by caller, then by service.
    edges: HashMap<Name, HashMap<Name, Between>>,
    /// By service, in the order of the configuration.
    rules: Vec<PatternIndex>,
    logins: HashSet<String>,
    partners: Partners,
    roots: HashSet<Digest>,
    injected: HashSet<Name>,
    local_users: HashMap<String, Name>,
    /// By service, filled when first asked for; a pure function of the rest.
    pub(super) reach: Vec<OnceLock<BTreeSet<Permission>>>,
    pub(super) schemas: Schemas,
}

/// Which authorities vouch for partners, and where.
#[derive(Debug, Default)]
struct Partners {
    /// By door, the authorities (SHA-256 of the DER) that it believes.
    doors: HashMap<Name, Vec<Digest>>,
    /// By authority and DNS name. Where it would be several identities it is none.
    identities: HashMap<(Digest, String), Vec<Name>>,
}

/// The edges from one caller to one service.
#[derive(Debug, Default)]
struct Between {
    /// Indices into `config.edges`.
    edges: Vec<usize>,
    /// Their operations; a place is an index into `edges`.
    operations: PatternIndex,
}

/// Why a bundle does not become a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The configuration in it has errors.
    #[error("the configuration has {0} errors; `countersign check` shows them")]
    Configuration(usize),
    /// The configuration asks for what this build does not enforce.
    #[error("{0} is not in this build")]
    NotInBuild(&'static str),
    /// `ZT_OFF` outside development.
    #[error("`ZT_OFF` decides in development only")]
    OpenOutsideDevelopment,
}

/// What a caller must prove at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorKind {
    /// A certificate of the trust domain and, but for the issuer, a token bound to it.
    Mesh,
    /// A certificate of a partner's authority and, but for the issuer, a token bound to it.
    Partner,
    /// A session.
    Browser,
    /// Kernel credentials of a configured user.
    Local,
}

/// Built-in doors and services: these names belong to us.
const CONTROL: &str = "control";
const ADMIN: &str = "admin";
pub(crate) const JOIN: &str = "join";
pub(crate) const ISSUER: &str = "issuer";
pub(crate) const VAULT: &str = "vault";
pub(crate) const AUDIT: &str = "audit";
pub(crate) const CONSOLE: &str = "console";

impl Snapshot {
    /// Compiles a checked configuration.
    #[must_use]
    pub fn new(bundle: Bundle, config: Config) -> Self {
        let injected = config
            .services
            .values()
            .filter_map(|it| it.credential.as_ref());
        Self {
            revision: bundle.revision(),
            grants: Grants::compile(&config.roles),
            tiers: Tiers::compile(&config),
            roots: bundle.roots.iter().copied().collect(),
            injected: injected
                .map(|credential| credential.secret.clone())
                .collect(),
            local_users: local_users(&bundle, &config),
            reach: config.services.iter().map(|_| OnceLock::new()).collect(),
            edges: edges(&config),
            rules: config.services.values().map(rules).collect(),
            logins: logins(&bundle, &config),
            schemas: Schemas::of(&config),
            partners: Partners::of(&config),
            bundle,
            config,
        }
    }

    /// Reads the configuration out of a bundle and compiles it: the way back from a kept revision.
    ///
    /// # Errors
    /// [`CompileError`] if the configuration in it has errors, or it would open everything outside
    /// development.
    pub fn from_bundle(bundle: Bundle) -> Result<Self, CompileError> {
        if bundle.zt_off && !bundle.dev {
            return Err(CompileError::OpenOutsideDevelopment);
        }
        let options = crate::config::Options {
            dev: bundle.dev,
            strict: false,
        };
        let projection = bundle.projection.as_ref();
        let logins = projection.map(|it| it.logins.as_slice());
        let loaded = crate::config::load_part(&bundle, &bundle.entry, &options, logins);
        let count = loaded.errors().count();
        let config = loaded.config.ok_or(CompileError::Configuration(count))?;
        if let Some(part) = config.beyond().first() {
            return Err(CompileError::NotInBuild(part.what));
        }
        Ok(Self::new(bundle, config))
    }

    /// The revision: SHA-256 of the bundle.
    #[must_use]
    pub const fn revision(&self) -> &Digest {
        &self.revision
    }

    /// What it was compiled from.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this is the synthetic snapshot of `ZT_OFF`.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.bundle.zt_off
    }

    /// Whether it may decide in development only.
    #[must_use]
    pub const fn is_development(&self) -> bool {
        self.bundle.dev
    }

    /// What a caller must prove at a door; `None` for a door that does not exist.
    #[must_use]
    pub fn door(&self, door: &str) -> Option<DoorKind> {
        match door {
            CONTROL | JOIN => Some(DoorKind::Mesh),
            ADMIN => Some(DoorKind::Local),
            name => self
                .config
                .listeners
                .get(name)
                .map(|listener| match listener.peer {
                    PeerKind::Browser => DoorKind::Browser,
                    PeerKind::Partner => DoorKind::Partner,
                    _ => DoorKind::Mesh,
                }),
        }
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.config.services.get(name)
    }

    /// The secret of this name.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.config.secrets.get(name)
    }

    /// Every permission that a role grants, or an operation or secret needs.
    #[must_use]
    pub(crate) fn permissions(&self) -> BTreeSet<Permission> {
        let granted = self.config.roles.values().flat_map(|role| &role.may);
        let rules = self.config.services.values().flat_map(|it| &it.operations);
        let needed = rules.filter_map(|rule| match &rule.needs {
            Needs::Permission(permission) => Some(permission),
            Needs::Edge => None,
        });
        let secrets = self.config.secrets.values().map(|secret| &secret.needs);
        granted.chain(needed).chain(secrets).cloned().collect()
    }

    /// Whether some service puts this secret into calls.
    #[must_use]
    pub fn is_injected(&self, secret: &str) -> bool {
        self.injected.contains(secret)
    }

    /// The rules of a service that an operation falls under, with their place in the list. All of
    /// them apply together.
    pub fn rules<'a>(
        &'a self,
        service: &str,
        operation: &'a Operation,
    ) -> impl Iterator<Item = (usize, &'a OperationRule)> {
        let found = self.config.services.get_full(service);
        let found = found.and_then(|(at, _, service)| {
            let places = self.rules.get(at)?.matches(operation);
            Some((service, places))
        });
        found.into_iter().flat_map(move |(service, places)| {
            places.into_iter().filter_map(move |place| {
                let rule = service.operations.get(place as usize)?;
                let fold = service.fold_case;
                let excepted = rule.except.iter().any(|it| it.matches(operation, fold));
                (!excepted).then_some((place as usize, rule))
            })
        })
    }

    /// The first edge from a caller to a service that an operation may take, by its place in the
    /// configuration.
    #[must_use]
    pub fn edge(&self, from: &str, to: &str, operation: &Operation) -> Option<usize> {
        let between = self.edges.get(from)?.get(to)?;
        let first = *between.operations.matches(operation).first()?;
        between.edges.get(first as usize).copied()
    }

    /// The edges from a caller to a service, with their place in the configuration.
    pub fn edges(&self, from: &str, to: &str) -> impl Iterator<Item = (usize, &Edge)> {
        let indices = self
            .edges
            .get(from)
            .and_then(|by_service| by_service.get(to));
        let indices = indices.map(|it| it.edges.as_slice()).unwrap_or_default();
        indices
            .iter()
            .filter_map(|index| Some((*index, self.config.edges.get(*index)?)))
    }

    /// The services that edges lead to from a caller.
    pub fn reachable(
        &self,
        from: &str,
    ) -> impl Iterator<Item = (&Name, impl Iterator<Item = &Edge>)> {
        let by_service = self.edges.get(from).into_iter().flatten();
        by_service.map(|(to, between)| {
            let edges = between.edges.iter();
            (to, edges.filter_map(|it| self.config.edges.get(*it)))
        })
    }

    /// Whether a root certificate is trusted in this revision.
    #[must_use]
    pub fn trusts(&self, root: &Digest) -> bool {
        self.roots.contains(root)
    }

    /// Whether a door for partners believes this authority in this revision.
    #[must_use]
    pub fn trusts_at(&self, door: &Name, authority: &Digest) -> bool {
        let believed = self.partners.doors.get(door);
        believed.is_some_and(|it| it.contains(authority))
    }

    /// The partner that a certificate is of: the one identity with the authority that it leads to
    /// and a name in it. A certificate that is two of them at once is neither.
    #[must_use]
    pub fn partner(&self, certificate: &PartnerCertificate) -> Option<&Name> {
        let named = certificate.dns_names.iter();
        let mut found = named
            .filter_map(|dns| {
                let pair = (certificate.root, dns.clone());
                self.partners.identities.get(&pair)
            })
            .flatten();
        let first = found.next()?;
        found.all(|it| it == first).then_some(first)
    }

    /// Whether some partner is known by this authority and this name.
    pub(crate) fn is_of_partner(&self, authority: &Digest, dns: &str) -> bool {
        let pair = (*authority, dns.to_owned());
        self.partners.identities.contains_key(&pair)
    }

    /// The SPIFFE ID that a proven peer goes by: a partner's is that of its identity, because its
    /// own certificate has none.
    #[must_use]
    pub fn id_of(&self, peer: &Peer) -> Option<SpiffeId> {
        match peer {
            Peer::Certificate(certificate) => Some(certificate.spiffe_id.clone()),
            Peer::Partner(certificate) => {
                let name = self.partner(certificate)?;
                Some(SpiffeId::of_identity(&self.config.trust_domain, name))
            }
            _ => None,
        }
    }

    /// The identity whose certificates our own authority issues under this SPIFFE ID. A partner has
    /// its own authority, and ours can't speak for it.
    #[must_use]
    pub fn workload(&self, id: &SpiffeId) -> Option<&Name> {
        let name = self.identity(id)?;
        let identity = self.config.identities.get(name)?;
        let partner = matches!(identity.kind, IdentityKind::Partner { .. });
        (!partner).then_some(name)
    }

    /// The name of the identity a SPIFFE ID of this trust domain stands for, if configured.
    #[must_use]
    pub fn identity(&self, id: &SpiffeId) -> Option<&Name> {
        let ours = id.trust_domain() == self.config.trust_domain.as_str();
        let (name, _) = ours.then(|| self.config.identities.get_key_value(id.path()))??;
        Some(name)
    }

    /// The identity a local user administers as.
    #[must_use]
    pub fn local_identity(&self, user: &str) -> Option<&Name> {
        self.local_users.get(user)
    }

    /// Whether this identity is the operator that development adds by itself.
    #[must_use]
    pub fn is_dev_operator(&self, identity: &str) -> bool {
        self.bundle.dev_operator.is_some()
            && !self.config.identities.contains_key(identity)
            && self
                .local_users
                .values()
                .any(|name| name.as_str() == identity)
    }

    /// The logins of the doors, by name.
    #[must_use]
    pub fn logins(&self) -> IndexMap<&str, &Login> {
        let logins = self
            .config
            .listeners
            .values()
            .filter_map(|listener| listener.login.as_ref());
        logins.map(|login| (login.name(), login)).collect()
    }

    /// Whether some door signs people in by this login.
    #[must_use]
    pub fn knows_login(&self, login: &str) -> bool {
        self.logins.contains(login)
    }

    /// Who holds what.
    #[must_use]
    pub const fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Who may call how often.
    #[must_use]
    pub const fn tiers(&self) -> &Tiers {
        &self.tiers
    }
}

impl Partners {
    fn of(config: &Config) -> Self {
        let mut all = Self::default();
        for (name, listener) in &config.listeners {
            if let (PeerKind::Partner, Some(file)) = (listener.peer, &listener.client_ca) {
                all.doors.insert(name.clone(), file.authorities());
            }
        }
        for (name, identity) in &config.identities {
            if let IdentityKind::Partner { ca, dns } = &identity.kind {
                for authority in ca.authorities() {
                    let pair = (authority, dns.to_ascii_lowercase());
                    all.identities.entry(pair).or_default().push(name.clone());
                }
            }
        }
        all
    }
}

fn edges(config: &Config) -> HashMap<Name, HashMap<Name, Between>> {
    let mut edges: HashMap<Name, HashMap<Name, Between>> = HashMap::new();
    for (index, edge) in config.edges.iter().enumerate() {
        let by_service = edges.entry(edge.from.clone()).or_default();
        by_service
            .entry(edge.to.clone())
            .or_default()
            .edges
            .push(index);
    }
    for (to, between) in edges.values_mut().flatten() {
        let fold = config.services.get(to).is_some_and(|it| it.fold_case);
        let of = |(place, index): (u32, &usize)| {
            let operations = config.edges.get(*index).map(|edge| &edge.operations);
            operations
                .into_iter()
                .flatten()
                .map(move |it| (place, Some(it)))
        };
        between.operations = PatternIndex::new((0..).zip(&between.edges).flat_map(of), fold);
    }
    edges
}

fn rules(service: &Service) -> PatternIndex {
    let patterns = service.operations.iter().map(|rule| rule.pattern.as_ref());
    PatternIndex::new((0..).zip(patterns), service.fold_case)
}

fn logins(bundle: &Bundle, config: &Config) -> HashSet<String> {
    let logins = config.listeners.values().filter_map(|it| it.login.as_ref());
    let elsewhere = bundle.projection.iter().flat_map(|it| it.logins.clone());
    logins
        .map(|login| login.name().to_owned())
        .chain(elsewhere)
        .collect()
}

fn local_users(bundle: &Bundle, config: &Config) -> HashMap<String, Name> {
    // An identity of other nodes is nobody here. Development is all on one machine.
    let here = |identity: &&Identity| {
        let unix = identity.attest.unix.as_ref();
        let named = |nodes: &[String]| nodes.iter().any(|it| bundle.node.as_ref() == Some(it));
        bundle.dev || unix.is_some_and(|it| it.nodes.is_empty() || named(&it.nodes))
    };
    let configured = config.identities.iter().filter(|(_, it)| here(it));
    let mut users: HashMap<_, _> = configured
        .filter_map(|(name, identity)| Some((identity.unix_user()?.to_owned(), name.clone())))
        .collect();
    let operator = bundle
        .dev_operator
        .as_ref()
        .filter(|_| bundle.dev && users.is_empty());
    if let (Some(user), Ok(name)) = (operator, Name::new("operator")) {
        users.insert(user.clone(), name);
    }
    users
}

/// The bundle is where a compiled configuration's files come from.
impl crate::config::Files for Bundle {
    fn read(&self, path: &str) -> Result<String, crate::config::FileError> {
        let text = self.files.get(path).cloned();
        text.ok_or_else(|| crate::config::FileError {
            path: path.to_owned(),
            reason: "not in this bundle".to_owned(),
        })
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, crate::config::FileError> {
        let matching = self
            .files
            .keys()
            .filter(|path| crate::config::is_listed(pattern, path));
        Ok(matching.cloned().collect())
    }
}
