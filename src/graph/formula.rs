//! [`Formula`]: what an operation's formula reads, and the pieces that formulas share.
//!
//! A formula is the textbook spelling of an operation, over any [`Number`]: in f64 it is an oracle of the kernels' values,
//! in dual numbers it is the operation's tangent rule, in dual numbers of dual numbers its second derivative. It allocates and
//! is slow; [`super::check`] runs it, a model never does.

use super::id::Id;
use super::number::Number;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::rng::{Dropout, Key};
use std::cell::Cell;

/// The inputs of one operation at a point, and its random numbers.
#[derive(Debug)]
pub struct Formula<'a, N> {
    /// The values before this operation, by number.
    pub(crate) values: &'a [Vec<N>],
    pub(crate) indices: &'a [Vec<u32>],
    /// Names the operation's random numbers.
    pub(crate) key: Key,
    pub(crate) dropout: bool,
    /// The smallest distance from a corner so far; what is a corner, each piece says.
    pub(crate) corner: &'a Cell<f64>,
    /// The smallest Euclidean norm so far.
    pub(crate) norm: &'a Cell<f64>,
}

impl<'a, N: Number> Formula<'a, N> {
    /// The numbers of an input.
    pub(crate) fn x(&self, id: Id) -> &'a [N] {
        &self.values[id.index()]
    }

    /// The numbers of an index input.
    pub(crate) fn index(&self, id: Id) -> &'a [u32] {
        &self.indices[id.index()]
    }

    /// The dropout multiplier of an element: 0, or 1 / (1 - p).
    pub(crate) fn multiplier(&self, p: f64, sample: usize, row: usize, col: usize) -> f64 {
        if !self.dropout || p == 0.0 {
            return 1.0;
        }
        let dropout = Dropout::new(p);
        let kept = self.key.sample(sample).stream().keeps(dropout, row as u32, col);
        if kept { dropout.scale() } else { 0.0 }
    }

    /// Notes that the formula is not differentiable at `distance` from here.
    pub(crate) fn corner(&self, distance: f64) {
        // NaN counts as at the corner.
        let distance = if distance >= 0.0 { distance } else { 0.0 };
        self.corner.set(self.corner.get().min(distance));
    }

    /// act(x). ReLU has its corner at 0, where the slope is 0 by definition.
    pub(crate) fn activation(&self, act: Activation, x: N) -> N {
        let (one, half) = (N::of(1.0), N::of(0.5));
        match act {
            Activation::Relu => {
                self.corner(x.re().abs());
                if x.re() > 0.0 { x } else { N::zero() }
            }
            Activation::Gelu => x * half * (one + (x * N::of(std::f64::consts::FRAC_1_SQRT_2)).erf()),
            Activation::GeluTanh => {
                let peak = N::of((2.0 / std::f64::consts::PI).sqrt());
                x * half * (one + (peak * (x + N::of(0.044715) * x * x * x)).tanh())
            }
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
        }
    }

    /// The largest number; of equal ones the first, which has the whole derivative. The corner is where two are equal.
    pub(crate) fn largest(&self, x: &[N]) -> N {
        let mut best = 0;
        for i in 1..x.len() {
            if x[i].re() > x[best].re() {
                best = i;
            }
        }
        let others = x.iter().enumerate().filter(|(i, _)| *i != best);
        others.for_each(|(_, other)| self.corner(x[best].re() - other.re()));
        x[best]
    }

    /// sqrt(sum x^2), whose corner is at 0, where the derivative is 0 by definition.
    pub(crate) fn norm(&self, x: &[N]) -> N {
        let squares = dot(x, x);
        self.corner(squares.re().sqrt());
        self.norm.set(self.norm.get().min(squares.re().sqrt()));
        if squares.re() == 0.0 { N::zero() } else { squares.sqrt() }
    }

    /// The weighted sum or mean of losses; weights are data.
    pub(crate) fn reduced(
        &self,
        losses: impl Iterator<Item = N>,
        mask: Option<Id>,
        reduction: Reduction,
    ) -> N {
        let weight = |i: usize| mask.map_or(1.0, |mask| self.x(mask)[i].re());
        let (mut sum, mut weights) = (N::zero(), 0.0);
        for (i, loss) in losses.enumerate() {
            weights += weight(i);
            if weight(i) != 0.0 {
                sum = sum + N::of(weight(i)) * loss;
            }
        }
        match reduction {
            Reduction::Sum => sum,
            Reduction::Mean if weights == 0.0 => N::zero(),
            Reduction::Mean => sum / N::of(weights),
        }
    }

    /// Multi-head attention `[batch, tq, heads * head_dim]` from `[batch, heads, tq, tk, head_dim]`, `[scale, dropout]` and
    /// functions that give a query, key or value by sample, head and row.
    pub(crate) fn attention(
        &self,
        [batch, heads, tq, tk, head_dim]: [usize; 5],
        [scale, dropout]: [f64; 2],
        mask: Option<Id>,
        query: impl Fn(usize, usize, usize) -> Vec<N>,
        key: impl Fn(usize, usize, usize) -> Vec<N>,
        value: impl Fn(usize, usize, usize) -> Vec<N>,
    ) -> Vec<N> {
        let mut y = vec![N::zero(); batch * tq * heads * head_dim];
        for n in 0..batch {
            let kept: Vec<usize> =
                (0..tk).filter(|j| mask.is_none_or(|mask| self.x(mask)[n * tk + j].re() != 0.0)).collect();
            for h in 0..heads {
                let keys: Vec<Vec<N>> = kept.iter().map(|&j| key(n, h, j)).collect();
                let values: Vec<Vec<N>> = kept.iter().map(|&j| value(n, h, j)).collect();
                for i in 0..tq {
                    let q = query(n, h, i);
                    let scores: Vec<N> = keys.iter().map(|k| N::of(scale) * dot(&q, k)).collect();
                    let y = &mut y[((n * tq + i) * heads + h) * head_dim..][..head_dim];
                    for ((p, v), &j) in softmax_of(&scores).into_iter().zip(&values).zip(&kept) {
                        let p = N::of(self.multiplier(dropout, n, h * tq + i, j)) * p;
                        y.iter_mut().zip(v).for_each(|(y, &v)| *y = *y + p * v);
                    }
                }
            }
        }
        y
    }
}

/// sum a b.
pub(crate) fn dot<N: Number>(a: &[N], b: &[N]) -> N {
    a.iter().zip(b).fold(N::zero(), |sum, (&a, &b)| sum + a * b)
}

/// sum x.
pub(crate) fn sum<N: Number>(x: &[N]) -> N {
    x.iter().fold(N::zero(), |sum, &x| sum + x)
}

/// sum x / n.
pub(crate) fn mean<N: Number>(x: &[N]) -> N {
    sum(x) / N::of(x.len() as f64)
}

/// e^x / sum e^x; the largest is subtracted first, which changes no derivative.
pub(crate) fn softmax_of<N: Number>(x: &[N]) -> Vec<N> {
    let largest = N::of(x.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.re())));
    let e: Vec<N> = x.iter().map(|&x| (x - largest).exp()).collect();
    let total = sum(&e);
    e.into_iter().map(|e| e / total).collect()
}
