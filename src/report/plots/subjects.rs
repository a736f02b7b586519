//! Scores of every subject, for each method, beside baselines.

use super::{Interval, finite};
use crate::report::chart::{Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::{extent, padded, short};
use crate::report::style::fill;
use crate::report::svg::{Anchor, Canvas, Svg, bold_width, fit, num as n};

/// One method's scores.
#[derive(Clone, Copy, Debug)]
pub struct ScoreGroup<'a> {
    /// Name of the method.
    pub name: &'a str,
    /// `(subject, score)`; may be empty for a baseline of which only the mean is known.
    pub scores: &'a [(&'a str, f64)],
    /// Mean over subjects.
    pub mean: f64,
    /// Interval of the mean.
    pub interval: Option<Interval>,
    /// A baseline is drawn in grey.
    pub baseline: bool,
}

/// Input of [`subject_scores`].
#[derive(Clone, Copy, Debug)]
pub struct SubjectScores<'a> {
    /// Title.
    pub title: &'a str,
    /// What the score is, with unit: "balanced accuracy".
    pub score_label: &'a str,
    /// The methods, drawn from top to bottom.
    pub groups: &'a [ScoreGroup<'a>],
    /// Score of guessing.
    pub chance: Option<f64>,
    /// Level of the intervals in percent, for the text: 95.
    pub level_percent: f64,
}

/// A row per method: a dot per subject (name and score on hover), the mean as a diamond, its interval as a bar.
///
/// Equal scores are stacked beside each other so that none hides another.
pub fn subject_scores(p: &SubjectScores<'_>) -> Svg {
    let mut remarks = Vec::new();
    let bad = p.groups.iter().flat_map(|g| g.scores).filter(|s| !s.1.is_finite()).count();
    note_non_finite(&mut remarks, bad, "score");
    let row = 74.0;
    let rows = row * p.groups.len().max(1) as f64;
    let top = 66.0;
    let names = p.groups.iter().map(|g| bold_width(g.name, 13.0)).fold(60.0, f64::max).min(240.0);
    let means: Vec<String> = p.groups.iter().map(|g| format!("{} {}", g.name, short(g.mean, 3))).collect();
    let desc = format!("{} per subject; means: {}.", p.score_label, means.join(", "));
    let mut c = Canvas::new(WIDE, top + rows + 54.0 + notes_height(&remarks), p.title, &desc);
    let bar = format!("mean, {:.0} % interval", p.level_percent);
    let mut legend = vec![(Key::Dot, "f1 half", "one subject"), (Key::Line, "ink", bar.as_str())];
    if p.chance.is_some() {
        legend.push((Key::Dash, "", "chance"));
    }
    header(&mut c, p.title, &legend);
    let (left, text_room) = (names + 30.0, 172.0);
    let values = p.groups.iter().flat_map(|g| {
        let (a, b) = finite(g.interval).unwrap_or((g.mean, g.mean));
        g.scores.iter().map(|s| s.1).chain([g.mean, a, b])
    });
    let Some(range) = extent(values.chain(p.chance)) else {
        empty(&mut c, 16.0, top, WIDE - 32.0, rows, "No finite score to draw.");
        notes(&mut c, &remarks);
        return c.finish();
    };
    let panel = Panel::new(left, top, WIDE - left - text_room, rows, padded(range, 0.04), (0.0, 1.0));
    let ticks = panel.x.ticks(panel.x_tick_count().min(8));
    panel.x_grid(&mut c, &ticks);
    if let Some(x) = p.chance.and_then(|v| panel.x.px(v)) {
        c.line("ref", x, top, x, panel.bottom());
    }
    panel.x_axis(&mut c, p.score_label, &ticks);
    for (i, g) in p.groups.iter().enumerate() {
        let y = top + row * (i as f64 + 0.5);
        c.text("strong", left - 14.0, y + 4.0, Anchor::End, &fit(g.name, 13.0 * 1.12, names + 1.0));
        let colour = if g.baseline { "mute" } else { fill(i) };
        for (x, dy, subject, score) in swarm(g.scores, &panel, 3.9, row / 2.0 - 6.0) {
            c.circle(
                &format!("{colour} dot half"),
                x,
                y + dy,
                3.9,
                &format!("{subject}: {}", short(score, 3)),
            );
        }
        if let Some((a, b)) = finite(g.interval) {
            let (a, b) = (panel.x.px_in(a), panel.x.px_in(b));
            c.path("ink bold", &format!("M{} {}H{}", n(a), n(y), n(b)));
            c.path("ink bold", &format!("M{} {}v10M{} {}v10", n(a), n(y - 5.0), n(b), n(y - 5.0)));
        }
        if let Some(x) = panel.x.px(g.mean) {
            c.path("inkf", &format!("M{} {}l6 6.5l-6 6.5l-6 -6.5Z", n(x), n(y - 6.5)));
        }
        let x = panel.right() + 16.0;
        c.text("strong", x, y - 2.0, Anchor::Start, &short(g.mean, 3));
        let detail = match finite(g.interval) {
            Some((a, b)) => format!("{} to {}", short(a, 3), short(b, 3)),
            None => "no interval".into(),
        };
        let count = g.scores.iter().filter(|s| s.1.is_finite()).count();
        let count = if count > 0 { format!(" \u{b7} n = {count}") } else { String::new() };
        c.text("tick", x, y + 14.0, Anchor::Start, &fit(&format!("{detail}{count}"), 11.5, text_room - 20.0));
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// Places dots of `radius` at their score, moved up or down by the smallest step that avoids an earlier dot, at most
/// by `reach`. Returns x, dy, subject, score.
fn swarm<'a>(
    scores: &[(&'a str, f64)],
    panel: &Panel,
    radius: f64,
    reach: f64,
) -> Vec<(f64, f64, &'a str, f64)> {
    let mut sorted: Vec<(&str, f64)> = scores.iter().copied().filter(|s| s.1.is_finite()).collect();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let step = radius;
    let levels = (reach / step) as i32;
    let mut placed: Vec<(f64, f64, &str, f64)> = Vec::with_capacity(sorted.len());
    for (subject, score) in sorted {
        let x = panel.x.px_in(score);
        // Ascending x: only the most recent dots can touch this one.
        let near: Vec<(f64, f64)> = placed
            .iter()
            .rev()
            .take(64)
            .filter(|q| (q.0 - x).abs() < 2.0 * radius)
            .map(|q| (q.0, q.1))
            .collect();
        let free = |dy: f64| near.iter().all(|q| (q.0 - x).hypot(q.1 - dy) >= 1.9 * radius);
        let dy = (0..=2 * levels)
            .map(|k| f64::from((k + 1) / 2) * if k % 2 == 0 { -step } else { step })
            .find(|dy| free(*dy))
            .unwrap_or(f64::from(placed.len() as i32 % (2 * levels + 1) - levels) * step);
        placed.push((x, dy, subject, score));
    }
    placed
}
