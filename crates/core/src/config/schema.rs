//! The one declaration of the language: every section and key with its form, default and meaning.
//!
//! The parser takes its unknown-key and missing-key checks and its suggestions from here; the JSON
//! Schema, the reference pages and the help about a key have nothing else to be made from.

mod doors;
mod example;
mod find;
mod grammars;
mod json;
mod limits;
mod proof;
mod services;
mod who;

pub use doors::*;
pub use find::Found;
pub use find::NoSuchKey;
pub use find::find;
pub use grammars::*;
pub use json::ID;
pub use json::json;
pub use limits::*;
pub use proof::*;
pub use services::*;
pub use who::*;

/// A map with a fixed set of keys.
#[derive(Debug)]
pub struct Shape {
    /// What it is called in messages.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Keys of which exactly one must be there; empty if there is no such rule.
    pub one_of: &'static [&'static str],
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

/// A small grammar of texts.
#[derive(Debug)]
pub struct Grammar {
    /// What it is called in the reference.
    pub name: &'static str,
    /// How it is written.
    pub doc: &'static str,
    /// A text that is right.
    pub example: &'static str,
    /// A regular expression that all right texts match whole (ECMA-262, without look-around). The
    /// parser may refuse some that match.
    pub pattern: &'static str,
    /// What YAML may take such a text for when it is not quoted.
    pub plain: Plain,
}

/// What other programs that read YAML may take an unquoted text for (YAML 1.2, section 10.3.2).
///
/// Here it is text whatever it looks like; a JSON Schema has to let through what they make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Never for anything but text.
    Text,
    /// For a whole number above 0.
    Count,
    /// For a number or a truth value, such as a name `100` or `true`.
    Any,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Form {
    /// Text in a small grammar.
    Text(&'static Grammar),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a map with these keys.
    ChoiceOr(&'static [&'static str], &'static Shape),
    /// A list of texts.
    Texts(&'static Grammar),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// One text, or a list of texts.
    TextOrTexts(&'static Grammar),
    /// A map with these keys.
    Map(&'static Shape),
    /// A map from names or patterns to entries.
    Entries(&'static Grammar, &'static Shape),
    /// A map from texts to texts.
    Pairs(&'static Grammar, &'static Grammar),
    /// A map from texts to one text or a list of them.
    Lists(&'static Grammar, &'static Grammar),
    /// A map with any keys and values.
    Any,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Required,
    /// It need not; the text says what holds without it.
    Default(&'static str),
}

impl Shape {
    /// The key of this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of the keys, in the order declared.
    pub fn known(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|key| key.name)
    }
}

impl Form {
    /// What a value may look like.
    #[must_use]
    pub fn example(&self) -> &'static str {
        match self {
            Self::Text(grammar) | Self::TextOrTexts(grammar) => grammar.example,
            Self::Choice(words) | Self::ChoiceOr(words, _) => {
                words.first().copied().unwrap_or_default()
            }
            Self::Texts(_) | Self::Choices(_) => "[...]",
            Self::Map(_) | Self::Entries(..) | Self::Pairs(..) | Self::Lists(..) | Self::Any => {
                "{ ... }"
            }
        }
    }
}

const fn shape(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Shape {
    Shape {
        name,
        doc,
        keys,
        one_of: &[],
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

/// The whole file.
pub static FILE: Shape = shape(
    "the file",
    "Which doors, who is who, who may what, what can be reached, and the proof.",
    &[
        may(
            "trust_domain",
            Form::Text(&TRUST_DOMAIN),
            "`local.dev.invalid` in development",
            "Whose certificates and tokens count; required outside development.",
        ),
        may(
            "environment",
            Form::Choice(&["dev", "prod"]),
            "`prod`",
            "Development is loopback only and watermarked.",
        ),
        may(
            "staleness",
            Form::Map(&STALENESS),
            "`15s` and `5m`",
            "How old an enforcement point's knowledge may be before it refuses.",
        ),
        may(
            "change",
            Form::Map(&CHANGE),
            "one person is enough",
            "Who has to agree to a configuration that allows more than the one in force.",
        ),
        may(
            "include",
            Form::TextOrTexts(&GLOB),
            "none",
            "Further files, merged by distinct name only; the same name twice is an error.",
        ),
        may(
            "listeners",
            Form::Entries(&NAME, &LISTENER),
            "none",
            "Doors, and what a caller must prove at them.",
        ),
        may(
            "login",
            Form::Entries(&NAME, &LOGIN),
            "none",
            "OpenID Connect issuers of people and pipelines.",
        ),
        may(
            "identities",
            Form::Entries(&NAME, &IDENTITY),
            "none",
            "Workloads, partners, AI agents and pipelines.",
        ),
        may(
            "roles",
            Form::Entries(&NAME, &ROLE),
            "none",
            "Who may what.",
        ),
        may(
            "tiers",
            Form::Pairs(&NAME, &RATE),
            "none",
            "How often a subject may call all services together, per enforcement point; each hop made for it counts.",
        ),
        may(
            "services",
            Form::Entries(&NAME, &SERVICE),
            "none",
            "What can be reached, and what each operation needs.",
        ),
        may(
            "edges",
            Form::Lists(&ARROW, &OPERATION_PATTERN),
            "none: deny",
            "Which door or workload may reach which operations of which service at all.",
        ),
        may(
            "secrets",
            Form::Entries(&NAME, &SECRET),
            "none",
            "Secrets by name; their values are never in the file.",
        ),
        may(
            "budgets",
            Form::Entries(&NAME, &BUDGET),
            "none",
            "Spending limits by name.",
        ),
        may(
            "policies",
            Form::Entries(&NAME, &POLICY),
            "none",
            "Rego policies by name.",
        ),
        may("audit", Form::Map(&AUDIT), "`fsync`, `7y`", "The ledger."),
        may(
            "tests",
            Form::Entries(&SENTENCE, &TEST),
            "none",
            "Sentences that must hold before a configuration is used.",
        ),
    ],
);

/// `staleness`.
pub static STALENESS: Shape = shape(
    "`staleness`",
    "Measured since the last signed heartbeat, never by wall clock.",
    &[
        may(
            "revocations",
            Form::Text(&DURATION),
            "`15s`",
            "Since the last word about revocations.",
        ),
        may(
            "policy",
            Form::Text(&DURATION),
            "`5m`",
            "Since the last word about policy.",
        ),
    ],
);

/// `change`.
pub static CHANGE: Shape = shape(
    "`change`",
    "Who has to agree to a configuration that allows more than the one in force.",
    &[may(
        "approve",
        Form::Texts(&NAME),
        "nobody",
        "Roles of which a second person agrees.",
    )],
);
