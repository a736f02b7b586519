//! Flags that say whose windows of a store a run may use.

use std::collections::BTreeSet;

use crate::cli::people;
use crate::data::store::Store;
use crate::error::{Error, Result};

/// Data sets and people to use.
#[derive(Clone, Debug, clap::Args)]
pub struct SelectionArgs {
    /// Take only this data set of the store; may be repeated
    #[arg(long = "dataset")]
    pub datasets: Vec<String>,
    /// Leave out this data set; may be repeated
    #[arg(long = "exclude-dataset")]
    pub excluded: Vec<String>,
    /// Leave out a person: SUBJECT, DATASET/SUBJECT, or @FILE with one of these per line; may be repeated
    #[arg(long = "exclude-subject", value_name = "NAME")]
    pub excluded_people: Vec<String>,
}

impl SelectionArgs {
    /// The people to leave out, with the names that stand in files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn people_out(&self) -> Result<Vec<String>> {
        people::read_names(&self.excluded_people)
    }

    /// Rows of the data sets and people wanted; `people_out` as [`SelectionArgs::people_out`] gives it.
    ///
    /// # Errors
    /// A data set or a person the store has not; nothing left.
    pub(crate) fn rows(&self, store: &Store, people_out: &[String]) -> Result<Vec<usize>> {
        let (only, excluded) = (&self.datasets, &self.excluded);
        let index = store.index();
        let all: BTreeSet<&str> = (0..index.len()).map(|i| index.dataset(i)).collect();
        if let Some(name) = only.iter().chain(excluded).find(|n| !all.contains(n.as_str())) {
            return Err(Error::data(format!("the store has no data set '{name}'"))
                .in_file(store.dir())
                .remedy(format!("its data sets are {}", all.into_iter().collect::<Vec<_>>().join(", "))));
        }
        let wanted = |name: &str| {
            (only.is_empty() || only.iter().any(|n| n == name)) && !excluded.iter().any(|n| n == name)
        };
        let rows: Vec<usize> = (0..index.len()).filter(|&i| wanted(index.dataset(i))).collect();
        if rows.is_empty() {
            return Err(
                Error::data("no window is left after --dataset and --exclude-dataset").in_file(store.dir())
            );
        }
        people::leave_out(store, rows, people_out)
    }
}
