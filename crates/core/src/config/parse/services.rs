//! `services` and their operations.

use super::Credential;
use super::OperationRule;
use super::Service;
use super::address;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use crate::config::PeerKind;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::vocabulary::OperationPattern;
use std::time::Duration;

/// More operations than this in one service can't be reviewed by anybody.
const MAX_OPERATIONS: usize = 4_000;

pub(super) fn service(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Service> {
    let before = reader.said();
    let fields = reader.fields(node, &schema::SERVICE, name)?;
    let network = [("public", false), ("private", true)];
    let case = [("sensitive", false), ("insensitive", true)];
    let service = Service {
        name,
        peer: fields.read(reader, "peer", peer),
        url: fields.text(reader, "url", address::url),
        identity: fields.text(reader, "identity", grammar::name),
        credential: fields.read(reader, "credential", credential),
        headers: fields.texts(reader, "headers", grammar::forwarded_header),
        timeout: fields
            .text(reader, "timeout", grammar::duration)
            .or(Duration::from_secs(30)),
        max_stream: fields
            .text(reader, "max_stream", grammar::duration)
            .or(Duration::from_secs(3600)),
        private_network: fields.read(reader, "network", |it, node| it.choice(node, &network, &[])),
        fold_case: fields
            .read(reader, "case", |it, node| it.choice(node, &case, &[]))
            .or(false),
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
    ];
    reader.choice(
        node,
        &words,
        &["partner", "database", "broker", "provisioner"],
    )
}

fn credential(reader: &mut Reader<'_>, node: &Node) -> Option<Credential> {
    let fields = reader.fields(node, &schema::CREDENTIAL, node.span)?;
    Some(Credential {
        secret: fields.text(reader, "secret", grammar::name),
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
    let fields = reader.fields(node, &schema::OPERATION, key.span)?;
    let needs = fields.text(reader, "needs", grammar::needs);
    if needs.is_absent() {
        let it = Diagnostic::error(codes::NO_NEEDS, key.span, "an operation that needs nothing")
            .label("has no `needs`");
        let help = "add a permission, such as `needs: \"report:read\"`, or say that the edge is enough: `needs: edge`";
        reader.report.push(it.help(help));
    }
    let verb = pattern.as_ref().map_or("GET", |it| it.verb()).to_owned();
    let except = fields.texts(reader, "except", |text| exception(text, &verb));
    let person = fields.read(reader, "subject", |it, node| {
        it.choice(node, &[("person", true)], &[])
    });
    let body = fields.read(reader, "body", |reader, node| {
        let body = reader.fields(node, &schema::BODY, node.span)?;
        body.text(reader, "max", grammar::size).value().copied()
    });
    let models = fields.texts(reader, "models", grammar::model);
    if let Some(node) = fields
        .node("models")
        .filter(|_| models.value().is_some_and(Vec::is_empty))
    {
        reader.error(
            codes::SHAPE,
            node.span,
            "an empty list of models",
            "list the models that are allowed, or remove `models` to allow any",
        );
    }
    Some(OperationRule {
        span: key.span,
        needs,
        except: except.or(Vec::new()),
        person: person.or(false),
        body_max: body.value().copied(),
        models: models
            .or(Vec::new())
            .into_iter()
            .map(|it| it.value)
            .collect(),
        budget: fields.text(reader, "budget", grammar::name),
        hours: fields
            .text(reader, "hours", grammar::hours)
            .value()
            .copied(),
        pattern: pattern?,
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
