//! # Lesson 2: one layer, forward and backward
//!
//! Run it: `cargo run --release --no-default-features --example 02_one_layer`
//!
//! A fully connected layer with ReLU turns every row of x (one row: one example, or one token) into a row of y:
//!
//! ```text
//! z[r, o] = b[o] + sum_i x[r, i] w[o, i]          y[r, o] = max(z[r, o], 0)
//! z = x w^T + b                                   in matrix form
//! ```
//!
//! Shapes: x `[rows, inputs]`, w `[outputs, inputs]` (one row of weights per output: PyTorch's layout), b `[outputs]`, z
//! and y `[rows, outputs]`.
//!
//! **Backward.** We are given dy, the derivative of the loss with respect to every y, and want dx, dw, db. Each scalar
//! step is lesson 1 again; the sums come from counting uses:
//!
//! * ReLU: slope 1 where z > 0, else 0, so dz\[r, o\] = dy\[r, o\] if z\[r, o\] > 0, else 0.
//! * w\[o, i\] is used once **per row** r, each time multiplied by x\[r, i\]. Many uses, contributions add up:
//!   dw\[o, i\] = sum_r dz\[r, o\] x\[r, i\]. A sum over the first index of both: **dw = dz^T x**.
//! * x\[r, i\] is used once **per output** o, each time multiplied by w\[o, i\]:
//!   dx\[r, i\] = sum_o dz\[r, o\] w\[o, i\], hence **dx = dz w**.
//! * b\[o\] is used once per row with slope 1: db\[o\] = sum_r dz\[r, o\], the column sums of dz.
//!
//! If you forget the transposes, let the shapes tell you: from dz `[rows, outputs]` and x `[rows, inputs]` there is only
//! one product that has the shape of w, `[outputs, inputs]`. A gradient always has the shape of its value.

use heartlore::graph::Graph;
use heartlore::kernels::activation::Activation;
use heartlore::kernels::gemm::MatmulPrecision;
use heartlore::kernels::linear::{self, Dims};
use heartlore::kernels::{GradMut, Isa};
use heartlore::tensor::Init;
use std::error::Error;
use std::io::Write;

const ROWS: usize = 2;
const INPUTS: usize = 3;
const OUTPUTS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// y = relu(x w^T + b), as three loops. Returns z and y.
fn forward(x: &[f64], w: &[f64], b: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut z = vec![0.0; ROWS * OUTPUTS];
    for r in 0..ROWS {
        for o in 0..OUTPUTS {
            z[r * OUTPUTS + o] = b[o];
            for i in 0..INPUTS {
                z[r * OUTPUTS + o] += x[r * INPUTS + i] * w[o * INPUTS + i];
            }
        }
    }
    let y = z.iter().map(|&z| f64::max(z, 0.0)).collect();
    (z, y)
}

/// What the backward pass delivers.
struct Gradients {
    dz: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
}

/// The same loops again. Every multiply-add of the forward pass, x times w into z, has become two: one adds to the
/// gradient of x, one to that of w. That is why a backward pass costs twice a forward pass.
fn backward(x: &[f64], w: &[f64], z: &[f64], dy: &[f64]) -> Gradients {
    let dz: Vec<f64> = z.iter().zip(dy).map(|(&z, &dy)| if z > 0.0 { dy } else { 0.0 }).collect();
    let (mut dx, mut dw, mut db) =
        (vec![0.0; ROWS * INPUTS], vec![0.0; OUTPUTS * INPUTS], vec![0.0; OUTPUTS]);
    for r in 0..ROWS {
        for o in 0..OUTPUTS {
            let dz = dz[r * OUTPUTS + o];
            for i in 0..INPUTS {
                dx[r * INPUTS + i] += dz * w[o * INPUTS + i];
                dw[o * INPUTS + i] += dz * x[r * INPUTS + i];
            }
            db[o] += dz;
        }
    }
    Gradients { dz, dx, dw, db }
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    // Small whole numbers: every sum below is exact and can be redone by hand.
    let x = [1.0, 2.0, -1.0, /* row 1 */ 0.0, 1.0, 3.0];
    let w = [2.0, 0.0, 1.0, /* */ 1.0, -1.0, 2.0, /* */ 0.0, 3.0, 1.0, /* */ -1.0, 1.0, 0.0];
    let b = [1.0, 0.0, -2.0, 1.0];
    let dy = [1.0, 2.0, -1.0, 3.0, /* row 1 */ 2.0, 1.0, 4.0, -2.0];

    writeln!(out, "LESSON 2: ONE LAYER, FORWARD AND BACKWARD\n")?;
    writeln!(out, "{ROWS} rows, {INPUTS} inputs, {OUTPUTS} outputs: y = relu(x w^T + b)\n")?;

    let (z, y) = forward(&x, &w, &b);
    writeln!(out, "1. Forward\n")?;
    matrix(out, "x", INPUTS, &x)?;
    matrix(out, "w", INPUTS, &w)?;
    matrix(out, "b", OUTPUTS, &b)?;
    matrix(out, "z", OUTPUTS, &z)?;
    matrix(out, "y", OUTPUTS, &y)?;
    writeln!(
        out,
        "   One element: z[0, 1] = b[1] + x[0, :] . w[1, :] = {} + {}*{} + {}*({}) + ({})*{} = {}",
        b[1], x[0], w[3], x[1], w[4], x[2], w[5], z[1]
    )?;
    writeln!(out, "   and y[0, 1] = max({}, 0) = {}. Where z is negative the unit is off.\n", z[1], y[1])?;

    let Gradients { dz, dx, dw, db } = backward(&x, &w, &z, &dy);
    writeln!(out, "2. Backward, from a dy that stands for whatever comes after the layer\n")?;
    matrix(out, "dy", OUTPUTS, &dy)?;
    matrix(out, "dz", OUTPUTS, &dz)?;
    writeln!(out, "   dz is dy where z > 0, else 0: a unit that is off passes nothing back.\n")?;
    matrix(out, "dw", INPUTS, &dw)?;
    matrix(out, "dx", INPUTS, &dx)?;
    matrix(out, "db", OUTPUTS, &db)?;
    writeln!(
        out,
        "   dw[3, 1] = sum over rows of dz[r, 3] x[r, 1] = {}*{} + ({})*{} = {}",
        dz[3],
        x[1],
        dz[OUTPUTS + 3],
        x[INPUTS + 1],
        dw[3 * INPUTS + 1]
    )?;
    writeln!(
        out,
        "   dx[0, 0] = sum over outputs of dz[0, o] w[o, 0] = {}*{} + {}*{} + ({})*{} + {}*({}) = {}",
        dz[0], w[0], dz[1], w[3], dz[2], w[6], dz[3], w[9], dx[0]
    )?;
    writeln!(out, "   db[0]    = dz[0, 0] + dz[1, 0] = {} + {} = {}\n", dz[0], dz[OUTPUTS], db[0])?;

    writeln!(out, "3. Why the transposes: the shapes leave no choice\n")?;
    writeln!(
        out,
        "   z  = x  w^T     [{ROWS}, {INPUTS}] [{INPUTS}, {OUTPUTS}] -> [{ROWS}, {OUTPUTS}]   sums over inputs"
    )?;
    writeln!(
        out,
        "   dx = dz w       [{ROWS}, {OUTPUTS}] [{OUTPUTS}, {INPUTS}] -> [{ROWS}, {INPUTS}]   sums over outputs (uses of x)"
    )?;
    writeln!(
        out,
        "   dw = dz^T x     [{OUTPUTS}, {ROWS}] [{ROWS}, {INPUTS}] -> [{OUTPUTS}, {INPUTS}]   sums over rows    (uses of w)"
    )?;
    writeln!(
        out,
        "\n   Each product does {} multiply-adds: one forward, two backward.\n",
        ROWS * INPUTS * OUTPUTS
    )?;

    kernel(out, &x, &w, &b, &dy, &y, [&dx, &dw, &db])?;

    // Recording the layer checks the shapes before anything runs. Here w is given the wrong way round.
    let mut g = Graph::new();
    let xi = g.input("x", [ROWS, INPUTS])?;
    let wi = g.param("w", [INPUTS, OUTPUTS], Init::FanIn(INPUTS))?;
    g.scope("first layer");
    writeln!(
        out,
        "5. A transposed w is refused when the layer is recorded, before any number is computed\n"
    )?;
    match g.linear(xi, wi, None, Some(Activation::Relu)) {
        Ok(_) => return Err("a transposed weight was accepted".into()),
        Err(e) => writeln!(out, "   {e}\n")?,
    }

    writeln!(out, "To see more, change this file:")?;
    writeln!(
        out,
        "  - make b = [-9, -9, -9, -9]: every unit is off. Which gradients are 0? Can this layer still learn?"
    )?;
    writeln!(
        out,
        "  - give dy the value 1 in one place and 0 elsewhere: which rows of dw and dx does it reach?"
    )?;
    writeln!(
        out,
        "  - replace relu by tanh (slope 1 - y^2) here and by Activation::Tanh in the kernel call."
    )?;
    writeln!(out, "Next: 03_gradient_check, how to know that a backward pass is right.")?;
    Ok(())
}

/// The library's kernel on the same numbers, in f32 with the widest vector instructions of this CPU.
fn kernel(
    out: &mut dyn Write,
    x: &[f64],
    w: &[f64],
    b: &[f64],
    dy: &[f64],
    y_by_hand: &[f64],
    by_hand: [&[f64]; 3],
) -> Result<(), Box<dyn Error>> {
    let single = |v: &[f64]| -> Vec<f32> { v.iter().map(|&v| v as f32).collect() };
    let (x, w, b, dy) = (single(x), single(w), single(b), single(dy));
    let (isa, relu) = (Isa::best(), Some(Activation::Relu));
    let precision = MatmulPrecision::F32;
    let d = Dims { rows: ROWS, inputs: INPUTS, outputs: OUTPUTS, precision };

    // A kernel allocates nothing: outputs and scratch are the caller's. Outputs start as NaN here, to show that a forward
    // pass and an overwritten gradient never read what was there.
    let mut scratch = vec![f32::NAN; linear::scratch_len::<f32>(d, relu)];
    let mut y = vec![f32::NAN; ROWS * OUTPUTS];
    // ReLU keeps nothing for the backward pass (`saved` is empty): y > 0 exactly where z > 0, so y is enough.
    linear::forward(isa, d, relu, &x, &w, &[], Some(&b), &mut y, &mut [], &mut scratch);

    // dx is overwritten here because we say so. Gradients of parameters always add up, so they start at 0: that is how
    // the gradients of several groups of examples become one.
    let mut dx = vec![f32::NAN; ROWS * INPUTS];
    let (mut dw, mut db) = (vec![0.0f32; OUTPUTS * INPUTS], vec![0.0f32; OUTPUTS]);
    let mut pass = |dx: GradMut<'_, f32>, dw: &mut [f32], db: &mut [f32]| {
        linear::backward(isa, d, relu, &x, &w, &[], &y, &[], &dy, Some(dx), Some(dw), Some(db), &mut scratch);
    };
    pass(GradMut::overwrite(&mut dx), &mut dw, &mut db);
    let once = dw.clone();

    writeln!(out, "4. The library's kernel (f32, {} instructions) against the loops above\n", isa.name())?;
    writeln!(out, "   {:<4} {:>10} {:>24}", "", "elements", "largest difference")?;
    for (name, got, want) in
        [("y", &y, y_by_hand), ("dx", &dx, by_hand[0]), ("dw", &dw, by_hand[1]), ("db", &db, by_hand[2])]
    {
        let worst = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - w).abs()).fold(0.0, f64::max);
        writeln!(out, "   {name:<4} {:>10} {worst:>24}", got.len())?;
        assert_eq!(worst, 0.0, "{name}");
    }
    pass(GradMut::overwrite(&mut dx), &mut dw, &mut db);
    writeln!(out, "\n   The numbers are small integers, so not even rounding differs.")?;
    writeln!(
        out,
        "   A second backward pass without clearing: dw[0, 0] goes from {} to {}, dx[0, 0] stays at {}.",
        once[0], dw[0], dx[0]
    )?;
    writeln!(out, "   Parameters' gradients accumulate; the trainer clears them once per step.\n")?;
    assert!(dw.iter().zip(&once).all(|(twice, once)| *twice == 2.0 * once));
    Ok(())
}

/// A matrix with its name and shape.
fn matrix(out: &mut dyn Write, name: &str, columns: usize, values: &[f64]) -> std::io::Result<()> {
    let shape = match values.len() / columns {
        1 => format!("[{columns}]"),
        rows => format!("[{rows}, {columns}]"),
    };
    for (r, row) in values.chunks(columns).enumerate() {
        let label = if r == 0 { format!("{name:<3} {shape}") } else { String::new() };
        write!(out, "   {label:<12}")?;
        for v in row {
            write!(out, "{v:>5}")?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}
