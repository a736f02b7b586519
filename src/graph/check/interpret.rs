//! Programs evaluated by their formulas, in any kind of number: values, tangents, second derivatives.

use super::{Point, Settings};
use crate::error::{Error, Result};
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::Id;
use crate::graph::number::{Complex, Dual};
use crate::graph::operation::{FormulaNumber, Role, Shapes};
use heartlore_kernels::rng::Key;
use std::cell::Cell;

/// A direction in the space of all inputs and parameters: a [`Point`] without indices.
pub type Direction = Point;

/// What a program's formulas give.
#[derive(Clone, Debug)]
pub struct Values<N> {
    all: Vec<Vec<N>>,
    /// The smallest distance from a corner (ReLU at 0, equal maxima, norm 0); infinite if there is none.
    pub corner: f64,
    /// The smallest Euclidean norm; infinite if there is none.
    pub(super) norm: f64,
}

/// A fault planted in one operation's tangent, to test the checks.
pub(super) type TangentFault<'a, N> = Option<(Id, &'a dyn Fn(&mut [N]))>;

impl<N: FormulaNumber> Values<N> {
    /// All values that `root` depends on, at leaves given by `leaf(id, element)`.
    pub(super) fn compute(
        graph: &Graph,
        root: Id,
        point: &Point,
        settings: Settings,
        leaf: impl Fn(Id, usize) -> N,
        fault: TangentFault<'_, N>,
    ) -> Result<Self> {
        let mut live = vec![false; graph.nodes().len()];
        live[root.index()] = true;
        for i in (0..live.len()).rev().filter(|&i| i <= root.index()) {
            if live[i] {
                graph.nodes()[i].op.inputs().for_each(|id| live[id.index()] = true);
            }
        }
        let mut indices: Vec<Vec<u32>> = vec![Vec::new(); live.len()];
        point.indices.iter().for_each(|(id, values)| indices[id.index()].clone_from(values));
        let (corner, norm) = (Cell::new(f64::INFINITY), Cell::new(f64::INFINITY));
        let mut all: Vec<Vec<N>> = vec![Vec::new(); live.len()];
        for id in graph.ids().filter(|id| live[id.index()]) {
            let node = graph.node(id);
            let elements = node.shape.elements();
            all[id.index()] = match node.op.role() {
                Role::Index { .. } if indices[id.index()].len() == elements => continue,
                Role::Index { .. } => {
                    return Err(Error::shape(format!(
                        "check: index {:?} needs {elements} values",
                        node.label
                    )));
                }
                Role::Input | Role::Param { .. } => (0..elements).map(|i| leaf(id, i)).collect(),
                Role::Constant | Role::View | Role::Compute => {
                    let key = Key { seed: settings.seed, step: 0, sample: 0, op: id.index() as u32 };
                    let at = Formula {
                        values: &all,
                        indices: &indices,
                        key,
                        dropout: settings.dropout,
                        corner: &corner,
                        norm: &norm,
                    };
                    let mut y = node.op.evaluate(Shapes::new(graph.nodes(), id), &at);
                    if let Some((_, fault)) = fault.filter(|(at, _)| *at == id) {
                        fault(&mut y);
                    }
                    y
                }
            };
        }
        Ok(Self { all, corner: corner.get(), norm: norm.get() })
    }

    /// Of a value.
    pub fn of(&self, id: Id) -> &[N] {
        &self.all[id.index()]
    }

    /// The largest magnitude of any value.
    pub fn largest(&self) -> f64 {
        let all = self.all.iter().flatten().map(|x| x.re().abs());
        all.fold(0.0, |m, x| if x > m || x.is_nan() { x } else { m })
    }
}

impl Values<f64> {
    /// At `point`.
    ///
    /// # Errors
    /// If the point does not fit the program.
    pub fn at(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Self> {
        point.fits(graph, root)?;
        Self::compute(graph, root, point, settings, |id, i| point.leaf(graph, id, i), None)
    }
}

impl Point {
    /// Element `i` of an input or parameter.
    pub(super) fn leaf(&self, graph: &Graph, id: Id, i: usize) -> f64 {
        match graph.node(id).op.role() {
            Role::Param { number } => self.params[graph.layout().entries()[number].offset + i],
            _ => self.inputs[&id][i],
        }
    }

    /// Checks that every input and parameter has its elements.
    pub(super) fn fits(&self, graph: &Graph, root: Id) -> Result<()> {
        if self.params.len() != graph.layout().len() {
            let (got, want) = (self.params.len(), graph.layout().len());
            return Err(Error::shape(format!("check: {got} parameters given, the program has {want}")));
        }
        for id in graph.ids().filter(|&id| id <= root && graph.node(id).op.is_input()) {
            let (got, want) = (self.inputs.get(&id).map_or(0, Vec::len), graph.shape(id).elements());
            if got != want {
                let name = &graph.node(id).label;
                return Err(Error::shape(format!("check: input {name:?} has {want} elements, given {got}")));
            }
        }
        Ok(())
    }

    /// A random direction at this point. It leaves alone what the program takes no derivative of.
    pub fn direction(&self, graph: &Graph, seed: u64) -> Direction {
        let mut direction = Point { indices: Default::default(), ..Point::random(graph, seed) };
        for (id, values) in &mut direction.inputs {
            let data = graph.nodes().iter().any(|node| {
                let slots = node.op.slots();
                (0..slots.len()).any(|s| slots[s] == Some(*id) && !node.op.differentiable(s))
            });
            if data {
                values.fill(0.0);
            }
        }
        direction
    }
}

/// J v of `root` at `point` by forward mode: exact to rounding, one pass, no step size.
///
/// # Errors
/// If the point or the direction does not fit the program.
pub fn jvp(
    graph: &Graph,
    root: Id,
    point: &Point,
    direction: &Direction,
    settings: Settings,
) -> Result<Vec<f64>> {
    let values = jvp_with(graph, root, point, direction, settings, None)?;
    Ok(values.of(root).iter().map(|d| d.tangent).collect())
}

pub(super) fn jvp_with(
    graph: &Graph,
    root: Id,
    point: &Point,
    direction: &Direction,
    settings: Settings,
    fault: TangentFault<'_, Dual<f64>>,
) -> Result<Values<Dual<f64>>> {
    point.fits(graph, root)?;
    direction.fits(graph, root)?;
    let leaf = |id, i| Dual { value: point.leaf(graph, id, i), tangent: direction.leaf(graph, id, i) };
    Values::compute(graph, root, point, settings, leaf, fault)
}

/// As [`jvp`], computed in f32.
///
/// # Errors
/// As [`jvp`].
pub fn jvp_f32(
    graph: &Graph,
    root: Id,
    point: &Point,
    direction: &Direction,
    settings: Settings,
) -> Result<Vec<f32>> {
    point.fits(graph, root)?;
    direction.fits(graph, root)?;
    let leaf =
        |id, i| Dual { value: point.leaf(graph, id, i) as f32, tangent: direction.leaf(graph, id, i) as f32 };
    let values = Values::<Dual<f32>>::compute(graph, root, point, settings, leaf, None)?;
    Ok(values.of(root).iter().map(|d| d.tangent).collect())
}

/// u' H v of every element of `root`: second derivatives along two directions, exact to rounding.
///
/// # Errors
/// As [`jvp`].
pub fn second_derivative(
    graph: &Graph,
    root: Id,
    point: &Point,
    u: &Direction,
    v: &Direction,
    settings: Settings,
) -> Result<Vec<f64>> {
    [point, u, v].into_iter().try_for_each(|p| p.fits(graph, root))?;
    let leaf = |id, i| Dual {
        value: Dual { value: point.leaf(graph, id, i), tangent: u.leaf(graph, id, i) },
        tangent: Dual { value: v.leaf(graph, id, i), tangent: 0.0 },
    };
    let values = Values::<Dual<Dual<f64>>>::compute(graph, root, point, settings, leaf, None)?;
    Ok(values.of(root).iter().map(|d| d.tangent.tangent).collect())
}

/// J v by the complex step: f(x + ihv) / h with h = 1e-30, of which the real part loses nothing. Smooth formulas only: a
/// comparison looks at the real part, so that at a corner it gives one of the one-sided derivatives.
///
/// # Errors
/// As [`jvp`].
pub fn complex_step(
    graph: &Graph,
    root: Id,
    point: &Point,
    direction: &Direction,
    settings: Settings,
) -> Result<Vec<f64>> {
    const H: f64 = 1e-30;
    [point, direction].into_iter().try_for_each(|p| p.fits(graph, root))?;
    let leaf = |id, i| Complex { re: point.leaf(graph, id, i), im: H * direction.leaf(graph, id, i) };
    let values = Values::<Complex>::compute(graph, root, point, settings, leaf, None)?;
    Ok(values.of(root).iter().map(|z| z.im / H).collect())
}
