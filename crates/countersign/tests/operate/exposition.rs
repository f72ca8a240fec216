//! A reader of metrics in text form that believes nothing: names, types, order, escapes, and that
//! histograms add up.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The samples of a text, by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    types: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

pub(crate) type Labels = BTreeMap<String, String>;

impl Metrics {
    /// Prometheus text format 0.0.4.
    pub(crate) fn prometheus(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        assert!(
            !text.contains("# EOF") && !text.contains("# UNIT"),
            "{text}"
        );
        Self::read(text, |name, kind| match kind {
            "counter" => {
                assert!(name.ends_with("_total"), "counter {name}");
                vec![name.to_owned()]
            }
            "gauge" => vec![name.to_owned()],
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|it| format!("{name}{it}"))
                .to_vec(),
            other => panic!("type {other} of {name}"),
        })
    }

    /// OpenMetrics 1.0.0.
    pub(crate) fn open_metrics(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("no mark of the end");
        Self::read(text, |name, kind| match kind {
            "counter" => {
                assert!(!name.ends_with("_total"), "counter {name}");
                vec![format!("{name}_total")]
            }
            "gauge" => vec![name.to_owned()],
            "info" => vec![format!("{name}_info")],
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|it| format!("{name}{it}"))
                .to_vec(),
            other => panic!("type {other} of {name}"),
        })
    }

    fn read(text: &str, samples_of: impl Fn(&str, &str) -> Vec<String>) -> Self {
        let mut metrics = Self::default();
        let (mut helped, mut allowed) = (BTreeSet::new(), Vec::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').expect(line);
                assert!(helped.insert(name.to_owned()), "described twice: {line}");
                assert!(!words.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(helped.contains(name), "no description: {line}");
                assert!(name.starts_with("countersign_"), "{line}");
                let before = metrics.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{line}");
                allowed = samples_of(name, kind);
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (name, labels, value) = sample(line);
                assert!(allowed.contains(&name), "{line} among {allowed:?}");
                let before = metrics.samples.insert((name, labels), value);
                assert_eq!(before, None, "twice: {line}");
            }
        }
        metrics.histograms();
        metrics
    }

    /// Buckets never fall, and the last one is the count.
    fn histograms(&self) {
        let histograms = self.types.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((of, labels), value) in &self.samples {
                if *of == format!("{name}_bucket") {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").expect("a bucket without a bound");
                    let bound = bound.replace("+Inf", "inf").parse().unwrap();
                    series.entry(labels).or_default().push((bound, *value));
                }
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.is_sorted_by(|a, b| a.1 <= b.1),
                    "{name} {buckets:?}"
                );
                let (bound, all) = *buckets.last().unwrap();
                assert!(bound.is_infinite(), "{name}");
                let of = |suffix: &str| self.samples[&(format!("{name}{suffix}"), labels.clone())];
                assert_eq!(of("_count").to_bits(), all.to_bits(), "{name}");
                assert!(of("_sum") >= 0.0, "{name}");
            }
        }
    }

    /// The sum of all samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let of = self.samples.iter().filter(|((it, has), _)| {
            let is = |(key, value): &(&str, &str)| has.get(*key).is_some_and(|it| it == value);
            it == name && labels.iter().all(is)
        });
        of.map(|(_, value)| value).sum()
    }

    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.types.keys().map(String::as_str).collect()
    }

    /// Every value that a label of any sample has.
    pub(crate) fn values(&self, label: &str) -> BTreeSet<&str> {
        let labels = self.samples.keys().filter_map(|(_, it)| it.get(label));
        labels.map(String::as_str).collect()
    }
}

/// `name{label="value",..} 1.5`.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.replace("+Inf", "inf").parse().expect(line);
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect(line))),
        None => (series, Labels::new()),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(plain), "{line}");
    (name.to_owned(), labels, value)
}

fn labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let name: String = rest.by_ref().take_while(|c| *c != '=').collect();
        assert_eq!(rest.next(), Some('"'), "{text}");
        let mut value = String::new();
        loop {
            match rest.next().expect("a value without an end") {
                '"' => break,
                '\\' => value.push(match rest.next().unwrap() {
                    'n' => '\n',
                    escaped @ ('"' | '\\') => escaped,
                    other => panic!("escape {other} in {text}"),
                }),
                plain => value.push(plain),
            }
        }
        assert_eq!(labels.insert(name, value), None, "{text}");
        assert!(matches!(rest.next(), None | Some(',')), "{text}");
    }
    labels
}
