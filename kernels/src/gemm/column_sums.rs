//! Sums down the rows: the gradient of a bias.

use crate::isa::{Simd, Task};
use crate::{Isa, Real};

/// sums\[j\] += sum over i of x\[i, j\], x `[rows, cols]`. The rows are added in order, 16 columns side by side.
pub(crate) fn add_column_sums<T: Real>(isa: Isa, rows: usize, cols: usize, x: &[T], sums: &mut [T]) {
    if rows > 0 && cols > 0 {
        isa.run(ColumnSums { cols, x: &x[..rows * cols], sums });
    }
}

struct ColumnSums<'a, T> {
    cols: usize,
    x: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> Task for ColumnSums<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        // Plain arrays: the compiler vectorises them for the instruction set around.
        const WIDE: usize = 64;
        let mut col = 0;
        let (wide, rest) = self.sums.as_chunks_mut::<WIDE>();
        for sums in wide {
            let mut acc = [T::ZERO; WIDE];
            for row in self.x.chunks_exact(self.cols) {
                for (acc, &x) in acc.iter_mut().zip(&row[col..col + WIDE]) {
                    *acc += x;
                }
            }
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum += acc;
            }
            col += WIDE;
        }
        for (j, sum) in rest.iter_mut().enumerate() {
            let mut acc = T::ZERO;
            for row in self.x.chunks_exact(self.cols) {
                acc += row[col + j];
            }
            *sum += acc;
        }
    }
}
