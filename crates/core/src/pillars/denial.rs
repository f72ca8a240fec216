use super::least_privilege::Charged;
use super::least_privilege::Outcome;
use super::least_privilege::Reservation;
use crate::hop::Hop;
use crate::hop::PartnerCertificate;
use crate::hop::Peer;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use std::sync::Arc;

/// A refusal: what was asked, which pillar failed and why.
#[derive(Debug)]
pub struct Denial {
    hop: Arc<Hop>,
    state: State,
    code: Code,
    reason: String,
    reservation: Reservation,
}

impl Denial {
    pub(crate) fn new(
        mut hop: Arc<Hop>,
        state: State,
        code: Code,
        reason: impl Into<String>,
    ) -> Box<Self> {
        if is_stranger(&hop, &state.snapshot, code) {
            clip(Arc::make_mut(&mut hop), &state.snapshot);
        }
        Box::new(Self {
            hop,
            state,
            code,
            reason: reason.into(),
            reservation: Reservation::default(),
        })
    }

    pub(crate) fn after(mut self: Box<Self>, reservation: Reservation) -> Box<Self> {
        self.reservation = reservation;
        self
    }

    /// What came of the budgets, if it got that far.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        self.reservation.outcomes()
    }

    /// What came of the rate limits, if it got that far.
    #[must_use]
    pub fn charged(&self) -> &[Charged] {
        self.reservation.charged()
    }

    /// The rate limit that it was refused by; of several, the one to wait for longest.
    #[must_use]
    pub fn exceeded(&self) -> Option<&Charged> {
        let refused = self.charged().iter().filter(|it| !it.is_granted());
        refused
            .filter(|_| self.code == Code::RATE_EXCEEDED)
            .max_by_key(|it| it.reset_ms)
    }

    /// Whether nothing was proved about who asks: what such a caller chose is kept short, and its
    /// records have no claim on the ledger's reserve.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        is_stranger(&self.hop, &self.state.snapshot, self.code)
    }

    /// The code, which also says the pillar and the status.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The pillar that failed.
    #[must_use]
    pub const fn pillar(&self) -> Pillar {
        self.code.pillar()
    }

    /// Why, for those who may know.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What was asked.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        &self.hop
    }

    /// What it was decided on.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }
}

/// The most bytes of anything a stranger chose.
pub(super) const CHOSEN: usize = 256;

/// The most names of a stranger's certificate that mean nothing here.
const NAMES: usize = 4;

/// Who shows a join token has proved no more by it than that there was one: it may be long used,
/// and everybody reaches the port for them. A certificate of a partner's authority proves who it is
/// to that authority; here it is somebody if a name in it is one identity.
fn is_stranger(hop: &Hop, snapshot: &Snapshot, code: Code) -> bool {
    match &hop.evidence.peer {
        Peer::Joining { .. } => true,
        peer @ Peer::Partner(_) => snapshot.id_of(peer).is_none(),
        _ => code.pillar() <= Pillar::Identity && hop.evidence.leaf().is_none(),
    }
}

/// Shortens what a stranger chose. The checks that refuse strangers compare none of it with
/// anything this long, so the decision comes out the same from what is kept.
fn clip(hop: &mut Hop, snapshot: &Snapshot) {
    for text in [
        &mut hop.operation.object,
        &mut hop.operation.verb,
        &mut hop.service,
    ] {
        shorten(text);
    }
    hop.facts.requested_scope.clear();
    hop.facts.schemas.clear();
    hop.facts.requested_service.iter_mut().for_each(shorten);
    hop.facts.model.iter_mut().for_each(shorten);
    if let Some(fault) = &mut hop.facts.fault {
        shorten(&mut fault.detail);
    }
    if let Peer::Partner(certificate) = &mut hop.evidence.peer {
        clip_names(Arc::make_mut(certificate), snapshot);
    }
}

/// Keeps the names that are partners', because a certificate with two of them is none, and few
/// others. No partner has a name as long as those that are shortened.
fn clip_names(certificate: &mut PartnerCertificate, snapshot: &Snapshot) {
    let root = certificate.root;
    let mut others = 0;
    certificate.dns_names.retain(|name| {
        snapshot.is_of_partner(&root, name) || {
            others += 1;
            others <= NAMES
        }
    });
    certificate.dns_names.iter_mut().for_each(shorten);
    shorten(&mut certificate.serial);
}

fn shorten(text: &mut String) {
    let kept = crate::vocabulary::clip(text, CHOSEN).len();
    text.truncate(kept);
}
