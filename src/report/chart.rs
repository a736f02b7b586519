//! What every plot is made of: header with legend, panels with axes, lines with gaps, footnotes.

use std::fmt::Write as _;

use super::scale::Scale;
use super::svg::{Anchor, Canvas, fit, num, text_width};

/// Width of the plots that fill the page.
pub(crate) const WIDE: f64 = 880.0;
/// Height of the title and legend above the first panel.
pub(crate) const HEAD: f64 = 62.0;

/// How a legend entry is drawn.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Line,
    Dash,
    Area,
    Dot,
}

/// One legend entry: how, with which classes, what it says.
pub(crate) type Entry<'a> = (Key, &'a str, &'a str);

/// The title at the top left and the legend below it.
pub(crate) fn header(c: &mut Canvas, title: &str, legend: &[Entry<'_>]) {
    let room = c.width - 32.0;
    c.text("title", 16.0, 25.0, Anchor::Start, &fit(title, 15.5, room));
    let (mut x, y) = (17.0, 46.0);
    let limit = (room / legend.len().max(1) as f64).max(170.0);
    for (key, class, text) in legend {
        let text = fit(text, 12.0, limit - 40.0);
        if x + 28.0 + text_width(&text, 12.0) > c.width {
            break;
        }
        match key {
            Key::Line => c.path(&format!("{class} bold"), &format!("M{} {y}h18", num(x))),
            Key::Dash => c.line(&format!("ref {class}"), x, y, x + 18.0, y),
            Key::Area => c.rect(class, x, y - 6.0, 18.0, 12.0, 2.0, None),
            Key::Dot => c.circle(class, x + 9.0, y, 4.5, ""),
        }
        c.text("", x + 24.0, y + 4.0, Anchor::Start, &text);
        x += 24.0 + text_width(&text, 12.0) + 22.0;
    }
}

/// Footnotes at the bottom left: what could not be drawn, or what the reader must know.
pub(crate) fn notes(c: &mut Canvas, notes: &[String]) {
    let (width, height) = (c.width, c.height);
    for (i, note) in notes.iter().rev().enumerate() {
        c.text("note", 16.0, height - 9.0 - 16.0 * i as f64, Anchor::Start, &fit(note, 11.5, width - 32.0));
    }
}

/// Extra height that [`notes`] needs.
pub(crate) fn notes_height(notes: &[String]) -> f64 {
    if notes.is_empty() { 0.0 } else { 16.0 * notes.len() as f64 + 6.0 }
}

/// A plain "nothing to draw" message in the middle of a region.
pub(crate) fn empty(c: &mut Canvas, x: f64, y: f64, w: f64, h: f64, message: &str) {
    c.rect("void", x, y, w, h, 4.0, None);
    c.text("note", x + w / 2.0, y + h / 2.0 + 4.0, Anchor::Middle, &fit(message, 11.5, w - 16.0));
}

/// A drawing area with two scales.
pub(crate) struct Panel {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
}

impl Panel {
    /// A panel with linear scales on both axes.
    pub(crate) fn new(left: f64, top: f64, width: f64, height: f64, x: (f64, f64), y: (f64, f64)) -> Self {
        Self {
            left,
            top,
            width,
            height,
            x: Scale::linear(x, (left, left + width)),
            y: Scale::linear(y, (top + height, top)),
        }
    }
    /// Makes the y axis logarithmic.
    pub(crate) fn log_y(mut self, y: (f64, f64)) -> Self {
        self.y = Scale::log(y, (self.top + self.height, self.top));
        self
    }
    /// Makes the x axis logarithmic.
    pub(crate) fn log_x(mut self, x: (f64, f64)) -> Self {
        self.x = Scale::log(x, (self.left, self.left + self.width));
        self
    }
    /// Right edge.
    pub(crate) fn right(&self) -> f64 {
        self.left + self.width
    }
    /// Bottom edge.
    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }
    /// Limits drawing to the panel until [`Canvas::unclip`].
    pub(crate) fn clip(&self, c: &mut Canvas) {
        c.clip(self.left, self.top, self.width, self.height);
    }
    /// Horizontal grid lines, y labels and the axis title, written upwards.
    pub(crate) fn y_axis(&self, c: &mut Canvas, title: &str) {
        self.y_axis_with(c, title, &self.y.ticks((self.height / 42.0).clamp(2.0, 8.0) as usize));
    }
    /// As [`Panel::y_axis`], with ticks given.
    pub(crate) fn y_axis_with(&self, c: &mut Canvas, title: &str, ticks: &[(f64, String)]) {
        let mut widest = 0f64;
        for (v, label) in ticks {
            let y = self.y.px_in(*v);
            c.line("grid", self.left, y, self.right(), y);
            c.text("tick", self.left - 7.0, y + 4.0, Anchor::End, label);
            widest = widest.max(text_width(label, 11.5));
        }
        let x = (self.left - widest - 18.0).max(13.0);
        c.text_up("label", x, self.top + self.height / 2.0, &fit(title, 12.5, self.height + 40.0));
    }
    /// Bottom line, x labels and the axis title.
    pub(crate) fn x_axis(&self, c: &mut Canvas, title: &str, ticks: &[(f64, String)]) {
        let y = self.bottom();
        c.line("axis", self.left, y, self.right(), y);
        for (v, label) in ticks {
            let x = self.x.px_in(*v);
            c.line("axis", x, y, x, y + 4.0);
            c.text("tick", x, y + 17.0, Anchor::Middle, label);
        }
        c.text(
            "label",
            self.left + self.width / 2.0,
            y + 36.0,
            Anchor::Middle,
            &fit(title, 12.5, self.width),
        );
    }
    /// About the number of x ticks that fit.
    pub(crate) fn x_tick_count(&self) -> usize {
        (self.width / 85.0).clamp(2.0, 12.0) as usize
    }
    /// Vertical grid lines.
    pub(crate) fn x_grid(&self, c: &mut Canvas, ticks: &[(f64, String)]) {
        for (v, _) in ticks {
            let x = self.x.px_in(*v);
            c.line("grid", x, self.top, x, self.bottom());
        }
    }
    /// A full-height rectangle between two x values, cut to the panel.
    pub(crate) fn span(&self, c: &mut Canvas, class: &str, from: f64, to: f64) {
        let (a, b) = (self.x.px_in(from.min(to)), self.x.px_in(from.max(to)));
        c.rect(class, a, self.top, b - a, self.height, 0.0, None);
    }
    /// A point's pixel position, if it has one.
    pub(crate) fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.x.px(x)?, self.y.px(y)?))
    }
    /// Path data through `points`; a point without a place (NaN, or zero on a log scale) breaks the line. A point alone
    /// between breaks becomes a dot. Where more than four points share a pixel column only the column's first, lowest,
    /// highest and last are kept, so a long recording stays a small file and loses no peak.
    pub(crate) fn line_path(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut out = String::new();
        let mut run: Vec<(f64, f64)> = Vec::new();
        for (x, y) in points {
            match self.at(x, y) {
                Some(p) => run.push(p),
                None => flush_run(&mut out, &mut run),
            }
        }
        flush_run(&mut out, &mut run);
        out
    }
}

fn flush_run(out: &mut String, run: &mut Vec<(f64, f64)>) {
    if let [(x, y)] = run[..] {
        // A zero-length line with round caps shows as a dot.
        let _ = write!(out, "M{} {}h0.01", num(x), num(y));
    } else {
        for (i, (x, y)) in thin(run).into_iter().enumerate() {
            let _ = write!(out, "{}{} {}", if i == 0 { 'M' } else { 'L' }, num(x), num(y));
        }
    }
    run.clear();
}

/// At most four points per pixel column: first, lowest, highest, last, in their order.
fn thin(run: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let column = |x: f64| x.floor();
    let mut out = Vec::with_capacity(run.len().min(8192));
    let mut start = 0;
    while start < run.len() {
        let col = column(run[start].0);
        let mut end = start + 1;
        while end < run.len() && column(run[end].0) == col {
            end += 1;
        }
        if end - start <= 4 {
            out.extend_from_slice(&run[start..end]);
        } else {
            let (mut lo, mut hi) = (start, start);
            for i in start..end {
                if run[i].1 < run[lo].1 {
                    lo = i;
                }
                if run[i].1 > run[hi].1 {
                    hi = i;
                }
            }
            let mut keep = [start, lo.min(hi), lo.max(hi), end - 1];
            keep.sort_unstable();
            let mut last = usize::MAX;
            for k in keep {
                if k != last {
                    out.push(run[k]);
                }
                last = k;
            }
        }
        start = end;
    }
    out
}

/// "3 non-finite values not drawn" when `count` is not zero.
pub(crate) fn note_non_finite(notes: &mut Vec<String>, count: usize, what: &str) {
    if count > 0 {
        let s = if count == 1 { "" } else { "s" };
        notes.push(format!("{count} non-finite {what} value{s} not drawn."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_extreme() {
        let run: Vec<(f64, f64)> = (0..10_000)
            .map(|i| (i as f64 * 0.01, if i == 4321 { -50.0 } else { (i as f64).sin() }))
            .collect();
        let kept = thin(&run);
        assert!(kept.len() < 1000, "{}", kept.len());
        assert!(kept.contains(&run[4321]) && kept[0] == run[0] && kept[kept.len() - 1] == run[9_999]);
        assert!(kept.windows(2).all(|w| w[0].0 < w[1].0), "order kept, nothing twice");
    }

    #[test]
    fn gaps_break_the_line() {
        let p = Panel::new(0.0, 0.0, 100.0, 100.0, (0.0, 10.0), (0.0, 10.0));
        assert_eq!(
            p.line_path([(0.0, 0.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 3.0)]),
            "M0 100L10 90M30 70h0.01"
        );
        assert_eq!(p.line_path([]), "");
    }
}
