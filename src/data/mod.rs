//! Recordings in, batches out: readers, the prepared store, splits that cannot leak, a repeatable order of batches.
//!
//! The way of the data, and the file that holds each step:
//!
//! ```text
//! file --readers/*--> Recording --prepare--> Store --split--> Fold --batch--> indices --WindowSource--> windows
//! ```
//!
//! * [`npy`], [`source`], [`split`], [`batch`], [`content`] (recordings told apart by their samples) and [`names`] (spellings,
//!   missing values) belong to the light core.
//! * With the feature `formats`: [`recording`] (what a reader delivers), [`readers`] (one file per format), [`table`]
//!   (a folder of one's own), [`store`] (the prepared directory), [`prepare`] (which joins them all with
//!   [`crate::signal`]) and [`shipped`] (the recordings that come with the source code).
//!
//! This room knows no graph and no model. Rules that hold throughout: units are in the names (`fs_hz`, `start_s`), a
//! missing sample is NaN and is counted, sizes that a file claims are checked against the bytes that are there, and an
//! error names the file, the place and the remedy.

pub mod batch;
pub mod content;
pub mod names;
pub mod npy;
pub(crate) mod rng;
pub mod source;
pub mod split;

#[cfg(feature = "formats")]
pub mod datasets;
#[cfg(feature = "formats")]
pub(crate) mod files;
#[cfg(feature = "formats")]
pub mod index;
#[cfg(feature = "formats")]
pub mod manifest;
#[cfg(feature = "matlab")]
pub mod matlab;
#[cfg(feature = "formats")]
pub mod prepare;
#[cfg(feature = "formats")]
pub mod readers;
#[cfg(feature = "formats")]
pub mod recording;
#[cfg(feature = "formats")]
pub mod shipped;
#[cfg(feature = "formats")]
pub mod store;
#[cfg(feature = "formats")]
pub mod table;
