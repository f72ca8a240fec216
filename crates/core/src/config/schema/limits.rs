//! `secrets`, `budgets`, `policies` and `audit`: names the others use.

use super::AMOUNT;
use super::DURATION;
use super::FILE_PATH;
use super::Form;
use super::MEMBER;
use super::MODEL;
use super::NAME;
use super::PERCENT;
use super::PERMISSION;
use super::S3_URL;
use super::SECRET_SOURCE;
use super::SPENDING;
use super::Shape;
use super::WEB_URL;
use super::may;
use super::must;
use super::shape;

/// An entry of `secrets`.
pub static SECRET: Shape = shape(
    "a secret",
    "A secret by name; its value is never in the file.",
    &[
        must(
            "from",
            Form::Text(&SECRET_SOURCE),
            "`store:`, `env:`, `file:`, `vault:`, `aws:` or `k8s:`.",
        ),
        may(
            "needs",
            Form::Text(&PERMISSION),
            "`secret:read`",
            "The permission a reader's token carries.",
        ),
        may(
            "readers",
            Form::Texts(&MEMBER),
            "nobody",
            "Who may read it; a grant on this one name.",
        ),
        may(
            "rotate",
            Form::Text(&DURATION),
            "never",
            "How often it is replaced.",
        ),
    ],
);

/// An entry of `budgets`.
pub static BUDGET: Shape = shape(
    "a budget",
    "A spending limit.",
    &[
        must(
            "limit",
            Form::Text(&SPENDING),
            "Dollars per hour, day, week or month.",
        ),
        may(
            "per",
            Form::Choice(&["all", "subject", "team"]),
            "`all`",
            "Whose spending is added up.",
        ),
        may(
            "prices",
            Form::Entries(&MODEL, &PRICE),
            "the list prices this version knows",
            "Prices by model; the first match counts.",
        ),
        may(
            "warn",
            Form::Text(&PERCENT),
            "never",
            "The share of the limit at which to warn.",
        ),
    ],
);

/// An entry of `prices`.
pub static PRICE: Shape = shape(
    "a price",
    "Dollars per million tokens.",
    &[
        must("input", Form::Text(&AMOUNT), "For tokens sent."),
        must("output", Form::Text(&AMOUNT), "For tokens received."),
    ],
);

/// An entry of `policies`.
pub static POLICY: Shape = shape(
    "a policy",
    "Rego that must agree.",
    &[
        must("rego", Form::TextOrTexts(&FILE_PATH), "Its modules."),
        may("data", Form::Any, "none", "What it reads as `data.config`."),
    ],
);

/// `audit`.
pub static AUDIT: Shape = shape(
    "`audit`",
    "The ledger.",
    &[
        may(
            "commit",
            Form::Choice(&["fsync", "os"]),
            "`fsync`",
            "`os` survives a process crash, not a power cut.",
        ),
        may(
            "keep",
            Form::Text(&DURATION),
            "`7y`",
            "How long records are kept.",
        ),
        may(
            "sinks",
            Form::Entries(&NAME, &SINK),
            "none",
            "Where records are sent as well.",
        ),
    ],
);

/// An entry of `sinks`.
pub static SINK: Shape = Shape {
    name: "a sink",
    doc: "Where records are sent as well.",
    keys: &[
        may(
            "ocsf",
            Form::Text(&WEB_URL),
            "none",
            "OCSF events, by `POST` to this address.",
        ),
        may("s3", Form::Text(&S3_URL), "none", "Objects in this bucket."),
        may(
            "file",
            Form::Text(&FILE_PATH),
            "none",
            "Lines of JSON, appended to this file.",
        ),
        may(
            "lock",
            Form::Choice(&["compliance", "governance"]),
            "none",
            "The object lock of a bucket.",
        ),
    ],
    one_of: &["ocsf", "s3", "file"],
};
