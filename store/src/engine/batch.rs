//! A batch: rows that become visible, and durable, together.

use bytes::Bytes;

/// Rows to write, in order; of several rows for one key the last counts.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<Row>,
    bytes: usize,
}

/// One row of a batch.
#[derive(Clone, Debug)]
pub struct Row {
    /// The stored key ([`crate::keys`]).
    pub key: Bytes,
    /// The value; none removes the row.
    pub value: Option<Bytes>,
    /// Promise of the writer: no version of this key was ever written before. If the row is deleted before it reached
    /// the disk, neither its value nor a tombstone has to.
    pub first: bool,
}

/// What a pending row costs beyond its key and value: its slots in the queue and in the overlay, about.
const ROW_OVERHEAD_BYTES: usize = 160;

impl Batch {
    /// An empty batch with room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            bytes: 0,
        }
    }

    /// Writes a row.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.push(Row {
            key,
            value: Some(value),
            first: false,
        });
    }

    /// Writes a row whose key was never written before; see [`Row::first`].
    pub fn put_first(&mut self, key: Bytes, value: Bytes) {
        self.push(Row {
            key,
            value: Some(value),
            first: true,
        });
    }

    /// Removes a row, which need not exist.
    pub fn delete(&mut self, key: Bytes) {
        self.push(Row {
            key,
            value: None,
            first: false,
        });
    }

    fn push(&mut self, row: Row) {
        self.bytes += ROW_OVERHEAD_BYTES + row.key.len() + row.value.as_ref().map_or(0, Bytes::len);
        self.rows.push(row);
    }

    /// Appends the rows of another batch.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.rows.append(&mut other.rows);
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Memory that it holds while it waits, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
