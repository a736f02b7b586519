//! The picture of what a store holds, or would hold.

use std::collections::BTreeMap;

use super::context::Context;
use crate::data::manifest::Processing;
use crate::data::prepare::survey::Survey;
use crate::data::prepare::{Report, Share};
use crate::data::store::Store;
use crate::report::Svg;
use crate::report::plots::{DatasetOverview, LabelCounts, PersonHours, SetLine, dataset_overview};

/// Name of the picture in a store.
pub(super) const PICTURE: &str = "overview.svg";

/// Name, values with counts, how many without.
type LabelHours = (String, Vec<(String, f64)>, f64);

/// What the picture shows, in values of its own.
#[derive(Default)]
struct Facts {
    title: String,
    sets: Vec<(String, String)>,
    /// (data set, person, kept, dropped), hours.
    people: Vec<(String, String, f64, f64)>,
    labels: Vec<LabelHours>,
    counted: &'static str,
    left_out: Vec<(String, f64)>,
    remarks: Vec<String>,
}

impl Facts {
    fn draw(&self) -> Svg {
        let sets: Vec<SetLine<'_>> = self.sets.iter().map(|(name, text)| SetLine { name, text }).collect();
        let people: Vec<PersonHours<'_>> = self
            .people
            .iter()
            .map(|(dataset, subject, kept, dropped)| PersonHours {
                dataset,
                subject,
                kept_h: *kept,
                dropped_h: *dropped,
            })
            .collect();
        let values: Vec<Vec<(&str, f64)>> =
            self.labels.iter().map(|(_, v, _)| v.iter().map(|(t, n)| (t.as_str(), *n)).collect()).collect();
        let labels: Vec<LabelCounts<'_>> = self
            .labels
            .iter()
            .zip(&values)
            .map(|((name, _, missing), values)| LabelCounts { name, values, missing: *missing })
            .collect();
        let left_out: Vec<(&str, f64)> = self.left_out.iter().map(|(t, n)| (t.as_str(), *n)).collect();
        let remarks: Vec<&str> = self.remarks.iter().map(String::as_str).collect();
        dataset_overview(&DatasetOverview {
            title: &self.title,
            sets: &sets,
            people: &people,
            labels: &labels,
            counted: self.counted,
            left_out: &left_out,
            remarks: &remarks,
        })
    }

    fn people(&mut self, people: &BTreeMap<(String, String), Share>, hours: impl Fn(usize) -> f64) {
        for ((dataset, subject), share) in people {
            self.people.push((dataset.clone(), subject.clone(), hours(share.kept), hours(share.dropped)));
        }
    }

    /// Reasons, the most frequent first.
    fn windows<'a>(&mut self, dropped: impl IntoIterator<Item = (&'a String, f64)>) {
        let mut list: Vec<(String, f64)> = dropped.into_iter().map(|(why, n)| (why.clone(), n)).collect();
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.left_out.extend(list.into_iter().map(|(why, n)| (format!("windows: {why}"), n)));
    }

    fn recordings(&mut self, why: &str, count: usize) {
        if count > 0 {
            self.left_out.push((format!("recordings: {why}"), count as f64));
        }
    }
}

/// Overlapping windows share samples, so a window counts for at most one hop.
pub(super) fn hours(windows: usize, p: &Processing) -> f64 {
    windows as f64 * p.window.min(p.hop) as f64 / p.rate_hz / 3600.0
}

/// "128, 256 Hz", "mV": the keys, the most frequent first, and how often each occurs if there are several.
pub(super) fn list(counts: &BTreeMap<String, usize>, unit: &str) -> String {
    let mut all: Vec<(&String, &usize)> = counts.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1));
    match &all[..] {
        [(only, _)] => format!("{only}{unit}"),
        _ => all.iter().map(|(v, n)| format!("{v}{unit} ({n})")).collect::<Vec<_>>().join(", "),
    }
}

/// What a dry run found.
pub(super) fn of_survey(survey: &Survey, left_out: usize, p: &Processing) -> Svg {
    let mut f = Facts { title: "What would be prepared".into(), counted: "recordings", ..Facts::default() };
    for (name, d) in &survey.datasets {
        let text = format!(
            "{} people, {} trials, {} recordings, {:.2} h; {}; {}; {} windows",
            d.subjects,
            d.trials,
            d.recordings,
            d.seconds / 3600.0,
            list(&d.rates, " Hz"),
            list(&d.units, ""),
            d.windows
        );
        f.sets.push((name.clone(), text));
    }
    f.people(&survey.people, |n| hours(n, p));
    for label in &survey.labels {
        let values = sorted(label.values.iter().map(|(v, n)| (v.clone(), *n as f64)).collect());
        f.labels.push((label.name.clone(), values, label.missing as f64));
    }
    f.windows(survey.windows_dropped.iter().map(|(why, n)| (why, *n as f64)));
    f.recordings("left out by the data set's reader", left_out);
    f.recordings("cannot be used", survey.skipped.len());
    f.recordings("shorter than a window", survey.datasets.values().map(|d| d.short).sum());
    f.draw()
}

/// What was prepared: the report knows what was dropped of whom, the store the labels.
pub(super) fn of_report(report: &Report, left_out: usize, store: &Store) -> Svg {
    let p = &store.manifest().processing;
    let mut f = Facts { title: "What the store holds".into(), counted: "windows", ..Facts::default() };
    for (name, d) in &report.datasets {
        let text = format!(
            "{} people, {} recordings, {:.2} h; {}; {}; {} windows",
            d.subjects,
            d.recordings,
            hours(d.windows, p),
            list(&d.rates, " Hz"),
            list(&d.units, ""),
            d.windows
        );
        f.sets.push((name.clone(), text));
    }
    f.people(&report.people, |n| hours(n, p));
    store_labels(&mut f, store);
    f.windows(report.counts.windows_dropped.iter().map(|(why, n)| (why, *n as f64)));
    f.recordings("left out by the data set's reader", left_out);
    f.recordings("without a window", report.counts.skipped.len());
    f.draw()
}

/// What a store holds, by its index and manifest.
pub(super) fn of_store(store: &Store) -> Svg {
    let (index, manifest) = (store.index(), store.manifest());
    let p = &manifest.processing;
    let mut f = Facts { title: "What the store holds".into(), counted: "windows", ..Facts::default() };
    let mut people: BTreeMap<(String, String), Share> = BTreeMap::new();
    for i in 0..index.len() {
        people.entry((index.dataset(i).to_string(), index.subject(i).to_string())).or_default().kept += 1;
    }
    let mut sets: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for ((dataset, _), share) in &people {
        let set = sets.entry(dataset).or_default();
        *set = (set.0 + 1, set.1 + share.kept);
    }
    for (name, (subjects, windows)) in sets {
        let text = format!("{subjects} people, {windows} windows, {:.2} h", hours(windows, p));
        f.sets.push((name.to_string(), text));
    }
    f.people(&people, |n| hours(n, p));
    store_labels(&mut f, store);
    f.windows(manifest.counts.windows_dropped.iter().map(|(why, n)| (why, *n as f64)));
    f.recordings("without a window", manifest.counts.skipped.len());
    if !manifest.counts.windows_dropped.is_empty() {
        f.remarks
            .push("A store does not keep whose windows were dropped; its overview.svg shows them.".into());
    }
    f.draw()
}

fn store_labels(f: &mut Facts, store: &Store) {
    let index = store.index();
    for (c, name) in index.label_names().iter().enumerate() {
        let mut values: BTreeMap<&str, f64> = BTreeMap::new();
        let mut missing = 0.0;
        for i in 0..index.len() {
            match index.label(c, i) {
                Some(value) => *values.entry(value).or_default() += 1.0,
                None => missing += 1.0,
            }
        }
        let values = sorted(values.into_iter().map(|(v, n)| (v.to_string(), n)).collect());
        f.labels.push((name.clone(), values, missing));
    }
}

/// Numbers by value; anything else as it is.
fn sorted(mut values: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let numbers: Option<Vec<f64>> = values.iter().map(|(v, _)| v.parse().ok()).collect();
    if let Some(numbers) = numbers {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
        values = order.into_iter().map(|i| values[i].clone()).collect();
    }
    values
}

/// Writes a picture that a flag asked for, and says so.
///
/// # Errors
/// The file is there already and may not be overwritten, or a failing disk.
pub(super) fn save(
    svg: &Svg,
    path: &std::path::Path,
    overwrite: bool,
    context: &Context,
) -> crate::error::Result<()> {
    super::windows::check_free(path, overwrite)?;
    crate::checkpoint::write_bytes(path, svg.as_str().as_bytes())?;
    context.note(format!("picture: {}", path.display()));
    Ok(())
}
