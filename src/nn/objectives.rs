//! The program of several pre-training objectives at once: masked samples, and physiology.
//!
//! With H `[batch, rows, D]` the transformer's rows, and P = mean and deviation of H over its rows, `[batch, 2 D]`:
//!
//! ```text
//! masked       x_hat = H W_r + b_r                  sum m (x_hat - x)^2                 m: weight of a masked point
//! physiology   v_hat = P W_v + b_v                  sum u (v_hat - v)^2                 u: weight of a trusted value
//!              k_hat = H w_k + b_k                  sum q BCE(k_hat, k; w+)             q: weight of a trusted row
//! loss         their sum
//! ```
//!
//! BCE is the binary cross-entropy of logits with positives weighted by w+ = [`BEAT_WEIGHT`]. All weights are inputs: the
//! caller divides by counts over the whole batch and multiplies by each objective's own weight, so that the loss does not
//! depend on how a batch is cut. A weight of 0 removes the element, whatever its target holds.

use super::config::ModelConfig;
use super::encoder::{embedding, linear_params};
use super::programs::start;
use super::transformer::{Rows, transformer};
use crate::error::{Error, Result};
use crate::graph::{Graph, Id};
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::pool::Pool;
use std::sync::Arc;

/// What a row with a beat weighs against one without, in the cross-entropy of the beat map: about one row in twelve has one.
pub const BEAT_WEIGHT: f64 = 4.0;

/// The inputs of the masked objective.
#[derive(Clone, Copy, Debug)]
pub struct MaskedHead {
    /// `[batch, tokens, patch]`: the samples to predict.
    pub target: Id,
    /// `[batch, tokens, patch]`: their weights; 0 where a point was not masked.
    pub weight: Id,
    /// `[batch, tokens, patch]`: the prediction.
    pub prediction: Id,
}

/// The inputs of the physiology objective.
#[derive(Clone, Copy, Debug)]
pub struct PhysiologyHead {
    /// `[batch, values]`: values of the window, standardised.
    pub values: Id,
    /// `[batch, values]`: their weights.
    pub value_weight: Id,
    /// `[batch, values]`: the prediction.
    pub prediction: Id,
    /// `[batch, rows]`: 1 for a row in whose patch a beat lies.
    pub beats: Id,
    /// `[batch, rows]`: weights of the rows; 0 for a CLS row.
    pub beat_weight: Id,
    /// `[batch, rows]`: log odds of a beat.
    pub beat_logits: Id,
}

/// The program; see [`objectives`].
#[derive(Clone, Debug)]
pub struct Objectives {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`: the windows as the encoder sees them.
    pub samples: Id,
    /// The masked objective, if asked for.
    pub masked: Option<MaskedHead>,
    /// The physiology objective, if asked for.
    pub physiology: Option<PhysiologyHead>,
    /// Scalar: the sum of all.
    pub loss: Id,
}

/// Records the objectives for `batch` windows: masked samples, and `values` values with a beat map (0 for none).
///
/// # Errors
/// If the configuration is not valid, `batch` is 0, or there is no objective.
pub fn objectives(c: &ModelConfig, batch: usize, masked: bool, values: usize) -> Result<Objectives> {
    if !masked && values == 0 {
        return Err(Error::usage("a program needs at least one objective"));
    }
    let (mut g, samples) = start(c, batch)?;
    let x = embedding(&mut g, c, samples)?;
    let x = transformer(&mut g, c, x, Rows::All, true)?;
    let mut losses = Vec::new();
    let masked = masked
        .then(|| -> Result<MaskedHead> {
            let shape = [batch, c.rows(), c.patch()];
            let (target, weight) = (g.input("target", shape)?, g.input("mask", shape)?);
            g.scope("reconstruct");
            let (w, b) = linear_params(&mut g, "reconstruct", c.patch(), c.width())?;
            let prediction = g.linear(x, w, Some(b), None)?;
            losses.push(g.masked_mse(prediction, target, Some(weight), Reduction::Sum)?);
            Ok(MaskedHead { target, weight, prediction })
        })
        .transpose()?;
    let physiology = (values > 0)
        .then(|| -> Result<PhysiologyHead> {
            let (v, r) = ([batch, values], [batch, c.rows()]);
            let (target, value_weight) = (g.input("values", v)?, g.input("value weights", v)?);
            let (beats, beat_weight) = (g.input("beats", r)?, g.input("beat weights", r)?);
            g.scope("physiology");
            let pooled = g.pool(x, Pool::MeanDeviation)?;
            let (w, b) = linear_params(&mut g, "physiology.values", values, 2 * c.width())?;
            let prediction = g.linear(pooled, w, Some(b), None)?;
            losses.push(g.masked_mse(prediction, target, Some(value_weight), Reduction::Sum)?);
            let (w, b) = linear_params(&mut g, "physiology.beats", 1, c.width())?;
            let map = g.linear(x, w, Some(b), None)?;
            let beat_logits = g.reshape(map, r)?;
            losses.push(g.bce_logits(beat_logits, beats, Some(beat_weight), BEAT_WEIGHT, Reduction::Sum)?);
            Ok(PhysiologyHead { values: target, value_weight, prediction, beats, beat_weight, beat_logits })
        })
        .transpose()?;
    let mut loss = losses[0];
    for &more in &losses[1..] {
        loss = g.add(loss, more)?;
    }
    Ok(Objectives { graph: Arc::new(g), samples, masked, physiology, loss })
}
