//! The gradient checker: any recorded program, in f64, central differences against the backward pass.
//!
//! With root r(x) and a random cotangent c, L(x) = sum c_i r_i(x). The backward pass gives dL/dx; the oracle is
//!
//! ```text
//! (L(x + h e_j) - L(x - h e_j)) / 2h  =  dL/dx_j + h^2/6 L'''_j + O(eps |L| / h)
//! ```
//!
//! At h = 1e-5 both error terms are near 1e-10 for numbers of order one, four decades below the tolerance
//! 1e-6 (1 + |g|). The cotangent is random because the sum of the outputs hides faults: through a softmax, for example,
//! its gradient is zero whether the derivative is right or wrong. Kinks (ReLU, max) must be kept away from the drawn
//! points by the caller, or the difference quotient itself is wrong there.

pub mod cases;
mod draw;
mod interpret;
mod laws;
mod mutate;
mod outside;
pub mod programs;
mod runner;
mod selftest;
mod shrink;
#[cfg(feature = "proptest")]
pub mod strategies;
mod taylor;

pub use draw::Case;
pub use interpret::{Direction, Values, complex_step, jvp, jvp_f32, second_derivative};
pub use laws::{Battery, Proof, battery, transpose};
pub use mutate::{Mutant, mutants};
pub use outside::{function_pair, operation};
pub use selftest::{SelfTest, Tried, selftest};
pub use shrink::{Failing, shrink};
pub use taylor::{Taylor, taylor};

use super::builder::Graph;
use super::exec::Exec;
use super::id::Id;
use super::operation::Role;
use super::plan::{OutputRequest, Plan};
use crate::error::{Error, Result};
use heartlore_kernels::rng::{Key, Stream};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Step h of the central difference.
    pub step: f64,
    /// Largest |analytic - numeric| / (1 + |analytic|).
    pub tolerance: f64,
    /// Seed of the cotangent (and of dropout).
    pub seed: u64,
    /// Whether dropout is on.
    pub dropout: bool,
    /// At most this many elements of each tensor, evenly spread; `None` checks every one.
    pub elements: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { step: 1e-5, tolerance: 1e-6, seed: 0, dropout: false, elements: None }
    }
}

/// The point at which a program is checked.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Values of the inputs.
    pub inputs: BTreeMap<Id, Vec<f64>>,
    /// Values of the index inputs.
    pub indices: BTreeMap<Id, Vec<u32>>,
    /// The flat parameter vector.
    pub params: Vec<f64>,
}

impl Point {
    /// Uniform numbers in [-1, 1) for inputs and parameters, uniform indices below their bounds.
    pub fn random(graph: &Graph, seed: u64) -> Self {
        let stream = Key { seed, ..Key::default() }.stream();
        let mut row = 0;
        let mut draw = |n: usize| -> Vec<f64> {
            row += 1;
            (0..n).map(|i| 2.0 * stream.uniform(row, i as u32) - 1.0).collect()
        };
        let mut point = Self { params: draw(graph.layout().len()), ..Self::default() };
        for id in graph.ids() {
            let n = graph.shape(id).elements();
            match graph.node(id).op.role() {
                Role::Input => {
                    point.inputs.insert(id, draw(n));
                }
                Role::Index { bound } => {
                    let scaled = draw(n)
                        .into_iter()
                        .map(|u| (((u + 1.0) / 2.0 * bound as f64) as u32).min(bound as u32 - 1));
                    point.indices.insert(id, scaled.collect());
                }
                _ => {}
            }
        }
        point
    }
}

/// The element at which analytic and numeric gradient differ most.
#[derive(Clone, Debug)]
pub struct Worst {
    /// Name of the input or parameter.
    pub tensor: String,
    /// Index of the element.
    pub index: Vec<usize>,
    /// Gradient by the backward pass.
    pub analytic: f64,
    /// Gradient by central differences.
    pub numeric: f64,
    /// |analytic - numeric| / (1 + |analytic|); infinite if either is not a number.
    pub error: f64,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Elements compared.
    pub elements: usize,
    /// Inputs and parameters compared.
    pub tensors: Vec<String>,
    /// Inputs and parameters that no gradient reaches (masks, labels, unused ones).
    pub skipped: Vec<String>,
    /// The worst element, if any was compared.
    pub worst: Option<Worst>,
    /// The operation whose own backward pass is wrong at this point, when the check fails and one can be named.
    pub culprit: Option<String>,
    /// The tolerance used.
    pub tolerance: f64,
}

impl Report {
    /// True if every compared element is within the tolerance, and at least one was compared.
    pub fn passed(&self) -> bool {
        self.worst.as_ref().is_some_and(|w| w.error <= self.tolerance)
    }
    /// The report as an error unless it passed.
    ///
    /// # Errors
    /// With the worst element and the operation.
    pub fn into_result(self) -> Result<Self> {
        if self.passed() { Ok(self) } else { Err(Error::numeric(self.to_string())) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "gradients agree" } else { "GRADIENTS DIFFER" };
        write!(f, "{verdict}: {} elements of {} tensors", self.elements, self.tensors.len())?;
        if let Some(w) = &self.worst {
            write!(
                f,
                "; worst {}{:?}: backward {:.10e}, difference quotient {:.10e}, error {:.2e} (tolerance {:.0e})",
                w.tensor, w.index, w.analytic, w.numeric, w.error, self.tolerance
            )?;
        }
        if let Some(op) = &self.culprit {
            write!(f, "; wrong derivative in {op}")?;
        }
        Ok(())
    }
}

/// Checks every gradient of `graph` from `root` at `point`.
///
/// # Errors
/// If the point does not fit the program. A wrong gradient is not an error but a failed [`Report`].
pub fn gradients(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Report> {
    let mut report = whole(graph, root, point, settings)?;
    if !report.passed() && report.worst.is_some() {
        report.culprit = culprit(graph, root, point, settings)?;
    }
    Ok(report)
}

/// Checks a gradient written by hand: `f` against `analytic` at `x`. Of no numbers nothing is compared, and the report does
/// not pass.
///
/// # Panics
/// If `x` and `analytic` differ in length.
pub fn function(
    name: &str,
    mut f: impl FnMut(&[f64]) -> f64,
    x: &[f64],
    analytic: &[f64],
    settings: Settings,
) -> Report {
    let (n, given) = (x.len(), analytic.len());
    assert!(n == given, "check: x has {n} elements, the gradient {given}");
    let mut report = empty(settings);
    let mut at = x.to_vec();
    compare(&mut report, name, &crate::tensor::Shape::from([x.len()]), analytic, settings, |j, delta| {
        at[j] = x[j] + delta;
        let value = f(&at);
        at[j] = x[j];
        value
    });
    report
}

fn empty(settings: Settings) -> Report {
    Report {
        elements: 0,
        tensors: Vec::new(),
        skipped: Vec::new(),
        worst: None,
        culprit: None,
        tolerance: settings.tolerance,
    }
}

/// Compares one tensor; `shifted(j, delta)` is L with element j moved by delta.
fn compare(
    report: &mut Report,
    name: &str,
    shape: &crate::tensor::Shape,
    analytic: &[f64],
    settings: Settings,
    mut shifted: impl FnMut(usize, f64) -> f64,
) {
    report.tensors.push(name.to_string());
    let n = analytic.len();
    let sampled = settings.elements.unwrap_or(n).clamp(n.min(1), n);
    for sample in 0..sampled {
        let j = sample * n / sampled;
        let h = settings.step;
        let numeric = (shifted(j, h) - shifted(j, -h)) / (2.0 * h);
        let a = analytic[j];
        let error = (a - numeric).abs() / (1.0 + a.abs());
        let error = if error.is_finite() { error } else { f64::INFINITY };
        report.elements += 1;
        if report.worst.as_ref().is_none_or(|w| error > w.error) {
            let tensor = name.to_string();
            report.worst = Some(Worst { tensor, index: shape.index(j), analytic: a, numeric, error });
        }
    }
}

/// An executor at a point, with its cotangent.
struct Bench {
    exec: Exec<f64>,
    root: Id,
    cotangent: Vec<f64>,
}

impl Bench {
    fn new(graph: &Graph, want: OutputRequest, root: Id, point: &Point, settings: Settings) -> Result<Self> {
        let plan = Plan::new(graph, want)?;
        let mut exec = Exec::new(Arc::new(graph.clone()), Arc::new(plan));
        exec.set_dropout(settings.dropout);
        exec.set_key(settings.seed, 0, 0);
        for (&id, values) in &point.inputs {
            if exec.plan().is_live(id) {
                exec.set_input(id, values)?;
            }
        }
        for (&id, values) in &point.indices {
            exec.set_index(id, values)?;
        }
        if point.params.len() != graph.layout().len() {
            let (got, want) = (point.params.len(), graph.layout().len());
            return Err(Error::shape(format!("check: {got} parameters given, the program has {want}")));
        }
        let stream: Stream = Key { seed: settings.seed, step: 1, ..Key::default() }.stream();
        let n = graph.shape(root).elements();
        let cotangent = (0..n).map(|i| 2.0 * stream.uniform(0, i as u32) - 1.0).collect();
        Ok(Self { exec, root, cotangent })
    }

    fn loss(&mut self, params: &[f64]) -> f64 {
        self.exec.forward(params);
        self.exec.value(self.root).iter().zip(&self.cotangent).map(|(r, c)| r * c).sum()
    }
}

fn whole(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Report> {
    let inputs: Vec<Id> = point.inputs.keys().copied().collect();
    let want = OutputRequest { keep: vec![root], root: Some(root), gradients: inputs.clone(), params: true };
    let mut bench = Bench::new(graph, want, root, point, settings)?;
    let mut grads = vec![0.0; point.params.len()];
    bench.exec.forward(&point.params);
    let cotangent = bench.cotangent.clone();
    bench.exec.backward(&point.params, &cotangent, &mut grads);
    let reached: Vec<bool> = graph.ids().map(|id| reaches(graph, id, root)).collect();

    let mut report = empty(settings);
    let input_grads: Vec<Vec<f64>> = inputs.iter().map(|&id| bench.exec.gradient(id).to_vec()).collect();
    for (&id, analytic) in inputs.iter().zip(&input_grads) {
        let name = &graph.node(id).label;
        if !reached[id.index()] {
            report.skipped.push(name.clone());
            continue;
        }
        let mut x = point.inputs[&id].clone();
        let mut failure = None;
        compare(&mut report, name, graph.shape(id), analytic, settings, |j, delta| {
            let old = x[j];
            x[j] = old + delta;
            failure = failure.take().or(bench.exec.set_input(id, &x).err());
            x[j] = old;
            bench.loss(&point.params)
        });
        if let Some(e) = failure {
            return Err(e);
        }
        bench.exec.set_input(id, &x)?;
    }
    let mut params = point.params.clone();
    for entry in graph.layout().entries() {
        if !graph.find(&entry.name).is_some_and(|id| reached[id.index()]) {
            report.skipped.push(entry.name.clone());
            continue;
        }
        let range = entry.range();
        compare(&mut report, &entry.name, &entry.shape, &grads[range.clone()], settings, |j, delta| {
            let old = params[range.start + j];
            params[range.start + j] = old + delta;
            let loss = bench.loss(&params);
            params[range.start + j] = old;
            loss
        });
    }
    Ok(report)
}

/// Whether a gradient flows from `root` to `id`.
fn reaches(graph: &Graph, id: Id, root: Id) -> bool {
    let mut on = vec![false; graph.nodes().len()];
    on[id.index()] = true;
    for (i, node) in graph.nodes().iter().enumerate().skip(id.index() + 1) {
        on[i] = node
            .op
            .slots()
            .into_iter()
            .enumerate()
            .any(|(slot, x)| x.is_some_and(|x| node.op.differentiable(slot) && on[x.index()]));
    }
    on[root.index()]
}

/// The first operation, walking back from the root, whose own backward pass fails a check at its actual inputs.
fn culprit(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Option<String>> {
    let computed: Vec<Id> = graph.ids().filter(|&id| id <= root && !graph.node(id).op.is_leaf()).collect();
    let keep: Vec<Id> = computed.iter().copied().filter(|&id| graph.parameter(id).is_none()).collect();
    let mut bench = Bench::new(graph, OutputRequest::values(&keep), root, point, settings)?;
    bench.exec.forward(&point.params);
    let value = |id: Id| -> Vec<f64> {
        match graph.parameter(id) {
            Some(p) => point.params[p.range()].to_vec(),
            None => bench.exec.value(id).to_vec(),
        }
    };
    for &id in computed.iter().rev() {
        let node = graph.node(id);
        let mut alone = Graph::new();
        let mut at = Point::default();
        let mut renamed: BTreeMap<Id, Id> = BTreeMap::new();
        for input in node.op.inputs() {
            if renamed.contains_key(&input) {
                continue;
            }
            let (name, shape) = (format!("input {input}"), graph.shape(input).clone());
            let new = match graph.node(input).op.role() {
                Role::Index { bound } => {
                    let new = alone.index(&name, shape, bound)?;
                    at.indices.insert(new, point.indices[&input].clone());
                    new
                }
                _ => {
                    let new = alone.input(&name, shape)?;
                    at.inputs.insert(new, value(input));
                    new
                }
            };
            renamed.insert(input, new);
        }
        let out = alone.push_op(node.op.map_inputs(|id| renamed[&id]), node.shape.clone())?;
        let report = whole(&alone, out, &at, settings)?;
        if report.worst.is_some() && !report.passed() {
            let label = if node.label.is_empty() { String::new() } else { format!(" ({})", node.label) };
            return Ok(Some(format!("{id} {}{label}", node.op.name())));
        }
    }
    Ok(None)
}
