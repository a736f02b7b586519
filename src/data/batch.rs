//! Which windows come when: an order that depends on (seed, epoch) alone, so that threads and restarts cannot change it.
//!
//! The order of an epoch is computed from nothing but the seed, the epoch's number and the list of windows. A resumed
//! run therefore needs two numbers, [`Position`], to continue exactly where it stopped.

use crate::data::rng::SplitMix64;
use crate::error::{Error, Result};

/// Which windows an epoch contains.
#[derive(Clone, Debug, PartialEq)]
pub enum Sampling {
    /// Every window once.
    All,
    /// Every window once, but of each group (a subject, a data set) at most `cap`, drawn afresh each epoch. Keeps one
    /// large data set from drowning the others.
    Capped {
        /// Group of each window, by position in the list of windows.
        groups: Vec<u32>,
        /// Most windows of one group per epoch.
        cap: usize,
    },
    /// `draws` windows drawn with replacement, in proportion to their weights.
    Weighted {
        /// Weight of each window, by position in the list of windows; finite, not negative, not all 0.
        weights: Vec<f64>,
        /// Windows per epoch.
        draws: usize,
    },
}

/// How far a run has come: the next batch to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Batch within the epoch, from 0.
    pub batch: u64,
}

/// Hands out batches of window indices.
#[derive(Clone, Debug)]
pub struct Batches {
    windows: Vec<usize>,
    batch_size: usize,
    drop_last: bool,
    seed: u64,
    sampling: Sampling,
    position: Position,
    /// The order of `position.epoch`.
    order: Vec<usize>,
}

impl Batches {
    /// Batches of `batch_size` over `windows` (indices into a store). The last batch of an epoch may be shorter;
    /// with `drop_last` it is left out.
    ///
    /// # Errors
    /// No windows, a batch size of 0, fewer windows than one batch with `drop_last`, or a [`Sampling`] that does not
    /// fit the list.
    pub fn new(
        windows: Vec<usize>,
        batch_size: usize,
        drop_last: bool,
        seed: u64,
        sampling: Sampling,
    ) -> Result<Self> {
        if windows.is_empty() {
            return Err(Error::data("there are no windows to train on"));
        }
        if batch_size == 0 {
            return Err(Error::usage("a batch of 0 windows").remedy("give a batch size of at least 1"));
        }
        let n = windows.len();
        match &sampling {
            Sampling::All => {}
            Sampling::Capped { groups, cap } => {
                if groups.len() != n {
                    return Err(Error::shape(format!("{} groups for {n} windows", groups.len())));
                }
                if *cap == 0 {
                    return Err(Error::usage("a cap of 0 windows per group"));
                }
            }
            Sampling::Weighted { weights, draws } => {
                if weights.len() != n {
                    return Err(Error::shape(format!("{} weights for {n} windows", weights.len())));
                }
                let sum: f64 = weights.iter().sum();
                if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || !(sum.is_finite() && sum > 0.0) {
                    return Err(Error::usage("weights must be finite, not negative and not all 0"));
                }
                if *draws == 0 {
                    return Err(Error::usage("an epoch of 0 windows"));
                }
            }
        }
        let mut out = Self {
            windows,
            batch_size,
            drop_last,
            seed,
            sampling,
            position: Position::default(),
            order: vec![],
        };
        out.order = out.epoch_order(0);
        if out.batches_per_epoch() == 0 {
            let (have, size) = (out.order.len(), out.batch_size);
            return Err(Error::data(format!("{have} windows do not fill one batch of {size}"))
                .remedy("give a smaller batch size, or keep the short last batch"));
        }
        Ok(out)
    }

    /// The windows of `epoch` in order. Depends on (seed, epoch, windows, sampling) only.
    pub fn epoch_order(&self, epoch: u64) -> Vec<usize> {
        let mut rng = SplitMix64::keyed(self.seed, epoch);
        let n = self.windows.len();
        let mut places: Vec<usize> = (0..n).collect();
        match &self.sampling {
            Sampling::All => rng.shuffle(&mut places),
            Sampling::Capped { groups, cap } => {
                rng.shuffle(&mut places);
                let mut used = std::collections::HashMap::new();
                places.retain(|&p| {
                    let count = used.entry(groups[p]).or_insert(0usize);
                    *count += 1;
                    *count <= *cap
                });
            }
            Sampling::Weighted { weights, draws } => {
                let mut sum = 0.0;
                let ends: Vec<f64> = weights
                    .iter()
                    .map(|w| {
                        sum += w;
                        sum
                    })
                    .collect();
                // The first end above the draw: a window of weight 0 has an empty stretch and is never hit.
                let last = weights.iter().rposition(|w| *w > 0.0).unwrap_or(0);
                places = (0..*draws)
                    .map(|_| {
                        let u = rng.unit() * sum;
                        ends.partition_point(|e| *e <= u).min(last)
                    })
                    .collect();
            }
        }
        places.into_iter().map(|p| self.windows[p]).collect()
    }

    /// Batches in the present epoch (the same in every epoch: caps and draws do not change the count).
    pub fn batches_per_epoch(&self) -> usize {
        if self.drop_last {
            self.order.len() / self.batch_size
        } else {
            self.order.len().div_ceil(self.batch_size)
        }
    }

    /// Windows in an epoch.
    pub fn windows_per_epoch(&self) -> usize {
        if self.drop_last { self.batches_per_epoch() * self.batch_size } else { self.order.len() }
    }

    /// Where the next batch comes from.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to `position`, as saved by an interrupted run.
    ///
    /// # Errors
    /// The batch lies beyond the epoch: the run was made with other data or another batch size.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        if position.batch >= self.batches_per_epoch() as u64 {
            return Err(Error::usage(format!(
                "batch {} of an epoch of {} batches",
                position.batch,
                self.batches_per_epoch()
            ))
            .remedy("resume with the data and the batch size of the interrupted run"));
        }
        self.order = self.epoch_order(position.epoch);
        self.position = position;
        Ok(())
    }

    /// The next batch; goes on to the next epoch by itself.
    pub fn next_batch(&mut self) -> Vec<usize> {
        let start = self.position.batch as usize * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        let batch = self.order[start..end].to_vec();
        self.position.batch += 1;
        if self.position.batch as usize >= self.batches_per_epoch() {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
            self.order = self.epoch_order(self.position.epoch);
        }
        batch
    }
}
