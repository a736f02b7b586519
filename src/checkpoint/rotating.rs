//! A checkpoint that is kept twice, so that a save never risks the last one.

use super::atomic::{explain, fill_synced, io_error};
use super::names::{file_name, parent};
use super::ops::{FileOps, Os};
use crate::error::{Error, Kind, Result};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A checkpoint kept twice: the last one, and the previous one until the next has been verified.
///
/// For `last.ckpt` the files are `last.ckpt`, `last.prev.ckpt` and, while saving, `last.new.ckpt`. A save
///
/// 1. writes and syncs `new` and reads it back,
/// 2. gives `last` the second name `last.link.ckpt` and renames that to `prev`,
/// 3. renames `new` to `last`.
///
/// So once the first save has returned, `last` is whole under its name at every moment. Where the file system has no
/// second names (hard links), step 2 renames `last` itself to `prev`; a kill between the two renames then leaves `new` as
/// the newest, which [`Rotating::load`] finds and [`Rotating::finish_save`] puts in its place.
#[derive(Debug)]
pub struct Rotating<O = Os> {
    last: PathBuf,
    previous: PathBuf,
    new: PathBuf,
    link: PathBuf,
    ops: O,
    /// `last` was verified by this value, so it need not be read again before it becomes `prev`.
    last_is_whole: bool,
}

/// What [`Rotating::load`] found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The newest whole checkpoint.
    pub value: T,
    /// Its file.
    pub from: PathBuf,
    /// Set if it is not the last one that was saved: says why, to be shown to the user.
    pub warning: Option<String>,
}

impl Rotating<Os> {
    /// A rotating checkpoint whose newest copy is at `path`.
    ///
    /// # Errors
    /// [`Kind::Usage`] if `path` names no file.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_ops(path, Os)
    }
}

impl<O: FileOps> Rotating<O> {
    /// [`Rotating::new`] with other file operations.
    ///
    /// # Errors
    /// As [`Rotating::new`].
    pub fn with_ops(path: impl AsRef<Path>, ops: O) -> Result<Self> {
        let last = path.as_ref().to_path_buf();
        let name = file_name(&last)?.to_str().ok_or_else(|| {
            Error::usage("the name is not UTF-8").in_file(&last).remedy("choose another file name")
        })?;
        let beside = |tag: &str| {
            last.with_file_name(match name.rsplit_once('.') {
                Some((stem, extension)) if !stem.is_empty() => format!("{stem}.{tag}.{extension}"),
                _ => format!("{name}.{tag}"),
            })
        };
        let (previous, new, link) = (beside("prev"), beside("new"), beside("link"));
        Ok(Self { previous, new, link, last, ops, last_is_whole: false })
    }

    /// Path of the newest copy.
    pub fn last(&self) -> &Path {
        &self.last
    }

    /// Path of the copy before it.
    pub fn previous(&self) -> &Path {
        &self.previous
    }

    /// Path of the copy that is being written.
    pub fn staging(&self) -> &Path {
        &self.new
    }

    /// Saves what `fill` writes; `verify` reads a file back and fails if it is not whole.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy, or what `fill` or `verify` return; then the last checkpoint is as before.
    pub fn save(
        &mut self,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
        verify: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        self.finish_save(&verify)?;
        let Self { last, previous, new, link, ops, .. } = self;
        let at_last = |e: io::Error| explain(io_error(e), last);
        let discard = |e: Error| {
            let _ = ops.remove(new); // it may not even exist; the error to report is the first one
            e
        };
        let created = ops.create(new).map_err(|e| discard(at_last(e)))?;
        fill_synced(created, fill).map_err(|e| discard(explain(e, last)))?;
        if let Err(e) = verify(new) {
            return Err(discard(
                Error::new(e.kind(), format!("the new checkpoint does not read back: {e}"))
                    .in_file(last.as_path())
                    .remedy("check the disk; the last checkpoint is untouched"),
            ));
        }
        // A damaged `last` must not push out a whole `prev`.
        let demote = last.exists() && (self.last_is_whole || verify(last).is_ok());
        self.last_is_whole = false;
        let mut moved = false;
        if demote {
            let _ = ops.remove(link); // left by a kill
            if ops.link(last, link).is_ok() {
                ops.rename(link, previous).map_err(|e| discard(at_last(e)))?;
                // Renaming one name of a file to another of the same file does nothing (POSIX): then both are left.
                let _ = ops.remove(link);
            } else {
                ops.rename(last, previous).map_err(|e| discard(at_last(e)))?;
                moved = true;
            }
        }
        if let Err(e) = ops.rename(new, last) {
            // Back to the state before; if even that fails, all that is whole stays and `load` finds it.
            if !moved || ops.rename(previous, last).is_ok() {
                let _ = ops.remove(new);
            }
            return Err(at_last(e));
        }
        ops.sync_dir(parent(last)).map_err(at_last)?;
        self.last_is_whole = true;
        Ok(())
    }

    /// Finishes a save that was killed between two renames and left `new` as the newest: for a run that goes on, since it
    /// may have nothing more to save.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy; all that is whole stays.
    pub fn finish_save(&self, verify: impl Fn(&Path) -> Result<()>) -> Result<()> {
        let Self { last, new, ops, .. } = self;
        if !last.exists() && new.exists() && verify(new).is_ok() {
            ops.rename(new, last).map_err(|e| explain(io_error(e), last))?;
        }
        Ok(())
    }

    /// Loads the newest whole checkpoint with `read`, which must fail on any damage (and only then: a file that does
    /// not fit the model is to be refused afterwards, or an older one would be tried in vain).
    ///
    /// # Errors
    /// [`Kind::Io`] if there is none, [`Kind::Format`] with each file's trouble if none is whole.
    pub fn load<T>(&self, read: impl Fn(&Path) -> Result<T>) -> Result<Loaded<T>> {
        let mut troubles: Vec<String> = Vec::new();
        let mut present = false;
        for path in [&self.last, &self.new, &self.previous] {
            // An absent `new` is the normal case and no news; `prev` is absent after the first save.
            if !path.exists() {
                if path == &self.last {
                    troubles.push(format!("{}: missing", path.display()));
                }
                continue;
            }
            present = true;
            match read(path) {
                Ok(value) => {
                    let warning = (path != &self.last).then(|| {
                        format!("fell back to {}, because: {}", path.display(), troubles.join("; "))
                    });
                    return Ok(Loaded { value, from: path.clone(), warning });
                }
                Err(e) => troubles.push(e.in_file(path).to_string()),
            }
        }
        let error = if present {
            Error::format(format!("no whole checkpoint: {}", troubles.join("; ")))
                .remedy("the run cannot be resumed: start it again in another folder")
        } else {
            Error::new(Kind::Io, "there is no checkpoint")
                .remedy("check the folder, or start without resuming")
        };
        Err(error.in_file(&self.last))
    }
}
