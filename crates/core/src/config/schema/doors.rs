//! `listeners` and `login`.

use super::COUNT;
use super::DURATION;
use super::FILE_PATH;
use super::Form;
use super::HEADER;
use super::HOST;
use super::METHOD;
use super::NAME;
use super::ORIGIN;
use super::RATE;
use super::REASON;
use super::ROUTE;
use super::SIZE;
use super::SOCKET_ADDRESS;
use super::Shape;
use super::TLS_VERSION;
use super::WEB_URL;
use super::WORD;
use super::may;
use super::must;
use super::shape;

/// An entry of `listeners`.
pub static LISTENER: Shape = shape(
    "a listener",
    "A door; its peer kind says what a caller proves.",
    &[
        must(
            "bind",
            Form::Text(&SOCKET_ADDRESS),
            "Address and port; `:8443` is all addresses.",
        ),
        must(
            "peer",
            Form::Choice(&["service", "browser", "partner", "third-party"]),
            "Who comes in by it.",
        ),
        may(
            "hosts",
            Form::Texts(&HOST),
            "in development the address and `localhost`",
            "Host names it answers to.",
        ),
        may(
            "login",
            Form::Text(&NAME),
            "none",
            "How people sign in, an entry of `login` or `dev`; required for `browser`.",
        ),
        may(
            "client_ca",
            Form::Text(&FILE_PATH),
            "none",
            "The authority of the partners (PEM); required for `partner`.",
        ),
        may(
            "signature",
            Form::Map(&SIGNATURE),
            "none",
            "How the sender of a webhook proves itself; required for `third-party`.",
        ),
        may(
            "routes",
            Form::Pairs(&ROUTE, &NAME),
            "the one service its edges lead to",
            "Which service a host and path lead to at a browser or third-party door.",
        ),
        may(
            "tls",
            Form::ChoiceOr(&["internal", "acme"], &DOOR_TLS),
            "`internal`",
            "Where the door's certificate comes from.",
        ),
        may(
            "min_tls",
            Form::Pairs(&TLS_VERSION, &REASON),
            "1.3",
            "An older version with the reason for it, `browser` only.",
        ),
        may(
            "rate",
            Form::Text(&RATE),
            "unlimited",
            "How often each caller may call by it, per enforcement point: each workload, or at a `browser` door each person.",
        ),
        may(
            "limits",
            Form::Map(&LIMITS),
            "see there",
            "Size and time limits.",
        ),
        may(
            "cors",
            Form::Map(&CORS),
            "same origin only",
            "Which other origins may read its answers, `browser` only.",
        ),
    ],
);

/// `tls: { certificate, key }` of a listener.
pub static DOOR_TLS: Shape = shape(
    "`tls`",
    "A certificate of your own.",
    &[
        must("certificate", Form::Text(&FILE_PATH), "The chain (PEM)."),
        must(
            "key",
            Form::Text(&FILE_PATH),
            "Its key (PEM), readable by the gateway alone.",
        ),
    ],
);

/// `signature` of a listener.
pub static SIGNATURE: Shape = shape(
    "`signature`",
    "How the sender of a webhook proves itself.",
    &[
        must(
            "secret",
            Form::Text(&NAME),
            "The secret shared with the sender.",
        ),
        must(
            "scheme",
            Form::Choice(&["standard-webhooks", "github", "stripe", "slack"]),
            "How it signs.",
        ),
        may(
            "window",
            Form::Text(&DURATION),
            "`5m`",
            "How old a message may be; each is taken once.",
        ),
    ],
);

/// `limits` of a listener.
pub static LIMITS: Shape = shape(
    "`limits`",
    "What one caller can take up.",
    &[
        may(
            "header",
            Form::Text(&SIZE),
            "`32KiB`",
            "Size of a request's header block.",
        ),
        may(
            "header_time",
            Form::Text(&DURATION),
            "`10s`",
            "Time for it to arrive.",
        ),
        may(
            "body",
            Form::Text(&SIZE),
            "`1MiB`",
            "Size of a request body.",
        ),
        may(
            "idle",
            Form::Text(&DURATION),
            "`60s`",
            "Time a connection may be silent.",
        ),
        may(
            "connections",
            Form::Text(&COUNT),
            "`10000`",
            "Connections at once.",
        ),
        may(
            "streams",
            Form::Text(&COUNT),
            "`100`",
            "Streams at once on one connection.",
        ),
    ],
);

/// `cors` of a listener.
pub static CORS: Shape = shape(
    "`cors`",
    "Which other origins may read answers; preflights are answered from here, neither decided nor recorded.",
    &[
        must("origins", Form::Texts(&ORIGIN), "The origins; no wildcard."),
        may(
            "methods",
            Form::Texts(&METHOD),
            "GET, HEAD and POST",
            "Methods they may use.",
        ),
        may(
            "headers",
            Form::Texts(&HEADER),
            "the simple ones",
            "Request headers they may send.",
        ),
        may(
            "credentials",
            Form::Choice(&["true", "false"]),
            "`false`",
            "Whether the session's cookie may be sent along, and something be changed with it.",
        ),
        may(
            "max_age",
            Form::Text(&DURATION),
            "`10m`",
            "How long a preflight answer may be kept.",
        ),
    ],
);

/// An entry of `login`.
pub static LOGIN: Shape = shape(
    "a login",
    "An OpenID Connect issuer; `dev` is built in.",
    &[
        must(
            "oidc",
            Form::Text(&WEB_URL),
            "The issuer, exactly as its tokens say it.",
        ),
        may(
            "client_id",
            Form::Text(&WORD),
            "none",
            "Our name there; required where people sign in.",
        ),
        may(
            "client_secret",
            Form::Text(&NAME),
            "a public client with PKCE",
            "The secret that proves us there.",
        ),
        may(
            "audience",
            Form::Text(&WORD),
            "none",
            "What a pipeline's tokens must be for; required where an identity names the login.",
        ),
        may(
            "roles_from",
            Form::Text(&WORD),
            "no groups",
            "The claim that lists a person's groups.",
        ),
        may(
            "team_from",
            Form::Text(&WORD),
            "no team",
            "The claim that names a person's team, for budgets.",
        ),
        may(
            "claims_max_age",
            Form::Text(&DURATION),
            "`15m`",
            "How old a person's claims may be.",
        ),
    ],
);
