//! What enforcement points ask of the control plane.
//!
//! Whether a gateway is in this process ([`LocalPlane`]) or in another (`/v1/control/*` over mTLS),
//! each question is decided on the gateway's own certificate and recorded here, so that a gateway
//! that stays silent is contradicted.

mod assertion_keys;
mod local;
mod nodes;
mod own;
mod relay;
mod remote;

pub use local::LocalPlane;
pub use local::PlaneError;
pub(crate) use nodes::Nodes;
pub(crate) use own::Place;

use crate::audit::Audit;
use crate::issuer::DrawError;
use crate::issuer::Issuer;
use crate::join::Joins;
use crate::revocation::Revoker;
use crate::secrets::Secrets;
use crate::sessions::Person;
use crate::sessions::SessionError;
use crate::sessions::Sessions;
use crate::snapshots::Snapshots;
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
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::Known;
use countersign_wire::control::Said;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use countersign_wire::join::Renew;
use countersign_wire::join::Renewed;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use secrecy::SecretString;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// The control plane of one server.
#[derive(Debug)]
pub struct Plane {
    pub(crate) audit: Arc<Audit>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) joins: Arc<Joins>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) point: EnforcementPoint,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) sessions: Sessions,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) store: Store,
    pub(crate) updates: Arc<Updates>,
}

/// Who asks, and what the record says beside it.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) context: Context<'a>,
    /// The gateway's connection and certificate.
    pub(crate) evidence: Evidence,
    pub(crate) place: Place,
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
        Ok(while_admitted(admitted, self.updates.follow(known).boxed()))
    }

    /// The same for a gateway in another process, which can be told only what it can verify: its
    /// own part of the policy, and heartbeats with the nonce it has chosen.
    pub(crate) async fn follow_from_afar(
        self: &Arc<Self>,
        asking: Asking<'_>,
        known: Known,
        said: BoxStream<'static, Said>,
    ) -> Result<BoxStream<'static, Update>, ControlError> {
        let (row, wrong) = self.joined(&asking.evidence).await?;
        let unsigned = row.is_some() && known.nonce.is_none();
        let unsigned = unsigned.then(|| RequestFault {
            code: Code::BODY_UNREADABLE,
            detail: "a stream needs a nonce".to_owned(),
        });
        let fault = wrong.or(unsigned);
        let admitted = self.connect(asking, "updates", fault).await?;
        let (Some(row), Some(nonce)) = (row, known.nonce) else {
            return Err(ControlError::NoSession);
        };
        let updates = self.tell(row, known, nonce, said);
        Ok(while_admitted(admitted, updates))
    }

    /// The next certificate of a gateway, which shows the one it has.
    pub(crate) async fn renew(
        &self,
        asking: Asking<'_>,
        request: &Renew,
    ) -> Result<Renewed, ControlError> {
        let (row, fault) = self.joined(&asking.evidence).await?;
        let shown = asking.evidence.certificate().map(|it| it.leaf);
        let admitted = self.connect(asking, "renew", fault).await?;
        let (Some(row), Some(shown)) = (row, shown) else {
            return Err(ControlError::NoSession);
        };
        let issued = self.joins.issue(&row, &request.csr).await;
        let issued = issued.map_err(unavailable)?;
        // Of two that renew from the same certificate at once, one goes on.
        let kept = self.store.renew_gateway(&row.name, &shown, &issued.leaf);
        if !kept.await.map_err(unavailable)? {
            return Err(unavailable("this gateway has another certificate by now"));
        }
        done(&admitted);
        Ok(Renewed {
            chain: issued.chain,
        })
    }

    pub(crate) async fn sign_in(
        &self,
        asking: Asking<'_>,
        request: SignIn,
    ) -> Result<SignedIn, ControlError> {
        let snapshot = self.point.snapshot();
        // Who is offered where is for gateways to hear, not for those who are refused.
        let known = gateway(&asking.evidence).is_some();
        let person = Person::offered(&snapshot, &request.door, &request.member);
        let nobody = (known && person.is_none()).then(|| RequestFault {
            code: Code::IDENTITY_UNKNOWN,
            detail: "nobody of that name is offered at this door".to_owned(),
        });
        let foreign = self.own(&asking).await?.door(&request.door);
        let fault = foreign.or(nobody);
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
        let now = self.point.now();
        let found = match gateway(&asking.evidence) {
            Some(_) => self.sessions.find(cookie, now).await,
            None => Err(SessionError::None),
        };
        let fault = match &found {
            Ok(session) => self.own(&asking).await?.door(&session.door),
            Err(_) => None,
        };
        let admitted = self.connect(asking, "sign-out", fault).await?;
        match found {
            Err(SessionError::None) => {}
            Err(error) => return Err(unavailable(error)),
            Ok(session) => {
                // Tokens drawn from it are out, and streams opened with them: revoking ends all.
                let what = Revoked::Session(session.sid);
                let revoked = self.revoker.revoke(what, false, &session.sub).await;
                revoked.map_err(unavailable)?;
                let ended = self.sessions.sign_out(cookie, now).await;
                ended.map_err(unavailable)?;
            }
        }
        done(&admitted);
        Ok(())
    }

    pub(crate) async fn session_token(
        &self,
        mut asking: Asking<'_>,
        request: SessionTokenRequest,
    ) -> Result<SessionToken, ControlError> {
        // Nobody but a gateway is told apart by what its cookie is worth.
        let holder = asking.evidence.certificate().map(|it| it.leaf);
        let holder = gateway(&asking.evidence).and(holder);
        let foreign = self.own(&asking).await?.door(&request.door);
        let session = match holder {
            Some(_) if foreign.is_none() => self.live(&request).await?,
            _ => None,
        };
        let fault = match (holder, &session) {
            _ if foreign.is_some() => foreign,
            (Some(holder), Some(session)) => {
                asking.evidence.session = Some(Box::new(Session {
                    ends: session.ends,
                    groups: session.groups.clone(),
                    holder,
                    sid: session.sid,
                    sub: session.sub.clone(),
                }));
                None
            }
            (Some(_), None) => Some(RequestFault {
                code: Code::SESSION_ABSENT,
                detail: "no live session of this door".to_owned(),
            }),
            (None, _) => Some(RequestFault {
                code: Code::SUBJECT_MISMATCH,
                detail: "only gateways hold sessions".to_owned(),
            }),
        };
        let Asking {
            context, evidence, ..
        } = asking;
        let facts = Facts {
            fault,
            requested_door: Some(request.door.clone()),
            requested_service: Some(request.service.as_str().to_owned()),
            ..Facts::default()
        };
        let drawn = self.issuer.draw(evidence, facts, context).await;
        let drawn = drawn.map_err(|error| match error {
            DrawError::Refused(refusal) if refusal.code == Code::SESSION_ABSENT => {
                ControlError::NoSession
            }
            DrawError::Refused(refusal) => refused(&refusal),
            DrawError::Signing(error) => unavailable(error),
        })?;
        let session = session.ok_or(ControlError::NoSession)?;
        Ok(SessionToken {
            groups: session.groups,
            session_ends: session.ends,
            sid: session.sid,
            sub: session.sub,
            token: drawn.token,
        })
    }

    /// The live session of a cookie at the door it is of.
    async fn live(
        &self,
        request: &SessionTokenRequest,
    ) -> Result<Option<crate::store::Session>, ControlError> {
        match self.sessions.find(&request.cookie, self.point.now()).await {
            Err(SessionError::None) => Ok(None),
            Err(error) => Err(unavailable(error)),
            Ok(session) => Ok(Some(session).filter(|it| it.door == request.door)),
        }
    }

    pub(crate) async fn credential(
        &self,
        asking: Asking<'_>,
        name: &Name,
    ) -> Result<InjectedSecret, ControlError> {
        let operation = Operation::named("inject", name.as_str());
        let own = self.own(&asking).await?;
        let fault = own.secret(&self.point.snapshot(), name);
        let admitted = self.ask(asking, "vault", operation, fault).await?;
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
        jwk: Value,
    ) -> Result<(), ControlError> {
        let gateway = gateway(&asking.evidence);
        let owner = asking.evidence.certificate().map(|it| &it.spiffe_id);
        let key = owner.and_then(|owner| assertion_keys::own(&jwk, owner));
        let fault = match (&gateway, &key) {
            (Some(gateway), Some(key)) if self.is_taken(gateway, key).await? => {
                Some(RequestFault {
                    code: Code::SUBJECT_MISMATCH,
                    detail: "the key is another gateway's".to_owned(),
                })
            }
            (_, Some(_)) => None,
            (_, None) => Some(RequestFault {
                code: Code::BODY_UNREADABLE,
                detail: "not one public ed25519 key under its thumbprint".to_owned(),
            }),
        };
        let admitted = self.connect(asking, "key", fault).await?;
        let (Some(gateway), Some(key)) = (gateway, key) else {
            return Err(ControlError::NoSession);
        };
        let now = self.point.now();
        let kept = self.store.put_gateway_key(&gateway, &key, now).await;
        if !kept.map_err(unavailable)? {
            return Err(unavailable("the key is another gateway's"));
        }
        self.load_assertion_keys().await?;
        done(&admitted);
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
        let (node, first) = (delivery.node.clone(), delivery.first);
        let next = self.audit.deliver(delivery).await;
        let next = match next.map_err(ControlError::from) {
            Ok(next) => {
                self.nodes.delivered(&node);
                next
            }
            Err(error) => {
                self.undelivered(&node, first, &error).await?;
                return Err(error);
            }
        };
        done(&admitted);
        Ok(next)
    }

    /// A node whose records don't continue what the log has of it is something to look into.
    async fn undelivered(
        &self,
        node: &Name,
        first: u64,
        error: &ControlError,
    ) -> Result<(), ControlError> {
        tracing::error!(%error, %node, first, "records are not taken");
        // It asks again, and again with every record it writes.
        if !self.nodes.undelivered(node, error) {
            return Ok(());
        }
        let what = [("first", first.to_string()), ("why", error.to_string())];
        self.note(node, "ledger.delivery.alarm", &what).await
    }

    /// Whether a connection is a gateway's whose certificate is not revoked: worth listening to
    /// before it is decided what it may.
    pub(crate) fn is_trusted(&self, evidence: &Evidence) -> bool {
        let state = self.point.state();
        let certificate = evidence
            .certificate()
            .filter(|_| gateway(evidence).is_some());
        certificate.is_some_and(|it| {
            let revocations = &state.revocations;
            let leaf = revocations.certificate(&it.leaf);
            leaf.or_else(|| revocations.path(&it.issuer, &it.issuers_above))
                .or_else(|| revocations.workload(&it.spiffe_id))
                .is_none()
        })
    }

    /// A question that can't be read.
    pub(crate) async fn malformed(&self, asking: Asking<'_>, what: &str) -> ControlError {
        let detail = "the body is not what is asked with".to_owned();
        self.unreadable(asking, what, detail).await
    }

    /// The same, where it is known what is wrong with it.
    pub(crate) async fn unreadable(
        &self,
        asking: Asking<'_>,
        what: &str,
        detail: String,
    ) -> ControlError {
        let fault = RequestFault {
            code: Code::BODY_UNREADABLE,
            detail: detail.clone(),
        };
        match self.connect(asking, what, Some(fault)).await {
            Err(error) => error,
            Ok(_) => unavailable(detail),
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

/// Updates for as long as whoever hears them may.
fn while_admitted(
    admitted: Admitted,
    updates: BoxStream<'static, Update>,
) -> BoxStream<'static, Update> {
    admitted.mark_stream();
    admitted.answered(200);
    let cut = admitted.cut().clone();
    let ended = async move {
        cut.wait().await;
    };
    let updates = updates.take_until(Box::pin(ended));
    let counted = updates.map(move |update| {
        let _open = &admitted;
        update
    });
    counted.boxed()
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
