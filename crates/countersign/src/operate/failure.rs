use countersign_client::AccessDenied;
use countersign_client::CallError;
use countersign_client::SetupError;

/// Why a command did not do what was asked; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It failed.
    #[error("{message}")]
    Failed {
        message: String,
        help: Option<String>,
    },
    /// It was not asked for in a way that can be understood, or that may be done.
    #[error("{message}")]
    Usage {
        message: String,
        help: Option<String>,
    },
    /// Policy says no. What there is to say has been shown.
    #[error(transparent)]
    Denied(#[from] AccessDenied),
    /// A check or a test failed. What there is to say has been shown.
    #[error("{0}")]
    Check(String),
    /// Something was tampered with.
    #[error("{0}")]
    Tampered(String),
    /// Nobody answers.
    #[error("{message}")]
    Unreachable {
        message: String,
        help: Option<String>,
    },
    /// By the user.
    #[error("interrupted")]
    Interrupted,
}

/// The exit code of a command that was interrupted.
const INTERRUPTED: u8 = 130;

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable {
            message: message.into(),
            help: None,
        }
    }

    /// What to do about it.
    pub(crate) fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Failed { help, .. }
        | Self::Usage { help, .. }
        | Self::Unreachable { help, .. } = &mut self
        {
            *help = Some(text.into());
        }
        self
    }

    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Failed { help, .. }
            | Self::Usage { help, .. }
            | Self::Unreachable { help, .. } => help.clone(),
            Self::Denied(denied) => Some(match &denied.receipt {
                Some(receipt) => format!("{}; `countersign explain {receipt}`", denied.fix),
                None => denied.fix.to_owned(),
            }),
            _ => None,
        }
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            Self::Usage { .. } => 2,
            Self::Denied(_) => 3,
            Self::Check(_) => 4,
            Self::Tampered(_) => 5,
            Self::Unreachable { .. } => 6,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::AccessDenied(denied) => Self::Denied(denied),
            CallError::Transport(error) => Self::unreachable(with_causes(&error)),
            CallError::Identity(error) => error.into(),
            error @ CallError::Target(_) => Self::usage(error.to_string()),
            error => Self::failed(with_causes(&error)),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let help = "`countersign identity issue NAME --out DIR` writes such a folder";
        let text = with_causes(&error);
        match error {
            SetupError::NoFolder => Self::usage("no identity to call as").with_help(format!(
                "give `--identity DIR` or set `COUNTERSIGN_IDENTITY`; {help}"
            )),
            _ => Self::failed(text).with_help(help),
        }
    }
}

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
