//! A control plane that issues with a test key.

use super::CANARY;
use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::Timestamp;
use countersign_net::KeyAlgorithm;
use countersign_net::SigningKey;
use countersign_net::SvidSource;
use countersign_net::token::sign_access_token;
use countersign_testkit::pki::Pki;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::IssuerAnswer;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::IssuerResponse;
use countersign_wire::control::Known;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// The control plane of these tests.
pub(crate) struct Plane {
    domain: countersign_core::vocabulary::TrustDomain,
    pub(crate) issuer: SigningKey,
    svid: Arc<SvidSource>,
    sessions: Mutex<HashMap<String, (String, Vec<String>)>>,
    signed_in: AtomicU32,
    /// Sessions can't be ended now.
    pub(crate) away: AtomicBool,
    pub(crate) drawn: Mutex<u32>,
    pub(crate) published: Mutex<Option<Value>>,
}

impl Plane {
    pub(crate) fn new(pki: &Pki, svid: Arc<SvidSource>) -> Self {
        Self {
            domain: pki.domain.clone(),
            issuer: SigningKey::generate(KeyAlgorithm::Es256).unwrap(),
            svid,
            sessions: Mutex::default(),
            signed_in: AtomicU32::new(0),
            away: AtomicBool::new(false),
            drawn: Mutex::default(),
            published: Mutex::default(),
        }
    }

    pub(crate) fn token(
        &self,
        bound: Digest,
        sub: &str,
        service: &str,
        groups: &[String],
        sid: Option<Digest>,
    ) -> String {
        let now = Timestamp::from_micros(
            i64::try_from(
                std::time::SystemTime::UNIX_EPOCH
                    .elapsed()
                    .unwrap()
                    .as_micros(),
            )
            .unwrap(),
        );
        let scope = ["report:read", "report:write", "llm:chat"];
        let claims = Claims {
            act: vec![],
            aud: self.domain.audience(service),
            ceil: vec![],
            client_id: sub.to_owned(),
            cnf: Binding::Certificate(bound),
            exp: now.as_secs() + 60,
            groups: groups.to_vec(),
            iat: now.as_secs(),
            iss: self.domain.issuer(),
            jti: format!("{sub}-{service}"),
            nbf: None,
            roles: vec![],
            scope: scope
                .iter()
                .map(|it| Permission::new(it).unwrap())
                .collect(),
            sid,
            sub: sub.to_owned(),
        };
        sign_access_token(&self.issuer, &claims).unwrap()
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the control plane of a test")
    }
}

impl ControlPlane for Plane {
    fn updates(&self, _: Known) -> BoxStream<'static, Update> {
        futures_util::stream::pending().boxed()
    }

    fn sign_in(&self, request: SignIn) -> BoxFuture<'_, Result<SignedIn, ControlError>> {
        let groups = match request.member.strip_prefix("group:") {
            Some(group) => vec![group.to_owned()],
            None => vec![],
        };
        let mut sessions = self.sessions.lock();
        let cookie = format!("cookie-{}", self.signed_in.fetch_add(1, Ordering::SeqCst));
        sessions.insert(cookie.clone(), ("dev:someone".to_owned(), groups));
        let ends = Timestamp::from_secs(i64::from(u32::MAX));
        async move {
            Ok(SignedIn {
                cookie: SecretString::from(cookie),
                ends,
            })
        }
        .boxed()
    }

    fn sign_out(&self, cookie: SecretString) -> BoxFuture<'_, Result<(), ControlError>> {
        if self.away.load(Ordering::SeqCst) {
            let error = ControlError::Unavailable("away".to_owned());
            return async { Err(error) }.boxed();
        }
        let found = self.sessions.lock().remove(cookie.expose_secret());
        async move { found.map(|_| ()).ok_or(ControlError::NoSession) }.boxed()
    }

    fn session_token(
        &self,
        request: SessionTokenRequest,
    ) -> BoxFuture<'_, Result<SessionToken, ControlError>> {
        *self.drawn.lock() += 1;
        let found = self
            .sessions
            .lock()
            .get(request.cookie.expose_secret())
            .cloned();
        let answer = found.ok_or(ControlError::NoSession).map(|(sub, groups)| {
            let sid = Digest::new([7; 32]);
            let leaf = self.svid.current().leaf();
            let token = self.token(leaf, &sub, request.service.as_str(), &groups, Some(sid));
            let session_ends = Timestamp::from_secs(i64::from(u32::MAX));
            SessionToken {
                groups,
                session_ends,
                sid,
                sub,
                token: SecretString::from(token),
            }
        });
        async move { answer }.boxed()
    }

    fn credential(&self, secret: Name) -> BoxFuture<'_, Result<InjectedSecret, ControlError>> {
        assert_eq!(secret.as_str(), "openai");
        async {
            Ok(InjectedSecret {
                value: SecretString::from(CANARY),
                version: 3,
            })
        }
        .boxed()
    }

    fn publish_key(&self, jwk: Value) -> BoxFuture<'_, Result<(), ControlError>> {
        *self.published.lock() = Some(jwk);
        async { Ok(()) }.boxed()
    }

    fn deliver(&self, _: Delivery) -> BoxFuture<'_, Result<u64, ControlError>> {
        async { Ok(0) }.boxed()
    }

    fn issuer<'a>(&'a self, request: IssuerRequest<'a>) -> Option<IssuerAnswer<'a>> {
        let peer = request
            .evidence
            .certificate()
            .unwrap()
            .spiffe_id
            .to_string();
        let body = serde_json::json!({
            "peer": peer,
            "asked": format!("{} {}", request.method, request.path),
            "form": String::from_utf8_lossy(request.body),
        });
        let body = body.to_string().into_bytes();
        Some(
            async move {
                Ok(IssuerResponse {
                    body,
                    headers: vec![],
                    status: 200,
                })
            }
            .boxed(),
        )
    }
}
