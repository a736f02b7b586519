//! The study mode: a program as text, with shapes, bytes, FLOPs and places; values and gradients on demand.

use super::builder::Graph;
use super::exec::Exec;
use super::id::Id;
use super::operation::Precision;
use super::plan::Plan;
use heartlore_kernels::Real;
use std::fmt::Write;

/// Work and memory of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value.
    pub id: Id,
    /// Operation with its inputs and settings.
    pub text: String,
    /// Elements of the result.
    pub elements: usize,
    /// Elements kept for the backward pass beside the result.
    pub saved: usize,
    /// FLOPs forward.
    pub forward: u64,
    /// FLOPs backward, 0 if the plan has no backward pass here.
    pub backward: u64,
}

/// Work and memory per operation; operations the plan leaves out are not listed.
pub fn rows(graph: &Graph, plan: &Plan) -> Vec<Row> {
    graph
        .ids()
        .filter(|&id| plan.is_live(id))
        .map(|id| {
            let (forward, backward) = graph.flops(id);
            Row {
                id,
                text: describe(graph, id),
                elements: graph.shape(id).elements(),
                saved: plan.steps[id.index()].saved.len(),
                forward,
                backward: if plan.is_differentiated(id) { backward } else { 0 },
            }
        })
        .collect()
}

/// One operation as text: kind, inputs, settings.
pub fn describe(graph: &Graph, id: Id) -> String {
    let node = graph.node(id);
    let mut text = node.op.name().to_string();
    for input in node.op.inputs() {
        let _ = match &graph.node(input) {
            n if n.op.is_leaf() && !n.label.is_empty() => write!(text, " {}", n.label),
            _ => write!(text, " {input}"),
        };
    }
    if node.op.is_leaf() && !node.label.is_empty() {
        let _ = write!(text, " {}", node.label);
    }
    text + &node.op.spec().settings()
}

/// The whole program as a table, with sums and the plan's memory, for elements of `element_bytes` bytes.
pub fn program(graph: &Graph, plan: &Plan, element_bytes: usize) -> String {
    let mut out = String::new();
    let kib = |n: usize| n as f64 * element_bytes as f64 / 1024.0;
    let _ = writeln!(
        out,
        "{:>5}  {:<16} {:>10} {:>10} {:>12} {:>12}  operation",
        "value", "shape", "KiB", "saved KiB", "MFLOP fwd", "MFLOP bwd"
    );
    let (mut forward, mut backward) = (0, 0);
    let mut scope = "";
    for row in rows(graph, plan) {
        let node = graph.node(row.id);
        if !node.op.is_leaf() && node.label != scope {
            scope = &node.label;
            if !scope.is_empty() {
                let _ = writeln!(out, "       -- {scope}");
            }
        }
        let _ = writeln!(
            out,
            "{:>5}  {:<16} {:>10.1} {:>10.1} {:>12.3} {:>12.3}  {}",
            row.id.to_string(),
            node.shape.to_string(),
            kib(row.elements),
            kib(row.saved),
            row.forward as f64 / 1e6,
            row.backward as f64 / 1e6,
            row.text
        );
        forward += row.forward;
        backward += row.backward;
    }
    let m = plan.memory();
    let _ = writeln!(
        out,
        "total {:.3} MFLOP forward, {:.3} MFLOP backward; parameters {:.1} KiB",
        forward as f64 / 1e6,
        backward as f64 / 1e6,
        kib(graph.layout().len())
    );
    let _ = writeln!(
        out,
        "memory in KiB: values {:.1}, saved {:.1}, gradients {:.1}, scratch {:.1}; without sharing {:.1}, arena {:.1} (lower bound {:.1})",
        kib(m.values),
        kib(m.saved),
        kib(m.gradients),
        kib(m.scratch),
        kib(m.unshared()),
        kib(m.arena),
        kib(m.bound)
    );
    out
}

/// Numbers as text: the first ones, then smallest, largest and mean.
pub fn numbers<T: Real>(values: &[T]) -> String {
    let mut out = String::from("[");
    for (i, v) in values.iter().take(8).enumerate() {
        let _ = write!(out, "{}{v:.4}", if i > 0 { ", " } else { "" });
    }
    if values.len() > 8 {
        out.push_str(", ...");
    }
    let low = values.iter().map(|v| v.f64()).fold(f64::INFINITY, f64::min);
    let high = values.iter().map(|v| v.f64()).fold(f64::NEG_INFINITY, f64::max);
    let mean = values.iter().map(|v| v.f64()).sum::<f64>() / values.len().max(1) as f64;
    let _ = write!(out, "]  min {low:.4} max {high:.4} mean {mean:.4}");
    out
}

/// The values kept and the gradients wanted by the executor's plan, after its passes.
pub fn run<T: Precision>(exec: &Exec<T>) -> String {
    let (graph, plan) = (exec.graph(), exec.plan());
    let mut out = String::new();
    for id in graph.ids() {
        let want = plan.want();
        let has_value = want.keep.contains(&id);
        let has_gradient = want.gradients.contains(&id);
        if has_value || has_gradient {
            let _ = writeln!(out, "{id} {} {}", graph.shape(id), describe(graph, id));
        }
        if has_value {
            let _ = writeln!(out, "    value    {}", numbers(exec.value(id)));
        }
        if has_gradient {
            let _ = writeln!(out, "    gradient {}", numbers(exec.gradient(id)));
        }
    }
    out
}
