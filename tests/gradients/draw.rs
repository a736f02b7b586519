//! Random choices, and what a case of the gradient tests is.

use heartlore::graph::{Graph, Id};

/// Seeded numbers for building cases.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// In 1..=max.
    pub(crate) fn size(&mut self, max: usize) -> usize {
        1 + self.below(max)
    }
    /// In 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A program, what to differentiate, and whether dropout is on.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) root: Id,
    pub(crate) dropout: bool,
}
