//! The placement driver's state: commands in its log, and its snapshots.

use std::fs;

use holdfast_common::proto;
use holdfast_common::proto::placement::Heartbeat;
use holdfast_common::raft::types::SnapshotMeta;
use holdfast_placement::command::{Changes, Command};
use holdfast_placement::reports::Reports;
use holdfast_placement::snapshot::Image;
use holdfast_placement::state::State;
use xxhash_rust::xxh3::xxh3_64;

use crate::input::{Input, in_a_directory};

pub(crate) const COMMANDS: u8 = 0;
pub(crate) const RAW_IMAGE: u8 = 1;
pub(crate) const IMAGE: u8 = 2;
pub(crate) const HEARTBEATS: u8 = 3;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        COMMANDS => commands(State::default(), input),
        RAW_IMAGE => drop(image(input.rest())),
        IMAGE => sealed(input),
        _ => heartbeats(input),
    }
}

/// Applies what decodes; nothing that a log holds may end a member.
fn commands(mut state: State, mut input: Input<'_>) {
    while !input.is_empty() {
        let Ok(command) = proto::decode::<Command>(&input.section()) else {
            continue;
        };
        let written = proto::encode(&command);
        assert_eq!(proto::decode::<Command>(&written), Ok(command.clone()));
        state.apply(&command, &mut Changes::default());
    }
    let image = Image::new(&SnapshotMeta::default(), state);
    assert_eq!(self::image(&image.encode()), Some(image));
}

fn image(file: &[u8]) -> Option<Image> {
    in_a_directory(|dir| {
        let path = dir.join("image");
        fs::write(&path, file).expect("a file in memory");
        Image::read(&path).ok()
    })
}

/// A snapshot whose checksum fits, and a log behind it.
fn sealed(mut input: Input<'_>) {
    let (format, body) = (input.byte(), input.section());
    let mut file = b"HFPLACE".to_vec();
    file.push(format);
    file.extend((body.len() as u64).to_le_bytes());
    file.extend(xxh3_64(&body).to_le_bytes());
    file.extend(&body);
    if let Some(image) = image(&file) {
        drop(image.meta());
        commands(image.state, input);
    }
}

/// What stores say of themselves, and what the leading member makes of it.
fn heartbeats(mut input: Input<'_>) {
    let mut reports = Reports::default();
    let mut now = 0;
    while !input.is_empty() {
        now += u64::from(input.byte());
        if let Ok(heartbeat) = proto::decode::<Heartbeat>(&input.section()) {
            reports.accept(&heartbeat, now);
            for report in &heartbeat.replicas {
                reports.load(report.descriptor.id);
            }
        }
    }
}
