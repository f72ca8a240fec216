use super::AdminError;
use super::Operator;
use super::done;
use crate::ca::Issued;
use crate::revocation;
use crate::store::IssuedCertificate;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::SpiffeId;
use countersign_wire::admin::IssueIdentity;
use countersign_wire::admin::IssuedIdentity;
use countersign_wire::admin::Revoke;
use countersign_wire::admin::RevokedNow;
use countersign_wire::join::MintJoin;
use countersign_wire::join::Minted;
use serde::Deserialize;
use serde::Serialize;

/// A configured identity as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityEntry {
    /// How many certificates of it are valid now.
    pub certificates: u64,
    /// Its name.
    pub name: String,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// The local user that administers as it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_user: Option<String>,
}

impl Operator {
    /// Issues a certificate by hand. Decided as `issue NAME` of `issuer`, for a gateway as
    /// `issue gateway/NAME`.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] for a name the configuration does not have, and the others.
    pub async fn issue_identity(
        &self,
        request: &IssueIdentity,
    ) -> Result<IssuedIdentity, AdminError> {
        let name = countersign_core::vocabulary::clip(&request.name, 128);
        let operation = if request.gateway {
            Operation::named("issue", &format!("gateway/{name}"))
        } else {
            Operation::named("issue", name)
        };
        let admitted = self.ask("issuer", operation).await?;
        let issued = self.issue(request, admitted.admission().snapshot()).await;
        done(&admitted, issued)
    }

    /// Makes a join token for a gateway. Decided as `issue gateway/NAME` of `issuer`, like the
    /// certificate that it turns into.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a listener that the configuration does not have, or where
    /// gateways can't join, and the others.
    pub async fn mint_join(&self, request: &MintJoin) -> Result<Minted, AdminError> {
        let name = countersign_core::vocabulary::clip(&request.gateway, 128);
        let operation = Operation::named("issue", &format!("gateway/{name}"));
        let admitted = self.ask("issuer", operation).await?;
        let (gateway, listeners) = (&request.gateway, &request.listeners);
        let minted = self.desk.joins.mint(gateway, listeners, &self.name()).await;
        done(&admitted, minted.map_err(AdminError::from))
    }

    /// The configured identities. Decided as `admin identities` of `console`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn identities(&self) -> Result<Vec<IdentityEntry>, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "identities"))
            .await?;
        let listed = self.list(admitted.admission().snapshot()).await;
        done(&admitted, listed)
    }

    /// Revokes, or takes a revocation back. Decided as `revoke KIND` or `revoke lift/KIND` of
    /// `issuer`; in force when this returns.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn revoke(&self, request: Revoke) -> Result<RevokedNow, AdminError> {
        let kind = revocation::kind(&request.what);
        let operation = if request.lift {
            Operation::named("revoke", &format!("lift/{kind}"))
        } else {
            Operation::named("revoke", kind)
        };
        let admitted = self.ask("issuer", operation).await?;
        let revoked = self.apply(request, admitted.admission().snapshot()).await;
        done(&admitted, revoked)
    }

    async fn apply(&self, request: Revoke, snapshot: &Snapshot) -> Result<RevokedNow, AdminError> {
        let Revoke { lift, what } = request;
        let mut now = self.desk.revoker.revoke(what, lift, &self.name()).await?;
        // Nothing waits for this but the answer.
        now.known = self.knows(&now.revocation.what, snapshot).await;
        Ok(now)
    }

    /// Whether what is revoked is anything, so that a mistyped name does not pass for a revocation.
    /// Nothing where it can't be told; it is revoked in any case.
    async fn knows(&self, what: &Revoked, snapshot: &Snapshot) -> Option<bool> {
        let store = &self.desk.store;
        match what {
            Revoked::Identity(id) if snapshot.identity(id).is_some() => Some(true),
            Revoked::Identity(id) => {
                let current = store.certificates_of(id, self.desk.point.now()).await;
                current.ok().map(|current| !current.is_empty())
            }
            Revoked::Certificate(leaf) => {
                let issued = store.certificate(leaf).await;
                issued.ok().map(|issued| issued.is_some())
            }
            _ => None,
        }
    }

    async fn issue(
        &self,
        request: &IssueIdentity,
        snapshot: &Snapshot,
    ) -> Result<IssuedIdentity, AdminError> {
        let domain = &snapshot.config().trust_domain;
        let name =
            Name::new(&request.name).map_err(|error| AdminError::Invalid(error.to_string()))?;
        let id = if request.gateway {
            self.desk.joins.check_name(&name)?;
            SpiffeId::of_process(domain, "gateway", &name)
        } else if snapshot.config().identities.contains_key(&name) {
            let id = SpiffeId::of_identity(domain, &name);
            if snapshot.workload(&id).is_none() {
                return Err(AdminError::Invalid(format!(
                    "`{name}` is a partner, whose certificates its own authority issues"
                )));
            }
            id
        } else {
            return Err(AdminError::NotFound(format!(
                "no identity `{name}` is configured"
            )));
        };
        let issued = self
            .desk
            .ca
            .issue(&request.csr, &id, self.desk.point.now())?;
        if request.gateway {
            let at = self.desk.point.now();
            let store = &self.desk.store;
            store.hand_gateway(&name, &issued.leaf, at).await?;
        }
        self.desk
            .store
            .insert_certificate(&certificate(&issued))
            .await?;
        Ok(IssuedIdentity {
            bundle: self.desk.ca.bundle(),
            chain: issued.chain,
            endpoints: self.desk.endpoints.read().clone(),
            leaf: issued.leaf,
            not_after: issued.not_after,
            spiffe_id: id.as_str().to_owned(),
        })
    }

    async fn list(&self, snapshot: &Snapshot) -> Result<Vec<IdentityEntry>, AdminError> {
        let mut entries = Vec::new();
        let now = self.desk.point.now();
        for (name, identity) in &snapshot.config().identities {
            let id = SpiffeId::of_identity(&snapshot.config().trust_domain, name);
            let certificates = self.desk.store.certificates_of(&id, now).await?.len() as u64;
            entries.push(IdentityEntry {
                certificates,
                name: name.to_string(),
                spiffe_id: id.to_string(),
                unix_user: identity.unix_user().map(str::to_owned),
            });
        }
        Ok(entries)
    }
}

/// What the store keeps of an issued certificate.
pub(crate) fn certificate(issued: &Issued) -> IssuedCertificate {
    IssuedCertificate {
        leaf: issued.leaf,
        serial: issued.serial.clone(),
        spiffe_id: issued.spiffe_id.clone(),
        issuer: issued.issuer,
        not_before: issued.not_before,
        not_after: issued.not_after,
    }
}
