//! What happens in one crate only: deciding, dialling, making evidence, making a promise.
//!
//! The table is the rule. Tests may do any of it; a second place in the product is a defect.

use super::Violation;
use super::source::Source;
use super::tree::{File, Tree};

struct Place {
    /// Any of these, as tokens.
    patterns: &'static [Pattern],
    /// The crates that may write it.
    crates: &'static [&'static str],
    /// Completes "`pattern`: ..".
    why: &'static str,
}

enum Pattern {
    /// These tokens one after the other.
    Tokens(&'static [&'static str]),
    /// A value of this struct, fields and all: `Name {` where it is not a declaration or a type.
    Literal(&'static str),
    /// A name imported by `use`, under whatever alias.
    Import(&'static [&'static str]),
}

use Pattern::{Import, Literal, Tokens};

const PLACES: &[Place] = &[
    Place {
        patterns: &[
            Tokens(&["decide", "("]),
            Tokens(&["decide_watched", "("]),
            Tokens(&["core", "::", "decide", "::", "decide"]),
            Import(&["countersign_core", "decide", "decide"]),
        ],
        crates: &["core", "enforce"],
        why: "only `enforce` asks `core` for a decision; everything else asks `enforce`",
    },
    Place {
        patterns: &[
            Tokens(&["TcpStream", "::", "connect"]),
            Tokens(&["TcpStream", "::", "connect_timeout"]),
            Tokens(&["UnixStream", "::", "connect"]),
            Tokens(&["UdpSocket", "::", "connect"]),
            Tokens(&["TcpSocket"]),
            Tokens(&["lookup_host"]),
            Tokens(&["to_socket_addrs"]),
            Tokens(&["HttpConnector"]),
            Tokens(&["reqwest"]),
        ],
        crates: &["net"],
        why: "only `net`'s dialer opens outgoing connections and resolves names",
    },
    Place {
        patterns: &[Literal("Evidence"), Literal("VerifiedToken")],
        crates: &["core", "net"],
        why: "only `net`, which did the cryptography, makes evidence",
    },
    Place {
        patterns: &[Literal("Promise"), Tokens(&["Promise", "::", "new"])],
        crates: &["ledger"],
        why: "only the ledger's durable writer makes a promise",
    },
];

/// Every pattern written outside its crates.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust().filter(|file| !file.is_test()) {
        let Some((name, _)) = file.crate_source() else {
            continue;
        };
        for place in PLACES.iter().filter(|place| !place.crates.contains(&name)) {
            for pattern in place.patterns {
                violations.extend(found(file, pattern, place.why));
            }
        }
    }
    violations
}

fn found(file: &File, pattern: &Pattern, why: &str) -> Vec<Violation> {
    let source = &file.source;
    let at = |index: usize, told: &str| {
        let token = source.tokens.get(index).filter(|token| !token.test)?;
        Some(Violation::new(
            &file.path,
            token.line,
            format!("`{told}`: {why}"),
        ))
    };
    match pattern {
        Tokens(tokens) => {
            let told = tokens.concat();
            source
                .find(tokens)
                .filter_map(|index| at(index, &told))
                .collect()
        }
        Literal(name) => source
            .find(&[name, "{"])
            .filter(|index| is_value(source, *index))
            .filter_map(|index| at(index, name))
            .collect(),
        Import(path) => {
            let uses = source
                .uses()
                .into_iter()
                .filter(|name| !name.test && name.path == *path);
            uses.map(|name| {
                let message = format!("`{}`: {why}", path.join("::"));
                Violation::new(&file.path, name.line, message)
            })
            .collect()
        }
    }
}

/// Whether the name at `index` starts a value rather than a declaration, an `impl` or the body
/// of a function that returns it.
fn is_value(source: &Source, index: usize) -> bool {
    let before = |back: usize| index.checked_sub(back).map_or("", |at| source.text(at));
    let behind = if before(1) == "&" { 2 } else { 1 };
    let arrow = before(behind) == ">" && before(behind + 1) == "-";
    !arrow
        && !matches!(
            before(1),
            "struct" | "enum" | "union" | "impl" | "for" | "trait" | "::<" | "use"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    fn lines(path: &str, text: &str) -> Vec<String> {
        reported(check, &[(path, text)])
    }

    #[test]
    fn a_second_way_to_decide_is_found() {
        let text = "use countersign_core::decide::{decide as ask, Verdict};\n\
            fn f() { core::decide(x); }\nfn decide() {}";
        let found = lines("crates/gateway/src/a.rs", text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("crates/gateway/src/a.rs:2: `decide(`: only `enforce`"));
        assert!(lines("crates/enforce/src/a.rs", text).is_empty());
        assert!(lines("crates/core/src/a.rs", text).is_empty());
    }

    #[test]
    fn what_decide_answers_may_be_named_anywhere() {
        assert!(
            lines(
                "crates/gateway/src/a.rs",
                "use countersign_core::decide::Verdict;"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_second_dialer_is_found() {
        let text = "async fn f() {\nTcpStream::connect(a).await;\nlookup_host(a).await; }";
        let found = lines("crates/server/src/a.rs", text);
        assert_eq!(
            found[0],
            "crates/server/src/a.rs:2: `TcpStream::connect`: \
             only `net`'s dialer opens outgoing connections and resolves names"
        );
        assert_eq!(found.len(), 2);
        assert!(lines("crates/net/src/dial.rs", text).is_empty());
    }

    #[test]
    fn tests_may_dial() {
        let text = "#[cfg(test)]\nmod tests { fn f() { TcpStream::connect(a) } }";
        assert!(lines("crates/server/src/a.rs", text).is_empty());
        let text = "fn f() { TcpStream::connect(a) }";
        assert!(lines("crates/server/tests/it/a.rs", text).is_empty());
        assert!(lines("testkit/src/a.rs", text).is_empty());
    }

    #[test]
    fn evidence_made_outside_net_is_found() {
        let made = "fn f() { g(Evidence { peer }) }";
        assert_eq!(lines("crates/gateway/src/a.rs", made).len(), 1);
        assert!(lines("crates/net/src/a.rs", made).is_empty());
        let named = "impl Evidence { }\nfn f() -> Evidence { g() }\nimpl T for Evidence {}";
        assert!(lines("crates/gateway/src/a.rs", named).is_empty());
    }

    #[test]
    fn a_promise_made_outside_the_ledger_is_found() {
        let made = "fn f() -> Promise { Promise { node } }";
        assert_eq!(lines("crates/enforce/src/a.rs", made).len(), 1);
        assert!(lines("crates/ledger/src/spool.rs", made).is_empty());
    }
}
