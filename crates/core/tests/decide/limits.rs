//! Models, hours, budgets.

use crate::fixture::*;
use countersign_core::config::Options;
use countersign_core::config::load;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Hop;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;
use std::sync::Arc;

/// hms-api, for alice, asks the model.
pub(crate) fn chat(model: Option<&str>) -> Hop {
    let mut claims = claims("dev:alice", "openai", &["llm:chat"], "hms-api");
    claims.act = vec![id("hms-api"), id("countersign/door/web")];
    let mut hop = mesh(
        "hms-api",
        "mesh",
        "openai",
        Operation::named("POST", "/v1/chat/completions"),
        claims,
    );
    hop.facts.model = model.map(str::to_owned);
    hop.facts.body_bytes = Some(400);
    hop.facts.max_output_tokens = Some(100);
    hop
}

#[test]
fn only_allowed_models() {
    allowed(chat(Some("gpt-4o")));
    denied(chat(Some("o1")), Code::MODEL_REFUSED);
    denied(chat(Some("xgpt-4o")), Code::MODEL_REFUSED);
    denied(chat(None), Code::BODY_UNREADABLE);
}

#[test]
fn a_budget_is_demanded_and_must_be_answered() {
    let demand = |hop| match decide(hop, &state()) {
        Verdict::Allow(pending) => pending,
        Verdict::Deny(denial) => panic!("{}", denial.reason()),
    };
    let pending = demand(chat(Some("gpt-4o")));
    let demanded = pending.demands()[0].clone();
    // 400 bytes bound 400 tokens at $2.50, and 100 tokens at $10 a million.
    assert_eq!(demanded.amount, 400 * 5 / 2 + 100 * 10);
    assert_eq!(demanded.limit, 50_000_000);
    assert_eq!(demanded.key, "dev:alice");
    let denial = pending.complete(Reservation::default()).unwrap_err();
    assert_eq!(denial.code(), Code::BUDGET_SPENT);
    let refused = Outcome {
        demand: demanded.clone(),
        granted: false,
        spent: 49_999_000,
    };
    let denial = demand(chat(Some("gpt-4o")))
        .complete(Reservation::new(vec![refused.clone()]))
        .unwrap_err();
    assert_eq!(denial.code(), Code::BUDGET_SPENT);
    assert_eq!(denial.outcomes(), [refused]);
    let mut another = demanded;
    another.amount = 1;
    let other = Outcome {
        demand: another,
        granted: true,
        spent: 0,
    };
    let denial = demand(chat(Some("gpt-4o")))
        .complete(Reservation::new(vec![other]))
        .unwrap_err();
    assert_eq!(denial.code(), Code::BUDGET_SPENT);
}

/// The state under a configuration whose rule of the model reads otherwise.
fn with_rule(edit: impl FnOnce(&str) -> String) -> State {
    let mut bundle = bundle();
    let text = bundle.files.get_mut("hms.yaml").unwrap();
    let rule = text
        .lines()
        .find(|line| line.contains("budget: llm"))
        .unwrap()
        .to_owned();
    *text = text.replace(&rule, &edit(&rule));
    let options = Options {
        dev: true,
        strict: false,
    };
    let loaded = load(&bundle, "hms.yaml", &options);
    // `from_bundle` refuses what is not in this build; here it got past that.
    State {
        snapshot: Arc::new(Snapshot::new(bundle, loaded.config.unwrap())),
        ..state()
    }
}

#[test]
fn what_no_part_of_this_build_judges_is_refused_last() {
    let state = with_rule(|rule| rule.replace("budget: llm", "budget: llm, approve: [manager]"));
    let code = |hop| match decide(hop, &state) {
        Verdict::Allow(_) => panic!("allowed"),
        Verdict::Deny(denial) => denial.code(),
    };
    assert_eq!(code(chat(Some("gpt-4o"))), Code::UNDECIDABLE);
    assert_eq!(code(chat(Some("o1"))), Code::MODEL_REFUSED);
}

#[test]
fn rules_that_share_a_budget_demand_it_once() {
    let state = with_rule(|rule| {
        let wider = rule.replace("/v1/chat/completions", "/v1/chat/*");
        format!("{rule}\n{wider}")
    });
    let Verdict::Allow(pending) = decide(chat(Some("gpt-4o")), &state) else {
        panic!("refused");
    };
    assert_eq!(pending.demands().len(), 1);
}

#[test]
fn a_demand_stays_within_what_json_holds_exactly() {
    let mut hop = chat(Some("gpt-4o"));
    hop.facts.max_output_tokens = Some(u64::MAX);
    let Verdict::Allow(pending) = decide(hop, &state()) else {
        panic!("refused");
    };
    assert_eq!(pending.demands()[0].amount, (1 << 53) - 1);
}

#[test]
fn hours_are_utc_and_inclusive_of_the_first_minute() {
    let at = |moment: &str| {
        let claims = claims(id("hms-api").as_str(), "stats", &["stats:write"], "hms-api");
        let mut hop = mesh(
            "hms-api",
            "mesh",
            "stats",
            Operation::named("POST", "/stats"),
            claims,
        );
        hop.at = moment.parse::<Timestamp>().unwrap();
        edit_claims(&mut hop, |it| {
            it.iat = moment.parse::<Timestamp>().unwrap().as_secs();
            it.exp = it.iat + 60;
        });
        edit_certificate(&mut hop, |it| {
            it.not_before = Timestamp::from_secs(0);
            it.not_after = Timestamp::from_secs(i64::from(u32::MAX));
        });
        hop
    };
    allowed(at("2026-11-25T08:00:00.000000Z"));
    allowed(at("2026-11-27T17:59:59.000000Z"));
    denied(at("2026-11-25T07:59:59.000000Z"), Code::HOURS);
    denied(at("2026-11-25T18:00:00.000000Z"), Code::HOURS);
    denied(at("2026-11-28T12:00:00.000000Z"), Code::HOURS);
}
