//! `heartlore stream`: replayed, from text and from integers the same events; every flag in the first line; what is refused.
#![cfg(feature = "cli")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use heartlore::model::{BandPass, Model, Preprocessing, QualityGate, Task};
use heartlore::nn::ModelConfig;
use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::{Normalisation, QualitySettings};

struct Place(tempfile::TempDir);

impl Place {
    fn run(&self, line: &str, input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heartlore"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its flags does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn events(&self, line: &str, input: &[u8]) -> Vec<serde_json::Value> {
        let out = self.run(line, input);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn refused(&self, line: &str, input: &[u8], code: i32, text: &str) {
        let out = self.run(line, input);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(text), "{line}: {:?}\n{said}", out.status);
    }
}

fn model(zero_phase: bool) -> Model {
    let config = ModelConfig { window: 640, ..ModelConfig::tiny() };
    let task = Task::Classifier { positive: "stressed".into(), negative: "calm".into(), threshold: 0.5 };
    Model::init(config, task, 7).unwrap().with_preprocessing(Preprocessing {
        rate_hz: 128.0,
        window: 640,
        hop: 640,
        filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase }),
        normalisation: Normalisation::Window,
        unit: "z-score".into(),
        quality_gate: QualityGate::On(QualitySettings::default()),
    })
}

#[test]
fn replayed_text_and_integers_give_the_same_events() {
    let p = Place(tempfile::tempdir().unwrap());
    model(false).save(p.0.path().join("causal")).unwrap();
    model(true).save(p.0.path().join("zero")).unwrap();
    let ecg = simulate_ecg(&EcgParameters::default(), 20.0, 250.0, 2).unwrap().signal_mv;
    let counts: Vec<i16> = ecg.iter().map(|v| (v * 1000.0).round() as i16).collect();
    let mut text: String = counts.iter().map(|c| format!("{c}\n")).collect();
    let integers: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
    std::fs::write(p.0.path().join("a.csv"), format!("ecg\n{text}")).unwrap();

    let flags = "--fs-hz 250 --unit uV --model causal";
    let replayed = p.events(&format!("stream {flags} --replay a.csv --speed 0"), b"");
    let (first, last) = (&replayed[0], &replayed[replayed.len() - 1]);
    assert_eq!((first["event"].as_str(), last["event"].as_str()), (Some("start"), Some("end")));
    assert_eq!((last["windows"].as_u64(), last["duration_s"].as_f64()), (Some(4), Some(20.0)));
    assert!(last["beats"].as_u64() > Some(12));
    let command = heartlore::cli::command();
    for arg in heartlore::cli::config::settings_of(command.find_subcommand("stream").unwrap()) {
        let key = heartlore::cli::config::key_of(arg);
        assert!(first["settings"].get(&key).is_some(), "--{key} is not in the first line");
    }
    let middle = |events: &[serde_json::Value]| events[1..events.len() - 1].to_vec();
    assert_eq!(middle(&p.events(&format!("stream {flags}"), text.as_bytes())), middle(&replayed));
    let of_integers = p.events(&format!("stream {flags} --format int16"), &integers);
    assert_eq!(middle(&of_integers), middle(&replayed));

    // Missing samples are reported.
    text.insert_str(0, "nan\n\n5\t6,nan 7\n");
    let with_gaps = p.events(&format!("stream {flags}"), text.as_bytes());
    assert_eq!(with_gaps.iter().filter(|e| e["event"] == "gap").count(), 2);

    p.refused("stream --model zero --fs-hz 250", b"1\n", 2, "--causal");
    assert_eq!(p.events("stream --model zero --fs-hz 250 --causal", b"").len(), 2);
    p.refused("stream --model causal", b"1\n", 2, "--fs-hz 130");
    p.refused("stream --model causal --fs-hz 250", b"1\ntwo\n", 4, "line 2");
    p.refused("stream --model causal --fs-hz 250 --format int16", b"123", 4, "one byte of two");
    p.refused("stream --model causal --fs-hz 20", b"", 2, "Hz");
    p.refused("stream --model causal --fs-hz 250 --speed=-1", b"", 2, "speed");
    p.refused("stream --model causal --fs-hz 250 --unit furlong", b"", 2, "furlong");
    p.refused("stream --model nowhere --fs-hz 250", b"", 6, "nowhere");
}
