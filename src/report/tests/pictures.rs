//! Every plot and the page: well-formed, escaped, steady, and sensible on degenerate input.

use super::gallery::{self, Noise};
use super::markup::check;
use crate::report::plots::*;
use crate::report::*;

const HOSTILE: &str = "</title></style><script>alert('x')</script> \"&' \u{0}\u{1b}]]> <!-- \u{202e}";

#[test]
fn gallery_is_well_formed_and_the_same_twice() {
    let (a, b) = (gallery::all(), gallery::all());
    assert_eq!(a.len(), 14);
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert_eq!(x, y, "{name} differs between two calls");
        let tags = check(x.as_str()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(&tags[..4], ["svg", "title", "desc", "style"], "{name}");
        assert!(x.as_str().len() < 150_000, "{name} is {} bytes", x.as_str().len());
    }
    let page = gallery::report(a).render();
    assert_eq!(page, gallery::report(b).render());
    let tags = check(&page).unwrap();
    for wanted in [
        "html",
        "head",
        "title",
        "main",
        "nav",
        "section",
        "figure",
        "figcaption",
        "table",
        "caption",
        "footer",
    ] {
        assert!(tags.iter().any(|t| t == wanted), "no <{wanted}>");
    }
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    for outside in ["src=", "url(", "@import", "<script", "<link", "href=\"http"] {
        assert!(!page.contains(outside), "{outside} would load something from outside");
    }
}

#[test]
fn hostile_text_stays_text() {
    let h = HOSTILE;
    let page = Report::new(h)
        .subtitle(h)
        .notice(NoticeKind::Warning, h, h)
        .tiles([Tile::new(h, h, h)])
        .section(
            Section::new(h)
                .heading(h)
                .paragraph(h)
                .notice(NoticeKind::Info, h, h)
                .code(h)
                .table(Table::new(h).column(h, Align::Left).row([h, h, h]).row(Vec::<String>::new()))
                .figure(Figure::new(degenerate(h, &[], &[]).remove(0), h)),
        )
        .provenance(Provenance {
            command_line: h.into(),
            version: h.into(),
            started: h.into(),
            data_checksums: vec![(h.into(), h.into())],
            extra: vec![(h.into(), h.into())],
            wall_s: Some(f64::NAN),
            ..Provenance::default()
        })
        .render();
    check(&page).unwrap();
    assert!(!page.contains("<script"));
    for svg in degenerate(h, &[(h, 0.5)], &[1.0, 2.0]) {
        check(svg.as_str()).unwrap();
        assert!(!svg.as_str().contains("<script"));
    }
    check(&Report::new("").render()).unwrap();
    check(&Report::new("t").section(Section::new("").table(Table::new("")).tiles([])).render()).unwrap();
}

/// Every plot fed with `values` wherever it takes numbers.
fn degenerate(text: &str, scores: &[(&str, f64)], values: &[f64]) -> Vec<Svg> {
    let v = |i: usize| if values.is_empty() { f64::NAN } else { values[i % values.len()] };
    let f32s: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    let pairs: Vec<(f64, f64)> = (0..values.len()).map(|i| (v(i), v(i + 1))).collect();
    let masked: Vec<bool> = (0..values.len()).map(|i| i % 2 == 0).collect();
    let windows: Vec<_> = (0..values.len())
        .map(|i| WindowPrediction { start_s: v(i), end_s: v(i + 1), probability: v(i + 2) })
        .collect();
    let truth: Vec<_> =
        (0..values.len()).map(|i| TrueSpan { start_s: v(i), end_s: v(i + 1), positive: true }).collect();
    let quality: Vec<_> =
        (0..values.len()).map(|i| QualitySpan { start_s: v(i), end_s: v(i + 1), quality: v(i) }).collect();
    let marks: Vec<_> =
        (0..values.len()).map(|i| WindowMark { start_s: v(i), end_s: v(i + 1), used: false }).collect();
    let interval = Some((v(1), v(0)));
    let mut out = vec![];
    for fs_hz in [128.0, v(0)] {
        out.push(ecg_reconstruction(&EcgReconstruction {
            title: text,
            fs_hz,
            start_s: 0.0,
            ecg: &f32s,
            reconstruction: &f32s,
            masked: &masked,
            unit: text,
        }));
        out.push(recording_overview(&RecordingOverview {
            title: text,
            fs_hz,
            ecg: &f32s,
            unit: text,
            beats_s: values,
            quality: &quality,
            windows: &marks,
            detail: interval,
        }));
        for trace in [
            Trace::None,
            Trace::HeartRate(&pairs),
            Trace::Ecg { fs_hz, start_s: v(0), samples: &f32s, unit: text },
        ] {
            out.push(prediction_timeline(&PredictionTimeline {
                title: text,
                positive: text,
                windows: &windows,
                threshold: v(0),
                trace,
                truth: &truth,
            }));
        }
    }
    for log_y in [false, true] {
        out.push(training_curves(&TrainingCurves {
            title: text,
            x_label: text,
            y_label: text,
            train: &pairs,
            validation: &pairs,
            learning_rate: &pairs,
            best: Some(v(0)),
            log_y,
        }));
    }
    out.push(confusion_matrix(&ConfusionMatrix { title: text, classes: &[text], counts: &[0] }));
    out.push(confusion_matrix(&ConfusionMatrix {
        title: text,
        classes: &[text, "b"],
        counts: &[u64::MAX, u64::MAX, 0, 0],
    }));
    out.push(confusion_matrix(&ConfusionMatrix { title: text, classes: &[text], counts: &[1, 2] }));
    out.push(confusion_matrix(&ConfusionMatrix { title: text, classes: &[], counts: &[] }));
    let curve =
        RocCurve { name: text, points: &pairs, auc: v(0), interval, operating_point: Some((v(0), v(1))) };
    for n in [0, 1, 9] {
        out.push(roc(&Roc { title: text, curves: &vec![curve; n], level_percent: v(0) }));
    }
    let group = ScoreGroup { name: text, scores, mean: v(0), interval, baseline: false };
    for n in [0, 1, 3] {
        out.push(subject_scores(&SubjectScores {
            title: text,
            score_label: text,
            groups: &vec![group; n],
            chance: Some(v(0)),
            level_percent: 95.0,
        }));
    }
    for n in [0, 1, 3] {
        let bar = Bar { name: text, value: v(0), interval, highlight: true };
        out.push(method_comparison(&MethodComparison {
            title: text,
            value_label: text,
            bars: &vec![bar; n],
            reference: Some((v(1), text)),
        }));
        out.push(roofline(&Roofline {
            title: text,
            peaks: &vec![Peak { name: text, gflops: v(0) }; n],
            bandwidths: &vec![Bandwidth { name: text, gbytes_per_s: v(1) }; n],
            points: &vec![RooflinePoint { label: text, flop_per_byte: v(1), gflops: v(0) }; n],
        }));
    }
    let people: Vec<_> = (0..values.len())
        .map(|i| PersonHours { dataset: text, subject: text, kept_h: v(i), dropped_h: v(i + 1) })
        .collect();
    let counts: Vec<(&str, f64)> = values.iter().map(|v| (text, *v)).collect();
    let label = LabelCounts { name: text, values: &counts, missing: v(0) };
    for n in [0, 1, 20] {
        out.push(dataset_overview(&DatasetOverview {
            title: text,
            sets: &vec![SetLine { name: text, text }; n],
            people: &people.repeat(n),
            labels: &vec![label; n],
            counted: text,
            left_out: &counts.repeat(n),
            remarks: &vec![text; n],
        }));
    }
    out
}

#[test]
fn degenerate_input_gives_sound_pictures() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let series: [&[f64]; 13] = [
        &[],
        &[nan],
        &[nan, nan, inf, -inf],
        &[0.0],
        &[0.5],
        &[-3.0; 7],
        &[0.0, 1.0],
        &[1.0, nan, 2.0, inf, 3.0],
        &[1e308, -1e308],
        &[1e-320, 1e-310],
        &[1e15, 1e15 + 0.125],
        &[5.0, 4.0, 3.0, 2.0],
        &[86400.0, 1e9, 3.0],
    ];
    for values in series {
        let scores: Vec<(&str, f64)> = values.iter().map(|v| ("s", *v)).collect();
        for (i, svg) in degenerate("title", &scores, values).iter().enumerate() {
            if let Err(e) = check(svg.as_str()) {
                panic!("picture {i} of {values:?}: {e}");
            }
        }
    }
    // And anything between.
    let mut rng = Noise(1);
    for _ in 0..200 {
        let n = (rng.unit() * 9.0) as usize;
        let values: Vec<f64> = (0..n).map(|_| rng.normal() * 10f64.powf(rng.normal() * 40.0)).collect();
        for (i, svg) in degenerate("title", &[], &values).iter().enumerate() {
            if let Err(e) = check(svg.as_str()) {
                panic!("picture {i} of {values:?}: {e}");
            }
        }
    }
}

#[test]
fn what_is_not_drawn_is_said() {
    let says = |svg: Svg, text: &str| assert!(svg.as_str().contains(text), "{text:?} not in {svg}");
    let ecg = |ecg: &[f32], masked: &[bool]| {
        let p = EcgReconstruction {
            title: "t",
            fs_hz: 2.0,
            start_s: 0.0,
            ecg,
            reconstruction: &[1.0, 2.0, 5.0],
            masked,
            unit: "mV",
        };
        ecg_reconstruction(&p)
    };
    says(ecg(&[], &[]), "No finite ECG sample");
    says(ecg(&[0.0, f32::NAN, 1.0], &[false; 3]), "1 non-finite ECG value not drawn.");
    says(ecg(&[0.0, 0.0, 1.0], &[true]), "Lengths differ: 3 samples, 1 mask values, 3 reconstructed");
    // (1 - 0)^2 and (5 - 1)^2 over two masked samples.
    says(
        ecg(&[0.0, 0.0, 1.0], &[true, false, true]),
        "2 of 3 samples masked (66.7 %); mean squared error over them 8.50 (mV)",
    );
    let overview = DatasetOverview {
        title: "t",
        sets: &[SetLine { name: "a", text: "2 people, 3 h" }],
        people: &[
            PersonHours { dataset: "a", subject: "P1", kept_h: 2.0, dropped_h: 0.5 },
            PersonHours { dataset: "a", subject: "P2", kept_h: f64::NAN, dropped_h: 0.0 },
        ],
        labels: &[LabelCounts { name: "calm", values: &[("no", 7.0), ("yes", 3.0)], missing: 2.0 }],
        counted: "windows",
        left_out: &[("flat line", 12.0)],
        remarks: &[],
    };
    for words in [
        "2 people, 2.00 h kept, 0.500 h dropped. a: 2 people, 3 h",
        "1 non-finite duration value not drawn",
        "windows by value, 2 without",
        ">flat line</text>",
        ">12</text>",
        "a: 2 people",
    ] {
        says(dataset_overview(&overview), words);
    }
    let one_class = RocCurve { name: "m", points: &[], auc: f64::NAN, interval: None, operating_point: None };
    says(roc(&Roc { title: "t", curves: &[one_class], level_percent: 95.0 }), "AUC undefined");
    let c = ConfusionMatrix { title: "t", classes: &["a", "b"], counts: &[3, 1, 0, 0] };
    says(confusion_matrix(&c), "No example of class &quot;b&quot;");
    says(confusion_matrix(&c), "75.0 %");
    let negative = TrainingCurves {
        title: "t",
        x_label: "step",
        y_label: "loss",
        train: &[(0.0, -1.0), (1.0, -2.0)],
        validation: &[],
        learning_rate: &[],
        best: None,
        log_y: true,
    };
    says(training_curves(&negative), "linear axis instead of logarithmic");
}

#[test]
fn the_reconstruction_is_drawn_over_masked_samples_only() {
    let masked: Vec<bool> = (0..100).map(|i| (40..60).contains(&i)).collect();
    let svg = ecg_reconstruction(&EcgReconstruction {
        title: "t",
        fs_hz: 100.0,
        start_s: 0.0,
        ecg: &[0.0; 100],
        reconstruction: &[1.0; 100],
        masked: &masked,
        unit: "mV",
    });
    let path = svg.as_str().split("<path class=\"s2 bold\" d=\"").nth(2).unwrap().split('"').next().unwrap();
    let xs: Vec<f64> =
        path.split(['M', 'L']).skip(1).map(|p| p.split(' ').next().unwrap().parse().unwrap()).collect();
    let (left, right) = (66.0, 860.0);
    let at = |i: f64| left + (right - left) * i / 99.0;
    assert_eq!(xs.len(), 20);
    assert!((xs[0] - at(40.0)).abs() < 0.01 && (xs[19] - at(59.0)).abs() < 0.01, "{xs:?}");
}
