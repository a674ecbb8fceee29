//! Where a scan goes on: opaque to clients, self-contained, and good for ever.
//!
//! A cursor is base64url text of a version byte and the postcard form of what is left to read. It names keys, not ranges or
//! routers, so it survives splits, merges, moves and restarts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use holdfast_common::key::{MAX_BOUND_BYTES, Span};

/// The version that this build writes and reads.
const VERSION: u8 = 1;

/// Longest text of a cursor.
const MAX_TEXT_BYTES: usize = (2 * MAX_BOUND_BYTES + 16).div_ceil(3) * 4;

/// What is left of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The keys not yet read.
    pub rest: Span,
    /// Whether they are read from the end.
    pub reverse: bool,
}

/// The text is not a cursor of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this cluster's routers")]
pub(crate) struct NotACursor;

impl Cursor {
    /// The text for the client.
    pub(crate) fn encode(&self) -> String {
        let fields = (self.reverse, self.rest.start(), self.rest.end());
        // Bytes and a flag always serialize.
        let encoded = postcard::to_extend(&fields, vec![VERSION]).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(encoded)
    }

    /// Reads what a client sent back.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, NotACursor> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(NotACursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotACursor)?;
        let Some((&VERSION, fields)) = bytes.split_first() else {
            return Err(NotACursor);
        };
        let ((reverse, start, end), trailing): ((bool, Bytes, Bytes), _) =
            postcard::take_from_bytes(fields).map_err(|_| NotACursor)?;
        if !trailing.is_empty() || start.len() > MAX_BOUND_BYTES || end.len() > MAX_BOUND_BYTES {
            return Err(NotACursor);
        }
        let rest = Span::new(start, end).map_err(|_| NotACursor)?;
        Ok(Self { rest, reverse })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back(start: Vec<u8>, end: Vec<u8>, reverse: bool) {
            if let Ok(rest) = Span::new(start, end) {
                let cursor = Cursor { rest, reverse };
                prop_assert_eq!(Cursor::decode(cursor.encode().as_bytes()), Ok(cursor));
            }
        }

        #[test]
        fn what_clients_make_up_is_refused_or_harmless(text: Vec<u8>) {
            let _ = Cursor::decode(&text);
        }
    }

    #[test]
    fn the_longest_bounds_fit() {
        let rest = Span::new(vec![1; MAX_BOUND_BYTES], vec![2; MAX_BOUND_BYTES]).expect("a span");
        let cursor = Cursor { rest, reverse: true };
        assert_eq!(Cursor::decode(cursor.encode().as_bytes()), Ok(cursor));
    }

    #[test]
    fn other_versions_and_damage_are_refused() {
        let text = Cursor {
            rest: Span::everything(),
            reverse: false,
        }
        .encode();
        assert!(Cursor::decode(text.as_bytes()).is_ok());
        assert_eq!(Cursor::decode(&text.as_bytes()[1..]), Err(NotACursor));
        assert_eq!(Cursor::decode(b""), Err(NotACursor));
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
        bytes.push(0);
        assert_eq!(
            Cursor::decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()),
            Err(NotACursor),
            "trailing bytes"
        );
        bytes.pop();
        bytes[0] = 2;
        assert_eq!(
            Cursor::decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()),
            Err(NotACursor),
            "a later version"
        );
    }
}
