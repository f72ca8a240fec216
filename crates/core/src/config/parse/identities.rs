//! `identities`.

use super::Attest;
use super::Identity;
use super::Kind;
use super::PartnerCertificate;
use super::UnixProcess;
use super::address;
use super::grammar;
use super::reader::Reader;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use indexmap::IndexMap;

pub(super) fn identity(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Identity> {
    let fields = reader.fields(node, &schema::IDENTITY, name)?;
    let kinds = [
        ("workload", Kind::Workload),
        ("ai-agent", Kind::AiAgent),
        ("partner", Kind::Partner),
    ];
    Some(Identity {
        name,
        kind: fields.choice(reader, "kind", &kinds),
        owner: fields.text(reader, "owner", grammar::owner),
        attest: fields.read(reader, "attest", attest),
        login: fields.text(reader, "login", grammar::name),
        claims: fields.read(reader, "claims", claims),
        certificate: fields.read(reader, "certificate", certificate),
        team: fields.text(reader, "team", grammar::word),
        fronts: fields.texts(reader, "fronts", grammar::name),
    })
}

fn attest(reader: &mut Reader<'_>, node: &Node) -> Option<Attest> {
    let fields = reader.fields(node, &schema::ATTEST, node.span)?;
    Some(Attest {
        k8s: fields.text(reader, "k8s", grammar::service_account),
        unix: fields.read(reader, "unix", |reader, node| {
            let fields = reader.fields(node, &schema::UNIX, node.span)?;
            Some(UnixProcess {
                user: fields.text(reader, "user", grammar::unix_user),
                nodes: fields.texts(reader, "nodes", grammar::node),
                sha256: fields.text(reader, "sha256", grammar::sha256),
            })
        }),
    })
}

fn claims(reader: &mut Reader<'_>, node: &Node) -> Option<IndexMap<String, String>> {
    let mut claims = IndexMap::new();
    for (key, value) in reader.entries(node)? {
        let claim = reader.grammar(key, grammar::word);
        let text = reader.grammar(value, grammar::word);
        claims.extend(claim.zip(text));
    }
    Some(claims)
}

fn certificate(reader: &mut Reader<'_>, node: &Node) -> Option<PartnerCertificate> {
    let fields = reader.fields(node, &schema::PARTNER_CERTIFICATE, node.span)?;
    Some(PartnerCertificate {
        ca: fields.attached(reader, "ca"),
        dns: fields.text(reader, "dns", address::dns_name),
    })
}
