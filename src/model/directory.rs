//! Saving and loading the directory of a model.
//!
//! **Saved as a whole directory, not file by file.** The files belong together: new weights beside an old `config.json`
//! would load and mean something else. So they are written and synced into a directory beside the target, read back,
//! and put in its place under the target's lock ([`NewDir`]).

use std::fs;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use super::provenance::Provenance;
use super::{Model, Preprocessing, card, config, shapes};
use crate::checkpoint::json::Value;
use crate::checkpoint::placeholder;
use crate::checkpoint::{FileOps, NewDir, Os, TensorView, compare_shapes, finish_replacement, safetensors};
use crate::error::{Error, IoContext, Kind, Result};

/// File of sizes, options, task and card.
pub const CONFIG: &str = "config.json";
/// File of the parameters.
pub const WEIGHTS: &str = "model.safetensors";
/// File of the preparation of windows.
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// File of what the model saw, by content.
pub const PROVENANCE: &str = "provenance.json";
/// The model card.
pub const README: &str = "README.md";

/// Longest JSON file that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

impl Model {
    /// Saves the model as directory `dir`, whole or not at all. An earlier model there is replaced; a directory that
    /// holds anything else is refused.
    ///
    /// # Errors
    /// [`Kind::Usage`] if `dir` holds other files; [`Kind::Io`] with file and remedy, also if another process is saving
    /// there; then `dir` is as before.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_with(Arc::new(Os), dir.as_ref())
    }

    /// [`Model::save`] with other file operations.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_with(&self, ops: Arc<dyn FileOps>, dir: &Path) -> Result<()> {
        check_target(dir)?;
        let new = NewDir::begin_with(ops, dir)?;
        check_target(dir)?;
        self.write_files(&new)?;
        // What is about to be shown must load.
        Model::load(new.path())?;
        new.commit()
    }

    fn write_files(&self, dir: &NewDir) -> Result<()> {
        let write = |name: &str, text: String| {
            dir.write(name, |sink| {
                sink.write_all(text.as_bytes()).map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))
            })
        };
        write(README, card::readme(self))?;
        if let Some(p) = &self.preprocessing {
            write(PREPROCESSOR, p.to_json().to_pretty()?)?;
        }
        if self.card.provenance != Provenance::of_earlier_version(&self.task) {
            write(PROVENANCE, self.card.provenance.to_json().to_pretty()?)?;
        }
        let views: Vec<TensorView<'_>> =
            self.tensors().map(|t| TensorView::new(t.name, t.shape, t.values)).collect();
        // Hugging Face's loaders ask for this entry; the layouts are PyTorch's.
        let metadata = [("format".to_string(), "pt".to_string())].into();
        dir.write(WEIGHTS, |sink| safetensors::write_to(sink, &views, &metadata))?;
        write(CONFIG, config::to_json(&self.config, &self.task, &self.card, self.head.as_ref()).to_pretty()?)
    }

    /// Loads the model in directory `dir`.
    ///
    /// # Errors
    /// [`Kind::Io`] for a missing file; [`Kind::Format`] with file and place for a damaged one; [`Kind::Shape`] that
    /// names the tensors which differ from what `config.json` says, and how.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        finish_replacement(dir)?;
        let config_path = dir.join(CONFIG);
        if !config_path.is_file() {
            return Err(no_model(dir));
        }
        let parts =
            read_json(&config_path).and_then(config::from_json).map_err(|e| e.in_file(&config_path))?;
        let weights_path = dir.join(WEIGHTS);
        let mut model =
            Self::from_parts(parts, safetensors::read(&weights_path)?, &config_path, &weights_path)?;
        let path = dir.join(PROVENANCE);
        if path.exists() {
            model.card.provenance =
                read_json(&path).and_then(Provenance::from_json).map_err(|e| e.in_file(&path))?;
        }
        let path = dir.join(PREPROCESSOR);
        if path.exists() {
            let (p, foreign) =
                read_json(&path).and_then(Preprocessing::from_json).map_err(|e| e.in_file(&path))?;
            model.set_preprocessing(p, foreign).map_err(|e| e.in_file(&path))?;
        }
        Ok(model)
    }

    /// The model whose files' content is given, as a program that has it in memory or on a page: `config.json`,
    /// `model.safetensors`, and `preprocessor_config.json` if there is one.
    ///
    /// # Errors
    /// As [`Model::load`]; the file in the error is the name of the part.
    pub fn from_bytes(config: &[u8], weights: &[u8], preprocessor: Option<&[u8]>) -> Result<Self> {
        let parts = Value::parse(config).and_then(config::from_json).map_err(|e| e.in_file(CONFIG))?;
        let reader = safetensors::read_bytes(weights).map_err(|e| e.in_file(WEIGHTS))?;
        let mut model = Self::from_parts(parts, reader, Path::new(CONFIG), Path::new(WEIGHTS))?;
        if let Some(bytes) = preprocessor {
            let p = Value::parse(bytes).and_then(Preprocessing::from_json);
            p.and_then(|(p, foreign)| model.set_preprocessing(p, foreign))
                .map_err(|e| e.in_file(PREPROCESSOR))?;
        }
        Ok(model)
    }

    fn from_parts<S: Read + Seek>(
        (config, task, card, foreign, head): config::Parts,
        mut reader: safetensors::Reader<S>,
        config_path: &Path,
        weights_path: &Path,
    ) -> Result<Self> {
        // Every layer has several tensors: a configuration of more layers than that never gets to record them.
        if config.layers > reader.tensors().len() {
            return Err(Error::shape(format!(
                "{} layers in {CONFIG}, but only {} tensors",
                config.layers,
                reader.tensors().len()
            ))
            .in_file(weights_path)
            .remedy("use the two files that were saved together"));
        }
        let layout = super::layout_with(&config, &task, head.as_ref()).map_err(|e| e.in_file(config_path))?;
        compare_shapes(&shapes(&layout), &reader.shapes()).map_err(|e| e.in_file(weights_path))?;
        let mut weights = Vec::with_capacity(layout.len());
        for entry in layout.entries() {
            reader
                .append_f32(&entry.name, entry.shape.dims(), &mut weights)
                .map_err(|e| e.in_file(weights_path))?;
        }
        let mut model = Self::assemble(config, task, layout, weights).map_err(|e| e.in_file(weights_path))?;
        model.card = card;
        model.card.provenance = Provenance::of_earlier_version(&model.task);
        model.foreign_keys = foreign;
        model.head = head;
        Ok(model)
    }

    fn set_preprocessing(&mut self, p: Preprocessing, foreign: Vec<String>) -> Result<()> {
        if p.window != self.config.window {
            return Err(Error::shape(format!(
                "windows of {} samples, but the model takes {}",
                p.window, self.config.window
            ))
            .at("window")
            .remedy("use the files that were saved together"));
        }
        self.preprocessing = Some(p);
        self.foreign_keys.extend(foreign);
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let len = fs::metadata(path).with_file(path)?.len();
    if len > MAX_JSON {
        return Err(Error::format(format!("{len} bytes; at most {MAX_JSON} are read")));
    }
    let bytes = fs::read(path).with_file(path)?;
    placeholder::refuse(&bytes)?;
    Value::parse(&bytes)
}

/// Why there is nothing to load in `dir`.
fn no_model(dir: &Path) -> Error {
    let e = Error::new(Kind::Io, format!("no model here: {CONFIG} is missing")).in_file(dir);
    if dir.join("model").join(CONFIG).is_file() {
        e.remedy(format!("give {}", dir.join("model").display()))
    } else {
        e.remedy("give the `model` directory of a finished run")
    }
}

/// Only a directory of our own files, or an empty one, is replaced.
fn check_target(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::usage("there is a file of this name")
            .in_file(dir)
            .remedy("choose another directory"));
    }
    for entry in fs::read_dir(dir).with_file(dir)? {
        let name = entry.with_file(dir)?.file_name();
        if ![CONFIG, WEIGHTS, PREPROCESSOR, PROVENANCE, README].iter().any(|own| name == *own) {
            return Err(Error::usage(format!(
                "the directory also holds '{}', so it is not replaced",
                name.to_string_lossy()
            ))
            .in_file(dir)
            .remedy("choose another directory"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::faults::{at_every_call, names};
    use crate::model::Task;
    use crate::nn::ModelConfig;

    #[test]
    fn a_model_is_old_or_new_under_its_name_whichever_call_is_the_last() {
        let config = ModelConfig {
            window: 16,
            channels: vec![4],
            kernels: vec![3],
            strides: vec![4],
            layers: 1,
            heads: 2,
            hidden: 4,
            mask: crate::nn::MaskConfig { probability: 0.2, span: 3 },
            ..ModelConfig::tiny()
        };
        let [old, new] = [1, 2].map(|seed| Model::init(config.clone(), Task::Pretrained, seed).unwrap());
        let values = |m: &Model| m.tensors().flat_map(|t| t.values.to_vec()).collect::<Vec<f32>>();
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        let faults = at_every_call(
            |ops| {
                old.save(&dir).unwrap();
                new.save_with(Arc::new(ops.clone()), &dir).is_ok()
            },
            |done, ops| {
                let found = values(&Model::load(&dir).unwrap());
                assert!(found == values(&new) || (found == values(&old) && !done), "{ops:?}");
                for name in names(root.path()).iter().filter(|n| n.starts_with('.')) {
                    let path = root.path().join(name);
                    fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
                }
                fs::remove_dir_all(&dir).unwrap();
            },
        );
        assert!(faults > 60, "{faults}");
    }
}
