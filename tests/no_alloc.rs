//! Forward, backward and the Adam step allocate nothing once the executor exists: a counting allocator looks on.
#![allow(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe; this one forwards to the system's"
)]

mod common;

use common::{Model, Sizes, transformer, uniform};
use heartlore::graph::{Exec, Plan, Precision, Want};
use heartlore::kernels::Isa;
use heartlore::kernels::adam::{self, Adam, clip};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    /// Allocations of this thread. Per thread, so that the test harness's own threads do not count.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is ending has no counter any more, and nothing to measure.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: every call is handed to the system's allocator unchanged; the counter is a plain thread-local cell without
// destructor, so counting allocates nothing and cannot recurse.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: `p` came from `System` with this layout, as every allocation here does.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `p` came from `System` with this layout; the caller's promise about `size` is passed on.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

/// Allocations of the first training step, and of the three after it.
fn training_steps<T: Precision>(sizes: Sizes, isa: Isa) -> (usize, usize) {
    let Model { graph, x, labels, loss, .. } = transformer(sizes);
    let graph = Arc::new(graph);
    let plan = Arc::new(Plan::new(&graph, Want::training(loss)).unwrap());
    let mut exec = Exec::<T>::with_isa(Arc::clone(&graph), plan, isa);
    exec.set_dropout(true);
    let mut params: Vec<T> = graph.layout().init(1);
    let (mut m, mut v) = (vec![T::ZERO; params.len()], vec![T::ZERO; params.len()]);
    let mut grads = m.clone();
    let input: Vec<T> = common::cast(&uniform(graph.shape(x).elements(), 3));
    let classes: Vec<u32> = (0..sizes.batch as u32).map(|i| i % sizes.classes as u32).collect();
    let mut step = |t: u64| {
        exec.set_key(1, t, 0);
        exec.input_mut(x).unwrap().copy_from_slice(&input);
        exec.set_index(labels, &classes).unwrap();
        exec.forward(&params);
        grads.fill(T::ZERO);
        exec.backward(&params, &[T::ONE], &mut grads);
        let scale = clip::scale_for(clip::squared_norm(isa, &grads).sqrt(), 1.0);
        adam::step(isa, &Adam::default(), t, scale, &mut params, &grads, &mut m, &mut v);
    };
    let first = allocations(|| step(1));
    let later = allocations(|| (2..5).for_each(&mut step));
    assert!(params.iter().all(|p| p.f64().is_finite()));
    (first, later)
}

#[test]
fn a_training_step_allocates_nothing() {
    let small = Sizes::small(3, 0.1);
    // Wide enough for the packed products, long enough for several attention tiles.
    let mut larger = Sizes { length: 300, ..Sizes::small(2, 0.1) };
    larger.encoder.width = 64;
    larger.encoder.hidden = 96;
    println!("allocations: in the first step, in the three after it");
    for (name, sizes) in [("small", small), ("larger", larger)] {
        for isa in Isa::available() {
            let (first, later) = training_steps::<f32>(sizes, isa);
            println!("  {name:<7} f32 {isa:<9} {first} {later}");
            assert_eq!((first, later), (0, 0), "{name}, f32, {isa}");
            let (first, later) = training_steps::<f64>(sizes, isa);
            println!("  {name:<7} f64 {isa:<9} {first} {later}");
            assert_eq!((first, later), (0, 0), "{name}, f64, {isa}");
        }
    }
}

#[test]
fn the_counter_counts() {
    let n = allocations(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(n, 1);
    let n = allocations(|| {
        let mut v = vec![1u64];
        v.reserve_exact(std::hint::black_box(1000));
        drop(std::hint::black_box(v));
    });
    assert_eq!(n, 2, "growing counts");
}
