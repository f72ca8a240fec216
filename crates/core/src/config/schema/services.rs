//! `services`: what can be reached, and what each operation needs.

use super::DURATION;
use super::FILE_PATH;
use super::FOLDER_PATH;
use super::Form;
use super::GRANT;
use super::HEADER;
use super::HOURS;
use super::INJECTION;
use super::MODEL;
use super::NAME;
use super::NEEDS;
use super::OPERATION_OR_PATH;
use super::OPERATION_PATTERN;
use super::PATH;
use super::RATE;
use super::SERVICE_URL;
use super::SIZE;
use super::Shape;
use super::WORD;
use super::may;
use super::must;
use super::shape;

/// An entry of `services`.
pub static SERVICE: Shape = shape(
    "a service",
    "Something that can be reached; its peer kind says how we prove ourselves to it.",
    &[
        must(
            "peer",
            Form::Choice(&[
                "service",
                "third-party",
                "partner",
                "database",
                "broker",
                "provisioner",
            ]),
            "What it is.",
        ),
        may(
            "url",
            Form::Text(&SERVICE_URL),
            "none",
            "Where it is; it or `urls` is required but for `provisioner`.",
        ),
        may(
            "urls",
            Form::Texts(&SERVICE_URL),
            "none",
            "Several addresses that do the same.",
        ),
        may(
            "identity",
            Form::Text(&NAME),
            "the identity of its own name",
            "Which workload it must prove to be.",
        ),
        may(
            "balance",
            Form::Choice(&["least-pending", "round-robin"]),
            "`least-pending`",
            "How calls are spread over several addresses.",
        ),
        may(
            "health",
            Form::Map(&HEALTH),
            "by what calls come to",
            "How addresses are probed.",
        ),
        may(
            "timeout",
            Form::Text(&DURATION),
            "`30s`",
            "How long a call may take.",
        ),
        may(
            "max_stream",
            Form::Text(&DURATION),
            "`1h`",
            "How long a stream may live.",
        ),
        may(
            "retry",
            Form::Choice(&["idempotent", "never"]),
            "`idempotent`",
            "Which calls are tried again at another address.",
        ),
        may(
            "network",
            Form::Choice(&["public", "private"]),
            "`public`",
            "Whether private addresses may be dialled.",
        ),
        may(
            "case",
            Form::Choice(&["sensitive", "insensitive"]),
            "`sensitive`",
            "`insensitive` for upstreams that fold the case of paths.",
        ),
        may(
            "credential",
            Form::Map(&CREDENTIAL),
            "none",
            "What is put into a call on its way out; required for `third-party`.",
        ),
        may(
            "headers",
            Form::Texts(&HEADER),
            "a preset",
            "Request headers that may travel to a third party.",
        ),
        may(
            "certificate",
            Form::Map(&CLIENT_CERTIFICATE),
            "none",
            "The certificate a partner issued to us; required for `partner`.",
        ),
        may(
            "server_ca",
            Form::Text(&FILE_PATH),
            "the public roots",
            "The authority of a partner's own certificate (PEM).",
        ),
        may(
            "lease",
            Form::Map(&LEASE),
            "none",
            "Leased users; required for `database`.",
        ),
        may(
            "through",
            Form::Choice(&["agent"]),
            "any enforcement point",
            "Reached only by the agent beside the caller.",
        ),
        may(
            "engine",
            Form::Map(&ENGINE),
            "none",
            "What provisions; required for `provisioner`.",
        ),
        may(
            "needs",
            Form::Text(&NEEDS),
            "none",
            "A permission for all of it, or `edge`.",
        ),
        may(
            "operations",
            Form::Entries(&OPERATION_PATTERN, &OPERATION),
            "none",
            "What each operation needs.",
        ),
    ],
);

/// `health` of a service.
pub static HEALTH: Shape = shape(
    "`health`",
    "How the addresses of a service are probed.",
    &[
        must(
            "path",
            Form::Text(&PATH),
            "The path asked for by `GET`; 2xx is well.",
        ),
        may("every", Form::Text(&DURATION), "`10s`", "How often."),
        may(
            "timeout",
            Form::Text(&DURATION),
            "`2s`",
            "How long an answer may take.",
        ),
    ],
);

/// `credential` of a service.
pub static CREDENTIAL: Shape = shape(
    "`credential`",
    "A secret put into a call on its way out; the caller never sees it.",
    &[
        must("secret", Form::Text(&NAME), "Which secret."),
        must("as", Form::Text(&INJECTION), "`bearer` or `header:<name>`."),
    ],
);

/// `certificate` of a partner service.
pub static CLIENT_CERTIFICATE: Shape = shape(
    "`certificate`",
    "The certificate a partner issued to us.",
    &[
        must("chain", Form::Text(&FILE_PATH), "The chain (PEM)."),
        must(
            "key",
            Form::Text(&NAME),
            "The secret that holds its key (PEM).",
        ),
    ],
);

/// `lease` of a database.
pub static LEASE: Shape = shape(
    "`lease`",
    "Users that live for minutes, made for one caller.",
    &[
        must("ttl", Form::Text(&DURATION), "How long one lives."),
        must("grants", Form::Texts(&GRANT), "What it may do."),
    ],
);

/// `engine` of a provisioner.
pub static ENGINE: Shape = Shape {
    name: "`engine`",
    doc: "What provisions.",
    keys: &[
        may(
            "terraform",
            Form::Text(&FOLDER_PATH),
            "none",
            "A module folder, applied by Terraform.",
        ),
        may(
            "opentofu",
            Form::Text(&FOLDER_PATH),
            "none",
            "A module folder, applied by OpenTofu.",
        ),
        may(
            "calm",
            Form::Text(&WORD),
            "none",
            "A blueprint of Nutanix Calm.",
        ),
        may(
            "infoblox",
            Form::Text(&WORD),
            "none",
            "A network view of Infoblox.",
        ),
    ],
    one_of: &["terraform", "opentofu", "calm", "infoblox"],
};

/// An entry of `operations`.
pub static OPERATION: Shape = shape(
    "an operation",
    "What calls that match the pattern need; all matching entries apply together.",
    &[
        must("needs", Form::Text(&NEEDS), "A permission, or `edge`."),
        may(
            "except",
            Form::Texts(&OPERATION_OR_PATH),
            "nothing",
            "Carved out of the pattern.",
        ),
        may(
            "subject",
            Form::Choice(&["person"]),
            "anybody",
            "Only people may.",
        ),
        may(
            "body",
            Form::Map(&BODY),
            "the listener's limits",
            "Rules for the request body.",
        ),
        may(
            "rate",
            Form::Text(&RATE),
            "unlimited",
            "How often each subject may call it, per enforcement point; its tier counts besides.",
        ),
        may("models", Form::Texts(&MODEL), "any", "Allowed models."),
        may(
            "budget",
            Form::Text(&NAME),
            "none",
            "The budget it draws on.",
        ),
        may(
            "hours",
            Form::Text(&HOURS),
            "always",
            "When it is allowed, in UTC.",
        ),
        may(
            "policy",
            Form::Text(&NAME),
            "none",
            "A Rego policy that must agree; required for `provisioner`.",
        ),
        may(
            "approve",
            Form::Texts(&NAME),
            "nobody",
            "Roles of which one person approves each call.",
        ),
        may(
            "input",
            Form::Text(&FILE_PATH),
            "none",
            "What the input of a provisioning must look like (JSON Schema).",
        ),
        may(
            "token",
            Form::Text(&DURATION),
            "none",
            "How long a run's sub-token lives, at most `1h`; required for `provisioner`.",
        ),
    ],
);

/// `body` of an operation.
pub static BODY: Shape = shape(
    "`body`",
    "Rules for the request body.",
    &[
        may(
            "max",
            Form::Text(&SIZE),
            "the listener's `body`",
            "Its largest size.",
        ),
        may(
            "schema",
            Form::Text(&FILE_PATH),
            "any",
            "What a JSON body must look like (JSON Schema 2020-12, `format` enforced).",
        ),
        may(
            "screen",
            Form::Choices(&["prompt-injection", "secrets", "pii", "html"]),
            "nothing",
            "What it is searched for.",
        ),
    ],
);
