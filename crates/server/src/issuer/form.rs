//! `application/x-www-form-urlencoded`, read strictly: what two readers could take for different
//! things is refused.

/// The fields of a form, in the order they came.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

/// Why a form can't be read; names no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    /// A byte that must be escaped, an escape that is none, or text that is not UTF-8.
    #[error("the form is not url-encoded utf-8")]
    Encoding,
    /// A parameter came more than once (RFC 6749 section 3.2).
    #[error("parameter `{0}` appears twice")]
    Repeated(&'static str),
    /// More than 32 parameters.
    #[error("the form has too many parameters")]
    TooMany,
}

/// The most parameters a form of ours has any use for.
const MOST: usize = 32;

impl Form {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, FormError> {
        if !well_encoded(body) {
            return Err(FormError::Encoding);
        }
        let pairs = form_urlencoded::parse(body).take(MOST + 1);
        let pairs: Vec<_> = pairs
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > MOST {
            return Err(FormError::TooMany);
        }
        // The decoder puts U+FFFD where the bytes are not UTF-8.
        let lossy = |text: &String| text.contains('\u{fffd}');
        if pairs
            .iter()
            .any(|(name, value)| lossy(name) || lossy(value))
        {
            return Err(FormError::Encoding);
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter that may come once. An empty value counts as absent (RFC 6749
    /// section 3.2).
    pub(super) fn once(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(FormError::Repeated(name)),
            None => Ok(first.filter(|value| !value.is_empty())),
        }
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }
}

/// Visible ASCII only, and each `%` with two hexadecimal digits behind it.
fn well_encoded(body: &[u8]) -> bool {
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        let escaped = |it: Option<&u8>| it.is_some_and(u8::is_ascii_hexdigit);
        let good = match byte {
            b'%' => escaped(bytes.next()) && escaped(bytes.next()),
            other => other.is_ascii_graphic(),
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parameter_counts_once() {
        let form = Form::read(b"a=1&b=x%20y+z&a=2&c=&d").unwrap();
        assert_eq!(form.once("a"), Err(FormError::Repeated("a")));
        assert_eq!(form.once("b"), Ok(Some("x y z")));
        assert_eq!(form.once("c"), Ok(None));
        assert_eq!(form.once("d"), Ok(None));
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_could_be_read_twice_is_refused() {
        for body in [
            "a=%",
            "a=%4",
            "a=%zz",
            "a=b c",
            "a=\n",
            "a=\u{e9}",
            "a=%ff",
            "a=%ef%bf%bd",
        ] {
            assert_eq!(
                Form::read(body.as_bytes()).unwrap_err(),
                FormError::Encoding,
                "{body:?}"
            );
        }
        let many = "a=1&".repeat(40);
        assert_eq!(Form::read(many.as_bytes()).unwrap_err(), FormError::TooMany);
    }

    proptest! {
        #[test]
        fn fields_read_back(fields in prop::collection::vec(("[a-z_]{1,8}", "[^\u{fffd}]{0,20}"), 0..8)) {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(&fields);
            prop_assert_eq!(Form::read(form.finish().as_bytes()).unwrap().0, fields);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, text in "([a-c]=|[%&=+]|%[0-9a-fA-F]{2}|[a-z]){0,40}") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                if let Ok(form) = Form::read(body) {
                    prop_assert!(form.0.len() <= MOST);
                    let once = form.once("a");
                    prop_assert_eq!(once.is_err(), form.all("a").count() > 1);
                }
            }
        }
    }
}
