//! Workloads, pipelines, agents and partners: each is recognised by one thing, and by nothing that
//! another one could show.

use super::Resolver;
use super::logins::DEV;
use crate::config::Attest;
use crate::config::Identity;
use crate::config::IdentityKind;
use crate::config::Pipeline;
use crate::config::UnixProcess;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Given;
use crate::config::parse::Kind;
use crate::config::sources::Span;
use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// Claims that issuers never give to somebody else.
const LASTING: [&str; 7] = [
    "repository_id",
    "repository_owner_id",
    "project_id",
    "namespace_id",
    "job_workflow_ref",
    "ci_config_ref_uri",
    "sub",
];

/// By what a caller is taken for an identity.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Proof<'a> {
    ServiceAccount(&'a str, &'a str, &'a str),
    Certificate(Digest, &'a str),
    Pipeline(&'a Name, BTreeMap<&'a str, &'a str>),
    /// Whatever its nodes and executable: on the admin socket, the user is all there is to see.
    User(&'a str),
}

impl<'a> Resolver<'a> {
    pub(super) fn identities(&mut self) -> IndexMap<Name, Identity> {
        let document = self.document;
        let mut resolved = IndexMap::with_capacity(document.identities.len());
        for (name, it) in document.identities.iter() {
            self.check_kind(it);
            self.check_attest(it);
            self.check_pipeline(it);
            self.check_owner(it);
            self.check_fronts(it);
            resolved.insert(name.clone(), self.identity(it));
        }
        self.check_proofs();
        self.check_partners();
        resolved
    }

    /// Which keys go with which kind.
    fn check_kind(&mut self, it: &parse::Identity) {
        let kind = match &it.kind {
            Given::Broken => return,
            Given::Absent => Kind::Workload,
            Given::Is(kind) => kind.value,
        };
        match kind {
            Kind::AiAgent if it.owner.is_absent() => {
                self.incomplete_identity(it, "an ai agent", "owner", "corp:alice@acme.example");
            }
            Kind::Partner if it.certificate.is_absent() => {
                let example = "{ ca: partners/globex.pem, dns: api.globex.example }";
                self.incomplete_identity(it, "a partner", "certificate", example);
            }
            _ => {}
        }
        let keys: [(_, _, &[Kind], _); 6] = [
            (
                "owner",
                it.owner.span(),
                &[Kind::AiAgent],
                "`kind: ai-agent`",
            ),
            (
                "certificate",
                it.certificate.span(),
                &[Kind::Partner],
                "`kind: partner`",
            ),
            (
                "attest",
                it.attest.span(),
                &[Kind::Workload, Kind::AiAgent],
                "workloads of your own",
            ),
            (
                "login",
                it.login.span(),
                &[Kind::Workload, Kind::AiAgent],
                "workloads of your own",
            ),
            (
                "claims",
                it.claims.span().filter(|_| !it.login.is_absent()),
                &[Kind::Workload, Kind::AiAgent],
                "workloads of your own",
            ),
            (
                "fronts",
                it.fronts.span(),
                &[Kind::Workload],
                "`kind: workload`",
            ),
        ];
        for (key, span, kinds, whose) in keys {
            if let (Some(span), false) = (span, kinds.contains(&kind)) {
                let message = format!("`{key}` is for {whose}");
                let help = format!("remove `{key}`");
                self.error(codes::KEY_NOT_HERE, span, message, help);
            }
        }
    }

    fn incomplete_identity(&mut self, it: &parse::Identity, what: &str, key: &str, example: &str) {
        let message = format!("{what} needs `{key}`");
        let error = Diagnostic::error(codes::MISSING_KEY, it.name, message);
        let example = match example.starts_with('{') {
            true => example.to_owned(),
            false => format!("\"{example}\""),
        };
        self.report.push(
            error
                .label(format!("has no `{key}`"))
                .help(format!("add `{key}: {example}`")),
        );
    }

    fn check_attest(&mut self, it: &parse::Identity) {
        let unix = it.attest.value().and_then(|it| it.unix.spanned());
        let Some(unix) = unix else {
            return;
        };
        self.check_twice_in(&unix.value.nodes);
        let nowhere = match &unix.value.nodes {
            Given::Absent => true,
            Given::Is(nodes) => nodes.value.is_empty(),
            Given::Broken => false,
        };
        if nowhere && self.is_prod() {
            let message = "on every machine a user of this name would be this identity";
            let error = Diagnostic::error(codes::ATTEST_ANYWHERE, unix.span, message);
            let help = "add the machines it runs on: `nodes: [ops-1]`";
            self.report.push(error.label("has no `nodes`").help(help));
        }
    }

    fn check_twice_in(&mut self, nodes: &Given<Vec<parse::Spanned<String>>>) {
        let mut seen = hashbrown::HashSet::new();
        for node in nodes.items() {
            if !seen.insert(node.value.as_str()) {
                let message = "the list has this entry already";
                self.warn(codes::SAID_TWICE, node.span, message, "remove it");
            }
        }
    }

    fn check_pipeline(&mut self, it: &parse::Identity) {
        if let (Some(claims), true) = (it.claims.spanned(), it.login.is_absent()) {
            let help = "add `login`, or remove `claims`";
            self.error(
                codes::KEY_NOT_HERE,
                claims.span,
                "`claims` is for `login`",
                help,
            );
        }
        let Some(login) = it.login.spanned() else {
            return;
        };
        if login.value.as_str() == DEV {
            let message = "`dev` lets people in, no pipelines";
            let help = "name an entry of `login`, whose issuer the pipeline gets tokens from";
            self.error(codes::UNKNOWN_SIGN_IN, login.span, message, help);
        } else {
            self.check_login(login.value.as_str(), login.span);
        }
        if it.attest.spanned().is_some() {
            let message = "an identity is recognised by `attest` or by `login`, not by either";
            let help = "remove one of them, or make two identities";
            self.error(codes::KEY_NOT_HERE, login.span, message, help);
        }
        let none = match &it.claims {
            Given::Absent => true,
            Given::Is(claims) => claims.value.is_empty(),
            Given::Broken => return,
        };
        if none {
            let message = format!("every pipeline of `{}` would be this identity", login.value);
            let error = Diagnostic::error(codes::MISSING_KEY, it.name, message);
            let help = "add `claims: { repository_id: \"123456\", ref: refs/heads/main }`";
            self.report.push(error.label("has no `claims`").help(help));
        } else if let Some(claims) = it.claims.spanned()
            && !claims.value.keys().any(|it| LASTING.contains(&it.as_str()))
        {
            let message = "these claims are names, which somebody else can have one day";
            let help = "add `repository_id`, or what your issuer never gives out again";
            self.warn(codes::NAMES_ALONE, claims.span, message, help);
        }
    }

    fn check_owner(&mut self, it: &parse::Identity) {
        let Some(owner) = it.owner.spanned() else {
            return;
        };
        if owner.value.login != DEV || self.is_prod() {
            self.check_login(&owner.value.login, owner.span);
        }
    }

    fn check_fronts(&mut self, it: &parse::Identity) {
        // Of a part, what it may ask about can be elsewhere.
        let fronts = it.fronts.items().iter();
        for front in fronts.filter(|_| !self.document.is_part) {
            if !self.is_service(&front.value) {
                self.unknown_service(front.value.as_str(), front.span);
            } else if !self.document.services.knows(&front.value) {
                let message = format!("`{}` is countersign, which asks nobody", front.value);
                let help = "name services of your own";
                self.error(codes::UNKNOWN_SERVICE, front.span, message, help);
            }
        }
    }

    /// No two identities by the same thing.
    fn check_proofs(&mut self) {
        let mut first: HashMap<Proof<'a>, Span> = HashMap::new();
        for it in self.document.identities.values() {
            for (proof, span) in proofs(it) {
                if let Some(other) = first.get(&proof).copied() {
                    let message = "two identities are recognised by the same thing";
                    let error = Diagnostic::error(codes::SAME_PROOF, span, message);
                    let help = "give them proofs of their own, or make them one identity";
                    self.report
                        .push(error.and(other, "the other one").help(help));
                    continue;
                }
                first.insert(proof, it.name);
            }
        }
    }

    fn identity(&self, it: &parse::Identity) -> Identity {
        let partner = it.certificate.value().and_then(|it| {
            Some(IdentityKind::Partner {
                ca: it.ca.value()?.clone(),
                dns: it.dns.value()?.clone(),
            })
        });
        let agent = it.owner.value().cloned();
        let kind = match it.kind.value() {
            Some(Kind::AiAgent) => agent.map(|owner| IdentityKind::AiAgent { owner }),
            Some(Kind::Partner) => partner,
            _ => None,
        };
        let attest = it.attest.value();
        let unix = attest.and_then(|it| it.unix.value()).and_then(process);
        let pipeline = it.login.value().map(|login| Pipeline {
            login: login.clone(),
            claims: it.claims.value().cloned().unwrap_or_default(),
        });
        let fronts = it.fronts.items().iter().map(|it| it.value.clone());
        Identity {
            place: self.place(it.name),
            kind: kind.unwrap_or_default(),
            attest: Attest {
                k8s: attest.and_then(|attest| attest.k8s.value()).cloned(),
                unix,
            },
            pipeline,
            team: it.team.value().cloned(),
            fronts: fronts.collect(),
        }
    }
}

fn process(unix: &parse::UnixProcess) -> Option<UnixProcess> {
    let nodes = unix.nodes.items().iter().map(|it| it.value.clone());
    Some(UnixProcess {
        user: unix.user.value()?.clone(),
        nodes: nodes.collect(),
        sha256: unix.sha256.value().copied(),
    })
}

/// What an identity is recognised by, with the place of each.
fn proofs(it: &parse::Identity) -> Vec<(Proof<'_>, Span)> {
    let mut all = Vec::new();
    let attest = it.attest.value();
    if let Some(account) = attest.and_then(|it| it.k8s.spanned()) {
        let (it, span) = (&account.value, account.span);
        all.push((
            Proof::ServiceAccount(&it.cluster, &it.namespace, &it.name),
            span,
        ));
    }
    if let Some(unix) = attest.and_then(|it| it.unix.spanned())
        && let Some(user) = unix.value.user.value()
    {
        all.push((Proof::User(user), unix.span));
    }
    if let Some(certificate) = it.certificate.spanned()
        && let (Some(ca), Some(dns)) = (certificate.value.ca.value(), certificate.value.dns.value())
    {
        // The same authority is often in two files.
        let authorities = ca.authorities().into_iter();
        all.extend(authorities.map(|it| (Proof::Certificate(it, dns), certificate.span)));
    }
    if let (Some(login), Some(claims)) = (it.login.value(), it.claims.spanned()) {
        let said = claims
            .value
            .iter()
            .map(|(claim, text)| (claim.as_str(), text.as_str()));
        all.push((Proof::Pipeline(login, said.collect()), claims.span));
    }
    all
}
