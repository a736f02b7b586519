//! Loss and learning rate over a training run.

use crate::report::chart::{HEAD, Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::{extent, padded, short};
use crate::report::svg::{Anchor, Canvas, Svg};

/// Input of [`training_curves`]. Each series holds `(x, y)` pairs with ascending x.
#[derive(Clone, Copy, Debug)]
pub struct TrainingCurves<'a> {
    /// Title.
    pub title: &'a str,
    /// What x counts: "step" or "epoch".
    pub x_label: &'a str,
    /// What the loss is: "masked mean squared error".
    pub y_label: &'a str,
    /// Training loss.
    pub train: &'a [(f64, f64)],
    /// Validation loss; may be empty.
    pub validation: &'a [(f64, f64)],
    /// Learning rate, for the panel below; without values the panel is left out.
    pub learning_rate: &'a [(f64, f64)],
    /// x of the checkpoint that was kept.
    pub best: Option<f64>,
    /// Logarithmic loss axis; used only if there is a positive loss, which the picture says.
    pub log_y: bool,
}

/// Training and validation loss, with the learning rate in a small panel below.
///
/// A training series of more than 200 points is drawn pale, with its centred running mean over about a fiftieth of the points.
pub fn training_curves(p: &TrainingCurves<'_>) -> Svg {
    let mut remarks = Vec::new();
    let bad = |s: &[(f64, f64)]| s.iter().filter(|(x, y)| !(x.is_finite() && y.is_finite())).count();
    note_non_finite(&mut remarks, bad(p.train), "training loss");
    note_non_finite(&mut remarks, bad(p.validation), "validation loss");
    let both = || p.train.iter().chain(p.validation).filter(|(x, _)| x.is_finite());
    let positive = extent(both().map(|v| v.1).filter(|y| *y > 0.0));
    let log = p.log_y && positive.is_some();
    if p.log_y {
        let left_out = both().filter(|v| v.1 <= 0.0).count();
        if !log {
            remarks.push("No positive loss: linear axis instead of logarithmic.".into());
        } else if left_out > 0 {
            remarks.push(format!(
                "{left_out} loss values of zero or less have no place on the logarithmic axis."
            ));
        }
    }
    let smooth = if p.train.len() > 200 { (p.train.len() / 50).max(5) } else { 0 };
    if smooth > 0 {
        remarks.push(format!("Training loss pale, its running mean over {smooth} points strong."));
    }
    let has_rate = p.learning_rate.iter().any(|(x, y)| x.is_finite() && y.is_finite());
    let loss_height = 220.0;
    let rate_height = if has_rate { 62.0 } else { 0.0 };
    let gap = if has_rate { 22.0 } else { 0.0 };
    let height = HEAD + loss_height + gap + rate_height + 50.0 + notes_height(&remarks);
    let last =
        |s: &[(f64, f64)]| s.iter().rev().find(|v| v.1.is_finite()).map_or("none".into(), |v| short(v.1, 3));
    let desc = format!(
        "Loss over {}: training ends at {}, validation at {}.",
        p.x_label,
        last(p.train),
        last(p.validation)
    );
    let mut c = Canvas::new(WIDE, height, p.title, &desc);
    let mut legend = vec![(Key::Line, "s1", "training")];
    if !p.validation.is_empty() {
        legend.push((Key::Line, "s2", "validation"));
    }
    if p.best.is_some() {
        legend.push((Key::Dash, "", "kept checkpoint"));
    }
    if has_rate {
        legend.push((Key::Line, "s3", "learning rate"));
    }
    header(&mut c, p.title, &legend);

    let (left, width) = (76.0, WIDE - 96.0);
    let xs = extent(both().map(|v| v.0).chain(p.learning_rate.iter().map(|v| v.0)));
    let ys = extent(both().map(|v| v.1));
    let (Some(xs), Some(ys)) = (xs, ys) else {
        empty(&mut c, left, HEAD, width, loss_height, "No finite loss to draw.");
        notes(&mut c, &remarks);
        return c.finish();
    };
    let xs = if xs.1 > xs.0 { xs } else { padded(xs, 0.0) };
    let mut panel = Panel::new(left, HEAD, width, loss_height, xs, padded(ys, 0.05));
    if let (true, Some((lo, hi))) = (log, positive) {
        let room = (hi / lo).powf(0.05).max(1.1);
        panel = panel.log_y((lo / room, hi * room));
    }
    let ticks = panel.x.ticks(panel.x_tick_count());
    let scale = if panel.y.is_log() { "log" } else { "linear" };
    panel.y_axis(&mut c, &format!("{} ({scale})", p.y_label));
    if !has_rate {
        panel.x_axis(&mut c, p.x_label, &ticks);
    } else {
        c.line("axis", left, panel.bottom(), panel.right(), panel.bottom());
    }
    if let Some(x) = p.best.and_then(|x| panel.x.px(x)).filter(|x| (left..=left + width).contains(x)) {
        c.line("ref", x, panel.top, x, panel.bottom());
    }
    panel.clip(&mut c);
    let raw = panel.line_path(p.train.iter().copied());
    if smooth > 0 {
        c.path("s1 thin pale", &raw);
        c.path("s1 bold", &panel.line_path(running_mean(p.train, smooth)));
    } else {
        c.path("s1 bold", &raw);
    }
    c.path("s2 bold", &panel.line_path(p.validation.iter().copied()));
    c.unclip();
    if p.validation.len() <= 60 {
        for &(x, y) in p.validation {
            if let Some((px, py)) = panel.at(x, y).filter(|(_, py)| (panel.top..=panel.bottom()).contains(py))
            {
                let hover = format!("{} {}: validation {}", p.x_label, short(x, 6), short(y, 4));
                c.circle("f2 dot", px, py, 3.6, &hover);
            }
        }
    }
    if has_rate {
        let top = extent(p.learning_rate.iter().map(|v| v.1))
            .map_or(1.0, |r| if r.1 > 0.0 { r.1 * 1.08 } else { 1.0 });
        let low = extent(p.learning_rate.iter().map(|v| v.1)).map_or(0.0, |r| r.0.min(0.0));
        let small = Panel::new(left, panel.bottom() + gap, width, rate_height, xs, (low, top));
        small.y_axis_with(&mut c, "rate", &small.y.ticks(2));
        small.x_axis(&mut c, p.x_label, &ticks);
        small.clip(&mut c);
        c.path("s3 bold", &small.line_path(p.learning_rate.iter().copied()));
        c.unclip();
    } else if p.train.len() == 1 && p.validation.is_empty() {
        c.text("note", panel.right(), HEAD - 6.0, Anchor::End, "a single point");
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// Mean of the finite values among the `width` points around each; the window shrinks at the ends, NaN stays a gap.
fn running_mean(points: &[(f64, f64)], width: usize) -> Vec<(f64, f64)> {
    let half = width / 2;
    (0..points.len())
        .map(|i| {
            let (x, y) = points[i];
            let reach = half.min(i).min(points.len() - 1 - i);
            let window = points[i - reach..=i + reach].iter().map(|p| p.1).filter(|v| v.is_finite());
            // Summed afresh at each point: a running difference would keep the rounding of every value that ever left.
            let (sum, n) = window.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
            (x, if y.is_finite() { sum / n as f64 } else { f64::NAN })
        })
        .collect()
}
