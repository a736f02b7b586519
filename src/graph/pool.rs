//! [`ThreadPool`]: a few threads that share the work of one pass. The only place of this room that names rayon.
//!
//! One thread leads: it walks the program and hands out the parts of an operation ([`ThreadPool::run_chunks`]); the others help. Which
//! thread computes which part changes nothing, because parts write apart from each other and the numbers in them do not
//! depend on where the cuts are.
//!
//! While one leads, the others do not sleep: waking a thread takes some fifty microseconds, and a pass has dozens of
//! operations of about a millisecond. They look for parts in turn, and give way to other programs when there are none for
//! a while; nor does the leader sleep at the end of an operation. A part is begun 0.2 microseconds after it is handed out.
//! With more threads than cores they sleep as usual.
//!
//! Handing a pass to a pool of two allocates twice (the pool's lists, `tests/no_alloc.rs`); handing out parts does not.
//! Measured with `heartlore bench --what predict --batch 1 --threads 1,2 --precision f32,bf16` on two cores of an AMD EPYC
//! (Zen 5) VM: a window of the paper's model takes 17.6 to 18.2 ms on one thread and 9.1 to 9.7 on two, in bf16 10.3 to 10.6
//! and 5.3 to 5.9: 1.83 to 1.94 times as fast, where bare FMA loops gain 1.98 to 2.01.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Looks in vain before a waiting thread gives way to other programs.
const PATIENCE: u32 = 1 << 12;

/// Threads that work on one pass together.
#[derive(Debug)]
pub struct ThreadPool {
    pool: rayon::ThreadPool,
    threads: usize,
    /// Whether every thread has a core, so that waiting awake takes nothing from the others.
    awake: bool,
}

impl ThreadPool {
    /// A pool of `threads` threads, at least one.
    ///
    /// # Errors
    /// If the operating system refuses threads.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::usage(format!("{threads} threads cannot be started"))
                .remedy("ask for fewer threads")
                .caused_by(e)
        })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { pool, threads, awake: threads <= cores })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `lead` on a thread of the pool while the others wait for the parts it hands out with [`ThreadPool::each`].
    pub fn run<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R {
        if !self.awake || self.threads == 1 {
            return self.pool.install(lead);
        }
        let (done, lead) = (AtomicBool::new(false), Mutex::new(Some(lead)));
        let mut results = self.pool.broadcast(|context| {
            if context.index() > 0 {
                wait(&done);
                return None;
            }
            // Set even if the lead panics, or the others would wait for ever.
            let _set = Set(&done);
            let lead = lead.lock().unwrap_or_else(PoisonError::into_inner).take();
            lead.map(|lead| lead())
        });
        match results.swap_remove(0) {
            Some(result) => result,
            None => unreachable!("the first thread of a pool leads"),
        }
    }

    /// Runs `task(thread, &mut items[i])` for every item; `thread` counts from 0 and names the thread that runs it.
    pub fn each<I: Send>(&self, items: &mut [I], task: impl Fn(usize, &mut I) + Sync) {
        let run = || {
            items.par_iter_mut().with_max_len(1).for_each(|item| {
                task(rayon::current_thread_index().unwrap_or(0), item);
            });
        };
        self.pool.install(run);
    }

    /// [`ThreadPool::each`] for tasks of microseconds. The first chunk of the items ends at `ends[0]`, the next at `ends[1]` and so
    /// on, the last with the items: each thread takes the items of a chunk of its own in order, and then those that others
    /// have not come to. The caller's thread stays awake until all are done.
    ///
    /// # Panics
    /// If there are more than [`ThreadPool::MAX_CHUNKS`] chunks, or they do not hold all items.
    pub fn run_chunks<I: Send>(
        &self,
        items: &[Mutex<I>],
        ends: &[usize],
        task: impl Fn(usize, &mut I) + Sync,
    ) {
        let chunks = ends.len();
        let all = ends.last().map_or(0, |&end| end);
        assert!(chunks <= Self::MAX_CHUNKS && all == items.len(), "thread pool: chunks");
        let first =
            |chunk: usize| chunk.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |&end| end);
        let next: [Counter; Self::MAX_CHUNKS] =
            std::array::from_fn(|chunk| Counter(AtomicUsize::new(first(chunk))));
        let done = Counter(AtomicUsize::new(0));
        let work = || {
            let thread = rayon::current_thread_index().unwrap_or(0);
            for chunk in (0..chunks).map(|i| (thread + i) % chunks) {
                while let Some(item) = items[..ends[chunk]].get(next[chunk].0.fetch_add(1, Ordering::Relaxed))
                {
                    // Counted even if the task panics, or the others would wait for ever.
                    let _count = Count(&done.0);
                    task(thread, &mut item.lock().unwrap_or_else(PoisonError::into_inner));
                }
            }
        };
        let lead = || {
            work();
            // Or this thread, which finds no work, would fall asleep before the others have done theirs.
            if self.awake {
                let mut idle = 0;
                while done.0.load(Ordering::Acquire) < items.len() {
                    pause(&mut idle);
                }
            }
        };
        self.pool.install(|| with_helpers(self.threads - 1, &work, &lead));
    }

    /// Most chunks of [`ThreadPool::run_chunks`].
    pub const MAX_CHUNKS: usize = 64;
}

/// A counter with a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicUsize);

/// Counts one more when it is dropped.
struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Offers `work` to `helpers` threads and leads meanwhile.
fn with_helpers<W: Fn() + Sync, L: Fn() + Sync>(helpers: usize, work: &W, lead: &L) {
    if helpers == 0 {
        lead();
    } else {
        rayon::join(|| with_helpers(helpers - 1, work, lead), work);
    }
}

/// A moment of waiting, after `idle` of them in vain.
fn pause(idle: &mut u32) {
    if *idle < PATIENCE {
        *idle += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Takes parts until `done`.
fn wait(done: &AtomicBool) {
    let mut idle = 0;
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle = 0;
        } else {
            pause(&mut idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_run_once_whoever_leads() {
        for threads in [1, 2, 3, 7] {
            let pool = ThreadPool::new(threads).unwrap();
            let items: Vec<Mutex<u32>> = (0..50).map(|_| Mutex::new(0)).collect();
            for ends in [&[50][..], &[20, 50], &[0, 1, 1, 50, 50], &[10, 20, 30, 31, 32, 33, 34, 50]] {
                items.iter().for_each(|item| *item.lock().unwrap() = 0);
                pool.run_chunks(&items, ends, |thread, item| {
                    assert!(thread < threads);
                    *item += 1;
                });
                pool.run(|| {
                    for _ in 0..20 {
                        pool.run_chunks(&items, ends, |_, item| *item += 1);
                    }
                });
                let all: Vec<u32> = items.iter().map(|item| *item.lock().unwrap()).collect();
                assert_eq!(all, [21; 50], "{threads} threads, {ends:?}");
            }
            let mut items = [0u32; 50];
            pool.each(&mut items, |_, item| *item += 1);
            pool.run(|| pool.each(&mut items, |_, item| *item += 1));
            assert_eq!(items, [2; 50], "{threads} threads");
            pool.run_chunks(&[] as &[Mutex<u32>], &[], |_, _| panic!("no item"));
        }
    }

    #[test]
    fn chunks_of_the_first_thread_alone_are_run_in_order() {
        let pool = ThreadPool::new(1).unwrap();
        let items: Vec<Mutex<usize>> = (0..6).map(Mutex::new).collect();
        let order = Mutex::new(vec![]);
        pool.run_chunks(&items, &[2, 3, 6], |_, item| order.lock().unwrap().push(*item));
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    #[should_panic(expected = "thread pool: chunks")]
    fn items_without_a_chunk_are_refused() {
        ThreadPool::new(1).unwrap().run_chunks(&[Mutex::new(0)], &[], |_, _| ());
    }

    #[test]
    #[should_panic(expected = "thread pool: chunks")]
    fn chunks_that_leave_items_out_are_refused() {
        ThreadPool::new(1).unwrap().run_chunks(&[Mutex::new(0), Mutex::new(1)], &[1], |_, _| ());
    }

    #[test]
    fn a_panic_of_the_lead_or_of_a_part_comes_through() {
        let pool = ThreadPool::new(2).unwrap();
        let caught = |f: &(dyn Fn() + Sync)| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(f))).is_err()
        };
        assert!(caught(&|| panic!("the lead")));
        let items = [0, 1, 2, 3].map(Mutex::new);
        assert!(caught(&|| pool.each(&mut [0, 1, 2, 3], |_, i| assert!(*i < 2, "a part"))));
        assert!(caught(&|| pool.run_chunks(&items, &[2, 4], |_, i| assert!(*i < 2, "a part"))));
        assert!(!caught(&|| ()));
    }
}
