//! The way of spans to a collector: batches, one after the other. What can't be sent is dropped
//! and counted; no request ever waits for it.

use super::Outcome;
use super::message::Export;
use super::message::KeyValue;
use super::message::Resource;
use super::message::ResourceSpans;
use super::message::Scope;
use super::message::ScopeSpans;
use super::message::Span;
use super::settings::Settings;
use crate::telemetry::metrics::Spans;
use bytes::Bytes;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::PublicRoots;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::ClientError;
use countersign_net::http::Limits;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header;
use prost::Message as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Sends what comes in.
pub(super) struct Exporter {
    client: Client,
    counts: Spans,
    resource: Vec<KeyValue>,
    settings: Settings,
    spans: mpsc::Receiver<Span>,
}

/// Why a batch is not there.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the collector answers with status `{0}`")]
    Status(StatusCode),
    #[error("the request can't be written")]
    Request(#[from] http::Error),
}

/// Why there is no way to the collector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    /// Its certificate authorities can't be read.
    #[error("can't read `OTEL_EXPORTER_OTLP_CERTIFICATE`")]
    Certificate(#[source] std::io::Error),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] ConnectError),
}

/// What is read of an answer, in bytes: nothing in it is needed.
const ANSWER: usize = 64 * 1024;
/// A collector that is away is tried again after this, then after twice as long, up to `LONGEST`.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const TRIES: u32 = 3;

/// A client for the collector.
pub(super) fn client(settings: &Settings) -> Result<Client, WayError> {
    let endpoint = &settings.endpoint;
    let target = Target {
        host: endpoint.host.clone(),
        network: Network::Private,
        port: endpoint.port,
    };
    if !endpoint.tls {
        return Ok(Client::loopback(Dialer, target));
    }
    let roots = match &settings.certificate {
        Some(path) => {
            let pem = std::fs::read(path).map_err(WayError::Certificate)?;
            PublicRoots::none().with_pem(&pem)?
        }
        None => PublicRoots::native(),
    };
    let connector = Connector::public(&roots)?;
    Ok(Client::tls(Dialer, connector, &endpoint.host, target))
}

impl Exporter {
    pub(super) fn new(
        client: Client,
        settings: Settings,
        role: &str,
        spans: mpsc::Receiver<Span>,
        counts: Spans,
    ) -> Self {
        let mut resource = vec![
            KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::text("countersign.role", role),
        ];
        let named = settings
            .resource
            .iter()
            .any(|(key, _)| key == "service.name");
        if !named {
            resource.push(KeyValue::text("service.name", "countersign"));
        }
        let given = settings.resource.iter();
        resource.extend(given.map(|(key, value)| KeyValue::text(key, value.clone())));
        Self {
            client,
            counts,
            resource,
            settings,
            spans,
        }
    }

    /// Sends until it is told to end, then what there still is, once.
    pub(super) async fn run(mut self, mut end: oneshot::Receiver<()>) {
        loop {
            let (batch, over) = self.batch(&mut end).await;
            if !batch.is_empty() {
                self.send(batch, over).await;
            }
            if over && self.spans.is_empty() {
                return;
            }
        }
    }

    /// Waits for the first span, then so long for others.
    async fn batch(&mut self, end: &mut oneshot::Receiver<()>) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let most = self.settings.batch;
        let mut deadline = None;
        loop {
            let until = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = &mut *end, if !end.is_terminated() => {
                    self.rest(&mut batch, most);
                    return (batch, true);
                }
                () = until => return (batch, false),
                span = self.spans.recv() => match span {
                    Some(span) => batch.push(span),
                    None => return (batch, true),
                },
            }
            if end.is_terminated() {
                self.rest(&mut batch, most);
                return (batch, true);
            }
            if batch.len() >= most {
                return (batch, false);
            }
            deadline.get_or_insert(Instant::now() + self.settings.delay);
        }
    }

    fn rest(&mut self, batch: &mut Vec<Span>, most: usize) {
        while batch.len() < most
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
    }

    /// Sends a batch, again where that may help (OTLP 1.x, "Failures").
    async fn send(&self, spans: Vec<Span>, last: bool) {
        let many = spans.len();
        let body = self.encode(spans);
        let mut wait = FIRST;
        for attempt in 1..=TRIES {
            match self.post(body.clone()).await {
                Ok(()) => return self.counts.count(Outcome::Exported, many),
                Err(error) if attempt == TRIES || last || !error.may_pass() => {
                    tracing::warn!(%error, spans = many, "spans are not exported");
                    return self.counts.count(Outcome::Failed, many);
                }
                Err(error) => tracing::debug!(%error, "spans are sent again"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), ExportError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.settings.endpoint.path)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(body)?;
        let fields = self.settings.headers.iter().cloned();
        request.headers_mut().extend(fields);
        let limits = Limits {
            body: ANSWER,
            time: self.settings.timeout,
        };
        let answer = self.client.request(request, limits).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(ExportError::Status(answer.status()))
        }
    }

    fn encode(&self, spans: Vec<Span>) -> Bytes {
        let scope = Scope {
            name: "countersign".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let export = Export {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: self.resource.clone(),
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                }],
            }],
        };
        export.encode_to_vec().into()
    }
}

impl ExportError {
    /// Whether the same may go through later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Client(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
        }
    }
}
