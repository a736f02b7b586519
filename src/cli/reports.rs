//! Sections of reports that several commands write.

use crate::cli::rundir::Curves;
use crate::data::source::WindowSource;
use crate::data::store::Store;
use crate::error::Result;
use crate::evaluate::{Evaluation, Method, Metric, Scope, Weight, statements};
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

/// Results beside baselines: table, bars, confusion, ROC, people.
pub fn evaluation(judged: &Evaluation) -> Section {
    let mut section = Section::new("Evaluation").paragraph(format!(
        "{} Protocol: {}. {}",
        judged.header(),
        judged.protocol,
        statements::interval_words(judged.level, judged.has_intervals())
    ));
    for mark in &judged.marks {
        section = section.notice(NoticeKind::Warning, &mark.short, &mark.sentence);
    }
    for warning in judged.sentences(Weight::Warning) {
        section = section.notice(NoticeKind::Warning, "These figures are in doubt", warning);
    }
    for note in judged.sentences(Weight::Note) {
        section = section.notice(NoticeKind::Info, "Note", note);
    }
    section = section.table(scores(judged));
    for line in judged.sentences(Weight::Result) {
        section = section.paragraph(line);
    }
    section = section.table(pooled(judged));
    section = section.figure(bars(judged));
    if let Some(m) = judged.methods.first() {
        let classes = [judged.negative.as_str(), judged.positive.as_str()];
        section = section.figure(Figure::new(
            confusion_matrix(&ConfusionMatrix {
                title: &judged.marked("Confusion matrix of the model"),
                classes: &classes,
                counts: &m.confusion,
            }),
            "All test windows by true and predicted state; shading by the share of the true state.",
        ));
    }
    let section = roc_figure(judged).into_iter().fold(section, Section::figure);
    people(judged).into_iter().fold(section, Section::figure)
}

/// Every score of every method.
fn scores(judged: &Evaluation) -> Table {
    let caption = format!(
        "Balanced accuracy, AUC and average precision: {}. The others: {}.",
        statements::scope_words(judged.scope),
        statements::scope_words(Some(Scope::Pooled))
    );
    let mut table = Table::new(judged.marked(&caption)).column("method", Align::Left);
    for metric in Metric::ALL {
        table = table.column(metric.name(), Align::Right);
    }
    for m in &judged.methods {
        let mut cells = vec![judged.marked(&m.name)];
        cells.extend(m.scores.iter().map(|s| statements::score_text(s.estimate, s.interval.as_ref(), 3)));
        table = if m.baseline { table.row(cells) } else { table.highlighted_row(cells) };
    }
    table
}

/// The scores that compare the states, over all test windows together.
fn pooled(judged: &Evaluation) -> Table {
    let caption = "Pooled over folds, for comparison with figures published in this way: outputs of different models are \
                   ranked against each other, and a method that says the same of every window of a fold can fall below \
                   one half.";
    let metrics = Metric::ALL.into_iter().filter(|m| m.compares_states());
    let mut table = Table::new(judged.marked(caption)).column("method", Align::Left);
    for metric in metrics.clone() {
        table = table.column(format!("{}, pooled", metric.name()), Align::Right);
    }
    for m in &judged.methods {
        let mut cells = vec![judged.marked(&m.name)];
        let values = metrics.clone().filter_map(|metric| m.score(metric));
        cells.extend(values.map(|s| s.pooled.map_or("undefined".into(), |v| format!("{v:.3}"))));
        table = table.row(cells);
    }
    table
}

fn ends(i: Option<crate::metrics::Interval>) -> Option<(f64, f64)> {
    i.map(|i| (i.low, i.high))
}

fn bars(judged: &Evaluation) -> Figure {
    let bars: Vec<Bar<'_>> = judged
        .methods
        .iter()
        .map(|m| {
            let score = m.score(Metric::BalancedAccuracy);
            Bar {
                name: &m.name,
                value: score.and_then(|s| s.estimate).unwrap_or(f64::NAN),
                interval: ends(score.and_then(|s| s.interval)),
                highlight: !m.baseline,
            }
        })
        .collect();
    Figure::new(
        method_comparison(&MethodComparison {
            title: &judged.marked("Balanced accuracy"),
            value_label: "balanced accuracy, higher is better",
            bars: &bars,
            reference: Some((0.5, "chance")),
        }),
        "The mean of the two classes' recalls, so that guessing the larger class gives one half.",
    )
}

/// None where no method has a curve.
fn roc_figure(judged: &Evaluation) -> Option<Figure> {
    let curves: Vec<RocCurve<'_>> = judged
        .methods
        .iter()
        .filter(|m| !m.roc.is_empty())
        .map(|m| {
            let score = m.score(Metric::Auc);
            RocCurve {
                name: &m.name,
                points: &m.roc,
                auc: score.and_then(|s| s.estimate).unwrap_or(f64::NAN),
                interval: ends(score.and_then(|s| s.interval)),
                operating_point: m.operating_point,
            }
        })
        .collect();
    (!curves.is_empty()).then(|| {
        Figure::new(
            roc(&Roc { title: &judged.marked("ROC"), curves: &curves, level_percent: 100.0 * judged.level }),
            format!("The mean curve, {}.", statements::scope_words(judged.scope)),
        )
    })
}

/// None where nobody has windows of both states in one fold.
fn people(judged: &Evaluation) -> Option<Figure> {
    let scores: Vec<Vec<(&str, f64)>> =
        judged.methods.iter().map(|m| m.by_subject.iter().map(|(s, v)| (s.as_str(), *v)).collect()).collect();
    let groups: Vec<ScoreGroup<'_>> = judged
        .methods
        .iter()
        .zip(&scores)
        .filter(|(_, s)| !s.is_empty())
        .map(|(m, s): (&Method, _)| ScoreGroup {
            name: &m.name,
            scores: s,
            mean: s.iter().map(|(_, v)| v).sum::<f64>() / s.len() as f64,
            interval: None,
            baseline: m.baseline,
        })
        .collect();
    (!groups.is_empty()).then(|| {
        Figure::new(
            subject_scores(&SubjectScores {
                title: &judged.marked("Person by person"),
                score_label: "balanced accuracy",
                groups: &groups,
                chance: Some(0.5),
                level_percent: 100.0 * judged.level,
            }),
            "One dot per person who has windows of both states in one fold.",
        )
    })
}
