use super::*;
use crate::Real;
use crate::proofs::LENGTHS;
use crate::testing::{Guarded, Rng, assert_close, each_isa, to_f32};

const ULP: f64 = f32::EPSILON as f64;

/// Ten steps of PyTorch: see tests/oracles/adam.py.
const ORACLE: &str = include_str!("../../tests/oracles/adam.txt");

struct Case {
    name: String,
    adam: Adam,
    max_norm: f64,
    start: Vec<f64>,
    grads: Vec<Vec<f64>>,
    params64: Vec<Vec<f64>>,
    /// Parameter, m and v after the last step, in f64 and f32.
    last: [[Vec<f64>; 3]; 2],
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in ORACLE.lines().filter(|l| !l.starts_with('#')) {
        let (word, rest) = line.split_once(' ').expect("a word and values");
        if word == "case" {
            cases.push(Case {
                name: rest.to_owned(),
                adam: Adam::default(),
                max_norm: 0.0,
                start: vec![],
                grads: vec![],
                params64: vec![],
                last: Default::default(),
            });
            continue;
        }
        let case = cases.last_mut().expect("a case first");
        let values: Vec<f64> = rest.split(' ').map(|v| v.parse().expect("a number")).collect();
        match word {
            "settings" => {
                case.adam = Adam {
                    learning_rate: values[0],
                    beta1: values[1],
                    beta2: values[2],
                    eps: values[3],
                    weight_decay: values[4],
                    decoupled: values[5] == 1.0,
                };
                case.max_norm = values[6];
            }
            "start" => case.start = values,
            "grad" => case.grads.push(values),
            "param64" => case.params64.push(values),
            "final64" => case.last[0][0] = values,
            "m64" => case.last[0][1] = values,
            "v64" => case.last[0][2] = values,
            "final32" => case.last[1][0] = values,
            "m32" => case.last[1][1] = values,
            "v32" => case.last[1][2] = values,
            other => panic!("unknown word {other}"),
        }
    }
    assert_eq!(cases.len(), 5);
    cases
}

/// Runs a case; gives parameters after every step, and the last m and v.
fn run<T: Real>(isa: Isa, case: &Case) -> (Vec<Vec<T>>, Vec<T>, Vec<T>) {
    let of = |x: &[f64]| x.iter().map(|&x| T::of(x)).collect::<Vec<T>>();
    let mut p = of(&case.start);
    let (mut m, mut v) = (vec![T::ZERO; p.len()], vec![T::ZERO; p.len()]);
    let mut params = vec![];
    for (t, g) in (1..).zip(&case.grads) {
        let g = of(g);
        let scale = match case.max_norm {
            0.0 => 1.0,
            max => clip::scale_for(clip::squared_norm(isa, &g).sqrt(), max),
        };
        step(isa, &case.adam, t, scale, &mut p, &g, &mut m, &mut v);
        params.push(p.clone());
    }
    (params, m, v)
}

#[test]
fn ten_steps_in_f64_are_those_of_pytorch() {
    for case in cases() {
        let (params, m, v) = run::<f64>(Isa::PORTABLE, &case);
        assert_eq!(params.len(), 10);
        for (t, (got, want)) in params.iter().zip(&case.params64).enumerate() {
            assert_close(&format!("{} step {}", case.name, t + 1), got, want, 1e-16, 2e-15);
        }
        assert_close(&case.name, &params[9], &case.last[0][0], 1e-16, 2e-15);
        assert_close(&format!("{} m", case.name), &m, &case.last[0][1], 1e-22, 4e-15);
        assert_close(&format!("{} v", case.name), &v, &case.last[0][2], 0.0, 4e-15);
    }
}

#[test]
fn ten_steps_in_f32_are_those_of_pytorch_on_every_instruction_set() {
    each_isa(|isa| {
        for case in cases() {
            let (params, m, v) = run::<f32>(isa, &case);
            let name = format!("{} on {isa}", case.name);
            // PyTorch's compiler fuses some multiplications and additions: a rounding or two a step.
            assert_close(&name, &params[9], &case.last[1][0], 1e-9, 4e-7);
            // m may be a small difference of large gradients: its rounding is measured against the largest.
            for i in 0..m.len() {
                let largest = case.grads.iter().fold(0.0f64, |a, g| a.max(g[i].abs()));
                let at = format!("{name}, m[{i}]");
                assert_close(&at, &m[i..=i], &case.last[1][1][i..=i], ULP * largest, 2.0 * ULP);
            }
            assert_close(&format!("{name}, v"), &v, &case.last[1][2], 0.0, 1e-6);
        }
    });
}

#[test]
fn every_length_and_alignment_gives_what_one_element_alone_gives() {
    let adam = Adam { weight_decay: 0.01, ..Adam::default() };
    each_isa(|isa| {
        for n in LENGTHS {
            let mut rng = Rng(n as u64 + 1);
            let start = [0, 1, 2, 3].map(|_| to_f32(&rng.vec(n)));
            let [p, g, m, v] = &start;
            let v: Vec<f32> = v.iter().map(|v| v * v).collect();
            for shift in 0..4 {
                let mut bufs = [p, m, &v].map(|x| Guarded::of(x, shift));
                let [gp, gm, gv] = &mut bufs;
                step(isa, &adam, 3, 0.5, gp.get_mut(), g, gm.get_mut(), gv.get_mut());
                for i in 0..n {
                    let (mut pi, mut mi, mut vi) = ([p[i]], [m[i]], [v[i]]);
                    step(Isa::PORTABLE, &adam, 3, 0.5, &mut pi, &[g[i]], &mut mi, &mut vi);
                    let got = [gp.get()[i], gm.get()[i], gv.get()[i]];
                    assert_eq!(
                        got.map(f32::to_bits),
                        [pi[0], mi[0], vi[0]].map(f32::to_bits),
                        "{isa} {n} [{i}]"
                    );
                }
                for b in &bufs {
                    b.check("adam");
                }
            }
        }
    });
}

#[test]
fn the_first_step_has_the_length_of_the_learning_rate() {
    // At t = 1 m / (1 - beta1) = g and sqrt(v / (1 - beta2)) = |g|: the step is lr sign(g) for |g| far above eps.
    let adam = Adam { learning_rate: 0.125, ..Adam::default() };
    let (mut p, mut m, mut v) = ([0.0f64; 3], [0.0; 3], [0.0; 3]);
    step(Isa::PORTABLE, &adam, 1, 1.0, &mut p, &[5.0, -1e3, 0.0], &mut m, &mut v);
    assert_close("first step", &p, &[-0.125, 0.125, 0.0], 0.0, 1e-8);
}

#[test]
fn the_gradient_scale_is_the_scaled_gradient() {
    let adam = Adam { weight_decay: 0.1, ..Adam::default() };
    let run = |scale: f64, g: f64| {
        let (mut p, mut m, mut v) = ([0.3f64], [0.1], [0.2]);
        step(Isa::PORTABLE, &adam, 4, scale, &mut p, &[g], &mut m, &mut v);
        [p[0], m[0], v[0]]
    };
    assert_eq!(run(0.25, 0.8), run(1.0, 0.2));
    assert_ne!(run(0.25, 0.8), run(1.0, 0.8));
}

#[test]
fn a_very_late_step_is_uncorrected() {
    let adam = Adam { eps: 0.0, ..Adam::default() };
    let (mut p, mut m, mut v) = ([1.0f64], [0.5], [0.25]);
    step(Isa::PORTABLE, &adam, u64::MAX, 1.0, &mut p, &[0.5], &mut m, &mut v);
    assert_close("p", &p, &[1.0 - 1e-3], 0.0, 1e-15);
}

#[test]
fn a_broken_gradient_shows_in_the_norm_and_spoils_only_its_element() {
    each_isa(|isa| {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 16, 36] {
                let mut g = vec![0.1f32; 37];
                g[at] = bad;
                let norm = clip::squared_norm(isa, &g).sqrt();
                assert!(!norm.is_finite(), "{isa}: {bad} at {at} gives {norm}");
                let (mut p, mut m, mut v) = (vec![1.0; 37], vec![0.0; 37], vec![0.0; 37]);
                step(isa, &Adam::default(), 1, 1.0, &mut p, &g, &mut m, &mut v);
                for i in 0..37 {
                    assert_eq!(p[i].is_nan(), i == at, "{isa}: {bad} at {at}, parameter {i} is {}", p[i]);
                }
            }
        }
    });
}

#[test]
fn clipping_is_pytorchs() {
    assert_eq!(clip::scale_for(0.5, 1.0), 1.0);
    assert_eq!(clip::scale_for(0.0, 1.0), 1.0);
    assert_eq!(clip::scale_for(4.0, 1.0), 1.0 / (4.0 + 1e-6));
    // Just below the bound the margin does not scale yet.
    assert_eq!(clip::scale_for(1.0 - 1e-6, 1.0), 1.0);
    assert!(clip::scale_for(1.0, 1.0) < 1.0);
    assert!(clip::scale_for(f64::NAN, 1.0).is_nan());
    assert_eq!(clip::scale_for(f64::INFINITY, 1.0), 0.0);
}

#[test]
fn the_squared_norm_is_exact_where_f32_would_not_be() {
    each_isa(|isa| {
        // Squares out of the f32 range on both sides.
        assert_close(
            "large",
            &[clip::squared_norm(isa, &[1e30f32; 20])],
            &[20.0 * f64::from(1e30f32).powi(2)],
            0.0,
            1e-15,
        );
        assert_close(
            "small",
            &[clip::squared_norm(isa, &[1e-30f32; 20])],
            &[20.0 * f64::from(1e-30f32).powi(2)],
            0.0,
            1e-15,
        );
        assert_eq!(clip::squared_norm::<f32>(isa, &[]), 0.0);
    });
}

#[test]
#[should_panic(expected = "adam: steps count from 1, got 0")]
fn step_zero_is_refused() {
    step::<f32>(Isa::PORTABLE, &Adam::default(), 0, 1.0, &mut [], &[], &mut [], &mut []);
}

#[test]
#[should_panic(expected = "adam: m has 1 elements, expected 2")]
fn a_short_moment_is_refused() {
    step(Isa::PORTABLE, &Adam::default(), 1, 1.0, &mut [0.0; 2], &[0.0; 2], &mut [0.0], &mut [0.0; 2]);
}
