//! Tree to document: what the file says, each part with its place, before names are resolved.
//!
//! One module per group of sections, each a handful of small readers over the declaration in
//! [`schema`](super::schema). Nothing here stops at the first error, and nothing here knows other
//! entries: that is [`resolve`](super::resolve)'s.

mod address;
mod credentials;
mod doors;
mod grammar;
mod reach;
mod reader;
mod roles;
mod sentences;
mod services;

pub(super) use reader::Given;
pub(super) use reader::Section;
pub(super) use reader::Spanned;
pub(super) use reader::listed;

use super::Environment;
use super::Staleness;
use super::diagnostic::Report;
use super::schema;
use super::sources::Sources;
use super::sources::Span;
use super::yaml::Node;
use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Permission;
use crate::vocabulary::TrustDomain;
use indexmap::IndexMap;
use reader::Reader;

/// A file as it was written.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) span: Span,
    pub(super) trust_domain: Given<TrustDomain>,
    pub(super) environment: Given<Environment>,
    pub(super) staleness: Staleness,
    pub(super) listeners: Section<Listener>,
    pub(super) identities: Section<Identity>,
    pub(super) roles: Section<Role>,
    pub(super) services: Section<Service>,
    pub(super) edges: Vec<Edge>,
    /// Some edge could not be read, so that what is reachable is not known.
    pub(super) edges_trouble: bool,
    pub(super) secrets: Section<Secret>,
    pub(super) budgets: Section<Budget>,
    pub(super) audit: super::Audit,
    pub(super) tests: Vec<Test>,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: Span,
    pub(super) bind: Given<std::net::SocketAddr>,
    pub(super) peer: Given<super::PeerKind>,
    pub(super) hosts: Given<Vec<Spanned<String>>>,
    pub(super) login: Given<super::Login>,
    pub(super) routes: Given<Vec<Route>>,
    pub(super) tls12: Given<String>,
    pub(super) limits: super::Limits,
}

#[derive(Debug)]
pub(super) struct Route {
    pub(super) span: Span,
    pub(super) host: String,
    pub(super) path: OperationPattern,
    pub(super) service: Spanned<Name>,
}

#[derive(Debug)]
pub(super) struct Identity {
    pub(super) name: Span,
    pub(super) unix_user: Option<String>,
}

#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: Span,
    pub(super) members: Given<Vec<Spanned<Member>>>,
    pub(super) includes: Given<Vec<Spanned<Name>>>,
    pub(super) may: Given<Vec<Spanned<Permission>>>,
}

/// A member whose login may be left to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Identity(Name),
    Group { login: Option<String>, name: String },
    User { login: Option<String>, sub: String },
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Span,
    pub(super) peer: Given<super::PeerKind>,
    pub(super) url: Given<super::ServiceUrl>,
    pub(super) identity: Given<Name>,
    pub(super) credential: Given<Credential>,
    pub(super) headers: Given<Vec<Spanned<String>>>,
    pub(super) timeout: std::time::Duration,
    pub(super) max_stream: std::time::Duration,
    pub(super) private_network: Given<bool>,
    pub(super) fold_case: bool,
    pub(super) needs: Given<super::Needs>,
    pub(super) operations: Given<Vec<OperationRule>>,
    /// Some part of it could not be read, so that what it offers is not known.
    pub(super) trouble: bool,
}

#[derive(Debug)]
pub(super) struct Credential {
    pub(super) secret: Given<Name>,
    pub(super) form: Given<super::CredentialForm>,
}

#[derive(Debug)]
pub(super) struct OperationRule {
    pub(super) span: Span,
    pub(super) pattern: OperationPattern,
    pub(super) needs: Given<super::Needs>,
    pub(super) except: Vec<Spanned<OperationPattern>>,
    pub(super) person: bool,
    pub(super) body_max: Option<u64>,
    pub(super) models: Vec<String>,
    pub(super) budget: Given<Name>,
    pub(super) hours: Option<super::Hours>,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) span: Span,
    pub(super) from: Spanned<Name>,
    pub(super) to: Spanned<Name>,
    pub(super) operations: Given<Vec<Spanned<OperationPattern>>>,
}

#[derive(Debug)]
pub(super) struct Secret {
    pub(super) name: Span,
    pub(super) from: Given<super::SecretSource>,
    pub(super) needs: Given<Permission>,
    pub(super) readers: Given<Vec<Spanned<Member>>>,
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) name: Span,
    pub(super) limit: Given<(u64, super::Window)>,
    pub(super) per: super::BudgetScope,
    pub(super) prices: IndexMap<String, super::Price>,
}

#[derive(Debug)]
pub(super) struct Test {
    pub(super) span: Span,
    pub(super) name: String,
    pub(super) subject: Given<Member>,
    pub(super) via: Given<Vec<Spanned<Name>>>,
    pub(super) call: Given<Call>,
    pub(super) model: Option<String>,
    pub(super) expect: Given<super::Expectation>,
}

/// `GET hms-api/v1/reports/42`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) service: Spanned<String>,
    pub(super) operation: Operation,
}

/// Reads what a file says; there is none if it is not a map.
pub(super) fn document(
    root: &Node,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<Document> {
    let root = &credentials::refuse_literals(root, sources, report);
    let reader = &mut Reader {
        sources,
        report,
        passed_over: 0,
    };
    let fields = &reader.fields(root, &schema::FILE, root.span)?;
    let words = [("dev", Environment::Dev), ("prod", Environment::Prod)];
    let before = reader.said();
    let edges = fields.read(reader, "edges", reach::edges);
    let edges_trouble = reader.said() > before || (!edges.is_absent() && edges.value().is_none());
    Some(Document {
        span: Span {
            end: root.span.start,
            ..root.span
        },
        trust_domain: fields.text(reader, "trust_domain", grammar::trust_domain),
        environment: fields.read(reader, "environment", |it, node| {
            it.choice(node, &words, &[])
        }),
        staleness: fields
            .read(reader, "staleness", staleness)
            .or(Staleness::default()),
        listeners: reader.section(fields, "listeners", doors::listener),
        identities: reader.section(fields, "identities", doors::identity),
        roles: reader.section(fields, "roles", roles::role),
        services: reader.section(fields, "services", services::service),
        edges: edges.or(Vec::new()),
        edges_trouble,
        secrets: reader.section(fields, "secrets", reach::secret),
        budgets: reader.section(fields, "budgets", reach::budget),
        audit: fields
            .read(reader, "audit", reach::audit)
            .or(reach::DEFAULT_AUDIT),
        tests: fields
            .read(reader, "tests", sentences::tests)
            .or(Vec::new()),
    })
}

fn staleness(reader: &mut Reader<'_>, node: &Node) -> Option<Staleness> {
    let fields = reader.fields(node, &schema::STALENESS, node.span)?;
    let default = Staleness::default();
    Some(Staleness {
        revocations: fields
            .text(reader, "revocations", grammar::duration)
            .or(default.revocations),
        policy: fields
            .text(reader, "policy", grammar::duration)
            .or(default.policy),
    })
}
