//! Hard-coded credentials in a text: what looks like a key that somebody wrote down.
//!
//! The rules are gitleaks' ([`rules`]): a keyword that must be there, a pattern, the least entropy
//! of what it captures, and what is no credential all the same. A text is searched for all keywords
//! at once; a pattern is compiled when one of its keywords turns up, and runs around it only.

mod rules;
mod written;

pub(crate) use written::Kind;
pub(crate) use written::Literal;
pub(crate) use written::find_all;
pub(crate) use written::find_any;
pub(crate) use written::find_marked;

use aho_corasick::AhoCorasick;
use aho_corasick::MatchKind;
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use rules::EVERYWHERE;
use rules::RULES;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::OnceLock;

/// What looks like a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule it matches, such as `github-pat`.
    pub rule: &'static str,
    /// Where it is, in bytes; empty where the name of the file gives it away.
    pub range: Range<usize>,
}

/// Credentials in a text of which nothing else is known, in the order of the text.
pub fn find(text: &str) -> impl Iterator<Item = Finding> {
    search(None, text).into_iter()
}

/// Credentials in a file, in the order of its text; some rules are for files of some names only.
pub fn find_in(path: &str, text: &str) -> impl Iterator<Item = Finding> {
    search(Some(path), text).into_iter()
}

/// Whether files of this name are made by tools or come from others, so that nobody wrote what is
/// in them: pictures, lock files, vendored code.
#[must_use]
pub fn is_skipped(path: &str) -> bool {
    static PATHS: OnceLock<Allowed> = OnceLock::new();
    let allowed = PATHS.get_or_init(|| Allowed::compile(&EVERYWHERE));
    allowed.paths.iter().any(|it| it.is_match(path))
}

/// The names of all rules.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.id)
}

/// A rule of gitleaks.
struct Rule {
    id: &'static str,
    /// Empty if the path says it all.
    regex: &'static str,
    /// Empty for any path.
    path: &'static str,
    /// The group that captures the credential; 0 for the first that captures anything.
    group: usize,
    /// The entropy in bits per byte that it must exceed; 0 for any.
    entropy: f64,
    /// Lower case; one of them is in the text.
    keywords: &'static [&'static str],
    window: Window,
    allows: &'static [Allow],
}

/// How far from its keyword a match of a rule can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Window {
    /// In the same few lines.
    Near,
    /// Some pages away.
    Far,
    /// Anywhere in the text.
    Text,
}

/// What is no credential although a rule matches.
struct Allow {
    target: Target,
    /// Whether every kind of condition has to be met, rather than one.
    all: bool,
    regexes: &'static [&'static str],
    paths: &'static [&'static str],
    stopwords: &'static [&'static str],
    /// Whether the words of `stopwords.txt` are meant too.
    many_stopwords: bool,
}

/// What the patterns of an [`Allow`] are held against.
#[derive(Clone, Copy)]
enum Target {
    Secret,
    Match,
    Line,
}

/// Keywords of all rules, and whose they are.
struct Keywords {
    automaton: AhoCorasick,
    owners: Vec<Vec<usize>>,
}

/// A compiled rule.
struct Compiled {
    regex: Option<Regex>,
    path: Option<Regex>,
    allows: OnceLock<Vec<Allowed>>,
}

/// A compiled [`Allow`].
struct Allowed {
    given: &'static Allow,
    regexes: Vec<Regex>,
    paths: Vec<Regex>,
}

/// What surrounds a candidate.
struct Candidate<'t> {
    path: Option<&'t str>,
    text: &'t str,
    whole: Range<usize>,
    secret: Range<usize>,
}

/// Bytes before and behind a keyword in which a match lies.
const NEAR: (usize, usize) = (512, 2 << 10);
const FAR: (usize, usize) = (8 << 10, 16 << 10);

static COMPILED: [OnceLock<Compiled>; RULES.len()] = [const { OnceLock::new() }; RULES.len()];

static KEYWORDS: LazyLock<Option<Keywords>> = LazyLock::new(|| {
    let mut by_word: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rule) in RULES.iter().enumerate() {
        for word in rule.keywords {
            by_word.entry(word).or_default().push(index);
        }
    }
    let automaton = words(by_word.keys())?;
    Some(Keywords {
        automaton,
        owners: by_word.into_values().collect(),
    })
});

static STOPWORDS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| words(include_str!("stopwords.txt").lines()));

/// Finds words in either case.
fn words(all: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Option<AhoCorasick> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build(all)
        .ok()
}

/// Go's classes are those of ASCII, and its texts are bytes.
fn compile(pattern: &str) -> Option<Regex> {
    let bytes = syntax::Config::new().unicode(false).utf8(false);
    let config = Regex::config().utf8_empty(false);
    let mut builder = Regex::builder();
    builder.syntax(bytes).configure(config).build(pattern).ok()
}

fn search(path: Option<&str>, text: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for (index, windows) in windows(text) {
        let (Some(rule), Some(slot)) = (RULES.get(index), COMPILED.get(index)) else {
            continue;
        };
        let compiled = slot.get_or_init(|| Compiled::new(rule));
        if compiled.is_for(path) {
            let hits = windows
                .into_iter()
                .flat_map(|at| compiled.hits(rule, path, text, at));
            found.extend(hits);
        }
    }
    found.extend(by_path_alone(path));
    found.sort_by_key(|it| (it.range.start, it.range.end));
    // A key that several rules know is one key; the rule for any key has the last word.
    found.sort_by_key(|it| it.rule == GENERIC);
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for finding in found {
        let before = taken.range(..finding.range.end.max(1)).next_back();
        if before.is_none_or(|(_, end)| *end <= finding.range.start) {
            taken.insert(finding.range.start, finding.range.end);
            kept.push(finding);
        }
    }
    kept.sort_by_key(|it| it.range.start);
    kept
}

/// The rule for any key, which takes names for keys where they have digits.
const GENERIC: &str = "generic-api-key";

/// Files that are credentials, whatever is in them.
fn by_path_alone(path: Option<&str>) -> impl Iterator<Item = Finding> {
    let alone = RULES.iter().zip(&COMPILED);
    let alone = alone.filter(|(rule, _)| rule.regex.is_empty());
    alone.filter_map(move |(rule, slot)| {
        let compiled = slot.get_or_init(|| Compiled::new(rule));
        (path.is_some() && compiled.is_for(path)).then_some(Finding {
            rule: rule.id,
            range: 0..0,
        })
    })
}

/// Which parts of a text a rule has to look at, by the rule's index.
fn windows(text: &str) -> BTreeMap<usize, Vec<Range<usize>>> {
    let mut windows: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
    let Some(keywords) = KEYWORDS.as_ref() else {
        return windows;
    };
    for hit in keywords.automaton.find_overlapping_iter(text) {
        for index in keywords
            .owners
            .get(hit.pattern().as_usize())
            .into_iter()
            .flatten()
        {
            let (before, behind) = match RULES.get(*index).map(|rule| rule.window) {
                Some(Window::Near) => NEAR,
                Some(Window::Far) => FAR,
                Some(Window::Text) | None => (text.len(), text.len()),
            };
            let start = hit.start().saturating_sub(before);
            let end = hit.end().saturating_add(behind).min(text.len());
            let mine = windows.entry(*index).or_default();
            match mine.last_mut().filter(|last| start <= last.end) {
                Some(last) => last.end = last.end.max(end),
                None => mine.push(start..end),
            }
        }
    }
    windows
}

impl Compiled {
    fn new(rule: &Rule) -> Self {
        let given = |pattern: &str| Some(()).filter(|()| !pattern.is_empty());
        Self {
            regex: given(rule.regex).and_then(|()| compile(rule.regex)),
            path: given(rule.path).and_then(|()| compile(rule.path)),
            allows: OnceLock::new(),
        }
    }

    /// A rule for some paths says nothing about a text without one.
    fn is_for(&self, path: Option<&str>) -> bool {
        let Some(pattern) = &self.path else {
            return true;
        };
        path.is_some_and(|path| pattern.is_match(path))
    }

    fn hits(
        &self,
        rule: &'static Rule,
        path: Option<&str>,
        text: &str,
        window: Range<usize>,
    ) -> Vec<Finding> {
        let Some(regex) = &self.regex else {
            return Vec::new();
        };
        let input = Input::new(text.as_bytes()).span(window);
        let secret = |captures: &regex_automata::util::captures::Captures| {
            let whole = captures.get_match()?.range();
            let groups = 1..captures.group_len();
            let first = || {
                let mut captured = groups.filter_map(|group| captures.get_group(group));
                captured.find(|it| !it.is_empty())
            };
            let group = match rule.group {
                0 => first(),
                group => Some(captures.get_group(group)?),
            };
            let secret = group.map_or_else(|| whole.clone(), |it| it.range());
            Some((whole, trimmed(text, secret)))
        };
        let candidates = regex.captures_iter(input).filter_map(|it| secret(&it));
        let mut found = Vec::new();
        for (whole, secret) in candidates {
            let candidate = Candidate {
                path,
                text,
                whole,
                secret,
            };
            if self.is_credential(rule, &candidate) {
                found.push(Finding {
                    rule: rule.id,
                    range: candidate.secret,
                });
            }
        }
        found
    }

    fn is_credential(&self, rule: &'static Rule, candidate: &Candidate<'_>) -> bool {
        let secret = candidate.secret();
        if rule.entropy > 0.0 && entropy(secret.as_bytes()) <= rule.entropy {
            return false;
        }
        if rule.id == GENERIC && is_words(secret) {
            return false;
        }
        let compile = || {
            let all = std::iter::once(&EVERYWHERE).chain(rule.allows);
            all.map(Allowed::compile).collect()
        };
        let allows = self.allows.get_or_init(compile);
        !allows.iter().any(|allow| allow.allows(candidate))
    }
}

impl Allowed {
    fn compile(given: &'static Allow) -> Self {
        let all = |patterns: &[&str]| patterns.iter().filter_map(|it| compile(it)).collect();
        Self {
            given,
            regexes: all(given.regexes),
            paths: all(given.paths),
        }
    }

    fn allows(&self, candidate: &Candidate<'_>) -> bool {
        let target = match self.given.target {
            Target::Secret => candidate.secret(),
            Target::Match => candidate.part(candidate.whole.clone()),
            Target::Line => candidate.line(),
        };
        let secret = candidate.secret().to_ascii_lowercase();
        let stopped = || {
            let many = STOPWORDS.as_ref().filter(|_| self.given.many_stopwords);
            self.given
                .stopwords
                .iter()
                .any(|word| secret.contains(word))
                || many.is_some_and(|words| words.is_match(&secret))
        };
        let at = candidate.path;
        let here = || at.is_some_and(|path| self.paths.iter().any(|it| it.is_match(path)));
        let said = || self.regexes.iter().any(|it| it.is_match(target));
        if self.given.all {
            let words = !self.given.stopwords.is_empty() || self.given.many_stopwords;
            return (self.paths.is_empty() || here())
                && (self.regexes.is_empty() || said())
                && (!words || stopped());
        }
        said() || here() || stopped()
    }
}

impl<'t> Candidate<'t> {
    fn part(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    fn secret(&self) -> &'t str {
        self.part(self.secret.clone())
    }

    /// The lines that the match is on.
    fn line(&self) -> &'t str {
        let (before, behind) = (
            self.text.get(..self.whole.start).unwrap_or_default(),
            self.text.get(self.whole.end..).unwrap_or_default(),
        );
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = behind
            .find('\n')
            .map_or(self.text.len(), |at| self.whole.end + at);
        self.part(start..end)
    }
}

/// Without line breaks around it, and of whole characters.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(range.start);
    let end = text.ceil_char_boundary(range.end);
    let part = text.get(start..end).unwrap_or_default();
    let front = part.len() - part.trim_start_matches(['\r', '\n']).len();
    let part = part.trim_matches(['\r', '\n']);
    start + front..start + front + part.len()
}

/// Shannon's entropy in bits per byte.
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let share = |count: &u32| f64::from(*count) / total;
    let some = counts.iter().filter(|count| **count > 0).map(share);
    -some.map(|share| share * share.log2()).sum::<f64>()
}

/// Whether a text is made of words and short numbers, as names are and keys are not:
/// `openai-primary-2024`.
fn is_words(text: &str) -> bool {
    let part = |part: &str| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let one_case = part.chars().skip(1).all(|c| !c.is_ascii_uppercase());
        part.len() <= 3 || (one_case && rest.len() <= 4 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    text.len() <= 63 && text.split(|c: char| !c.is_ascii_alphanumeric()).all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(RULES.len(), 222);
        for rule in &RULES {
            for pattern in [rule.regex, rule.path] {
                assert!(compile(pattern).is_some(), "{}: {pattern}", rule.id);
            }
            assert!(
                rule.regex.is_empty() || !rule.keywords.is_empty(),
                "{}",
                rule.id
            );
        }
        let allows = RULES
            .iter()
            .flat_map(|rule| rule.allows)
            .chain([&EVERYWHERE]);
        for pattern in allows.flat_map(|it| it.regexes.iter().chain(it.paths)) {
            assert!(compile(pattern).is_some(), "{pattern}");
        }
        assert!(KEYWORDS.is_some() && STOPWORDS.is_some());
    }

    #[test]
    fn names_are_no_keys() {
        for text in [
            "openai-primary-2024",
            "reports_db",
            "s3.archive.2",
            "k8s-prod1",
        ] {
            assert!(is_words(text), "{text}");
        }
        for text in ["9f86d081884c7d65", "aB3dE6gH9jK2mN5pQ8", "Zx-81bq2k1"] {
            assert!(!is_words(text), "{text}");
        }
    }

    #[test]
    fn entropy_is_shannons() {
        assert!(entropy(b"aaaa").abs() < 1e-9);
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-9);
        assert!((entropy(b"aabb") - 1.0).abs() < 1e-9);
    }
}
