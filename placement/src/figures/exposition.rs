//! Prometheus' text format, as far as our own processes write it. Pure.

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series<'a> {
    /// The metric, with `_bucket`, `_sum` or `_count` where it is part of a histogram.
    pub(crate) name: &'a str,
    labels: &'a str,
    /// Its value.
    pub(crate) value: f64,
}

impl<'a> Series<'a> {
    /// A label's value. Ours are plain words and numbers: nothing in them is escaped.
    pub(crate) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            if label.trim_start_matches([',', ' ']) == name {
                return Some(value);
            }
            rest = after;
        }
        None
    }
}

/// The series in a text whose names begin with `prefix`; what is not one is passed over.
pub(crate) fn series<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = Series<'a>> {
    text.lines()
        .filter(move |line| line.starts_with(prefix))
        .filter_map(line)
}

fn line(line: &str) -> Option<Series<'_>> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (head, ""),
    };
    let value = value.parse().ok()?;
    Some(Series { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_none_is_passed_over() {
        let text = "# HELP a_total A.\na_total{op=\"get\",code=\"200\"} 3\n\nb 1\na_bucket{le=\"+Inf\"} 4\na_broken{le= 1\na_x one";
        let read: Vec<_> = series(text, "a_").collect();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!((read[0].name, read[0].value), ("a_total", 3.0));
        assert_eq!(
            (read[0].label("op"), read[0].label("code"), read[0].label("o")),
            (Some("get"), Some("200"), None)
        );
        assert_eq!(read[1].label("le"), Some("+Inf"));
    }
}
