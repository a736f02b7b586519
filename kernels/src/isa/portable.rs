//! The portable token: arrays of eight, plain Rust. The compiler vectorises it to whatever the target always has
//! (SSE2 on x86-64, simd128 on wasm32 when switched on).

use super::{Simd, Task};

/// The token of plain Rust; always available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable;

const L: usize = 8;

#[inline(always)]
fn zip<A: Copy, R>(a: [A; L], b: [A; L], f: impl Fn(A, A) -> R) -> [R; L] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = [f32; L];
    type U = [u32; L];
    type M = [bool; L];
    const LANES: usize = L;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; L] {
        [x; L]
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> [f32; L] {
        std::array::from_fn(|i| s[..L][i])
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> [f32; L] {
        let mut v = [0.0; L];
        let n = s.len().min(L);
        v[..n].copy_from_slice(&s[..n]);
        v
    }
    #[inline(always)]
    fn store(self, v: [f32; L], s: &mut [f32]) {
        s[..L].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_partial(self, v: [f32; L], s: &mut [f32]) {
        let n = s.len().min(L);
        s[..n].copy_from_slice(&v[..n]);
    }
    #[inline(always)]
    fn add(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    fn sub(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    fn mul(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    fn div(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    fn fma(self, a: [f32; L], b: [f32; L], c: [f32; L]) -> [f32; L] {
        // Two roundings: f32::mul_add without the FMA feature is a slow library call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn fnma(self, a: [f32; L], b: [f32; L], c: [f32; L]) -> [f32; L] {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }
    #[inline(always)]
    fn max(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn min(self, a: [f32; L], b: [f32; L]) -> [f32; L] {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; L]) -> [f32; L] {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn round(self, a: [f32; L]) -> [f32; L] {
        // Adding and subtracting 1.5 * 2^23 rounds to even without a library call; exact below 2^22 in magnitude,
        // and beyond 2^23 a float is an integer already.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|x| if x.abs() < 4_194_304.0 { (x + MAGIC) - MAGIC } else { x.round_ties_even() })
    }
    #[inline(always)]
    fn gt(self, a: [f32; L], b: [f32; L]) -> [bool; L] {
        zip(a, b, |x, y| x > y)
    }
    #[inline(always)]
    fn select(self, m: [bool; L], a: [f32; L], b: [f32; L]) -> [f32; L] {
        std::array::from_fn(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn zip(self, a: [f32; L], b: [f32; L]) -> ([f32; L], [f32; L]) {
        let half =
            |from: usize| std::array::from_fn(|i| if i % 2 == 0 { a[from + i / 2] } else { b[from + i / 2] });
        (half(0), half(L / 2))
    }
    #[inline(always)]
    fn sum(self, a: [f32; L]) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn hmax(self, a: [f32; L]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    fn splat_u32(self, x: u32) -> [u32; L] {
        [x; L]
    }
    #[inline(always)]
    fn iota_u32(self) -> [u32; L] {
        std::array::from_fn(|i| i as u32)
    }
    #[inline(always)]
    fn add_u32(self, a: [u32; L], b: [u32; L]) -> [u32; L] {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn xor_u32(self, a: [u32; L], b: [u32; L]) -> [u32; L] {
        zip(a, b, |x, y| x ^ y)
    }
    #[inline(always)]
    fn and_u32(self, a: [u32; L], b: [u32; L]) -> [u32; L] {
        zip(a, b, |x, y| x & y)
    }
    #[inline(always)]
    fn or_u32(self, a: [u32; L], b: [u32; L]) -> [u32; L] {
        zip(a, b, |x, y| x | y)
    }
    #[inline(always)]
    fn shl_u32<const N: u32>(self, a: [u32; L]) -> [u32; L] {
        a.map(|x| x << N)
    }
    #[inline(always)]
    fn shr_u32<const N: u32>(self, a: [u32; L]) -> [u32; L] {
        a.map(|x| x >> N)
    }
    #[inline(always)]
    fn mul_even_u32(self, a: [u32; L], b: [u32; L]) -> [u32; L] {
        std::array::from_fn(|i| {
            let p = u64::from(a[i & !1]) * u64::from(b[i & !1]);
            if i % 2 == 0 { p as u32 } else { (p >> 32) as u32 }
        })
    }
    #[inline(always)]
    fn swap_u32(self, a: [u32; L]) -> [u32; L] {
        std::array::from_fn(|i| a[i ^ 1])
    }
    #[inline(always)]
    fn blend_u32(self, even: [u32; L], odd: [u32; L]) -> [u32; L] {
        std::array::from_fn(|i| if i % 2 == 0 { even[i] } else { odd[i] })
    }
    #[inline(always)]
    fn lt_u31(self, a: [u32; L], b: [u32; L]) -> [bool; L] {
        zip(a, b, |x, y| x < y)
    }
    #[inline(always)]
    fn lt_u32(self, a: [u32; L], b: [u32; L]) -> [bool; L] {
        zip(a, b, |x, y| x < y)
    }
    #[inline(always)]
    fn store_u32(self, a: [u32; L], s: &mut [u32]) {
        s[..L].copy_from_slice(&a);
    }
    #[inline(always)]
    fn to_bits(self, a: [f32; L]) -> [u32; L] {
        a.map(f32::to_bits)
    }
    #[inline(always)]
    fn from_bits(self, a: [u32; L]) -> [f32; L] {
        a.map(f32::from_bits)
    }
    #[inline(always)]
    fn vectorize<K: Task>(self, task: K) -> K::Out {
        task.run(self)
    }
}
