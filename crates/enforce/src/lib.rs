//! The enforcement point: from evidence to an admission that can be forwarded.
//!
//! [`EnforcementPoint::enforce`] is what every front calls. It asks the one decision function,
//! takes the reservations the verdict demands, appends the record and waits for the ledger's
//! promise; only then is there an [`Admitted`]. It knows nothing of HTTP, routes or storage, and
//! it is the only place outside the core that decides.
//!
//! Between hops it holds what a decision needs: the [`Snapshot`](countersign_core::snapshot::Snapshot)
//! in force, the revocations up to an epoch, how fresh both are, what budgets have been spent, how
//! often everybody called, and which streams are open, so that what is revoked ends.

mod admitted;
mod budgets;
mod clock;
mod each_second;
mod excess;
mod flood;
mod inner;
mod observe;
mod point;
mod rates;
mod refusal;
mod refusing;
mod reserving;
mod room;
mod settling;
mod streams;
mod tasks;
mod telling;
mod view;

pub use admitted::Admitted;
pub use clock::Clock;
pub use clock::SystemClock;
pub use each_second::EachSecond;
pub use flood::network;
pub use observe::Decided;
pub use observe::Observer;
pub use observe::SAMPLE;
pub use point::Ask;
pub use point::Counts;
pub use point::EnforcementPoint;
pub use refusal::Refusal;
pub use room::damage_record;
pub use streams::Cut;
pub use tasks::Tasks;
pub use tasks::Threads;
pub use telling::Spending;
