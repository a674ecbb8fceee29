//! Reading a span of keys in order, page by page, over however many ranges hold it.
//!
//! A [`Walk`] keeps what is left of the span and asks the range at its near end for one page at a time. It remembers keys,
//! not ranges: when a range splits, merges or moves between two pages, the next page simply finds what holds the rest by
//! then. Each page is linearizable by itself; the walk as a whole is not a snapshot.

mod ahead;

use bytes::Bytes;
use holdfast_common::clock::Instant;
use holdfast_common::key::Span;
use holdfast_common::limits::{MAX_SCAN_PAGE_BYTES, MAX_SCAN_PAGE_ROWS};
use holdfast_common::net::Lane;
use holdfast_common::proto::kv::{Consistency, Row, ScanAnswer, ScanRequest};
use holdfast_common::proto::{self, method};

use crate::cursor::Cursor;
use crate::directory::{Ask, Place};
use crate::point::Freshness;
use crate::range_cache::Route;
use crate::sender::{Failed, Operation, Sender};

/// What a scan is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The keys; none when the client asks for a span that is empty.
    pub span: Option<Span>,
    /// From the end to the start.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// What each page must see.
    pub freshness: Freshness,
    /// Most rows in all.
    pub limit: usize,
}

/// A scan under way. Holds no page.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    plan: Plan,
    /// What is left to read, if anything.
    rest: Option<Span>,
    rows_left: usize,
    /// How many ranges are asked at once: more than one behind one that had no rows.
    ahead: usize,
    /// How far a page may have lagged behind, at most, milliseconds.
    staleness_ms: u64,
}

impl Walk {
    /// A scan that has not begun.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            rest: plan.span.clone(),
            rows_left: plan.limit,
            ahead: 1,
            staleness_ms: 0,
            plan,
        }
    }

    /// Reads the next page, of at most about `max_bytes`: at least one row, or none at all when the scan is over, or when
    /// a range fails (`deadline` has come, say) behind ranges without any: then the next page goes on behind those, and tells what
    /// is wrong if it still is.
    pub(crate) async fn next_page(
        &mut self,
        sender: &Sender,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<Row>, Failed> {
        let mut got_further = false;
        while self.rows_left > 0
            && let Some(rest) = self.rest.clone()
        {
            let stepped = match self.ahead {
                1 => self.step(sender, &rest, max_bytes, deadline).await,
                _ => self
                    .skip_empty(sender, &rest, deadline)
                    .await
                    .map(|()| Vec::new()),
            };
            match stepped {
                Ok(rows) if rows.is_empty() => got_further |= self.rest.as_ref() != Some(&rest),
                Ok(rows) => return Ok(rows),
                Err(_) if got_further => break,
                Err(failed) => return Err(failed),
            }
        }
        Ok(Vec::new())
    }

    /// Reads what the range at the near end has of the next page.
    async fn step(
        &mut self,
        sender: &Sender,
        rest: &Span,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<Row>, Failed> {
        let freshness = self.plan.freshness;
        let mut page = self.page(sender, rest, freshness.consistency, max_bytes);
        let mut answer = sender.send(&mut page, deadline).await?;
        if freshness.is_exceeded_by(answer.staleness_ms) {
            page = self.page(sender, rest, Consistency::Linearizable, max_bytes);
            answer = sender.send(&mut page, deadline).await?;
        }
        self.staleness_ms = self.staleness_ms.max(answer.staleness_ms);
        self.rest = page.rest_after(&answer);
        self.rows_left -= answer.rows.len().min(self.rows_left);
        self.ahead = if answer.rows.is_empty() { 2 } else { 1 };
        Ok(answer.rows)
    }

    fn page(&self, sender: &Sender, rest: &Span, consistency: Consistency, max_bytes: usize) -> Page {
        Page {
            rest: rest.clone(),
            asked: rest.clone(),
            reverse: self.plan.reverse,
            keys_only: self.plan.keys_only,
            consistency,
            ask: sender.ask_for(consistency),
            limit: self.rows_left.min(MAX_SCAN_PAGE_ROWS) as u32,
            max_bytes: max_bytes.min(MAX_SCAN_PAGE_BYTES) as u32,
        }
    }

    /// How far what was read so far may have lagged behind, at most, milliseconds; none if it did not.
    pub(crate) fn staleness_ms(&self) -> Option<u64> {
        (self.plan.freshness.consistency == Consistency::Stale).then_some(self.staleness_ms)
    }

    /// Where a later scan goes on, if this one has not read everything.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.rest.as_ref().map(|rest| Cursor {
            rest: rest.clone(),
            reverse: self.plan.reverse,
        })
    }

    /// Whether everything was read, or as many rows as asked for.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_none() || self.rows_left == 0
    }
}

/// One page: the part of the rest that lies in the range at its near end.
#[derive(Debug)]
struct Page {
    rest: Span,
    /// What was asked of the range that was asked last.
    asked: Span,
    reverse: bool,
    keys_only: bool,
    consistency: Consistency,
    ask: Ask,
    limit: u32,
    max_bytes: u32,
}

impl Page {
    /// What is left to read after `answer`.
    fn rest_after(&self, answer: &ScanAnswer) -> Option<Span> {
        let (start, end) = (self.rest.start(), self.rest.end());
        if self.reverse {
            // An empty bound stands for the start of the key space here: nothing lies before it.
            let to = answer.resume.as_ref().unwrap_or(self.asked.start());
            if to.is_empty() {
                None
            } else {
                Span::new(start.clone(), to.clone()).ok()
            }
        } else {
            let from = answer.resume.as_ref().unwrap_or(self.asked.end());
            if from.is_empty() {
                None
            } else {
                Span::new(from.clone(), end.clone()).ok()
            }
        }
    }

    /// Whether `resume` lies behind the last row and moves the scan on.
    fn moves_on(&self, rows: &[Row], resume: &Bytes) -> bool {
        let (start, end) = (self.asked.start(), self.asked.end());
        let last = rows.last().map(|row| row.key.as_bytes());
        if self.reverse {
            resume >= start
                && (end.is_empty() || resume < end)
                && !resume.is_empty()
                && last.is_none_or(|last| resume <= last)
        } else {
            resume > start && (end.is_empty() || resume <= end) && last.is_none_or(|last| resume > last)
        }
    }
}

impl Operation for Page {
    type Answer = ScanAnswer;
    const WRITES: bool = false;

    fn place(&self) -> Place<'_> {
        if self.reverse {
            Place::Before(self.rest.end())
        } else {
            Place::At(self.rest.start())
        }
    }

    fn method(&self) -> u16 {
        method::KV_SCAN
    }

    fn ask(&self) -> Ask {
        self.ask
    }

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn request(&mut self, route: &Route) -> Bytes {
        if let Some(here) = self.rest.intersection(&route.span) {
            self.asked = here;
        }
        proto::encode(&ScanRequest {
            target: route.target(),
            consistency: self.consistency,
            span: self.asked.clone(),
            reverse: self.reverse,
            keys_only: self.keys_only,
            limit: self.limit,
            max_bytes: self.max_bytes,
        })
    }

    fn accepts(&self, answer: &ScanAnswer) -> bool {
        let rows = &answer.rows;
        let ordered = rows.is_sorted_by(|a, b| {
            if self.reverse {
                a.key > b.key
            } else {
                a.key < b.key
            }
        });
        rows.len() <= self.limit as usize
            && ordered
            && rows.iter().all(|row| self.asked.contains(row.key.as_bytes()))
            && answer
                .resume
                .as_ref()
                .is_none_or(|resume| self.moves_on(rows, resume))
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::key::Key;
    use holdfast_common::proto::kv::Record;
    use holdfast_common::revision::Revision;

    use super::*;

    fn span(start: &str, end: &str) -> Span {
        Span::new(start.to_owned(), end.to_owned()).expect("a span")
    }

    fn page(rest: Span, asked: Span, reverse: bool) -> Page {
        let (keys_only, consistency, ask) = (false, Consistency::Linearizable, Ask::Leader);
        Page {
            rest,
            asked,
            reverse,
            keys_only,
            consistency,
            ask,
            limit: 3,
            max_bytes: 100,
        }
    }

    fn answer(keys: &[&'static str], resume: Option<&'static str>) -> ScanAnswer {
        let record = Record {
            revision: Revision(1),
            expires_ms: 0,
            value: Bytes::new(),
        };
        let row = |key: &&'static str| Row {
            key: Key::new(*key).expect("a key"),
            record: record.clone(),
        };
        ScanAnswer {
            rows: keys.iter().map(row).collect(),
            resume: resume.map(Bytes::from),
            staleness_ms: 0,
        }
    }

    #[test]
    fn a_scan_goes_on_behind_what_was_read() {
        let forward = page(span("b", "x"), span("b", "m"), false);
        assert_eq!(
            forward.rest_after(&answer(&["c"], Some("d"))),
            Some(span("d", "x")),
            "within the range"
        );
        assert_eq!(
            forward.rest_after(&answer(&["c"], None)),
            Some(span("m", "x")),
            "in the next range"
        );
        let last = page(span("b", "x"), span("b", "x"), false);
        assert_eq!(last.rest_after(&answer(&["c"], None)), None);
        let to_the_end = page(span("b", ""), span("m", ""), false);
        assert_eq!(to_the_end.rest_after(&answer(&[], None)), None);
        assert_eq!(
            to_the_end.rest_after(&answer(&["n"], Some("o"))),
            Some(span("o", ""))
        );
    }

    #[test]
    fn a_reverse_scan_goes_on_before_what_was_read() {
        let reverse = page(span("b", "x"), span("m", "x"), true);
        assert_eq!(
            reverse.rest_after(&answer(&["w"], Some("w"))),
            Some(span("b", "w"))
        );
        assert_eq!(reverse.rest_after(&answer(&["w"], None)), Some(span("b", "m")));
        let first = page(span("", "x"), span("", "x"), true);
        assert_eq!(first.rest_after(&answer(&["w"], None)), None);
        assert_eq!(first.rest_after(&answer(&["w"], Some("w"))), Some(span("", "w")));
    }

    #[test]
    fn an_answer_that_would_repeat_skip_or_loop_is_refused() {
        let forward = page(span("b", "x"), span("b", "m"), false);
        assert!(forward.accepts(&answer(&["b", "c", "d"], Some("e"))));
        assert!(forward.accepts(&answer(&[], Some("m"))));
        assert!(forward.accepts(&answer(&[], None)));
        assert!(!forward.accepts(&answer(&["c", "b"], None)), "out of order");
        assert!(!forward.accepts(&answer(&["c", "c"], None)), "twice");
        assert!(!forward.accepts(&answer(&["a"], None)), "outside");
        assert!(!forward.accepts(&answer(&["m"], None)), "outside");
        assert!(!forward.accepts(&answer(&["b", "c", "d", "e"], None)), "too many");
        assert!(!forward.accepts(&answer(&["c"], Some("c"))), "the last row again");
        assert!(!forward.accepts(&answer(&[], Some("b"))), "no progress");
        assert!(!forward.accepts(&answer(&[], Some("n"))), "beyond what was asked");

        let reverse = page(span("b", "x"), span("m", "x"), true);
        assert!(reverse.accepts(&answer(&["w", "n"], Some("n"))));
        assert!(reverse.accepts(&answer(&[], Some("m"))));
        assert!(!reverse.accepts(&answer(&["n", "w"], None)), "out of order");
        assert!(
            !reverse.accepts(&answer(&["w", "n"], Some("o"))),
            "the last row again"
        );
        assert!(!reverse.accepts(&answer(&[], Some("x"))), "no progress");
        assert!(!reverse.accepts(&answer(&[], Some("a"))), "beyond what was asked");
        let whole = page(span("", ""), span("", ""), true);
        assert!(
            !whole.accepts(&answer(&[], Some(""))),
            "the end of the key space is no place before a key"
        );
    }
}
