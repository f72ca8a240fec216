//! Which crate may depend on which.
//!
//! `ledger ← core ← { wire, net } ← enforce ← { gateway ← agent, server } ← countersign`, and
//! `net ← client`. Nothing else: a crate boundary is here so that the compiler forbids an import.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Violation;
use super::tree::Tree;
use crate::shell;

/// A crate, and every crate of ours that it may name in `[dependencies]`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ledger", &[]),
    ("core", &["ledger"]),
    ("wire", &["ledger", "core"]),
    ("net", &["ledger", "core"]),
    ("client", &["ledger", "core", "net"]),
    ("enforce", &["ledger", "core", "wire", "net"]),
    ("gateway", &["ledger", "core", "wire", "net", "enforce"]),
    (
        "agent",
        &["ledger", "core", "wire", "net", "enforce", "gateway"],
    ),
    ("server", &["ledger", "core", "wire", "net", "enforce"]),
    (
        "countersign",
        &[
            "ledger", "core", "wire", "net", "client", "enforce", "gateway", "agent", "server",
        ],
    ),
];

/// Crates below `enforce` are what testkit is made of, so they can't be tested with it.
const MAY_TEST_WITH_TESTKIT: &[&str] = &[
    "client",
    "enforce",
    "gateway",
    "agent",
    "server",
    "countersign",
];

/// `core` decides from its arguments alone: nothing that waits, dials, or reads a clock.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "futures-util",
    "hyper",
    "hyper-util",
    "rustls",
    "tokio-rustls",
    "sqlx",
    "rustix",
    "mio",
    "socket2",
    "reqwest",
    "time",
    "chrono",
    "jiff",
    "rand",
    "getrandom",
];

/// One package of the workspace.
pub(crate) struct Package {
    /// The name without `countersign-`.
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// A dependency for tests only.
    dev: bool,
    line: usize,
}

/// The packages as cargo reads them.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn packages(tree: &Tree) -> Result<Vec<Package>> {
    let arguments = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ];
    let output = shell::cargo(&arguments)
        .output()
        .context("can't start cargo")?;
    anyhow::ensure!(
        output.status.success(),
        "`cargo metadata`: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let root = shell::root().display().to_string();
    let packages = array(&metadata, "packages").iter().map(|package| {
        let manifest = text(package, "manifest_path");
        let manifest = manifest.strip_prefix(&root).unwrap_or(manifest);
        let manifest = manifest.trim_start_matches('/').to_owned();
        let dependencies = array(package, "dependencies").iter().map(|dependency| {
            let name = text(dependency, "name").to_owned();
            let line = line_of(tree, &manifest, &name);
            Dependency {
                dev: text(dependency, "kind") == "dev",
                name,
                line,
            }
        });
        let dependencies = dependencies.collect();
        Package {
            name: short(text(package, "name")).to_owned(),
            manifest,
            dependencies,
        }
    });
    Ok(packages.collect())
}

/// Every dependency that the graph does not have.
pub(crate) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        let allowed = MAY_USE.iter().find(|(name, _)| *name == package.name);
        for dependency in &package.dependencies {
            if let Some(message) = refuse(package, allowed.map(|(_, crates)| *crates), dependency) {
                violations.push(Violation::new(&package.manifest, dependency.line, message));
            }
        }
        if package.manifest.starts_with("crates/") && allowed.is_none() {
            let message = format!("`{}` has no place in the crate graph", package.name);
            violations.push(Violation::new(&package.manifest, 1, message));
        }
    }
    violations
}

fn refuse(package: &Package, allowed: Option<&[&str]>, dependency: &Dependency) -> Option<String> {
    let (from, to) = (package.name.as_str(), short(&dependency.name));
    if to == "xtask" {
        return Some("nothing depends on `xtask`".to_owned());
    }
    // testkit, xtask, bench and fuzz sit beside the graph and may look at any of it.
    let allowed = allowed?;
    if from == "core" && !dependency.dev && NOT_IN_CORE.contains(&to) {
        return Some(format!(
            "`core` does no I/O and reads no clock, `{to}` does"
        ));
    }
    if to == "testkit" {
        return match dependency.dev && MAY_TEST_WITH_TESTKIT.contains(&from) {
            true => None,
            false => Some("`testkit` is a dev-dependency of the upper crates only".to_owned()),
        };
    }
    let ours = MAY_USE.iter().any(|(name, _)| *name == to) && is_ours(&dependency.name);
    (ours && !dependency.dev && !allowed.contains(&to)).then(|| {
        format!(
            "`{from}` may not depend on `{to}`, only on {}",
            list(allowed)
        )
    })
}

fn list(crates: &[&str]) -> String {
    match crates {
        [] => "no crate of ours".to_owned(),
        crates => format!("`{}`", crates.join("`, `")),
    }
}

fn is_ours(name: &str) -> bool {
    name == "countersign" || name.starts_with("countersign-")
}

fn short(name: &str) -> &str {
    name.strip_prefix("countersign-").unwrap_or(name)
}

fn line_of(tree: &Tree, manifest: &str, dependency: &str) -> usize {
    let names_it = |line: &str| {
        line.trim_start()
            .strip_prefix(dependency)
            .is_some_and(|rest| {
                rest.trim_start().starts_with(['=', '.']) || rest.trim_start().starts_with("\"=")
            })
    };
    let file = tree.file(manifest);
    file.and_then(|file| file.lines().find(|(_, line)| names_it(line)))
        .map_or(1, |(line, _)| line)
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, dependency: &str, dev: bool) -> Vec<String> {
        let dependency = Dependency {
            name: dependency.to_owned(),
            dev,
            line: 7,
        };
        let package = Package {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: vec![dependency],
        };
        check(&[package]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_upward_dependency_is_refused() {
        assert_eq!(
            found("core", "countersign-net", false),
            ["crates/core/Cargo.toml:7: `core` may not depend on `net`, only on `ledger`"]
        );
    }

    #[test]
    fn the_two_planes_do_not_know_each_other() {
        assert_eq!(found("gateway", "countersign-server", false).len(), 1);
        assert_eq!(found("server", "countersign-gateway", false).len(), 1);
        assert_eq!(found("agent", "countersign-server", false).len(), 1);
        assert!(found("agent", "countersign-gateway", false).is_empty());
    }

    #[test]
    fn testkit_is_for_tests_of_the_upper_crates() {
        assert_eq!(found("gateway", "countersign-testkit", false).len(), 1);
        assert_eq!(found("core", "countersign-testkit", true).len(), 1);
        assert!(found("gateway", "countersign-testkit", true).is_empty());
    }

    #[test]
    fn core_has_no_runtime() {
        assert_eq!(found("core", "tokio", false).len(), 1);
        assert!(found("net", "tokio", false).is_empty());
    }

    #[test]
    fn a_crate_outside_the_graph_is_found() {
        let expect = "crates/extra/Cargo.toml:1: `extra` has no place in the crate graph";
        assert_eq!(found("extra", "bytes", false), [expect]);
    }

    #[test]
    fn a_dependency_is_found_in_its_manifest() {
        let manifest = "[dependencies]\ncountersign-core.workspace = true\ntokio = \"1\"\n";
        let tree = Tree::of(&[("crates/x/Cargo.toml", manifest)]);
        assert_eq!(line_of(&tree, "crates/x/Cargo.toml", "countersign-core"), 2);
        assert_eq!(line_of(&tree, "crates/x/Cargo.toml", "tokio"), 3);
    }
}
