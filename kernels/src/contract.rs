//! What a caller owes a kernel: sizes that fit. The checks are inlined, the panics are cold and print both sizes.

/// Whether a gradient output is overwritten or added to (the BLAS rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// Overwrite; the previous content is never read and may be NaN.
    Zero,
    /// Add to the previous content.
    One,
}

/// A gradient to write: where, and whether to overwrite or to add.
#[derive(Debug)]
pub struct GradMut<'a, T> {
    /// The gradient's elements, in the layout of the value they belong to.
    pub data: &'a mut [T],
    /// Overwrite or accumulate.
    pub beta: Beta,
}

impl<'a, T: crate::Real> GradMut<'a, T> {
    /// A gradient that is overwritten.
    pub fn overwrite(data: &'a mut [T]) -> Self {
        Self { data, beta: Beta::Zero }
    }
    /// A gradient that is added to.
    pub fn accumulate(data: &'a mut [T]) -> Self {
        Self { data, beta: Beta::One }
    }
    /// Writes or adds one element.
    #[inline(always)]
    pub fn put(&mut self, i: usize, value: T) {
        match self.beta {
            Beta::Zero => self.data[i] = value,
            Beta::One => self.data[i] += value,
        }
    }
    /// Makes the content readable as an accumulator: clears it when it is to be overwritten.
    pub fn zero_unless_accumulating(&mut self) {
        if self.beta == Beta::Zero {
            self.data.fill(T::ZERO);
            self.beta = Beta::One;
        }
    }
}

/// Panics unless `actual == expected`: `op` and `what` name the operation and the argument.
#[inline(always)]
#[track_caller]
pub fn len(op: &str, what: &str, expected: usize, actual: usize) {
    if expected != actual {
        bad_len(op, what, expected, actual);
    }
}

/// Panics unless `actual >= needed` (scratch and saved buffers may be larger).
#[inline(always)]
#[track_caller]
pub fn at_least(op: &str, what: &str, needed: usize, actual: usize) {
    if actual < needed {
        bad_at_least(op, what, needed, actual);
    }
}

/// Panics with `op`, `rule` and `value` unless `holds`.
#[inline(always)]
#[track_caller]
pub fn require(op: &str, rule: &str, value: usize, holds: bool) {
    if !holds {
        bad_rule(op, rule, value);
    }
}

/// Panics with `op` and `rule` unless `holds`.
#[inline(always)]
#[track_caller]
pub fn allow(op: &str, rule: &str, holds: bool) {
    if !holds {
        bad_call(op, rule);
    }
}

/// The product of `sizes`, or a panic that prints them when it overflows.
#[inline]
#[track_caller]
pub fn product(op: &str, sizes: &[usize]) -> usize {
    let mut p = 1usize;
    for &s in sizes {
        match p.checked_mul(s) {
            Some(q) => p = q,
            None => bad_product(op, sizes),
        }
    }
    p
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad_len(op: &str, what: &str, expected: usize, actual: usize) -> ! {
    panic!("{op}: {what} has {actual} elements, expected {expected}")
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad_at_least(op: &str, what: &str, needed: usize, actual: usize) -> ! {
    panic!("{op}: {what} has {actual} elements, needs at least {needed}")
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad_rule(op: &str, rule: &str, value: usize) -> ! {
    panic!("{op}: {rule}, got {value}")
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad_call(op: &str, rule: &str) -> ! {
    panic!("{op}: {rule}")
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad_product(op: &str, sizes: &[usize]) -> ! {
    panic!("{op}: the product of {sizes:?} overflows")
}
