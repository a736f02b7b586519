//! Every operation's gradient, and those of random programs, against central differences in f64.
//!
//! Default: a few thousand random cases. More, for a release or a changed kernel:
//!
//! ```text
//! HEARTLORE_GRADIENT_CASES=100000 cargo test --release --test gradients
//! ```

use heartlore::graph::check::{self, Case, Point, Settings, cases, programs};
use heartlore::graph::{Graph, OpKind, trace};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::collections::BTreeMap;

/// Random cases in all; a quarter of them are random programs.
fn budget() -> usize {
    std::env::var("HEARTLORE_GRADIENT_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(4000)
}

fn check_case(case: &Case, seed: u64) -> Result<bool, String> {
    let Some(point) = case.point(seed).map_err(|e| e.to_string())? else { return Ok(false) };
    let settings = case.settings(seed);
    let report = check::gradients(&case.graph, case.root, &point, settings).map_err(|e| e.to_string())?;
    if report.passed() {
        return Ok(true);
    }
    let plan = heartlore::graph::Plan::new(&case.graph, heartlore::graph::OutputRequest::training(case.root));
    let program = plan.map(|p| trace::program(&case.graph, &p, 8)).unwrap_or_default();
    Err(format!("{report}\nseed {seed}\n{program}"))
}

/// Runs `cases` cases of (size, seed), shrinking the size of a failing one.
fn property(name: &str, cases: usize, max_size: usize, build: impl Fn(usize, u64) -> Case) -> usize {
    let config = Config { cases: cases as u32, failure_persistence: None, ..Config::default() };
    let seed = name.bytes().fold([7u8; 32], |mut s, b| {
        s.rotate_left(1);
        s[0] ^= b;
        s
    });
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let ran = std::cell::Cell::new(0);
    let result =
        runner.run(
            &((1..=max_size), proptest::num::u64::ANY).prop_map(|x| x),
            |(size, seed)| match check_case(&build(size, seed), seed) {
                Ok(done) => {
                    ran.set(ran.get() + usize::from(done));
                    Ok(())
                }
                Err(message) => Err(TestCaseError::fail(message)),
            },
        );
    match result {
        Ok(()) => ran.get(),
        Err(TestError::Fail(reason, (size, seed))) => panic!("{name}: size {size}, seed {seed}: {reason}"),
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
    }
}

#[test]
fn every_operation_and_random_programs_have_the_right_gradient() {
    let budget = budget();
    let kinds: Vec<OpKind> = OpKind::ALL.iter().copied().filter(|k| !k.is_leaf()).collect();
    let each = (budget * 3 / 4).div_ceil(kinds.len());
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in kinds {
        ran.insert(kind.name(), property(kind.name(), each, 7, |size, seed| cases::of(kind, size, seed)));
    }
    let programs = property("programs", budget / 4, 30, programs::random);
    println!("gradient cases per operation (each input used at least twice; f64; tolerance 1e-6 (1 + |g|)):");
    for (name, n) in &ran {
        println!("  {name:<14} {n}");
        assert!(*n * 10 >= each * 9, "{name}: only {n} of {each} cases found a point away from kinks");
    }
    println!("  {:<14} {programs} of 3 to 30 operations", "programs");
    let total = ran.values().sum::<usize>() + programs;
    println!("  {:<14} {total}", "in all");
    assert!(total * 10 >= budget * 8, "only {total} cases ran");
}

#[test]
fn random_programs_use_every_operation() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let case = programs::random(30, seed);
        seen.extend(case.graph.nodes().iter().map(|n| n.op.kind()));
    }
    let missing: Vec<_> = OpKind::ALL.iter().copied().filter(|k| !seen.contains(k)).collect();
    assert!(missing.is_empty(), "random programs never use {missing:?}");
}

#[test]
fn a_wrong_derivative_is_caught_and_located() {
    // d/dx x^3 written as 2 x^2: the checker must fail, at the element with the largest error.
    let x = [0.5, -1.0, 2.0];
    let wrong: Vec<f64> = x.iter().map(|v| 2.0 * v * v).collect();
    let report = check::function("x", |x| x.iter().map(|v| v.powi(3)).sum(), &x, &wrong, Settings::default());
    assert!(!report.passed());
    assert!(report.to_string().contains("DIFFER"));
    let right: Vec<f64> = x.iter().map(|v| 3.0 * v * v).collect();
    assert!(
        check::function("x", |x| x.iter().map(|v| v.powi(3)).sum(), &x, &right, Settings::default()).passed()
    );
    // A gradient of the wrong sign at one element only.
    let mut sign = right.clone();
    sign[1] = -sign[1];
    let report = check::function("x", |x| x.iter().map(|v| v.powi(3)).sum(), &x, &sign, Settings::default());
    assert_eq!(report.worst.unwrap().index, [1]);
    // NaN never passes.
    assert!(!check::function("x", |_| 0.0, &[1.0], &[f64::NAN], Settings::default()).passed());
}

#[test]
fn a_kink_at_the_point_fails_the_check_rather_than_passing() {
    use heartlore::kernels::activation::Activation;
    let mut g = Graph::new();
    let x = g.input("x", [1]).unwrap();
    let y = g.activate(x, Activation::Relu).unwrap();
    let point = Point { inputs: [(x, vec![0.0])].into(), ..Point::default() };
    let report = check::gradients(&g, y, &point, Settings::default()).unwrap();
    assert!(!report.passed() && report.culprit.is_some_and(|c| c.contains("activate")));
}
