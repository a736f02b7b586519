//! The model in burn, on its pure-Rust CPU backend (`burn-flex`). Without dropout on the attention weights it calls
//! burn's own attention, which is tiled in inference; with it, burn has no fused form.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::loss::BinaryCrossEntropyLossConfig;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::{attention, linear};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{CONVOLUTIONS, Call, EPS, HEADS, HIDDEN, LAYERS, RATE, Result, Task, WIDTH, WINDOW, positions};

#[derive(Module, Debug)]
struct Block {
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    norm1: LayerNorm,
    norm2: LayerNorm,
    dropout: Dropout,
    attention_dropout: Dropout,
}

#[derive(Module, Debug)]
struct Model {
    convolutions: Vec<Conv1d>,
    conv_norm: LayerNorm,
    cls: Param<Tensor<1>>,
    positions: Tensor<2>,
    embed_norm: LayerNorm,
    blocks: Vec<Block>,
    head: Vec<Linear>,
    dropout: Dropout,
    head_dropout: Dropout,
    reconstructs: bool,
    pruned: bool,
}

struct Maker<'a> {
    task: &'a Task,
    device: &'a Device,
}

impl Maker<'_> {
    fn get<const N: usize>(&self, name: &str, shape: [usize; N]) -> Result<Tensor<N>> {
        let values = self.task.weights.get(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
    fn linear_of(&self, weight: &str, bias: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let mut made = LinearConfig::new(inputs, outputs).init(self.device);
        // burn keeps [inputs, outputs]; a copy, so that the layout is plain.
        let w: Tensor<2> = self.get(weight, [outputs, inputs])?;
        made.weight = Param::from_tensor(Tensor::from_data(w.transpose().into_data(), self.device));
        made.bias = Some(Param::from_tensor(self.get(bias, [outputs])?));
        Ok(made)
    }
    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        self.linear_of(&format!("{name}.weight"), &format!("{name}.bias"), inputs, outputs)
    }
    fn norm(&self, name: &str, width: usize) -> Result<LayerNorm> {
        let mut made = LayerNormConfig::new(width).with_epsilon(EPS).init(self.device);
        made.gamma = Param::from_tensor(self.get(&format!("{name}.weight"), [width])?);
        made.beta = Some(Param::from_tensor(self.get(&format!("{name}.bias"), [width])?));
        Ok(made)
    }
}

fn split(x: Tensor<3>) -> Tensor<4> {
    let [batch, rows, _] = x.dims();
    x.reshape([batch, rows, HEADS, WIDTH / HEADS]).swap_dims(1, 2)
}

impl Block {
    fn attention(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
        if self.attention_dropout.prob == 0.0 || !q.device().is_autodiff() {
            return attention(q, k, v, None, None, Default::default());
        }
        let scores = (q / ((WIDTH / HEADS) as f32).sqrt()).matmul(k.transpose());
        self.attention_dropout.forward(softmax(scores, 3)).matmul(v)
    }

    fn forward(&self, x: Tensor<3>, first_row_only: bool) -> Tensor<3> {
        let [batch, rows, _] = x.dims();
        let (q, k, v, x) = if first_row_only {
            let (w, b) = (self.qkv.weight.val(), self.qkv.bias.as_ref().expect("it was made with one").val());
            let all = 0..WIDTH;
            let kv = linear(
                x.clone(),
                w.clone().slice([all.clone(), WIDTH..3 * WIDTH]),
                Some(b.clone().slice([WIDTH..3 * WIDTH])),
            );
            let x = x.slice([0..batch, 0..1, all.clone()]);
            let q = linear(x.clone(), w.slice([all.clone(), all.clone()]), Some(b.slice([all])));
            let mut parts = kv.chunk(2, 2).into_iter();
            let mut next = || parts.next().expect("two parts");
            (q, next(), next(), x)
        } else {
            let mut parts = self.qkv.forward(x.clone()).chunk(3, 2).into_iter();
            let mut next = || parts.next().expect("three parts");
            (next(), next(), next(), x)
        };
        let rows = if first_row_only { 1 } else { rows };
        let a = self.attention(split(q), split(k), split(v)).swap_dims(1, 2).reshape([batch, rows, WIDTH]);
        let x = self.norm1.forward(x + self.dropout.forward(self.out.forward(a)));
        let h = self.dropout.forward(relu(self.up.forward(x.clone())));
        let h = self.dropout.forward(self.down.forward(h));
        self.norm2.forward(x + h)
    }
}

impl Model {
    fn new(m: &Maker<'_>) -> Result<Self> {
        let task = m.task;
        let mut convolutions = Vec::new();
        for (i, (inputs, outputs, width)) in CONVOLUTIONS.into_iter().enumerate() {
            let padding = PaddingConfig1d::Explicit(width / 2, width / 2);
            let mut made = Conv1dConfig::new(inputs, outputs, width).with_padding(padding).init(m.device);
            made.weight =
                Param::from_tensor(m.get(&format!("encoder.conv.{i}.weight"), [outputs, inputs, width])?);
            made.bias = Some(Param::from_tensor(m.get(&format!("encoder.conv.{i}.bias"), [outputs])?));
            convolutions.push(made);
        }
        let dropout = |p: f64| DropoutConfig::new(p).init();
        let mut blocks = Vec::new();
        for i in 0..LAYERS {
            let layer = format!("transformer.layers.{i}");
            let projection = format!("{layer}.self_attn.in_proj");
            blocks.push(Block {
                qkv: m.linear_of(
                    &format!("{projection}_weight"),
                    &format!("{projection}_bias"),
                    WIDTH,
                    3 * WIDTH,
                )?,
                out: m.linear(&format!("{layer}.self_attn.out_proj"), WIDTH, WIDTH)?,
                up: m.linear(&format!("{layer}.linear1"), WIDTH, HIDDEN)?,
                down: m.linear(&format!("{layer}.linear2"), HIDDEN, WIDTH)?,
                norm1: m.norm(&format!("{layer}.norm1"), WIDTH)?,
                norm2: m.norm(&format!("{layer}.norm2"), WIDTH)?,
                dropout: dropout(task.dropout),
                attention_dropout: dropout(task.attention_dropout),
            });
        }
        Ok(Self {
            convolutions,
            conv_norm: m.norm("encoder.norm.0", 64)?,
            cls: Param::from_tensor(m.get("cls", [WIDTH])?),
            positions: Tensor::from_data(TensorData::new(positions(), [WINDOW + 1, WIDTH]), m.device),
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
            dropout: dropout(task.dropout),
            head_dropout: dropout(task.head_dropout),
            reconstructs: task.job.reconstructs(),
            pruned: task.pruned,
        })
    }

    /// `[batch, WINDOW]` to `[batch, WINDOW]` or `[batch, 1]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [batch, _] = x.dims();
        let mut x: Tensor<3> = x.unsqueeze_dim(1);
        for (i, conv) in self.convolutions.iter().enumerate() {
            x = conv.forward(x);
            if i == 0 {
                x = self.conv_norm.forward(x.swap_dims(1, 2)).swap_dims(1, 2);
            }
            x = relu(x);
        }
        let cls: Tensor<3> = self.cls.val().reshape([1, 1, WIDTH]).expand([batch, 1, WIDTH]);
        let x = Tensor::cat(vec![cls, x.swap_dims(1, 2)], 1) + self.positions.clone().unsqueeze::<3>();
        let mut x = self.dropout.forward(self.embed_norm.forward(x));
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, self.pruned && i + 1 == LAYERS);
        }
        if self.reconstructs {
            return self.head[0].forward(x.slice([0..batch, 1..WINDOW + 1, 0..WIDTH])).squeeze_dim(2);
        }
        let mut x: Tensor<2> = x.slice([0..batch, 0..1, 0..WIDTH]).squeeze_dim(1);
        for (i, layer) in self.head.iter().enumerate() {
            x = layer.forward(x);
            if i + 1 < self.head.len() {
                x = self.head_dropout.forward(relu(x));
            }
        }
        x
    }
}

fn numbers<const N: usize>(x: Tensor<N>) -> Result<Vec<f32>> {
    x.into_data().try_to_vec::<f32>().map_err(|e| format!("{e:?}").into())
}

/// The job as a function to call repeatedly.
pub fn prepare(task: &Task) -> Result<Call> {
    let device = if task.job.trains() { Device::flex().autodiff() } else { Device::flex() };
    let model = Model::new(&Maker { task, device: &device })?;
    let windows = |values: Vec<f32>| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [task.batch, WINDOW]), &device)
    };
    let x = windows(task.x.clone());
    if !task.job.trains() {
        return Ok(Box::new(move || numbers(model.forward(x.clone()))));
    }
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let mask = windows(task.mask());
    let hidden = x.clone() * (-mask.clone() + 1.0);
    let hidden_points = task.mask().iter().sum::<f32>();
    let labels: Tensor<1, Int> = Tensor::from_data(
        TensorData::new(task.labels().into_iter().map(|l| l as i64).collect(), [task.batch]),
        &device,
    );
    let entropy = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&device);
    let reconstructs = task.job.reconstructs();
    let mut model = Some(model);
    Ok(Box::new(move || {
        let trained = model.take().ok_or("an earlier step failed")?;
        let loss = if reconstructs {
            let difference = trained.forward(hidden.clone()) - x.clone();
            (difference.clone() * difference * mask.clone()).sum() / hidden_points
        } else {
            entropy.forward(trained.forward(x.clone()).squeeze_dim(1), labels.clone())
        };
        let gradients = GradientsParams::from_grads(loss.backward(), &trained);
        model = Some(adam.step(RATE, trained, gradients));
        numbers(loss)
    }))
}
