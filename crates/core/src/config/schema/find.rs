//! A key by its path, for help: `listeners.limits.header_time`.

use super::FILE;
use super::Form;
use super::Grammar;
use super::Key;
use super::Shape;
use crate::config::suggest::closest;

/// A key of the language and where it stands.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path with `<name>` for the names of entries: `listeners.<name>.limits.header_time`.
    pub path: String,
    /// Its declaration.
    pub key: &'static Key,
    /// The map it belongs to.
    pub owner: &'static Shape,
}

/// There is no key of this path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key has the path `{path}`")]
pub struct NoSuchKey {
    /// What was asked for.
    pub path: String,
    /// Paths that were perhaps meant, the first of them most likely.
    pub meant: Vec<String>,
}

/// The key of a path. The names of entries may be there, left out, or written `<name>` or `*`;
/// the last word is enough where only one key has it.
///
/// # Errors
/// [`NoSuchKey`] if there is none, or if a single word means several.
pub fn find(path: &str) -> Result<Found, NoSuchKey> {
    let words: Vec<_> = path.split('.').collect();
    let mut places = all();
    let exact = places.iter().position(|it| it.short() == words);
    if let Some(at) = exact.or_else(|| places.iter().position(|it| it.is_at(&words))) {
        return Ok(places.swap_remove(at).found);
    }
    let same_end = |it: &Place| it.words.len() > words.len() && it.short().ends_with(&words);
    let mut meant: Vec<_> = places
        .iter()
        .filter(|it| same_end(it))
        .map(|it| it.short().join("."))
        .collect();
    if let [only] = meant.as_slice() {
        return find(only);
    }
    if meant.is_empty() {
        let paths: Vec<_> = places.iter().map(|it| it.short().join(".")).collect();
        let names = places.iter().map(|it| it.found.key.name);
        let close = closest(path, paths.iter().map(String::as_str)).or(closest(path, names));
        meant.extend(close.map(str::to_owned));
    }
    Err(NoSuchKey {
        path: path.to_owned(),
        meant,
    })
}

impl Found {
    /// The keys below this one, if its value is a map with keys or has such entries.
    #[must_use]
    pub const fn below(&self) -> Option<&'static Shape> {
        self.key.form.shape()
    }
}

impl Form {
    /// The map that a value, or an entry of it, is.
    #[must_use]
    pub const fn shape(&self) -> Option<&'static Shape> {
        match self {
            Self::Map(inner) | Self::Entries(_, inner) | Self::ChoiceOr(_, inner) => Some(inner),
            _ => None,
        }
    }

    /// The small grammars in it: of the names of entries, then of texts.
    pub fn grammars(&self) -> impl Iterator<Item = &'static Grammar> + use<> {
        let two = match self {
            Self::Text(texts) | Self::Texts(texts) | Self::TextOrTexts(texts) => {
                [None, Some(*texts)]
            }
            Self::Entries(names, _) => [Some(*names), None],
            Self::Pairs(names, texts) | Self::Lists(names, texts) => [Some(*names), Some(*texts)],
            Self::Choice(_) | Self::ChoiceOr(..) | Self::Choices(_) | Self::Map(_) | Self::Any => {
                [None, None]
            }
        };
        two.into_iter().flatten()
    }
}

const NAME: &str = "<name>";

struct Place {
    words: Vec<&'static str>,
    found: Found,
}

impl Place {
    /// The path without the names of entries.
    fn short(&self) -> Vec<&'static str> {
        let words = self.words.iter().copied();
        words.filter(|it| *it != NAME).collect()
    }

    /// Whether these words are the path, with any word for the name of an entry.
    fn is_at(&self, words: &[&str]) -> bool {
        let mut both = words.iter().zip(&self.words);
        words.len() == self.words.len() && both.all(|(given, mine)| given == mine || *mine == NAME)
    }
}

/// Every key, each before those below it.
fn all() -> Vec<Place> {
    let mut places = Vec::new();
    walk(&FILE, &[], &mut places);
    places
}

fn walk(owner: &'static Shape, above: &[&'static str], places: &mut Vec<Place>) {
    for key in owner.keys {
        let mut words = above.to_vec();
        words.push(key.name);
        places.push(Place {
            words: words.clone(),
            found: Found {
                path: words.join("."),
                key,
                owner,
            },
        });
        if matches!(key.form, Form::Entries(..)) {
            words.push(NAME);
        }
        if let Some(inner) = key.form.shape() {
            walk(inner, &words, places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        find(text).unwrap().path
    }

    #[test]
    fn a_key_is_found_with_and_without_names() {
        let whole = "listeners.<name>.limits.header_time";
        for text in [
            whole,
            "listeners.limits.header_time",
            "listeners.*.limits.header_time",
            "listeners.web.limits.header_time",
            "header_time",
            "limits.header_time",
        ] {
            assert_eq!(path(text), whole, "{text}");
        }
        assert_eq!(path("listeners"), "listeners");
        assert_eq!(path("staleness.policy"), "staleness.policy");
        assert_eq!(find("audit").unwrap().below().unwrap().name, "`audit`");
    }

    #[test]
    fn what_is_not_there_names_what_was_meant() {
        let meant = |text| find(text).unwrap_err().meant;
        assert_eq!(
            meant("listeners.limits.heeder_time"),
            ["listeners.limits.header_time"]
        );
        assert_eq!(meant("heder_time"), ["header_time"]);
        assert_eq!(meant("zebra.crossing"), [""; 0]);
        assert_eq!(meant(""), [""; 0]);
        assert!(meant("needs").contains(&"secrets.needs".to_owned()));
    }

    #[test]
    fn every_key_is_found_by_its_path() {
        for place in all() {
            let found = find(&place.found.path).unwrap();
            assert!(std::ptr::eq(found.key, place.found.key), "{}", found.path);
            let short = find(&place.short().join(".")).unwrap();
            assert!(std::ptr::eq(short.key, place.found.key), "{}", short.path);
        }
    }
}
