//! Leaving people out by name. What a model saw of whom is [`crate::model::provenance`].

use crate::data::store::Store;
use crate::error::{Error, IoContext, Result};
use crate::model::provenance::of_rows;

/// The names given by `--exclude-subject`: SUBJECT, DATASET/SUBJECT, or @FILE with one of these per line.
///
/// # Errors
/// A file that cannot be read or holds no name.
pub fn read_names(given: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for item in given {
        let Some(file) = item.strip_prefix('@') else {
            names.push(item.clone());
            continue;
        };
        let before = names.len();
        let text = std::fs::read_to_string(file).with_file(file)?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        names.extend(lines.map(str::to_string));
        if names.len() == before {
            return Err(Error::data("the file names nobody")
                .in_file(file)
                .remedy("write one SUBJECT or DATASET/SUBJECT per line"));
        }
    }
    Ok(names)
}

/// Leaves the rows of the named people out.
///
/// # Errors
/// A name that nobody in the store has: a slip of the pen must not let a test person in.
pub fn leave_out(store: &Store, rows: Vec<usize>, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok(rows);
    }
    let (everybody, _) = of_rows(store, 0..store.index().len(), false);
    let is = |name: &str, dataset: &str, subject: &str| {
        name == subject || name.strip_prefix(dataset).and_then(|n| n.strip_prefix('/')) == Some(subject)
    };
    for name in names {
        let known = everybody.iter().any(|(d, all)| all.iter().any(|s| is(name, d, s)));
        if !known {
            let some = everybody.iter().flat_map(|(d, all)| all.iter().map(move |s| format!("{d}/{s}")));
            let some: Vec<String> = some.take(8).collect();
            return Err(Error::data(format!("nobody in the store is called '{name}'"))
                .in_file(store.dir())
                .at("--exclude-subject")
                .remedy(format!(
                    "people are called {}{}",
                    some.join(", "),
                    if some.len() == 8 { ", ..." } else { "" }
                )));
        }
    }
    let index = store.index();
    let left: Vec<usize> = rows
        .into_iter()
        .filter(|&i| !names.iter().any(|n| is(n, index.dataset(i), index.subject(i))))
        .collect();
    if left.is_empty() {
        return Err(Error::data("no window is left after --exclude-subject").in_file(store.dir()));
    }
    Ok(left)
}
