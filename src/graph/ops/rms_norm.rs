//! Root-mean-square norm: layer norm without mean and shift.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, dot};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Reads, Rules, Shapes,
};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::{Real, rms_norm};

const NAME: &str = "rms_norm";

/// gamma x / sqrt(mean(x^2) + eps).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RmsNorm {
    /// `[.., width]`
    pub x: Id,
    /// `[width]`
    pub gamma: Id,
    /// Added to the mean of the squares.
    pub eps: f64,
}

impl Graph {
    /// Root-mean-square norm over the last dimension: x `[.., width]`, gamma `[width]` -> `[.., width]`
    /// (Zhang & Sennrich 2019).
    ///
    /// # Errors
    /// If the shapes do not fit or `eps` is not positive.
    pub fn rms_norm(&mut self, x: Id, gamma: Id, eps: f64) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.expect(NAME, "gamma", gamma, &Shape::from([xs.last()]), &format!("as x has shape {xs}"))?;
        if eps.is_nan() || eps <= 0.0 {
            return self.misfit(NAME, format_args!("eps must be positive, got {eps}"));
        }
        self.push(RmsNorm { x, gamma, eps }, xs)
    }
}

fn dims(s: Shapes<'_>) -> rms_norm::Dims {
    rms_norm::Dims { rows: s.result().rows(), cols: s.result().last() }
}

impl Operation for RmsNorm {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.gamma)])
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.rms_norm({}, {}, {:?})?", v(self.x), v(self.gamma), self.eps)
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        Needs { saved: rms_norm::saved_len(dims(s)), scratch: 0 }
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (4 * n, 8 * n)
    }
}

impl Rules for RmsNorm {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, saved, inputs: [x, gamma], .. } = run.open([Some(self.x), Some(self.gamma)]);
        rms_norm::forward(site.isa, dims(site.shapes()), self.eps, x, gamma, y, saved);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let (d, gamma) = (dims(s), at.x(self.gamma));
        let mut y = Vec::new();
        for x in at.x(self.x).chunks_exact(d.cols) {
            let r = N::of(1.0) / (dot(x, x) / N::of(d.cols as f64) + N::of(self.eps)).sqrt();
            y.extend(x.iter().zip(gamma).map(|(&x, &g)| g * (x * r)));
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, dgamma, ..], saved, dy, inputs: [x, gamma], .. } =
            run.open([Some(self.x), Some(self.gamma)]);
        let dgamma = zero_unless_accumulating(dgamma);
        rms_norm::backward(site.isa, dims(site.shapes()), x, gamma, saved, dy, dx, dgamma);
    }
}
