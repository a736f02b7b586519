//! The NEON token (AArch64). Same soundness argument as for x86: private field, detection, checked slices.
#![allow(unsafe_code)]

use super::{Simd, Task};
use core::arch::aarch64::*;

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The token, if this CPU has NEON (every AArch64 application CPU does).
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Methods whose body is one expression of intrinsics on registers.
macro_rules! register_ops {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $ty),*) -> $ret {
                // SAFETY: `self` proves NEON; the intrinsics touch registers only.
                unsafe { $body }
            }
        )*
    };
}

#[target_feature(enable = "neon")]
fn enter_neon<K: Task>(token: Neon, task: K) -> K::Out {
    task.run(token)
}

impl Simd for Neon {
    type V = float32x4_t;
    type U = uint32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    register_ops! {
        fn splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        fn fnma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmsq_f32(c, a, b);
        fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmaxq_f32(a, b);
        fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vminq_f32(a, b);
        fn sqrt(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        fn round(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
        fn gt(a: float32x4_t, b: float32x4_t) -> uint32x4_t = vcgtq_f32(a, b);
        fn select(m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(m, a, b);
        fn zip(a: float32x4_t, b: float32x4_t) -> (float32x4_t, float32x4_t) = (vzip1q_f32(a, b), vzip2q_f32(a, b));
        fn sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
        fn hmax(a: float32x4_t) -> f32 = vmaxvq_f32(a);
        fn splat_u32(x: u32) -> uint32x4_t = vdupq_n_u32(x);
        fn add_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vaddq_u32(a, b);
        fn xor_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = veorq_u32(a, b);
        fn and_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vandq_u32(a, b);
        fn or_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vorrq_u32(a, b);
        fn mul_even_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t =
            vreinterpretq_u32_u64(vmull_u32(
                vmovn_u64(vreinterpretq_u64_u32(a)),
                vmovn_u64(vreinterpretq_u64_u32(b)),
            ));
        fn swap_u32(a: uint32x4_t) -> uint32x4_t = vrev64q_u32(a);
        fn blend_u32(even: uint32x4_t, odd: uint32x4_t) -> uint32x4_t =
            vbslq_u32(vreinterpretq_u32_u64(vdupq_n_u64(0xffff_ffff)), even, odd);
        fn lt_u31(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vcltq_u32(a, b);
        fn lt_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vcltq_u32(a, b);
        fn to_bits(a: float32x4_t) -> uint32x4_t = vreinterpretq_u32_f32(a);
        fn from_bits(a: uint32x4_t) -> float32x4_t = vreinterpretq_f32_u32(a);
    }
    #[inline(always)]
    fn iota_u32(self) -> uint32x4_t {
        const I: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: `I` has four u32; `self` proves NEON.
        unsafe { vld1q_u32(I.as_ptr()) }
    }
    #[inline(always)]
    fn shl_u32<const N: u32>(self, a: uint32x4_t) -> uint32x4_t {
        // SAFETY: `self` proves NEON; registers only.
        unsafe { vshlq_u32(a, vdupq_n_s32(N as i32)) }
    }
    #[inline(always)]
    fn shr_u32<const N: u32>(self, a: uint32x4_t) -> uint32x4_t {
        // SAFETY: `self` proves NEON; registers only. A negative count shifts right.
        unsafe { vshlq_u32(a, vdupq_n_s32(-(N as i32))) }
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> float32x4_t {
        let s = &s[..4];
        // SAFETY: `s` has four f32, checked above; `self` proves NEON.
        unsafe { vld1q_f32(s.as_ptr()) }
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> float32x4_t {
        let mut lanes = [0.0f32; 4];
        let n = s.len().min(4);
        lanes[..n].copy_from_slice(&s[..n]);
        self.load(&lanes)
    }
    #[inline(always)]
    fn store(self, v: float32x4_t, s: &mut [f32]) {
        let s = &mut s[..4];
        // SAFETY: `s` has four f32, checked above; `self` proves NEON.
        unsafe { vst1q_f32(s.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_partial(self, v: float32x4_t, s: &mut [f32]) {
        let mut lanes = [0.0f32; 4];
        self.store(v, &mut lanes);
        let n = s.len().min(4);
        s[..n].copy_from_slice(&lanes[..n]);
    }
    #[inline(always)]
    fn store_u32(self, a: uint32x4_t, s: &mut [u32]) {
        let s = &mut s[..4];
        // SAFETY: `s` has four u32, checked above; `self` proves NEON.
        unsafe { vst1q_u32(s.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn vectorize<K: Task>(self, task: K) -> K::Out {
        // SAFETY: `self` proves NEON.
        unsafe { enter_neon(self, task) }
    }
}
