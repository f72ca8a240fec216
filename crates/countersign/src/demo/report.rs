use super::proof::Proof;
use super::proof::Tampered;
use super::steps::Step;
use super::world::Ready;
use countersign_core::vocabulary::Pillar;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write as _;

/// How the tour went.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) log_key: String,
    pub(super) proof: Proof,
    pub(super) ready: Ready,
    pub(super) steps: Vec<Step>,
    pub(super) tampered: Tampered,
}

impl Report {
    /// Whether every step came out as it should, and the changed record was found.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.steps.iter().all(Step::holds) && self.tampered.finding.is_some()
    }

    /// The receipts of the steps, in order.
    #[must_use]
    pub fn receipts(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.receipt.clone()).collect()
    }

    /// The verifier key of the tour's log.
    #[must_use]
    pub fn log_key(&self) -> &str {
        &self.log_key
    }

    /// The document, without its schema.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "holds": self.holds(),
            "log_key": self.log_key,
            "proof": {
                "leaf": self.proof.leaf, "origin": self.proof.origin,
                "receipt": self.proof.receipt, "size": self.proof.size,
            },
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "tampered": {
                "finding": self.tampered.finding, "leaf": self.tampered.leaf,
                "receipt": self.tampered.receipt,
            },
            "trust_domain": self.ready.trust_domain,
        })
    }

    /// The transcript. `paint` colours a word as good or bad.
    #[must_use]
    pub fn text(&self, paint: &dyn Fn(bool, &str) -> String) -> String {
        let mut out = String::new();
        let tick = paint(true, "✔");
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {tick} CA {}   {tick} {} identities   {tick} {} services, one a fake model API   {tick} {} policy tests   {:.1} s\n",
            self.ready.trust_domain,
            self.ready.identities,
            self.ready.services,
            self.ready.tests,
            self.ready.took.as_secs_f32(),
        );
        for step in &self.steps {
            if step.number == 2 {
                out.push_str("\nFive attacks\n");
            }
            out.push_str(&line(step, paint));
        }
        out.push_str(&self.record(paint));
        out
    }

    fn record(&self, paint: &dyn Fn(bool, &str) -> String) -> String {
        let mut out = String::from("\nAnd the record\n");
        let proved = format!(
            "proof for {}: leaf {} of {}, checkpoint signed",
            self.proof.receipt, self.proof.leaf, self.proof.size
        );
        let _ = writeln!(out, "7  {proved:<62} {}", paint(true, "VERIFIED"));
        let edited = format!(
            "somebody edits record {} on disk, then we verify",
            self.tampered.receipt
        );
        let found = match &self.tampered.finding {
            Some(finding) => format!("{} {}  {finding}", paint(false, "✘"), Pillar::Audit),
            None => paint(false, "NOT FOUND"),
        };
        let _ = writeln!(out, "8  {edited:<62} {found}");
        out
    }
}

fn line(step: &Step, paint: &dyn Fn(bool, &str) -> String) -> String {
    let mark = if step.holds() {
        ""
    } else {
        "   <- should have come out otherwise"
    };
    let status = step
        .status
        .map_or_else(|| "-".to_owned(), |status| status.to_string());
    match step.pillar {
        None if step.allowed => {
            let tick = paint(true, "✔");
            let pillars: Vec<_> = Pillar::ALL
                .iter()
                .map(|pillar| format!("{tick} {pillar}"))
                .collect();
            format!(
                "{}  {}\n   {}   {status}   {}{mark}\n   {}\n",
                step.number,
                step.title,
                pillars.join(" "),
                step.receipt,
                "the API read its own key from the vault, which proved it again; the model's key was \
                 put in at the gateway, and the API never saw it",
            )
        }
        pillar => {
            let word = pillar.map_or("refused", Pillar::word);
            let reason = step.reason.as_deref().unwrap_or_default();
            let cross = paint(false, "✘");
            format!(
                "{}  {:<50} {cross} {word:<23} {status:<3}  {}  {reason}{mark}\n",
                step.number, step.title, step.receipt
            )
        }
    }
}

fn step(step: &Step) -> Value {
    json!({
        "allowed": step.allowed,
        "answer": step.answer,
        "code": step.code.map(|code| code.to_string()),
        "holds": step.holds(),
        "pillar": step.pillar.map(Pillar::word),
        "reason": step.reason,
        "receipt": step.receipt,
        "status": step.status,
        "step": step.number,
        "title": step.title,
    })
}
