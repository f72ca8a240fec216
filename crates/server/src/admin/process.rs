use super::AdminError;
use super::Operator;
use super::done;
use crate::reload::Change;
use crate::reload::Reloaded;
use crate::reload::Via;
use crate::store::Activation;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::SpiffeId;
use countersign_wire::admin::GatewayStatus;
use countersign_wire::admin::Join;
use countersign_wire::admin::Status;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// `POST /v1/admin/reload`: the configuration to put in force. Decided as `admin reload` of
/// `console`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Everything but the doing.
    #[serde(default)]
    pub dry_run: bool,
    /// The file to start from.
    pub entry: String,
    /// The files by name.
    pub files: BTreeMap<String, String>,
}

impl Operator {
    /// What gateways join with. Decided as `admin join` of `console`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn join(&self) -> Result<Join, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "join"))
            .await?;
        let join = self.desk.joins.told();
        done(&admitted, Ok(join))
    }

    /// How the server is. Decided as `admin status` of `console`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn status(&self) -> Result<Status, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "status"))
            .await?;
        let status = self.now().await;
        done(&admitted, status)
    }

    /// Puts another configuration in force, or changes nothing. Decided as `admin reload` of
    /// `console`.
    ///
    /// # Errors
    /// [`AdminError::Reload`] says what is wrong with it.
    pub fn reload(&self, request: Reload) -> BoxFuture<'_, Result<Reloaded, AdminError>> {
        Box::pin(self.reload_via(Via::Command, request))
    }

    /// The same, because the process was sent a signal.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub fn reload_on_signal(&self, request: Reload) -> BoxFuture<'_, Result<Reloaded, AdminError>> {
        Box::pin(self.reload_via(Via::Sighup, request))
    }

    async fn reload_via(&self, via: Via, request: Reload) -> Result<Reloaded, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "reload"))
            .await?;
        let Reload {
            dry_run,
            entry,
            files,
        } = request;
        let change = Change {
            actor: self.name(),
            dry_run,
            entry,
            files,
            via,
        };
        let reloaded = self.desk.reloader.reload(change).await;
        done(&admitted, reloaded.map_err(AdminError::from))
    }

    async fn now(&self) -> Result<Status, AdminError> {
        let active = self.desk.store.active().await?;
        let snapshot = self.desk.point.snapshot();
        let file = self.desk.file.compared_with(&snapshot).await;
        let gateways = self.gateways().await?;
        Ok(Status {
            file,
            gateways,
            ..self.measured(active)
        })
    }

    /// The gateways of their own that have joined and are not revoked.
    async fn gateways(&self) -> Result<Vec<GatewayStatus>, AdminError> {
        let desk = &self.desk;
        let state = desk.point.state();
        let domain = &state.snapshot.config().trust_domain;
        let mut gateways = Vec::new();
        for name in desk.store.gateways().await? {
            let id = SpiffeId::of_process(domain, "gateway", &name);
            if state.revocations.workload(&id).is_some() {
                continue;
            }
            let last = desk.nodes.last(&name);
            let position = desk.audit.log().position(name.as_str());
            let taken = position.map_or(0, |it| it.next);
            gateways.push(GatewayStatus {
                heard: last.map(|(at, _)| at),
                name: name.to_string(),
                unshipped: last.map_or(0, |(_, next)| next.saturating_sub(taken)),
            });
        }
        Ok(gateways)
    }

    fn measured(&self, active: Option<Activation>) -> Status {
        let desk = &self.desk;
        let state = desk.point.state();
        let counts = desk.point.counts();
        let config = state.snapshot.config();
        let endpoints = desk.endpoints.read().clone();
        let mut listeners = vec![("control".to_owned(), endpoints.server)];
        let configured = config.listeners.iter();
        listeners.extend(configured.map(|(name, it)| (name.to_string(), it.bind.to_string())));
        Status {
            activated: active.as_ref().map(|it| it.at),
            activated_by: active.map(|it| it.actor),
            admitted: counts.admitted,
            dev: state.snapshot.is_development(),
            epoch: state.revocations.epoch(),
            file: None,
            gateways: Vec::new(),
            log_key: desk.audit.verifier().to_string(),
            log_size: desk.audit.signed().claimed().size,
            open: desk.point.open() as u64,
            refused: counts.refused,
            revision: *state.snapshot.revision(),
            listeners,
            started: desk.started,
            trust_domain: config.trust_domain.as_str().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
