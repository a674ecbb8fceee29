//! The manifests of a fjall database, and the checksums of its tables.
//!
//! A keyspace names its tables in a *version* file, and `current` names the version and its checksum. Fjall writes all these
//! checksums and verifies none of them when it opens a database: a bit flipped in a version file shifts sequence numbers, and a
//! keyspace without `current` is taken for one whose creation was cut short and **deleted**, tables and all. So the manifests are
//! read here first:
//!
//! ```text
//! keyspaces/<id>/current    u64 version, u128 xxh3 of the version file, u8 = 0
//! keyspaces/<id>/v<version> an archive ("SFA!"), whose section "tables" is
//!                           u8 levels × u8 runs × u32 tables × (u64 id, u8 = 0, u128 xxh3 of the file, u64 sequence number)
//! keyspaces/<id>/tables/<table id>
//! ```
//!
//! (integers little endian). Keyspace 0 is fjall's own: the names and settings of the others.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::error::OpenError;

const KEYSPACES: &str = "keyspaces";
const CURRENT: &str = "current";
const TABLES: &str = "tables";
const CURRENT_BYTES: usize = 25;
/// Fjall's own keyspace.
const META: u64 = 0;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A table, as the manifest of its keyspace has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where it lies.
    pub path: PathBuf,
    /// The XXH3-128 of the whole file.
    checksum: u128,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// The file.
    pub file: PathBuf,
    /// What it is.
    pub why: String,
}

impl From<Defect> for OpenError {
    fn from(Defect { file, why }: Defect) -> Self {
        Self::Damaged { file, offset: 0, why }
    }
}

/// Why a manifest was not read.
enum Flaw {
    Defect(Defect),
    Io(OpenError),
}

impl From<OpenError> for Flaw {
    fn from(error: OpenError) -> Self {
        Self::Io(error)
    }
}

fn defect(file: &Path, why: impl Into<String>) -> Flaw {
    let (file, why) = (file.to_owned(), why.into());
    Flaw::Defect(Defect { file, why })
}

/// Checks the manifests of the database in `dir`, which has at least `keyspaces` keyspaces as soon as anything `is_written` in
/// its journals. Reads the manifests, and the tables of fjall's own keyspace, which are tiny.
pub(super) fn check(dir: &Path, keyspaces: usize, is_written: bool) -> Result<Option<Defect>, OpenError> {
    let checked = each(dir, is_written).and_then(|found| {
        let named = found.iter().filter(|keyspace| keyspace.id != META).count();
        let is_used = is_written || found.iter().any(Keyspace::is_used);
        if is_used && (named < keyspaces || found.len() == named) {
            return Err(defect(&dir.join(KEYSPACES), "a keyspace is missing"));
        }
        for table in found
            .iter()
            .filter(|found| found.id == META)
            .flat_map(|meta| &meta.tables)
        {
            if let Some(found) = verify(table, |_| {})? {
                return Err(Flaw::Defect(found));
            }
        }
        Ok(())
    });
    match checked {
        Ok(()) => Ok(None),
        Err(Flaw::Defect(defect)) => Ok(Some(defect)),
        Err(Flaw::Io(error)) => Err(error),
    }
}

/// Where the first keyspace is: fjall makes them after the version marker.
pub(super) fn first_keyspace(dir: &Path) -> Result<Option<PathBuf>, OpenError> {
    let found = numbered(&dir.join(KEYSPACES), |_| Some(()))?;
    Ok(found.into_iter().map(|(_, path)| path).next())
}

/// The tables of the database in `dir`, whether or not somebody has it open; none where there is no database.
///
/// # Errors
/// A manifest is damaged, or can't be read.
pub fn tables(dir: &Path) -> Result<Vec<Table>, OpenError> {
    match each(dir, false) {
        Ok(found) => Ok(found.into_iter().flat_map(|keyspace| keyspace.tables).collect()),
        Err(Flaw::Defect(defect)) => Err(defect.into()),
        Err(Flaw::Io(error)) => Err(error),
    }
}

/// Reads a whole table, tells `progress` of each piece's bytes, and says what is wrong with it, if anything is. A table that is gone
/// is damage only if its database is not open: merged tables are deleted.
///
/// # Errors
/// The file system refuses.
pub fn verify(table: &Table, mut progress: impl FnMut(u64)) -> Result<Option<Defect>, OpenError> {
    let failed = |error| OpenError::io(&table.path, error);
    let found = |why: &str| {
        let (file, why) = (table.path.clone(), why.to_owned());
        Ok(Some(Defect { file, why }))
    };
    let mut file = match File::open(&table.path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return found(MISSING),
        Err(error) => return Err(failed(error)),
    };
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                hasher.update(&buffer[..bytes]);
                progress(bytes as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    match hasher.digest128() == table.checksum {
        true => Ok(None),
        false => found("the table's checksum does not match"),
    }
}

/// Said of a table that its manifest names and that is not there.
const MISSING: &str = "the table is missing";

/// What the manifest of a keyspace says.
struct Keyspace {
    id: u64,
    version: u64,
    tables: Vec<Table>,
}

impl Keyspace {
    /// Whether anything was ever written to it by its user.
    fn is_used(&self) -> bool {
        self.id != META && (self.version > 0 || !self.tables.is_empty())
    }
}

/// The keyspaces with a manifest. One without is the leftover of a creation, unless something `is_written` or it has tables.
fn each(dir: &Path, is_written: bool) -> Result<Vec<Keyspace>, Flaw> {
    let mut found = Vec::new();
    for (id, path) in numbered(&dir.join(KEYSPACES), number)? {
        let id = id.ok_or_else(|| defect(&path, "nothing of this name belongs here"))?;
        match manifest(id, &path)? {
            Some(keyspace) => found.push(keyspace),
            None if is_written || has_content(&path)? => {
                return Err(defect(&path.join(CURRENT), "the keyspace's manifest is missing"));
            }
            None => {}
        }
    }
    Ok(found)
}

/// Reads the manifest of the keyspace at `path`; none when it has none.
fn manifest(id: u64, path: &Path) -> Result<Option<Keyspace>, Flaw> {
    let current = path.join(CURRENT);
    let Some(content) = read(&current)? else {
        return Ok(None);
    };
    let content: [u8; CURRENT_BYTES] = content
        .try_into()
        .map_err(|_| defect(&current, "it does not have the length of one"))?;
    let mut content = &content[..];
    let mut word = |bytes: usize| take(&mut content, bytes).ok_or_else(|| defect(&current, CUT));
    let (version, checksum, kind) = (word(8)?, word(16)?, word(1)?);
    let version = u64::try_from(version).unwrap_or(u64::MAX);
    let file = path.join(format!("v{version}"));
    let Some(bytes) = read(&file)? else {
        return Err(defect(
            &file,
            format!("{} names it, and it is missing", current.display()),
        ));
    };
    let mut hasher = Xxh3::new();
    hasher.update(&bytes);
    if kind != 0 || hasher.digest128() != checksum {
        return Err(defect(
            &file,
            format!("its checksum is not that in {}", current.display()),
        ));
    }
    let tables = tables_of(&file, path, &bytes)?;
    for table in &tables {
        match table.path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(defect(&table.path, MISSING)),
            Err(error) => return Err(OpenError::io(&table.path, error).into()),
        }
    }
    for (table, path) in numbered(&path.join(TABLES), number)? {
        if table.is_none() {
            return Err(defect(&path, "nothing of this name belongs here"));
        }
    }
    Ok(Some(Keyspace { id, version, tables }))
}

/// The tables that a version names, whose checksum has been verified.
fn tables_of(file: &Path, keyspace: &Path, bytes: &[u8]) -> Result<Vec<Table>, Flaw> {
    let strange = |_| defect(file, "it is no archive");
    let archive = sfa::Reader::from_reader(&mut io::Cursor::new(bytes)).map_err(strange)?;
    let section = archive.toc().section(b"tables").and_then(|section| {
        let from = usize::try_from(section.pos()).ok()?;
        bytes.get(from..from.checked_add(usize::try_from(section.len()).ok()?)?)
    });
    let mut section = section.ok_or_else(|| defect(file, "it names no tables"))?;
    let mut word = |bytes: usize| take(&mut section, bytes).ok_or_else(|| defect(file, CUT));
    let mut tables = Vec::new();
    for _ in 0..word(1)? {
        for _ in 0..word(1)? {
            for _ in 0..word(4)? {
                let (id, _kind, checksum, _seqno) = (word(8)?, word(1)?, word(16)?, word(8)?);
                let path = keyspace.join(TABLES).join(id.to_string());
                tables.push(Table { path, checksum });
            }
        }
    }
    Ok(tables)
}

const CUT: &str = "it ends early";

/// The next little-endian number of `bytes` bytes, at most 16.
fn take(from: &mut &[u8], bytes: usize) -> Option<u128> {
    let (taken, rest) = from.split_at_checked(bytes)?;
    *from = rest;
    Some(
        taken
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u128::from(*byte)),
    )
}

/// Whether a keyspace without a manifest has more than its creation leaves behind.
fn has_content(path: &Path) -> Result<bool, Flaw> {
    let is_later = |name: &str| Some(name.starts_with('v') && name != "v0");
    let versions = numbered(path, is_later)?;
    let tables = numbered(&path.join(TABLES), |_| Some(()))?;
    Ok(!tables.is_empty() || versions.iter().any(|(is_later, _)| *is_later == Some(true)))
}

/// Keyspaces and tables are called by their numbers.
fn number(name: &str) -> Option<u64> {
    name.parse().ok()
}

/// What lies in a directory, if there is one, under names that `number` may understand, in order.
fn numbered<T>(
    dir: &Path,
    number: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(Option<T>, PathBuf)>, OpenError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(OpenError::io(dir, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| OpenError::io(dir, error))?;
        let number = entry.file_name().to_str().and_then(&number);
        found.push((number, entry.path()));
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}

/// A small file; none when it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

#[cfg(test)]
#[path = "manifest_test.rs"]
mod tests;
