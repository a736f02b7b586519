//! Element types of a safetensors file, and what their bytes mean.
//!
//! All numbers are little-endian. F16 is IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits); BF16 is the upper
//! half of an f32 (1, 8, 7). Every finite or infinite value of both is an f32 exactly.

use std::borrow::Cow;

/// Element type. The order is the format's own: by alignment, which is how its writer sorts tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say all there is to say
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

/// All element types with the name the header gives them.
const NAMES: [(Dtype, &str); 13] = [
    (Dtype::Bool, "BOOL"),
    (Dtype::U8, "U8"),
    (Dtype::I8, "I8"),
    (Dtype::I16, "I16"),
    (Dtype::U16, "U16"),
    (Dtype::F16, "F16"),
    (Dtype::Bf16, "BF16"),
    (Dtype::I32, "I32"),
    (Dtype::U32, "U32"),
    (Dtype::F32, "F32"),
    (Dtype::F64, "F64"),
    (Dtype::I64, "I64"),
    (Dtype::U64, "U64"),
];

impl Dtype {
    /// The type with this name in a header.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
    }

    /// The name in a header.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

/// A Rust type that is one of the element types.
pub trait Element: Copy + bytemuck::Pod {
    /// Which one.
    const DTYPE: Dtype;
    /// From its little-endian bytes; `bytes` has the size of the type.
    fn from_le(bytes: &[u8]) -> Self;
    /// To little-endian bytes, appended.
    fn push_le(self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($($t:ty, $dtype:ident;)*) => {$(
        impl Element for $t {
            const DTYPE: Dtype = Dtype::$dtype;
            fn from_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                <$t>::from_le_bytes(raw)
            }
            fn push_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
element! { f32, F32; f64, F64; u64, U64; i64, I64; i32, I32; u8, U8; }

/// The little-endian bytes of `values`: a view on little-endian machines, a copy elsewhere.
pub fn le_bytes<T: Element>(values: &[T]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        let mut out = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|v| v.push_le(&mut out));
        Cow::Owned(out)
    }
}

/// Exact f32 value of the binary16 number with these `bits`; a NaN keeps its payload's upper bits.
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    match (exponent, fraction) {
        (0, _) => {
            // Subnormal: fraction * 2^-24, a product that f32 holds exactly; the sign also makes -0.
            let magnitude = fraction as f32 * (1.0 / 16_777_216.0);
            f32::from_bits(sign | magnitude.to_bits())
        }
        (31, _) => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        // The exponent's bias changes from 15 to 127.
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// Exact f32 value of the bfloat16 number with these `bits`.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_enum() {
        for (i, (dtype, name)) in NAMES.iter().enumerate() {
            assert_eq!(*dtype as usize, i);
            assert_eq!(dtype.name(), *name);
            assert_eq!(Dtype::from_name(name), Some(*dtype));
        }
        assert_eq!(Dtype::from_name("F8_E4M3"), None);
    }

    #[test]
    fn f16_by_the_definition_for_every_bit_pattern() {
        for bits in 0..=u16::MAX {
            let got = f16_to_f32(bits);
            let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
            let exponent = i32::from(bits >> 10 & 0x1f);
            let fraction = f64::from(bits & 0x3ff) / 1024.0;
            let want: f64 = match exponent {
                0 => sign * fraction * 2f64.powi(-14),
                31 if fraction == 0.0 => sign * f64::INFINITY,
                31 => f64::NAN,
                e => sign * (1.0 + fraction) * 2f64.powi(e - 15),
            };
            if want.is_nan() {
                assert!(got.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(got.to_bits(), (want as f32).to_bits(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn bf16_is_the_upper_half() {
        assert_eq!(bf16_to_f32(0x3f80), 1.0);
        assert_eq!(bf16_to_f32(0xc049), -3.140625);
        assert!(bf16_to_f32(0x7fc0).is_nan());
    }
}
