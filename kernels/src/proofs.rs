//! Two proofs that many kernels' tests share: a gradient against central differences, and what a gradient output owes.

use crate::testing::{Guarded, assert_close};
use crate::{Beta, GradMut, Real};

/// Central differences of `f` at `x` against `gradient`, every element: step 1e-5, tolerance 1e-6 (1 + |g|).
#[track_caller]
pub(crate) fn assert_gradient(what: &str, x: &[f64], gradient: &[f64], mut f: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{what}: lengths differ");
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let (at, h) = (x[i], 1e-5);
        x[i] = at + h;
        let above = f(&x);
        x[i] = at - h;
        let below = f(&x);
        x[i] = at;
        let want = (above - below) / (2.0 * h);
        let error = (gradient[i] - want).abs();
        assert!(
            error <= 1e-6 * (1.0 + want.abs()),
            "{what}: d[{i}] is {}, differences give {want}",
            gradient[i]
        );
    }
}

/// Sum of a b: the loss whose gradient in `a` is the cotangent `b`.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Runs `kernel` into NaN-filled and into filled buffers at four alignments: overwriting gives `want`, accumulating gives
/// `want` on top of what was there, nothing outside is touched, and a second run gives the same bits.
#[track_caller]
pub(crate) fn assert_output<T: Real>(
    what: &str,
    want: &[f64],
    atol: f64,
    rtol: f64,
    mut kernel: impl FnMut(GradMut<'_, T>),
) {
    for shift in 0..4 {
        let mut out = Guarded::<T>::new(want.len(), shift);
        kernel(GradMut { data: out.get_mut(), beta: Beta::Zero });
        let first = out.check(what).to_vec();
        assert_close(what, &first, want, atol, rtol);
        kernel(GradMut { data: out.get_mut(), beta: Beta::Zero });
        assert!(
            out.check(what).iter().zip(&first).all(|(a, b)| a.f64().to_bits() == b.f64().to_bits()),
            "{what}: a second run differs"
        );
        let before: Vec<T> = (0..want.len()).map(|i| T::of(0.5 + (i % 7) as f64)).collect();
        let mut out = Guarded::of(&before, shift);
        kernel(GradMut { data: out.get_mut(), beta: Beta::One });
        let sum: Vec<f64> = want.iter().zip(&before).map(|(w, b)| w + b.f64()).collect();
        assert_close(
            &format!("{what}, accumulated"),
            out.check(what),
            &sum,
            atol + 8.0 * T::EPSILON.f64(),
            rtol,
        );
    }
}

/// Lengths around every vector tail: none, one, and one to either side of the widths in use and their multiples.
pub(crate) const LENGTHS: [usize; 14] = [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 131];

/// The bits of f64 or widened f32 numbers.
pub(crate) fn bits<T: Real>(x: &[T]) -> Vec<u64> {
    x.iter().map(|x| x.f64().to_bits()).collect()
}

#[test]
fn a_wrong_gradient_is_rejected() {
    let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
    assert_gradient("square", &[1.0, -2.0], &[2.0, -4.0], square);
    for wrong in [[2.0, 4.0], [1.0, -4.0], [2.0, -4.0001]] {
        assert!(
            std::panic::catch_unwind(|| assert_gradient("square", &[1.0, -2.0], &wrong, square)).is_err()
        );
    }
}

#[test]
fn an_output_that_reads_overwrites_or_strays_is_rejected() {
    let fails = |kernel: fn(GradMut<'_, f32>)| {
        std::panic::catch_unwind(|| assert_output("x", &[1.0, 2.0], 1e-6, 0.0, kernel)).is_err()
    };
    assert!(!fails(|mut g| (0..2).for_each(|i| g.put(i, 1.0 + i as f32))));
    assert!(fails(|g| g.data.copy_from_slice(&[1.0, 2.0])), "overwrites where it should add");
    assert!(
        fails(|g| g.data.iter_mut().zip([1.0, 2.0]).for_each(|(g, v)| *g += v)),
        "reads what it should overwrite"
    );
    assert!(fails(|mut g| g.put(0, 1.0)), "leaves an element out");
}
