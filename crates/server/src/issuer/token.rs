//! Tokens: `client_credentials` over mTLS (RFC 6749 section 4.4, RFC 8705 section 2.1), exchange
//! (RFC 8693), and tokens drawn from a session.

use super::Call;
use super::Issuer;
use super::SERVICE;
use super::answer;
use super::finish;
use super::request::ACCESS_TOKEN;
use super::request::Fault;
use super::request::TokenRequest;
use crate::keys::KeyError;
use aws_lc_rs::rand::SecureRandom as _;
use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Token;
use countersign_core::pillars::least_privilege::TokenGrant;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::Refusal;
use countersign_net::JwsError;
use countersign_net::token::sign_access_token;
use countersign_wire::control::IssuerResponse;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde_json::json;

/// A token drawn from a session.
#[derive(Debug)]
pub struct Drawn {
    /// What it says.
    pub claims: Claims,
    /// The token.
    pub token: SecretString,
}

/// Why no token was drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrawError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// Why an admitted token was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("the decision grants no token, or shows no certificate to bind it to")]
    NothingGranted,
    #[error("no randomness")]
    Random,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Token(#[from] JwsError),
}

impl Issuer {
    /// `POST /oauth2/token`.
    pub(super) async fn token(&self, mut call: Call<'_>) -> IssuerResponse {
        let snapshot = self.point.snapshot();
        let request = TokenRequest::read(call.body, call.broken, &snapshot.config().trust_domain);
        let stranger = foreign_client(&request, &call.evidence, &snapshot);
        let fault = stranger.or_else(|| request.fault.as_ref().map(unreadable));
        let now = self.point.now();
        let subject = request.subject_token.as_ref();
        call.evidence.token = subject.map_or(Token::Absent, |token| {
            let who = call.presenter();
            self.verifier.verify_token(token.expose_secret(), who, now)
        });
        let facts = Facts {
            fault,
            requested_scope: request.scope.clone(),
            requested_service: request.service.clone(),
            ..Facts::default()
        };
        match self.ask(Operation::named("token", ""), facts, call).await {
            Err(refusal) => answer::refused(&refusal, request.fault.as_ref()),
            Ok(admitted) => {
                let response = self.issued(&admitted, subject.is_some());
                finish(&admitted, response)
            }
        }
    }

    /// A token for a service behind a browser door, bound to the certificate of the gateway that
    /// shows the session. `evidence` holds both, `facts` what is asked for.
    pub(crate) async fn draw(
        &self,
        evidence: Evidence,
        facts: Facts,
        context: Context<'_>,
    ) -> Result<Drawn, DrawError> {
        let ask = Ask {
            door: Name::control(),
            service: SERVICE.to_owned(),
            operation: Operation::named("token", ""),
            evidence,
            facts,
            context,
        };
        let admitted = self.point.enforce(ask).await?;
        let drawn = self.sign(&admitted)?;
        admitted.answered(200);
        admitted.ended(Ending::Done);
        Ok(drawn)
    }

    fn issued(&self, admitted: &Admitted, exchanged: bool) -> IssuerResponse {
        let drawn = match self.sign(admitted) {
            Ok(drawn) => drawn,
            Err(error) => {
                tracing::error!(%error, "an admitted token was not signed");
                return answer::failed();
            }
        };
        let claims = &drawn.claims;
        let mut body = json!({
            "access_token": drawn.token.expose_secret(),
            "expires_in": (claims.exp - claims.iat).max(0),
            "token_type": "Bearer",
        });
        let words: Vec<_> = claims.scope.iter().map(Permission::as_str).collect();
        if let Some(members) = body.as_object_mut() {
            if !words.is_empty() {
                members.insert("scope".to_owned(), words.join(" ").into());
            }
            if exchanged {
                members.insert("issued_token_type".to_owned(), ACCESS_TOKEN.into());
            }
        }
        answer::secret(&body)
    }

    /// Signs exactly what was granted.
    fn sign(&self, admitted: &Admitted) -> Result<Drawn, SigningError> {
        let admission = admitted.admission();
        let hop = admission.hop();
        let snapshot = admission.snapshot();
        let (Some(grant), Some(leaf), Some(client)) = (
            admission.grant(),
            hop.evidence.leaf(),
            snapshot.id_of(&hop.evidence.peer),
        ) else {
            return Err(SigningError::NothingGranted);
        };
        let issuer = snapshot.config().trust_domain.issuer();
        let claims = claims(grant, (&client, leaf.digest), issuer, hop.at)?;
        let token = sign_access_token(&*self.token_keys.signer(hop.at)?, &claims)?;
        Ok(Drawn {
            claims,
            token: SecretString::from(token),
        })
    }
}

fn claims(
    grant: &TokenGrant,
    (client, leaf): (&SpiffeId, Digest),
    iss: String,
    at: Timestamp,
) -> Result<Claims, SigningError> {
    let mut id = [0; 16];
    let random = aws_lc_rs::rand::SystemRandom::new();
    random.fill(&mut id).map_err(|_| SigningError::Random)?;
    Ok(Claims {
        act: grant.act.clone(),
        aud: grant.audience.clone(),
        ceil: grant.ceil.clone(),
        client_id: client.as_str().to_owned(),
        cnf: Binding::Certificate(leaf),
        // Rounded down: a token never outlives the one it was exchanged from.
        exp: at.plus(grant.lifetime).as_secs(),
        groups: grant.groups.clone(),
        iat: at.as_secs(),
        iss,
        // It is written on command lines, where `-` would begin an option.
        jti: hex::encode(id),
        nbf: None,
        roles: grant.roles.clone(),
        scope: grant.scope.clone(),
        sid: grant.sid,
        sub: grant.subject.clone(),
    })
}

/// `client_id` names the client that the certificate proves, by SPIFFE ID or by name (RFC 8705
/// section 2.1.2); a client can't call itself anything else.
fn foreign_client(
    request: &TokenRequest,
    evidence: &Evidence,
    snapshot: &Snapshot,
) -> Option<RequestFault> {
    let client = request.client.as_deref()?;
    let id = &snapshot.id_of(&evidence.peer)?;
    let own = client == id.as_str()
        || snapshot
            .identity(id)
            .is_some_and(|name| name.as_str() == client);
    (!own).then(|| RequestFault {
        code: Code::IDENTITY_UNKNOWN,
        detail: "`client_id` names another client than the certificate".to_owned(),
    })
}

pub(super) fn unreadable(fault: &Fault) -> RequestFault {
    RequestFault {
        code: Code::BODY_UNREADABLE,
        detail: fault.detail.clone(),
    }
}
