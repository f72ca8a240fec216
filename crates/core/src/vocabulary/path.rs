use super::text::checked_text;

/// A request path in the one form in which it is matched and forwarded.
///
/// RFC 3986 section 6.2.2 without its guesses: percent-encoded unreserved characters are decoded
/// and other escapes upper-cased; whatever two servers could read in two ways is refused. The
/// query is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalPath(String);

/// Why a path is refused (with 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with `/`.
    #[error("a path starts with `/`")]
    Relative,
    /// A control character, a backslash, a fragment, `;`, or not UTF-8.
    #[error("the path has a character that servers read differently")]
    Character,
    /// A broken escape, or one of `%2F %5C %00 %25`, or an escaped control character or `;`.
    #[error("the path has an escape that servers read differently")]
    Escape,
    /// `.` or `..`, raw or escaped.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// Over 8 KiB: servers cut such paths off at different places, and a record has to hold it.
    #[error("the path is over 8192 bytes")]
    Length,
}

/// The most bytes a canonical path has.
const LONGEST: usize = 8 << 10;

impl CanonicalPath {
    /// Brings a raw path (without query) into its canonical form.
    ///
    /// # Errors
    /// [`PathError`] for a path that could be read in more than one way.
    pub fn new(raw: &str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::Relative);
        }
        // Three bytes of an escape stand for at least one: what is over this is too long whatever
        // it decodes to.
        if raw.len() > 3 * LONGEST {
            return Err(PathError::Length);
        }
        let canonical = if raw.bytes().all(|b| is_plain(b) || b == b'/') {
            raw.to_owned()
        } else {
            decode(raw)?
        };
        if canonical.len() > LONGEST {
            return Err(PathError::Length);
        }
        if canonical.contains("//") {
            return Err(PathError::EmptySegment);
        }
        if canonical
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(PathError::DotSegment);
        }
        Ok(Self(canonical))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Unreserved characters (RFC 3986 section 2.3).
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn decode(raw: &str) -> Result<String, PathError> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex_digit).ok_or(PathError::Escape)?;
                let low = bytes.next().and_then(hex_digit).ok_or(PathError::Escape)?;
                escape(high << 4 | low, &mut out)?;
            }
            b'\\' | b'#' | b'?' | b';' => return Err(PathError::Character),
            byte if byte <= 0x20 || byte == 0x7f => return Err(PathError::Character),
            byte if byte >= 0x80 => out.extend(format!("%{byte:02X}").into_bytes()),
            byte => out.push(byte),
        }
    }
    let text = String::from_utf8(out).map_err(|_| PathError::Character)?;
    check_utf8(&text)?;
    Ok(text)
}

fn escape(value: u8, out: &mut Vec<u8>) -> Result<(), PathError> {
    match value {
        b'/' | b'\\' | b'%' | b';' | 0x00..=0x1f | 0x7f => Err(PathError::Escape),
        plain if is_plain(plain) => {
            out.push(plain);
            Ok(())
        }
        other => {
            out.extend(format!("%{other:02X}").into_bytes());
            Ok(())
        }
    }
}

/// The octets behind the escapes must be UTF-8 (overlong forms hide `/` and `.`).
fn check_utf8(canonical: &str) -> Result<(), PathError> {
    let mut octets = Vec::with_capacity(canonical.len());
    let mut bytes = canonical.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = bytes.next().and_then(hex_digit).ok_or(PathError::Escape)?;
            let low = bytes.next().and_then(hex_digit).ok_or(PathError::Escape)?;
            octets.push(high << 4 | low);
        } else {
            octets.push(byte);
        }
    }
    let text = std::str::from_utf8(&octets).map_err(|_| PathError::Escape)?;
    // C1 controls are controls too.
    if text.chars().any(char::is_control) {
        Err(PathError::Escape)
    } else {
        Ok(())
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

checked_text!(CanonicalPath, CanonicalPath::new);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_form() {
        let cases = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/%61%7e%2D", "/a~-"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/a%20b%3f", "/a%20b%3F"),
        ];
        for (raw, canonical) in cases {
            assert_eq!(
                CanonicalPath::new(raw).unwrap().as_str(),
                canonical,
                "{raw}"
            );
        }
    }

    #[test]
    fn refuses_two_readings() {
        let cases = [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("*", PathError::Relative),
            ("/a%2fb", PathError::Escape),
            ("/a%5Cb", PathError::Escape),
            ("/a%00", PathError::Escape),
            ("/a%252e", PathError::Escape),
            ("/a%3bb", PathError::Escape),
            ("/a%", PathError::Escape),
            ("/a%4", PathError::Escape),
            ("/a%zz", PathError::Escape),
            ("/a%0d%0a", PathError::Escape),
            ("/%c0%ae", PathError::Escape),
            ("/%ff", PathError::Escape),
            ("/%c2%85", PathError::Escape),
            ("/a\\b", PathError::Character),
            ("/a;b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a b", PathError::Character),
            ("/a?b", PathError::Character),
            ("/.", PathError::DotSegment),
            ("/../a", PathError::DotSegment),
            ("/a/..", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::DotSegment),
            ("/a//b", PathError::EmptySegment),
            ("//", PathError::EmptySegment),
            (&format!("/{}", "a".repeat(8192)), PathError::Length),
            (&format!("/{}", "\u{e9}".repeat(1366)), PathError::Length),
            (&format!("/{}", "%61".repeat(8192)), PathError::Length),
        ];
        for (raw, error) in cases {
            assert_eq!(CanonicalPath::new(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn eight_kibibytes_are_the_most() {
        let longest = format!("/{}", "a".repeat(8191));
        assert_eq!(CanonicalPath::new(&longest).unwrap().as_str(), longest);
        let escaped = format!("/{}", "%61".repeat(8191));
        assert_eq!(CanonicalPath::new(&escaped).unwrap().as_str(), longest);
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(raw in "/[a-zA-Z0-9%./;\\\\#? é~]{0,30}") {
            if let Ok(path) = CanonicalPath::new(&raw) {
                prop_assert_eq!(CanonicalPath::new(path.as_str()), Ok(path.clone()));
                prop_assert!(path.as_str().starts_with('/'));
            }
        }

        #[test]
        fn never_panics(raw in ".{0,60}") {
            let _ = CanonicalPath::new(&raw);
        }
    }
}
