//! The same samples in two recordings, by whatever name, format, unit or path each was reached.

use std::collections::BTreeMap;

use super::item_name;
use crate::data::content::{ContentIndex, Sketch};
use crate::data::table::{Item, Naming};
use crate::error::{Error, Result};

/// A recording that gave windows.
pub(super) struct Known<'a> {
    pub(super) item: &'a Item,
    /// Hash of its samples.
    pub(super) samples: Option<String>,
    pub(super) sketch: Sketch,
}

/// Pairs of recordings with the same samples, as doubts; at most [`MOST`] in full. Parts of one signal are left to
/// [`Items::check`](crate::data::table::Items::check), which knows their times.
///
/// # Errors
/// The two belong to two people by the table's word: no split could keep them apart.
pub(super) fn doubts(known: &[Known<'_>]) -> Result<Vec<String>> {
    let index = ContentIndex::new(known.iter().map(|k| &k.sketch));
    let mut hashes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut doubts = Vec::new();
    let mut more = 0;
    for (b, own) in known.iter().enumerate() {
        let mut same: Vec<usize> = index.sharing(&own.sketch).into_iter().filter(|a| *a < b).collect();
        if let Some(hash) = &own.samples {
            let equal = hashes.entry(hash).or_default();
            same.extend(equal.iter().copied());
            equal.push(b);
        }
        same.sort_unstable();
        same.dedup();
        for a in same {
            let (x, y) = (known[a].item, own.item);
            if x.signal() == y.signal() {
                continue;
            }
            let files = format!("{} and {} hold the same samples", item_name(x), item_name(y));
            let one_person = (&x.dataset, &x.subject) == (&y.dataset, &y.subject);
            // A file's name is nobody's word that these are two people.
            if !one_person && x.naming != Naming::File && y.naming != Naming::File {
                return Err(Error::data(format!(
                    "{files}, at least in part, but belong to '{}/{}' and to '{}/{}'",
                    x.dataset, x.subject, y.dataset, y.subject
                ))
                .in_file(&y.file)
                .remedy("leave one of them out, or give both to one person"));
            }
            if doubts.len() == MOST {
                more += 1;
                continue;
            }
            let whose = if one_person {
                format!("both of '{}': its windows are counted twice", x.subject)
            } else {
                format!("'{}' and '{}' count as two people", x.subject, y.subject)
            };
            doubts.push(format!("{files}, at least in part; {whose}"));
        }
    }
    if more > 0 {
        doubts.push(format!("and {more} more pairs of recordings hold the same samples"));
    }
    Ok(doubts)
}

/// Pairs that are named one by one.
const MOST: usize = 20;
