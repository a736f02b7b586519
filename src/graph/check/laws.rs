//! The battery: everything that must hold between an operation's forward rule, its backward rule and its formula.

use super::interpret::{self, Direction, Values};
use super::runner::{Runner, cotangent, inner};
use super::taylor::{self, Taylor};
use super::{Point, Report, Settings};
use crate::error::{Error, Result};
use crate::graph::builder::Graph;
use crate::graph::exec::Fault;
use crate::graph::id::Id;
use crate::graph::number::{Dual, Rounded};
use heartlore_kernels::Isa;
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::rng::Key;
use std::fmt;

/// Relative error of the laws that hold to rounding in f64: of a sum, relative to the sum of its terms' magnitudes.
const ROUNDING: f64 = 1e-12;

/// One law at one point.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What must hold.
    pub law: &'static str,
    /// How far it is from holding.
    pub error: f64,
    /// How far it may be.
    pub bound: f64,
    /// Where, for a person.
    pub detail: String,
}

impl Proof {
    fn new(law: &'static str, error: f64, bound: f64) -> Self {
        Self { law, error, bound, detail: String::new() }
    }
    /// NaN never passes.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// What the battery found.
#[derive(Clone, Debug, Default)]
pub struct Battery {
    /// Every law that was tried.
    pub proofs: Vec<Proof>,
    /// Laws that could not be tried here, and why.
    pub skipped: Vec<String>,
    /// The distance from the nearest corner.
    pub corner: f64,
    /// The seed of directions, cotangents and dropout.
    pub seed: u64,
}

impl Battery {
    /// Whether all laws that were tried hold, and one was.
    pub fn passed(&self) -> bool {
        !self.proofs.is_empty() && self.proofs.iter().all(Proof::passed)
    }
    /// Laws that do not hold.
    pub fn failures(&self) -> impl Iterator<Item = &Proof> {
        self.proofs.iter().filter(|p| !p.passed())
    }
    /// The battery as an error unless it passed.
    ///
    /// # Errors
    /// With every law that does not hold.
    pub fn into_result(self) -> Result<Self> {
        if self.passed() { Ok(self) } else { Err(Error::numeric(self.to_string())) }
    }
}

impl fmt::Display for Battery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().count();
        match failed {
            0 => write!(f, "{} laws hold", self.proofs.len())?,
            _ => write!(f, "{failed} of {} laws DO NOT HOLD (seed {})", self.proofs.len(), self.seed)?,
        }
        for p in &self.proofs {
            let verdict = if p.passed() { "ok" } else { "FAILS" };
            write!(f, "\n  {verdict:<5} {:<58} error {:.1e}, bound {:.1e}", p.law, p.error, p.bound)?;
            if !p.detail.is_empty() {
                write!(f, "  {}", p.detail)?;
            }
        }
        self.skipped.iter().try_for_each(|why| write!(f, "\n  not tried: {why}"))
    }
}

fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(a, b)| a * b);
    terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
}

/// The transpose law, the main proof: <J v, w> by the formula's tangent against <v, J' w> by the backward rule, to 1e-12 of the
/// terms that are added up. No step size, and one pass each way whatever the number of elements.
///
/// # Errors
/// If the point does not fit the program, or one of its operations has no formula.
pub fn transpose(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Proof> {
    if let Some(node) = graph.nodes().iter().find(|node| !node.op.spec().has_formula()) {
        return Err(Error::usage(format!("check: {} has no formula, and so no tangent", node.op.name())));
    }
    transpose_with(graph, root, point, settings, None, None)
}

pub(super) fn transpose_with(
    graph: &Graph,
    root: Id,
    point: &Point,
    settings: Settings,
    fault: Option<Fault>,
    tangent_fault: interpret::TangentFault<'_, Dual<f64>>,
) -> Result<Proof> {
    let mut runner = Runner::<f64>::new(graph, root, point, settings, Isa::best(), MatmulPrecision::F32)?;
    let w = cotangent(graph.shape(root).elements(), settings.seed, 0);
    let v = point.direction(graph, settings.seed ^ 0xD1);
    let tangent = interpret::jvp_with(graph, root, point, &v, settings, tangent_fault)?;
    let tangent: Vec<f64> = tangent.of(root).iter().map(|d| d.tangent).collect();
    let (forward, size_f) = dot(&tangent, &w);
    let (backward, size_b) = inner(&v, &runner.gradient(&w, fault));
    // What cancels inside the program cancels in neither sum: the smaller terms of the running error bound stand for it.
    let size = size_f.max(size_b).max(rounding(graph, root, point, &v, &w, settings)?);
    Ok(Proof::new("<J v, w> = <v, J' w>, f64", (forward - backward).abs(), ROUNDING * size))
}

/// The bound on the error of <J v, w> in units of u, divided by the roundings of one term: the size of what is added up.
fn rounding(
    graph: &Graph,
    root: Id,
    point: &Point,
    v: &Direction,
    w: &[f64],
    settings: Settings,
) -> Result<f64> {
    let exact = |x: f64| Rounded { value: x, error: 0.0 };
    let leaf = |id, i| Dual { value: exact(point.leaf(graph, id, i)), tangent: exact(v.leaf(graph, id, i)) };
    let values = Values::<Dual<Rounded>>::compute(graph, root, point, settings, leaf, None)?;
    let terms =
        values.of(root).iter().zip(w).map(|(d, w)| (d.tangent.error + d.tangent.value.abs()) * w.abs());
    Ok(terms.sum())
}

/// Every law at a point. Where the point lies on or near a corner the laws that need a derivative are left out and said to
/// be, and one-sided derivatives decide.
///
/// # Errors
/// If the point does not fit the program. A law that does not hold is not an error but a failed [`Battery`].
pub fn battery(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Battery> {
    /// Nearer to a corner, difference quotients may cross it.
    const NEAR: f64 = 1e-3;
    let point = &point.rounded();
    let mut b = Battery { seed: settings.seed, corner: f64::INFINITY, ..Battery::default() };
    let n = graph.shape(root).elements();
    let (w, w2) = (cotangent(n, settings.seed, 0), cotangent(n, settings.seed, 1));
    let mut runner = Runner::<f64>::new(graph, root, point, settings, Isa::best(), MatmulPrecision::F32)?;
    let value = runner.value();
    let gradient = runner.gradient(&w, None);
    backward_laws(&mut b, &mut runner, &gradient, &w, &w2);

    let v = point.direction(graph, settings.seed ^ 0xD1);
    if graph.nodes().iter().all(|node| node.op.spec().has_formula()) {
        let formula = Values::<f64>::at(graph, root, point, settings)?;
        b.corner = formula.corner;
        let (mut error, mut size) = (0.0f64, 1.0f64);
        for (a, f) in value.iter().zip(formula.of(root)) {
            (error, size) = (error.max((a - f).abs()), size.max(f.abs()));
            error = if a.is_finite() { error } else { f64::INFINITY };
        }
        let magnitude = size.max(rounding_of_values(graph, root, point, settings)?);
        b.proofs.push(Proof::new("kernels' values = the formula's, f64", error, ROUNDING * magnitude));
        b.proofs.push(transpose(graph, root, point, settings)?);
        precision_laws(&mut b, graph, root, point, settings, &w)?;
        if formula.corner > NEAR {
            second_order(&mut b, graph, root, point, settings, &w)?;
        }
    } else {
        b.skipped.push("forward mode and what follows from it: an operation has no formula".into());
    }
    if b.corner > NEAR {
        let report: Report = super::gradients(graph, root, point, settings)?;
        if let Some(worst) = &report.worst {
            let mut p = Proof::new("gradient = central differences, f64", worst.error, report.tolerance);
            p.detail = report.culprit.clone().unwrap_or_default();
            b.proofs.push(p);
        }
        taylor_law(&mut b, graph, root, point, settings, &v)?;
    } else {
        b.skipped.push(format!("differences and second order: a corner is only {:.1e} away", b.corner));
    }
    one_sided(&mut b, &mut runner, point, &gradient, &w, settings)?;
    Ok(b)
}

fn rounding_of_values(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<f64> {
    let exact = |x: f64| Rounded { value: x, error: 0.0 };
    let leaf = |id, i| Dual { value: exact(point.leaf(graph, id, i)), tangent: exact(0.0) };
    let values = Values::<Dual<Rounded>>::compute(graph, root, point, settings, leaf, None)?;
    Ok(values.of(root).iter().map(|d| d.value.error).fold(0.0, f64::max))
}

/// Laws of the backward rule alone.
fn backward_laws(b: &mut Battery, runner: &mut Runner<f64>, gradient: &Direction, w: &[f64], w2: &[f64]) {
    let combined: Vec<f64> = w.iter().zip(w2).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
    let (second, both) = (runner.gradient(w2, None), runner.gradient(&combined, None));
    let all = |d: &Direction| -> Vec<f64> { d.inputs.values().flatten().chain(&d.params).copied().collect() };
    let (g1, g2, g12) = (all(gradient), all(&second), all(&both));
    let (mut error, mut size) = (0.0f64, 0.0f64);
    for ((a, b), c) in g1.iter().zip(&g2).zip(&g12) {
        let e = (2.0 * a - 3.0 * b - c).abs();
        error = if e.is_nan() { f64::INFINITY } else { error.max(e) };
        size = size.max(2.0 * a.abs() + 3.0 * b.abs());
    }
    b.proofs.push(Proof::new("linear in the cotangent", error, 1e-11 * (1.0 + size)));
    let zero = all(&runner.gradient(&vec![0.0; w.len()], None));
    let nonzero = zero.iter().filter(|g| **g != 0.0).count();
    b.proofs.push(Proof::new("zero cotangent, zero gradient", nonzero as f64, 0.0));
    let again = all(&runner.gradient(w, None));
    let different = again.iter().zip(&g1).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    b.proofs.push(Proof::new("two runs, the same bits", different as f64, 0.0));
}

/// f32 on every instruction set, and with operands of products in bf16, against the f64 tangent.
fn precision_laws(
    b: &mut Battery,
    graph: &Graph,
    root: Id,
    point: &Point,
    settings: Settings,
    w: &[f64],
) -> Result<()> {
    /// The backward pass makes the roundings of the tangent in another order, and as many again in what it recomputes.
    const OTHER_ORDER: f64 = 4.0;
    // In f32's own numbers.
    let w: Vec<f64> = w.iter().map(|&w| f64::from(w as f32)).collect();
    let v = point.direction(graph, settings.seed ^ 0xD2).rounded();
    let (exact, _) = dot(&interpret::jvp(graph, root, point, &v, settings)?, &w);
    let coefficient = rounding(graph, root, point, &v, &w, settings)?;
    let bound = |u: f64| OTHER_ORDER * u * coefficient + f64::from(f32::MIN_POSITIVE);
    for (law, precision, u) in [
        ("<v, J' w> in f32 within its rounding bound", MatmulPrecision::F32, f64::from(f32::EPSILON) / 2.0),
        ("<v, J' w> with bf16 operands within its rounding bound", MatmulPrecision::Bf16, 1.0 / 256.0),
    ] {
        for isa in Isa::available() {
            let mut runner = Runner::<f32>::new(graph, root, point, settings, isa, precision)?;
            let error = (inner(&v, &runner.gradient(&w, None)).0 - exact).abs();
            b.proofs.push(Proof { detail: isa.to_string(), ..Proof::new(law, error, bound(u)) });
        }
    }
    Ok(())
}

/// u' H v = v' H u, both against differences of gradients, and the complex step against the tangent.
fn second_order(
    b: &mut Battery,
    graph: &Graph,
    root: Id,
    point: &Point,
    settings: Settings,
    w: &[f64],
) -> Result<()> {
    let (u, v) = (point.direction(graph, settings.seed ^ 0xD3), point.direction(graph, settings.seed ^ 0xD4));
    let (uhv, size) = dot(&interpret::second_derivative(graph, root, point, &u, &v, settings)?, w);
    let (vhu, _) = dot(&interpret::second_derivative(graph, root, point, &v, &u, settings)?, w);
    let scale = 1.0 + size;
    b.proofs.push(Proof::new("u' H v = v' H u", (uhv - vhu).abs(), 1e-11 * scale));
    let h = 1e-5;
    let at = |h: f64| -> Result<f64> {
        let (isa, f32) = (Isa::best(), MatmulPrecision::F32);
        let mut runner = Runner::<f64>::new(graph, root, &point.moved(h, &v), settings, isa, f32)?;
        Ok(inner(&u, &runner.gradient(w, None)).0)
    };
    let numeric = (at(h)? - at(-h)?) / (2.0 * h);
    b.proofs.push(Proof::new("u' H v = difference of gradients", (uhv - numeric).abs(), 2e-6 * scale));
    let (complex, _) = dot(&interpret::complex_step(graph, root, point, &v, settings)?, w);
    let (tangent, size) = dot(&interpret::jvp(graph, root, point, &v, settings)?, w);
    // The series of erf is cut off at 1e-12 in complex arithmetic.
    b.proofs.push(Proof::new("J v = the complex step", (complex - tangent).abs(), 1e-9 * (1.0 + size)));
    Ok(())
}

fn taylor_law(
    b: &mut Battery,
    graph: &Graph,
    root: Id,
    point: &Point,
    settings: Settings,
    v: &Direction,
) -> Result<()> {
    // Far enough from the next corner that no step crosses it, for slopes up to ten.
    let largest = (0.1 * b.corner).min(0.02);
    let taylor = Taylor::measure(graph, root, point, v, settings, largest)?;
    match taylor.slope() {
        // A wrong gradient makes it less than 2; more means that the second derivative is next to nothing.
        Some(slope) if slope > 2.1 => b.skipped.push(format!("Taylor's formula: {}", taylor::FLAT)),
        Some(slope) => {
            let mut p =
                Proof::new("the remainder of Taylor's formula falls as h^2", (slope - 2.0).abs(), 0.1);
            p.detail = format!("slope {slope:.3}");
            b.proofs.push(p);
        }
        None => b.skipped.push(format!("Taylor's formula: {}", taylor::FLAT)),
    }
    Ok(())
}

/// The derivative lies between the one-sided ones: also at a corner, whatever the rule there.
fn one_sided(
    b: &mut Battery,
    runner: &mut Runner<f64>,
    point: &Point,
    gradient: &Direction,
    w: &[f64],
    settings: Settings,
) -> Result<()> {
    const H: f64 = 1e-6;
    let mut loss = |point: &Point| -> Result<f64> {
        runner.move_to(point)?;
        Ok(dot(&runner.value(), w).0)
    };
    let here = loss(point)?;
    let nothing = || Point {
        inputs: point.inputs.iter().map(|(id, x)| (*id, vec![0.0; x.len()])).collect(),
        indices: Default::default(),
        params: vec![0.0; point.params.len()],
    };
    let differentiable = point.direction(&runner.exec.graph().clone(), 1);
    let mut worst = Proof::new("between the one-sided derivatives", 0.0, 1e-4);
    let stream = Key { seed: settings.seed, step: 9, ..Key::default() }.stream();
    let sizes: Vec<(Option<Id>, usize)> = point
        .inputs
        .iter()
        .filter(|(id, _)| differentiable.inputs[id].iter().any(|v| *v != 0.0))
        .map(|(id, x)| (Some(*id), x.len()))
        .chain((!point.params.is_empty()).then_some((None, point.params.len())))
        .collect();
    for (number, (id, n)) in sizes.iter().flat_map(|size| (0..4).map(move |k| (k, size))) {
        let i = ((stream.uniform(0, number) * *n as f64) as usize).min(n - 1);
        let mut e = nothing();
        let name = match id {
            Some(id) => {
                e.inputs.entry(*id).and_modify(|x| x[i] = 1.0);
                runner.exec.graph().node(*id).label.clone()
            }
            None => {
                e.params[i] = 1.0;
                "parameters".into()
            }
        };
        let mut loss = |point: &Point| -> Result<f64> {
            runner.move_to(point)?;
            Ok(dot(&runner.value(), w).0)
        };
        let right = (loss(&point.moved(H, &e))? - here) / H;
        let left = (here - loss(&point.moved(-H, &e))?) / H;
        let analytic = inner(gradient, &e).0;
        let outside = (left.min(right) - analytic).max(analytic - left.max(right)).max(0.0);
        let error = outside / (1.0 + analytic.abs() + left.abs().max(right.abs()));
        if error > worst.error || error.is_nan() {
            worst.error = if error.is_nan() { f64::INFINITY } else { error };
            worst.detail = format!("{name}[{i}]: {analytic:.6} not in [{left:.6}, {right:.6}]");
        }
    }
    runner.move_to(point)?;
    if sizes.is_empty() {
        b.skipped.push("one-sided derivatives: nothing to differentiate".into());
    } else {
        b.proofs.push(worst);
    }
    Ok(())
}
