use super::Refusal;
use crate::config::OperationRule;
use crate::hop::Hop;
use crate::hop::SchemaVerdict;
use crate::snapshot::Snapshot;
use crate::vocabulary::Code;

/// Whether the body has the form that the rule at this place asks of it. The enforcement point has
/// read it; what counts is what it found by this very schema, and nothing found is no word.
pub(super) fn body(
    snapshot: &Snapshot,
    hop: &Hop,
    (place, rule): (usize, &OperationRule),
) -> Result<(), Refusal> {
    let Some(file) = &rule.body_schema else {
        return Ok(());
    };
    let schema = snapshot.body_schema(&hop.service, place);
    let verdicts = hop.facts.schemas.iter();
    let mut verdicts =
        verdicts.filter(|it| schema.is_some_and(|schema| it.schema == *schema.hash()));
    let refused = |what: &str| Err((Code::BODY_SCHEMA, format!("{what} `{}`", file.path)));
    match verdicts.next() {
        None => refused("the body was not judged by"),
        Some(first) => match std::iter::once(first).chain(verdicts).find(|it| !it.valid) {
            None => Ok(()),
            Some(verdict) => refused(&format!("{} by", said(verdict))),
        },
    }
}

/// By which keywords alone: where in the body has names that its sender chose, and reasons are also
/// in logs.
fn said(verdict: &SchemaVerdict) -> String {
    let rules = verdict.faults.iter().map(|it| format!("`{}`", it.rule));
    let rules: std::collections::BTreeSet<_> = rules.collect();
    let rules: Vec<_> = rules.into_iter().collect();
    match rules.as_slice() {
        [] => "the body is refused".to_owned(),
        rules => format!("the body is refused ({})", rules.join(", ")),
    }
}
