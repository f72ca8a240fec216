use crate::plane::Plane;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_wire::control::ControlError;
use countersign_wire::control::InjectedSecret;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::time::Duration;

/// Secrets that are put into calls: in memory, for at most a minute.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    kept: Mutex<HashMap<Name, Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// When it was read, by the boot-time clock.
    at: Duration,
    /// What it was read under; a revocation or another policy may refuse it.
    known: (u64, Digest),
    secret: InjectedSecret,
}

/// How long one is used without asking again: the bound on using a value that was rotated.
const LIFETIME: Duration = Duration::from_secs(60);

impl Credentials {
    /// The secret of this name, read from the vault as ourselves if need be.
    pub(crate) async fn secret(
        &self,
        plane: &Plane,
        name: &Name,
    ) -> Result<InjectedSecret, ControlError> {
        let state = plane.point.state();
        let known = (state.revocations.epoch(), *state.snapshot.revision());
        let at = plane.point.clock().boot();
        let fresh = |kept: &&Kept| kept.known == known && at.saturating_sub(kept.at) < LIFETIME;
        if let Some(kept) = self.kept.lock().get(name).filter(fresh) {
            return Ok(kept.secret.clone());
        }
        let secret = match plane.control.credential(name.clone()).await {
            Ok(secret) => secret,
            Err(error) => {
                self.kept.lock().remove(name);
                return Err(error);
            }
        };
        let kept = Kept {
            at,
            known,
            secret: secret.clone(),
        };
        self.kept.lock().insert(name.clone(), kept);
        Ok(secret)
    }

    /// Forgets a secret that an upstream no longer takes: it may have been rotated.
    pub(crate) fn forget(&self, name: &Name) {
        self.kept.lock().remove(name);
    }
}
