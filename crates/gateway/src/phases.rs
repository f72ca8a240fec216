//! The way of a request, on one screen.
//!
//! | phase | why it is here |
//! |---|---|
//! | read | a request that can be read in two ways must not reach anything that reads it |
//! | ours | sign-in and the issuer come before the proof that they help to make |
//! | evidence | cheap, and without it nothing below is worth its cost |
//! | body | held only where a rule reads it, and only for a caller whom nothing else refuses |
//! | enforce | once everything it reads is known; the record is durable when it returns |
//! | forward | takes service, method and path from the admission, never from the request |
//! | answer | passes on the upstream's words, minus what it may not say; counts, and can be cut |
//!
//! [`answer`] owns what every answer has and turns a [`Stop`] into a response; the phases use `?`.

use crate::body::Body;
use crate::body::Held;
use crate::body::Received;
use crate::body::Rules;
use crate::browser;
use crate::browser::cors::Sharing;
use crate::connected::Connected;
use crate::grpc;
use crate::mesh;
use crate::observe::Answered;
use crate::refuse::Stop;
use crate::request;
use crate::request::Ids;
use crate::request::Wanted;
use crate::request::X_REQUEST_ID;
use crate::request::query;
use crate::request::socket;
use crate::shared::Shared;
use crate::to_the_end::ToTheEnd;
use crate::upstreams;
use crate::upstreams::Call;
use countersign_core::config::Limits;
use countersign_core::config::PeerKind;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::hop::SchemaFault;
use countersign_core::record::Context;
use countersign_core::snapshot::DoorKind;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::clip;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::Refusal;
use countersign_net::problem::RECEIPT;
use countersign_net::token::Presenter;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use hyper::body::Incoming;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// A request under way. In a box: it goes from phase to phase, and each would copy it.
struct Exchange {
    connected: Arc<Connected>,
    ids: Arc<Ids>,
    parts: Parts,
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    wanted: Wanted,
}

/// Answers a request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    connected: Arc<Connected>,
    request: Box<Request<Incoming>>,
) -> Response<Body> {
    let observer = shared.observer.get().cloned();
    let ids = match Ids::of(&connected, request.headers(), observer) {
        Ok(ids) => Arc::new(ids),
        Err(error) => return Stop::from(error).response(false),
    };
    let told = Told::of(&shared, &ids, &request);
    let sharing = sharing(&shared, &connected, &request);
    // Its callers read a refusal nowhere else than where gRPC has its status.
    let grpc = request.version() == Version::HTTP_2 && grpc::is_grpc(request.headers());
    let outcome = phases(shared, connected.clone(), ids.clone(), request).await;
    let code = outcome.as_ref().err().and_then(Stop::code);
    let ours = outcome.is_err();
    let mut response = outcome.unwrap_or_else(|stop| stop.response(grpc));
    if let Some(told) = told {
        told.answered(&connected, &ids, &response, code);
    }
    if let Ok(id) = HeaderValue::from_str(&ids.request) {
        // A third party's own id tells its support more than ours.
        response.headers_mut().entry(X_REQUEST_ID).or_insert(id);
    }
    if let Some(sharing) = sharing {
        let headers = response.headers_mut();
        if ours {
            browser::secure_own(headers);
        } else {
            browser::cors::strip(headers);
        }
        browser::secure(headers);
        sharing.tell(headers);
    }
    response
}

/// Who may read the answer, at a browser door.
fn sharing(shared: &Shared, connected: &Connected, request: &Request<Incoming>) -> Option<Sharing> {
    let snapshot = shared.plane.point.snapshot();
    let listener = snapshot.config().listeners.get(connected.door.as_str());
    let browser = connected.kind == DoorKind::Browser;
    browser.then(|| Sharing::of(listener, request))
}

/// What an observer is told of a request that is gone when its answer is there.
struct Told {
    at: Timestamp,
    http2: bool,
    method: Method,
    snapshot: Arc<Snapshot>,
}

impl Told {
    fn of(shared: &Shared, ids: &Ids, request: &Request<Incoming>) -> Option<Self> {
        ids.journey.observer()?;
        let point = &shared.plane.point;
        Some(Self {
            at: point.now(),
            http2: request.version() == Version::HTTP_2,
            method: request.method().clone(),
            snapshot: point.snapshot(),
        })
    }

    fn answered(
        &self,
        connected: &Connected,
        ids: &Ids,
        response: &Response<Body>,
        code: Option<Code>,
    ) {
        let receipt = response.headers().get(RECEIPT);
        ids.journey.answered(Answered {
            at: self.at,
            took: Duration::ZERO,
            waited: Duration::ZERO,
            door: &connected.door,
            method: self.method.as_str(),
            http2: self.http2,
            snapshot: &self.snapshot,
            asked: None,
            status: response.status().as_u16(),
            code,
            receipt: receipt.and_then(|it| it.to_str().ok()),
            upstream: None,
            trace: ids.place(),
        });
    }
}

async fn phases(
    shared: Arc<Shared>,
    connected: Arc<Connected>,
    ids: Arc<Ids>,
    request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Stop> {
    let snapshot = shared.plane.point.snapshot();
    let (mut parts, body) = request.into_parts();
    let body = Received::new(body, parts.version);
    socket::read(&mut parts)?;
    let wanted = Wanted::read(&connected, &snapshot, &parts);
    if ids.place().is_some() {
        ids.journey.asks(&wanted.service, &wanted.operation);
    }
    let exchange = Box::new(Exchange {
        connected,
        ids,
        parts,
        shared,
        snapshot,
        wanted,
    });
    let body = exchange.ours(body).await?;
    let deciding = exchange.connected.place.decides().await;
    let decided = ToTheEnd::new(async move {
        let _deciding = deciding;
        // Whoever else has asked something is read first, and then all are decided.
        tokio::task::yield_now().await;
        exchange.admit(body).await
    });
    let (exchange, admitted, body, token) = decided.await?;
    exchange.forward(admitted, body, token).await
}

/// A request that was admitted.
type Decided = (Box<Exchange>, Admitted, Held, Option<HeaderValue>);

/// A value that nothing prints.
fn secret(mut value: Option<HeaderValue>) -> Option<HeaderValue> {
    if let Some(value) = &mut value {
        value.set_sensitive(true);
    }
    value
}

impl Exchange {
    /// From the evidence to the decision and its record.
    async fn admit(self: Box<Self>, body: Received) -> Result<Decided, Stop> {
        let (evidence, token) = self.evidence().await?;
        let (body, facts) = self.body(body, &evidence).await?;
        let verdicts = facts.schemas.iter();
        let faults = verdicts.flat_map(|it| it.faults.clone()).collect();
        let model = facts.model.is_some();
        // The one question.
        let point = &self.shared.plane.point;
        match point.enforce(self.ask(evidence, facts)).await {
            Ok(admitted) => Ok((self, admitted, body, token)),
            Err(refusal) => Err(self.refused(&refusal, model, faults)),
        }
    }

    /// What countersign serves itself at this door. Gives the body back if that is nothing.
    async fn ours(&self, body: Received) -> Result<Received, Stop> {
        if self.wanted.fault.is_some() {
            return Ok(body);
        }
        match self.connected.kind {
            DoorKind::Browser => Box::pin(browser::ours(&self.visit(), body)).await,
            DoorKind::Mesh | DoorKind::Partner if self.wanted.service == request::ISSUER => {
                let asked = (
                    self.parts.method.as_str(),
                    self.wanted.operation.object.as_str(),
                );
                let (plane, connected) = (&self.shared.plane, &self.connected);
                Box::pin(mesh::issuer(plane, connected, asked, self.context(), body)).await
            }
            DoorKind::Mesh | DoorKind::Partner | DoorKind::Local => Ok(body),
        }
    }

    /// What the caller proves, and its `Authorization` for where the token is meant for.
    async fn evidence(&self) -> Result<(Evidence, Option<HeaderValue>), Stop> {
        let mut evidence = self.connected.evidence();
        if self.connected.kind == DoorKind::Browser {
            let Some(drawn) = Box::pin(browser::session(&self.visit())).await? else {
                return Ok((evidence, None));
            };
            evidence.token = self.shared.plane.tokens.verify_token(
                drawn.token.expose_secret(),
                Presenter::Ourselves,
                self.shared.plane.point.now(),
            );
            evidence.session = Some(Box::new(drawn.session));
            let bearer = format!("Bearer {}", drawn.token.expose_secret());
            return Ok((evidence, secret(HeaderValue::try_from(bearer).ok())));
        }
        let shown = self.parts.headers.get_all(header::AUTHORIZATION);
        let values = shown.iter().map(HeaderValue::as_bytes);
        let network = countersign_enforce::network(self.connected.source_ip());
        let who = Presenter::of(&evidence, Some(network));
        evidence.token =
            self.shared
                .plane
                .tokens
                .verify(values, who, self.shared.plane.point.now());
        let token = secret(evidence.verified_token().and_then(|_| {
            let shown = shown.iter().next()?;
            let (scheme, token) = shown.to_str().ok()?.split_once(' ')?;
            if scheme == "Bearer" && token.trim_matches(' ').len() == token.len() {
                return Some(shown.clone());
            }
            HeaderValue::try_from(["Bearer ", token.trim_matches(' ')].concat()).ok()
        }));
        Ok((evidence, token))
    }

    /// What was not served as ours: a workload asks the issuer itself, where it is in another
    /// process.
    fn elsewhere(&self) -> Option<RequestFault> {
        let asked = self.connected.kind == DoorKind::Mesh && self.wanted.service == request::ISSUER;
        asked.then(|| RequestFault {
            code: Code::HOST_MISDIRECTED,
            detail: "the issuer is asked at the server's own port: it believes no gateway for who \
                     asks"
                .to_owned(),
        })
    }

    /// Facts beside the evidence; the body as far as rules read it.
    async fn body(&self, body: Received, evidence: &Evidence) -> Result<(Held, Facts), Stop> {
        let mut facts = Facts {
            fault: self
                .wanted
                .fault
                .clone()
                .or_else(|| self.carried_credential())
                .or_else(|| self.elsewhere()),
            same_origin: self.same_origin(),
            ..Facts::default()
        };
        if facts.same_origin == Some(false) {
            let listeners = &self.snapshot.config().listeners;
            let listener = listeners.get(self.connected.door.as_str());
            facts.cross_origin = browser::cors::cross_origin(&self.parts, listener);
        }
        // A stranger can't make us hold anything: they are refused before any rule reads a body.
        let stranger = evidence.verified_token().is_none() && !self.snapshot.is_open();
        if stranger || facts.fault.is_some() {
            return Ok((Held::Streaming(body), facts));
        }
        let rules = self.rules();
        let point = &self.shared.plane.point;
        // Whoever may not call at all is refused by its head: a body that is read and parsed is work.
        let unread = |facts: &Facts| self.ask(evidence.clone(), facts.clone());
        if rules.read() && point.refuses_unread(unread(&facts)) {
            return Ok((Held::Streaming(body), facts));
        }
        let begun = std::time::Instant::now();
        let (headers, room) = (&self.parts.headers, &self.shared.room);
        let held = if rules.read() {
            Box::pin(Held::look(body, headers, rules, room, &mut facts)).await
        } else {
            Ok(Held::unread(body, &rules, &mut facts))
        };
        self.ids.journey.waited(begun);
        Ok((held?, facts))
    }

    fn ask(&self, evidence: Evidence, facts: Facts) -> Ask<'_> {
        Ask {
            door: self.connected.door.clone(),
            service: clip(&self.wanted.service, 256).to_owned(),
            operation: self.wanted.operation.clone(),
            evidence,
            facts,
            context: self.context(),
        }
    }

    /// A refusal as its caller gets it.
    fn refused(&self, refusal: &Refusal, model: bool, faults: Vec<SchemaFault>) -> Stop {
        let (code, reason) = (refusal.code, &refusal.reason);
        let receipt = refusal.receipt.map(|it| it.to_string());
        tracing::info!(%code, reason, receipt, request = self.ids.request, "refused");
        match browser::sign_in_instead(&self.visit(), refusal) {
            Some(response) => Stop::Answered(Box::new(response)),
            None => Stop::refused(refusal, model).with_faults(faults),
        }
    }

    /// What was decided is what is sent.
    async fn forward(
        self: Box<Self>,
        admitted: Admitted,
        body: Held,
        token: Option<HeaderValue>,
    ) -> Result<Response<Body>, Stop> {
        let idle = self.limits().idle;
        let Self {
            connected,
            ids,
            parts,
            shared,
            wanted,
            ..
        } = *self;
        let call = Call {
            admitted,
            body,
            connected: &connected,
            idle,
            host: wanted.host,
            ids,
            parts,
            query: wanted.query,
            plane: &shared.plane,
            token,
            upstreams: &shared.upstreams,
        };
        upstreams::forward(Box::new(call)).await
    }

    fn limits(&self) -> Limits {
        let listeners = &self.snapshot.config().listeners;
        listeners
            .get(self.connected.door.as_str())
            .map(|it| it.limits)
            .unwrap_or_default()
    }

    fn rules(&self) -> Rules {
        let limits = self.limits();
        let mut rules = Rules {
            http2: self.parts.version == Version::HTTP_2,
            time: limits.idle,
            limit: limits.body,
            model: false,
            schemas: Vec::new(),
        };
        let wanted = &self.wanted;
        for (place, rule) in self.snapshot.rules(&wanted.service, &wanted.operation) {
            rules.limit = rules.limit.min(rule.body_max.unwrap_or(u64::MAX));
            rules.model |= !rule.models.is_empty() || rule.budget.is_some();
            let schema = self.snapshot.body_schema(&wanted.service, place);
            rules.schemas.extend(schema.cloned());
        }
        rules
    }

    fn same_origin(&self) -> Option<bool> {
        let browser = self.connected.kind == DoorKind::Browser;
        browser
            .then(|| browser::same_origin(&self.parts, self.wanted.host.as_ref()))
            .flatten()
    }

    /// A caller's credential for a third party, on its way through our hands and everybody's logs.
    fn carried_credential(&self) -> Option<RequestFault> {
        let service = self.snapshot.service(&self.wanted.service)?;
        let third_party = service.peer == PeerKind::ThirdParty;
        let key = query::credential(self.wanted.query.as_deref().filter(|_| third_party)?)?;
        let detail = format!("the query has a `{key}`");
        Some(RequestFault {
            code: Code::REQUEST_CREDENTIAL,
            detail,
        })
    }

    fn visit(&self) -> browser::Visit<'_> {
        browser::Visit {
            connected: &self.connected,
            context: self.context(),
            parts: &self.parts,
            plane: &self.shared.plane,
            sessions: &self.shared.sessions,
            snapshot: &self.snapshot,
            wanted: &self.wanted,
        }
    }

    fn context(&self) -> Context<'_> {
        let agent = self.parts.headers.get(header::USER_AGENT);
        Context {
            request_id: &self.ids.request,
            source_ip: Some(self.connected.source_ip()),
            trace_id: Some(&self.ids.trace),
            user_agent: agent.and_then(|it| it.to_str().ok()),
        }
    }
}
