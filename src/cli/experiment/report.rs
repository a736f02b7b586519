//! The results of an experiment as CSV, JSON and a page.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::file::File;
use super::summary::{Figures, Row, Summary};
use crate::cli::pretrain::is_simulated;
use crate::cli::rundir::provenance;
use crate::cli::{Context, simulate, windows};
use crate::data::store::Store;
use crate::error::Result;
use crate::metrics::Interval;
use crate::report::plots::{ScoreGroup, SubjectScores, subject_scores};
use crate::report::{Align, Figure, NoticeKind, Report, Section, Table};

/// One line per row of the matrix.
///
/// # Errors
/// None of its own.
pub(super) fn csv(rows: &[Row<'_>], figures: &[Option<Figures>]) -> Result<Vec<u8>> {
    let header = [
        "reading",
        "model",
        "training_people",
        "seeds",
        "failed",
        "windows",
        "people",
        "balanced_accuracy",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
        "auc",
        "auc_low",
        "auc_high",
        "auc_lowest_seed",
        "auc_highest_seed",
        "auc_within_people",
        "ece",
        "auc_difference",
        "auc_difference_low",
        "auc_difference_high",
        "p",
        "p_holm",
        "seconds",
    ];
    let lines = rows.iter().zip(figures).map(|(row, f)| {
        let mut line = vec![
            row.reading.clone(),
            row.model.clone(),
            row.people.to_string(),
            row.runs.len().to_string(),
            row.holes.len().to_string(),
        ];
        let number = |v: Option<f64>| v.filter(|v| v.is_finite()).map(|v| v.to_string()).unwrap_or_default();
        match f {
            None => line.resize(header.len(), String::new()),
            Some(f) => {
                let ends = |i: Option<Interval>| [number(i.map(|i| i.low)), number(i.map(|i| i.high))];
                line.extend([f.windows.to_string(), f.subjects.to_string(), number(Some(f.balanced.mean))]);
                line.extend(ends(f.balanced.interval));
                line.push(number(Some(f.auc.mean)));
                line.extend(ends(f.auc.interval));
                line.extend(
                    [f.auc.low_seed, f.auc.high_seed, f.auc_within.mean, f.ece].map(|v| number(Some(v))),
                );
                let d = f.difference.and_then(|d| d.auc);
                line.push(number(d.map(|d| d.estimate)));
                line.extend(ends(d));
                line.push(number(f.difference.and_then(|d| d.p)));
                line.push(number(f.difference.and_then(|d| d.p_holm)));
                line.push(format!("{:.2}", row.runs.iter().map(|o| o.seconds).sum::<f64>()));
            }
        }
        line
    });
    windows::csv_text(&header, lines)
}

/// Everything, with what was left out and chosen.
pub(super) fn json(file: &File, rows: &[Row<'_>], figures: &[Option<Figures>]) -> Value {
    let interval = |i: &Option<Interval>| i.map(|i| json!({ "low": i.low, "high": i.high }));
    let summary = |s: &Summary| json!({ "mean": s.mean, "lowest_seed": s.low_seed, "highest_seed": s.high_seed, "interval": interval(&s.interval) });
    let lines = rows.iter().zip(figures).map(|(row, f)| {
        let mut chosen: BTreeMap<&str, usize> = BTreeMap::new();
        for o in &row.runs {
            o.chosen.iter().for_each(|(name, n)| *chosen.entry(name).or_default() += n);
        }
        json!({
            "reading": row.reading, "model": row.model, "training_people": row.people,
            "seeds": row.runs.len(), "failed": row.holes,
            "left_out": row.runs.first().map(|o| &o.left_out), "embedding_penalty_chosen": chosen,
            "figures": f.as_ref().map(|f| json!({
                "windows": f.windows, "people": f.subjects,
                "balanced_accuracy": summary(&f.balanced), "auc": summary(&f.auc),
                "auc_within_people": summary(&f.auc_within), "ece": f.ece,
                "difference": f.difference.map(|d| json!({
                    "auc": d.auc.map(|i| json!({ "estimate": i.estimate, "low": i.low, "high": i.high })),
                    "balanced_accuracy": d.balanced.map(|i| json!({ "estimate": i.estimate, "low": i.low, "high": i.high })),
                    "p": d.p, "p_holm": d.p_holm,
                })),
            })),
        })
    });
    json!({ "title": file.title, "notes": file.notes, "against": file.against, "rows": lines.collect::<Vec<_>>() })
}

/// The page.
///
/// # Errors
/// None of its own.
pub(super) fn html(
    file: &File,
    rows: &[Row<'_>],
    figures: &[Option<Figures>],
    store: &Store,
    context: &Context,
) -> Result<Report> {
    let mut report = Report::new(file.title.clone()).subtitle(format!(
        "Every model in the same folds ({}); {} seeds; 95 % intervals over people",
        file.split()?,
        file.seeds.len()
    ));
    if is_simulated(store) {
        report = report.notice(NoticeKind::Simulated, "Simulated data", simulate::NOTE);
    }
    if file.split()?.leaks() {
        report = report.notice(
            NoticeKind::Warning,
            "These folds leak",
            "Windows of one recording lie on both sides: the figures say nothing about new people or recordings.",
        );
    }
    for note in &file.notes {
        report = report.notice(NoticeKind::Warning, "Note", note.clone());
    }
    for part in sections(file, rows, figures) {
        report = report.section(part);
    }
    Ok(report.provenance(provenance(context, Some(store))))
}

/// A section for every reading and number of training people, and one on the labels needed.
pub(super) fn sections(file: &File, rows: &[Row<'_>], figures: &[Option<Figures>]) -> Vec<Section> {
    let mut out = Vec::new();
    for reading in &file.readings {
        out.extend(file.people.iter().map(|&n| section(file, &reading.name, n, rows, figures)));
    }
    if file.people.len() > 1 {
        out.push(efficiency(file, rows, figures));
    }
    out
}

/// The rows of one reading and number of training people.
fn section(
    file: &File,
    reading: &str,
    people: usize,
    rows: &[Row<'_>],
    figures: &[Option<Figures>],
) -> Section {
    let title =
        if people == 0 { reading.to_string() } else { format!("{reading}, {people} training people") };
    let mut table =
        Table::new("Means over seeds; the range of the seeds' AUC beside its interval over people.")
            .column("Model", Align::Left)
            .column("Balanced accuracy", Align::Right)
            .column("AUC", Align::Right)
            .column("AUC by seed", Align::Right)
            .column("AUC within people", Align::Right)
            .column("ECE", Align::Right)
            .column(format!("AUC minus {}", file.against), Align::Right)
            .column("p (Holm)", Align::Right);
    let own: Vec<(&Row<'_>, &Option<Figures>)> =
        rows.iter().zip(figures).filter(|(r, _)| r.reading == reading && r.people == people).collect();
    let with = |v: f64, i: Option<Interval>| match i {
        Some(i) => format!("{v:.3} ({:.3} to {:.3})", i.low, i.high),
        None => format!("{v:.3}"),
    };
    for (row, f) in &own {
        table = match f {
            None => {
                let why = row.holes.first().and_then(|h| h.lines().next()).unwrap_or("").to_string();
                table.row(
                    [row.model.clone(), format!("failed: {why}")].into_iter().chain(vec![String::new(); 6]),
                )
            }
            Some(f) => {
                let d = f.difference;
                let auc = d.and_then(|d| d.auc);
                table.row([
                    row.model.clone(),
                    with(f.balanced.mean, f.balanced.interval),
                    with(f.auc.mean, f.auc.interval),
                    format!("{:.3} to {:.3}", f.auc.low_seed, f.auc.high_seed),
                    format!("{:.3}", f.auc_within.mean),
                    format!("{:.3}", f.ece),
                    auc.map_or(String::new(), |i| {
                        format!("{:+.3} ({:+.3} to {:+.3})", i.estimate, i.low, i.high)
                    }),
                    d.and_then(|d| d.p_holm).map_or(String::new(), |p| format!("{p:.3}")),
                ])
            }
        };
    }
    let mut section = Section::new(title).table(table);
    let groups: Vec<ScoreGroup<'_>> = own
        .iter()
        .filter_map(|(row, f)| {
            let i = f.as_ref()?.difference?.auc?;
            Some(ScoreGroup {
                name: &row.model,
                scores: &[],
                mean: i.estimate,
                interval: Some((i.low, i.high)),
                baseline: false,
            })
        })
        .collect();
    if !groups.is_empty() {
        let title = format!("AUC minus that of '{}', {reading}", file.against);
        let svg = subject_scores(&SubjectScores {
            title: &title,
            score_label: "difference of AUC; right of the line is better",
            groups: &groups,
            chance: Some(0.0),
            level_percent: 95.0,
        });
        section = section.figure(Figure::new(
            svg,
            "Differences in the same windows, with intervals over people. An interval that holds 0 is a tie.",
        ));
    }
    for line in own.iter().filter_map(|(r, _)| r.runs.first()).take(1).flat_map(|o| &o.left_out) {
        section = section.paragraph(format!("{line}."));
    }
    section
}

/// AUC by the number of training people.
fn efficiency(file: &File, rows: &[Row<'_>], figures: &[Option<Figures>]) -> Section {
    let mut section = Section::new("Labels needed").paragraph(
        "AUC by the number of people whose labels were trained on, drawn by the seed, people with both states first; 0 is all.",
    );
    for reading in &file.readings {
        let mut table =
            Table::new(format!("{}: mean AUC over seeds.", reading.name)).column("Model", Align::Left);
        for n in &file.people {
            table = table.column(if *n == 0 { "all".to_string() } else { n.to_string() }, Align::Right);
        }
        for model in &file.models {
            let mut line = vec![model.name.clone()];
            for n in &file.people {
                let at = rows
                    .iter()
                    .position(|r| r.reading == reading.name && r.model == model.name && r.people == *n);
                let f = at.and_then(|i| figures[i].as_ref());
                line.push(f.map_or("-".into(), |f| {
                    format!("{:.3} ({:.3} to {:.3})", f.auc.mean, f.auc.low_seed, f.auc.high_seed)
                }));
            }
            table = table.row(line);
        }
        section = section.table(table);
    }
    section
}
