//! Work spread over threads with results that do not depend on their number. The only place that names rayon, beside
//! the preparation of data.
//!
//! A batch is cut into a fixed number of shards, not one per thread. Each shard adds its gradients into a vector of its
//! own, in the order of its windows; the vectors are added in the order of the shards ([`Workers::sum`]). Which thread
//! works on which shard is left to chance and changes nothing.
//!
//! A vector is added as soon as those before it are, so there are about as many as threads, not as many as shards, and they
//! stay in the third-level cache from one shard to the next.

use crate::error::{Error, Result};
use heartlore_kernels::{GradMut, Isa, elementwise};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Elements of a flat vector that one task updates or sums: fixed, so that sums do not depend on threads.
const CHUNK: usize = 1 << 14;

/// Elements of a vector that are added and then cleared: a quarter of a first-level cache.
const PIECE: usize = 1 << 11;

/// A pool of threads, each with a worker (executors and buffers) of its own. One worker works on the caller's thread: to
/// hand a few milliseconds' step of a small model to another took 4 % of it (`tiny`, by turns in a program that is not kept).
pub struct Workers<W> {
    pool: Option<rayon::ThreadPool>,
    workers: Vec<Mutex<W>>,
}

impl<W> std::fmt::Debug for Workers<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({} threads)", self.workers.len())
    }
}

/// Most threads that are started: more than machines have, fewer than an operating system refuses in ways of its own.
pub const MOST_THREADS: usize = 4096;

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
        if n > MOST_THREADS {
            return Err(Error::usage(format!("{n} threads"))
                .remedy(format!("at most {MOST_THREADS}; 0 takes all that the machine has")));
        }
        let start = || {
            rayon::ThreadPoolBuilder::new().num_threads(n).build().map_err(|e| {
                Error::usage(format!("{n} threads cannot be started"))
                    .remedy("ask for fewer threads")
                    .caused_by(e)
            })
        };
        let pool = (n > 1).then(start).transpose()?;
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
        let Some(pool) = &self.pool else {
            let mut worker = lock(&self.workers[0]);
            return items.iter_mut().enumerate().try_for_each(|(i, item)| task(&mut worker, i, item));
        };
        let results: Vec<Result<()>> = pool.install(|| {
            items
                .par_iter_mut()
                .enumerate()
                .with_max_len(1)
                .map(|(i, item)| {
                    let thread = rayon::current_thread_index().unwrap_or(0);
                    task(&mut lock(&self.workers[thread]), i, item)
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

    /// The sum of what `task(worker, s, vector)` returns for every shard `s`, and, left in `sums`, of the vectors, which it
    /// is given full of zeros; both in the order of the shards.
    ///
    /// # Errors
    /// The error of the first shard (in order) that failed; the sums are unspecified then.
    pub fn sum(
        &self,
        isa: Isa,
        sums: &mut Sums,
        shards: usize,
        task: impl Fn(&mut W, usize, &mut [f32]) -> Result<f64> + Sync,
    ) -> Result<f64> {
        let done = (0..shards).map(|_| None).collect();
        let queue = Mutex::new(Queue { done, turn: 0, adding: false, sum: 0.0 });
        let (next, n, total) = (AtomicUsize::new(0), sums.total.len(), Mutex::new(&mut sums.total));
        let spare = Mutex::new(&mut sums.spare);
        let work = |thread: usize| {
            let mut worker = lock(&self.workers[thread]);
            // Shards are begun in order, so that few are finished before their turn.
            loop {
                let shard = next.fetch_add(1, Ordering::Relaxed);
                if shard >= shards {
                    return;
                }
                let waiting = lock(&spare).pop();
                let mut vector = waiting.unwrap_or_else(|| vec![0.0; n]);
                let result = task(&mut worker, shard, &mut vector).map(|value| (value, vector));
                add_in_turn(isa, &queue, &total, &spare, shard, result);
            }
        };
        match &self.pool {
            None => work(0),
            Some(pool) => drop(pool.broadcast(|context| work(context.index()))),
        }
        let mut queue = lock(&queue);
        match queue.done.iter_mut().flatten().find(|d| d.is_err()) {
            Some(failed) => std::mem::replace(failed, Ok(Default::default())).map(|_| 0.0),
            None => Ok(queue.sum),
        }
    }

    /// The sum over fixed chunks of `f(chunk)`, added in order.
    pub fn sum_chunks(&self, x: &[f32], f: impl Fn(&[f32]) -> f64 + Sync) -> f64 {
        let Some(pool) = &self.pool else { return x.chunks(CHUNK).map(f).sum() };
        let sums: Vec<f64> = pool.install(|| x.par_chunks(CHUNK).map(&f).collect());
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
        let Some(pool) = &self.pool else {
            let (params, grads) = (params.chunks_mut(CHUNK), grads.chunks(CHUNK));
            let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
            return params.zip(grads).zip(moments).for_each(|((p, g), (m, v))| f(p, g, m, v));
        };
        pool.install(|| {
            params
                .par_chunks_mut(CHUNK)
                .zip(grads.par_chunks(CHUNK))
                .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
                .for_each(|((p, g), (m, v))| f(p, g, m, v));
        });
    }
}

/// A sum of vectors, and the memory it takes to make it: a vector for every shard that is worked on, and for those that wait
/// for their turn.
#[derive(Debug)]
pub struct Sums {
    /// The last sum.
    pub total: Vec<f32>,
    /// Zeros.
    spare: Vec<Vec<f32>>,
}

impl Sums {
    /// Of vectors of `n` elements.
    pub fn new(n: usize) -> Self {
        Self { total: vec![0.0; n], spare: Vec::new() }
    }
}

/// What the task of a shard returned, and its vector.
type Shard = Result<(f64, Vec<f32>)>;

/// Which shards are finished, and how many have been added.
struct Queue {
    done: Vec<Option<Shard>>,
    turn: usize,
    adding: bool,
    sum: f64,
}

/// Leaves a finished shard, and adds all whose turn has come unless another thread is about it.
fn add_in_turn(
    isa: Isa,
    queue: &Mutex<Queue>,
    total: &Mutex<&mut Vec<f32>>,
    spare: &Mutex<&mut Vec<Vec<f32>>>,
    shard: usize,
    result: Shard,
) {
    let mut q = lock(queue);
    q.done[shard] = Some(result);
    if q.adding {
        return;
    }
    // A failed shard stays, and nothing is added after it.
    loop {
        let turn = q.turn;
        let Some(Ok((value, mut vector))) = q.done.get_mut(turn).and_then(|d| d.take_if(|d| d.is_ok()))
        else {
            return;
        };
        (q.adding, q.turn, q.sum) = (true, turn + 1, q.sum + value);
        drop(q);
        let mut total = lock(total);
        // A vector is cleared for its next shard while it is at hand.
        if turn == 0 {
            std::mem::swap(&mut **total, &mut vector);
            vector.fill(0.0);
        } else {
            for (total, part) in total.chunks_mut(PIECE).zip(vector.chunks_mut(PIECE)) {
                elementwise::add_backward(isa, part, Some(GradMut::accumulate(total)), None);
                part.fill(0.0);
            }
        }
        drop(total);
        lock(spare).push(vector);
        q = lock(queue);
        q.adding = false;
    }
}

/// What a mutex guards. It is poisoned only if a thread panicked, and then the panic is already on its way up.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
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
            let mut sums = Sums::new(parts[0].len());
            // Twice: what is left of a sum does not reach the next.
            for round in 0..2 {
                let add = |(): &mut (), s: usize, to: &mut [f32]| {
                    // The first shards come last.
                    std::thread::sleep(std::time::Duration::from_millis(5 * (parts.len() - s) as u64));
                    to.iter_mut().zip(&parts[s]).for_each(|(a, b)| *a += *b);
                    Ok((s + 1) as f64)
                };
                let shards = parts.len() - round;
                assert_eq!(
                    workers.sum(Isa::best(), &mut sums, shards, add).unwrap(),
                    (shards * (shards + 1) / 2) as f64
                );
            }
            assert!(sums.spare.len() <= parts.len() && sums.spare.iter().flatten().all(|x| *x == 0.0));
            let norm = workers.sum_chunks(&sums.total, |c| c.iter().map(|x| f64::from(x * x)).sum());
            (sums.total, norm.to_bits())
        };
        let one = run(1);
        let by_hand =
            |i: usize| parts[1..parts.len() - 1].iter().fold(parts[0][i], |sum, part| sum + part[i]);
        assert!((0..one.0.len()).all(|i| one.0[i].to_bits() == by_hand(i).to_bits()));
        for threads in [2, 7] {
            let other = run(threads);
            assert!(one.0.iter().zip(&other.0).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert_eq!(one.1, other.1);
        }
    }

    #[test]
    fn the_first_failing_shard_is_reported() {
        for threads in [1, 3] {
            let workers = Workers::new(threads, || Ok(())).unwrap();
            let fail = |(): &mut (), s: usize, _: &mut [f32]| {
                if s % 7 == 5 { Err(Error::data(format!("shard {s}"))) } else { Ok(1.0) }
            };
            let error = workers.sum(Isa::best(), &mut Sums::new(10), 20, fail);
            assert_eq!(error.unwrap_err().what(), "shard 5");
        }
    }

    #[test]
    fn the_first_failing_item_is_reported() {
        for threads in [1, 3] {
            let workers = Workers::new(threads, || Ok(())).unwrap();
            let fail = |(): &mut (), i, _: &mut i32| {
                if i % 7 == 5 { Err(Error::data(format!("item {i}"))) } else { Ok(()) }
            };
            assert_eq!(workers.each(&mut [0; 20], fail).unwrap_err().what(), "item 5");
        }
    }
}
