//! Recordings that come with the source code, for the quickstart and for tests: real ECG of clear licence, a few minutes
//! in all, without labels of emotion. `examples/data/README.md` gives source, licence and attribution of each.

use std::path::{Path, PathBuf};

use crate::data::table::{Item, Items};
use crate::error::{Error, Kind, Result};

/// A recording in `examples/data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Name of the WFDB record.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Attribution that must travel with it.
    pub attribution: &'static str,
}

const PLUX: &str = "biosignalsnotebooks 0.6.14, Copyright (c) 2018 opensignalstool developers and PLUX Wireless \
                    Biosignals, MIT licence";

/// Every recording that is shipped.
pub const RECORDINGS: [Shipped; 4] = [
    Shipped {
        name: "mitbih208",
        what: "five minutes of a clinical recording with ectopic beats, lead MLII, 360 Hz",
        attribution: "MIT-BIH Arrhythmia Database, record 208, 19:34.5 to 24:34.5 (Moody and Mark 2001, \
                      doi:10.13026/C2F305; Goldberger et al. 2000, PhysioNet), ODC-By 1.0, by way of SciPy 1.11.4",
    },
    Shipped { name: "plux_5min", what: "five minutes at rest, chest sensor, 1000 Hz", attribution: PLUX },
    Shipped { name: "plux_supine", what: "one minute lying down, chest sensor, 1000 Hz", attribution: PLUX },
    Shipped { name: "plux_7min", what: "seven minutes, chest sensor, 1000 Hz", attribution: PLUX },
];

/// The directory with the shipped recordings: `examples/data` below the current directory, or in the source tree this
/// program was built from.
///
/// # Errors
/// Neither exists: the program runs apart from its source.
pub fn directory() -> Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let places = [PathBuf::from("examples/data"), built_from];
    let has = |dir: &&PathBuf| RECORDINGS.iter().all(|r| dir.join(format!("{}.hea", r.name)).is_file());
    places.iter().find(has).cloned().ok_or_else(|| {
        Error::new(Kind::Io, "the recordings that come with the source code are not here")
            .in_file(&places[0])
            .remedy("run from the source directory")
    })
}

/// The shipped recordings in `dir` as unlabelled items. Each is taken for a person of its own.
pub fn items(dir: &Path) -> Items {
    let items = RECORDINGS.iter().map(|r| Item {
        file: dir.join(format!("{}.hea", r.name)),
        dataset: "shipped".into(),
        subject: r.name.into(),
        ..Item::default()
    });
    Items { label_names: Vec::new(), items: items.collect() }
}

/// Attributions for the manifest and the report.
pub fn notes() -> Vec<String> {
    RECORDINGS.iter().map(|r| format!("{}: {}", r.name, r.attribution)).collect()
}
