//! Services: the floors of the decision matrix, and the parts they name.

use super::Resolver;
use super::built_in;
use crate::config::ClientCertificate;
use crate::config::Credential;
use crate::config::Lease;
use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::PeerKind;
use crate::config::Service;
use crate::config::ServiceUrl;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use indexmap::IndexMap;
use std::time::Duration;

/// How long a call may take, and a stream may live, unless it is said.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_STREAM: Duration = Duration::from_secs(3600);

impl Resolver<'_> {
    pub(super) fn is_service(&self, name: &Name) -> bool {
        self.document.services.knows(name) || built_in::RESERVED.contains(&name.as_str())
    }

    pub(super) fn unknown_service(&mut self, text: &str, span: Span) {
        let declared = self.document.services.keys().map(Name::as_str);
        let help = self.meant(
            text,
            declared.chain(built_in::RESERVED),
            "add it to `services`",
        );
        self.error(
            codes::UNKNOWN_SERVICE,
            span,
            format!("no service is named `{text}`"),
            help,
        );
    }

    pub(super) fn services(&mut self) -> IndexMap<Name, Service> {
        let mut resolved =
            IndexMap::with_capacity(self.document.services.len() + built_in::RESERVED.len());
        for (name, service) in self.document.services.iter() {
            self.check_floor(name, service);
            self.check_needs(name, service);
            self.check_parts(service);
            if let Some(service) = self.service(name, service) {
                resolved.insert(name.clone(), service);
            }
        }
        let default = Permission::new("secret:read").ok();
        let secrets = self.document.secrets.iter().map(|(name, secret)| {
            let needs = secret.needs.value().cloned().or_else(|| default.clone());
            (
                name,
                self.place(secret.name),
                needs.filter(|_| !secret.readers.items().is_empty()),
            )
        });
        resolved.extend(built_in::services(secrets));
        resolved
    }

    pub(super) fn check_own_service(&mut self, name: &Name, service: &parse::Service) {
        let identities = &self.document.identities;
        if let Some(identity) = service
            .identity
            .spanned()
            .filter(|it| !identities.knows(&it.value))
        {
            let names = identities.keys().map(Name::as_str);
            let otherwise = format!("add `{}: {{}}` to `identities`", identity.value);
            let help = self.meant(identity.value.as_str(), names, &otherwise);
            let message = format!("no identity is named `{}`", identity.value);
            self.error(codes::UNKNOWN_IDENTITY, identity.span, message, help);
        }
        let one = service.url.value();
        let mut all = one
            .into_iter()
            .chain(service.urls.items().iter().map(|it| &it.value));
        let https = all.any(|url| matches!(url, ServiceUrl::Https { .. }));
        if https && service.identity.is_absent() && !identities.knows(name) {
            let message = format!("`{name}` proves to be nobody");
            let it = Diagnostic::error(codes::NO_IDENTITY, service.name, message)
                .label("not in `identities`");
            self.report.push(it.help(format!(
                "add `{name}: {{}}` to `identities`, or name another with `identity`"
            )));
        }
    }

    fn check_needs(&mut self, name: &Name, service: &parse::Service) {
        let empty = service.operations.value().is_some_and(Vec::is_empty);
        if service.needs.is_absent()
            && (service.operations.is_absent() || empty)
            && service.peer.value().is_some()
        {
            let it = Diagnostic::error(
                codes::NO_NEEDS,
                service.name,
                format!("`{name}` has neither `operations` nor `needs`"),
            );
            let help = "add `operations`, or `needs: edge` if whoever has an edge may do anything";
            self.report.push(it.label("needs nothing").help(help));
        }
        if let (Some(needs), false) = (service.needs.spanned(), service.operations.is_absent()) {
            let message = format!("`{name}` has both `needs` and `operations`");
            self.error(
                codes::TWO_NEEDS,
                needs.span,
                message,
                "remove `needs`: each operation says its own",
            );
        }
    }

    /// The entries of other sections that it names, and exceptions.
    fn check_parts(&mut self, service: &parse::Service) {
        let document = self.document;
        let credential = service
            .credential
            .value()
            .and_then(|it| it.secret.spanned());
        let key = service.certificate.value().and_then(|it| it.key.spanned());
        for secret in credential.into_iter().chain(key) {
            self.check_secret(&secret.value, secret.span);
        }
        for rule in service.operations.items() {
            let (budgets, policies) = (&document.budgets, &document.policies);
            if let Some(budget) = rule.budget.spanned().filter(|it| !budgets.knows(&it.value)) {
                let what = ("budget", "budgets");
                self.check_named(codes::UNKNOWN_BUDGET, budget, budgets.keys(), what);
            }
            if let Some(policy) = rule
                .policy
                .spanned()
                .filter(|it| !policies.knows(&it.value))
            {
                let what = ("policy", "policies");
                self.check_named(codes::UNKNOWN_POLICY, policy, policies.keys(), what);
            }
            self.check_approvers(&rule.approve, super::attached::Approvers::People);
            self.check_schema(&rule.body_schema);
            self.check_schema(&rule.input);
            self.check_exceptions(rule);
        }
    }

    fn check_exceptions(&mut self, rule: &parse::OperationRule) {
        for except in rule
            .except
            .iter()
            .filter(|it| !rule.pattern.overlaps(&it.value))
        {
            let message = format!("`{}` is not within `{}`", except.value, rule.pattern);
            self.error(
                codes::EMPTY_EXCEPT,
                except.span,
                message,
                "remove it, or write a path that the operation covers",
            );
        }
    }

    /// Secrets that doors and logins use.
    pub(super) fn check_named_secrets(&mut self) {
        let document = self.document;
        let signatures = document.listeners.values();
        let signatures = signatures.filter_map(|it| it.signature.value()?.secret.spanned());
        let logins = document.logins.values();
        let logins = logins.filter_map(|it| it.client_secret.spanned());
        for secret in signatures.chain(logins) {
            self.check_secret(&secret.value, secret.span);
        }
    }

    pub(super) fn check_secret(&mut self, name: &Name, span: Span) {
        if self.document.secrets.knows(name) {
            return;
        }
        let names = self.document.secrets.keys().map(Name::as_str);
        let otherwise = format!("add `{name}: {{ from: \"store:{name}\" }}` to `secrets`");
        let help = self.meant(name.as_str(), names, &otherwise);
        self.error(
            codes::UNKNOWN_SECRET,
            span,
            format!("no secret is named `{name}`"),
            help,
        );
    }

    fn service(&self, name: &Name, service: &parse::Service) -> Option<Service> {
        let whole = service
            .needs
            .value()
            .map(|needs| whole(needs, self.place(service.name)));
        let each = service
            .operations
            .items()
            .iter()
            .filter_map(|rule| self.rule(rule));
        let credential = service.credential.spanned().and_then(|it| {
            let place = self.place(it.span);
            Some(Credential {
                place,
                secret: it.value.secret.value()?.clone(),
                form: it.value.form.value()?.clone(),
            })
        });
        Some(Service {
            place: self.place(service.name),
            peer: *service.peer.value()?,
            urls: urls(service)?,
            identity: service.identity.value().unwrap_or(name).clone(),
            balance: service.balance.value().copied().unwrap_or_default(),
            health: service.health.value().cloned(),
            retry: service.retry.value().copied().unwrap_or_default(),
            lease: self.lease(service),
            through_agent: service.through.value().is_some(),
            engine: service.engine.value().cloned(),
            certificate: self.client_certificate(service),
            server_ca: service.server_ca.value().cloned(),
            credential,
            headers: service
                .headers
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect(),
            timeout: service.timeout.value().copied().unwrap_or(TIMEOUT),
            max_stream: service.max_stream.value().copied().unwrap_or(MAX_STREAM),
            private_network: service.private_network.value().copied().unwrap_or(false),
            fold_case: service.fold_case.value() == Some(&true),
            operations: whole.into_iter().chain(each).collect(),
        })
    }

    fn rule(&self, rule: &parse::OperationRule) -> Option<OperationRule> {
        Some(OperationRule {
            place: self.place(rule.span),
            pattern: Some(rule.pattern.clone()),
            needs: rule.needs.value()?.clone(),
            except: rule.except.iter().map(|it| it.value.clone()).collect(),
            person: rule.person,
            body_max: rule.body_max,
            body_schema: rule.body_schema.value().cloned(),
            screens: rule.screens.items().iter().map(|it| it.value).collect(),
            models: rule
                .models
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect(),
            budget: rule.budget.value().cloned(),
            hours: rule.hours,
            rate: rule.rate.value().copied(),
            policy: rule.policy.value().cloned(),
            approve: rule
                .approve
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect(),
            input: rule.input.value().cloned(),
            token: rule.token.value().copied(),
        })
    }

    fn lease(&self, service: &parse::Service) -> Option<Lease> {
        let lease = service.lease.spanned()?;
        Some(Lease {
            place: self.place(lease.span),
            ttl: *lease.value.ttl.value()?,
            grants: lease
                .value
                .grants
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect(),
        })
    }

    fn client_certificate(&self, service: &parse::Service) -> Option<ClientCertificate> {
        let certificate = service.certificate.spanned()?;
        Some(ClientCertificate {
            place: self.place(certificate.span),
            chain: certificate.value.chain.value()?.clone(),
            key: certificate.value.key.value()?.clone(),
        })
    }
}

/// One address or several; a provisioner has none.
fn urls(service: &parse::Service) -> Option<Vec<ServiceUrl>> {
    if let Some(url) = service.url.value() {
        return Some(vec![url.clone()]);
    }
    let several = service.urls.items().iter().map(|it| it.value.clone());
    let several: Vec<_> = several.collect();
    let none = service.peer.value() == Some(&PeerKind::Provisioner);
    (none || !several.is_empty()).then_some(several)
}

/// A service-wide `needs`: one rule that matches all.
fn whole(needs: &Needs, place: crate::config::Place) -> OperationRule {
    OperationRule::plain(place, None, needs.clone())
}
