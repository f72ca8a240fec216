//! Partners: whose authority opens which door, and for whom alone it counts.

use super::Resolver;
use crate::config::Attached;
use crate::config::PeerKind;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Kind;
use crate::config::parse::Spanned;
use crate::config::pem;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use hashbrown::HashSet;

/// The partners of one authority, by their names.
type Partners<'a> = HashMap<Vec<u8>, Vec<&'a Name>>;

impl<'a> Resolver<'a> {
    /// The authorities in a file that others than we have to run; none after saying what is wrong
    /// with it.
    pub(super) fn check_authority(&mut self, file: &Spanned<Attached>) -> Option<Vec<Vec<u8>>> {
        let path = &file.value.path;
        let found = match pem::certificates(&file.value.text) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("`{path}` is no certificate: {error}");
                let help =
                    "name a file with `-----BEGIN CERTIFICATE-----`, as the partner sends it";
                self.error(codes::NOT_A_CERTIFICATE, file.span, message, help);
                return None;
            }
        };
        let domain = self.document.trust_domain.value();
        if let Some(domain) = domain.filter(|domain| {
            found
                .iter()
                .any(|it| pem::is_of_domain(it, domain.as_str()))
        }) {
            let message = format!("`{path}` is of `{domain}`, our own trust domain");
            let help = "name the file with the authority that the partner runs";
            self.error(codes::OWN_CA, file.span, message, help);
            return None;
        }
        Some(found)
    }

    pub(super) fn check_partner_door(&mut self, name: &Name, listener: &parse::Listener) {
        if listener.client_ca.is_absent() {
            let message = format!("at `{name}` no partner can prove itself");
            let it = Diagnostic::error(codes::NO_CLIENT_CA, listener.name, message);
            let help = "add `client_ca: partners/globex.pem`, the partner's authority";
            self.report.push(it.label("has no `client_ca`").help(help));
        }
    }

    /// Doors and partners fit together.
    pub(super) fn check_partners(&mut self) {
        let document = self.document;
        // Nothing certain can be said beside files and doors that are broken.
        let mut unclear =
            document.is_part || document.listeners.trouble() || document.identities.trouble();
        let mut partners = Partners::new();
        let mut authorities: Vec<(&Name, Span, Vec<Vec<u8>>)> = Vec::new();
        for (name, identity) in document.identities.iter() {
            let ca = identity.certificate.value().and_then(|it| it.ca.spanned());
            let Some(ca) = ca.filter(|_| identity.kind.value() == Some(&Kind::Partner)) else {
                continue;
            };
            let found = self.check_authority(ca);
            unclear |= found.is_none();
            let found = found.unwrap_or_default();
            for authority in &found {
                partners.entry(authority.clone()).or_default().push(name);
            }
            authorities.push((name, identity.name, found));
        }
        let mut served = HashSet::new();
        for (name, listener) in document.listeners.iter() {
            if listener.peer.value() != Some(&PeerKind::Partner) {
                continue;
            }
            let ca = listener.client_ca.spanned();
            let found = ca.and_then(|ca| Some((ca.span, self.check_authority(ca)?)));
            let Some((span, found)) = found else {
                unclear = true;
                continue;
            };
            let unused = found.iter().any(|it| !partners.contains_key(it));
            if unused && !unclear {
                self.unused_authority(name, span);
            }
            self.check_shared(name, &found, &partners);
            served.extend(found);
        }
        if unclear {
            return;
        }
        for (name, span, found) in authorities {
            if !found.iter().any(|it| served.contains(it)) {
                let message = format!("`{name}` has no door to come in by");
                let it = Diagnostic::error(codes::PARTNER_WITHOUT_DOOR, span, message);
                let help = "add its authority to the `client_ca` of a listener of `peer: partner`";
                self.report.push(it.label("refused everywhere").help(help));
            }
        }
    }

    fn unused_authority(&mut self, door: &Name, span: Span) {
        let message = format!("an authority of `{door}` is no partner's");
        let help = "add the partner to `identities`: `kind: partner` with this `ca`";
        self.warn(codes::UNUSED_AUTHORITY, span, message, help);
    }

    /// Where a door serves several partners, edges start at one of them.
    fn check_shared(&mut self, name: &Name, authorities: &[Vec<u8>], partners: &Partners<'a>) {
        let document = self.document;
        let mut all: Vec<&Name> = authorities
            .iter()
            .filter_map(|it| partners.get(it))
            .flatten()
            .copied()
            .collect();
        all.sort();
        all.dedup();
        let [first, second, ..] = all.as_slice() else {
            return;
        };
        for edge in document.edges.iter().filter(|it| it.from.value == *name) {
            let message = format!("the edge would hold for each partner of `{name}`");
            let label = format!("serves `{first}`, `{second}`");
            let help = format!(
                "start at the partner it is for: `{first} -> {}`",
                edge.to.value
            );
            let it = Diagnostic::error(codes::SHARED_DOOR, edge.from.span, message);
            self.report.push(it.label(label).help(help));
        }
    }
}
