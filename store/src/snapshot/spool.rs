//! Writing a snapshot file from a view.

use std::io;
use std::path::Path;

use bytes::Bytes;
use holdfast_common::ids::RangeId;
use holdfast_common::key::Span;
use holdfast_common::raft::types::Spool;

use super::format::{Error, Writer};
use crate::engine::View;
use crate::keys;

/// A range in a view. It pins the database's memory of that moment, so it is to be spooled and dropped soon; the file is
/// what waits for the network.
pub struct ViewSpool {
    view: View,
    range: RangeId,
    /// The range's row in that view, as stored.
    row: Bytes,
    span: Span,
}

impl ViewSpool {
    pub(crate) fn new(view: View, range: RangeId, row: Bytes, span: Span) -> Self {
        Self {
            view,
            range,
            row,
            span,
        }
    }

    fn write(&self, path: &Path) -> Result<u64, Error> {
        let mut file = Writer::create(path, self.range, &self.row)?;
        for interval in [
            keys::records(&self.span),
            keys::all_outcomes(self.range),
            keys::tokens(&self.span),
        ] {
            for row in self.view.rows(&interval) {
                let (key, value) = row.map_err(io::Error::from)?;
                file.row(&key, &value)?;
            }
        }
        file.finish()
    }
}

impl Spool for ViewSpool {
    fn spool(&self, path: &Path) -> io::Result<u64> {
        Ok(self.write(path)?)
    }
}
