//! The gradient laboratory: forward mode, second order, laws, corners, shrinking, operations of your own, and the checks
//! themselves checked by planted faults.
//!
//! More random cases, to see that no law raises a false alarm:
//!
//! ```text
//! HEARTLORE_LAB_CASES=1000000 cargo test --release --test laboratory no_false_alarm
//! ```

use heartlore::error::Result;
use heartlore::graph::check::{self, Case, Failing, Point, Settings, cases, programs};
use heartlore::graph::number::Number;
use heartlore::graph::ops::CustomOp;
use heartlore::graph::{Graph, Id, OpKind};
use heartlore::kernels::Real;
use heartlore::kernels::activation::Activation;
use heartlore::kernels::pool::Pool;
use heartlore::kernels::reduce::Reduce;
use heartlore::nn::{self, ModelConfig};
use heartlore::tensor::Shape;

fn computed() -> impl Iterator<Item = OpKind> {
    OpKind::ALL.iter().copied().filter(|kind| !kind.is_leaf())
}

#[test]
fn every_law_holds_for_every_operation_and_random_programs() {
    let found = check::selftest(12, 0, |_| ()).unwrap();
    for (law, tried) in &found.laws {
        println!("{law}: {} cases, {:.1e} of the bound", tried.cases, tried.closest);
    }
    assert!(found.passed(), "{}", found.failures.join("\n"));
    for name in computed().map(OpKind::name).chain(["programs"]) {
        assert!(found.cases.get(name).is_some_and(|n| *n >= 10), "{name}: {:?}", found.cases.get(name));
    }
    // No law is left out by mistake, and none holds because its bound is far away: f32 comes within a few thousandths.
    for law in
        ["<J v, w> = <v, J' w>, f64", "u' H v = v' H u", "J v = the complex step", "two runs, the same bits"]
    {
        assert!(found.laws.get(law).is_some_and(|tried| tried.cases > 200), "{law}");
    }
    let f32 = found.laws.iter().filter(|(law, _)| law.contains("in f32"));
    assert!(
        f32.clone().count() >= 1 && f32.clone().all(|(_, t)| t.closest > 1e-3),
        "{:?}",
        f32.collect::<Vec<_>>()
    );
}

/// Random numbers for all inputs of a model: masks 1, probabilities 1/2.
fn model_point(graph: &Graph, seed: u64) -> Point {
    let mut point = Point::random(graph, seed);
    point.params = graph.layout().init(seed);
    for (id, values) in &mut point.inputs {
        let name = &graph.node(*id).label;
        if name.contains("mask") || name.contains("weight") {
            values.fill(1.0);
        } else if name.contains("target") && values.len() < 4 {
            values.fill(0.5);
        }
    }
    point
}

#[test]
fn the_transpose_law_holds_for_the_whole_model() {
    // The paper's widths, depths and kernels on a short window; dropout on.
    let paper = ModelConfig { window: 128, ..ModelConfig::paper() };
    for (name, config) in [("paper", paper), ("tiny", ModelConfig::tiny())] {
        let (pre, fine) = (nn::pretrain(&config, 1, 4).unwrap(), nn::classify(&config, 1, 1.5).unwrap());
        for (task, graph, root) in [("pretrain", pre.graph, pre.loss), ("classify", fine.graph, fine.loss)] {
            let settings = Settings { seed: 3, dropout: true, ..Settings::default() };
            let proof = check::transpose(&graph, root, &model_point(&graph, 1), settings).unwrap();
            println!("{name} {task}: error {:.1e}, bound {:.1e}", proof.error, proof.bound);
            assert!(proof.passed(), "{name} {task}: {proof:?}");
        }
    }
}

#[test]
#[ignore = "a minute: forward mode of a whole window of the paper's model"]
fn the_transpose_law_holds_for_a_whole_window_of_paper() {
    let fine = nn::classify(&ModelConfig::paper(), 1, 1.0).unwrap();
    let point = model_point(&fine.graph, 2);
    let proof = check::transpose(&fine.graph, fine.loss, &point, Settings::default()).unwrap();
    assert!(proof.passed(), "{proof:?}");
}

/// How many: HEARTLORE_LAB_CASES.
#[test]
fn no_false_alarm() {
    let cases = std::env::var("HEARTLORE_LAB_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(3000usize);
    let kinds: Vec<OpKind> = computed().collect();
    let (mut tried, mut alarms) = (0, Vec::new());
    for i in 0..cases {
        let seed = i as u64;
        let case = match i % 4 {
            0 => programs::random(3 + i % 26, seed),
            _ => cases::of(kinds[i % kinds.len()], 1 + i % 7, seed),
        };
        let Some(point) = case.point(seed).unwrap() else { continue };
        let proof = check::transpose(&case.graph, case.root, &point, case.settings(seed)).unwrap();
        tried += 1;
        if !proof.passed() {
            alarms.push(format!("case {i}: {proof:?}"));
        }
    }
    println!("{tried} cases, {} alarms", alarms.len());
    assert!(alarms.is_empty(), "{} of {tried}: {:?}", alarms.len(), alarms.first());
    assert!(tried * 10 > cases * 9, "{tried} of {cases}");
}

#[test]
fn every_planted_fault_is_caught() {
    let mutants = check::mutants(1).unwrap();
    let (real, idle): (Vec<_>, Vec<_>) = mutants.iter().partition(|m| m.effective);
    let missed: Vec<&str> = real.iter().filter(|m| !m.caught).map(|m| m.name.as_str()).collect();
    println!("caught {} of {} planted faults", real.len() - missed.len(), real.len());
    for m in &idle {
        println!("no fault (the derivative is the same): {}", m.name);
    }
    assert!(missed.is_empty(), "missed: {missed:?}");
    assert!(real.len() > 200, "{}", real.len());
    // These are no faults: a stale mask where there is no mask, a gradient's rule where there is none because the result is
    // a view, and the next place of a result that has only one.
    let scalar = ["masked_mse", "bce_logits", "cross_entropy", "reduce"];
    let no_fault = |name: &str| {
        name.ends_with("StaleMask")
            || name.starts_with("reshape: gradient")
            || scalar.iter().any(|op| name == format!("{op}: tangent: WrongIndex"))
    };
    let odd: Vec<_> = idle.iter().filter(|m| !no_fault(&m.name)).map(|m| &m.name).collect();
    assert!(odd.is_empty(), "{odd:?}");
    for with_mask in ["attention", "absorbed_attention", "feed_forward", "dropout"] {
        let name = format!("{with_mask}: gradient of input 0: StaleMask");
        assert!(real.iter().any(|m| m.name == name), "{name}");
    }
}

/// One operation at a corner: its gradient there, by its rule, with cotangent 1 for every element.
fn at_corner(record: impl Fn(&mut Graph, Id) -> Id, shape: &[usize], x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut g = Graph::new();
    let input = g.input("x", Shape::from(shape.to_vec())).unwrap();
    let y = record(&mut g, input);
    let root = g.reduce(y, Reduce::Sum).unwrap();
    let point = Point { inputs: [(input, x.to_vec())].into(), ..Point::default() };
    let settings = Settings::default();
    let battery = check::battery(&g, root, &point, settings).unwrap();
    // What needs a derivative is left out and said to be; the gradient lies between the one-sided ones.
    assert!(battery.passed(), "{battery}");
    assert!(battery.corner == 0.0 && battery.skipped.iter().any(|s| s.contains("corner")), "{battery}");
    assert!(battery.proofs.iter().any(|p| p.law.contains("one-sided")), "{battery}");
    let mut tangents = Vec::new();
    for i in 0..x.len() {
        let mut e = vec![0.0; x.len()];
        e[i] = 1.0;
        let e = Point { inputs: [(input, e)].into(), ..Point::default() };
        tangents.push(check::jvp(&g, root, &point, &e, settings).unwrap()[0]);
    }
    let graph = std::sync::Arc::new(g);
    let want = heartlore::graph::OutputRequest {
        keep: vec![root],
        root: Some(root),
        gradients: vec![input],
        params: false,
    };
    let plan = heartlore::graph::Plan::new(&graph, want).unwrap();
    let mut exec = heartlore::graph::Exec::<f64>::new(graph, std::sync::Arc::new(plan));
    exec.set_input(input, x).unwrap();
    exec.forward(&[]);
    exec.backward(&[], &[1.0], &mut []);
    (exec.gradient(input).to_vec(), tangents)
}

#[test]
fn at_a_tie_each_operation_follows_its_rule() {
    // ReLU at 0 has slope 0, and its tangent too.
    let relu = at_corner(|g, x| g.activate(x, Activation::Relu).unwrap(), &[3], &[-1.0, 0.0, 2.0]);
    assert_eq!(relu, (vec![0.0, 0.0, 1.0], vec![0.0, 0.0, 1.0]));
    // Of equal maxima the first row has the whole gradient.
    let max = at_corner(|g, x| g.pool(x, Pool::Max).unwrap(), &[1, 3, 1], &[2.0, 2.0, 1.0]);
    assert_eq!(max, (vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 0.0]));
    // The norm of nothing has gradient 0.
    let norm = at_corner(|g, x| g.reduce(x, Reduce::Norm).unwrap(), &[2], &[0.0, 0.0]);
    assert_eq!(norm, (vec![0.0, 0.0], vec![0.0, 0.0]));
    // The fused forms share the rule.
    let identity = |g: &mut Graph, x: Id| {
        let w = g.scale(x, 0.0).unwrap();
        let w = g.add(w, w).unwrap();
        let w = g.reshape(w, [1, 1]).unwrap();
        let flat = g.reshape(x, [1, 1]).unwrap();
        g.linear(flat, w, None, Some(Activation::Relu)).unwrap()
    };
    assert_eq!(at_corner(identity, &[1], &[1.0]), (vec![0.0], vec![0.0]));
}

/// y = x^3, with a derivative that is wrong as `wrong` says.
#[derive(Clone, PartialEq, Debug)]
struct Cube {
    wrong: f64,
}

impl CustomOp for Cube {
    const HAS_FORMULA: bool = true;
    fn name(&self) -> &'static str {
        "cube"
    }
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }
    fn forward<T: Real>(&self, _: &[&Shape], x: &[&[T]], y: &mut [T]) {
        y.iter_mut().zip(x[0]).for_each(|(y, &x)| *y = x * x * x);
    }
    fn backward<T: Real>(&self, _: &[&Shape], x: &[&[T]], dy: &[T], gradients: &mut [Option<&mut [T]>]) {
        let Some(dx) = &mut gradients[0] else { return };
        for i in 0..dy.len() {
            dx[i] += T::of(3.0 * (1.0 + self.wrong)) * x[0][i] * x[0][i] * dy[i];
        }
    }
    fn formula<N: Number>(&self, _: &[&Shape], x: &[&[N]]) -> Vec<N> {
        x[0].iter().map(|&x| x * x * x).collect()
    }
}

#[test]
fn an_operation_of_your_own_is_checked_like_ours() {
    let shape = Shape::from([2, 3]);
    let right =
        check::operation(Cube { wrong: 0.0 }, std::slice::from_ref(&shape), Settings::default()).unwrap();
    assert!(right.passed() && right.skipped.is_empty(), "{right}");
    assert!(right.proofs.len() >= 12, "{right}");
    for wrong in [1e-6, -1.0, f64::NAN] {
        let battery =
            check::operation(Cube { wrong }, std::slice::from_ref(&shape), Settings::default()).unwrap();
        let failed: Vec<&str> = battery.failures().map(|p| p.law).collect();
        assert!(failed.contains(&"<J v, w> = <v, J' w>, f64"), "{wrong}: {battery}");
        assert!(battery.into_result().is_err());
    }
    let mut g = Graph::new();
    let x = g.input("x", [2]).unwrap();
    assert!(g.custom(Cube { wrong: 0.0 }, &[]).unwrap_err().to_string().contains("cube"));
    assert!(g.custom(Cube { wrong: 0.0 }, &[x; 6]).is_err());
}

#[test]
fn a_failing_program_shrinks_to_the_faulty_operation_as_code() {
    // A wrong operation in the middle of a random program.
    let Case { mut graph, root, .. } = programs::random(25, 4);
    let inner = graph.ids().filter(|&id| !graph.node(id).op.is_leaf() && id < root).last().unwrap();
    let cube = graph.custom(Cube { wrong: 0.01 }, &[inner]).unwrap();
    let (a, b) = (graph.reduce(cube, Reduce::Mean).unwrap(), graph.reduce(root, Reduce::Sum).unwrap());
    let root = graph.add(a, b).unwrap();
    let settings = Settings { seed: 5, ..Settings::default() };
    let point = Case { graph: graph.clone(), root, dropout: false }.point(5).unwrap().unwrap();
    let fails = |f: &Failing| {
        check::transpose(&f.graph, f.root, &f.point, settings).is_ok_and(|proof| !proof.passed())
    };
    let failing = Failing { graph, root, point };
    assert!(fails(&failing) && failing.operations() > 20);
    let small = check::shrink(failing, settings, fails).unwrap();
    assert!(fails(&small));
    assert_eq!(small.operations(), 1, "{}", small.code(settings));
    let code = small.code(settings);
    println!("{code}");
    assert!(code.contains("g.custom(Cube { wrong: 0.01 }, &[v0])?") && code.contains("seed: 5"), "{code}");
    assert!(code.contains("g.input(\"x") && code.contains("check::battery(&g, v1"), "{code}");
}

#[test]
fn a_function_pair_needs_no_graph() {
    let f = |x: &[f64]| vec![x[0] * x[1], x[1].max(0.0)];
    let step = |x: f64| f64::from(x > 0.0);
    let vjp = move |x: &[f64], w: &[f64]| vec![w[0] * x[1], w[0] * x[0] + w[1] * step(x[1])];
    let settings = Settings::default();
    assert!(check::function_pair(f, vjp, &[2.0, 1.0], settings).unwrap().passed());
    // At the corner the difference quotient is no oracle, the one-sided derivatives are.
    let corner = check::function_pair(f, vjp, &[2.0, 0.0], settings).unwrap();
    let failed: Vec<&str> = corner.failures().map(|p| p.law).collect();
    assert_eq!(failed, ["gradient = central differences"], "{corner}");
    let outside = move |x: &[f64], w: &[f64]| vec![w[0] * x[1], w[0] * x[0] + 1.5 * w[1]];
    let corner = check::function_pair(f, outside, &[2.0, 0.0], settings).unwrap();
    assert!(corner.failures().any(|p| p.law.contains("one-sided")), "{corner}");
    // Not linear in the cotangent; the wrong number of elements; no numbers at all.
    let crooked = move |x: &[f64], w: &[f64]| vjp(x, &[w[0] + 1e-9, w[1]]);
    let battery = check::function_pair(f, crooked, &[2.0, 1.0], settings).unwrap();
    assert!(battery.failures().any(|p| p.law.contains("zero cotangent")), "{battery}");
    assert!(check::function_pair(f, |_, w| w[..1].to_vec(), &[2.0, 1.0], settings).is_err());
    assert!(check::function_pair(|_| vec![], |_, _| vec![], &[], settings).is_err());
}

#[test]
fn a_function_of_nothing_is_compared_with_nothing() {
    let report = check::function("x", |_| 1.0, &[], &[], Settings::default());
    assert!(!report.passed() && report.elements == 0 && report.worst.is_none());
    let sampled = Settings { elements: Some(0), ..Settings::default() };
    assert_eq!(check::function("x", |x| x[0], &[1.0], &[1.0], sampled).elements, 1);
}

#[test]
fn the_remainder_of_taylors_formula_tells_a_wrong_gradient() {
    let measure = |wrong: f64| {
        let mut g = Graph::new();
        let x = g.input("x", [4]).unwrap();
        let y = g.custom(Cube { wrong }, &[x]).unwrap();
        let point = Point { inputs: [(x, vec![0.5, -1.0, 2.0, 0.7])].into(), ..Point::default() };
        check::taylor(&g, y, &point, Settings::default()).unwrap()
    };
    let (right, wrong) = (measure(0.0), measure(0.05));
    let slope = |t: &check::Taylor| t.slope().unwrap();
    assert!((1.9..2.1).contains(&slope(&right)), "{}", slope(&right));
    assert!((0.9..1.1).contains(&slope(&wrong)), "{}", slope(&wrong));
    let picture = right.svg();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>"));
    assert_eq!(picture.matches("<circle").count(), 12);
    assert!(!picture.contains("NaN") && picture.contains("slope 2.0"), "{picture}");
}

#[test]
fn permuting_a_batch_permutes_gradients() {
    let mut g = Graph::new();
    let x = g.input("x", [3, 4, 6]).unwrap();
    let w = g.input("w", [18, 6]).unwrap();
    let qkv = g.linear(x, w, None, None).unwrap();
    let at = |n: usize| heartlore::graph::Columns { id: qkv, offset: 6 * n };
    let spec = heartlore::graph::AttentionSpec { heads: 2, head_dim: 3, dropout: 0.0 };
    let y = g.attention(at(0), at(1), at(2), None, spec).unwrap();
    let pooled = g.pool(y, Pool::Mean).unwrap();
    let labels = g.index("labels", [3], 6).unwrap();
    let loss = g.cross_entropy(pooled, labels, heartlore::kernels::losses::Reduction::Mean).unwrap();
    let point = Point::random(&g, 8);
    let order = [2, 0, 1];
    let mut moved = point.clone();
    let sample = 24;
    for (to, from) in order.into_iter().enumerate() {
        let source = &point.inputs[&x][from * sample..][..sample];
        moved.inputs.get_mut(&x).unwrap()[to * sample..][..sample].copy_from_slice(source);
        moved.indices.get_mut(&labels).unwrap()[to] = point.indices[&labels][from];
    }
    // dL along a direction in one sample, and along one in the weights.
    let settings = Settings::default();
    let none = |x: &Vec<f64>| vec![0.0; x.len()];
    let slope =
        |point: &Point, direction: &Point| check::jvp(&g, loss, point, direction, settings).unwrap()[0];
    let random = Point::random(&g, 9);
    let base =
        Point { inputs: random.inputs.iter().map(|(id, x)| (*id, none(x))).collect(), ..Point::default() };
    for (to, from) in order.into_iter().enumerate() {
        let (mut there, mut here) = (base.clone(), base.clone());
        let values = &random.inputs[&x][..sample];
        there.inputs.get_mut(&x).unwrap()[to * sample..][..sample].copy_from_slice(values);
        here.inputs.get_mut(&x).unwrap()[from * sample..][..sample].copy_from_slice(values);
        assert!((slope(&moved, &there) - slope(&point, &here)).abs() < 1e-13);
    }
    let mut weights = base;
    weights.inputs.insert(w, random.inputs[&w].clone());
    assert!((slope(&moved, &weights) - slope(&point, &weights)).abs() < 1e-13);
    assert!(check::transpose(&g, loss, &moved, settings).unwrap().passed());
}

#[cfg(feature = "proptest")]
mod strategies {
    use heartlore::graph::check::{self, strategies};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn programs_from_strategies_obey_the_transpose_law((case, seed) in strategies::programs(20)) {
            if let Some(point) = case.point(seed).unwrap() {
                let proof = check::transpose(&case.graph, case.root, &point, case.settings(seed)).unwrap();
                prop_assert!(proof.passed(), "{proof:?}");
            }
        }

        #[test]
        fn values_fit_their_shapes(
            (shape, values) in strategies::shapes(3, 4).prop_flat_map(|s| (Just(s.clone()), strategies::values(&s)))
        ) {
            prop_assert_eq!(shape.elements(), values.len());
        }
    }
}
