//! The model in candle. What a user who reads its sources would do for speed:
//!
//! * training pads before each convolution: the derivative of a convolution with its own padding takes a slow loop where
//!   that of one without becomes a matrix product;
//! * training convolves window by window: the derivative of a batch's convolution by its kernel is wrong on the CPU (a copy
//!   of the transposed gradient is made and not used: candle's pull request 3836, open with 0.11.1), that of one window
//!   needs no copy. The products are as large per window either way;
//! * training composes layer norm and softmax: the fused ones of `candle_nn::ops` have no derivative (and say nothing: the
//!   parameters behind them get no gradient). The maximum in the softmax is detached, its derivative being zero;
//! * inference uses the fused ones.

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, ops};

use crate::{CONVOLUTIONS, Call, EPS, HEADS, HIDDEN, LAYERS, RATE, Result, Task, WIDTH, WINDOW, positions};

type Tensors = candle_core::Result<Tensor>;

struct Norm(Tensor, Tensor);

struct Block {
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    norm1: Norm,
    norm2: Norm,
}

struct Model {
    convolutions: Vec<(Tensor, Tensor)>,
    conv_norm: Norm,
    cls: Tensor,
    positions: Tensor,
    embed_norm: Norm,
    blocks: Vec<Block>,
    head: Vec<Linear>,
    reconstructs: bool,
    pruned: bool,
    training: bool,
    dropout: f32,
    attention_dropout: f32,
    head_dropout: f32,
}

/// Makes parameters, and keeps them for the optimiser.
struct Maker<'a> {
    task: &'a Task,
    vars: Vec<Var>,
}

impl Maker<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let var = Var::from_vec(self.task.weights.get(name, shape)?, shape, &Device::Cpu)?;
        let tensor = if self.task.job.trains() { var.as_tensor().clone() } else { var.as_detached_tensor() };
        self.vars.push(var);
        Ok(tensor)
    }
    fn pair(&mut self, name: &str, shape: &[usize]) -> Result<(Tensor, Tensor)> {
        Ok((self.get(&format!("{name}.weight"), shape)?, self.get(&format!("{name}.bias"), &shape[..1])?))
    }
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let (w, b) = self.pair(name, &[outputs, inputs])?;
        Ok(Linear::new(w, Some(b)))
    }
    fn norm(&mut self, name: &str, width: usize) -> Result<Norm> {
        let (w, b) = self.pair(name, &[width])?;
        Ok(Norm(w, b))
    }
}

impl Model {
    fn new(m: &mut Maker<'_>) -> Result<Self> {
        let task = m.task;
        let mut convolutions = Vec::new();
        for (i, (inputs, outputs, width)) in CONVOLUTIONS.into_iter().enumerate() {
            convolutions.push(m.pair(&format!("encoder.conv.{i}"), &[outputs, inputs, width])?);
        }
        let mut blocks = Vec::new();
        for i in 0..LAYERS {
            let layer = format!("transformer.layers.{i}");
            blocks.push(Block {
                qkv: Linear::new(
                    m.get(&format!("{layer}.self_attn.in_proj_weight"), &[3 * WIDTH, WIDTH])?,
                    Some(m.get(&format!("{layer}.self_attn.in_proj_bias"), &[3 * WIDTH])?),
                ),
                out: m.linear(&format!("{layer}.self_attn.out_proj"), WIDTH, WIDTH)?,
                up: m.linear(&format!("{layer}.linear1"), WIDTH, HIDDEN)?,
                down: m.linear(&format!("{layer}.linear2"), HIDDEN, WIDTH)?,
                norm1: m.norm(&format!("{layer}.norm1"), WIDTH)?,
                norm2: m.norm(&format!("{layer}.norm2"), WIDTH)?,
            });
        }
        Ok(Self {
            convolutions,
            conv_norm: m.norm("encoder.norm.0", 64)?,
            cls: m.get("cls", &[WIDTH])?,
            positions: Tensor::from_vec(positions(), (WINDOW + 1, WIDTH), &Device::Cpu)?,
            embed_norm: m.norm("embed_norm", WIDTH)?,
            blocks,
            head: if task.job.reconstructs() {
                vec![m.linear("reconstruct", WIDTH, 1)?]
            } else {
                vec![
                    m.linear("head.0", WIDTH, 1024)?,
                    m.linear("head.1", 1024, 512)?,
                    m.linear("head.2", 512, 1)?,
                ]
            },
            reconstructs: task.job.reconstructs(),
            pruned: task.pruned,
            training: task.job.trains(),
            dropout: task.dropout as f32,
            attention_dropout: task.attention_dropout as f32,
            head_dropout: task.head_dropout as f32,
        })
    }

    fn drop(&self, x: Tensor, p: f32) -> Tensors {
        if self.training && p > 0.0 { ops::dropout(&x, p) } else { Ok(x) }
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Tensors {
        let eps = EPS as f32;
        if self.training {
            ops::layer_norm_slow(x, &norm.0, &norm.1, eps)
        } else {
            ops::layer_norm(&x.contiguous()?, &norm.0, &norm.1, eps)
        }
    }

    fn conv(&self, x: &Tensor, w: &Tensor, b: &Tensor) -> Tensors {
        let pad = w.dim(2)? / 2;
        let y = if self.training {
            let x = x.pad_with_zeros(2, pad, pad)?;
            let convolved = |i| x.narrow(0, i, 1)?.conv1d(w, 0, 1, 1, 1);
            Tensor::cat(&(0..x.dim(0)?).map(convolved).collect::<candle_core::Result<Vec<_>>>()?, 0)?
        } else {
            x.conv1d(w, pad, 1, 1, 1)?
        };
        y.broadcast_add(&b.reshape((1, (), 1))?)
    }

    /// `[batch, rows, WIDTH]` of each of q, k, v to `[batch, HEADS, rows, WIDTH / HEADS]`.
    fn split(x: &Tensor) -> Tensors {
        let (batch, rows, _) = x.dims3()?;
        x.reshape((batch, rows, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous()
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensors {
        let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
        let scores = (q * scale)?.matmul(&k.t()?)?;
        let weights = if self.training {
            let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
            let weights = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
            self.drop(weights, self.attention_dropout)?
        } else {
            ops::softmax_last_dim(&scores)?
        };
        weights.matmul(v)
    }

    fn block(&self, b: &Block, x: Tensor, first_row_only: bool) -> Tensors {
        let (q, k, v, x) = if first_row_only {
            let (w, bias) = (b.qkv.weight(), b.qkv.bias().expect("it was made with one"));
            let part = |from: usize, n: usize| -> candle_core::Result<Linear> {
                Ok(Linear::new(w.narrow(0, from, n)?, Some(bias.narrow(0, from, n)?)))
            };
            let kv = part(WIDTH, 2 * WIDTH)?.forward(&x)?;
            let x = x.narrow(1, 0, 1)?.contiguous()?;
            let q = part(0, WIDTH)?.forward(&x)?;
            (q, kv.narrow(2, 0, WIDTH)?, kv.narrow(2, WIDTH, WIDTH)?, x)
        } else {
            let qkv = b.qkv.forward(&x)?;
            (qkv.narrow(2, 0, WIDTH)?, qkv.narrow(2, WIDTH, WIDTH)?, qkv.narrow(2, 2 * WIDTH, WIDTH)?, x)
        };
        let a = self.attention(&Self::split(&q)?, &Self::split(&k)?, &Self::split(&v)?)?;
        let a = b.out.forward(&a.transpose(1, 2)?.flatten_from(2)?)?;
        let x = self.norm(&(x + self.drop(a, self.dropout)?)?, &b.norm1)?;
        let h = self.drop(b.up.forward(&x)?.relu()?, self.dropout)?;
        let h = self.drop(b.down.forward(&h)?, self.dropout)?;
        self.norm(&(x + h)?, &b.norm2)
    }

    /// `[batch, WINDOW]` to `[batch, WINDOW]` or `[batch]`.
    fn forward(&self, x: &Tensor) -> Tensors {
        let mut x = x.unsqueeze(1)?;
        for (i, (w, b)) in self.convolutions.iter().enumerate() {
            x = self.conv(&x, w, b)?;
            if i == 0 {
                x = self.norm(&x.transpose(1, 2)?, &self.conv_norm)?.transpose(1, 2)?;
            }
            x = x.relu()?;
        }
        let batch = x.dim(0)?;
        let cls = self.cls.reshape((1, 1, WIDTH))?.broadcast_as((batch, 1, WIDTH))?;
        let x = Tensor::cat(&[&cls, &x.transpose(1, 2)?], 1)?.broadcast_add(&self.positions)?;
        let mut x = self.drop(self.norm(&x, &self.embed_norm)?, self.dropout)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = self.block(block, x, self.pruned && i + 1 == LAYERS)?;
        }
        if self.reconstructs {
            return self.head[0].forward(&x.narrow(1, 1, WINDOW)?.contiguous()?)?.squeeze(2);
        }
        let mut x = x.narrow(1, 0, 1)?.squeeze(1)?;
        for (i, layer) in self.head.iter().enumerate() {
            x = layer.forward(&x)?;
            if i + 1 < self.head.len() {
                x = self.drop(x.relu()?, self.head_dropout)?;
            }
        }
        x.squeeze(1)
    }
}

/// The job as a function to call repeatedly.
pub fn prepare(task: &Task) -> Result<Call> {
    let mut maker = Maker { task, vars: Vec::new() };
    let model = Model::new(&mut maker)?;
    let vars = maker.vars;
    let x = Tensor::from_slice(&task.x, (task.batch, WINDOW), &Device::Cpu)?;
    if !task.job.trains() {
        return Ok(Box::new(move || Ok(model.forward(&x)?.flatten_all()?.to_vec1()?)));
    }
    // Without decay AdamW is Adam.
    let params = ParamsAdamW { lr: RATE, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(vars.clone(), params)?;
    let mask = Tensor::from_vec(task.mask(), (task.batch, WINDOW), &Device::Cpu)?;
    let labels = Tensor::from_vec(task.labels(), task.batch, &Device::Cpu)?;
    let hidden = (&x * (1.0 - &mask)?)?;
    let hidden_points = mask.sum_all()?;
    let reconstructs = task.job.reconstructs();
    Ok(Box::new(move || {
        let loss = if reconstructs {
            let y = model.forward(&hidden)?;
            ((&y - &x)?.sqr()? * &mask)?.sum_all()?.div(&hidden_points)?
        } else {
            candle_nn::loss::binary_cross_entropy_with_logit(&model.forward(&x)?, &labels)?
        };
        let gradients = loss.backward()?;
        if let Some(i) = vars.iter().position(|v| gradients.get(v).is_none()) {
            return Err(format!("parameter {i} has no gradient").into());
        }
        adam.step(&gradients)?;
        Ok(vec![loss.to_scalar()?])
    }))
}
