use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use crate::vocabulary::SpiffeId;
use crate::vocabulary::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What was proved cryptographically about a caller before the decision.
///
/// Evidence says what is so, never what may be: a token with a good signature for another
/// audience is good evidence, and the decision refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who is at the other end of the connection.
    pub peer: Peer,
    /// The signed-in session at a browser door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<Session>>,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// What the token says.
    pub token: Token,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// A handshake that completed.
    Established {
        /// The cipher suite, as IANA names it.
        cipher: String,
        /// The key exchange group, as IANA names it.
        group: String,
        /// Whether it continued an earlier session.
        resumed: bool,
        /// The protocol version.
        version: TlsVersion,
    },
    /// A handshake that we refused.
    Refused {
        /// Why.
        fault: TlsFault,
    },
    /// A unix socket: the kernel carries the bytes and nobody else sees them.
    Kernel,
    /// None at all.
    Plain,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// Why a handshake was refused for its encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsFault {
    /// No protocol version in common.
    Version,
    /// No key exchange, cipher or signature scheme in common.
    Strength,
    /// Anything else: malformed, aborted, timed out, not TLS.
    Handshake,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Nobody showed a certificate.
    Anonymous,
    /// A certificate whose chain, validity, form and key were checked.
    Certificate(Arc<Certificate>),
    /// A certificate of another organisation's authority, checked like one of ours but for whom it
    /// names.
    Partner(Arc<PartnerCertificate>),
    /// A certificate that was refused during the handshake.
    Refused {
        /// Why.
        fault: CertificateFault,
        /// SHA-256 of the leaf, if one was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaf: Option<Digest>,
    },
    /// Somebody without a certificate yet, by a join token that was valid and is now used up.
    Joining {
        /// The gateway that the token was made for.
        gateway: Name,
        /// SHA-256 of the token's secret.
        token: Digest,
    },
    /// A local process, by the credentials the kernel gives (`SO_PEERCRED`).
    Local {
        /// Process id when it connected.
        pid: i32,
        /// User id.
        uid: u32,
        /// User name, if the system knows one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
}

/// The facts of a checked X.509-SVID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of the issuing certificate's public key (SubjectPublicKeyInfo).
    pub issuer: Digest,
    /// The same of each authority above the issuer, nearest first, the root last; none where the
    /// root itself signed the leaf.
    #[serde(default, skip_serializing_if = "<[Digest]>::is_empty")]
    pub issuers_above: Box<[Digest]>,
    /// SHA-256 of the leaf (DER): what tokens are bound to (`x5t#S256`, RFC 8705).
    pub leaf: Digest,
    /// When the leaf ends.
    pub not_after: Timestamp,
    /// When the leaf begins.
    pub not_before: Timestamp,
    /// SHA-256 of the root (DER) the chain led to.
    pub root: Digest,
    /// The leaf's serial number in hex.
    pub serial: String,
    /// The one URI SAN.
    pub spiffe_id: SpiffeId,
}

/// The facts of a checked certificate of a partner's authority. Which partner it is, if any, is for
/// the decision to say: the pair of root and name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerCertificate {
    /// Its DNS SANs as they stand in it, in lower case, sorted, each once; a wildcard stands for
    /// nothing but itself.
    pub dns_names: Vec<String>,
    /// SHA-256 of the issuing certificate's public key (SubjectPublicKeyInfo).
    pub issuer: Digest,
    /// The same of each authority above the issuer, nearest first, the root last; none where the
    /// root itself signed the leaf.
    #[serde(default, skip_serializing_if = "<[Digest]>::is_empty")]
    pub issuers_above: Box<[Digest]>,
    /// SHA-256 of the leaf (DER): what tokens are bound to (`x5t#S256`, RFC 8705).
    pub leaf: Digest,
    /// When the leaf ends.
    pub not_after: Timestamp,
    /// When the leaf begins.
    pub not_before: Timestamp,
    /// SHA-256 of the partner's authority (DER) the chain led to.
    pub root: Digest,
    /// The leaf's serial number in hex.
    pub serial: String,
}

/// What checked certificates have in common, whoever they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// SHA-256 of the leaf (DER).
    pub digest: Digest,
    /// SHA-256 of the issuing certificate's public key (SubjectPublicKeyInfo).
    pub issuer: Digest,
    /// The same of each authority above the issuer, nearest first.
    pub issuers_above: &'a [Digest],
    /// When it ends.
    pub not_after: Timestamp,
    /// When it begins.
    pub not_before: Timestamp,
    /// SHA-256 of the root (DER) the chain led to.
    pub root: Digest,
}

/// Why a certificate was refused during the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateFault {
    /// None shown where one is required.
    Absent,
    /// The chain leads to no root of this listener, or a signature in it is wrong.
    Untrusted,
    /// Expired or not yet valid.
    Time,
    /// Not an X.509-SVID, or of a partner not a client's: SANs, CA flag, key usage, extended key
    /// usage, unreadable.
    Form,
    /// Key type or size below the floor.
    Key,
}

/// A person's session at a browser door, held by the issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// When it ends at the latest.
    pub ends: Timestamp,
    /// The groups the login vouched for, as `<login>/<name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// SHA-256 of this enforcement point's own leaf, to which the session's tokens are bound.
    pub holder: Digest,
    /// SHA-256 of the session id; also the `sid` of its tokens.
    pub sid: Digest,
    /// Who signed in: `<login>:<sub>`.
    pub sub: String,
}

/// What is known of the token a caller presented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Token {
    /// None.
    Absent,
    /// One that proves nothing.
    Invalid {
        /// Why.
        fault: TokenFault,
        /// SHA-256 of the token as presented.
        hash: Digest,
    },
    /// Signed by our issuer, with claims of the right types.
    Verified(Arc<VerifiedToken>),
}

/// Why a token proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFault {
    /// Form, header, algorithm, size, or a claim that is missing or of the wrong type.
    Malformed,
    /// Signature wrong, or no such key.
    Signature,
    /// Another issuer or token type.
    Foreign,
    /// Not a token at all but a static credential (`Basic`, an API key).
    Static,
    /// Not looked at: whoever shows it has just shown too many that proved nothing.
    Unverified,
}

/// A token with a good signature: its claims, never its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Claims,
    /// SHA-256 of the token as presented.
    pub hash: Digest,
    /// The key that signed it.
    pub kid: String,
}

/// The claims of an access token (RFC 9068 with `cnf`, `act`, and the ceiling of what may be
/// handed on).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The chain of who acts, nearest workload first, the door last; empty when the subject acts
    /// itself. On the wire nested as in RFC 8693 section 4.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act: Vec<SpiffeId>,
    /// The one audience.
    pub aud: String,
    /// The most an exchange may draw from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceil: Vec<Permission>,
    /// Whom it was issued to.
    pub client_id: String,
    /// What it is bound to.
    pub cnf: Binding,
    /// When it ends, seconds since the epoch.
    pub exp: i64,
    /// The person's groups as `<login>/<name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// When it was issued, seconds since the epoch.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its own id.
    pub jti: String,
    /// From when it counts, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The subject's roles when it was issued; for upstreams, never read by the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// What it opens at its audience.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<Permission>,
    /// The session it was drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Digest>,
    /// `spiffe://..` for a workload, `<login>:<sub>` for a person.
    pub sub: String,
}

/// What a token is bound to: it is worthless to whoever can't show the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// SHA-256 of a client certificate (RFC 8705 section 3.1).
    Certificate(Digest),
    /// Nothing: never accepted on a hop.
    None,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V12 => "TLS 1.2",
            Self::V13 => "TLS 1.3",
        })
    }
}

impl Evidence {
    /// Evidence about somebody of whom nothing is proved.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            peer: Peer::Anonymous,
            session: None,
            tls: Tls::Plain,
            token: Token::Absent,
        }
    }

    /// The checked X.509-SVID, if there is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        match &self.peer {
            Peer::Certificate(certificate) => Some(certificate),
            _ => None,
        }
    }

    /// What there is to say of the checked certificate, ours or a partner's, if there is one.
    #[must_use]
    pub fn leaf(&self) -> Option<Leaf<'_>> {
        match &self.peer {
            Peer::Certificate(it) => Some(Leaf {
                digest: it.leaf,
                issuer: it.issuer,
                issuers_above: &it.issuers_above,
                not_after: it.not_after,
                not_before: it.not_before,
                root: it.root,
            }),
            Peer::Partner(it) => Some(Leaf {
                digest: it.leaf,
                issuer: it.issuer,
                issuers_above: &it.issuers_above,
                not_after: it.not_after,
                not_before: it.not_before,
                root: it.root,
            }),
            _ => None,
        }
    }

    /// The verified token, if there is one.
    #[must_use]
    pub fn verified_token(&self) -> Option<&Arc<VerifiedToken>> {
        match &self.token {
            Token::Verified(token) => Some(token),
            _ => None,
        }
    }
}
