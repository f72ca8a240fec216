use super::host::Host;
use countersign_core::config::Listener;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::CanonicalPath;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;

/// Where a request leads: the service, which need not exist, and its path there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) service: String,
    pub(crate) path: CanonicalPath,
}

/// The host does not belong to this listener, or says something else than the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host is not one of this listener")]
pub(crate) struct Misdirected;

/// Marks the service in a path, for clients that can't choose their host name.
const MARK: &str = "/~/";

/// What every mTLS listener serves itself, so that each caller gets its bound token at its own
/// door.
const ISSUER_PATHS: [&str; 2] = ["/oauth2/", "/.well-known/"];
/// The built-in service behind them.
pub(crate) const ISSUER: &str = "issuer";

/// The route at a mesh door: `hms-api` or `hms-api.mesh.<trust domain>`, or `/~/hms-api/...` at
/// the listener's own address. Where both name a service they must name the same.
pub(crate) fn mesh(
    snapshot: &Snapshot,
    listener: &Listener,
    host: &Host,
    path: CanonicalPath,
) -> Result<Route, Misdirected> {
    let named = service_of(host, snapshot.config().trust_domain.as_str());
    let ours = is_ours(listener, host);
    if (ours || named.is_some()) && ISSUER_PATHS.iter().any(|it| path.as_str().starts_with(it)) {
        return Ok(Route {
            service: ISSUER.to_owned(),
            path,
        });
    }
    let Some(marked) = path.as_str().strip_prefix(MARK) else {
        return match named {
            Some(service) if !ours => Ok(Route {
                service: service.to_owned(),
                path,
            }),
            _ => Err(Misdirected),
        };
    };
    let (service, rest) = marked.split_once('/').unwrap_or((marked, ""));
    if !ours && named != Some(service) {
        return Err(Misdirected);
    }
    let path = CanonicalPath::new(&["/", rest].concat()).map_err(|_| Misdirected)?;
    Ok(Route {
        service: service.to_owned(),
        path,
    })
}

/// The route at a browser door: the most specific line of `routes`, or the one service that edges
/// lead to. No line leads to no service, which is refused like a missing edge.
pub(crate) fn browser(
    snapshot: &Snapshot,
    door: &Name,
    listener: &Listener,
    host: &Host,
    path: CanonicalPath,
) -> Result<Route, Misdirected> {
    let routed = listener.routes.iter().any(|route| route.host == host.name);
    if !routed && !is_ours(listener, host) {
        return Err(Misdirected);
    }
    let service = if listener.routes.is_empty() {
        let mut reachable = snapshot
            .reachable(door.as_str())
            .map(|(service, _)| service);
        match (reachable.next(), reachable.next()) {
            (Some(only), None) => only.as_str().to_owned(),
            _ => String::new(),
        }
    } else {
        let asked = Operation::http("GET", &path);
        let mut lines = listener.routes.iter();
        let line = lines.find(|it| it.host == host.name && it.path.matches(&asked, false));
        line.map(|it| it.service.as_str().to_owned())
            .unwrap_or_default()
    };
    Ok(Route { service, path })
}

/// Whether the host stands for the listener itself. Without `hosts`, that is the address it is
/// bound to and, on loopback, `localhost`.
fn is_ours(listener: &Listener, host: &Host) -> bool {
    if listener.hosts.contains(&host.name) {
        return true;
    }
    let bound = listener.bind.ip();
    let here = |address: std::net::IpAddr| {
        address == bound || bound.is_unspecified() || (bound.is_loopback() && address.is_loopback())
    };
    listener.hosts.is_empty()
        && (host.name.parse().is_ok_and(here) || (bound.is_loopback() && host.name == "localhost"))
}

fn service_of<'a>(host: &'a Host, trust_domain: &str) -> Option<&'a str> {
    if host.is_address() {
        return None;
    }
    let full = host
        .name
        .strip_suffix(trust_domain)
        .and_then(|it| it.strip_suffix(".mesh."));
    full.or_else(|| (!host.name.contains('.')).then_some(host.name.as_str()))
        .filter(|service| !service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::snapshot::Bundle;
    use proptest::prelude::*;

    const CONFIG: &str = r#"
environment: dev
listeners:
  web:
    bind: "127.0.0.1:8443"
    peer: browser
    login: dev
    hosts: [app.dev.invalid]
    routes: { "app.dev.invalid/api/**": api, "app.dev.invalid/**": front }
  one: { bind: "127.0.0.1:8444", peer: browser, login: dev }
  mesh: { bind: "127.0.0.1:9443", peer: service }
services:
  front: { peer: service, url: "http://127.0.0.1:8001", operations: { "GET /**": { needs: edge } } }
  api: { peer: service, url: "http://127.0.0.1:8002", operations: { "GET /**": { needs: edge } } }
edges:
  web -> front: [GET /**]
  web -> api: [GET /**]
  one -> api: [GET /**]
"#;

    fn snapshot() -> Snapshot {
        let bundle = Bundle {
            dev: true,
            entry: "countersign.yaml".into(),
            files: [("countersign.yaml".to_owned(), CONFIG.to_owned())].into(),
            ..Bundle::default()
        };
        Snapshot::from_bundle(bundle).unwrap()
    }

    fn at(snapshot: &Snapshot, door: &str, host: &str, path: &str) -> String {
        let listener = snapshot.config().listeners.get(door).unwrap();
        let (host, path) = (
            Host::parse(host).unwrap(),
            CanonicalPath::new(path).unwrap(),
        );
        let route = match door {
            "mesh" => mesh(snapshot, listener, &host, path),
            door => browser(snapshot, &Name::new(door).unwrap(), listener, &host, path),
        };
        route.map_or_else(
            |_| "misdirected".to_owned(),
            |route| format!("{} {}", route.service, route.path),
        )
    }

    #[test]
    fn routes() {
        let snapshot = snapshot();
        for (door, host, path, expect) in [
            ("mesh", "api", "/v1", Some("api /v1")),
            ("mesh", "api.mesh.local.dev.invalid", "/v1", Some("api /v1")),
            ("mesh", "127.0.0.1:9443", "/~/api/v1", Some("api /v1")),
            ("mesh", "127.0.0.1", "/~/api", Some("api /")),
            ("mesh", "localhost", "/~/api/", Some("api /")),
            ("mesh", "api", "/~/api/v1", Some("api /v1")),
            (
                "mesh",
                "localhost",
                "/oauth2/token",
                Some("issuer /oauth2/token"),
            ),
            (
                "mesh",
                "api",
                "/.well-known/x",
                Some("issuer /.well-known/x"),
            ),
            ("mesh", "evil.example", "/oauth2/token", None),
            ("mesh", "api", "/~/front/v1", None),
            ("mesh", "127.0.0.1", "/v1", None),
            ("mesh", "10.0.0.1", "/~/api/v1", None),
            ("mesh", "evil.example", "/~/api/v1", None),
            ("mesh", "api.mesh.evil.example", "/v1", None),
            ("web", "app.dev.invalid", "/api/x", Some("api /api/x")),
            ("web", "app.dev.invalid", "/api", Some("front /api")),
            ("web", "127.0.0.1", "/", None),
            ("one", "localhost", "/x", Some("api /x")),
            ("one", "app.dev.invalid", "/x", None),
        ] {
            let found = at(&snapshot, door, host, path);
            assert_eq!(
                found,
                expect.unwrap_or("misdirected"),
                "{door} {host} {path}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_marked_path_never_escapes_its_service(
            host in "(api|front|127\\.0\\.0\\.1|localhost|x\\.y)",
            path in "/(~/)?[a-z]{0,5}(/[a-z]{0,3})?",
        ) {
            let snapshot = snapshot();
            let listener = snapshot.config().listeners.get("mesh").unwrap();
            let (host, Ok(path)) = (Host::parse(&host).unwrap(), CanonicalPath::new(&path)) else {
                return Ok(());
            };
            if let Ok(route) = mesh(&snapshot, listener, &host, path.clone()) {
                prop_assert!(path.as_str().ends_with(route.path.as_str().trim_start_matches('/')));
                if !is_ours(listener, &host) {
                    prop_assert_eq!(route.service, host.name);
                }
            }
        }
    }
}
