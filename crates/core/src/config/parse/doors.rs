//! `listeners` and `identities`.

use super::Identity;
use super::Listener;
use super::Route;
use super::address;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use super::reader::shortened;
use crate::config::Limits;
use crate::config::Login;
use crate::config::PeerKind;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::vocabulary::OperationPattern;

pub(super) fn listener(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Listener> {
    let fields = reader.fields(node, &schema::LISTENER, name)?;
    fields.read(reader, "tls", tls);
    Some(Listener {
        name,
        bind: fields.text(reader, "bind", address::socket),
        peer: fields.read(reader, "peer", peer),
        hosts: fields.texts(reader, "hosts", address::host),
        login: fields.read(reader, "login", login),
        routes: fields.read(reader, "routes", routes),
        tls12: fields.read(reader, "min_tls", min_tls),
        limits: fields.read(reader, "limits", limits).or(Limits::default()),
    })
}

pub(super) fn identity(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Identity> {
    let fields = reader.fields(node, &schema::IDENTITY, name)?;
    let user = fields.read(reader, "attest", |reader, node| {
        let attest = reader.fields(node, &schema::ATTEST, node.span)?;
        let unix = attest.node("unix")?;
        let unix_fields = reader.fields(unix, &schema::UNIX, unix.span)?;
        unix_fields
            .text(reader, "user", grammar::unix_user)
            .value()
            .cloned()
    });
    Some(Identity {
        name,
        unix_user: user.value().cloned(),
    })
}

fn peer(reader: &mut Reader<'_>, node: &Node) -> Option<PeerKind> {
    if matches!(
        node.text(),
        Some("third-party" | "database" | "broker" | "provisioner")
    ) {
        let message = format!(
            "a listener can't be `peer: {}`",
            node.text().unwrap_or_default()
        );
        reader.error(
            codes::WRONG_PEER,
            node.span,
            message,
            "use `service` or `browser`",
        );
        return None;
    }
    reader.choice(
        node,
        &[
            ("service", PeerKind::Service),
            ("browser", PeerKind::Browser),
        ],
        &["partner", "local"],
    )
}

fn login(reader: &mut Reader<'_>, node: &Node) -> Option<Login> {
    reader.grammar(node, |text| match text {
        "dev" => Ok(Login::Dev),
        other => {
            let message = format!("the login `{}` is not in this build yet", shortened(other));
            Err(Wrong::all(
                codes::NOT_YET,
                other,
                message,
                "use `login: dev` with `environment: dev`",
            ))
        }
    })
}

fn tls(reader: &mut Reader<'_>, node: &Node) -> Option<()> {
    match node.text() {
        Some("internal") => Some(()),
        Some("off" | "none" | "false" | "no") => {
            reader.error(
                codes::TLS_OFF,
                node.span,
                "a door without tls",
                "write `tls: internal`, or remove the key",
            );
            None
        }
        None if !node.is_nothing() => {
            let help = "write `tls: internal`, or remove the key";
            reader.error(
                codes::NOT_YET,
                node.span,
                "a certificate of your own is not in this build yet",
                help,
            );
            None
        }
        _ => reader.choice(node, &[("internal", ())], &["acme"]),
    }
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
