//! Rows in files: NDJSON as the HTTP API has it, or TSV.
//!
//! TSV is `key TAB value`, with `\t`, `\n`, `\r`, `\\` and `\xHH` for what would break a line; so any bytes survive, and
//! text without those characters stands as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// How a file holds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON object a line
    Ndjson,
    /// Key, tab, value
    Tsv,
}

/// Why a line is not a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("not a JSON row: {0}")]
    Json(String),
    #[error("a row needs exactly one of {0} and {0}_base64")]
    Field(&'static str),
    #[error("{0}_base64 is not base64")]
    Base64(&'static str),
    #[error("no tab between key and value")]
    NoTab,
    #[error("a backslash is followed by one of t n r \\ or x and two hexadecimal digits")]
    Escape,
}

/// A row as JSON: text where it is UTF-8, base64 where it is not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Row {
    /// The JSON form of a row.
    pub(crate) fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        let (key, key_base64) = text_or_base64(key);
        let (value, value_base64) = text_or_base64(value);
        Self {
            key,
            key_base64,
            value,
            value_base64,
        }
    }

    /// The JSON form of a key alone.
    pub(crate) fn key(key: Vec<u8>) -> Self {
        let (key, key_base64) = text_or_base64(key);
        Self {
            key,
            key_base64,
            ..Self::default()
        }
    }

    /// The row's bytes.
    pub(crate) fn into_bytes(self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        Ok((
            bytes("key", self.key, self.key_base64)?,
            bytes("value", self.value, self.value_base64)?,
        ))
    }
}

/// Reads one line, which has no line end.
pub(crate) fn parse(format: FileFormat, line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    match format {
        FileFormat::Ndjson => {
            let row: Row = serde_json::from_slice(line).map_err(|error| Error::Json(error.to_string()))?;
            row.into_bytes()
        }
        FileFormat::Tsv => {
            let tab = line.iter().position(|&byte| byte == b'\t').ok_or(Error::NoTab)?;
            Ok((unescape(&line[..tab])?, unescape(&line[tab + 1..])?))
        }
    }
}

/// Writes one line, with its end.
pub(crate) fn format(format: FileFormat, key: Vec<u8>, value: Vec<u8>, out: &mut Vec<u8>) {
    match format {
        FileFormat::Ndjson => {
            // Strings and base64 always serialize.
            serde_json::to_writer(&mut *out, &Row::new(key, value)).unwrap_or_default();
        }
        FileFormat::Tsv => {
            escape(&key, out);
            out.push(b'\t');
            escape(&value, out);
        }
    }
    out.push(b'\n');
}

fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    }
}

fn bytes(name: &'static str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, Error> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => BASE64.decode(base64).map_err(|_| Error::Base64(name)),
        _ => Err(Error::Field(name)),
    }
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                _ => out.push(byte),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().ok_or(Error::Escape)?;
        rest = after;
        out.push(match kind {
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'\\' => b'\\',
            b'x' => {
                let digits = rest
                    .get(..2)
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .ok_or(Error::Escape)?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|_| Error::Escape)?
            }
            _ => return Err(Error::Escape),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_both_formats() {
        let every: Vec<u8> = (0..=255).collect();
        for file_format in [FileFormat::Ndjson, FileFormat::Tsv] {
            for (key, value) in [
                (every.clone(), every.clone()),
                (b"k".to_vec(), Vec::new()),
                ("ü\t".into(), "\\x\n".into()),
            ] {
                let mut line = Vec::new();
                format(file_format, key.clone(), value.clone(), &mut line);
                assert_eq!(line.pop(), Some(b'\n'));
                assert!(!line.contains(&b'\n'));
                assert_eq!(parse(file_format, &line), Ok((key, value)));
            }
        }
    }

    #[test]
    fn plain_text_stands_as_it_is_in_tsv() {
        let mut line = Vec::new();
        format(
            FileFormat::Tsv,
            b"U+0041".to_vec(),
            "LATIN;Lu; ü".into(),
            &mut line,
        );
        assert_eq!(line, "U+0041\tLATIN;Lu; ü\n".as_bytes());
    }

    #[test]
    fn what_is_not_a_row_is_refused() {
        assert_eq!(parse(FileFormat::Tsv, b"no tab"), Err(Error::NoTab));
        assert_eq!(parse(FileFormat::Tsv, b"a\\\tb"), Err(Error::Escape));
        assert_eq!(parse(FileFormat::Tsv, b"a\tb\\x1"), Err(Error::Escape));
        assert_eq!(
            parse(FileFormat::Ndjson, br#"{"key":"a"}"#),
            Err(Error::Field("value"))
        );
        assert_eq!(
            parse(
                FileFormat::Ndjson,
                br#"{"key":"a","key_base64":"YQ==","value":""}"#
            ),
            Err(Error::Field("key"))
        );
        assert!(matches!(parse(FileFormat::Ndjson, b"{"), Err(Error::Json(_))));
    }
}
