use super::SchemaVerdict;
use crate::vocabulary::Code;
use crate::vocabulary::Name;
use serde::Deserialize;
use serde::Serialize;

/// What the enforcement point saw beside the evidence. All of it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// How much of the body is known to the rules, in bytes; absent where no rule needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// The other origin whose page made an unsafe browser request, where the door shares its
    /// answers with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_origin: Option<String>,
    /// Why the request can't even be decided on its merits (an ambiguous path, a foreign host).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<RequestFault>,
    /// How old this enforcement point's knowledge is.
    pub freshness: Freshness,
    /// The most tokens an AI request lets the model answer with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// The model an AI request names, in its canonical spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The gateway in another process that carried the request to the issuer and showed the
    /// caller's certificates. Who holds them was proved to that gateway alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed_by: Option<Name>,
    /// The browser door a session's token is drawn for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_door: Option<Name>,
    /// A permission asked for at the issuer, beyond what the operation itself needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested_scope: Vec<String>,
    /// The service a token is asked for at the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_service: Option<String>,
    /// Whether an unsafe browser request was made by a page of this origin; absent where it does
    /// not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_origin: Option<bool>,
    /// What the schemas of the operation's rules said to the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<SchemaVerdict>,
}

/// A fault of the request itself, found by the enforcement point before the decision and refused
/// by it in the pillar of its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFault {
    /// The refusal it leads to.
    pub code: Code,
    /// What is wrong, without any value an attacker chose beyond 256 bytes.
    pub detail: String,
}

/// Ages by the boot-time clock, in milliseconds, since the last signed heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// How far the wall clock is from the server's, either way.
    pub clock_skew_ms: u64,
    /// How far the wall clock stepped back since the last heartbeat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_stepped_back_ms: u64,
    /// Since the last word about policy.
    pub policy_age_ms: u64,
    /// Since the last word about revocations.
    pub revocations_age_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
