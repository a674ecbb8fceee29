//! `holdfast kv export`.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt;

use super::import::{format_of, is_gzip};
use super::rows::{self, FileFormat};
use super::selection::Selection;
use crate::api::Login;
use crate::exit::Outcome;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write; `-` for standard output. A name that ends in .gz is compressed
    file: PathBuf,
    /// The file's format [default: by its name, else ndjson]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    #[command(flatten)]
    selection: Selection,
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

/// Writes every row that is selected, in order. The file appears under its name only once it is whole and on disk.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    let client = args.login.client(&args.url)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.file));
    let progress = indicatif::ProgressBar::new_spinner().with_style(super::import::spinner_style()?);
    let mut rows = pin!(client.scan(args.selection.scan()));
    let file = Some(args.file.as_path()).filter(|file| *file != Path::new("-"));
    let partial = partial_name(&args.file);
    let mut out = match file {
        None => Sink::Stream(BufWriter::new(std::io::stdout())),
        Some(file) => Sink::create(&partial, is_gzip(file))?,
    };
    let mut line = Vec::new();
    while let Some(row) = rows.try_next().await? {
        line.clear();
        rows::format(format, row.key.to_vec(), row.value.to_vec(), &mut line);
        out.write(&line)?;
        progress.inc(1);
    }
    out.finish()?;
    if let Some(file) = file {
        std::fs::rename(&partial, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    progress.finish_and_clear();
    eprintln!("exported {} rows", progress.position());
    Ok(())
}

/// Where rows go.
enum Sink {
    Stream(BufWriter<Stdout>),
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Sink {
    fn create(file: &Path, gzip: bool) -> io::Result<Self> {
        let file = BufWriter::new(File::create(file)?);
        Ok(match gzip {
            true => Self::Gzip(GzEncoder::new(file, Compression::default())),
            false => Self::Plain(file),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(out) => out.write_all(bytes),
            Self::Plain(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
        }
    }

    /// Writes what is left, the end of a compressed file too, and has a file on disk.
    fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::Stream(mut out) => return out.flush(),
            Self::Plain(out) => out,
            Self::Gzip(out) => out.finish()?,
        };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

fn partial_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_whose_end_could_not_be_written_is_no_success() {
        for gzip in [true, false] {
            let mut out = Sink::create(Path::new("/dev/full"), gzip).unwrap();
            out.write(b"a row").unwrap();
            assert!(out.finish().is_err(), "gzip: {gzip}");
        }
    }

    #[test]
    fn a_compressed_file_is_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut out = Sink::create(file.path(), true).unwrap();
        out.write(b"a row").unwrap();
        out.finish().unwrap();
        let mut text = String::new();
        let mut read = flate2::read::GzDecoder::new(File::open(file.path()).unwrap());
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a row");
    }
}
