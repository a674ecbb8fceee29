use super::*;

const HOUR: u64 = 3_600;

fn reads(reads: f64) -> Load {
    Load {
        reads,
        ..Load::default()
    }
}

fn ranges(loads: &[(&'static str, f64)]) -> impl Iterator<Item = (Bytes, Load)> {
    loads
        .iter()
        .map(|(start, load)| (Bytes::from_static(start.as_bytes()), reads(*load)))
}

fn everything(map: &Heatmap) -> Picture {
    map.picture(Metric::Reads, 0, u64::MAX)
}

#[test]
fn a_minute_is_the_mean_of_what_was_seen_in_it() {
    let mut map = Heatmap::default();
    map.observe(600, 1.0, ranges(&[("", 10.0), ("m", 0.0)]));
    map.observe(603, 3.0, ranges(&[("", 30.0), ("m", 4.0)]));
    map.observe(661, 1.0, ranges(&[("", 7.0), ("m", 0.0)]));
    let picture = everything(&map);
    assert_eq!(picture.buckets, ["", "m"]);
    assert_eq!(picture.times, [(600, 60), (660, 60)]);
    assert_eq!(picture.values, [[25.0, 3.0], [7.0, 0.0]]);
    assert_eq!(map.picture(Metric::Reads, 0, 660).times, [(600, 60)]);
    assert_eq!(map.picture(Metric::Reads, 660, 661).times, [(660, 60)]);
    assert_eq!(map.picture(Metric::Writes, 0, 660).values, [[0.0, 0.0]]);
}

#[test]
fn a_split_gives_every_column_the_same_buckets_and_changes_no_sum() {
    let mut map = Heatmap::default();
    map.observe(60, 1.0, ranges(&[("", 8.0), ("t", 1.0)]));
    map.observe(120, 1.0, ranges(&[("", 2.0), ("g", 6.0), ("t", 1.0)]));
    let picture = everything(&map);
    assert_eq!(picture.buckets, ["", "g", "t"]);
    assert_eq!(picture.values, [[4.0, 4.0, 1.0], [2.0, 6.0, 1.0]]);
    // Within one minute too.
    map.observe(121, 1.0, ranges(&[("", 9.0)]));
    let sums: Vec<f64> = everything(&map)
        .values
        .iter()
        .map(|column| column.iter().sum())
        .collect();
    assert_eq!(sums, [9.0, 9.0]);
}

#[test]
fn a_hole_in_the_map_has_nothing() {
    let mut map = Heatmap::default();
    map.observe(60, 1.0, ranges(&[("b", 3.0)]));
    map.observe(61, 1.0, ranges(&[("", 1.0), ("b", 5.0)]));
    assert_eq!(everything(&map).values, [[0.5, 4.0]]);
}

fn many(count: usize, hot: usize) -> impl Iterator<Item = (Bytes, Load)> {
    (0..count).map(move |i| {
        let load = if i == hot { 1_000.0 } else { 1.0 };
        (Bytes::from(format!("{i:06}")), reads(load))
    })
}

#[test]
fn of_many_ranges_the_busy_ones_keep_a_row_of_their_own() {
    let mut map = Heatmap::default();
    map.observe(60, 1.0, many(5_000, 3_210));
    let picture = everything(&map);
    assert_eq!(picture.buckets.len(), MAX_ROWS);
    let hottest = picture.values[0].iter().copied().fold(0.0, f64::max);
    assert_eq!(hottest, 1_000.0);
    assert_eq!(picture.values[0].iter().sum::<f64>(), 5_999.0);
}

#[test]
fn a_day_is_kept_the_older_part_in_coarser_columns() {
    let mut map = Heatmap::default();
    let begun = 1_000 * HOUR;
    for minute in 0..48 * 60 {
        map.observe(begun + minute * 60, 60.0, ranges(&[("", 6.0)]));
    }
    let picture = everything(&map);
    assert_eq!(picture.times.len(), YOUNG + OLD);
    let (first, last) = (picture.times[0].0, picture.times[YOUNG + OLD - 1].0);
    let kept = last - first;
    assert!((23 * HOUR..=25 * HOUR).contains(&kept), "{} hours", kept / HOUR);
    assert!(
        picture
            .times
            .windows(2)
            .all(|two| two[0].0 + two[0].1 == two[1].0)
    );
    assert!(picture.values.iter().all(|column| (column[0] - 6.0).abs() < 1e-6));
}

#[test]
fn long_keys_shorten_the_history_and_not_the_memory() {
    let mut map = Heatmap::default();
    for minute in 0..60 {
        let keys = (0..200).map(|i| {
            let mut key = vec![b'k'; 4_000];
            key.extend_from_slice(format!("{i:03}").as_bytes());
            (Bytes::from(key), reads(1.0))
        });
        map.observe(minute * 60, 60.0, keys);
    }
    assert!(map.key_bytes() <= MAX_KEY_BYTES);
    assert!(map.columns.len() >= 10);
}

#[test]
fn a_clock_that_is_set_back_makes_no_second_column() {
    let mut map = Heatmap::default();
    map.observe(600, 1.0, ranges(&[("", 1.0)]));
    map.observe(60, 1.0, ranges(&[("", 3.0)]));
    assert_eq!(
        (everything(&map).times, everything(&map).values),
        (vec![(600, 60)], vec![vec![2.0]])
    );
}
