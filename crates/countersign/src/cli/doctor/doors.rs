//! Whether every door is the one that is meant, and keeps strangers out: by knocking.

use super::finding::Finding;
use super::installation::Installation;
use super::running::Running;
use crate::operate::Failure;
use crate::operate::with_causes;
use countersign_core::config::PeerKind;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Dialer;
use countersign_net::TrustBundle;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::stranger::KnockError;
use countersign_net::stranger::Shown;
use countersign_net::stranger::knock;
use countersign_wire::admin::Join;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const WHAT: &str = "door";

/// Knocks at each of them.
pub(super) async fn findings(
    installation: &Installation,
    server: &Running,
    time: Duration,
) -> Vec<Finding> {
    let trusted = match trusted(server).await {
        Ok(trusted) => trusted,
        Err(failure) => {
            let hint = failure.help().unwrap_or_else(|| "see its log".to_owned());
            return vec![Finding::warn(WHAT, failure.to_string(), hint)];
        }
    };
    let mut findings = Vec::new();
    for (name, address) in &server.status.listeners {
        let listeners = installation.config.as_ref().map(|it| &it.listeners);
        let listener = listeners.and_then(|all| {
            let found = all.iter().find(|(it, _)| it.as_str() == name);
            found.map(|(_, listener)| listener)
        });
        let peer = listener.map(|it| it.peer);
        let host = listener.and_then(|it| it.hosts.first()).cloned();
        let address: SocketAddr = match address.parse() {
            Ok(address) => address,
            Err(_) => continue,
        };
        if address.port() == 0 {
            let detail = format!("`{name}` is at any free port, which is not known here");
            let hint = "give it a port in the configuration";
            findings.push(Finding::warn(WHAT, detail, hint));
            continue;
        }
        let target = Target {
            host: here(address.ip()).to_string(),
            network: Network::Private,
            port: address.port(),
        };
        let host = host.unwrap_or_else(|| target.host.clone());
        let deadline = Instant::now() + time;
        let shown = knock(Dialer, &target, &host, &trusted, deadline).await;
        let elsewhere = !server.status.gateways.is_empty() && name != "control";
        findings.push(found(name, address, peer, shown, elsewhere));
    }
    findings
}

async fn trusted(server: &Running) -> Result<Arc<TrustBundle>, Failure> {
    let join: Join = server.admin.get("/v1/admin/join").await?;
    let wrong = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    let domain = TrustDomain::new(&join.trust_domain).map_err(|error| wrong(&error))?;
    let bundle = TrustBundle::from_pem(domain, join.roots.as_bytes(), 1);
    bundle.map(Arc::new).map_err(|error| wrong(&error))
}

/// A socket of all addresses is reached by that of this machine.
fn here(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    }
}

fn found(
    name: &str,
    address: SocketAddr,
    peer: Option<PeerKind>,
    shown: Result<Shown, KnockError>,
    elsewhere: bool,
) -> Finding {
    let shown = match shown {
        Ok(shown) => shown,
        Err(KnockError::Dial(_)) if elsewhere => {
            let detail = format!("`{name}` at {address} is not on this machine");
            return Finding::warn(
                WHAT,
                detail,
                "run `countersign doctor` where its gateway is",
            );
        }
        Err(KnockError::Dial(error)) => {
            let detail = format!("`{name}`: {}", with_causes(&error));
            return Finding::fail(WHAT, detail, "curl http://127.0.0.1:9464/readyz?verbose");
        }
        Err(error) => {
            let detail = format!("`{name}` at {address}: {error}");
            let hint = format!(
                "see who listens there: ss -ltnp 'sport = :{}'",
                address.port()
            );
            return Finding::fail(WHAT, detail, hint);
        }
    };
    let who = &shown.certificate.spiffe_id;
    let role = if name == "control" {
        "server"
    } else {
        "gateway"
    };
    if who.process().is_none_or(|(found, _)| found != role) {
        let detail = format!("`{name}` at {address} is `{who}`, and not a {role} of ours");
        let hint = format!(
            "see who listens there: ss -ltnp 'sport = :{}'",
            address.port()
        );
        return Finding::fail(WHAT, detail, hint);
    }
    // Who comes by a browser has no certificate, and is told where to sign in.
    let open = peer != Some(PeerKind::Browser);
    match shown.answer {
        Some(status @ ..400) if open => {
            let detail = format!("`{name}` at {address} answers {status} to a stranger");
            Finding::fail(WHAT, detail, "countersign audit tail")
        }
        Some(status @ (..300 | 500..)) => {
            let detail = format!("`{name}` at {address} answers {status} to who is not signed in");
            Finding::warn(WHAT, detail, "countersign audit tail")
        }
        Some(status) => {
            let detail = format!("`{name}` at {address} is {who}; a stranger gets {status}");
            Finding::ok(WHAT, detail)
        }
        None => {
            let detail = format!("`{name}` at {address} is {who}; a stranger gets no answer");
            Finding::ok(WHAT, detail)
        }
    }
}
