use crate::body::Room;
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
    /// For bodies that rules read.
    pub(crate) room: Room,
    pub(crate) sessions: Sessions,
    pub(crate) upstreams: Upstreams,
}
