//! Removing many keys, with progress.

use futures::Stream;
use futures::stream;
use reqwest::Method;

use crate::client::Client;
use crate::error::Error;
use crate::lines::Lines;
use crate::retry::Patience;
use crate::scan::Scan;

impl Client {
    /// Removes every key that `which` selects (its direction and its limit do not count), as a stream of how many are gone so
    /// far. The router removes page by page, each page at once; a key that is written meanwhile may be removed or stay. When a
    /// connection breaks the removal goes on with what is left, and what a lost answer told of is then missing in the count.
    ///
    /// A stream that is dropped stops the removal after the page that is under way, and so does an error, which is the last
    /// item: what is removed by then stays removed.
    ///
    /// ```no_run
    /// # async fn example(client: holdfast_client::Client) -> Result<(), holdfast_client::Error> {
    /// use futures::TryStreamExt;
    /// use holdfast_client::Scan;
    ///
    /// let mut removal = std::pin::pin!(client.delete_all(Scan::prefix("sessions/")));
    /// while let Some(removed) = removal.try_next().await? {
    ///     println!("{removed} sessions are gone");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete_all(&self, which: Scan) -> impl Stream<Item = Result<u64, Error>> + Send + use<> {
        let removing = Removing {
            client: self.clone(),
            path: format!("/v1/kv?{}", which.span().trim_start_matches('&')),
            lines: None,
            patience: Patience::default(),
            before: 0,
            removed: 0,
            finished: false,
        };
        stream::try_unfold(removing, |mut removing| async move {
            let next = removing.next().await?;
            Ok(next.map(|removed| (removed, removing)))
        })
    }
}

/// A removal under way.
struct Removing {
    client: Client,
    path: String,
    lines: Option<Lines>,
    patience: Patience,
    /// Removed by requests that broke off.
    before: u64,
    /// Removed by all.
    removed: u64,
    finished: bool,
}

impl Removing {
    async fn next(&mut self) -> Result<Option<u64>, Error> {
        loop {
            if self.finished {
                return Ok(None);
            }
            match self.advance().await {
                Ok(()) => {
                    self.patience = Patience::default();
                    return Ok(Some(self.removed));
                }
                Err(error) => {
                    self.lines = None;
                    self.patience.pause(error).await?;
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Error> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => {
                self.before = self.removed;
                self.lines
                    .insert(self.client.lines(Method::DELETE, &self.path).await?)
            }
        };
        let line = lines.next().await?;
        let removed = line["deleted"].as_u64();
        let removed = removed.ok_or_else(|| Error::Nonsense("a removal without a count".to_owned()))?;
        self.removed = self.before + removed;
        self.finished = line.get("next_cursor").is_some_and(serde_json::Value::is_null);
        Ok(())
    }
}
