//! What the model says over the course of a recording.

use crate::report::chart::{HEAD, Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::{extent, padded, short};
use crate::report::svg::{Anchor, Canvas, Svg, num};

/// One window's prediction.
#[derive(Clone, Copy, Debug)]
pub struct WindowPrediction {
    /// Start in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// Probability of the positive class, 0..=1.
    pub probability: f64,
}

/// A stretch whose true state is known.
#[derive(Clone, Copy, Debug)]
pub struct TrueSpan {
    /// Start in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// Whether the positive class is the truth there.
    pub positive: bool,
}

/// What is drawn above the predictions.
#[derive(Clone, Copy, Debug)]
pub enum Trace<'a> {
    /// Nothing.
    None,
    /// The ECG.
    Ecg {
        /// Sampling rate in Hz.
        fs_hz: f64,
        /// Time of the first sample in seconds.
        start_s: f64,
        /// One value per sample.
        samples: &'a [f32],
        /// Unit of the samples.
        unit: &'a str,
    },
    /// Heart rate as `(time in seconds, beats per minute)`.
    HeartRate(&'a [(f64, f64)]),
}

/// Input of [`prediction_timeline`].
#[derive(Clone, Copy, Debug)]
pub struct PredictionTimeline<'a> {
    /// Title.
    pub title: &'a str,
    /// Name of the positive class.
    pub positive: &'a str,
    /// Windows in order of time; they may overlap or leave gaps.
    pub windows: &'a [WindowPrediction],
    /// Decision threshold, 0..=1.
    pub threshold: f64,
    /// What to draw above.
    pub trace: Trace<'a>,
    /// Known states; may be empty.
    pub truth: &'a [TrueSpan],
}

/// Probability per window as a filled step, the threshold, and above it the ECG or the heart rate; stretches that are
/// truly positive are shaded.
///
/// Where windows overlap, each is drawn from its start to the start of the next. Time without a window stays empty.
pub fn prediction_timeline(p: &PredictionTimeline<'_>) -> Svg {
    let mut remarks = Vec::new();
    let mut windows: Vec<WindowPrediction> = p
        .windows
        .iter()
        .copied()
        .filter(|w| {
            w.start_s.is_finite() && w.end_s.is_finite() && w.end_s > w.start_s && w.probability.is_finite()
        })
        .collect();
    let lost = p.windows.len() - windows.len();
    if lost > 0 {
        remarks.push(format!("{lost} windows without a finite probability or a valid time not drawn."));
    }
    windows.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    let above = windows.iter().filter(|w| crate::metrics::is_positive(w.probability, p.threshold)).count();
    let desc = format!(
        "Probability of {} for {} windows; {above} at or above the threshold {}.",
        p.positive,
        windows.len(),
        short(p.threshold, 2)
    );
    if !windows.is_empty() {
        let share = 100.0 * above as f64 / windows.len() as f64;
        remarks.push(format!(
            "{above} of {} windows ({share:.0} %) at or above the threshold {}.",
            windows.len(),
            short(p.threshold, 2)
        ));
    }
    let trace_bad = match p.trace {
        Trace::None => 0,
        Trace::Ecg { samples, .. } => samples.iter().filter(|v| !v.is_finite()).count(),
        Trace::HeartRate(points) => points.iter().filter(|(t, v)| !(t.is_finite() && v.is_finite())).count(),
    };
    note_non_finite(
        &mut remarks,
        trace_bad,
        if matches!(p.trace, Trace::Ecg { .. }) { "ECG" } else { "heart rate" },
    );

    let trace_height = if matches!(p.trace, Trace::None) { 0.0 } else { 96.0 };
    let gap = if trace_height > 0.0 { 20.0 } else { 0.0 };
    let prob_height = 150.0;
    let height = HEAD + trace_height + gap + prob_height + 50.0 + notes_height(&remarks);
    let mut c = Canvas::new(WIDE, height, p.title, &desc);
    let shade = format!("truly {}", p.positive);
    let probability = format!("P({})", p.positive);
    let mut legend = vec![(Key::Line, "s1", probability.as_str()), (Key::Dash, "", "threshold")];
    if !p.truth.is_empty() {
        legend.push((Key::Area, "f5 band", shade.as_str()));
    }
    header(&mut c, p.title, &legend);

    let (left, width) = (66.0, WIDE - 86.0);
    let ecg_ok = |fs: f64, start: f64| fs.is_finite() && fs > 0.0 && start.is_finite();
    let mut times: Vec<f64> = windows.iter().flat_map(|w| [w.start_s, w.end_s]).collect();
    times.extend(p.truth.iter().flat_map(|t| [t.start_s, t.end_s]));
    match p.trace {
        Trace::Ecg { fs_hz, start_s, samples, .. } if ecg_ok(fs_hz, start_s) && !samples.is_empty() => {
            times.extend([start_s, start_s + samples.len() as f64 / fs_hz]);
        }
        Trace::HeartRate(points) => times.extend(points.iter().map(|v| v.0)),
        _ => {}
    }
    let Some(span) = extent(times) else {
        empty(
            &mut c,
            left,
            HEAD,
            width,
            trace_height + gap + prob_height,
            "No window and no signal to draw.",
        );
        notes(&mut c, &remarks);
        return c.finish();
    };
    let span = if span.1 > span.0 { span } else { padded(span, 0.0) };
    let panel = Panel::new(left, HEAD + trace_height + gap, width, prob_height, span, (-0.02, 1.02));
    if trace_height > 0.0 {
        draw_trace(&mut c, p, left, width, trace_height, span, ecg_ok);
    }
    shade_truth(&mut c, &panel, p.truth);
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|v| (v, format!("{v}")));
    panel.y_axis_with(&mut c, &probability, &ticks);
    let time_ticks = panel.x.time_ticks(panel.x_tick_count());
    panel.x_axis(&mut c, time_title(span), &time_ticks);
    panel.clip(&mut c);
    let (line, area) = steps(&panel, &windows);
    c.path("f1 band", &area);
    c.path("s1 bold", &line);
    c.unclip();
    if let Some(y) = panel.y.px(p.threshold).filter(|y| (panel.top..=panel.bottom()).contains(y)) {
        c.line("ref", left, y, panel.right(), y);
    }
    if windows.is_empty() {
        c.text("note", left + width / 2.0, panel.top + 40.0, Anchor::Middle, "No prediction to draw.");
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// Axis title that matches [`crate::report::scale::Scale::time_ticks`].
pub(super) fn time_title(span: (f64, f64)) -> &'static str {
    match span.1 - span.0 {
        w if w <= 120.0 || span.0.abs() > 1e9 => "time (s)",
        _ if span.1 >= 3600.0 => "time (min:s, from one hour on h:min:s)",
        _ => "time (min:s)",
    }
}

fn shade_truth(c: &mut Canvas, panel: &Panel, truth: &[TrueSpan]) {
    for t in truth.iter().filter(|t| t.positive && t.start_s.is_finite() && t.end_s.is_finite()) {
        panel.span(c, "f5 band", t.start_s, t.end_s);
    }
}

fn draw_trace(
    c: &mut Canvas,
    p: &PredictionTimeline<'_>,
    left: f64,
    width: f64,
    height: f64,
    span: (f64, f64),
    ecg_ok: impl Fn(f64, f64) -> bool,
) {
    let (title, range) = match p.trace {
        Trace::None => return,
        Trace::Ecg { samples, unit, .. } => {
            (format!("ECG ({unit})"), extent(samples.iter().map(|v| f64::from(*v))))
        }
        Trace::HeartRate(points) => ("heart rate (bpm)".into(), extent(points.iter().map(|v| v.1))),
    };
    let valid = match p.trace {
        Trace::Ecg { fs_hz, start_s, .. } => ecg_ok(fs_hz, start_s),
        _ => true,
    };
    let Some(range) = range.filter(|_| valid) else {
        empty(c, left, HEAD, width, height, "No finite signal to draw.");
        return;
    };
    let panel = Panel::new(left, HEAD, width, height, span, padded(range, 0.08));
    shade_truth(c, &panel, p.truth);
    panel.y_axis_with(c, &title, &panel.y.ticks(3));
    panel.clip(c);
    match p.trace {
        Trace::Ecg { fs_hz, start_s, samples, .. } => {
            let dense = samples.len() as f64 > 6.0 * width;
            let class = if dense { "ink thin half" } else { "ink mid" };
            let points = samples.iter().enumerate().map(|(i, v)| (start_s + i as f64 / fs_hz, f64::from(*v)));
            c.path(class, &panel.line_path(points));
        }
        Trace::HeartRate(points) => c.path("s2 mid", &panel.line_path(points.iter().copied())),
        Trace::None => {}
    }
    c.unclip();
}

/// Path data of the step line and of the area below it.
fn steps(panel: &Panel, windows: &[WindowPrediction]) -> (String, String) {
    let (mut line, mut area) = (String::new(), String::new());
    let bottom = num(panel.y.px_in(0.0));
    let mut open = false;
    for (i, w) in windows.iter().enumerate() {
        let next = windows.get(i + 1).map(|n| n.start_s);
        let end = next.map_or(w.end_s, |n| n.min(w.end_s));
        let (a, b) = (num(panel.x.px_in(w.start_s)), num(panel.x.px_in(end)));
        let y = num(panel.y.px_in(w.probability));
        line.push_str(&if open { format!("L{a} {y}H{b}") } else { format!("M{a} {y}H{b}") });
        area.push_str(&if open { format!("L{a} {y}H{b}") } else { format!("M{a} {bottom}V{y}H{b}") });
        open = next.is_some_and(|n| n <= w.end_s);
        if !open {
            area.push_str(&format!("V{bottom}Z"));
        }
    }
    (line, area)
}
