//! The checks checked: a fault planted in every derivative and tangent of the library, of every kind, and counted if caught.

use super::draw::Case;
use super::interpret::TangentFault;
use super::laws::transpose_with;
use super::runner::{Runner, cotangent};
use super::{Point, Settings, cases, interpret};
use crate::error::Result;
use crate::graph::exec::{Fault, FaultKind};
use crate::graph::id::Id;
use crate::graph::number::Dual;
use crate::graph::ops::OpKind;
use heartlore_kernels::Isa;
use heartlore_kernels::gemm::MatmulPrecision;

/// One planted fault.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// `operation: gradient of input 2: WrongIndex`, or `operation: tangent: Sign`.
    pub name: String,
    /// Whether it changed the derivative in one of the cases tried. If not, it is no fault: a transposition of the elements of a
    /// gradient that has one element, or a dropout mask where there is no dropout.
    pub effective: bool,
    /// Whether the transpose law failed where it did.
    pub caught: bool,
}

/// Cases tried until a fault changes something.
const TRIES: u64 = 30;

/// Plants every kind of fault in the gradient of every input, and in the tangent, of every operation. The oracle that says
/// whether a fault is one compares gradients element by element, apart from the law under test.
///
/// # Errors
/// If a case cannot be run.
pub fn mutants(seed: u64) -> Result<Vec<Mutant>> {
    let mut out = Vec::new();
    for &kind in OpKind::ALL.iter().filter(|kind| !kind.is_leaf()) {
        for slot in 0..crate::graph::id::MAX_INPUTS {
            for fault in FaultKind::ALL {
                let name = format!("{}: gradient of input {slot}: {fault:?}", kind.name());
                out.extend(gradient_mutant(kind, slot, fault, seed, name)?);
            }
        }
        for fault in [FaultKind::Sign, FaultKind::Factor, FaultKind::MissingTerm, FaultKind::WrongIndex] {
            let name = format!("{}: tangent: {fault:?}", kind.name());
            out.push(tangent_mutant(kind, fault, seed, name)?);
        }
    }
    Ok(out)
}

/// A case of this kind with its point, and the first operation of the kind in it.
fn drawn(kind: OpKind, seed: u64) -> Result<Option<(Case, Point, Settings, Id)>> {
    let case = cases::of(kind, 2 + (seed % 4) as usize, seed);
    let settings = case.settings(seed);
    // The second recording on the same inputs: it goes backward first, the first one adds.
    let at = case.graph.ids().find(|&id| case.graph.node(id).op.kind() == kind);
    Ok(case.point(seed)?.and_then(|point| at.map(|at| (case, point, settings, at))))
}

fn gradient_mutant(
    kind: OpKind,
    slot: usize,
    fault: FaultKind,
    seed: u64,
    name: String,
) -> Result<Option<Mutant>> {
    let mut mutant = Mutant { name, effective: false, caught: false };
    let mut has_slot = false;
    for seed in (0..TRIES).map(|i| seed.wrapping_add(i)) {
        let Some((case, point, settings, id)) = drawn(kind, seed)? else { continue };
        let op = &case.graph.node(id).op;
        if op.slots()[slot].is_none() || !op.differentiable(slot) {
            continue;
        }
        has_slot = true;
        let fault = Fault { id, slot, kind: fault };
        let (isa, f32) = (Isa::best(), MatmulPrecision::F32);
        let mut runner = Runner::<f64>::new(&case.graph, case.root, &point, settings, isa, f32)?;
        let w = cotangent(case.graph.shape(case.root).elements(), settings.seed, 0);
        let (right, wrong) = (runner.gradient(&w, None), runner.gradient(&w, Some(fault)));
        if !differ(&right, &wrong, &point, &case) {
            continue;
        }
        mutant.effective = true;
        mutant.caught =
            !transpose_with(&case.graph, case.root, &point, settings, Some(fault), None)?.passed();
        break;
    }
    Ok(has_slot.then_some(mutant))
}

/// Whether two gradients differ by more than rounding, in what can be varied.
fn differ(a: &Point, b: &Point, point: &Point, case: &Case) -> bool {
    let free = point.direction(&case.graph, 3);
    let inputs = free.inputs.iter().filter(|(_, v)| v.iter().any(|v| *v != 0.0));
    let inputs = inputs.flat_map(|(id, _)| a.inputs[id].iter().zip(&b.inputs[id]));
    inputs.chain(a.params.iter().zip(&b.params)).any(|(a, b)| (a - b).abs() > 1e-9 * (1.0 + a.abs()))
}

fn tangent_mutant(kind: OpKind, fault: FaultKind, seed: u64, name: String) -> Result<Mutant> {
    let mut mutant = Mutant { name, effective: false, caught: false };
    for seed in (0..TRIES).map(|i| seed.wrapping_add(i)) {
        let Some((case, point, settings, id)) = drawn(kind, seed)? else { continue };
        let spoil = |y: &mut [Dual<f64>]| {
            let mut tangents: Vec<f64> = y.iter().map(|d| d.tangent).collect();
            fault.spoil(&mut tangents, 0.0, |d, factor| factor * d);
            y.iter_mut().zip(tangents).for_each(|(y, t)| y.tangent = t);
        };
        let planted: TangentFault<'_, Dual<f64>> = Some((id, &spoil));
        let v = point.direction(&case.graph, settings.seed ^ 0xD1);
        let run = |fault| interpret::jvp_with(&case.graph, case.root, &point, &v, settings, fault);
        let (right, wrong) = (run(None)?, run(planted)?);
        let pairs = right.of(case.root).iter().zip(wrong.of(case.root));
        if !pairs.clone().any(|(a, b)| (a.tangent - b.tangent).abs() > 1e-9 * (1.0 + a.tangent.abs())) {
            continue;
        }
        mutant.effective = true;
        mutant.caught = !transpose_with(&case.graph, case.root, &point, settings, None, planted)?.passed();
        break;
    }
    Ok(mutant)
}
