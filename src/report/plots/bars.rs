//! Methods side by side.

use super::{Interval, finite};
use crate::report::chart::{Key, Panel, WIDE, empty, header, notes, notes_height};
use crate::report::scale::{extent, padded, short};
use crate::report::svg::{Anchor, Canvas, Svg, bold_width, fit, num};

/// One bar of [`method_comparison`].
#[derive(Clone, Copy, Debug)]
pub struct Bar<'a> {
    /// Name of the method.
    pub name: &'a str,
    /// Its value; NaN is shown as "undefined".
    pub value: f64,
    /// Interval of the value.
    pub interval: Option<Interval>,
    /// Drawn in colour; others grey.
    pub highlight: bool,
}

/// Input of [`method_comparison`].
#[derive(Clone, Copy, Debug)]
pub struct MethodComparison<'a> {
    /// Title.
    pub title: &'a str,
    /// What is compared, with unit: "time per window (ms), lower is better".
    pub value_label: &'a str,
    /// The methods, drawn from top to bottom.
    pub bars: &'a [Bar<'a>],
    /// A line across all bars with its name: `(0.5, "chance")`.
    pub reference: Option<(f64, &'a str)>,
}

/// Horizontal bars from zero with intervals and the numbers beside them.
pub fn method_comparison(p: &MethodComparison<'_>) -> Svg {
    let (row, top) = (38.0, if p.reference.is_some() { 64.0 } else { 44.0 });
    let rows = row * p.bars.len().max(1) as f64 + 6.0;
    let names = p.bars.iter().map(|b| bold_width(b.name, 13.0)).fold(60.0, f64::max).min(260.0);
    let texts: Vec<String> = p.bars.iter().map(value_text).collect();
    let list: Vec<String> = p.bars.iter().zip(&texts).map(|(b, t)| format!("{} {t}", b.name)).collect();
    let undefined = p.bars.iter().filter(|b| !b.value.is_finite()).count();
    let remarks: Vec<String> = if undefined > 0 {
        vec![format!("Without a finite value and so without a bar: {undefined}.")]
    } else {
        vec![]
    };
    let desc = format!("Bar chart, {}: {}.", p.value_label, list.join("; "));
    let mut c = Canvas::new(WIDE, top + rows + 52.0 + notes_height(&remarks), p.title, &desc);
    let legend: Vec<_> = p.reference.iter().map(|r| (Key::Dash, "", r.1)).collect();
    header(&mut c, p.title, &legend);
    let (left, room) =
        (names + 32.0, texts.iter().map(|t| bold_width(t, 13.0)).fold(60.0, f64::max).min(260.0) + 26.0);
    let ends = p.bars.iter().flat_map(|b| {
        let (lo, hi) = finite(b.interval).unwrap_or((b.value, b.value));
        [b.value, lo, hi]
    });
    let Some((lo, hi)) = extent(ends.chain(p.reference.map(|r| r.0))) else {
        empty(&mut c, 16.0, top, WIDE - 32.0, rows, "No finite value to draw.");
        notes(&mut c, &remarks);
        return c.finish();
    };
    // Bars start at zero: a cut axis would exaggerate differences.
    let (padded_lo, padded_hi) = padded((lo.min(0.0), hi.max(0.0)), 0.02);
    let domain = (if lo >= 0.0 { 0.0 } else { padded_lo }, padded_hi);
    let panel = Panel::new(left, top, WIDE - left - room, rows, domain, (0.0, 1.0));
    let ticks = panel.x.ticks(panel.x_tick_count().min(8));
    panel.x_grid(&mut c, &ticks);
    let zero = panel.x.px_in(0.0);
    for (i, (b, text)) in p.bars.iter().zip(&texts).enumerate() {
        let y = top + 3.0 + row * (i as f64 + 0.5);
        let name_class = if b.highlight { "strong" } else { "label" };
        c.text(name_class, left - 12.0, y + 4.0, Anchor::End, &fit(b.name, 13.0 * 1.12, names + 1.0));
        c.text(name_class, panel.right() + 14.0, y + 4.0, Anchor::Start, text);
        if !b.value.is_finite() {
            continue;
        }
        let x = panel.x.px_in(b.value);
        let fill = if b.highlight { "f1" } else { "mute" };
        c.rect(fill, zero.min(x), y - 11.0, (x - zero).abs(), 22.0, 3.0, Some(0.85));
        if let Some((a, b)) = finite(b.interval) {
            let (a, b) = (panel.x.px_in(a), panel.x.px_in(b));
            let (a, b, y, t) = (num(a), num(b), num(y), num(y - 5.0));
            c.path("ink bold", &format!("M{a} {y}H{b}M{a} {t}v10M{b} {t}v10"));
        }
    }
    if let Some(x) = p.reference.and_then(|(v, _)| panel.x.px(v)) {
        c.line("ref", x, top, x, panel.bottom());
    }
    panel.x_axis(&mut c, p.value_label, &ticks);
    if domain.0 < 0.0 {
        c.line("axis", zero, top, zero, panel.bottom());
    }
    notes(&mut c, &remarks);
    c.finish()
}

fn value_text(b: &Bar<'_>) -> String {
    if !b.value.is_finite() {
        return "undefined".into();
    }
    match finite(b.interval) {
        Some((lo, hi)) => format!("{} ({} to {})", short(b.value, 3), short(lo, 3), short(hi, 3)),
        None => short(b.value, 3),
    }
}
