//! Remembers, outside the journal, which batch was the last to be acknowledged.
//!
//! When the last batch of a journal does not read back, it may be one that a crash cut short, or one that was fsynced and
//! then went bad; the journal alone can't tell. So the number of each batch is also written here once it is on disk. This
//! file is not fsynced: after a power cut it may be old, which loses nothing but the ability to tell; after a crash of the
//! process it is exact.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::error::OpenError;

const FILE: &str = "acknowledged";
const RECORD_BYTES: usize = 16;

/// The open file.
#[derive(Debug)]
pub struct Acknowledged {
    file: File,
}

impl Acknowledged {
    /// Opens the file in `dir` and reads it: zero when it has never been written or does not read back.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(dir: &Path) -> Result<(Self, u64), OpenError> {
        let path = dir.join(FILE);
        let open = || -> io::Result<(Self, u64)> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let mut record = [0; RECORD_BYTES];
            let commit = match file.read_exact_at(&mut record, 0) {
                Ok(()) => decode(&record).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    file.write_all_at(&encode(0), 0)?;
                    file.sync_all()?;
                    0
                }
                Err(error) => return Err(error),
            };
            Ok((Self { file }, commit))
        };
        open().map_err(|error| OpenError::io(&path, error))
    }

    /// Notes that the batch of this number is on disk.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn record(&self, commit: u64) -> io::Result<()> {
        #[cfg(all(feature = "simulation", feature = "failpoints"))]
        if crate::simulation::falls::has_fallen() {
            return Ok(());
        }
        self.file.write_all_at(&encode(commit), 0)
    }
}

/// Refuses a database in `dir` whose last batch is older than one that was acknowledged.
///
/// # Errors
/// It is.
pub fn require_all(dir: &Path, last: u64, acknowledged: u64) -> Result<(), OpenError> {
    if last >= acknowledged {
        return Ok(());
    }
    Err(OpenError::Damaged {
        file: dir.to_owned(),
        offset: 0,
        why: format!("batch {acknowledged} was acknowledged, and the journal ends with batch {last}"),
    })
}

fn encode(commit: u64) -> [u8; RECORD_BYTES] {
    let number = commit.to_be_bytes();
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number);
    record[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<u64> {
    let (number, checksum) = record.split_first_chunk::<8>()?;
    (xxh3_64(number).to_be_bytes() == *checksum).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, commit) = Acknowledged::open(dir.path()).expect("created");
        assert_eq!(commit, 0);
        file.record(7).expect("written");
        file.record(8).expect("written");
        assert_eq!(Acknowledged::open(dir.path()).expect("opened").1, 8);
    }

    #[test]
    fn a_damaged_record_says_nothing() {
        let mut record = encode(8);
        record[7] ^= 1;
        assert_eq!(decode(&record), None);
    }
}
