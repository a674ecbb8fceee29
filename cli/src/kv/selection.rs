//! Which rows a command is about.

use bytes::Bytes;
use clap::Args;
use holdfast_client::Scan;

use super::argument;

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
}
