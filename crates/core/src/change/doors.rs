//! Doors and sign-ins, key by key.

use super::Section;
use super::entries::Entry;
use super::entries::Weight;
use super::entries::entry;
use super::entries::word;
use super::value::Text;
use super::value::Unit;
use super::value::Value;
use crate::config::Cors;
use crate::config::DoorTls;
use crate::config::Limits;
use crate::config::Listener;
use crate::config::OidcLogin;
use crate::config::Signature;
use crate::vocabulary::Name;

pub(super) fn listener(name: &Name, it: &Listener) -> Entry {
    let Listener {
        place,
        bind,
        peer,
        hosts,
        login,
        client_ca,
        signature,
        tls,
        routes,
        tls12,
        limits,
        rate,
        cors,
    } = it;
    let tls = match tls {
        DoorTls::Internal => "internal".to_owned(),
        DoorTls::Acme => "acme".to_owned(),
        DoorTls::Files { certificate, key } => format!("{certificate} with {key}"),
    };
    // Without any it answers to its address.
    let hosts = if hosts.is_empty() {
        vec!["its address".to_owned()]
    } else {
        hosts.clone()
    };
    let routes: Vec<_> = routes
        .iter()
        .map(|it| format!("{}{} -> {}", it.host, it.path.object(), it.service))
        .collect();
    let mut keys = vec![
        ("bind", Value::text(Some(bind.to_string()))),
        ("peer", Value::text(Some(word(peer)))),
        ("hosts", Value::Grants(hosts)),
        ("login", Value::text(login.as_ref().map(|it| it.name()))),
        (
            "client_ca",
            Value::Other(client_ca.as_ref().map(Text::file)),
        ),
        ("tls", Value::text(Some(tls))),
        (
            "routes",
            Value::text((!routes.is_empty()).then(|| routes.join("; "))),
        ),
        ("min_tls 1.2", Value::yes(tls12.is_some())),
        ("min_tls reason", Value::Indifferent(tls12.clone())),
        ("rate", Value::Rate(*rate)),
    ];
    keys.extend(signature.iter().flat_map(signed));
    keys.extend(limited(*limits));
    keys.extend(cors.iter().flat_map(shared));
    entry(Section::Listener, name, *place, keys, Weight::Allows)
}

pub(super) fn login(name: &Name, it: &OidcLogin) -> Entry {
    let OidcLogin {
        place,
        issuer,
        client_id,
        client_secret,
        audience,
        roles_from,
        team_from,
        claims_max_age,
    } = it;
    let secret = client_secret.as_ref().map(Name::as_str);
    let keys = vec![
        ("oidc", Value::text(Some(issuer.as_str()))),
        ("client_id", Value::text(client_id.clone())),
        ("client_secret", Value::text(secret)),
        ("audience", Value::text(audience.clone())),
        ("roles_from", Value::text(roles_from.clone())),
        ("team_from", Value::text(team_from.clone())),
        ("claims_max_age", Value::time(*claims_max_age)),
    ];
    entry(Section::Login, name, *place, keys, Weight::Allows)
}

fn signed(it: &Signature) -> [(&'static str, Value); 3] {
    let Signature {
        place: _,
        secret,
        scheme,
        window,
    } = it;
    [
        ("signature.secret", Value::demand(Some(secret.as_str()))),
        ("signature.scheme", Value::demand(Some(word(scheme)))),
        ("signature.window", Value::time(*window)),
    ]
}

fn limited(it: Limits) -> [(&'static str, Value); 6] {
    let Limits {
        header,
        header_time,
        body,
        idle,
        connections,
        streams,
    } = it;
    let count = |it: u32| Value::AtMost(Some(u64::from(it)), Unit::Count);
    let bytes = |it: u64| Value::AtMost(Some(it), Unit::Bytes);
    [
        ("limits.header", bytes(header)),
        ("limits.header_time", Value::time(header_time)),
        ("limits.body", bytes(body)),
        ("limits.idle", Value::time(idle)),
        ("limits.connections", count(connections)),
        ("limits.streams", count(streams)),
    ]
}

/// It opens answers to other origins; `max_age` says only for how long browsers remember that.
fn shared(it: &Cors) -> [(&'static str, Value); 5] {
    let Cors {
        place: _,
        origins,
        methods,
        headers,
        credentials,
        max_age,
    } = it;
    let age = Unit::Millis;
    let millis = super::value::millis(*max_age);
    [
        ("cors.origins", Value::Grants(origins.clone())),
        ("cors.methods", Value::Grants(methods.clone())),
        ("cors.headers", Value::Grants(headers.clone())),
        ("cors.credentials", Value::yes(*credentials)),
        (
            "cors.max_age",
            Value::Indifferent(Value::AtMost(Some(millis), age).shown()),
        ),
    ]
}
