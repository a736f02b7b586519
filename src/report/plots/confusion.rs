//! Confusion matrix.

use crate::report::chart::{empty, header, notes, notes_height};
use crate::report::svg::{Anchor, Canvas, Svg, fit, text_width};

/// Input of [`confusion_matrix`].
#[derive(Clone, Copy, Debug)]
pub struct ConfusionMatrix<'a> {
    /// Title.
    pub title: &'a str,
    /// The k class names.
    pub classes: &'a [&'a str],
    /// k x k counts, row-major: row = true class, column = predicted class.
    pub counts: &'a [u64],
}

/// Counts with the share of each row (of each true class), shaded by that share.
pub fn confusion_matrix(p: &ConfusionMatrix<'_>) -> Svg {
    let k = p.classes.len();
    let fits = k > 0 && k <= 30 && k.checked_mul(k) == Some(p.counts.len());
    let cell = if k <= 3 { 104.0 } else { (420.0 / k.max(1) as f64).clamp(30.0, 90.0) };
    let names = p.classes.iter().map(|n| text_width(n, 12.0)).fold(40.0, f64::max).min(150.0);
    let left = 40.0 + names + 14.0;
    let row_n = 84.0;
    let side = if fits { cell * k as f64 } else { 220.0 };
    let total = p.counts.iter().fold(0u64, |a, b| a.saturating_add(*b));
    let mut remarks = Vec::new();
    for (i, name) in p.classes.iter().enumerate().filter(|_| fits) {
        if p.counts[i * k..(i + 1) * k].iter().all(|n| *n == 0) {
            remarks.push(format!("No example of class {name:?}: its row has no percentages."));
        }
    }
    let title_room = text_width(p.title, 15.5) + 40.0;
    let width = (left + side + row_n).max(title_room.min(640.0)).max(360.0);
    let top = 84.0;
    let desc = format!("Confusion matrix of {k} classes and {total} examples; rows are true classes.");
    let mut c = Canvas::new(width, top + side + 26.0 + notes_height(&remarks), p.title, &desc);
    header(&mut c, p.title, &[]);
    if !fits {
        let why = format!("{k} class names do not fit {} counts.", p.counts.len());
        empty(&mut c, 16.0, top, width - 32.0, side, &why);
        return c.finish();
    }
    c.text("label", left + side / 2.0, 52.0, Anchor::Middle, "predicted");
    c.text_up("label", 24.0, top + side / 2.0, "true");
    c.text("tick", left + side + 12.0, top - 9.0, Anchor::Start, "n");
    for i in 0..k {
        let middle = (i as f64 + 0.5) * cell;
        c.text("", left + middle, top - 9.0, Anchor::Middle, &fit(p.classes[i], 12.0, cell - 4.0));
        c.text("", left - 12.0, top + middle + 4.0, Anchor::End, &fit(p.classes[i], 12.0, 150.0));
        let row = &p.counts[i * k..(i + 1) * k];
        let n: u64 = row.iter().fold(0, |a, b| a.saturating_add(*b));
        c.text("tick", left + side + 12.0, top + middle + 4.0, Anchor::Start, &grouped(n));
        for (j, &count) in row.iter().enumerate() {
            let share = if n == 0 { 0.0 } else { count as f64 / n as f64 };
            let (x, y) = (left + j as f64 * cell, top + i as f64 * cell);
            c.rect("void", x + 1.5, y + 1.5, cell - 3.0, cell - 3.0, 5.0, None);
            c.rect("f1", x + 1.5, y + 1.5, cell - 3.0, cell - 3.0, 5.0, Some(0.92 * share));
            let inverse = if share > 0.55 { " inv" } else { "" };
            let big = if cell >= 80.0 { "big" } else { "small" };
            let (cx, cy) = (x + cell / 2.0, y + cell / 2.0);
            let percent = if n == 0 { "\u{2013}".into() } else { format!("{:.1} %", 100.0 * share) };
            if cell >= 44.0 {
                c.text(&format!("{big}{inverse}"), cx, cy - 1.0, Anchor::Middle, &grouped(count));
                c.text(&format!("small{inverse}"), cx, cy + 17.0, Anchor::Middle, &percent);
            } else {
                c.text(&format!("small{inverse}"), cx, cy + 4.0, Anchor::Middle, &grouped(count));
            }
        }
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// Digits in groups of three, parted by thin spaces.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digits.len() > 4 {
            out.push('\u{2009}');
        }
        out.push(d);
    }
    out
}
