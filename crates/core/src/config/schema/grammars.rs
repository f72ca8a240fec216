//! The small grammars: one each for durations, rates, operations and the like.

use super::Grammar;
use super::Plain;

/// Parts that several patterns have in common.
macro_rules! parts {
    ($($name:ident: $pattern:expr;)*) => {
        $(macro_rules! $name { () => { $pattern } })*
    };
}

parts! {
    name: "[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?";
    permission: "[a-z0-9._-]+(?::[a-z0-9._-]+)+";
    above_zero: "0*[1-9][0-9]*";
    dollars: r"\$[0-9]+(?:\.[0-9]{1,6})?";
    day: "(?:mon|tue|wed|thu|fri|sat|sun)";
    time: "(?:[01][0-9]|2[0-3]):[0-5][0-9]";
    octet: "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    port: "0*(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    label: "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
    dns: concat!(label!(), r"(?:\.", label!(), ")*");
    ipv6: "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*";
    host: concat!("(?:", dns!(), r"|\[", ipv6!(), r"\])");
    authority: concat!(host!(), r"(?::\+?", port!(), ")?");
    loopback: concat!(r"(?:localhost|127(?:\.", octet!(), r"){3}|\[", ipv6!(), r"\])");
    octets: r#"(?:[!"$&-)+-.0-:<->@-\[\]-~]|%[0-9A-F]{2})+"#;
    segment: r#"(?:[!"$&-.0-:<->@-\[\]-~]|%[0-9A-F]{2})+"#;
    base: concat!("(?:/|(?:/", segment!(), ")*)");
    path_pattern: concat!("/(?:(?:", octets!(), r"|\*)/)*(?:", octets!(), r"|\*{1,2})?");
    method: "(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)";
    verb: "(?:read|write|lease|connect|publish|subscribe|create|token|revoke|introspect|issue|admin)";
    parts_of_name: r"(?:\*|[A-Za-z0-9_-]+)(?:[./](?:\*|[A-Za-z0-9_-]+))*";
    operation: concat!(
        r"\s*(?:", method!(), r"\s+", path_pattern!(), "|", verb!(), r"(?:\s+", parts_of_name!(), r")?)\s*"
    );
    word: r"[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]{0,253}[^\s\x00-\x1f\x7f-\x9f])?";
    part: r#"[!"$-.0-~]+"#;
}

/// A name.
pub static NAME: Grammar = Grammar {
    name: "a name",
    doc: "1 to 63 lower-case letters, digits, `-`, `_` and `.`, the first and last a letter or a digit.",
    example: "hms-api",
    pattern: concat!("^", name!(), "$"),
    plain: Plain::Any,
};

/// A trust domain.
pub static TRUST_DOMAIN: Grammar = Grammar {
    name: "a trust domain",
    doc: "Lower-case letters, digits, `-`, `_` and `.`, at most 255.",
    example: "acme.internal",
    pattern: r"^[a-z0-9._-]{1,255}$",
    plain: Plain::Any,
};

/// A permission.
pub static PERMISSION: Grammar = Grammar {
    name: "a permission",
    doc: "Words of lower-case letters, digits, `-`, `_` and `.` joined by `:`.",
    example: "report:read",
    pattern: concat!("^", permission!(), "$"),
    plain: Plain::Text,
};

/// A need.
pub static NEEDS: Grammar = Grammar {
    name: "a need",
    doc: "A permission, or `edge` where the edge alone suffices.",
    example: "report:read",
    pattern: concat!("^(?:edge|", permission!(), ")$"),
    plain: Plain::Text,
};

/// A member.
pub static MEMBER: Grammar = Grammar {
    name: "a member",
    doc: "The name of an identity, `group:<login>/<name>`, `user:<login>/<sub>`, or the short forms while one login has people.",
    example: "group:analysts",
    pattern: concat!(
        "^(?:",
        name!(),
        r"|(?:group|user):(?:[^\s/]+|",
        name!(),
        r"/\S+))$"
    ),
    plain: Plain::Any,
};

/// A person.
pub static OWNER: Grammar = Grammar {
    name: "a person",
    doc: "`<login>:<sub>` or `<login>:<e-mail>`.",
    example: "corp:alice@acme.example",
    pattern: concat!("^", name!(), r":\S+$"),
    plain: Plain::Text,
};

/// A duration.
pub static DURATION: Grammar = Grammar {
    name: "a duration",
    doc: "A whole number with `ms`, `s`, `m`, `h`, `d`, `w` or `y` (366 days).",
    example: "15m",
    pattern: concat!("^", above_zero!(), "(?:ms|[smhdwy])$"),
    plain: Plain::Text,
};

/// A size.
pub static SIZE: Grammar = Grammar {
    name: "a size",
    doc: "A whole number with `B`, `KiB`, `MiB` or `GiB`.",
    example: "64KiB",
    pattern: concat!("^", above_zero!(), "(?:B|KiB|MiB|GiB)$"),
    plain: Plain::Text,
};

/// A count.
pub static COUNT: Grammar = Grammar {
    name: "a count",
    doc: "A whole number above 0.",
    example: "100",
    pattern: concat!("^", above_zero!(), "$"),
    plain: Plain::Count,
};

/// A share.
pub static PERCENT: Grammar = Grammar {
    name: "a share",
    doc: "A whole number from 1 to 100 with `%`.",
    example: "80%",
    pattern: "^0*(?:[1-9][0-9]?|100)%$",
    plain: Plain::Text,
};

/// A rate.
pub static RATE: Grammar = Grammar {
    name: "a rate",
    doc: "A count per `s`, `min`, `h` or `day`, and how many at once: the count, where `burst` is not given.",
    example: "100/min burst 150",
    pattern: concat!(
        "^",
        above_zero!(),
        r"/(?:s|min|h|day)(?: \s*burst \s*",
        above_zero!(),
        ")?$"
    ),
    plain: Plain::Text,
};

/// An amount.
pub static AMOUNT: Grammar = Grammar {
    name: "an amount",
    doc: "Dollars, with at most six digits behind the point.",
    example: "$2.50",
    pattern: concat!("^", dollars!(), "$"),
    plain: Plain::Text,
};

/// A spending limit.
pub static SPENDING: Grammar = Grammar {
    name: "a spending limit",
    doc: "Dollars per `hour`, `day`, `week` or `month`.",
    example: "$50/day",
    pattern: concat!("^", dollars!(), "/(?:hour|day|week|month)$"),
    plain: Plain::Text,
};

/// A weekly window.
pub static HOURS: Grammar = Grammar {
    name: "a weekly window",
    doc: "Days and times in UTC.",
    example: "mon-fri 08:00-18:00",
    pattern: concat!(
        "^(?:",
        day!(),
        "(?:-",
        day!(),
        r")? \s*)?",
        time!(),
        "-(?:",
        time!(),
        "|24:00)$"
    ),
    plain: Plain::Text,
};

/// An address to listen on.
pub static SOCKET_ADDRESS: Grammar = Grammar {
    name: "an address to listen on",
    doc: "A literal address and a port, or `:port` for all addresses.",
    example: "127.0.0.1:8443",
    pattern: concat!(
        "^(?:",
        octet!(),
        r"(?:\.",
        octet!(),
        r"){3}:|\[[0-9a-fA-F:.]+(?:%[0-9]+)?\]:|:\+?)",
        port!(),
        "$"
    ),
    plain: Plain::Text,
};

/// A host name.
pub static HOST: Grammar = Grammar {
    name: "a host name",
    doc: "A host name or literal address, lower case.",
    example: "app.acme.example",
    pattern: concat!("^(?:", dns!(), "|", ipv6!(), ")$"),
    plain: Plain::Any,
};

/// A DNS name.
pub static DNS_NAME: Grammar = Grammar {
    name: "a DNS name",
    doc: "A host name, lower case.",
    example: "api.globex.example",
    pattern: concat!("^", dns!(), "$"),
    plain: Plain::Any,
};

/// An origin.
pub static ORIGIN: Grammar = Grammar {
    name: "an origin",
    doc: "`https://host` with a port where it is not 443.",
    example: "https://app.acme.example",
    pattern: concat!(
        "^(?:https://",
        host!(),
        "|http://",
        loopback!(),
        r")(?::\+?",
        port!(),
        ")?$"
    ),
    plain: Plain::Text,
};

/// A method.
pub static METHOD: Grammar = Grammar {
    name: "a method",
    doc: "An upper-case method of HTTP.",
    example: "PUT",
    pattern: concat!(r"^\s*", method!(), r"\s*$"),
    plain: Plain::Text,
};

/// A header name.
pub static HEADER: Grammar = Grammar {
    name: "a header name",
    doc: "Letters, digits, `-` and `_`.",
    example: "x-request-id",
    pattern: "^[A-Za-z0-9_-]{1,64}$",
    plain: Plain::Any,
};

/// A host and path.
pub static ROUTE: Grammar = Grammar {
    name: "a host and path",
    doc: "A host name and a path pattern.",
    example: "app.acme.example/**",
    pattern: concat!("^(?:", dns!(), "|", ipv6!(), ")", path_pattern!(), r"\s*$"),
    plain: Plain::Text,
};

/// A TLS version.
pub static TLS_VERSION: Grammar = Grammar {
    name: "a TLS version",
    doc: "`1.2`.",
    example: "1.2",
    pattern: r"^1\.2$",
    plain: Plain::Any,
};

/// A reason.
pub static REASON: Grammar = Grammar {
    name: "a reason",
    doc: "At least eight characters that say who needs it and until when.",
    example: "a scanner that cannot do 1.3",
    pattern: r"^(?:\s*\S[\s\S]{6,}\S\s*|[\s\S]*[^\x00-\x7f][\s\S]*)$",
    plain: Plain::Any,
};

/// A path.
pub static PATH: Grammar = Grammar {
    name: "a path",
    doc: "A path in canonical form.",
    example: "/healthz",
    pattern: concat!("^/(?:", segment!(), "/)*(?:", segment!(), ")?$"),
    plain: Plain::Text,
};

/// A file.
pub static FILE_PATH: Grammar = Grammar {
    name: "a file",
    doc: "A path relative to the file that names it.",
    example: "partners/globex.pem",
    pattern: r"^[^\x00-\x1f\x7f-\x9f\\*]{1,1024}$",
    plain: Plain::Any,
};

/// A folder.
pub static FOLDER_PATH: Grammar = Grammar {
    name: "a folder",
    doc: "A path relative to the file that names it.",
    example: "modules/sandbox-vm",
    pattern: r"^[^\x00-\x1f\x7f-\x9f\\*]{1,1024}$",
    plain: Plain::Any,
};

/// Files.
pub static GLOB: Grammar = Grammar {
    name: "files",
    doc: "A path relative to the file that names it; `*` stands for any part of a file name.",
    example: "conf.d/*.yaml",
    pattern: r"^(?:[^\x00-\x1f\x7f-\x9f\\*]*/)?\*?(?:[^\x00-\x1f\x7f-\x9f\\*/]\*?)*$",
    plain: Plain::Any,
};

/// A text.
pub static WORD: Grammar = Grammar {
    name: "a text",
    doc: "Any text on one line, at most 255 characters.",
    example: "groups",
    pattern: concat!("^", word!(), "$"),
    plain: Plain::Any,
};

/// A claim.
pub static CLAIM: Grammar = Grammar {
    name: "a claim",
    doc: "The name of a claim.",
    example: "repository_id",
    pattern: concat!("^", word!(), "$"),
    plain: Plain::Any,
};

/// A node.
pub static NODE: Grammar = Grammar {
    name: "a node",
    doc: "The name of a node.",
    example: "ops-1",
    pattern: concat!("^", name!(), "$"),
    plain: Plain::Any,
};

/// A hash.
pub static SHA256: Grammar = Grammar {
    name: "a hash",
    doc: "64 hexadecimal digits.",
    example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    pattern: "^[0-9a-fA-F]{64}$",
    plain: Plain::Any,
};

/// A system user.
pub static UNIX_USER: Grammar = Grammar {
    name: "a system user",
    doc: "The name of a system user.",
    example: "hms",
    pattern: "^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,31}$",
    plain: Plain::Any,
};

/// A service account.
pub static SERVICE_ACCOUNT: Grammar = Grammar {
    name: "a service account",
    doc: "`cluster/namespace/name`.",
    example: "main/hms/api",
    pattern: "^[a-z0-9.-]{1,253}(?:/[a-z0-9.-]{1,253}){2}$",
    plain: Plain::Text,
};

/// Where a service is.
pub static SERVICE_URL: Grammar = Grammar {
    name: "where a service is",
    doc: "`https://host:port/base`, `http://` to loopback, `unix:/path`, `postgres://host:port/database` for a database, `nats://host:port` for a broker.",
    example: "https://api.hms.svc:8443",
    pattern: concat!(
        "^(?:https://",
        authority!(),
        base!(),
        "|http://",
        loopback!(),
        "(?::",
        r"\+?",
        port!(),
        ")?",
        base!(),
        r"|unix:/(?:[^\x00-\x1f\x7f-\x9f]{0,105}[^\x00-\x1f\x7f-\x9f/])",
        "|postgres://",
        authority!(),
        "/[A-Za-z0-9_-]{1,63}",
        "|nats://",
        authority!(),
        "/?)$",
    ),
    plain: Plain::Text,
};

/// A web address.
pub static WEB_URL: Grammar = Grammar {
    name: "a web address",
    doc: "`https://host/path`, without query or fragment.",
    example: "https://siem.acme.example/ingest",
    pattern: concat!(
        "^(?:https://",
        authority!(),
        base!(),
        "|http://",
        loopback!(),
        r"(?::\+?",
        port!(),
        ")?",
        base!(),
        ")$"
    ),
    plain: Plain::Text,
};

/// A bucket.
pub static S3_URL: Grammar = Grammar {
    name: "a bucket",
    doc: "`s3://bucket/prefix`.",
    example: "s3://acme-audit",
    pattern: r"^s3://[a-z0-9.-]{3,63}(?:/[\s\S]*)?$",
    plain: Plain::Text,
};

/// Where a secret comes from.
pub static SECRET_SOURCE: Grammar = Grammar {
    name: "where a secret comes from",
    doc: "`store:<name>`, `env:<VARIABLE>`, `file:<path>`, `vault:<mount>/<path>#<field>`, `aws:<name>`, `k8s:<namespace>/<name>#<key>`.",
    example: "store:openai",
    pattern: concat!(
        r"^(?:store:[A-Za-z0-9_./-]{1,255}|env:[A-Za-z0-9_]{1,255}|file:[^\x00-\x1f\x7f]{1,255}",
        "|vault:",
        part!(),
        "(?:/",
        part!(),
        ")+#[!-~]+|aws:[!-~]{1,255}",
        "|k8s:",
        part!(),
        "/",
        part!(),
        "#[!-~]+)$",
    ),
    plain: Plain::Text,
};

/// A way to put in a credential.
pub static INJECTION: Grammar = Grammar {
    name: "a way to put in a credential",
    doc: "`bearer` or `header:<name>`.",
    example: "bearer",
    pattern: "^(?:bearer|header:[A-Za-z0-9_-]{1,64})$",
    plain: Plain::Text,
};

/// A grant.
pub static GRANT: Grammar = Grammar {
    name: "a grant",
    doc: "An SQL privilege, `on`, and a table.",
    example: "SELECT on reports",
    pattern: r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|TRUNCATE|REFERENCES|USAGE|EXECUTE)\s+on\s+[a-z0-9_]{1,63}(?:\.[a-z0-9_]{1,63})?\s*$",
    plain: Plain::Text,
};

/// A model.
pub static MODEL: Grammar = Grammar {
    name: "a model",
    doc: "The name of a model, `*` stands for any part of it.",
    example: "gpt-*",
    pattern: "^[A-Za-z0-9_.:/@*+-]{1,128}$",
    plain: Plain::Any,
};

/// An operation.
pub static OPERATION_PATTERN: Grammar = Grammar {
    name: "an operation",
    doc: "`VERB /path` with `*` for one segment and `/**` at the end for all below, `verb name`, or `connect`.",
    example: "GET /v1/reports/**",
    pattern: concat!("^", operation!(), "$"),
    plain: Plain::Text,
};

/// An operation or a path.
pub static OPERATION_OR_PATH: Grammar = Grammar {
    name: "an operation or a path",
    doc: "A path of the same method, or an operation.",
    example: "/health",
    pattern: concat!("^(?:", path_pattern!(), r"\s*|", operation!(), ")$"),
    plain: Plain::Text,
};

/// An arrow.
pub static ARROW: Grammar = Grammar {
    name: "an arrow",
    doc: "`a -> b`: a listener or identity, an arrow, a service.",
    example: "web -> frontend",
    pattern: concat!(r"^\s*", name!(), r"\s*->\s*", name!(), r"\s*$"),
    plain: Plain::Text,
};

/// A sentence.
pub static SENTENCE: Grammar = Grammar {
    name: "a sentence",
    doc: "What is to hold, in words.",
    example: "an analyst reads a report",
    pattern: r"^[\s\S]*$",
    plain: Plain::Any,
};

/// A way.
pub static VIA: Grammar = Grammar {
    name: "a way",
    doc: "A door and workloads in the order of the call, with `>` between them.",
    example: "web > frontend",
    pattern: concat!(r"^\s*", name!(), r"\s*(?:>\s*", name!(), r"\s*)*$"),
    plain: Plain::Any,
};

/// A call.
pub static CALL: Grammar = Grammar {
    name: "a call",
    doc: "`VERB service/path`, `verb service`, or `read`, `write` or `lease` and a secret.",
    example: "GET hms-api/v1/reports/42",
    pattern: concat!("^(?:", method!(), "|", verb!(), r") [\s\S]*\S[\s\S]*$"),
    plain: Plain::Text,
};

/// An expectation.
pub static EXPECTATION: Grammar = Grammar {
    name: "an expectation",
    doc: "`allow`, `deny <pillar>` or `needs-approval`.",
    example: "deny micro-segmentation",
    pattern: r"^(?:allow|needs-approval|deny\s*(?:encryption|identity|continuous-verification|micro-segmentation|least-privilege|audit))$",
    plain: Plain::Text,
};

/// All of them, in the order of the reference.
pub static GRAMMARS: &[&Grammar] = &[
    &NAME,
    &TRUST_DOMAIN,
    &PERMISSION,
    &NEEDS,
    &MEMBER,
    &OWNER,
    &DURATION,
    &SIZE,
    &COUNT,
    &PERCENT,
    &RATE,
    &AMOUNT,
    &SPENDING,
    &HOURS,
    &SOCKET_ADDRESS,
    &HOST,
    &DNS_NAME,
    &ORIGIN,
    &METHOD,
    &HEADER,
    &ROUTE,
    &TLS_VERSION,
    &REASON,
    &PATH,
    &FILE_PATH,
    &FOLDER_PATH,
    &GLOB,
    &WORD,
    &CLAIM,
    &NODE,
    &SHA256,
    &UNIX_USER,
    &SERVICE_ACCOUNT,
    &SERVICE_URL,
    &WEB_URL,
    &S3_URL,
    &SECRET_SOURCE,
    &INJECTION,
    &GRANT,
    &MODEL,
    &OPERATION_PATTERN,
    &OPERATION_OR_PATH,
    &ARROW,
    &SENTENCE,
    &VIA,
    &CALL,
    &EXPECTATION,
];
