//! For benchmarks: this machine's limits, and clocks that notice when another process had the CPU.
//!
//! The only module that looks at a clock, allocates or reads a file.

use crate::isa::{Bf16, DotTask, Int8, Int8Task, Isa, Simd, Task};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Repeated times of one call.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The median, in seconds.
    pub seconds: f64,
    /// The shortest, in seconds.
    pub best: f64,
    /// Repetitions during which this thread hardly waited for a CPU; if there are any, the others are not counted.
    pub clean: usize,
    /// Repetitions.
    pub total: usize,
}

impl Timing {
    /// The median over repetitions `(seconds, whether it was clean)`; `None` without any.
    pub fn of(repetitions: &[(f64, bool)]) -> Option<Self> {
        let clean = repetitions.iter().filter(|r| r.1).count();
        let mut times: Vec<f64> = repetitions.iter().filter(|r| r.1 || clean == 0).map(|r| r.0).collect();
        times.sort_by(f64::total_cmp);
        let seconds = *times.get(times.len() / 2)?;
        Some(Self { seconds, best: times[0], clean, total: repetitions.len() })
    }
}

/// Share of a repetition that may be spent waiting for a CPU before it no longer counts as clean.
pub const CLEAN: f64 = 0.02;

/// Nanoseconds that this thread has waited for a CPU so far; `None` where the system does not tell (only Linux does).
pub fn waited() -> Option<u64> {
    wait_in("/proc/thread-self/schedstat".as_ref())
}

/// As [`waited`], summed over all threads of this process that are alive.
pub fn waited_by_process() -> Option<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    tasks.map(|task| wait_in(&task.ok()?.path().join("schedstat"))).sum()
}

fn wait_in(schedstat: &std::path::Path) -> Option<u64> {
    std::fs::read_to_string(schedstat).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// Bytes that this process held in memory at most since it started or since [`reset_peak_memory`]; `None` where the
/// system does not tell (only Linux does).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

/// Lets [`peak_memory`] begin anew from what is held now. Does nothing where the system has no such switch.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Times one call: repeats until `wanted` clean repetitions are in or `limit` is over, at least once.
pub fn time(run: &mut dyn FnMut(), limit: Duration, wanted: usize) -> Timing {
    let begin = Instant::now();
    run();
    let once = begin.elapsed();
    // Repetitions of about 3 ms: long against the clock, short against the scheduler's slice.
    let calls = (Duration::from_millis(3).as_nanos() / once.as_nanos().max(1)).clamp(1, 1_000_000) as usize;
    let (mut repetitions, mut clean) = (Vec::new(), 0);
    loop {
        let wait = waited();
        let start = Instant::now();
        for _ in 0..calls {
            run();
        }
        let t = start.elapsed();
        let waited = waited().zip(wait).map_or(0, |(after, before)| after.saturating_sub(before));
        // Waiting is not the call's time; its caches may still have been emptied, hence the mark.
        let seconds = t.saturating_sub(Duration::from_nanos(waited)).as_secs_f64() / calls as f64;
        let undisturbed = waited as f64 <= CLEAN * t.as_nanos() as f64;
        clean += usize::from(undisturbed);
        repetitions.push((seconds, undisturbed));
        if clean >= wanted || begin.elapsed() >= limit {
            break;
        }
    }
    let nothing = Timing { seconds: 0.0, best: 0.0, clean: 0, total: 0 };
    Timing::of(&repetitions).unwrap_or(nothing)
}

/// N chains of independent fused multiply-adds, for an N that fills the pipelines and fits the registers.
struct FmaChains<const N: usize>;

const LINKS: usize = 100_000;

impl<const N: usize> Task for FmaChains<N> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (a, b) = (s.splat(black_box(0.999_999)), s.splat(black_box(1e-7)));
        let mut acc = [s.splat(0.5); N];
        for _ in 0..LINKS {
            for x in &mut acc {
                *x = s.fma(a, *x, b);
            }
        }
        acc.into_iter().map(|x| s.sum(x)).sum()
    }
}

/// The f32 peak of one thread in GFLOP/s: the faster of 4 and 12 chains of fused multiply-adds in registers.
pub fn fma_peak(isa: Isa, limit: Duration) -> f64 {
    let rate = |chains: usize, run: &mut dyn FnMut()| {
        (2 * chains * LINKS * isa.lanes()) as f64 / time(run, limit / 2, 9).seconds / 1e9
    };
    let four = rate(4, &mut || {
        black_box(isa.run(FmaChains::<4>));
    });
    let twelve = rate(12, &mut || {
        black_box(isa.run(FmaChains::<12>));
    });
    four.max(twelve)
}

/// As [`FmaChains`], of dot products of bf16 pairs or of 8-bit integers.
struct DotChains;

const DOT_CHAINS: usize = 12;

impl DotTask for DotChains {
    type Out = f32;
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) -> f32 {
        let s = d.simd();
        // 1 and 2^-7, twice in each lane.
        let (a, b) = (s.splat(f32::from_bits(black_box(0x3f80_3f80))), s.splat(f32::from_bits(0x3c00_3c00)));
        let mut acc = [s.splat(0.5); DOT_CHAINS];
        for _ in 0..LINKS {
            for x in &mut acc {
                *x = d.dot(a, b, *x);
            }
        }
        acc.into_iter().map(|x| s.sum(x)).sum()
    }
}

/// The peak of one thread in GFLOP/s of the CPU's dot products of bf16, whether or not products use them; `None` if it
/// has none.
pub fn bf16_dot_peak(isa: Isa, limit: Duration) -> Option<f64> {
    let isa = isa.with_bf16_dot(true)?;
    let dot = isa.bf16_dot()?;
    let t = time(
        &mut || {
            black_box(dot.run(DotChains));
        },
        limit,
        9,
    );
    Some((4 * DOT_CHAINS * LINKS * isa.lanes()) as f64 / t.seconds / 1e9)
}

impl Int8Task for DotChains {
    type Out = f32;
    #[inline(always)]
    fn run<D: Int8>(self, d: D) -> f32 {
        let s = d.simd();
        let (a, b) = (s.splat_u32(black_box(0x0102_0304)), s.splat_u32(black_box(0x01ff_01ff)));
        let mut acc = [s.splat_u32(0); DOT_CHAINS];
        for _ in 0..LINKS {
            for x in &mut acc {
                *x = d.dot(*x, a, b);
            }
        }
        acc.into_iter().map(|x| s.sum(d.to_f32(x))).sum()
    }
}

/// As [`bf16_dot_peak`], of the CPU's dot products of 8-bit integers, a multiplication and an addition being two operations.
pub fn int8_dot_peak(isa: Isa, limit: Duration) -> Option<f64> {
    let dot = isa.int8_dot()?;
    let t = time(
        &mut || {
            black_box(dot.run(DotChains));
        },
        limit,
        9,
    );
    Some((8 * DOT_CHAINS * LINKS * isa.lanes()) as f64 / t.seconds / 1e9)
}

/// a = b + 3 c over arrays larger than any cache: 12 bytes per element.
struct Triad<'a>(&'a mut [f32], &'a [f32], &'a [f32]);

const TRIAD: usize = 16 << 20;

impl Task for Triad<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let three = s.splat(3.0);
        let (b, c) = (self.1.chunks_exact(S::LANES), self.2.chunks_exact(S::LANES));
        for ((a, b), c) in self.0.chunks_exact_mut(S::LANES).zip(b).zip(c) {
            s.store(s.fma(three, s.load(c), s.load(b)), a);
        }
    }
}

/// Memory bandwidth of one thread in GB/s (10^9 bytes): triad over 192 MiB.
pub fn bandwidth(isa: Isa, limit: Duration) -> f64 {
    let (mut a, b, c) = (vec![0.0f32; TRIAD], vec![1.0f32; TRIAD], vec![2.0f32; TRIAD]);
    let t = time(&mut || isa.run(Triad(&mut a, &b, &c)), limit, 9);
    12.0 * TRIAD as f64 / t.seconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_repetitions_alone_count_if_there_are_any() {
        let t = Timing::of(&[(9.0, false), (2.0, true), (1.0, true), (3.0, true), (0.5, false)]);
        let t = t.unwrap();
        assert_eq!((t.seconds, t.best, t.clean, t.total), (2.0, 1.0, 3, 5));
        let t = Timing::of(&[(9.0, false), (2.0, false), (3.0, false)]).unwrap();
        assert_eq!((t.seconds, t.best, t.clean), (3.0, 2.0, 0));
        assert!(Timing::of(&[]).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_of_memory_sees_a_large_buffer() {
        // Other tests of this process may free more in between: a few attempts.
        let seen = (0..20).any(|_| {
            reset_peak_memory();
            let before = peak_memory().unwrap();
            drop(std::hint::black_box(vec![1u8; 64 << 20]));
            peak_memory().unwrap() >= before + (48 << 20)
        });
        assert!(seen);
    }

    #[test]
    fn a_call_is_timed_at_least_once_and_about_right() {
        let mut calls = 0;
        let nap = Duration::from_millis(5);
        let t = time(
            &mut || {
                calls += 1;
                std::thread::sleep(nap);
            },
            Duration::ZERO,
            3,
        );
        assert_eq!((calls, t.total), (2, 1));
        assert!(t.seconds >= 0.004, "{t:?}");
    }
}
