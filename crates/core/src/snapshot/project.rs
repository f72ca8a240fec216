use super::Bundle;
use super::CompileError;
use super::Snapshot;
use crate::config;
use crate::config::Identity;
use crate::config::IdentityKind;
use crate::config::Listener;
use crate::config::PeerKind;
use crate::config::project::Keep;
use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeSet;

/// Says that a bundle is the part of a revision that one gateway gets.
///
/// The part is a bundle like any other, with a revision of its own: what decided is known from its
/// bytes alone, and from `of` anyone who has the whole can make the part again and compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// The gateway.
    pub gateway: Name,
    /// The logins of the whole: people are named by them also where their door is not.
    pub logins: Vec<String>,
    /// The revision it is a part of.
    pub of: Digest,
}

/// Why a snapshot has no part for a gateway.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The whole can't be read again.
    #[error("the configuration of revision `{0}` can't be read again")]
    Unreadable(Digest),
    /// The part does not stand by itself.
    #[error("what gateway `{gateway}` needs does not stand by itself: {source}")]
    Compile {
        /// The gateway.
        gateway: Name,
        /// What is wrong.
        source: CompileError,
    },
}

impl Snapshot {
    /// What a gateway with these listeners needs: them, the services that it decides for, and who
    /// may call these. No other listener, no test, no place of a secret, no local user.
    ///
    /// # Errors
    /// [`ProjectError`]; then the gateway gets nothing.
    pub fn project(
        &self,
        gateway: &Name,
        listeners: &BTreeSet<Name>,
    ) -> Result<Self, ProjectError> {
        let keep = self.kept_by(listeners);
        let whole = self.bundle();
        let files = config::project::project(&whole.files, &whole.entry, &keep)
            .ok_or(ProjectError::Unreadable(*self.revision()))?;
        let logins: BTreeSet<_> = self.logins().into_keys().map(str::to_owned).collect();
        let part = Bundle {
            dev_operator: None,
            files,
            node: None,
            projection: Some(Projection {
                gateway: gateway.clone(),
                logins: logins.into_iter().collect(),
                of: *self.revision(),
            }),
            ..whole.clone()
        };
        Self::from_bundle(part).map_err(|source| ProjectError::Compile {
            gateway: gateway.clone(),
            source,
        })
    }

    /// Whether a gateway with these listeners puts this secret into calls.
    #[must_use]
    pub fn is_injected_behind(&self, listeners: &BTreeSet<Name>, secret: &str) -> bool {
        self.kept_by(listeners).secrets.contains(secret)
    }

    /// The services that callers with certificates reach at these listeners.
    #[must_use]
    pub fn meshed_behind(&self, listeners: &BTreeSet<Name>) -> Vec<&str> {
        let listeners = self.config().listeners.iter().filter(|(name, listener)| {
            listener.peer != PeerKind::Browser && listeners.contains(*name)
        });
        let listeners = listeners.map(|(name, _)| name.clone()).collect();
        let services = self.kept_by(&listeners).services;
        // What is kept does not borrow from the names of the listeners.
        let all = self.config().services.keys().map(Name::as_str);
        all.filter(|name| services.contains(name)).collect()
    }

    /// Whoever has a certificate for a door may come there, and for any service that edges lead to.
    fn keep_callers<'a>(&'a self, door: &'a Name, listener: &Listener, keep: &mut Keep<'a>) {
        let config = self.config();
        let at_partners = listener.peer == PeerKind::Partner;
        let all = config.identities.iter();
        let (partners, workloads): (Vec<_>, Vec<_>) =
            all.partition(|(_, it)| matches!(it.kind, IdentityKind::Partner { .. }));
        // At a door of theirs those it is for; elsewhere as subjects for whom a workload acts.
        let known = partners
            .into_iter()
            .filter(|(_, it)| !at_partners || self.vouches(door, it))
            .map(|(name, _)| name.as_str());
        let known: BTreeSet<_> = known.collect();
        let callers: BTreeSet<_> = if at_partners {
            known.iter().copied().chain([door.as_str()]).collect()
        } else {
            workloads
                .into_iter()
                .map(|(name, _)| name.as_str())
                .collect()
        };
        let edges = config
            .edges
            .iter()
            .filter(|edge| callers.contains(edge.from.as_str()) && !is_built_in(edge.to.as_str()));
        for edge in edges {
            if edge.from != *door {
                keep.identities.insert(edge.from.as_str());
            }
            keep.services.insert(edge.to.as_str());
        }
        keep.identities.extend(known);
    }

    /// Whether an authority that a door believes is this partner's.
    fn vouches(&self, door: &Name, identity: &Identity) -> bool {
        let IdentityKind::Partner { ca, .. } = &identity.kind else {
            return false;
        };
        ca.authorities().iter().any(|it| self.trusts_at(door, it))
    }

    fn kept_by<'a>(&'a self, listeners: &'a BTreeSet<Name>) -> Keep<'a> {
        let config = self.config();
        let mut keep = Keep::default();
        let tiers = config.roles.values().filter_map(|it| it.tier.as_ref());
        keep.tiers.extend(tiers.map(Name::as_str));
        let own = config.listeners.iter();
        for (name, listener) in own.filter(|(name, _)| listeners.contains(*name)) {
            keep.listeners.insert(name.as_str());
            keep.logins
                .extend(listener.login.as_ref().map(config::Login::name));
            if listener.peer == PeerKind::Browser {
                let routed = listener.routes.iter().map(|route| &route.service);
                let reached = self.reachable(name.as_str()).map(|(to, _)| to);
                keep.services
                    .extend(routed.chain(reached).map(Name::as_str));
                continue;
            }
            self.keep_callers(name, listener, &mut keep);
        }
        keep.services.retain(|name| !is_built_in(name));
        let kept: Vec<_> = keep
            .services
            .iter()
            .filter_map(|name| self.service(name))
            .collect();
        for service in kept {
            if config.identities.contains_key(&service.identity) {
                keep.identities.insert(service.identity.as_str());
            }
            let credential = service.credential.as_ref();
            keep.secrets.extend(credential.map(|it| it.secret.as_str()));
            let budgets = service
                .operations
                .iter()
                .filter_map(|it| it.budget.as_ref());
            keep.budgets.extend(budgets.map(Name::as_str));
            let policies = service.operations.iter();
            let policies = policies.filter_map(|it| it.policy.as_ref());
            keep.policies.extend(policies.map(Name::as_str));
        }
        keep
    }
}

/// What the server is itself, it decides itself.
fn is_built_in(service: &str) -> bool {
    [super::AUDIT, super::CONSOLE, super::ISSUER, super::VAULT].contains(&service)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
environment: dev
listeners:
  web:  { bind: "127.0.0.1:8443", peer: browser, login: dev, hosts: [localhost] }
  mesh: { bind: "127.0.0.1:9443", peer: service }
identities: { api: {}, worker: {}, lonely: { attest: { unix: { user: ops } } } }
roles:
  reader: { members: [user:alice, api, lonely], may: ["page:read", "report:read"] }
services:
  page:  { peer: service, identity: api, url: "http://127.0.0.1:7001", operations: { GET /app/**: { needs: "page:read" } } }
  api:   { peer: service, url: "http://127.0.0.1:7002", operations: { GET /r/**: { needs: "report:read" } } }
  model:
    peer: third-party
    url: "https://llm.example"
    credential: { secret: model, as: bearer }
    operations: { POST /v1/chat: { needs: edge } }
edges:
  web -> page:   [GET /app/**]
  worker -> api: [GET /r/**]
  api -> model:  [POST /v1/chat]
  api -> vault:  [read other]
secrets:
  model: { from: "env:MODEL_KEY" }
  other: { from: "file:/etc/other", readers: [api] }
tests:
  alice: { as: user:alice, via: web, call: GET page/app/x, expect: allow }
"#;

    fn whole() -> Snapshot {
        let bundle = Bundle {
            dev: true,
            dev_operator: Some("ops".to_owned()),
            entry: "c.yaml".to_owned(),
            files: [
                ("c.yaml".to_owned(), WHOLE.to_owned()),
                ("unused.json".to_owned(), "{}".to_owned()),
            ]
            .into(),
            roots: vec![Digest::new([7; 32])],
            ..Bundle::default()
        };
        Snapshot::from_bundle(bundle).unwrap()
    }

    fn part(listeners: &[&str]) -> Snapshot {
        let gateway = Name::new("gw1").unwrap();
        let listeners = listeners.iter().map(|it| Name::new(it).unwrap()).collect();
        whole().project(&gateway, &listeners).unwrap()
    }

    fn keys<T>(map: &indexmap::IndexMap<Name, T>) -> Vec<&str> {
        let mut keys: Vec<_> = map
            .keys()
            .map(Name::as_str)
            .filter(|name| !is_built_in(name))
            .collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_door_has_its_own_services_and_nothing_of_the_others() {
        let web = part(&["web"]);
        let config = web.config();
        assert_eq!(keys(&config.listeners), ["web"]);
        assert_eq!(keys(&config.services), ["page"]);
        assert_eq!(keys(&config.identities), ["api"]);
        assert_eq!(keys(&config.secrets), <[&str; 0]>::default());
        assert_eq!((config.edges.len(), config.tests.len()), (1, 0));
        let text = web.bundle().files.get("c.yaml").unwrap();
        for gone in [
            "mesh",
            "9443",
            "worker",
            "model",
            "MODEL_KEY",
            "ops",
            "lonely",
            "other",
        ] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert_eq!(web.bundle().files.len(), 1);
        assert_eq!(web.bundle().dev_operator, None);
    }

    #[test]
    fn a_mesh_knows_whoever_may_come_and_people_by_the_logins_of_other_doors() {
        let mesh = part(&["mesh"]);
        let config = mesh.config();
        assert_eq!(keys(&config.listeners), ["mesh"]);
        assert_eq!(keys(&config.services), ["api", "model"]);
        assert_eq!(keys(&config.identities), ["api", "worker"]);
        assert_eq!(keys(&config.secrets), ["model"]);
        assert!(mesh.is_injected("model"));
        let text = mesh.bundle().files.get("c.yaml").unwrap();
        for gone in ["web", "8443", "MODEL_KEY", "/etc/other", "page\"", "vault"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        let role = config.roles.get("reader").unwrap();
        assert_eq!(role.members.len(), 2, "alice and api: {:?}", role.members);
    }

    #[test]
    fn a_door_injects_and_meshes_nothing_of_the_others() {
        let whole = whole();
        let own = |names: &[&str]| names.iter().map(|it| Name::new(it).unwrap()).collect();
        let (web, mesh) = (own(&["web"]), own(&["mesh"]));
        assert!(whole.is_injected_behind(&mesh, "model"));
        assert!(!whole.is_injected_behind(&web, "model"));
        assert!(
            !whole.is_injected_behind(&mesh, "other"),
            "read, not injected"
        );
        assert_eq!(whole.meshed_behind(&web), <[&str; 0]>::default());
        assert_eq!(whole.meshed_behind(&mesh), ["api", "model"]);
        assert_eq!(
            whole.meshed_behind(&own(&["mesh", "web"])),
            ["api", "model"]
        );
    }

    #[test]
    fn a_door_for_partners_gets_their_authority_and_what_they_reach() {
        const TWO: &str = r#"
trust_domain: acme.dev.invalid
environment: dev
listeners:
  one:  { bind: "127.0.0.1:8444", peer: partner, client_ca: globex.pem }
  two:  { bind: "127.0.0.1:8445", peer: partner, client_ca: initech.pem }
  mesh: { bind: "127.0.0.1:9443", peer: service }
identities:
  globex:  { kind: partner, certificate: { ca: globex.pem, dns: a.globex.example } }
  initech: { kind: partner, certificate: { ca: initech.pem, dns: a.initech.example } }
  worker: {}
roles: { reader: { members: [globex, initech, worker], may: ["report:read"] } }
services:
  page: { peer: service, identity: worker, url: "http://127.0.0.1:7001", operations: { GET /**: { needs: "report:read" } } }
  api:  { peer: service, identity: worker, url: "http://127.0.0.1:7002", operations: { GET /**: { needs: "report:read" } } }
  own:  { peer: service, identity: worker, url: "http://127.0.0.1:7003", operations: { GET /**: { needs: edge } } }
edges:
  globex -> page: [GET /**]
  two -> api:     [GET /**]
  worker -> own:  [GET /**]
"#;
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let bundle = Bundle {
            dev: true,
            entry: "c.yaml".to_owned(),
            files: [
                file("c.yaml", TWO),
                file(
                    "globex.pem",
                    include_str!("../../tests/config/attached/partners/globex.pem"),
                ),
                file(
                    "initech.pem",
                    include_str!("../../tests/config/attached/partners/initech.pem"),
                ),
            ]
            .into(),
            ..Bundle::default()
        };
        let whole = Snapshot::from_bundle(bundle).unwrap();
        let part = |door: &str| {
            let doors = [Name::new(door).unwrap()].into();
            whole.project(&Name::new("gw1").unwrap(), &doors).unwrap()
        };
        for (door, identities, services, file) in [
            ("one", &["globex", "worker"][..], "page", Some("globex.pem")),
            ("two", &["initech", "worker"], "api", Some("initech.pem")),
            ("mesh", &["globex", "initech", "worker"], "own", None),
        ] {
            let part = part(door);
            let config = part.config();
            assert_eq!(keys(&config.identities), identities, "{door}");
            assert_eq!(keys(&config.services), [services], "{door}");
            let files: Vec<_> = part.bundle().files.keys().map(String::as_str).collect();
            match file {
                Some(file) => assert_eq!(files, ["c.yaml", file], "{door}"),
                None => assert_eq!(files.len(), 3, "{door}"),
            }
            let name = Name::new(door).unwrap();
            let believed = whole.config().listeners.get(&name).unwrap();
            for authority in believed.client_ca.iter().flat_map(|it| it.authorities()) {
                assert!(part.trusts_at(&name, &authority), "{door}");
            }
        }
    }

    #[test]
    fn the_part_is_the_same_each_time_and_says_what_it_is_a_part_of() {
        let (one, two) = (part(&["web"]), part(&["web"]));
        assert_eq!(one.revision(), two.revision());
        assert_ne!(one.revision(), part(&["mesh"]).revision());
        let of = one.bundle().projection.as_ref().map(|it| it.of);
        assert_eq!(of, Some(*whole().revision()));
        // What is kept under its hash is compiled again to the same.
        let kept = Bundle::read(&one.bundle().bytes(), one.revision()).unwrap();
        let again = Snapshot::from_bundle(kept).unwrap();
        assert_eq!(again.config().edges, one.config().edges);
    }
}
