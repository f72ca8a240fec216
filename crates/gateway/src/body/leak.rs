use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use memchr::memmem;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fmt;

/// The injected credential, looked for in what comes back.
#[derive(Clone)]
pub(crate) struct Needle(SecretString);

/// The search through one body, across its chunks.
pub(crate) struct Scan {
    /// The end of what came so far, while it may be the beginning of the credential.
    held: BytesMut,
    needle: Needle,
}

/// It is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found;

/// A shorter value stands in too many texts by chance.
const SHORTEST: usize = 8;

impl Needle {
    /// Looks for this value; `None` for one too short to be told from chance.
    pub(crate) fn new(value: SecretString) -> Option<Self> {
        (value.expose_secret().len() >= SHORTEST).then_some(Self(value))
    }

    /// Whether a header or trailer holds it.
    pub(crate) fn within(&self, fields: &HeaderMap) -> bool {
        fields.iter().any(|(name, value)| {
            let named = name.as_str().as_bytes();
            [named, value.as_bytes()]
                .iter()
                .any(|text| memmem::find(text, self.bytes()).is_some())
        })
    }

    fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl Scan {
    /// Starts at the beginning of a body.
    pub(crate) fn new(needle: Needle) -> Self {
        Self {
            held: BytesMut::new(),
            needle,
        }
    }

    /// Takes the next chunk and gives what may go on. The longest end that could become the
    /// credential with what follows is held back.
    pub(crate) fn next(&mut self, chunk: Bytes) -> Result<Bytes, Found> {
        let mut text = if self.held.is_empty() {
            BytesMut::from(chunk)
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(&chunk);
            held
        };
        let needle = self.needle.bytes();
        if memmem::find(&text, needle).is_some() {
            return Err(Found);
        }
        let longest = text.len().min(needle.len().saturating_sub(1));
        let hold = (1..=longest)
            .rev()
            .find(|length| needle.get(..*length) == text.get(text.len() - length..))
            .unwrap_or(0);
        self.held = text.split_off(text.len() - hold);
        Ok(text.freeze())
    }

    /// What was held back, once nothing follows.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an injected credential")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(chunks: &[Vec<u8>]) -> Result<Vec<u8>, Found> {
        let needle = Needle::new(SecretString::from("abcabcabd")).unwrap();
        let (mut scan, mut out) = (Scan::new(needle), Vec::new());
        for chunk in chunks {
            out.extend_from_slice(&scan.next(Bytes::from(chunk.clone()))?);
        }
        out.extend_from_slice(&scan.rest());
        Ok(out)
    }

    #[test]
    fn short_values_are_not_looked_for() {
        assert!(Needle::new(SecretString::from("1234567")).is_none());
    }

    #[test]
    fn headers_too() {
        let needle = Needle::new(SecretString::from("sk-12345678")).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", "Bearer sk-12345678".parse().unwrap());
        assert!(needle.within(&headers));
        headers.insert("x-echo", "Bearer sk-1234567".parse().unwrap());
        assert!(!needle.within(&headers));
    }

    proptest! {
        #[test]
        fn found_wherever_it_is_split(
            text in "[abcd]{0,60}",
            cuts in proptest::collection::vec(0usize..60, 0..8),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<Vec<u8>> =
                cuts.windows(2).map(|pair| text.as_bytes()[pair[0]..pair[1]].to_vec()).collect();
            match scan(&chunks) {
                Ok(out) => {
                    prop_assert!(!text.contains("abcabcabd"));
                    prop_assert_eq!(out, text.as_bytes());
                }
                Err(Found) => prop_assert!(text.contains("abcabcabd")),
            }
        }
    }
}
