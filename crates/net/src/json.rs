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

/// Why bytes are not JSON of which all readers see the same.
#[derive(Debug, thiserror::Error)]
pub enum InexactError {
    /// Not JSON, or a member is named twice.
    #[error(transparent)]
    Json(#[from] CanonicalError),
    /// A number that has another value here than its digits say.
    #[error("a number has more digits than are kept")]
    Number,
}

/// The same, with numbers that are what they are read as: integers of 64 bits, and others whose
/// digits are the shortest that mean a double (RFC 8259 section 6), with any zeros and exponent. Of
/// further digits another reader may see more than was judged here. Where two are as short and as
/// near, as for 2^50 + 0.25, those with the even last digit count, which Python and JavaScript write,
/// too (RFC 8785 section 3.2.2.3).
///
/// # Errors
/// [`InexactError`].
pub fn exact(bytes: &[u8]) -> Result<Value, InexactError> {
    let value = strict(bytes)?;
    if numbers(bytes).all(is_exact) {
        Ok(value)
    } else {
        Err(InexactError::Number)
    }
}

/// The numbers of a valid document as they are written.
fn numbers(document: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = document;
    std::iter::from_fn(move || {
        loop {
            let (first, after) = rest.split_first()?;
            rest = match first {
                b'"' => after_string(after),
                b'-' | b'0'..=b'9' => {
                    let part =
                        |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = rest.iter().take_while(|byte| part(byte)).count();
                    let (number, after) = rest.split_at_checked(length)?;
                    rest = after;
                    // Of these bytes alone.
                    return Some(std::str::from_utf8(number).unwrap_or_default());
                }
                _ => after,
            };
        }
    })
}

/// What follows a string, of which the first quote is gone.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    // By the parser whose value is judged.
    let Ok(read) = serde_json::from_str::<f64>(number) else {
        return false;
    };
    // Not by the writer of std, which rounds half up.
    let Ok(written) = serde_json::to_string(&read) else {
        return false;
    };
    let digits = Decimal::of(number);
    digits.is_some() && digits == Decimal::of(&written)
}

/// A number by its digits: without zeros at either end, and the power of ten of the last one.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(number: &str) -> Option<Self> {
        let (negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number),
        };
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (number, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
        if digits.is_empty() {
            // Zero is zero, whatever its sign and exponent.
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let zeros = all.len() - all.trim_end_matches('0').len();
        let exponent: i64 = exponent.map_or(Some(0), |it| it.parse().ok())?;
        let exponent = exponent.checked_add(i64::try_from(zeros).ok()?)?;
        Some(Self {
            negative,
            digits,
            exponent: exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?,
        })
    }
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

    #[test]
    fn numbers_are_what_they_are_read_as() {
        for good in [
            "0",
            "-0",
            "-0.0",
            "0e999",
            "0.10",
            "1.0",
            "1e2",
            "100e-2",
            "9.0",
            "18446744073709551615",
            "-9223372036854775808",
            "1e20",
            "100000000000000000000",
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "0.30000000000000004",
            "2055708927967653.2",
            r#"{"9007199254740993.0":["1e999","\"1e999\\",1.5],"a":[]}"#,
        ] {
            assert!(exact(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "18446744073709551616",
            "18446744073709551617",
            "-9223372036854775809",
            "9007199254740993.0",
            "2055708927967653.3",
            "2055708927967653.25",
            "0.1000000000000000055",
            "0.29999999999999998",
            "1e-400",
            "2e-324",
            "1.00000000000000000001",
            r#"{"a":"\"","b":[1,1e-999]}"#,
        ] {
            let refused = exact(bad.as_bytes());
            assert!(matches!(refused, Err(InexactError::Number)), "{bad}");
        }
        assert!(matches!(exact(b"1e999"), Err(InexactError::Json(_))));
    }

    proptest! {
        #[test]
        fn what_machines_write_is_exact(float in proptest::num::f64::NORMAL, whole: i64, large: u64) {
            let float = serde_json::to_string(&float).unwrap();
            for text in [float, whole.to_string(), large.to_string()] {
                // The parser may miss the nearest double by one; then the digits say so.
                let same = serde_json::from_str::<Value>(&text).unwrap().as_f64() == text.parse().ok();
                prop_assert!(exact(text.as_bytes()).is_ok() || !same, "{}", text);
            }
        }

        /// What is let through is written again with the digits it had.
        #[test]
        fn what_is_exact_loses_no_digit(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?") {
            if let Ok(value) = exact(text.as_bytes()) {
                prop_assert_eq!(Decimal::of(&value.to_string()), Decimal::of(&text));
            }
        }

        #[test]
        fn digits_beyond_a_double_are_refused(digits in "[1-9][0-9]{20,30}[1-9]", at in 0_usize..20) {
            let (whole, part) = digits.split_at(at + 1);
            let text = format!("{whole}.{part}");
            prop_assert!(exact(text.as_bytes()).is_err());
            prop_assert!(exact(digits.as_bytes()).is_err());
        }

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
