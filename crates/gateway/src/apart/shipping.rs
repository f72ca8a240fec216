//! Taking this node's records to the server's log: in order, again and again until the server says
//! it has them, which makes it exactly once by (node, sequence) whatever is killed when.

use crate::memory::Distrust;
use crate::memory::Memory;
use crate::memory::UNASKED;
use crate::remote::RemotePlane;
use bytes::Bytes;
use countersign_core::vocabulary::Digest;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::spool::Head;
use countersign_ledger::spool::SpoolError;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Delivery;
use countersign_wire::control::Said;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where a node's records are on their way.
pub(crate) struct Shipping {
    /// Whether this spool is known to continue what the server has of it.
    asked: bool,
    /// When everything written until then had been shipped, by the boot-time clock.
    clean: Duration,
    /// What may be forgotten once the log has grown twice: a checkpoint signed after the server
    /// took these records is among those.
    forget: Option<(u64, u64)>,
    memory: Arc<Memory>,
    /// How many records the server is known to have.
    shipped: Arc<AtomicU64>,
    /// The sequence that the server wants; not known before it was asked.
    next: Option<u64>,
    plane: RemotePlane,
    point: EnforcementPoint,
}

/// What keeps records from being shipped.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the server has {wanted} records of this node, whose spool has {has}")]
    Ahead { wanted: u64, has: u64 },
    #[error("the server has {wanted} records of this node, which are not those of its spool")]
    Forked { wanted: u64 },
    #[error("the server wants record {wanted} of this node, whose spool begins at {first}")]
    Lost { wanted: u64, first: u64 },
}

/// Bytes at once, beyond the first leaf.
const BYTES: usize = 4 << 20;
/// New records wait so long for others to go with them.
const GATHER: Duration = Duration::from_millis(100);
/// The spool's head is said so often.
const HEAD: Duration = Duration::from_secs(1);

impl Shipping {
    pub(crate) fn new(point: EnforcementPoint, plane: RemotePlane, memory: Arc<Memory>) -> Self {
        Self {
            asked: false,
            clean: point.clock().boot(),
            forget: None,
            memory,
            shipped: Arc::default(),
            next: None,
            plane,
            point,
        }
    }

    /// How many records the server is known to have; kept current.
    pub(crate) fn shipped(&self) -> Arc<AtomicU64> {
        self.shipped.clone()
    }

    /// Ships for as long as the gateway lives.
    pub(crate) async fn run(mut self) {
        let mut written = self.point.spool().watch();
        loop {
            self.round().await;
            let more = async {
                if written.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(GATHER).await;
            };
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep(HEAD) => {}
            }
        }
    }

    /// Ships what there is, says where the spool is, and judges how late it is.
    pub(crate) async fn round(&mut self) {
        self.point.look_at_room();
        let (begun, head) = (self.point.clock().boot(), self.point.spool().head());
        // Before as well as after: a server that does not answer is to know what it misses.
        self.say(head);
        let shipped = self.ship(head.next).await;
        if shipped.is_ok() {
            self.clean = begun;
        }
        // What has been written meanwhile is news; what was said is not said twice.
        let now = self.point.spool().head();
        if now != head {
            self.say(now);
        }
        let bound = self.point.snapshot().config().staleness.policy;
        let late = self.point.clock().boot().saturating_sub(self.clean) > bound;
        let why = match shipped {
            Ok(()) => None,
            // None of these passes by waiting.
            Err(
                error @ (ShipError::Ahead { .. }
                | ShipError::Forked { .. }
                | ShipError::Lost { .. }),
            ) => Some(error.to_string()),
            Err(error) => {
                tracing::warn!(%error, "records are not shipped");
                let bound = bound.as_secs();
                let overdue = || format!("records have not reached the log for over {bound} s");
                let unasked = || (!self.asked).then(|| UNASKED.to_owned());
                late.then(overdue).or_else(unasked)
            }
        };
        self.memory.distrust(Distrust::Shipping, why);
    }

    /// Tells the server where the spool is.
    fn say(&self, head: Head) {
        self.plane.say(Said::Head {
            hash: Digest::new(head.hash),
            next: head.next,
        });
    }

    async fn ship(&mut self, end: u64) -> Result<(), ShipError> {
        let spool = self.point.spool().clone();
        let mut next = match self.next {
            Some(next) => next,
            None => self.asked_next().await?,
        };
        loop {
            let (first, has) = (spool.first(), spool.head().next);
            if next > has {
                self.next = None;
                return Err(ShipError::Ahead { wanted: next, has });
            }
            if next < first {
                self.next = None;
                return Err(ShipError::Lost {
                    wanted: next,
                    first,
                });
            }
            self.next = Some(next);
            self.asked = true;
            self.shipped.store(next, Ordering::Relaxed);
            if next >= end {
                break;
            }
            let leaves = spool.read_from(next, Delivery::LEAVES)?;
            let mut bytes = 0;
            let batch = leaves.into_iter().take_while(|leaf| {
                let fits = bytes == 0 || bytes + leaf.leaf.len() <= BYTES;
                bytes += leaf.leaf.len();
                fits
            });
            let batch = batch.map(|leaf| leaf.leaf).collect();
            next = match self.deliver(next, batch).await {
                Ok(next) => next,
                Err(error) => {
                    self.next = None;
                    return Err(error.into());
                }
            };
        }
        self.forget(next)
    }

    /// What the server wants next, if this spool continues what it has.
    async fn asked_next(&self) -> Result<u64, ShipError> {
        let Head { hash, next: wanted } = self.plane.position().await?;
        match self.point.spool().hash_before(wanted) {
            Ok(Some(ours)) if ours == hash => Ok(wanted),
            // It may have been put back to an earlier state and have grown since.
            Ok(Some(_)) => Err(ShipError::Forked { wanted }),
            Ok(None) => {
                let has = self.point.spool().head().next;
                Err(ShipError::Ahead { wanted, has })
            }
            Err(SpoolError::Forgotten { first }) => Err(ShipError::Lost { wanted, first }),
            Err(error) => Err(error.into()),
        }
    }

    /// Frees what is under a checkpoint that this gateway has witnessed.
    fn forget(&mut self, shipped: u64) -> Result<(), ShipError> {
        let witnessed = self.memory.witnessed();
        match self.forget {
            Some((before, seen)) if witnessed >= seen + 2 => {
                self.forget = None;
                self.point.spool().forget_before(before)?;
            }
            Some(_) => {}
            None => self.forget = Some((shipped, witnessed)),
        }
        Ok(())
    }

    async fn deliver(&self, first: u64, leaves: Vec<Bytes>) -> Result<u64, ControlError> {
        let node = self.memory.gateway().clone();
        let delivery = Delivery {
            first,
            leaves,
            node,
        };
        self.plane.deliver(delivery).await
    }
}
