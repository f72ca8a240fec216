//! The fields of a secret, in memory that is wiped.

use super::VaultError;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Deserializer as _;
use serde::Serialize as _;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Deserializer;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// The longest secret, in bytes of its JSON.
const MAX: usize = 512 * 1024;

/// The field that holds the value of a secret with only one.
pub const VALUE: &str = "value";

/// The fields of a secret: one JSON object. Wiped when dropped, and shown by no formatter.
#[derive(Clone)]
pub struct SecretData(Zeroizing<Vec<u8>>);

impl SecretData {
    /// Takes a JSON object.
    ///
    /// # Errors
    /// [`VaultError::NoData`] for anything else or an empty one, [`VaultError::TooLarge`].
    pub fn from_json(json: Zeroizing<Vec<u8>>) -> Result<Self, VaultError> {
        if json.len() > MAX {
            return Err(VaultError::TooLarge);
        }
        let data = Self(json);
        let fields = data.visit(None).ok_or(VaultError::NoData)?.0;
        if fields == 0 {
            Err(VaultError::NoData)
        } else {
            Ok(data)
        }
    }

    /// Takes fields that are texts.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_fields(fields: &BTreeMap<String, SecretString>) -> Result<Self, VaultError> {
        let escaped = |text: &str| text.len().saturating_mul(6).saturating_add(8);
        let size = fields
            .iter()
            .map(|(name, value)| escaped(name).saturating_add(escaped(value.expose_secret())));
        // Room from the start: growing would leave copies behind.
        let capacity = size
            .fold(2, usize::saturating_add)
            .min(MAX.saturating_mul(6));
        let mut json = Zeroizing::new(Vec::with_capacity(capacity));
        let exposed: BTreeMap<&str, &str> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose_secret()))
            .collect();
        let mut writer = serde_json::Serializer::new(&mut *json);
        exposed
            .serialize(&mut writer)
            .map_err(|_| VaultError::NoData)?;
        Self::from_json(json)
    }

    /// Takes a single value: the field `value`.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_value(value: SecretString) -> Result<Self, VaultError> {
        Self::from_fields(&BTreeMap::from([(VALUE.to_owned(), value)]))
    }

    /// The JSON object, in the clear.
    #[must_use]
    pub fn expose_json(&self) -> &[u8] {
        &self.0
    }

    /// A field that is a text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<SecretString> {
        self.visit(Some(name))?.1
    }

    /// What is meant by "the secret" where only one text will do: the field `value`, or the only
    /// field.
    #[must_use]
    pub fn value(&self) -> Option<SecretString> {
        let (fields, value, only) = self.visit(Some(VALUE))?;
        value.or(only.filter(|_| fields == 1))
    }

    /// The number of fields, the text of the wanted one, and the text of the last one.
    fn visit(
        &self,
        wanted: Option<&str>,
    ) -> Option<(usize, Option<SecretString>, Option<SecretString>)> {
        let mut json = Deserializer::from_slice(&self.0);
        let found = json.deserialize_map(Fields { wanted }).ok()?;
        json.end().ok()?;
        Some(found)
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretData")
    }
}

struct Fields<'a> {
    wanted: Option<&'a str>,
}

/// One value of a field: a text, or something else that is read over.
struct Field(Option<SecretString>);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = (usize, Option<SecretString>, Option<SecretString>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut value, mut last) = (0, None, None);
        while let Some(name) = map.next_key::<String>()? {
            fields += 1;
            if self.wanted.is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Field(text) = map.next_value()?;
            if self.wanted == Some(name.as_str()) {
                value = text;
            } else {
                last = text;
            }
        }
        Ok((fields, value, last))
    }
}

impl<'de> serde::Deserialize<'de> for Field {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Field(None))
    }
}

impl<'de> Visitor<'de> for Field {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(Some(SecretString::from(text))))
    }

    fn visit_string<E>(self, text: String) -> Result<Self, E> {
        Ok(Self(Some(SecretString::from(text))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(json: &str) -> Result<SecretData, VaultError> {
        SecretData::from_json(Zeroizing::new(json.as_bytes().to_vec()))
    }

    fn shown(secret: Option<SecretString>) -> Option<String> {
        secret.map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn one_object_with_something_in_it() {
        for bad in ["", "[]", "1", "{}", "{\"a\":}", "{\"a\":1} x", "null"] {
            assert!(matches!(data(bad), Err(VaultError::NoData)), "{bad}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX));
        assert!(matches!(data(&long), Err(VaultError::TooLarge)));
    }

    #[test]
    fn the_value_is_the_field_of_that_name_or_the_only_one() {
        for (json, value) in [
            (r#"{"value":"v","other":"o"}"#, Some("v")),
            (r#"{"password":"p"}"#, Some("p")),
            (r#"{"a":"1","b":"2"}"#, None),
            (r#"{"value":7}"#, None),
            (r#"{"only":{"a":[1,null,true,2.5]}}"#, None),
            ("{\"value\":\"tab\\t\u{e9}\"}", Some("tab\t\u{e9}")),
        ] {
            assert_eq!(
                shown(data(json).unwrap().value()).as_deref(),
                value,
                "{json}"
            );
        }
        let both = data(r#"{"user":"u","password":"p"}"#).unwrap();
        assert_eq!(shown(both.field("password")).as_deref(), Some("p"));
        assert_eq!(shown(both.field("none")), None);
    }

    #[test]
    fn shows_nothing_and_keeps_any_text() {
        let text = "quote \" backslash \\ newline \n \u{1f511}";
        let data = SecretData::from_value(SecretString::from(text)).unwrap();
        assert_eq!(shown(data.value()).as_deref(), Some(text));
        assert_eq!(format!("{data:?}"), "SecretData");
    }
}
