//! `budgets`, `policies` and `audit`.

use super::Audit;
use super::Budget;
use super::Given;
use super::Policy;
use super::Sink;
use super::Spanned;
use super::address;
use super::grammar;
use super::reader::Fields;
use super::reader::Reader;
use crate::config::BudgetScope;
use crate::config::ObjectLock;
use crate::config::Price;
use crate::config::SinkKind;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use countersign_ledger::spool::Commit;
use indexmap::IndexMap;

pub(super) fn budget(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Budget> {
    let fields = reader.fields(node, &schema::BUDGET, name)?;
    let scopes = [
        ("all", BudgetScope::All),
        ("subject", BudgetScope::Subject),
        ("team", BudgetScope::Team),
    ];
    Some(Budget {
        name,
        limit: fields.text(reader, "limit", grammar::spending),
        per: fields.choice(reader, "per", &scopes).or(BudgetScope::All),
        prices: fields.read(reader, "prices", prices).or(IndexMap::new()),
        warn: fields.text(reader, "warn", grammar::percent),
    })
}

fn prices(reader: &mut Reader<'_>, node: &Node) -> Option<IndexMap<String, Price>> {
    let entries = reader.entries(node)?;
    if entries.is_empty() {
        let help = "add what a model costs: `\"gpt-*\": { input: $2.50, output: $10 }`";
        let message = "a budget without prices never runs out";
        reader.error(codes::SHAPE, node.span, message, help);
    }
    let mut prices = IndexMap::new();
    for (key, value) in entries {
        let model = reader.grammar(key, grammar::model);
        let Some(fields) = reader.fields(value, &schema::PRICE, key.span) else {
            continue;
        };
        let input = fields.text(reader, "input", grammar::dollars);
        let output = fields.text(reader, "output", grammar::dollars);
        if let (Some(model), Some(input), Some(output)) = (model, input.value(), output.value()) {
            let price = Price {
                input: *input,
                output: *output,
            };
            prices.insert(model, price);
        }
    }
    Some(prices)
}

pub(super) fn policy(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Policy> {
    let fields = reader.fields(node, &schema::POLICY, name)?;
    let modules = fields.read(reader, "rego", |reader, node| match &node.value {
        Value::Seq(items) if !items.is_empty() => Some(
            items
                .iter()
                .filter_map(|item| reader.attached(item))
                .collect(),
        ),
        _ => reader.attached(node).map(|module| vec![module]),
    });
    Some(Policy {
        name,
        modules,
        data: fields
            .read(reader, "data", |reader, node| reader.object(node))
            .or(serde_json::Map::new()),
    })
}

pub(super) fn audit(reader: &mut Reader<'_>, node: &Node) -> Option<Audit> {
    let fields = reader.fields(node, &schema::AUDIT, node.span)?;
    let words = [("fsync", Commit::Fsync), ("os", Commit::Os)];
    let commit = fields.choice(reader, "commit", &words);
    let keep = fields.text(reader, "keep", grammar::duration);
    let sinks = fields.read(reader, "sinks", |reader, node| {
        let mut sinks = Vec::new();
        for (key, value) in reader.entries(node)? {
            let name = reader.grammar(key, grammar::name);
            sinks.extend(name.zip(sink(reader, value, key.span)));
        }
        Some(sinks)
    });
    Some(Audit {
        commit: commit.value().copied(),
        keep: keep.value().copied(),
        sinks: sinks.or(Vec::new()),
    })
}

fn sink(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Sink> {
    let fields = reader.fields(node, &schema::SINK, name)?;
    let span = node.span;
    let kind = sink_kind(reader, &fields);
    let kind = kind.map_or(Given::Broken, |value| Given::Is(Spanned { value, span }));
    Some(Sink { name, kind })
}

fn sink_kind(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<SinkKind> {
    let locks = [
        ("compliance", ObjectLock::Compliance),
        ("governance", ObjectLock::Governance),
    ];
    let ocsf = fields.text(reader, "ocsf", address::web_url);
    let bucket = fields.text(reader, "s3", address::bucket);
    let file = fields.read(reader, "file", |reader, node| reader.path(node));
    let lock = fields.choice(reader, "lock", &locks);
    if let (true, Some(lock)) = (bucket.is_absent(), lock.spanned()) {
        let message = "`lock` is for `s3`";
        reader.error(codes::KEY_NOT_HERE, lock.span, message, "remove `lock`");
    }
    let lock = lock.value().copied();
    let bucket = bucket
        .value()
        .cloned()
        .map(|url| SinkKind::S3 { url, lock });
    ocsf.value()
        .cloned()
        .map(SinkKind::Ocsf)
        .or(bucket)
        .or(file.value().cloned().map(SinkKind::File))
}
