//! Folders inside a crate import downwards only.
//!
//! Rust forbids cycles between crates, not between modules; this rule builds the graph of a
//! crate's top-level modules from every `crate::x` (and `super::x` that reaches the root) and
//! reports each cyclic group with the lines that close it. Test code may look anywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Violation;
use super::tree::{File, Tree};

/// Cycles among top-level modules, and imports grouped across them.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = grouped(tree);
    let crates: BTreeSet<&str> = tree
        .rust()
        .filter_map(|file| source_of(file).map(|(folder, _)| folder))
        .collect();
    for folder in crates {
        violations.extend(cycles(&Graph::of(tree, folder)));
    }
    violations
}

/// `use crate::{a, b}` hides which folder an import crosses into.
fn grouped(tree: &Tree) -> Vec<Violation> {
    let message = "one `use crate::<folder>::..` per line, not grouped across folders";
    tree.rust()
        .flat_map(|file| {
            file.source.find(&["use", "crate", "::", "{"]).map(|at| {
                let line = file.source.tokens.get(at).map_or(1, |token| token.line);
                Violation::new(&file.path, line, message)
            })
        })
        .collect()
}

/// Where one top-level module names another: the first place, as path and line.
struct Graph {
    edges: BTreeMap<String, BTreeMap<String, (String, usize)>>,
}

impl Graph {
    fn of(tree: &Tree, folder: &str) -> Self {
        let files: Vec<(&File, Place)> = tree
            .rust()
            .filter_map(|file| {
                let (of, rest) = source_of(file)?;
                (of == folder)
                    .then(|| Place::of(rest))
                    .flatten()
                    .map(|place| (file, place))
            })
            .collect();
        let modules: BTreeSet<&str> = files
            .iter()
            .filter_map(|(_, place)| place.module.as_deref())
            .collect();
        let exports = exports(&files, &modules);
        let mut graph = Self {
            edges: BTreeMap::new(),
        };
        for (file, place) in &files {
            let Some(from) = &place.module else { continue };
            if file.path.ends_with("/tests.rs") || file.path.contains("/tests/") {
                continue;
            }
            for (name, line) in names_from_root(file, place.depth) {
                let to = match modules.contains(name.as_str()) {
                    true => Some(name),
                    false => exports.get(&name).cloned(),
                };
                if let Some(to) = to.filter(|to| to != from) {
                    let edges = graph.edges.entry(from.clone()).or_default();
                    edges.entry(to).or_insert_with(|| (file.path.clone(), line));
                }
            }
        }
        graph
    }

    /// The shortest way back to `start`, as the modules visited after it.
    fn cycle_through<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(module) = queue.pop_front() {
            for to in self.edges.get(module).into_iter().flat_map(BTreeMap::keys) {
                if to == start {
                    let mut path = vec![to.as_str(), module];
                    let mut at = module;
                    while let Some(before) = came_from.get(at).filter(|_| at != start) {
                        path.push(before);
                        at = before;
                    }
                    path.reverse();
                    path.dedup();
                    return Some(path);
                }
                if !came_from.contains_key(to.as_str()) {
                    came_from.insert(to, module);
                    queue.push_back(to);
                }
            }
        }
        None
    }
}

/// One violation for each cyclic group, at the first import that is part of it.
fn cycles(graph: &Graph) -> Vec<Violation> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut violations = Vec::new();
    for start in graph.edges.keys() {
        if seen.contains(start.as_str()) {
            continue;
        }
        let Some(cycle) = graph.cycle_through(start) else {
            continue;
        };
        seen.extend(&cycle);
        let steps: Vec<(&str, &str, &(String, usize))> = cycle
            .windows(2)
            .filter_map(|pair| {
                let [from, to] = pair else { return None };
                Some((*from, *to, graph.edges.get(*from)?.get(*to)?))
            })
            .collect();
        let Some((_, _, (path, line))) = steps.first() else {
            continue;
        };
        let told: Vec<String> = steps
            .iter()
            .map(|(from, to, (path, line))| format!("`{from}` names `{to}` ({path}:{line})"))
            .collect();
        let message = format!("modules import in a circle: {}", told.join(", "));
        violations.push(Violation::new(path, *line, message));
    }
    violations
}

/// What a file is in the module tree of its crate.
struct Place {
    /// The top-level module, none for the crate root.
    module: Option<String>,
    /// How many `super::` lead to the crate root.
    depth: usize,
}

impl Place {
    /// From the path below `src/`; none for another crate root (`main.rs`, `bin/`).
    fn of(rest: &str) -> Option<Self> {
        if rest == "main.rs" || rest.starts_with("bin/") {
            return None;
        }
        if rest == "lib.rs" {
            return Some(Self {
                module: None,
                depth: 0,
            });
        }
        let path = rest
            .strip_suffix("/mod.rs")
            .or_else(|| rest.strip_suffix(".rs"))?;
        let module = path.split('/').next()?.to_owned();
        Some(Self {
            module: Some(module),
            depth: path.split('/').count(),
        })
    }
}

/// The package folder and the path below `src/` of a file that belongs to a crate.
fn source_of(file: &File) -> Option<(&str, &str)> {
    let (folder, rest) = file.path.split_once("/src/")?;
    (folder.starts_with("crates/") || !folder.contains('/')).then_some((folder, rest))
}

/// The root's `pub use module::Name`: a module that says `crate::Name` means that module.
fn exports(files: &[(&File, Place)], modules: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let roots = files.iter().filter(|(_, place)| place.module.is_none());
    let mut exports = BTreeMap::new();
    for name in roots
        .flat_map(|(file, _)| file.source.uses())
        .filter(|name| !name.test)
    {
        let path: Vec<&str> = name
            .path
            .iter()
            .map(String::as_str)
            .skip_while(|part| matches!(*part, "crate" | "self"))
            .collect();
        let (Some(module), Some(last)) = (path.first(), path.last()) else {
            continue;
        };
        if modules.contains(module) {
            let visible = name.alias.as_deref().unwrap_or(last);
            exports.insert(visible.to_owned(), (*module).to_owned());
        }
    }
    exports
}

/// Each name directly below the crate root that this file's code uses, with its line.
fn names_from_root(file: &File, depth: usize) -> Vec<(String, usize)> {
    let source = &file.source;
    let mut names = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        let before = index
            .checked_sub(1)
            .map_or("", |before| source.text(before));
        // `pub(in crate::x)` says who may see, not what is used.
        if token.test || before == "in" || before == "::" {
            continue;
        }
        let steps = match token.text.as_str() {
            "crate" => 1,
            "super" => {
                let mut supers = 1;
                while source.text(index + 2 * supers) == "super" {
                    supers += 1;
                }
                if supers != depth + token.inline_modules {
                    continue;
                }
                supers
            }
            _ => continue,
        };
        let name = source.text(index + 2 * steps);
        if source.text(index + 2 * steps - 1) == "::" && name != "{" {
            names.push((name.to_owned(), token.line));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn a_circle_of_two_is_reported_with_both_lines() {
        let files = [
            ("crates/x/src/lib.rs", "mod a;\nmod b;"),
            ("crates/x/src/a.rs", "use crate::b::B;\npub struct A;"),
            ("crates/x/src/b/mod.rs", "mod c;"),
            ("crates/x/src/b/c.rs", "\nfn f() { crate::a::A; }"),
        ];
        assert_eq!(
            reported(check, &files),
            ["crates/x/src/a.rs:1: modules import in a circle: \
              `a` names `b` (crates/x/src/a.rs:1), `b` names `a` (crates/x/src/b/c.rs:2)"]
        );
    }

    #[test]
    fn a_circle_of_three_is_one_report() {
        let files = [
            ("crates/x/src/a.rs", "use crate::b::B;"),
            ("crates/x/src/b.rs", "use crate::c::C;"),
            ("crates/x/src/c.rs", "use crate::a::A;"),
        ];
        let found = reported(check, &files);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`c` names `a`"), "{found:?}");
    }

    #[test]
    fn super_that_reaches_the_root_counts() {
        let files = [
            ("crates/x/src/a/deep.rs", "use super::super::b::B;"),
            ("crates/x/src/b.rs", "mod inner { use super::super::a::A; }"),
        ];
        assert_eq!(reported(check, &files).len(), 1);
        let files = [
            ("crates/x/src/a/deep.rs", "use super::b::B;"),
            ("crates/x/src/b.rs", "use super::a::A;"),
        ];
        assert!(reported(check, &files).is_empty());
    }

    #[test]
    fn a_name_exported_by_the_root_counts_as_its_module() {
        let files = [
            (
                "crates/x/src/lib.rs",
                "mod a;\nmod b;\npub use a::{A, Other};",
            ),
            ("crates/x/src/a.rs", "use crate::b::B;"),
            ("crates/x/src/b.rs", "use crate::A;"),
        ];
        assert_eq!(reported(check, &files).len(), 1);
    }

    #[test]
    fn downward_imports_and_tests_are_fine() {
        let files = [
            ("crates/x/src/lib.rs", "use crate::a::A;"),
            ("crates/x/src/a.rs", "use crate::b::B;"),
            (
                "crates/x/src/b.rs",
                "#[cfg(test)]\nmod tests { use crate::a::A; }",
            ),
            ("crates/x/src/b/c.rs", "pub(in crate::a) fn f() {}"),
        ];
        assert_eq!(reported(check, &files), Vec::<String>::new());
    }

    #[test]
    fn an_import_grouped_across_folders_is_reported() {
        let files = [("crates/x/src/a.rs", "\nuse crate::{b::B, c::C};")];
        let expect = "crates/x/src/a.rs:2: one `use crate::<folder>::..` per line, \
            not grouped across folders";
        assert_eq!(reported(check, &files), [expect]);
        let files = [("crates/x/src/a.rs", "use crate::b::{B, C};")];
        assert!(reported(check, &files).is_empty());
    }
}
