//! A look at recordings before they are prepared: what is there, and what would be left out. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{PrepareSettings, Progress, cut, item_name};
use crate::data::manifest::Skipped;
use crate::data::table::Items;
use crate::error::Kind;
use crate::{Error, Result};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// By data set.
    pub datasets: BTreeMap<String, Part>,
    /// One entry per label column.
    pub labels: Vec<LabelColumn>,
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
/// [`Kind::Interrupted`] when `progress` stops the work. A recording that cannot be read is counted, not an error.
pub fn survey(
    items: &Items,
    settings: &PrepareSettings,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Survey> {
    let mut out = Survey::default();
    let mut subjects = BTreeSet::new();
    let mut trials = BTreeSet::new();
    let mut done = 0;
    for chunk in items.items.chunks(rayon::current_num_threads().max(1)) {
        let looks: Vec<_> = chunk
            .par_iter()
            .map(|item| {
                let mut recording = cut::open(item, settings)?;
                let channel = recording.channels.pop().ok_or_else(|| Error::data("no channel"))?;
                // The same check, and the same message, as when it is prepared.
                let mv = channel.to_millivolts(None)?;
                let part = cut::part(item, mv.len(), channel.fs_hz)?;
                let missing = mv[part.clone()].iter().filter(|x| !x.is_finite()).count();
                Ok((part.len(), missing, channel.fs_hz, channel.unit, recording.record, recording.warnings))
            })
            .collect::<Vec<Result<_>>>();
        for (item, look) in chunk.iter().zip(looks) {
            match look {
                Ok((samples, missing, fs_hz, unit, record, warnings)) => {
                    let part = out.datasets.entry(item.dataset.clone()).or_default();
                    part.recordings += 1;
                    part.subjects += usize::from(subjects.insert((&item.dataset, &item.subject)));
                    let trial = item.trial.clone().unwrap_or(record);
                    part.trials += usize::from(trials.insert((&item.dataset, &item.subject, trial)));
                    let seconds = (samples - missing) as f64 / fs_hz;
                    part.seconds += seconds;
                    part.missing += missing as u64;
                    part.short += usize::from(seconds < settings.window as f64 / settings.rate_hz);
                    *part.rates.entry(fs_hz.to_string()).or_default() += 1;
                    *part.units.entry(unit.to_string()).or_default() += 1;
                    out.warnings.extend(warnings.iter().map(|w| format!("{}: {w}", item_name(item))));
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
    for (c, name) in items.label_names.iter().enumerate() {
        let mut column = LabelColumn { name: name.clone(), ..LabelColumn::default() };
        for item in &items.items {
            match item.labels.get(c).cloned().flatten() {
                Some(value) => *column.values.entry(value).or_default() += 1,
                None => column.missing += 1,
            }
        }
        out.labels.push(column);
    }
    Ok(out)
}
