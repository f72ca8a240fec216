use countersign_enforce::EnforcementPoint;
use countersign_net::SvidSource;
use countersign_net::TokenVerifier;
use countersign_wire::control::ControlPlane;
use std::sync::Arc;

/// Whom a gateway asks, and who it is.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) point: EnforcementPoint,
    pub(crate) svid: Arc<SvidSource>,
    pub(crate) tokens: TokenVerifier,
}
