//! What the records of this pillar say beside the hop: what came out, and what let it through.

use super::super::Denial;
use super::super::denial::CHOSEN;
use super::super::identity::Caller;
use super::super::identity::Subject;
use super::super::least_privilege::PrivilegeProof;
use super::super::micro_segmentation::Way;
use super::Admission;
use crate::record::Completion;
use crate::record::Context;
use crate::record::Record;
use crate::record::Status;
use crate::vocabulary::Timestamp;
use countersign_ledger::JsonObject;
use countersign_ledger::NotAnObject;
use std::borrow::Cow;

pub(super) fn allowed<'a>(proof: &'a PrivilegeProof, context: &Context<'a>) -> Record<'a> {
    let mut record = Record::decision(proof.hop(), proof.state(), context);
    record.principal.on_behalf_of = on_behalf(proof.caller(), proof.subject());
    record.rates = Cow::Borrowed(proof.charged());
    record.reservations = Cow::Borrowed(proof.outcomes());
    record.way = Some(match proof.way() {
        Way::Edge(index) => match proof.state().snapshot.config().edges.get(index) {
            Some(edge) => Cow::Owned([edge.from.as_str(), " -> ", edge.to.as_str()].concat()),
            None => Cow::Borrowed("edge"),
        },
        Way::BuiltIn => Cow::Borrowed("built-in"),
        Way::Open => Cow::Borrowed("ZT_OFF"),
    });
    record
}

impl Denial {
    /// The record of this refusal.
    #[must_use]
    pub fn record<'a>(&'a self, context: &Context<'a>) -> Record<'a> {
        let mut record = Record::decision(self.hop(), self.state(), context);
        record.status = Status::Denied;
        record.code = Some(self.code());
        record.pillar = Some(self.pillar());
        record.reason = Some(Cow::Borrowed(self.reason()));
        record.rates = Cow::Borrowed(self.charged());
        record.reservations = Cow::Borrowed(self.outcomes());
        if self.is_stranger() {
            shorten(&mut record);
        }
        record
    }

    /// The record of this refusal without the hop, for one that the ledger finds too large. It
    /// says who was refused what and why, but can't be decided again.
    #[must_use]
    pub fn reduced_record<'a>(&'a self, context: &Context<'a>) -> Record<'a> {
        let mut record = self.record(context);
        record.hop = None;
        record.rates = Cow::Borrowed(&[]);
        record.reservations = Cow::Borrowed(&[]);
        record.metadata.insert("reduced".into(), "true".into());
        shorten(&mut record);
        record
    }
}

/// Keeps at most 256 bytes each of what a caller chose.
fn shorten(record: &mut Record<'_>) {
    let principal = &mut record.principal;
    let chosen = [
        Some(&mut record.action),
        Some(&mut record.resource.id),
        Some(&mut record.resource.service),
        principal.on_behalf_of.as_mut(),
        principal.token_jti.as_mut(),
        record.reason.as_mut(),
        record.trace_id.as_mut(),
    ];
    let long = |text: &&mut Cow<'_, str>| text.len() > CHOSEN;
    for text in chosen.into_iter().flatten().filter(long) {
        *text = Cow::Owned(crate::vocabulary::clip(text, CHOSEN).to_owned());
    }
}

impl Admission {
    /// The record of how this ended, in canonical JSON.
    ///
    /// # Errors
    /// [`NotAnObject`] if it could not be written, so that no spool takes it.
    pub fn completion(
        &self,
        completion: Completion,
        at: Timestamp,
    ) -> Result<JsonObject, NotAnObject> {
        let mut record = Record::ending(self.hop(), at);
        if let (Caller::Partner { .. }, Some(id)) = (
            self.caller(),
            self.snapshot().id_of(&self.hop().evidence.peer),
        ) {
            record.principal.id = Cow::Owned(id.to_string());
        }
        record.principal.on_behalf_of = on_behalf(self.caller(), self.subject());
        record.status = completion.status();
        record.completion = Some(completion);
        record.to_object()
    }
}

fn on_behalf<'a>(caller: &Caller, subject: &'a Subject) -> Option<Cow<'a, str>> {
    let own = caller
        .name()
        .is_some_and(|name| matches!(subject, Subject::Workload(it) if it.as_str() == name));
    match subject {
        Subject::Process { .. } => None,
        Subject::Person { user, .. } => Some(Cow::Borrowed(user)),
        Subject::Workload(_) if own => None,
        other => Some(Cow::Owned(other.to_string())),
    }
}
