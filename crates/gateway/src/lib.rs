//! The data plane: listeners that take in requests, and upstreams that admitted ones go to.
//!
//! It decides nothing. Every request becomes one question to the
//! [`EnforcementPoint`](countersign_enforce::EnforcementPoint), and only an
//! [`Admitted`](countersign_enforce::Admitted) hop is forwarded: service, method and path are
//! taken from the admission, so what was decided is what is sent. The way of a request is on one
//! screen in `phases`.
//!
//! Start with [`Gateway::start`].

mod apart;
mod body;
mod browser;
mod connected;
mod error;
mod gateway;
mod grpc;
mod home;
mod listeners;
mod memory;
mod mesh;
mod observe;
mod phases;
mod place;
mod plane;
mod quota;
mod refuse;
mod request;
mod shared;
mod to_the_end;
mod updates;
mod upstreams;
mod workers;

pub mod remote;

pub use apart::Apart;
pub use apart::ApartError;
pub use apart::ApartOptions;
pub use apart::is_joined;
pub use apart::join;
pub use error::GatewayError;
pub use gateway::Gateway;
pub use gateway::GatewayOptions;
pub use listeners::Doors;
pub use listeners::PreparedDoors;
pub use memory::MemoryError;
pub use observe::Answered;
pub use observe::Called;
pub use observe::Observer;
pub use observe::Trace;
