//! Revoking: tokens, subjects, certificates, sessions, identities, issuing keys; and taking it
//! back.
//!
//! A line is in the store's log before anybody is told of it; when the command returns it is in
//! force at this process's enforcement point, open streams included, and on its way to the others.

use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::store::StoreError;
use crate::updates::Updates;
use crate::whole::whole;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_enforce::EnforcementPoint;
use countersign_wire::admin::RevokedNow;
use std::borrow::Cow;
use std::sync::Arc;

/// The one place where revocations are made.
#[derive(Clone, Debug)]
pub struct Revoker {
    point: EnforcementPoint,
    snapshots: Arc<Snapshots>,
    store: Store,
    updates: Arc<Updates>,
}

impl Revoker {
    pub(crate) fn new(
        point: EnforcementPoint,
        snapshots: Arc<Snapshots>,
        store: Store,
        updates: Arc<Updates>,
    ) -> Self {
        Self {
            point,
            snapshots,
            store,
            updates,
        }
    }

    /// Revokes, or takes a revocation back, whole even if nobody waits for it any more. `actor`
    /// is for the record.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was revoked.
    pub async fn revoke(
        &self,
        what: Revoked,
        lift: bool,
        actor: &str,
    ) -> Result<RevokedNow, StoreError> {
        let (revoker, actor) = (self.clone(), actor.to_owned());
        whole(async move { revoker.append(what, lift, &actor).await }).await
    }

    async fn append(
        &self,
        what: Revoked,
        lift: bool,
        actor: &str,
    ) -> Result<RevokedNow, StoreError> {
        // Lines are handed on in the order of the log.
        let turn = self.snapshots.turn().await;
        let revocation = self
            .store
            .append_revocation(&what, lift, self.point.now())
            .await?;
        let ended = match self.point.revoke(std::slice::from_ref(&revocation)) {
            Ok(ended) => ended,
            Err(_gap) => {
                // Whatever is missing here is in the store.
                let missing = self.point.state().revocations.epoch();
                let lines = self.store.revocations_after(missing).await?;
                self.point.revoke(&lines).unwrap_or(0)
            }
        };
        self.updates.revoked(revocation.clone());
        self.sign_again(revocation.epoch).await;
        drop(turn);
        self.record(&revocation, ended, actor).await;
        Ok(RevokedNow {
            ended: ended as u64,
            known: None,
            revocation,
        })
    }

    /// An enforcement point refuses a snapshot signed at an epoch below its own, so the one that
    /// newcomers get is signed at the newest.
    async fn sign_again(&self, epoch: u64) {
        match self.snapshots.sign(epoch).await {
            Ok(snapshot) => self.updates.signed_again(snapshot),
            Err(error) => tracing::error!(%error, "the policy was not signed at the new epoch"),
        }
    }

    /// The log has the line's own record beside the decision that allowed it: what was revoked is
    /// no part of a decision.
    async fn record(&self, line: &Revocation, ended: usize, actor: &str) {
        let id = target(&line.what);
        let resource = Resource {
            id: Cow::Borrowed(&id),
            service: Cow::Borrowed("issuer"),
        };
        let event = if line.lifted {
            "identity.revocation.lift"
        } else {
            "identity.revocation.add"
        };
        let mut record = Record::event(event, line.at, actor, resource);
        let metadata = [
            ("ended", ended.to_string()),
            ("epoch", line.epoch.to_string()),
        ];
        for (name, value) in metadata {
            record
                .metadata
                .insert(Cow::Borrowed(name), Cow::Owned(value));
        }
        if let Err(error) = self.point.record_event(&record).await {
            tracing::error!(%error, "a revocation is in force but was not recorded");
        }
    }
}

/// The kind of what is revoked, as the operation `revoke KIND` of the issuer has it.
pub(crate) const fn kind(what: &Revoked) -> &'static str {
    match what {
        Revoked::Certificate(_) => "certificate",
        Revoked::Identity(_) => "identity",
        Revoked::Issuer(_) => "issuer",
        Revoked::Session(_) => "session",
        Revoked::Subject(_) => "subject",
        Revoked::Token(_) => "token",
    }
}

fn target(what: &Revoked) -> String {
    let value: &dyn std::fmt::Display = match what {
        Revoked::Certificate(digest) | Revoked::Issuer(digest) | Revoked::Session(digest) => digest,
        Revoked::Identity(id) => id,
        Revoked::Subject(text) | Revoked::Token(text) => text,
    };
    format!("{}/{value}", kind(what))
}
