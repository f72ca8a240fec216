//! A change that loosens the configuration, and the second person who agrees or doesn't.
//!
//! What is approved is one revision in place of one other: the hash of all that would be in force,
//! and of all that was when it was asked for. It is approved once, within an hour, by somebody in
//! a role that the configuration *in force* names and who did not ask for it.

use super::Change;
use super::ReloadError;
use super::Reloaded;
use super::Reloader;
use super::Report;
use super::Via;
use super::checked;
use super::report;
use crate::ids::request_id;
use crate::store::ChangeRow;
use crate::store::Verdict;
use crate::whole::whole;
use countersign_core::change::Difference;
use countersign_core::change::difference;
use countersign_core::config::Config;
use countersign_core::config::Member;
use countersign_core::hop::RequestFault;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::clip;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// A change of the configuration that waits for a second person, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The revision that it replaces.
    pub base: Digest,
    /// Until when it may be decided on.
    pub ends: Timestamp,
    /// `c-` and 12 hex digits.
    pub id: String,
    /// What it loosens, a line each.
    pub loosens: Vec<String>,
    /// Who else may approve it: members of the roles who administer here, without whoever asked.
    pub others: Vec<String>,
    /// When it was asked for.
    pub requested: Timestamp,
    /// By whom.
    pub requested_by: String,
    /// The revision that it puts in force.
    pub revision: Digest,
    /// Roles of which one other member approves it.
    pub roles: Vec<Name>,
    /// What became of it: `pending`, `approved`, `denied`, `expired` or `outdated`.
    pub state: String,
    /// Who decided, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
}

/// How long somebody has to agree.
const LIFE: Duration = Duration::from_secs(3600);
/// The most that is kept of what a change loosens: lines, and bytes of each.
const LINES: usize = 64;
const LINE: usize = 256;

impl Pending {
    fn new(row: ChangeRow, now: &Snapshot, at: Timestamp) -> Self {
        let state = match &row.verdict {
            Some(verdict) if verdict.approved => "approved",
            Some(_) => "denied",
            None if row.ends <= at => "expired",
            None if row.base != *now.revision() => "outdated",
            None => "pending",
        };
        let others = approvers(now.config())
            .into_iter()
            .filter(|member| administers(member, now.config()))
            .filter(|member| !is_requester(member, &row, now));
        Self {
            base: row.base,
            ends: row.ends,
            others: others.map(Member::to_string).collect(),
            id: row.id,
            loosens: row.loosens,
            requested: row.requested,
            requested_by: row.requested_by,
            revision: row.revision,
            roles: now.config().change.approve.clone(),
            state: state.to_owned(),
            decided_by: row.verdict.map(|it| it.by),
        }
    }

    /// What whoever asked for it is told.
    pub(super) fn told(&self) -> String {
        let roles = self.roles.iter().map(|it| format!("`{it}`"));
        let roles = roles.collect::<Vec<_>>().join(" or ");
        let (id, requested_by) = (&self.id, &self.requested_by);
        let loosens = self.loosens.join("; ");
        let next = if self.others.is_empty() {
            "but nobody else who administers here is: a second person is an identity with `attest: \
             { unix: { user } }` in that role, and where one person is alone, `change: { approve }` \
             is left out before the first start"
                .to_owned()
        } else {
            let others = self.others.join(", ");
            format!(
                "which is {others}: `countersign change approve {id}` within an hour, as that system \
                 user; the administration socket opens for the server's user, root and the group of \
                 its folder, if that has mode 0710"
            )
        };
        format!(
            "needs approval by a member of {roles} who is not `{requested_by}`, {next} (it \
             loosens {loosens})"
        )
    }
}

impl Reloader {
    /// The newest changes that wait or waited, newest first.
    ///
    /// # Errors
    /// [`ReloadError::Store`].
    pub(crate) async fn changes(&self) -> Result<Vec<Pending>, ReloadError> {
        let (now, at) = (self.point.snapshot(), self.point.now());
        let rows = self.store.changes(100).await?;
        let shown = rows.into_iter().map(|row| Pending::new(row, &now, at));
        Ok(shown.collect())
    }

    /// One of them, with what it would change.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub(crate) async fn change(
        &self,
        id: &str,
    ) -> Result<Option<(Pending, Difference)>, ReloadError> {
        let Some(row) = self.store.change(id).await? else {
            return Ok(None);
        };
        let base = super::compile(self.snapshots.read(&row.base)?)?;
        let next = super::compile(self.snapshots.read(&row.revision)?)?;
        let difference = difference(base.config(), next.config());
        let (now, at) = (self.point.snapshot(), self.point.now());
        Ok(Some((Pending::new(row, &now, at), difference)))
    }

    /// Why this person may not decide on a change, whatever else they may; the decision refuses it
    /// in the pillar of the code.
    ///
    /// # Errors
    /// [`ReloadError::Store`].
    pub(crate) async fn objection(
        &self,
        id: &str,
        (actor, identity): (&str, Option<&Name>),
    ) -> Result<Option<RequestFault>, ReloadError> {
        let Some(row) = self.store.change(id).await? else {
            return Ok(None);
        };
        let (now, at) = (self.point.snapshot(), self.point.now());
        let fault = |code, detail: &str| {
            Ok(Some(RequestFault {
                code,
                detail: detail.to_owned(),
            }))
        };
        if row.verdict.is_some() {
            return fault(Code::REPLAYED, "the change was decided on before");
        }
        if row.ends <= at {
            return fault(Code::APPROVAL_ENDED, "nobody decided on it within an hour");
        }
        if row.base != *now.revision() {
            let detail = "another revision is in force than the one it was asked for on";
            return fault(Code::APPROVAL_ENDED, detail);
        }
        let member = identity.map(|name| Member::Identity(name.clone()));
        if row.requested_by == actor || member.is_some_and(|it| is_requester(&it, &row, &now)) {
            return fault(
                Code::SELF_APPROVAL,
                "whoever asks for a change can't approve it",
            );
        }
        let is_approver = |name| {
            let member = Member::Identity(Name::clone(name));
            approvers(now.config()).contains(&member)
        };
        if !identity.is_some_and(is_approver) {
            return fault(
                Code::ROLE_LACKS,
                "not a member of a role of `change: { approve }`",
            );
        }
        Ok(None)
    }

    /// Puts a change in force that `actor` agrees to, or never.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed, but a change that was approved and failed has to
    /// be asked for again.
    pub(crate) async fn conclude(
        &self,
        id: &str,
        approved: bool,
        actor: &str,
    ) -> Result<Option<Reloaded>, ReloadError> {
        let (reloader, id, actor) = (self.clone(), id.to_owned(), actor.to_owned());
        whole(async move {
            let _reloading = reloader.reloading.lock().await;
            if approved {
                let approved = reloader.approved(&id, &actor).await;
                if let Err(error) = &approved {
                    let report = Report::new("config.reload", reloader.point.now(), &actor);
                    let report = report.via(Via::Approval).with("change", id);
                    report.refused(error).record(&reloader.point).await;
                }
                return approved.map(Some);
            }
            reloader.used(&id, false, &actor).await?;
            let report = Report::new("config.change.deny", reloader.point.now(), &actor);
            report.with("change", id).record(&reloader.point).await;
            Ok(None)
        })
        .await
    }

    /// Keeps a change until somebody else agrees.
    pub(super) async fn propose(
        &self,
        before: &Snapshot,
        next: &Snapshot,
        change: &Change,
        difference: &Difference,
    ) -> Result<Pending, ReloadError> {
        self.snapshots.keep(next.bundle())?;
        let now = self.point.now();
        let lines = difference.loosens.iter().take(LINES).map(report::told);
        let random = request_id();
        let random: String = random.chars().filter(|it| *it != '-').take(12).collect();
        if random.len() != 12 {
            return Err(ReloadError::Spent("there is no randomness to name it with"));
        }
        let row = ChangeRow {
            id: format!("c-{random}"),
            base: *before.revision(),
            revision: *next.revision(),
            requested_by: change.actor.clone(),
            requested: now,
            ends: now.plus(LIFE),
            loosens: lines.map(|line| clip(&line, LINE).to_owned()).collect(),
            verdict: None,
        };
        self.store.insert_change(&row).await?;
        let report = Report::new("config.change.request", now, &change.actor);
        let report = report.via(change.via).with("change", row.id.clone());
        let report = report.revisions(&row.base, &row.revision);
        report.difference(difference).record(&self.point).await;
        Ok(Pending::new(row, before, now))
    }

    async fn approved(&self, id: &str, actor: &str) -> Result<Reloaded, ReloadError> {
        let row = self.store.change(id).await?;
        let row = row.ok_or(ReloadError::Spent("there is none of this name"))?;
        let before = self.point.snapshot();
        if row.base != *before.revision() {
            return Err(self.superseded().await);
        }
        let next = checked(self.snapshots.read(&row.revision)?)?;
        let ready = self.ready(&next).await?;
        // Used up before it has an effect: a crash in between costs a second asking, no second use.
        self.used(id, true, actor).await?;
        let report = Report::new("config.reload", self.point.now(), actor);
        let report = report.via(Via::Approval).with("change", id);
        let report = report.with("requested_by", row.requested_by);
        let difference = difference(before.config(), next.config());
        self.put_in_force((&before, &next), ready, difference, report)
            .await
    }

    async fn used(&self, id: &str, approved: bool, actor: &str) -> Result<(), ReloadError> {
        let verdict = Verdict {
            approved,
            by: actor.to_owned(),
            at: self.point.now(),
        };
        if self.store.decide_change(id, &verdict).await? {
            return Ok(());
        }
        Err(ReloadError::Spent("somebody decided on it, or it ended"))
    }
}

/// The members of the roles that approve. Only whoever is named there: a role that includes
/// another has its permissions, not its duties.
fn approvers(config: &Config) -> BTreeSet<&Member> {
    let roles = config.change.approve.iter();
    let roles = roles.filter_map(|name| config.roles.get(name));
    roles.flat_map(|role| &role.members).collect()
}

/// Whether a member is a system user, as whom somebody comes to the administration socket.
fn administers(member: &Member, config: &Config) -> bool {
    let Member::Identity(name) = member else {
        return false;
    };
    let identity = config.identities.get(name);
    identity.is_some_and(|it| it.unix_user().is_some())
}

/// Whether a member is who asked: as the system user of that name, or under it.
fn is_requester(member: &Member, row: &ChangeRow, now: &Snapshot) -> bool {
    let Member::Identity(name) = member else {
        return false;
    };
    let user = row.requested_by.strip_prefix("unix:");
    user.and_then(|user| now.local_identity(user)) == Some(name)
}
