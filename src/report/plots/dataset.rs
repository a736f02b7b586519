//! What a data set holds: people, hours, labels, and what is left out.

use crate::report::chart::{Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::short;
use crate::report::svg::{Anchor, Canvas, Svg, bold_width, fit, num as n, text_width};

/// One data set in words.
#[derive(Clone, Copy, Debug)]
pub struct SetLine<'a> {
    /// Name.
    pub name: &'a str,
    /// Its figures: "40 people, 640 recordings, 12.3 h, 128 Hz, mV".
    pub text: &'a str,
}

/// Hours of one person.
#[derive(Clone, Copy, Debug)]
pub struct PersonHours<'a> {
    /// Data set.
    pub dataset: &'a str,
    /// Person within the data set.
    pub subject: &'a str,
    /// Hours in windows that are kept.
    pub kept_h: f64,
    /// Hours in windows that are dropped.
    pub dropped_h: f64,
}

/// How often each value of a label occurs.
#[derive(Clone, Copy, Debug)]
pub struct LabelCounts<'a> {
    /// Name of the label.
    pub name: &'a str,
    /// Values in the order of drawing, each with how often it occurs.
    pub values: &'a [(&'a str, f64)],
    /// How many have no value.
    pub missing: f64,
}

/// Input of [`dataset_overview`].
#[derive(Clone, Copy, Debug)]
pub struct DatasetOverview<'a> {
    /// Title.
    pub title: &'a str,
    /// The data sets.
    pub sets: &'a [SetLine<'a>],
    /// Everybody, those of one data set beside each other.
    pub people: &'a [PersonHours<'a>],
    /// The labels.
    pub labels: &'a [LabelCounts<'a>],
    /// What the labels count: "windows" or "recordings".
    pub counted: &'a str,
    /// What is left out, as (why, how many): "flat line", 12.
    pub left_out: &'a [(&'a str, f64)],
    /// Remarks below the picture.
    pub remarks: &'a [&'a str],
}

const ROW: f64 = 20.0;
const MOST_SETS: usize = 14;
const MOST_LABELS: usize = 12;
const MOST_REASONS: usize = 12;
/// Columns of a label's chart; more values are put into bins.
const MOST_VALUES: usize = 10;
/// People whose names still fit below their columns.
const MOST_NAMES: usize = 60;

/// The data sets in words, a column of hours for each person (kept, and dropped above it), a small column chart for each
/// label, and a bar for each reason why something is left out.
pub fn dataset_overview(p: &DatasetOverview<'_>) -> Svg {
    let finite = |v: f64| if v.is_finite() { v.max(0.0) } else { 0.0 };
    let mut remarks: Vec<String> = p.remarks.iter().map(|r| (*r).to_string()).collect();
    let bad = p.people.iter().filter(|s| !(s.kept_h.is_finite() && s.dropped_h.is_finite())).count();
    note_non_finite(&mut remarks, bad, "duration");
    for (count, most, what) in [
        (p.sets.len(), MOST_SETS, "data sets"),
        (p.labels.len(), MOST_LABELS, "labels"),
        (p.left_out.len(), MOST_REASONS, "reasons"),
    ] {
        if count > most {
            remarks.push(format!("{} more {what} are not drawn.", count - most));
        }
    }
    let sets = &p.sets[..p.sets.len().min(MOST_SETS)];
    let labels = &p.labels[..p.labels.len().min(MOST_LABELS)];
    let reasons = &p.left_out[..p.left_out.len().min(MOST_REASONS)];
    let named = p.people.len() <= MOST_NAMES;
    let longest = p.people.iter().map(|s| text_width(s.subject, 11.0)).fold(0.0, f64::max).min(90.0);
    let below = if named { 12.0 + longest * 0.87 } else { 12.0 };
    let people_top = 64.0 + ROW * sets.len() as f64 + 14.0;
    let people_height = 150.0;
    let labels_top = people_top + people_height + below + 46.0;
    let label_height = 104.0;
    let labels_room = label_height * labels.len().div_ceil(2) as f64;
    let reasons_top = labels_top + labels_room + if labels.is_empty() { 0.0 } else { 8.0 };
    let reasons_room = if reasons.is_empty() { 0.0 } else { 30.0 + ROW * reasons.len() as f64 };
    let kept: f64 = p.people.iter().map(|s| finite(s.kept_h)).sum();
    let dropped: f64 = p.people.iter().map(|s| finite(s.dropped_h)).sum();
    let words: Vec<String> = sets.iter().map(|s| format!("{}: {}", s.name, s.text)).collect();
    let desc = format!(
        "{} people, {} h kept, {} h dropped. {}",
        p.people.len(),
        short(kept, 3),
        short(dropped, 3),
        words.join("; ")
    );
    let height = reasons_top + reasons_room + 14.0 + notes_height(&remarks);
    let mut c = Canvas::new(WIDE, height, p.title, &desc);
    let (kept_text, dropped_text) =
        (format!("kept, {} h", short(kept, 3)), format!("dropped, {} h", short(dropped, 3)));
    let mut legend = vec![(Key::Area, "f1", kept_text.as_str())];
    if dropped > 0.0 {
        legend.push((Key::Area, "f5", dropped_text.as_str()));
    }
    header(&mut c, p.title, &legend);

    let wide = sets.iter().map(|s| bold_width(s.name, 13.0)).fold(0.0, f64::max).min(200.0);
    for (i, set) in sets.iter().enumerate() {
        let y = 78.0 + ROW * i as f64;
        c.text("strong", 16.0, y, Anchor::Start, &fit(set.name, 13.0 * 1.12, wide + 1.0));
        c.text("", 30.0 + wide, y, Anchor::Start, &fit(set.text, 12.0, WIDE - wide - 46.0));
    }

    let (left, width) = (66.0, WIDE - 66.0 - 20.0);
    let most = p.people.iter().map(|s| finite(s.kept_h) + finite(s.dropped_h)).fold(0.0, f64::max);
    if most > 0.0 {
        // Minutes read better than 0.02 h.
        let (factor, unit) = if most < 0.5 { (60.0, "minutes") } else { (1.0, "hours") };
        let panel = Panel::new(
            left,
            people_top,
            width,
            people_height,
            (0.0, p.people.len() as f64),
            (0.0, most * factor * 1.04),
        );
        panel.y_axis(&mut c, &format!("{unit} per person"));
        people(&mut c, p.people, &panel, factor, named, below);
        c.line("axis", panel.left, panel.bottom(), panel.right(), panel.bottom());
    } else {
        empty(&mut c, left, people_top, width, people_height, "No signal to draw.");
    }

    let column = (WIDE - 32.0 - 24.0) / 2.0;
    for (i, label) in labels.iter().enumerate() {
        let (x, y) = (16.0 + (column + 24.0) * (i % 2) as f64, labels_top + label_height * (i / 2) as f64);
        label_chart(&mut c, label, p.counted, x, y, column, label_height - 18.0);
    }

    if !reasons.is_empty() {
        c.text("strong", 16.0, reasons_top + 12.0, Anchor::Start, "Left out, and why");
        let names = reasons.iter().map(|r| text_width(r.0, 12.0)).fold(60.0, f64::max).min(520.0);
        let most = reasons.iter().map(|r| finite(r.1)).fold(0.0, f64::max).max(1e-300);
        let room = WIDE - names - 32.0 - 90.0;
        for (i, (why, count)) in reasons.iter().enumerate() {
            let y = reasons_top + 24.0 + ROW * i as f64;
            c.text("", 16.0 + names, y + 12.0, Anchor::End, &fit(why, 12.0, names + 1.0));
            let length = room * finite(*count) / most;
            c.rect("f5", 28.0 + names, y + 2.0, length.max(1.0), 13.0, 2.0, Some(0.85));
            c.text("tick", 36.0 + names + length, y + 12.5, Anchor::Start, &whole(*count));
        }
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// A count: digits in full up to a million.
fn whole(v: f64) -> String {
    if v.abs() < 1e6 && v.fract() == 0.0 { format!("{v}") } else { short(v, 3) }
}

/// The columns, and below them the names and the data sets.
fn people(c: &mut Canvas, people: &[PersonHours<'_>], panel: &Panel, factor: f64, named: bool, below: f64) {
    let finite = |v: f64| if v.is_finite() { v.max(0.0) } else { 0.0 };
    let step = panel.width / people.len().max(1) as f64;
    let bar = (step * 0.8).clamp(0.3, 34.0);
    for (i, s) in people.iter().enumerate() {
        let x = panel.left + step * (i as f64 + 0.5);
        let (kept, dropped) = (finite(s.kept_h) * factor, finite(s.dropped_h) * factor);
        let (base, top, end) = (panel.bottom(), panel.y.px_in(kept), panel.y.px_in(kept + dropped));
        c.rect("f1", x - bar / 2.0, top, bar, base - top, 0.0, None);
        if dropped > 0.0 {
            c.rect("f5", x - bar / 2.0, end, bar, top - end, 0.0, None);
        }
        if named {
            let name = fit(s.subject, 11.0, 90.0);
            c.text_along("small", x - 3.0, base + 13.0, 60.0, &name);
        }
    }
    let mut start = 0;
    let y = panel.bottom() + below + 6.0;
    while start < people.len() {
        let name = people[start].dataset;
        let length = people[start..].iter().position(|s| s.dataset != name);
        let end = length.map_or(people.len(), |k| start + k);
        let (a, b) = (panel.left + step * start as f64, panel.left + step * end as f64);
        c.path("ink thin", &format!("M{} {}v4H{}v-4", n(a + 1.0), n(y), n(b - 1.0)));
        let text = format!("{name}: {} people", end - start);
        if text_width(&text, 12.0) < (b - a).max(40.0) {
            c.text("", (a + b) / 2.0, y + 20.0, Anchor::Middle, &text);
        } else {
            c.text("", (a + b) / 2.0, y + 20.0, Anchor::Middle, &fit(name, 12.0, b - a));
        }
        start = end;
    }
}

/// At most [`MOST_VALUES`] columns: numbers in bins of equal width, other values the most frequent first and the rest in one.
fn columns(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    if values.len() <= MOST_VALUES {
        return values.iter().map(|(v, count)| ((*v).to_string(), *count)).collect();
    }
    let numbers: Option<Vec<f64>> =
        values.iter().map(|(v, _)| v.parse::<f64>().ok().filter(|v| v.is_finite())).collect();
    if let Some(numbers) = numbers {
        let (low, high) =
            numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let width = (high - low) / MOST_VALUES as f64;
        if width > 0.0 && width.is_finite() {
            let mut out: Vec<(String, f64)> = (0..MOST_VALUES)
                .map(|i| (format!("{}\u{2013}", short(low + width * i as f64, 3)), 0.0))
                .collect();
            for (v, (_, count)) in numbers.iter().zip(values) {
                out[(((v - low) / width) as usize).min(MOST_VALUES - 1)].1 += count;
            }
            return out;
        }
    }
    let mut sorted: Vec<&(&str, f64)> = values.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let (shown, rest) = sorted.split_at(MOST_VALUES - 1);
    let others = (format!("{} others", rest.len()), rest.iter().map(|r| r.1).sum());
    shown.iter().map(|(v, count)| ((*v).to_string(), *count)).chain([others]).collect()
}

fn label_chart(
    c: &mut Canvas,
    label: &LabelCounts<'_>,
    counted: &str,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
) {
    let missing =
        if label.missing > 0.0 { format!(", {} without", whole(label.missing)) } else { String::new() };
    let name = fit(label.name, 13.0 * 1.12, width * 0.5);
    c.text("strong", x, y + 12.0, Anchor::Start, &name);
    let said = format!("{counted} by value{missing}");
    let said_at = x + bold_width(&name, 13.0) + 8.0;
    c.text("tick", said_at, y + 12.0, Anchor::Start, &fit(&said, 11.5, (x + width - said_at).max(30.0)));
    let bars = columns(label.values);
    let most = bars.iter().map(|b| b.1).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let (top, base) = (y + 34.0, y + height - 18.0);
    if most <= 0.0 {
        empty(c, x, y + 20.0, width, base - y - 20.0, "No value.");
        return;
    }
    let step = width / bars.len().max(2) as f64;
    for (i, (value, count)) in bars.iter().enumerate() {
        let centre = x + step * (i as f64 + 0.5);
        let share = if count.is_finite() { (count / most).clamp(0.0, 1.0) } else { 0.0 };
        let length = (base - top) * share;
        c.rect("f3", centre - step * 0.36, base - length, step * 0.72, length, 1.0, Some(0.85));
        c.text("small", centre, base - length - 4.0, Anchor::Middle, &fit(&whole(*count), 11.0, step + 8.0));
        c.text("small", centre, base + 13.0, Anchor::Middle, &fit(value, 11.0, step));
    }
    c.line("axis", x, base, x + width, base);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_are_put_into_bins_and_none_is_lost() {
        let few = [("high", 3.0), ("low", 5.0)];
        assert_eq!(columns(&few), [("high".to_string(), 3.0), ("low".to_string(), 5.0)]);
        let names: Vec<String> = (0..41).map(|i| (f64::from(i) * 0.25 - 1.0).to_string()).collect();
        let numbers: Vec<(&str, f64)> = names.iter().map(|n| (n.as_str(), 2.0)).collect();
        let binned = columns(&numbers);
        assert_eq!((binned.len(), binned[0].0.as_str()), (MOST_VALUES, "\u{2212}1.00\u{2013}"));
        // Bins are 1 wide: four steps each, and the last also holds the highest value.
        assert!(binned[..9].iter().all(|b| b.1 == 8.0) && binned[9].1 == 10.0, "{binned:?}");
        let names: Vec<String> = (0..30).map(|i| format!("film {i}")).collect();
        let words: Vec<(&str, f64)> =
            names.iter().zip(1..).map(|(n, i)| (n.as_str(), f64::from(i))).collect();
        let shown = columns(&words);
        assert_eq!((shown[0].0.as_str(), shown[9].0.as_str()), ("film 29", "21 others"));
        assert_eq!(shown.iter().map(|b| b.1).sum::<f64>(), 465.0);
    }
}
