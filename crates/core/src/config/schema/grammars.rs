//! The small grammars: one each for durations, rates, operations and the like.

use super::Grammar;

/// A name.
pub static NAME: Grammar = Grammar {
    name: "a name",
    doc: "1 to 63 lower-case letters, digits, `-`, `_` and `.`, the first and last a letter or a digit.",
    example: "hms-api",
    pattern: r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$",
};

/// A trust domain.
pub static TRUST_DOMAIN: Grammar = Grammar {
    name: "a trust domain",
    doc: "Lower-case letters, digits, `-`, `_` and `.`, at most 255.",
    example: "acme.internal",
    pattern: r"^[a-z0-9._-]{1,255}$",
};

/// A permission.
pub static PERMISSION: Grammar = Grammar {
    name: "a permission",
    doc: "Words of lower-case letters, digits, `-`, `_` and `.` joined by `:`.",
    example: "report:read",
    pattern: r"^[a-z0-9._-]+(?::[a-z0-9._-]+)*$",
};

/// A need.
pub static NEEDS: Grammar = Grammar {
    name: "a need",
    doc: "A permission, or `edge` where the edge alone suffices.",
    example: "report:read",
    pattern: r"^[a-z0-9._-]+(?::[a-z0-9._-]+)*$",
};

/// A member.
pub static MEMBER: Grammar = Grammar {
    name: "a member",
    doc: "The name of an identity, `group:<login>/<name>`, `user:<login>/<sub>`, or the short forms while one login has people.",
    example: "group:analysts",
    pattern: r"^(?:(?:group|user):\S+|[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?)$",
};

/// A person.
pub static OWNER: Grammar = Grammar {
    name: "a person",
    doc: "`<login>:<sub>` or `<login>:<e-mail>`.",
    example: "corp:alice@acme.example",
    pattern: r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?:\S+$",
};

/// A duration.
pub static DURATION: Grammar = Grammar {
    name: "a duration",
    doc: "A whole number with `ms`, `s`, `m`, `h`, `d`, `w` or `y` (366 days).",
    example: "15m",
    pattern: r"^[0-9]+(?:ms|[smhdwy])$",
};

/// A size.
pub static SIZE: Grammar = Grammar {
    name: "a size",
    doc: "A whole number with `B`, `KiB`, `MiB` or `GiB`.",
    example: "64KiB",
    pattern: r"^[0-9]+(?:B|KiB|MiB|GiB)$",
};

/// A count.
pub static COUNT: Grammar = Grammar {
    name: "a count",
    doc: "A whole number above 0.",
    example: "100",
    pattern: r"^[0-9]+$",
};

/// A share.
pub static PERCENT: Grammar = Grammar {
    name: "a share",
    doc: "A whole number from 1 to 100 with `%`.",
    example: "80%",
    pattern: r"^[0-9]{1,3}%$",
};

/// A rate.
pub static RATE: Grammar = Grammar {
    name: "a rate",
    doc: "A count per `s`, `min`, `h` or `day`, and how many at once.",
    example: "100/min burst 150",
    pattern: r"^[0-9]+/(?:s|min|h|day)(?: +burst +[0-9]+)?$",
};

/// An amount.
pub static AMOUNT: Grammar = Grammar {
    name: "an amount",
    doc: "Dollars, with at most six digits behind the point.",
    example: "$2.50",
    pattern: r"^\$[0-9]+(?:\.[0-9]{1,6})?$",
};

/// A spending limit.
pub static SPENDING: Grammar = Grammar {
    name: "a spending limit",
    doc: "Dollars per `hour`, `day`, `week` or `month`.",
    example: "$50/day",
    pattern: r"^\$[0-9]+(?:\.[0-9]{1,6})?/(?:hour|day|week|month)$",
};

/// A weekly window.
pub static HOURS: Grammar = Grammar {
    name: "a weekly window",
    doc: "Days and times in UTC.",
    example: "mon-fri 08:00-18:00",
    pattern: r"^(?:[a-z]{3}(?:-[a-z]{3})? +)?[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$",
};

/// An address to listen on.
pub static SOCKET_ADDRESS: Grammar = Grammar {
    name: "an address to listen on",
    doc: "A literal address and a port, or `:port` for all addresses.",
    example: "127.0.0.1:8443",
    pattern: r"^(?:[0-9.]+|\[[0-9a-fA-F:.%]+\])?:[0-9]{1,5}$",
};

/// A host name.
pub static HOST: Grammar = Grammar {
    name: "a host name",
    doc: "A host name or literal address, lower case.",
    example: "app.acme.example",
    pattern: r"^[a-z0-9._:-]{1,253}$",
};

/// A DNS name.
pub static DNS_NAME: Grammar = Grammar {
    name: "a DNS name",
    doc: "A host name, lower case.",
    example: "api.globex.example",
    pattern: r"^[a-z0-9._-]{1,253}$",
};

/// An origin.
pub static ORIGIN: Grammar = Grammar {
    name: "an origin",
    doc: "`https://host` with a port where it is not 443.",
    example: "https://app.acme.example",
    pattern: r"^https?://[a-z0-9.:\[\]_-]+$",
};

/// A method.
pub static METHOD: Grammar = Grammar {
    name: "a method",
    doc: "An upper-case method of HTTP.",
    example: "PUT",
    pattern: r"^[A-Z]+$",
};

/// A header name.
pub static HEADER: Grammar = Grammar {
    name: "a header name",
    doc: "Letters, digits, `-` and `_`.",
    example: "x-request-id",
    pattern: r"^[A-Za-z0-9_-]{1,64}$",
};

/// A host and path.
pub static ROUTE: Grammar = Grammar {
    name: "a host and path",
    doc: "A host name and a path pattern.",
    example: "app.acme.example/**",
    pattern: r"^[a-z0-9._:-]+/.*$",
};

/// A TLS version.
pub static TLS_VERSION: Grammar = Grammar {
    name: "a TLS version",
    doc: "`1.2`.",
    example: "1.2",
    pattern: r"^1\.2$",
};

/// A reason.
pub static REASON: Grammar = Grammar {
    name: "a reason",
    doc: "At least eight characters that say who needs it and until when.",
    example: "a scanner that cannot do 1.3",
    pattern: r"^.{8,}$",
};

/// A path.
pub static PATH: Grammar = Grammar {
    name: "a path",
    doc: "A path in canonical form.",
    example: "/healthz",
    pattern: r"^/.*$",
};

/// A file.
pub static FILE_PATH: Grammar = Grammar {
    name: "a file",
    doc: "A path relative to the file that names it.",
    example: "partners/globex.pem",
    pattern: r"^.+$",
};

/// A folder.
pub static FOLDER_PATH: Grammar = Grammar {
    name: "a folder",
    doc: "A path relative to the file that names it.",
    example: "modules/sandbox-vm",
    pattern: r"^.+$",
};

/// Files.
pub static GLOB: Grammar = Grammar {
    name: "files",
    doc: "A path relative to the file that names it; `*` stands for any part of a file name.",
    example: "conf.d/*.yaml",
    pattern: r"^.+$",
};

/// A text.
pub static WORD: Grammar = Grammar {
    name: "a text",
    doc: "Any text on one line, at most 255 characters.",
    example: "groups",
    pattern: r"^.{1,255}$",
};

/// A claim.
pub static CLAIM: Grammar = Grammar {
    name: "a claim",
    doc: "The name of a claim.",
    example: "repository_id",
    pattern: r"^.{1,255}$",
};

/// A node.
pub static NODE: Grammar = Grammar {
    name: "a node",
    doc: "The name of a node.",
    example: "ops-1",
    pattern: r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$",
};

/// A hash.
pub static SHA256: Grammar = Grammar {
    name: "a hash",
    doc: "64 hexadecimal digits.",
    example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    pattern: r"^[0-9a-f]{64}$",
};

/// A system user.
pub static UNIX_USER: Grammar = Grammar {
    name: "a system user",
    doc: "The name of a system user.",
    example: "hms",
    pattern: r"^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,31}$",
};

/// A service account.
pub static SERVICE_ACCOUNT: Grammar = Grammar {
    name: "a service account",
    doc: "`cluster/namespace/name`.",
    example: "main/hms/api",
    pattern: r"^[a-z0-9.-]+/[a-z0-9.-]+/[a-z0-9.-]+$",
};

/// Where a service is.
pub static SERVICE_URL: Grammar = Grammar {
    name: "where a service is",
    doc: "`https://host:port/base`, `http://` to loopback, `unix:/path`, `postgres://host:port/database` for a database, `nats://host:port` for a broker.",
    example: "https://api.hms.svc:8443",
    pattern: r"^(?:https?://|unix:/|postgres://|nats://).+$",
};

/// A web address.
pub static WEB_URL: Grammar = Grammar {
    name: "a web address",
    doc: "`https://host/path`, without query or fragment.",
    example: "https://siem.acme.example/ingest",
    pattern: r"^https?://.+$",
};

/// A bucket.
pub static S3_URL: Grammar = Grammar {
    name: "a bucket",
    doc: "`s3://bucket/prefix`.",
    example: "s3://acme-audit",
    pattern: r"^s3://[a-z0-9.-]+(?:/.*)?$",
};

/// Where a secret comes from.
pub static SECRET_SOURCE: Grammar = Grammar {
    name: "where a secret comes from",
    doc: "`store:<name>`, `env:<VARIABLE>`, `file:<path>`, `vault:<mount>/<path>#<field>`, `aws:<name>`, `k8s:<namespace>/<name>#<key>`.",
    example: "store:openai",
    pattern: r"^(?:store|env|file|vault|aws|k8s):.+$",
};

/// A way to put in a credential.
pub static INJECTION: Grammar = Grammar {
    name: "a way to put in a credential",
    doc: "`bearer` or `header:<name>`.",
    example: "bearer",
    pattern: r"^(?:bearer|header:[A-Za-z0-9_-]{1,64})$",
};

/// A grant.
pub static GRANT: Grammar = Grammar {
    name: "a grant",
    doc: "An SQL privilege, `on`, and a table.",
    example: "SELECT on reports",
    pattern: r"^[A-Z]+ on [A-Za-z0-9_.]+$",
};

/// A model.
pub static MODEL: Grammar = Grammar {
    name: "a model",
    doc: "The name of a model, `*` stands for any part of it.",
    example: "gpt-*",
    pattern: r"^[A-Za-z0-9_.:/@*+-]{1,128}$",
};

/// An operation.
pub static OPERATION_PATTERN: Grammar = Grammar {
    name: "an operation",
    doc: "`VERB /path` with `*` for one segment and `/**` at the end for all below, `verb name`, or `connect`.",
    example: "GET /v1/reports/**",
    pattern: r"^\s*\S+(?:\s+\S.*)?$",
};

/// An operation or a path.
pub static OPERATION_OR_PATH: Grammar = Grammar {
    name: "an operation or a path",
    doc: "A path of the same method, or an operation.",
    example: "/health",
    pattern: r"^\s*\S+(?:\s+\S.*)?$",
};

/// An arrow.
pub static ARROW: Grammar = Grammar {
    name: "an arrow",
    doc: "`a -> b`: a listener or identity, an arrow, a service.",
    example: "web -> frontend",
    pattern: r"^\s*[a-z0-9._-]+\s*->\s*[a-z0-9._-]+\s*$",
};

/// A sentence.
pub static SENTENCE: Grammar = Grammar {
    name: "a sentence",
    doc: "What is to hold, in words.",
    example: "an analyst reads a report",
    pattern: r"^.+$",
};

/// A way.
pub static VIA: Grammar = Grammar {
    name: "a way",
    doc: "A door and workloads in the order of the call, with `>` between them.",
    example: "web > frontend",
    pattern: r"^[a-z0-9._>\s-]+$",
};

/// A call.
pub static CALL: Grammar = Grammar {
    name: "a call",
    doc: "`VERB service/path`, `verb service`, or `read`, `write` or `lease` and a secret.",
    example: "GET hms-api/v1/reports/42",
    pattern: r"^\S+\s+\S.*$",
};

/// An expectation.
pub static EXPECTATION: Grammar = Grammar {
    name: "an expectation",
    doc: "`allow`, `deny <pillar>` or `needs-approval`.",
    example: "deny micro-segmentation",
    pattern: r"^(?:allow|needs-approval|deny\s+(?:encryption|identity|continuous-verification|micro-segmentation|least-privilege|audit))$",
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
