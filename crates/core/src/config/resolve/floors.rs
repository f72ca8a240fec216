//! The floors of the decision matrix on services: what each kind of peer must have, and which keys
//! mean nothing for it.

use super::Resolver;
use crate::config::Needs;
use crate::config::PeerKind;
use crate::config::ServiceUrl;
use crate::config::codes;
use crate::config::codes::ConfigCode;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Given;
use crate::config::parse::Spanned;
use crate::config::parse::listed;
use crate::config::sources::Span;
use crate::vocabulary::AddressClass;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::classify;
use std::net::IpAddr;
use std::time::Duration;

/// Leased users and sub-tokens live no longer.
const LONGEST: Duration = Duration::from_secs(3600);

const SERVICE: &[PeerKind] = &[PeerKind::Service];
const THIRD_PARTY: &[PeerKind] = &[PeerKind::ThirdParty];
const PARTNER: &[PeerKind] = &[PeerKind::Partner];
const DATABASE: &[PeerKind] = &[PeerKind::Database];
const PROVISIONER: &[PeerKind] = &[PeerKind::Provisioner];
/// Those that speak HTTP.
const HTTP: &[PeerKind] = &[PeerKind::Service, PeerKind::ThirdParty, PeerKind::Partner];
const HTTP_OR_BROKER: &[PeerKind] = &[
    PeerKind::Service,
    PeerKind::ThirdParty,
    PeerKind::Partner,
    PeerKind::Broker,
];
/// Those whose certificate we check against something else than our own authority.
const OTHERS: &[PeerKind] = &[PeerKind::Partner, PeerKind::Database, PeerKind::Broker];
/// Those at an address.
const DIALLED: &[PeerKind] = &[
    PeerKind::Service,
    PeerKind::ThirdParty,
    PeerKind::Partner,
    PeerKind::Database,
    PeerKind::Broker,
];

impl Resolver<'_> {
    pub(super) fn check_floor(&mut self, name: &Name, service: &parse::Service) {
        let Some(peer) = service.peer.value().copied() else {
            return;
        };
        for (key, span, peers) in service_keys(service) {
            self.key_for(key, span, peers, peer);
        }
        self.check_place(service, peer);
        match peer {
            PeerKind::ThirdParty => self.check_third_party(name, service),
            PeerKind::Partner => self.check_partner(name, service),
            PeerKind::Database => self.check_database(name, service),
            PeerKind::Broker => self.check_broker(name, service),
            PeerKind::Provisioner => self.check_provisioner(name, service),
            PeerKind::Service | PeerKind::Browser => self.check_own_service(name, service),
        }
        for rule in service.operations.items() {
            self.check_rule(rule, peer);
        }
    }

    /// Says that a key is for other kinds of peers.
    fn key_for(&mut self, key: &str, span: Option<Span>, peers: &[PeerKind], peer: PeerKind) {
        let Some(span) = span.filter(|_| !peers.contains(&peer)) else {
            return;
        };
        let kinds: Vec<_> = peers
            .iter()
            .map(|it| format!("peer: {}", word(*it)))
            .collect();
        let message = format!(
            "`{key}` is for {}",
            listed(kinds.iter().map(String::as_str))
        );
        let help = format!("remove `{key}`");
        self.error(codes::KEY_NOT_HERE, span, message, help);
    }

    /// One address or several, each of the kind that such a peer has.
    fn check_place(&mut self, service: &parse::Service, peer: PeerKind) {
        if let (Some(_), Some(urls)) = (service.url.spanned(), service.urls.spanned()) {
            let message = "a service has `url` or `urls`, not both";
            let help = "remove `url`, and list it in `urls`";
            self.error(codes::KEY_NOT_HERE, urls.span, message, help);
        }
        let empty = service.urls.spanned().filter(|it| it.value.is_empty());
        if let Some(urls) = empty {
            let help = "list the addresses, or write `url` for one";
            self.error(
                codes::WRONG_URL,
                urls.span,
                "an empty list of addresses",
                help,
            );
        }
        let none = service.url.is_absent() && service.urls.is_absent();
        if none && peer != PeerKind::Provisioner {
            let it = Diagnostic::error(codes::WRONG_URL, service.name, "a service needs `url`");
            let help = format!("add `url`, such as `url: {}`", example(peer));
            self.report.push(it.label("has no `url`").help(help));
        }
        let one = service.url.spanned();
        for url in one.into_iter().chain(service.urls.items()) {
            self.check_url(url, service, peer);
        }
    }

    fn check_url(&mut self, url: &Spanned<ServiceUrl>, service: &parse::Service, peer: PeerKind) {
        if peer == PeerKind::Provisioner {
            return;
        }
        if !fits(&url.value, peer) {
            let plain = matches!(url.value, ServiceUrl::Http { .. });
            let (code, message) = if plain && peer == PeerKind::ThirdParty {
                let message = "a third party is called by `https://`".to_owned();
                (codes::THIRD_PARTY_HTTP, message)
            } else {
                let message = format!("`peer: {}` is not at such an address", word(peer));
                (codes::WRONG_URL, message)
            };
            let (label, help) = instead(&url.value, peer);
            let it = Diagnostic::error(code, url.span, message);
            self.report.push(it.label(label).help(help));
            return;
        }
        let (ServiceUrl::Https { host, .. }
        | ServiceUrl::Postgres { host, .. }
        | ServiceUrl::Nats { host, .. }) = &url.value
        else {
            return;
        };
        if is_number(host) {
            let message = format!("`{host}` is no name: it may be read as an address inside");
            let help = "write a name, or the address with four numbers, such as `192.0.2.7`";
            let it = Diagnostic::error(codes::PRIVATE_ADDRESS, url.span, message);
            self.report.push(it.label("ends in a number").help(help));
            return;
        }
        // Development is all on one machine.
        let own = self.is_dev() && peer != PeerKind::ThirdParty && peer != PeerKind::Partner;
        let meant = service.private_network.value() == Some(&true)
            || matches!(service.private_network, Given::Broken);
        if let Some(kind) = inside(host).filter(|_| !own && !meant) {
            let message = format!("`{host}` is {kind}, which is not dialled unless that is meant");
            let help = "add `network: private` if it is meant";
            let it = Diagnostic::error(codes::PRIVATE_ADDRESS, url.span, message);
            self.report.push(it.label("leads inside").help(help));
        }
    }

    fn check_third_party(&mut self, name: &Name, service: &parse::Service) {
        if service.credential.is_absent() {
            let it = Diagnostic::error(
                codes::NO_CREDENTIAL,
                service.name,
                format!("`{name}` has no credential to inject"),
            );
            let help = format!("add `credential: {{ secret: {name}, as: bearer }}` and the secret");
            self.report.push(it.label("has no `credential`").help(help));
        }
    }

    fn check_partner(&mut self, name: &Name, service: &parse::Service) {
        if service.certificate.is_absent() {
            let message = format!("`{name}` would not know who calls it");
            let it = Diagnostic::error(codes::NO_CERTIFICATE, service.name, message);
            let help = format!(
                "add the certificate they issued: `certificate: {{ chain: partners/{name}.pem, key: {name}-key }}`, and the secret"
            );
            self.report
                .push(it.label("has no `certificate`").help(help));
        }
    }

    fn check_database(&mut self, name: &Name, service: &parse::Service) {
        if service.lease.is_absent() {
            let message = format!("`{name}` has no leased users");
            let it = Diagnostic::error(codes::NO_LEASE, service.name, message);
            let help = "add `lease`, such as `lease: { ttl: 15m, grants: [SELECT on reports] }`";
            self.report.push(it.label("has no `lease`").help(help));
        }
        let Some(lease) = service.lease.value() else {
            return;
        };
        if let Some(ttl) = lease.ttl.spanned().filter(|it| !lives(it.value)) {
            let message = "a leased user lives for minutes, at most an hour";
            self.error(
                codes::LONG_LEASE,
                ttl.span,
                message,
                "write `15m`, or at most `1h`",
            );
        }
        if let Some(grants) = lease.grants.spanned().filter(|it| it.value.is_empty()) {
            let message = "a lease that opens nothing";
            let help = "list what the user may do, such as `[SELECT on reports]`";
            self.error(codes::EMPTY_LEASE, grants.span, message, help);
        }
        if service.through.is_absent() {
            let message = format!("the leased users of `{name}` have passwords");
            let help = "add `through: agent`, so that the application never holds one";
            self.warn(codes::PASSWORD_LEASE, service.name, message, help);
        }
    }

    fn check_broker(&mut self, name: &Name, service: &parse::Service) {
        if let Some(needs) = service.needs.spanned() {
            let message = format!("`{name}` says nothing about its topics");
            let help =
                "write `operations`, such as `publish reports.*: { needs: \"report:write\" }`";
            self.error(codes::OPEN_TOPIC, needs.span, message, help);
        }
        for rule in service.operations.items() {
            let open = rule.pattern.object().contains('*');
            if let Some(needs) = rule
                .needs
                .spanned()
                .filter(|it| open && it.value == Needs::Edge)
            {
                let message = format!("wildcard topic without a role: `{}`", rule.pattern);
                let help =
                    "name a permission, such as `needs: \"report:read\"`, or the topics one by one";
                self.error(codes::OPEN_TOPIC, needs.span, message, help);
            }
        }
    }

    fn check_provisioner(&mut self, name: &Name, service: &parse::Service) {
        if service.engine.is_absent() {
            let message = format!("`{name}` has nothing that provisions");
            let it = Diagnostic::error(codes::NO_ENGINE, service.name, message);
            let help = "add `engine`, such as `engine: { opentofu: modules/sandbox-vm }`";
            self.report.push(it.label("has no `engine`").help(help));
        }
        if let Some(needs) = service.needs.spanned() {
            let message = format!("`{name}` provisions without a policy");
            let help = "write `operations`, each with a `policy` and a `token`";
            self.error(codes::NO_POLICY, needs.span, message, help);
        }
        for rule in service.operations.items() {
            if rule.policy.is_absent() {
                let message = format!("`{}` has no policy", rule.pattern);
                let it = Diagnostic::error(codes::NO_POLICY, rule.span, message);
                let help = "add `policy` with the name of an entry of `policies`";
                self.report.push(it.label("has no `policy`").help(help));
            }
            if rule.token.is_absent() {
                let message = format!(
                    "`{}` does not say how long a run's token lives",
                    rule.pattern
                );
                let it = Diagnostic::error(codes::LONG_TOKEN, rule.span, message);
                self.report.push(
                    it.label("has no `token`")
                        .help("add `token: 10m`, at most `1h`"),
                );
            }
            if let Some(token) = rule.token.spanned().filter(|it| !lives(it.value)) {
                let message = "the token of a run lives for minutes, at most an hour";
                let help = "write `10m`, or at most `1h`";
                self.error(codes::LONG_TOKEN, token.span, message, help);
            }
        }
    }

    /// An operation that such a peer can have, with the keys that mean something for it.
    fn check_rule(&mut self, rule: &parse::OperationRule, peer: PeerKind) {
        self.check_verb(&rule.pattern, rule.span, peer);
        let body =
            rule.body_max.is_some() || !rule.body_schema.is_absent() || !rule.screens.is_absent();
        let bodies = [
            ("body", body.then_some(rule.span), HTTP),
            ("models", rule.models.span(), HTTP),
            ("budget", rule.budget.span(), HTTP),
            ("input", rule.input.span(), PROVISIONER),
            ("token", rule.token.span(), PROVISIONER),
        ];
        for (key, at, peers) in bodies {
            self.key_for(key, at, peers, peer);
        }
        // Nobody reads what goes through a tunnel.
        let tunnel = rule.pattern.verb() == "connect";
        let bodiless = tunnel || matches!(rule.pattern.verb(), "GET" | "HEAD");
        let sized = rule.body_max.is_some().then_some(rule.span);
        let read = [
            ("body.max", sized.filter(|_| tunnel)),
            ("budget", rule.budget.span().filter(|_| tunnel)),
            ("models", rule.models.span()),
            ("schema", rule.body_schema.span()),
            ("screen", rule.screens.span()),
        ];
        for (key, at) in read {
            if let Some(at) = at.filter(|_| bodiless && HTTP.contains(&peer)) {
                let message = format!("`{key}` is about a body, and `{}` has none", rule.pattern);
                self.error(codes::KEY_NOT_HERE, at, message, format!("remove `{key}`"));
            }
        }
    }

    /// Says if such a peer can't be asked for this.
    pub(super) fn check_verb(&mut self, pattern: &OperationPattern, span: Span, peer: PeerKind) {
        if peer == PeerKind::ThirdParty && pattern.verb() == "connect" {
            let message = "a tunnel to a third party goes past the credential";
            let help = "write the method and path of each call, such as `POST /v1/chat`";
            self.error(codes::THIRD_PARTY_TUNNEL, span, message, help);
            return;
        }
        if !has_verb(pattern, peer) {
            let message = format!("`peer: {}` has no operation `{pattern}`", word(peer));
            let help = match peer {
                PeerKind::Database => "a database has `connect`",
                PeerKind::Broker => "a broker has `publish <topic>` and `subscribe <topic>`",
                PeerKind::Provisioner => "a provisioner has `create`",
                PeerKind::ThirdParty => "write a method and a path such as `GET /v1/**`",
                _ => "write a method and a path such as `GET /v1/**`, or `connect` for a tunnel",
            };
            self.error(codes::WRONG_OPERATION, span, message, help);
        }
    }

    pub(super) fn check_named<'n>(
        &mut self,
        code: ConfigCode,
        given: &Spanned<Name>,
        names: impl Iterator<Item = &'n Name> + Clone,
        (what, section): (&str, &str),
    ) {
        let otherwise = format!("add `{}` to `{section}`", given.value);
        let help = self.meant(given.value.as_str(), names.map(Name::as_str), &otherwise);
        let message = format!("no {what} is named `{}`", given.value);
        self.error(code, given.span, message, help);
    }
}

/// Whether such a peer can be asked for this.
pub(super) fn has_verb(pattern: &OperationPattern, peer: PeerKind) -> bool {
    let (verb, bare) = (pattern.verb(), pattern.object().is_empty());
    let http = verb.bytes().all(|b| b.is_ascii_uppercase());
    match peer {
        PeerKind::Database => verb == "connect" && bare,
        PeerKind::Broker => matches!(verb, "publish" | "subscribe") && !bare,
        PeerKind::Provisioner => verb == "create",
        _ => http || (verb == "connect" && bare),
    }
}

/// Keys that are not for every kind of peer.
fn service_keys(
    service: &parse::Service,
) -> [(&'static str, Option<Span>, &'static [PeerKind]); 18] {
    [
        ("url", service.url.span(), DIALLED),
        ("urls", service.urls.span(), HTTP_OR_BROKER),
        ("identity", service.identity.span(), SERVICE),
        ("balance", service.balance.span(), HTTP),
        ("health", service.health.span(), HTTP),
        ("timeout", service.timeout.span(), DIALLED),
        ("max_stream", service.max_stream.span(), DIALLED),
        ("retry", service.retry.span(), HTTP),
        ("network", service.private_network.span(), DIALLED),
        ("case", service.fold_case.span(), HTTP),
        ("credential", service.credential.span(), THIRD_PARTY),
        ("headers", service.headers.span(), THIRD_PARTY),
        ("certificate", service.certificate.span(), PARTNER),
        ("server_ca", service.server_ca.span(), OTHERS),
        ("lease", service.lease.span(), DATABASE),
        ("through", service.through.span(), DIALLED),
        ("engine", service.engine.span(), PROVISIONER),
        ("needs", None, DIALLED),
    ]
}

/// The word of the language for a kind of peer.
const fn word(peer: PeerKind) -> &'static str {
    match peer {
        PeerKind::Service => "service",
        PeerKind::Browser => "browser",
        PeerKind::Database => "database",
        PeerKind::Broker => "broker",
        PeerKind::ThirdParty => "third-party",
        PeerKind::Partner => "partner",
        PeerKind::Provisioner => "provisioner",
    }
}

const fn example(peer: PeerKind) -> &'static str {
    match peer {
        PeerKind::Database => "postgres://db.hms.svc:5432/reports",
        PeerKind::Broker => "nats://broker.hms.svc:4222",
        PeerKind::ThirdParty => "https://api.openai.com",
        PeerKind::Partner => "https://api.globex.example",
        _ => "https://api.hms.svc:8443",
    }
}

const fn fits(url: &ServiceUrl, peer: PeerKind) -> bool {
    matches!(
        (peer, url),
        (
            PeerKind::Service,
            ServiceUrl::Https { .. } | ServiceUrl::Http { .. } | ServiceUrl::Unix { .. }
        ) | (
            PeerKind::ThirdParty | PeerKind::Partner,
            ServiceUrl::Https { .. }
        ) | (PeerKind::Database, ServiceUrl::Postgres { .. })
            | (PeerKind::Broker, ServiceUrl::Nats { .. })
    )
}

/// What to say about an address of another kind, and what to write.
fn instead(url: &ServiceUrl, peer: PeerKind) -> (&'static str, String) {
    match (url, peer) {
        (ServiceUrl::Http { .. }, PeerKind::ThirdParty) => (
            "the credential would travel in the clear",
            "write `https://`, or `peer: service` if it is a workload of your own".to_owned(),
        ),
        (ServiceUrl::Postgres { .. }, _) => (
            "the address of a database",
            "write `peer: database`, with a `lease`".to_owned(),
        ),
        (ServiceUrl::Nats { .. }, _) => (
            "the address of a broker",
            "write `peer: broker`, with `operations`".to_owned(),
        ),
        _ => ("", format!("write an address such as `{}`", example(peer))),
    }
}

/// A lifetime of minutes.
fn lives(span: Duration) -> bool {
    !span.is_zero() && span <= LONGEST
}

/// What an address that leads inside is; `None` for a name or an address of the internet. The
/// dialler decides at each connection (a name may lead anywhere); this is about what is written.
fn inside(host: &str) -> Option<String> {
    let class = if host == "localhost" || host.ends_with(".localhost") {
        AddressClass::Loopback
    } else {
        classify(host.parse().ok()?)
    };
    match class {
        AddressClass::Global => None,
        AddressClass::Loopback => Some("this machine".to_owned()),
        other => Some(other.to_string()),
    }
}

/// Whether a resolver may read a name as an IPv4 address (`127.1`, `2130706433`, `0x7f.1`): the
/// WHATWG URL standard takes any host whose last part is a number for one, as `inet_aton` does.
fn is_number(host: &str) -> bool {
    let Some(last) = host.rsplit('.').next().filter(|it| !it.is_empty()) else {
        return false;
    };
    let number = last.starts_with("0x") || last.bytes().all(|it| it.is_ascii_digit());
    number && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_inside() {
        for host in [
            "localhost",
            "a.localhost",
            "127.9.9.9",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "fd00:ec2::254",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::169.254.169.254",
            "2002:7f00:1::",
            "198.18.0.1",
        ] {
            assert!(inside(host).is_some(), "{host}");
        }
        for host in [
            "api.openai.com",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "localhost.evil.example",
        ] {
            assert_eq!(inside(host), None, "{host}");
        }
    }

    #[test]
    fn names_that_resolvers_take_for_addresses() {
        for host in [
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0x7f000001",
            "10.0.1",
            "a.0x1",
            "a.7",
        ] {
            assert!(is_number(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "::1",
            "fd12::1",
            "7.example",
            "x7",
            "0x7f.example",
            "api",
        ] {
            assert!(!is_number(host), "{host}");
        }
    }
}
