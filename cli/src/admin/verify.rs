//! `holdfast store verify`.

use std::path::Path;

use holdfast_store::identity;
use holdfast_store::verify::{Error, Report, verify};
use indicatif::ProgressBar;

use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

/// Reads everything in a store's directory; fails when something is damaged.
pub(super) async fn run(dir: &Path, output: Format) -> Outcome {
    let progress = ProgressBar::new_spinner();
    let told = progress.clone();
    let report = verify(dir, move |report: &Report| {
        let (entries, records) = (report.entries, report.records);
        told.set_message(format!("{entries} entries, {records} records"));
        told.tick();
    });
    let report = report.await;
    progress.finish_and_clear();
    let report = report.map_err(failure)?;
    let store = report.store.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let counts = [
        ("store", store),
        ("tables", report.tables.to_string()),
        ("ranges", report.ranges.to_string()),
        ("logs", report.logs.to_string()),
        ("entries", report.entries.to_string()),
        ("records", report.records.to_string()),
        ("names of writes", report.tokens.to_string()),
        ("remembered outcomes", report.outcomes.to_string()),
        ("rows of no range", report.strays.to_string()),
        ("data", output::bytes(report.bytes)),
        ("damaged", report.damaged.to_string()),
    ];
    output::print(output, &report, &["WHAT", "THERE IS"], |_| {
        counts
            .into_iter()
            .map(|(what, count)| vec![what.to_owned(), count])
            .collect()
    })?;
    if report.damaged == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Damaged,
        format!(
            "{} is damaged: {}. Start the store with --rebuild-damaged: it sets the content of the directory aside and joins as a \
             new store, and the others bring it what it had",
            dir.display(),
            report.damage.join("; ")
        ),
    ))
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Directory(error @ identity::Error::InUse(_)) => Failure::new(Exit::Unavailable, error),
        Error::Directory(error) => Failure::usage(error),
        error @ Error::Interrupted => Failure::new(Exit::Other, error),
    }
}
