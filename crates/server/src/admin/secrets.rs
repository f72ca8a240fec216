use super::AdminError;
use super::Operator;
use super::done;
use crate::vault::SecretData;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::clip;
use countersign_enforce::Admitted;
use countersign_wire::admin::PutSecret;
use countersign_wire::admin::SecretEntry;

impl Operator {
    /// The configured secrets, without a value. Decided as `admin secrets` of `console`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn secrets(&self) -> Result<Vec<SecretEntry>, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "secrets"))
            .await?;
        let listed = self
            .desk
            .secrets
            .list(admitted.admission().snapshot())
            .await;
        done(&admitted, listed.map_err(AdminError::from))
    }

    /// Writes a version of a secret. Decided as `write NAME` of `vault`.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] for a name the configuration does not have, and the others.
    pub async fn put_secret(
        &self,
        name: &str,
        secret: &PutSecret,
    ) -> Result<SecretEntry, AdminError> {
        let admitted = self
            .ask("vault", Operation::named("write", clip(name, 256)))
            .await?;
        let written = self.write(name, secret, &admitted).await;
        done(&admitted, written)
    }

    /// The newest version of a secret, in the clear. Decided as `read NAME` of `vault`: only its
    /// readers get it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn secret(&self, name: &str) -> Result<SecretData, AdminError> {
        let admitted = self
            .ask("vault", Operation::named("read", clip(name, 256)))
            .await?;
        let read = self.read(name, &admitted).await;
        done(&admitted, read)
    }

    async fn write(
        &self,
        name: &str,
        secret: &PutSecret,
        admitted: &Admitted,
    ) -> Result<SecretEntry, AdminError> {
        let data = SecretData::from_fields(&secret.data)?;
        let snapshot = admitted.admission().snapshot();
        let configured = snapshot.secret(name).ok_or_else(|| unknown(name))?;
        let actor = self.name();
        let written = self
            .desk
            .secrets
            .write(name, configured, data, None, &actor)
            .await?;
        Ok(SecretEntry {
            name: name.to_owned(),
            updated: Some(written.created),
            version: written.version,
        })
    }

    async fn read(&self, name: &str, admitted: &Admitted) -> Result<SecretData, AdminError> {
        let snapshot = admitted.admission().snapshot();
        let configured = snapshot.secret(name).ok_or_else(|| unknown(name))?;
        Ok(self.desk.secrets.read(configured, None).await?.data)
    }
}

fn unknown(name: &str) -> AdminError {
    AdminError::NotFound(format!("no secret `{}` is configured", clip(name, 64)))
}
