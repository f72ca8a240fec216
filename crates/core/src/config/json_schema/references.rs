//! What in a schema refers to what.
//!
//! A reference that leads back to itself without going down into the body asks for nothing, and one
//! that leads back while it goes down has no depth of its own.

use hashbrown::HashMap;
use hashbrown::HashSet;
use serde_json::Value;
use std::collections::BTreeSet;

/// The references of a schema by the places they stand at.
pub(super) struct References {
    /// From a place to those that apply to the same value: what it refers to, and what it holds.
    beside: HashMap<String, Vec<String>>,
    /// From a place to all that it refers to or holds.
    below: HashMap<String, Vec<String>>,
    /// Whether some lead where only a whole resolver would find it.
    elsewhere: bool,
    /// The places that are referred to: no circle is without one of them.
    targets: BTreeSet<String>,
}

/// Keywords whose schemas apply to the value itself, and hold one, or several in a list or by name.
const BESIDE: [&str; 8] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
];

impl References {
    pub(super) fn of(schema: &Value) -> Self {
        let mut found = Self {
            beside: HashMap::new(),
            below: HashMap::new(),
            elsewhere: false,
            targets: BTreeSet::new(),
        };
        let mut anchors = HashMap::new();
        collect_anchors(schema, "", &mut anchors);
        found.walk(schema, "", &anchors);
        found
    }

    /// A place that leads back to itself and never into the value: what stands there asks for less
    /// than it seems to.
    pub(super) fn circle(&self) -> Option<String> {
        let mut places = self.targets.iter();
        let circle = places.find(|it| leads_back(&self.beside, it));
        circle.map(|it| {
            if it.is_empty() {
                "/".to_owned()
            } else {
                it.clone()
            }
        })
    }

    /// Whether some place leads back to itself, in any way.
    pub(super) fn recursive(&self) -> bool {
        let mut places = self.targets.iter();
        self.elsewhere || places.any(|it| leads_back(&self.below, it))
    }

    fn walk(&mut self, value: &Value, place: &str, anchors: &HashMap<String, String>) {
        let Value::Object(members) = value else {
            if let Value::Array(items) = value {
                for (index, item) in items.iter().enumerate() {
                    let below = format!("{place}/{index}");
                    self.hold(place, &below, false);
                    self.walk(item, &below, anchors);
                }
            }
            return;
        };
        // A document in the document has a base of its own.
        self.elsewhere |= !place.is_empty() && members.get("$id").is_some_and(Value::is_string);
        for (name, value) in members {
            if let ("$ref" | "$dynamicRef", Value::String(to)) = (name.as_str(), value) {
                match target(to, anchors) {
                    Some(to) => {
                        self.hold(place, &to, true);
                        self.targets.insert(to);
                    }
                    None => self.elsewhere = true,
                }
                continue;
            }
            let below = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
            self.hold(place, &below, false);
            if BESIDE.contains(&name.as_str()) {
                self.besides(value, place, &below);
            }
            self.walk(value, &below, anchors);
        }
    }

    fn besides(&mut self, value: &Value, place: &str, below: &str) {
        let names: Vec<String> = match value {
            Value::Array(items) => (0..items.len()).map(|it| it.to_string()).collect(),
            Value::Object(members) if below.ends_with("/dependentSchemas") => members
                .keys()
                .map(|name| name.replace('~', "~0").replace('/', "~1"))
                .collect(),
            _ => {
                self.beside_of(place).push(below.to_owned());
                return;
            }
        };
        let places = names.into_iter().map(|name| format!("{below}/{name}"));
        self.beside_of(place).extend(places);
    }

    fn hold(&mut self, place: &str, other: &str, beside: bool) {
        let below = self.below.entry(place.to_owned()).or_default();
        below.push(other.to_owned());
        if beside {
            self.beside_of(place).push(other.to_owned());
        }
    }

    fn beside_of(&mut self, place: &str) -> &mut Vec<String> {
        self.beside.entry(place.to_owned()).or_default()
    }
}

fn collect_anchors(value: &Value, place: &str, anchors: &mut HashMap<String, String>) {
    match value {
        Value::Object(members) => {
            for key in ["$anchor", "$dynamicAnchor"] {
                if let Some(Value::String(name)) = members.get(key) {
                    anchors.insert(name.clone(), place.to_owned());
                }
            }
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect_anchors(value, &format!("{place}/{name}"), anchors);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_anchors(item, &format!("{place}/{index}"), anchors);
            }
        }
        _ => {}
    }
}

/// The place that a reference within this document leads to.
fn target(to: &str, anchors: &HashMap<String, String>) -> Option<String> {
    let fragment = to.strip_prefix('#')?;
    let plain = fragment.is_empty() || fragment.starts_with('/');
    if plain && !fragment.contains('%') {
        return Some(fragment.to_owned());
    }
    anchors.get(fragment).cloned()
}

fn leads_back(edges: &HashMap<String, Vec<String>>, from: &str) -> bool {
    let mut seen = HashSet::new();
    let mut next: Vec<&str> = vec![from];
    while let Some(place) = next.pop() {
        for to in edges.get(place).into_iter().flatten() {
            if to == from {
                return true;
            }
            if seen.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn circles_and_recursion() {
        for (schema, circle, recursive) in [
            (json!({ "type": "object" }), None, false),
            (json!({ "$ref": "#" }), Some("/"), true),
            (json!({ "not": { "$ref": "#" } }), Some("/"), true),
            (json!({ "items": { "$ref": "#" } }), None, true),
            (
                json!({ "$defs": { "a": { "type": "string" } }, "properties": { "x": { "$ref": "#/$defs/a" } } }),
                None,
                false,
            ),
            (
                json!({ "$defs": { "a/b": { "$anchor": "n", "dependentSchemas": { "k": { "$ref": "#n" } } } } }),
                Some("/$defs/a~1b"),
                true,
            ),
            (
                json!({ "properties": { "a": { "$id": "urn:x", "type": "string" } } }),
                None,
                true,
            ),
        ] {
            let found = References::of(&schema);
            assert_eq!(found.circle().as_deref(), circle, "{schema}");
            assert_eq!(found.recursive(), recursive, "{schema}");
        }
    }
}
