//! 1-D convolution, channels last, with optional activation.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Packing, Reads, Rules, Shapes, Site,
    Team, scratch,
};
use crate::graph::parts::Cuts;
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::{Isa, Real, conv1d};

const NAME: &str = "conv1d";

/// Settings of [`Graph::conv1d`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv1dSpec {
    /// Step between outputs.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Activation in the same pass.
    pub act: Option<Activation>,
}

impl Default for Conv1dSpec {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, act: None }
    }
}

/// 1-D convolution, channels last, with optional activation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Conv1d {
    /// `[batch, length, in_channels]`
    pub x: Id,
    /// `[out_channels, in_channels, kernel]`
    pub w: Id,
    /// `[out_channels]`
    pub b: Option<Id>,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Activation in the same pass.
    pub act: Option<Activation>,
}

impl Conv1d {
    fn dims(&self, s: Shapes<'_>) -> conv1d::Dims {
        let ([batch, length, in_channels], [out_channels, _, kernel]) = (s.rank3(self.x), s.rank3(self.w));
        let Self { stride, padding, dilation, .. } = *self;
        conv1d::Dims { batch, length, in_channels, out_channels, kernel, stride, padding, dilation }
    }
}

impl Graph {
    /// 1-D convolution, channels last: x `[batch, length, in]`, w `[out, in, kernel]`, b `[out]` ->
    /// `[batch, (length + 2 padding - dilation (kernel - 1) - 1) / stride + 1, out]`.
    ///
    /// # Errors
    /// If the shapes do not fit or no output remains.
    pub fn conv1d(&mut self, x: Id, w: Id, b: Option<Id>, spec: Conv1dSpec) -> Result<Id> {
        let [batch, length, channels] = self.rank3(NAME, "x", x)?;
        let [outputs, inputs, kernel] = self.rank3(NAME, "w", w)?;
        if inputs != channels {
            let (xs, ws) = (self.shape(x), self.shape(w));
            return self.misfit(
                NAME,
                format_args!("x has shape {xs} ({channels} channels), w {ws} ({inputs} channels)"),
            );
        }
        if let Some(b) = b {
            self.expect(NAME, "b", b, &Shape::from([outputs]), "as w's first dimension")?;
        }
        let dims = heartlore_kernels::conv1d::Dims {
            batch,
            length,
            in_channels: inputs,
            out_channels: outputs,
            kernel,
            stride: spec.stride,
            padding: spec.padding,
            dilation: spec.dilation,
        };
        let Some(out) = dims.out_length().filter(|&n| n > 0) else {
            return self.misfit(
                NAME,
                format_args!(
                    "no output: length {length}, kernel {kernel}, stride {}, padding {}, dilation {}",
                    spec.stride, spec.padding, spec.dilation
                ),
            );
        };
        let Conv1dSpec { stride, padding, dilation, act } = spec;
        self.push(Conv1d { x, w, b, stride, padding, dilation, act }, Shape::from([batch, out, outputs]))
    }
}

impl Operation for Conv1d {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.w), self.b.as_mut()])
    }
    fn settings(&self) -> String {
        let act = self.act.map_or(String::new(), |a| format!(" {a:?}"));
        let Self { stride, padding, dilation, .. } = self;
        format!(" stride {stride} padding {padding} dilation {dilation}{act}")
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s);
        Needs { saved: conv1d::saved_len(d, self.act), scratch: scratch!(conv1d::scratch_len, d, self.act) }
    }
    fn executed_flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        let (forward, backward) = conv1d::executed_flops::<f32>(self.dims(s));
        (forward + n, backward + n)
    }
    fn packing(&self, s: Shapes<'_>, _precision: MatmulPrecision) -> Option<Packing> {
        let d = self.dims(s);
        Some(Packing {
            sizes: [d.length, d.in_channels, d.out_channels, d.kernel, d.stride, d.padding, d.dilation, 0],
            precision: MatmulPrecision::F32,
            weights: [Some((self.w, 0..s.of(self.w).elements())), None],
        })
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let b = self.b.map_or("None".into(), |id| format!("Some({})", v(id)));
        let act = self.act.map_or("None".into(), |a| format!("Some(Activation::{a:?})"));
        let Self { stride, padding, dilation, .. } = self;
        let spec = format!(
            "Conv1dSpec {{ stride: {stride}, padding: {padding}, dilation: {dilation}, act: {act} }}"
        );
        format!("g.conv1d({}, {}, {b}, {spec})?", v(self.x), v(self.w))
    }
    fn backward_reads(&self) -> Reads {
        Reads::inputs(&[0, 1]).and_output(self.act == Some(Activation::Relu))
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let (d, n) = (self.dims(s), s.result().elements() as u64);
        let product = 2 * n * (d.in_channels * d.kernel) as u64;
        (product + n, 2 * product + n)
    }
}

impl Rules for Conv1d {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes()), run.panels);
        let ForwardSlices { y, saved, scratch, inputs: [x, w, bias] } =
            run.open([Some(self.x), Some(self.w), self.b]);
        conv1d::forward(isa, d, self.act, x, w, prepared, self.b.map(|_| bias), y, saved, scratch);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s);
        let (x, w) = (at.x(self.x), at.x(self.w));
        let mut y = Vec::new();
        for n in 0..d.batch {
            for t in 0..d.out_length().unwrap_or(0) {
                for o in 0..d.out_channels {
                    let mut z = self.b.map_or(N::zero(), |b| at.x(b)[o]);
                    for k in 0..d.kernel {
                        let place = (t * d.stride + k * d.dilation).checked_sub(d.padding);
                        let Some(s) = place.filter(|&s| s < d.length) else { continue };
                        for c in 0..d.in_channels {
                            let weight = w[(o * d.in_channels + c) * d.kernel + k];
                            z = z + weight * x[(n * d.length + s) * d.in_channels + c];
                        }
                    }
                    y.push(self.act.map_or(z, |act| at.activation(act, z)));
                }
            }
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes()), run.panels);
        let BackwardSlices { to, scratch, saved, y, dy, inputs: [x, w] } =
            run.open([Some(self.x), Some(self.w)]);
        let [dx, dw, db, ..] = to;
        let (dw, db) = (zero_unless_accumulating(dw), zero_unless_accumulating(db));
        conv1d::backward(isa, d, self.act, x, w, prepared, y, saved, dy, dx, dw, db, scratch);
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes());
        let rows = if d.batch == 1 { site.shapes().result().rows() } else { 0 };
        let cuts = Cuts::new(rows, conv1d::row_grain::<T>(d), threads, true);
        // Without steps every part reads the spectra of all weights.
        Some(if conv1d::Steps::of::<T>(d, 1).is_none() { cuts.whole_chunks() } else { cuts })
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes()), run.panels);
        if prepared.is_empty() {
            return false;
        }
        let ForwardSlices { y, inputs: [x, w, bias], .. } = run.open([Some(self.x), Some(self.w), self.b]);
        let (bias, workers) = (self.b.map(|_| bias), team.workers);
        let Some(steps) = conv1d::Steps::of::<T>(d, workers.pool.threads()) else {
            workers.by_rows(team.cuts, y, |rows, y, scratch| {
                conv1d::forward_rows(isa, d, self.act, x, w, prepared, bias, rows, y, scratch);
            });
            return true;
        };
        let (groups, group) = (steps.groups(), steps.group_len());
        let (frequencies, frequency) = (steps.frequencies(), steps.frequency_len());
        team.shared.grow(groups * group + frequencies * frequency);
        let (spectra, products) = team.shared.split_at_mut(groups * group);
        let products = &mut products[..frequencies * frequency];
        workers.by_rows(workers.cuts(groups, 1), spectra, |range, out, _| {
            for (i, out) in range.zip(out.chunks_exact_mut(group)) {
                steps.analyse(isa, x, i, out);
            }
        });
        let spectra = &*spectra;
        workers.by_rows(workers.cuts(frequencies, 1), products, |range, out, _| {
            steps.multiply(isa, spectra, prepared, range, out);
        });
        let products = &*products;
        workers.by_rows(team.cuts, y, |rows, y, scratch| {
            steps.synthesise(isa, self.act, products, bias, rows, y, scratch);
        });
        true
    }
    fn packed_len<T: Real>(&self, packing: &Packing, backward: bool) -> usize {
        conv1d::prepared_len::<T>(packed_dims(packing), backward)
    }
    fn pack<T: Real>(
        &self,
        isa: Isa,
        packing: &Packing,
        weights: [&[T]; 2],
        backward: bool,
        panels: &mut [T],
    ) {
        conv1d::prepare(isa, packed_dims(packing), weights[0], backward, panels);
    }
}

/// Dimensions of packed weights: they do not depend on the batch.
fn packed_dims(p: &Packing) -> conv1d::Dims {
    let [length, in_channels, out_channels, kernel, stride, padding, dilation, _] = p.sizes;
    conv1d::Dims { batch: 1, length, in_channels, out_channels, kernel, stride, padding, dilation }
}
