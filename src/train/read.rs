//! From a store and an encoder to what a probe reads: windows embedded once, each person's reference found, windows that
//! must not be scored left out.

use std::collections::BTreeMap;

use super::probe::ProbeFeatures;
use crate::data::index::Index;
use crate::data::source::WindowSource;
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::reading::{Features, Place, Reading, Reference, read_person};

/// Which windows are a person's known rest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Rest {
    /// The person's first.
    #[default]
    First,
    /// Those with this value in a label column of the store.
    Label {
        /// Name of the column.
        column: String,
        /// Its value.
        value: String,
    },
}

impl Rest {
    /// `COLUMN=VALUE`, or `first`.
    ///
    /// # Errors
    /// Text of another form.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "first" {
            return Ok(Self::First);
        }
        match text.split_once('=') {
            Some((c, v)) if !c.is_empty() && !v.is_empty() => {
                Ok(Self::Label { column: c.into(), value: v.into() })
            }
            _ => Err(Error::usage(format!("'{text}' does not say which windows are rest"))
                .remedy("give COLUMN=VALUE, such as label=rest, or first for the person's first windows")),
        }
    }
}

/// Embedding and physiology by row of a store.
pub type Measured = BTreeMap<usize, Features>;

/// Windows embedded at a time.
const AT_A_TIME: usize = 256;

/// Embeds and measures rows of a store, each alone.
///
/// # Errors
/// A row that cannot be read, or whatever the model refuses.
pub fn measure_rows(model: &Model, source: &dyn WindowSource, rows: &[usize]) -> Result<Measured> {
    let samples = source.samples();
    let mut windows = vec![0.0f32; AT_A_TIME * samples];
    let mut out = Measured::new();
    for part in rows.chunks(AT_A_TIME) {
        let windows = &mut windows[..part.len() * samples];
        for (row, w) in part.iter().zip(windows.chunks_exact_mut(samples)) {
            source.read(*row, w)?;
        }
        out.extend(part.iter().copied().zip(model.features(windows)?));
    }
    Ok(out)
}

/// All rows of the people that `rows` belong to.
pub fn rows_of_people(index: &Index, rows: &[usize]) -> Vec<usize> {
    let people = index.split_keys().subject;
    let mut wanted = vec![false; people.iter().max().map_or(0, |m| *m as usize + 1)];
    rows.iter().for_each(|&r| wanted[people[r] as usize] = true);
    (0..index.len()).filter(|&r| wanted[people[r] as usize]).collect()
}

/// What a probe reads of the windows that can be judged.
#[derive(Clone, Debug)]
pub struct Read {
    /// Positions in the rows asked for, ascending: those that can be judged.
    pub keep: Vec<usize>,
    /// Their features.
    pub features: ProbeFeatures,
    /// People without enough rest, as DATASET/SUBJECT: none of their windows can be judged.
    pub without_rest: Vec<String>,
    /// Windows asked for that are part of a reference, or overlap it: never scored and never trained on.
    pub in_reference: usize,
    /// Windows asked for with too little past.
    pub too_early: usize,
}

impl Read {
    /// One sentence for each reason for which windows are left out.
    pub fn sentences(&self, reading: &Reading) -> Vec<String> {
        let mut out = Vec::new();
        if self.in_reference > 0 {
            out.push(format!(
                "{} windows are, or overlap, the known rest of their person: neither scored nor trained on",
                self.in_reference
            ));
        }
        if !self.without_rest.is_empty() {
            out.push(format!(
                "{} people have less than {} s of known rest and are left out: {}",
                self.without_rest.len(),
                reading.reference_s,
                self.without_rest.join(", ")
            ));
        }
        if self.too_early > 0 {
            out.push(format!(
                "{} windows have less than {} s of their person's past, themselves included, and are left out",
                self.too_early, reading.reference_s
            ));
        }
        out
    }
}

/// Reads the windows `rows` of `store`; `measured` holds every row of their people.
///
/// # Errors
/// A reading or a rest that makes no sense for the store; nobody with enough rest, no window with enough past.
pub fn read_rows(
    store: &Store,
    measured: &Measured,
    rows: &[usize],
    reading: &Reading,
    rest: &Rest,
) -> Result<Read> {
    let index = store.index();
    let p = &store.manifest().processing;
    let window_s = p.window as f64 / p.rate_hz;
    reading.check(window_s)?;
    let is_rest = rest_rows(index, rest, reading)?;
    let people = index.split_keys().subject;
    let position: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &r)| (r, i)).collect();
    let mut of_person: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    rows_of_people(index, rows).into_iter().for_each(|r| of_person.entry(people[r]).or_default().push(r));
    let mut read: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    let (mut without_rest, mut in_reference, mut too_early) = (Vec::new(), 0, 0);
    for mut own in of_person.into_values() {
        in_order(index, &mut own);
        let features = |r: &usize| {
            measured
                .get(r)
                .cloned()
                .ok_or_else(|| Error::shape(format!("row {r} of the store was not measured")))
        };
        let reference = if reading.reference == Reference::Rest {
            let of: Vec<usize> = own.iter().copied().filter(|r| is_rest[*r]).collect();
            match first_seconds(index, &of, reading.reference_s, window_s) {
                Some(found) => found,
                None => {
                    without_rest.push(format!("{}/{}", index.dataset(own[0]), index.subject(own[0])));
                    continue;
                }
            }
        } else {
            Vec::new()
        };
        let overlaps = |r: usize| {
            let near = |q: &usize| {
                index.record(*q) == index.record(r)
                    && (index.start_s(*q) - index.start_s(r)).abs() < window_s - 1e-9
            };
            reference.iter().any(near)
        };
        let known: Vec<Features> = reference.iter().map(features).collect::<Result<_>>()?;
        let known = Features::mean(&known);
        let windows: Vec<Features> = own.iter().map(features).collect::<Result<_>>()?;
        let places: Vec<Place<'_>> =
            own.iter().map(|&r| Place { record: index.record(r), start_s: index.start_s(r) }).collect();
        let rows = read_person(reading, window_s, &windows, &places, known.as_ref())?;
        for (r, x) in own.into_iter().zip(rows) {
            let Some(&at) = position.get(&r) else { continue };
            match x {
                _ if overlaps(r) => in_reference += 1,
                None => too_early += 1,
                Some(x) => drop(read.insert(at, x)),
            }
        }
    }
    if read.is_empty() {
        return Err(nothing_left(reading, rest, window_s));
    }
    let columns = read.values().next().map_or(0, Vec::len);
    let (keep, x): (Vec<usize>, Vec<Vec<f32>>) = read.into_iter().unzip();
    let features = ProbeFeatures { x: x.concat(), columns, physiology: reading.physiology_inputs() };
    Ok(Read { keep, features, without_rest, in_reference, too_early })
}

/// Whether each row is rest.
fn rest_rows(index: &Index, rest: &Rest, reading: &Reading) -> Result<Vec<bool>> {
    match rest {
        Rest::First => Ok(vec![true; index.len()]),
        Rest::Label { .. } if reading.reference != Reference::Rest => Ok(vec![false; index.len()]),
        Rest::Label { column, value } => {
            let c = index.label_column(column)?;
            let found: Vec<bool> = (0..index.len()).map(|r| index.label(c, r) == Some(value)).collect();
            if found.contains(&true) {
                return Ok(found);
            }
            let mut values: Vec<&str> = (0..index.len()).filter_map(|r| index.label(c, r)).collect();
            values.sort_unstable();
            values.dedup();
            values.truncate(8);
            Err(Error::data(format!("no window has the value '{value}' in the column '{column}'"))
                .remedy(format!("its values are {}", values.join(", "))))
        }
    }
}

/// In the order of recording: recordings as they stand in the store, windows by their start.
fn in_order(index: &Index, rows: &mut [usize]) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for &r in rows.iter() {
        let place = first.entry(index.record(r)).or_insert(r);
        *place = r.min(*place);
    }
    rows.sort_by(|&a, &b| {
        let key = |r: usize| first.get(index.record(r)).copied().unwrap_or(r);
        key(a).cmp(&key(b)).then(index.start_s(a).total_cmp(&index.start_s(b)))
    });
}

/// The first windows of `rows` (in order) that together cover `seconds`; `None` if they do not.
fn first_seconds(index: &Index, rows: &[usize], seconds: f64, window_s: f64) -> Option<Vec<usize>> {
    let (mut covered, mut out) = (0.0, Vec::new());
    let mut before: Option<(&str, f64)> = None;
    for &r in rows {
        if covered >= seconds - 1e-6 {
            break;
        }
        let overlap = match before {
            Some((record, start)) if record == index.record(r) => {
                (start + window_s - index.start_s(r)).max(0.0)
            }
            _ => 0.0,
        };
        covered += window_s - overlap;
        before = Some((index.record(r), index.start_s(r)));
        out.push(r);
    }
    (covered >= seconds - 1e-6).then_some(out)
}

fn nothing_left(reading: &Reading, rest: &Rest, window_s: f64) -> Error {
    match reading.reference {
        Reference::Rest => {
            let which = match rest {
                Rest::First => "of recordings".to_string(),
                Rest::Label { column, value } => format!("with {column} = {value}"),
            };
            Error::data(format!("nobody has {} s {which} and another window to judge", reading.reference_s))
                .remedy(format!(
                    "give a shorter --reference-s (a window has {window_s} s), or say with --rest COLUMN=VALUE which \
                     windows are rest"
                ))
        }
        _ => Error::data(format!("no window has {} s of its person's past", reading.reference_s))
            .remedy(format!("give a shorter --reference-s (a window has {window_s} s)")),
    }
}
