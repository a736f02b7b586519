//! The programs: pre-training, classification, reconstruction of every point, embedding.

use super::config::{ModelConfig, Pooling};
use super::encoder::{dropout, embedding, linear_params};
use super::transformer::{Rows, transformer};
use crate::error::{Error, Result};
use crate::graph::{AttentionSpec, Columns, Graph, Id, Layout};
use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::pool::Pool;
use std::fmt::Write as _;
use std::sync::Arc;

/// The pre-training program: predicts the samples of chosen rows; see [`pretrain`].
#[derive(Clone, Debug)]
pub struct Pretrain {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`: the windows with masked points set to 0.
    pub samples: Id,
    /// Index `[batch, picks]`: rows to predict, counted with the CLS row. To fill up, repeat any row and mask it out.
    pub rows: Id,
    /// `[batch, picks, patch]`: the true samples of each chosen row's patch.
    pub target: Id,
    /// `[batch, picks, patch]`: 1 where the point was masked, else 0.
    pub mask: Id,
    /// `[batch, picks, patch]`: the predicted samples.
    pub prediction: Id,
    /// Scalar: squared errors summed over the masked points. Divide by their number in the whole batch for the mean.
    pub loss: Id,
}

/// The classification program; see [`classify`].
#[derive(Clone, Debug)]
pub struct Classify {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`.
    pub samples: Id,
    /// `[batch]`: 1 for the positive class, 0 for the negative.
    pub targets: Id,
    /// `[batch]`: weight of each window in the loss; 0 for padding.
    pub weights: Id,
    /// `[batch]`: log odds of the positive class.
    pub logits: Id,
    /// Scalar: weighted sum of binary cross-entropies.
    pub loss: Id,
}

/// The reconstruction program; see [`reconstruct`].
#[derive(Clone, Debug)]
pub struct Reconstruct {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`.
    pub samples: Id,
    /// `[batch, window]`: the predicted samples.
    pub output: Id,
}

/// The embedding program; see [`embed`].
#[derive(Clone, Debug)]
pub struct Embed {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`.
    pub samples: Id,
    /// `[batch, features]`: see [`ModelConfig::features`].
    pub features: Id,
}

/// Records pre-training for `batch` windows of which `picks` rows each reach the loss.
///
/// # Errors
/// If the configuration is not valid, `batch` is 0, or `picks` is not in 1..=tokens.
pub fn pretrain(c: &ModelConfig, batch: usize, picks: usize) -> Result<Pretrain> {
    record_pretrain(c, batch, picks, false)
}

/// As [`pretrain`], computing every row of the last layer and choosing at the end.
///
/// # Errors
/// As [`pretrain`].
pub fn pretrain_full(c: &ModelConfig, batch: usize, picks: usize) -> Result<Pretrain> {
    record_pretrain(c, batch, picks, true)
}

/// Records classification of `batch` windows, positives weighted by `pos_weight` in the loss.
///
/// # Errors
/// If the configuration is not valid, `batch` is 0, or `pos_weight` is not positive and finite.
pub fn classify(c: &ModelConfig, batch: usize, pos_weight: f64) -> Result<Classify> {
    record_classify(c, batch, pos_weight, false)
}

/// As [`classify`], computing every row of the last layer and choosing at the end.
///
/// # Errors
/// As [`classify`].
pub fn classify_full(c: &ModelConfig, batch: usize, pos_weight: f64) -> Result<Classify> {
    record_classify(c, batch, pos_weight, true)
}

/// The program of a head that reads an input in place of the pooled features; see [`classify_read`].
#[derive(Clone, Debug)]
pub struct ClassifyRead {
    /// The program.
    pub graph: Arc<Graph>,
    /// `[batch, window, 1]`.
    pub samples: Id,
    /// `[batch, features]`: what [`embed`] gives.
    pub features: Id,
    /// `[batch, inputs]`: what the head reads, made from the features, heart rate and reference.
    pub read: Id,
    /// `[batch]`: log odds of the positive class, read W + b.
    pub logits: Id,
}

/// Records the embedding of `batch` windows and, apart from it, a linear head on an input of `inputs` values per window:
/// between them lies what no program of one window knows (the person's reference, the windows before).
///
/// # Errors
/// If the configuration is not valid, or `batch` or `inputs` is 0.
pub fn classify_read(c: &ModelConfig, batch: usize, inputs: usize) -> Result<ClassifyRead> {
    let (mut g, samples) = start(c, batch)?;
    if inputs == 0 {
        return Err(Error::usage("a head needs something to read"));
    }
    let features = features(&mut g, c, samples, false)?;
    let read = g.input("read", [batch, inputs])?;
    g.scope("head.0");
    let (w, b) = linear_params(&mut g, "head.0", 1, inputs)?;
    let y = g.linear(read, w, Some(b), None)?;
    let logits = g.reshape(y, [batch])?;
    Ok(ClassifyRead { graph: Arc::new(g), samples, features, read, logits })
}

/// Records the embedding of `batch` windows: the vector the classification head would read.
///
/// # Errors
/// If the configuration is not valid or `batch` is 0.
pub fn embed(c: &ModelConfig, batch: usize) -> Result<Embed> {
    record_embed(c, batch, false)
}

/// As [`embed`], computing every row of the last layer and choosing at the end.
///
/// # Errors
/// As [`embed`].
pub fn embed_full(c: &ModelConfig, batch: usize) -> Result<Embed> {
    record_embed(c, batch, true)
}

/// Records the prediction of every point of `batch` windows: [`pretrain`] without choosing rows and without loss.
///
/// # Errors
/// If the configuration is not valid or `batch` is 0.
pub fn reconstruct(c: &ModelConfig, batch: usize) -> Result<Reconstruct> {
    let (mut g, samples) = start(c, batch)?;
    let x = embedding(&mut g, c, samples)?;
    let x = transformer(&mut g, c, x, Rows::All, true)?;
    let x = reconstruction_head(&mut g, c, x)?;
    let x = if c.cls { without_first_row(&mut g, x)? } else { x };
    let output = g.reshape(x, [batch, c.window])?;
    Ok(Reconstruct { graph: Arc::new(g), samples, output })
}

/// The parameters as lines of name, shape, elements and initialisation, with their sum: for people and for `--help`.
pub fn parameter_table(layout: &Layout) -> String {
    let width = layout.entries().iter().map(|e| e.name.len()).max().unwrap_or(0).max("total".len());
    let mut table = String::new();
    for e in layout.entries() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:width$}  {:>16}  {:>9}  {:?}",
            e.name,
            e.shape.to_string(),
            e.shape.elements(),
            e.init
        );
    }
    let _ = writeln!(table, "{:width$}  {:>16}  {:>9}", "total", "", layout.len());
    table
}

/// A program with its first input, after checking the configuration.
pub(super) fn start(c: &ModelConfig, batch: usize) -> Result<(Graph, Id)> {
    c.validate()?;
    if batch == 0 {
        return Err(Error::usage("a program needs at least one window per batch"));
    }
    let mut g = Graph::new();
    let samples = g.input("samples", [batch, c.window, 1])?;
    Ok((g, samples))
}

fn record_pretrain(c: &ModelConfig, batch: usize, picks: usize, full: bool) -> Result<Pretrain> {
    let (mut g, samples) = start(c, batch)?;
    if picks == 0 || picks > c.tokens() {
        return Err(Error::usage(format!(
            "{picks} rows per window reach the loss, of {} tokens",
            c.tokens()
        ))
        .remedy(format!("choose 1 to {} rows", c.tokens())));
    }
    let shape = [batch, picks, c.patch()];
    let rows = g.index("rows", [batch, picks], c.rows())?;
    let target = g.input("target", shape)?;
    let mask = g.input("mask", shape)?;
    let x = embedding(&mut g, c, samples)?;
    let x = transformer(&mut g, c, x, Rows::Picks(rows), full)?;
    let prediction = reconstruction_head(&mut g, c, x)?;
    let loss = g.masked_mse(prediction, target, Some(mask), Reduction::Sum)?;
    Ok(Pretrain { graph: Arc::new(g), samples, rows, target, mask, prediction, loss })
}

/// x `[batch, rows, width]` -> `[batch, rows, patch]`.
fn reconstruction_head(g: &mut Graph, c: &ModelConfig, x: Id) -> Result<Id> {
    g.scope("reconstruct");
    let (w, b) = linear_params(g, "reconstruct", c.patch(), c.width())?;
    g.linear(x, w, Some(b), None)
}

fn record_classify(c: &ModelConfig, batch: usize, pos_weight: f64, full: bool) -> Result<Classify> {
    let (mut g, samples) = start(c, batch)?;
    let targets = g.input("targets", [batch])?;
    let weights = g.input("weights", [batch])?;
    let mut x = features(&mut g, c, samples, full)?;
    let mut inputs = c.features();
    for (i, &outputs) in c.head_hidden.iter().chain(&[1]).enumerate() {
        g.scope(format!("head.{i}"));
        let hidden = i < c.head_hidden.len();
        let (w, b) = linear_params(&mut g, &format!("head.{i}"), outputs, inputs)?;
        x = g.linear(x, w, Some(b), hidden.then_some(Activation::Relu))?;
        if hidden {
            x = dropout(&mut g, x, c.head_dropout)?;
        }
        inputs = outputs;
    }
    let logits = g.reshape(x, [batch])?;
    let loss = g.bce_logits(logits, targets, Some(weights), pos_weight, Reduction::Sum)?;
    Ok(Classify { graph: Arc::new(g), samples, targets, weights, logits, loss })
}

fn record_embed(c: &ModelConfig, batch: usize, full: bool) -> Result<Embed> {
    let (mut g, samples) = start(c, batch)?;
    let features = features(&mut g, c, samples, full)?;
    Ok(Embed { graph: Arc::new(g), samples, features })
}

/// The whole body and the pooling: samples `[batch, window, 1]` -> `[batch, features]`.
fn features(g: &mut Graph, c: &ModelConfig, samples: Id, full: bool) -> Result<Id> {
    let x = embedding(g, c, samples)?;
    let rows = match c.pooling {
        Pooling::Cls => Rows::First,
        Pooling::Last => Rows::Last,
        Pooling::Mean | Pooling::Max | Pooling::MeanDeviation => Rows::All,
    };
    let x = transformer(g, c, x, rows, full)?;
    g.scope("pooling");
    match c.pooling {
        // One row is left: drop the dimension.
        Pooling::Cls | Pooling::Last => {
            let (batch, width) = (g.shape(x).dims()[0], g.shape(x).last());
            g.reshape(x, [batch, width])
        }
        Pooling::Mean => g.pool(x, Pool::Mean),
        Pooling::Max => g.pool(x, Pool::Max),
        Pooling::MeanDeviation => g.pool(x, Pool::MeanDeviation),
    }
}

/// x `[batch, rows, cols]` -> `[batch, 1, (rows - 1) cols]`: everything but the first row.
///
/// Attention reads its values as a block of columns, and with a single key its weights are exactly 1: one query and one
/// key per window, whose value is the row of all numbers from column `cols` on, is a slice.
fn without_first_row(g: &mut Graph, x: Id) -> Result<Id> {
    let shape = g.shape(x).clone();
    let (batch, cols) = (shape.dims()[0], shape.last());
    let total = shape.elements() / batch;
    g.scope("without first row");
    let flat = g.reshape(x, [batch, 1, total])?;
    let rest = Columns { id: flat, offset: cols };
    let spec = AttentionSpec { heads: 1, head_dim: total - cols, dropout: 0.0 };
    g.attention(flat, flat, rest, None, spec)
}
