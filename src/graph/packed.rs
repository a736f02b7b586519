//! [`PackedWeights`]: the weights of a program as its kernels want them, made once for many passes.
//!
//! Matrix products read weights in packed panels. Packing costs as much as moving the weights through memory twice, in
//! each direction and for every group of windows, unless it is done once and kept. In training that is once per step,
//! shared by all threads; in a trained model once.
//!
//! A region belongs to the weights and the sizes that matter for their order, not to a program: programs that differ in
//! the number of rows or in what they deliver share one [`PackedWeights`]. Results are the same bits with and without.
//!
//! In a plan whose products take bf16 operands ([`Plan::with_precision`]) the panels hold rounded weights: rounded once
//! where they would be in every pass. Plans of another precision do not find them and pack their own.

use super::aligned::Aligned;
use super::builder::Graph;
use super::id::Id;
use super::operation::{Node, Op, Packing, Precision, Shapes};
use super::plan::Plan;
use super::views::Location;
use heartlore_kernels::Isa;
use std::ops::Range;
use std::sync::Arc;

/// Which weights a region holds, and in what order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Weights {
    /// The operation's name: operations of one kind and equal sizes pack alike.
    name: &'static str,
    packing: Packing,
    /// In the parameter vector.
    ranges: [Range<usize>; 2],
}

impl Weights {
    /// Of an operation whose weights are parameters. Sizes that do not matter for the order are left out.
    pub(crate) fn of(nodes: &[Node], plan: &Plan, id: Id) -> Option<Self> {
        let op = &nodes[id.index()].op;
        let mut packing = op.spec().packing(Shapes::new(nodes, id), plan.precision())?;
        let mut ranges = [0..0, 0..0];
        for (range, weights) in ranges.iter_mut().zip(&mut packing.weights) {
            let Some((input, part)) = weights.take() else { continue };
            match &plan.steps[input.index()].value {
                Location::Param(r) => *range = r.start + part.start..r.start + part.end,
                Location::Arena(_) | Location::Absent => return None,
            }
        }
        Some(Self { name: op.name(), packing, ranges })
    }

    /// A hash of the parameters it is packed from.
    fn version<T: Precision>(&self, params: &[T]) -> u64 {
        let [a, b] = self.ranges.clone().map(|r| hash(&params[r]));
        a.wrapping_add(b.rotate_left(32))
    }
}

/// A hash of all numbers, bit by bit: eight sums side by side, each multiplied by an odd number before a word is added, so
/// that any change of one word shows, and changes of several are missed once in 2^64. It runs at the speed of memory.
fn hash<T: Precision>(x: &[T]) -> u64 {
    const LANES: usize = 8;
    let factor: [u64; LANES] = std::array::from_fn(|i| 0x9E37_79B9_7F4A_7C15 ^ (i as u64) << 17);
    let bytes: &[u8] = bytemuck::cast_slice(x);
    let mut lanes = [0u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for block in blocks {
        for ((lane, factor), word) in lanes.iter_mut().zip(factor).zip(block.as_chunks::<8>().0) {
            *lane = lane.wrapping_mul(factor).wrapping_add(u64::from_le_bytes(*word));
        }
    }
    let tail = rest.iter().map(|&b| u64::from(b));
    let all = lanes.into_iter().chain(tail).chain([bytes.len() as u64]);
    all.fold(0, |sum: u64, x| (sum ^ x).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29))
}

/// The weights of one operation: a part that can be updated on its own.
#[derive(Debug)]
pub struct PackedPart<T> {
    op: Op,
    weights: Weights,
    /// With what the backward pass needs.
    backward: bool,
    isa: Isa,
    /// The hash of the parameters it was packed from.
    version: Option<u64>,
    panels: Aligned<T>,
}

impl<T: Precision> PackedPart<T> {
    /// Packs from the flat parameter vector.
    ///
    /// # Panics
    /// If `params` is shorter than the layout.
    pub fn update(&mut self, params: &[T]) {
        let Weights { packing, ranges, .. } = &self.weights;
        let [a, b] = ranges.clone().map(|r| &params[r]);
        self.op.rules::<T>().pack_into(self.isa, packing, [a, b], self.backward, &mut self.panels);
        self.version = Some(self.weights.version(params));
    }
}

/// Weights in the order the kernels of one instruction set want them. See the module.
#[derive(Debug)]
pub struct PackedWeights<T> {
    isa: Isa,
    parts: Vec<PackedPart<T>>,
}

impl<T: Precision> PackedWeights<T> {
    /// Memory for the weights of `graph` that `plan` uses, for what it does with them: with gradients for both directions.
    /// Before use it wants [`PackedWeights::update`].
    pub fn new(graph: &Graph, plan: &Plan, isa: Isa) -> Self {
        let mut parts: Vec<PackedPart<T>> = Vec::new();
        for id in graph.ids().filter(|id| plan.steps[id.index()].live) {
            let Some(weights) = Weights::of(graph.nodes(), plan, id) else { continue };
            let step = &plan.steps[id.index()];
            // The products of the backward pass that read weights are those that lead on to the inputs, or, with a second
            // layer's weights, through the hidden values.
            let inwards = step.contributions[0].is_some();
            let backward = step.visited && (inwards || !weights.ranges[1].is_empty());
            if let Some(part) = parts.iter_mut().find(|p| p.weights == weights) {
                part.backward |= backward;
            } else {
                let (op, panels) = (graph.node(id).op.clone(), Aligned::zeros(0));
                parts.push(PackedPart { op, weights, backward, isa, version: None, panels });
            }
        }
        for part in &mut parts {
            let len = part.op.rules::<T>().packed_elements(&part.weights.packing, part.backward);
            part.panels = Aligned::zeros(len);
        }
        Self { isa, parts }
    }

    /// Packs from the flat parameter vector, and lends the result for passes with these parameters. To be done again
    /// whenever a parameter has changed; while the result is in use, none can.
    ///
    /// # Panics
    /// If `params` is shorter than the layout.
    pub fn update<'a>(&'a mut self, params: &'a [T]) -> Packed<'a, T> {
        self.parts.iter_mut().for_each(|part| part.update(params));
        Packed { weights: self, params }
    }

    /// Its parts, which threads may update side by side. Then ask for [`PackedWeights::of`].
    pub fn parts_mut(&mut self) -> &mut [PackedPart<T>] {
        &mut self.parts
    }

    /// The packed weights for passes with `params`, from which they must have been packed. That is checked against a hash
    /// of every weight: one read of the parameters, where a training step reads them and their gradients a dozen times.
    ///
    /// # Panics
    /// If a weight was packed from other numbers, or not at all.
    pub fn of<'a>(&'a self, params: &'a [T]) -> Packed<'a, T> {
        for part in &self.parts {
            let fresh = part.version == Some(part.weights.version(params));
            assert!(fresh, "exec: the packed weights are not those of the parameters: update them");
        }
        Packed { weights: self, params }
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.panels.len() * size_of::<T>()).sum()
    }
}

/// Packed weights together with the parameters they were packed from: both are borrowed, so neither can change while a pass
/// may use them.
#[derive(Debug)]
pub struct Packed<'a, T> {
    weights: &'a PackedWeights<T>,
    params: &'a [T],
}

impl<T> Clone for Packed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Packed<'_, T> {}

impl<'a, T: Precision> Packed<'a, T> {
    /// Bytes of the packed weights.
    pub fn bytes(self) -> usize {
        self.weights.bytes()
    }

    /// Panics unless `params` is the very slice that was packed.
    pub(crate) fn assert_of(self, params: &[T]) {
        let same = std::ptr::eq(self.params, params);
        assert!(same, "exec: the packed weights belong to another parameter vector than this pass is given");
    }

    /// The panels of `weights` for `isa`; empty if they are not here.
    pub(crate) fn find(self, isa: Isa, weights: &Weights, backward: bool) -> &'a [T] {
        match self.weights.parts.iter().find(|p| p.weights == *weights) {
            Some(part) if isa == self.weights.isa && (part.backward || !backward) => &part.panels,
            _ => &[],
        }
    }
}

/// Parameters that do not change, such as a trained model's, with their packed weights.
#[derive(Debug)]
pub struct PackedParams<T> {
    values: Arc<Vec<T>>,
    weights: PackedWeights<T>,
}

impl<T: Precision> PackedParams<T> {
    /// Packs `values` for `plan` of `graph`.
    ///
    /// # Panics
    /// If there are fewer values than the layout has.
    pub fn new(graph: &Graph, plan: &Plan, isa: Isa, values: Arc<Vec<T>>) -> Self {
        let mut weights = PackedWeights::new(graph, plan, isa);
        weights.update(&values);
        Self { values, weights }
    }

    /// The flat parameter vector.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The packed weights.
    pub fn packed(&self) -> Packed<'_, T> {
        Packed { weights: &self.weights, params: &self.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_changes_with_every_element_and_with_order() {
        let numbers: Vec<f32> = (0..67).map(|i| (i as f32).sin()).collect();
        let first = hash(&numbers);
        for i in 0..numbers.len() {
            let mut other = numbers.clone();
            other[i] = f32::from_bits(other[i].to_bits() ^ 1);
            assert_ne!(hash(&other), first, "element {i}");
            other[i] = -numbers[i];
            assert!(i == 0 || hash(&other) != first, "sign of element {i}");
        }
        let mut swapped = numbers.clone();
        swapped.swap(3, 40);
        assert_ne!(hash(&swapped), first);
        assert_ne!(hash(&numbers[..66]), first);
        let wide: Vec<f64> = numbers.iter().map(|&x| f64::from(x)).collect();
        let mut other = wide.clone();
        other[40] += f64::EPSILON;
        assert_ne!(hash(&other), hash(&wide));
    }
}
