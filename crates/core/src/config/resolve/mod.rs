//! Document to configuration: names become references, the floors of the decision matrix are
//! checked, and what is impossible or doubtful is said.
//!
//! Each module takes one question. All of them run whatever the others find, except that nothing
//! is said about a part that was already reported as broken.

mod attached;
mod built_in;
mod doors;
mod edges;
mod floors;
mod identities;
mod limits;
mod logins;
mod members;
mod partners;
mod permissions;
mod routes;
mod sentences;
mod services;

use super::Config;
use super::Environment;
use super::Options;
use super::Place;
use super::codes::ConfigCode;
use super::diagnostic::Diagnostic;
use super::diagnostic::Report;
use super::parse::Document;
use super::parse::Given;
use super::parse::Spanned;
use super::parse::listed;
use super::sources::Sources;
use super::sources::Span;
use super::suggest::closest;
use crate::vocabulary::TrustDomain;
use hashbrown::HashSet;
use std::hash::Hash;

/// The trust domain of development when the file names none.
const DEV_DOMAIN: &str = "local.dev.invalid";

/// What the document means. There is a configuration even if errors were reported, so that all of
/// them are; the caller must not use it then.
pub(super) fn resolve(
    document: &Document,
    sources: &Sources,
    report: &mut Report,
    options: &Options,
) -> Option<Config> {
    let it = &mut Resolver {
        document,
        sources,
        report,
        environment: None,
        logins: logins::Logins::of(document),
    };
    it.environment = it.environment(options);
    let trust_domain = it.trust_domain();
    it.check_namespaces();
    let change = it.change();
    let listeners = it.listeners();
    let logins = it.logins();
    let identities = it.identities();
    let roles = it.roles();
    let tiers = it.tiers();
    let services = it.services();
    let edges = it.edges();
    let secrets = it.secrets();
    it.check_reach();
    it.check_routes();
    it.check_permissions();
    it.check_paces();
    it.check_named_secrets();
    it.check_policies();
    let tests = it.tests();
    Some(Config {
        trust_domain: trust_domain?,
        environment: it.environment?,
        staleness: document.staleness,
        change,
        listeners,
        logins,
        identities,
        roles,
        tiers,
        services,
        edges,
        secrets,
        budgets: it.budgets(),
        policies: it.policies(),
        audit: it.audit(),
        tests,
    })
}

struct Resolver<'a> {
    document: &'a Document,
    sources: &'a Sources,
    report: &'a mut Report,
    /// Unknown if the file says nothing legible about it.
    environment: Option<Environment>,
    logins: logins::Logins,
}

impl<'a> Resolver<'a> {
    fn environment(&mut self, options: &Options) -> Option<Environment> {
        match &self.document.environment {
            Given::Broken => None,
            Given::Absent if options.dev => Some(Environment::Dev),
            Given::Absent => Some(Environment::Prod),
            Given::Is(given) => {
                if options.dev && given.value == Environment::Prod {
                    let message = "the file is for production, but `--dev` was given";
                    let help = "remove `--dev`, or use a file that says `environment: dev`";
                    self.error(super::codes::PROD_WITH_DEV, given.span, message, help);
                }
                Some(given.value)
            }
        }
    }

    fn is_dev(&self) -> bool {
        self.environment == Some(Environment::Dev)
    }

    fn is_prod(&self) -> bool {
        self.environment == Some(Environment::Prod)
    }

    fn trust_domain(&mut self) -> Option<TrustDomain> {
        let code = super::codes::WRONG_DOMAIN;
        match &self.document.trust_domain {
            Given::Broken => None,
            Given::Absent if self.is_prod() => {
                let message = "production needs a `trust_domain`";
                let help = "add `trust_domain: acme.internal` with a name of your own, or `environment: dev`";
                self.error(code, self.document.span, message, help);
                None
            }
            Given::Absent => TrustDomain::new(DEV_DOMAIN).ok(),
            Given::Is(given) => {
                let development = given.value.is_development();
                if development && self.is_prod() {
                    let message = "production can't use a trust domain of development";
                    self.error(
                        code,
                        given.span,
                        message,
                        "use a domain of your own that does not end in `.dev.invalid`",
                    );
                } else if !development && self.is_dev() {
                    let help = format!(
                        "write `{}.dev.invalid`, or remove it for `{DEV_DOMAIN}`",
                        given.value
                    );
                    self.error(
                        code,
                        given.span,
                        "a trust domain of development ends in `.dev.invalid`",
                        help,
                    );
                }
                Some(given.value.clone())
            }
        }
    }

    fn error(
        &mut self,
        code: ConfigCode,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report
            .push(Diagnostic::error(code, span, message).help(help));
    }

    fn warn(
        &mut self,
        code: ConfigCode,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report
            .push(Diagnostic::warning(code, span, message).help(help));
    }

    fn place(&self, span: Span) -> Place {
        self.sources.place(span)
    }

    /// `did you mean` one of the names there are, or what there is to choose from.
    fn meant<'n>(
        &self,
        text: &str,
        names: impl Iterator<Item = &'n str> + Clone,
        otherwise: &str,
    ) -> String {
        let close = self
            .report
            .may_suggest()
            .then(|| closest(text, names.clone()))
            .flatten();
        match close {
            Some(name) => format!("did you mean `{name}`?"),
            None if names.clone().next().is_none() => otherwise.to_owned(),
            None => format!("{otherwise}, or use one of {}", listed(names)),
        }
    }

    /// Warns of items that a list has already.
    fn check_twice<T: Hash + Eq>(&mut self, items: &'a [Spanned<T>]) {
        let mut seen = HashSet::with_capacity(items.len());
        for item in items {
            if !seen.insert(&item.value) {
                let message = "the list has this entry already";
                self.warn(super::codes::SAID_TWICE, item.span, message, "remove it");
            }
        }
    }
}
