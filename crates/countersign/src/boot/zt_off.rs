//! `ZT_OFF`: a development switch that must never work anywhere else.
//!
//! It is no bypass: it loads a synthetic snapshot (all edges, one subject with all roles) that
//! goes through the same decision and into the same ledger.

use countersign_core::config::Environment;

/// Why the process does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZtOffError {
    /// In production.
    #[error("`ZT_OFF` is set and `environment` is `prod`: it works in development only")]
    Production,
    /// Under continuous integration.
    #[error("`ZT_OFF` is set and so is `CI`: what is built and tested there is not development")]
    Ci,
    /// Neither on nor off.
    #[error("`ZT_OFF` is `{0}`: write `true` or `false`")]
    Value(String),
}

/// Whether `ZT_OFF` is on. Every process that decides asks this before anything else.
///
/// `CI` counts unless it is empty, `0` or `false`.
///
/// # Errors
/// [`ZtOffError`]: don't start.
pub fn zt_off(
    variable: impl Fn(&str) -> Option<String>,
    environment: Environment,
) -> Result<bool, ZtOffError> {
    let value = variable("ZT_OFF").unwrap_or_default();
    match value.to_ascii_lowercase().as_str() {
        "" | "0" | "false" => return Ok(false),
        "1" | "true" => {}
        // A typo must not decide whether anything is checked.
        _ => return Err(ZtOffError::Value(value)),
    }
    if environment == Environment::Prod {
        return Err(ZtOffError::Production);
    }
    match variable("CI")
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "0" | "false" => Ok(true),
        _ => Err(ZtOffError::Ci),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Environment::Dev;
    use Environment::Prod;

    fn with(zt_off_is: &str, ci: &str, environment: Environment) -> Result<bool, ZtOffError> {
        let variable = |name: &str| match name {
            "ZT_OFF" => Some(zt_off_is.to_owned()),
            "CI" => Some(ci.to_owned()),
            _ => None,
        };
        zt_off(variable, environment)
    }

    #[test]
    fn works_in_development_only() {
        assert_eq!(with("true", "", Dev), Ok(true));
        assert_eq!(with("1", "false", Dev), Ok(true));
        assert_eq!(with("1", "0", Dev), Ok(true));
        assert_eq!(with("true", "", Prod), Err(ZtOffError::Production));
        assert_eq!(with("true", "true", Prod), Err(ZtOffError::Production));
        for ci in ["true", "1", "yes", "github"] {
            assert_eq!(with("true", ci, Dev), Err(ZtOffError::Ci), "{ci}");
        }
    }

    #[test]
    fn is_off_unless_it_is_on() {
        assert_eq!(zt_off(|_| None, Prod), Ok(false));
        for off in ["", "0", "false", "False"] {
            assert_eq!(with(off, "true", Prod), Ok(false));
        }
        for typo in ["yes", "on", "ture", "2"] {
            assert_eq!(with(typo, "", Dev), Err(ZtOffError::Value(typo.to_owned())));
        }
    }
}
