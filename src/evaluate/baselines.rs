//! Baselines: what a model must beat, fitted in the model's own folds on the same training windows.
//!
//! A [`Baseline`] is a name and what it measures of a window ([`WindowFeatures`]); logistic regression with balanced classes
//! (see [`crate::metrics::LogisticRegression`]) does the rest, on features scaled by the training part. To add one,
//! implement the trait and put it into the list given to [`fit_baselines`]; methods that train otherwise hand
//! [`BaselinePredictions`] of their own to [`super::evaluate`].
//!
//! With [`Baseline::centred`] each feature is given as its difference to the mean over the person's own windows, which needs
//! no label but knows the whole recording.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::predictions::Predictions;
use crate::data::source::WindowSource;
use crate::error::{Error, Result};
use crate::metrics::baseline::LogisticSettings;
use crate::metrics::{LogisticRegression, Majority, Scaler};
use crate::signal::{HeartRate, detect_r_peaks};

/// Training part of a fold, for baselines.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FoldRows {
    /// Its name.
    pub name: String,
    /// Rows of the store trained on.
    pub train: Vec<usize>,
    /// Their classes.
    pub train_labels: Vec<bool>,
}

/// Windows with their sampling rate and people.
pub struct Study<'a> {
    /// The windows, by row.
    pub source: &'a dyn WindowSource,
    /// Their sampling rate.
    pub fs_hz: f64,
    /// The training parts.
    pub folds: &'a [FoldRows],
    /// A number for the person of each row.
    pub person: Vec<u32>,
}

impl fmt::Debug for Study<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Study({} windows, {} folds)", self.source.len(), self.folds.len())
    }
}

/// One window as features see it; what several of them need is computed once.
#[derive(Debug)]
pub struct WindowSignal<'a> {
    /// Samples, as the model gets them.
    pub samples: &'a [f64],
    /// Sampling rate.
    pub fs_hz: f64,
    peaks: OnceCell<Vec<usize>>,
}

impl<'a> WindowSignal<'a> {
    /// A window.
    pub fn new(samples: &'a [f64], fs_hz: f64) -> Self {
        Self { samples, fs_hz, peaks: OnceCell::new() }
    }

    /// R peaks, as sample indices.
    ///
    /// # Errors
    /// As [`detect_r_peaks`].
    pub fn r_peaks(&self) -> Result<&[usize]> {
        if let Some(peaks) = self.peaks.get() {
            return Ok(peaks);
        }
        let found = detect_r_peaks(self.samples, self.fs_hz)?;
        Ok(self.peaks.get_or_init(|| found))
    }

    /// Heart rate and its variability; `None` where they cannot be measured.
    ///
    /// # Errors
    /// As [`HeartRate::from_peaks`].
    pub fn heart_rate(&self) -> Result<Option<HeartRate>> {
        HeartRate::from_peaks(self.r_peaks()?, self.fs_hz)
    }
}

/// What a baseline measures of a window.
pub trait WindowFeatures: Send + Sync {
    /// Names of the features, with units.
    fn columns(&self) -> Vec<String>;

    /// One finite value per column; `None` where the window does not allow it.
    ///
    /// # Errors
    /// A window that makes no sense.
    fn measure(&self, window: &WindowSignal<'_>) -> Result<Option<Vec<f64>>>;
}

/// Mean heart rate.
#[derive(Clone, Copy, Debug)]
pub struct HeartRateFeatures;

impl WindowFeatures for HeartRateFeatures {
    fn columns(&self) -> Vec<String> {
        vec!["heart rate (beats/min)".into()]
    }
    fn measure(&self, window: &WindowSignal<'_>) -> Result<Option<Vec<f64>>> {
        Ok(window.heart_rate()?.map(|h| vec![h.mean_bpm]))
    }
}

/// Mean heart rate, SDNN, RMSSD and range of the RR intervals.
#[derive(Clone, Copy, Debug)]
pub struct VariabilityFeatures;

impl WindowFeatures for VariabilityFeatures {
    fn columns(&self) -> Vec<String> {
        ["heart rate (beats/min)", "SDNN (ms)", "RMSSD (ms)", "range of RR (ms)"].map(String::from).to_vec()
    }
    fn measure(&self, window: &WindowSignal<'_>) -> Result<Option<Vec<f64>>> {
        Ok(window.heart_rate()?.map(|h| vec![h.mean_bpm, h.sdnn_ms, h.rmssd_ms, h.range_ms]))
    }
}

/// A method to compare with.
#[derive(Clone)]
pub struct Baseline {
    /// Name in tables and figures.
    pub name: String,
    /// What it measures of a window; `None` for the share of positives in the training part.
    pub features: Option<Arc<dyn WindowFeatures>>,
    /// Whether each feature is the difference to the mean over the person's own windows.
    pub centred: bool,
}

impl fmt::Debug for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Baseline {
    /// Logistic regression on `features`.
    pub fn new(name: impl Into<String>, features: impl WindowFeatures + 'static) -> Self {
        Self { name: name.into(), features: Some(Arc::new(features)), centred: false }
    }

    /// The share of positives in the training part, whatever the window.
    pub fn majority() -> Self {
        Self { name: "majority class".into(), features: None, centred: false }
    }

    /// The same on features centred within people.
    #[must_use]
    pub fn centred(&self) -> Self {
        Self { name: format!("{}, centred", self.name), centred: true, ..self.clone() }
    }

    /// Heart rate; heart rate and variability; majority class.
    pub fn standard() -> Vec<Self> {
        vec![
            Self::new("heart rate", HeartRateFeatures),
            Self::new("heart rate and variability", VariabilityFeatures),
            Self::majority(),
        ]
    }
}

/// A baseline's probabilities for the test windows of a [`Predictions`].
#[derive(Clone, Debug, PartialEq)]
pub struct BaselinePredictions {
    /// Name in tables and figures.
    pub name: String,
    /// Probability of the positive class, one per prediction.
    pub probability: Vec<f64>,
    /// Test windows whose features could not be measured and were taken to be the training part's mean.
    pub unmeasured: usize,
}

/// The features of windows, by row; `None` where they could not be measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureTable {
    /// Number of features.
    pub columns: usize,
    /// Features by row.
    pub rows: BTreeMap<usize, Option<Vec<f64>>>,
}

impl FeatureTable {
    /// Subtracts from each feature its mean over the person's measured windows in the table.
    pub fn centre(&mut self, person: &[u32]) {
        let mut sums: BTreeMap<u32, (Vec<f64>, usize)> = BTreeMap::new();
        for (&row, x) in &self.rows {
            if let Some(x) = x {
                let (sum, n) = sums.entry(person[row]).or_insert_with(|| (vec![0.0; self.columns], 0));
                sum.iter_mut().zip(x).for_each(|(s, v)| *s += v);
                *n += 1;
            }
        }
        for (&row, x) in &mut self.rows {
            if let (Some(x), Some((sum, n))) = (x.as_mut(), sums.get(&person[row])) {
                x.iter_mut().zip(sum).for_each(|(v, s)| *v -= s / *n as f64);
            }
        }
    }

    /// Row-major features of `rows`; what is missing is `mean`.
    fn gather(&self, rows: &[usize], mean: &[f64]) -> Vec<f64> {
        let of = |r: &usize| self.rows.get(r).and_then(Option::as_ref).map_or(mean, Vec::as_slice);
        rows.iter().flat_map(|r| of(r).to_vec()).collect()
    }
}

/// Measures the features of each baseline on `rows`; each window is read once.
///
/// # Errors
/// A window that cannot be read, or features that are not finite.
pub fn measure(
    list: &[Baseline],
    study: &Study<'_>,
    rows: &BTreeSet<usize>,
) -> Result<Vec<Option<FeatureTable>>> {
    let table =
        |f: &Arc<dyn WindowFeatures>| FeatureTable { columns: f.columns().len(), rows: BTreeMap::new() };
    let mut tables: Vec<Option<FeatureTable>> = list.iter().map(|b| b.features.as_ref().map(table)).collect();
    let mut window = vec![0.0f32; study.source.samples()];
    for &row in rows {
        study.source.read(row, &mut window)?;
        let samples: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
        let signal = WindowSignal::new(&samples, study.fs_hz);
        for (baseline, table) in list.iter().zip(&mut tables) {
            let (Some(features), Some(table)) = (&baseline.features, table) else { continue };
            let x = features.measure(&signal)?;
            if let Some(x) = &x
                && (x.len() != table.columns || x.iter().any(|v| !v.is_finite()))
            {
                return Err(Error::numeric(format!("features of '{}' are {x:?}", baseline.name))
                    .at(format!("row {row}")));
            }
            table.rows.insert(row, x);
        }
    }
    for (baseline, table) in list.iter().zip(&mut tables) {
        if let (true, Some(table)) = (baseline.centred, table) {
            table.centre(&study.person);
        }
    }
    Ok(tables)
}

/// Fits one baseline in every fold and predicts the test windows of `p`; `table` as from [`measure`], `None` for the
/// majority class.
///
/// # Errors
/// A fold without measured windows, a prediction outside the store or the folds, a fit that does not converge.
pub fn fit(
    name: &str,
    table: Option<&FeatureTable>,
    p: &Predictions,
    folds: &[FoldRows],
) -> Result<BaselinePredictions> {
    let mut out =
        BaselinePredictions { name: name.into(), probability: vec![f64::NAN; p.len()], unmeasured: 0 };
    for (f, fold) in folds.iter().enumerate() {
        let test: Vec<usize> = (0..p.len()).filter(|&i| p.fold[i] == f).collect();
        if test.is_empty() {
            continue;
        }
        let Some(table) = table else {
            let majority = Majority::fit(&fold.train_labels)?;
            test.iter().for_each(|&i| out.probability[i] = majority.positive_share);
            continue;
        };
        let rows: Vec<usize> = test.iter().filter_map(|&i| p.row[i]).collect();
        if rows.len() != test.len() {
            return Err(Error::data("a prediction names no row of the store"));
        }
        let known: Vec<&Vec<f64>> = fold.train.iter().filter_map(|r| table.rows.get(r)?.as_ref()).collect();
        if known.is_empty() {
            return Err(Error::data(format!("'{name}' can be measured in no window of the training part"))
                .at(format!("fold '{}'", fold.name))
                .remedy("look at the windows, or leave the baselines out with --baselines=false"));
        }
        let mean: Vec<f64> = (0..table.columns)
            .map(|k| known.iter().map(|x| x[k]).sum::<f64>() / known.len() as f64)
            .collect();
        let train = table.gather(&fold.train, &mean);
        let scaler = Scaler::fit(&train, table.columns)?;
        let settings = LogisticSettings { balanced: true, ..LogisticSettings::default() };
        let fitted =
            LogisticRegression::fit(&scaler.transform(&train)?, table.columns, &fold.train_labels, settings)?;
        let x = scaler.transform(&table.gather(&rows, &mean))?;
        for (&i, q) in test.iter().zip(fitted.probabilities(&x)?) {
            out.probability[i] = q;
        }
        out.unmeasured += rows.iter().filter(|r| table.rows.get(r).is_none_or(Option::is_none)).count();
    }
    if out.probability.iter().any(|q| q.is_nan()) {
        return Err(Error::data("a prediction belongs to no fold of the split"));
    }
    Ok(out)
}

/// All rows that the folds and the predictions name.
pub fn rows_of(p: &Predictions, folds: &[FoldRows]) -> BTreeSet<usize> {
    folds.iter().flat_map(|f| f.train.iter().copied()).chain(p.row.iter().flatten().copied()).collect()
}

/// Measures and fits every baseline of `list` in the folds of `study`.
///
/// # Errors
/// As [`measure`] and [`fit`].
pub fn fit_baselines(
    list: &[Baseline],
    p: &Predictions,
    study: &Study<'_>,
) -> Result<Vec<BaselinePredictions>> {
    let tables = measure(list, study, &rows_of(p, study.folds))?;
    list.iter().zip(&tables).map(|(b, table)| fit(&b.name, table.as_ref(), p, study.folds)).collect()
}
