//! One cell of the matrix: a model, a reading, a seed and a number of training people, to predictions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{File, ModelRow, ReadingRow};
use crate::cli::Context;
use crate::cli::options::{choose, labels::Labels, model::POOLINGS};
use crate::cli::probe::{encoder, load_init};
use crate::data::rng::SplitMix64;
use crate::data::source::WindowSource;
use crate::data::split::{Keys, Split};
use crate::data::store::Store;
use crate::error::{Error, IoContext, Result};
use crate::model::reading::{PHYSIOLOGY, Reference};
use crate::model::{Model, Preprocessing};
use crate::nn::{ModelConfig, Pooling};
use crate::train::Labelled;
use crate::train::probe::{ProbeFeatures, ProbeSettings, probe};
use crate::train::read::{self, Measured};

/// The layout of a cached cell; another one is run again.
const FORMAT: u32 = 1;

/// What determines a cell; its hash names the file of its result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Key<'a> {
    pub(super) reading: &'a ReadingRow,
    pub(super) model: &'a ModelRow,
    pub(super) seed: u64,
    pub(super) people: usize,
}

/// The predictions of a cell, by row of the store, ascending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outcome {
    pub(super) format: u32,
    pub(super) row: Vec<usize>,
    pub(super) person: Vec<String>,
    pub(super) label: Vec<bool>,
    pub(super) probability: Vec<f64>,
    /// How many folds chose each penalty of the embedding.
    pub(super) chosen: BTreeMap<String, usize>,
    /// Sentences on windows and people that were left out.
    pub(super) left_out: Vec<String>,
    /// Seconds it took.
    pub(super) seconds: f64,
}

/// What cells share: the data, and embeddings by model.
pub(super) struct Bench<'a> {
    pub(super) file: &'a File,
    pub(super) store: &'a Store,
    pub(super) labels: &'a Labels,
    pub(super) threads: usize,
    context: &'a Context,
    /// Fingerprint of the store and labels.
    pub(super) data: String,
    measured: BTreeMap<String, Measured>,
    loaded: BTreeMap<String, Model>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        file: &'a File,
        store: &'a Store,
        labels: &'a Labels,
        threads: usize,
        data: String,
        context: &'a Context,
    ) -> Self {
        Self {
            file,
            store,
            labels,
            threads,
            context,
            data,
            measured: BTreeMap::new(),
            loaded: BTreeMap::new(),
        }
    }

    fn load(&mut self, dir: &str) -> Result<Model> {
        if !self.loaded.contains_key(dir) {
            let model = load_init(Path::new(dir), self.context)?;
            crate::cli::finetune::check_same_preparation(&model, Path::new(dir), self.store)?;
            self.loaded.insert(dir.into(), model);
        }
        Ok(self.loaded[dir].clone())
    }

    /// The hash of what determines a cell.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub(super) fn hash(&mut self, key: &Key<'_>) -> Result<String> {
        let mut hash = Sha256::new();
        let file = self.file;
        let text = serde_json::to_string(key).map_err(|e| Error::format(e.to_string()))?;
        for part in [
            FORMAT.to_string(),
            env!("CARGO_PKG_VERSION").into(),
            self.data.clone(),
            format!("{} {} {} {} {}", file.label, file.positive, file.negative, file.protocol, file.folds),
            text,
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        if let Some(dir) = &key.model.init {
            let model = self.load(dir)?;
            hash.update(format!("{:?}", model.config()).as_bytes());
            model.tensors().for_each(|t| hash.update(bytemuck::cast_slice::<f32, u8>(t.values)));
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Embeddings of all rows of the labelled people, made once per encoder.
    fn measure(&mut self, row: &ModelRow, seed: u64) -> Result<String> {
        let name = match (&row.init, &row.random) {
            (Some(dir), _) => format!("init {dir} {:?}", row.pooling),
            (_, Some(preset)) => format!("random {preset} {seed} {:?}", row.pooling),
            _ => "physiology".into(),
        };
        if self.measured.contains_key(&name) {
            return Ok(name);
        }
        let init = match &row.init {
            Some(dir) => Some(self.load(dir)?),
            None => None,
        };
        let preset = row.random.as_deref().unwrap_or("tiny");
        let mut config = match &init {
            Some(m) => m.config().clone(),
            None => ModelConfig { window: self.store.samples(), ..ModelConfig::preset(preset)? },
        };
        config.head_hidden = Vec::new();
        config.pooling = match row.pooling.as_deref() {
            None => Pooling::MeanDeviation,
            Some(name) => choose(POOLINGS, name).ok_or_else(|| {
                Error::usage(format!("'{name}' is no pooling")).remedy("use mean-deviation")
            })?,
        };
        let model = encoder(init.as_ref(), config, seed)?
            .with_threads(self.threads)
            .with_preprocessing(Preprocessing::of_store(self.store.manifest())?);
        let rows = read::rows_of_people(self.store.index(), &self.labels.rows);
        self.measured.insert(name.clone(), read::measure_rows(&model, self.store, &rows)?);
        Ok(name)
    }

    /// Runs a cell.
    ///
    /// # Errors
    /// Whatever stands in its way; other cells go on.
    pub(super) fn run(&mut self, key: &Key<'_>) -> Result<Outcome> {
        let clock = std::time::Instant::now();
        let (reading, rest) = key.reading.resolve()?;
        let name = self.measure(key.model, key.seed)?;
        let (store, labels) = (self.store, self.labels);
        let found = read::read_rows(store, &self.measured[&name], &labels.rows, &reading, &rest)?;
        let rows: Vec<usize> = found.keep.iter().map(|&i| labels.rows[i]).collect();
        let classes: Vec<bool> = found.keep.iter().map(|&i| labels.classes[i]).collect();
        let index = store.index();
        let all = index.split_keys();
        let person: Vec<u32> = rows.iter().map(|&r| all.subject[r]).collect();
        let keys = Keys {
            subject: person.clone(),
            trial: rows.iter().map(|&r| all.trial[r]).collect(),
            stimulus: Vec::new(),
            class: classes.iter().map(|c| u32::from(*c)).collect(),
        };
        let mut split = Split::new(&keys, self.file.split()?, 0.0, key.seed)?;
        if key.people > 0 {
            for (f, fold) in split.folds.iter_mut().enumerate() {
                fold.train = draw_people(&fold.train, &person, &classes, key.people, key.seed, f)?;
            }
        }
        let reads = reading.physiology_inputs();
        let features = columns_of(key.model, &found.features, reads, reading.reference != Reference::None);
        let data = Labelled {
            source: store,
            windows: rows.clone(),
            labels: classes.into(),
            split,
            fingerprint: String::new(),
        };
        let settings = ProbeSettings { seed: key.seed, threads: self.threads, ..ProbeSettings::default() };
        let done = probe(&data, &features, &person, &settings, false)?;
        let mut out = Outcome { format: FORMAT, left_out: found.sentences(&reading), ..Outcome::default() };
        let mut predictions = done.predictions;
        predictions.sort_by_key(|p| rows[p.window]);
        for p in predictions {
            let row = rows[p.window];
            out.row.push(row);
            out.person.push(format!("{}/{}", index.dataset(row), index.subject(row)));
            out.label.push(p.label);
            out.probability.push(p.probability);
        }
        if features.physiology < features.columns {
            for fold in &done.folds {
                let name = fold.penalty.map_or("left out".to_string(), |p| p.to_string());
                *out.chosen.entry(name).or_default() += 1;
            }
        }
        out.seconds = clock.elapsed().as_secs_f64();
        Ok(out)
    }
}

/// The columns that a model of this kind reads.
fn columns_of(row: &ModelRow, all: &ProbeFeatures, physiology: usize, differences: bool) -> ProbeFeatures {
    match (row.baseline.as_deref(), row.inputs.as_deref()) {
        (Some("heart rate"), _) => all.only(&[if differences { PHYSIOLOGY.len() } else { 0 }]),
        (Some(_), _) => all.only(&(0..physiology).collect::<Vec<_>>()),
        (None, Some("embedding")) => {
            let keep: Vec<usize> = (physiology..all.columns).collect();
            ProbeFeatures { physiology: 0, ..all.only(&keep) }
        }
        _ => all.clone(),
    }
}

/// The windows of `n` of the training people, drawn by seed and fold; people with windows of both classes come first, so that
/// few people still show both.
fn draw_people(
    train: &[usize],
    person: &[u32],
    classes: &[bool],
    n: usize,
    seed: u64,
    fold: usize,
) -> Result<Vec<usize>> {
    let mut seen: BTreeMap<u32, [bool; 2]> = BTreeMap::new();
    for &i in train {
        seen.entry(person[i]).or_default()[usize::from(classes[i])] = true;
    }
    if n > seen.len() {
        return Err(Error::data(format!("{n} training people are asked for, a fold has {}", seen.len()))
            .remedy("ask for fewer, or 0 for all"));
    }
    let mut people: Vec<(bool, u32)> = seen.into_iter().map(|(p, s)| (!(s[0] && s[1]), p)).collect();
    SplitMix64::keyed(seed, fold as u64).shuffle(&mut people);
    people.sort_by_key(|p| p.0);
    let drawn: Vec<u32> = people[..n].iter().map(|p| p.1).collect();
    Ok(train.iter().copied().filter(|&i| drawn.contains(&person[i])).collect())
}

/// The file of a cell's result.
pub(super) fn path(out: &Path, hash: &str) -> PathBuf {
    out.join("cells").join(format!("{}.json", &hash[..32]))
}

/// The result of an earlier run, if there is one that can be read.
pub(super) fn cached(path: &Path) -> Option<Outcome> {
    let found: Outcome = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (found.format == FORMAT && found.row.len() == found.probability.len()).then_some(found)
}

/// Writes a result, whole or not at all.
pub(super) fn save(path: &Path, outcome: &Outcome) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_file(folder)?;
    }
    let bytes = serde_json::to_vec(outcome).map_err(|e| Error::format(e.to_string()))?;
    crate::checkpoint::write_bytes(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_drawn_whole_and_with_both_classes_first() {
        let person: Vec<u32> = (0..40).map(|i| i / 4).collect();
        // People 0 to 4 have both classes.
        let classes: Vec<bool> = (0..40).map(|i| i < 20 && i % 2 == 0).collect();
        let train: Vec<usize> = (0..40).collect();
        let mut drawn = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let rows = draw_people(&train, &person, &classes, 3, seed, 0).unwrap();
            assert_eq!(rows.len(), 12);
            assert!(rows.iter().all(|&i| person[i] < 5));
            drawn.insert(rows);
        }
        assert!(drawn.len() > 3);
        assert_eq!(draw_people(&train, &person, &classes, 10, 1, 0).unwrap(), train);
        assert!(draw_people(&train, &person, &classes, 11, 1, 0).is_err());
    }
}
