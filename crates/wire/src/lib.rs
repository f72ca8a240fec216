//! Messages between countersign's own processes: what a gateway asks of the control plane, and
//! what a local command asks of the administration socket.
//!
//! It holds shapes, not behaviour. [`control::ControlPlane`] is the one interface between gateway
//! and server: in one process it is called directly, between two it travels over mTLS.

pub mod admin;
pub mod control;
pub mod join;
