//! [`ModelConfig`]: every size and choice of the model, the presets, and what makes a configuration valid.

use crate::error::{Error, Result};
use heartlore_kernels::activation::Activation;

/// Which convolutions are followed by a layer norm over channels (before the ReLU).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncoderNorm {
    /// None.
    None,
    /// The first.
    First,
    /// Every one.
    Every,
}

/// Where a transformer layer normalises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NormOrder {
    /// norm(x + f(x)), as in Vaswani et al. 2017.
    Post,
    /// x + f(norm(x)), and one more norm after the last layer, as in Xiong et al. 2020.
    Pre,
}

/// What tells rows apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Positions {
    /// The fixed sines and cosines of Vaswani et al. 2017, section 3.5.
    Sinusoidal,
    /// A learnt table.
    Learned,
    /// Nothing beyond what the convolutions leave.
    None,
}

/// How a window's rows become one vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pooling {
    /// The CLS row.
    Cls,
    /// The mean of all rows, a CLS row included.
    Mean,
    /// The maximum of each column over all rows, a CLS row included.
    Max,
    /// The last row.
    Last,
    /// The mean of all rows, then their standard deviation: twice the width.
    MeanDeviation,
}

/// The span mask of pre-training; see [`super::spans`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaskConfig {
    /// Probability that a span starts at a point, in (0, 1].
    pub probability: f64,
    /// Points of a span.
    pub span: usize,
}

impl MaskConfig {
    /// The expected share of masked points in a window of `window` points: point i is masked unless none of the
    /// min(i + 1, span) points from which a span would reach it starts one.
    pub fn expected_share(&self, window: usize) -> f64 {
        let free = 1.0 - self.probability;
        let masked: f64 = (0..window).map(|i| 1.0 - free.powi((i + 1).min(self.span) as i32)).sum();
        if window == 0 { 0.0 } else { masked / window as f64 }
    }
}

/// Every size and choice of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelConfig {
    /// Samples of a window.
    pub window: usize,
    /// Output channels of each convolution; the last is the transformer's width D.
    pub channels: Vec<usize>,
    /// Taps of each convolution, odd: padding kernel / 2 on both sides keeps tokens in step with samples.
    pub kernels: Vec<usize>,
    /// Step of each convolution; their product is the samples of a token.
    pub strides: Vec<usize>,
    /// Layer norms in the encoder.
    pub encoder_norm: EncoderNorm,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Width of the feed-forward's hidden layer.
    pub hidden: usize,
    /// The feed-forward's activation; the encoder and the classification head use ReLU.
    pub activation: Activation,
    /// Post-norm or pre-norm.
    pub norm_order: NormOrder,
    /// Positions added to the rows.
    pub positions: Positions,
    /// Whether a layer norm follows the addition of positions.
    pub embed_norm: bool,
    /// Whether a learnt CLS row is put first.
    pub cls: bool,
    /// What the classification head and [`super::embed`] read.
    pub pooling: Pooling,
    /// Dropout after the embedding, on both residual branches and in the feed-forward.
    pub dropout: f64,
    /// Dropout on the attention weights.
    pub attention_dropout: f64,
    /// Added to the variance in every layer norm.
    pub norm_eps: f64,
    /// Hidden widths of the classification head; may be empty (a linear probe).
    pub head_hidden: Vec<usize>,
    /// Dropout after each hidden layer of the classification head.
    pub head_dropout: f64,
    /// The pre-training mask.
    pub mask: MaskConfig,
}

/// Names of the presets.
pub const PRESETS: [&str; 3] = ["paper", "small", "tiny"];

/// The largest width, window, kernel or stride.
const MOST: usize = 1 << 24;
/// The most transformer layers.
const MOST_LAYERS: usize = 1 << 12;

impl ModelConfig {
    /// The model of Vazquez-Rodriguez et al. 2022 (arXiv:2204.05103), 2.41 million parameters before the head.
    ///
    /// Window (10 s at 128 Hz) and the use of a CLS token are sure. Every other value is recalled by people who read the
    /// paper, not checked against its text; the arithmetic agrees where it can be checked (parameter count; receptive
    /// field of 113 samples; masked share near 47.5 %). Weakly recalled: the encoder's norm, the positions and their
    /// layer norm, the dropout. Dropout on attention weights follows PyTorch, whose encoder layer uses one rate for all.
    pub fn paper() -> Self {
        Self {
            window: 1280,
            channels: vec![64, 128, 256],
            kernels: vec![65, 33, 17],
            strides: vec![1, 1, 1],
            encoder_norm: EncoderNorm::First,
            layers: 2,
            heads: 2,
            hidden: 1024,
            activation: Activation::Relu,
            norm_order: NormOrder::Post,
            positions: Positions::Sinusoidal,
            embed_norm: true,
            cls: true,
            pooling: Pooling::Cls,
            dropout: 0.1,
            attention_dropout: 0.1,
            norm_eps: 1e-5,
            head_hidden: vec![1024, 512],
            head_dropout: 0.3,
            mask: MaskConfig { probability: 0.0325, span: 20 },
        }
    }

    /// About 0.49 million parameters before the head, a token every 8 samples, each seeing 65 samples (0.51 s at 128 Hz).
    /// Our own choice of sizes for a few CPU cores; the mask is the paper preset's and not tuned.
    pub fn small() -> Self {
        Self {
            channels: vec![32, 64, 128],
            kernels: vec![17, 9, 9],
            strides: vec![2, 2, 2],
            layers: 3,
            heads: 4,
            hidden: 256,
            head_hidden: vec![128],
            ..Self::paper()
        }
    }

    /// About 0.08 million parameters before the head, a token every 16 samples, each seeing 81 samples (0.63 s at
    /// 128 Hz): trains in about a minute on two cores. Our own choice of sizes, for first steps and tests.
    pub fn tiny() -> Self {
        Self {
            channels: vec![16, 32, 64],
            kernels: vec![17, 9, 5],
            strides: vec![4, 2, 2],
            layers: 2,
            heads: 2,
            hidden: 128,
            head_hidden: vec![64],
            ..Self::paper()
        }
    }

    /// The preset of this name ([`PRESETS`]).
    ///
    /// # Errors
    /// If there is none.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "paper" => Ok(Self::paper()),
            "small" => Ok(Self::small()),
            "tiny" => Ok(Self::tiny()),
            _ => Err(Error::usage(format!("no model preset is named {name:?}"))
                .remedy(format!("choose one of {}", PRESETS.join(", ")))),
        }
    }

    /// The transformer's width D: channels of the last convolution; 0 without convolutions (not valid).
    pub fn width(&self) -> usize {
        self.channels.last().copied().unwrap_or(0)
    }
    /// Values of a window's pooled features: the width D, or 2 D where mean and deviation are taken.
    pub fn features(&self) -> usize {
        if self.pooling == Pooling::MeanDeviation { 2 * self.width() } else { self.width() }
    }
    /// Samples of a token: the product of the strides; 0 if it overflows (not valid).
    pub fn patch(&self) -> usize {
        self.strides.iter().try_fold(1usize, |p, &s| p.checked_mul(s)).unwrap_or(0)
    }
    /// The same model for inference: its programs have no dropout to switch off.
    pub fn without_dropout(&self) -> Self {
        Self { dropout: 0.0, attention_dropout: 0.0, head_dropout: 0.0, ..self.clone() }
    }
    /// Tokens of a window.
    pub fn tokens(&self) -> usize {
        self.window.checked_div(self.patch()).unwrap_or(0)
    }
    /// Rows of the transformer: the tokens, and the CLS row if there is one.
    pub fn rows(&self) -> usize {
        self.tokens() + usize::from(self.cls)
    }
    /// The samples one token sees: 1 + the sum over convolutions of (kernel - 1) times the strides before.
    pub fn receptive_field(&self) -> usize {
        let mut step = 1usize;
        self.kernels.iter().zip(&self.strides).fold(1usize, |field, (&k, &s)| {
            let seen = field.saturating_add(k.saturating_sub(1).saturating_mul(step));
            step = step.saturating_mul(s);
            seen
        })
    }

    /// Checks that the settings describe a model.
    ///
    /// # Errors
    /// Names the first setting that does not, its value and what it must be.
    pub fn validate(&self) -> Result<()> {
        let check = |fine: bool, setting: &str, what: String| {
            if fine { Ok(()) } else { Err(Error::usage(what).at(format!("model setting {setting}"))) }
        };
        let n = self.channels.len();
        check(n > 0, "channels", "the encoder needs at least one convolution".into())?;
        for (name, list) in [("kernels", &self.kernels), ("strides", &self.strides)] {
            let found = list.len();
            check(found == n, name, format!("{found} values for {n} convolutions (channels has {n})"))?;
        }
        for (name, list) in [
            ("channels", &self.channels),
            ("kernels", &self.kernels),
            ("strides", &self.strides),
            ("head_hidden", &self.head_hidden),
        ] {
            check(!list.contains(&0), name, format!("every value must be at least 1, got {list:?}"))?;
        }
        let odd = self.kernels.iter().all(|k| k % 2 == 1);
        check(
            odd,
            "kernels",
            format!("kernels must be odd to be centred on a sample, got {:?}", self.kernels),
        )?;
        for (name, value) in [
            ("window", self.window),
            ("layers", self.layers),
            ("heads", self.heads),
            ("hidden", self.hidden),
            ("mask.span", self.mask.span),
        ] {
            check(value > 0, name, "must be at least 1, got 0".into())?;
        }
        // Far beyond any use, and small enough that no product of two overflows and recording ends.
        let all = [self.window, self.hidden, self.heads, self.mask.span];
        let lists = [&self.channels, &self.kernels, &self.strides, &self.head_hidden];
        let largest = all.into_iter().chain(lists.into_iter().flatten().copied()).max().unwrap_or(0);
        check(largest <= MOST, "sizes", format!("a size of {largest}; at most {MOST} are supported"))?;
        let layers = self.layers;
        check(
            layers <= MOST_LAYERS,
            "layers",
            format!("{layers} layers; at most {MOST_LAYERS} are supported"),
        )?;
        let (window, patch, width, heads) = (self.window, self.patch(), self.width(), self.heads);
        check(patch > 0, "strides", format!("the product of {:?} overflows", self.strides))?;
        check(
            window % patch == 0,
            "window",
            format!(
                "{window} samples are not a multiple of {patch}, the product of strides {:?}",
                self.strides
            ),
        )?;
        check(width % heads == 0, "heads", format!("{heads} heads do not divide the width {width}"))?;
        check(
            self.cls || self.pooling != Pooling::Cls,
            "pooling",
            "the CLS row is read but cls is off: switch it on or choose mean, max or last".into(),
        )?;
        // Keep probabilities are multiples of 2^-16; see heartlore_kernels::rng.
        let highest = 1.0 - 1.0 / 65536.0;
        for (name, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("head_dropout", self.head_dropout),
        ] {
            check((0.0..=highest).contains(&p), name, format!("a probability in [0, 1), got {p}"))?;
        }
        let eps = self.norm_eps;
        check(eps.is_finite() && eps > 0.0, "norm_eps", format!("must be positive and finite, got {eps}"))?;
        let p = self.mask.probability;
        check(p > 0.0 && p <= 1.0, "mask.probability", format!("must be in (0, 1], got {p}"))?;
        let span = self.mask.span;
        check(
            span <= window,
            "mask.span",
            format!("a span of {span} points is longer than the window {window}"),
        )
    }
}
