//! Work spread over threads with results that do not depend on their number. The only place that names rayon, beside
//! the preparation of data.
//!
//! A batch is cut into a fixed number of shards, not one per thread. Each shard adds its gradients into a vector of its
//! own, in the order of its windows; the vectors are then added in the order of the shards. Which thread works on which
//! shard is left to chance and changes nothing.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Elements of a flat vector that one task updates or sums: fixed, so that sums do not depend on threads.
const CHUNK: usize = 1 << 14;

/// A pool of threads, each with a worker (executors and buffers) of its own.
pub struct Workers<W> {
    pool: rayon::ThreadPool,
    workers: Vec<Mutex<W>>,
}

impl<W> std::fmt::Debug for Workers<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({} threads)", self.workers.len())
    }
}

/// Threads to use for a setting: 0 means all the machine has.
pub fn threads(setting: usize) -> usize {
    if setting > 0 { setting } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

impl<W: Send> Workers<W> {
    /// A pool of [`threads`]`(setting)` threads, each with a worker made by `make`.
    ///
    /// # Errors
    /// If a worker cannot be made or the operating system refuses threads.
    pub fn new(setting: usize, make: impl Fn() -> Result<W>) -> Result<Self> {
        let n = threads(setting);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().map_err(|e| {
            Error::usage(format!("{n} threads cannot be started"))
                .remedy("ask for fewer threads")
                .caused_by(e)
        })?;
        let workers = (0..n).map(|_| make().map(Mutex::new)).collect::<Result<_>>()?;
        Ok(Self { pool, workers })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Runs `task(worker, i, &mut items[i])` for every item, in parallel.
    ///
    /// # Errors
    /// The error of the first item (in order) that failed.
    pub fn each<I: Send>(
        &self,
        items: &mut [I],
        task: impl Fn(&mut W, usize, &mut I) -> Result<()> + Sync,
    ) -> Result<()> {
        let results: Vec<Result<()>> = self.pool.install(|| {
            items
                .par_iter_mut()
                .enumerate()
                .with_max_len(1)
                .map(|(i, item)| {
                    let thread = rayon::current_thread_index().unwrap_or(0);
                    // A worker is poisoned only if its thread panicked, and then the panic is already on its way up.
                    let mut worker = match self.workers[thread].lock() {
                        Ok(w) => w,
                        Err(poisoned) => poisoned.into_inner(),
                    };
                    task(&mut worker, i, item)
                })
                .collect()
        });
        results.into_iter().collect()
    }

    /// The sum of `task(worker, part)` over the parts of `n` items that the shards work on, added in order.
    ///
    /// # Errors
    /// The error of the first part that failed.
    pub fn total(
        &self,
        n: usize,
        shards: usize,
        task: impl Fn(&mut W, Range<usize>) -> Result<f64> + Sync,
    ) -> Result<f64> {
        let mut sums = vec![0.0; shards];
        self.each(&mut sums, |worker, s, sum| {
            *sum = task(worker, part(n, s, shards))?;
            Ok(())
        })?;
        Ok(sums.iter().sum())
    }

    /// Adds the vectors `parts[1..]` to `parts[0]`, element by element in the order of the parts.
    pub fn sum_into_first(&self, parts: &mut [Vec<f32>]) {
        let Some((first, rest)) = parts.split_first_mut() else { return };
        self.pool.install(|| {
            first.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| {
                for part in rest.iter() {
                    let part = &part[c * CHUNK..][..chunk.len()];
                    chunk.iter_mut().zip(part).for_each(|(a, b)| *a += *b);
                }
            });
        });
    }

    /// The sum over fixed chunks of `f(chunk)`, added in order.
    pub fn sum_chunks(&self, x: &[f32], f: impl Fn(&[f32]) -> f64 + Sync) -> f64 {
        let sums: Vec<f64> = self.pool.install(|| x.par_chunks(CHUNK).map(&f).collect());
        sums.into_iter().sum()
    }

    /// Runs `f(params, grads, m, v)` on fixed chunks of four vectors of one length.
    pub fn update(
        &self,
        range: Range<usize>,
        params: &mut [f32],
        grads: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        f: impl Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]) + Sync,
    ) {
        let (params, grads) = (&mut params[range.clone()], &grads[range.clone()]);
        let (m, v) = (&mut m[range.clone()], &mut v[range]);
        self.pool.install(|| {
            params
                .par_chunks_mut(CHUNK)
                .zip(grads.par_chunks(CHUNK))
                .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
                .for_each(|((p, g), (m, v))| f(p, g, m, v));
        });
    }
}

/// The part of `n` items that shard `s` of `shards` works on: contiguous, sizes differing by at most one.
pub fn part(n: usize, s: usize, shards: usize) -> Range<usize> {
    n * s / shards..n * (s + 1) / shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for n in [0, 1, 7, 64, 65] {
            for shards in [1, 2, 8, 100] {
                let all: Vec<usize> = (0..shards).flat_map(|s| part(n, s, shards)).collect();
                assert_eq!(all, (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let parts: Vec<Vec<f32>> =
            (0..5).map(|p| (0..40_000).map(|i| ((i * 7 + p * 13) as f32).sin() * 1e3).collect()).collect();
        let run = |threads| {
            let workers = Workers::new(threads, || Ok(())).unwrap();
            let mut parts = parts.clone();
            workers.sum_into_first(&mut parts);
            let norm = workers.sum_chunks(&parts[0], |c| c.iter().map(|x| f64::from(x * x)).sum());
            (parts.swap_remove(0), norm.to_bits())
        };
        let one = run(1);
        for threads in [2, 7] {
            let other = run(threads);
            assert!(one.0.iter().zip(&other.0).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert_eq!(one.1, other.1);
        }
    }

    #[test]
    fn the_first_failing_item_is_reported() {
        let workers = Workers::new(3, || Ok(())).unwrap();
        let mut items = vec![0; 20];
        let error =
            workers.each(
                &mut items,
                |(), i, _| if i % 7 == 5 { Err(Error::data(format!("item {i}"))) } else { Ok(()) },
            );
        assert_eq!(error.unwrap_err().what(), "item 5");
    }
}
