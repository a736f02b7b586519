//! Whether two paths are one file.

use std::path::{Path, PathBuf};

/// Two equal ones are the same file or folder, by whatever path it was reached: through links, `.` and `..`, another case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileId {
    /// Device and number on it, which hard links share.
    #[cfg(unix)]
    Number(u64, u64),
    /// The path without links, where there are no numbers.
    #[allow(dead_code, reason = "where there are numbers only for files that do not exist")]
    Path(PathBuf),
}

/// The identity of `path`; that of a file that does not exist is its path.
pub(crate) fn file_id(path: &Path) -> FileId {
    #[cfg(unix)]
    if let Ok(meta) = std::fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return FileId::Number(meta.dev(), meta.ino());
    }
    FileId::Path(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()))
}
