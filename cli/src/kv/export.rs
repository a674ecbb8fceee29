//! `holdfast kv export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::import::{format_of, is_gzip};
use super::pages::{Pages, Selection};
use super::rows::{self, FileFormat, Row};
use crate::api::{Api, Login};
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

/// Writes every row that is selected, in order. The file appears under its name only once it is whole.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    let api = Api::new(&args.url, &args.login)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.file));
    let progress = indicatif::ProgressBar::new_spinner().with_style(super::import::spinner_style()?);
    let mut pages = Pages::new(&api, &args.selection, false, u64::MAX);
    let to_stdout = args.file == Path::new("-");
    let partial = partial_name(&args.file);
    let mut out: Box<dyn Write> = match to_stdout {
        true => Box::new(BufWriter::new(std::io::stdout().lock())),
        false if is_gzip(&args.file) => Box::new(GzEncoder::new(
            BufWriter::new(File::create(&partial)?),
            Compression::default(),
        )),
        false => Box::new(BufWriter::new(File::create(&partial)?)),
    };
    let mut line = Vec::new();
    while let Some(row) = pages.next().await? {
        let row: Row = serde_json::from_value(row).map_err(anyhow::Error::from)?;
        let (key, value) = row.into_bytes().map_err(anyhow::Error::from)?;
        line.clear();
        rows::format(format, key, value, &mut line);
        out.write_all(&line)?;
        progress.inc(1);
    }
    out.flush()?;
    drop(out);
    if !to_stdout {
        std::fs::rename(&partial, &args.file)?;
    }
    progress.finish_and_clear();
    eprintln!("exported {} rows", progress.position());
    Ok(())
}

fn partial_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
