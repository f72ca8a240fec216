//! Everything in a text that is not to be printed: what gitleaks' rules know, keys by the prefixes
//! of their providers, tokens, private keys, and passwords in URLs.

use super::find;
use super::find_in;
use std::ops::Range;

/// A credential that somebody wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Where it is, in bytes; empty where the name of the file gives it away.
    pub(crate) range: Range<usize>,
    pub(crate) kind: Kind,
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something with a form of its own, in words.
    Known(&'static str),
    /// What a rule of gitleaks matches.
    Rule(&'static str),
    /// User and password in front of the host of a URL (RFC 3986 section 3.2.1).
    Userinfo,
}

impl Kind {
    /// What it looks like.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Known(words) => words.to_owned(),
            Self::Rule(rule) => format!("a credential (`{rule}`)"),
            Self::Userinfo => "a password in a url".to_owned(),
        }
    }
}

/// Credentials in a file, in the order of its text, none of which overlap.
pub(crate) fn find_all(path: &str, text: &str) -> Vec<Literal> {
    let rules = find_in(path, text);
    merged(text, rules)
}

/// Credentials in a text of which nothing else is known.
pub(crate) fn find_any(text: &str) -> Vec<Literal> {
    merged(text, find(text))
}

/// Credentials that give themselves away without what stands around them.
pub(crate) fn find_marked(text: &str) -> Vec<Literal> {
    merged(text, std::iter::empty())
}

/// Where two of them overlap they are one, which what is known best has a word for.
fn merged(text: &str, rules: impl Iterator<Item = super::Finding>) -> Vec<Literal> {
    let literal = |range: Range<usize>, kind| Literal { range, kind };
    let mut all: Vec<Literal> = rules
        .map(|it| literal(it.range, Kind::Rule(it.rule)))
        .collect();
    all.extend(
        words(text).filter_map(|(range, word)| {
            recognise(word).map(|kind| literal(range, Kind::Known(kind)))
        }),
    );
    all.extend(private_keys(text).map(|range| literal(range, Kind::Known("a private key"))));
    all.extend(passwords(text).map(|range| literal(range, Kind::Userinfo)));
    let rank = |kind: Kind| match kind {
        Kind::Known(_) => 0_u8,
        Kind::Rule(_) => 1,
        Kind::Userinfo => 2,
    };
    all.sort_by_key(|it| (it.range.start, rank(it.kind)));
    let mut kept: Vec<Literal> = Vec::with_capacity(all.len());
    for it in all {
        match kept.last_mut() {
            Some(last) if it.range.start < last.range.end => {
                last.range.end = last.range.end.max(it.range.end);
                if rank(it.kind) < rank(last.kind) {
                    last.kind = it.kind;
                }
            }
            _ => kept.push(it),
        }
    }
    kept
}

/// Prefixes that providers give their keys so that they can be found, with the least number of
/// characters that follow.
const PREFIXES: [(&str, usize, &str); 23] = [
    ("sk-ant-", 12, "an Anthropic key"),
    ("sk-", 12, "an OpenAI key"),
    ("sk_live_", 12, "a Stripe key"),
    ("rk_live_", 12, "a Stripe key"),
    ("whsec_", 16, "a webhook secret"),
    ("ghp_", 16, "a GitHub token"),
    ("gho_", 16, "a GitHub token"),
    ("ghu_", 16, "a GitHub token"),
    ("ghs_", 16, "a GitHub token"),
    ("ghr_", 16, "a GitHub token"),
    ("github_pat_", 16, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("AIza", 30, "a Google API key"),
    ("xoxb-", 10, "a Slack token"),
    ("xoxa-", 10, "a Slack token"),
    ("xoxp-", 10, "a Slack token"),
    ("xoxr-", 10, "a Slack token"),
    ("xoxs-", 10, "a Slack token"),
    ("hvs.", 20, "a Vault token"),
    ("npm_", 30, "an npm token"),
    ("dop_v1_", 30, "a DigitalOcean token"),
];

/// The words of a text that could be keys, with their places.
fn words(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut start = 0;
    text.split(move |c| !part_of_word(c)).map(move |word| {
        // Pieces and what separates them lie side by side.
        let here = start;
        let end = here + word.len();
        let separator = text.get(end..).and_then(|rest| rest.chars().next());
        start = end + separator.map_or(0, char::len_utf8);
        (here..end, word)
    })
}

fn recognise(word: &str) -> Option<&'static str> {
    if is_jwt(word) {
        return Some("a JSON Web Token");
    }
    let hit = |(prefix, least, _): &&(&str, usize, &str)| {
        // Names are lower-case words; keys are not.
        let random = |rest: &str| {
            rest.bytes()
                .any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        };
        word.strip_prefix(prefix)
            .is_some_and(|rest| rest.len() >= *least && random(rest))
    };
    PREFIXES.iter().find(hit).map(|(_, _, kind)| *kind)
}

/// Three base64url parts, the first two of which start like `{"`.
fn is_jwt(word: &str) -> bool {
    let mut parts = word.split('.');
    let header = parts
        .next()
        .is_some_and(|part| part.starts_with("eyJ") && part.len() >= 16);
    header && parts.next().is_some_and(|part| part.starts_with("eyJ")) && parts.next().is_some()
}

/// PEM blocks of private keys (RFC 7468 section 10), whole or cut off: the line with the mark and
/// the lines of base64 behind it.
fn private_keys(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("-----BEGIN ").filter_map(|(start, _)| {
        let block = text.get(start..)?;
        let mut lines = block.split_inclusive('\n');
        let first = lines.next()?;
        if !first.contains("PRIVATE KEY") {
            return None;
        }
        let base64 = |line: &&str| {
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
            let line = line.trim();
            line.len() >= 16 && line.bytes().all(fine) || line.starts_with("-----END ")
        };
        let rest: usize = lines.take_while(base64).map(str::len).sum();
        let block = block.get(..first.len() + rest)?.trim_end();
        Some(start..start + block.len())
    })
}

/// `user:password` in front of the host of a URL. A placeholder is no password.
fn passwords(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = text.get(start..)?;
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c));
        let rest = rest.get(..end.unwrap_or(rest.len()))?;
        let (before, _) = rest.split_once('@')?;
        let (_, password) = before.split_once(':')?;
        // `https://host:8443/@scope` has a port.
        let port = password.split('/').next().unwrap_or_default();
        let is_port = password.contains('/') && port.bytes().all(|b| b.is_ascii_digit());
        let in_path = before.find('/') < before.find(':') && before.contains('/');
        let placeholder = password.starts_with("${")
            || password.starts_with("{{")
            || password.bytes().all(|b| matches!(b, b'*' | b'.'));
        // A `@` inside of the password is part of it.
        let authority = rest.split('/').next().unwrap_or_default();
        let length = authority.rfind('@').unwrap_or(0).max(before.len());
        (!is_port && !in_path && !placeholder).then_some(start..start + length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(&str, Kind)> {
        let found = find_marked(text).into_iter();
        found
            .filter_map(|it| Some((text.get(it.range)?, it.kind)))
            .collect()
    }

    #[test]
    fn keys_are_recognised_and_names_are_not() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
        for (text, key, kind) in [
            (
                "!x sk-proj-EXAMPLE...",
                "sk-proj-EXAMPLE...",
                "an OpenAI key",
            ),
            (
                "é Bearer ghp_0123456789abcdef0123",
                "ghp_0123456789abcdef0123",
                "a GitHub token",
            ),
            (
                "{AKIAIOSFODNN7EXAMPLE",
                "AKIAIOSFODNN7EXAMPLE",
                "an AWS access key",
            ),
            (
                "https://x.example/?k=xoxb-1234567890-abc",
                "xoxb-1234567890-abc",
                "a Slack token",
            ),
            (token, token, "a JSON Web Token"),
        ] {
            assert_eq!(kinds(text), [(key, Kind::Known(kind))], "{text}");
        }
        for text in [
            "openai",
            "sk-frontend-12",
            "risk-assessment-service-12",
            "store:openai",
            "report:read",
            "",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    #[test]
    fn private_keys_end_where_their_base64_does() {
        let block = format!(
            "-----BEGIN EC {0} KEY-----\nMHcCAQEEIIGnQ0123456\n  -----END EC {0} KEY-----",
            "PRIVATE"
        );
        let cut = block.split_inclusive('\n').take(2).collect::<String>();
        for key in [block.as_str(), cut.trim_end()] {
            let text = format!("a: |\n  {key}\nb: c\n");
            assert_eq!(kinds(&text), [(key, Kind::Known("a private key"))]);
        }
        assert_eq!(kinds("-----BEGIN CERTIFICATE-----\nMHcC"), []);
    }

    #[test]
    fn passwords_of_urls() {
        for (text, password) in [
            ("# postgres://u:pw@db", "u:pw"),
            ("\"https://u:p@ss@x/y\"", "u:p@ss"),
            ("vault:https://u:pw@v/a@b", "u:pw"),
            ("postgres://u:pa/ss@db", "u:pa/ss"),
            ("https://:pw@x", ":pw"),
        ] {
            assert_eq!(kinds(text), [(password, Kind::Userinfo)], "{text}");
        }
        for text in [
            "https://x:8443/@scope/y",
            "https://x/a:b@c",
            "ssh://git@x/y",
            "postgres://u:${PASSWORD}@db",
            "postgres://u:***@db",
            "https://x",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }
}
