//! The header is the one that cbindgen generates; the examples and the torture program compile without a warning, run under
//! AddressSanitizer, and give the library's numbers, bit for bit.

use std::path::{Path, PathBuf};
use std::process::Command;

use heartlore::model::{BandPass, Ecg, Event, Model, Preprocessing, Stream, StreamOptions, Task};
use heartlore::nn::ModelConfig;
use heartlore::signal::Normalisation;
use heartlore::signal::simulate::{EcgParameters, simulate_ecg};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// `HEARTLORE_BLESS=1 cargo test -p heartlore-c --test programs header` writes the header anew.
#[test]
fn the_header_is_the_generated_one() {
    let here = Path::new(HERE);
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["error", "lib", "model", "signal", "stream"] {
        builder = builder.with_src(here.join(format!("src/{file}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    let text = String::from_utf8(text).unwrap();
    let path = here.join("include/heartlore.h");
    if std::env::var_os("HEARTLORE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "include/heartlore.h is not what cbindgen generates: HEARTLORE_BLESS=1 writes it anew"
    );
    for line in text.lines().filter(|l| l.contains('(') && !l.trim_start().starts_with(['/', '*', '#'])) {
        assert!(line.contains("heartlore_") || line.starts_with(' '), "a symbol without prefix: {line}");
    }
}

/// The newest file of this name (with or without a hash) beside the test program.
fn library(suffix: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for folder in exe.ancestors().skip(1).take(2) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("libheartlore_c") && name.ends_with(suffix) {
                found.push((entry.metadata().unwrap().modified().unwrap(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap_or_else(|| panic!("no libheartlore_c*{suffix} was built")).1
}

fn compile(compiler: &str, standard: &str, source: &str, out: &Path) {
    let built = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fsanitize=address,undefined"])
        .arg("-fno-sanitize-recover=all")
        .arg(format!("-I{HERE}/include"))
        .arg(format!("{HERE}/{source}"))
        .arg(library(".a"))
        .args(["-o", out.to_str().unwrap(), "-lpthread", "-ldl", "-lm"])
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(built.status.success(), "{source}\n{}", String::from_utf8_lossy(&built.stderr));
}

fn run(program: &Path, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {:?}\n{errors}", program.display(), out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// A model of a few parameters, saved, and a recording in mV at 250 Hz with a gap.
fn fixture(dir: &Path) -> (Model, Vec<f64>) {
    let config = ModelConfig { window: 640, ..ModelConfig::tiny() };
    let task = Task::Classifier { positive: "stressed".into(), negative: "calm".into(), threshold: 0.5 };
    let model = Model::init(config, task, 7).unwrap().with_threads(1).with_preprocessing(Preprocessing {
        rate_hz: 128.0,
        window: 640,
        hop: 320,
        filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase: false }),
        normalisation: Normalisation::Window,
        unit: "z-score".into(),
        quality_gate: heartlore::model::QualityGate::On(heartlore::signal::QualitySettings::default()),
    });
    model.save(dir.join("model")).unwrap();
    let mut x = simulate_ecg(&EcgParameters::default(), 40.0, 250.0, 3).unwrap().signal_mv;
    x[5000..5010].fill(f64::NAN);
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(dir.join("samples.f64"), bytes).unwrap();
    (model, x)
}

#[test]
#[cfg(all(unix, target_endian = "little"))]
fn c_and_cpp_give_the_librarys_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (model, x) = fixture(dir.path());
    let path = |name: &str| dir.path().join(name);
    let (folder, samples) = (path("model"), path("samples.f64"));
    let args = [folder.to_str().unwrap(), samples.to_str().unwrap(), "250"];

    compile("gcc", "-std=c11", "examples/predict.c", &path("predict"));
    let prediction =
        model.predict_samples(Ecg { samples: &x, fs_hz: 250.0, mv_per_unit: Some(1.0) }, None).unwrap();
    let wanted: String = prediction
        .rows()
        .map(|(w, p)| format!("{:.3} {:.3} {p:.4} {:08x} {}\n", w.start_s, w.end_s, p.to_bits(), w.quality))
        .collect();
    assert!(prediction.probabilities.len() > 10);
    assert_eq!(run(&path("predict"), &args), wanted);

    compile("g++", "-std=c++17", "examples/stream.cpp", &path("stream"));
    let options = StreamOptions { mv_per_unit: Some(1.0), ..StreamOptions::default() };
    let mut stream = Stream::new(&model, 250.0, options).unwrap();
    stream.push(&x).unwrap();
    stream.finish().unwrap();
    let wanted: String = stream
        .events()
        .map(|event| match event {
            Event::Beat { time_s, .. } => format!("beat {time_s:.6}\n"),
            Event::Window { start_s, end_s, probability, quality, .. } => {
                format!("window {start_s:.3} {end_s:.3} {:08x} {quality}\n", probability.unwrap().to_bits())
            }
            Event::Gap { start_s, end_s, .. } => format!("gap {start_s:.3} {end_s:.3}\n"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(run(&path("stream"), &args), wanted);
}

#[test]
#[cfg(unix)]
fn wrong_use_is_an_error_and_never_undefined() {
    let dir = tempfile::tempdir().unwrap();
    fixture(dir.path());
    let path = |name: &str| dir.path().join(name);
    compile("gcc", "-std=gnu11", "tests/torture.c", &path("torture"));
    assert_eq!(run(&path("torture"), &[path("model").to_str().unwrap()]), "torture: ok\n");
}
