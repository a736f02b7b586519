//! Parameters by heartlore's names: from a model directory's file, or random.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::Result;

/// Named parameters.
pub struct Weights(Option<HashMap<String, Tensor>>);

impl Weights {
    /// Those of a safetensors file, or random ones.
    pub fn new(path: Option<String>) -> Result<Self> {
        Ok(Self(path.map(|path| candle_core::safetensors::load(path, &Device::Cpu)).transpose()?))
    }

    /// The parameter `name`. Random matrices are uniform with the variance of Kaiming's rule, gains are 1, the rest is 0.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let n = shape.iter().product();
        let Some(file) = &self.0 else {
            return Ok(match shape {
                [_, rest @ ..] if !rest.is_empty() => {
                    let bound = 1.0 / (rest.iter().product::<usize>() as f32).sqrt();
                    noise(n, n as u64).into_iter().map(|v| v * bound / 3f32.sqrt()).collect()
                }
                _ if name.contains("norm") && name.ends_with("weight") => vec![1.0; n],
                _ => vec![0.0; n],
            });
        };
        let tensor = file.get(name).ok_or_else(|| format!("no parameter {name} in the file"))?;
        if tensor.dims() != shape {
            return Err(format!("{name} is {:?} in the file, {shape:?} here", tensor.dims()).into());
        }
        Ok(tensor.flatten_all()?.to_vec1()?)
    }
}

/// Uniform numbers of variance 1, by an xorshift generator.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 3f32.sqrt()
    };
    (0..n).map(|_| next()).collect()
}
