use super::Pillar;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Why a hop was refused: `CSD<p>nn`, with `p` the pillar's place in the order.
///
/// A code is all a caller learns beside the pillar, so two reasons whose difference would tell an
/// outsider what exists share one code (an unknown service answers like a missing edge).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

/// Whose fault a refusal is, which is what the status tells the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No valid credential was shown: 401.
    Unauthenticated,
    /// The caller is proven and may not: 403.
    Forbidden,
    /// The request itself can't be read in only one way: 400.
    Malformed,
    /// The host does not belong to this listener: 421.
    Misdirected,
    /// The body is in a content coding that is not taken: 415.
    CodingRefused,
    /// Too large: 413.
    TooLarge,
    /// The head of the request is too large: 431 (RFC 6585 section 5).
    HeadTooLarge,
    /// A field is missing or wrong: 422.
    Unprocessable,
    /// A limit or budget is used up: 429.
    Exhausted,
    /// We can't take the record or don't know enough to decide: 503.
    Unavailable,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $fault:ident, $title:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)+

            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self.0 { $($number => Fault::$fault,)+ _ => Fault::Forbidden }
            }

            /// What went wrong, in a few words without any value.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self.0 { $($number => $title,)+ _ => "refused" }
            }
        }
    };
}

codes! {
    /// The peer offers no TLS version that this listener accepts. `CSD101`
    TLS_VERSION = 101, Forbidden, "tls version below the floor of this listener";
    /// Key exchange or cipher suite below the floor. `CSD102`
    TLS_STRENGTH = 102, Forbidden, "key exchange or cipher not good enough for this listener";
    /// The connection is not encrypted at all. `CSD103`
    TLS_ABSENT = 103, Forbidden, "no encryption on this connection";
    /// The handshake broke for another reason (malformed, alert, aborted). `CSD104`
    TLS_HANDSHAKE = 104, Forbidden, "tls handshake failed";
    /// The peer showed no certificate. `CSD201`
    CERTIFICATE_ABSENT = 201, Forbidden, "no client certificate";
    /// The chain does not lead to the trust domain. `CSD202`
    CERTIFICATE_UNTRUSTED = 202, Forbidden, "certificate not issued by the trust domain";
    /// Expired or not yet valid. `CSD203`
    CERTIFICATE_TIME = 203, Forbidden, "certificate expired or not yet valid";
    /// Not an X.509-SVID: URI SAN, CA flag, key usage or extended key usage. `CSD204`
    CERTIFICATE_FORM = 204, Forbidden, "certificate is not an x.509-svid";
    /// Key type or size below the floor. `CSD205`
    CERTIFICATE_KEY = 205, Forbidden, "certificate key too weak";
    /// The SPIFFE ID is not an identity of the configuration. `CSD206`
    IDENTITY_UNKNOWN = 206, Forbidden, "identity not configured";
    /// A token is required and there is none. `CSD211`
    TOKEN_ABSENT = 211, Unauthenticated, "no token";
    /// Not a token this deployment could have issued: form, header, algorithm or claim type. `CSD212`
    TOKEN_MALFORMED = 212, Unauthenticated, "malformed token";
    /// Signature wrong or key unknown. `CSD213`
    TOKEN_SIGNATURE = 213, Unauthenticated, "token signature not valid";
    /// Another issuer, audience or token type. `CSD214`
    TOKEN_AUDIENCE = 214, Unauthenticated, "token not meant for this service";
    /// Expired or not yet valid. `CSD215`
    TOKEN_TIME = 215, Unauthenticated, "token expired or not yet valid";
    /// Bound to another certificate than the one shown. `CSD216`
    TOKEN_BINDING = 216, Unauthenticated, "token bound to another certificate";
    /// No live session at a browser door. `CSD217`
    SESSION_ABSENT = 217, Unauthenticated, "no session";
    /// The request was not made by a page of this origin. `CSD218`
    CROSS_SITE = 218, Forbidden, "request not made by a page of this site";
    /// The token names a subject that the peer may not speak for. `CSD219`
    SUBJECT_MISMATCH = 219, Forbidden, "subject token not given to this workload";
    /// A static or otherwise foreign credential where only an issued token opens. `CSD220`
    CREDENTIAL_STATIC = 220, Unauthenticated, "static credential refused";
    /// The message can be read in more than one way, so it is not certain whose it is. `CSD221`
    MESSAGE_AMBIGUOUS = 221, Malformed, "request can be read in more than one way";
    /// The head of the request has more bytes or fields than the listener takes. `CSD222`
    HEAD_TOO_LARGE = 222, HeadTooLarge, "head of the request too large";
    /// The caller showed so many tokens that proved nothing that no other is looked at now. `CSD223`
    TOKENS_UNKNOWN = 223, Exhausted, "too many unknown tokens";
    /// The connection was used for more of the protocol's own frames than its exchanges need. `CSD224`
    CONNECTION_FLOOD = 224, Exhausted, "connection used for a flood of frames";
    /// The certificate and its authority together are no partner of this door. `CSD225`
    PARTNER_UNKNOWN = 225, Forbidden, "certificate of no partner at this door";
    /// The token was revoked. `CSD301`
    TOKEN_REVOKED = 301, Unauthenticated, "token revoked";
    /// The subject was revoked. `CSD302`
    SUBJECT_REVOKED = 302, Forbidden, "subject revoked";
    /// The certificate, its issuer or its identity was revoked. `CSD303`
    CERTIFICATE_REVOKED = 303, Forbidden, "certificate revoked";
    /// The session was revoked. `CSD304`
    SESSION_REVOKED = 304, Unauthenticated, "session revoked";
    /// This enforcement point has not heard of revocations or policy for too long. `CSD305`
    STATE_STALE = 305, Unavailable, "revocations or policy too old to decide on";
    /// The clock can't be trusted. `CSD306`
    CLOCK_SKEW = 306, Unavailable, "clock differs too much from the server's";
    /// The certificate ended, or its root left the trust bundle, since the handshake. `CSD307`
    CERTIFICATE_ENDED = 307, Forbidden, "certificate no longer valid on this connection";
    /// A single-use proof was used before. `CSD308`
    REPLAYED = 308, Unauthenticated, "single-use proof used before";
    /// An approval came too late, or for something that has changed. `CSD309`
    APPROVAL_ENDED = 309, Forbidden, "approval ended, or what it is for has changed";
    /// No edge, or no such service or operation. `CSD401`
    NO_EDGE = 401, Forbidden, "no edge to this operation";
    /// The path can be read in more than one way. `CSD402`
    PATH_AMBIGUOUS = 402, Malformed, "path not canonical";
    /// Host, SNI and authority do not agree on a host of this listener. `CSD403`
    HOST_MISDIRECTED = 403, Misdirected, "host not served here";
    /// The token's scope lacks the permission. `CSD501`
    SCOPE_LACKS = 501, Forbidden, "token scope lacks the permission";
    /// No role gives the subject the permission. `CSD502`
    ROLE_LACKS = 502, Forbidden, "no role grants the permission";
    /// The subject is not among the readers of this secret. `CSD503`
    NOT_A_READER = 503, Forbidden, "not a reader of this secret";
    /// The operation wants a person. `CSD504`
    PERSON_REQUIRED = 504, Forbidden, "only a person may do this";
    /// The model is not among those allowed. `CSD505`
    MODEL_REFUSED = 505, Forbidden, "model not allowed";
    /// Outside the hours in which the operation is allowed. `CSD506`
    HOURS = 506, Forbidden, "outside the allowed hours";
    /// The budget is used up. `CSD507`
    BUDGET_SPENT = 507, Exhausted, "budget used up";
    /// More than the parent token may hand on. `CSD508`
    ABOVE_CEILING = 508, Forbidden, "more than the token may hand on";
    /// The body is larger than the operation allows. `CSD509`
    BODY_TOO_LARGE = 509, TooLarge, "body too large";
    /// The body lacks what the rules must see, or has it in the wrong form. `CSD510`
    BODY_UNREADABLE = 510, Unprocessable, "body can't be read as the rules need it";
    /// The request carries what must not reach this upstream (a credential-like query key). `CSD511`
    REQUEST_CREDENTIAL = 511, Forbidden, "request carries a credential";
    /// The operation asks for something that this build can't judge. `CSD512`
    UNDECIDABLE = 512, Forbidden, "a rule that this build can't judge";
    /// Whoever asks for a change can't approve it. `CSD513`
    SELF_APPROVAL = 513, Forbidden, "nobody approves what they asked for";
    /// The caller, or whom it speaks for, called more often than it may. `CSD514`
    RATE_EXCEEDED = 514, Exhausted, "called too often";
    /// The body does not follow the schema of the operation. `CSD515`
    BODY_SCHEMA = 515, Unprocessable, "body does not follow the schema of the operation";
    /// The body has a content coding, and a rule has to read it. `CSD516`
    BODY_CODING = 516, CodingRefused, "body in a content coding that the rules can't read";
    /// The ledger did not take the record. `CSD601`
    LEDGER_REFUSED = 601, Unavailable, "the ledger can't take the record";
}

impl Code {
    /// The pillar whose check failed.
    #[must_use]
    pub const fn pillar(self) -> Pillar {
        match self.0 / 100 {
            1 => Pillar::Encryption,
            2 => Pillar::Identity,
            3 => Pillar::ContinuousVerification,
            4 => Pillar::MicroSegmentation,
            5 => Pillar::LeastPrivilege,
            _ => Pillar::Audit,
        }
    }

    /// The HTTP status of the refusal.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self.fault() {
            Fault::Unauthenticated => 401,
            Fault::Forbidden => 403,
            Fault::Malformed => 400,
            Fault::Misdirected => 421,
            Fault::TooLarge => 413,
            Fault::CodingRefused => 415,
            Fault::Unprocessable => 422,
            Fault::HeadTooLarge => 431,
            Fault::Exhausted => 429,
            Fault::Unavailable => 503,
        }
    }

    /// The code with exactly this text, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("CSD")?;
        // A number is also read from `+101` and `0101`, which are no codes.
        let exact = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        let number: u16 = exact.then_some(digits)?.parse().ok()?;
        Self::ALL.iter().copied().find(|code| code.0 == number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CSD{:03}", self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("unknown refusal code"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number_and_reads_back() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(*code), "{code} twice");
            assert_eq!(Code::parse(&code.to_string()), Some(*code));
            assert_ne!(code.title(), "refused");
        }
        assert_eq!(Code::parse("CSD999"), None);
        assert_eq!(Code::parse("401"), None);
    }

    #[test]
    fn the_first_digit_is_the_pillar() {
        assert_eq!(Code::NO_EDGE.pillar(), Pillar::MicroSegmentation);
        assert_eq!(Code::TOKEN_BINDING.pillar(), Pillar::Identity);
        assert_eq!(Code::LEDGER_REFUSED.pillar(), Pillar::Audit);
    }
}
