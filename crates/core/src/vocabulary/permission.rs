use super::text::checked_text;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A permission such as `report:read` or `ai:key:read`; also one value of a token's `scope`.
///
/// Two or more words of lower-case letters, digits, `-`, `_` and `.`, joined by `:`; at most 128
/// characters. Matching is exact: there are no wildcards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission(Arc<str>);

/// Why a text is no [`Permission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a permission is words of lower-case letters, digits, `-`, `_` and `.` joined by `:`, such as `report:read`"
)]
pub struct PermissionError;

impl Permission {
    /// Checks and keeps a permission.
    ///
    /// # Errors
    /// [`PermissionError`] if it is not of the form above.
    pub fn new(text: &str) -> Result<Self, PermissionError> {
        let word = |w: &str| {
            !w.is_empty()
                && w.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
                })
        };
        let mut words = text.split(':');
        if text.len() > 128 || !text.contains(':') || !words.all(word) {
            return Err(PermissionError);
        }
        Ok(Self(text.into()))
    }

    /// The text of the permission.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Permission {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

checked_text!(Permission, Permission::new);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions() {
        for good in ["report:read", "ai:key:read", "llm:chat"] {
            assert_eq!(Permission::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "report", ":", "a:", ":b", "a b:c", "A:b", "a:*", "a::b"] {
            assert_eq!(Permission::new(bad), Err(PermissionError), "{bad}");
        }
    }
}
