//! Sessions of people at browser doors.
//!
//! The server holds them; a gateway gets a person's token only by showing the live cookie. The
//! cookie is 256 random bits and is kept nowhere: the store knows its SHA-256, which is also the
//! `sid` of the tokens drawn from it.

use crate::store::Session;
use crate::store::Store;
use crate::store::StoreError;
use aws_lc_rs::rand::SecureRandom as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use countersign_core::config::Member;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_wire::control::SignedIn;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use std::time::Duration;

/// The sessions of this server.
#[derive(Debug)]
pub struct Sessions {
    store: Store,
}

/// Who signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The groups the login vouches for: `<login>/<name>` each.
    pub groups: Vec<String>,
    /// `<login>:<sub>`.
    pub sub: String,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// None with this cookie, or not of this door, or it has ended.
    #[error("no live session")]
    None,
    /// The system has no randomness.
    #[error("no randomness")]
    Random,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long a session of `login: dev` lasts at most.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// A cookie of ours is 43 characters; nothing much longer is looked at.
const COOKIE: usize = 64;

impl Sessions {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Begins a person's session at a door, always under a new id.
    ///
    /// # Errors
    /// [`SessionError::Random`] and the store's.
    pub async fn begin(
        &self,
        person: Person,
        door: &Name,
        now: Timestamp,
    ) -> Result<(SignedIn, Session), SessionError> {
        let mut id = [0; 32];
        let random = aws_lc_rs::rand::SystemRandom::new();
        random.fill(&mut id).map_err(|_| SessionError::Random)?;
        let cookie = SecretString::from(BASE64.encode(id));
        let ends = now.plus(LIFETIME);
        let session = Session {
            sid: sid(&cookie),
            sub: person.sub,
            groups: person.groups,
            door: door.clone(),
            created: now,
            ends,
            ended: None,
        };
        self.store.insert_session(&session).await?;
        Ok((SignedIn { cookie, ends }, session))
    }

    /// The live session of a cookie.
    ///
    /// # Errors
    /// [`SessionError::None`] if there is none.
    pub async fn find(
        &self,
        cookie: &SecretString,
        now: Timestamp,
    ) -> Result<Session, SessionError> {
        if cookie.expose_secret().len() > COOKIE {
            return Err(SessionError::None);
        }
        let session = self.store.session(&sid(cookie)).await?;
        session
            .filter(|it| it.is_live(now))
            .ok_or(SessionError::None)
    }

    /// Ends the session of a cookie; its `sid`, if there was one.
    ///
    /// # Errors
    /// The store's.
    pub async fn sign_out(
        &self,
        cookie: &SecretString,
        now: Timestamp,
    ) -> Result<Option<Digest>, SessionError> {
        let sid = sid(cookie);
        Ok(self.store.end_session(&sid, now).await?.then_some(sid))
    }
}

impl Person {
    /// The member of this name that the page of a door with `login: dev` offers.
    #[must_use]
    pub fn offered(snapshot: &Snapshot, door: &Name, member: &str) -> Option<Self> {
        let listener = snapshot.config().listeners.get(door)?;
        let login = listener.login.as_ref()?;
        let mut offered = snapshot.config().offered(login).into_iter();
        let named = offered.find(|it| it.to_string() == member)?;
        match named {
            Member::User { login: by, sub } => Some(Self {
                groups: Vec::new(),
                sub: format!("{by}:{sub}"),
            }),
            // Somebody of whom no more is known than the group.
            Member::Group { login: by, name } => Some(Self {
                groups: vec![format!("{by}/{name}")],
                sub: format!("{by}:member-of-{name}"),
            }),
            Member::Identity(_) => None,
        }
    }
}

fn sid(cookie: &SecretString) -> Digest {
    let text = cookie.expose_secret().as_bytes();
    Digest::new(countersign_ledger::tree::sha256(text))
}
