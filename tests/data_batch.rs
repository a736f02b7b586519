//! The order of batches: complete, repeatable, resumable; and windows in memory.

use std::collections::BTreeMap;

use heartlore::data::batch::{Batches, Position, Sampling};
use heartlore::data::source::{MemoryWindows, WindowSource};

fn plain(n: usize, size: usize, drop_last: bool, seed: u64) -> Batches {
    Batches::new((100..100 + n).collect(), size, drop_last, seed, Sampling::All).unwrap()
}

#[test]
fn an_epoch_holds_every_window_once_in_a_new_order() {
    let mut b = plain(25, 4, false, 1);
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let mut seen: Vec<usize> = Vec::new();
        for batch in 0..7 {
            assert_eq!(b.position(), Position { epoch, batch });
            let next = b.next_batch();
            assert_eq!(next.len(), if batch == 6 { 1 } else { 4 });
            seen.extend(next);
        }
        assert_eq!(seen, b.epoch_order(epoch), "the order is a function of the epoch alone");
        orders.push(seen.clone());
        seen.sort_unstable();
        assert_eq!(seen, (100..125).collect::<Vec<_>>());
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    assert_ne!(plain(25, 4, false, 2).epoch_order(0), orders[0], "the seed matters");
    assert_eq!(
        (plain(25, 4, true, 1).batches_per_epoch(), plain(25, 4, true, 1).windows_per_epoch()),
        (6, 24)
    );
}

#[test]
fn a_resumed_run_goes_on_where_it_stopped() {
    let mut whole = plain(23, 5, false, 9);
    let all: Vec<Vec<usize>> = (0..20).map(|_| whole.next_batch()).collect();
    for stop in 0..15 {
        let mut first = plain(23, 5, false, 9);
        (0..stop).for_each(|_| drop(first.next_batch()));
        let mut second = plain(23, 5, false, 9);
        second.seek(first.position()).unwrap();
        let rest: Vec<Vec<usize>> = (stop..20).map(|_| second.next_batch()).collect();
        assert_eq!(rest, all[stop..], "stopped after {stop}");
    }
    assert!(whole.seek(Position { epoch: 0, batch: 5 }).is_err());
}

#[test]
fn a_cap_holds_in_each_epoch_and_everyone_gets_a_turn() {
    let groups: Vec<u32> = (0..40).map(|i| if i < 30 { 0 } else { 1 + i % 2 }).collect();
    let b = Batches::new((0..40).collect(), 4, false, 5, Sampling::Capped { groups, cap: 5 }).unwrap();
    let mut turns = [0; 40];
    for epoch in 0..200 {
        let order = b.epoch_order(epoch);
        assert_eq!(order.len(), 15);
        assert_eq!(order.iter().filter(|w| **w < 30).count(), 5);
        order.iter().for_each(|w| turns[*w] += 1);
    }
    // 200 * 5 / 30 = 33 turns each are expected, with a standard deviation of 5.3.
    assert!(turns[..30].iter().all(|t| (10..60).contains(t)), "{turns:?}");
    assert!(turns[30..].iter().all(|t| *t == 200));
}

#[test]
fn weights_are_proportions() {
    let weights = vec![0.0, 1.0, 3.0, 0.0];
    let sampling = Sampling::Weighted { weights, draws: 40_000 };
    let b = Batches::new(vec![0, 1, 2, 3], 10, false, 5, sampling).unwrap();
    let mut counts = BTreeMap::new();
    b.epoch_order(0).into_iter().for_each(|w| *counts.entry(w).or_insert(0) += 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2], "weight 0 is never drawn");
    // Standard deviation of the count: sqrt(40000 * 3/16) = 87.
    assert!((counts[&1] as f64 - 10_000.0).abs() < 450.0, "{counts:?}");
}

#[test]
fn bad_requests() {
    let new = |n, size, drop, s| Batches::new((0..n).collect(), size, drop, 0, s);
    assert!(new(0, 4, false, Sampling::All).is_err());
    assert!(new(4, 0, false, Sampling::All).is_err());
    assert!(new(3, 4, true, Sampling::All).is_err());
    assert!(new(3, 1, true, Sampling::Capped { groups: vec![0], cap: 1 }).is_err());
    assert!(new(1, 1, true, Sampling::Capped { groups: vec![0], cap: 0 }).is_err());
    for weights in [vec![0.0], vec![-1.0], vec![f64::NAN], vec![f64::INFINITY], vec![]] {
        assert!(new(1, 1, true, Sampling::Weighted { weights, draws: 3 }).is_err());
    }
}

#[test]
fn windows_in_memory() {
    let w = MemoryWindows::new((0..6).map(|x| x as f32).collect(), 3).unwrap();
    let mut out = [0.0; 3];
    w.read(1, &mut out).unwrap();
    assert_eq!((w.len(), out), (2, [3.0, 4.0, 5.0]));
    assert!(w.read(2, &mut out).is_err() && w.read(0, &mut out[..2]).is_err());
    assert_eq!(w.window(usize::MAX), None);
    assert!(MemoryWindows::new(vec![0.0; 5], 3).is_err() && MemoryWindows::new(vec![], 0).is_err());
}
