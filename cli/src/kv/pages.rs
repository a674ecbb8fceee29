//! A scan, page after page: rows as the router streams them, going on from the cursor where a page ends.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use clap::Args;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, header};
use serde::Deserialize;
use serde_json::Value;

use super::{argument, query};
use crate::api::Api;
use crate::exit::{Exit, Failure, Outcome};

/// Rows asked for at a time.
const PAGE_ROWS: u64 = 10_000;

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
    body: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
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

/// A line of a page: a row, or how the page ended.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Error { error: Value },
    End { next_cursor: Option<String> },
}

/// The rows of a scan, as JSON values.
pub(crate) struct Pages<'a> {
    api: &'a Api,
    parameters: String,
    left: u64,
    body: Option<BoxStream<'static, reqwest::Result<bytes::Bytes>>>,
    buffer: BytesMut,
    rows: VecDeque<Value>,
    cursor: Option<String>,
    finished: bool,
}

impl<'a> Pages<'a> {
    /// A scan that ends after `limit` rows.
    pub(crate) fn new(api: &'a Api, selection: &Selection, keys_only: bool, limit: u64) -> Self {
        let keys_only = if keys_only { "&keys_only=true" } else { "" };
        Self {
            api,
            parameters: format!("{}{keys_only}", selection.parameters()),
            left: limit,
            body: None,
            buffer: BytesMut::new(),
            rows: VecDeque::new(),
            cursor: None,
            finished: false,
        }
    }

    /// The next row, or none after the last.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Value>> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                self.left -= 1;
                return Ok(Some(row));
            }
            if self.left == 0 || self.finished {
                return Ok(None);
            }
            if self.body.is_none() {
                self.open().await?;
            }
            self.read().await?;
        }
    }

    async fn open(&mut self) -> Outcome {
        let limit = self.left.min(PAGE_ROWS);
        let cursor = self
            .cursor
            .as_ref()
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let path = format!("/v1/kv?limit={limit}{}{cursor}", self.parameters);
        let request = self
            .api
            .request(Method::GET, &path)
            .header(header::ACCEPT, "application/x-ndjson");
        self.body = Some(self.api.send(request).await?.bytes_stream().boxed());
        self.buffer.clear();
        Ok(())
    }

    /// Takes what has come and the rows in it. A page that ends without its closing line was cut.
    async fn read(&mut self) -> Outcome {
        let Some(body) = &mut self.body else { return Ok(()) };
        let cut = |why: &str| Failure::new(Exit::Unavailable, format!("the scan was cut short: {why}"));
        let chunk = body
            .next()
            .await
            .ok_or_else(|| cut("the stream ended without its closing line"))?;
        self.buffer
            .extend_from_slice(&chunk.map_err(|error| cut(&error.to_string()))?);
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            let value: Value = serde_json::from_slice(&line).map_err(anyhow::Error::from)?;
            if value.get("error").is_none() && value.get("next_cursor").is_none() {
                self.rows.push_back(value);
                continue;
            }
            match serde_json::from_value(value).map_err(anyhow::Error::from)? {
                Line::Error { error } => {
                    return Err(cut(error["detail"]
                        .as_str()
                        .unwrap_or("the router gave no reason")));
                }
                Line::End { next_cursor } => {
                    self.finished = next_cursor.is_none();
                    self.cursor = next_cursor;
                    self.body = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
