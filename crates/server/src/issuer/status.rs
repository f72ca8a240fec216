//! Introspection (RFC 7662) and revocation (RFC 7009) of access tokens.

use super::Call;
use super::Issuer;
use super::answer;
use super::finish;
use super::form::Form;
use super::request::Fault;
use super::request::missing;
use super::token::unreadable;
use countersign_core::hop::Claims;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Token;
use countersign_core::hop::TokenFault;
use countersign_core::hop::VerifiedToken;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_net::token::claims_to_wire;
use countersign_wire::control::IssuerResponse;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

impl Issuer {
    /// `POST /oauth2/introspect`: what an active token says, to the workload it is for, to whom it
    /// was issued, or about whom it speaks. Of any other token the answer is `{"active":false}`,
    /// without a reason.
    pub(super) async fn introspect(&self, call: Call<'_>) -> IssuerResponse {
        let (token, fault, unknown) = self.presented(&call);
        let facts = Facts {
            fault: fault.as_ref().map(unreadable).or(unknown),
            ..Facts::default()
        };
        let caller = self.point.snapshot().id_of(&call.evidence.peer);
        let admitted = match self
            .ask(Operation::named("introspect", ""), facts, call)
            .await
        {
            Err(refusal) => return answer::refused(&refusal, fault.as_ref()),
            Ok(admitted) => admitted,
        };
        let state = self.point.state();
        let known = token.zip(caller).filter(|(token, caller)| {
            is_active(&token.claims, &state, self.point.now())
                && concerns(&token.claims, caller, &state.snapshot)
        });
        let body = known.map_or_else(|| json!({ "active": false }), |(token, _)| active(&token));
        finish(&admitted, answer::secret(&body))
    }

    /// `POST /oauth2/revoke`: one's own token by right, somebody else's with the permission to
    /// revoke. A token that is none is revoked already.
    pub(super) async fn revoke(&self, call: Call<'_>) -> IssuerResponse {
        let (token, fault, unknown) = self.presented(&call);
        let caller = self.point.snapshot().id_of(&call.evidence.peer);
        let own = match (&token, &caller) {
            (Some(token), Some(caller)) => is_own(&token.claims, caller),
            // Whoever is nobody to the policy that was read here may be somebody to the one that
            // decides; that the token is theirs would be a guess.
            (Some(_), None) => false,
            (None, _) => true,
        };
        let operation = Operation::named("revoke", if own { "own" } else { "token" });
        let facts = Facts {
            fault: fault.as_ref().map(unreadable).or(unknown),
            ..Facts::default()
        };
        let admitted = match self.ask(operation, facts, call).await {
            Err(refusal) => return answer::refused(&refusal, fault.as_ref()),
            Ok(admitted) => admitted,
        };
        let actor = caller.as_ref().map_or("anonymous", SpiffeId::as_str);
        let mut response = answer::empty();
        if let Some(token) = token {
            let what = Revoked::Token(token.claims.jti.clone());
            if let Err(error) = self.revoker.revoke(what, false, actor).await {
                tracing::error!(%error, "an admitted revocation failed");
                response = answer::failed();
            }
        }
        finish(&admitted, response)
    }

    /// The token in the form, if it is one of ours with a good signature. One that was not looked
    /// at is neither inactive nor revoked for all that, so that is a fault of the request.
    fn presented(&self, call: &Call<'_>) -> Presented {
        let read = || -> Result<String, Fault> {
            if let Some(why) = call.broken {
                return Err(Fault::new("invalid_request", why));
            }
            let form = Form::read(call.body)?;
            // A hint only says where to look first (RFC 7009 section 2.1), and there is one place.
            form.once("token_type_hint")?;
            form.once("token")?
                .map(str::to_owned)
                .ok_or_else(|| missing("token"))
        };
        let text = match read() {
            Err(fault) => return (None, Some(fault), None),
            Ok(text) => text,
        };
        let now = self.point.now();
        match self.verifier.verify_token(&text, call.presenter(), now) {
            Token::Verified(token) => (Some(token), None, None),
            Token::Invalid {
                fault: TokenFault::Unverified,
                ..
            } => {
                let unknown = RequestFault {
                    code: Code::TOKENS_UNKNOWN,
                    detail: "this caller has shown too many unknown tokens".to_owned(),
                };
                (None, None, Some(unknown))
            }
            Token::Absent | Token::Invalid { .. } => (None, None, None),
        }
    }
}

/// A token, or what is wrong with the form, or with who shows it.
type Presented = (
    Option<Arc<VerifiedToken>>,
    Option<Fault>,
    Option<RequestFault>,
);

/// Whether it counts now. Whether it opens anything is decided where it is shown.
fn is_active(claims: &Claims, state: &State, now: Timestamp) -> bool {
    let revoked = &state.revocations;
    let subject = SpiffeId::parse(&claims.sub).ok();
    let workload = subject
        .iter()
        .chain(&claims.act)
        .any(|id| revoked.workload(id).is_some());
    now < Timestamp::from_secs(claims.exp)
        && claims
            .nbf
            .is_none_or(|from| Timestamp::from_secs(from) <= now)
        && revoked.token(&claims.jti).is_none()
        && revoked.subject(&claims.sub).is_none()
        && claims.sid.is_none_or(|sid| revoked.session(&sid).is_none())
        && !workload
}

fn is_own(claims: &Claims, caller: &SpiffeId) -> bool {
    claims.client_id == caller.as_str() || claims.sub == caller.as_str()
}

fn concerns(claims: &Claims, caller: &SpiffeId, snapshot: &Snapshot) -> bool {
    let service = snapshot.config().trust_domain.service_of(&claims.aud);
    let service = service.and_then(|name| snapshot.service(name));
    let audience = service.is_some_and(|it| Some(&it.identity) == snapshot.identity(caller));
    audience || is_own(claims, caller)
}

fn active(token: &VerifiedToken) -> Value {
    let mut body = claims_to_wire(&token.claims);
    if let Some(members) = body.as_object_mut() {
        members.insert("active".to_owned(), true.into());
        members.insert("token_type".to_owned(), "Bearer".into());
        members.insert("username".to_owned(), token.claims.sub.clone().into());
    }
    body
}
