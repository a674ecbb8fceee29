//! Scans, as streams: items as the router sends them, going on behind the last one when a connection breaks.

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::error::Error;
use crate::lines::Lines;
use crate::retry::Patience;
use crate::text::{self, escaped};

/// Rows asked for at a time; they come as a stream.
const MAX_ROWS: u64 = 1_000_000;

/// Which keys are read, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    prefix: Option<Bytes>,
    start: Option<Bytes>,
    end: Option<Bytes>,
    reverse: bool,
    keys_only: bool,
    limit: Option<u64>,
}

/// A row of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Bytes,
    /// Its value; empty when only keys were asked for.
    pub value: Bytes,
    /// Its revision.
    pub revision: u64,
}

impl Scan {
    /// Every key.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self {
            prefix: Some(prefix.into()),
            ..Self::default()
        }
    }

    /// Every key from `start` up to `end`, which is left out.
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: Some(start.into()),
            end: Some(end.into()),
            ..Self::default()
        }
    }

    /// From the last key to the first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Leaves the values out.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// No more than so many rows.
    #[must_use]
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Sets both bounds to what is given; what is not given is not bounded.
    #[must_use]
    pub fn bounds(mut self, start: Option<Bytes>, end: Option<Bytes>) -> Self {
        (self.start, self.end) = (start, end);
        self
    }

    /// Which keys, as parameters of a request, each behind a `&`.
    pub(crate) fn span(&self) -> String {
        let bound = |name: &str, bytes: &Option<Bytes>| {
            let bytes = bytes.as_ref();
            bytes.map_or_else(String::new, |bytes| format!("&{name}={}", escaped(bytes)))
        };
        [
            bound("prefix", &self.prefix),
            bound("start", &self.start),
            bound("end", &self.end),
        ]
        .concat()
    }

    /// All of it, as such parameters.
    fn parameters(&self) -> String {
        let flag = |name: &str, set: bool| {
            if set {
                format!("&{name}=true")
            } else {
                String::new()
            }
        };
        [
            self.span(),
            flag("reverse", self.reverse),
            flag("keys_only", self.keys_only),
        ]
        .concat()
    }

    /// What is left behind `last`.
    fn behind(&self, last: &Bytes) -> Self {
        let mut rest = self.clone();
        let next = || Bytes::from([&last[..], &[0]].concat());
        if let Some(prefix) = rest.prefix.take() {
            rest.start = Some(prefix.clone());
            rest.end = after_prefix(&prefix);
        }
        rest.limit = self.limit.map(|rows| rows.saturating_sub(1));
        if self.reverse {
            rest.end = Some(last.clone());
        } else {
            rest.start = Some(next());
        }
        rest
    }
}

/// The first key behind all that begin with `prefix`, if there is one.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end.into())
}

impl Client {
    /// Reads rows in order, as a stream that is read as fast as it is polled. It crosses ranges, and goes on when they change
    /// and when a connection breaks; each page of it is linearizable, the whole is not a snapshot. It ends after the first error.
    ///
    /// ```no_run
    /// # async fn example(client: holdfast_client::Client) -> Result<(), holdfast_client::Error> {
    /// use futures::TryStreamExt;
    /// use holdfast_client::Scan;
    ///
    /// let mut users = std::pin::pin!(client.scan(Scan::prefix("user/")));
    /// while let Some(user) = users.try_next().await? {
    ///     println!("{:?} has {} bytes", user.key, user.value.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, scan: Scan) -> impl Stream<Item = Result<Item, Error>> + Send + use<> {
        let reading = Reading {
            client: self.clone(),
            rest: scan,
            lines: None,
            item: None,
            cursor: None,
            patience: Patience::default(),
            finished: false,
        };
        stream::try_unfold(reading, |mut reading| async move {
            let next = reading.next().await?;
            Ok(next.map(|item| (item, reading)))
        })
    }
}

/// A scan under way.
struct Reading {
    client: Client,
    rest: Scan,
    lines: Option<Lines>,
    item: Option<Item>,
    /// Where the router said to go on.
    cursor: Option<String>,
    patience: Patience,
    finished: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.item.take() {
                self.rest = self.rest.behind(&item.key);
                return Ok(Some(item));
            }
            if self.finished || self.rest.limit == Some(0) {
                return Ok(None);
            }
            match self.fill().await {
                Ok(()) => self.patience = Patience::default(),
                Err(error) => {
                    (self.lines, self.cursor) = (None, None);
                    self.patience.pause(error).await?;
                }
            }
        }
    }

    /// Takes the next line.
    async fn fill(&mut self) -> Result<(), Error> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => {
                let limit = self.rest.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS);
                let path = match &self.cursor {
                    Some(cursor) if self.rest.keys_only => {
                        format!("/v1/kv?limit={limit}&keys_only=true&cursor={cursor}")
                    }
                    Some(cursor) => format!("/v1/kv?limit={limit}&cursor={cursor}"),
                    None => format!("/v1/kv?limit={limit}{}", self.rest.parameters()),
                };
                self.lines.insert(self.client.lines(Method::GET, &path).await?)
            }
        };
        let line = lines.next().await?;
        if let Some(cursor) = line.get("next_cursor") {
            self.cursor = cursor.as_str().map(str::to_owned);
            self.finished = self.cursor.is_none();
            self.lines = None;
        } else {
            self.item = Some(item(&line)?);
        }
        Ok(())
    }
}

fn item(line: &Value) -> Result<Item, Error> {
    Ok(Item {
        key: text::take(line, "key")?.ok_or_else(|| Error::Nonsense("a row without a key".to_owned()))?,
        value: text::take(line, "value")?.unwrap_or_default(),
        revision: text::revision(line)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_that_broke_goes_on_behind_its_last_row() {
        let last = Bytes::from_static(b"user/5");
        let rest = Scan::prefix("user/").behind(&last);
        assert_eq!(rest.parameters(), "&start=user%2F5%00&end=user0");
        let rest = Scan::prefix("user/").reverse().behind(&last);
        assert_eq!(rest.parameters(), "&start=user%2F&end=user%2F5&reverse=true");
        let rest = Scan::everything().keys_only().behind(&last);
        assert_eq!(rest.parameters(), "&start=user%2F5%00&keys_only=true");
        let few = Scan::everything().limit(2).behind(&last).behind(&last);
        assert_eq!(few.limit, Some(0));
        assert_eq!(after_prefix(b"\xff\xff"), None);
        assert_eq!(after_prefix(b"a\xff").as_deref(), Some(&b"b"[..]));
    }
}
