use crate::cli::scrape::Sample;
use crate::cli::scrape::Samples;
use crate::cli::ui::Style;
use crate::cli::ui::Ui;
use crate::cli::ui::table;
use crate::operate::harmless;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What was done in an interval, and how things are at its end.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Picture {
    budgets: Vec<Budget>,
    denials: Vec<Denials>,
    denied_per_second: f64,
    draining: bool,
    /// Seconds.
    interval: f64,
    log_size: Option<f64>,
    open_streams: f64,
    overhead: Overhead,
    ready: bool,
    pub(super) requests_per_second: f64,
    routes: Vec<Route>,
    spool_bytes: f64,
    spool_free_bytes: f64,
    unshipped: f64,
}

/// How much of a budget is spent; 1 is all.
#[derive(Debug, PartialEq, Serialize)]
struct Budget {
    budget: String,
    spent: f64,
}

/// Refusals of a pillar.
#[derive(Debug, PartialEq, Serialize)]
struct Denials {
    per_second: f64,
    pillar: String,
    total: f64,
}

/// Seconds that countersign added, where there were requests.
#[derive(Debug, PartialEq, Serialize)]
struct Overhead {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Route {
    denied_per_second: f64,
    requests_per_second: f64,
    route: String,
}

/// Lines above the routes, and the head of their table.
const ABOVE: usize = 7;

impl Picture {
    pub(super) fn new(now: &Samples, before: &Samples, interval: Duration) -> Self {
        let seconds = interval.as_secs_f64().max(f64::EPSILON);
        let routes = routes(now, before, seconds);
        let value = |name: &str| now.sum(name).unwrap_or(0.0);
        let bounds = now.grown("overhead_duration_seconds_bucket", before);
        let budgets = now.of("budget_spent_ratio").map(|it| Budget {
            budget: it.label("budget").to_owned(),
            spent: it.value,
        });
        Self {
            budgets: budgets.collect(),
            denials: denials(now, before, seconds),
            denied_per_second: routes.iter().map(|it| it.denied_per_second).sum(),
            draining: value("draining") > 0.0,
            interval: seconds,
            log_size: now.sum("audit_tree_size"),
            open_streams: value("open_streams"),
            overhead: Overhead {
                p50: quantile(&bounds, 0.5),
                p99: quantile(&bounds, 0.99),
            },
            ready: value("ready") > 0.0,
            requests_per_second: routes.iter().map(|it| it.requests_per_second).sum(),
            routes,
            spool_bytes: value("spool_bytes"),
            spool_free_bytes: value("spool_free_bytes"),
            unshipped: value("audit_unshipped_records"),
        }
    }

    /// The picture in at most so many lines.
    pub(super) fn lines(&self, ui: &Ui<'_>, height: usize) -> Vec<String> {
        let state = match (self.ready, self.draining) {
            (_, true) => ui.paint(Style::Bold, "stopping"),
            (true, _) => ui.paint(Style::Good, "ready"),
            (false, _) => ui.paint(Style::Bad, "NOT READY"),
        };
        let log = self
            .log_size
            .map_or_else(String::new, |it| format!(", log {it}"));
        let mut lines = vec![
            format!(
                "{state}   {:.1} requests/s, {:.1} refused/s, {} open",
                self.requests_per_second, self.denied_per_second, self.open_streams
            ),
            format!(
                "added    p50 {}, p99 {}",
                duration(self.overhead.p50),
                duration(self.overhead.p99)
            ),
            format!(
                "ledger   {} on disk, {} left, {} not in the log{log}",
                bytes(self.spool_bytes),
                bytes(self.spool_free_bytes),
                self.unshipped
            ),
        ];
        let refused = self.denials.iter().map(|it| {
            let text = format!("{} {:.1}/s ({})", it.pillar, it.per_second, it.total);
            if it.per_second > 0.0 {
                ui.paint(Style::Bad, &text)
            } else {
                text
            }
        });
        let refused: Vec<_> = refused.collect();
        lines.push(match refused.is_empty() {
            true => "refused  nothing".to_owned(),
            false => format!("refused  {}", refused.join(", ")),
        });
        let budgets = self.budgets.iter().map(|it| {
            let text = format!("{} {:.0} %", harmless(&it.budget), it.spent * 100.0);
            if it.spent >= 1.0 {
                ui.paint(Style::Bad, &text)
            } else {
                text
            }
        });
        let budgets: Vec<_> = budgets.collect();
        if !budgets.is_empty() {
            lines.push(format!("budgets  {}", budgets.join(", ")));
        }
        lines.push(String::new());
        lines.extend(self.table(height.saturating_sub(ABOVE)));
        lines
    }

    /// The busiest routes, so many of them.
    fn table(&self, most: usize) -> Vec<String> {
        let rows = self.routes.iter().take(most);
        let rows: Vec<_> = rows
            .map(|it| {
                vec![
                    format!("{:>10.1}", it.requests_per_second),
                    format!("{:>9.1}", it.denied_per_second),
                    harmless(&it.route),
                ]
            })
            .collect();
        let rows = table(&["REQUESTS/S", "REFUSED/S", "ROUTE"], &rows);
        rows.lines().map(str::to_owned).collect()
    }
}

/// The busiest first; what was never asked for is not there.
fn routes(now: &Samples, before: &Samples, seconds: f64) -> Vec<Route> {
    let mut routes = BTreeMap::<&str, Route>::new();
    for (sample, grown) in now.grown("requests_total", before) {
        let name = sample.label("route");
        let route = routes.entry(name).or_default();
        name.clone_into(&mut route.route);
        route.requests_per_second += grown / seconds;
        if sample.label("decision") == "deny" {
            route.denied_per_second += grown / seconds;
        }
    }
    let mut routes: Vec<_> = routes.into_values().collect();
    routes.sort_by(|a, b| b.requests_per_second.total_cmp(&a.requests_per_second));
    routes
}

fn denials(now: &Samples, before: &Samples, seconds: f64) -> Vec<Denials> {
    let mut pillars = BTreeMap::<&str, (f64, f64)>::new();
    for (sample, grown) in now.grown("denials_total", before) {
        let (rate, total) = pillars.entry(sample.label("pillar")).or_default();
        *rate += grown / seconds;
        *total += sample.value;
    }
    let denials = pillars
        .into_iter()
        .map(|(pillar, (per_second, total))| Denials {
            per_second,
            pillar: pillar.to_owned(),
            total,
        });
    denials.collect()
}

/// A quantile of a histogram by linear interpolation within its bucket, as `histogram_quantile`
/// of Prometheus does; in the last bucket its lower bound is all that is known.
fn quantile(buckets: &[(&Sample, f64)], share: f64) -> Option<f64> {
    let bound = |sample: &Sample| sample.label("le").parse::<f64>().ok();
    let mut buckets: Vec<(f64, f64)> = buckets
        .iter()
        .filter_map(|(sample, count)| Some((bound(sample)?, *count)))
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = buckets
        .last()
        .map(|(_, count)| *count)
        .filter(|it| *it > 0.0)?;
    let rank = all * share;
    let (mut lower, mut below) = (0.0, 0.0);
    for (upper, count) in buckets {
        if count >= rank {
            if upper.is_infinite() {
                return Some(lower);
            }
            let within = (rank - below) / (count - below).max(f64::EPSILON);
            return Some(lower + (upper - lower) * within);
        }
        (lower, below) = (upper, count);
    }
    None
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(it) if it < 0.001 => format!("{:.0} us", it * 1e6),
        Some(it) if it < 1.0 => format!("{:.1} ms", it * 1e3),
        Some(it) => format!("{it:.1} s"),
    }
}

fn bytes(count: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = units
        .iter()
        .map(|(unit, bits)| (unit, f64::from(1 << bits)));
    let found = fits.into_iter().find(|(_, size)| count >= *size);
    found.map_or_else(
        || format!("{count} B"),
        |(unit, size)| format!("{:.1} {unit}", count / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(allowed: u32, denied: u32, fast: u32, slow: u32) -> Samples {
        let all = fast + slow;
        Samples::parse(&format!(
            "countersign_requests_total{{route=\"a\",peer=\"p\",decision=\"allow\"}} {allowed}\n\
             countersign_requests_total{{route=\"b\",peer=\"p\",decision=\"deny\"}} {denied}\n\
             countersign_denials_total{{pillar=\"identity\",code=\"CSD201\",route=\"b\"}} {denied}\n\
             countersign_overhead_duration_seconds_bucket{{le=\"0.001\"}} {fast}\n\
             countersign_overhead_duration_seconds_bucket{{le=\"0.003\"}} {all}\n\
             countersign_overhead_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             countersign_ready 1\ncountersign_open_streams 3\ncountersign_spool_bytes 2048\n\
             countersign_budget_spent_ratio{{budget=\"ai\"}} 0.5\n"
        ))
    }

    #[test]
    fn rates_are_of_what_came_meanwhile() {
        let (before, now) = (samples(10, 5, 8, 7), samples(30, 7, 18, 17));
        let picture = Picture::new(&now, &before, Duration::from_secs(2));
        assert!((picture.requests_per_second - 11.0).abs() < 1e-9);
        assert!((picture.denied_per_second - 1.0).abs() < 1e-9);
        let routes: Vec<_> = picture.routes.iter().map(|it| it.route.as_str()).collect();
        assert_eq!(routes, ["a", "b"]);
        assert_eq!(picture.denials.len(), 1);
        assert!((picture.denials[0].total - 7.0).abs() < 1e-9);
        assert!(picture.ready && !picture.draining);
        assert_eq!(picture.log_size, None);
        assert!((picture.budgets[0].spent - 0.5).abs() < 1e-9);
        // Ten were fast and ten slow: the median is the bound between.
        assert!((picture.overhead.p50.unwrap() - 0.001).abs() < 1e-9);
        let p99 = picture.overhead.p99.unwrap();
        assert!((p99 - 0.00296).abs() < 1e-9, "{p99}");
    }

    #[test]
    fn where_nothing_came_there_is_no_quantile() {
        let now = samples(1, 1, 4, 4);
        let picture = Picture::new(&now, &now, Duration::from_secs(1));
        assert_eq!(
            picture.overhead,
            Overhead {
                p50: None,
                p99: None
            }
        );
        assert!(picture.requests_per_second.abs() < 1e-9);
    }

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(3.0 * 1024.0 * 1024.0 * 1024.0), "3.0 GiB");
        assert_eq!(duration(Some(0.000_25)), "250 us");
        assert_eq!(duration(Some(0.0125)), "12.5 ms");
        assert_eq!(duration(Some(2.0)), "2.0 s");
        assert_eq!(duration(None), "-");
    }
}
