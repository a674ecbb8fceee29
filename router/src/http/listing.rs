//! Rows on their way to a client, in the shape that it asked for: written piece by piece, and ended in a way that can't be
//! mistaken for the middle. Pure.

use holdfast_common::proto::kv::Row;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::body::Body;
use super::json;

/// The media type of [`Shape::Lines`].
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What a listing looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `{"items":[…],"next_cursor":…}`, or with `"error"` in the place of the cursor.
    Object,
    /// One row a line, and a last line of `{"next_cursor":…}` or `{"error":…}`.
    Lines,
}

/// A listing being written.
#[derive(Debug)]
pub(super) struct Listing {
    shape: Shape,
    keys_only: bool,
    rows: u64,
    begun: bool,
}

impl Listing {
    /// A listing of which nothing is written.
    pub(super) fn new(shape: Shape, keys_only: bool) -> Self {
        Self {
            shape,
            keys_only,
            rows: 0,
            begun: false,
        }
    }

    /// What it is to be called.
    fn media_type(&self) -> &'static str {
        match self.shape {
            Shape::Object => "application/json",
            Shape::Lines => NDJSON,
        }
    }

    /// An answer of this type.
    pub(super) fn response(&self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type()));
        response
    }

    /// Appends rows.
    pub(super) fn rows(&mut self, out: &mut Vec<u8>, rows: &[Row]) {
        self.begin(out);
        for row in rows {
            if self.shape == Shape::Object && self.rows > 0 {
                out.push(b',');
            }
            json::write_row(out, row, self.keys_only);
            if self.shape == Shape::Lines {
                out.push(b'\n');
            }
            self.rows += 1;
        }
    }

    /// Appends the end of a listing that went well, and where another may go on.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, next_cursor: Option<&str>) {
        // A cursor's alphabet needs no escapes.
        let cursor = next_cursor.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
        self.close(out, "next_cursor", cursor.as_bytes());
    }

    /// Appends the end of a listing that went wrong.
    pub(super) fn fail(&mut self, out: &mut Vec<u8>, error: &[u8]) {
        self.close(out, "error", error);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.shape == Shape::Object && !self.begun {
            out.extend_from_slice(b"{\"items\":[");
        }
        self.begun = true;
    }

    fn close(&mut self, out: &mut Vec<u8>, member: &str, json: &[u8]) {
        self.begin(out);
        out.extend_from_slice(if self.shape == Shape::Object {
            b"],\""
        } else {
            b"{\""
        });
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(json);
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_common::key::Key;
    use holdfast_common::proto::kv::Record;
    use holdfast_common::revision::Revision;

    use super::*;

    fn row(key: &'static str) -> Row {
        let record = Record {
            revision: Revision(1),
            expires_ms: 0,
            value: Bytes::from_static(b"v"),
        };
        Row {
            key: Key::new(key).expect("a key"),
            record,
        }
    }

    fn written(shape: Shape, write: impl FnOnce(&mut Listing, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut Listing::new(shape, true), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_object_is_whole_however_it_is_cut() {
        let pieces = written(Shape::Object, |listing, out| {
            listing.rows(out, &[]);
            listing.rows(out, &[row("a"), row("b")]);
            listing.rows(out, &[row("c")]);
            listing.end(out, Some("abc-_"));
        });
        let items = r#"{"key":"a","revision":"1"},{"key":"b","revision":"1"},{"key":"c","revision":"1"}"#;
        assert_eq!(
            pieces,
            format!("{{\"items\":[{items}],\"next_cursor\":\"abc-_\"}}\n")
        );
        assert_eq!(
            written(Shape::Object, |listing, out| listing.end(out, None)),
            "{\"items\":[],\"next_cursor\":null}\n"
        );
        let failed = written(Shape::Object, |listing, out| listing.fail(out, b"{}"));
        assert_eq!(failed, "{\"items\":[],\"error\":{}}\n");
    }

    #[test]
    fn lines_end_with_a_line_of_their_own() {
        let lines = written(Shape::Lines, |listing, out| {
            listing.rows(out, &[row("a"), row("b")]);
            listing.end(out, None);
        });
        assert_eq!(
            lines,
            "{\"key\":\"a\",\"revision\":\"1\"}\n{\"key\":\"b\",\"revision\":\"1\"}\n{\"next_cursor\":null}\n"
        );
        assert_eq!(
            written(Shape::Lines, |listing, out| listing.fail(out, b"{}")),
            "{\"error\":{}}\n"
        );
    }
}
