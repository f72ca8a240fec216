use super::CanonicalPath;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What a caller wants of a service: `GET /v1/reports/42`, `read mailer`, `connect`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// What it is done to: a canonical path, the name of a secret, a topic; empty for `connect`.
    pub object: String,
    /// An HTTP method in upper case, or a lower-case verb such as `read`, `lease` or `publish`.
    pub verb: String,
}

impl Operation {
    /// An HTTP request.
    #[must_use]
    pub fn http(method: &str, path: &CanonicalPath) -> Self {
        Self {
            object: path.as_str().to_owned(),
            verb: method.to_owned(),
        }
    }

    /// A verb on a named thing.
    #[must_use]
    pub fn named(verb: &str, object: &str) -> Self {
        Self {
            object: object.to_owned(),
            verb: verb.to_owned(),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        if self.object.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.object)
        }
    }
}

/// A pattern of operations: `GET /v1/reports/**`, `publish reports.*`, `read mailer`, `connect`.
///
/// In paths `*` stands for one non-empty segment and a final `/**` for anything below (`/a/**`
/// matches `/a/` and `/a/b/c`, not `/a`). In names, whose parts are joined by `.`, `*` stands for
/// one part. Methods are exact, but `GET` covers `HEAD`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationPattern {
    verb: Arc<str>,
    object: Arc<str>,
}

/// Why a text is no [`OperationPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not `VERB object`.
    #[error("an operation is written `VERB /path`, `verb name` or `connect`")]
    Form,
    /// The verb is none we know.
    #[error(
        "`{0}` is neither an http method nor one of `read write lease connect publish subscribe create token revoke introspect issue admin`"
    )]
    Verb(String),
    /// `TRACE` reflects credentials (RFC 9110 section 9.3.8) and is never allowed.
    #[error("`TRACE` can't be allowed")]
    Trace,
    /// The path pattern is not canonical, or `**` is not its last segment.
    #[error(
        "the path of a pattern is canonical, with `*` as a whole segment and `**` only at the end"
    )]
    Path,
    /// The name has other characters.
    #[error("the name in an operation is letters, digits, `-`, `_`, `.` and `*` as a whole part")]
    Name,
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const VERBS: [&str; 12] = [
    "read",
    "write",
    "lease",
    "connect",
    "publish",
    "subscribe",
    "create",
    "token",
    "revoke",
    "introspect",
    "issue",
    "admin",
];

impl OperationPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut words = text.split_whitespace();
        let verb = words.next().ok_or(PatternError::Form)?;
        let object = words.collect::<Vec<_>>().join(" ");
        if verb == "TRACE" {
            return Err(PatternError::Trace);
        }
        if METHODS.contains(&verb) {
            check_path(&object)?;
        } else if VERBS.contains(&verb) {
            check_name(&object)?;
        } else {
            return Err(PatternError::Verb(verb.to_owned()));
        }
        Ok(Self {
            verb: verb.into(),
            object: object.as_str().into(),
        })
    }

    /// Whether the operation is one of these. With `fold`, paths are compared without regard to
    /// ASCII case, for upstreams that do the same.
    #[must_use]
    pub fn matches(&self, operation: &Operation, fold: bool) -> bool {
        let verb =
            *self.verb == *operation.verb || (&*self.verb == "GET" && operation.verb == "HEAD");
        verb && if operation.object.starts_with('/') {
            matches_path(&self.object, &operation.object, fold)
        } else {
            matches_name(&self.object, &operation.object)
        }
    }

    /// Whether every operation of `other` is also one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let probe = Operation {
            verb: other.verb.to_string(),
            object: other.object.to_string(),
        };
        // `*` in the probe is an ordinary segment for the matcher, so a literal never covers it.
        let open = other.object.ends_with("/**") && !self.object.ends_with("/**");
        !open && self.matches(&probe, false)
    }

    /// Whether some operation is both one of these and one of `other`.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let verbs = self.verb == other.verb
            || matches!(
                (&*self.verb, &*other.verb),
                ("GET", "HEAD") | ("HEAD", "GET")
            );
        verbs && overlap(&self.object, &other.object)
    }

    /// The verb or method.
    #[must_use]
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// The pattern of the object; empty for `connect`.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }
}

fn check_path(object: &str) -> Result<(), PatternError> {
    let head = object.strip_suffix("/**");
    // No canonical path has an empty segment for it to match.
    if head.is_some_and(|head| head.ends_with('/')) {
        return Err(PatternError::Path);
    }
    let literal = head.map_or(object, |head| if head.is_empty() { "/" } else { head });
    let segments = literal.split('/').skip(1);
    let mut stars = segments.filter(|segment| segment.contains('*'));
    let canonical = CanonicalPath::new(literal).map_err(|_| PatternError::Path)?;
    if canonical.as_str() != literal || stars.any(|segment| segment != "*") {
        return Err(PatternError::Path);
    }
    Ok(())
}

/// What divides the parts of a name.
const DIVIDERS: [char; 2] = ['.', '/'];

fn check_name(object: &str) -> Result<(), PatternError> {
    let fine = |part: &str| {
        part == "*"
            || !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if object.is_empty() || object.split(DIVIDERS).all(fine) {
        Ok(())
    } else {
        Err(PatternError::Name)
    }
}

fn same(pattern: &str, text: &str, fold: bool) -> bool {
    if fold {
        pattern.eq_ignore_ascii_case(text)
    } else {
        pattern == text
    }
}

fn matches_path(pattern: &str, path: &str, fold: bool) -> bool {
    let (head, open) = pattern
        .strip_suffix("**")
        .map_or((pattern, false), |head| (head, true));
    let mut wanted = head.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            // The head of an open pattern ends in `/`, so its last part is empty.
            (Some(""), Some(_)) if open && wanted.clone().next().is_none() => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(want), Some(segment)) if want != "*" && same(want, segment, fold) => {}
            _ => return false,
        }
    }
}

fn matches_name(pattern: &str, name: &str) -> bool {
    // What divides the parts is compared like the parts: `*` stands for no `gateway/edge`.
    let mut wanted = parts(pattern);
    let mut given = parts(name);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(("*", ends)), Some((part, end))) if !part.is_empty() && ends == end => {}
            (Some(want), Some(part)) if want == part => {}
            _ => return false,
        }
    }
}

/// The parts of a name, each with what ends it.
fn parts(name: &str) -> impl Iterator<Item = (&str, &str)> {
    name.split_inclusive(DIVIDERS)
        .map(|part| part.split_at(part.trim_end_matches(DIVIDERS).len()))
}

fn overlap(one: &str, other: &str) -> bool {
    if !one.starts_with('/') {
        return overlap_names(one, other);
    }
    let mut left = one.split('/');
    let mut right = other.split('/');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
            (Some("*"), Some(part)) | (Some(part), Some("*")) if !part.is_empty() => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn overlap_names(one: &str, other: &str) -> bool {
    let mut left = parts(one);
    let mut right = parts(other);
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some((a, end)), Some((b, ends)))
                if end == ends && (a == b || a == "*" || b == "*") => {}
            _ => return false,
        }
    }
}

impl fmt::Display for OperationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        if self.object.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.object)
        }
    }
}

impl fmt::Debug for OperationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl std::str::FromStr for OperationPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, operation: &str) -> bool {
        let (verb, object) = operation.split_once(' ').unwrap_or((operation, ""));
        OperationPattern::parse(pattern)
            .unwrap()
            .matches(&Operation::named(verb, object), false)
    }

    #[test]
    fn paths() {
        for (pattern, operation) in [
            ("GET /**", "GET /"),
            ("GET /**", "GET /a/b"),
            ("GET /a/**", "GET /a/"),
            ("GET /a/**", "GET /a/b/c"),
            ("GET /a/*", "GET /a/b"),
            ("GET /a/*/c", "GET /a/b/c"),
            ("GET /a", "HEAD /a"),
            ("GET /a/*/**", "GET /a/b/c"),
        ] {
            assert!(matches(pattern, operation), "{pattern} {operation}");
        }
        for (pattern, operation) in [
            ("GET /a/**", "GET /a"),
            ("GET /a/**", "GET /ab/c"),
            ("GET /a", "GET /a/"),
            ("GET /a/", "GET /a"),
            ("GET /a/*", "GET /a/"),
            ("GET /a/*", "GET /a/b/c"),
            ("GET /a", "POST /a"),
            ("HEAD /a", "GET /a"),
            ("GET /a", "GET /A"),
            ("POST /a", "HEAD /a"),
            ("GET /a/*/c", "GET /a//c"),
        ] {
            assert!(!matches(pattern, operation), "{pattern} {operation}");
        }
        let folded = OperationPattern::parse("GET /Admin/**").unwrap();
        assert!(folded.matches(&Operation::named("GET", "/aDMIN/x"), true));
    }

    #[test]
    fn names() {
        assert!(matches("publish reports.*", "publish reports.eu"));
        assert!(!matches("publish reports.*", "publish reports"));
        assert!(!matches("publish reports.*", "publish reports.eu.x"));
        assert!(matches("issue *", "issue edge"));
        assert!(!matches("issue *", "issue gateway/edge"));
        assert!(matches("issue gateway/*", "issue gateway/edge"));
        assert!(matches("issue gateway/edge", "issue gateway/edge"));
        assert!(!matches("issue gateway/*", "issue gateway.edge"));
        assert!(matches("read mailer", "read mailer"));
        assert!(!matches("read mailer", "read mailer2"));
        assert!(matches("connect", "connect"));
        assert!(!matches("read mailer", "write mailer"));
    }

    #[test]
    fn covers_and_overlaps() {
        let pattern = |text| OperationPattern::parse(text).unwrap();
        assert!(pattern("GET /**").covers(&pattern("GET /a/*")));
        assert!(pattern("GET /**").covers(&pattern("GET /a/**")));
        assert!(!pattern("GET /a/*").covers(&pattern("GET /a/**")));
        assert!(!pattern("GET /a/b").covers(&pattern("GET /a/*")));
        assert!(pattern("GET /a/*").overlaps(&pattern("GET /*/b")));
        assert!(pattern("GET /a/**").overlaps(&pattern("GET /a/b/c")));
        assert!(!pattern("GET /a").overlaps(&pattern("POST /a")));
        assert!(!pattern("GET /a/b").overlaps(&pattern("GET /a/c")));
        assert!(!pattern("issue *").covers(&pattern("issue gateway/*")));
        assert!(!pattern("issue *").overlaps(&pattern("issue gateway/*")));
        assert!(pattern("issue gateway/*").overlaps(&pattern("issue gateway/edge")));
    }

    #[test]
    fn refuses_bad_patterns() {
        for bad in [
            "",
            "GET",
            "GET a",
            "GET /a/**/b",
            "GET /a*",
            "GET /a//**",
            "GET //**",
            "GET /a/../b",
            "TRACE /",
            "get /a",
            "fetch x",
            "read a..b",
            "GET /a//b",
            "GET /%61",
        ] {
            assert!(OperationPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
