//! The one declaration of the language: every section and key with its form, default and meaning.
//!
//! The parser takes its unknown-key and missing-key checks and its suggestions from here; the JSON
//! Schema and the reference pages have nothing else to be made from. A key of the language that
//! this build does not enforce is declared as [`Presence::Later`]: it is known, and refused.

mod services;

pub use services::BODY;
pub use services::CREDENTIAL;
pub use services::OPERATION;
pub use services::SERVICE;

/// A map with a fixed set of keys.
#[derive(Debug)]
pub struct Shape {
    /// What it is called in messages.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a [`Shape`].
#[derive(Debug)]
pub struct Key {
    /// The word in the file.
    pub name: &'static str,
    /// What the value looks like.
    pub form: Form,
    /// Whether it must be there.
    pub presence: Presence,
    /// What it is for.
    pub doc: &'static str,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Form {
    /// Text in a small grammar, which the example shows.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts like the example.
    Texts(&'static str),
    /// A map with these keys.
    Map(&'static Shape),
    /// A map from names or patterns like the example to entries.
    Entries(&'static str, &'static Shape),
    /// A map from texts to texts like the examples.
    Pairs(&'static str, &'static str),
    /// Of a part that is not in this build.
    Open,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Required,
    /// It need not; the text says what holds without it.
    Default(&'static str),
    /// The language has it, this build does not.
    Later,
}

impl Shape {
    /// The key of this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of the keys this build takes, in the order declared.
    pub fn known(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys
            .iter()
            .filter(|key| key.presence != Presence::Later)
            .map(|key| key.name)
    }
}

const fn must(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key {
        name,
        form,
        presence: Presence::Required,
        doc,
    }
}

const fn may(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        form,
        presence: Presence::Default(default),
        doc,
    }
}

const fn later(name: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        form: Form::Open,
        presence: Presence::Later,
        doc,
    }
}

/// The whole file.
pub static FILE: Shape = Shape {
    name: "the file",
    doc: "Which doors, who is who, who may what, what can be reached, and the proof.",
    keys: &[
        may(
            "trust_domain",
            Form::Text("acme.internal"),
            "local.dev.invalid in development",
            "Whose certificates and tokens count; required outside development.",
        ),
        may(
            "environment",
            Form::Choice(&["dev", "prod"]),
            "prod",
            "Development is loopback only and watermarked.",
        ),
        may(
            "staleness",
            Form::Map(&STALENESS),
            "15s and 5m",
            "How old an enforcement point's knowledge may be before it refuses.",
        ),
        may(
            "listeners",
            Form::Entries("web", &LISTENER),
            "none",
            "Doors, and what a caller must prove at them.",
        ),
        may(
            "identities",
            Form::Entries("frontend", &IDENTITY),
            "none",
            "Workloads.",
        ),
        may(
            "roles",
            Form::Entries("analyst", &ROLE),
            "none",
            "Who may what.",
        ),
        may(
            "services",
            Form::Entries("hms-api", &SERVICE),
            "none",
            "What can be reached, and what each operation needs.",
        ),
        may(
            "edges",
            Form::Pairs("web -> frontend", "GET /**"),
            "none: deny",
            "Which door or workload may reach which operations of which service at all.",
        ),
        may(
            "secrets",
            Form::Entries("openai", &SECRET),
            "none",
            "Secrets by name.",
        ),
        may(
            "budgets",
            Form::Entries("llm", &BUDGET),
            "none",
            "Spending limits by name.",
        ),
        may("audit", Form::Map(&AUDIT), "fsync, 7y", "The ledger."),
        may(
            "tests",
            Form::Entries("an analyst reads a report", &TEST),
            "none",
            "Sentences that must hold before a configuration is used.",
        ),
        later("login", "OIDC issuers."),
        later("tiers", "Rate limits of roles."),
        later("policies", "Rego policies."),
        later("include", "Further files."),
        later("change", "Who approves a loosening."),
    ],
};

/// `staleness`.
pub static STALENESS: Shape = Shape {
    name: "`staleness`",
    doc: "Measured since the last signed heartbeat, never by wall clock.",
    keys: &[
        may(
            "revocations",
            Form::Text("15s"),
            "15s",
            "Since the last word about revocations.",
        ),
        may(
            "policy",
            Form::Text("5m"),
            "5m",
            "Since the last word about policy.",
        ),
    ],
};

/// An entry of `listeners`.
pub static LISTENER: Shape = Shape {
    name: "a listener",
    doc: "A door; its peer kind says what a caller proves.",
    keys: &[
        must(
            "bind",
            Form::Text(":8443"),
            "Address and port; `:8443` is all addresses.",
        ),
        must(
            "peer",
            Form::Choice(&["service", "browser"]),
            "Who comes in by it.",
        ),
        may(
            "hosts",
            Form::Texts("app.acme.example"),
            "in development the address and `localhost`",
            "Host names it answers to.",
        ),
        may(
            "login",
            Form::Choice(&["dev"]),
            "none",
            "How people sign in; required for `browser`.",
        ),
        may(
            "routes",
            Form::Pairs("app.acme.example/**", "frontend"),
            "the one service its edges lead to",
            "Which service a host and path lead to at a browser door.",
        ),
        may(
            "tls",
            Form::Choice(&["internal"]),
            "internal",
            "Where the door's certificate comes from.",
        ),
        may(
            "min_tls",
            Form::Pairs("1.2", "a scanner that cannot do 1.3"),
            "1.3",
            "An older version with the reason for it, `browser` only.",
        ),
        may(
            "limits",
            Form::Map(&LIMITS),
            "see there",
            "Size and time limits.",
        ),
        later("client_ca", "The authority of a partner."),
        later("rate", "Requests per time."),
        later("cors", "Cross-origin rules."),
    ],
};

/// `limits` of a listener.
pub static LIMITS: Shape = Shape {
    name: "`limits`",
    doc: "What one caller can take up.",
    keys: &[
        may(
            "header",
            Form::Text("32KiB"),
            "32KiB",
            "Size of a request's header block.",
        ),
        may(
            "header_time",
            Form::Text("10s"),
            "10s",
            "Time for it to arrive.",
        ),
        may(
            "body",
            Form::Text("1MiB"),
            "1MiB",
            "Size of a request body.",
        ),
        may(
            "idle",
            Form::Text("60s"),
            "60s",
            "Time a connection may be silent.",
        ),
        may(
            "connections",
            Form::Text("10000"),
            "10000",
            "Connections at once.",
        ),
        may(
            "streams",
            Form::Text("100"),
            "100",
            "Streams at once on one connection.",
        ),
    ],
};

/// An entry of `identities`.
pub static IDENTITY: Shape = Shape {
    name: "an identity",
    doc: "A workload; its SPIFFE ID is `spiffe://<trust domain>/<name>`.",
    keys: &[
        may(
            "attest",
            Form::Map(&ATTEST),
            "issued by command",
            "Where it runs.",
        ),
        later("kind", "AI agents and partners."),
        later("owner", "The person an agent belongs to."),
        later("login", "The issuer of a pipeline's tokens."),
        later("claims", "What those tokens must say."),
        later("certificate", "The certificate of a partner."),
        later("team", "Whose budget it draws on."),
        later("fronts", "Services it asks decisions for."),
    ],
};

/// `attest` of an identity.
pub static ATTEST: Shape = Shape {
    name: "`attest`",
    doc: "How a process is recognised as this identity.",
    keys: &[
        must(
            "unix",
            Form::Map(&UNIX),
            "By its system user, on the admin socket.",
        ),
        later("k8s", "By its service account."),
    ],
};

/// `attest: { unix }`.
pub static UNIX: Shape = Shape {
    name: "`unix`",
    doc: "A process on this machine.",
    keys: &[
        must("user", Form::Text("hms"), "The name of the system user."),
        later("nodes", "On which nodes."),
        later("sha256", "The hash of the executable."),
    ],
};

/// An entry of `roles`.
pub static ROLE: Shape = Shape {
    name: "a role",
    doc: "Permissions, and who has them.",
    keys: &[
        may(
            "members",
            Form::Texts("group:analysts"),
            "nobody",
            "Identities, groups and people.",
        ),
        may(
            "includes",
            Form::Texts("analyst"),
            "none",
            "Roles whose permissions it has too.",
        ),
        may(
            "may",
            Form::Texts("report:read"),
            "nothing",
            "Its own permissions.",
        ),
        later("tier", "How often."),
    ],
};

/// An entry of `secrets`.
pub static SECRET: Shape = Shape {
    name: "a secret",
    doc: "A secret by name; its value is never in the file.",
    keys: &[
        must(
            "from",
            Form::Text("store:openai"),
            "`store:`, `env:` or `file:`.",
        ),
        may(
            "needs",
            Form::Text("secret:read"),
            "secret:read",
            "The permission a reader's token carries.",
        ),
        may(
            "readers",
            Form::Texts("hms-api"),
            "nobody",
            "Who may read it; a grant on this one name.",
        ),
        later("rotate", "How often it is replaced."),
    ],
};

/// An entry of `budgets`.
pub static BUDGET: Shape = Shape {
    name: "a budget",
    doc: "A spending limit.",
    keys: &[
        must(
            "limit",
            Form::Text("$50/day"),
            "Dollars per hour, day, week or month.",
        ),
        may(
            "per",
            Form::Choice(&["all", "subject"]),
            "all",
            "Whose spending is added up.",
        ),
        must(
            "prices",
            Form::Entries("gpt-*", &PRICE),
            "Prices by model; the first match counts.",
        ),
        later("warn", "When to warn."),
    ],
};

/// An entry of `prices`.
pub static PRICE: Shape = Shape {
    name: "a price",
    doc: "Dollars per million tokens.",
    keys: &[
        must("input", Form::Text("$2.50"), "For tokens sent."),
        must("output", Form::Text("$10"), "For tokens received."),
    ],
};

/// `audit`.
pub static AUDIT: Shape = Shape {
    name: "`audit`",
    doc: "The ledger.",
    keys: &[
        may(
            "commit",
            Form::Choice(&["fsync", "os"]),
            "fsync",
            "`os` survives a process crash, not a power cut.",
        ),
        may("keep", Form::Text("7y"), "7y", "How long records are kept."),
        later("sinks", "Where records are sent as well."),
    ],
};

/// An entry of `tests`.
pub static TEST: Shape = Shape {
    name: "a test",
    doc: "A sentence that must hold.",
    keys: &[
        must("as", Form::Text("group:analysts"), "Who asks."),
        may(
            "via",
            Form::Text("web > frontend"),
            "directly",
            "The door and the workloads it comes by.",
        ),
        must(
            "call",
            Form::Text("GET hms-api/v1/reports/42"),
            "What is asked.",
        ),
        may(
            "with",
            Form::Map(&WITH),
            "nothing",
            "What the request says.",
        ),
        must("expect", Form::Text("allow"), "`allow` or `deny <pillar>`."),
    ],
};

/// `with` of a test.
pub static WITH: Shape = Shape {
    name: "`with`",
    doc: "What the request says.",
    keys: &[
        must("model", Form::Text("gpt-4o"), "The model it asks for."),
        later("environment", "The environment of an input."),
        later("input", "A provisioning input."),
    ],
};

impl Form {
    /// What a value may look like.
    #[must_use]
    pub fn example(&self) -> &'static str {
        match self {
            Self::Text(example) => example,
            Self::Choice(words) => words.first().copied().unwrap_or_default(),
            Self::Texts(_) => "[...]",
            Self::Map(_) | Self::Entries(..) | Self::Pairs(..) | Self::Open => "{ ... }",
        }
    }
}
