use crate::operate::harmless;
use serde::Serialize;

/// What became of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was found.
    pub(super) detail: String,
    /// What to type, or to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// How it is.
    pub(super) state: State,
    /// What was looked at.
    pub(super) what: &'static str,
}

/// How something is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// It works, and should be otherwise.
    Warn,
    Fail,
}

impl Finding {
    pub(super) fn ok(what: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(what, State::Ok, detail.as_ref(), None)
    }

    pub(super) fn warn(
        what: &'static str,
        detail: impl AsRef<str>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(what, State::Warn, detail.as_ref(), Some(hint.into()))
    }

    pub(super) fn fail(
        what: &'static str,
        detail: impl AsRef<str>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(what, State::Fail, detail.as_ref(), Some(hint.into()))
    }

    fn new(what: &'static str, state: State, detail: &str, hint: Option<String>) -> Self {
        Self {
            detail: harmless(detail),
            hint,
            state,
            what,
        }
    }
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}
