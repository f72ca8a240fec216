//! A part of a configuration as a configuration of its own: what one gateway needs of it.
//!
//! What is left out is left out whole, entry by entry; what stays, stays as it was written. Keys
//! that nothing is known of here stay too: dropping one could loosen what it restricts.

use super::FileError;
use super::Files;
use super::diagnostic::Report;
use super::is_listed;
use super::parse;
use super::sources::Sources;
use super::sources::beside;
use super::yaml;
use super::yaml::Node;
use super::yaml::Value;
use serde_json::Map;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The names of what stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keep<'a> {
    pub(crate) budgets: BTreeSet<&'a str>,
    pub(crate) identities: BTreeSet<&'a str>,
    pub(crate) listeners: BTreeSet<&'a str>,
    pub(crate) logins: BTreeSet<&'a str>,
    pub(crate) policies: BTreeSet<&'a str>,
    pub(crate) secrets: BTreeSet<&'a str>,
    pub(crate) services: BTreeSet<&'a str>,
    pub(crate) tiers: BTreeSet<&'a str>,
}

/// The files of the part, by name; nothing if the whole can't be read. It is JSON, which is YAML.
pub(crate) fn project(
    files: &BTreeMap<String, String>,
    entry: &str,
    keep: &Keep<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let file = sources.add(entry, files.get(entry)?.clone());
    let root = yaml::parse(file, sources.text(file), &mut report, &mut 0)?;
    // What is included is part of the whole, of which entries are left out.
    let root = parse::in_one(root, &Whole(files), &mut sources, &mut report)?;
    let Json::Object(root) = json(&root)? else {
        return None;
    };
    let mut part = Map::new();
    for (key, value) in root {
        if let Some(value) = section(&key, value, keep) {
            part.insert(key, value);
        }
    }
    let mut named = BTreeSet::new();
    let part = Json::Object(part);
    texts(&part, &mut named);
    let named: BTreeSet<String> = named.iter().map(|text| beside(entry, text)).collect();
    let is_named = |name: &str| named.contains(name);
    let others = files
        .iter()
        .filter(|(name, _)| *name != entry && is_named(name));
    let mut out: BTreeMap<_, _> = others
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    let text = serde_json::to_string_pretty(&part).ok()? + "\n";
    out.insert(entry.to_owned(), text);
    Some(out)
}

/// The files of the whole.
struct Whole<'a>(&'a BTreeMap<String, String>);

impl Files for Whole<'_> {
    fn read(&self, path: &str) -> Result<String, FileError> {
        self.0.get(path).cloned().ok_or_else(|| FileError {
            path: path.to_owned(),
            reason: "not in the bundle".to_owned(),
        })
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError> {
        let listed = self.0.keys().filter(|path| is_listed(pattern, path));
        Ok(listed.cloned().collect())
    }
}

fn section(key: &str, value: Json, keep: &Keep<'_>) -> Option<Json> {
    Some(match (key, value) {
        // Sentences about the whole are not true of a part.
        ("tests", _) => return None,
        ("listeners", Json::Object(all)) => only(all, |name| keep.listeners.contains(name)),
        ("login", Json::Object(all)) => only(all, |name| keep.logins.contains(name)),
        ("services", Json::Object(all)) => only(all, |name| keep.services.contains(name)),
        ("budgets", Json::Object(all)) => only(all, |name| keep.budgets.contains(name)),
        ("policies", Json::Object(all)) => only(all, |name| keep.policies.contains(name)),
        ("tiers", Json::Object(all)) => only(all, |name| keep.tiers.contains(name)),
        ("identities", Json::Object(all)) => identities(all, keep),
        ("edges", Json::Object(all)) => only(all, |arrow| is_within(arrow, keep)),
        ("roles", Json::Object(all)) => roles(all, keep),
        ("secrets", Json::Object(all)) => secrets(&all, keep),
        // Where records go from here on is the server's business.
        ("audit", Json::Object(all)) => only(all, |name| name == "commit"),
        (_, value) => value,
    })
}

fn only(all: Map<String, Json>, stays: impl Fn(&str) -> bool) -> Json {
    all.into_iter().filter(|(name, _)| stays(name)).collect()
}

/// How an identity is attested is for whoever issues to know.
fn identities(all: Map<String, Json>, keep: &Keep<'_>) -> Json {
    let mut all = all;
    all.retain(|name, value| {
        if let Json::Object(identity) = value {
            identity.remove("attest");
        }
        keep.identities.contains(name.as_str())
    });
    Json::Object(all)
}

fn is_within(arrow: &str, keep: &Keep<'_>) -> bool {
    let Some((from, to)) = arrow.split_once("->") else {
        return true;
    };
    let from = from.trim();
    let starts = keep.listeners.contains(from) || keep.identities.contains(from);
    starts && keep.services.contains(to.trim())
}

/// People stay: any of them may come through this gateway.
fn roles(mut all: Map<String, Json>, keep: &Keep<'_>) -> Json {
    let stays = |member: &Json| {
        let name = member.as_str().unwrap_or_default();
        name.contains(':') || keep.identities.contains(name)
    };
    for role in all.values_mut() {
        if let Some(Json::Array(members)) = role.get_mut("members") {
            members.retain(stays);
        }
    }
    Json::Object(all)
}

/// What is injected is named; where it is kept, and who reads it, stays at the server.
fn secrets(all: &Map<String, Json>, keep: &Keep<'_>) -> Json {
    let kept = all
        .keys()
        .filter(|name| keep.secrets.contains(name.as_str()));
    kept.map(|name| {
        (
            name.clone(),
            serde_json::json!({ "from": format!("store:{name}") }),
        )
    })
    .collect()
}

/// As it was written. Text is what the language reads, so a number stays the text it is; what
/// another engine reads keeps its types.
fn json(node: &Node) -> Option<Json> {
    let mut all = text_of(node)?;
    let policies = entry(node, "policies").map_or(&[][..], entries);
    for (name, policy) in policies {
        if let (Some(name), Some(data)) = (name.text(), entry(policy, "data"))
            && let Some(said) = all.pointer_mut("/policies").and_then(|it| it.get_mut(name))
            && let Some(said) = said.get_mut("data")
        {
            *said = data.json()?;
        }
    }
    Some(all)
}

fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn entry<'n>(node: &'n Node, word: &str) -> Option<&'n Node> {
    let mut found = entries(node).iter();
    found.find_map(|(key, value)| (key.text() == Some(word)).then_some(value))
}

fn text_of(node: &Node) -> Option<Json> {
    Some(match &node.value {
        _ if node.is_nothing() => Json::Null,
        Value::Scalar(scalar) => Json::String(scalar.text.clone()),
        Value::Seq(items) => Json::Array(items.iter().map(text_of).collect::<Option<_>>()?),
        Value::Map(entries) => {
            let entry =
                |(key, value): &(Node, Node)| Some((key.text()?.to_owned(), text_of(value)?));
            Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        Value::Broken => return None,
    })
}

fn texts<'a>(value: &'a Json, into: &mut BTreeSet<&'a str>) {
    match value {
        Json::String(text) => {
            into.insert(text);
        }
        Json::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Json::Object(entries) => entries.values().for_each(|item| texts(item, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
roles: { reader: { members: [api], may: ["page:read"], tier: slow } }
tiers: { slow: { rate: 5/s }, other: { rate: 7/s } }
services:
  page: { needs: edge, timeout: 5s, operations: { POST /a: { policy: asked } } }
policies:
  asked: { rego: a.rego, data: { max: 5, share: 0.5, on: true, off: ~, text: "5", list: [1, "1"] } }
  other: { rego: b.rego, data: { max: 6 } }
"#;

    #[test]
    fn what_a_policy_reads_keeps_its_types_and_what_is_not_asked_is_left_out() {
        let files = [
            ("c.yaml", WHOLE),
            ("a.rego", "package a"),
            ("b.rego", "package b"),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let keep = Keep {
            policies: ["asked"].into(),
            services: ["page"].into(),
            tiers: ["slow"].into(),
            ..Keep::default()
        };
        let part = project(&files.into(), "c.yaml", &keep).unwrap();
        assert_eq!(part.keys().collect::<Vec<_>>(), ["a.rego", "c.yaml"]);
        let root: Json = serde_json::from_str(&part["c.yaml"]).unwrap();
        let data = serde_json::json!({
            "max": 5, "share": 0.5, "on": true, "off": null, "text": "5", "list": [1, "1"]
        });
        let policies = serde_json::json!({ "asked": { "rego": "a.rego", "data": data } });
        assert_eq!(root["policies"], policies);
        assert_eq!(
            root["tiers"],
            serde_json::json!({ "slow": { "rate": "5/s" } })
        );
    }
}
