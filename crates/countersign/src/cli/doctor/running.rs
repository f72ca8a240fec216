//! What a running process says of itself.

use super::finding::Finding;
use crate::cli::args::Globals;
use crate::cli::scrape::Probe;
use crate::cli::scrape::Samples;
use crate::operate::Admin;
use crate::operate::Failure;
use countersign_core::vocabulary::Timestamp;
use countersign_wire::admin::Drift;
use countersign_wire::admin::Status;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

pub(super) const SERVER: &str = "server";
pub(super) const HEALTH: &str = "health";

/// A server that answered.
pub(super) struct Running {
    pub(super) admin: Admin,
    pub(super) status: Status,
}

/// A gateway says each second where it is.
const HEARD: Duration = Duration::from_secs(10);
/// A record is in the log after a second, unless something is in its way.
const UNSHIPPED: f64 = 1000.0;
/// Certificates are renewed long before this.
const SOON: f64 = 300.0;
/// A policy that forgets them does not close them, and opens nothing beside them.
const NOTHING: [&str; 3] = ["/", "/v1/admin/status", "/debug/pprof/"];

/// Asks the server, if one runs.
pub(super) async fn ask(globals: &Globals, findings: &mut Vec<Finding>) -> Option<Running> {
    let admin = globals.admin();
    let hint = |failure: &Failure| failure.help().unwrap_or_else(|| "see its log".to_owned());
    match admin.get::<Status>("/v1/admin/status").await {
        Ok(status) => {
            let detail = format!("{} since {}", status.version, status.started);
            findings.push(if status.version == env!("CARGO_PKG_VERSION") {
                Finding::ok(SERVER, detail)
            } else {
                let detail = format!("{detail}, and this is {}", env!("CARGO_PKG_VERSION"));
                Finding::warn(SERVER, detail, "restart it: systemctl restart countersign")
            });
            Some(Running { admin, status })
        }
        Err(failure @ Failure::Unreachable { .. }) => {
            findings.push(Finding::warn(SERVER, failure.to_string(), hint(&failure)));
            None
        }
        Err(failure) => {
            findings.push(Finding::fail(SERVER, failure.to_string(), hint(&failure)));
            None
        }
    }
}

/// What the server's answer says.
pub(super) async fn findings(server: &Running, metrics: Option<&Samples>) -> Vec<Finding> {
    let status = &server.status;
    let mut findings: Vec<_> = status.file.iter().map(drift).collect();
    if let Some(limit) = handles(server).await {
        findings.push(limit);
    }
    let now = now();
    findings.extend(status.gateways.iter().map(|gateway| {
        const WHAT: &str = "gateway";
        let (name, unshipped) = (&gateway.name, gateway.unshipped);
        let hint = "look at its log, and at the network between it and ports 7443 and 7444 here";
        match gateway.heard.map(|it| now.since(it)) {
            None => {
                let detail = format!("`{name}` was not heard since the server began");
                Finding::fail(WHAT, detail, hint)
            }
            Some(ago) if ago > HEARD => {
                let detail = format!("`{name}` was heard {} s ago", ago.as_secs());
                Finding::fail(WHAT, detail, hint)
            }
            Some(_) if unshipped > 1000 => {
                let detail = format!("`{name}` has {unshipped} records that are not in the log");
                Finding::warn(WHAT, detail, hint)
            }
            Some(_) => Finding::ok(
                WHAT,
                format!("`{name}` is connected, {unshipped} unshipped"),
            ),
        }
    }));
    findings.extend(of_metrics(metrics));
    findings
}

fn drift(file: &countersign_wire::admin::FileStatus) -> Finding {
    const WHAT: &str = "in force";
    let path = &file.path;
    match file.drift {
        Drift::None => Finding::ok(WHAT, format!("what `{path}` says")),
        Drift::Differs => {
            let detail = format!("`{path}` says something else than what is in force");
            Finding::warn(WHAT, detail, "countersign reload --dry-run")
        }
        Drift::Unreadable => {
            let detail = format!("`{path}` can't be read any more; what is in force stays");
            Finding::fail(WHAT, detail, format!("countersign check -c '{path}'"))
        }
    }
}

/// As many files as there may be connections, and as many again for those that go on.
async fn handles(server: &Running) -> Option<Finding> {
    const WHAT: &str = "open files";
    const WANTED: u64 = 65_536;
    let pid = server.admin.process().await?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|it| it.starts_with("Max open files"))?;
    let soft = line.split_whitespace().nth(3)?;
    let detail = format!("the server may have {soft} open at once");
    Some(match soft.parse::<u64>() {
        Ok(limit) if limit < WANTED => {
            let detail = format!("{detail}: a busy door runs out of them");
            let hint = format!("`LimitNOFILE={WANTED}` in its unit, or ulimit -n {WANTED}");
            Finding::warn(WHAT, detail, hint)
        }
        _ => Finding::ok(WHAT, detail),
    })
}

/// Whether health and metrics are answered, and nothing else is, where no policy decides.
pub(super) async fn telemetry(
    probe: Option<&Probe>,
    expected: bool,
    findings: &mut Vec<Finding>,
) -> Option<Samples> {
    let Some(probe) = probe else {
        let detail = "health and metrics are off";
        findings.push(Finding::ok("metrics", detail));
        return None;
    };
    let address = probe.address;
    let ready = match probe.get("/readyz?verbose").await {
        Ok(answer) => answer,
        Err(failure) => {
            let hint = "say where they are, or that there are none: `--metrics ADDRESS`, `off`";
            findings.push(if expected {
                Finding::fail(HEALTH, failure.to_string(), hint)
            } else {
                Finding::warn(HEALTH, failure.to_string(), hint)
            });
            return None;
        }
    };
    findings.push(readiness(address, ready));
    for path in NOTHING {
        if let Ok((status @ ..400, _)) = probe.get(path).await {
            let detail = format!("`http://{address}{path}` answers {status} without any proof");
            let hint = "see what listens there: it is not countersign alone";
            findings.push(Finding::fail("metrics", detail, hint));
            return None;
        }
    }
    let live = probe
        .get("/livez")
        .await
        .is_ok_and(|(status, _)| status == 200);
    let metrics = probe.samples().await;
    findings.push(match &metrics {
        Ok(_) if live => Finding::ok(
            "metrics",
            format!("/livez, /readyz and /metrics at {address}, and nothing else there"),
        ),
        Ok(_) => Finding::fail("metrics", "/livez is not answered", "restart it"),
        Err(failure) => {
            let hint = "say where they are: `--metrics ADDRESS`";
            Finding::fail("metrics", failure.to_string(), hint)
        }
    });
    metrics.ok()
}

fn readiness(address: std::net::SocketAddr, (status, text): (u16, String)) -> Finding {
    match status {
        200 => Finding::ok(HEALTH, format!("ready: {}", one_line(&text))),
        503 => {
            let detail = format!("not ready: {}", one_line(&text));
            Finding::fail(
                HEALTH,
                detail,
                "docs/operations.md says what each check means",
            )
        }
        status => {
            let detail = format!("`http://{address}/readyz` answers {status}");
            Finding::fail(
                HEALTH,
                detail,
                "something else listens there: `--metrics ADDRESS`",
            )
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(", ")
}

/// What metrics say of certificates and of records.
pub(super) fn of_metrics(metrics: Option<&Samples>) -> Vec<Finding> {
    let Some(metrics) = metrics else {
        return Vec::new();
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0.0, |it| it.as_secs_f64());
    let mut findings = vec![certificates(metrics, now)];
    let unshipped = metrics.sum("audit_unshipped_records").unwrap_or(0.0);
    let detail = format!("{unshipped} not in the log yet");
    findings.push(if unshipped > UNSHIPPED {
        let hint = "look at the log of the process, and at the disk of the server";
        Finding::warn("records", detail, hint)
    } else {
        Finding::ok("records", detail)
    });
    findings
}

fn certificates(metrics: &Samples, now: f64) -> Finding {
    const WHAT: &str = "certificates";
    let hint = "look at the log of the process: certificates are renewed at half of their time";
    let ends = metrics.of("certificate_not_after_timestamp_seconds");
    let mut soonest: Option<(f64, &str)> = None;
    for sample in ends {
        let (left, name) = (sample.value - now, sample.label("name"));
        if soonest.is_none_or(|(known, _)| left < known) {
            soonest = Some((left, name));
        }
    }
    match soonest {
        None => Finding::warn(WHAT, "none is told of", hint),
        Some((left, name)) if left <= 0.0 => {
            Finding::fail(WHAT, format!("that of `{name}` has ended"), hint)
        }
        Some((left, name)) => {
            let detail = format!(
                "the first to end is that of `{name}`, in {:.0} min",
                left / 60.0
            );
            if left < SOON {
                Finding::fail(WHAT, detail, hint)
            } else {
                Finding::ok(WHAT, detail)
            }
        }
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let secs = now.map_or(0, |it| it.as_secs());
    Timestamp::from_secs(i64::try_from(secs).unwrap_or(i64::MAX / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_certificate_that_ends_first_is_told() {
        let metrics = |first: f64| {
            Samples::parse(&format!(
                "countersign_certificate_not_after_timestamp_seconds{{name=\"server\"}} {first}\n\
                 countersign_certificate_not_after_timestamp_seconds{{name=\"intermediate\"}} 90000\n"
            ))
        };
        for (ends, state) in [
            (5000.0, State::Ok),
            (1100.0, State::Fail),
            (900.0, State::Fail),
        ] {
            let found = certificates(&metrics(ends), 1000.0);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.detail.contains("`server`"), "{found:?}");
        }
        assert_eq!(certificates(&Samples::default(), 1.0).state, State::Warn);
    }

    #[test]
    fn who_is_not_ready_says_why() {
        let at = "127.0.0.1:9464".parse().unwrap();
        let found = readiness(at, (503, "started ok\nledger failed\n".to_owned()));
        assert_eq!(found.state, State::Fail);
        assert!(found.detail.contains("ledger failed"), "{found:?}");
        assert_eq!(readiness(at, (404, String::new())).state, State::Fail);
        assert_eq!(readiness(at, (200, "ok\n".to_owned())).state, State::Ok);
    }
}
