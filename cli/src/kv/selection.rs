//! Which rows a command is about, and the lines of an answer that comes as a stream.

use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use futures::StreamExt;
use futures::stream::BoxStream;
use holdfast_client::Scan;
use serde_json::Value;

use super::{argument, query};
use crate::exit::{Exit, Failure, Outcome};

/// Which rows, and how.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only keys that begin with this
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub(crate) prefix: Option<std::ffi::OsString>,
    /// From this key on
    #[arg(long)]
    pub(crate) start: Option<std::ffi::OsString>,
    /// Up to this key, which is left out
    #[arg(long)]
    pub(crate) end: Option<std::ffi::OsString>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
}

impl Selection {
    /// As a scan.
    pub(crate) fn scan(&self) -> Scan {
        let bytes = |text: &std::ffi::OsString| Bytes::copy_from_slice(argument(text));
        let scan = match &self.prefix {
            Some(prefix) => Scan::prefix(bytes(prefix)),
            None => Scan::everything().bounds(self.start.as_ref().map(bytes), self.end.as_ref().map(bytes)),
        };
        if self.reverse { scan.reverse() } else { scan }
    }

    /// As parameters of a request, each behind a `&`.
    pub(crate) fn parameters(&self) -> String {
        let bound = |name: &str, value: &Option<std::ffi::OsString>| {
            value
                .as_ref()
                .map(|value| format!("&{name}={}", query(argument(value))))
                .unwrap_or_default()
        };
        let reverse = if self.reverse { "&reverse=true" } else { "" };
        [
            bound("prefix", &self.prefix),
            bound("start", &self.start),
            bound("end", &self.end),
            reverse.into(),
        ]
        .concat()
    }
}

/// The lines of an answer, each a JSON value.
pub(crate) struct Lines {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
}

impl Lines {
    /// Reads the lines of `response` as they come.
    pub(crate) fn of(response: reqwest::Response) -> Self {
        Self {
            body: response.bytes_stream().boxed(),
            buffer: BytesMut::new(),
        }
    }

    /// The next line, or none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Ok(Some(serde_json::from_slice(&line).map_err(anyhow::Error::from)?));
            }
            match self.body.next().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(|error| {
                        Failure::new(Exit::Unavailable, format!("the answer was cut short: {error}"))
                    })?;
                    self.buffer.extend_from_slice(&chunk);
                }
                None => return Ok(None),
            }
        }
    }
}
