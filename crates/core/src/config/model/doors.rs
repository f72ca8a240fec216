//! Doors, and how people sign in at them.

use super::Attached;
use super::Config;
use super::Member;
use super::PeerKind;
use super::Place;
use super::Rate;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// A door.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it was written.
    pub place: Place,
    /// Address and port; the address is a literal (`:443` means all addresses).
    pub bind: std::net::SocketAddr,
    /// Who comes in by it.
    pub peer: PeerKind,
    /// Host names it answers to, lower case; empty means its bind address and `localhost` in
    /// development.
    pub hosts: Vec<String>,
    /// How people sign in at a browser door.
    pub login: Option<Login>,
    /// The authority of the partners at a partner door (PEM).
    pub client_ca: Option<Attached>,
    /// How the sender of a webhook proves itself at a third-party door.
    pub signature: Option<Signature>,
    /// Where the door's certificate comes from.
    pub tls: DoorTls,
    /// Which service a host and path lead to at a browser door, most specific first.
    pub routes: Vec<Route>,
    /// Why TLS 1.2 is allowed, if it is.
    pub tls12: Option<String>,
    /// Size and time limits.
    pub limits: Limits,
    /// How often each of its callers may call by it.
    pub rate: Option<Rate>,
    /// Which other origins may read its answers.
    pub cors: Option<Cors>,
}

/// Where a door's certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DoorTls {
    /// Our own authority.
    #[default]
    Internal,
    /// An ACME authority.
    Acme,
    /// Files on the gateway, read when it starts and when they change.
    Files {
        /// Path of the chain (PEM).
        certificate: String,
        /// Path of the key (PEM).
        key: String,
    },
}

/// How the sender of a webhook proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Where it was written.
    pub place: Place,
    /// The secret shared with the sender.
    pub secret: Name,
    /// How it signs.
    pub scheme: SignatureScheme,
    /// How old a message may be (5 min).
    pub window: Duration,
}

/// How a webhook is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks,
    /// `X-Hub-Signature-256`, replays told by `X-GitHub-Delivery`.
    Github,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Slack-Signature` and `X-Slack-Request-Timestamp`.
    Slack,
}

/// Cross-origin resource sharing at a browser door (Fetch standard, CORS protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Where it was written.
    pub place: Place,
    /// Origins that may read answers, `https://host[:port]`; no wildcard.
    pub origins: Vec<String>,
    /// Methods that pages of these origins may use; if empty the simple ones.
    pub methods: Vec<String>,
    /// Request headers beyond the simple ones, lower case.
    pub headers: Vec<String>,
    /// Whether cookies are sent along.
    pub credentials: bool,
    /// How long a preflight answer may be kept (10 min).
    pub max_age: Duration,
}

impl Cors {
    /// Whether this origin is listed: scheme, host and port, exactly as browsers write them
    /// (RFC 6454 section 6.2). `null` is none, and no pattern stands for another.
    #[must_use]
    pub fn shares(&self, origin: &str) -> bool {
        self.origins.iter().any(|it| it == origin)
    }

    /// Whether pages of the listed origins may use this method: one of `methods`, or where none is
    /// listed a simple one (Fetch standard, "CORS-safelisted method").
    #[must_use]
    pub fn allows(&self, method: &str) -> bool {
        if self.methods.is_empty() {
            return matches!(method, "GET" | "HEAD" | "POST");
        }
        self.methods.iter().any(|it| it == method)
    }
}

/// How people sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A page that offers the configured members; development only.
    Dev,
    /// An entry of `login`.
    Oidc(Name),
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcLogin {
    /// Where it was written.
    pub place: Place,
    /// The issuer, `https://…`, exactly as its tokens say it.
    pub issuer: String,
    /// Our name there, for people.
    pub client_id: Option<String>,
    /// The secret that proves us there.
    pub client_secret: Option<Name>,
    /// What a pipeline's tokens must be for.
    pub audience: Option<String>,
    /// The claim that lists a person's groups.
    pub roles_from: Option<String>,
    /// The claim that names a person's team, for budgets.
    pub team_from: Option<String>,
    /// How old a person's claims may be (15 min).
    pub claims_max_age: Duration,
}

impl Login {
    /// Its name, the first part of a person's id.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Dev => "dev",
            Self::Oidc(name) => name.as_str(),
        }
    }
}

/// Who can sign in where the configuration names nobody.
const DEVELOPER: &str = "developer";

impl Config {
    /// Whom the page of `login: dev` offers: whoever a role, a secret or a test names of this
    /// login, or else one developer, so that a door whose edges suffice can be entered at all. A
    /// person of whom the configuration knows nothing has no role.
    ///
    /// Nobody where people sign in elsewhere.
    #[must_use]
    pub fn offered(&self, login: &Login) -> BTreeSet<Member> {
        if *login != Login::Dev {
            return BTreeSet::new();
        }
        let roles = self.roles.values().flat_map(|role| &role.members);
        let readers = self.secrets.values().flat_map(|secret| &secret.readers);
        let tests = self.tests.iter().map(|test| &test.subject);
        let named = roles.chain(readers).chain(tests);
        let mut offered: BTreeSet<_> = named
            .filter(|member| match member {
                Member::Group { login: by, .. } | Member::User { login: by, .. } => {
                    by == login.name()
                }
                Member::Identity(_) => false,
            })
            .cloned()
            .collect();
        if offered.is_empty() {
            offered.insert(Member::User {
                login: login.name().to_owned(),
                sub: DEVELOPER.to_owned(),
            });
        }
        offered
    }
}

/// A line of `routes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where it was written.
    pub place: Place,
    /// Host name, lower case.
    pub host: String,
    /// Path pattern (`/**` for all).
    pub path: OperationPattern,
    /// Where it leads.
    pub service: Name,
}

/// Limits of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's header block (32 KiB).
    pub header: u64,
    /// Time for it to arrive (10 s).
    pub header_time: Duration,
    /// Bytes of a request body (1 MiB).
    pub body: u64,
    /// Time a connection may be silent (60 s).
    pub idle: Duration,
    /// Connections at once (10,000).
    pub connections: u32,
    /// Streams at once on one HTTP/2 connection (100).
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: 32 << 10,
            header_time: Duration::from_secs(10),
            body: 1 << 20,
            idle: Duration::from_secs(60),
            connections: 10_000,
            streams: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::config::load_text;

    const DOOR: &str = r#"
listeners: { web: { bind: "127.0.0.1:8443", peer: browser, login: dev } }
services:  { app: { peer: service, url: "http://127.0.0.1:8000", needs: edge } }
edges:     { web -> app: [GET /**] }
"#;

    fn offered(more: &str, login: &Login) -> Vec<String> {
        let dev = Options {
            dev: true,
            strict: false,
        };
        let loaded = load_text("countersign.yaml", format!("{DOOR}{more}"), &dev);
        let config = loaded.config.expect("a configuration");
        config
            .offered(login)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_door_is_entered_by_whom_the_file_names_or_else_by_one_developer() {
        assert_eq!(offered("", &Login::Dev), ["user:dev/developer"]);
        let workload = "identities: { job: {} }\nroles: { worker: { members: [job] } }\n";
        assert_eq!(offered(workload, &Login::Dev), ["user:dev/developer"]);
        let people = "roles: { reader: { members: [group:staff, user:alice] } }\n\
            tests: { it opens: { as: user:bob, via: web, call: GET app/x, expect: allow } }\n";
        let expected = ["group:dev/staff", "user:dev/alice", "user:dev/bob"];
        assert_eq!(offered(people, &Login::Dev), expected);
    }

    #[test]
    fn nobody_is_offered_where_people_sign_in_elsewhere() {
        let corp = Login::Oidc(Name::new("corp").unwrap());
        assert_eq!(offered("", &corp), Vec::<String>::new());
    }
}
