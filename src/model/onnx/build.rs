//! The network in ONNX's operators.

use super::proto::{
    AttributeProto, DimensionProto, FLOAT, FLOAT_ATTRIBUTE, GraphProto, INT_ATTRIBUTE, INT64, INTS_ATTRIBUTE,
    NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::error::{Error, Result};
use crate::kernels::pool::DEVIATION_EPS;
use crate::model::{Model, Output};
use crate::nn::{EncoderNorm, ModelConfig, NormOrder, Pooling, Positions};
use heartlore_kernels::activation::Activation;
use heartlore_kernels::embed::sinusoidal_table;

/// Writes nodes in the order in which they are computed; a value is named after what makes it.
pub(super) struct Builder<'a> {
    model: &'a Model,
    config: ModelConfig,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    count: usize,
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(i), r#type: INT_ATTRIBUTE, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: name.into(), ints, r#type: INTS_ATTRIBUTE, ..AttributeProto::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(f), r#type: FLOAT_ATTRIBUTE, ..AttributeProto::default() }
}

/// A value `[batch, ..]`.
fn value(name: &str, rest: &[usize]) -> ValueInfoProto {
    let batch = DimensionProto { dim_param: Some("batch".into()), ..DimensionProto::default() };
    let fixed = rest.iter().map(|n| DimensionProto { dim_value: Some(*n as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a Model) -> Result<Self> {
        let config = model.config().clone();
        Ok(Self { model, config, nodes: Vec::new(), initializers: Vec::new(), count: 0 })
    }

    pub(super) fn graph(mut self, output: Output) -> Result<GraphProto> {
        let c = self.config.clone();
        let x = self.embedding()?;
        let reads = match (output, c.pooling) {
            (Output::Reconstruction, _) | (_, Pooling::Mean | Pooling::Max | Pooling::MeanDeviation) => None,
            (_, Pooling::Cls) => Some(0),
            (_, Pooling::Last) => Some(-1),
        };
        let x = self.transformer(x, reads)?;
        let out = match output {
            Output::Reconstruction => {
                let y = self.linear(&x, "reconstruct.weight", "reconstruct.bias")?;
                let y = if c.cls { self.rows(&y, 1, i64::MAX) } else { y };
                let shape = self.shape(&[-1, c.window as i64]);
                self.named("Reshape", &[&y, &shape], "reconstruction", vec![]);
                value("reconstruction", &[c.window])
            }
            Output::Features => {
                let y = self.pooled(&x);
                self.named("Identity", &[&y], "features", vec![]);
                value("features", &[c.features()])
            }
            Output::Logit => {
                let mut y = self.pooled(&x);
                for i in 0..=c.head_hidden.len() {
                    y = self.linear(&y, &format!("head.{i}.weight"), &format!("head.{i}.bias"))?;
                    if i < c.head_hidden.len() {
                        y = self.add("Relu", &[&y], vec![]);
                    }
                }
                let shape = self.shape(&[-1]);
                let y = self.add("Reshape", &[&y, &shape], vec![]);
                self.named("Sigmoid", &[&y], "probability", vec![]);
                value("probability", &[])
            }
        };
        Ok(GraphProto {
            node: self.nodes,
            name: "heartlore".into(),
            initializer: self.initializers,
            input: vec![value("samples", &[c.window])],
            output: vec![out],
        })
    }

    fn named(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|s| (*s).to_string()).collect(),
            output: vec![output.to_string()],
            name: format!("{op}_{}", self.nodes.len()),
            op_type: op.into(),
            attribute,
        });
    }

    fn fresh(&mut self, op: &str) -> String {
        self.count += 1;
        format!("{}.{}", op.to_lowercase(), self.count)
    }

    fn add(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let output = self.fresh(op);
        self.named(op, inputs, &output, attribute);
        output
    }

    fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = self.fresh("constant");
        self.initializer(&name, dims, values);
        name
    }

    fn initializer(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        self.initializers.push(TensorProto {
            dims: dims.iter().map(|n| *n as i64).collect(),
            data_type: FLOAT,
            name: name.into(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
    }

    fn shape(&mut self, values: &[i64]) -> String {
        let name = self.fresh("shape");
        self.initializers.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: INT64,
            name: name.clone(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
        name
    }

    fn tensor(&self, name: &str) -> Result<(Vec<usize>, &'a [f32])> {
        let model = self.model;
        let found = model.tensors().find(|t| t.name == name).map(|t| (t.shape.to_vec(), t.values));
        found.ok_or_else(|| Error::shape(format!("the model has no parameter {name}")))
    }

    /// A parameter under its own name, written once.
    fn param(&mut self, name: &str) -> Result<String> {
        let (dims, values) = self.tensor(name)?;
        if !self.initializers.iter().any(|t| t.name == name) {
            self.initializer(name, &dims, values);
        }
        Ok(name.to_string())
    }

    /// Rows `first..end` of a weight `[outputs, inputs]`, transposed for `MatMul`.
    fn transposed(&mut self, name: &str, first: usize, end: usize) -> Result<String> {
        let (dims, values) = self.tensor(name)?;
        let [_, inputs] = dims[..] else { return Err(Error::shape(format!("{name} has shape {dims:?}"))) };
        let outputs = end - first;
        let mut turned = vec![0.0; inputs * outputs];
        for o in 0..outputs {
            for i in 0..inputs {
                turned[i * outputs + o] = values[(first + o) * inputs + i];
            }
        }
        Ok(self.constant(&[inputs, outputs], &turned))
    }

    fn project(&mut self, x: &str, weight: &str, bias: &str, first: usize, end: usize) -> Result<String> {
        let w = self.transposed(weight, first, end)?;
        let values = self.tensor(bias)?.1;
        let b = self.constant(&[end - first], &values[first..end]);
        let y = self.add("MatMul", &[x, &w], vec![]);
        Ok(self.add("Add", &[&y, &b], vec![]))
    }

    fn linear(&mut self, x: &str, weight: &str, bias: &str) -> Result<String> {
        let outputs = self.tensor(weight)?.0.first().copied().unwrap_or(0);
        self.project(x, weight, bias, 0, outputs)
    }

    fn norm(&mut self, x: &str, name: &str) -> Result<String> {
        let (gamma, beta) = (self.param(&format!("{name}.weight"))?, self.param(&format!("{name}.bias"))?);
        let attributes = vec![int("axis", -1), float("epsilon", self.config.norm_eps as f32)];
        Ok(self.add("LayerNormalization", &[x, &gamma, &beta], attributes))
    }

    fn activate(&mut self, x: &str, kind: Activation) -> String {
        match kind {
            Activation::Relu => self.add("Relu", &[x], vec![]),
            Activation::Sigmoid => self.add("Sigmoid", &[x], vec![]),
            Activation::Tanh => self.add("Tanh", &[x], vec![]),
            // x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2
            Activation::Gelu => {
                let scaled = self.times(x, std::f32::consts::FRAC_1_SQRT_2);
                let erf = self.add("Erf", &[&scaled], vec![]);
                self.half_of_one_plus(x, &erf)
            }
            // Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
            Activation::GeluTanh => {
                let square = self.add("Mul", &[x, x], vec![]);
                let cube = self.add("Mul", &[&square, x], vec![]);
                let cube = self.times(&cube, 0.044_715);
                let sum = self.add("Add", &[x, &cube], vec![]);
                let sum = self.times(&sum, (2.0 / std::f32::consts::PI).sqrt());
                let tanh = self.add("Tanh", &[&sum], vec![]);
                self.half_of_one_plus(x, &tanh)
            }
        }
    }

    fn times(&mut self, x: &str, factor: f32) -> String {
        let factor = self.constant(&[], &[factor]);
        self.add("Mul", &[x, &factor], vec![])
    }

    /// x (1 + y) / 2
    fn half_of_one_plus(&mut self, x: &str, y: &str) -> String {
        let one = self.constant(&[], &[1.0]);
        let sum = self.add("Add", &[y, &one], vec![]);
        let product = self.add("Mul", &[x, &sum], vec![]);
        self.times(&product, 0.5)
    }

    /// Rows `first..end` of `[batch, rows, cols]`.
    fn rows(&mut self, x: &str, first: i64, end: i64) -> String {
        let (first, end, axis) = (self.shape(&[first]), self.shape(&[end]), self.shape(&[1]));
        self.add("Slice", &[x, &first, &end, &axis], vec![])
    }

    /// Row 0 or -1 as `[batch, 1, cols]`.
    fn row(&mut self, x: &str, row: i64) -> String {
        if row < 0 { self.rows(x, row, i64::MAX) } else { self.rows(x, row, row + 1) }
    }

    /// Samples `[batch, window]` -> `[batch, rows, width]`.
    fn embedding(&mut self) -> Result<String> {
        let c = self.config.clone();
        let axis = self.shape(&[1]);
        let mut x = self.add("Unsqueeze", &["samples", &axis], vec![]);
        for (i, (&kernel, &stride)) in c.kernels.iter().zip(&c.strides).enumerate() {
            let (w, b) = (
                self.param(&format!("encoder.conv.{i}.weight"))?,
                self.param(&format!("encoder.conv.{i}.bias"))?,
            );
            let pad = (kernel / 2) as i64;
            let attributes = vec![
                ints("kernel_shape", &[kernel as i64]),
                ints("strides", &[stride as i64]),
                ints("pads", &[pad, pad]),
            ];
            x = self.add("Conv", &[&x, &w, &b], attributes);
            let normed = match c.encoder_norm {
                EncoderNorm::None => false,
                EncoderNorm::First => i == 0,
                EncoderNorm::Every => true,
            };
            if normed {
                // The norm is over channels, which the library keeps last and ONNX's convolution second.
                let y = self.add("Transpose", &[&x], vec![ints("perm", &[0, 2, 1])]);
                let y = self.norm(&y, &format!("encoder.norm.{i}"))?;
                x = self.add("Transpose", &[&y], vec![ints("perm", &[0, 2, 1])]);
            }
            x = self.add("Relu", &[&x], vec![]);
        }
        x = self.add("Transpose", &[&x], vec![ints("perm", &[0, 2, 1])]);
        if c.cls {
            let values = self.tensor("cls")?.1;
            let cls = self.constant(&[1, 1, c.width()], values);
            let shape = self.add("Shape", &["samples"], vec![int("start", 0), int("end", 1)]);
            let rest = self.shape(&[1, c.width() as i64]);
            let shape = self.add("Concat", &[&shape, &rest], vec![int("axis", 0)]);
            let row = self.add("Expand", &[&cls, &shape], vec![]);
            x = self.add("Concat", &[&row, &x], vec![int("axis", 1)]);
        }
        let table = match c.positions {
            Positions::Sinusoidal => {
                let mut table = vec![0f32; c.rows() * c.width()];
                sinusoidal_table(c.rows(), c.width(), &mut table);
                Some(self.constant(&[c.rows(), c.width()], &table))
            }
            Positions::Learned => Some(self.param("positions")?),
            Positions::None => None,
        };
        if let Some(table) = table {
            x = self.add("Add", &[&x, &table], vec![]);
        }
        if c.embed_norm { self.norm(&x, "embed_norm") } else { Ok(x) }
    }

    /// All layers; `reads` is the one row that is needed of the last, if it is one.
    fn transformer(&mut self, mut x: String, reads: Option<i64>) -> Result<String> {
        let c = self.config.clone();
        for i in 0..c.layers {
            let name = format!("transformer.layers.{i}");
            let last = i + 1 == c.layers;
            let row = reads.filter(|_| last);
            let norm1 = format!("{name}.norm1");
            let norm2 = format!("{name}.norm2");
            x = match c.norm_order {
                NormOrder::Post => {
                    let a = self.attention(&x, &name, row)?;
                    let x = row.map_or(x.clone(), |row| self.row(&x, row));
                    let y = self.add("Add", &[&x, &a], vec![]);
                    let y = self.norm(&y, &norm1)?;
                    let f = self.feed_forward(&y, &name)?;
                    let y = self.add("Add", &[&y, &f], vec![]);
                    self.norm(&y, &norm2)?
                }
                NormOrder::Pre => {
                    let h = self.norm(&x, &norm1)?;
                    let a = self.attention(&h, &name, row)?;
                    let x = row.map_or(x.clone(), |row| self.row(&x, row));
                    let y = self.add("Add", &[&x, &a], vec![]);
                    let h = self.norm(&y, &norm2)?;
                    let f = self.feed_forward(&h, &name)?;
                    let y = self.add("Add", &[&y, &f], vec![]);
                    if last { self.norm(&y, "transformer.norm")? } else { y }
                }
            };
        }
        // Without a layer nothing has chosen the row yet.
        match reads {
            Some(row) if c.layers == 0 => Ok(self.row(&x, row)),
            _ => Ok(x),
        }
    }

    fn feed_forward(&mut self, x: &str, name: &str) -> Result<String> {
        let h = self.linear(x, &format!("{name}.linear1.weight"), &format!("{name}.linear1.bias"))?;
        let h = self.activate(&h, self.config.activation);
        self.linear(&h, &format!("{name}.linear2.weight"), &format!("{name}.linear2.bias"))
    }

    /// Self-attention with the queries of all rows, or of one.
    fn attention(&mut self, x: &str, name: &str, row: Option<i64>) -> Result<String> {
        let (d, heads) = (self.config.width(), self.config.heads);
        let head_dim = d / heads;
        let weight = format!("{name}.self_attn.in_proj_weight");
        let bias = format!("{name}.self_attn.in_proj_bias");
        let asking = match row {
            Some(row) => self.row(x, row),
            None => x.to_string(),
        };
        let q = self.project(&asking, &weight, &bias, 0, d)?;
        let k = self.project(x, &weight, &bias, d, 2 * d)?;
        let v = self.project(x, &weight, &bias, 2 * d, 3 * d)?;
        let q = self.times(&q, 1.0 / (head_dim as f32).sqrt());
        let split = self.shape(&[0, 0, heads as i64, head_dim as i64]);
        let by_head = |b: &mut Self, y: &str, perm: &[i64]| {
            let y = b.add("Reshape", &[y, &split], vec![]);
            b.add("Transpose", &[&y], vec![ints("perm", perm)])
        };
        let q = by_head(self, &q, &[0, 2, 1, 3]);
        let k = by_head(self, &k, &[0, 2, 3, 1]);
        let v = by_head(self, &v, &[0, 2, 1, 3]);
        let scores = self.add("MatMul", &[&q, &k], vec![]);
        let weights = self.add("Softmax", &[&scores], vec![int("axis", -1)]);
        let y = self.add("MatMul", &[&weights, &v], vec![]);
        let y = self.add("Transpose", &[&y], vec![ints("perm", &[0, 2, 1, 3])]);
        let joined = self.shape(&[0, 0, d as i64]);
        let y = self.add("Reshape", &[&y, &joined], vec![]);
        self.linear(
            &y,
            &format!("{name}.self_attn.out_proj.weight"),
            &format!("{name}.self_attn.out_proj.bias"),
        )
    }

    /// `[batch, rows, width]` -> `[batch, features]`.
    fn pooled(&mut self, x: &str) -> String {
        match self.config.pooling {
            Pooling::Mean => self.add("ReduceMean", &[x], vec![ints("axes", &[1]), int("keepdims", 0)]),
            Pooling::Max => self.add("ReduceMax", &[x], vec![ints("axes", &[1]), int("keepdims", 0)]),
            Pooling::MeanDeviation => {
                let over_rows = |keep: i64| vec![ints("axes", &[1]), int("keepdims", keep)];
                let mean = self.add("ReduceMean", &[x], over_rows(1));
                let from_mean = self.add("Sub", &[x, &mean], vec![]);
                let square = self.add("Mul", &[&from_mean, &from_mean], vec![]);
                let variance = self.add("ReduceMean", &[&square], over_rows(0));
                let eps = self.constant(&[1], &[DEVIATION_EPS as f32]);
                let variance = self.add("Add", &[&variance, &eps], vec![]);
                let deviation = self.add("Sqrt", &[&variance], vec![]);
                let mean = self.add("ReduceMean", &[x], over_rows(0));
                self.add("Concat", &[&mean, &deviation], vec![int("axis", 1)])
            }
            // One row is left.
            Pooling::Cls | Pooling::Last => {
                let shape = self.shape(&[-1, self.config.width() as i64]);
                self.add("Reshape", &[x, &shape], vec![])
            }
        }
    }
}
