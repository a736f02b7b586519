//! Flags of the model: a preset, and every value of it on its own.

use super::{Choices, List, choose, name_of};
use crate::cli::Config;
use crate::error::Result;
use crate::nn::{Activation, EncoderNorm, ModelConfig, NormOrder, PRESETS, Pooling, Positions};

const NORMS: Choices<EncoderNorm> =
    &[("none", EncoderNorm::None), ("first", EncoderNorm::First), ("every", EncoderNorm::Every)];
const ORDERS: Choices<NormOrder> = &[("post", NormOrder::Post), ("pre", NormOrder::Pre)];
const POSITIONS: Choices<Positions> =
    &[("sinusoidal", Positions::Sinusoidal), ("learned", Positions::Learned), ("none", Positions::None)];
pub(crate) const POOLINGS: Choices<Pooling> = &[
    ("cls", Pooling::Cls),
    ("mean", Pooling::Mean),
    ("max", Pooling::Max),
    ("last", Pooling::Last),
    ("mean-deviation", Pooling::MeanDeviation),
];
const ACTIVATIONS: Choices<Activation> =
    &[("relu", Activation::Relu), ("gelu", Activation::Gelu), ("gelu-tanh", Activation::GeluTanh)];

/// Flags of the model. What is not given comes from the preset, or from the model that fine-tuning starts from.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Sizes to start from: paper, small or tiny [default: small, or the model given by --init]
    #[arg(long, value_parser = PRESETS)]
    pub preset: Option<String>,
    /// Samples of a window
    #[arg(long)]
    pub window: Option<usize>,
    /// Output channels of each convolution; the last is the transformer's width
    #[arg(long, value_name = "LIST")]
    pub channels: Option<List>,
    /// Taps of each convolution, odd
    #[arg(long, value_name = "LIST")]
    pub kernels: Option<List>,
    /// Stride of each convolution; their product is the samples of a token
    #[arg(long, value_name = "LIST")]
    pub strides: Option<List>,
    /// Convolutions followed by a layer norm
    #[arg(long, value_parser = ["none", "first", "every"])]
    pub encoder_norm: Option<String>,
    /// Transformer layers
    #[arg(long)]
    pub layers: Option<usize>,
    /// Attention heads
    #[arg(long)]
    pub heads: Option<usize>,
    /// Width of the feed-forward's hidden layer
    #[arg(long)]
    pub hidden: Option<usize>,
    /// Activation of the feed-forward
    #[arg(long, value_parser = ["relu", "gelu", "gelu-tanh"])]
    pub activation: Option<String>,
    /// Layer norm after or before each block
    #[arg(long, value_parser = ["post", "pre"])]
    pub norm_order: Option<String>,
    /// What tells tokens apart
    #[arg(long, value_parser = ["sinusoidal", "learned", "none"])]
    pub positions: Option<String>,
    /// Layer norm after the positions are added
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub embed_norm: Option<bool>,
    /// A learnt CLS token before the others
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub cls: Option<bool>,
    /// What stands for the window: CLS, mean, maximum or last token
    #[arg(long, value_parser = ["cls", "mean", "max", "last", "mean-deviation", "mean-deviation"])]
    pub pooling: Option<String>,
    /// Dropout in the transformer
    #[arg(long)]
    pub dropout: Option<f64>,
    /// Dropout on attention weights
    #[arg(long)]
    pub attention_dropout: Option<f64>,
    /// Added to the variance in layer norms
    #[arg(long)]
    pub norm_eps: Option<f64>,
    /// Hidden widths of the classification head, or none for a linear one
    #[arg(long, value_name = "LIST")]
    pub head_hidden: Option<List>,
    /// Dropout in the classification head
    #[arg(long)]
    pub head_dropout: Option<f64>,
    /// Probability that a masked span starts at a sample
    #[arg(long)]
    pub mask_probability: Option<f64>,
    /// Samples of a masked span
    #[arg(long)]
    pub mask_span: Option<usize>,
}

impl ModelArgs {
    /// The model: `base` or the preset, with the flags given put in.
    ///
    /// # Errors
    /// A configuration that describes no model.
    pub fn resolve(&self, base: Option<&ModelConfig>) -> Result<ModelConfig> {
        let mut c = match (base, &self.preset) {
            (Some(base), None) => base.clone(),
            (_, preset) => ModelConfig::preset(preset.as_deref().unwrap_or("small"))?,
        };
        fn put<T: Clone>(slot: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *slot = value.clone();
            }
        }
        fn put_list(slot: &mut Vec<usize>, value: &Option<List>) {
            if let Some(List(list)) = value {
                slot.clone_from(list);
            }
        }
        fn put_choice<T: Copy>(slot: &mut T, choices: Choices<T>, value: &Option<String>) {
            if let Some(value) = value.as_deref().and_then(|name| choose(choices, name)) {
                *slot = value;
            }
        }
        put(&mut c.window, &self.window);
        put_list(&mut c.channels, &self.channels);
        put_list(&mut c.kernels, &self.kernels);
        put_list(&mut c.strides, &self.strides);
        put_choice(&mut c.encoder_norm, NORMS, &self.encoder_norm);
        put(&mut c.layers, &self.layers);
        put(&mut c.heads, &self.heads);
        put(&mut c.hidden, &self.hidden);
        put_choice(&mut c.activation, ACTIVATIONS, &self.activation);
        put_choice(&mut c.norm_order, ORDERS, &self.norm_order);
        put_choice(&mut c.positions, POSITIONS, &self.positions);
        put(&mut c.embed_norm, &self.embed_norm);
        put(&mut c.cls, &self.cls);
        put_choice(&mut c.pooling, POOLINGS, &self.pooling);
        put(&mut c.dropout, &self.dropout);
        put(&mut c.attention_dropout, &self.attention_dropout);
        put(&mut c.norm_eps, &self.norm_eps);
        put_list(&mut c.head_hidden, &self.head_hidden);
        put(&mut c.head_dropout, &self.head_dropout);
        put(&mut c.mask.probability, &self.mask_probability);
        put(&mut c.mask.span, &self.mask_span);
        c.validate()?;
        Ok(c)
    }
}

/// Writes the resolved model into the configuration.
///
/// # Errors
/// A command without these flags.
pub fn echo(c: &ModelConfig, config: &mut Config) -> Result<()> {
    let list = |v: &[usize]| List(v.to_vec()).to_string();
    config.set("window", c.window as i64)?;
    config.set("channels", list(&c.channels))?;
    config.set("kernels", list(&c.kernels))?;
    config.set("strides", list(&c.strides))?;
    config.set("encoder-norm", name_of(NORMS, c.encoder_norm))?;
    config.set("layers", c.layers as i64)?;
    config.set("heads", c.heads as i64)?;
    config.set("hidden", c.hidden as i64)?;
    config.set("activation", name_of(ACTIVATIONS, c.activation))?;
    config.set("norm-order", name_of(ORDERS, c.norm_order))?;
    config.set("positions", name_of(POSITIONS, c.positions))?;
    config.set("embed-norm", c.embed_norm)?;
    config.set("cls", c.cls)?;
    config.set("pooling", name_of(POOLINGS, c.pooling))?;
    config.set("dropout", c.dropout)?;
    config.set("attention-dropout", c.attention_dropout)?;
    config.set("norm-eps", c.norm_eps)?;
    config.set("head-hidden", list(&c.head_hidden))?;
    config.set("head-dropout", c.head_dropout)?;
    config.set("mask-probability", c.mask.probability)?;
    config.set("mask-span", c.mask.span as i64)
}
