//! Vector tokens: a value of a token type is the proof that the CPU has the feature, so code above it needs no `unsafe`.
//!
//! A kernel is written once over [`Simd`], wrapped in a [`Task`], and run by [`Isa::run`], which enters a function
//! compiled for the chosen instruction set; everything the task calls must be `#[inline(always)]` to be compiled with it.
//!
//! Why a task type and not a closure: a closure cannot be generic over the token.
//!
//! What checks the `unsafe` below: the tests of this module on every set (`.ci/asan` runs them under AddressSanitizer,
//! `.ci/neon` under qemu). Miri knows some vector intrinsics only; where the toolchain has it, it can check the portable
//! token and all code above the tokens:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p heartlore-kernels --lib isa::
//! ```
//!
//! No result of Miri is claimed here.

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni};

/// A vector of f32 lanes and the operations on it. Loads and stores are checked against the slice.
///
/// Every operation acts lane by lane unless it says otherwise and follows IEEE 754; `fma` may round once (hardware) or
/// twice (portable), so results differ between instruction sets in the last bits, never between runs on one.
#[allow(clippy::wrong_self_convention, reason = "the receiver is the token, the names are those of f32")]
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type V: Copy;
    /// A vector of [`Simd::LANES`] u32.
    type U: Copy;
    /// A vector of [`Simd::LANES`] truth values.
    type M: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Vector registers the GEMM may count on.
    const REGISTERS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` elements of `s`; panics if there are fewer.
    fn load(self, s: &[f32]) -> Self::V;
    /// The first `min(LANES, s.len())` elements of `s`, zero in the other lanes.
    fn load_partial(self, s: &[f32]) -> Self::V;
    /// Stores all lanes to the first `LANES` elements of `s`; panics if there are fewer.
    fn store(self, v: Self::V, s: &mut [f32]);
    /// Stores the first `min(LANES, s.len())` lanes.
    fn store_partial(self, v: Self::V, s: &mut [f32]);
    /// Stores the lanes where `m`; the others keep what was there.
    fn store_where(self, m: Self::M, v: Self::V, s: &mut [f32]) {
        let old = self.load(s);
        self.store(self.select(m, v, old), s);
    }
    /// A hint that the cache line of the first element will be read soon; nothing where there is no such instruction.
    fn prefetch(self, s: &[f32]) {
        let _ = s;
    }
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a * b, rounded as [`Simd::fma`].
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger. A NaN in `b` is returned; what a NaN in `a` alone yields is unspecified.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; NaN as in [`Simd::max`].
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V {
        self.from_bits(self.and_u32(self.to_bits(a), self.splat_u32(0x7fff_ffff)))
    }
    /// -a.
    fn neg(self, a: Self::V) -> Self::V {
        self.from_bits(self.xor_u32(self.to_bits(a), self.splat_u32(0x8000_0000)))
    }
    /// |a| with the sign of b.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        let sign = self.splat_u32(0x8000_0000);
        let mag = self.and_u32(self.to_bits(a), self.splat_u32(0x7fff_ffff));
        self.from_bits(self.or_u32(mag, self.and_u32(self.to_bits(b), sign)))
    }
    /// 2^n for an integral float n in -126..=127, exact; other n give an unspecified value.
    fn pow2i(self, n: Self::V) -> Self::V {
        // n + 127 + 2^23 has its integer part in the low mantissa bits; shifted into the exponent field it is 2^n.
        let biased = self.add(n, self.splat(127.0 + 8_388_608.0));
        self.from_bits(self.shl_u32::<23>(self.to_bits(biased)))
    }
    /// a > b; false if either is NaN.
    fn gt(self, a: Self::V, b: Self::V) -> Self::M;
    /// Where `m`, `a`, else `b`.
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// The lanes of a and b in turn: a0 b0 a1 b1 ..., first the vector of the lower halves, then of the upper ones.
    fn zip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Lane r of the result: the lanes of `rows[r]`, combined by halves; `rows` are [`Simd::LANES`] vectors, at most 16.
    ///
    /// Two vectors are interleaved and folded into one, so that every step halves the lanes of all rows at once: the
    /// result of a row is the same wherever it stands, and LANES rows take a fifth of the instructions of as many
    /// [`Simd::sum`] and no waiting for each.
    #[inline(always)]
    fn fold_lanes(self, rows: &[Self::V], op: impl Fn(Self::V, Self::V) -> Self::V) -> Self::V {
        let mut t = [self.splat(0.0); 16];
        t[..Self::LANES].copy_from_slice(&rows[..Self::LANES]);
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                let (low, high) = self.zip(t[i], t[i + half]);
                t[i] = op(low, high);
            }
            half /= 2;
        }
        t[0]
    }
    /// Lanes of vectors to vectors of lanes, of the first [`Simd::LANES`] vectors, by log2(LANES) perfect shuffles: each
    /// interleaves vector i with vector i + LANES / 2.
    #[inline(always)]
    fn transpose(self, v: &mut [Self::V; 16]) {
        let mut step = 1;
        while step < Self::LANES {
            let old = *v;
            for i in 0..Self::LANES / 2 {
                (v[2 * i], v[2 * i + 1]) = self.zip(old[i], old[i + Self::LANES / 2]);
            }
            step *= 2;
        }
    }
    /// Sum of the lanes, by halves (the order is fixed for an instruction set).
    fn sum(self, a: Self::V) -> f32;
    /// Largest lane; NaN as in [`Simd::max`].
    fn hmax(self, a: Self::V) -> f32;

    /// All lanes `x`.
    fn splat_u32(self, x: u32) -> Self::U;
    /// 0, 1, 2, ...
    fn iota_u32(self) -> Self::U;
    /// a + b modulo 2^32.
    fn add_u32(self, a: Self::U, b: Self::U) -> Self::U;
    /// Exclusive or.
    fn xor_u32(self, a: Self::U, b: Self::U) -> Self::U;
    /// And.
    fn and_u32(self, a: Self::U, b: Self::U) -> Self::U;
    /// Or.
    fn or_u32(self, a: Self::U, b: Self::U) -> Self::U;
    /// a << N.
    fn shl_u32<const N: u32>(self, a: Self::U) -> Self::U;
    /// a >> N, zeros shifted in.
    fn shr_u32<const N: u32>(self, a: Self::U) -> Self::U;
    /// The 64-bit products of the even lanes, low half in the even lane and high half in the odd one after it. The odd
    /// lanes of the operands do not matter.
    fn mul_even_u32(self, a: Self::U, b: Self::U) -> Self::U;
    /// The lanes of each pair exchanged: 1 0 3 2 ...
    fn swap_u32(self, a: Self::U) -> Self::U;
    /// The even lanes of `even` and the odd lanes of `odd`.
    fn blend_u32(self, even: Self::U, odd: Self::U) -> Self::U;
    /// a < b for values below 2^31.
    fn lt_u31(self, a: Self::U, b: Self::U) -> Self::M;
    /// a < b.
    fn lt_u32(self, a: Self::U, b: Self::U) -> Self::M;
    /// Stores all lanes; panics if `s` is shorter.
    fn store_u32(self, a: Self::U, s: &mut [u32]);
    /// The lanes' bits.
    fn to_bits(self, a: Self::V) -> Self::U;
    /// The floats with these bits.
    fn from_bits(self, a: Self::U) -> Self::V;

    /// Runs `task` inside a function compiled for this instruction set.
    fn vectorize<K: Task>(self, task: K) -> K::Out;
}

/// Work that is generic over the vector token: a closure with a generic argument.
pub trait Task {
    /// What it returns.
    type Out;
    /// Does the work. Implementations are `#[inline(always)]`, and so is all they call.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// Dot products of bf16 pairs: a token as [`Simd`]'s, beside the vectors it works on.
pub trait Bf16: Copy + Send + Sync + 'static {
    /// The vectors.
    type S: Simd;
    /// Their token.
    fn simd(self) -> Self::S;
    /// c + a0 b0 + a1 b1, lane by lane, a and b two bf16 each (0 in the lower half of the lane). Subnormal numbers count as
    /// 0; how often and in which order the sum is rounded is the CPU's.
    fn dot(
        self,
        a: <Self::S as Simd>::V,
        b: <Self::S as Simd>::V,
        c: <Self::S as Simd>::V,
    ) -> <Self::S as Simd>::V;
    /// Words of neighbours: `low` and `high` are consecutive elements; lane i holds elements 2 i (lower half) and 2 i + 1,
    /// rounded to bf16, ties to even. A NaN becomes a quiet NaN, a subnormal number 0.
    fn pairs_along(self, low: <Self::S as Simd>::V, high: <Self::S as Simd>::V) -> <Self::S as Simd>::V;
    /// Words of two vectors: lane i holds lane i of `first` (lower half) and of `second`, rounded as in
    /// [`Bf16::pairs_along`].
    fn pairs_across(self, first: <Self::S as Simd>::V, second: <Self::S as Simd>::V) -> <Self::S as Simd>::V;
}

/// As [`Task`], for work that needs dot products.
pub trait DotTask {
    /// What it returns.
    type Out;
    /// Does the work; inlining as for [`Task::run`].
    fn run<D: Bf16>(self, d: D) -> Self::Out;
}

/// Dot products of bf16 pairs that this CPU has; like [`Isa`] only obtained by detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16Dot(DotSet);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DotSet {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512Bf16),
}

impl Bf16Dot {
    /// Runs `task` with the token.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no such token there"))]
    pub fn run<K: DotTask>(self, task: K) -> K::Out {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            DotSet::Avx512(t) => t.vectorize(task),
        }
    }
}

/// Dot products of 8-bit integers: a token as [`Simd`]'s, beside the vectors it works on.
#[allow(clippy::wrong_self_convention, reason = "the receiver is the token")]
pub trait Int8: Copy + Send + Sync + 'static {
    /// The vectors.
    type S: Simd;
    /// Their token.
    fn simd(self) -> Self::S;
    /// acc + a0 b0 + a1 b1 + a2 b2 + a3 b3, lane by lane, modulo 2^32: a holds four unsigned bytes in each lane, b four
    /// signed ones, the first in the lowest bits.
    fn dot(
        self,
        acc: <Self::S as Simd>::U,
        a: <Self::S as Simd>::U,
        b: <Self::S as Simd>::U,
    ) -> <Self::S as Simd>::U;
    /// The lanes as signed integers, rounded to f32.
    fn to_f32(self, a: <Self::S as Simd>::U) -> <Self::S as Simd>::V;
    /// The integer nearest to each lane (ties to even) plus `offset`, modulo 256, one byte each in the lanes' order: a
    /// quarter as many words as there are lanes. What a lane beyond +-2^31 or a NaN becomes is unspecified. Panics if `s`
    /// is shorter.
    fn store_bytes(self, v: <Self::S as Simd>::V, offset: <Self::S as Simd>::U, s: &mut [f32]);
}

/// As [`Task`], for work that needs dot products of 8-bit integers.
pub trait Int8Task {
    /// What it returns.
    type Out;
    /// Does the work; inlining as for [`Task::run`].
    fn run<D: Int8>(self, d: D) -> Self::Out;
}

/// Dot products of 8-bit integers that this CPU has; like [`Isa`] only obtained by detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Dot(Int8Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Int8Set {
    #[cfg(target_arch = "x86_64")]
    Avx2(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512Vnni),
}

impl Int8Dot {
    /// Runs `task` with the token.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no such token there"))]
    pub fn run<K: Int8Task>(self, task: K) -> K::Out {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Int8Set::Avx2(t) => t.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Int8Set::Avx512(t) => t.vectorize(task),
        }
    }
}

/// An instruction set that this CPU has. Values can only be obtained by detection, so holding one is the proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    /// With the 8-bit dot products that are in use.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2, Option<AvxVnni>),
    /// With the bf16 and the 8-bit dot products that are in use.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, Option<Avx512Bf16>, Option<Avx512Vnni>),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Isa {
    /// Plain Rust over arrays of eight; runs everywhere, auto-vectorised to the target's baseline.
    pub const PORTABLE: Isa = Isa(Set::Portable);

    /// The widest set this CPU has.
    pub fn best() -> Isa {
        *Self::available().last().unwrap_or(&Self::PORTABLE)
    }

    /// Every set this CPU has, narrowest first; [`Isa::PORTABLE`] is always the first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut sets = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::detect().map(|t| Isa(Set::Avx2(t, AvxVnni::detect()))));
            let with_dots = |t| Isa(Set::Avx512(t, Avx512Bf16::detect_fast(), Avx512Vnni::detect()));
            sets.extend(Avx512::detect().map(with_dots));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(Neon::detect().map(|t| Isa(Set::Neon(t))));
        sets
    }

    /// The set of this name (`portable`, `avx2`, `avx512`, `neon`) if this CPU has it.
    pub fn by_name(name: &str) -> Option<Isa> {
        Self::available().into_iter().find(|i| i.name() == name)
    }

    /// Its name, as [`Isa::by_name`] takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(..) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(..) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => "neon",
        }
    }

    /// The dot products that products in bf16 use: those of AVX512-BF16 on a CPU of AMD's, where they are twice as fast as
    /// f32 (see `gemm/bf16.rs` for rates); None elsewhere, or as [`Isa::with_bf16_dot`] chose.
    pub fn bf16_dot(self) -> Option<Bf16Dot> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_, dot, _) => dot.map(|t| Bf16Dot(DotSet::Avx512(t))),
            _ => None,
        }
    }

    /// The same set with the CPU's bf16 dot products, fast or not, or without; None if it has none. For tests and
    /// measurements: the results differ in the last bits.
    pub fn with_bf16_dot(self, on: bool) -> Option<Isa> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(t, _, int8) if on => {
                Avx512Bf16::detect().map(|dot| Isa(Set::Avx512(t, Some(dot), int8)))
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(t, _, int8) => Some(Isa(Set::Avx512(t, None, int8))),
            _ if on => None,
            _ => Some(self),
        }
    }

    /// The dot products that products in int8 use: those of AVX512-VNNI or AVX-VNNI; None elsewhere, or as
    /// [`Isa::with_int8_dot`] chose.
    pub fn int8_dot(self) -> Option<Int8Dot> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_, dot) => dot.map(|t| Int8Dot(Int8Set::Avx2(t))),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_, _, dot) => dot.map(|t| Int8Dot(Int8Set::Avx512(t))),
            _ => None,
        }
    }

    /// The same set with the CPU's 8-bit dot products or without; None if it has none. For tests and measurements.
    pub fn with_int8_dot(self, on: bool) -> Option<Isa> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(t, _) if on => AvxVnni::detect().map(|dot| Isa(Set::Avx2(t, Some(dot)))),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(t, _) => Some(Isa(Set::Avx2(t, None))),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(t, bf16, _) if on => {
                Avx512Vnni::detect().map(|dot| Isa(Set::Avx512(t, bf16, Some(dot))))
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(t, bf16, _) => Some(Isa(Set::Avx512(t, bf16, None))),
            _ if on => None,
            _ => Some(self),
        }
    }

    /// f32 lanes of one vector.
    pub fn lanes(self) -> usize {
        struct Lanes;
        impl Task for Lanes {
            type Out = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }

    /// Runs `task` with this set's token.
    #[inline]
    pub fn run<K: Task>(self, task: K) -> K::Out {
        match self.0 {
            Set::Portable => Portable.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(t, _) => t.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(t, ..) => t.vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(t) => t.vectorize(task),
        }
    }
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
