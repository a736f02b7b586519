//! # Lesson 3: checking a gradient
//!
//! Run it: `cargo run --release --no-default-features --example 03_gradient_check`
//!
//! A wrong derivative rarely crashes. The loss still falls, only less far, and the fault can live for years. But a
//! derivative has a definition, and the definition can be computed: move the input a little and look at the result.
//!
//! ```text
//! (f(x + h) - f(x - h)) / 2h  =  f'(x) + h^2/6 f'''(x) + ...      the central difference
//! ```
//!
//! The lesson has four parts: how large h should be; which function of many outputs to differentiate; how a fault is
//! traced to the operation that made it; and what to do when the checker itself is wrong.

use heartlore::graph::check::{self, Point, Settings};
use heartlore::graph::{Graph, Id};
use heartlore::kernels::activation::Activation;
use heartlore::kernels::losses::Reduction;
use heartlore::tensor::Init;
use std::error::Error;
use std::io::Write;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 3: CHECKING A GRADIENT\n")?;
    step_size(out)?;
    cotangent(out)?;
    hand_written_chain(out)?;
    recorded_program(out)?;
    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - in part 1 use f32: where is the best h now, and how many digits are left?")?;
    writeln!(out, "  - in part 3 put the fault into tanh (slope 1 - y) or cube (2 x^2) instead;")?;
    writeln!(out, "  - in part 4 record any program you like from the methods of Graph, and check it.")?;
    writeln!(out, "The project's own proof of every operation: cargo test --release --test gradients")?;
    writeln!(out, "Next: 04_attention, the operation that makes a transformer.")?;
    Ok(())
}

/// # Part 1: the step size
///
/// Two errors pull in opposite directions. *Truncation*: the Taylor series was cut, the error is h^2/6 |f'''|, and a
/// smaller h helps. *Rounding*: f(x+h) and f(x-h) agree in most digits, their difference loses them; each value is off by
/// up to half a unit in the last place, about 1.1e-16 |f|, and dividing by h magnifies that to 1.1e-16 |f| / h. A smaller
/// h hurts. The sum is least where both are of one size, near h = (3 * 1.1e-16 |f / f'''|)^(1/3): about 1e-5.
///
/// For f = exp everything is known: f = f' = f'' = f''' = e^x.
fn step_size(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let f = f64::exp;
    let (x, exact) = (1.0, std::f64::consts::E);
    let half_ulp = f64::EPSILON / 2.0;

    writeln!(out, "1. How large a step? f(x) = e^x at x = 1, f'(1) = e = {exact:.12}\n")?;
    writeln!(out, "   central: (f(x+h) - f(x-h)) / 2h      one-sided: (f(x+h) - f(x)) / h\n")?;
    writeln!(
        out,
        "   {:>7}   {:>15}  {:>10}  {:>24}  {:>10}",
        "", "central", "", "- predicted errors -", "one-sided"
    )?;
    writeln!(
        out,
        "   {:>7}   {:>15}  {:>10}  {:>12}{:>12}  {:>10}",
        "h", "difference", "error", "truncation", "rounding", "error"
    )?;
    let mut best = (f64::INFINITY, 0);
    for k in 1..=12 {
        let h = 10f64.powi(-k);
        let central = (f(x + h) - f(x - h)) / (2.0 * h);
        let one_sided = (f(x + h) - f(x)) / h;
        let error = (central - exact).abs();
        let (truncation, rounding) = (h * h / 6.0 * exact, half_ulp * exact / h);
        writeln!(
            out,
            "   {h:>7.0e}   {central:>15.12}  {error:>10.1e}  {truncation:>12.1e}{rounding:>12.1e}  {:>10.1e}",
            (one_sided - exact).abs()
        )?;
        // The prediction holds: never above both errors together (twice, for the rounding of x + h itself).
        assert!(error <= 1.1 * truncation + 4.0 * rounding, "h = {h:e}: error {error:e}");
        if error < best.0 {
            best = (error, k);
        }
    }
    writeln!(
        out,
        "\n   Read the column \"error\" downwards: it falls by 100 per line (truncation, h^2) until h = 1e-{}. From",
        best.1
    )?;
    writeln!(
        out,
        "   there on it is rounding, which grows as 1/h: erratic, sometimes lucky, and at most about its"
    )?;
    writeln!(
        out,
        "   bound. The one-sided quotient falls by 10 only and never gets as good. The library's checker uses"
    )?;
    writeln!(out, "   central differences in f64 with h = 1e-5.\n")?;
    assert!((4..=6).contains(&best.1), "least error at 1e-{}", best.1);
    Ok(())
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// dx = y (dy - sum y dy): the backward pass of softmax, from its result y.
fn softmax_backward(y: &[f64], dy: &[f64]) -> Vec<f64> {
    let s = dot(y, dy);
    y.iter().zip(dy).map(|(y, dy)| y * (dy - s)).collect()
}

/// The same with a fault: the factor y is missing.
fn softmax_backward_wrong(y: &[f64], dy: &[f64]) -> Vec<f64> {
    let s = dot(y, dy);
    dy.iter().map(|dy| dy - s).collect()
}

/// # Part 2: the cotangent
///
/// Softmax has several outputs; a difference quotient needs one number L. The obvious choice, L = sum of the outputs, is a
/// trap: softmax outputs always sum to 1, so L never moves and every derivative is 0. A wrong formula that also gives 0 for
/// dy = (1, 1, ..) passes. Take L = sum c_i y_i with *random* c instead. Then dL/dy = c, the "cotangent", and no special
/// structure of the operation can hide behind it.
fn cotangent(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let x = [0.2, -0.5, 1.0];
    let y = softmax(&x);
    writeln!(out, "2. Which function of many outputs? y = softmax(x), x = {x:?}\n")?;
    writeln!(out, "   y = {}, sum {:.5}", list(&y), y.iter().sum::<f64>())?;
    writeln!(out, "   right formula  dx = y (dy - sum y dy)")?;
    writeln!(out, "   with a fault   dx =    dy - sum y dy        (the factor y is missing)\n")?;
    writeln!(
        out,
        "   {:<20} {:<28} {:<28} verdict",
        "cotangent dy", "dx by the formula", "dx by differences"
    )?;
    let ones = [1.0, 1.0, 1.0];
    let random = [0.7, -0.3, 0.9];
    let mut verdicts = Vec::new();
    for (title, dy) in [("sum", ones), ("random", random)] {
        for (name, backward) in
            [("right", softmax_backward as fn(&[f64], &[f64]) -> Vec<f64>), ("fault", softmax_backward_wrong)]
        {
            let dx = backward(&y, &dy);
            let report = check::function("x", |x| dot(&dy, &softmax(x)), &x, &dx, Settings::default());
            let h = 1e-5;
            let numeric: Vec<f64> = (0..3)
                .map(|j| {
                    let moved = |by: f64| {
                        let mut at = x;
                        at[j] += by;
                        dot(&dy, &softmax(&at))
                    };
                    (moved(h) - moved(-h)) / (2.0 * h)
                })
                .collect();
            let verdict = if report.passed() { "passes" } else { "CAUGHT" };
            let first = format!("{title:<7} {}", dy.map(|v| format!("{v}")).join(" "));
            writeln!(out, "   {first:<20} {:<28} {:<28} {name}: {verdict}", list(&dx), list(&numeric))?;
            verdicts.push(report.passed());
        }
    }
    writeln!(
        out,
        "\n   With the sum, the fault passes: both formulas give 0. With a random cotangent it is caught.\n"
    )?;
    assert_eq!(verdicts, [true, true, true, false]);
    Ok(())
}

/// One operation of a hand-written chain: vector in, vector out.
struct Operation {
    name: &'static str,
    forward: fn(&[f64]) -> Vec<f64>,
    /// From the input x, the result y and the derivative dy: dx.
    backward: fn(&[f64], &[f64], &[f64]) -> Vec<f64>,
}

/// # Part 3: naming the culprit
///
/// A check of a whole chain says *that* something is wrong, not *where*: every gradient upstream of a fault is spoilt. So
/// check every operation alone, each at the very input it had in the chain, from the last one back. The first one that
/// fails is the culprit. [`check::gradients`] does exactly this when a recorded program fails.
fn hand_written_chain(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let chain = [
        Operation {
            name: "tanh",
            forward: |x| x.iter().map(|x| x.tanh()).collect(),
            backward: |_, y, dy| y.iter().zip(dy).map(|(y, dy)| (1.0 - y * y) * dy).collect(),
        },
        Operation { name: "softmax", forward: softmax, backward: |_, y, dy| softmax_backward_wrong(y, dy) },
        Operation {
            name: "cube",
            forward: |x| x.iter().map(|x| x * x * x).collect(),
            backward: |x, _, dy| x.iter().zip(dy).map(|(x, dy)| 3.0 * x * x * dy).collect(),
        },
    ];
    let x = [0.2, -0.5, 1.0];
    let c = [0.7, -0.3, 0.9];

    // Forward, keeping the input of every operation; then backward through all.
    let mut values = vec![x.to_vec()];
    for op in &chain {
        let y = (op.forward)(values.last().map_or(&[], Vec::as_slice));
        values.push(y);
    }
    let mut d = c.to_vec();
    for (i, op) in chain.iter().enumerate().rev() {
        d = (op.backward)(&values[i], &values[i + 1], &d);
    }
    let whole = |x: &[f64]| dot(&c, &chain.iter().fold(x.to_vec(), |v, op| (op.forward)(&v)));
    let report = check::function("x", whole, &x, &d, Settings::default());

    writeln!(
        out,
        "3. Which operation is wrong? y = cube(softmax(tanh(x))), with the fault of part 2 in softmax\n"
    )?;
    writeln!(out, "   the whole chain:\n      {}\n", folded(&report.to_string()))?;
    assert!(!report.passed());
    writeln!(out, "   each operation alone, at the input it had, from the last one back:")?;
    let mut culprits = Vec::new();
    for (i, op) in chain.iter().enumerate().rev() {
        let analytic = (op.backward)(&values[i], &values[i + 1], &c);
        let alone = check::function(
            op.name,
            |x| dot(&c, &(op.forward)(x)),
            &values[i],
            &analytic,
            Settings::default(),
        );
        let worst = alone.worst.as_ref().map_or(f64::NAN, |w| w.error);
        let verdict = if alone.passed() { "right" } else { "WRONG DERIVATIVE" };
        writeln!(out, "      {:<8} error {worst:>8.1e}   {verdict}", op.name)?;
        if !alone.passed() {
            culprits.push(op.name);
        }
    }
    writeln!(out)?;
    assert_eq!(culprits, ["softmax"]);
    Ok(())
}

/// A small classifier: linear, layer norm, activation, softmax, and a squared error.
fn classifier(act: Activation) -> heartlore::Result<(Graph, Id)> {
    let mut g = Graph::new();
    let x = g.input("x", [2, 3])?;
    let target = g.input("target", [2, 4])?;
    let w = g.param("w", [4, 3], Init::FanIn(3))?;
    let b = g.param("b", [4], Init::Zeros)?;
    let z = g.linear(x, w, Some(b), None)?;
    g.scope("hidden units");
    let a = g.activate(z, act)?;
    g.scope("");
    let (gamma, beta) = (g.param("gamma", [4], Init::Ones)?, g.param("beta", [4], Init::Zeros)?);
    let n = g.layer_norm(a, gamma, beta, 1e-5)?;
    let p = g.softmax(n)?;
    let loss = g.masked_mse(p, target, None, Reduction::Mean)?;
    Ok((g, loss))
}

/// # Part 4: a recorded program
///
/// [`check::gradients`] takes any program and any point. Here the program is right, and says so. Then we put one hidden
/// unit exactly on ReLU's corner, where the function has no derivative: the backward pass says 0, the difference quotient
/// says 1/2 (the mean of both sides), and the checker reports an operation that is not at fault. A checker can only be
/// trusted at points where the function is smooth; the project's tests draw their points away from corners.
fn recorded_program(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "4. A recorded program: linear, activation, layer norm, softmax, squared error\n")?;
    let (g, loss) = classifier(Activation::Gelu)?;
    let point = Point::random(&g, 7);
    let report = check::gradients(&g, loss, &point, Settings::default())?;
    writeln!(out, "   with GELU at a random point, all of {}:", report.tensors.join(", "))?;
    writeln!(out, "      {}\n", folded(&report.to_string()))?;
    assert!(report.passed());

    // b = 0 and a row of x = 0: the pre-activation of every unit of that row is exactly 0.
    let (g, loss) = classifier(Activation::Relu)?;
    let mut point = Point::random(&g, 7);
    for entry in g.layout().entries().iter().filter(|e| e.name == "b") {
        point.params[entry.range()].fill(0.0);
    }
    if let Some(x) = g.find("x").and_then(|x| point.inputs.get_mut(&x)) {
        x[..3].fill(0.0);
    }
    let report = check::gradients(&g, loss, &point, Settings::default())?;
    writeln!(out, "   with ReLU, at a point that puts hidden units exactly on the corner z = 0:")?;
    writeln!(out, "      {}\n", folded(&report.to_string()))?;
    writeln!(
        out,
        "   The operation is named, with its label; but here the point is to blame, not the formula."
    )?;
    let culprit = report.culprit.clone().unwrap_or_default();
    assert!(!report.passed() && culprit.contains("activate (hidden units)"), "culprit {culprit:?}");

    let moved = check::gradients(&g, loss, &Point::random(&g, 8), Settings::default())?;
    writeln!(
        out,
        "   At another random point the same program passes: {}.\n",
        if moved.passed() { "yes" } else { "NO" }
    )?;
    assert!(moved.passed());
    Ok(())
}

/// Numbers in a row, 5 decimals.
fn list(values: &[f64]) -> String {
    // Adding 0 turns -0 into 0.
    values.iter().map(|v| format!("{:>8.5}", (v * 1e5).round() / 1e5 + 0.0)).collect::<Vec<_>>().join(" ")
}

/// A one-line report on several lines.
fn folded(report: &str) -> String {
    report.replace("; ", "\n      ").replace(", difference", "\n        difference")
}
