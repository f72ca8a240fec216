//! `identities` and `roles`.

use super::CLAIM;
use super::DNS_NAME;
use super::FILE_PATH;
use super::Form;
use super::MEMBER;
use super::NAME;
use super::NODE;
use super::OWNER;
use super::PERMISSION;
use super::SERVICE_ACCOUNT;
use super::SHA256;
use super::Shape;
use super::UNIX_USER;
use super::WORD;
use super::may;
use super::must;
use super::shape;

/// An entry of `identities`.
pub static IDENTITY: Shape = shape(
    "an identity",
    "A workload, partner, AI agent or pipeline; its SPIFFE ID is `spiffe://<trust domain>/<name>`.",
    &[
        may(
            "kind",
            Form::Choice(&["workload", "ai-agent", "partner"]),
            "`workload`",
            "What it is.",
        ),
        may(
            "owner",
            Form::Text(&OWNER),
            "none",
            "The person an AI agent belongs to; required for `ai-agent`.",
        ),
        may(
            "attest",
            Form::Map(&ATTEST),
            "issued by command",
            "As which process it is recognised.",
        ),
        may(
            "login",
            Form::Text(&NAME),
            "none",
            "The issuer of a pipeline's tokens.",
        ),
        may(
            "claims",
            Form::Pairs(&CLAIM, &WORD),
            "none",
            "What those tokens must say; required with `login`.",
        ),
        may(
            "certificate",
            Form::Map(&PARTNER_CERTIFICATE),
            "none",
            "The certificate of a partner; required for `partner`.",
        ),
        may(
            "team",
            Form::Text(&WORD),
            "none",
            "Whose budget it draws on.",
        ),
        may(
            "fronts",
            Form::Texts(&NAME),
            "none",
            "Services it may ask decisions about.",
        ),
    ],
);

/// `attest` of an identity.
pub static ATTEST: Shape = Shape {
    name: "`attest`",
    doc: "How a process is recognised as this identity.",
    keys: &[
        may(
            "k8s",
            Form::Text(&SERVICE_ACCOUNT),
            "none",
            "By its service account.",
        ),
        may("unix", Form::Map(&UNIX), "none", "By its system user."),
    ],
    one_of: &["k8s", "unix"],
};

/// `attest: { unix }`.
pub static UNIX: Shape = shape(
    "`unix`",
    "A process on a machine.",
    &[
        must(
            "user",
            Form::Text(&UNIX_USER),
            "The name of the system user.",
        ),
        may(
            "nodes",
            Form::Texts(&NODE),
            "any, in development only",
            "On which nodes.",
        ),
        may(
            "sha256",
            Form::Text(&SHA256),
            "any executable",
            "The hash of the executable.",
        ),
    ],
);

/// `certificate` of a partner identity.
pub static PARTNER_CERTIFICATE: Shape = shape(
    "`certificate`",
    "Which certificate a partner shows; its authority counts for this identity alone.",
    &[
        must("ca", Form::Text(&FILE_PATH), "Its authority (PEM)."),
        must("dns", Form::Text(&DNS_NAME), "The DNS name in it."),
    ],
);

/// An entry of `roles`.
pub static ROLE: Shape = shape(
    "a role",
    "Permissions, and who has them.",
    &[
        may(
            "members",
            Form::Texts(&MEMBER),
            "nobody",
            "Identities, groups and people.",
        ),
        may(
            "includes",
            Form::Texts(&NAME),
            "none",
            "Roles whose permissions it has too.",
        ),
        may(
            "may",
            Form::Texts(&PERMISSION),
            "nothing",
            "Its own permissions.",
        ),
        may(
            "tier",
            Form::Text(&NAME),
            "unlimited",
            "How often its members may call. Of several tiers, those of included roles too, the one with the highest average counts, then the one with the largest burst.",
        ),
    ],
);
