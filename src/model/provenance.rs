//! Whose recordings, and whose labels, reached a model's weights: known by content first and by name second.
//!
//! A model carries, for every recording it was trained on, the SHA-256 of its files, a hash of its samples and their
//! [`Sketch`]; so a copy of it is found in another study, whatever it is called there ([`crate::data::content`] says what
//! can be found and what cannot). The names of people are the second witness. [`Comparison::of`] asks both about each person
//! who is to be tested: *seen* if either knows the person, *new* only if both witnesses are there and neither does, and
//! *undecided* in all other cases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fields::{Fields, int, object, text, texts};
use super::{Model, Task};
use crate::checkpoint::json::Value;
use crate::data::content::{ContentIndex, Sketch, thinning};
use crate::data::names::name_key;
use crate::error::{Error, Result};

/// People by data set: whose recordings they are, not who they are.
pub type People = BTreeMap<String, BTreeSet<String>>;

/// Anchors of all recordings that are saved with a model at most: about 2.6 MB of text, for 28 hours of ECG. Of more data
/// every second anchor is left out, as often as needed.
const MOST_ANCHORS: usize = 1 << 17;

/// Version of the layout of `provenance.json`.
const FORMAT_VERSION: usize = 1;

/// How much is known of whose recording it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The person and the data set were named.
    #[default]
    Person,
    /// The person was named, the data set after its table's file.
    Table,
    /// Nobody was named: the file's name stands for the person.
    File,
}

const NAMING: [(&str, Naming); 3] =
    [("person", Naming::Person), ("table", Naming::Table), ("file", Naming::File)];

/// A recording that a model saw, or that it is to be tested on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenRecording {
    /// Data set.
    pub dataset: String,
    /// Person within the data set.
    pub subject: String,
    /// Name of the recording.
    pub record: String,
    /// How much is known of whose it is.
    pub naming: Naming,
    /// Whether its labels were seen too.
    pub labelled: bool,
    /// SHA-256 of the files it was read from.
    pub files: Vec<String>,
    /// Hash of its samples; `None` for a flat one.
    pub samples: Option<String>,
    /// Shape of its samples.
    pub sketch: Sketch,
}

/// What reached a model's weights. The names of everybody are in [`Card::people`](super::Card::people).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Recordings that reached the weights.
    pub recordings: Vec<SeenRecording>,
    /// Whether these are all of them.
    pub complete: bool,
    /// Everybody whose labels reached the weights; `None` where that is not known.
    pub labelled_people: Option<People>,
    /// Whether all recordings whose labels reached the weights are marked so above.
    pub labelled_complete: bool,
}

impl Provenance {
    /// Of a model whose weights were drawn at random.
    pub fn nothing() -> Self {
        Self {
            recordings: Vec::new(),
            complete: true,
            labelled_people: Some(People::new()),
            labelled_complete: true,
        }
    }

    /// Of an earlier version's model, which says whom it saw by name at most: a pre-trained one had seen no label.
    pub(super) fn of_earlier_version(task: &Task) -> Self {
        match task {
            Task::Pretrained | Task::Encoder => Self { complete: false, ..Self::nothing() },
            Task::Classifier { .. } => Self::default(),
        }
    }

    /// Of a model that saw what `self` and `other` say.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for recording in &other.recordings {
            match self.recordings.iter_mut().find(|own| own.is_copy(recording)) {
                Some(own) => own.labelled |= recording.labelled,
                None => self.recordings.push(recording.clone()),
            }
        }
        self.complete &= other.complete;
        self.labelled_people = match (self.labelled_people.take(), &other.labelled_people) {
            (Some(own), Some(others)) => Some(union(own, others)),
            _ => None,
        };
        self.labelled_complete &= other.labelled_complete;
        self
    }

    /// As text, for `provenance.json`.
    pub(super) fn to_json(&self) -> Value {
        let anchors = self.recordings.iter().map(|r| r.sketch.len()).sum();
        let step = thinning(anchors, MOST_ANCHORS);
        let recording = |r: &SeenRecording| {
            let naming = NAMING.iter().find(|(_, n)| *n == r.naming).map_or("", |(name, _)| name);
            object([
                ("dataset", text(&r.dataset)),
                ("subject", text(&r.subject)),
                ("record", text(&r.record)),
                ("naming", text(naming)),
                ("labelled", Value::Bool(r.labelled)),
                ("files_sha256", texts(&r.files)),
                ("samples_sha256", r.samples.as_deref().map_or(Value::Null, text)),
                ("sketch", text(&r.sketch.thinned(step).to_string())),
            ])
        };
        object([
            ("format_version", int(FORMAT_VERSION)),
            ("complete", Value::Bool(self.complete)),
            ("labelled_people", self.labelled_people.as_ref().map_or(Value::Null, people_to_json)),
            ("labelled_complete", Value::Bool(self.labelled_complete)),
            ("recordings", Value::Array(self.recordings.iter().map(recording).collect())),
        ])
    }

    /// Reads `provenance.json`.
    pub(super) fn from_json(value: Value) -> Result<Self> {
        let mut f = Fields::new(value, "")?;
        let version = f.usize("format_version")?;
        if version != FORMAT_VERSION {
            return Err(Error::format(format!(
                "version {version} of the layout; this program knows {FORMAT_VERSION}"
            ))
            .at("format_version")
            .remedy("use the version of heartlore that wrote the model"));
        }
        let complete = f.bool("complete")?;
        let labelled_people = match f.take("labelled_people")? {
            Value::Null => None,
            value => Some(people_from_json(value, "labelled_people")?),
        };
        let labelled_complete = f.bool("labelled_complete")?;
        let Value::Array(items) = f.take("recordings")? else {
            return Err(Error::format("a list is expected").at("recordings"));
        };
        f.finish()?;
        let mut recordings = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let place = format!("recordings[{i}]");
            let mut r = Fields::new(item, &place)?;
            recordings.push(SeenRecording {
                dataset: r.string("dataset")?,
                subject: r.string("subject")?,
                record: r.string("record")?,
                naming: r.choice("naming", &NAMING)?,
                labelled: r.bool("labelled")?,
                files: r.strings("files_sha256")?,
                samples: match r.take("samples_sha256")? {
                    Value::Null => None,
                    Value::String(s) => Some(s),
                    _ => {
                        return Err(
                            Error::format("a text or null is expected").at(format!("{place}.samples_sha256"))
                        );
                    }
                },
                sketch: r.string("sketch")?.parse().map_err(|e: Error| e.at(format!("{place}.sketch")))?,
            });
            r.finish()?;
        }
        Ok(Self { recordings, complete, labelled_people, labelled_complete })
    }
}

impl SeenRecording {
    fn is_copy(&self, other: &Self) -> bool {
        (&self.dataset, &self.subject, &self.record) == (&other.dataset, &other.subject, &other.record)
            && self.samples == other.samples
            && self.files == other.files
            && self.sketch == other.sketch
    }

    fn person(&self) -> String {
        format!("{}/{}", self.dataset, self.subject)
    }
}

pub(super) fn people_to_json(people: &People) -> Value {
    let of = |names: &BTreeSet<String>| Value::Array(names.iter().map(|n| text(n)).collect());
    Value::Object(people.iter().map(|(dataset, names)| (dataset.clone(), of(names))).collect())
}

pub(super) fn people_from_json(value: Value, place: &str) -> Result<People> {
    let all = Fields::new(value, place)?.lists()?;
    Ok(all.into_iter().map(|(dataset, names)| (dataset, names.into_iter().collect())).collect())
}

/// How many people they are.
pub fn count(people: &People) -> usize {
    people.values().map(BTreeSet::len).sum()
}

/// Both together.
pub fn union(mut a: People, b: &People) -> People {
    for (dataset, names) in b {
        a.entry(dataset.clone()).or_default().extend(names.iter().cloned());
    }
    a
}

/// The people of some rows of a store, and their recordings.
#[cfg(feature = "formats")]
pub fn of_rows(
    store: &crate::data::store::Store,
    rows: impl IntoIterator<Item = usize>,
    labelled: bool,
) -> (People, Provenance) {
    let index = store.index();
    let mut people = People::new();
    let mut wanted = BTreeSet::new();
    for row in rows {
        let names = people.entry(index.dataset(row).to_string()).or_default();
        if !names.contains(index.subject(row)) {
            names.insert(index.subject(row).to_string());
        }
        wanted.insert((index.dataset(row), index.subject(row), index.trial(row), index.record(row)));
    }
    let manifest = store.manifest();
    let mut covered = BTreeSet::new();
    let mut recordings: Vec<SeenRecording> = Vec::new();
    for r in manifest.recordings.iter().flatten() {
        let key = (r.dataset.as_str(), r.subject.as_str(), r.trial.as_str(), r.record.as_str());
        if !wanted.contains(&key) {
            continue;
        }
        covered.insert(key);
        recordings.push(SeenRecording {
            dataset: r.dataset.clone(),
            subject: r.subject.clone(),
            record: r.record.clone(),
            naming: match r.naming {
                crate::data::table::Naming::Person => Naming::Person,
                crate::data::table::Naming::Table => Naming::Table,
                crate::data::table::Naming::File => Naming::File,
            },
            labelled,
            files: r
                .sources
                .iter()
                .filter_map(|&s| manifest.sources.get(s))
                .map(|s| s.sha256.clone())
                .collect(),
            samples: r.samples_sha256.clone(),
            sketch: r.sketch.clone(),
        });
    }
    let labelled_people = Some(if labelled { people.clone() } else { People::new() });
    let complete = covered == wanted;
    (people, Provenance { recordings, complete, labelled_people, labelled_complete: !labelled || complete })
}

/// What can be told of each person tested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// People the model knows, as DATASET/SUBJECT, with what it knows them as if that is another name.
    pub seen: Vec<(String, Option<String>)>,
    /// How many of them were known by their samples.
    pub by_content: usize,
    /// People of whom neither "seen" nor "new" can be said.
    pub undecided: Vec<String>,
    /// Why not, each reason once.
    pub why: Vec<String>,
}

impl Comparison {
    /// Compares the people tested and their recordings with those a model saw.
    ///
    /// `names` are the names of everybody it saw and `recordings` what it saw of them; `complete` says whether these are
    /// all.
    pub fn of(
        tested: (&People, &Provenance),
        names: Option<&People>,
        recordings: &[&SeenRecording],
        complete: bool,
    ) -> Self {
        let mut out = Self::default();
        if complete && recordings.is_empty() && names.is_some_and(|n| count(n) == 0) {
            return out; // It saw nobody.
        }
        let witness = Witness::new(names, recordings, complete);
        for (dataset, subjects) in tested.0 {
            for subject in subjects {
                let own =
                    tested.1.recordings.iter().filter(|r| &r.dataset == dataset && &r.subject == subject);
                let own: Vec<&SeenRecording> = own.collect();
                witness.judge(dataset, subject, &own, tested.1.complete, &mut out);
            }
        }
        out
    }
}

/// What a model remembers, ready to be asked.
struct Witness<'a> {
    names: Option<&'a People>,
    recordings: &'a [&'a SeenRecording],
    complete: bool,
    index: ContentIndex,
    samples: BTreeMap<&'a str, usize>,
    /// Names whose data set was called after a table's file.
    keys: BTreeMap<Vec<String>, Vec<(&'a str, &'a str)>>,
    nameless: Option<&'a SeenRecording>,
}

impl<'a> Witness<'a> {
    fn new(names: Option<&'a People>, recordings: &'a [&'a SeenRecording], complete: bool) -> Self {
        let samples = recordings.iter().enumerate().filter_map(|(i, r)| Some((r.samples.as_deref()?, i)));
        let mut keys: BTreeMap<Vec<String>, Vec<(&str, &str)>> = BTreeMap::new();
        let own = names
            .into_iter()
            .flatten()
            .flat_map(|(d, all)| all.iter().map(move |s| (d.as_str(), s.as_str())));
        for (dataset, subject) in own {
            keys.entry(name_key(subject)).or_default().push((dataset, subject));
        }
        Self {
            names,
            recordings,
            complete,
            index: ContentIndex::new(recordings.iter().map(|r| &r.sketch)),
            samples: samples.collect(),
            keys,
            nameless: recordings.iter().find(|r| r.naming == Naming::File).copied(),
        }
    }

    /// How the recordings of a data set were named; those of an earlier version's model by people.
    fn naming(&self, dataset: &str, subject: &str) -> Naming {
        let of = |r: &&&SeenRecording| r.dataset == dataset && r.subject == subject;
        self.recordings.iter().find(of).map_or(Naming::Person, |r| r.naming)
    }

    fn judge(
        &self,
        dataset: &str,
        subject: &str,
        own: &[&SeenRecording],
        own_complete: bool,
        out: &mut Comparison,
    ) {
        let person = format!("{dataset}/{subject}");
        if let Some(known) = own.iter().find_map(|r| self.holds(r)) {
            out.by_content += 1;
            let name = known.person();
            out.seen.push((person.clone(), (name != person).then_some(name)));
            return;
        }
        let named = own.iter().all(|r| r.naming != Naming::File);
        let same = self.keys.get(&name_key(subject)).map_or(&[][..], Vec::as_slice);
        let here = same.iter().find(|(d, _)| name_key(d) == name_key(dataset));
        if let Some((d, s)) = here.filter(|(d, s)| named && self.naming(d, s) != Naming::File) {
            let name = format!("{d}/{s}");
            out.seen.push((person.clone(), (name != person).then_some(name)));
            return;
        }
        let mut doubt = |why: String| {
            if !out.undecided.contains(&person) {
                out.undecided.push(person.clone());
            }
            if !out.why.contains(&why) {
                out.why.push(why);
            }
        };
        if self.names.is_none() {
            doubt("the model does not say whom it was trained on".into());
        }
        if !self.complete {
            doubt("the model does not say by content which recordings it was trained on".into());
        }
        if !own_complete {
            doubt("the store of the people tested does not say what its recordings hold (it was prepared by an earlier version: prepare it again)".into());
        }
        if let Some(r) = self.nameless {
            doubt(format!(
                "none of their recordings is among those it saw, but the people of '{}' have no names: that data set was prepared without a --table",
                r.dataset
            ));
        }
        if !named {
            doubt(format!(
                "the people of '{dataset}' have no names: that data set was prepared without a --table"
            ));
        }
        // Another table of the same study has another name.
        let unplaced = own.iter().any(|r| r.naming == Naming::Table);
        let alike = same.iter().find(|(d, s)| {
            let other = self.naming(d, s);
            other == Naming::Table || (unplaced && other != Naming::File)
        });
        if let Some((d, _)) = alike.filter(|_| named) {
            doubt(format!(
                "people of the same names are in '{d}', and a data set was called after its table's file: name it in the column 'dataset'"
            ));
        }
        let part = |r: &SeenRecording| {
            self.recordings
                .iter()
                .any(|s| s.record == r.record && s.files.iter().any(|f| r.files.contains(f)))
        };
        if own.iter().any(|r| part(r)) {
            doubt("other parts of the same files were seen".into());
        }
        let short = |r: &SeenRecording| self.recordings.iter().any(|s| !s.sketch.decides(&r.sketch));
        if own.iter().any(|r| short(r)) {
            doubt("some recordings are too short, or too much of theirs was left out, to be compared by content".into());
        }
    }

    /// A recording with the same samples.
    fn holds(&self, own: &SeenRecording) -> Option<&SeenRecording> {
        let equal = own.samples.as_deref().and_then(|s| self.samples.get(s));
        let found = equal.copied().or_else(|| self.index.sharing(&own.sketch).first().copied());
        found.map(|i| self.recordings[i])
    }
}

/// What is known of the weights a run started from, and of the people it tests: part of `split.json` and `run.json`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "formats", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct InitProvenance {
    /// The model; `None` for weights drawn at random.
    pub model: Option<PathBuf>,
    /// People that are tested here.
    pub tested: usize,
    /// Those of them whose recordings the model had seen, as DATASET/SUBJECT; `None` if nothing is known of anybody.
    pub seen_before: Option<Vec<String>>,
    /// Other names under which it had seen them, as DATASET/SUBJECT.
    #[cfg_attr(feature = "formats", serde(default))]
    pub seen_as: Vec<String>,
    /// How many of them were found by their samples, the others by name; `None` in runs of earlier versions, which compared
    /// names only.
    #[cfg_attr(feature = "formats", serde(default))]
    pub by_content: Option<usize>,
    /// Those of whom it cannot be told.
    #[cfg_attr(feature = "formats", serde(default))]
    pub undecided: Vec<String>,
    /// Those whose labels the model had seen too.
    #[cfg_attr(feature = "formats", serde(default))]
    pub labels_seen: Vec<String>,
    /// Those of whose labels that cannot be told.
    #[cfg_attr(feature = "formats", serde(default))]
    pub labels_undecided: Vec<String>,
    /// Why it cannot be told.
    #[cfg_attr(feature = "formats", serde(default))]
    pub why: Vec<String>,
}

impl InitProvenance {
    /// Compares the people tested and their recordings with what the model says it saw.
    pub fn of(init: Option<(&Path, &Model)>, tested: (&People, &Provenance)) -> Self {
        let Some((dir, model)) = init else {
            let seen_before = Some(Vec::new());
            return Self { tested: count(tested.0), seen_before, by_content: Some(0), ..Self::default() };
        };
        let (card, p) = (&model.card, &model.card.provenance);
        let all: Vec<&SeenRecording> = p.recordings.iter().collect();
        let marked: Vec<&SeenRecording> = all.iter().copied().filter(|r| r.labelled).collect();
        let seen = Comparison::of(tested, card.people.as_ref(), &all, p.complete);
        let labels = Comparison::of(tested, p.labelled_people.as_ref(), &marked, p.labelled_complete);
        let nothing_known = card.people.is_none() && p.recordings.is_empty();
        Self {
            model: Some(std::path::absolute(dir).unwrap_or_else(|_| dir.into())),
            tested: count(tested.0),
            seen_as: seen.seen.iter().filter_map(|(_, other)| other.clone()).collect(),
            seen_before: (!nothing_known).then(|| seen.seen.iter().map(|(name, _)| name.clone()).collect()),
            by_content: Some(seen.by_content),
            // Labels of people it is known to have seen may be in doubt though the people are not.
            labels_undecided: labels.undecided,
            labels_seen: labels.seen.into_iter().map(|(name, _)| name).collect(),
            undecided: seen.undecided,
            why: seen.why,
        }
    }

    /// One sentence for people, and whether it is a warning.
    pub fn sentence(&self) -> (String, bool) {
        let n = self.tested;
        let Some(_) = &self.model else {
            let text = "The weights at the start were random: no person tested had been seen before.";
            return (text.into(), false);
        };
        let seen = self.seen_before.as_deref().unwrap_or(&[]);
        // Runs of earlier versions asked the names only.
        let by_names_only = self.by_content.is_none();
        let undecided = if by_names_only { n - seen.len().min(n) } else { self.undecided.len() };
        let mut why = self.why.join("; ");
        if by_names_only {
            why = "the run compared names only, with an earlier version".into();
        }
        if seen.is_empty() {
            return match undecided {
                0 => (
                    format!(
                        "Pre-training saw none of the {n} people tested, by the content of their recordings and by name."
                    ),
                    false,
                ),
                u => {
                    let of = if u == n {
                        format!("the {n} people tested")
                    } else {
                        format!("{u} of the {n} people tested")
                    };
                    (format!("Cannot tell whether pre-training saw any of {of}: {why}."), true)
                }
            };
        }
        let labels = match (self.labels_seen.len(), self.labels_undecided.iter().any(|p| seen.contains(p))) {
            (0, false) if !by_names_only => "without their labels".to_string(),
            (0, _) => "whether with their labels cannot be told".to_string(),
            (k, _) if k == seen.len() => "with their labels".to_string(),
            (k, _) => format!("{k} of them with their labels"),
        };
        let mut known = list(seen);
        if !self.seen_as.is_empty() {
            known.push_str(&format!(" (known to it as {})", list(&self.seen_as)));
        }
        let mut text = format!(
            "Pre-training saw {} of the {n} people tested, {labels}: {known}. The figures may be higher than for new \
             people; pre-train again with --exclude-subject or --exclude-dataset to know.",
            seen.len()
        );
        if undecided > 0 {
            text.push_str(&format!(" Of {undecided} more it cannot be told: {why}."));
        }
        (text, true)
    }

    /// What marks every figure of a run whose weights had seen labels of the people it tests.
    pub fn label_leak(&self) -> Option<String> {
        let k = self.labels_seen.len();
        (k > 0).then(|| {
            format!(
                "The weights at the start had been trained on labels of {k} of the {} people tested ({}): the figures say \
                 nothing of new people.",
                self.tested,
                list(&self.labels_seen)
            )
        })
    }

    /// Refuses to test people whose labels the weights have seen, unless that was asked for.
    ///
    /// # Errors
    /// The labels of somebody tested had been seen.
    pub fn require_no_label_leak(&self, allowed: bool) -> Result<()> {
        match self.label_leak() {
            Some(_) if !allowed => Err(Error::data(format!(
                "the model was trained on labels of {} of the {} people to be tested: {}",
                self.labels_seen.len(),
                self.tested,
                list(&self.labels_seen)
            ))
            .in_file(self.model.clone().unwrap_or_default())
            .remedy(
                "start from a model that has not seen them, leave these people out with --exclude-subject, or go on \
                 with --allow-leak, and every figure will say so",
            )),
            _ => Ok(()),
        }
    }
}

/// The first five.
fn list(names: &[String]) -> String {
    let some = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{some}, ...") } else { some }
}
