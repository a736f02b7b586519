//! A whole recording at a glance: heart rate, a detail of the ECG with beats, quality, windows.

use super::timeline::time_title;
use crate::report::chart::{HEAD, Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::{clock, extent, padded, short};
use crate::report::svg::{Anchor, Canvas, Svg, num};

/// Signal quality of a stretch.
#[derive(Clone, Copy, Debug)]
pub struct QualitySpan {
    /// Start in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// 0 (unusable) to 1 (clean).
    pub quality: f64,
}

/// A window cut from the recording.
#[derive(Clone, Copy, Debug)]
pub struct WindowMark {
    /// Start in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// Whether it is used, or was dropped by the quality gate.
    pub used: bool,
}

/// Input of [`recording_overview`].
#[derive(Clone, Copy, Debug)]
pub struct RecordingOverview<'a> {
    /// Title.
    pub title: &'a str,
    /// Sampling rate in Hz.
    pub fs_hz: f64,
    /// The ECG from time 0, one value per sample.
    pub ecg: &'a [f32],
    /// Unit of the samples.
    pub unit: &'a str,
    /// Times of the beats in seconds, ascending.
    pub beats_s: &'a [f64],
    /// Quality; may be empty.
    pub quality: &'a [QualitySpan],
    /// Windows; may be empty.
    pub windows: &'a [WindowMark],
    /// Stretch to enlarge, in seconds; `None` takes 10 s from the middle.
    pub detail: Option<(f64, f64)>,
}

/// Four rows over the recording's time: the ECG, the heart rate from beat to beat, quality and windows; below, a detail of
/// the ECG with its beats marked.
pub fn recording_overview(p: &RecordingOverview<'_>) -> Svg {
    let mut remarks = Vec::new();
    note_non_finite(&mut remarks, p.ecg.iter().filter(|v| !v.is_finite()).count(), "ECG");
    let dropped = p.windows.iter().filter(|w| !w.used).count();
    if !p.windows.is_empty() {
        remarks.push(format!("{} windows, {dropped} of them dropped.", p.windows.len()));
    }
    let rate_ok = p.fs_hz.is_finite() && p.fs_hz > 0.0;
    let duration = if rate_ok { p.ecg.len() as f64 / p.fs_hz } else { 0.0 };
    let desc = format!(
        "Recording of {} with {} beats and {} windows.",
        clock(duration),
        p.beats_s.len(),
        p.windows.len()
    );
    let (left, width) = (76.0, WIDE - 96.0);
    let strips =
        if p.quality.is_empty() { 0.0 } else { 26.0 } + if p.windows.is_empty() { 0.0 } else { 26.0 };
    let overview = 84.0 + 14.0 + 92.0 + strips;
    let detail_top = HEAD + overview + 62.0;
    let mut c = Canvas::new(WIDE, detail_top + 130.0 + 50.0 + notes_height(&remarks), p.title, &desc);
    let mut legend =
        vec![(Key::Line, "ink", "ECG"), (Key::Line, "s2", "heart rate"), (Key::Dot, "f1", "beat")];
    if !p.windows.is_empty() {
        legend.push((Key::Area, "f3", "window used"));
        if dropped > 0 {
            legend.push((Key::Area, "f2", "window dropped"));
        }
    }
    legend.push((Key::Area, "f6 band", "enlarged below"));
    header(&mut c, p.title, &legend);
    let Some(range) = extent(p.ecg.iter().map(|v| f64::from(*v))).filter(|_| rate_ok) else {
        empty(&mut c, left, HEAD, width, overview, "No finite ECG sample or no valid sampling rate.");
        notes(&mut c, &remarks);
        return c.finish();
    };
    let whole = (0.0, duration);
    let middle = duration / 2.0;
    let (from, to) = p
        .detail
        .filter(|(a, b)| a.is_finite() && b.is_finite() && b > a && *b > 0.0 && *a < duration)
        .map_or(((middle - 5.0).max(0.0), (middle + 5.0).min(duration)), |(a, b)| {
            (a.max(0.0), b.min(duration))
        });

    let ecg = Panel::new(left, HEAD, width, 84.0, whole, padded(range, 0.05));
    let points = || p.ecg.iter().enumerate().map(|(i, v)| (i as f64 / p.fs_hz, f64::from(*v)));
    let ticks = ecg.x.time_ticks(ecg.x_tick_count());
    ecg.span(&mut c, "f6 band", from, to);
    ecg.y_axis_with(&mut c, &format!("ECG ({})", p.unit), &ecg.y.ticks(2));
    let dense = p.ecg.len() as f64 > 6.0 * width;
    ecg.clip(&mut c);
    c.path(if dense { "ink thin half" } else { "ink mid" }, &ecg.line_path(points()));
    c.unclip();

    // A pause of more than 3 s (20 bpm) is a gap in detection rather than a heart rate: the line breaks there.
    let rate: Vec<(f64, f64)> = p
        .beats_s
        .windows(2)
        .map(|b| {
            (
                0.5 * (b[0] + b[1]),
                if b[1] > b[0] && b[1] - b[0] <= 3.0 { 60.0 / (b[1] - b[0]) } else { f64::NAN },
            )
        })
        .collect();
    let top = ecg.bottom() + 14.0;
    match extent(rate.iter().map(|r| r.1)) {
        Some(bpm) => {
            let panel = Panel::new(left, top, width, 92.0, whole, padded(bpm, 0.08));
            panel.span(&mut c, "f6 band", from, to);
            panel.y_axis_with(&mut c, "rate (bpm)", &panel.y.ticks(3));
            panel.clip(&mut c);
            c.path("s2 mid", &panel.line_path(rate.iter().copied()));
            c.unclip();
        }
        None => empty(&mut c, left, top, width, 92.0, "Fewer than two beats: no heart rate."),
    }
    let mut y = top + 92.0 + 10.0;
    if !p.quality.is_empty() {
        c.text("tick", left - 7.0, y + 11.0, Anchor::End, "quality");
        c.rect("void", left, y, width, 15.0, 2.0, None);
        for q in p.quality.iter().filter(|q| q.quality.is_finite() && q.end_s > q.start_s) {
            let (a, b) = (ecg.x.px_in(q.start_s), ecg.x.px_in(q.end_s));
            c.rect("f1", a, y, b - a, 15.0, 0.0, Some(q.quality.clamp(0.0, 1.0) * 0.85));
        }
        y += 26.0;
    }
    if !p.windows.is_empty() {
        c.text("tick", left - 7.0, y + 11.0, Anchor::End, "windows");
        c.rect("void", left, y, width, 15.0, 2.0, None);
        for w in p.windows.iter().filter(|w| w.end_s > w.start_s) {
            let (a, b) = (ecg.x.px_in(w.start_s), ecg.x.px_in(w.end_s));
            // A hair of space keeps neighbours apart where there is room for it.
            let gap = if b - a > 3.0 { 0.8 } else { 0.0 };
            c.rect(if w.used { "f3" } else { "f2" }, a, y, b - a - gap, 15.0, 0.0, Some(0.85));
        }
        y += 26.0;
    }
    let foot = Panel::new(left, y - 10.0, width, 4.0, whole, (0.0, 1.0));
    foot.x_axis(&mut c, time_title(whole), &ticks);

    draw_detail(&mut c, p, (from, to), detail_top, left, width);
    notes(&mut c, &remarks);
    c.finish()
}

fn draw_detail(
    c: &mut Canvas,
    p: &RecordingOverview<'_>,
    (from, to): (f64, f64),
    top: f64,
    left: f64,
    width: f64,
) {
    let first = ((from * p.fs_hz).floor() as usize).min(p.ecg.len());
    let last = ((to * p.fs_hz).ceil() as usize).clamp(first, p.ecg.len());
    let part = &p.ecg[first..last];
    let Some(range) = extent(part.iter().map(|v| f64::from(*v))) else {
        empty(c, left, top, width, 130.0, "No finite ECG sample in the detail.");
        return;
    };
    let panel = Panel::new(left, top, width, 130.0, (from, to), padded(range, 0.12));
    panel.y_axis_with(c, &format!("ECG ({})", p.unit), &panel.y.ticks(3));
    panel.x_axis(c, &format!("time (s), {} enlarged", short(to - from, 2) + " s"), &panel.x.ticks(10));
    panel.clip(c);
    let time = |i: usize| (first + i) as f64 / p.fs_hz;
    c.path("ink mid", &panel.line_path(part.iter().enumerate().map(|(i, v)| (time(i), f64::from(*v)))));
    c.unclip();
    for &beat in p.beats_s.iter().filter(|b| **b >= from && **b <= to) {
        let sample = p.ecg.get((beat * p.fs_hz).round() as usize).map_or(f64::NAN, |v| f64::from(*v));
        let Some((x, y)) = panel.at(beat, sample) else { continue };
        c.path("s1 thin half", &format!("M{} {}V{}", num(x), num(panel.bottom()), num(panel.bottom() - 8.0)));
        c.circle("f1 dot", x, y, 4.0, &format!("beat at {} s", short(beat, 6)));
    }
}
