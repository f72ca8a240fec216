//! A JSON object that is known to be one.

use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// What a record of ours has, mostly; more makes the buffer grow.
const USUAL: usize = 2048;

/// The bytes of one JSON object. Clones share them.
///
/// There are two ways to one: to be written by the serialiser, or to be parsed. So whoever is given
/// one need not look, and a spool takes a record without reading it.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(Arc<Vec<u8>>);

/// The bytes, or what a value is written as, are not one JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is not a JSON object")]
pub struct NotAnObject;

impl JsonObject {
    /// Writes a value. It is canonical (RFC 8785) if the value's fields are in the order of their
    /// names and none is a float; this does not look.
    ///
    /// # Errors
    /// [`NotAnObject`] for a value that JSON can't hold or that is no object in it.
    pub fn write<T: Serialize + ?Sized>(value: &T) -> Result<Self, NotAnObject> {
        let mut bytes = Vec::with_capacity(USUAL);
        serde_json::to_writer(&mut bytes, value).map_err(|_| NotAnObject)?;
        // What the serialiser has written is one JSON value, and its first byte says which kind.
        match bytes.first() {
            Some(b'{') => Ok(Self(Arc::new(bytes))),
            _ => Err(NotAnObject),
        }
    }
}

impl TryFrom<Vec<u8>> for JsonObject {
    type Error = NotAnObject;

    /// Parses the bytes, and keeps nothing of it.
    fn try_from(bytes: Vec<u8>) -> Result<Self, NotAnObject> {
        if is_object(&bytes) {
            Ok(Self(Arc::new(bytes)))
        } else {
            Err(NotAnObject)
        }
    }
}

/// So that what may have failed to be written can be handed on as it is.
impl TryFrom<Result<Self, NotAnObject>> for JsonObject {
    type Error = NotAnObject;

    fn try_from(written: Result<Self, NotAnObject>) -> Result<Self, NotAnObject> {
        written
    }
}

impl Deref for JsonObject {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Whether the bytes are one JSON object; nothing is kept.
pub(crate) fn is_object(record: &[u8]) -> bool {
    text_of(record).is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// What is read of the bytes, if they are one JSON object; nothing of one that is no `T`.
pub(crate) fn read_object<'a, T: Deserialize<'a>>(record: &'a [u8]) -> Option<Option<T>> {
    let text = text_of(record)?;
    match serde_json::from_str(text) {
        // To read it, all of it was parsed.
        Ok(read) => Some(Some(read)),
        Err(_) => is_object(record).then_some(None),
    }
}

fn text_of(record: &[u8]) -> Option<&str> {
    // What the parser skips it does not look at for UTF-8, and a string of anything else is none.
    let text = std::str::from_utf8(record).ok();
    text.filter(|text| text.starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn only_objects_are() {
        for bad in [
            "", "1", "[]", "{", "{}{}", "{\"a\":}", " {}", "null", "\"{}\"",
        ] {
            assert_eq!(
                JsonObject::try_from(bad.as_bytes().to_vec()),
                Err(NotAnObject),
                "{bad}"
            );
        }
        for bad in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xc3\":1}"] {
            assert_eq!(JsonObject::try_from(bad.to_vec()), Err(NotAnObject));
        }
        for bad in [json!(1), json!([{}]), json!("{}"), json!(null)] {
            assert_eq!(JsonObject::write(&bad), Err(NotAnObject), "{bad}");
        }
        // A map whose keys are no strings is nothing in JSON.
        assert_eq!(
            JsonObject::write(&BTreeMap::from([((1, 2), 3)])),
            Err(NotAnObject)
        );
    }

    #[test]
    fn what_is_read_is_an_object_all_the_same() {
        #[derive(Debug, PartialEq, Eq, Deserialize)]
        struct Read<'a> {
            a: &'a str,
        }
        let read = |text: &'static str| read_object::<Read<'_>>(text.as_bytes());
        assert_eq!(read(r#"{"a":"x","b":[{}]}"#), Some(Some(Read { a: "x" })));
        for other in [r#"{"a":1}"#, r#"{"b":"x"}"#, r#"{"a":"x","a":"y"}"#] {
            assert_eq!(read(other), Some(None), "{other}");
        }
        // A sequence would do for the parser.
        for none in [r#"["x"]"#, r#"{"a":"x","b":}"#, r#"{"a":"x"}{}"#, " {}", ""] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(
            read_object::<Read<'_>>(b"{\"a\":\"x\",\"b\":\"\xff\"}"),
            None
        );
    }

    #[test]
    fn written_and_parsed_are_the_same() {
        let written = JsonObject::write(&json!({ "a": { "b": [1, "{"] } })).unwrap();
        assert_eq!(&*written, br#"{"a":{"b":[1,"{"]}}"#);
        assert_eq!(JsonObject::try_from(written.to_vec()), Ok(written.clone()));
        assert_eq!(JsonObject::try_from(Ok(written.clone())), Ok(written));
        assert_eq!(JsonObject::try_from(Err(NotAnObject)), Err(NotAnObject));
    }
}
