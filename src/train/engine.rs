//! Parameters, optimiser moments and one step: gradients by shards, their norm, the update.

use super::shard::{Sums, Workers, part};
use super::{Run, Weights};
use crate::checkpoint::State;
use crate::error::{Error, Result};
use crate::graph::{ExecContext, Layout, Packed, PackedWeights};
use heartlore_kernels::Isa;
use heartlore_kernels::adam::{self, Adam, clip};
use std::ops::Range;

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stepped {
    pub(crate) loss: f64,
    pub(crate) gradient_norm: f64,
}

/// Parameters as the passes take them: flat, and prepared for the kernels. Shared by all workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params<'a> {
    pub(crate) values: &'a [f32],
    packed: Packed<'a, f32>,
}

impl<'a> Params<'a> {
    /// Prepares `values` on all threads.
    pub(crate) fn prepare<W: Send>(
        workers: &Workers<W>,
        prepared: &'a mut PackedWeights<f32>,
        values: &'a [f32],
    ) -> Result<Self> {
        workers.each(prepared.parts_mut(), |_, _, part| {
            part.update(values);
            Ok(())
        })?;
        Ok(Self { values, packed: prepared.of(values) })
    }

    pub(crate) fn aids(&self) -> ExecContext<'a, f32> {
        ExecContext::packed(self.packed)
    }
}

/// The optimiser's side of a run.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) weights: Weights,
    prepared: PackedWeights<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Updates made so far.
    pub(crate) step: u64,
    gradients: Sums,
    shards: usize,
    isa: Isa,
    adam: Adam,
    clip_norm: Option<f64>,
    /// Parts of the vector with a factor on the learning rate.
    rates: Vec<(Range<usize>, f64)>,
}

impl Engine {
    /// `prepared`: memory for the weights of the run's programs.
    pub(crate) fn new(
        run: &Run,
        weights: Weights,
        prepared: PackedWeights<f32>,
        rates: Vec<(Range<usize>, f64)>,
    ) -> Result<Self> {
        let n = weights.values.len();
        let a = run.adam;
        Ok(Self {
            m: vec![0.0; n],
            v: vec![0.0; n],
            step: 0,
            gradients: Sums::new(n),
            shards: run.shards,
            isa: run.isa()?,
            adam: Adam {
                learning_rate: 0.0,
                beta1: a.beta1,
                beta2: a.beta2,
                eps: a.eps,
                weight_decay: a.weight_decay,
                decoupled: a.decoupled,
            },
            clip_norm: run.clip_norm,
            rates,
            weights,
            prepared,
        })
    }

    /// One update over `items` windows: `gradient(worker, params, part, out)` adds the gradient of its part to `out` and
    /// returns the part's share of the loss.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite (nothing is updated then), or `gradient` fails.
    pub(crate) fn step<W: Send>(
        &mut self,
        workers: &Workers<W>,
        items: usize,
        rate: f64,
        gradient: impl Fn(&mut W, Params<'_>, Range<usize>, &mut [f32]) -> Result<f64> + Sync,
    ) -> Result<Stepped> {
        let (shards, isa) = (self.shards, self.isa);
        let params = Params::prepare(workers, &mut self.prepared, &self.weights.values)?;
        let loss = workers.sum(isa, &mut self.gradients, shards, |worker, s, gradients| {
            gradient(worker, params, part(items, s, shards), gradients)
        })?;
        let gradient_norm = workers.sum_chunks(&self.gradients.total, |c| clip::squared_norm(isa, c)).sqrt();
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(Error::numeric(format!(
                "step {}: loss {loss}, gradient norm {gradient_norm}",
                self.step
            ))
            .remedy(
                "lower the learning rate or clip the gradient; the last checkpoint is from before this step",
            ));
        }
        let scale = self.clip_norm.map_or(1.0, |max| clip::scale_for(gradient_norm, max));
        self.step += 1;
        for (range, factor) in &self.rates {
            let adam = Adam { learning_rate: rate * factor, ..self.adam };
            let t = self.step;
            workers.update(
                range.clone(),
                &mut self.weights.values,
                &self.gradients.total,
                &mut self.m,
                &mut self.v,
                |p, g, m, v| adam::step(isa, &adam, t, scale, p, g, m, v),
            );
        }
        Ok(Stepped { loss, gradient_norm })
    }

    /// The parameters as they are now, prepared.
    ///
    /// # Errors
    /// None of its own.
    pub(crate) fn params<W: Send>(&mut self, workers: &Workers<W>) -> Result<Params<'_>> {
        Params::prepare(workers, &mut self.prepared, &self.weights.values)
    }

    /// Writes parameters, moments and step into `state`.
    pub(crate) fn put(&self, state: &mut State) {
        put_weights(state, "model", &self.weights.layout, &self.weights.values);
        put_weights(state, "adam.m", &self.weights.layout, &self.m);
        put_weights(state, "adam.v", &self.weights.layout, &self.v);
        state.numbers.insert("step".into(), self.step);
    }

    /// Takes parameters, moments and step from `state`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub(crate) fn restore(&mut self, state: &State) -> Result<()> {
        let layout = &self.weights.layout;
        self.weights.values = get_weights(state, "model", layout)?;
        self.m = get_weights(state, "adam.m", layout)?;
        self.v = get_weights(state, "adam.v", layout)?;
        self.step = state.number("step")?;
        Ok(())
    }
}

/// Writes a flat vector as named tensors `prefix.name`.
pub(crate) fn put_weights(state: &mut State, prefix: &str, layout: &Layout, values: &[f32]) {
    for e in layout.entries() {
        state.put_f32(format!("{prefix}.{}", e.name), e.shape.dims(), &values[e.range()]);
    }
}

/// Reads what [`put_weights`] wrote.
pub(crate) fn get_weights(state: &State, prefix: &str, layout: &Layout) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(layout.len());
    for e in layout.entries() {
        values.extend_from_slice(state.f32(&format!("{prefix}.{}", e.name), e.shape.dims())?);
    }
    Ok(values)
}
