//! What a plan promises, on random programs and on a transformer: live ranges never overlap, every gradient has exactly one
//! first writer, nothing is read before it is written, dead branches are left out, and the arena stays near its lower bound.

mod common;

use common::{Given, Sizes, bits, fill, integers, transformer};
use heartlore::graph::check::{Case, cases, programs};
use heartlore::graph::{Exec, Graph, Id, OpKind, OutputRequest, Plan, Precision};
use heartlore::kernels::Isa;
use heartlore::tensor::Init;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PROGRAMS: u64 = 400;

fn random_programs() -> impl Iterator<Item = (u64, Case)> {
    (0..PROGRAMS).map(|seed| (seed, programs::random(3 + (seed % 28) as usize, seed)))
}

/// Different things to ask of a program.
fn wants(g: &Graph, root: Id, seed: u64) -> Vec<OutputRequest> {
    let inputs: Vec<Id> = g.ids().filter(|&id| g.node(id).op.is_input()).collect();
    let values: Vec<Id> = g.ids().filter(|&id| !g.node(id).op.is_leaf()).collect();
    let keep: Vec<Id> = integers(3, values.len(), seed).into_iter().map(|i| values[i as usize]).collect();
    vec![
        OutputRequest::training(root),
        OutputRequest { keep: vec![root], root: Some(root), gradients: inputs, params: true },
        OutputRequest { keep: keep.clone(), root: Some(root), gradients: keep.clone(), params: false },
        OutputRequest::values(&keep),
        OutputRequest::values(&[root]),
    ]
}

/// The plan's own statement of every buffer's time and place, checked pair by pair.
fn overlapping(plan: &Plan) -> Option<String> {
    let all = plan.lifetimes();
    for (i, a) in all.iter().enumerate() {
        if a.range.end > plan.memory().arena || a.span.0 > a.span.1 {
            return Some(format!("{a:?} is outside the arena or ends before it begins"));
        }
        for b in &all[..i] {
            let same_time = a.span.0 <= b.span.1 && b.span.0 <= a.span.1;
            let same_place = a.range.start < b.range.end && b.range.start < a.range.end;
            if same_time && same_place {
                return Some(format!("{a:?} and {b:?}"));
            }
        }
    }
    None
}

#[test]
fn live_ranges_never_overlap() {
    let mut buffers = 0;
    for (seed, case) in random_programs() {
        for want in wants(&case.graph, case.root, seed) {
            let plan = Plan::new(&case.graph, want).unwrap();
            buffers += plan.lifetimes().len();
            assert_eq!(overlapping(&plan), None, "seed {seed}");
            assert!(plan.memory().bound <= plan.memory().arena, "seed {seed}: {}", plan.memory());
        }
    }
    println!("{PROGRAMS} random programs, 5 plans each, {buffers} buffers");
    assert!(buffers > 10_000);
}

/// First time a value is needed and last: recomputed here from the program alone, without the plan's tables.
#[test]
fn buffers_live_as_long_as_they_are_read() {
    for (seed, case) in random_programs().take(200) {
        let g = &case.graph;
        let want = OutputRequest::training(case.root);
        let plan = Plan::new(g, want).unwrap();
        let n = g.nodes().len();
        let storage = |mut id: Id| {
            while let Some(x) = g.node(id).op.view_of() {
                id = x;
            }
            id
        };
        let value: BTreeMap<Id, (usize, usize)> = plan
            .lifetimes()
            .iter()
            .filter(|b| b.purpose == heartlore::graph::BufferKind::Value)
            .map(|b| (b.id, b.span))
            .collect();
        for id in g.ids().filter(|&id| plan.is_live(id)) {
            for input in g.node(id).op.inputs() {
                let Some(&(from, to)) = value.get(&storage(input)) else { continue };
                let s = storage(input);
                assert!(from <= s.index() && to >= id.index(), "seed {seed}: {input} read by {id}");
                // A product's backward pass reads both factors, an activation's its input: as late as 2n - i.
                if plan.is_differentiated(id)
                    && matches!(g.node(id).op.kind(), OpKind::Mul | OpKind::Activate)
                {
                    assert!(to >= 2 * n - id.index(), "seed {seed}: {input} is gone when {id} goes backward");
                }
            }
        }
    }
}

#[test]
fn every_gradient_has_exactly_one_first_writer() {
    let mut gradients = 0;
    for (seed, case) in random_programs() {
        for want in wants(&case.graph, case.root, seed).into_iter().take(3) {
            let root = want.root;
            let plan = Plan::new(&case.graph, want).unwrap();
            let mut writers: BTreeMap<Id, Vec<bool>> = BTreeMap::new();
            for (_, to, first) in plan.writers() {
                if case.graph.node(to).op.parameter().is_none() {
                    writers.entry(to).or_default().push(first);
                }
            }
            let mut seeded = root.unwrap();
            while let Some(x) = case.graph.node(seeded).op.view_of() {
                seeded = x;
            }
            for (to, firsts) in writers {
                gradients += 1;
                // The root's gradient begins with the cotangent; every other with its first writer, in order of execution.
                let expected: Vec<bool> = (0..firsts.len()).map(|i| i == 0 && to != seeded).collect();
                assert_eq!(firsts, expected, "seed {seed}: writers of the gradient of {to}");
            }
        }
    }
    assert!(gradients > 5_000, "{gradients}");
}

/// Values, wanted gradients and parameter gradients of one pass, as bits.
fn pass<T: Precision>(exec: &mut Exec<T>, given: &Given, poison: bool) -> Vec<Vec<u64>> {
    let params = fill(exec, given);
    if poison {
        exec.poison();
    }
    let want = exec.plan().want().clone();
    exec.forward(&params);
    let read = |exec: &Exec<T>, id: Id| bits(exec.value(id));
    let kept = want.keep.iter().filter(|&&id| exec.graph().parameter(id).is_none());
    let mut out: Vec<Vec<u64>> = kept.map(|&id| read(exec, id)).collect();
    if let Some(root) = want.root {
        let n = exec.graph().shape(root).elements();
        let mut grads = vec![T::ZERO; params.len()];
        exec.backward(&params, &vec![T::ONE; n], &mut grads);
        out.extend(want.gradients.iter().map(|&id| bits(exec.gradient(id))));
        out.push(bits(&grads));
    }
    out
}

#[test]
fn nothing_is_read_before_it_is_written() {
    fn check<T: Precision>(programs: usize) {
        // One operation twice on the same inputs, in every form the gradient tests have; and whole programs.
        let kinds: Vec<OpKind> = OpKind::ALL.iter().copied().filter(|k| !k.is_leaf()).collect();
        let operations = kinds.iter().flat_map(|&kind| {
            (0..20u64).map(move |seed| (seed, cases::of(kind, 1 + (seed % 7) as usize, seed)))
        });
        for (seed, case) in operations.chain(random_programs().take(programs)) {
            let graph = Arc::new(case.graph.clone());
            for want in wants(&graph, case.root, seed) {
                let plan = Arc::new(Plan::new(&graph, want).unwrap());
                let mut given = Given::random(&graph, case.root, seed);
                given.dropout = case.dropout.then_some((seed, 1, 0));
                for isa in Isa::available() {
                    let mut exec = Exec::<T>::with_isa(Arc::clone(&graph), Arc::clone(&plan), isa);
                    let clean = pass(&mut exec, &given, false);
                    let dirty = pass(&mut exec, &given, true);
                    assert_eq!(clean, dirty, "seed {seed}, {isa}: NaN in unwritten memory shows");
                    // Results of one pass must not leak into the next either.
                    assert_eq!(clean, pass(&mut exec, &given, false), "seed {seed}, {isa}: second pass");
                }
            }
        }
    }
    check::<f32>(300);
    check::<f64>(150);
}

#[test]
fn poison_reaches_the_values() {
    // The test above means something only if the poison is there.
    let mut g = Graph::new();
    let x = g.input("x", [2]).unwrap();
    let y = g.scale(x, 2.0).unwrap();
    let plan = Arc::new(Plan::new(&g, OutputRequest::values(&[y])).unwrap());
    let mut exec = Exec::<f32>::new(Arc::new(g), plan);
    exec.set_input(x, &[1.0, 2.0]).unwrap();
    exec.forward(&[]);
    exec.poison();
    assert!(exec.value(y).iter().all(|v| v.is_nan()));
    assert_eq!(exec.value(x), [1.0, 2.0]);
    exec.forward(&[]);
    assert_eq!(exec.value(y), [2.0, 4.0]);
}

#[test]
fn the_arena_is_near_its_lower_bound() {
    let mut paper = Sizes {
        batch: 1,
        length: 2560,
        channels: 1,
        classes: 1,
        layers: 8,
        encoder: Sizes::small(1, 0.1).encoder,
    };
    (paper.encoder.width, paper.encoder.hidden) = (256, 1024);
    for (name, sizes) in [("small", Sizes::small(3, 0.1)), ("1281 tokens, width 256, 8 layers", paper)] {
        let m = transformer(sizes);
        let training = Plan::new(&m.graph, OutputRequest::training(m.loss)).unwrap().memory();
        let inference = Plan::new(&m.graph, OutputRequest::values(&[m.logits])).unwrap().memory();
        println!("{name}\n  training   {training}\n  inference  {inference}");
        for (what, memory) in [("training", training), ("inference", inference)] {
            assert!(memory.arena * 4 <= memory.bound * 5, "{name}, {what}: {memory}");
        }
        assert!(inference.arena < training.arena, "{name}: inference keeps nothing for a backward pass");
        assert_eq!((inference.saved, inference.gradients), (0, 0), "{name}");
    }
}

#[test]
fn inference_plans_are_no_larger_and_give_the_same_values() {
    fn check<T: Precision>() {
        for (seed, case) in random_programs().take(200) {
            let graph = Arc::new(case.graph.clone());
            let given = Given::random(&graph, case.root, seed);
            let value = |want: OutputRequest| {
                let plan = Arc::new(Plan::new(&graph, want).unwrap());
                let arena = plan.memory().arena;
                let mut exec = Exec::<T>::new(Arc::clone(&graph), plan);
                let params = fill(&mut exec, &given);
                exec.forward(&params);
                (bits(exec.value(case.root)), arena)
            };
            let (trained, large) = value(OutputRequest::training(case.root));
            let (inferred, small) = value(OutputRequest::values(&[case.root]));
            assert_eq!(trained, inferred, "seed {seed}");
            assert!(small <= large, "seed {seed}: inference {small}, training {large}");
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn dead_branches_are_left_out() {
    let mut g = Graph::new();
    let x = g.input("x", [2, 3]).unwrap();
    let w = g.param("w", [4, 3], Init::Ones).unwrap();
    let used = g.linear(x, w, None, None).unwrap();
    let unused_input = g.input("unused", [2, 4]).unwrap();
    let dead = g.mul(used, unused_input).unwrap();
    let deader = g.softmax(dead).unwrap();
    let root = g.reduce(used, heartlore::kernels::reduce::Reduce::Sum).unwrap();
    let plan = Plan::new(&g, OutputRequest::training(root)).unwrap();
    for id in [unused_input, dead, deader] {
        assert!(!plan.is_live(id) && !plan.is_differentiated(id), "{id}");
        assert!(plan.lifetimes().iter().all(|b| b.id != id), "{id} has memory");
    }
    assert!([x, w, used, root].into_iter().all(|id| plan.is_live(id)));
    // A live branch that no gradient passes through is computed, not differentiated.
    let want = OutputRequest { keep: vec![root, deader], root: Some(root), gradients: vec![], params: true };
    let plan = Plan::new(&g, want).unwrap();
    assert!(plan.is_live(deader) && !plan.is_differentiated(deader));

    // Random programs: live is exactly what the wanted values depend on.
    for (seed, case) in random_programs() {
        let plan = Plan::new(&case.graph, OutputRequest::training(case.root)).unwrap();
        let mut needed = BTreeSet::from([case.root]);
        let mut left = vec![case.root];
        while let Some(id) = left.pop() {
            left.extend(case.graph.node(id).op.inputs().filter(|&input| needed.insert(input)));
        }
        for id in case.graph.ids() {
            assert_eq!(plan.is_live(id), needed.contains(&id), "seed {seed}: {id}");
        }
        let memory: BTreeSet<Id> = plan.lifetimes().iter().map(|b| b.id).collect();
        assert!(memory.is_subset(&needed), "seed {seed}: memory for what is not computed");
    }
}

/// A parameter that is named in the request has its value and its gradient, whether the parameters' gradients are wanted too
/// or not, under its own name or as a view.
#[test]
fn a_parameter_named_in_the_request_has_a_value_and_a_gradient() {
    let mut g = Graph::new();
    let x = g.input("x", [3, 2]).unwrap();
    let w = g.param("w", [2, 2], Init::Zeros).unwrap();
    let other = g.param("other", [2], Init::Zeros).unwrap();
    let flat = g.reshape(w, [4]).unwrap();
    let y = g.linear(x, w, Some(other), None).unwrap();
    let s = g.reduce(flat, heartlore::kernels::reduce::Reduce::Sum).unwrap();
    let t = g.reduce(y, heartlore::kernels::reduce::Reduce::Sum).unwrap();
    let root = g.add(s, t).unwrap();
    let graph = Arc::new(g);
    let params = [1.0f64, -2.0, 0.5, 3.0, 0.25, -0.75];
    let point = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    // dL/dw[o, i] = sum over rows of x[i], and 1 by the sum.
    let expected = [10.0, 13.0, 10.0, 13.0];
    for with_params in [true, false] {
        for named in [vec![w], vec![flat], vec![w, flat, other]] {
            let want = OutputRequest {
                keep: named.clone(),
                root: Some(root),
                gradients: named.clone(),
                params: with_params,
            };
            let plan = Plan::new(&graph, want).unwrap();
            assert_eq!(overlapping(&plan), None);
            let mut exec = Exec::<f64>::new(Arc::clone(&graph), Arc::new(plan));
            exec.set_input(x, &point).unwrap();
            exec.poison();
            let mut grads = vec![0.5; if with_params { 6 } else { 0 }];
            for pass in 1..3 {
                exec.forward(&params);
                exec.backward(&params, &[1.0], &mut grads);
                for &id in &named {
                    if id == other {
                        assert_eq!(exec.value(id), &params[4..]);
                        assert_eq!(exec.gradient(id), [3.0, 3.0]);
                    } else {
                        assert_eq!(exec.value(id), &params[..4]);
                        // This pass's alone, while the caller's vector adds up.
                        assert_eq!(exec.gradient(id), expected);
                    }
                }
                if with_params {
                    let sums = expected.iter().chain(&[3.0, 3.0]).map(|g| 0.5 + f64::from(pass) * g);
                    assert!(grads.iter().copied().eq(sums), "{grads:?}");
                }
            }
        }
    }
    // As the root: its gradient is the cotangent.
    let want = OutputRequest { keep: vec![], root: Some(flat), gradients: vec![w], params: true };
    let plan = Arc::new(Plan::new(&graph, want).unwrap());
    let mut exec = Exec::<f64>::new(Arc::clone(&graph), plan);
    let mut grads = vec![0.0; 6];
    exec.forward(&params);
    exec.backward(&params, &[1.0, 2.0, 3.0, 4.0], &mut grads);
    assert_eq!(exec.value(flat), &params[..4]);
    assert_eq!(exec.gradient(w), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(grads, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
}
