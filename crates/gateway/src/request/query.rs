//! Query keys that look like credentials.

/// Names under which APIs take a credential in the query.
const CREDENTIALS: [&str; 22] = [
    "access_key",
    "access_token",
    "api_key",
    "api_token",
    "apikey",
    "apitoken",
    "auth",
    "auth_token",
    "authorization",
    "bearer",
    "client_secret",
    "credential",
    "id_token",
    "key",
    "password",
    "passwd",
    "private_key",
    "refresh_token",
    "secret",
    "session_token",
    "subscription_key",
    "token",
];

/// The first key of a query that looks like a credential's: callers' credentials never reach a
/// third party, and logs on the way are full of queries.
pub(crate) fn credential(query: &str) -> Option<&'static str> {
    query.split('&').find_map(|pair| {
        let key = plain(pair.split('=').next().unwrap_or_default());
        let key = key.strip_prefix("x_").unwrap_or(&key);
        CREDENTIALS.iter().copied().find(|name| *name == key)
    })
}

/// Decoded, lower case, `-` and `.` as `_`.
fn plain(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits =
            [ahead.next(), ahead.next()].map(|it| it.and_then(|it| char::from(it).to_digit(16)));
        match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                bytes = ahead;
                out.push(u8::try_from(high << 4 | low).unwrap_or(b'_'));
            }
            (b'-' | b'.' | b'+', _) => out.push(b'_'),
            _ => out.push(byte),
        }
    }
    let dashed = |c: char| if matches!(c, '-' | '.') { '_' } else { c };
    String::from_utf8_lossy(&out)
        .to_ascii_lowercase()
        .chars()
        .map(dashed)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_in_disguise() {
        for query in [
            "api_key=1",
            "a=b&API-Key=1",
            "%61pi%5Fkey=1",
            "x-api-key",
            "key=",
            "a&%74oken=x",
            "access.token=1",
        ] {
            assert!(credential(query).is_some(), "{query}");
        }
        for query in [
            "",
            "a=token",
            "keys=1",
            "monkey=1",
            "tokenizer=x",
            "%6=1",
            "q=%",
        ] {
            assert_eq!(credential(query), None, "{query}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(query in ".{0,60}") {
            let _ = credential(&query);
        }
    }
}
