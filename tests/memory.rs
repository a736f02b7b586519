//! Memory of training: flat in the size of the store, almost flat in the batch. Measured from outside (`VmHWM` of the
//! process) and compared with what the run says of itself in run.json.
//!
//!     cargo test --release --test memory -- --ignored --nocapture
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use heartlore::data::index::Row;
use heartlore::data::store::{Store, StoreWriter};

const MIB: f64 = 1_048_576.0;

fn command(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartlore"));
    command.args(line.split_whitespace()).current_dir(dir).stdout(Stdio::null());
    command
}

/// Peak resident memory in MiB of the run that `line` starts in `dir/out`.
fn peak(dir: &Path, line: &str, out: &str) -> f64 {
    let mut child = command(dir, &format!("{line} --out {out} --threads 2")).spawn().unwrap();
    let mut seen = 0.0f64;
    let status = loop {
        if let Ok(text) = fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let kib = text
                .lines()
                .find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
            seen = seen.max(kib.unwrap_or(0.0) / 1024.0);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{line}");
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join(out).join("run.json")).unwrap()).unwrap();
    let told = run["peak_memory_bytes"].as_f64().unwrap() / MIB;
    assert!((told - seen).abs() < 2.0, "the run says {told:.1} MiB, from outside it had {seen:.1} MiB");
    told
}

/// The store `from`, `times` over, as other people.
fn repeat(from: &Path, to: &Path, times: usize) {
    let store = Store::open(from).unwrap();
    let (index, names) = (store.index(), store.index().label_names().to_vec());
    let mut writer = StoreWriter::create(to, store.manifest().samples as usize, &names, false).unwrap();
    let mut window = vec![0.0f32; store.manifest().samples as usize];
    for copy in 0..times {
        for i in 0..index.len() {
            store.read_window(i, &mut window).unwrap();
            let row = Row {
                dataset: index.dataset(i).into(),
                subject: format!("{}-{copy}", index.subject(i)),
                trial: index.trial(i).into(),
                record: format!("{}-{copy}", index.record(i)),
                start_s: index.start_s(i),
                quality: index.quality(i).into(),
                labels: (0..names.len()).map(|c| index.label(c, i).map(str::to_string)).collect(),
            };
            writer.push(&row, &window).unwrap();
        }
    }
    writer.finish(store.manifest().clone()).unwrap();
}

#[test]
#[ignore = "a minute: cargo test --release --test memory -- --ignored --nocapture"]
fn memory_of_training_does_not_grow_with_the_data() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let simulated = "simulate --out study --store hour --subjects 10 --trials 6 --trial-s 60";
    assert!(command(dir, simulated).status().unwrap().success());
    repeat(&dir.join("hour"), &dir.join("thirty"), 30);
    let windows = |name: &str| Store::open(&dir.join(name)).unwrap().index().len();
    assert_eq!((windows("hour"), windows("thirty")), (360, 10_800));

    // The same number of steps on both: 320 windows per epoch.
    let tiny = "--preset tiny --epochs 1 --cap-per-dataset 320";
    let of = |store: &str, batch: usize| {
        let mib = peak(
            dir,
            &format!("pretrain --data {store} {tiny} --batch {batch}"),
            &format!("{store}-{batch}"),
        );
        println!("pretrain  {store:<6}  batch {batch:>3}  peak {mib:.1} MiB");
        mib
    };
    let (small, large) = (of("hour", 16), of("thirty", 16));
    let (small_batch, large_batch) = (of("hour", 256), of("thirty", 256));
    // The store of 30 hours is 53 MiB of samples; its index takes some 50 bytes per window.
    assert!(large - small < 4.0, "{small:.1} MiB for an hour, {large:.1} MiB for thirty");
    assert!(
        large_batch - small_batch < 4.0,
        "{small_batch:.1} MiB for an hour, {large_batch:.1} MiB for thirty"
    );
    // 240 more windows are 1.2 MiB of samples, and would be hundreds of MiB of activations.
    assert!(small_batch - small < 4.0, "{small:.1} MiB for 16 windows, {small_batch:.1} MiB for 256");

    // Three epochs need no more than one.
    let longer = peak(
        dir,
        &format!("pretrain --data hour {tiny} --epochs 3 --batch 16").replace("--epochs 1 ", ""),
        "longer",
    );
    println!("pretrain  hour    batch  16, three epochs  peak {longer:.1} MiB");
    assert!(longer - small < 4.0);
}
