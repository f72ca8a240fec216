use crate::browser::Sessions;
use crate::plane::Plane;
use crate::upstreams::Upstreams;

/// What all requests of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plane: Plane,
    pub(crate) sessions: Sessions,
    pub(crate) upstreams: Upstreams,
}
