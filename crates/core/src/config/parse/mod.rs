//! Tree to document: what the file says, each part with its place, before names are resolved.
//!
//! One module per group of sections, each a handful of small readers over the declaration in
//! [`schema`](super::schema). Nothing here stops at the first error, and nothing here knows other
//! entries: that is [`resolve`](super::resolve)'s.

mod address;
mod credentials;
mod doors;
mod grammar;
mod identities;
mod include;
mod limits;
mod reach;
mod reader;
mod relocate;
mod roles;
mod sentences;
mod services;

pub(super) use credentials::tree;
pub(super) use reader::Given;
pub(super) use reader::Section;
pub(super) use reader::Spanned;
pub(super) use reader::listed;

use super::Environment;
use super::Files;
use super::Staleness;
use super::diagnostic::Report;
use super::schema;
use super::sources::Sources;
use super::sources::Span;
use super::sources::beside;
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
    pub(super) change: Given<Vec<Spanned<Name>>>,
    /// Logins beside those of the listeners, by name: a part of a configuration has some.
    pub(super) other_logins: Vec<String>,
    /// It is what one gateway needs of a whole, in which doors and logins of others are missing.
    pub(super) is_part: bool,
    pub(super) listeners: Section<Listener>,
    pub(super) logins: Section<Login>,
    pub(super) identities: Section<Identity>,
    pub(super) roles: Section<Role>,
    pub(super) tiers: Section<Tier>,
    pub(super) services: Section<Service>,
    pub(super) edges: Vec<Edge>,
    /// Some edge could not be read, so that what is reachable is not known.
    pub(super) edges_trouble: bool,
    pub(super) secrets: Section<Secret>,
    pub(super) budgets: Section<Budget>,
    pub(super) policies: Section<Policy>,
    pub(super) audit: Audit,
    pub(super) tests: Vec<Test>,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: Span,
    pub(super) bind: Given<std::net::SocketAddr>,
    pub(super) peer: Given<super::PeerKind>,
    pub(super) hosts: Given<Vec<Spanned<String>>>,
    pub(super) login: Given<Name>,
    pub(super) client_ca: Given<super::Attached>,
    pub(super) signature: Given<Signature>,
    pub(super) tls: Given<super::DoorTls>,
    pub(super) routes: Given<Vec<Route>>,
    pub(super) tls12: Given<String>,
    pub(super) limits: super::Limits,
    pub(super) rate: Given<super::Rate>,
    pub(super) cors: Given<Cors>,
}

#[derive(Debug)]
pub(super) struct Signature {
    pub(super) secret: Given<Name>,
    pub(super) scheme: Given<super::SignatureScheme>,
    pub(super) window: std::time::Duration,
}

#[derive(Debug)]
pub(super) struct Cors {
    pub(super) origins: Given<Vec<Spanned<String>>>,
    pub(super) methods: Given<Vec<Spanned<String>>>,
    pub(super) headers: Given<Vec<Spanned<String>>>,
    pub(super) credentials: bool,
    pub(super) max_age: std::time::Duration,
}

#[derive(Debug)]
pub(super) struct Login {
    pub(super) name: Span,
    pub(super) issuer: Given<String>,
    pub(super) client_id: Given<String>,
    pub(super) client_secret: Given<Name>,
    pub(super) audience: Given<String>,
    pub(super) roles_from: Given<String>,
    pub(super) team_from: Given<String>,
    pub(super) claims_max_age: std::time::Duration,
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
    pub(super) kind: Given<Kind>,
    pub(super) owner: Given<super::Owner>,
    pub(super) attest: Given<Attest>,
    pub(super) login: Given<Name>,
    pub(super) claims: Given<IndexMap<String, String>>,
    pub(super) certificate: Given<PartnerCertificate>,
    pub(super) team: Given<String>,
    pub(super) fronts: Given<Vec<Spanned<Name>>>,
}

/// What an identity says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Workload,
    AiAgent,
    Partner,
}

#[derive(Debug)]
pub(super) struct Attest {
    pub(super) k8s: Given<super::ServiceAccount>,
    pub(super) unix: Given<UnixProcess>,
}

#[derive(Debug)]
pub(super) struct UnixProcess {
    pub(super) user: Given<String>,
    pub(super) nodes: Given<Vec<Spanned<String>>>,
    pub(super) sha256: Given<crate::vocabulary::Digest>,
}

#[derive(Debug)]
pub(super) struct PartnerCertificate {
    pub(super) ca: Given<super::Attached>,
    pub(super) dns: Given<String>,
}

#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: Span,
    pub(super) members: Given<Vec<Spanned<Member>>>,
    pub(super) includes: Given<Vec<Spanned<Name>>>,
    pub(super) may: Given<Vec<Spanned<Permission>>>,
    pub(super) tier: Given<Name>,
}

#[derive(Debug)]
pub(super) struct Tier {
    pub(super) name: Span,
    pub(super) rate: super::Rate,
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
    pub(super) urls: Given<Vec<Spanned<super::ServiceUrl>>>,
    pub(super) identity: Given<Name>,
    pub(super) balance: Given<super::Balance>,
    pub(super) health: Given<super::Health>,
    pub(super) retry: Given<super::Retry>,
    pub(super) lease: Given<Lease>,
    pub(super) through: Given<()>,
    pub(super) engine: Given<super::Engine>,
    pub(super) certificate: Given<ClientCertificate>,
    pub(super) server_ca: Given<super::Attached>,
    pub(super) credential: Given<Credential>,
    pub(super) headers: Given<Vec<Spanned<String>>>,
    pub(super) timeout: Given<std::time::Duration>,
    pub(super) max_stream: Given<std::time::Duration>,
    pub(super) private_network: Given<bool>,
    pub(super) fold_case: Given<bool>,
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
pub(super) struct Lease {
    pub(super) ttl: Given<std::time::Duration>,
    pub(super) grants: Given<Vec<Spanned<super::Grant>>>,
}

#[derive(Debug)]
pub(super) struct ClientCertificate {
    pub(super) chain: Given<super::Attached>,
    pub(super) key: Given<Name>,
}

#[derive(Debug)]
pub(super) struct OperationRule {
    pub(super) span: Span,
    pub(super) pattern: OperationPattern,
    pub(super) needs: Given<super::Needs>,
    pub(super) except: Vec<Spanned<OperationPattern>>,
    pub(super) person: bool,
    pub(super) body_max: Option<u64>,
    pub(super) body_schema: Given<super::Attached>,
    pub(super) screens: Given<Vec<Spanned<super::Screen>>>,
    pub(super) models: Given<Vec<Spanned<String>>>,
    pub(super) budget: Given<Name>,
    pub(super) hours: Option<super::Hours>,
    pub(super) rate: Given<super::Rate>,
    pub(super) policy: Given<Name>,
    pub(super) approve: Given<Vec<Spanned<Name>>>,
    pub(super) input: Given<super::Attached>,
    pub(super) token: Given<std::time::Duration>,
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
    pub(super) rotate: Given<std::time::Duration>,
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) name: Span,
    pub(super) limit: Given<(u64, super::Window)>,
    pub(super) per: super::BudgetScope,
    pub(super) prices: IndexMap<String, super::Price>,
    pub(super) warn: Given<u8>,
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: Span,
    pub(super) modules: Given<Vec<super::Attached>>,
    pub(super) data: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) commit: Option<countersign_ledger::spool::Commit>,
    pub(super) keep: Option<std::time::Duration>,
    pub(super) sinks: Vec<(Name, Sink)>,
}

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) name: Span,
    pub(super) kind: Given<super::SinkKind>,
}

#[derive(Debug)]
pub(super) struct Test {
    pub(super) span: Span,
    pub(super) name: String,
    pub(super) subject: Given<Member>,
    pub(super) via: Given<Vec<Spanned<Name>>>,
    pub(super) call: Given<Call>,
    pub(super) with: Given<serde_json::Map<String, serde_json::Value>>,
    pub(super) expect: Given<super::Expectation>,
}

/// `GET hms-api/v1/reports/42`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) service: Spanned<String>,
    pub(super) operation: Operation,
}

/// Sentences of their own, written like `tests`.
pub(super) fn sentences(
    root: &Node,
    files: &dyn Files,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<Vec<Test>> {
    let reader = &mut Reader {
        files,
        sources,
        report,
        passed_over: 0,
    };
    sentences::tests(reader, root)
}

/// The tree of a file with those that it includes, as if all of it were written there; nothing if
/// one of them can't be read.
pub(super) fn in_one(
    root: Node,
    files: &dyn Files,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<Node> {
    let reader = &mut Reader {
        files,
        sources,
        report,
        passed_over: 0,
    };
    let root = include::merged(root, reader, &mut 0)?;
    relocate::relocated(include::without(root), sources)
}

/// Reads what a file and those it includes say; there is none if it is not a map. `nodes` is how
/// many values were read so far.
pub(super) fn document(
    root: Node,
    files: &dyn Files,
    sources: &mut Sources,
    report: &mut Report,
    nodes: &mut usize,
) -> Option<Document> {
    let reader = &mut Reader {
        files,
        sources,
        report,
        passed_over: 0,
    };
    let root = &include::merged(root, reader, nodes)?;
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
        environment: fields.read(reader, "environment", |it, node| it.choice(node, &words)),
        staleness: fields
            .read(reader, "staleness", staleness)
            .or(Staleness::default()),
        change: fields.read(reader, "change", |reader, node| {
            let fields = reader.fields(node, &schema::CHANGE, node.span)?;
            match fields.texts(reader, "approve", grammar::name) {
                Given::Is(roles) => Some(roles.value),
                Given::Absent => Some(Vec::new()),
                Given::Broken => None,
            }
        }),
        other_logins: Vec::new(),
        is_part: false,
        listeners: reader.section(fields, "listeners", doors::listener),
        logins: reader.section(fields, "login", doors::login),
        identities: reader.section(fields, "identities", identities::identity),
        roles: reader.section(fields, "roles", roles::role),
        tiers: reader.section(fields, "tiers", roles::tier),
        services: reader.section(fields, "services", services::service),
        edges: edges.or(Vec::new()),
        edges_trouble,
        secrets: reader.section(fields, "secrets", reach::secret),
        budgets: reader.section(fields, "budgets", limits::budget),
        policies: reader.section(fields, "policies", limits::policy),
        audit: fields
            .read(reader, "audit", limits::audit)
            .or(Audit::default()),
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
