//! The metrics log and the event file.

use std::fs;

use crate::error::Kind;
use crate::report::{EventWriter, Kept, MetricsLog, Value};

const COLUMNS: [&str; 3] = ["loss", "phase", "n"];

fn row(loss: f64) -> [Value; 3] {
    [loss.into(), "a,\"b\"\nc".into(), Value::Integer(-3)]
}

fn read(dir: &std::path::Path) -> (String, String) {
    (
        fs::read_to_string(dir.join("metrics.csv")).unwrap(),
        fs::read_to_string(dir.join("metrics.jsonl")).unwrap(),
    )
}

#[test]
fn rows_are_written_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MetricsLog::create(dir.path(), &COLUMNS).unwrap();
    log.row(1, &row(0.1)).unwrap();
    for (step, v) in [(2, f64::NAN), (3, f64::INFINITY), (4, f64::NEG_INFINITY)] {
        log.row(step, &[v.into(), Value::Missing, None::<f64>.into()]).unwrap();
    }
    let (csv, jsonl) = read(dir.path());
    assert_eq!(csv, "step,loss,phase,n\n1,0.1,\"a,\"\"b\"\"\nc\",-3\n2,NaN,,\n3,inf,,\n4,-inf,,\n");
    assert_eq!(
        jsonl,
        "{\"step\":1,\"loss\":0.1,\"phase\":\"a,\\\"b\\\"\\nc\",\"n\":-3}\n\
         {\"step\":2,\"loss\":null,\"loss_nonfinite\":\"NaN\"}\n\
         {\"step\":3,\"loss\":null,\"loss_nonfinite\":\"inf\"}\n\
         {\"step\":4,\"loss\":null,\"loss_nonfinite\":\"-inf\"}\n"
    );
    for line in jsonl.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(log.row(5, &[]).unwrap_err().kind(), Kind::Shape);
}

#[test]
fn numbers_read_back_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MetricsLog::create(dir.path(), &["v"]).unwrap();
    let values: [f64; 6] = [0.1 + 0.2, 1e-310, 1.7976931348623157e308, -0.0, 1.0 / 3.0, 123456789.0];
    for (i, v) in values.iter().enumerate() {
        log.row(i as u64, &[(*v).into()]).unwrap();
    }
    let (csv, _) = read(dir.path());
    for (line, v) in csv.lines().skip(1).zip(values) {
        assert_eq!(line.split(',').nth(1).unwrap().parse::<f64>().unwrap().to_bits(), v.to_bits(), "{line}");
    }
}

#[test]
fn a_resumed_log_equals_an_undisturbed_one() {
    let whole = tempfile::tempdir().unwrap();
    let mut log = MetricsLog::create(whole.path(), &COLUMNS).unwrap();
    (1..=10).for_each(|s| log.row(s, &row(1.0 / s as f64)).unwrap());
    let want = read(whole.path());
    // Cut at every byte, as a killed process leaves it, then resumed after step 4 (or as much of it as there is).
    for cut in 0..=want.0.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.csv"), &want.0[..cut]).unwrap();
        fs::write(dir.path().join("metrics.jsonl"), &want.1).unwrap();
        let (mut log, kept) = MetricsLog::resume(dir.path(), &COLUMNS, 4).unwrap();
        assert_eq!((kept.jsonl_rows, kept.jsonl_dropped), (4, 6));
        assert!(kept.csv_rows <= 4);
        (kept.csv_rows as u64 + 1..=10).for_each(|s| log.row(s, &row(1.0 / s as f64)).unwrap());
        assert_eq!(read(dir.path()).0, want.0, "cut at {cut}");
    }
    let (mut log, kept) = MetricsLog::resume(whole.path(), &COLUMNS, 4).unwrap();
    assert_eq!(kept, Kept { csv_rows: 4, jsonl_rows: 4, csv_dropped: 6, jsonl_dropped: 6 });
    (5..=10).for_each(|s| log.row(s, &row(1.0 / s as f64)).unwrap());
    assert_eq!(read(whole.path()), want);
    assert!(!whole.path().join("metrics.csv.tmp").exists());
}

#[test]
fn damaged_or_foreign_logs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("metrics.csv");
    let fails = |text: &[u8], columns: &[&str]| {
        fs::write(&csv, text).unwrap();
        let e = MetricsLog::resume(dir.path(), columns, 9).unwrap_err();
        assert_eq!(fs::read(&csv).unwrap(), text, "a refused file is left as it was");
        e
    };
    let e = fails(b"step,other\n1,2\n", &["loss"]);
    assert!(
        e.kind() == Kind::Format && e.to_string().contains("metrics.csv") && e.to_string().contains("remedy")
    );
    assert!(fails(b"step,loss\n1,2\nx,3\n4,5\n", &["loss"]).to_string().contains("row 3"));
    assert_eq!(fails(b"step,loss\n1,\xff\n2,3\n", &["loss"]).kind(), Kind::Format);
    for bad in [&["a", "a"][..], &["step"], &[""], &["x_nonfinite"], &["a\nb"]] {
        assert_eq!(MetricsLog::create(dir.path(), bad).unwrap_err().kind(), Kind::Usage);
    }
    assert_eq!(MetricsLog::create(dir.path().join("none"), &["a"]).unwrap_err().kind(), Kind::Io);
    fs::remove_file(&csv).unwrap();
    let (_, kept) = MetricsLog::resume(dir.path(), &["loss"], 9).unwrap();
    assert_eq!(kept, Kept::default(), "missing files are started anew");
}

/// The files that `tests/oracles/report/check_events.py` reads back with TensorBoard.
fn write_events(dir: &std::path::Path) {
    let mut w = EventWriter::create(dir, 1_700_000_000.5).unwrap();
    for step in 0..50i64 {
        let s = step as f32;
        w.scalars(&[("loss/train", 1.0 / (1.0 + s)), ("Größe", s * s)], step, 1_700_000_000.5 + step as f64)
            .unwrap();
    }
    w.scalar("loss/train", 1 << 40, f32::NAN, 1_700_000_100.0).unwrap();
    let mut w = EventWriter::create(dir, 1_700_000_200.0).unwrap();
    w.restart_at(30, 1_700_000_200.0).unwrap();
    for step in 30..40i64 {
        w.scalar("loss/train", step, 100.0 + step as f32, 1_700_000_200.0 + step as f64).unwrap();
    }
}

#[test]
fn event_files_hold_the_known_bytes() {
    let dir = tempfile::tempdir().unwrap();
    write_events(dir.path());
    let bytes = fs::read(dir.path().join("events.out.tfevents.1700000000.heartlore")).unwrap();
    // Serialised by TensorBoard's own RecordWriter and Event class: see check_events.py, which prints these.
    let version = include_bytes!("../../../tests/oracles/report/first_records.bin");
    assert_eq!(&bytes[..version.len()], version);
}

#[test]
#[ignore = "writes target/events for tests/oracles/report/check_events.py"]
fn events_for_the_check() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/events");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    write_events(&dir);
}
