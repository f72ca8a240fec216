//! JSON that can be read in only one way.

use countersign_ledger::canonical;
use countersign_ledger::canonical::CanonicalError;
use serde_json::Value;

/// JSON in which no object names a member twice, at any depth.
///
/// Readers differ on which of two members counts (RFC 8259 section 4), so a token with two `aud`s
/// could mean one thing here and another at an upstream (RFC 8725 section 2.4).
///
/// # Errors
/// What the parser says: malformed, too deep, followed by something else, or a doubled member.
pub fn strict(bytes: &[u8]) -> Result<Value, CanonicalError> {
    canonical::parse_unique(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_duplicates_at_any_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"a":1,"a":2}}]"#,
            r#"{"a":1}x"#,
            r#"{"a":1"#,
            "",
        ] {
            assert!(strict(bad.as_bytes()).is_err(), "{bad}");
        }
        let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(strict(nested.as_bytes()).is_err(), "as deep as the stack");
    }

    proptest! {
        #[test]
        fn agrees_with_the_usual_parser(text in r#"[\[\]{}:,"a0-9. \\-]{0,40}"#) {
            if let Ok(value) = strict(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = strict(&bytes);
        }
    }
}
