use crate::browser::Sessions;
use crate::observe::Observer;
use crate::plane::Plane;
use crate::upstreams::Upstreams;
use std::sync::Arc;
use std::sync::OnceLock;

/// What all requests of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    pub(crate) plane: Plane,
    pub(crate) sessions: Sessions,
    pub(crate) upstreams: Upstreams,
}
