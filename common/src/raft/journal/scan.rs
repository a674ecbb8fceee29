//! Walks the batches of a journal file and judges what stands after the last whole one.

use std::fs::File;
use std::io;

use super::batch::{self, Batch, Flaw};
use super::cursor::Cursor;

/// How many times the length of a file the search for later batches may read. Values can be made to look like
/// batches; past this bound the search gives up and calls it damage.
const MAX_SEARCH_FACTOR: u64 = 8;

/// What the batches read so far demand of the next one.
#[derive(Debug, Default)]
pub(super) struct Chain {
    seqno: Option<u64>,
    commit: Option<u64>,
}

/// How a journal file ends.
#[derive(Debug)]
pub(super) enum Tail {
    /// In a whole batch, and zeroes at most.
    Whole,
    /// In a batch that was never made durable, beginning at `at`.
    Torn { at: u64 },
    /// In a batch that had been made durable.
    Damaged { at: u64, why: String },
}

impl Chain {
    /// Takes the next whole batch. A batch with a valid checksum in the wrong place is never the work of a crash.
    fn follow(&mut self, batch: &Batch) -> Result<(), &'static str> {
        if self.seqno.is_some_and(|last| batch.seqno <= last) {
            return Err("a sequence number does not follow the one before");
        }
        if let Some(seal) = batch.seal {
            if !seal.admits(batch.seqno) {
                return Err("a sequence number does not match its seal");
            }
            if self
                .commit
                .is_some_and(|last| last.checked_add(1) != Some(seal.commit))
            {
                return Err("the batch before this one is missing");
            }
            self.commit = Some(seal.commit);
        }
        self.seqno = Some(batch.seqno);
        Ok(())
    }

    /// Whether a whole batch that stands *after* a broken one shows that the broken one had been durable.
    fn is_testified_by(&self, later: &Batch) -> bool {
        if self.seqno.is_some_and(|last| later.seqno <= last) {
            return false;
        }
        match (self.commit, later.seal) {
            (Some(last), Some(seal)) => seal.durable > last,
            (None, Some(seal)) => seal.durable > 0,
            (_, None) => true,
        }
    }
}

/// Reads the journal through. Only the active one may end in a torn batch: before fjall begins the next journal it syncs
/// this one.
pub(super) fn scan(file: &File, chain: &mut Chain, is_active: bool) -> io::Result<Tail> {
    let mut cursor = Cursor::new(file)?;
    loop {
        let at = cursor.position();
        let why = match batch::read(&mut cursor) {
            Ok(batch) => match chain.follow(&batch) {
                Ok(()) => continue,
                Err(why) => {
                    return Ok(Tail::Damaged {
                        at,
                        why: why.to_owned(),
                    });
                }
            },
            Err(Flaw::Broken(why)) => why,
            Err(Flaw::Io(error)) => return Err(error),
        };
        cursor.seek(at);
        if !cursor.find(|byte| byte != 0)? {
            return Ok(Tail::Whole);
        }
        if !is_active {
            return Ok(Tail::Damaged {
                at,
                why: format!("{why}, in a journal that had been synced"),
            });
        }
        return Ok(match find_testimony(&mut cursor, at, chain)? {
            Some(testimony) => Tail::Damaged {
                at,
                why: format!("{why}; {testimony}"),
            },
            None => Tail::Torn { at },
        });
    }
}

/// Whether nothing was ever written to the file.
pub(super) fn is_blank(file: &File) -> io::Result<bool> {
    Ok(!Cursor::new(file)?.find(|byte| byte != 0)?)
}

/// Looks behind the broken batch at `broken` for a whole one that shows it had been durable.
fn find_testimony(cursor: &mut Cursor<'_>, broken: u64, chain: &Chain) -> io::Result<Option<String>> {
    let mut budget = cursor.len().saturating_mul(MAX_SEARCH_FACTOR);
    cursor.seek(broken + 1);
    while cursor.find(|byte| byte == 1)? {
        let candidate = cursor.position();
        cursor.seek(candidate);
        if batch::may_start(cursor)? {
            cursor.seek(candidate);
            match batch::read(cursor) {
                Ok(later) if chain.is_testified_by(&later) => {
                    return Ok(Some(format!("a later batch, at byte {candidate}, is whole")));
                }
                Ok(later) => {
                    cursor.seek(later.end);
                    continue;
                }
                Err(Flaw::Broken(_)) => budget = budget.saturating_sub(cursor.position() - candidate),
                Err(Flaw::Io(error)) => return Err(error),
            }
            if budget == 0 {
                return Ok(Some("too much of what follows looks like batches".to_owned()));
            }
        }
        cursor.seek(candidate + 1);
    }
    Ok(None)
}
