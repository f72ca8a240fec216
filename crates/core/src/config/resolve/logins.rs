//! Issuers of sign-ins.

use super::Resolver;
use crate::config::OidcLogin;
use crate::config::parse;
use crate::vocabulary::Name;
use indexmap::IndexMap;

impl Resolver<'_> {
    pub(super) fn logins(&self) -> IndexMap<Name, OidcLogin> {
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
}
