//! [`Team`]: a few threads that share the work of one pass. The only place of this room that names rayon.
//!
//! One thread leads: it walks the program and hands out the parts of an operation; the others take parts as they come
//! free. Which thread computes which part changes nothing, because parts write apart from each other and the numbers in
//! them do not depend on where the cuts are.
//!
//! While one leads, the others do not sleep: waking a thread takes some fifty microseconds, and a pass has dozens of
//! operations of about a millisecond. They look for parts in turn, and give way to other programs when there are none for
//! a while. With more threads than cores they sleep as usual.
//!
//! Handing a pass to a team of two allocates twice (the pool's lists, `tests/no_alloc.rs`); handing out parts does not.
//! Measured with `heartlore bench --preset paper --what predict` on two cores of an AMD EPYC (Zen 5) VM: one window takes
//! 17.9 ms on one thread and 9.9 ms on two, 1.81 times as fast, where bare FMA loops gain 1.94.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks in vain before a waiting thread gives way to other programs.
const PATIENCE: u32 = 1 << 12;

/// Threads that work on one pass together.
#[derive(Debug)]
pub struct Team {
    pool: rayon::ThreadPool,
    threads: usize,
    /// Whether every thread has a core, so that waiting awake takes nothing from the others.
    awake: bool,
}

impl Team {
    /// A team of `threads` threads, at least one.
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

    /// Runs `lead` on a thread of the team while the others wait for the parts it hands out with [`Team::each`].
    pub fn lead<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R {
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
            let lead = match lead.lock() {
                Ok(mut lead) => lead.take(),
                Err(poisoned) => poisoned.into_inner().take(),
            };
            lead.map(|lead| lead())
        });
        match results.swap_remove(0) {
            Some(result) => result,
            None => unreachable!("the first thread of a team leads"),
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
        } else if idle < PATIENCE {
            idle += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_run_once_whoever_leads() {
        for threads in [1, 2, 3, 7] {
            let team = Team::new(threads).unwrap();
            let mut items = vec![0u32; 50];
            team.each(&mut items, |thread, item| {
                assert!(thread < threads);
                *item += 1;
            });
            let sum = team.lead(|| {
                for _ in 0..20 {
                    team.each(&mut items, |_, item| *item += 1);
                }
                items.iter().sum::<u32>()
            });
            assert_eq!(sum, 50 * 21, "{threads} threads");
        }
    }

    #[test]
    fn a_panic_of_the_lead_or_of_a_part_comes_through() {
        let team = Team::new(2).unwrap();
        let caught = |f: &(dyn Fn() + Sync)| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| team.lead(f))).is_err()
        };
        assert!(caught(&|| panic!("the lead")));
        assert!(caught(&|| team.each(&mut [0, 1, 2, 3], |_, i| assert!(*i < 2, "a part"))));
        assert!(!caught(&|| ()));
    }
}
