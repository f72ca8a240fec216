//! What a server says once everything is open.

use super::ui::Answer;
use super::ui::Ui;
use super::up::Doors;
use crate::boot::Places;
use crate::operate::Failure;
use countersign_core::config::PeerKind;
use countersign_server::Server;
use countersign_server::ca::ROOT_CERTIFICATE;
use serde_json::json;
use std::net::SocketAddr;

/// Says what was opened, and what can be done next.
pub(crate) fn announce(
    places: &Places,
    (control, metrics): (SocketAddr, Option<SocketAddr>),
    doors: &Doors,
    server: &Server,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let snapshot = server.point().snapshot();
    let config = snapshot.config();
    let mut lines = vec![format!(
        "countersign {}  {}",
        env!("CARGO_PKG_VERSION"),
        config.trust_domain.as_str()
    )];
    for (name, address) in doors {
        let door = config.listeners.get(name);
        let text = match door.map(|door| door.peer) {
            Some(PeerKind::Browser) => {
                let host = door.and_then(|door| door.hosts.first()).cloned();
                let host = host.unwrap_or_else(|| address.ip().to_string());
                format!(
                    "  door {name:<10} https://{host}:{}/   people sign in here",
                    address.port()
                )
            }
            _ => format!("  door {name:<10} {address}   workloads, with certificate and token"),
        };
        lines.push(text);
    }
    let root = places.data.join("keys").join(ROOT_CERTIFICATE);
    let (log_key, socket) = (server.log_key().to_string(), places.socket.display());
    lines.push(format!("  control         {control}   issuer, vault"));
    lines.push(format!("  administration  {socket}"));
    lines.extend(
        metrics.map(|it| format!("  metrics         http://{it}/metrics   and /livez, /readyz")),
    );
    lines.push(format!(
        "  root            {}   what callers trust",
        root.display()
    ));
    lines.push(format!("  log key         {log_key}"));
    if let Some(name) = config.identities.keys().next() {
        lines.push(format!(
            "next:  countersign identity issue {name} --out id/{name}"
        ));
        lines.push("       countersign audit tail -f".to_owned());
    }
    let listeners: serde_json::Map<_, _> = doors
        .iter()
        .map(|(name, at)| (name.to_string(), json!(at)))
        .collect();
    let document = json!({
        "control": control, "data": places.data, "listeners": listeners,
        "log_key": log_key, "metrics": metrics, "root": root, "socket": places.socket,
        "trust_domain": config.trust_domain.as_str(),
    });
    ui.answer(Answer {
        document,
        schema: "countersign.up/v1",
        short: &log_key,
        text: &lines.join("\n"),
    })
}
