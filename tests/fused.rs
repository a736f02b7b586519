//! Fused operations against programs composed of smaller ones: values and all gradients to 1e-9 in f64, dropout included.
//!
//! An operation's dropout mask is named by its number in the program. Both spellings share the mask because the composed
//! program's dropout is put at the number of the fused operation, with unused inputs before it.

mod common;

use common::{Given, Outcome, run};
use heartlore::graph::{AttentionSpec, Columns, FeedForwardParams, Graph, Id};
use heartlore::kernels::Isa;
use heartlore::kernels::activation::Activation;
use heartlore::tensor::Init;
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-9;

fn param(g: &mut Graph, name: &str, shape: &[usize]) -> Id {
    g.param(name, shape.to_vec(), Init::Zeros).unwrap()
}

/// Unused inputs until the next operation has number `number`.
fn pad_to(g: &mut Graph, number: usize) {
    assert!(g.nodes().len() <= number, "{} operations are recorded already", g.nodes().len());
    while g.nodes().len() < number {
        g.input(&format!("unused{}", g.nodes().len()), [1]).unwrap();
    }
}

/// Where a fused operation and the dropout of its composed spelling are put.
const PLACE: usize = 30;

fn assert_close(what: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{what}: length");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * (1.0 + b.abs()), "{what}[{i}]: fused {a}, composed {b}");
    }
}

/// The fused operation in f32, with its own kernels and its own drawing of the mask, against the same in f64: to 1e-4 of
/// each tensor's largest element, some hundred roundings of the longest sums here.
fn assert_f32_close(what: &str, fused: (&Graph, Id), given: &Given, isa: Isa, exact: &Outcome<f64>) {
    let single = run::<f32>(fused.0, fused.1, given, isa);
    let close = |what: &str, a: &[f32], b: &[f64]| {
        let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (&a, b)) in a.iter().zip(b).enumerate() {
            let error = (f64::from(a) - b).abs();
            assert!(error <= 1e-4 * (largest + 1e-2), "{what}[{i}] in f32: {a} for {b}");
        }
    };
    close(&format!("{what} {isa}: value"), &single.value, &exact.value);
    for (name, gradient) in &single.gradients {
        close(&format!("{what} {isa}: d.{name}"), gradient, &exact.gradients[name]);
    }
}

/// Two programs with leaves of the same names: the same value and gradients. Leaves of one program only are its own
/// constants, named in `constants` or `unused..`.
fn same(
    what: &str,
    fused: (&Graph, Id),
    composed: (&Graph, Id),
    constants: &BTreeMap<String, Vec<f64>>,
    dropout: bool,
) {
    for seed in 0..4 {
        let mut given = Given::random(fused.0, fused.1, seed);
        given.tensors.retain(|name, _| !name.starts_with("unused"));
        given.dropout = dropout.then_some((seed, 5, 2));
        for isa in Isa::available() {
            let a = run::<f64>(fused.0, fused.1, &given, isa);
            assert_f32_close(what, fused, &given, isa, &a);
            let mut given = given.clone();
            given.tensors.extend(constants.clone());
            let b = run::<f64>(composed.0, composed.1, &given, isa);
            assert_close(&format!("{what} {isa}: value"), &a.value, &b.value);
            assert!(a.value.iter().any(|v| *v != 0.0), "{what}: all zero proves nothing");
            let mut compared = 0;
            for (name, gradient) in &a.gradients {
                if !name.starts_with("unused") {
                    assert_close(&format!("{what} {isa}: d.{name}"), gradient, &b.gradients[name]);
                    assert!(gradient.iter().any(|v| *v != 0.0), "{what}: d.{name} is all zero");
                    compared += 1;
                }
            }
            assert_eq!(compared, given.tensors.len() - constants.len(), "{what}: leaves compared");
        }
    }
}

/// Attention of one sequence from linear, softmax and dropout alone:
///
/// the queries are stacked head by head, each with zeros outside its own columns, so that one product with the keys gives
/// the scores of all heads, `[heads * tq, tk]`, numbered as attention numbers its dropout rows; a dropped key's scores
/// are moved to -1e9.
fn composed_attention(
    heads: usize,
    head_dim: usize,
    [tq, tk]: [usize; 2],
    mask: Option<&[f64]>,
    p: f64,
) -> (Graph, Id, BTreeMap<String, Vec<f64>>) {
    let (mut g, width, rows) = (Graph::new(), heads * head_dim, heads * tq);
    let mut constants = BTreeMap::new();
    let mut constant = |g: &mut Graph, name: &str, shape: &[usize], data: Vec<f64>| {
        constants.insert(name.to_string(), data);
        g.input(name, shape.to_vec()).unwrap()
    };
    let (q, k, v) = (
        param(&mut g, "q", &[1, tq, width]),
        param(&mut g, "k", &[1, tk, width]),
        param(&mut g, "v", &[1, tk, width]),
    );
    let own = (0..rows * width).map(|i| f64::from((i / width) / tq == (i % width) / head_dim)).collect();
    let own = constant(&mut g, "own columns", &[1, rows, width], own);
    let identity = (0..width * width).map(|i| f64::from(i / width == i % width)).collect();
    let identity = constant(&mut g, "identity", &[width, width], identity);
    let bias = (0..rows * tk).map(|i| mask.map_or(0.0, |m| if m[i % tk] == 0.0 { -1e9 } else { 0.0 }));
    let bias = constant(&mut g, "key bias", &[1, rows, tk], bias.collect());
    // Row (h, i) takes query i: a selection matrix times Q.
    let pick = (0..rows * tq).map(|i| f64::from((i / tq) % tq == i % tq)).collect();
    let pick = constant(&mut g, "pick", &[1, rows, tq], pick);
    // A linear layer multiplies by a transpose; with the identity it makes one.
    let flat = |g: &mut Graph, x: Id, shape: [usize; 2]| g.reshape(x, shape).unwrap();
    let q2 = flat(&mut g, q, [tq, width]);
    let qt = g.linear(identity, q2, None, None).unwrap();
    let stacked = g.linear(pick, qt, None, None).unwrap();
    let stacked = g.mul(stacked, own).unwrap();
    let k2 = flat(&mut g, k, [tk, width]);
    let scores = g.linear(stacked, k2, None, None).unwrap();
    let scores = g.scale(scores, 1.0 / (head_dim as f64).sqrt()).unwrap();
    let scores = g.add(scores, bias).unwrap();
    let weights = g.softmax(scores).unwrap();
    let v2 = flat(&mut g, v, [tk, width]);
    let vt = g.linear(identity, v2, None, None).unwrap();
    pad_to(&mut g, PLACE);
    let weights = g.dropout(weights, p).unwrap();
    let y = g.linear(weights, vt, None, None).unwrap();
    let y = g.mul(y, own).unwrap();
    // Back to [tq, width]: the transposed selection adds the heads' rows, which are zero outside their own columns.
    let gather = (0..tq * rows).map(|i| f64::from((i % rows) % tq == i / rows)).collect();
    let gather = constant(&mut g, "gather", &[1, tq, rows], gather);
    let y2 = flat(&mut g, y, [rows, width]);
    let yt = g.linear(identity, y2, None, None).unwrap();
    let y = g.linear(gather, yt, None, None).unwrap();
    (g, y, constants)
}

#[test]
fn attention_is_its_formula() {
    for (heads, head_dim, tq, tk) in [
        (1, 1, 1, 1),
        (1, 4, 3, 5),
        (2, 3, 4, 4),
        (3, 2, 2, 7),
        (2, 17, 5, 33),
        (1, 8, 70, 67),
        (2, 5, 3, 130),
        (2, 4, 5, 300),
        (2, 3, 17, 700),
    ] {
        for (masked, p) in [(false, 0.0), (true, 0.0), (false, 0.3), (true, 0.2)] {
            let mask: Option<Vec<f64>> =
                masked.then(|| (0..tk).map(|j| f64::from(tk == 1 || j % 3 != 1)).collect());
            let width = heads * head_dim;
            let mut g = Graph::new();
            let (q, k, v) = (
                param(&mut g, "q", &[1, tq, width]),
                param(&mut g, "k", &[1, tk, width]),
                param(&mut g, "v", &[1, tk, width]),
            );
            let keys = mask.as_ref().map(|_| g.input("unused mask", [1, tk]).unwrap());
            pad_to(&mut g, PLACE);
            let spec = AttentionSpec { heads, head_dim, dropout: p };
            let y = g.attention(q, k, v, keys, spec).unwrap();
            let (composed, root, constants) =
                composed_attention(heads, head_dim, [tq, tk], mask.as_deref(), p);
            let what = format!("attention {heads}x{head_dim}, {tq} by {tk}, mask {masked}, dropout {p}");
            attention_same(&what, (&g, y), (&composed, root), &constants, mask.as_deref(), p > 0.0);
        }
    }
}

/// As [`same`], with the mask given to the fused program only.
fn attention_same(
    what: &str,
    fused: (&Graph, Id),
    composed: (&Graph, Id),
    constants: &BTreeMap<String, Vec<f64>>,
    mask: Option<&[f64]>,
    dropout: bool,
) {
    for seed in 0..2 {
        let mut given = Given::random(fused.0, fused.1, seed);
        given.tensors.retain(|name, _| !name.starts_with("unused"));
        given.dropout = dropout.then_some((seed, 5, 2));
        let mut with_mask = given.clone();
        with_mask.tensors.extend(mask.map(|m| ("unused mask".to_string(), m.to_vec())));
        let mut with_constants = given.clone();
        with_constants.tensors.extend(constants.clone());
        for isa in Isa::available() {
            let a = run::<f64>(fused.0, fused.1, &with_mask, isa);
            assert_f32_close(what, fused, &with_mask, isa, &a);
            let b = run::<f64>(composed.0, composed.1, &with_constants, isa);
            assert_close(&format!("{what} {isa}: value"), &a.value, &b.value);
            for name in ["q", "k", "v"] {
                assert_close(&format!("{what} {isa}: d.{name}"), &a.gradients[name], &b.gradients[name]);
            }
        }
    }
}

#[test]
fn absorbed_attention_is_projection_and_attention() {
    for (batch, tq, tk, heads, head_dim, width, first) in [
        (1, 1, 2, 1, 1, 1, 0),
        (2, 1, 40, 2, 3, 5, 6),
        (1, 3, 7, 3, 2, 4, 2),
        (2, 2, 130, 1, 6, 7, 1),
        (1, 1, 300, 2, 17, 33, 34),
    ] {
        for p in [0.0, 0.3] {
            let (inner, spec) = (heads * head_dim, AttentionSpec { heads, head_dim, dropout: p });
            let total = first + 2 * inner;
            let leaves = |g: &mut Graph| {
                let (q, x) = (param(g, "q", &[batch, tq, inner]), param(g, "x", &[batch, tk, width]));
                (q, x, param(g, "w", &[total, width]), Some(param(g, "b", &[total])))
            };
            let mut fused = Graph::new();
            let (q, x, w, b) = leaves(&mut fused);
            pad_to(&mut fused, PLACE);
            let y = fused.absorbed_attention(q, x, w, b, first, None, spec).unwrap();
            let mut composed = Graph::new();
            let (q, x, w, b) = leaves(&mut composed);
            let kv = composed.linear_rows(x, w, b, first..total, None).unwrap();
            pad_to(&mut composed, PLACE);
            let v = Columns { id: kv, offset: inner };
            let z = composed.attention(q, kv, v, None, spec).unwrap();
            let what = format!("absorbed {batch}x{tq}x{tk} {heads}x{head_dim} of {width}, dropout {p}");
            same(&what, (&fused, y), (&composed, z), &BTreeMap::new(), p > 0.0);
        }
    }
}

#[test]
fn absorbed_attention_refuses_what_does_not_fit() {
    let mut g = Graph::new();
    let (q, x) = (param(&mut g, "q", &[2, 1, 6]), param(&mut g, "x", &[2, 5, 4]));
    let (w, b) = (param(&mut g, "w", &[18, 4]), param(&mut g, "b", &[18]));
    let (mask, other) = (param(&mut g, "mask", &[2, 5]), param(&mut g, "other", &[1, 5, 4]));
    let spec = AttentionSpec { heads: 2, head_dim: 3, dropout: 0.0 };
    g.absorbed_attention(q, x, w, Some(b), 6, Some(mask), spec).unwrap();
    let error = |q, x, w, b, first, mask, spec| {
        g.clone().absorbed_attention(q, x, w, b, first, mask, spec).unwrap_err().to_string()
    };
    let wide = AttentionSpec { heads: 3, ..spec };
    let none = AttentionSpec { heads: 0, ..spec };
    let certain = AttentionSpec { dropout: 1.0, ..spec };
    for (message, expected) in [
        (error(q, x, w, None, 7, None, spec), "w has shape [18, 4]: no 2 * 2 * 3 rows from row 7"),
        (error(q, x, w, None, usize::MAX, None, spec), "no 2 * 2 * 3 rows"),
        (error(q, x, w, None, 0, None, wide), "q must be [2, queries, 3 * 3]"),
        (error(q, other, w, None, 0, None, spec), "q must be [1, queries, 2 * 3]"),
        (error(q, x, w, None, 0, None, none), "0 heads of width 3"),
        (error(q, x, b, None, 0, None, spec), "w must be [outputs, 4]"),
        (error(q, x, w, Some(w), 0, None, spec), "b has shape [18, 4], expected [18]"),
        (error(q, x, w, None, 0, Some(b), spec), "mask has shape [18], expected [2, 5]"),
        (error(q, w, w, None, 0, None, spec), "x has shape [18, 4], expected 3 dimensions"),
        (error(q, x, w, None, 0, None, certain), "dropout probability 1"),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn heads_of_a_batch_are_attentions_of_their_own() {
    // Two samples with two heads in one call equal the samples alone, with dropout keyed by the sample's number.
    let record = |batch: usize| {
        let mut g = Graph::new();
        let x = g.input("x", [batch, 6, 24]).unwrap();
        let at = |n: usize| heartlore::graph::Columns { id: x, offset: 8 * n };
        let y = g
            .attention(at(0), at(1), at(2), None, AttentionSpec { heads: 2, head_dim: 4, dropout: 0.3 })
            .unwrap();
        (g, y)
    };
    let ((two, y2), (one, y1)) = (record(2), record(1));
    let mut given = Given::random(&two, y2, 3);
    given.dropout = Some((1, 2, 10));
    let whole = run::<f64>(&two, y2, &given, Isa::PORTABLE);
    for n in 0..2 {
        let half = |v: &[f64]| v[n * v.len() / 2..(n + 1) * v.len() / 2].to_vec();
        let alone = Given {
            tensors: [("x".to_string(), half(&given.tensors["x"]))].into(),
            cotangent: half(&given.cotangent),
            dropout: Some((1, 2, 10 + n as u32)),
            ..Given::default()
        };
        let alone = run::<f64>(&one, y1, &alone, Isa::PORTABLE);
        assert_close("value", &half(&whole.value), &alone.value);
        assert_close("d.x", &half(&whole.gradients["x"]), &alone.gradients["x"]);
    }
}

#[test]
fn feed_forward_is_two_linear_layers() {
    for act in Activation::ALL {
        for (shape, hidden, p) in [
            ([2, 3, 1], 2, 0.0),
            ([2, 3, 5], 7, 0.0),
            ([2, 3, 5], 150, 0.3),
            ([3, 40, 9], 33, 0.2),
            ([1, 2, 64], 16, 0.5),
        ] {
            let width = shape[2];
            let leaves = |g: &mut Graph| {
                let x = param(g, "x", &shape);
                let p = FeedForwardParams {
                    w1: param(g, "w1", &[hidden, width]),
                    b1: param(g, "b1", &[hidden]),
                    w2: param(g, "w2", &[width, hidden]),
                    b2: param(g, "b2", &[width]),
                };
                (x, p)
            };
            let mut fused = Graph::new();
            let (x, w) = leaves(&mut fused);
            pad_to(&mut fused, PLACE);
            let y = fused.feed_forward(x, w, act, p).unwrap();
            let mut composed = Graph::new();
            let (x, w) = leaves(&mut composed);
            let h = composed.linear(x, w.w1, Some(w.b1), None).unwrap();
            let h = composed.activate(h, act).unwrap();
            pad_to(&mut composed, PLACE);
            let h = composed.dropout(h, p).unwrap();
            let z = composed.linear(h, w.w2, Some(w.b2), None).unwrap();
            let what = format!("feed_forward {act:?} {shape:?} {hidden} dropout {p}");
            same(&what, (&fused, y), (&composed, z), &BTreeMap::new(), p > 0.0);
        }
    }
}

#[test]
fn residual_norm_is_dropout_sum_and_norm() {
    for (shape, p) in
        [([1, 1, 2], 0.0), ([2, 3, 5], 0.0), ([2, 3, 5], 0.3), ([3, 7, 130], 0.2), ([2, 2, 16], 0.5)]
    {
        let leaves = |g: &mut Graph| {
            let width = shape[2];
            let (x, r) = (param(g, "x", &shape), param(g, "r", &shape));
            (x, r, param(g, "gamma", &[width]), param(g, "beta", &[width]))
        };
        let mut fused = Graph::new();
        let (x, r, gamma, beta) = leaves(&mut fused);
        pad_to(&mut fused, PLACE);
        let y = fused.residual_norm(x, r, p, gamma, beta, 1e-2).unwrap();
        let mut composed = Graph::new();
        let (x, r, gamma, beta) = leaves(&mut composed);
        pad_to(&mut composed, PLACE);
        let r = composed.dropout(r, p).unwrap();
        let s = composed.add(x, r).unwrap();
        let z = composed.layer_norm(s, gamma, beta, 1e-2).unwrap();
        same(&format!("residual_norm {shape:?} {p}"), (&fused, y), (&composed, z), &BTreeMap::new(), p > 0.0);
    }
}

#[test]
fn residual_norm_of_a_table_is_add_rows_and_norm() {
    for shape in [[1, 1, 2], [2, 3, 5], [3, 40, 130]] {
        let program = |fused: bool| {
            let mut g = Graph::new();
            let (x, table) = (param(&mut g, "x", &shape), param(&mut g, "r", &shape[1..]));
            let (gamma, beta) = (param(&mut g, "gamma", &shape[2..]), param(&mut g, "beta", &shape[2..]));
            let y = if fused {
                g.residual_norm(x, table, 0.0, gamma, beta, 1e-2).unwrap()
            } else {
                let s = g.add_rows(x, table).unwrap();
                g.layer_norm(s, gamma, beta, 1e-2).unwrap()
            };
            (g, y)
        };
        let ((fused, y), (composed, z)) = (program(true), program(false));
        same(&format!("table {shape:?}"), (&fused, y), (&composed, z), &BTreeMap::new(), false);
    }
}

#[test]
fn an_activation_in_the_same_pass_is_the_activation_after_it() {
    for act in Activation::ALL {
        let record = |fused: bool, conv: bool| {
            let mut g = Graph::new();
            let x = param(&mut g, "x", &[2, 11, 3]);
            let w = param(&mut g, "w", if conv { &[19, 3, 4] } else { &[19, 3] });
            let b = param(&mut g, "b", &[19]);
            let inside = fused.then_some(act);
            let y = if conv {
                let spec = heartlore::graph::Conv1dSpec { padding: 2, act: inside, ..Default::default() };
                g.conv1d(x, w, Some(b), spec).unwrap()
            } else {
                g.linear(x, w, Some(b), inside).unwrap()
            };
            let y = if fused { y } else { g.activate(y, act).unwrap() };
            (g, y)
        };
        for conv in [false, true] {
            let (a, b) = (record(true, conv), record(false, conv));
            same(&format!("{act:?}, conv {conv}"), (&a.0, a.1), (&b.0, b.1), &BTreeMap::new(), false);
        }
    }
}

/// Rows chosen before row-wise layers and as queries of attention, or after them: the same rows.
#[test]
fn selecting_rows_first_changes_nothing() {
    const ROWS: usize = 9;
    const PICKS: usize = 4;
    let record = |first: bool| {
        let mut g = Graph::new();
        let x = param(&mut g, "x", &[2, ROWS, 6]);
        let index = g.index("index", [2, PICKS], ROWS).unwrap();
        let select = |g: &mut Graph, now: bool, x: Id| if now { g.gather_rows(x, index).unwrap() } else { x };
        let kv_w = param(&mut g, "kv.w", &[12, 6]);
        let kv = g.linear(x, kv_w, None, None).unwrap();
        let queries = select(&mut g, first, x);
        let q_w = param(&mut g, "q.w", &[6, 6]);
        let q = g.linear(queries, q_w, None, None).unwrap();
        let keys = heartlore::graph::Columns { id: kv, offset: 0 };
        let values = heartlore::graph::Columns { id: kv, offset: 6 };
        let spec = AttentionSpec { heads: 2, head_dim: 3, dropout: 0.0 };
        let h = g.attention(q, keys, values, None, spec).unwrap();
        let (gamma, beta) = (param(&mut g, "gamma", &[6]), param(&mut g, "beta", &[6]));
        let h = g.residual_norm(queries, h, 0.0, gamma, beta, 1e-2).unwrap();
        let p = FeedForwardParams {
            w1: param(&mut g, "w1", &[13, 6]),
            b1: param(&mut g, "b1", &[13]),
            w2: param(&mut g, "w2", &[6, 13]),
            b2: param(&mut g, "b2", &[6]),
        };
        let h = g.feed_forward(h, p, Activation::Gelu, 0.0).unwrap();
        let y = select(&mut g, !first, h);
        (g, y)
    };
    let (before, after) = (record(true), record(false));
    assert_eq!(before.0.shape(before.1), after.0.shape(after.1));
    same("rows first", (&before.0, before.1), (&after.0, after.1), &BTreeMap::new(), false);
}
