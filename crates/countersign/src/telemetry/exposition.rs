//! The two text forms of metrics.

use std::fmt::Write as _;

/// A form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

impl Form {
    /// What a scraper takes by its `Accept`. Those of Prometheus name both and prefer OpenMetrics;
    /// whoever names neither reads the older one.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let takes = accept.is_some_and(|it| it.contains("application/openmetrics-text"));
        if takes {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// OpenMetrics text as Prometheus 0.0.4: there the name of a counter has its `_total` in the
/// descriptions too, an info metric is a gauge, and there is no unit and no mark of the end.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some((name, words)) = described(line, "# HELP ") {
            // Its name is not known before its type is.
            help = Some((name, words));
            continue;
        }
        let Some((name, kind)) = described(line, "# TYPE ") else {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
            continue;
        };
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            kind => ("", kind),
        };
        if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
            let _ = writeln!(text, "# HELP {name}{suffix} {words}");
        }
        let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
    }
    text
}

fn described<'l>(line: &'l str, what: &str) -> Option<(&'l str, &'l str)> {
    line.strip_prefix(what)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_its_suffix_in_its_description() {
        let open = "# HELP a_requests How many.\n# TYPE a_requests counter\na_requests_total 1\n\
                    # HELP a_open Now.\n# TYPE a_open gauge\n# UNIT a_open streams\na_open 2\n\
                    # HELP a_build What.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n# EOF\n";
        let old = "# HELP a_requests_total How many.\n# TYPE a_requests_total counter\n\
                   a_requests_total 1\n# HELP a_open Now.\n# TYPE a_open gauge\na_open 2\n\
                   # HELP a_build_info What.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n";
        assert_eq!(prometheus(open), old);
    }

    #[test]
    fn the_scraper_says_what_it_takes() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(Form::accepted(Some(of_prometheus)), Form::OpenMetrics);
        for other in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
            assert_eq!(Form::accepted(other), Form::Prometheus);
        }
    }
}
