//! A program at a point, run by the executor: values and J' w, in any number type, on any instruction set.

use super::interpret::Direction;
use super::{Point, Settings};
use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::exec::{Exec, Fault};
use crate::graph::id::Id;
use crate::graph::operation::Precision;
use crate::graph::plan::{OutputRequest, Plan};
use heartlore_kernels::Isa;
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::rng::Key;
use std::sync::Arc;

/// sum a b over all inputs and parameters, and the sum of the terms' magnitudes.
pub(super) fn inner(a: &Direction, b: &Direction) -> (f64, f64) {
    let inputs = a.inputs.iter().flat_map(|(id, a)| a.iter().zip(b.inputs.get(id).into_iter().flatten()));
    let terms = inputs.chain(a.params.iter().zip(&b.params)).map(|(a, b)| a * b);
    terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
}

/// Uniform numbers in [-1, 1).
pub(super) fn cotangent(n: usize, seed: u64, number: u64) -> Vec<f64> {
    let stream = Key { seed, step: 1 + number, ..Key::default() }.stream();
    (0..n).map(|i| 2.0 * stream.uniform(0, i as u32) - 1.0).collect()
}

/// A program at a point, to be run in one number type on one instruction set.
#[derive(Debug)]
pub(super) struct Runner<T> {
    pub(super) exec: Exec<T>,
    root: Id,
    inputs: Vec<Id>,
    params: Vec<T>,
}

impl<T: Precision> Runner<T> {
    pub(super) fn new(
        graph: &Graph,
        root: Id,
        point: &Point,
        settings: Settings,
        isa: Isa,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        point.fits(graph, root)?;
        let inputs: Vec<Id> = point.inputs.keys().copied().collect();
        let want =
            OutputRequest { keep: vec![root], root: Some(root), gradients: inputs.clone(), params: true };
        let plan = Plan::new(graph, want)?.with_precision(precision);
        let mut exec = Exec::with_isa(Arc::new(graph.clone()), Arc::new(plan), isa);
        exec.set_dropout(settings.dropout);
        exec.set_key(settings.seed, 0, 0);
        for (&id, values) in &point.indices {
            exec.set_index(id, values)?;
        }
        let mut runner = Self { exec, root, inputs, params: Vec::new() };
        runner.move_to(point)?;
        Ok(runner)
    }

    pub(super) fn move_to(&mut self, point: &Point) -> Result<()> {
        let cast = |x: &Vec<f64>| -> Vec<T> { x.iter().map(|&x| T::of(x)).collect() };
        for (&id, values) in &point.inputs {
            if self.exec.plan().is_live(id) {
                self.exec.set_input(id, &cast(values))?;
            }
        }
        self.params = cast(&point.params);
        Ok(())
    }

    /// The root's value.
    pub(super) fn value(&mut self) -> Vec<f64> {
        self.exec.forward(&self.params);
        self.exec.value(self.root).iter().map(|x| x.f64()).collect()
    }

    /// J' w after [`Runner::value`], with a fault planted in one operation if one is given.
    pub(super) fn gradient(&mut self, w: &[f64], fault: Option<Fault>) -> Direction {
        let w: Vec<T> = w.iter().map(|&x| T::of(x)).collect();
        let mut grads = vec![T::ZERO; self.params.len()];
        self.exec.forward(&self.params);
        match fault {
            Some(fault) => self.exec.backward_with_fault(&self.params, &w, &mut grads, fault),
            None => self.exec.backward(&self.params, &w, &mut grads),
        }
        let wide = |x: &[T]| x.iter().map(|x| x.f64()).collect();
        let inputs = self.inputs.iter().map(|&id| (id, wide(self.exec.gradient(id)))).collect();
        Point { inputs, indices: Default::default(), params: wide(&grads) }
    }
}

impl Point {
    /// At distance `h` in a direction.
    pub(super) fn moved(&self, h: f64, direction: &Direction) -> Point {
        let mut to = self.clone();
        for (id, x) in &mut to.inputs {
            x.iter_mut().zip(&direction.inputs[id]).for_each(|(x, v)| *x += h * v);
        }
        to.params.iter_mut().zip(&direction.params).for_each(|(x, v)| *x += h * v);
        to
    }

    /// With every number rounded to f32, so that both number types start from the same point.
    pub(super) fn rounded(&self) -> Point {
        let mut to = self.clone();
        let all = to.inputs.values_mut().flatten().chain(&mut to.params);
        all.for_each(|x| *x = f64::from(*x as f32));
        to
    }
}
