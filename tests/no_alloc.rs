//! Preparing weights, forward, backward and the Adam step allocate nothing once the executor exists: a counting allocator
//! looks on. So does a forward pass shared by a team, apart from what hands the pass to its threads.
#![allow(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe; this one forwards to the system's"
)]

mod common;

use common::{Model, Sizes, transformer, uniform};
use heartlore::graph::{
    Exec, ExecContext, MatmulPrecision, OutputRequest, PackedWeights, Plan, Precision, ThreadPool,
};
use heartlore::kernels::Isa;
use heartlore::kernels::adam::{self, Adam, clip};
use heartlore::nn::{self, ModelConfig};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Allocations of all threads.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// Held by every test: one of them counts the allocations of all threads.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Allocations of this thread. Per thread, so that the test harness's own threads do not count.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is ending has no counter any more, and nothing to measure.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
    ALL.fetch_add(1, Ordering::Relaxed);
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
fn training_steps<T: Precision>(sizes: Sizes, isa: Isa, precision: MatmulPrecision) -> (usize, usize) {
    let Model { graph, x, labels, loss, .. } = transformer(sizes);
    let graph = Arc::new(graph);
    let plan = Arc::new(Plan::new(&graph, OutputRequest::training(loss)).unwrap().with_precision(precision));
    let mut prepared = PackedWeights::new(&graph, &plan, isa);
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
        // Alone in the first steps, prepared in the last.
        let aids = if t > 2 { ExecContext::packed(prepared.update(&params)) } else { ExecContext::NONE };
        exec.forward_with(&params, aids);
        grads.fill(T::ZERO);
        exec.backward_with(&params, aids, &[T::ONE], &mut grads);
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
    let _alone = alone();
    let small = Sizes::small(3, 0.1);
    // Wide enough for the packed products, long enough for several attention tiles.
    let mut larger = Sizes { length: 300, ..Sizes::small(2, 0.1) };
    larger.encoder.width = 64;
    larger.encoder.hidden = 96;
    println!("allocations: in the first step, in the three after it");
    for (name, sizes) in [("small", small), ("larger", larger)] {
        for isa in Isa::available() {
            for precision in [MatmulPrecision::F32, MatmulPrecision::Bf16] {
                let (first, later) = training_steps::<f32>(sizes, isa, precision);
                println!("  {name:<7} f32 {isa:<9} {first} {later} {precision:?} products");
                assert_eq!((first, later), (0, 0), "{name}, f32, {isa}, {precision:?} products");
            }
            let (first, later) = training_steps::<f64>(sizes, isa, MatmulPrecision::F32);
            println!("  {name:<7} f64 {isa:<9} {first} {later}");
            assert_eq!((first, later), (0, 0), "{name}, f64, {isa}");
        }
    }
}

#[test]
fn a_fine_tuning_step_allocates_nothing() {
    let _alone = alone();
    // The class row alone goes through the last layer, its keys and values absorbed.
    let program = nn::classify(&ModelConfig::tiny(), 2, 1.0).unwrap();
    let plan = Arc::new(Plan::new(&program.graph, OutputRequest::training(program.loss)).unwrap());
    let samples: Vec<f32> = common::cast(&uniform(program.graph.shape(program.samples).elements(), 5));
    let params: Vec<f32> = program.graph.layout().init(1);
    for isa in Isa::available() {
        let mut exec = Exec::<f32>::with_isa(Arc::clone(&program.graph), Arc::clone(&plan), isa);
        exec.set_dropout(true);
        exec.set_input(program.samples, &samples).unwrap();
        exec.set_input(program.targets, &[0.0, 1.0]).unwrap();
        exec.set_input(program.weights, &[1.0, 1.0]).unwrap();
        let mut grads = vec![0.0; params.len()];
        let n = allocations(|| {
            exec.forward(&params);
            exec.backward(&params, &[1.0], &mut grads);
        });
        assert_eq!(n, 0, "{isa}");
        assert!(grads.iter().all(|g| g.is_finite()) && grads.iter().any(|&g| g != 0.0), "{isa}");
    }
}

#[test]
fn a_pass_on_a_team_allocates_a_few_words_only() {
    let _alone = alone();
    let mut sizes = Sizes { length: 1400, ..Sizes::small(1, 0.0) };
    (sizes.encoder.width, sizes.encoder.hidden) = (64, 96);
    let Model { graph, x, logits, .. } = transformer(sizes);
    let graph = Arc::new(graph);
    let plan = Arc::new(Plan::new(&graph, OutputRequest::values(&[logits])).unwrap());
    let mut prepared = PackedWeights::new(&graph, &plan, Isa::best());
    let mut exec = Exec::<f32>::new(Arc::clone(&graph), plan);
    let params: Vec<f32> = graph.layout().init(1);
    let packed = Some(prepared.update(&params));
    exec.set_input(x, &common::cast::<f32>(&uniform(graph.shape(x).elements(), 3))).unwrap();
    assert!(exec.parallel_fraction(2) < 0.6, "nothing is shared");
    let team = ThreadPool::new(2).unwrap();
    let aids = ExecContext { packed, pool: Some(&team) };
    let mut pass = || team.run(|| exec.forward_with(&params, aids));
    pass();
    let before = ALL.load(Ordering::Relaxed);
    (0..100).for_each(|_| pass());
    let mean = (ALL.load(Ordering::Relaxed) - before) as f64 / 100.0;
    println!("allocations of a pass on a team of two, all threads: {mean}");
    assert!(mean < 20.0, "{mean}");
}

#[test]
fn the_counter_counts() {
    let _alone = alone();
    let n = allocations(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(n, 1);
    let n = allocations(|| {
        let mut v = vec![1u64];
        v.reserve_exact(std::hint::black_box(1000));
        drop(std::hint::black_box(v));
    });
    assert_eq!(n, 2, "growing counts");
}
