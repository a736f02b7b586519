//! Saving and loading the directory of a model.
//!
//! **Saved as a whole directory, not file by file.** The files belong together: new weights beside an old `config.json`
//! would load and mean something else. So they are written and synced into a directory beside the target, read back,
//! and renamed. If there is a model already, it steps aside as `.NAME.old` until the new one is in its place; a
//! directory cannot be replaced by one rename on every system. At every moment one whole model exists, under one of the
//! two names, and [`Model::load`] says so if it finds only the second.

use std::fs;
use std::path::{Path, PathBuf};

use super::provenance::Provenance;
use super::{Model, Preprocessing, card, config, shapes};
use crate::checkpoint::atomic::{FileOps, Os};
use crate::checkpoint::json::Value;
use crate::checkpoint::{TensorView, compare_shapes, safetensors, write_atomic};
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
    /// [`Kind::Usage`] if `dir` holds other files; [`Kind::Io`] with file and remedy; then `dir` is as before.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        check_target(dir)?;
        let (new, old) = (beside(dir, &format!("new-{}", std::process::id()))?, aside(dir)?);
        let parent = parent(dir);
        fs::create_dir_all(parent).map_err(|e| explain(e, parent))?;
        if new.exists() {
            // Only a killed process of the same number can have left it.
            fs::remove_dir_all(&new).with_file(&new)?;
        }
        fs::create_dir(&new).map_err(|e| explain(e, dir))?;
        let written = self.write_files(&new).and_then(|()| Model::load(&new).map(|_| ()));
        let placed = written.and_then(|()| {
            if !dir.exists() {
                return fs::rename(&new, dir).map_err(|e| explain(e, dir));
            }
            if old.exists() {
                // `dir` is there, so this is what an earlier save could not clear away.
                fs::remove_dir_all(&old).with_file(&old)?;
            }
            fs::rename(dir, &old).map_err(|e| explain(e, dir))?;
            fs::rename(&new, dir).map_err(|e| {
                let _ = fs::rename(&old, dir); // the error to report is the first
                explain(e, dir)
            })
        });
        if let Err(e) = placed {
            let _ = fs::remove_dir_all(&new);
            return Err(e);
        }
        Os.sync_dir(parent).with_file(parent)?;
        if old.exists() {
            fs::remove_dir_all(&old).with_file(&old)?;
        }
        Ok(())
    }

    fn write_files(&self, dir: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            write_atomic(dir.join(name), |sink| {
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
        safetensors::write(dir.join(WEIGHTS), &views, &metadata)?;
        write(CONFIG, config::to_json(&self.config, &self.task, &self.card).to_pretty()?)
    }

    /// Loads the model in directory `dir`.
    ///
    /// # Errors
    /// [`Kind::Io`] for a missing file; [`Kind::Format`] with file and place for a damaged one; [`Kind::Shape`] that
    /// names the tensors which differ from what `config.json` says, and how.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config_path = dir.join(CONFIG);
        if !config_path.is_file() {
            return Err(no_model(dir));
        }
        let (config, task, card) =
            read_json(&config_path).and_then(config::from_json).map_err(|e| e.in_file(&config_path))?;
        let weights_path = dir.join(WEIGHTS);
        let mut reader = safetensors::read(&weights_path)?;
        // Every layer has several tensors: a configuration of more layers than that never gets to record them.
        if config.layers > reader.tensors().len() {
            return Err(Error::shape(format!(
                "{} layers in {CONFIG}, but only {} tensors",
                config.layers,
                reader.tensors().len()
            ))
            .in_file(&weights_path)
            .remedy("use the two files that were saved together"));
        }
        let layout = super::layout(&config, &task).map_err(|e| e.in_file(&config_path))?;
        compare_shapes(&shapes(&layout), &reader.shapes()).map_err(|e| e.in_file(&weights_path))?;
        let mut weights = Vec::with_capacity(layout.len());
        for entry in layout.entries() {
            reader.append_f32(&entry.name, entry.shape.dims(), &mut weights)?;
        }
        let mut model =
            Self::assemble(config, task, layout, weights).map_err(|e| e.in_file(&weights_path))?;
        model.card = card;
        let path = dir.join(PROVENANCE);
        model.card.provenance = match path.exists() {
            true => read_json(&path).and_then(Provenance::from_json).map_err(|e| e.in_file(&path))?,
            false => Provenance::of_earlier_version(&model.task),
        };
        let path = dir.join(PREPROCESSOR);
        if path.exists() {
            let p = read_json(&path).and_then(Preprocessing::from_json).map_err(|e| e.in_file(&path))?;
            if p.window != model.config.window {
                return Err(Error::shape(format!(
                    "windows of {} samples, but the model takes {}",
                    p.window, model.config.window
                ))
                .in_file(&path)
                .at("window")
                .remedy("use the files that were saved together"));
            }
            model.preprocessing = Some(p);
        }
        Ok(model)
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let len = fs::metadata(path).with_file(path)?.len();
    if len > MAX_JSON {
        return Err(Error::format(format!("{len} bytes; at most {MAX_JSON} are read")));
    }
    Value::parse(&fs::read(path).with_file(path)?)
}

/// Why there is nothing to load in `dir`.
fn no_model(dir: &Path) -> Error {
    let e = Error::new(Kind::Io, format!("no model here: {CONFIG} is missing")).in_file(dir);
    match aside(dir) {
        Ok(old) if !dir.exists() && old.join(CONFIG).is_file() => e.remedy(format!(
            "a save was interrupted; the model before it is whole: rename {} back",
            old.display()
        )),
        _ if dir.join("model").join(CONFIG).is_file() => {
            e.remedy(format!("give {}", dir.join("model").display()))
        }
        _ => e.remedy("give the `model` directory of a finished run"),
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

fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

fn aside(dir: &Path) -> Result<PathBuf> {
    beside(dir, "old")
}

/// `.NAME.what` in the same directory, so that renaming stays within one file system.
fn beside(dir: &Path, what: &str) -> Result<PathBuf> {
    let name = dir.file_name().ok_or_else(|| Error::usage("not a name for a directory").in_file(dir))?;
    Ok(dir.with_file_name(format!(".{}.{what}", name.to_string_lossy())))
}

fn explain(e: std::io::Error, path: &Path) -> Error {
    Error::io(path, e).remedy("check that the place exists, can be written and has space, or choose another")
}
