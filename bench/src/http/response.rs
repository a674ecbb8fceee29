//! Framing of HTTP/1.1 answers: where one ends, judged from the bytes received so far.
//!
//! Only what decides the framing is read: the status line, `Content-Length`, `Transfer-Encoding` and `Connection`. All else
//! in the head is skipped, for the head of every answer passes through here.

/// Longest head taken, status line and all headers.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Longest body taken: a scan's worth of the largest values.
const MAX_BODY_BYTES: usize = 256 << 20;

/// How an answer is laid out in the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framing {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Bytes before the body.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Whether the connection may carry another request afterwards.
    pub keep_alive: bool,
}

/// Why bytes received are not an answer that this client takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The status line is not `HTTP/1.x NNN …` with a final status.
    #[error("bad status line")]
    StatusLine,
    /// A header line has no colon, or `Content-Length` no single number.
    #[error("bad header")]
    Header,
    /// The body's end is told by chunks or by closing, which this client does not speak.
    #[error("body without a content-length")]
    Unframed,
    /// Head or body are longer than this client takes.
    #[error("answer too long")]
    TooLong,
}

impl Framing {
    /// Bytes of the whole answer.
    pub fn total_bytes(&self) -> usize {
        self.head_bytes + self.body_bytes
    }
}

/// Frames the answer at the start of `received`; `None` while its head is incomplete.
pub fn frame(received: &[u8]) -> Result<Option<Framing>, Malformed> {
    let mut lines = Lines { rest: received };
    let Some(status_line) = lines.next() else {
        return incomplete(received);
    };
    let (minor_version, status) = parse_status_line(status_line)?;

    let (mut content_length, mut chunked, mut keep_alive) = (None, false, minor_version >= 1);
    loop {
        let Some(line) = lines.next() else {
            return incomplete(received);
        };
        if line.is_empty() {
            break;
        }
        let (name, value) = split_header(line)?;
        // Comparing lengths first skips nearly every header in one step.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                match (content_length, parse_length(value)?) {
                    (Some(earlier), length) if earlier != length => return Err(Malformed::Header),
                    (_, length) => content_length = Some(length),
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => chunked = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                keep_alive = !value.eq_ignore_ascii_case(b"close")
            }
            _ => {}
        }
    }
    let head_bytes = received.len() - lines.rest.len();
    if head_bytes > MAX_HEAD_BYTES {
        return Err(Malformed::TooLong);
    }
    let body_bytes = match content_length {
        _ if status == 204 || status == 304 => 0,
        _ if chunked => return Err(Malformed::Unframed),
        Some(length) => length,
        None => return Err(Malformed::Unframed),
    };
    Ok(Some(Framing {
        status,
        head_bytes,
        body_bytes,
        keep_alive,
    }))
}

/// The lines received in full, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn incomplete(received: &[u8]) -> Result<Option<Framing>, Malformed> {
    if received.len() > MAX_HEAD_BYTES {
        Err(Malformed::TooLong)
    } else {
        Ok(None)
    }
}

/// Minor version and status of `HTTP/1.1 200 OK`. Interim statuses are refused: nothing sent here asks for one.
fn parse_status_line(line: &[u8]) -> Result<(u8, u16), Malformed> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        minor @ b'0'..=b'1',
        b' ',
        status @ ..,
    ] = line
    else {
        return Err(Malformed::StatusLine);
    };
    let (digits, after) = status.split_at_checked(3).ok_or(Malformed::StatusLine)?;
    if !matches!(after, [] | [b' ', ..]) {
        return Err(Malformed::StatusLine);
    }
    match parse_number(digits) {
        Some(status @ 200..=599) => Ok((minor - b'0', status as u16)),
        _ => Err(Malformed::StatusLine),
    }
}

fn split_header(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Malformed::Header)?;
    Ok((&line[..colon], line[colon + 1..].trim_ascii()))
}

fn parse_length(value: &[u8]) -> Result<usize, Malformed> {
    let length = parse_number(value).ok_or(Malformed::Header)?;
    if length > MAX_BODY_BYTES {
        Err(Malformed::TooLong)
    } else {
        Ok(length)
    }
}

/// Decimal digits alone; no sign, no space, no overflow.
fn parse_number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOUND: &[u8] =
        b"HTTP/1.1 200 OK\r\nETag: \"7\"\r\nContent-Length: 5\r\nx-request-id: a\r\n\r\nvalue";

    #[test]
    fn frames_an_answer_however_it_is_split() {
        let head_bytes = FOUND.len() - 5;
        for received in 0..head_bytes {
            assert_eq!(frame(&FOUND[..received]), Ok(None), "after {received} bytes");
        }
        let framing = Framing {
            status: 200,
            head_bytes,
            body_bytes: 5,
            keep_alive: true,
        };
        for received in head_bytes..=FOUND.len() {
            assert_eq!(frame(&FOUND[..received]), Ok(Some(framing)));
        }
    }

    #[test]
    fn a_status_without_body_needs_no_length() {
        let framing = frame(b"HTTP/1.1 204 No Content\r\n\r\n")
            .expect("well formed")
            .expect("complete");
        assert_eq!((framing.status, framing.body_bytes), (204, 0));
        assert!(frame(b"HTTP/1.1 201\r\ncontent-length: 0\r\n\r\n").is_ok_and(|framing| framing.is_some()));
    }

    #[test]
    fn the_server_may_end_the_connection() {
        let keeps = |text: &[u8]| frame(text).expect("well formed").expect("complete").keep_alive;
        assert!(!keeps(b"HTTP/1.1 204 -\r\nConnection: close\r\n\r\n"));
        assert!(!keeps(b"HTTP/1.0 204 -\r\n\r\n"));
        assert!(keeps(b"HTTP/1.0 204 -\r\nconnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn refuses_what_it_does_not_speak() {
        let cases: [(&[u8], Malformed); 11] = [
            (b"SSH-2.0-OpenSSH\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/2.0 200 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 20\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 100 Continue\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed::Header),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
                Malformed::Header,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                Malformed::Header,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
                Malformed::TooLong,
            ),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Malformed::Unframed,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\n", Malformed::Unframed),
        ];
        for (text, error) in cases {
            assert_eq!(frame(text), Err(error), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_endless_head_is_cut_off() {
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(MAX_HEAD_BYTES + 1, b'a');
        assert_eq!(frame(&head), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), valid_start in any::<bool>()) {
            if valid_start {
                bytes.splice(0..0, *b"HTTP/1.1 200 OK\r\n");
            }
            if let Ok(Some(framing)) = frame(&bytes) {
                prop_assert!(framing.head_bytes <= bytes.len());
            }
        }
    }
}
