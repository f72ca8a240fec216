//! Patterns of operations.

use countersign_core::vocabulary::OperationPattern;

/// Whether an operation is one of those that a pattern means.
pub(super) fn covers(pattern: &OperationPattern, verb: &str, object: &str, fold: bool) -> bool {
    let verbs = pattern.verb() == verb || pattern.verb() == "GET" && verb == "HEAD";
    if !verbs {
        return false;
    }
    if !object.starts_with('/') {
        return names(pattern.object(), object);
    }
    if fold {
        let lower = str::to_ascii_lowercase;
        return paths(&lower(pattern.object()), &lower(object));
    }
    paths(pattern.object(), object)
}

/// `*` is one segment that is not empty; a last `/**` is anything under what stands before it.
fn paths(pattern: &str, path: &str) -> bool {
    let mut wanted: Vec<&str> = pattern.split('/').collect();
    let mut given: Vec<&str> = path.split('/').collect();
    if wanted.last() == Some(&"**") {
        wanted.pop();
        if given.len() <= wanted.len() {
            return false;
        }
        given.truncate(wanted.len());
    }
    wanted.len() == given.len()
        && wanted
            .iter()
            .zip(&given)
            .all(|(want, segment)| match *want {
                "*" => !segment.is_empty(),
                want => want == *segment,
            })
}

/// `*` is one part of a name, between dots and slashes.
fn names(pattern: &str, name: &str) -> bool {
    let (wanted, given) = (words(pattern), words(name));
    wanted.len() == given.len()
        && wanted
            .iter()
            .zip(&given)
            .all(|(want, word)| want == word || want == "*" && word != "." && word != "/")
}

/// The parts, and what stands between them, each by itself.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in name.chars() {
        if letter == '.' || letter == '/' {
            words.push(std::mem::take(&mut word));
            words.push(letter.to_string());
        } else {
            word.push(letter);
        }
    }
    words.push(word);
    words
}

/// Whether a text is what a pattern means, in which `*` is any text.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            (0..=after.len()).any(|at| after.is_char_boundary(at) && glob(rest, &after[at..]))
        }),
    }
}
