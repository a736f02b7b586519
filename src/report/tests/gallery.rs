//! Plausible data for every plot; `gallery` writes them all to target/gallery.html to be looked at:
//! `cargo test --features report gallery -- --ignored`.

use crate::report::plots::*;
use crate::report::*;

/// A repeatable sequence in 0..1 (SplitMix64, Steele et al. 2014).
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    /// About normal, variance 1: the sum of twelve uniform numbers.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// An ECG-like sum of Gaussian bumps at the given beats; returns samples in mV.
pub(super) fn ecg(beats: &[f64], fs_hz: f64, duration_s: f64, noise: f64, seed: u64) -> Vec<f32> {
    let waves = [
        (-0.20, 0.025, 0.12),
        (-0.035, 0.010, -0.10),
        (0.0, 0.011, 1.1),
        (0.03, 0.010, -0.22),
        (0.28, 0.055, 0.28),
    ];
    let mut rng = Noise(seed);
    let mut out: Vec<f64> = (0..(duration_s * fs_hz) as usize)
        .map(|i| noise * rng.normal() + 0.05 * (i as f64 / fs_hz * 1.6).sin())
        .collect();
    for beat in beats {
        for (shift, width, height) in waves {
            let centre = (beat + shift) * fs_hz;
            let reach = 5.0 * width * fs_hz;
            for i in (centre - reach).max(0.0) as usize..((centre + reach).max(0.0) as usize).min(out.len()) {
                out[i] += height * (-0.5 * ((i as f64 - centre) / (width * fs_hz)).powi(2)).exp();
            }
        }
    }
    out.into_iter().map(|v| v as f32).collect()
}

/// Beats whose rate rises in the middle third.
pub(super) fn beats(duration_s: f64, seed: u64) -> Vec<f64> {
    let mut rng = Noise(seed);
    let (mut t, mut out) = (0.4, vec![]);
    while t < duration_s {
        out.push(t);
        let busy = t > duration_s / 3.0 && t < 2.0 * duration_s / 3.0;
        let bpm = if busy { 84.0 } else { 68.0 } + 4.0 * (t * 1.5).sin() + 1.5 * rng.normal();
        t += 60.0 / bpm;
    }
    out
}

/// All plots by name.
pub(super) fn all() -> Vec<(&'static str, Svg)> {
    let mut rng = Noise(7);
    let fs = 128.0;
    let short = ecg(&beats(10.0, 3), fs, 10.0, 0.015, 5);
    let mut masked = vec![false; short.len()];
    for start in [60, 190, 205, 330, 470, 600, 640, 800, 905, 1040, 1150] {
        masked[start..start + 45].fill(true);
    }
    let guess: Vec<f32> = short.iter().map(|v| v * 0.88 + 0.03 * rng.normal() as f32).collect();
    let window = ecg_reconstruction(&EcgReconstruction {
        title: "Masked window and its reconstruction",
        fs_hz: fs,
        start_s: 120.0,
        ecg: &short,
        reconstruction: &guess,
        masked: &masked,
        unit: "mV",
    });

    let loss = |x: f64| 0.035 + 0.9 * (-x / 180.0).exp() + 0.12 * (-x / 1500.0).exp();
    let train: Vec<_> =
        (0..3000).map(|i| (f64::from(i), loss(f64::from(i)) * (1.0 + 0.09 * rng.normal()))).collect();
    let validation: Vec<_> =
        (1..=15).map(|i| (200.0 * f64::from(i), loss(200.0 * f64::from(i)) * 1.06 + 0.004)).collect();
    let rate: Vec<_> = (0..3000)
        .map(|i| {
            let s = f64::from(i);
            (s, 1e-3 * (s / 300.0).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * s / 3000.0).cos()))
        })
        .collect();
    let curves = |log_y, title| {
        training_curves(&TrainingCurves {
            title,
            x_label: "step",
            y_label: "masked mean squared error",
            train: &train,
            validation: &validation,
            learning_rate: &rate,
            best: Some(2800.0),
            log_y,
        })
    };
    let few: Vec<_> = (1..=12).map(|i| (f64::from(i), 0.4 + 0.3 / f64::from(i))).collect();
    let few_val: Vec<_> =
        (1..=12).map(|i| (f64::from(i), 0.5 + 0.22 / f64::from(i) + 0.004 * f64::from(i))).collect();
    let epochs = training_curves(&TrainingCurves {
        title: "Fine-tuning by epoch",
        x_label: "epoch",
        y_label: "cross-entropy",
        train: &few,
        validation: &few_val,
        learning_rate: &[],
        best: Some(7.0),
        log_y: false,
    });

    let confusion = confusion_matrix(&ConfusionMatrix {
        title: "Rest against mental arithmetic, 36 subjects",
        classes: &["rest", "arithmetic"],
        counts: &[1612, 188, 262, 838],
    });
    let many = confusion_matrix(&ConfusionMatrix {
        title: "Four classes",
        classes: &["amused", "neutral", "sad", "very long class name"],
        counts: &[120, 31, 8, 2, 14, 220, 9, 40, 0, 12, 90, 7, 0, 0, 0, 0],
    });

    let curve = |a: f64| -> Vec<(f64, f64)> {
        (0..=100).map(|i| f64::from(i) / 100.0).map(|x| (x, x.powf(a))).collect()
    };
    let (good, fair) = (curve(0.22), curve(0.42));
    let roc = roc(&Roc {
        title: "Pooled windows, leave one subject out",
        curves: &[
            RocCurve {
                name: "pre-trained",
                points: &good,
                auc: 0.82,
                interval: Some((0.765, 0.868)),
                operating_point: Some((0.12, 0.627)),
            },
            RocCurve {
                name: "from scratch",
                points: &fair,
                auc: 0.704,
                interval: Some((0.64, 0.763)),
                operating_point: None,
            },
        ],
        level_percent: 95.0,
    });

    let long_beats = beats(600.0, 11);
    let hr: Vec<_> = long_beats.windows(2).map(|b| (0.5 * (b[0] + b[1]), 60.0 / (b[1] - b[0]))).collect();
    let long = ecg(&long_beats, fs, 600.0, 0.02, 9);
    let predictions: Vec<_> = (0..118)
        .map(|i| {
            let t = f64::from(i) * 5.0;
            let z: f64 = if (200.0..400.0).contains(&(t + 5.0)) { 1.3 } else { -1.6 } + 0.9 * rng.normal();
            WindowPrediction { start_s: t, end_s: t + 10.0, probability: 1.0 / (1.0 + (-z).exp()) }
        })
        .filter(|w| !(100.0..125.0).contains(&w.start_s))
        .collect();
    let truth = [
        TrueSpan { start_s: 0.0, end_s: 200.0, positive: false },
        TrueSpan { start_s: 200.0, end_s: 400.0, positive: true },
        TrueSpan { start_s: 400.0, end_s: 600.0, positive: false },
    ];
    let timeline = |title, trace| {
        prediction_timeline(&PredictionTimeline {
            title,
            positive: "arithmetic",
            windows: &predictions,
            threshold: 0.5,
            trace,
            truth: &truth,
        })
    };
    let below_ecg = timeline(
        "Predictions over a recording, ECG above",
        Trace::Ecg { fs_hz: fs, start_s: 0.0, samples: &long, unit: "mV" },
    );
    let below_rate = timeline("Predictions over a recording, heart rate above", Trace::HeartRate(&hr));

    let names: Vec<String> = (0..36).map(|i| format!("Subject{i:02}")).collect();
    let mut scores = |mean: f64, spread: f64| -> Vec<(&str, f64)> {
        names
            .iter()
            .map(|n| (n.as_str(), ((mean + spread * rng.normal()).clamp(0.0, 1.0) * 24.0).round() / 24.0))
            .collect()
    };
    let (pre, scratch, heart) = (scores(0.79, 0.1), scores(0.72, 0.12), scores(0.72, 0.15));
    let subjects = subject_scores(&SubjectScores {
        title: "Balanced accuracy by subject",
        score_label: "balanced accuracy",
        groups: &[
            ScoreGroup {
                name: "pre-trained",
                scores: &pre,
                mean: 0.79,
                interval: Some((0.757, 0.823)),
                baseline: false,
            },
            ScoreGroup {
                name: "from scratch",
                scores: &scratch,
                mean: 0.72,
                interval: Some((0.68, 0.76)),
                baseline: false,
            },
            ScoreGroup {
                name: "heart rate alone",
                scores: &heart,
                mean: 0.72,
                interval: Some((0.67, 0.77)),
                baseline: true,
            },
            ScoreGroup { name: "majority class", scores: &[], mean: 0.5, interval: None, baseline: true },
        ],
        chance: Some(0.5),
        level_percent: 95.0,
    });
    let bars = method_comparison(&MethodComparison {
        title: "Area under the ROC curve by method",
        value_label: "area under the ROC curve (95 % interval)",
        bars: &[
            Bar {
                name: "heartlore, pre-trained",
                value: 0.82,
                interval: Some((0.765, 0.868)),
                highlight: true,
            },
            Bar {
                name: "heartlore, from scratch",
                value: 0.704,
                interval: Some((0.64, 0.763)),
                highlight: false,
            },
            Bar {
                name: "heart rate, logistic regression",
                value: 0.76,
                interval: Some((0.70, 0.81)),
                highlight: false,
            },
            Bar { name: "one class only", value: f64::NAN, interval: None, highlight: false },
        ],
        reference: Some((0.5, "chance")),
    });
    let roof = roofline(&Roofline {
        title: "Kernels below the roofs of this machine",
        peaks: &[Peak { name: "fp32 FMA", gflops: 117.0 }, Peak { name: "bf16 dot", gflops: 227.0 }],
        bandwidths: &[
            Bandwidth { name: "L2", gbytes_per_s: 98.0 },
            Bandwidth { name: "L3", gbytes_per_s: 80.0 },
            Bandwidth { name: "DRAM", gbytes_per_s: 27.0 },
        ],
        points: &[
            RooflinePoint { label: "linear 1281x256x1024", flop_per_byte: 95.0, gflops: 104.0 },
            RooflinePoint { label: "conv1d k=33", flop_per_byte: 60.0, gflops: 88.0 },
            RooflinePoint { label: "attention", flop_per_byte: 110.0, gflops: 71.0 },
            RooflinePoint { label: "layer norm", flop_per_byte: 0.9, gflops: 14.0 },
            RooflinePoint { label: "softmax", flop_per_byte: 1.3, gflops: 22.0 },
            RooflinePoint { label: "Adam", flop_per_byte: 0.55, gflops: 9.5 },
            RooflinePoint { label: "dropout", flop_per_byte: 0.5, gflops: 8.2 },
        ],
    });
    let quality: Vec<_> = (0..60)
        .map(|i| {
            let t = f64::from(i) * 10.0;
            let quality = if (33..37).contains(&i) { 0.1 } else { 0.8 + 0.2 * rng.unit() };
            QualitySpan { start_s: t, end_s: t + 10.0, quality }
        })
        .collect();
    let marks: Vec<_> = quality
        .iter()
        .map(|q| WindowMark { start_s: q.start_s, end_s: q.end_s, used: q.quality > 0.5 })
        .collect();
    let recording = recording_overview(&RecordingOverview {
        title: "Recording overview",
        fs_hz: fs,
        ecg: &long,
        unit: "mV",
        beats_s: &long_beats,
        quality: &quality,
        windows: &marks,
        detail: None,
    });
    let names: Vec<String> = (1..=40).map(|i| format!("P{i:02}")).collect();
    let mut people: Vec<PersonHours<'_>> = names
        .iter()
        .map(|s| {
            let dropped_h = if rng.unit() < 0.3 { 0.1 * rng.unit() } else { 0.0 };
            PersonHours { dataset: "amigos", subject: s, kept_h: 1.1 + 0.2 * rng.unit(), dropped_h }
        })
        .collect();
    people.extend(names[..10].iter().map(|s| PersonHours {
        dataset: "eegmat",
        subject: s,
        kept_h: 0.06,
        dropped_h: 0.0,
    }));
    let ratings: Vec<String> = (0..33).map(|i| (1.0 + 0.25 * f64::from(i)).to_string()).collect();
    let arousal: Vec<(&str, f64)> =
        ratings.iter().map(|r| (r.as_str(), (30.0 * rng.unit()).floor())).collect();
    let overview = dataset_overview(&DatasetOverview {
        title: "What the store holds",
        sets: &[
            SetLine { name: "amigos", text: "40 people, 788 recordings, 46.2 h; 128 Hz; arbitrary" },
            SetLine { name: "eegmat", text: "10 people, 20 recordings, 0.6 h; 500 Hz; mV" },
        ],
        people: &people,
        labels: &[
            LabelCounts { name: "arousal", values: &arousal, missing: 20.0 },
            LabelCounts {
                name: "state",
                values: &[("arithmetic", 60.0), ("rest", 180.0)],
                missing: 16_000.0,
            },
            LabelCounts { name: "emotion", values: &[], missing: 16_240.0 },
        ],
        counted: "windows",
        left_out: &[
            ("missing samples", 310.0),
            ("beats do not resemble each other", 122.0),
            ("flat line", 7.0),
        ],
        remarks: &["4 recordings could not be read."],
    });
    vec![
        ("window", window),
        ("curves", curves(true, "Pre-training, logarithmic")),
        ("curves-linear", curves(false, "Pre-training, linear")),
        ("curves-epochs", epochs),
        ("confusion", confusion),
        ("confusion-4", many),
        ("roc", roc),
        ("timeline-rate", below_rate),
        ("timeline-ecg", below_ecg),
        ("subjects", subjects),
        ("bars", bars),
        ("roofline", roof),
        ("recording", recording),
        ("dataset", overview),
    ]
}

/// A report with every kind of block.
pub(super) fn report(pictures: Vec<(&'static str, Svg)>) -> Report {
    let mut section = Section::new("Pictures").paragraph("Every plot with invented, plausible data.");
    for (name, svg) in pictures {
        section =
            section.figure(Figure::new(svg, format!("Plot \"{name}\". The caption says what to see in it.")));
    }
    Report::new("Gallery of plots")
        .subtitle("Invented data; no result of any model")
        .notice(
            NoticeKind::Simulated,
            "Simulated data",
            "The labelled recordings come from a simulator. These figures say that the program works, not that emotion can be read from a heartbeat.",
        )
        .tiles([
            Tile::new("Balanced accuracy", "0.79", "95 % CI 0.76 to 0.82, 36 subjects"),
            Tile::new("Area under ROC", "0.82", "heart rate alone: 0.76"),
            Tile::new("Macro F1", "0.77", "from scratch: 0.70"),
            Tile::new("Run time", "4 min 12 s", "2 threads, 212 MB"),
        ])
        .section(
            Section::new("Result")
                .paragraph("Leave one subject out over 36 subjects; intervals over subjects.")
                .notice(
                    NoticeKind::Warning,
                    "Window-level folds leak",
                    "Windows of one subject were in training and test. The figures below are too good.",
                )
                .notice(NoticeKind::Info, "Dropped windows", "12 of 2,912 windows failed the quality gate.")
                .table(
                    Table::new("Methods on the same folds.")
                        .column("Method", Align::Left)
                        .column("Balanced accuracy", Align::Right)
                        .column("Macro F1", Align::Right)
                        .column("AUC", Align::Right)
                        .highlighted_row(["heartlore, pre-trained", "0.79 (0.76 to 0.82)", "0.77", "0.82"])
                        .row(["heartlore, from scratch", "0.72 (0.68 to 0.76)", "0.70", "0.70"])
                        .row(["heart rate alone", "0.72 (0.67 to 0.77)", "0.69", "0.76"]),
                ),
        )
        .section(section)
        .section(Section::new("Configuration").heading("Resolved").code("[model]\npreset = \"tiny\"\nwidth = 64\n"))
        .provenance(Provenance {
            command_line: "heartlore quickstart --out runs/quickstart".into(),
            version: "heartlore 0.1.0".into(),
            seed: Some(1),
            started: "2026-01-01 12:00 UTC".into(),
            wall_s: Some(252.3),
            peak_memory_bytes: Some(212_000_000),
            data_checksums: vec![("simulated, seed 1".into(), format!("sha256 {}", "0123456789abcdef".repeat(4)))],
            extra: vec![("Threads".into(), "2".into())],
        })
}

#[test]
#[ignore = "writes target/gallery.html to be looked at"]
fn gallery() {
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(target.join("gallery")).unwrap();
    let pictures = all();
    for (name, svg) in &pictures {
        svg.save(target.join("gallery").join(format!("{name}.svg"))).unwrap();
    }
    report(pictures).save(target.join("gallery.html")).unwrap();
}
