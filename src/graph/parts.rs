//! One operation on several threads: ranges of rows, and how a pool runs them.
//!
//! Rows of a result are computed apart from each other by every kernel that is cut, so the cuts leave no trace in the
//! numbers as long as no part is so short that its product takes another path (`gemm::row_grain` of the kernels). What has
//! a single row is cut by columns or, in absorbed attention, by keys; a convolution in the frequency domain by frequencies.
//!
//! Each thread has a chunk, the same rows from operation to operation as far as shapes allow, so that it finds them in its
//! own cache, and brings the scratch. A chunk is cut in parts, long ones first ([`TAPER`]), because threads never take the
//! same time: with four equal parts the first to end its chunk waited 0.13 ms at the end of a feed-forward block's 2.93 and
//! 0.07 at the end of the 1.09 of the projection to queries, keys and values.
//!
//! Of the paper's model on two cores of an AMD EPYC (Zen 5) VM, one window, f32, by turns, ms (`heartlore bench --what
//! predict --batch 1 --threads 2`): 9.59 with convolutions cut by rows, four equal parts a chunk and single rows whole, 9.33
//! now; in bf16 5.79 and 5.53. With a clock after each operation, on one thread and on two, two before in brackets:
//! convolutions of 33 and 17 taps 0.33 and 0.20 (0.28), 0.93 and 0.51 (0.52); absorbed attention 0.060 and 0.042 (0.060),
//! the last feed-forward block 0.080 and 0.064 (0.083).
//!
//! How an operation is cut, and what each part computes, is in its own file. What is not cut runs whole: operations too
//! small to be worth handing out, passes that keep something for a backward pass, and products whose weights are not
//! packed, because every part would pack them anew.

use super::aligned::Aligned;
use super::pool::ThreadPool;
use heartlore_kernels::Real;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Most parts of an operation.
const MOST: usize = 128;
/// A part is one of so many that are left of a thread's chunk: long ones first, short ones for the end, where a thread that
/// has done its own chunk takes what is left of another's. With 3 a pass is 0.5 (f32) to 1 % (bf16) slower.
const TAPER: usize = 2;
/// Rows, or elements, by multiples of which operations are cut that treat each alone.
pub(crate) const EACH: usize = 16;

/// `rows` cut at multiples of an alignment into one chunk for each thread, and those into parts.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    rows: usize,
    alignment: usize,
    blocks: usize,
    chunks: usize,
    /// Most parts of a chunk.
    most: usize,
}

impl Cuts {
    /// For `threads`. `short`: the last part may be shorter than the alignment; else it takes what is left.
    pub(crate) fn new(rows: usize, alignment: usize, threads: usize, short: bool) -> Self {
        let blocks = if short { rows.div_ceil(alignment) } else { rows / alignment };
        let chunks = threads.min(blocks).clamp(1, ThreadPool::MAX_CHUNKS);
        Self { rows, alignment, blocks, chunks, most: MOST / chunks }
    }

    /// The same in one part for each thread.
    pub(crate) fn whole_chunks(self) -> Self {
        Self { most: 1, ..self }
    }

    /// Whether there is something to hand out.
    pub(crate) fn is_profitable(&self) -> bool {
        self.blocks > 1 && self.chunks > 1
    }

    /// Blocks before a chunk.
    fn before(&self, chunk: usize) -> usize {
        self.blocks * chunk / self.chunks
    }

    /// The longest chunk, as a part of the whole.
    pub(crate) fn longest(&self) -> f64 {
        self.blocks.div_ceil(self.chunks) as f64 / self.blocks as f64
    }

    /// The rows of the parts of a chunk, in order.
    fn parts(self, chunk: usize) -> impl Iterator<Item = Range<usize>> {
        let (mut block, end) = (self.before(chunk), self.before(chunk + 1));
        let row = move |block| if block == self.blocks { self.rows } else { self.alignment * block };
        let left = (1..=self.most).rev();
        left.map_while(move |parts| {
            let first = block;
            block += (end - block).div_ceil(parts.min(TAPER));
            (first < block).then(|| row(first)..row(block))
        })
    }
}

/// Scratch of each thread of a pool.
pub(crate) type ThreadScratch<T> = Vec<Mutex<Aligned<T>>>;

/// The threads that share an operation, and their scratch.
#[derive(Debug)]
pub(crate) struct Workers<'a, T> {
    pub(crate) pool: &'a ThreadPool,
    pub(crate) scratch: &'a ThreadScratch<T>,
}

impl<T> Clone for Workers<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Workers<'_, T> {}

impl<T: Real> Workers<'_, T> {
    /// `rows` in single steps, for these threads.
    pub(crate) fn cuts(self, rows: usize, alignment: usize) -> Cuts {
        Cuts::new(rows, alignment, self.pool.threads(), true)
    }

    /// Runs `task(rows, y of these rows, scratch)` for all parts.
    pub(crate) fn by_rows(
        self,
        cuts: Cuts,
        y: &mut [T],
        task: impl Fn(Range<usize>, &mut [T], &mut [T]) + Sync,
    ) {
        let width = y.len() / cuts.rows;
        let mut parts: [Mutex<(Range<usize>, &mut [T])>; MOST] =
            std::array::from_fn(|_| Mutex::new((0..0, &mut [][..])));
        let (mut count, mut ends, mut rest) = (0, [0; ThreadPool::MAX_CHUNKS], y);
        for (chunk, end) in ends[..cuts.chunks].iter_mut().enumerate() {
            for rows in cuts.parts(chunk) {
                let (mine, tail) = rest.split_at_mut(rows.len() * width);
                parts[count] = Mutex::new((rows, mine));
                (count, rest) = (count + 1, tail);
            }
            *end = count;
        }
        self.pool.run_chunks(&parts[..count], &ends[..cuts.chunks], |thread, (rows, y)| {
            // A thread's scratch is poisoned only if a part panicked, and then the panic is already on its way up.
            let mut scratch = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            task(rows.clone(), y, &mut scratch);
        });
    }
}

/// Elements `rows` of a matrix with rows of `width`.
pub(crate) fn rows_of<'a, T>(x: &'a [T], rows: &Range<usize>, width: usize) -> &'a [T] {
    &x[rows.start * width..rows.end * width]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_every_row_once_and_none_is_short() {
        for rows in [0, 1, 13, 14, 27, 28, 29, 1281] {
            for (alignment, threads, short) in
                [(1, 4, false), (14, 2, true), (14, 12, false), (64, 200, true)]
            {
                let cuts = Cuts::new(rows, alignment, threads, short);
                for cuts in [cuts, cuts.whole_chunks()] {
                    let parts: Vec<_> = (0..cuts.chunks).flat_map(|chunk| cuts.parts(chunk)).collect();
                    let all: Vec<usize> = parts.iter().cloned().flatten().collect();
                    if cuts.blocks > 0 {
                        assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{cuts:?}");
                    }
                    assert!(parts.len() <= MOST, "{cuts:?}");
                    for range in parts {
                        assert!(range.start % alignment == 0 && !range.is_empty(), "{cuts:?} {range:?}");
                        assert!(
                            range.len() >= alignment || (short && range.end == rows),
                            "{cuts:?} {range:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_begins_with_long_parts_and_ends_with_short_ones() {
        let cuts = Cuts::new(92, 1, 2, true);
        let lengths = |chunk| cuts.parts(chunk).map(|range| range.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), [23, 12, 6, 3, 1, 1]);
        assert_eq!(lengths(1), lengths(0));
    }
}
