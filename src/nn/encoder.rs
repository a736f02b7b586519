//! Input encoder and embedding: samples become tokens, tokens become the transformer's rows.

use super::config::{EncoderNorm, ModelConfig, Positions};
use crate::error::Result;
use crate::graph::{Conv1dSpec, Graph, Id};
use crate::tensor::Init;
use heartlore_kernels::activation::Activation;

/// Gamma and beta of a layer norm, `{name}.weight` and `{name}.bias`.
pub(super) fn norm_params(g: &mut Graph, name: &str, width: usize) -> Result<(Id, Id)> {
    let gamma = g.param(&format!("{name}.weight"), [width], Init::Ones)?;
    let beta = g.param(&format!("{name}.bias"), [width], Init::Zeros)?;
    Ok((gamma, beta))
}

/// Weight and bias of a linear layer, `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`.
pub(super) fn linear_params(g: &mut Graph, name: &str, outputs: usize, inputs: usize) -> Result<(Id, Id)> {
    let weight = g.param(&format!("{name}.weight"), [outputs, inputs], Init::FanIn(inputs))?;
    let bias = g.param(&format!("{name}.bias"), [outputs], Init::FanIn(inputs))?;
    Ok((weight, bias))
}

/// Dropout, or nothing at all for probability 0.
pub(super) fn dropout(g: &mut Graph, x: Id, p: f64) -> Result<Id> {
    if p == 0.0 { Ok(x) } else { g.dropout(x, p) }
}

/// The convolutions: samples `[batch, window, 1]` -> `[batch, tokens, width]`.
///
/// With an odd kernel k, padding k / 2 on both sides and a length divisible by the stride s, the output has
/// (length - 1) / s + 1 = length / s rows, and row j is centred on sample j s: exactly one token per patch.
fn convolutions(g: &mut Graph, c: &ModelConfig, samples: Id) -> Result<Id> {
    let (mut x, mut inputs) = (samples, 1);
    for (i, ((&outputs, &kernel), &stride)) in c.channels.iter().zip(&c.kernels).zip(&c.strides).enumerate() {
        g.scope(format!("encoder.{i}"));
        let norm = match c.encoder_norm {
            EncoderNorm::None => false,
            EncoderNorm::First => i == 0,
            EncoderNorm::Every => true,
        };
        let (name, init) = (format!("encoder.conv.{i}"), Init::FanIn(inputs * kernel));
        let w = g.param(&format!("{name}.weight"), [outputs, inputs, kernel], init)?;
        let b = g.param(&format!("{name}.bias"), [outputs], init)?;
        let act = if norm { None } else { Some(Activation::Relu) };
        let spec = Conv1dSpec { stride, padding: kernel / 2, dilation: 1, act };
        x = g.conv1d(x, w, Some(b), spec)?;
        if norm {
            let (gamma, beta) = norm_params(g, &format!("encoder.norm.{i}"), outputs)?;
            x = g.layer_norm(x, gamma, beta, c.norm_eps)?;
            x = g.activate(x, Activation::Relu)?;
        }
        inputs = outputs;
    }
    Ok(x)
}

/// Encoder, CLS row, positions, layer norm, dropout: samples `[batch, window, 1]` -> `[batch, rows, width]`.
pub(super) fn embedding(g: &mut Graph, c: &ModelConfig, samples: Id) -> Result<Id> {
    let mut x = convolutions(g, c, samples)?;
    g.scope("embedding");
    if c.cls {
        let cls = g.param("cls", [c.width()], Init::Normal(0.02))?;
        x = g.prepend_row(x, cls)?;
    }
    let positions = match c.positions {
        Positions::Sinusoidal => Some(g.sinusoid(c.rows(), c.width())?),
        Positions::Learned => Some(g.param("positions", [c.rows(), c.width()], Init::Normal(0.02))?),
        Positions::None => None,
    };
    if c.embed_norm {
        let (gamma, beta) = norm_params(g, "embed_norm", c.width())?;
        x = match positions {
            // In one pass.
            Some(table) => g.residual_norm(x, table, 0.0, gamma, beta, c.norm_eps)?,
            None => g.layer_norm(x, gamma, beta, c.norm_eps)?,
        };
    } else if let Some(table) = positions {
        x = g.add_rows(x, table)?;
    }
    dropout(g, x, c.dropout)
}
