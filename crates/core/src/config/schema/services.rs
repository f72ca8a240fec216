//! `services`: what can be reached, and what each operation needs.

use super::Form;
use super::Shape;
use super::later;
use super::may;
use super::must;

/// An entry of `services`.
pub static SERVICE: Shape = Shape {
    name: "a service",
    doc: "Something that can be reached; its peer kind says how we prove ourselves to it.",
    keys: &[
        must(
            "peer",
            Form::Choice(&["service", "third-party"]),
            "What it is.",
        ),
        may(
            "url",
            Form::Text("https://api.hms.svc:8443"),
            "none",
            "Where it is; required for `service` and `third-party`.",
        ),
        may(
            "identity",
            Form::Text("hms-api"),
            "the identity of its own name",
            "Which workload it must prove to be.",
        ),
        may(
            "credential",
            Form::Map(&CREDENTIAL),
            "none",
            "What is put into a call on its way out; required for `third-party`.",
        ),
        may(
            "headers",
            Form::Texts("x-request-id"),
            "a preset",
            "Request headers that may travel to a third party.",
        ),
        may(
            "timeout",
            Form::Text("30s"),
            "30s",
            "How long a call may take.",
        ),
        may(
            "max_stream",
            Form::Text("1h"),
            "1h",
            "How long a stream may live.",
        ),
        may(
            "network",
            Form::Choice(&["public", "private"]),
            "public",
            "Whether private addresses may be dialled.",
        ),
        may(
            "case",
            Form::Choice(&["sensitive", "insensitive"]),
            "sensitive",
            "`insensitive` for upstreams that fold the case of paths.",
        ),
        may(
            "needs",
            Form::Text("report:read"),
            "none",
            "A permission for all of it, or `edge`.",
        ),
        may(
            "operations",
            Form::Entries("GET /v1/reports/**", &OPERATION),
            "none",
            "What each operation needs.",
        ),
        later("urls", "Several addresses."),
        later("balance", "How calls are spread over them."),
        later("health", "How they are probed."),
        later("retry", "Which calls are tried again."),
        later("lease", "Leased users of a database."),
        later("engine", "What provisions."),
        later("through", "Only by the agent."),
        later("certificate", "The certificate a partner issued to us."),
    ],
};

/// `credential` of a service.
pub static CREDENTIAL: Shape = Shape {
    name: "`credential`",
    doc: "A secret put into a call on its way out; the caller never sees it.",
    keys: &[
        must("secret", Form::Text("openai"), "Which secret."),
        must("as", Form::Text("bearer"), "`bearer` or `header:<name>`."),
    ],
};

/// An entry of `operations`.
pub static OPERATION: Shape = Shape {
    name: "an operation",
    doc: "What calls that match the pattern need; all matching entries apply together.",
    keys: &[
        may(
            "needs",
            Form::Text("report:read"),
            "an error",
            "A permission, or `edge`.",
        ),
        may(
            "except",
            Form::Texts("/health"),
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
        may("models", Form::Texts("gpt-*"), "any", "Allowed models."),
        may(
            "budget",
            Form::Text("llm"),
            "none",
            "The budget it draws on.",
        ),
        may(
            "hours",
            Form::Text("mon-fri 08:00-18:00"),
            "always",
            "When it is allowed, in UTC.",
        ),
        later("policy", "A Rego policy."),
        later("approve", "Who approves."),
        later("input", "The schema of an input."),
        later("token", "How long a sub-token lives."),
        later("rate", "Requests per time."),
    ],
};

/// `body` of an operation.
pub static BODY: Shape = Shape {
    name: "`body`",
    doc: "Rules for the request body.",
    keys: &[
        must("max", Form::Text("64KiB"), "Its largest size."),
        later("schema", "A JSON Schema."),
        later("screen", "Screens for prompts."),
    ],
};
