//! Reads a file of any length through one small buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes in memory at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// A position in a file. Moving within the buffered part costs nothing.
pub(super) struct Cursor<'a> {
    file: &'a File,
    len: u64,
    at: u64,
    buffer: Box<[u8]>,
    /// File offset and length of what the buffer holds.
    buffered_from: u64,
    buffered: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self {
            file,
            len,
            at: 0,
            buffer,
            buffered_from: 0,
            buffered: 0,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    pub(super) fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.at)
    }

    /// The next `N` bytes, or none when the file ends before.
    pub(super) fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let mut filled = 0;
        let whole = self.stream(N as u64, |part| {
            bytes[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        })?;
        Ok(whole.then_some(bytes))
    }

    /// Passes the next `count` bytes to `each`, in parts; false when the file ends before.
    pub(super) fn stream(&mut self, count: u64, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        if count > self.remaining() {
            return Ok(false);
        }
        let mut left = count;
        while left > 0 {
            let window = self.window()?;
            let part = window.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if part == 0 {
                return Ok(false);
            }
            each(&window[..part]);
            self.at += part as u64;
            left -= part as u64;
        }
        Ok(true)
    }

    /// Moves to the next byte for which `wanted` holds; false when there is none up to the end.
    pub(super) fn find(&mut self, wanted: impl Fn(u8) -> bool) -> io::Result<bool> {
        loop {
            let window = self.window()?;
            if window.is_empty() {
                return Ok(false);
            }
            let (found, passed) = match window.iter().position(|&byte| wanted(byte)) {
                Some(offset) => (true, offset),
                None => (false, window.len()),
            };
            self.at += passed as u64;
            if found {
                return Ok(true);
            }
        }
    }

    /// What is buffered from the position on; empty only at the end of the file.
    fn window(&mut self) -> io::Result<&[u8]> {
        let end = self.buffered_from + self.buffered as u64;
        if self.at < self.buffered_from || self.at >= end {
            self.buffered_from = self.at;
            self.buffered = read_at(self.file, &mut self.buffer, self.at)?;
        }
        let skip = usize::try_from(self.at - self.buffered_from).unwrap_or(usize::MAX);
        Ok(&self.buffer[skip.min(self.buffered)..self.buffered])
    }
}

/// One read that is not given up because of a signal.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
