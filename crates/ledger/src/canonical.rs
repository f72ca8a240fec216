//! Canonical JSON, RFC 8785: one value has one byte string, so that a hash of it means something.

use serde::Serialize;
use serde::de;
use serde_json::Value;
use std::fmt;

/// Why bytes or a value have no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The value can't be written as JSON, for example a map whose keys are no strings.
    #[error("the value has no canonical JSON form: {0}")]
    Unserializable(#[source] serde_json::Error),
    /// The bytes are not JSON, or repeat a member name.
    #[error("not JSON with unique member names: {0}")]
    Malformed(#[source] serde_json::Error),
}

/// The RFC 8785 form of a value: members sorted by UTF-16 code units, ECMAScript numbers, no
/// white space.
///
/// # Errors
/// [`CanonicalError::Unserializable`] for a value that JSON can't hold.
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(&value).map_err(CanonicalError::Unserializable)
}

/// Parses JSON, refusing a member name that appears twice in one object: two readers that pick
/// different ones would see two different records under one hash (RFC 8785 section 3.1 demands
/// I-JSON, RFC 7493 section 2.3).
///
/// # Errors
/// [`CanonicalError::Malformed`].
pub fn parse_unique(bytes: &[u8]) -> Result<Value, CanonicalError> {
    serde_json::from_slice::<Unique>(bytes)
        .map(|unique| unique.0)
        .map_err(CanonicalError::Malformed)
}

/// Whether the bytes are exactly the canonical form of the JSON value they hold.
#[must_use]
pub fn is_canonical(bytes: &[u8]) -> bool {
    parse_unique(bytes)
        .and_then(|value| to_canonical(&value))
        .is_ok_and(|canonical| canonical == bytes)
}

/// A JSON value parsed with duplicate member names refused.
struct Unique(Value);

impl<'de> de::Deserialize<'de> for Unique {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> de::Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = serde_json::Map::new();
        while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member name appears twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_of_rfc_8785_section_3_2_2() {
        let input = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        let canonical = to_canonical(&parse_unique(input.as_bytes()).unwrap()).unwrap();
        assert_eq!(String::from_utf8(canonical).unwrap(), expected);
        assert!(is_canonical(expected.as_bytes()));
        assert!(!is_canonical(input.as_bytes()));
    }

    #[test]
    fn members_sort_by_utf16_code_units() {
        // RFC 8785 section 3.2.3: U+FB33 sorts after U+1F600, whose first code unit is D83D.
        let value = parse_unique("{\"\u{fb33}\":1,\"\u{1f600}\":2,\"\u{20ac}\":3}".as_bytes());
        let canonical = to_canonical(&value.unwrap()).unwrap();
        assert_eq!(
            canonical,
            "{\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}".as_bytes()
        );
    }

    #[test]
    fn only_one_form_is_canonical() {
        for good in [
            "{}",
            "[]",
            "0",
            "-1",
            "\"é\"",
            "{\"a\":{\"b\":[1,2]},\"c\":null}",
            "1.5",
        ] {
            assert!(is_canonical(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " {}",
            "{} ",
            "{ }",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":1}",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "1.0",
            "1e3",
            "-0",
            "\"\\u0041\"",
            "\"\\/\"",
            "nul",
            "{\"a\":1}{}",
            "01",
            "\"\u{7f}",
            "9007199254740993",
        ] {
            assert!(!is_canonical(bad.as_bytes()), "{bad}");
        }
        assert!(!is_canonical(b"\"\xff\""));
        assert!(!is_canonical("[".repeat(100_000).as_bytes()));
    }
}
