//! Packing listings for clients that ask for it: text shrinks to a fraction. Values are not packed, they may be anything.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Pieces from this size on, bytes, are packed beside the connections.
const LARGE_BYTES: usize = 32 * 1024;

/// A body being packed. Each piece comes out whole, so that a stream stays one.
pub(super) struct Gzip(GzEncoder<Vec<u8>>);

impl Gzip {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// What a piece comes to; the last one ends the body.
    fn piece(mut self, bytes: &[u8], is_last: bool) -> (Option<Self>, Bytes) {
        // Writing to memory does not fail.
        let _ = self.0.write_all(bytes);
        if is_last {
            return (None, self.0.finish().unwrap_or_default().into());
        }
        let _ = self.0.flush();
        let packed = std::mem::take(self.0.get_mut());
        (Some(self), packed.into())
    }
}

/// Packs a piece, if the body is packed; with what packs the next one.
pub(super) async fn pack(gzip: Option<Gzip>, bytes: Bytes, is_last: bool) -> (Option<Gzip>, Bytes) {
    let Some(gzip) = gzip else {
        return (None, bytes);
    };
    if bytes.len() < LARGE_BYTES {
        return gzip.piece(&bytes, is_last);
    }
    let packing = holdfast_common::blocking::run(move || gzip.piece(&bytes, is_last));
    // Packing does not panic; if it did, the cut stream is plainly one.
    packing.await.unwrap_or_default()
}

/// Whether the client takes gzip: named, and not with weight 0.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).into_iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip"));
            named && !parts.any(is_nothing)
        })
}

/// Whether it is a weight of zero.
fn is_nothing(parameter: &str) -> bool {
    let weight = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask() {
        for (header, wanted) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;q=1.0", true),
            ("identity", false),
            ("*", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(header))]);
            assert_eq!(is_wanted(&headers), wanted, "{header}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn every_piece_can_be_read_when_it_has_come() {
        let pieces = [
            Bytes::from("one\n"),
            Bytes::from(vec![b'2'; 100_000]),
            Bytes::from("last\n"),
        ];
        let (mut gzip, mut packed, mut plain) = (Some(Gzip::new()), Vec::new(), Vec::new());
        for (index, piece) in pieces.iter().enumerate() {
            let (next, bytes) = pack(gzip, piece.clone(), index == 2).await;
            gzip = next;
            packed.extend_from_slice(&bytes);
            plain.extend_from_slice(piece);
            let mut read = vec![0; plain.len()];
            GzDecoder::new(&packed[..])
                .read_exact(&mut read)
                .expect("whole pieces");
            assert_eq!(read, plain);
        }
        assert!(gzip.is_none() && packed.len() < 1_000);
        let mut all = Vec::new();
        GzDecoder::new(&packed[..])
            .read_to_end(&mut all)
            .expect("a whole body");
    }
}
