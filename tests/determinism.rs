//! The same bits: from run to run, for a sample alone or in a group, in any place of the batch, with weights prepared
//! before or not, and for a forward pass shared by any number of threads; in f64, f32 and with bf16 products.
//!
//! Numbers of threads in training are compared in tests/train.rs.

mod common;

use common::{Encoder, Given, Sizes, bits, fill, run, run_in, transformer};
use heartlore::graph::{
    AttentionSpec, Conv1dSpec, Exec, ExecContext, FeedForwardParams, Graph, Id, MatmulPrecision,
    OutputRequest, PackedWeights, Plan, Precision, ThreadPool,
};
use heartlore::kernels::Isa;
use heartlore::kernels::activation::Activation;
use heartlore::kernels::pool::Pool;
use heartlore::tensor::Init;
use std::sync::Arc;

fn sizes(batch: usize, dropout: f64) -> Sizes {
    let encoder =
        Encoder { width: 24, heads: 3, hidden: 40, act: Activation::Gelu, norm_first: false, dropout };
    Sizes { batch, length: 77, channels: 2, classes: 5, layers: 2, encoder }
}

/// The model from its input to its logits: one row for every sample.
fn model(batch: usize, dropout: f64) -> (Graph, Id) {
    let m = transformer(sizes(batch, dropout));
    (m.graph, m.logits)
}

/// One query per sample on a projection that is absorbed, behind an operation that a team shares.
fn pruned(batch: usize, dropout: f64) -> (Graph, Id) {
    let mut g = Graph::new();
    let x = g.input("x", [batch, 1309, 96]).unwrap();
    let mut param = |name: &str, shape: &[usize]| g.param(name, shape.to_vec(), Init::Normal(0.3)).unwrap();
    let (up, w, b) = (param("up", &[24, 96]), param("w", &[72, 24]), param("b", &[72]));
    let h = g.linear(x, up, None, None).unwrap();
    let first = g.pool(h, Pool::First).unwrap();
    let first = g.reshape(first, [batch, 1, 24]).unwrap();
    let q = g.linear_rows(first, w, Some(b), 0..24, None).unwrap();
    let spec = AttentionSpec { heads: 3, head_dim: 8, dropout };
    let y = g.absorbed_attention(q, h, w, Some(b), 24, None, spec).unwrap();
    (g, y)
}

/// The given numbers of some samples only, in the order named.
fn samples(given: &Given, batch: usize, which: &[usize]) -> Given {
    let pick = |v: &[f64]| -> Vec<f64> {
        let n = v.len() / batch;
        which.iter().flat_map(|&i| v[i * n..(i + 1) * n].to_vec()).collect()
    };
    let mut part = Given { cotangent: pick(&given.cotangent), ..given.clone() };
    part.tensors.insert("x".into(), pick(&given.tensors["x"]));
    part
}

fn given(batch: usize, seed: u64) -> Given {
    let (g, logits) = model(batch, 0.0);
    let mut given = Given::random(&g, logits, seed);
    given.indices.clear();
    given
}

fn sets(mut check: impl FnMut(Isa)) {
    Isa::available().into_iter().for_each(&mut check);
}

#[test]
fn two_runs_give_the_same_bits() {
    fn check<T: Precision>() {
        let mut given = given(3, 1);
        given.dropout = Some((9, 4, 0));
        let (g, root) = model(3, 0.2);
        sets(|isa| {
            let (a, b) = (run::<T>(&g, root, &given, isa), run::<T>(&g, root, &given, isa));
            assert_eq!(bits(&a.value), bits(&b.value), "{isa}");
            for (name, gradient) in &a.gradients {
                assert_eq!(bits(gradient), bits(&b.gradients[name]), "{isa}: d.{name}");
            }
            let pruned = {
                let (g, root) = pruned(3, 0.2);
                let given = Given { dropout: given.dropout, ..Given::random(&g, root, 1) };
                let pass = || run::<T>(&g, root, &given, isa);
                [pass(), pass()].map(|out| {
                    let gradients: Vec<_> = out.gradients.values().map(|g| bits(g)).collect();
                    (bits(&out.value), gradients)
                })
            };
            assert!(pruned[0] == pruned[1], "{isa}: absorbed attention");
            // And it is not that nothing depends on anything.
            let other = Given { dropout: Some((9, 5, 0)), ..given.clone() };
            assert_ne!(bits(&a.value), bits(&run::<T>(&g, root, &other, isa).value), "{isa}: another step");
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn an_executor_has_no_memory_of_earlier_passes() {
    fn check<T: Precision>() {
        let (g, root) = model(2, 0.1);
        let graph = Arc::new(g);
        let want = OutputRequest { keep: vec![root], root: Some(root), gradients: Vec::new(), params: true };
        let plan = Arc::new(Plan::new(&graph, want).unwrap());
        sets(|isa| {
            let mut exec = Exec::<T>::with_isa(Arc::clone(&graph), Arc::clone(&plan), isa);
            let mut pass = |seed: u64| {
                let mut given = given(2, seed);
                given.dropout = Some((1, seed, 0));
                let params = fill(&mut exec, &given);
                let mut grads = vec![T::ZERO; params.len()];
                exec.forward(&params);
                exec.backward(&params, &common::cast(&given.cotangent), &mut grads);
                (bits(exec.value(root)), bits(&grads))
            };
            let fresh = pass(1);
            let other = pass(2);
            assert_ne!(fresh, other);
            assert_eq!(fresh, pass(1), "{isa}");
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn permuting_the_batch_permutes_the_output() {
    fn check<T: Precision>() {
        const ORDER: [usize; 4] = [2, 0, 3, 1];
        let (g, root) = model(4, 0.0);
        let given = given(4, 2);
        let permuted = samples(&given, 4, &ORDER);
        sets(|isa| {
            let (a, b) = (run::<T>(&g, root, &given, isa), run::<T>(&g, root, &permuted, isa));
            for (what, a, b) in
                [("logits", &a.value, &b.value), ("d.x", &a.gradients["x"], &b.gradients["x"])]
            {
                let n = a.len() / 4;
                for (to, from) in ORDER.into_iter().enumerate() {
                    let (moved, original) = (&b[to * n..][..n], &a[from * n..][..n]);
                    assert_eq!(bits(moved), bits(original), "{isa}: {what} of sample {from} at {to}");
                }
            }
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn a_sample_alone_and_in_a_group_gives_the_same_bits() {
    fn check<T: Precision>(precision: MatmulPrecision) {
        check_model::<T>(precision, model);
        check_model::<T>(precision, pruned);
    }
    fn check_model<T: Precision>(precision: MatmulPrecision, model: fn(usize, f64) -> (Graph, Id)) {
        const FIRST: u32 = 40;
        let (group, root) = model(3, 0.2);
        let (single, single_root) = model(1, 0.2);
        let (pair, pair_root) = model(2, 0.2);
        let mut all = Given { dropout: Some((3, 8, FIRST)), ..Given::random(&group, root, 5) };
        all.indices.clear();
        sets(|isa| {
            let whole = run_in::<T>(&group, root, &all, isa, precision);
            let parts = [
                (&single, single_root, vec![0]),
                (&single, single_root, vec![1]),
                (&pair, pair_root, vec![1, 2]),
            ];
            for (g, root, which) in parts {
                let part =
                    Given { dropout: Some((3, 8, FIRST + which[0] as u32)), ..samples(&all, 3, &which) };
                let part = run_in::<T>(g, root, &part, isa, precision);
                for (what, whole, part) in [
                    ("logits", &whole.value, &part.value),
                    ("d.x", &whole.gradients["x"], &part.gradients["x"]),
                ] {
                    let n = whole.len() / 3;
                    let expected = &whole[which[0] * n..][..which.len() * n];
                    assert_eq!(bits(expected), bits(part), "{isa}: {what} of samples {which:?}");
                }
            }
        });
    }
    check::<f32>(MatmulPrecision::F32);
    check::<f32>(MatmulPrecision::Bf16);
    check::<f64>(MatmulPrecision::F32);
}

#[test]
fn prepared_weights_change_no_bit() {
    fn check<T: Precision>(precision: MatmulPrecision) {
        let (g, root) = model(3, 0.2);
        let graph = Arc::new(g);
        let want = OutputRequest { keep: vec![root], root: Some(root), gradients: Vec::new(), params: true };
        let plan = Arc::new(Plan::new(&graph, want).unwrap().with_precision(precision));
        // A program of another batch and another purpose shares what was prepared for this one.
        let (other, other_root) = model(1, 0.0);
        let other = Arc::new(other);
        let other_plan = Plan::new(&other, OutputRequest::values(&[other_root])).unwrap();
        let other_plan = Arc::new(other_plan.with_precision(precision));
        let mut given = given(3, 4);
        given.dropout = Some((2, 1, 0));
        let one = samples(&Given { dropout: None, ..given.clone() }, 3, &[1]);
        sets(|isa| {
            let mut exec = Exec::<T>::with_isa(Arc::clone(&graph), Arc::clone(&plan), isa);
            let mut small = Exec::<T>::with_isa(Arc::clone(&other), Arc::clone(&other_plan), isa);
            let params = fill(&mut exec, &given);
            fill(&mut small, &one);
            let mut prepared = PackedWeights::new(&graph, &plan, isa);
            assert!(prepared.bytes() > 0);
            let packed = prepared.update(&params);
            let mut run = |aids: ExecContext<'_, T>| {
                let mut grads = vec![T::ZERO; params.len()];
                exec.poison();
                exec.forward_with(&params, aids);
                exec.backward_with(&params, aids, &common::cast(&given.cotangent), &mut grads);
                small.forward_with(&params, aids);
                (bits(exec.value(root)), bits(&grads), bits(small.value(other_root)))
            };
            assert_eq!(run(ExecContext::NONE), run(ExecContext::packed(packed)), "{isa}");
        });
    }
    check::<f32>(MatmulPrecision::F32);
    check::<f32>(MatmulPrecision::Bf16);
    check::<f64>(MatmulPrecision::F32);
}

/// Whatever element of a weight changes, and in which way: weights packed before are refused.
#[test]
fn weights_packed_before_a_change_are_refused_after_it() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let (g, root) = model(1, 0.0);
    let plan = Plan::new(&g, OutputRequest::values(&[root])).unwrap();
    let mut packed = PackedWeights::new(&g, &plan, Isa::best());
    let mut exec = Exec::<f32>::new(Arc::new(g.clone()), Arc::new(plan));
    let params = fill(&mut exec, &given(1, 6));
    let refused = |packed: &PackedWeights<f32>, params: &[f32]| {
        catch_unwind(AssertUnwindSafe(|| assert!(packed.of(params).bytes() > 0))).is_err()
    };
    assert!(refused(&packed, &params), "never packed");
    exec.forward_with(&params, ExecContext::packed(packed.update(&params)));
    assert!(!refused(&packed, &params));
    let weights = g.layout().entries().iter().filter(|e| e.name.contains("w") && e.shape.rank() > 1);
    let (mut tried, mut caught) = (0, 0);
    for entry in weights {
        let range = entry.range();
        for i in range.clone().step_by(range.len() / 16 + 1) {
            let mut changed = params.clone();
            changed[i] = f32::from_bits(changed[i].to_bits() + 1);
            tried += 1;
            caught += usize::from(refused(&packed, &changed));
        }
        // All but the first and the last element, by which 0.1 decided.
        let mut changed = params.clone();
        changed[range.start + 1..range.end - 1].iter_mut().for_each(|p| *p += 0.25);
        assert!(refused(&packed, &changed), "{}", entry.name);
    }
    assert!(tried > 50 && caught == tried, "{caught} of {tried}");
    // The same numbers in another vector: they may change without anyone noticing.
    let other = params.clone();
    let mixed = catch_unwind(AssertUnwindSafe(|| {
        exec.forward_with(&other, ExecContext::packed(packed.of(&params)));
    }));
    assert!(mixed.is_err());
}

/// A program's forward pass alone and on teams.
fn check_teams<T: Precision>(g: &Graph, root: Id, isa: Isa, precision: MatmulPrecision) {
    let mut given = Given::random(g, root, 7);
    given.indices.clear();
    let plan = Plan::new(g, OutputRequest::values(&[root])).unwrap().with_precision(precision);
    let mut prepared = PackedWeights::new(g, &plan, isa);
    let mut exec = Exec::<T>::with_isa(Arc::new(g.clone()), Arc::new(plan), isa);
    let params = fill(&mut exec, &given);
    let packed = Some(prepared.update(&params));
    // The parts are not a few small operations only.
    assert!(exec.parallel_fraction(2) < 0.6, "{isa}: {}", exec.parallel_fraction(2));
    exec.forward(&params);
    let alone = bits(exec.value(root));
    for threads in [1, 2, 3, 8] {
        let team = ThreadPool::new(threads).unwrap();
        exec.poison();
        team.run(|| exec.forward_with(&params, ExecContext { packed, pool: Some(&team) }));
        let together = bits(exec.value(root));
        let first = alone.iter().zip(&together).position(|(a, b)| a != b);
        assert_eq!(first, None, "{isa} {}: {threads} threads", T::NAME);
    }
}

#[test]
fn a_team_of_any_size_changes_no_bit() {
    let mut sizes = sizes(1, 0.1);
    (sizes.length, sizes.channels, sizes.encoder.width, sizes.encoder.heads) = (1399, 12, 64, 4);
    let m = transformer(sizes);
    // Everything that the model cuts too small to be cut there.
    let mut g = Graph::new();
    let x = g.input("x", [1, 4099, 64]).unwrap();
    let table = g.param("table", [4099, 64], Init::Normal(1.0)).unwrap();
    let a = g.add_rows(x, table).unwrap();
    let b = g.activate(a, Activation::Gelu).unwrap();
    let c = g.add(a, b).unwrap();
    let gamma = g.param("gamma", [64], Init::Normal(1.0)).unwrap();
    let beta = g.param("beta", [64], Init::Normal(1.0)).unwrap();
    let d = g.layer_norm(c, gamma, beta, 1e-5).unwrap();
    let e = g.residual_norm(d, table, 0.0, gamma, beta, 1e-5).unwrap();
    let f = g.residual_norm(e, a, 0.1, gamma, beta, 1e-5).unwrap();
    let root = g.prepend_row(f, gamma).unwrap();
    // A head: one row, many outputs, then few.
    let mut head = g.clone();
    let row = head.pool(root, Pool::First).unwrap();
    let (w, b) = (head.param("w", [2111, 64], Init::Normal(0.3)), head.param("b", [2111], Init::Normal(0.3)));
    let h = head.linear(row, w.unwrap(), Some(b.unwrap()), Some(Activation::Relu)).unwrap();
    let w = head.param("w2", [131, 2111], Init::Normal(0.3)).unwrap();
    let last = head.linear(h, w, None, None).unwrap();
    // A feed-forward block of one row, cut by columns.
    let mut block = g.clone();
    let row = block.pool(root, Pool::First).unwrap();
    let mut param =
        |name: &str, shape: &[usize]| block.param(name, shape.to_vec(), Init::Normal(0.3)).unwrap();
    let p = FeedForwardParams {
        w1: param("w1", &[2111, 64]),
        b1: param("b1", &[2111]),
        w2: param("w2", &[64, 2111]),
        b2: param("b2", &[64]),
    };
    let through = block.feed_forward(row, p, Activation::Gelu, 0.1).unwrap();
    // Convolutions in the frequency domain: of a short signal in three steps, of a long one by rows.
    let long = |length: usize| {
        let mut g = Graph::new();
        let x = g.input("x", [1, length, 31]).unwrap();
        let w = g.param("w", [47, 31, 33], Init::Normal(0.3)).unwrap();
        let b = g.param("b", [47], Init::Normal(1.0)).unwrap();
        let spec = Conv1dSpec { padding: 16, act: Some(Activation::Gelu), ..Conv1dSpec::default() };
        let y = g.conv1d(x, w, Some(b), spec).unwrap();
        (g, y)
    };
    let long = [long(999), long(6000)];
    sets(|isa| {
        let f32 = MatmulPrecision::F32;
        check_teams::<f32>(&m.graph, m.logits, isa, f32);
        check_teams::<f32>(&m.graph, m.logits, isa, MatmulPrecision::Bf16);
        check_teams::<f32>(&m.graph, m.logits, isa, MatmulPrecision::Int8);
        check_teams::<f64>(&m.graph, m.logits, isa, f32);
        let (pruned, y) = pruned(1, 0.2);
        check_teams::<f32>(&pruned, y, isa, f32);
        check_teams::<f32>(&g, root, isa, f32);
        check_teams::<f64>(&g, root, isa, f32);
        check_teams::<f32>(&head, last, isa, f32);
        check_teams::<f32>(&head, last, isa, MatmulPrecision::Bf16);
        check_teams::<f32>(&head, last, isa, MatmulPrecision::Int8);
        check_teams::<f64>(&head, last, isa, f32);
        for (g, y) in &long {
            check_teams::<f32>(g, *y, isa, f32);
        }
        check_teams::<f32>(&block, through, isa, f32);
        check_teams::<f32>(&block, through, isa, MatmulPrecision::Bf16);
        check_teams::<f64>(&block, through, isa, f32);
    });
}

#[test]
fn every_operation_and_step_draws_its_own_mask() {
    let mut g = Graph::new();
    let x = g.input("x", [2, 4, 64]).unwrap();
    let (a, b) = (g.dropout(x, 0.5).unwrap(), g.dropout(x, 0.5).unwrap());
    let plan = Arc::new(Plan::new(&g, OutputRequest::values(&[a, b])).unwrap());
    for isa in Isa::available() {
        let mut exec = Exec::<f32>::with_isa(Arc::new(g.clone()), Arc::clone(&plan), isa);
        exec.set_input(x, &[1.0; 512]).unwrap();
        exec.set_dropout(true);
        let mut masks = Vec::new();
        for (seed, step, first) in [(1, 1, 0), (1, 2, 0), (2, 1, 0), (1, 1, 9)] {
            exec.set_key(seed, step, first);
            exec.forward(&[]);
            // Both operations, and both samples of each.
            for value in [exec.value(a), exec.value(b)] {
                masks.extend(value.chunks(256).map(bits));
            }
        }
        for (i, mask) in masks.iter().enumerate() {
            assert!(!masks[..i].contains(mask), "{isa}: mask {i} is drawn twice");
        }
    }
}
