//! The discrete Fourier transform of real sequences, one sequence per lane.
//!
//! **Formula.** X\[f\] = sum over j of x\[j\] w^(f j), w = exp(-2 pi i / n), for a power of two n. Since x is real,
//! X\[n - f\] = conj X\[f\]: the frequencies 0..=n/2 say everything, and they are n real numbers again, because those of
//! 0 and n/2 are real. They are kept in place of x, Re X\[f\] at f and Im X\[f\] at n - f.
//!
//! **Method.** Cooley and Tukey (Math. Comp. 19, 1965): with E and O the transforms of the even and the odd elements,
//! X\[f\] = E\[f\] + w^f O\[f\] and X\[n/2 - f\] = conj(E\[f\] - w^f O\[f\]), f = 0..=n/4. Applied from the shortest
//! transforms up, each level rewrites its own memory if the input stands in bit-reversed order, which costs nothing here:
//! the caller puts its rows in that order.
//!
//! **Inverse.** Every level solved for E and O and doubled, in reverse order: it yields n x. Up to the weights of the
//! real frequencies this is also the adjoint.
//!
//! **What the deviations buy.** An element is a vector of channels (x is channels last), so no butterfly shuffles lanes.
//! Two levels at a time ([`up4`]) halve the loads and stores, which bound a transform that fits the first-level cache.
//! Their length is a constant for the compiler, so no index is checked.
//!
//! **Cost.** About n log2 n multiply-adds. **Numerics.** The error grows as log n: about 1e-7 of the rms of X for n = 128.

use crate::isa::Simd;

/// The longest transform.
pub(super) const MAX: usize = 256;

/// Twiddle factors and the bit-reversed order of one length.
pub(super) struct Tables {
    n: usize,
    /// cos and sin of 2 pi f / n.
    cos: [f32; MAX / 4],
    sin: [f32; MAX / 4],
    order: [u8; MAX],
}

impl Tables {
    /// Tables for a power of two 8 <= `n` <= [`MAX`].
    pub(super) fn new(n: usize) -> Self {
        debug_assert!(n.is_power_of_two() && (8..=MAX).contains(&n));
        let mut t = Self { n, cos: [0.0; MAX / 4], sin: [0.0; MAX / 4], order: [0; MAX] };
        for f in 0..n / 4 {
            let (sin, cos) = (std::f64::consts::TAU * f as f64 / n as f64).sin_cos();
            (t.cos[f], t.sin[f]) = (cos as f32, sin as f32);
        }
        for (j, order) in t.order[..n].iter_mut().enumerate() {
            // n <= 256, so an index fits a byte.
            *order = (j as u8).reverse_bits() >> (8 - n.trailing_zeros());
        }
        t
    }

    /// For each place of the transform's input the element that belongs there; an inverse leaves them in this order.
    #[inline(always)]
    pub(super) fn order(&self) -> &[u8] {
        &self.order[..self.n]
    }
}

/// x in bit-reversed order to X, in place.
#[inline(always)]
pub(super) fn forward<S: Simd>(s: S, t: &Tables, x: &mut [S::V]) {
    let n = t.n;
    let x = &mut x[..n];
    // An odd number of levels begins with a single one.
    if n.trailing_zeros() % 2 == 1 {
        singles(s, x);
        up::<S, 2>(s, t, x);
        up::<S, 8>(s, t, x);
        up::<S, 32>(s, t, x);
    } else {
        up::<S, 1>(s, t, x);
        up::<S, 4>(s, t, x);
        up::<S, 16>(s, t, x);
        up::<S, 64>(s, t, x);
    }
}

/// X to n x in bit-reversed order, in place.
#[inline(always)]
pub(super) fn inverse<S: Simd>(s: S, t: &Tables, x: &mut [S::V]) {
    let n = t.n;
    let x = &mut x[..n];
    if n.trailing_zeros() % 2 == 1 {
        down::<S, 32>(s, t, x);
        down::<S, 8>(s, t, x);
        down::<S, 2>(s, t, x);
        singles(s, x);
    } else {
        down::<S, 64>(s, t, x);
        down::<S, 16>(s, t, x);
        down::<S, 4>(s, t, x);
        down::<S, 1>(s, t, x);
    }
}

/// Transforms of length 2.
#[inline(always)]
fn singles<S: Simd>(s: S, x: &mut [S::V]) {
    for pair in x.as_chunks_mut::<2>().0 {
        *pair = [s.add(pair[0], pair[1]), s.sub(pair[0], pair[1])];
    }
}

/// All of a level's [`up4`]; none if the sequence is shorter.
#[inline(always)]
fn up<S: Simd, const Q: usize>(s: S, t: &Tables, x: &mut [S::V]) {
    for x in x.as_chunks_mut::<Q>().0.as_chunks_mut::<4>().0 {
        up4(s, t, x);
    }
}

/// All of a level's [`down4`].
#[inline(always)]
fn down<S: Simd, const Q: usize>(s: S, t: &Tables, x: &mut [S::V]) {
    for x in x.as_chunks_mut::<Q>().0.as_chunks_mut::<4>().0 {
        down4(s, t, x);
    }
}

/// A vector of complex numbers.
type Complex<V> = (V, V);

/// w z for w = cos - i sin.
#[inline(always)]
fn turn<S: Simd>(s: S, (cos, sin): (S::V, S::V), z: Complex<S::V>) -> Complex<S::V> {
    (s.fma(cos, z.0, s.mul(sin, z.1)), s.fnma(sin, z.0, s.mul(cos, z.1)))
}

/// conj(w) z.
#[inline(always)]
fn turn_back<S: Simd>(s: S, (cos, sin): (S::V, S::V), z: Complex<S::V>) -> Complex<S::V> {
    (s.fnma(sin, z.1, s.mul(cos, z.0)), s.fma(sin, z.0, s.mul(cos, z.1)))
}

/// E + t and conj(E - t).
#[inline(always)]
fn butterfly<S: Simd>(s: S, e: Complex<S::V>, t: Complex<S::V>) -> (Complex<S::V>, Complex<S::V>) {
    ((s.add(e.0, t.0), s.add(e.1, t.1)), (s.sub(e.0, t.0), s.sub(t.1, e.1)))
}

/// Undoes and doubles [`butterfly`]: E and t.
#[inline(always)]
fn undo<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> (Complex<S::V>, Complex<S::V>) {
    ((s.add(a.0, b.0), s.sub(a.1, b.1)), (s.sub(a.0, b.0), s.add(a.1, b.1)))
}

/// cos and sin of 2 pi f / n.
#[inline(always)]
fn twiddle<S: Simd>(s: S, t: &Tables, f: usize) -> (S::V, S::V) {
    let f = f % (MAX / 4);
    (s.splat(t.cos[f]), s.splat(t.sin[f]))
}

/// Two levels: transforms A0, A2, A1, A3 of length q to one of length 4 q. The first level joins (A0, A2) to E and
/// (A1, A3) to O, the second E and O to X. Frequencies f and q - f of all four meet in the same eight numbers.
#[inline(always)]
fn up4<S: Simd, const Q: usize>(s: S, t: &Tables, [a0, a2, a1, a3]: &mut [[S::V; Q]; 4]) {
    let q = Q;
    // f = 0: all real; w^q = -i.
    let (e0, eq) = (s.add(a0[0], a2[0]), s.sub(a0[0], a2[0]));
    let (o0, oq) = (s.add(a1[0], a3[0]), s.sub(a1[0], a3[0]));
    (a0[0], a1[0], a2[0], a3[0]) = (s.add(e0, o0), s.sub(e0, o0), eq, s.neg(oq));
    if q == 1 {
        return;
    }
    // f = q/2: the four are real, E and O are not.
    let h = q / 2;
    let (e, o) = ((a0[h], s.neg(a2[h])), (a1[h], s.neg(a3[h])));
    let eighth = s.splat(std::f32::consts::FRAC_1_SQRT_2);
    let (low, high) = butterfly(s, e, turn(s, (eighth, eighth), o));
    (a0[h], a3[h], a2[h], a1[h]) = (low.0, low.1, high.0, high.1);
    // Powers of two, so a shift: the twiddle of length 4 q is every n/(4 q)-th.
    let every = t.n >> (4 * q).trailing_zeros();
    for f in 1..h {
        let g = q - f;
        let (w, w2) = (twiddle(s, t, f * every), twiddle(s, t, 2 * f * every));
        let (ef, eg) = butterfly(s, (a0[f], a0[g]), turn(s, w2, (a2[f], a2[g])));
        let (of, og) = butterfly(s, (a1[f], a1[g]), turn(s, w2, (a3[f], a3[g])));
        // w^(q - f) = -i conj(w^f): cosine and sine change places.
        let (xf, x2qf) = butterfly(s, ef, turn(s, w, of));
        let (xg, xqf) = butterfly(s, eg, turn(s, (w.1, w.0), og));
        (a0[f], a3[g]) = xf;
        (a0[g], a3[f]) = xg;
        (a2[f], a1[g]) = xqf;
        (a2[g], a1[f]) = x2qf;
    }
}

/// Undoes [`up4`], times 4.
#[inline(always)]
fn down4<S: Simd, const Q: usize>(s: S, t: &Tables, [a0, a2, a1, a3]: &mut [[S::V; Q]; 4]) {
    let q = Q;
    let twice = |v: S::V| s.add(v, v);
    let (e0, o0) = (s.add(a0[0], a1[0]), s.sub(a0[0], a1[0]));
    let (eq, oq) = (twice(a2[0]), s.neg(twice(a3[0])));
    (a0[0], a2[0], a1[0], a3[0]) = (s.add(e0, eq), s.sub(e0, eq), s.add(o0, oq), s.sub(o0, oq));
    if q == 1 {
        return;
    }
    let h = q / 2;
    let eighth = s.splat(std::f32::consts::FRAC_1_SQRT_2);
    let (e, o) = undo(s, (a0[h], a3[h]), (a2[h], a1[h]));
    let o = turn_back(s, (eighth, eighth), o);
    (a0[h], a2[h]) = (twice(e.0), s.neg(twice(e.1)));
    (a1[h], a3[h]) = (twice(o.0), s.neg(twice(o.1)));
    // Powers of two, so a shift: the twiddle of length 4 q is every n/(4 q)-th.
    let every = t.n >> (4 * q).trailing_zeros();
    for f in 1..h {
        let g = q - f;
        let (w, w2) = (twiddle(s, t, f * every), twiddle(s, t, 2 * f * every));
        let (ef, of) = undo(s, (a0[f], a3[g]), (a2[g], a1[f]));
        let (eg, og) = undo(s, (a0[g], a3[f]), (a2[f], a1[g]));
        let (of, og) = (turn_back(s, w, of), turn_back(s, (w.1, w.0), og));
        let (b0, b2) = undo(s, ef, eg);
        let (b1, b3) = undo(s, of, og);
        (a0[f], a0[g]) = b0;
        (a2[f], a2[g]) = turn_back(s, w2, b2);
        (a1[f], a1[g]) = b1;
        (a3[f], a3[g]) = turn_back(s, w2, b3);
    }
}
