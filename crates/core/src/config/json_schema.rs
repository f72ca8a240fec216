//! JSON Schema 2020-12 for bodies and inputs.

mod references;

use crate::hop::SchemaFault;
use crate::hop::SchemaVerdict;
use crate::vocabulary::Digest;
use crate::vocabulary::clip;
use jsonschema::Draft;
use jsonschema::PatternOptions;
use jsonschema::ValidationError;
use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use references::References;
use serde_json::Value;

/// Why a text is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON.
    #[error("line {line}, column {column}: {reason}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Why, in words.
        reason: String,
    },
    /// JSON, but no schema, or one that is not all in this text.
    #[error("at `{pointer}`: {reason}")]
    Schema {
        /// Where in the document (RFC 6901); `/` for all of it.
        pointer: String,
        /// Why, in words.
        reason: String,
    },
}

/// A schema that is ready to judge.
#[derive(Debug)]
pub struct Schema {
    hash: Digest,
    /// Whether it leads back to itself. What is wrong with a body is then found in time and memory
    /// that its branches multiply with each level of the body.
    recursive: bool,
    validator: Validator,
}

/// The most bytes of a fault's pointer.
const MOST_POINTER: usize = 256;
/// The most values of a body whose faults are all gathered; of a larger one the first is told.
const MOST_VALUES: usize = 4096;

impl Schema {
    /// Compiles a schema. What it refers to is in the same text: nothing is fetched. Patterns are
    /// those of engines whose time is linear in the text, so that no body can make them run long.
    /// `format` is enforced, and one that is not known is an error.
    ///
    /// # Errors
    /// [`SchemaError`] says where it is no schema.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        let schema = parse(text)?;
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .offline();
        let validator = options.build(&schema).map_err(|error| refused(&error))?;
        let references = References::of(&schema);
        if let Some(pointer) = references.circle() {
            return Err(SchemaError::Schema {
                pointer,
                reason: "it refers to itself and says nothing".to_owned(),
            });
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.as_ref());
        Ok(Self {
            hash: Digest::new(digest),
            recursive: references.recursive(),
            validator,
        })
    }

    /// SHA-256 of its text.
    #[must_use]
    pub const fn hash(&self) -> &Digest {
        &self.hash
    }

    /// Judges a body. Where the schema leads back to itself, what each part was found to be is
    /// remembered, so the time grows with the body times the schema as it is written out, each
    /// reference replaced by what it leads to once. The faults of such a schema are not told:
    /// looking for them remembers nothing.
    #[must_use]
    pub fn judge(&self, body: &Value) -> SchemaVerdict {
        let valid = self.validator.is_valid(body);
        SchemaVerdict {
            faults: if valid { Vec::new() } else { self.faults(body) },
            schema: self.hash,
            valid,
        }
    }

    fn faults(&self, body: &Value) -> Vec<SchemaFault> {
        if self.recursive {
            return Vec::new();
        }
        if values(body) > MOST_VALUES {
            let first = self.validator.validate(body).err();
            return first.iter().map(fault).collect();
        }
        let all = self.validator.iter_errors(body);
        let first = all.take(SchemaVerdict::MOST_FAULTS);
        first.map(|error| fault(&error)).collect()
    }
}

fn parse(text: &str) -> Result<Value, SchemaError> {
    serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        // The place is said once.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        SchemaError::Json {
            line: error.line(),
            column: error.column(),
            reason: reason.to_owned(),
        }
    })
}

fn refused(error: &ValidationError<'_>) -> SchemaError {
    let pointer = error.instance_path().to_string();
    SchemaError::Schema {
        pointer: Some(pointer)
            .filter(|it| !it.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        reason: match error.kind() {
            ValidationErrorKind::Referencing(_) => {
                "it refers to something outside of this file".to_owned()
            }
            _ => error.to_string(),
        },
    }
}

fn fault(error: &ValidationError<'_>) -> SchemaFault {
    let pointer = clip(error.instance_path().as_str(), MOST_POINTER);
    SchemaFault {
        // Half of an escape would be no pointer (RFC 6901 section 3).
        pointer: pointer.strip_suffix('~').unwrap_or(pointer).to_owned(),
        rule: error.kind().keyword().to_owned(),
    }
}

/// How many values a value holds, with itself. Parsers bound its depth, so this can't run out of
/// stack.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(value: &Value) -> Schema {
        Schema::compile(&value.to_string()).unwrap()
    }

    fn told(schema: &Schema, body: &Value) -> Vec<String> {
        let verdict = schema.judge(body);
        assert!(!verdict.valid, "{body}");
        let faults = verdict.faults.iter();
        faults
            .map(|it| format!("{} {}", it.pointer, it.rule))
            .collect()
    }

    #[test]
    fn a_schema_judges_and_never_repeats_what_it_was_shown() {
        let schema = schema(&json!({
            "type": "object",
            "required": ["title"],
            "additionalProperties": false,
            "properties": {
                "title": { "type": "string", "maxLength": 5, "pattern": "^x" },
                "of": { "type": "integer", "minimum": 0, "maximum": 9 },
                "at": { "format": "date-time" }
            }
        }));
        let good = schema.judge(&json!({ "title": "x", "of": 9, "at": "2025-01-01T00:00:00Z" }));
        assert_eq!((good.valid, good.faults.len()), (true, 0));
        let bad = json!({ "title": "CANARY", "of": 10, "at": "noon", "CANARY": 1 });
        let mut found = told(&schema, &bad);
        found.sort_unstable();
        let expected = [
            " additionalProperties",
            "/at format",
            "/of maximum",
            "/title maxLength",
            "/title pattern",
        ];
        assert_eq!(found, expected);
        assert_eq!(told(&schema, &json!([])), [" type"]);
        assert_eq!(told(&schema, &json!({})), [" required"]);
    }

    #[test]
    fn few_faults_are_told_however_many_there_are() {
        let schema = schema(&json!({ "items": { "type": "string" } }));
        let some: Vec<_> = (0..100).collect();
        assert_eq!(told(&schema, &json!(some)).len(), 8);
        let many: Vec<_> = (0..100_000).collect();
        assert_eq!(told(&schema, &json!(many)), ["/0 type"]);
        let named = Schema::compile(r#"{"additionalProperties":{"const":1}}"#).unwrap();
        let verdict = named.judge(&json!({ "ä/~".repeat(400): 2 }));
        let pointer = &verdict.faults[0].pointer;
        assert!(
            pointer.len() <= MOST_POINTER && pointer.starts_with("/ä~1~0"),
            "{pointer}"
        );
    }

    #[test]
    fn what_is_no_schema_says_where() {
        let error = Schema::compile("{\n  \"type\": \"object\",\n}").unwrap_err();
        assert_eq!(error.to_string(), "line 3, column 1: trailing comma");
        let error = Schema::compile(r#"{"properties":{"a":{"type":"objekt"}}}"#).unwrap_err();
        assert!(
            error.to_string().starts_with("at `/properties/a/type`: "),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_fetched_nothing_runs_long_and_nothing_is_passed_over() {
        for text in [
            r#"{"$ref":"https://example.com/a.json"}"#,
            r#"{"$ref":"file:///etc/passwd"}"#,
            r#"{"$ref":"other.json#/a"}"#,
            r##"{"$ref":"#/$defs/none"}"##,
            r#"{"pattern":"(a+)+\\1$"}"#,
            r#"{"pattern":"(?=a)b"}"#,
            r#"{"format":"made-up"}"#,
            r##"{"$ref":"#"}"##,
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}"##,
        ] {
            assert!(
                matches!(Schema::compile(text), Err(SchemaError::Schema { .. })),
                "{text}"
            );
        }
        let slow = schema(&json!({ "pattern": "^(a+)+$" }));
        assert_eq!(told(&slow, &json!("a".repeat(100_000) + "!")), [" pattern"]);
    }

    /// Nested as deep as a parser takes it, with the fault at the bottom.
    fn nested(leaf: Value) -> Value {
        (0..120).fold(leaf, |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let list = schema(&json!({ "type": "object", "properties": { "a": { "$ref": "#" } } }));
        assert!(list.judge(&nested(json!({}))).valid);
        assert!(!list.judge(&nested(json!(1))).valid);
        let shallow = json!({ "a": { "a": 1 } });
        assert_eq!(told(&list, &shallow), <[&str; 0]>::default());
    }

    /// Each level asks several times for the next one: without a memory of what was found this
    /// would take 12^120 steps, and to gather what is wrong 12^5 faults of the smallest body here.
    #[test]
    fn branches_that_refer_to_the_whole_end_with_and_without_faults() {
        let below = json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/e" } } });
        let branches = vec![below; 12];
        let flat = (0..5).fold(json!(1), |inner, _| json!({ "a": inner }));
        for several in ["allOf", "anyOf", "oneOf"] {
            for closed in [false, true] {
                let mut element = json!({ several: branches });
                if closed {
                    element["unevaluatedProperties"] = json!(false);
                }
                let whole = json!({ "$ref": "#/$defs/e", "$defs": { "e": element } });
                let schema = schema(&whole);
                for bad in [&nested(json!(1)), &flat] {
                    let verdict = schema.judge(bad);
                    assert_eq!(
                        (verdict.valid, verdict.faults.len()),
                        (false, 0),
                        "{several}"
                    );
                }
                let good = schema.judge(&nested(json!({}))).valid;
                assert_eq!(good, several != "oneOf");
            }
        }
    }

    #[test]
    fn a_pointer_is_not_cut_within_an_escape() {
        let schema = Schema::compile(r#"{"additionalProperties":{"const":1}}"#).unwrap();
        for length in 240..260 {
            let name = format!("{}/~/~", "a".repeat(length));
            let pointer = &schema.judge(&json!({ name: 2 })).faults[0].pointer;
            assert!(
                !pointer.ends_with('~') && pointer.len() <= MOST_POINTER,
                "{pointer}"
            );
        }
    }

    #[test]
    fn numbers_as_large_as_they_come() {
        let schema = schema(&json!({ "type": "number", "maximum": 1e300, "multipleOf": 0.5 }));
        for text in [
            "1e308",
            "1e301",
            "0.3",
            "123456789012345678901234567890e275",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(!schema.judge(&value).valid, "{text}");
        }
        for text in [
            "1e299",
            "18446744073709551615",
            "-9223372036854775808",
            "-0.0",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(schema.judge(&value).valid, "{text}");
        }
    }
}
