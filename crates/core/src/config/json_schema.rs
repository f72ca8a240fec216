//! JSON Schema 2020-12 for bodies and inputs.

use jsonschema::Draft;
use jsonschema::PatternOptions;
use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
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

/// Compiles a schema. What it refers to is in the same text: nothing is fetched. Patterns are
/// those of engines whose time is linear in the text, so that no body can make them run long.
///
/// # Errors
/// [`SchemaError`] says where it is no schema.
pub fn compile(text: &str) -> Result<Validator, SchemaError> {
    let schema: Value = serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        // The place is said once.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        SchemaError::Json {
            line: error.line(),
            column: error.column(),
            reason: reason.to_owned(),
        }
    })?;
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .offline();
    options.build(&schema).map_err(|error| {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_judges() {
        let text = r#"{"type":"object","required":["a"],"properties":{"a":{"pattern":"^x+$"}}}"#;
        let schema = compile(text).unwrap();
        assert!(schema.is_valid(&json!({ "a": "xx" })));
        assert!(!schema.is_valid(&json!({ "a": "y" })));
        assert!(!schema.is_valid(&json!([])));
    }

    #[test]
    fn what_is_no_schema_says_where() {
        let error = compile("{\n  \"type\": \"object\",\n}").unwrap_err();
        assert_eq!(error.to_string(), "line 3, column 1: trailing comma");
        let error = compile(r#"{"properties":{"a":{"type":"objekt"}}}"#).unwrap_err();
        assert!(
            error.to_string().starts_with("at `/properties/a/type`: "),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_fetched_and_nothing_runs_long() {
        for text in [
            r#"{"$ref":"https://example.com/a.json"}"#,
            r#"{"$ref":"file:///etc/passwd"}"#,
            r#"{"pattern":"(a+)+\\1$"}"#,
            r#"{"pattern":"(?=a)b"}"#,
        ] {
            assert!(
                matches!(compile(text), Err(SchemaError::Schema { .. })),
                "{text}"
            );
        }
    }
}
