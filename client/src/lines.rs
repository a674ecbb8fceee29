//! Answers that come as lines of JSON: a scan's rows, a removal's progress.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::client::Client;
use crate::error::Error;

/// An answer that is still coming.
pub(crate) struct Lines {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
    /// So much of the buffer is known to have no end of a line.
    searched: usize,
}

impl Client {
    /// Sends a request, once, whose answer comes as lines.
    pub(crate) async fn lines(&self, method: Method, path: &str) -> Result<Lines, Error> {
        let response = self.open(method, path).await?;
        Ok(Lines::of(response))
    }
}

impl Lines {
    fn of(response: Response) -> Self {
        Self {
            body: response.bytes_stream().boxed(),
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line. The last one says that it is the last, so that an answer which ends without it was cut short; one that
    /// names an error is that error.
    pub(crate) async fn next(&mut self) -> Result<Value, Error> {
        let cut = |why: &str| Error::Unavailable(format!("the answer was cut short: {why}"));
        loop {
            let unseen = &self.buffer[self.searched..];
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end);
                self.buffer.advance(1);
                self.searched = 0;
                let line: Value =
                    serde_json::from_slice(&line).map_err(|error| Error::Nonsense(error.to_string()))?;
                return match line.get("error") {
                    None => Ok(line),
                    Some(error) => Err(cut(error["detail"]
                        .as_str()
                        .unwrap_or("the router gave no reason"))),
                };
            }
            self.searched = self.buffer.len();
            let chunk = self.body.next().await;
            let chunk = chunk.ok_or_else(|| cut("the stream ended without its last line"))?;
            self.buffer
                .extend_from_slice(&chunk.map_err(|error| cut(&error.to_string()))?);
        }
    }
}
