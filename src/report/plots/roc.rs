//! Receiver operating characteristic.

use super::{Interval, finite};
use crate::report::chart::{Panel, header, note_non_finite, notes, notes_height};
use crate::report::style::{fill, stroke};
use crate::report::svg::{Anchor, Canvas, Svg, fit};

/// One curve of [`roc`].
#[derive(Clone, Copy, Debug)]
pub struct RocCurve<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// `(false positive rate, true positive rate)`, ascending, both in 0..=1.
    pub points: &'a [(f64, f64)],
    /// Area under the curve.
    pub auc: f64,
    /// Interval of the area.
    pub interval: Option<Interval>,
    /// Operating point `(false positive rate, true positive rate)` at the threshold in use.
    pub operating_point: Option<(f64, f64)>,
}

/// Input of [`roc`].
#[derive(Clone, Copy, Debug)]
pub struct Roc<'a> {
    /// Title.
    pub title: &'a str,
    /// The curves, the most important first; at most six are drawn.
    pub curves: &'a [RocCurve<'a>],
    /// Level of the intervals in percent, for the text: 95.
    pub level_percent: f64,
}

/// ROC curves with their areas and intervals, and the diagonal of chance.
///
/// A curve without points or with a NaN area (one class only) is named as undefined.
pub fn roc(p: &Roc<'_>) -> Svg {
    let mut remarks = Vec::new();
    let shown = &p.curves[..p.curves.len().min(6)];
    if p.curves.len() > 6 {
        remarks.push(format!("{} further curves not drawn.", p.curves.len() - 6));
    }
    let bad: usize = shown
        .iter()
        .map(|r| r.points.iter().filter(|(x, y)| !(x.is_finite() && y.is_finite())).count())
        .sum();
    note_non_finite(&mut remarks, bad, "ROC");
    let texts: Vec<String> = shown.iter().map(|r| area_text(r, p.level_percent)).collect();
    let desc =
        shown.iter().zip(&texts).map(|(r, t)| format!("{}: {t}.", r.name)).collect::<Vec<_>>().join(" ");
    let width = 500.0;
    let top = 46.0;
    let side = 390.0;
    let mut c = Canvas::new(width, top + side + 52.0 + notes_height(&remarks), p.title, &desc);
    header(&mut c, p.title, &[]);
    let panel = Panel::new(76.0, top, side, side, (0.0, 1.0), (0.0, 1.0));
    let ticks = panel.x.ticks(5);
    panel.x_grid(&mut c, &ticks);
    panel.y_axis_with(&mut c, "true positive rate (sensitivity)", &panel.y.ticks(5));
    panel.x_axis(&mut c, "false positive rate (1 \u{2212} specificity)", &ticks);
    c.line("ref", panel.left, panel.bottom(), panel.right(), panel.top);
    for (i, r) in shown.iter().enumerate().rev() {
        let path = panel.line_path(r.points.iter().copied());
        c.path(&format!("{} bold", stroke(i)), &path);
        if let Some((x, y)) = r.operating_point.and_then(|(x, y)| panel.at(x, y)) {
            let hover = format!("{}: threshold in use", r.name);
            c.circle(&format!("{} dot", fill(i)), x, y, 5.5, &hover);
        }
    }
    // The lower right of a ROC is empty unless a classifier is worse than chance, so the legend goes there.
    let dots = shown.iter().any(|r| r.operating_point.is_some());
    let below = if dots { 40.0 } else { 20.0 };
    let mut y = panel.bottom() + 2.0 - below - 36.0 * shown.len() as f64;
    let x = panel.left + 0.33 * side;
    let room = panel.right() - x - 34.0;
    for (i, (r, text)) in shown.iter().zip(&texts).enumerate() {
        c.path(&format!("{} bold", stroke(i)), &format!("M{x} {y}h18"));
        c.text("halo strong", x + 26.0, y + 4.0, Anchor::Start, &fit(r.name, 13.0, room));
        c.text("halo", x + 26.0, y + 20.0, Anchor::Start, &fit(text, 12.0, room + 8.0));
        y += 36.0;
    }
    c.line("ref", x, y, x + 18.0, y);
    c.text("halo", x + 26.0, y + 4.0, Anchor::Start, "chance (AUC 0.5)");
    if dots {
        c.circle("mute dot", x + 9.0, y + 20.0, 5.5, "");
        c.text("halo", x + 26.0, y + 24.0, Anchor::Start, "threshold in use");
    }
    if shown.is_empty() {
        c.text("note", panel.left + side / 2.0, panel.top + 60.0, Anchor::Middle, "No curve given.");
    }
    notes(&mut c, &remarks);
    c.finish()
}

fn area_text(r: &RocCurve<'_>, level: f64) -> String {
    if !r.auc.is_finite() || r.points.is_empty() {
        return "AUC undefined (both classes are needed)".into();
    }
    match finite(r.interval) {
        Some((a, b)) => format!("AUC {:.3} ({level:.0} % CI {a:.3} to {b:.3})", r.auc),
        None => format!("AUC {:.3}", r.auc),
    }
}
