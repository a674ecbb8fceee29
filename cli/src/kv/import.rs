//! `holdfast kv import`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::read::MultiGzDecoder;
use futures::stream::{FuturesUnordered, StreamExt};
use holdfast_client::Client;
use indicatif::{ProgressBar, ProgressStyle};

use super::rows::{self, FileFormat};
use crate::api::Login;
use crate::exit::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What to read; `-` for standard input. Gzip is recognised by the name's .gz
    file: PathBuf,
    /// The file's format [default: by its name, else ndjson]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Rows in flight at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// The router to ask
    #[arg(
        long = "router",
        value_name = "URL",
        env = "HOLDFAST_ROUTER",
        default_value = "http://127.0.0.1:7400"
    )]
    url: String,
    #[command(flatten)]
    login: Login,
}

/// Writes every row; stops at the first that can't be written. Importing the same file again is harmless.
pub(crate) async fn run(args: ImportArgs) -> Outcome {
    let client = args.login.client(&args.url)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.file));
    let (mut source, progress) = open(&args.file)?;
    let mut in_flight = FuturesUnordered::new();
    let (mut line, mut number, mut written) = (Vec::new(), 0u64, 0u64);
    loop {
        while in_flight.len() < usize::from(args.concurrency) {
            line.clear();
            if source.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if text.is_empty() {
                continue;
            }
            let (key, value) = rows::parse(format, text)
                .map_err(|error| Failure::usage(format!("line {number}: {error}")))?;
            in_flight.push(put(&client, number, key, value));
        }
        match in_flight.next().await {
            None => break,
            Some(result) => result?,
        }
        written += 1;
        progress.set_message(format!("{written} rows"));
    }
    progress.finish_and_clear();
    eprintln!("imported {written} rows");
    Ok(())
}

/// Puts one row. A put is the same however often it is done, so it needs no name.
async fn put(client: &Client, line: u64, key: Vec<u8>, value: Vec<u8>) -> Outcome {
    let written = client.write(key, value).repeatable().send().await;
    written.map(drop).map_err(|error| {
        let failure = Failure::from(error);
        Failure::new(failure.exit(), format!("line {line}: {failure}"))
    })
}

/// Opens the source behind a progress bar that counts its bytes as they lie on disk.
fn open(file: &Path) -> Outcome<(Box<dyn BufRead>, ProgressBar)> {
    if file == Path::new("-") {
        let progress = ProgressBar::new_spinner().with_style(spinner_style()?);
        return Ok((Box::new(BufReader::new(std::io::stdin())), progress));
    }
    let source = File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg} {elapsed}")
        .map_err(anyhow::Error::from)?;
    let progress = ProgressBar::new(source.metadata()?.len()).with_style(style);
    let counted = progress.wrap_read(source);
    let plain: Box<dyn Read> = if is_gzip(file) {
        Box::new(MultiGzDecoder::new(counted))
    } else {
        Box::new(counted)
    };
    Ok((Box::new(BufReader::with_capacity(1 << 20, plain)), progress))
}

/// How a transfer of unknown length shows itself.
pub(super) fn spinner_style() -> Outcome<ProgressStyle> {
    Ok(ProgressStyle::with_template("{spinner} {pos} rows {msg} {elapsed}").map_err(anyhow::Error::from)?)
}

/// Whether a file's name says that it is compressed.
pub(super) fn is_gzip(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "gz")
}

/// The format that a file's name says.
pub(super) fn format_of(file: &Path) -> FileFormat {
    let plain = if is_gzip(file) {
        file.with_extension("")
    } else {
        file.to_owned()
    };
    match plain.extension() {
        Some(extension) if extension == "tsv" => FileFormat::Tsv,
        _ => FileFormat::Ndjson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        assert_eq!(format_of(Path::new("a/unicode.tsv.gz")), FileFormat::Tsv);
        assert_eq!(format_of(Path::new("rows.tsv")), FileFormat::Tsv);
        assert_eq!(format_of(Path::new("rows.ndjson.gz")), FileFormat::Ndjson);
        assert_eq!(format_of(Path::new("-")), FileFormat::Ndjson);
    }
}
