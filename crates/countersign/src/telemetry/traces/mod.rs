//! Spans of requests, sent to a collector of OpenTelemetry if one is named.
//!
//! A span has what policy has a name for and what was decided: route, service, pillar, code,
//! receipt. It never has a path, a query, a header, a body, or who a person is.

mod export;
mod message;
mod settings;

pub(crate) use export::WayError;
pub(crate) use settings::SettingsError;

use super::handles::Route;
use super::metrics::Spans;
use countersign_gateway::Answered;
use countersign_gateway::Trace;
use export::Exporter;
use message::KeyValue;
use message::Kind;
use message::Span;
use message::Status;
use message::StatusCode;
use parking_lot::Mutex;
use settings::Sampler;
use settings::Settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Makes spans and has them sent; clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    counts: Spans,
    queue: mpsc::Sender<Span>,
    running: Arc<Mutex<Option<Running>>>,
    sampler: Sampler,
}

#[derive(Debug)]
struct Running {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Exported,
    Dropped,
    Failed,
}

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracesError {
    /// The environment.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The way to the collector.
    #[error(transparent)]
    Way(#[from] WayError),
}

/// How long the last spans may take at the end of the process.
const LAST: Duration = Duration::from_secs(5);
/// Methods that have a name of their own (OpenTelemetry semantic conventions, HTTP spans); any
/// other is the caller's text.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

impl Traces {
    /// Starts sending, if a collector is named.
    ///
    /// # Errors
    /// [`TracesError`] says which variable is wrong.
    pub(super) fn start(
        role: &'static str,
        counts: &Spans,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TracesError> {
        let Some(settings) = Settings::read(variable)? else {
            return Ok(None);
        };
        let (sampler, client) = (settings.sampler, export::client(&settings)?);
        let (queue, spans) = mpsc::channel(settings.queue);
        let (end, ended) = oneshot::channel();
        let exporter = Exporter::new(client, settings, role, spans, counts.clone());
        let task = tokio::spawn(exporter.run(ended));
        Ok(Some(Self {
            counts: counts.clone(),
            queue,
            running: Arc::new(Mutex::new(Some(Running { end, task }))),
            sampler,
        }))
    }

    /// Sends what is still there and ends, in a few seconds at most.
    pub(crate) async fn end(&self) {
        let running = self.running.lock().take();
        if let Some(Running { end, task }) = running {
            // Gone already, if it ended.
            let _ = end.send(());
            if tokio::time::timeout(LAST, task).await.is_err() {
                tracing::warn!("the last spans are not exported");
            }
        }
    }

    pub(super) fn sample(&self, trace: &str, parent: Option<bool>) -> bool {
        self.sampler.takes(trace, parent)
    }

    pub(super) fn answered(&self, answered: &Answered<'_>) {
        let Some(trace) = answered.trace else {
            return;
        };
        let route = answered.asked.map(|(service, operation)| {
            let route = Route::of(answered.snapshot, service, operation);
            (route, route.label(answered.snapshot))
        });
        let service = route
            .as_ref()
            .and_then(|(route, _)| route.service(answered.snapshot));
        let route = route.map_or_else(|| "-".to_owned(), |(_, label)| label);
        let start = nanos(answered);
        self.push(server(answered, trace, (&route, service), start));
        if let Some(called) = answered.upstream {
            let begun = start.saturating_add(whole(called.after));
            let mut attributes = vec![method(answered.method)];
            attributes.push(KeyValue::text("countersign.route", route));
            attributes.extend(service.map(|it| KeyValue::text("peer.service", it)));
            let failed = called.status.is_none_or(|status| status >= 400);
            attributes.extend(called.status.map(code));
            attributes.extend(failed.then(|| error(called.status)));
            self.push(Span {
                trace_id: bytes(trace.id),
                span_id: bytes(trace.call),
                parent_span_id: bytes(trace.span),
                name: known(answered.method).unwrap_or("HTTP").to_owned(),
                kind: Kind::Client.into(),
                start_time_unix_nano: begun,
                end_time_unix_nano: begun.saturating_add(whole(called.took)),
                attributes,
                status: status(failed),
                flags: 1,
            });
        }
    }

    /// Nobody waits: what does not fit is dropped.
    fn push(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.counts.count(Outcome::Dropped, 1);
        }
    }
}

fn server(
    answered: &Answered<'_>,
    trace: Trace<'_>,
    (route, service): (&str, Option<&str>),
    start: u64,
) -> Span {
    let mut attributes = vec![
        method(answered.method),
        KeyValue::text("url.scheme", "https"),
        KeyValue::text(
            "network.protocol.version",
            if answered.http2 { "2" } else { "1.1" },
        ),
        KeyValue::text("countersign.route", route),
        KeyValue::text("countersign.door", answered.door.as_str()),
        code(answered.status),
    ];
    attributes.extend(service.map(|it| KeyValue::text("countersign.service", it)));
    attributes.extend(
        answered
            .receipt
            .map(|it| KeyValue::text("countersign.receipt", it)),
    );
    if let Some(code) = answered.code {
        attributes.push(KeyValue::text("countersign.pillar", code.pillar().word()));
        attributes.push(KeyValue::text("countersign.code", code.to_string()));
    }
    // A server's span is wrong only where the server is ("HTTP server", Status).
    let failed = answered.status >= 500;
    attributes.extend(failed.then(|| error(Some(answered.status))));
    Span {
        trace_id: bytes(trace.id),
        span_id: bytes(trace.span),
        parent_span_id: trace.parent.map(bytes).unwrap_or_default(),
        name: named(answered.method, route),
        kind: Kind::Server.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(whole(answered.took)),
        attributes,
        status: status(failed),
        flags: 1,
    }
}

/// Of few names: the method and the configured pattern of the path.
fn named(method: &str, route: &str) -> String {
    let method = known(method).unwrap_or("HTTP");
    match route.rsplit_once(' ') {
        Some((_, object)) if object.starts_with('/') => format!("{method} {object}"),
        _ => method.to_owned(),
    }
}

fn known(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|it| *it == method)
}

fn method(method: &str) -> KeyValue {
    KeyValue::text("http.request.method", known(method).unwrap_or("_OTHER"))
}

fn code(status: u16) -> KeyValue {
    KeyValue::number("http.response.status_code", status)
}

fn error(status: Option<u16>) -> KeyValue {
    let kind = status.map_or_else(|| "no_answer".to_owned(), |it| it.to_string());
    KeyValue::text("error.type", kind)
}

fn status(failed: bool) -> Option<Status> {
    failed.then_some(Status {
        code: StatusCode::Error.into(),
    })
}

fn bytes(hex_digits: &str) -> Vec<u8> {
    hex::decode(hex_digits).unwrap_or_default()
}

fn nanos(answered: &Answered<'_>) -> u64 {
    let micros = u64::try_from(answered.at.as_micros()).unwrap_or(0);
    micros.saturating_mul(1_000)
}

fn whole(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
