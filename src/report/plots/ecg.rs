//! An ECG window, its masked spans, and what the model put there.

use crate::report::chart::{HEAD, Key, Panel, WIDE, empty, header, note_non_finite, notes, notes_height};
use crate::report::scale::{extent, padded, short};
use crate::report::svg::{Canvas, Svg};

/// Input of [`ecg_reconstruction`].
#[derive(Clone, Copy, Debug)]
pub struct EcgReconstruction<'a> {
    /// Title.
    pub title: &'a str,
    /// Sampling rate in Hz.
    pub fs_hz: f64,
    /// Time of the first sample in seconds.
    pub start_s: f64,
    /// The window, one value per sample.
    pub ecg: &'a [f32],
    /// The model's output, one value per sample; shown only where masked.
    pub reconstruction: &'a [f32],
    /// Whether each sample was hidden from the model.
    pub masked: &'a [bool],
    /// Unit of the samples: "mV", or "z-score" after normalisation.
    pub unit: &'a str,
}

/// An ECG window with its masked spans shaded and the reconstruction drawn over the masked points only.
///
/// The note below gives the share masked and the mean squared error over the masked points, from the values drawn.
pub fn ecg_reconstruction(p: &EcgReconstruction<'_>) -> Svg {
    let n = p.ecg.len();
    let rate_ok = p.fs_hz.is_finite() && p.fs_hz > 0.0 && p.start_s.is_finite();
    let mut remarks = Vec::new();
    let masked: Vec<usize> = (0..n).filter(|&i| p.masked.get(i) == Some(&true)).collect();
    let (mut squares, mut used) = (0f64, 0usize);
    for &i in &masked {
        let Some(&r) = p.reconstruction.get(i) else { continue };
        let d = f64::from(r) - f64::from(p.ecg[i]);
        if d.is_finite() {
            squares += d * d;
            used += 1;
        }
    }
    if used > 0 {
        let share = 100.0 * masked.len() as f64 / n as f64;
        remarks.push(format!(
            "{} of {n} samples masked ({share:.1} %); mean squared error over them {} ({})\u{b2}.",
            masked.len(),
            short(squares / used as f64, 3),
            p.unit
        ));
    }
    if p.masked.len() != n || p.reconstruction.len() != n {
        remarks.push(format!(
            "Lengths differ: {n} samples, {} mask values, {} reconstructed; drawn where all exist.",
            p.masked.len(),
            p.reconstruction.len()
        ));
    }
    note_non_finite(&mut remarks, p.ecg.iter().filter(|v| !v.is_finite()).count(), "ECG");
    let lost = masked.iter().filter(|&&i| p.reconstruction.get(i).is_some_and(|v| !v.is_finite())).count();
    note_non_finite(&mut remarks, lost, "reconstruction");

    let desc = format!(
        "Line plot of {n} ECG samples over {} s with {} masked samples and their reconstruction.",
        short(n as f64 / p.fs_hz, 3),
        masked.len()
    );
    let mut c = Canvas::new(WIDE, 318.0 + notes_height(&remarks), p.title, &desc);
    let legend = [
        (Key::Line, "ink", "ECG"),
        (Key::Area, "f5 band", "hidden from the model"),
        (Key::Line, "s2", "reconstruction"),
    ];
    header(&mut c, p.title, &legend);
    let shown = masked.iter().filter_map(|&i| p.reconstruction.get(i));
    let range = extent(p.ecg.iter().chain(shown).map(|v| f64::from(*v)));
    match range {
        Some(range) if rate_ok => {
            let time = |i: usize| p.start_s + i as f64 / p.fs_hz;
            let span = (time(0), time(n.max(2) - 1));
            let panel = Panel::new(66.0, HEAD, WIDE - 86.0, 206.0, span, padded(range, 0.06));
            let ticks = panel.x.time_ticks(panel.x_tick_count());
            let half = 0.5 / p.fs_hz;
            for (a, b) in runs(&masked) {
                panel.span(&mut c, "f5 band", time(a) - half, time(b) + half);
            }
            panel.y_axis(&mut c, &format!("ECG ({})", p.unit));
            panel.x_axis(&mut c, "time (s)", &ticks);
            panel.clip(&mut c);
            c.path("ink mid", &panel.line_path((0..n).map(|i| (time(i), f64::from(p.ecg[i])))));
            let hidden = |i: usize| p.masked.get(i) == Some(&true);
            let over = (0..n).map(|i| {
                let v = if hidden(i) { p.reconstruction.get(i).copied() } else { None };
                (time(i), f64::from(v.unwrap_or(f32::NAN)))
            });
            c.path("s2 bold", &panel.line_path(over));
            c.unclip();
        }
        _ => {
            let why = if rate_ok {
                "No finite ECG sample to draw."
            } else {
                "No valid sampling rate or start time."
            };
            empty(&mut c, 66.0, HEAD, WIDE - 86.0, 206.0, why);
        }
    }
    notes(&mut c, &remarks);
    c.finish()
}

/// Consecutive runs in ascending indices, as first and last index.
fn runs(indices: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &i in indices {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == i => *last = i,
            _ => out.push((i, i)),
        }
    }
    out
}
