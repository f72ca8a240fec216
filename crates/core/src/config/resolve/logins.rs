//! Who vouches for people and pipelines, and whether a login has what it is used for.

use super::Resolver;
use crate::config::OidcLogin;
use crate::config::PeerKind;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Document;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The login of development.
pub(super) const DEV: &str = "dev";

/// The logins of all browser doors.
#[derive(Debug)]
pub(super) struct Logins {
    /// By name, whether it tells groups.
    doors: BTreeMap<String, bool>,
    /// Whether a login could not be read, so that nothing can be said about who exists.
    unclear: bool,
}

impl Logins {
    pub(super) fn of(document: &Document) -> Self {
        let mut doors = BTreeMap::new();
        let mut unclear = document.listeners.trouble() || document.logins.trouble();
        for listener in document.listeners.values() {
            let browser = listener.peer.value() == Some(&PeerKind::Browser);
            let Some(name) = listener.login.value() else {
                // A login that is missing where it must be is reported there.
                unclear |= browser || !listener.login.is_absent();
                continue;
            };
            let declared = document.logins.get(name);
            // An unknown one is reported at the door.
            let groups = declared.is_none_or(|it| !it.roles_from.is_absent());
            if browser {
                doors.insert(name.to_string(), groups);
            }
        }
        // A part of a configuration has people of doors that it has not.
        for login in &document.other_logins {
            doors.entry(login.clone()).or_insert(true);
        }
        // A part of a configuration has people of doors that it has not.
        for login in &document.other_logins {
            doors.entry(login.clone()).or_insert(true);
        }
        Self { doors, unclear }
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.doors.keys().map(String::as_str)
    }

    /// The login that a group or person without one is of, if only one can be meant.
    fn only(&self, groups: bool) -> Option<&str> {
        let mut fitting = self.doors.iter().filter(|(_, tells)| **tells || !groups);
        let (name, _) = fitting.next()?;
        fitting.next().is_none().then_some(name)
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn logins(&mut self) -> IndexMap<Name, OidcLogin> {
        self.check_logins();
        let entry = |(name, login): (&Name, &parse::Login)| {
            let login = OidcLogin {
                place: self.place(login.name),
                issuer: login.issuer.value()?.clone(),
                client_id: login.client_id.value().cloned(),
                client_secret: login.client_secret.value().cloned(),
                audience: login.audience.value().cloned(),
                roles_from: login.roles_from.value().cloned(),
                team_from: login.team_from.value().cloned(),
                claims_max_age: login.claims_max_age,
            };
            Some((name.clone(), login))
        };
        self.document.logins.iter().filter_map(entry).collect()
    }

    /// Each login has what its uses need.
    fn check_logins(&mut self) {
        let document = self.document;
        let doors = document.listeners.values();
        let people: HashMap<&Name, Span> = doors
            .filter_map(|it| Some((it.login.value()?, it.login.spanned()?.span)))
            .collect();
        let identities = document.identities.values();
        let pipelines: HashMap<&Name, Span> = identities
            .filter_map(|it| Some((it.login.value()?, it.login.spanned()?.span)))
            .collect();
        for (name, login) in document.logins.iter() {
            if let (Some(used), true) = (people.get(name), login.client_id.is_absent()) {
                let help = "add `client_id`, the name under which countersign is registered there";
                self.incomplete(login, "people sign in with it", "client_id", *used, help);
            }
            if let (Some(used), true) = (pipelines.get(name), login.audience.is_absent()) {
                let help = "add `audience: countersign`, and let the pipeline ask for that";
                self.incomplete(login, "pipelines use it", "audience", *used, help);
            }
            let both = people.contains_key(name) && pipelines.contains_key(name);
            let audience = login.audience.spanned().filter(|_| both);
            if let Some(audience) = audience
                && login.client_id.value() == Some(&audience.value)
            {
                let message = "people and pipelines would bring the same tokens";
                let help = "write another `audience`, such as `countersign-ci`";
                self.error(codes::SHARED_AUDIENCE, audience.span, message, help);
            }
        }
    }

    fn incomplete(&mut self, login: &parse::Login, use_: &str, key: &str, used: Span, help: &str) {
        let message = format!("{use_}, so it needs `{key}`");
        let it = Diagnostic::error(codes::INCOMPLETE_LOGIN, login.name, message);
        let it = it.label(format!("has no `{key}`")).and(used, "used here");
        self.report.push(it.help(help));
    }

    /// A login with which people sign in.
    pub(super) fn check_sign_in(&mut self, login: &Spanned<Name>) {
        if login.value.as_str() != DEV {
            self.check_login(login.value.as_str(), login.span);
        } else if self.is_prod() {
            let message = "`login: dev` lets anybody be anybody";
            let it = Diagnostic::error(codes::DEV_LOGIN, login.span, message);
            let it = it.label("for development only");
            let help = match self.document.logins.keys().find(|it| it.as_str() != DEV) {
                Some(other) => format!("write `{other}`"),
                None => "run with `--dev`, or add `environment: dev` at the top of the file".into(),
            };
            self.report.push(it.help(help));
        }
    }

    /// A login has to be declared.
    pub(super) fn check_login(&mut self, name: &str, span: Span) {
        let logins = &self.document.logins;
        if self.document.is_part || Name::new(name).is_ok_and(|name| logins.knows(&name)) {
            return;
        }
        let names = logins.keys().map(Name::as_str);
        let otherwise = format!(
            "add `{name}: {{ oidc: https://login.acme.example, client_id: countersign }}` to `login`"
        );
        let help = self.meant(name, names, &otherwise);
        let message = format!("no login is named `{name}`");
        self.error(codes::UNKNOWN_SIGN_IN, span, message, help);
    }

    /// The login of a person, or of a group.
    pub(super) fn vouching(
        &mut self,
        given: Option<&str>,
        short: &str,
        span: Span,
    ) -> Option<String> {
        let groups = short.starts_with("group:");
        let logins = &self.logins;
        let telling = logins.doors.values().any(|tells| *tells);
        // While no login tells groups, any of them could have been meant.
        let any = (groups && !telling)
            .then(|| logins.names().next())
            .flatten();
        let meant = given.or_else(|| logins.only(groups)).or(any);
        let known = meant.and_then(|login| Some((login.to_owned(), *logins.doors.get(login)?)));
        match known {
            Some((login, tells)) if tells || !groups => return Some(login),
            _ if logins.unclear => return None,
            Some((login, _)) => {
                self.no_groups(&login, span);
                return None;
            }
            None => {}
        }
        let (message, help) = self.nobody_vouches(given, short, groups);
        self.error(codes::UNKNOWN_LOGIN, span, message, help);
        None
    }

    fn nobody_vouches(&self, given: Option<&str>, short: &str, groups: bool) -> (String, String) {
        match (given, self.logins.doors.len()) {
            (_, 0) => (
                format!("no listener has a login, so nobody vouches for `{short}`"),
                "give a `browser` listener a login, such as `login: dev` with `environment: dev`"
                    .to_owned(),
            ),
            (Some(login), _) => {
                let names = self.logins.names();
                let help = self.meant(login, names, "name a login of a listener");
                (format!("no listener has the login `{login}`"), help)
            }
            (None, _) => {
                let telling = |it: &(&String, &bool)| *it.1 || !groups;
                let first = self.logins.doors.iter().find(telling);
                let first = first.map_or("", |(name, _)| name.as_str());
                let full = short.replacen(':', &format!(":{first}/"), 1);
                (
                    format!("there are several logins, so `{short}` could be two"),
                    format!("write `{full}`"),
                )
            }
        }
    }

    fn no_groups(&mut self, login: &str, span: Span) {
        let declared = Name::new(login).ok();
        let declared = declared.and_then(|name| self.document.logins.get(&name));
        let message = format!("the login `{login}` tells no groups");
        let mut it = Diagnostic::error(codes::NO_GROUPS, span, message).label("has no members");
        if let Some(login) = declared {
            it = it.and(login.name, "has no `roles_from`");
        }
        let help = format!("add `roles_from: groups` to `{login}`, the claim that lists them");
        self.report.push(it.help(help));
    }
}
