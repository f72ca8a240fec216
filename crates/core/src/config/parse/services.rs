//! `services` and their operations.

use super::ClientCertificate;
use super::Credential;
use super::Given;
use super::Lease;
use super::OperationRule;
use super::Service;
use super::Spanned;
use super::address;
use super::grammar;
use super::reader::Fields;
use super::reader::Reader;
use super::reader::Wrong;
use crate::config::Attached;
use crate::config::Balance;
use crate::config::Engine;
use crate::config::Health;
use crate::config::PeerKind;
use crate::config::Retry;
use crate::config::Screen;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::vocabulary::OperationPattern;
use std::time::Duration;

/// More operations than this in one service can't be reviewed by anybody.
const MAX_OPERATIONS: usize = 4_000;

const HEALTH_EVERY: Duration = Duration::from_secs(10);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn service(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Service> {
    let before = reader.said();
    let fields = reader.fields(node, &schema::SERVICE, name)?;
    let network = [("public", false), ("private", true)];
    let case = [("sensitive", false), ("insensitive", true)];
    let balance = [
        ("least-pending", Balance::LeastPending),
        ("round-robin", Balance::RoundRobin),
    ];
    let retry = [("idempotent", Retry::Idempotent), ("never", Retry::Never)];
    let service = Service {
        name,
        peer: fields.read(reader, "peer", peer),
        url: fields.text(reader, "url", address::url),
        urls: fields.texts(reader, "urls", address::url),
        identity: fields.text(reader, "identity", grammar::name),
        balance: fields.choice(reader, "balance", &balance),
        health: fields.read(reader, "health", health),
        retry: fields.choice(reader, "retry", &retry),
        lease: fields.read(reader, "lease", lease),
        through: fields.choice(reader, "through", &[("agent", ())]),
        engine: fields.read(reader, "engine", engine),
        certificate: fields.read(reader, "certificate", certificate),
        server_ca: fields.attached(reader, "server_ca"),
        credential: fields.read(reader, "credential", credential),
        headers: fields.texts(reader, "headers", grammar::forwarded_header),
        timeout: fields.text(reader, "timeout", grammar::duration),
        max_stream: fields.text(reader, "max_stream", grammar::duration),
        private_network: fields.choice(reader, "network", &network),
        fold_case: fields.choice(reader, "case", &case),
        needs: fields.text(reader, "needs", grammar::needs),
        operations: fields.read(reader, "operations", operations),
        trouble: false,
    };
    Some(Service {
        trouble: reader.said() > before,
        ..service
    })
}

fn peer(reader: &mut Reader<'_>, node: &Node) -> Option<PeerKind> {
    if node.text() == Some("browser") {
        let help = "use `service` for your own workload, `third-party` for somebody else's api";
        reader.error(
            codes::WRONG_PEER,
            node.span,
            "a service can't be `peer: browser`",
            help,
        );
        return None;
    }
    let words = [
        ("service", PeerKind::Service),
        ("third-party", PeerKind::ThirdParty),
        ("partner", PeerKind::Partner),
        ("database", PeerKind::Database),
        ("broker", PeerKind::Broker),
        ("provisioner", PeerKind::Provisioner),
    ];
    reader.choice(node, &words)
}

fn health(reader: &mut Reader<'_>, node: &Node) -> Option<Health> {
    let fields = reader.fields(node, &schema::HEALTH, node.span)?;
    let path = fields.text(reader, "path", grammar::path_of_request);
    let every = fields.text(reader, "every", grammar::duration);
    let timeout = fields.text(reader, "timeout", grammar::duration);
    Some(Health {
        place: reader.sources.place(node.span),
        path: path.value()?.clone(),
        every: every.or(HEALTH_EVERY),
        timeout: timeout.or(HEALTH_TIMEOUT),
    })
}

fn lease(reader: &mut Reader<'_>, node: &Node) -> Option<Lease> {
    let fields = reader.fields(node, &schema::LEASE, node.span)?;
    Some(Lease {
        ttl: fields.text(reader, "ttl", grammar::duration),
        grants: fields.texts(reader, "grants", grammar::grant),
    })
}

fn engine(reader: &mut Reader<'_>, node: &Node) -> Option<Engine> {
    let fields = reader.fields(node, &schema::ENGINE, node.span)?;
    let terraform = fields.read(reader, "terraform", |reader, node| reader.path(node));
    let opentofu = fields.read(reader, "opentofu", |reader, node| reader.path(node));
    let calm = fields.text(reader, "calm", grammar::word);
    let infoblox = fields.text(reader, "infoblox", grammar::word);
    let of = |given: &Given<String>, kind: fn(String) -> Engine| given.value().cloned().map(kind);
    of(&terraform, Engine::Terraform)
        .or_else(|| of(&opentofu, Engine::Opentofu))
        .or_else(|| of(&calm, Engine::Calm))
        .or_else(|| of(&infoblox, Engine::Infoblox))
}

fn certificate(reader: &mut Reader<'_>, node: &Node) -> Option<ClientCertificate> {
    let fields = reader.fields(node, &schema::CLIENT_CERTIFICATE, node.span)?;
    Some(ClientCertificate {
        chain: fields.attached(reader, "chain"),
        key: fields.secret(reader, "key"),
    })
}

fn credential(reader: &mut Reader<'_>, node: &Node) -> Option<Credential> {
    let fields = reader.fields(node, &schema::CREDENTIAL, node.span)?;
    Some(Credential {
        secret: fields.secret(reader, "secret"),
        form: fields.text(reader, "as", grammar::credential_form),
    })
}

fn operations(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<OperationRule>> {
    let entries = reader.entries(node)?;
    if entries.len() > MAX_OPERATIONS {
        let message = format!("a service has at most {MAX_OPERATIONS} operations");
        reader.error(
            codes::TOO_BIG,
            node.span,
            message,
            "use patterns such as `GET /v1/**`, or split the service",
        );
        return None;
    }
    let rule = |(key, value): &(Node, Node)| operation(reader, key, value);
    Some(entries.iter().filter_map(rule).collect())
}

fn operation(reader: &mut Reader<'_>, key: &Node, node: &Node) -> Option<OperationRule> {
    let pattern = reader.grammar(key, grammar::operation);
    let fields = &reader.fields(node, &schema::OPERATION, key.span)?;
    let verb = pattern.as_ref().map_or("GET", |it| it.verb()).to_owned();
    let body = fields.read(reader, "body", body).or(Body::default());
    Some(OperationRule {
        span: key.span,
        needs: fields.text(reader, "needs", grammar::needs),
        except: fields
            .texts(reader, "except", |text| exception(text, &verb))
            .or(Vec::new()),
        person: fields
            .choice(reader, "subject", &[("person", true)])
            .or(false),
        body_max: body.max.value().copied(),
        body_schema: body.schema,
        screens: body.screens,
        models: models(reader, fields),
        budget: fields.text(reader, "budget", grammar::name),
        hours: fields
            .text(reader, "hours", grammar::hours)
            .value()
            .copied(),
        rate: fields.text(reader, "rate", grammar::rate),
        policy: fields.text(reader, "policy", grammar::name),
        approve: fields.texts(reader, "approve", grammar::name),
        input: fields.attached(reader, "input"),
        token: fields.text(reader, "token", grammar::duration),
        pattern: pattern?,
    })
}

fn models(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Given<Vec<Spanned<String>>> {
    let models = fields.texts(reader, "models", grammar::model);
    if let Some(list) = models.spanned().filter(|list| list.value.is_empty()) {
        let help = "list the models that are allowed, or remove `models` to allow any";
        reader.error(codes::SHAPE, list.span, "an empty list of models", help);
    }
    models
}

struct Body {
    max: Given<u64>,
    schema: Given<Attached>,
    screens: Given<Vec<Spanned<Screen>>>,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            max: Given::Absent,
            schema: Given::Absent,
            screens: Given::Absent,
        }
    }
}

fn body(reader: &mut Reader<'_>, node: &Node) -> Option<Body> {
    let fields = reader.fields(node, &schema::BODY, node.span)?;
    Some(Body {
        max: fields.text(reader, "max", grammar::size),
        schema: fields.attached(reader, "schema"),
        screens: fields.texts(reader, "screen", grammar::screen),
    })
}

/// `/health` for the same method, or a whole pattern.
fn exception(text: &str, verb: &str) -> Result<OperationPattern, Wrong> {
    if !text.starts_with('/') {
        return grammar::operation(text);
    }
    grammar::operation(&format!("{verb} {text}")).map_err(|wrong| Wrong {
        at: 0..text.len(),
        ..wrong
    })
}
