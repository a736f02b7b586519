//! AVX2 + FMA and AVX-512 tokens.
//!
//! Soundness: a token's field is private, so outside this file a token comes only from `detect`, which asks the CPU.
//! Every intrinsic below needs just the feature the token proves; loads and stores check the slice first.
#![allow(unsafe_code)]

use super::{Bf16, DotTask, Int8, Int8Task, Simd, Task};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that the CPU has AVX-512 F, BW, DQ and VL (and AVX2, FMA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx2 {
    /// The token, if this CPU has AVX2 and FMA.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Avx512 {
    /// The token, if this CPU has AVX-512 F, BW, DQ and VL.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && Avx2::detect().is_some())
        .then_some(Self(()))
    }
}

/// Proof that the CPU has AVX512-BF16 beside what [`Avx512`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    /// The token, if this CPU has AVX512-BF16.
    pub fn detect() -> Option<Self> {
        Avx512::detect().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
    }

    /// The token, if this CPU also is of a maker whose dot products are faster than f32.
    pub fn detect_fast() -> Option<Self> {
        Self::detect().filter(|_| {
            let id = __cpuid(0);
            [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
        })
    }

    /// Runs `task` inside a function compiled for this instruction set.
    #[inline(always)]
    pub fn vectorize<K: DotTask>(self, task: K) -> K::Out {
        // SAFETY: `self` proves every feature that the function enables.
        unsafe { enter_avx512_bf16(self, task) }
    }
}

impl Bf16 for Avx512Bf16 {
    type S = Avx512;
    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn dot(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX512-BF16; registers only. The two vector types are 64 bytes of any bits.
        unsafe {
            _mm512_dpbf16_ps(
                c,
                core::mem::transmute::<__m512, __m512bh>(a),
                core::mem::transmute::<__m512, __m512bh>(b),
            )
        }
    }
    #[inline(always)]
    fn pairs_along(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: `self` proves AVX512-BF16; registers only. The two vector types are 64 bytes of any bits.
        unsafe { core::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)) }
    }
    #[inline(always)]
    fn pairs_across(self, first: __m512, second: __m512) -> __m512 {
        #[rustfmt::skip]
        const ALTERNATE: [i16; 32] = [
            0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31,
        ];
        // SAFETY: `self` proves AVX512-BF16 and AVX-512 BW; `ALTERNATE` has the 64 bytes that are loaded.
        unsafe {
            let halves = core::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            let alternate = _mm512_loadu_si512(ALTERNATE.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(alternate, halves))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn enter_avx512_bf16<K: DotTask>(token: Avx512Bf16, task: K) -> K::Out {
    task.run(token)
}

/// Proof that the CPU has AVX512-VNNI beside what [`Avx512`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Vnni(Avx512);

impl Avx512Vnni {
    /// The token, if this CPU has AVX512-VNNI.
    pub fn detect() -> Option<Self> {
        Avx512::detect().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }

    /// Runs `task` inside a function compiled for this instruction set.
    #[inline(always)]
    pub fn vectorize<K: Int8Task>(self, task: K) -> K::Out {
        // SAFETY: `self` proves every feature that the function enables.
        unsafe { enter_avx512_vnni(self, task) }
    }
}

impl Int8 for Avx512Vnni {
    type S = Avx512;
    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn dot(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX512-VNNI; registers only.
        unsafe { _mm512_dpbusd_epi32(acc, a, b) }
    }
    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512 F; registers only.
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn store_bytes(self, v: __m512, offset: __m512i, s: &mut [f32]) {
        let s = &mut s[..4];
        // SAFETY: `s` has the sixteen bytes that are stored, checked above; `self` proves AVX-512 F.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(v), offset));
            _mm_storeu_si128(s.as_mut_ptr().cast(), bytes);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn enter_avx512_vnni<K: Int8Task>(token: Avx512Vnni, task: K) -> K::Out {
    task.run(token)
}

/// Proof that the CPU has AVX-VNNI beside what [`Avx2`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvxVnni(Avx2);

impl AvxVnni {
    /// The token, if this CPU has AVX-VNNI.
    pub fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("avxvnni")).map(Self)
    }

    /// Runs `task` inside a function compiled for this instruction set.
    #[inline(always)]
    pub fn vectorize<K: Int8Task>(self, task: K) -> K::Out {
        // SAFETY: `self` proves every feature that the function enables.
        unsafe { enter_avx_vnni(self, task) }
    }
}

impl Int8 for AvxVnni {
    type S = Avx2;
    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }
    #[inline(always)]
    fn dot(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI; registers only.
        unsafe { _mm256_dpbusd_avx_epi32(acc, a, b) }
    }
    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2; registers only.
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn store_bytes(self, v: __m256, offset: __m256i, s: &mut [f32]) {
        let s = &mut s[..2];
        // SAFETY: `s` has the eight bytes that are stored, checked above; `self` proves AVX2.
        unsafe {
            // The lowest byte of each lane, within the halves of the vector; then both halves' words together.
            let lowest = _mm256_broadcastsi128_si256(_mm_set_epi32(0, 0, 0, 0x0c08_0400));
            let bytes = _mm256_shuffle_epi8(_mm256_add_epi32(_mm256_cvtps_epi32(v), offset), lowest);
            let both = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
            _mm_storel_epi64(s.as_mut_ptr().cast(), _mm256_castsi256_si128(both));
        }
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn enter_avx_vnni<K: Int8Task>(token: AvxVnni, task: K) -> K::Out {
    task.run(token)
}

/// Methods whose body is one expression of intrinsics on registers.
macro_rules! register_ops {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $ty),*) -> $ret {
                // SAFETY: `self` proves that the CPU has the feature; the intrinsics touch registers only.
                unsafe { $body }
            }
        )*
    };
}

#[target_feature(enable = "avx2,fma")]
fn enter_avx2<K: Task>(token: Avx2, task: K) -> K::Out {
    task.run(token)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn enter_avx512<K: Task>(token: Avx512, task: K) -> K::Out {
    task.run(token)
}

/// All bits set in the first `n` of eight lanes.
#[inline(always)]
fn avx2_lane_mask(_: Avx2, n: usize) -> __m256i {
    const M: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window = &M[8 - n.min(8)..][..8];
    // SAFETY: `window` has eight i32 (checked by the slicing above); the token proves AVX2.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    type U = __m256i;
    type M = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    register_ops! {
        fn splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        fn round(a: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn gt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        fn select(m: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, m);
        fn zip(a: __m256, b: __m256) -> (__m256, __m256) = {
            // Unpacking works in each half; then the halves are put in order.
            let (lo, hi) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(lo, hi), _mm256_permute2f128_ps::<0x31>(lo, hi))
        };
        fn sum(a: __m256) -> f32 = {
            let h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_add_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)))
        };
        fn hmax(a: __m256) -> f32 = {
            let h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_max_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)))
        };
        fn splat_u32(x: u32) -> __m256i = _mm256_set1_epi32(x as i32);
        fn iota_u32() -> __m256i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        fn add_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn xor_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        fn and_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn mul_even_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_mul_epu32(a, b);
        fn swap_u32(a: __m256i) -> __m256i = _mm256_shuffle_epi32::<0b10_11_00_01>(a);
        fn blend_u32(even: __m256i, odd: __m256i) -> __m256i = _mm256_blend_epi32::<0b1010_1010>(even, odd);
        fn lt_u31(a: __m256i, b: __m256i) -> __m256 = _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a));
        fn lt_u32(a: __m256i, b: __m256i) -> __m256 = {
            let sign = _mm256_set1_epi32(i32::MIN);
            let (a, b) = (_mm256_xor_si256(a, sign), _mm256_xor_si256(b, sign));
            _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))
        };
        fn to_bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        fn from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
    }
    #[inline(always)]
    fn shl_u32<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2; registers only.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn shr_u32<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2; registers only.
        unsafe { _mm256_srl_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> __m256 {
        let s = &s[..8];
        // SAFETY: `s` has eight f32, checked above; `self` proves AVX2.
        unsafe { _mm256_loadu_ps(s.as_ptr()) }
    }
    #[inline(always)]
    fn prefetch(self, s: &[f32]) {
        // SAFETY: a prefetch reads nothing and cannot fault; every x86-64 CPU has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(s.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> __m256 {
        let mask = avx2_lane_mask(self, s.len());
        // SAFETY: the mask switches off every lane at or past `s.len()`; masked lanes are not read.
        unsafe { _mm256_maskload_ps(s.as_ptr(), mask) }
    }
    #[inline(always)]
    fn store(self, v: __m256, s: &mut [f32]) {
        let s = &mut s[..8];
        // SAFETY: `s` has eight f32, checked above; `self` proves AVX2.
        unsafe { _mm256_storeu_ps(s.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m256, s: &mut [f32]) {
        let mask = avx2_lane_mask(self, s.len());
        // SAFETY: the mask switches off every lane at or past `s.len()`; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(s.as_mut_ptr(), mask, v) }
    }
    #[inline(always)]
    fn store_u32(self, a: __m256i, s: &mut [u32]) {
        let s = &mut s[..8];
        // SAFETY: `s` has eight u32, checked above; `self` proves AVX2.
        unsafe { _mm256_storeu_si256(s.as_mut_ptr().cast(), a) }
    }
    #[inline(always)]
    fn vectorize<K: Task>(self, task: K) -> K::Out {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { enter_avx2(self, task) }
    }
}

/// Ones in the lowest `n` of sixteen bits.
#[inline(always)]
fn avx512_lane_mask(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1u16 << n) - 1 }
}

impl Simd for Avx512 {
    type V = __m512;
    type U = __m512i;
    type M = __mmask16;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    register_ops! {
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        fn round(a: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn gt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        fn select(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(m, b, a);
        fn zip(a: __m512, b: __m512) -> (__m512, __m512) = {
            let lo = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let hi = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            (_mm512_permutex2var_ps(a, lo, b), _mm512_permutex2var_ps(a, hi, b))
        };
        fn sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
        fn hmax(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
        fn splat_u32(x: u32) -> __m512i = _mm512_set1_epi32(x as i32);
        fn iota_u32() -> __m512i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        fn add_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn xor_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        fn and_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn mul_even_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_mul_epu32(a, b);
        fn swap_u32(a: __m512i) -> __m512i = _mm512_shuffle_epi32::<0b10_11_00_01>(a);
        fn blend_u32(even: __m512i, odd: __m512i) -> __m512i = _mm512_mask_blend_epi32(0xaaaa, even, odd);
        fn lt_u31(a: __m512i, b: __m512i) -> __mmask16 = _mm512_cmplt_epi32_mask(a, b);
        fn lt_u32(a: __m512i, b: __m512i) -> __mmask16 = _mm512_cmplt_epu32_mask(a, b);
        fn to_bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        fn from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
    }
    #[inline(always)]
    fn shl_u32<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 F; registers only.
        unsafe { _mm512_slli_epi32::<N>(a) }
    }
    #[inline(always)]
    fn shr_u32<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 F; registers only.
        unsafe { _mm512_srli_epi32::<N>(a) }
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> __m512 {
        let s = &s[..16];
        // SAFETY: `s` has sixteen f32, checked above; `self` proves AVX-512.
        unsafe { _mm512_loadu_ps(s.as_ptr()) }
    }
    #[inline(always)]
    fn prefetch(self, s: &[f32]) {
        // SAFETY: a prefetch reads nothing and cannot fault; every x86-64 CPU has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(s.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> __m512 {
        // SAFETY: the mask switches off every lane at or past `s.len()`; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(avx512_lane_mask(s.len()), s.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, s: &mut [f32]) {
        let s = &mut s[..16];
        // SAFETY: `s` has sixteen f32, checked above; `self` proves AVX-512.
        unsafe { _mm512_storeu_ps(s.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_where(self, m: __mmask16, v: __m512, s: &mut [f32]) {
        let s = &mut s[..16];
        // SAFETY: `s` has sixteen f32, checked above; lanes outside the mask are not written.
        unsafe { _mm512_mask_storeu_ps(s.as_mut_ptr(), m, v) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m512, s: &mut [f32]) {
        // SAFETY: the mask switches off every lane at or past `s.len()`; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(s.as_mut_ptr(), avx512_lane_mask(s.len()), v) }
    }
    #[inline(always)]
    fn store_u32(self, a: __m512i, s: &mut [u32]) {
        let s = &mut s[..16];
        // SAFETY: `s` has sixteen u32, checked above; `self` proves AVX-512.
        unsafe { _mm512_storeu_si512(s.as_mut_ptr().cast(), a) }
    }
    #[inline(always)]
    fn vectorize<K: Task>(self, task: K) -> K::Out {
        // SAFETY: `self` proves every feature that the function enables.
        unsafe { enter_avx512(self, task) }
    }
}
