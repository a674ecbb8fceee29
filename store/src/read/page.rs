//! One page of a scan: which rows are on it, and where the next one begins. Pure.

use bytes::Bytes;
use holdfast_common::key::Key;
use holdfast_common::limits::{MAX_SCAN_PAGE_BYTES, MAX_SCAN_PAGE_ROWS};
use holdfast_common::proto::kv::{Row, ScanRequest};

use crate::damage::Damage;
use crate::record;

/// Most stored rows that one page looks at: expired ones are passed over, and there may be any number of them.
const MAX_VISITED: usize = 4 * MAX_SCAN_PAGE_ROWS;

/// A page being filled.
#[derive(Debug)]
pub(crate) struct Page {
    rows: Vec<Row>,
    bytes: usize,
    visited: usize,
    max_rows: usize,
    max_bytes: usize,
    keys_only: bool,
    reverse: bool,
    now_ms: u64,
    resume: Option<Bytes>,
}

impl Page {
    /// An empty page for a request, as of `now_ms`.
    pub(super) fn new(request: &ScanRequest, now_ms: u64) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            visited: 0,
            max_rows: (request.limit as usize).clamp(1, MAX_SCAN_PAGE_ROWS),
            max_bytes: (request.max_bytes as usize).min(MAX_SCAN_PAGE_BYTES),
            keys_only: request.keys_only,
            reverse: request.reverse,
            now_ms,
            resume: None,
        }
    }

    /// Offers the next stored row of the span. False when the page was full without it: nothing more is taken.
    ///
    /// # Errors
    /// The row does not decode.
    pub(super) fn offer(&mut self, key: Bytes, stored: &Bytes) -> Result<bool, Damage> {
        if self.is_full() {
            self.resume = Some(if self.reverse { just_behind(&key) } else { key });
            return Ok(false);
        }
        self.visited += 1;
        let Some(mut record) = record::decode_live(stored, self.now_ms)? else {
            return Ok(true);
        };
        if self.keys_only {
            record.value = Bytes::new();
        }
        let key = Key::new(key).map_err(|error| Damage::new("record's key", error.to_string()))?;
        self.bytes += key.as_bytes().len() + record.value.len();
        self.rows.push(Row { key, record });
        Ok(true)
    }

    /// The rows, and where a next page has to go on.
    pub(super) fn finish(self) -> (Vec<Row>, Option<Bytes>) {
        (self.rows, self.resume)
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.max_rows
            || self.visited >= MAX_VISITED
            || (self.bytes >= self.max_bytes && !self.rows.is_empty())
    }
}

/// The exclusive end of a span that still holds `key`.
fn just_behind(key: &Bytes) -> Bytes {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(0);
    Bytes::from(end)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use holdfast_common::ids::RangeId;
    use holdfast_common::key::Span;
    use holdfast_common::proto::kv::{Consistency, Target};
    use holdfast_common::revision::Revision;

    use super::*;
    use crate::record::Header;

    fn request(limit: u32, max_bytes: u32, reverse: bool) -> ScanRequest {
        ScanRequest {
            target: Target {
                range: RangeId(1),
                bounds: 1,
            },
            consistency: Consistency::Linearizable,
            span: Span::everything(),
            reverse,
            keys_only: false,
            limit,
            max_bytes,
        }
    }

    fn stored(value: &str, expires_ms: u64) -> Bytes {
        let mut buffer = BytesMut::new();
        Header {
            revision: Revision(1),
            expires_ms,
        }
        .put(&mut buffer);
        buffer.extend_from_slice(value.as_bytes());
        buffer.freeze()
    }

    /// The part of `span` that a page which stopped at `resume` left.
    fn rest(span: &Span, resume: &Bytes, reverse: bool) -> Option<Span> {
        if reverse {
            Span::new(span.start().clone(), resume.clone()).ok()
        } else {
            Span::new(resume.clone(), span.end().clone()).ok()
        }
    }

    /// Reads all of `keys`, page by page, and says which keys each page had.
    fn pages(mut keys: Vec<(&'static str, Bytes)>, request: &ScanRequest) -> Vec<Vec<String>> {
        if request.reverse {
            keys.reverse();
        }
        let mut span = Some(request.span.clone());
        let mut pages = Vec::new();
        while let Some(current) = span {
            let mut page = Page::new(request, 1_000);
            for (key, stored) in keys.iter().filter(|(key, _)| current.contains(key.as_bytes())) {
                if !page.offer(Bytes::from_static(key.as_bytes()), stored).unwrap() {
                    break;
                }
            }
            let (rows, resume) = page.finish();
            pages.push(rows.iter().map(|row| row.key.to_string()).collect());
            span = resume.and_then(|resume| rest(&current, &resume, request.reverse));
        }
        pages
    }

    fn rows() -> Vec<(&'static str, Bytes)> {
        vec![
            ("a", stored("1", 0)),
            ("b", stored("2", 500)),
            ("c", stored("3", 2_000)),
            ("d", stored("4", 0)),
        ]
    }

    #[test]
    fn pages_meet_without_a_gap_or_an_overlap() {
        assert_eq!(
            pages(rows(), &request(2, 1_000, false)),
            [vec!["a", "c"], vec!["d"]]
        );
        assert_eq!(
            pages(rows(), &request(2, 1_000, true)),
            [vec!["d", "c"], vec!["a"]]
        );
        assert_eq!(
            pages(rows(), &request(1, 1_000, true)),
            [vec!["d"], vec!["c"], vec!["a"]]
        );
        assert_eq!(pages(rows(), &request(10, 1_000, false)), [vec!["a", "c", "d"]]);
    }

    #[test]
    fn bytes_are_exceeded_by_at_most_one_row_and_a_page_is_never_empty() {
        assert_eq!(pages(rows(), &request(10, 3, false)), [vec!["a", "c"], vec!["d"]]);
        assert_eq!(
            pages(rows(), &request(10, 0, false)),
            [vec!["a"], vec!["c"], vec!["d"]]
        );
    }

    #[test]
    fn values_stay_behind_when_only_keys_are_asked_for() {
        let mut page = Page::new(
            &ScanRequest {
                keys_only: true,
                ..request(10, 100, false)
            },
            1_000,
        );
        page.offer(Bytes::from_static(b"a"), &stored("value", 0)).unwrap();
        assert!(page.finish().0[0].record.value.is_empty());
    }

    #[test]
    fn a_page_passes_over_a_bounded_number_of_expired_rows() {
        let mut page = Page::new(&request(10, 100, false), 1_000);
        let expired = stored("1", 1);
        let mut visited = 0;
        while page
            .offer(Bytes::from(format!("{visited:08}")), &expired)
            .unwrap()
        {
            visited += 1;
        }
        assert_eq!(visited, MAX_VISITED);
        let (rows, resume) = page.finish();
        assert!(rows.is_empty() && resume == Some(Bytes::from(format!("{visited:08}"))));
    }
}
