//! Answers of our own: refusals, and failures that nobody decided.

use crate::body;
use crate::body::Body;
use crate::body::HeldError;
use crate::grpc;
use crate::quota;
use crate::request::NoRandomness;
use countersign_core::hop::SchemaFault;
use countersign_core::hop::SchemaVerdict;
use countersign_core::record::Charged;
use countersign_core::vocabulary::Code;
use countersign_enforce::Refusal;
use countersign_net::problem;
use countersign_net::problem::Format;
use countersign_net::problem::Problem;
use countersign_net::problem::RECEIPT;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use std::time::Duration;

/// Tells the SDKs of model APIs not to try a refusal again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request ends without an upstream's answer.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Answered by us, for better or worse.
    Answered(Box<Response<Body>>),
    /// Admitted, and the upstream did not answer.
    Failed {
        failure: Failure,
        receipt: Option<String>,
    },
    /// Refused by decision.
    Refused {
        code: Code,
        /// Where its body does not follow a schema, if it was that.
        faults: Vec<SchemaFault>,
        /// The rate limit it was refused by, if it was one.
        limit: Option<Box<Charged>>,
        /// Whether it asked for a model, whose SDK must not try again.
        model: bool,
        receipt: Option<String>,
        retry_after: Option<Duration>,
        /// Whether it had been admitted, and was ended before its answer began.
        under_way: bool,
    },
}

/// What went wrong behind us. The caller learns no more than this; details are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No answer in time: 504.
    TimedOut,
    /// None of the service's addresses is called now; the next may be after this time: 503.
    NoneLeft(Duration),
    /// No connection, a broken exchange, or an answer that may not be passed on: 502.
    Upstream,
    /// The control plane is away: 503.
    Control,
    /// The system has no randomness: 503.
    Randomness,
    /// As many bodies as there is room for are being held: 503.
    Crowded,
}

impl From<NoRandomness> for Stop {
    fn from(error: NoRandomness) -> Self {
        tracing::error!(%error, "a request can't be served");
        Self::Failed {
            failure: Failure::Randomness,
            receipt: None,
        }
    }
}

impl From<HeldError> for Stop {
    fn from(error: HeldError) -> Self {
        match error {
            HeldError::Randomness(error) => error.into(),
            HeldError::Crowded => {
                tracing::warn!(%error, "a request can't be served");
                Self::Failed {
                    failure: Failure::Crowded,
                    receipt: None,
                }
            }
        }
    }
}

impl Stop {
    /// A refusal by the enforcement point.
    pub(crate) fn refused(refusal: &Refusal, model: bool) -> Self {
        Self::Refused {
            code: refusal.code,
            faults: Vec::new(),
            limit: refusal.limit.clone(),
            model,
            receipt: refusal.receipt.map(|it| it.to_string()),
            retry_after: refusal.retry_after,
            under_way: false,
        }
    }

    /// Tells whoever is refused for its body what is wrong with it: nothing that it did not send.
    pub(crate) fn with_faults(mut self, found: Vec<SchemaFault>) -> Self {
        if let Self::Refused { code, faults, .. } = &mut self
            && *code == Code::BODY_SCHEMA
        {
            *faults = found;
            faults.truncate(SchemaVerdict::MOST_FAULTS);
        }
        self
    }

    /// Why it was refused, if that is why it ends.
    pub(crate) const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Answered(_) | Self::Failed { .. } => None,
        }
    }

    /// The answer to the caller, in gRPC's form if it speaks that.
    pub(crate) fn response(self, grpc: bool) -> Response<Body> {
        if grpc && !matches!(self, Self::Answered(_)) {
            self.trailers_only()
        } else {
            self.document()
        }
    }

    /// An answer without a message, whose head has what trailers would have ("gRPC over HTTP2",
    /// Trailers-Only): the status, the pillar and the receipt.
    fn trailers_only(self) -> Response<Body> {
        let message = match &self {
            Self::Refused { code, .. } => {
                format!("AccessDenied: pillar {} failed ({code})", code.pillar())
            }
            Self::Failed { failure, .. } => failure.title().to_owned(),
            Self::Answered(_) => String::new(),
        };
        let under_way = matches!(
            self,
            Self::Refused {
                under_way: true,
                ..
            }
        );
        let (mut head, _document) = self.document().into_parts();
        let status = head.status.as_u16();
        let status = if under_way {
            grpc::ended(status)
        } else {
            grpc::status(status)
        };
        head.headers.extend(grpc::end(status, &message));
        head.headers
            .insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
        head.headers.remove(header::WWW_AUTHENTICATE);
        head.status = StatusCode::OK;
        Response::from_parts(head, body::empty())
    }

    fn document(self) -> Response<Body> {
        match self {
            Self::Answered(response) => *response,
            Self::Failed { failure, receipt } => failed(failure, receipt.as_deref()),
            Self::Refused {
                code,
                faults,
                limit,
                model,
                receipt,
                retry_after,
                under_way: _,
            } => {
                let receipt = receipt.as_deref();
                let unavailable = code.status() == 503;
                let retry_after = retry_after.or(unavailable.then_some(Duration::from_secs(1)));
                let problem = Problem {
                    code,
                    format: Format::Problem,
                    receipt,
                    retry_after,
                };
                let mut response = problem.response_with(&faults).map(body::full);
                if let Some(limit) = &limit {
                    quota::tell_one(limit, response.headers_mut());
                }
                // It may try again where it is told when.
                if model && limit.is_none() {
                    response
                        .headers_mut()
                        .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
                }
                response
            }
        }
    }
}

impl Failure {
    /// The status of the answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::NoneLeft(_) | Self::Control | Self::Randomness | Self::Crowded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::TimedOut => "the upstream did not answer in time",
            Self::Upstream | Self::NoneLeft(_) => "the upstream is not available",
            Self::Control => "the control plane is not available",
            Self::Randomness => "not available",
            Self::Crowded => "too many bodies are being read at once",
        }
    }

    /// When to come again, in whole seconds.
    fn retry_after(self) -> Option<u64> {
        match self {
            Self::NoneLeft(wait) => Some(problem::seconds(wait)),
            _ => (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }
}

fn failed(failure: Failure, receipt: Option<&str>) -> Response<Body> {
    let (status, title) = (failure.status(), failure.title());
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
    });
    if let (Some(members), Some(receipt)) = (problem.as_object_mut(), receipt) {
        members.insert("receipt".to_owned(), receipt.into());
    }
    let mut response = Response::new(body::full(problem.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(receipt) = receipt.and_then(|it| HeaderValue::from_str(it).ok()) {
        headers.insert(RECEIPT, receipt);
    }
    if let Some(seconds) = failure.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
