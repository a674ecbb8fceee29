//! Taking an input apart: every input is one, however short, so that no change of it is wasted.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; zero behind the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next eight bytes as a number, little endian; zeroes behind the end.
    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// Bytes behind a length of 16 bits, as far as they are there.
    pub(crate) fn section(&mut self) -> Bytes {
        let length = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        Bytes::copy_from_slice(self.take(length))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Puts an input together as [`Input`] takes it apart.
#[derive(Default)]
pub(crate) struct Output(Vec<u8>);

impl Output {
    pub(crate) fn new(first: u8) -> Self {
        Self(vec![first])
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(crate) fn section(mut self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("a short section");
        self.0.extend(length.to_le_bytes());
        self.0.extend(bytes);
        self
    }

    pub(crate) fn rest(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend(bytes);
        self.0
    }
}

/// Lets `work` have a directory of this thread's own, in memory where there is such a place. What it leaves there stays.
pub(crate) fn in_a_directory<T>(work: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static DIRECTORY: RefCell<Option<TempDir>> = const { RefCell::new(None) });
    let path = DIRECTORY.with_borrow_mut(|directory| -> PathBuf {
        let directory = directory.get_or_insert_with(|| {
            tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .expect("a directory")
        });
        directory.path().to_owned()
    });
    work(&path)
}
