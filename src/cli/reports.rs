//! Sections of reports that several commands write.

use crate::cli::rundir::Curves;
use crate::data::source::WindowSource;
use crate::data::store::Store;
use crate::error::Result;
use crate::evaluate::{Evaluation, METRICS, Method};
use crate::model::Model;
use crate::nn::{self, Key};
use crate::report::plots::{
    Bar, ConfusionMatrix, EcgReconstruction, MethodComparison, Roc, RocCurve, ScoreGroup, SubjectScores,
    TrainingCurves, confusion_matrix, ecg_reconstruction, method_comparison, roc, subject_scores,
    training_curves,
};
use crate::report::{Align, Figure, NoticeKind, Section, Table};

/// Up to three windows with masked spans and what the model put there.
///
/// # Errors
/// The store cannot be read, or the model does not fit.
pub fn reconstructions(
    model: &Model,
    store: &Store,
    rows: &[usize],
    unseen: bool,
    seed: u64,
) -> Result<Section> {
    let c = model.config();
    let mut section = Section::new("Masked spans and their reconstruction").paragraph(if unseen {
        "Windows of people that were not trained on. Shaded points were hidden from the model."
    } else {
        "Windows of the training part, under new masks. Shaded points were hidden from the model."
    });
    let n = rows.len().min(3);
    for i in 0..n {
        let row = rows[(2 * i + 1) * rows.len() / (2 * n)];
        let mut window = vec![0.0f32; store.samples()];
        store.read(row, &mut window)?;
        let mut masked = vec![false; window.len()];
        nn::spans(
            &c.mask,
            Key { seed, step: u64::MAX - 1, sample: row as u32, op: 0 },
            c.window,
            &mut masked,
        );
        let reconstruction = model.reconstruct(&window, &masked)?;
        let index = store.index();
        let title = format!("{}, {:.0} s into {}", index.subject(row), index.start_s(row), index.record(row));
        section = section.figure(Figure::new(
            ecg_reconstruction(&EcgReconstruction {
                title: &title,
                fs_hz: store.manifest().processing.rate_hz,
                start_s: index.start_s(row),
                ecg: &window,
                reconstruction: &reconstruction,
                masked: &masked,
                unit: &store.manifest().unit,
            }),
            "The model saw the curve outside the shaded spans only.",
        ));
    }
    Ok(section)
}

/// Loss curves; at most six folds are drawn.
pub fn training(title: &str, y_label: &str, folds: &[Curves], best: Option<u64>) -> Section {
    let mut section = Section::new(title);
    if folds.len() > 6 {
        section =
            section.paragraph(format!("The first six of {} folds; metrics.csv has them all.", folds.len()));
    }
    for (i, c) in folds.iter().take(6).enumerate() {
        let name = if folds.len() > 1 { format!("Fold {}", i + 1) } else { "Loss by epoch".to_string() };
        section = section.figure(Figure::new(
            training_curves(&TrainingCurves {
                title: &name,
                x_label: "epoch",
                y_label,
                train: &c.train,
                validation: &c.validation,
                learning_rate: &c.learning_rate,
                best: best.filter(|_| !c.validation.is_empty()).map(|b| (b + 1) as f64),
                log_y: false,
            }),
            "Mean over each epoch's steps.",
        ));
    }
    section
}

fn interval_text(i: Option<&crate::metrics::Interval>) -> String {
    i.map_or("undefined".into(), |i| format!("{:.3} ({:.3} to {:.3})", i.estimate, i.low, i.high))
}

/// Results beside baselines: table, bars, confusion, ROC, people.
pub fn evaluation(judged: &Evaluation) -> Section {
    let percent = judged.level * 100.0;
    let mut section = Section::new("Evaluation").paragraph(format!(
        "{} test windows of {} people, {} of them '{}'. Protocol: {}. Intervals are {percent:.0} % by bootstrap over people ({} resamples).",
        judged.windows, judged.subjects, judged.positives, judged.positive, judged.protocol, judged.resamples
    ));
    if judged.leaks {
        section = section.notice(
            NoticeKind::Warning,
            "These folds leak",
            "Windows of one recording lie on both sides of each split: the figures are no measure of generalisation.",
        );
    }
    for mark in &judged.marks {
        section = section.notice(NoticeKind::Warning, &mark.short, &mark.sentence);
    }
    for warning in &judged.warnings {
        section = section.notice(NoticeKind::Warning, "These figures may be too high", warning);
    }
    for note in &judged.notes {
        section = section.notice(NoticeKind::Info, "Note", note);
    }
    let mut table = Table::new(judged.marked("Scores over all test windows, with intervals over people."))
        .column("method", Align::Left);
    for name in METRICS {
        table = table.column(name, Align::Right);
    }
    for m in &judged.methods {
        let mut cells = vec![m.name.clone()];
        cells.extend(m.intervals.iter().map(|i| interval_text(i.as_ref())));
        table = if m.baseline { table.row(cells) } else { table.highlighted_row(cells) };
    }
    section = section.table(table);
    for line in &judged.comparisons {
        section = section.paragraph(judged.marked(line));
    }
    let ba = |m: &Method| m.intervals[0];
    let bars: Vec<Bar<'_>> = judged
        .methods
        .iter()
        .map(|m| Bar {
            name: &m.name,
            value: ba(m).map_or(f64::NAN, |i| i.estimate),
            interval: ba(m).map(|i| (i.low, i.high)),
            highlight: !m.baseline,
        })
        .collect();
    section = section.figure(Figure::new(
        method_comparison(&MethodComparison {
            title: "Balanced accuracy",
            value_label: "balanced accuracy, higher is better",
            bars: &bars,
            reference: Some((0.5, "chance")),
        }),
        judged.marked(
            "The mean of the two classes' recalls, so that guessing the larger class gives one half.",
        ),
    ));
    if let Some(m) = judged.methods.first() {
        let classes = [judged.negative.as_str(), judged.positive.as_str()];
        section = section.figure(Figure::new(
            confusion_matrix(&ConfusionMatrix {
                title: "Confusion matrix of the model",
                classes: &classes,
                counts: &m.confusion,
            }),
            judged.marked("Windows by true and predicted state; shading by the share of the true state."),
        ));
    }
    let curves: Vec<RocCurve<'_>> = judged
        .methods
        .iter()
        .filter(|m| !m.roc.is_empty())
        .map(|m| RocCurve {
            name: &m.name,
            points: &m.roc,
            auc: m.intervals[2].map_or(f64::NAN, |i| i.estimate),
            interval: m.intervals[2].map(|i| (i.low, i.high)),
            operating_point: m.operating_point,
        })
        .collect();
    section = section.figure(Figure::new(
        roc(&Roc { title: "ROC", curves: &curves, level_percent: percent }),
        judged.marked("Test windows of all folds together."),
    ));
    let scores: Vec<Vec<(&str, f64)>> =
        judged.methods.iter().map(|m| m.by_subject.iter().map(|(s, v)| (s.as_str(), *v)).collect()).collect();
    let groups: Vec<ScoreGroup<'_>> = judged
        .methods
        .iter()
        .zip(&scores)
        .filter(|(_, s)| !s.is_empty())
        .map(|(m, s)| ScoreGroup {
            name: &m.name,
            scores: s,
            mean: s.iter().map(|(_, v)| v).sum::<f64>() / s.len() as f64,
            interval: None,
            baseline: m.baseline,
        })
        .collect();
    if !groups.is_empty() {
        section = section.figure(Figure::new(
            subject_scores(&SubjectScores {
                title: "Person by person",
                score_label: "balanced accuracy",
                groups: &groups,
                chance: Some(0.5),
                level_percent: percent,
            }),
            judged.marked("One dot per person who has windows of both states."),
        ));
    }
    section
}
