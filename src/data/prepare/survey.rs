//! A look at recordings before they are prepared: what is there, and what would be left out. Writes nothing.
//!
//! Every recording goes through the same steps as when it is prepared, so what is told of it is what would happen, at the
//! same cost in time; only the windows are thrown away. Normalisation drops nothing but windows without any variation, so
//! each window is scaled by itself here, which spares the first pass over all recordings of a person.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::duplicates::{self, Known};
use super::{PrepareSettings, Progress, Share, Warnings, checked, cut, item_name, quotas, strictly};
use crate::data::manifest::Skipped;
use crate::data::names::is_missing;
use crate::data::table::Items;
use crate::error::{Error, Kind, Result};
use crate::signal::Normalisation;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// By data set.
    pub datasets: BTreeMap<String, Part>,
    /// One entry per label column.
    pub labels: Vec<LabelColumn>,
    /// By (data set, person): windows that would be kept and dropped.
    pub people: BTreeMap<(String, String), Share>,
    /// Windows that would be dropped, by reason.
    pub windows_dropped: BTreeMap<String, usize>,
    /// Recordings that cannot be used, and why.
    pub skipped: Vec<Skipped>,
    /// What the readers noticed, as `file: warning`.
    pub warnings: Vec<String>,
}

/// What one data set holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// People with a recording that can be read.
    pub subjects: usize,
    /// Recordings that can be read.
    pub recordings: usize,
    /// Distinct trials of all people.
    pub trials: usize,
    /// Seconds of signal, without missing samples.
    pub seconds: f64,
    /// Missing samples.
    pub missing: u64,
    /// Recordings by sampling rate in Hz, as text.
    pub rates: BTreeMap<String, usize>,
    /// Recordings by unit.
    pub units: BTreeMap<String, usize>,
    /// Recordings shorter than a window.
    pub short: usize,
    /// Windows that would be kept.
    pub windows: usize,
}

/// The values of a label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelColumn {
    /// Name.
    pub name: String,
    /// Recordings by value.
    pub values: BTreeMap<String, usize>,
    /// Recordings without one.
    pub missing: usize,
}

/// Reads every recording and counts. `progress` is called after each, in order; it returns false to stop.
///
/// # Errors
/// Bad settings; the same samples under two people; [`Kind::Interrupted`] when `progress` stops the work. A recording that
/// cannot be read is counted, not an error.
pub fn survey(
    items: &Items,
    settings: &PrepareSettings,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Survey> {
    settings.check()?;
    let mut out = Survey { warnings: checked(items, settings)?, ..Survey::default() };
    let settings = &PrepareSettings { normalisation: Normalisation::Window, ..settings.clone() };
    let quotas = quotas(&items.items, settings);
    let mut subjects = BTreeSet::new();
    let mut trials = BTreeSet::new();
    let mut warnings = Warnings::default();
    let mut known = Vec::new();
    let mut done = 0;
    let in_flight = rayon::current_num_threads().max(1);
    for (c, chunk) in items.items.chunks(in_flight).enumerate() {
        let looks: Vec<Result<cut::Cut>> = chunk
            .par_iter()
            .enumerate()
            .map(|(j, item)| {
                let mut cut = cut::cut(item, settings, None, quotas[c * in_flight + j])?;
                // The values are not wanted, only how many windows there are.
                cut.windows.iter_mut().for_each(|w| w.2 = Vec::new());
                Ok(cut)
            })
            .collect();
        for (item, look) in chunk.iter().zip(looks) {
            match look {
                Ok(cut) => {
                    let part = out.datasets.entry(item.dataset.clone()).or_default();
                    part.recordings += 1;
                    part.subjects += usize::from(subjects.insert((&item.dataset, &item.subject)));
                    let trial = item.trial.clone().unwrap_or(cut.record);
                    part.trials += usize::from(trials.insert((&item.dataset, &item.subject, trial)));
                    let seconds = cut.duration_s - cut.missing as f64 / cut.fs_hz;
                    part.seconds += seconds;
                    part.missing += cut.missing as u64;
                    part.short += usize::from(seconds < settings.window as f64 / settings.rate_hz);
                    part.windows += cut.windows.len();
                    *part.rates.entry(cut.fs_hz.to_string()).or_default() += 1;
                    *part.units.entry(cut.unit).or_default() += 1;
                    let share = out.people.entry((item.dataset.clone(), item.subject.clone())).or_default();
                    share.kept += cut.windows.len();
                    for (reason, n) in cut.dropped {
                        share.dropped += n;
                        *out.windows_dropped.entry(reason).or_default() += n;
                    }
                    cut.warnings.iter().for_each(|w| warnings.add(item, w));
                    if !cut.windows.is_empty() {
                        let (samples, sketch) = cut.content;
                        known.push(Known { item, samples, sketch });
                    }
                }
                Err(e) => out.skipped.push(Skipped { record: item_name(item), reason: e.to_string() }),
            }
            done += 1;
            let state = Progress { done, total: items.items.len(), windows: 0, file: &item.file };
            if !progress(state) {
                return Err(Error::new(Kind::Interrupted, "stopped; nothing was written"));
            }
        }
    }
    out.warnings.extend(strictly(duplicates::doubts(&known)?, settings)?);
    out.warnings.extend(warnings.into_lines());
    for (c, name) in items.label_names.iter().enumerate() {
        let mut column = LabelColumn { name: name.clone(), ..LabelColumn::default() };
        for item in &items.items {
            match item.labels.get(c).cloned().flatten().filter(|l| !is_missing(l)) {
                Some(value) => *column.values.entry(value).or_default() += 1,
                None => column.missing += 1,
            }
        }
        out.labels.push(column);
    }
    Ok(out)
}
