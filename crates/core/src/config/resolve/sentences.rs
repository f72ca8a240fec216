//! Inline tests: everything a sentence names exists, and the call can be made at all.

use super::Resolver;
use super::built_in;
use crate::config::PeerKind;
use crate::config::Test;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Spanned;
use crate::vocabulary::Name;

impl<'a> Resolver<'a> {
    pub(super) fn tests(&mut self) -> Vec<Test> {
        let mut resolved = Vec::with_capacity(self.document.tests.len());
        for test in &self.document.tests {
            let subject = test
                .subject
                .spanned()
                .and_then(|it| self.member(&it.value, it.span));
            let stops = test.via.items();
            stops
                .iter()
                .enumerate()
                .for_each(|(index, stop)| self.check_stop(index, stop));
            self.check_way(test);
            let Some(call) = test.call.value() else {
                continue;
            };
            self.check_callee(&call.service);
            self.check_with(test, call);
            let (Some(subject), Some(expect)) = (subject, test.expect.spanned()) else {
                continue;
            };
            resolved.push(Test {
                place: self.place(test.span),
                expect_place: self.place(expect.span),
                name: test.name.clone(),
                subject,
                via: stops.iter().map(|it| it.value.clone()).collect(),
                service: call.service.value.clone(),
                operation: call.operation.clone(),
                with: test.with.value().cloned().unwrap_or_default(),
                expect: expect.value,
            });
        }
        resolved
    }

    /// What a request says is read by some rule of the operation, or else the sentence says
    /// something that nobody heeds.
    fn check_with(&mut self, test: &parse::Test, call: &parse::Call) {
        let Some(with) = test.with.spanned() else {
            return;
        };
        let name = Name::new(&call.service.value).ok();
        let service = name.and_then(|name| self.document.services.get(&name));
        let Some(service) = service.filter(|it| !it.trouble) else {
            return;
        };
        let rules = service.operations.items().iter();
        let fold = service.fold_case.value() == Some(&true);
        let rules = rules.filter(|rule| rule.pattern.matches(&call.operation, fold));
        let (mut model, mut input) = (false, false);
        for rule in rules {
            let document = !rule.policy.is_absent() || !rule.input.is_absent();
            input |= document || !rule.body_schema.is_absent() || !rule.screens.is_absent();
            model |= !rule.models.is_absent() || !rule.budget.is_absent();
        }
        let unread = |key: &&String| !(input || model && key.as_str() == "model");
        if let Some(key) = with.value.keys().find(unread) {
            let message = format!("`{key}` is nothing that a rule of this call reads");
            let help = format!("remove `{key}` from `with`, or name a policy on the operation");
            self.error(codes::IMPOSSIBLE_TEST, with.span, message, help);
        }
    }

    /// A partner comes by a door for partners.
    fn check_partner_way(&mut self, test: &parse::Test, subject: &Spanned<parse::Member>) {
        let document = self.document;
        let parse::Member::Identity(name) = &subject.value else {
            return;
        };
        let identity = document.identities.get(name);
        if identity.is_none_or(|it| it.kind.value() != Some(&parse::Kind::Partner)) {
            return;
        }
        let peer = |name: &Name| document.listeners.get(name).map(|it| it.peer.value());
        let is_door = |name: &Name| matches!(peer(name), Some(Some(PeerKind::Partner)));
        let door = document.listeners.keys().find(|name| is_door(name));
        let door = door.map_or("partners", Name::as_str);
        let help = format!("write `via: {door}`");
        match test.via.spanned() {
            None if test.via.is_absent() => {
                let message = "a partner comes by a door for partners";
                let it = Diagnostic::error(codes::IMPOSSIBLE_TEST, subject.span, message);
                self.report.push(it.label("by which?").help(help));
            }
            Some(via) => {
                let first = via.value.first().map(|it| &it.value);
                let known = first.is_some_and(|it| peer(it).is_some_and(|it| it.is_some()));
                if known && !first.is_some_and(is_door) {
                    let message = "a partner comes by a door for partners";
                    self.error(codes::IMPOSSIBLE_TEST, via.span, message, help);
                }
            }
            None => {}
        }
    }

    fn check_callee(&mut self, service: &Spanned<String>) {
        let text = service.value.as_str();
        let known = Name::new(text).is_ok_and(|name| self.document.services.knows(&name));
        if !known && !built_in::RESERVED.contains(&text) {
            self.unknown_service(text, service.span);
        }
    }

    /// A way starts at a listener or a workload and goes on through workloads.
    fn check_stop(&mut self, index: usize, stop: &'a Spanned<Name>) {
        let document = self.document;
        let listener = document.listeners.knows(&stop.value);
        if document.identities.knows(&stop.value) || (index == 0 && listener) {
            return;
        }
        if listener {
            let message = format!(
                "`{}` is a listener, and a call comes in by one at its start",
                stop.value
            );
            return self.error(
                codes::UNKNOWN_VIA,
                stop.span,
                message,
                "put it first, or remove it",
            );
        }
        let listeners = document.listeners.keys().filter(|_| index == 0);
        let names = listeners
            .chain(document.identities.keys())
            .map(Name::as_str);
        let help = self.meant(stop.value.as_str(), names, "remove it");
        self.error(
            codes::UNKNOWN_VIA,
            stop.span,
            format!("no stop is named `{}`", stop.value),
            help,
        );
    }

    /// People come by a browser door; workloads do not.
    fn check_way(&mut self, test: &parse::Test) {
        let Some(subject) = test.subject.spanned() else {
            return;
        };
        self.check_partner_way(test, subject);
        let person = !matches!(subject.value, parse::Member::Identity(_));
        let browser = |name: &Name| {
            let peer = self.document.listeners.get(name).map(|it| it.peer.value());
            peer.is_none_or(|peer| peer.is_none_or(|peer| *peer == PeerKind::Browser))
        };
        let first = test.via.items().first();
        let door = self
            .document
            .listeners
            .iter()
            .find(|(_, it)| it.peer.value() == Some(&PeerKind::Browser));
        let door = door.map_or("web", |(name, _)| name.as_str());
        let starts_at_door = first.is_some_and(|stop| {
            self.document.listeners.contains_key(&stop.value)
                || !self.document.identities.contains_key(&stop.value)
        });
        if person && test.via.is_absent() {
            let it = Diagnostic::error(
                codes::IMPOSSIBLE_TEST,
                subject.span,
                "a person comes by a browser door",
            );
            let help = format!(
                "add `via: {door}`, followed by the workloads on the way, such as `via: {door} > frontend`"
            );
            self.report.push(it.label("by which?").help(help));
        } else if let Some(stop) =
            first.filter(|stop| person && (!starts_at_door || !browser(&stop.value)))
        {
            let message = format!(
                "a person comes by a browser door, which `{}` is not",
                stop.value
            );
            self.error(
                codes::IMPOSSIBLE_TEST,
                stop.span,
                message,
                format!("start with a browser door: `{door} > …`"),
            );
        }
    }
}
