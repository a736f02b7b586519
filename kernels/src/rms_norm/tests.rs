use super::*;

const D: Dims = Dims { rows: 2, cols: 3 };
const X: [f64; 6] = [1.0, -2.0, 3.0, 0.5, 0.25, -1.5];
const GAMMA: [f64; 3] = [2.0, -1.0, 0.5];

#[test]
fn rows_have_unit_mean_square_and_scale_does_not_matter() {
    let run = |factor: f64| {
        let x = X.map(|x| x * factor);
        let (mut y, mut saved) = ([f64::NAN; 6], [f64::NAN; 2]);
        forward(Isa::PORTABLE, D, 0.0, &x, &[1.0; 3], &mut y, &mut saved);
        y
    };
    let y = run(1.0);
    for row in y.chunks(3) {
        assert!((row.iter().map(|y| y * y).sum::<f64>() / 3.0 - 1.0).abs() < 1e-14);
    }
    run(1000.0).iter().zip(y).for_each(|(a, b)| assert!((a - b).abs() < 1e-14));
    // A constant row is not shifted to zero, as layer norm would.
    let mut y = [0.0; 3];
    forward(Isa::PORTABLE, Dims { rows: 1, cols: 3 }, 0.0, &[7.0; 3], &[1.0; 3], &mut y, &mut []);
    assert!(y.iter().all(|y: &f64| (y - 1.0).abs() < 1e-14));
}

#[test]
fn gradients_are_overwritten_or_added_to_and_dgamma_adds() {
    let (mut y, mut saved) = ([0.0; 6], [0.0; 2]);
    forward(Isa::PORTABLE, D, 0.1, &X, &GAMMA, &mut y, &mut saved);
    let dy = [0.3, -0.7, 1.1, 0.2, 0.9, -0.4];
    let run = |start: f64, accumulate: bool| {
        let (mut dx, mut dg) = ([start; 6], [1.0; 3]);
        let to = if accumulate { GradMut::accumulate(&mut dx) } else { GradMut::overwrite(&mut dx) };
        backward(Isa::PORTABLE, D, &X, &GAMMA, &saved, &dy, Some(to), Some(&mut dg));
        (dx, dg)
    };
    let (fresh, dg) = run(f64::NAN, false);
    let (added, again) = run(2.0, true);
    assert_eq!(dg, again);
    for i in 0..6 {
        assert!((added[i] - fresh[i] - 2.0).abs() < 1e-14);
        // By the difference quotient.
        let loss = |h: f64| {
            let (mut x, mut y) = (X, [0.0; 6]);
            x[i] += h;
            forward(Isa::PORTABLE, D, 0.1, &x, &GAMMA, &mut y, &mut []);
            y.iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
        };
        assert!((fresh[i] - (loss(1e-5) - loss(-1e-5)) / 2e-5).abs() < 1e-8, "{i}");
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits_near_the_f64_result() {
    let mut exact = [0.0; 6];
    forward(Isa::PORTABLE, D, 1e-5, &X, &GAMMA, &mut exact, &mut []);
    let (x, gamma) = (X.map(|x| x as f32), GAMMA.map(|g| g as f32));
    let mut first = None;
    for isa in Isa::available() {
        let mut y = [f32::NAN; 6];
        forward(isa, D, 1e-5, &x, &gamma, &mut y, &mut []);
        for (y, exact) in y.iter().zip(exact) {
            // A sum of three squares, a root, a quotient and two products: at most 8 roundings.
            assert!((f64::from(*y) - exact).abs() <= 8.0 * f64::from(f32::EPSILON) * exact.abs(), "{isa}");
        }
        assert_eq!(*first.get_or_insert(y.map(f32::to_bits)), y.map(f32::to_bits), "{isa}");
    }
}
