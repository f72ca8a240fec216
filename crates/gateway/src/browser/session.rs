use super::Visit;
use super::cookies;
use crate::refuse::Failure;
use crate::refuse::Stop;
use countersign_core::hop::Session;
use countersign_core::hop::Token;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_net::token::Presenter;
use countersign_wire::control::ControlError;
use countersign_wire::control::SessionTokenRequest;
use hashbrown::HashMap;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::time::Duration;

/// Tokens drawn from sessions, until shortly before they end.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    drawn: Mutex<HashMap<Key, Kept>>,
}

/// A live session and a token for one service drawn from it.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) session: Session,
    pub(crate) token: SecretString,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// SHA-256 of the cookie: the cache holds no cookie.
    cookie: Digest,
    door: Name,
    /// The certificate of ours that the token is bound to.
    holder: Digest,
    service: Name,
}

#[derive(Debug)]
struct Kept {
    drawn: Drawn,
    ends: Timestamp,
    /// What it was drawn under; another epoch or revision may refuse it.
    known: (u64, Digest),
}

/// How many are kept at most.
const MOST: usize = 10_000;
/// A token is drawn anew this long before it ends, so that it does not end on its way.
const AHEAD: Duration = Duration::from_secs(5);

/// The session that a request shows, with a token for its service; `None` for nobody.
pub(crate) async fn session(visit: &Visit<'_>) -> Result<Option<Drawn>, Stop> {
    let Some(cookie) = cookies::value(&visit.parts.headers, cookies::SESSION) else {
        return Ok(None);
    };
    // Without a service there is nothing to draw a token for, and the decision says so.
    let Ok(service) = Name::new(&visit.wanted.service) else {
        return Ok(None);
    };
    if visit.snapshot.service(service.as_str()).is_none() {
        return Ok(None);
    }
    let plane = visit.plane;
    let key = Key {
        cookie: digest(cookie.as_bytes()),
        door: visit.connected.door.clone(),
        holder: plane.svid.current().leaf(),
        service,
    };
    let state = plane.point.state();
    let known = (state.revocations.epoch(), *state.snapshot.revision());
    let now = plane.point.now();
    if let Some(drawn) = visit.sessions.find(&key, known, now) {
        return Ok(Some(drawn));
    }
    let Some(drawn) = draw(visit, cookie, &key).await? else {
        return Ok(None);
    };
    let token = plane
        .tokens
        .verify_token(drawn.token.expose_secret(), Presenter::Ourselves, now);
    if let Token::Verified(token) = token {
        let ends = Timestamp::from_secs(token.claims.exp);
        let kept = Kept {
            drawn: drawn.clone(),
            ends,
            known,
        };
        visit.sessions.keep(key, kept, now);
    }
    Ok(Some(drawn))
}

/// Asks the issuer, which looks the session up, decides and records.
async fn draw(visit: &Visit<'_>, cookie: &str, key: &Key) -> Result<Option<Drawn>, Stop> {
    let request = SessionTokenRequest {
        cookie: SecretString::from(cookie),
        door: key.door.clone(),
        service: key.service.clone(),
    };
    match visit.plane.control.session_token(request).await {
        Ok(answer) => Ok(Some(Drawn {
            session: Session {
                ends: answer.session_ends,
                groups: answer.groups,
                holder: key.holder,
                sid: answer.sid,
                sub: answer.sub,
            },
            token: answer.token,
        })),
        Err(ControlError::NoSession) => Ok(None),
        Err(ControlError::Refused { code, receipt }) => Err(Stop::Refused {
            code,
            faults: Vec::new(),
            limit: None,
            model: false,
            receipt,
            retry_after: None,
            under_way: false,
        }),
        Err(error) => {
            tracing::warn!(%error, "no token from a session");
            Err(Stop::Failed {
                failure: Failure::Control,
                receipt: None,
            })
        }
    }
}

impl Sessions {
    fn find(&self, key: &Key, known: (u64, Digest), now: Timestamp) -> Option<Drawn> {
        let drawn = self.drawn.lock();
        let kept = drawn
            .get(key)
            .filter(|kept| kept.known == known && now.plus(AHEAD) < kept.ends)?;
        Some(kept.drawn.clone())
    }

    fn keep(&self, key: Key, kept: Kept, now: Timestamp) {
        let mut drawn = self.drawn.lock();
        if drawn.len() >= MOST {
            drawn.retain(|_, it| it.known == kept.known && now.plus(AHEAD) < it.ends);
        }
        if drawn.len() < MOST {
            drawn.insert(key, kept);
        }
    }

    /// Forgets what was drawn from a cookie that has been signed out.
    pub(super) fn forget(&self, cookie: &str) {
        let cookie = digest(cookie.as_bytes());
        self.drawn.lock().retain(|key, _| key.cookie != cookie);
    }
}

fn digest(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    Digest::new(out)
}
