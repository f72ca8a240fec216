//! Reading what a running process tells of itself, from its socket for health and metrics.

use super::args::MetricsAt;
use crate::operate::Failure;
use crate::operate::with_causes;
use crate::telemetry::DEFAULT;
use bytes::Bytes;
use countersign_net::Dialer;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::ClientError;
use countersign_net::http::Limits;
use http::Request;
use std::net::SocketAddr;
use std::time::Duration;

/// The socket for health and metrics of a process on this machine.
pub(super) struct Probe {
    pub(super) address: SocketAddr,
    limits: Limits,
    target: Target,
}

/// Metrics at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

/// One line of them.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// Every configured name has a few lines.
const MAX_ANSWER: usize = 16 << 20;

impl Probe {
    /// Where it was said to be, or where it is by default; none if it is nowhere.
    pub(super) fn at(metrics: Option<MetricsAt>, time: Duration) -> Option<Self> {
        let address = match metrics {
            None => DEFAULT,
            Some(MetricsAt::Address(address)) => address,
            Some(MetricsAt::Off) => return None,
        };
        let target = Target {
            host: address.ip().to_string(),
            network: Network::Loopback,
            port: address.port(),
        };
        Some(Self {
            address,
            limits: Limits {
                body: MAX_ANSWER,
                time,
            },
            target,
        })
    }

    /// Status and body of a path there.
    pub(super) async fn get(&self, path: &str) -> Result<(u16, String), Failure> {
        let request = Request::get(path).body(Bytes::new());
        let request = request.map_err(|error| Failure::failed(error.to_string()))?;
        // A connection there carries one request.
        let client = Client::loopback(Dialer, self.target.clone());
        let response = client.request(request, self.limits).await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        let body = String::from_utf8_lossy(response.body()).into_owned();
        Ok((response.status().as_u16(), body))
    }

    /// All metrics.
    pub(super) async fn samples(&self) -> Result<Samples, Failure> {
        match self.get("/metrics").await? {
            (200, text) if text.contains("\ncountersign_build_info{") => Ok(Samples::parse(&text)),
            (status, _) => Err(Failure::failed(format!(
                "what is at `{}` has no metrics of countersign (status {status})",
                self.address
            ))),
        }
    }

    fn unreachable(&self, error: &ClientError) -> Failure {
        let text = format!("no health and metrics: {}", with_causes(error));
        Failure::unreachable(text)
            .with_help("start it with `countersign up`, or say where they are: `--metrics ADDRESS`")
    }
}

impl Samples {
    /// Reads the text format of Prometheus, version 0.0.4. What can't be read is not there.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Sample::parse).collect())
    }

    /// The lines of this name, which is without `countersign_`.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |it| it.name == name)
    }

    /// The sum of the lines of this name; none if there is no such line.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.of(name).map(|it| it.value).reduce(|sum, it| sum + it)
    }

    /// What came since an earlier moment, for what only grows. A process that was started again
    /// began at nothing.
    pub(super) fn grown<'a>(&'a self, name: &'a str, earlier: &Self) -> Vec<(&'a Sample, f64)> {
        let growth = self.of(name).map(|now| {
            let before = earlier.of(name).find(|it| it.labels == now.labels);
            let grown = now.value - before.map_or(0.0, |it| it.value);
            (now, if grown < 0.0 { now.value } else { grown })
        });
        growth.collect()
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("countersign_")?;
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at_checked(end)?;
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while let Some((label, after)) = rest.split_once("=\"") {
                let (value, after) = quoted(after)?;
                labels.push((label.to_owned(), value));
                match after.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            rest = rest.strip_prefix('}')?;
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value,
        })
    }

    /// The value of a label, or nothing.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A label's value up to its quotation mark, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => return Some((value, text.get(at + 1..)?)),
            (false, '\\') => escaped = true,
            (true, 'n') => {
                value.push('\n');
                escaped = false;
            }
            (_, c) => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_names_labels_and_values() {
        let text = "# HELP countersign_requests_total x\n\
            countersign_requests_total{route=\"api GET /a/**\",peer=\"p\",decision=\"deny\"} 3\n\
            countersign_requests_total{route=\"odd \\\"q\\\" \\\\ \\n,}\",peer=\"p\",decision=\"allow\"} 4 1700000000\n\
            countersign_open_streams 2\n\
            countersign_broken{route=\"x} 1\n\
            countersign_nothing\n\
            other_metric 9\n\
            countersign_overhead_duration_seconds_bucket{le=\"+Inf\"} 7.5\n";
        let samples = Samples::parse(text);
        assert_eq!(samples.0.len(), 4, "{samples:?}");
        assert_eq!(samples.sum("requests_total"), Some(7.0));
        assert_eq!(samples.sum("requests"), None);
        let routes: Vec<_> = samples
            .of("requests_total")
            .map(|it| it.label("route"))
            .collect();
        assert_eq!(routes, ["api GET /a/**", "odd \"q\" \\ \n,}"]);
        let bucket = samples
            .of("overhead_duration_seconds_bucket")
            .next()
            .unwrap();
        assert_eq!((bucket.label("le"), bucket.value), ("+Inf", 7.5));
    }

    #[test]
    fn what_grew_is_counted_from_nothing_after_a_restart() {
        let at = |first, second| {
            Samples::parse(&format!(
                "countersign_x{{a=\"1\"}} {first}\ncountersign_x{{a=\"2\"}} {second}\n"
            ))
        };
        let grown = |now: &Samples, earlier: &Samples| -> Vec<f64> {
            now.grown("x", earlier)
                .into_iter()
                .map(|(_, it)| it)
                .collect()
        };
        assert_eq!(grown(&at(5, 7), &at(2, 7)), [3.0, 0.0]);
        assert_eq!(grown(&at(1, 7), &at(2, 7)), [1.0, 0.0]);
        assert_eq!(grown(&at(1, 7), &Samples::default()), [1.0, 7.0]);
    }
}
