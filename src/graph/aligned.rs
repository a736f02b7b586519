//! Memory that begins at a cache line.
//!
//! A large allocation begins 16 bytes after a page: every 64-byte vector would lie across two lines.

use heartlore_kernels::Real;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A buffer whose first element lies at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Real> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let slack = LINE / size_of::<T>();
        let data = vec![T::ZERO; len + slack];
        let start = data.as_ptr().align_offset(LINE).min(slack);
        Self { data, start, len }
    }

    /// Grows to at least `len`, by an eighth at least; what was there stays.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.len {
            let mut grown = Self::zeros(len.max(self.len + self.len / 8));
            grown[..self.len].copy_from_slice(self);
            *self = grown;
        }
    }
}

impl<T: Real> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_begins_at_a_line_and_keeps_its_content() {
        for len in [0, 1, 100, 1 << 20] {
            let mut a = Aligned::<f32>::zeros(len);
            a.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
            let (copy, first) = (a.clone(), a.to_vec());
            a.grow(len + 1000);
            for b in [&a[..], &copy[..]] {
                assert_eq!((b.as_ptr() as usize) % LINE, 0, "{len}");
                assert_eq!(b[..len], first[..]);
            }
            assert!(a[len..].iter().all(|x| *x == 0.0) && a.len() >= len + 1000);
            let grown = a.len();
            a.grow(len);
            assert_eq!(a.len(), grown);
        }
    }
}
