//! What enforcement points ask of the control plane.
//!
//! Whether a gateway is in this process ([`LocalPlane`]) or in another (`/v1/control/*` over mTLS),
//! each question is decided on the gateway's own certificate and recorded here, so that a gateway
//! that stays silent is contradicted.

mod local;

pub use local::LocalPlane;
pub use local::PlaneError;

use crate::audit::Audit;
use crate::audit::AuditError;
use crate::issuer::DrawError;
use crate::issuer::Issuer;
use crate::secrets::Secrets;
use crate::sessions::Person;
use crate::sessions::SessionError;
use crate::sessions::Sessions;
use crate::store::Store;
use crate::updates::Updates;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Session;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_ledger::log::LogError;
use countersign_net::KeySet;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::Known;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;

/// The control plane of one server.
#[derive(Debug)]
pub struct Plane {
    pub(crate) audit: Arc<Audit>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) point: EnforcementPoint,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) sessions: Sessions,
    pub(crate) store: Store,
    pub(crate) updates: Arc<Updates>,
}

/// Who asks, and what the record says beside it.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) context: Context<'a>,
    /// The gateway's connection and certificate.
    pub(crate) evidence: Evidence,
}

impl Plane {
    /// Everything newer than what is known, then every change, for as long as the gateway may
    /// hear it.
    pub(crate) async fn follow(
        &self,
        asking: Asking<'_>,
        known: Known,
    ) -> Result<BoxStream<'static, Update>, ControlError> {
        let admitted = self.connect(asking, "updates", None).await?;
        admitted.answered(200);
        let cut = admitted.cut().clone();
        let ended = async move {
            cut.wait().await;
        };
        let updates = self.updates.follow(known).take_until(Box::pin(ended));
        let counted = updates.map(move |update| {
            let _open = &admitted;
            update
        });
        Ok(counted.boxed())
    }

    pub(crate) async fn sign_in(
        &self,
        asking: Asking<'_>,
        request: SignIn,
    ) -> Result<SignedIn, ControlError> {
        let snapshot = self.point.snapshot();
        let person = Person::offered(&snapshot, &request.door, &request.member);
        let fault = person.is_none().then(|| RequestFault {
            code: Code::IDENTITY_UNKNOWN,
            detail: "nobody of that name is offered at this door".to_owned(),
        });
        let context = Context {
            source_ip: request.source_ip,
            ..asking.context
        };
        let asking = Asking { context, ..asking };
        let admitted = self.connect(asking, "sign-in", fault).await?;
        let Some(person) = person else {
            return Err(ControlError::NoSession);
        };
        let now = self.point.now();
        let begun = self.sessions.begin(person, &request.door, now).await;
        let (signed_in, session) = begun.map_err(unavailable)?;
        self.record(
            "authn.session.begin",
            &session.sub,
            &request,
            &session.sid.to_string(),
        )
        .await?;
        done(&admitted);
        Ok(signed_in)
    }

    pub(crate) async fn sign_out(
        &self,
        asking: Asking<'_>,
        cookie: &SecretString,
    ) -> Result<(), ControlError> {
        let admitted = self.connect(asking, "sign-out", None).await?;
        self.sessions
            .sign_out(cookie, self.point.now())
            .await
            .map_err(unavailable)?;
        done(&admitted);
        Ok(())
    }

    pub(crate) async fn session_token(
        &self,
        mut asking: Asking<'_>,
        request: SessionTokenRequest,
    ) -> Result<SessionToken, ControlError> {
        let live = self.sessions.find(&request.cookie, self.point.now()).await;
        let session = match live {
            Err(SessionError::None) => return Err(ControlError::NoSession),
            other => other.map_err(unavailable)?,
        };
        let holder = asking
            .evidence
            .certificate()
            .map(|certificate| certificate.leaf);
        let (Some(holder), true) = (holder, session.door == request.door) else {
            return Err(ControlError::NoSession);
        };
        asking.evidence.session = Some(Session {
            ends: session.ends,
            groups: session.groups.clone(),
            holder,
            sid: session.sid,
            sub: session.sub.clone(),
        });
        let Asking { context, evidence } = asking;
        let drawn = self
            .issuer
            .draw(evidence, &request.door, &request.service, context)
            .await;
        let drawn = drawn.map_err(|error| match error {
            DrawError::Refused(refusal) => refused(&refusal),
            DrawError::Signing(error) => unavailable(error),
        })?;
        Ok(SessionToken {
            groups: session.groups,
            session_ends: session.ends,
            sid: session.sid,
            sub: session.sub,
            token: drawn.token,
        })
    }

    pub(crate) async fn credential(
        &self,
        asking: Asking<'_>,
        name: &Name,
    ) -> Result<InjectedSecret, ControlError> {
        let operation = Operation::named("inject", name.as_str());
        let admitted = self.ask(asking, "vault", operation, None).await?;
        let snapshot = admitted.admission().snapshot().clone();
        let secret = snapshot.secret(name.as_str());
        let secret = secret.ok_or_else(|| unavailable("no such secret"))?;
        let read = self.secrets.read(secret, None).await.map_err(unavailable)?;
        let value = read.data.value();
        let value = value.ok_or_else(|| unavailable("the secret has several fields"))?;
        done(&admitted);
        Ok(InjectedSecret {
            value,
            version: read.version,
        })
    }

    /// Takes the key of an enforcement point, which signs as nobody but itself.
    pub(crate) async fn publish_key(
        &self,
        asking: Asking<'_>,
        mut jwk: Value,
    ) -> Result<(), ControlError> {
        let gateway = gateway(&asking.evidence);
        let owner = asking
            .evidence
            .certificate()
            .map(|it| it.spiffe_id.to_string());
        if let (Some(members), Some(owner)) = (jwk.as_object_mut(), owner) {
            members.insert("spiffe_id".to_owned(), owner.into());
        }
        let set = KeySet::from_jwks(json!({ "keys": [&jwk] }).to_string().as_bytes(), 1);
        let usable = set.is_ok_and(|set| set.kids().count() == 1);
        let fault = (!usable).then(|| RequestFault {
            code: Code::BODY_UNREADABLE,
            detail: "not one public key".to_owned(),
        });
        let admitted = self.connect(asking, "key", fault).await?;
        let Some(gateway) = gateway else {
            return Err(ControlError::NoSession);
        };
        let kept = self
            .store
            .put_gateway_key(&gateway, &jwk, self.point.now())
            .await;
        kept.map_err(unavailable)?;
        self.load_assertion_keys().await?;
        done(&admitted);
        Ok(())
    }

    /// Puts the kept keys of all enforcement points in force.
    pub(crate) async fn load_assertion_keys(&self) -> Result<(), ControlError> {
        let keys = self.store.gateway_keys().await.map_err(unavailable)?;
        let keys: Vec<Value> = keys.into_iter().map(|(_, jwk)| jwk).collect();
        let document = json!({ "keys": keys }).to_string();
        let set = KeySet::from_jwks(document.as_bytes(), 1).map_err(unavailable)?;
        self.issuer.assertion_keys(set);
        Ok(())
    }

    pub(crate) async fn deliver(
        &self,
        asking: Asking<'_>,
        delivery: Delivery,
    ) -> Result<u64, ControlError> {
        // A node's records are its own to write.
        let own = gateway(&asking.evidence).is_some_and(|name| name == delivery.node);
        let fault = (!own).then(|| RequestFault {
            code: Code::SUBJECT_MISMATCH,
            detail: "the records are another node's".to_owned(),
        });
        let admitted = self.connect(asking, "records", fault).await?;
        let next = self
            .audit
            .deliver(&delivery)
            .await
            .map_err(|error| match error {
                AuditError::Log(LogError::Gap { expected, .. }) => {
                    ControlError::OutOfOrder { wanted: expected }
                }
                other => unavailable(other),
            })?;
        done(&admitted);
        Ok(next)
    }

    /// A question that can't be read.
    pub(crate) async fn malformed(&self, asking: Asking<'_>, what: &str) -> ControlError {
        let fault = RequestFault {
            code: Code::BODY_UNREADABLE,
            detail: "the body is not what is asked with".to_owned(),
        };
        match self.connect(asking, what, Some(fault)).await {
            Err(error) => error,
            Ok(_) => unavailable("the body is not what is asked with"),
        }
    }

    async fn connect(
        &self,
        asking: Asking<'_>,
        what: &str,
        fault: Option<RequestFault>,
    ) -> Result<Admitted, ControlError> {
        self.ask(asking, "console", Operation::named("connect", what), fault)
            .await
    }

    async fn ask(
        &self,
        asking: Asking<'_>,
        service: &str,
        operation: Operation,
        fault: Option<RequestFault>,
    ) -> Result<Admitted, ControlError> {
        let ask = Ask {
            door: Name::control(),
            service: service.to_owned(),
            operation,
            evidence: asking.evidence,
            facts: Facts {
                fault,
                ..Facts::default()
            },
            context: asking.context,
        };
        self.point
            .enforce(ask)
            .await
            .map_err(|refusal| refused(&refusal))
    }

    /// What the decision can't say: who it was.
    async fn record(
        &self,
        event: &str,
        sub: &str,
        request: &SignIn,
        sid: &str,
    ) -> Result<(), ControlError> {
        let door = Resource {
            id: Cow::Borrowed(request.door.as_str()),
            service: Cow::Borrowed("issuer"),
        };
        let mut record = Record::event(event, self.point.now(), sub, door);
        record.principal.kind = Cow::Borrowed("person");
        record.source_ip = request.source_ip;
        record
            .metadata
            .insert(Cow::Borrowed("sid"), Cow::Borrowed(sid));
        self.point
            .record_event(&record)
            .await
            .map(|_| ())
            .map_err(unavailable)
    }
}

/// The gateway that a certificate names.
fn gateway(evidence: &Evidence) -> Option<Name> {
    let (role, name) = evidence.certificate()?.spiffe_id.process()?;
    (role == "gateway").then(|| Name::new(name).ok()).flatten()
}

fn done(admitted: &Admitted) {
    admitted.answered(200);
    admitted.ended(Ending::Done);
}

fn refused(refusal: &Refusal) -> ControlError {
    let receipt = refusal.receipt.map(|id| id.to_string());
    ControlError::Refused {
        code: refusal.code,
        receipt,
    }
}

fn unavailable(error: impl std::fmt::Display) -> ControlError {
    ControlError::Unavailable(error.to_string())
}
