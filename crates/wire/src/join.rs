//! How a gateway in another process gets its first certificate.
//!
//! An operator has a [`JoinToken`] made; whoever holds it, once and soon, becomes that gateway. The
//! token says by which root to know the server, so that nobody else is told the secret in it.

use crate::admin::Join;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

/// `POST /v1/admin/join/token`: decided as `issue gateway/NAME` of `issuer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintJoin {
    /// The gateway that it makes.
    pub gateway: String,
    /// The listeners it will serve; all of the configuration if none is named.
    #[serde(default)]
    pub listeners: Vec<String>,
}

/// A join token was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minted {
    /// When it ends by itself.
    pub ends: Timestamp,
    /// The gateway that it makes.
    pub gateway: Name,
    /// The listeners that the gateway will serve.
    pub listeners: Vec<Name>,
    /// The token as text, shown this once.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// What a join token says, as its holder reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The gateway that it makes.
    pub gateway: Name,
    /// SHA-256 of the root certificate (DER) that the server's certificate must lead to.
    pub pin: Digest,
    /// 256 random bits, base64url: what makes it a token.
    #[serde(serialize_with = "expose")]
    pub secret: SecretString,
    /// Where the server takes in who joins, `host:port`.
    pub server: String,
    /// The trust domain.
    pub trust_domain: String,
}

/// `POST /v1/join` at the join port, over TLS in which only the server has a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A PEM certificate signing request; only the public key in it counts.
    pub csr: String,
    /// How many records its spool has: the log goes on after those it took under this name.
    #[serde(default)]
    pub records: u64,
    /// The secret of the token.
    #[serde(serialize_with = "expose")]
    pub secret: SecretString,
    /// The raw Ed25519 key that verifies the gateway's cosignatures.
    pub witness: Digest,
}

/// The gateway is one now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Its certificate, leaf first, PEM.
    pub chain: String,
    /// How to find and believe the server from now on.
    pub join: Join,
}

/// `POST /v1/control/renew`: the next certificate, for the same gateway. Decided as
/// `connect renew` of `console`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// A PEM certificate signing request.
    pub csr: String,
}

/// The next certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewed {
    /// Leaf first, PEM.
    pub chain: String,
}

/// What a text must begin with to be a join token: secret scanners look for it.
const PREFIX: &str = "csjoin_";

impl JoinToken {
    /// As an operator carries it.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        // Strings, a digest and a name always serialise.
        let document = serde_json::to_vec(self).unwrap_or_default();
        SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(document)))
    }

    /// Reads the text; nothing if it is no join token.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let encoded = text.trim().strip_prefix(PREFIX)?;
        let document = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        serde_json::from_slice(&document).ok()
    }
}

fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secrecy::ExposeSecret::expose_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let token = JoinToken {
            gateway: Name::new("gw1").unwrap(),
            pin: Digest::new([7; 32]),
            secret: SecretString::from("s3cret".to_owned()),
            server: "10.0.0.7:7444".to_owned(),
            trust_domain: "acme.internal".to_owned(),
        };
        let text = token.to_text();
        let text = text.expose_secret();
        let read = JoinToken::from_text(&format!(" {text}\n")).unwrap();
        assert_eq!(read.secret.expose_secret(), "s3cret");
        assert_eq!((read.gateway, read.pin), (token.gateway.clone(), token.pin));
        assert!(!format!("{token:?}").contains("s3cret"));
        let bare = text.strip_prefix(PREFIX).unwrap();
        let cut = text.get(..text.len() - 2).unwrap();
        for wrong in ["", PREFIX, bare, cut, "csjoin_e30"] {
            assert!(JoinToken::from_text(wrong).is_none(), "{wrong}");
        }
    }

    fn token() -> impl Strategy<Value = JoinToken> {
        let texts = (".{0,48}", "[ -~]{0,40}", ".{0,24}");
        ("[a-z][a-z0-9]{0,8}", any::<[u8; 32]>(), texts).prop_map(|(gateway, pin, texts)| {
            let (secret, server, trust_domain) = texts;
            JoinToken {
                gateway: Name::new(&gateway).unwrap(),
                pin: Digest::new(pin),
                secret: SecretString::from(secret),
                server,
                trust_domain,
            }
        })
    }

    proptest! {
        #[test]
        fn any_token_is_read_as_it_was_written(token in token()) {
            let text = token.to_text();
            let read = JoinToken::from_text(text.expose_secret()).unwrap();
            let again = read.to_text();
            prop_assert_eq!(again.expose_secret(), text.expose_secret());
            prop_assert_eq!(read.secret.expose_secret(), token.secret.expose_secret());
        }

        #[test]
        fn text_is_a_token_or_none(text in ".{0,96}", encoded in "[A-Za-z0-9_-]{0,96}") {
            for text in [text, format!("{PREFIX}{encoded}")] {
                prop_assert!(JoinToken::from_text(&text).is_none());
            }
        }

        #[test]
        fn a_cut_token_is_none(token in token(), cut in any::<prop::sample::Index>()) {
            let text = token.to_text();
            let text = text.expose_secret();
            let cut = text.get(..cut.index(text.len())).unwrap();
            prop_assert!(JoinToken::from_text(cut).is_none());
        }

        #[test]
        fn a_message_with_a_member_too_many_is_none(
            member in "[a-z]{1,12}",
            csr in ".{0,24}",
            secret in ".{0,24}",
            witness in any::<[u8; 32]>(),
            records in any::<u64>(),
        ) {
            prop_assume!(!["csr", "records", "secret", "witness", "protocol"].contains(&member.as_str()));
            let mut message = serde_json::json!({
                "csr": csr, "records": records, "secret": secret, "witness": Digest::new(witness),
            });
            let read: JoinRequest = serde_json::from_str(&message.to_string()).unwrap();
            prop_assert_eq!((read.csr.as_str(), read.records), (csr.as_str(), records));
            prop_assert_eq!(read.secret.expose_secret(), secret.as_str());
            message[&member] = 0.into();
            let text = message.to_string();
            prop_assert!(serde_json::from_str::<JoinRequest>(&text).is_err());
            prop_assert!(serde_json::from_str::<Renew>(&text).is_err());
            prop_assert!(serde_json::from_str::<Joined>(&text).is_err());
        }

        #[test]
        fn bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            prop_assert!(serde_json::from_slice::<JoinRequest>(&bytes).is_err());
            prop_assert!(serde_json::from_slice::<Joined>(&bytes).is_err());
            prop_assert!(serde_json::from_slice::<MintJoin>(&bytes).is_err());
            prop_assert!(serde_json::from_slice::<Minted>(&bytes).is_err());
            prop_assert!(serde_json::from_slice::<Renewed>(&bytes).is_err());
        }
    }
}
