//! What a linear head reads beside a window's embedding: heart rate and variability, the person's reference, and the
//! windows before.
//!
//! With e the embedding of a window and p its [`PHYSIOLOGY`], bars for the mean over the context, and e0, p0 the reference:
//!
//! ```text
//! physiology, no reference     [ p,  e ]
//! physiology and reference     [ p,  p - p0,  e,  e - e0 ]
//! ```
//!
//! | reference | e0 and p0 |
//! |---|---|
//! | none | not there: a new person, of whom nothing is known |
//! | rest | means over the first seconds of the person's own known rest, which is never scored and never trained on |
//! | past | of the person's windows up to this one, in order: the median of each feature of the embedding, and the quantile [`PAST_QUANTILE`] of each value of p |
//!
//! Context and past are causal: a window's features never depend on a later window. A value of p that cannot be measured is
//! left out of means and quantiles; what is missing after that takes the training part's mean.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::signal::{Physiology, physiology_all};

/// The values of p, in order.
pub const PHYSIOLOGY: [&str; 3] = ["heart rate", "ln RMSSD", "ln SDNN"];

/// The quantile of a person's past that stands for rest: the low end of what was seen, but not its minimum.
pub const PAST_QUANTILE: f64 = 0.2;

/// What is known of the person before a window is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reference {
    /// Nothing.
    #[default]
    None,
    /// Some seconds of the person's own rest.
    Rest,
    /// The person's own earlier windows, without labels.
    Past,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reference::None => "none",
            Reference::Rest => "rest",
            Reference::Past => "past",
        })
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "rest" => Ok(Self::Rest),
            "past" => Ok(Self::Past),
            _ => Err(Error::usage(format!("'{text}' is no reference")).remedy("use none, rest or past")),
        }
    }
}

/// What a head reads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The reference.
    pub reference: Reference,
    /// Seconds of rest, or of past that must be there before a window is judged.
    pub reference_s: f64,
    /// Seconds over which features are averaged, the window included; 0 for the window alone.
    pub context_s: f64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { reference: Reference::None, reference_s: 30.0, context_s: 0.0 }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reference {
            Reference::None => write!(f, "no reference")?,
            Reference::Rest => write!(f, "{} s of the person's own rest known", self.reference_s)?,
            Reference::Past => {
                write!(f, "the person's own past known, at least {} s of it", self.reference_s)?;
            }
        }
        if self.context_s > 0.0 { write!(f, ", averaged over {} s", self.context_s) } else { Ok(()) }
    }
}

impl Reading {
    /// Checks the seconds against those of a window.
    ///
    /// # Errors
    /// A reference or a context shorter than a window.
    pub fn check(&self, window_s: f64) -> Result<()> {
        let short = |s: f64| !(s.is_finite() && s >= window_s - 1e-9);
        if self.reference != Reference::None && short(self.reference_s) {
            return Err(Error::usage(format!(
                "a reference of {} s is shorter than a window of {window_s} s",
                self.reference_s
            ))
            .remedy(format!("give --reference-s {window_s} or more")));
        }
        if self.context_s != 0.0 && short(self.context_s) {
            return Err(Error::usage(format!(
                "a context of {} s is shorter than a window of {window_s} s",
                self.context_s
            ))
            .remedy(format!("give --context-s {window_s} or more, or 0 for the window alone")));
        }
        Ok(())
    }

    /// Values of p, or of p and p - p0, that a head reads.
    pub fn physiology_inputs(&self) -> usize {
        PHYSIOLOGY.len() * self.copies()
    }

    /// Everything a head reads, for embeddings of `width` values.
    pub fn inputs(&self, width: usize) -> usize {
        (PHYSIOLOGY.len() + width) * self.copies()
    }

    fn copies(&self) -> usize {
        if self.reference == Reference::None { 1 } else { 2 }
    }
}

/// p of a window.
pub type Values = [Option<f64>; PHYSIOLOGY.len()];

/// p of windows `[n, samples]` at `fs_hz`.
///
/// # Errors
/// As [`physiology_all`].
pub fn measure(windows: &[f32], samples: usize, fs_hz: f64) -> Result<Vec<Values>> {
    let mut out = Vec::new();
    for part in windows.chunks(samples * 64) {
        let wide: Vec<f64> = part.iter().map(|v| f64::from(*v)).collect();
        let views: Vec<&[f64]> = wide.chunks_exact(samples).collect();
        let of = |p: Physiology| [p.heart_rate_bpm, p.log_rmssd, p.log_sdnn];
        out.extend(physiology_all(&views, fs_hz)?.into_iter().map(of));
    }
    Ok(out)
}

/// Embedding and p of one window, or of several together.
#[derive(Clone, PartialEq, Debug)]
pub struct Features {
    /// e.
    pub embedding: Vec<f32>,
    /// p.
    pub values: Values,
}

impl Features {
    /// The mean of several, values over those that were measured. `None` of none.
    pub fn mean<'a>(of: impl IntoIterator<Item = &'a Features>) -> Option<Features> {
        let all: Vec<&Features> = of.into_iter().collect();
        let first = all.first()?;
        let mean = |v: &mut dyn Iterator<Item = f64>| {
            let (n, sum) = v.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
            (n > 0.0).then(|| sum / n)
        };
        let column =
            |j: usize| mean(&mut all.iter().map(|f| f64::from(f.embedding[j]))).unwrap_or(0.0) as f32;
        Some(Features {
            embedding: (0..first.embedding.len()).map(column).collect(),
            values: std::array::from_fn(|k| mean(&mut all.iter().filter_map(|f| f.values[k]))),
        })
    }

    /// Median of each feature of the embedding, and [`PAST_QUANTILE`] of each value, linear between neighbours.
    fn past(of: &[Features]) -> Option<Features> {
        let first = of.first()?;
        let quantile = |mut v: Vec<f64>, q: f64| {
            v.sort_by(f64::total_cmp);
            let at = q * (v.len().checked_sub(1)? as f64);
            let (low, part) = (at.floor() as usize, at.fract());
            Some(v[low] + part * (v[(low + 1).min(v.len() - 1)] - v[low]))
        };
        let column = |j: usize| {
            quantile(of.iter().map(|f| f64::from(f.embedding[j])).collect(), 0.5).unwrap_or(0.0) as f32
        };
        Some(Features {
            embedding: (0..first.embedding.len()).map(column).collect(),
            values: std::array::from_fn(|k| {
                quantile(of.iter().filter_map(|f| f.values[k]).collect(), PAST_QUANTILE)
            }),
        })
    }
}

/// Where a window lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place<'a> {
    /// Its recording.
    pub record: &'a str,
    /// Seconds from the recording's start to its first sample.
    pub start_s: f64,
}

/// What a head reads of each window of one person, in the order in which they were recorded; NaN where a value is missing,
/// `None` where there is not enough past yet. `rest` is the reference of [`Reference::Rest`].
///
/// # Errors
/// A reading by rest without rest.
pub fn read_person(
    reading: &Reading,
    window_s: f64,
    windows: &[Features],
    places: &[Place<'_>],
    rest: Option<&Features>,
) -> Result<Vec<Option<Vec<f32>>>> {
    if reading.reference == Reference::Rest && rest.is_none() {
        return Err(Error::usage("this head reads the difference to the person's rest, and there is none")
            .remedy(format!("give {} s of the person's own rest", reading.reference_s)));
    }
    // Windows of past that cover so many seconds side by side.
    let needed = (reading.reference_s / window_s - 1e-9).ceil().max(1.0) as usize;
    let mut out = Vec::with_capacity(windows.len());
    for (i, place) in places.iter().enumerate() {
        let now = if reading.context_s > 0.0 {
            let from = place.start_s + window_s - reading.context_s - 1e-6;
            let near = (0..=i).filter(|&j| places[j].record == place.record && places[j].start_s >= from);
            Features::mean(near.map(|j| &windows[j])).unwrap_or_else(|| windows[i].clone())
        } else {
            windows[i].clone()
        };
        let reference = match reading.reference {
            Reference::None => None,
            Reference::Rest => rest.cloned(),
            Reference::Past if i + 1 < needed => {
                out.push(None);
                continue;
            }
            Reference::Past => Features::past(&windows[..=i]),
        };
        out.push(Some(assemble(&now, reference.as_ref())));
    }
    Ok(out)
}

/// `[p, e]` or `[p, p - p0, e, e - e0]`.
fn assemble(now: &Features, reference: Option<&Features>) -> Vec<f32> {
    let number = |v: Option<f64>| v.map_or(f32::NAN, |v| v as f32);
    let mut x: Vec<f32> = now.values.iter().map(|v| number(*v)).collect();
    if let Some(r) = reference {
        x.extend(now.values.iter().zip(&r.values).map(|(v, r)| number(v.zip(*r).map(|(v, r)| v - r))));
    }
    x.extend(&now.embedding);
    if let Some(r) = reference {
        x.extend(now.embedding.iter().zip(&r.embedding).map(|(v, r)| v - r));
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(e: f32, hr: Option<f64>) -> Features {
        Features { embedding: vec![e, -e], values: [hr, Some(3.0), None] }
    }

    fn places(n: usize) -> Vec<Place<'static>> {
        (0..n).map(|i| Place { record: "a", start_s: 10.0 * i as f64 }).collect()
    }

    #[test]
    fn rest_is_subtracted_from_embedding_and_values() {
        let reading = Reading { reference: Reference::Rest, ..Reading::default() };
        let rest =
            Features::mean(&[window(1.0, Some(60.0)), window(3.0, None), window(2.0, Some(70.0))]).unwrap();
        let read = |w| read_person(&reading, 10.0, &[w], &places(1), Some(&rest)).unwrap().remove(0).unwrap();
        let x = read(window(5.0, Some(80.0)));
        assert_eq!((x[0], x[3], x[4]), (80.0, 15.0, 0.0));
        assert!(x[2].is_nan() && x[5].is_nan());
        assert_eq!(x[6..], [5.0, -5.0, 3.0, -3.0]);
        assert!(read(window(5.0, None))[3].is_nan());
        assert_eq!(x.len(), reading.inputs(2));
        assert!(read_person(&reading, 10.0, &[window(1.0, None)], &places(1), None).is_err());
    }

    #[test]
    fn context_and_past_never_look_ahead() {
        let all: Vec<Features> =
            (0..8).map(|i| window(i as f32, Some(60.0 + f64::from(i * i % 7)))).collect();
        for reading in [
            Reading { context_s: 30.0, ..Reading::default() },
            Reading { reference: Reference::Past, context_s: 20.0, ..Reading::default() },
        ] {
            let bits = |rows: Vec<Option<Vec<f32>>>| -> Vec<Option<Vec<u32>>> {
                rows.into_iter().map(|r| r.map(|r| r.iter().map(|v| v.to_bits()).collect())).collect()
            };
            let whole = bits(read_person(&reading, 10.0, &all, &places(8), None).unwrap());
            for n in 1..8 {
                let part = read_person(&reading, 10.0, &all[..n], &places(n), None).unwrap();
                assert_eq!(bits(part), whole[..n]);
            }
        }
        // Thirty seconds of past are three windows, this one included.
        let reading = Reading { reference: Reference::Past, ..Reading::default() };
        let rows = read_person(&reading, 10.0, &all, &places(8), None).unwrap();
        assert_eq!(
            rows.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, false, true, true, true, true, true, true]
        );
    }

    #[test]
    fn context_stays_within_the_recording_and_its_seconds() {
        let all: Vec<Features> = (0..4).map(|i| window(i as f32, None)).collect();
        let mut at = places(4);
        at[3] = Place { record: "b", start_s: 0.0 };
        let reading = Reading { context_s: 20.0, ..Reading::default() };
        let rows = read_person(&reading, 10.0, &all, &at, None).unwrap();
        let e: Vec<f32> = rows.iter().map(|r| r.as_ref().unwrap()[3]).collect();
        assert_eq!(e, [0.0, 0.5, 1.5, 3.0]);
    }

    #[test]
    fn seconds_shorter_than_a_window_are_refused() {
        let rest = Reading { reference: Reference::Rest, reference_s: 5.0, context_s: 0.0 };
        assert!(rest.check(10.0).unwrap_err().to_string().contains("--reference-s 10"));
        let context = Reading { context_s: 5.0, ..Reading::default() };
        assert!(context.check(10.0).unwrap_err().to_string().contains("--context-s 10"));
        assert!(Reading { reference_s: 1.0, ..Reading::default() }.check(10.0).is_ok());
    }
}
