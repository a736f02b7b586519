//! A failing program cut down to the smallest that still fails, as Rust code.

use super::interpret::Values;
use super::{Point, Settings};
use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::id::Id;
use crate::graph::operation::{Role, Shapes};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A program, what is differentiated, and a point.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The program.
    pub graph: Graph,
    /// What is differentiated.
    pub root: Id,
    /// Where.
    pub point: Point,
}

impl Failing {
    /// What `root` depends on, with the values in `cut` made inputs that hold their numbers.
    fn part(&self, root: Id, cut: &[Id], settings: Settings) -> Result<Failing> {
        let values = Values::<f64>::at(&self.graph, self.root, &self.point, settings)?;
        let mut needed = vec![false; self.graph.nodes().len()];
        needed[root.index()] = true;
        for i in (0..needed.len()).rev() {
            if needed[i] && !cut.contains(&Id(i as u32)) {
                self.graph.nodes()[i].op.inputs().for_each(|id| needed[id.index()] = true);
            }
        }
        let (mut graph, mut point) = (Graph::new(), Point::default());
        let mut renamed: BTreeMap<Id, Id> = BTreeMap::new();
        for id in self.graph.ids().filter(|id| needed[id.index()]) {
            let node = self.graph.node(id);
            let new = match node.op.role() {
                Role::Index { bound } => {
                    let new = graph.index(&format!("i{}", id.index()), &node.shape, bound)?;
                    point.indices.insert(new, self.point.indices[&id].clone());
                    new
                }
                role if cut.contains(&id) || matches!(role, Role::Input | Role::Param { .. }) => {
                    // Of a parameter too: a part needs no parameters.
                    let new = graph.input(&format!("x{}", id.index()), &node.shape)?;
                    point.inputs.insert(new, values.of(id).to_vec());
                    new
                }
                _ => graph.push_op(node.op.map_inputs(|id| renamed[&id]), node.shape.clone())?,
            };
            renamed.insert(id, new);
        }
        Ok(Failing { graph, root: renamed[&root], point })
    }

    /// Operations, without inputs.
    pub fn operations(&self) -> usize {
        self.graph.nodes().iter().filter(|node| !node.op.is_leaf()).count()
    }

    /// Rust code that records it and checks it: to be pasted into a test.
    pub fn code(&self, settings: Settings) -> String {
        let name = |id: Id| format!("v{}", id.index());
        let mut out = String::from("let mut g = Graph::new();\n");
        for id in self.graph.ids() {
            let node = self.graph.node(id);
            let label = |other: Id| if other == id { node.label.clone() } else { name(other) };
            let call = node.op.spec().code(Shapes::new(self.graph.nodes(), id), &label);
            let _ = writeln!(out, "let {} = {call}; // {}", name(id), node.shape);
        }
        out.push_str("let mut point = Point::default();\n");
        for (id, x) in &self.point.inputs {
            let _ = writeln!(out, "point.inputs.insert({}, vec!{x:?});", name(*id));
        }
        for (id, x) in &self.point.indices {
            let _ = writeln!(out, "point.indices.insert({}, vec!{x:?});", name(*id));
        }
        let Settings { seed, dropout, .. } = settings;
        let _ = writeln!(
            out,
            "let settings = Settings {{ seed: {seed}, dropout: {dropout}, ..Settings::default() }};"
        );
        let _ = writeln!(out, "check::battery(&g, {}, &point, settings)?.into_result()?;", name(self.root));
        out
    }
}

/// Makes a failing program smaller as long as `fails` says that it still does: an earlier root, values in place of the
/// operations that compute them, then rounder numbers. What is left is usually one operation.
///
/// # Errors
/// If the program cannot be run.
pub fn shrink(
    failing: Failing,
    settings: Settings,
    mut fails: impl FnMut(&Failing) -> bool,
) -> Result<Failing> {
    let mut best = failing;
    'smaller: loop {
        let computed: Vec<Id> =
            best.graph.ids().filter(|&id| id <= best.root && !best.graph.node(id).op.is_leaf()).collect();
        // The earliest root that fails, then every value as an input, each alone.
        for &root in computed.iter().filter(|&&id| id < best.root) {
            let part = best.part(root, &[], settings)?;
            if fails(&part) {
                best = part;
                continue 'smaller;
            }
        }
        for &cut in computed.iter().rev().filter(|&&id| id < best.root) {
            let part = best.part(best.root, &[cut], settings)?;
            if part.operations() < best.operations() && fails(&part) {
                best = part;
                continue 'smaller;
            }
        }
        break;
    }
    for digits in [0, 1, 2] {
        let mut rounder = best.clone();
        let scale = 10f64.powi(digits);
        let all = rounder.point.inputs.values_mut().flatten();
        all.for_each(|x| *x = (*x * scale).round() / scale);
        if fails(&rounder) {
            return Ok(rounder);
        }
    }
    Ok(best)
}
