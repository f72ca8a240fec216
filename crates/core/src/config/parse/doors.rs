//! `listeners` and `login`.

use super::Cors;
use super::Listener;
use super::Login;
use super::Route;
use super::Signature;
use super::address;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use super::reader::shortened;
use crate::config::DoorTls;
use crate::config::Limits;
use crate::config::PeerKind;
use crate::config::SignatureScheme;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::vocabulary::OperationPattern;
use std::time::Duration;

const CLAIMS_MAX_AGE: Duration = Duration::from_secs(15 * 60);
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(10 * 60);
const SIGNATURE_WINDOW: Duration = Duration::from_secs(5 * 60);

pub(super) fn listener(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Listener> {
    let fields = reader.fields(node, &schema::LISTENER, name)?;
    Some(Listener {
        name,
        bind: fields.text(reader, "bind", address::socket),
        peer: fields.read(reader, "peer", peer),
        hosts: fields.texts(reader, "hosts", address::host),
        login: fields.text(reader, "login", grammar::name),
        client_ca: fields.attached(reader, "client_ca"),
        signature: fields.read(reader, "signature", signature),
        tls: fields.read(reader, "tls", tls),
        routes: fields.read(reader, "routes", routes),
        tls12: fields.read(reader, "min_tls", min_tls),
        limits: fields.read(reader, "limits", limits).or(Limits::default()),
        rate: fields.text(reader, "rate", grammar::rate),
        cors: fields.read(reader, "cors", cors),
    })
}

/// An entry of `login`.
pub(super) fn login(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Login> {
    let fields = reader.fields(node, &schema::LOGIN, name)?;
    Some(Login {
        name,
        issuer: fields.text(reader, "oidc", address::web_url),
        client_id: fields.text(reader, "client_id", grammar::word),
        client_secret: fields.secret(reader, "client_secret"),
        audience: fields.text(reader, "audience", grammar::word),
        roles_from: fields.text(reader, "roles_from", grammar::word),
        team_from: fields.text(reader, "team_from", grammar::word),
        claims_max_age: fields
            .text(reader, "claims_max_age", grammar::duration)
            .or(CLAIMS_MAX_AGE),
    })
}

fn peer(reader: &mut Reader<'_>, node: &Node) -> Option<PeerKind> {
    if let Some(word @ ("database" | "broker" | "provisioner")) = node.text() {
        let message = format!("a listener can't be `peer: {word}`");
        let help = "use `service`, `browser`, `partner` or `third-party`";
        reader.error(codes::WRONG_PEER, node.span, message, help);
        return None;
    }
    let words = [
        ("service", PeerKind::Service),
        ("browser", PeerKind::Browser),
        ("partner", PeerKind::Partner),
        ("third-party", PeerKind::ThirdParty),
    ];
    reader.choice(node, &words)
}

fn signature(reader: &mut Reader<'_>, node: &Node) -> Option<Signature> {
    let fields = reader.fields(node, &schema::SIGNATURE, node.span)?;
    let schemes = [
        ("standard-webhooks", SignatureScheme::StandardWebhooks),
        ("github", SignatureScheme::Github),
        ("stripe", SignatureScheme::Stripe),
        ("slack", SignatureScheme::Slack),
    ];
    Some(Signature {
        secret: fields.secret(reader, "secret"),
        scheme: fields.choice(reader, "scheme", &schemes),
        window: fields
            .text(reader, "window", grammar::duration)
            .or(SIGNATURE_WINDOW),
    })
}

fn cors(reader: &mut Reader<'_>, node: &Node) -> Option<Cors> {
    let fields = reader.fields(node, &schema::CORS, node.span)?;
    let switch = [("true", true), ("false", false)];
    Some(Cors {
        origins: fields.texts(reader, "origins", address::origin),
        methods: fields.texts(reader, "methods", grammar::method),
        headers: fields.texts(reader, "headers", grammar::header),
        credentials: fields.choice(reader, "credentials", &switch).or(false),
        max_age: fields
            .text(reader, "max_age", grammar::duration)
            .or(PREFLIGHT_MAX_AGE),
    })
}

fn tls(reader: &mut Reader<'_>, node: &Node) -> Option<DoorTls> {
    if matches!(node.value, Value::Map(_)) {
        let fields = reader.fields(node, &schema::DOOR_TLS, node.span)?;
        let certificate = fields.read(reader, "certificate", |reader, node| reader.path(node));
        let key = fields.read(reader, "key", |reader, node| reader.path(node));
        return Some(DoorTls::Files {
            certificate: certificate.value()?.clone(),
            key: key.value()?.clone(),
        });
    }
    if let Some("off" | "none" | "false" | "no") = node.text() {
        let help = "write `tls: internal`, or remove the key";
        reader.error(codes::TLS_OFF, node.span, "a door without tls", help);
        return None;
    }
    reader
        .choice(node, &[("internal", false), ("acme", true)])
        .map(|acme| {
            if acme {
                DoorTls::Acme
            } else {
                DoorTls::Internal
            }
        })
}

fn min_tls(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let help = "write `min_tls: { \"1.2\": \"reason\" }`, or remove it";
    let [(version, reason)] = reader.entries(node)? else {
        reader.error(
            codes::SHAPE,
            node.span,
            "`min_tls` is one version and the reason for it",
            help,
        );
        return None;
    };
    if version.text() != Some("1.2") {
        reader.error(
            codes::CHOICE,
            version.span,
            "only `1.2` can be allowed beside 1.3",
            help,
        );
        return None;
    }
    let text = reader.text(reason)?;
    if text.trim().len() < 8 {
        let help = "say who needs it and until when, such as `\"scanners on floor 2 until 2027\"`";
        reader.error(
            codes::SHAPE,
            reason.span,
            "an older tls version needs a reason",
            help,
        );
        return None;
    }
    Some(text.trim().to_owned())
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Option<Limits> {
    let fields = &reader.fields(node, &schema::LIMITS, node.span)?;
    let default = Limits::default();
    Some(Limits {
        header: fields
            .text(reader, "header", grammar::size)
            .or(default.header),
        header_time: fields
            .text(reader, "header_time", grammar::duration)
            .or(default.header_time),
        body: fields.text(reader, "body", grammar::size).or(default.body),
        idle: fields
            .text(reader, "idle", grammar::duration)
            .or(default.idle),
        connections: fields
            .text(reader, "connections", grammar::count)
            .or(default.connections),
        streams: fields
            .text(reader, "streams", grammar::count)
            .or(default.streams),
    })
}

fn routes(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    for (key, value) in reader.entries(node)? {
        let place = reader.grammar(key, host_and_path);
        let service = reader.grammar(value, grammar::name);
        if let (Some((host, path)), Some(name)) = (place, service) {
            let service = super::Spanned {
                value: name,
                span: value.span,
            };
            routes.push(Route {
                span: key.span,
                host,
                path,
                service,
            });
        }
    }
    Some(routes)
}

/// `app.acme.example/**`.
fn host_and_path(text: &str) -> Result<(String, OperationPattern), Wrong> {
    let Some(at) = text.find('/') else {
        let help = format!("add a path: `{}/**`", shortened(text));
        return Err(Wrong::all(
            codes::HOST,
            text,
            "a route is a host and a path",
            help,
        ));
    };
    let (host, path) = text.split_at_checked(at).unwrap_or((text, ""));
    let host = address::host(host)?;
    let pattern = grammar::operation(&format!("GET {path}"));
    let pattern = pattern.map_err(|wrong| Wrong {
        at: at..text.len(),
        ..wrong
    })?;
    Ok((host, pattern))
}
