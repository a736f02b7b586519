//! The definition: three loops.

use super::{Epilogue, Strides};
use crate::{Beta, Real};

/// C = act(A B + bias + beta C), the loop to study; arguments as [`super::gemm_with`], without scratch.
pub fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: &[T],
    (rsa, csa): Strides,
    b: &[T],
    (rsb, csb): Strides,
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = T::ZERO;
            for p in 0..k {
                sum += a[i * rsa + p * csa] * b[p * rsb + j * csb];
            }
            if beta == Beta::One {
                sum += c[i * rsc + j];
            }
            if let Some(bias) = epilogue.bias {
                sum += bias[j];
            }
            if epilogue.relu && sum < T::ZERO {
                sum = T::ZERO;
            }
            c[i * rsc + j] = sum;
        }
    }
}
