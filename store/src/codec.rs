//! Reading fixed layouts: integers are little endian, lengths are checked, slices share the memory of the input.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::damage::Damage;

/// Takes values off the front of some bytes.
pub(crate) struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    /// Reads `bytes`, which are called `what` when they turn out to be damaged.
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damage> {
        self.rest.try_get_u8().map_err(|_| self.truncated())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Damage> {
        self.rest.try_get_u16_le().map_err(|_| self.truncated())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        self.rest.try_get_u32_le().map_err(|_| self.truncated())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        self.rest.try_get_u64_le().map_err(|_| self.truncated())
    }

    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, Damage> {
        if length > self.rest.len() {
            return Err(self.truncated());
        }
        Ok(self.rest.split_to(length))
    }

    /// Bytes behind a length of 16 bits.
    pub(crate) fn short(&mut self) -> Result<Bytes, Damage> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// Bytes behind a length of 32 bits.
    pub(crate) fn long(&mut self) -> Result<Bytes, Damage> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// How many values of at least `least` bytes may follow: bounds what a damaged count can make us reserve.
    pub(crate) fn capacity(&self, count: usize, least: usize) -> usize {
        count.min(self.rest.len() / least.max(1))
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything must have been read.
    pub(crate) fn end(self) -> Result<(), Damage> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damage("bytes follow its end"))
        }
    }

    pub(crate) fn damage(&self, why: impl Into<String>) -> Damage {
        Damage::new(self.what, why)
    }

    fn truncated(&self) -> Damage {
        Damage::truncated(self.what)
    }
}

/// Writes bytes of at most 65,535 behind their length; keys and bounds are far shorter (`limits::MAX_KEY_BYTES`).
pub(crate) fn put_short(buffer: &mut BytesMut, bytes: &[u8]) {
    debug_assert!(u16::try_from(bytes.len()).is_ok());
    buffer.put_u16_le(bytes.len() as u16);
    buffer.put_slice(bytes);
}

/// Writes bytes of less than 4 GiB behind their length; values are far shorter (`limits::MAX_VALUE_BYTES`).
pub(crate) fn put_long(buffer: &mut BytesMut, bytes: &[u8]) {
    debug_assert!(u32::try_from(bytes.len()).is_ok());
    buffer.put_u32_le(bytes.len() as u32);
    buffer.put_slice(bytes);
}
