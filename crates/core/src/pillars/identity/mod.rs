//! Pillar 2: who is at the other end, and for whom do they speak?
//!
//! A certificate names the **caller**, whose edges count. A token names the **subject**, whose
//! roles count, and is worthless unless it is for this very service, current, and bound to the
//! certificate on this very connection (RFC 8705 section 3): a token stolen from one workload
//! opens nothing for another.

mod subject;

pub use subject::Caller;
pub use subject::Subject;

use super::Case;
use super::encryption::EncryptionProof;
use crate::hop::Binding;
use crate::hop::Certificate;
use crate::hop::CertificateFault;
use crate::hop::Claims;
use crate::hop::PartnerCertificate;
use crate::hop::Peer;
use crate::hop::Session;
use crate::hop::Token;
use crate::hop::TokenFault;
use crate::pillars::Denial;
use crate::snapshot::DoorKind;
use crate::snapshot::Snapshot;
use crate::vocabulary::Code;
use crate::vocabulary::Digest;
use crate::vocabulary::Pillar;
use crate::vocabulary::Timestamp;
use std::time::Duration;

/// Caller and subject are who they say they are.
#[derive(Debug)]
#[must_use]
pub struct IdentityProof {
    case: Case,
    caller: Caller,
    subject: Subject,
}

type Refusal = (Code, String);

/// `nbf` and `iat` may lie this far ahead of our clock; `exp` has no leeway.
const LEEWAY: Duration = Duration::from_secs(2);

/// The second check.
pub(crate) fn prove(proof: EncryptionProof) -> Result<IdentityProof, Box<Denial>> {
    let (case, door) = proof.into_parts();
    let case = case.without_fault(Pillar::Identity)?;
    let known = if case.state.snapshot.is_open() {
        Ok((Caller::Anyone, Subject::Anyone))
    } else {
        match door {
            DoorKind::Mesh => mesh(&case),
            DoorKind::Partner => partner(&case),
            DoorKind::Browser => browser(&case),
            DoorKind::Local => local(&case),
        }
    };
    match known {
        Ok((caller, subject)) => Ok(IdentityProof {
            case,
            caller,
            subject,
        }),
        Err((code, reason)) => case.deny(code, reason),
    }
}

impl IdentityProof {
    pub(super) fn into_parts(self) -> (Case, Caller, Subject) {
        (self.case, self.caller, self.subject)
    }
}

fn mesh(case: &Case) -> Result<(Caller, Subject), Refusal> {
    let snapshot = &case.state.snapshot;
    if case.hop.door.as_str() == crate::snapshot::JOIN {
        return joining(case);
    }
    let certificate = certificate(&case.hop.evidence.peer)?;
    let caller = caller(snapshot, certificate)?;
    if let (true, Some(session)) = (is_issuer(case), &case.hop.evidence.session) {
        return drawn_from_session(case, caller, certificate, session);
    }
    let subject = spoken_for(case, &caller, &certificate.leaf)?;
    Ok((caller, subject))
}

/// A partner is the pair of an authority and a name that it vouches for. The authority counts for
/// that name alone, whatever else its certificates say.
fn partner(case: &Case) -> Result<(Caller, Subject), Refusal> {
    let certificate = match &case.hop.evidence.peer {
        Peer::Partner(certificate) => certificate,
        // One of our own opens a door for partners as little as a stranger's does.
        Peer::Certificate(_) => {
            let reason = "a certificate of the trust domain at a door for partners".to_owned();
            return Err((Code::PARTNER_UNKNOWN, reason));
        }
        other => return Err(unproven(other)),
    };
    let Some(name) = case.state.snapshot.partner(certificate) else {
        return Err((Code::PARTNER_UNKNOWN, no_partner(certificate)));
    };
    let caller = Caller::Partner {
        door: case.hop.door.clone(),
        name: name.clone(),
    };
    let subject = spoken_for(case, &caller, &certificate.leaf)?;
    Ok((caller, subject))
}

fn no_partner(certificate: &PartnerCertificate) -> String {
    let names = certificate.dns_names.join("`, `");
    format!(
        "authority {} and `{}` are not exactly one partner of this configuration",
        certificate.root.short(),
        short(&names)
    )
}

/// For whom the holder of a certificate speaks: for itself at the issuer, and elsewhere for whom
/// its token says.
fn spoken_for(case: &Case, caller: &Caller, leaf: &Digest) -> Result<Subject, Refusal> {
    let snapshot = &case.state.snapshot;
    let issuer = is_issuer(case);
    Ok(match (&case.hop.evidence.token, caller) {
        // The issuer authenticates its clients by certificate alone (RFC 8705 section 2); a token
        // shown there is one to exchange. Our own processes act for nobody but themselves.
        (Token::Absent, _) if issuer => Subject::of_caller(caller),
        (Token::Absent, Caller::Process { .. }) => Subject::of_caller(caller),
        (token, _) => {
            let claims = claims(token)?;
            check_issuer(snapshot, claims)?;
            if issuer {
                check_own(snapshot, claims, caller)?;
            } else {
                check_audience(snapshot, claims, &case.hop.service)?;
            }
            check_time(claims, case.hop.at)?;
            if !issuer {
                check_binding(claims, leaf)?;
            }
            Subject::of_claims(snapshot, claims).ok_or_else(|| {
                (
                    Code::IDENTITY_UNKNOWN,
                    format!("subject `{}` is not configured", claims.sub),
                )
            })?
        }
    })
}

fn is_issuer(case: &Case) -> bool {
    case.hop.service == crate::snapshot::ISSUER
}

/// Before it has a certificate, a gateway is who its join token was made for. What else there is
/// at that door does not count, a certificate included: who has one has no need to join.
fn joining(case: &Case) -> Result<(Caller, Subject), Refusal> {
    let Peer::Joining { gateway, .. } = &case.hop.evidence.peer else {
        return Err((Code::TOKEN_ABSENT, "no join token was shown".to_owned()));
    };
    let caller = Caller::Process {
        role: "gateway".to_owned(),
        name: gateway.as_str().to_owned(),
    };
    let subject = Subject::of_caller(&caller);
    Ok((caller, subject))
}

/// A gateway draws a person's token from the session it was shown, bound to its own certificate.
fn drawn_from_session(
    case: &Case,
    caller: Caller,
    certificate: &Certificate,
    session: &Session,
) -> Result<(Caller, Subject), Refusal> {
    if !caller.is_gateway() {
        return Err((
            Code::SUBJECT_MISMATCH,
            format!("`{caller}` is no gateway and holds no sessions"),
        ));
    }
    if session.holder != certificate.leaf {
        return Err((
            Code::TOKEN_BINDING,
            "the session is held by another enforcement point".to_owned(),
        ));
    }
    check_session(session, case.hop.at)?;
    let snapshot = &case.state.snapshot;
    let subject = Subject::of_person(snapshot, &session.sub, &session.groups).ok_or_else(|| {
        (
            Code::IDENTITY_UNKNOWN,
            format!("subject `{}` is not configured", session.sub),
        )
    })?;
    Ok((caller, subject))
}

fn browser(case: &Case) -> Result<(Caller, Subject), Refusal> {
    if let Peer::Refused { fault, .. } = &case.hop.evidence.peer {
        return Err(refused_certificate(*fault));
    }
    let Some(session) = &case.hop.evidence.session else {
        return Err((
            Code::SESSION_ABSENT,
            "no live session at this door".to_owned(),
        ));
    };
    check_session(session, case.hop.at)?;
    check_origin(case)?;
    let claims = claims(&case.hop.evidence.token)?;
    check_issuer(&case.state.snapshot, claims)?;
    check_audience(&case.state.snapshot, claims, &case.hop.service)?;
    check_time(claims, case.hop.at)?;
    check_binding(claims, &session.holder)?;
    if claims.sid != Some(session.sid) || claims.sub != session.sub {
        return Err((
            Code::TOKEN_BINDING,
            "the token was drawn from another session".to_owned(),
        ));
    }
    let subject = Subject::of_claims(&case.state.snapshot, claims).ok_or_else(|| {
        (
            Code::IDENTITY_UNKNOWN,
            format!("subject `{}` is not configured", claims.sub),
        )
    })?;
    Ok((Caller::Door(case.hop.door.clone()), subject))
}

/// A session's cookie travels with requests that other sites make, so whatever changes something,
/// and the opening of a WebSocket, needs the browser's word that a page of this origin made it. An
/// enforcement point that did not look has no such word.
fn check_origin(case: &Case) -> Result<(), Refusal> {
    let hop = &case.hop;
    let safe = matches!(hop.operation.verb.as_str(), "GET" | "HEAD" | "OPTIONS");
    match hop.facts.same_origin {
        Some(true) => Ok(()),
        None if safe => Ok(()),
        Some(false) if shares(case, hop.facts.cross_origin.as_deref()) => Ok(()),
        _ => Err((
            Code::CROSS_SITE,
            "an unsafe request without `Sec-Fetch-Site: same-origin` or an equal `Origin`"
                .to_owned(),
        )),
    }
}

/// Whether the door lets pages of this other origin send a session's cookie with this method. A page
/// that may not is one like any other, whatever else it may read. The method counts here because a
/// browser asks for simple ones in no preflight (Fetch, CORS protocol).
fn shares(case: &Case, origin: Option<&str>) -> bool {
    let listeners = &case.state.snapshot.config().listeners;
    let cors = listeners.get(case.hop.door.as_str());
    let cors = cors.and_then(|it| it.cors.as_ref());
    let verb = &case.hop.operation.verb;
    let cors = cors.filter(|it| it.credentials && it.allows(verb));
    origin.is_some_and(|origin| cors.is_some_and(|it| it.shares(origin)))
}

fn local(case: &Case) -> Result<(Caller, Subject), Refusal> {
    let Peer::Local { uid, user, .. } = &case.hop.evidence.peer else {
        return Err((
            Code::IDENTITY_UNKNOWN,
            "no kernel credentials on this socket".to_owned(),
        ));
    };
    let known = user
        .as_deref()
        .and_then(|user| case.state.snapshot.local_identity(user));
    let Some(name) = known else {
        let shown = user.as_deref().unwrap_or("without a name");
        return Err((
            Code::IDENTITY_UNKNOWN,
            format!("no identity has `attest: {{ unix: {{ user: {shown} }} }}` (uid {uid})"),
        ));
    };
    Ok((
        Caller::Identity(name.clone()),
        Subject::Workload(name.clone()),
    ))
}

fn certificate(peer: &Peer) -> Result<&Certificate, Refusal> {
    match peer {
        Peer::Certificate(certificate) => Ok(certificate),
        other => Err(unproven(other)),
    }
}

/// Why somebody who shows no certificate for this door is refused.
fn unproven(peer: &Peer) -> Refusal {
    refused_certificate(match peer {
        Peer::Refused { fault, .. } => *fault,
        // Each authority counts at its own doors.
        Peer::Certificate(_) | Peer::Partner(_) => CertificateFault::Untrusted,
        Peer::Anonymous | Peer::Joining { .. } | Peer::Local { .. } => CertificateFault::Absent,
    })
}

fn refused_certificate(fault: CertificateFault) -> Refusal {
    let code = match fault {
        CertificateFault::Absent => Code::CERTIFICATE_ABSENT,
        CertificateFault::Untrusted => Code::CERTIFICATE_UNTRUSTED,
        CertificateFault::Time => Code::CERTIFICATE_TIME,
        CertificateFault::Form => Code::CERTIFICATE_FORM,
        CertificateFault::Key => Code::CERTIFICATE_KEY,
    };
    (code, format!("handshake refused: {}", code.title()))
}

fn caller(snapshot: &Snapshot, certificate: &Certificate) -> Result<Caller, Refusal> {
    let id = &certificate.spiffe_id;
    if let Some(name) = snapshot.workload(id) {
        return Ok(Caller::Identity(name.clone()));
    }
    let ours = id.trust_domain() == snapshot.config().trust_domain.as_str();
    match id.process() {
        Some((role @ ("gateway" | "server"), name)) if ours => Ok(Caller::Process {
            role: role.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err((
            Code::IDENTITY_UNKNOWN,
            format!("`{id}` is not an identity of this configuration"),
        )),
    }
}

fn claims(token: &Token) -> Result<&Claims, Refusal> {
    match token {
        Token::Verified(token) => Ok(&token.claims),
        Token::Absent => Err((Code::TOKEN_ABSENT, "no token was shown".to_owned())),
        Token::Invalid { fault, .. } => {
            let code = match fault {
                TokenFault::Malformed => Code::TOKEN_MALFORMED,
                TokenFault::Signature => Code::TOKEN_SIGNATURE,
                TokenFault::Foreign => Code::TOKEN_AUDIENCE,
                TokenFault::Static => Code::CREDENTIAL_STATIC,
                TokenFault::Unverified => Code::TOKENS_UNKNOWN,
            };
            Err((code, code.title().to_owned()))
        }
    }
}

fn check_issuer(snapshot: &Snapshot, claims: &Claims) -> Result<(), Refusal> {
    if snapshot.config().trust_domain.is_issuer(&claims.iss) {
        return Ok(());
    }
    Err((
        Code::TOKEN_AUDIENCE,
        format!("the token's `iss` is `{}`", short(&claims.iss)),
    ))
}

fn check_audience(snapshot: &Snapshot, claims: &Claims, service: &str) -> Result<(), Refusal> {
    if snapshot.config().trust_domain.service_of(&claims.aud) == Some(service) {
        return Ok(());
    }
    Err((
        Code::TOKEN_AUDIENCE,
        format!(
            "the token is for `{}`, not for service `{}`",
            short(&claims.aud),
            short(service)
        ),
    ))
}

/// A token is exchanged only by the workload that its audience names: nobody else was given it.
fn check_own(snapshot: &Snapshot, claims: &Claims, caller: &Caller) -> Result<(), Refusal> {
    let audience = snapshot.config().trust_domain.service_of(&claims.aud);
    let service = audience.and_then(|name| snapshot.service(name));
    if service.is_some_and(|service| Some(service.identity.as_str()) == caller.name()) {
        return Ok(());
    }
    Err((
        Code::SUBJECT_MISMATCH,
        format!(
            "the subject token is for `{}`, which is not `{caller}`",
            short(&claims.aud)
        ),
    ))
}

fn check_time(claims: &Claims, at: Timestamp) -> Result<(), Refusal> {
    if at >= Timestamp::from_secs(claims.exp) {
        let ago = at.since(Timestamp::from_secs(claims.exp));
        return Err((
            Code::TOKEN_TIME,
            format!("the token expired {} s ago", ago.as_secs()),
        ));
    }
    let ahead = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if Timestamp::from_secs(ahead) > at.plus(LEEWAY) {
        return Err((Code::TOKEN_TIME, "the token is not valid yet".to_owned()));
    }
    Ok(())
}

fn check_binding(claims: &Claims, shown: &Digest) -> Result<(), Refusal> {
    match &claims.cnf {
        Binding::Certificate(bound) if bound == shown => Ok(()),
        Binding::Certificate(bound) => Err((
            Code::TOKEN_BINDING,
            format!(
                "bound to certificate {}, shown by {}",
                bound.short(),
                shown.short()
            ),
        )),
        Binding::None => Err((
            Code::TOKEN_BINDING,
            "the token is bound to no certificate".to_owned(),
        )),
    }
}

fn check_session(session: &Session, at: Timestamp) -> Result<(), Refusal> {
    if at < session.ends {
        return Ok(());
    }
    Err((
        Code::SESSION_ABSENT,
        format!(
            "the session ended {} s ago",
            at.since(session.ends).as_secs()
        ),
    ))
}

/// At most 256 bytes of what somebody else chose.
fn short(text: &str) -> &str {
    crate::vocabulary::clip(text, 256)
}
