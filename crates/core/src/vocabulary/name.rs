use super::text::checked_text;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of an entry of the configuration: what errors, records and the command line say.
///
/// One to 63 characters: lower-case letters, digits, `-`, `_` and `.`, first and last a letter or
/// a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or longer than 63 characters.
    #[error("a name has 1 to 63 characters")]
    Length,
    /// A character outside the alphabet.
    #[error("a name is made of lower-case letters, digits, `-`, `_` and `.`")]
    Character,
    /// Starts or ends with punctuation.
    #[error("a name starts and ends with a letter or a digit")]
    Edge,
}

impl Name {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 63 {
            return Err(NameError::Length);
        }
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !text
            .bytes()
            .all(|b| word(b) || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(NameError::Character);
        }
        let edge = |b: Option<&u8>| b.is_some_and(|b| word(*b));
        if !edge(text.as_bytes().first()) || !edge(text.as_bytes().last()) {
            return Err(NameError::Edge);
        }
        Ok(Self(text.into()))
    }

    /// The server's own mTLS port, as a door.
    #[must_use]
    pub fn control() -> Self {
        Self("control".into())
    }

    /// The administration socket, as a door.
    #[must_use]
    pub fn admin() -> Self {
        Self("admin".into())
    }

    /// The server's port for gateways that have no certificate yet, as a door.
    #[must_use]
    pub fn join() -> Self {
        Self("join".into())
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

checked_text!(Name, Name::new);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "hms-api", "openai_primary", "v1.2", "0x"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Name::new(""), Err(NameError::Length));
        assert_eq!(Name::new(&"a".repeat(64)), Err(NameError::Length));
        assert_eq!(Name::new("Api"), Err(NameError::Character));
        assert_eq!(Name::new("a/b"), Err(NameError::Character));
        assert_eq!(Name::new("-a"), Err(NameError::Edge));
        assert_eq!(Name::new("a."), Err(NameError::Edge));
    }
}
