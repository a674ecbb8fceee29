//! The example data set of the repository.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::read::GzDecoder;

/// A data set: where it is, and its rows.
pub struct Dataset {
    /// The compressed file.
    pub file: PathBuf,
    /// Its content as text: one `key TAB value` a line, in key order.
    pub text: Vec<u8>,
}

impl Dataset {
    /// Keys and values, in key order.
    pub fn rows(&self) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let lines = self
            .text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let tab = line.iter().position(|&byte| byte == b'\t').context("no tab")?;
                Ok((line[..tab].to_vec(), line[tab + 1..].to_vec()))
            })
            .collect()
    }
}

/// The Unicode character database's main file: 34,924 rows.
pub fn unicode() -> anyhow::Result<Dataset> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/unicode.tsv.gz");
    let mut text = Vec::new();
    GzDecoder::new(std::fs::File::open(&file)?).read_to_end(&mut text)?;
    Ok(Dataset { file, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_set_is_large_enough_and_sorted() {
        let rows = unicode().unwrap().rows().unwrap();
        assert_eq!(rows.len(), 34_924);
        assert!(rows.is_sorted());
    }
}
