//! Holds what a process exposes to the tables that describe it.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Label, Metric, Values};

/// Most series that a process may expose: what Prometheus keeps, and a scrape takes, grows with them.
pub const MAX_SERIES: usize = 3_000;

/// The labels of a series, without the one that names a bucket.
type Labels = BTreeMap<String, String>;

/// What an exposition in Prometheus' text format says.
#[derive(Debug, Default)]
pub struct Exposition {
    kinds: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    /// By the name of the metric, that of a histogram without `_bucket`, `_sum` or `_count`.
    series: BTreeMap<String, BTreeSet<Labels>>,
    samples: usize,
}

impl Exposition {
    /// Reads an exposition. What is no line of the format is left out, and so missed later.
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                parsed.comment(comment);
            } else {
                parsed.sample(line);
            }
        }
        parsed
    }

    fn comment(&mut self, comment: &str) {
        let mut words = comment.splitn(3, ' ');
        let (what, name, text) = (words.next(), words.next(), words.next());
        let (Some(name), Some(text)) = (name, text) else {
            return;
        };
        let entries = match what {
            Some("TYPE") => &mut self.kinds,
            Some("HELP") => &mut self.helps,
            _ => return,
        };
        entries.insert(name.to_owned(), text.to_owned());
    }

    fn sample(&mut self, line: &str) {
        let Some((series, _value)) = line.rsplit_once(' ') else {
            return;
        };
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let mut labels: Labels = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        labels.remove("le");
        self.samples += 1;
        let name = self.metric_of(name).to_owned();
        self.series.entry(name).or_default().insert(labels);
    }

    fn metric_of<'a>(&self, sample: &'a str) -> &'a str {
        ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .find(|name| self.kinds.get(*name).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(sample)
    }

    /// Lines with a value: what Prometheus makes a series of.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Everything in which the process and the tables differ; nothing when all is as it should be. A metric whose labels
    /// come up later may be absent; what is there has to be described, and closed labels take the values that they may.
    pub fn differences(&self, tables: &[&[Metric]]) -> Vec<String> {
        let described: BTreeMap<_, _> = tables
            .iter()
            .flat_map(|table| table.iter())
            .map(|metric| (metric.name, metric))
            .collect();
        let unknown = self
            .series
            .keys()
            .filter(|name| !described.contains_key(name.as_str()));
        let mut found: Vec<_> = unknown.map(|name| format!("{name} is not described")).collect();
        for metric in described.values() {
            match self.series.get(metric.name) {
                Some(series) => self.compare(metric, series, &mut found),
                None if metric.is_closed() => found.push(format!("{} is missing", metric.name)),
                None => {}
            }
        }
        if self.samples > MAX_SERIES {
            found.push(format!("{} series, more than {MAX_SERIES}", self.samples));
        }
        found
    }

    fn compare(&self, metric: &Metric, series: &BTreeSet<Labels>, found: &mut Vec<String>) {
        let name = metric.name;
        let kind = self.kinds.get(name).map(String::as_str);
        if kind != Some(metric.kind.to_string().as_str()) {
            found.push(format!("{name} is a {kind:?}, not a {}", metric.kind));
        }
        if !self.helps.contains_key(name) {
            found.push(format!("{name} has no help"));
        }
        for labels in series.iter().filter(|labels| !allows(metric, labels)) {
            found.push(format!("{name} has the labels {labels:?}"));
        }
        let expected = combinations(metric);
        if metric.is_closed() && series.len() < expected {
            found.push(format!("{name} has {} of {expected} series", series.len()));
        }
    }
}

fn allows(metric: &Metric, labels: &Labels) -> bool {
    let allowed = |label: &Label| match (labels.get(label.name), label.values) {
        (None, _) => false,
        (Some(value), Values::OneOf(values)) => values.contains(&value.as_str()),
        (Some(_), Values::Each(_)) => true,
    };
    labels.len() == metric.labels.len() && metric.labels.iter().all(allowed)
}

fn combinations(metric: &Metric) -> usize {
    let values = metric.labels.iter().map(|label| match label.values {
        Values::OneOf(values) => values.len(),
        Values::Each(_) => 1,
    });
    values.product()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Metric] = &[
        Metric::counter("a_total", &[Label::one_of("way", &["in", "out"])], "A."),
        Metric::histogram("b_seconds", &[], "B."),
        Metric::gauge("c", &[Label::each("store", "a store")], "C."),
    ];

    const GOOD: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{way=\"in\"} 1\na_total{way=\"out\"} 0\n\n\
        # HELP b_seconds B.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 0\nb_seconds_sum 0\nb_seconds_count 0\n";

    fn differences(text: &str) -> Vec<String> {
        Exposition::parse(text).differences(&[TABLE])
    }

    #[test]
    fn what_is_as_described_differs_in_nothing() {
        assert_eq!(differences(GOOD), Vec::<String>::new());
        assert_eq!(Exposition::parse(GOOD).samples(), 5);
        let with_more = format!("{GOOD}# HELP c C.\n# TYPE c gauge\nc{{store=\"7\"}} 1\n");
        assert_eq!(differences(&with_more), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_too_much_is_found() {
        assert_eq!(
            differences(&GOOD.replace("a_total{way=\"out\"} 0\n", "")),
            ["a_total has 1 of 2 series"]
        );
        assert_eq!(
            differences(&GOOD.replace("b_seconds", "d_seconds")),
            ["d_seconds is not described", "b_seconds is missing"]
        );
        assert_eq!(
            differences(&GOOD.replace("# HELP b_seconds B.\n", "")),
            ["b_seconds has no help"]
        );
        let sideways = GOOD.replace("way=\"out\"", "way=\"sideways\"");
        assert_eq!(differences(&sideways).len(), 1);
        let gauge = GOOD.replace("# TYPE a_total counter", "# TYPE a_total gauge");
        assert_eq!(differences(&gauge).len(), 1);
    }
}
