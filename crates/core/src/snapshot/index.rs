//! Which patterns of a list match an operation, found by walking the operation's own parts, so
//! that a decision costs the same with ten patterns as with ten thousand.

use crate::vocabulary::Operation;
use crate::vocabulary::OperationPattern;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Places in the list, in its order.
pub(crate) type Matches = SmallVec<[u32; 8]>;

/// Patterns by verb, then as a tree of their parts.
#[derive(Debug, Default)]
pub(crate) struct PatternIndex {
    verbs: HashMap<Box<str>, Node>,
    /// Entries without a pattern: they match everything.
    always: Vec<u32>,
    fold: bool,
}

/// What may come next, after the parts on the way here.
#[derive(Debug, Default)]
struct Node {
    /// Patterns that end here.
    here: Vec<u32>,
    /// Patterns that end here in `**`: one more part, and any after it.
    below: Vec<u32>,
    literal: HashMap<Box<str>, Node>,
    /// `*`, by what divides it from the next part; a path has nothing to tell apart here.
    star: HashMap<Box<str>, Node>,
}

impl PatternIndex {
    /// An index of patterns and their places. With `fold`, paths are compared without regard to
    /// ASCII case.
    pub(crate) fn new<'p>(
        patterns: impl IntoIterator<Item = (u32, Option<&'p OperationPattern>)>,
        fold: bool,
    ) -> Self {
        let mut index = Self {
            fold,
            ..Self::default()
        };
        for (place, pattern) in patterns {
            match pattern {
                Some(pattern) => index.insert(place, pattern),
                None => index.always.push(place),
            }
        }
        index
    }

    fn insert(&mut self, place: u32, pattern: &OperationPattern) {
        let object = pattern.object();
        let (head, open) = match object.strip_suffix("/**") {
            Some(head) => (head, true),
            None => (object, false),
        };
        let path = is_path(head);
        let fold = self.fold && path;
        let parts: Vec<_> = if path {
            of_path(head).collect()
        } else {
            of_name(head).collect()
        };
        let mut node = self.verbs.entry_ref(pattern.verb()).or_default();
        for (part, divider) in parts {
            node = match part {
                "*" => node.star.entry_ref(divider).or_default(),
                part if fold => node
                    .literal
                    .entry(part.to_ascii_lowercase().into_boxed_str())
                    .or_default(),
                part => node.literal.entry(joined(part, divider)).or_default(),
            };
        }
        let list = if open {
            &mut node.below
        } else {
            &mut node.here
        };
        list.push(place);
    }

    /// The places of all patterns that match.
    pub(crate) fn matches(&self, operation: &Operation) -> Matches {
        let mut found = Matches::from_slice(&self.always);
        let covered = (operation.verb == "HEAD").then_some("GET");
        for verb in covered.into_iter().chain([operation.verb.as_str()]) {
            if let Some(root) = self.verbs.get(verb) {
                self.walk(root, &operation.object, &mut found);
            }
        }
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }

    fn walk(&self, root: &Node, object: &str, found: &mut Matches) {
        if is_path(object) {
            descend(root, of_path(object), self.fold, found);
        } else {
            descend(root, of_name(object), false, found);
        }
    }
}

/// Goes down every branch that the parts allow: at most the literal and the star at each.
fn descend<'o>(
    root: &Node,
    parts: impl Iterator<Item = (&'o str, &'o str)>,
    fold: bool,
    found: &mut Matches,
) {
    let mut level: SmallVec<[&Node; 4]> = SmallVec::from_slice(&[root]);
    let mut next: SmallVec<[&Node; 4]> = SmallVec::new();
    for (part, divider) in parts {
        for node in level.drain(..) {
            if !node.below.is_empty() {
                found.extend_from_slice(&node.below);
            }
            next.extend(node.next(part, divider, fold));
            if !node.star.is_empty() {
                let star = node.star.get(divider).filter(|_| !part.is_empty());
                next.extend(star);
            }
        }
        if next.is_empty() {
            return;
        }
        std::mem::swap(&mut level, &mut next);
    }
    for node in level {
        found.extend_from_slice(&node.here);
    }
}

impl Node {
    fn next(&self, part: &str, divider: &str, fold: bool) -> Option<&Self> {
        if fold && part.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.literal.get(part.to_ascii_lowercase().as_str());
        }
        if divider.is_empty() {
            return self.literal.get(part);
        }
        self.literal.get(&joined(part, divider))
    }
}

fn is_path(object: &str) -> bool {
    object.starts_with('/') || object.is_empty()
}

/// The parts of a path, which nothing but `/` divides.
fn of_path(object: &str) -> impl Iterator<Item = (&str, &str)> {
    object.split('/').map(|part| (part, ""))
}

/// The parts of a name, each with what ends it.
fn of_name(object: &str) -> impl Iterator<Item = (&str, &str)> {
    object
        .split_inclusive(['.', '/'])
        .map(|part| part.split_at(part.trim_end_matches(['.', '/']).len()))
}

/// `gateway/` and `gateway` are different parts of a name.
fn joined(part: &str, divider: &str) -> Box<str> {
    if divider.is_empty() {
        part.into()
    } else {
        [part, divider].concat().into_boxed_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> OperationPattern {
        OperationPattern::parse(text).unwrap()
    }

    fn pattern() -> impl Strategy<Value = OperationPattern> {
        let part = prop_oneof![Just("a"), Just("b"), Just("B"), Just("*")];
        let path = (
            prop_oneof![Just("GET"), Just("HEAD"), Just("POST")],
            prop::collection::vec(part.clone(), 0..4),
            prop_oneof![Just(""), Just("/"), Just("/**")],
        )
            .prop_filter_map("a path", |(verb, parts, end)| {
                let text = format!("{verb} /{}{end}", parts.join("/")).replace("//", "/");
                OperationPattern::parse(&text).ok()
            });
        let name = (
            prop_oneof![Just("read"), Just("publish")],
            prop::collection::vec((part, prop_oneof![Just("."), Just("/")]), 0..4),
        )
            .prop_filter_map("a name", |(verb, parts)| {
                let object: String = parts
                    .iter()
                    .map(|(part, end)| format!("{part}{end}"))
                    .collect();
                let object = object.trim_end_matches(['.', '/']);
                OperationPattern::parse(&format!("{verb} {object}")).ok()
            });
        prop_oneof![path, name]
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let verb = prop_oneof![
            Just("GET"),
            Just("HEAD"),
            Just("POST"),
            Just("read"),
            Just("publish")
        ];
        let part = prop_oneof![Just("a"), Just("b"), Just("B"), Just("*"), Just("")];
        let ends = prop_oneof![Just("/"), Just("/"), Just(".")];
        (
            verb,
            prop::collection::vec((part, ends), 0..5),
            any::<bool>(),
        )
            .prop_map(|(verb, parts, path)| {
                let object: String = parts
                    .iter()
                    .map(|(part, end)| format!("{part}{end}"))
                    .collect();
                let lead = if path { "/" } else { "" };
                Operation::named(verb, &format!("{lead}{object}"))
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The index finds exactly what trying every pattern finds.
        #[test]
        fn nothing_is_missed_and_nothing_made_up(
            patterns in prop::collection::vec(pattern(), 0..12),
            operation in operation(),
            fold in any::<bool>(),
        ) {
            let index = PatternIndex::new((0..).zip(patterns.iter().map(Some)), fold);
            let tried: Vec<u32> = (0..)
                .zip(&patterns)
                .filter(|(_, it)| it.matches(&operation, fold))
                .map(|(place, _)| place)
                .collect();
            prop_assert_eq!(index.matches(&operation).to_vec(), tried);
        }
    }

    #[test]
    fn stars_do_not_multiply() {
        // Every path of thirty segments takes the literal and the star at each.
        let mut patterns = Vec::new();
        for at in 0..30 {
            let mut parts = vec!["a"; 30];
            parts[at] = "*";
            patterns.push(parse(&format!("GET /{}", parts.join("/"))));
        }
        let index = PatternIndex::new((0..).zip(patterns.iter().map(Some)), false);
        let path = format!("/{}", ["a"; 30].join("/"));
        let found = index.matches(&Operation::named("GET", &path));
        assert_eq!(found.len(), 30);
    }

    #[test]
    fn entries_without_a_pattern_match_everything() {
        let index = PatternIndex::new([(7, None)], false);
        assert_eq!(
            index.matches(&Operation::named("connect", "")).as_slice(),
            [7]
        );
    }
}
