//! What the ledger keeps of a change of the configuration: who, what, and what it loosens.

use super::ReloadError;
use super::Via;
use countersign_core::change::Difference;
use countersign_core::change::Finding;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::record::Status;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::clip;
use countersign_enforce::EnforcementPoint;
use std::borrow::Cow;

/// The most that is recorded of one list, in bytes; its length is always told.
const LIST: usize = 1024;
/// The most that is recorded of a reason, in bytes.
const REASON: usize = 512;

/// A record about the configuration, in the making.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    actor: &'a str,
    record: Record<'a>,
}

impl<'a> Report<'a> {
    /// About `event`, by `actor`.
    pub(crate) fn new(event: &'a str, at: Timestamp, actor: &'a str) -> Self {
        let resource = Resource {
            id: Cow::Borrowed("configuration"),
            service: Cow::Borrowed("console"),
        };
        Self {
            actor,
            record: Record::event(event, at, actor, resource),
        }
    }

    /// How it was asked for.
    pub(crate) fn via(self, via: Via) -> Self {
        self.with("source", via.word())
    }

    /// One revision in place of another.
    pub(crate) fn revisions(self, previous: &Digest, next: &Digest) -> Self {
        self.with("previous", previous.to_string())
            .with("revision", next.to_string())
    }

    /// A detail.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = Cow::Owned(value.into());
        self.record.metadata.insert(Cow::Borrowed(name), value);
        self
    }

    /// What is different. Names and keys, never a value: a value may be a secret that somebody
    /// wrote where none belongs.
    pub(crate) fn difference(mut self, difference: &Difference) -> Self {
        self = self
            .with("tests_removed", list(&difference.tests_removed))
            .with("tests_weakened", list(&difference.tests_weakened));
        let changes = difference.changes.iter().map(|change| {
            let (sign, noun) = (change.kind.sign(), change.section.noun());
            format!("{sign} {noun} {}", change.name)
        });
        self = self.with("diff", list(&changes.collect::<Vec<_>>()));
        let loosens = difference.loosens.iter().map(told).collect::<Vec<_>>();
        self.with("loosens", list(&loosens))
    }

    /// It was not done, and why.
    pub(crate) fn refused(self, error: &ReloadError) -> Self {
        self.failed(&error.without_text())
    }

    /// The same, in words that quote nothing of a configuration.
    pub(crate) fn failed(mut self, reason: &str) -> Self {
        self.record.status = Status::Failure;
        self.record.reason = Some(Cow::Owned(clip(reason, REASON).to_owned()));
        self
    }

    /// Makes it durable; a failure is logged, since what is reported has happened.
    pub(crate) async fn record(self, point: &EnforcementPoint) {
        if let Err(error) = point.record_event(&self.record).await {
            tracing::error!(%error, event = %self.record.event_type, "not recorded");
        }
    }

    /// By whom.
    pub(crate) const fn actor(&self) -> &'a str {
        self.actor
    }

    /// The record.
    pub(crate) fn into_record(self) -> Record<'a> {
        self.record
    }
}

/// A finding in a line: section, entry, what.
pub(crate) fn told(finding: &Finding) -> String {
    let noun = finding.section.noun();
    format!("{noun} {}: {}", finding.name, finding.what)
}

/// A list as text of bounded length; what is left out is counted.
fn list(items: &[String]) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        if text.len() + item.len() + 2 > LIST {
            let rest = items.len() - at;
            let more = format!("{}{rest} more", if at == 0 { "" } else { "; " });
            text.push_str(&more);
            break;
        }
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(item);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_says_how_much_is_left_out() {
        let items: Vec<String> = (0..1000).map(|at| format!("entry-{at:04}")).collect();
        let text = list(&items);
        assert!(text.len() <= LIST + 16, "{}", text.len());
        let told = text.matches("entry-").count();
        assert!(text.ends_with(&format!("; {} more", 1000 - told)), "{text}");
        assert_eq!(list(&items[..2]), "entry-0000; entry-0001");
        assert_eq!(list(&["x".repeat(5000)]), "1 more");
        assert_eq!(list(&[]), "");
    }
}
