//! # Lesson 1: the chain rule by hand
//!
//! Run it: `cargo run --release --no-default-features --example 01_chain_rule`
//!
//! Training a network means asking, for every one of its numbers: if this number grew a little, how much would the loss
//! grow? The answer is a derivative, and the rule that delivers all of them in one go is the chain rule, applied from the
//! result back to the inputs. This is reverse-mode automatic differentiation, "backpropagation". Everything else in this
//! library is that rule, made fast and made safe.
//!
//! We take an expression small enough for a pencil,
//!
//! ```text
//! y = (a b + a) * (a b)        with a = 2, b = 3
//! ```
//!
//! and cut it into steps, each of which does one thing:
//!
//! ```text
//! u = a * b        v = u + a        y = v * u
//! ```
//!
//! Two values are used twice: `a` (in u and in v) and `u` (in v and in y). They are the point of the lesson.
//!
//! **Forward pass.** Compute u, v, y in order and keep them: the derivatives of a product need the factors.
//!
//! **Reverse sweep.** Write `da` for dy/da, and so on. Start with dy = 1 (y grows exactly as much as y grows), then undo
//! the steps, last one first. A step receives the derivative of its result and hands on, to each of its inputs,
//! *derivative of the result times local slope*:
//!
//! ```text
//! y = v * u    slope towards v is u, towards u is v        dv  = dy * u      du  = dy * v
//! v = u + a    slope 1 towards both                        du += dv          da  = dv
//! u = a * b    slope towards a is b, towards b is a        da += du * b      db  = du * a
//! ```
//!
//! Note the `+=`. If a nudge of u reaches y along two paths, the effects of both add up (the chain rule for several
//! variables: dy/du = sum over paths). So a value that is used twice receives two contributions. The first one may
//! overwrite, every later one must add. Getting this wrong is the commonest fault in hand-written backward passes, and a
//! test whose values are all used once cannot see it.

use heartlore::graph::{Exec, Graph, OutputRequest, Plan, trace};
use heartlore::kernels::activation::Activation;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// The expression in plain Rust, for difference quotients.
fn expression(a: f64, b: f64) -> f64 {
    let u = a * b;
    let v = u + a;
    v * u
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (a, b) = (2.0, 3.0);

    writeln!(out, "LESSON 1: THE CHAIN RULE BY HAND\n")?;
    writeln!(out, "y = (a b + a) * (a b)   at a = {a}, b = {b}\n")?;

    // ---- Forward: one step at a time, keeping what the reverse sweep will ask for.
    let u = a * b;
    let v = u + a;
    let y = v * u;
    writeln!(out, "1. Forward\n")?;
    writeln!(out, "   u = a * b = {a} * {b} = {u:>4}")?;
    writeln!(out, "   v = u + a = {u} + {a} = {v:>4}")?;
    writeln!(out, "   y = v * u = {v} * {u} = {y:>4}\n")?;

    // ---- Reverse: the same three steps, last one first.
    let dy = 1.0;
    // y = v * u
    let dv = dy * u;
    let du_from_y = dy * v;
    // v = u + a: u was used before (in y), so this is its second contribution.
    let du_from_v = dv * 1.0;
    let du = du_from_y + du_from_v;
    let da_from_v = dv * 1.0;
    // u = a * b: only now, when du is complete, may it be handed on.
    let da_from_u = du * b;
    let da = da_from_v + da_from_u;
    let db = du * a;

    writeln!(out, "2. Reverse (dx stands for dy/dx)\n")?;
    writeln!(out, "   step         hands on                                  so far")?;
    writeln!(out, "   (start)                                                dy = {dy}")?;
    writeln!(out, "   y = v * u    dv  = dy * u = {dy} * {u} = {dv:<2}                    dv = {dv}")?;
    writeln!(
        out,
        "                du  = dy * v = {dy} * {v} = {du_from_y:<2}                    du = {du_from_y}"
    )?;
    writeln!(
        out,
        "   v = u + a    du += dv * 1 = {dv} * 1 = {du_from_v:<2}   second use of u  du = {du_from_y} + {du_from_v} = {du}"
    )?;
    writeln!(
        out,
        "                da  = dv * 1 = {dv} * 1 = {da_from_v:<2}                    da = {da_from_v}"
    )?;
    writeln!(
        out,
        "   u = a * b    da += du * b = {du} * {b} = {da_from_u:<2}  second use of a  da = {da_from_v} + {da_from_u} = {da}"
    )?;
    writeln!(out, "                db  = du * a = {du} * {a} = {db:<2}                   db = {db}\n")?;

    // ---- Two witnesses. First, algebra: y = a^2 b^2 + a^2 b, differentiated as one learns it at school.
    let school = (2.0 * a * b * b + 2.0 * a * b, 2.0 * a * a * b + a * a);
    // Second, no theory at all: move the input a little and look (lesson 3 is about how far to trust this).
    let h = 1e-5;
    let quotient_a = (expression(a + h, b) - expression(a - h, b)) / (2.0 * h);
    let quotient_b = (expression(a, b + h) - expression(a, b - h)) / (2.0 * h);
    // And the fault: overwriting instead of adding.
    let (wrong_du, wrong_da) = (du_from_v, du_from_v * b);

    writeln!(out, "3. Three ways to the same numbers, and one to wrong ones\n")?;
    writeln!(out, "   {:<46} {:>12} {:>12}", "", "dy/da", "dy/db")?;
    writeln!(out, "   {:<46} {da:>12} {db:>12}", "reverse sweep")?;
    writeln!(out, "   {:<46} {:>12} {:>12}", "algebra: 2ab^2 + 2ab and 2a^2b + a^2", school.0, school.1)?;
    writeln!(
        out,
        "   {:<46} {quotient_a:>12.7} {quotient_b:>12.7}",
        "difference quotient, (y(x+h) - y(x-h)) / 2h"
    )?;
    writeln!(
        out,
        "   {:<46} {wrong_da:>12} {:>12}   <- wrong\n",
        "overwriting (=) where it should add (+=)",
        wrong_du * a
    )?;
    assert_eq!((da, db), school);
    assert!((quotient_a - da).abs() < 1e-7 && (quotient_b - db).abs() < 1e-7);
    assert_ne!((wrong_da, wrong_du * a), school);

    recorded(out, [a, b], [u, v, y], [da, db, du, dv])?;
    neuron(out)?;

    writeln!(out, "6. Why backwards?\n")?;
    writeln!(
        out,
        "   One can also sweep forwards: push the nudge of ONE input through all steps. That gives dy/da;"
    )?;
    writeln!(
        out,
        "   dy/db needs a second sweep, and a model with 10 million parameters 10 million sweeps. The"
    )?;
    writeln!(
        out,
        "   reverse sweep starts from the ONE result and gets all derivatives at the price of about two"
    )?;
    writeln!(out, "   forward passes. Its price in memory: u and v had to be kept (lesson 6).\n")?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - add a third use of u (y = v * u + u) and work out du before you run it;")?;
    writeln!(
        out,
        "  - set b = 0: dy/da becomes 0 and dy/db does not; find the lines of section 2 that say why;"
    )?;
    writeln!(
        out,
        "  - in section 4, give v and u each other's place in g.mul(v, u): which numbers stay the same?"
    )?;
    writeln!(out, "Next: 02_one_layer, the same rule for a whole matrix of numbers at once.")?;
    Ok(())
}

/// The same program, recorded: the library does what we did by hand, in the same order.
fn recorded(
    out: &mut dyn Write,
    inputs: [f64; 2],
    values: [f64; 3],
    grads: [f64; 4],
) -> Result<(), Box<dyn Error>> {
    // Record: each call appends one step to a list. Nothing is computed yet, but shapes are checked.
    let mut g = Graph::new();
    let a = g.input("a", [1])?;
    let b = g.input("b", [1])?;
    let u = g.mul(a, b)?;
    let v = g.add(u, a)?;
    let y = g.mul(v, u)?;

    // Plan: decide what to keep and where it lies. We want to look at everything, so we ask for everything.
    let all = vec![a, b, u, v, y];
    let want = OutputRequest { keep: all.clone(), root: Some(y), gradients: all, params: false };
    let plan = Plan::new(&g, want)?;

    // Run: forward, then backward from dy = 1. The two empty slices are parameters and their gradients: there are none.
    let mut exec = Exec::<f64>::new(Arc::new(g), Arc::new(plan));
    exec.set_input(a, &inputs[..1])?;
    exec.set_input(b, &inputs[1..])?;
    exec.forward(&[]);
    exec.backward(&[], &[1.0], &mut []);

    writeln!(out, "4. The same, recorded and run by the library\n")?;
    writeln!(out, "   {:<4} {:<12} {:>8} {:>10}", "", "step", "value", "gradient")?;
    for (id, name) in [(a, "a"), (b, "b"), (u, "u"), (v, "v"), (y, "y")] {
        writeln!(
            out,
            "   {:<4} {:<12} {:>8} {:>10}   {name}",
            id.to_string(),
            trace::describe(exec.graph(), id),
            exec.value(id)[0],
            exec.gradient(id)[0]
        )?;
    }
    writeln!(
        out,
        "\n   %2 is \"the result of step 2\". The program is a list, so printing it is a loop, and running it"
    )?;
    writeln!(out, "   backwards is the same loop the other way round. No number differs from ours.\n")?;
    assert_eq!([exec.value(u)[0], exec.value(v)[0], exec.value(y)[0]], values);
    assert_eq!([a, b, u, v].map(|id| exec.gradient(id)[0]), grads);
    Ok(())
}

/// A function with a slope of its own: one neuron.
///
/// s = 1 / (1 + e^-z) has the slope s (1 - s), which needs only the value just computed. Numbers are chosen so that
/// z = 0, hence s = 1/2 and the slope 1/4: everything can be checked in the head.
fn neuron(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (x, w, b) = (2.0, 0.5, -1.0);
    let z = w * x + b;
    let s = 1.0 / (1.0 + f64::exp(-z));
    let loss = s * s;

    let ds = 2.0 * s;
    let slope = s * (1.0 - s);
    let dz = ds * slope;
    let (dw, db, dx) = (dz * x, dz, dz * w);

    writeln!(out, "5. One neuron: z = w x + b, s = sigmoid(z), L = s^2   at x = {x}, w = {w}, b = {b}\n")?;
    writeln!(out, "   forward   z = {z}   s = {s}   L = {loss}")?;
    writeln!(out, "   reverse   ds = 2 s = {ds}")?;
    writeln!(out, "             dz = ds * s (1 - s) = {ds} * {slope} = {dz}")?;
    writeln!(out, "             dw = dz * x = {dw}    db = dz * 1 = {db}    dx = dz * w = {dx}")?;
    writeln!(out, "\n   L = s^2 is s * s: a value multiplied by itself is used twice, and 2 s is s + s.")?;

    // In the recorded program mul(s, s) shows it: two contributions to the same gradient.
    let mut g = Graph::new();
    let leaf = ["x", "w", "b"].map(|name| g.input(name, [1]));
    let [xi, wi, bi] = leaf;
    let (xi, wi, bi) = (xi?, wi?, bi?);
    let product = g.mul(wi, xi)?;
    let zi = g.add(product, bi)?;
    let si = g.activate(zi, Activation::Sigmoid)?;
    let li = g.mul(si, si)?;
    let want = OutputRequest { keep: vec![li], root: Some(li), gradients: vec![xi, wi, bi], params: false };
    let plan = Plan::new(&g, want)?;
    let mut exec = Exec::<f64>::new(Arc::new(g), Arc::new(plan));
    for (id, value) in [(xi, x), (wi, w), (bi, b)] {
        exec.set_input(id, &[value])?;
    }
    exec.forward(&[]);
    exec.backward(&[], &[1.0], &mut []);
    let got = [exec.gradient(wi)[0], exec.gradient(bi)[0], exec.gradient(xi)[0]];
    writeln!(out, "   recorded  dw = {}    db = {}    dx = {}\n", got[0], got[1], got[2])?;
    assert_eq!(got, [dw, db, dx]);
    Ok(())
}
