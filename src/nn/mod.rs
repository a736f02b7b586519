//! The model: functions that record a 1D-CNN input encoder, a transformer encoder and their heads as programs.
//!
//! ```text
//! samples [batch, window, 1]
//!   encoder      convolution -> layer norm -> ReLU, a few times            [batch, tokens, width]
//!   embedding    CLS row first, + positions, layer norm, dropout           [batch, rows, width]
//!   transformer  self-attention, feed-forward, residuals, layer norms      [batch, rows, width]
//!   head         pretrain: Linear(width, patch) on the rows the loss sees  [batch, picks, patch]
//!                classify: pooling, Linear-ReLU-dropout layers, one logit  [batch]
//! ```
//!
//! [`ModelConfig`] describes the model; [`pretrain`], [`classify`], [`reconstruct`] and [`embed`] record it for one
//! purpose each. `tokens = window / patch`, where `patch` is the product of the convolutions' strides: token j stands for
//! the samples `j patch .. (j + 1) patch`. `rows = tokens + 1` with a CLS row (row 0), else `tokens`.
//!
//! Sources: Vazquez-Rodriguez et al. 2022 (arXiv:2204.05103) for the whole; Vaswani et al. 2017 (arXiv:1706.03762) for
//! the transformer; Xiong et al. 2020 (arXiv:2002.04745) for pre-norm; Devlin et al. 2019 (arXiv:1810.04805) for CLS;
//! Baevski et al. 2020 (arXiv:2006.11477) for the span mask.
//!
//! # Only what the loss sees
//!
//! The last layer's keys and values need every row; its queries, attention output, feed-forward, norms and the head need
//! only the rows that reach the loss. [`pretrain`] computes those for the chosen rows alone, [`classify`] and [`embed`]
//! for the one row their pooling reads (mean and maximum read all). [`pretrain_full`], [`classify_full`] and
//! [`embed_full`] compute every row and choose at the end: the same numbers with dropout off, more work.
//!
//! # Parameters
//!
//! Names and layouts are PyTorch's (`nn.Conv1d`, `nn.LayerNorm`, `nn.TransformerEncoder`, `nn.Linear`), so a state dict
//! can be carried over tensor by tensor. `i` counts from 0; D = width, H = hidden.
//!
//! | name | shape | starts as |
//! |---|---|---|
//! | `encoder.conv.{i}.weight` | `[out, in, kernel]` | uniform +-1/sqrt(in kernel) |
//! | `encoder.conv.{i}.bias` | `[out]` | uniform +-1/sqrt(in kernel) |
//! | `encoder.norm.{i}.weight`, `.bias` (i = 0, or every i) | `[out]` | ones, zeros |
//! | `cls` (with a CLS row) | `[D]` | normal, standard deviation 0.02 |
//! | `positions` (learned positions) | `[rows, D]` | normal, standard deviation 0.02 |
//! | `embed_norm.weight`, `.bias` | `[D]` | ones, zeros |
//! | `transformer.layers.{i}.self_attn.in_proj_weight` | `[3 D, D]`: queries, keys, values | Glorot uniform |
//! | `transformer.layers.{i}.self_attn.in_proj_bias` | `[3 D]` | zeros |
//! | `transformer.layers.{i}.self_attn.out_proj.weight` | `[D, D]` | uniform +-1/sqrt(D) |
//! | `transformer.layers.{i}.self_attn.out_proj.bias` | `[D]` | zeros |
//! | `transformer.layers.{i}.linear1.weight`, `.bias` | `[H, D]`, `[H]` | uniform +-1/sqrt(D) |
//! | `transformer.layers.{i}.linear2.weight`, `.bias` | `[D, H]`, `[D]` | uniform +-1/sqrt(H) |
//! | `transformer.layers.{i}.norm1.weight`, `.bias` | `[D]` | ones, zeros |
//! | `transformer.layers.{i}.norm2.weight`, `.bias` | `[D]` | ones, zeros |
//! | `transformer.norm.weight`, `.bias` (pre-norm) | `[D]` | ones, zeros |
//! | `reconstruct.weight`, `.bias` ([`pretrain`], [`reconstruct`]) | `[patch, D]`, `[patch]` | uniform +-1/sqrt(D) |
//! | `physiology.values.weight`, `.bias` ([`objectives`]) | `[values, 2 D]`, `[values]` | uniform +-1/sqrt(2 D) |
//! | `physiology.beats.weight`, `.bias` ([`objectives`]) | `[1, D]`, `[1]` | uniform +-1/sqrt(D) |
//! | `head.{i}.weight`, `.bias` ([`classify`]) | `[out, in]`, `[out]` | uniform +-1/sqrt(in) |
//!
//! The head's parameters come last, the others in the order above, the same in every program of one configuration: the
//! flat parameter vector of [`embed`] is the beginning of the others'. [`parameter_table`] prints a program's own.

mod config;
mod encoder;
mod mask;
mod objectives;
mod programs;
mod transformer;

pub use config::{EncoderNorm, MaskConfig, ModelConfig, NormOrder, PRESETS, Pooling, Positions};
pub use heartlore_kernels::activation::Activation;
pub use heartlore_kernels::rng::Key;
pub use mask::{picks, picks_into, spans};
pub use objectives::{BEAT_WEIGHT, MaskedHead, Objectives, PhysiologyHead, objectives};
pub use programs::{
    Classify, ClassifyRead, Embed, Pretrain, Reconstruct, classify, classify_full, classify_read, embed,
    embed_full, parameter_table, pretrain, pretrain_full, reconstruct,
};
