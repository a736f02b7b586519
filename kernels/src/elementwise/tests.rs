use super::*;
use crate::proofs::{LENGTHS, assert_gradient, assert_output, bits, dot};
use crate::testing::{Rng, each_isa, to_f32};

/// Rounding of one f32 operation.
const ULP: f64 = f32::EPSILON as f64;

#[test]
fn every_instruction_set_gives_the_rounded_value_at_every_length() {
    each_isa(|isa| {
        for n in LENGTHS {
            let mut rng = Rng(n as u64);
            let (a, b) = (rng.vec(n), rng.vec(n));
            let (a32, b32) = (to_f32(&a), to_f32(&b));
            let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            let product: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
            let scaled: Vec<f64> = a.iter().map(|a| a * 0.75).collect();
            let mut y = vec![f32::NAN; n];
            add(isa, &a32, &b32, &mut y);
            assert_eq!(y, to_f32(&sum));
            mul(isa, &a32, &b32, &mut y);
            assert_eq!(y, to_f32(&product));
            scale(isa, 0.75, &a32, &mut y);
            assert_eq!(y, to_f32(&scaled));

            let name = format!("{isa}, {n}");
            assert_output(&format!("da of add, {name}"), &a, ULP, ULP, |g| {
                add_backward(isa, &a32, Some(g), None);
            });
            assert_output(&format!("db of add, {name}"), &a, ULP, ULP, |g| {
                add_backward(isa, &a32, None, Some(g));
            });
            // mul_backward(a, b, dy): da = b dy. With dy = a: da = a b; with the roles swapped, db = a b too.
            assert_output(&format!("da of mul, {name}"), &product, ULP, ULP, |g| {
                mul_backward(isa, &b32, &b32, &a32, Some(g), None);
            });
            assert_output(&format!("db of mul, {name}"), &product, ULP, ULP, |g| {
                mul_backward(isa, &b32, &a32, &a32, None, None);
                mul_backward(isa, &a32, &vec![9.0; n], &b32, None, Some(g));
            });
            assert_output(&format!("dx of scale, {name}"), &scaled, ULP, ULP, |g| {
                scale_backward(isa, 0.75, &a32, g);
            });
        }
    });
}

#[test]
fn gradients_match_central_differences() {
    let mut rng = Rng(3);
    let n = 5;
    let (a, b, dy) = (rng.vec(n), rng.vec(n), rng.vec(n));
    let isa = Isa::PORTABLE;
    let mut y = vec![0.0; n];
    let (mut da, mut db) = (vec![f64::NAN; n], vec![f64::NAN; n]);

    add_backward(isa, &dy, Some(GradMut::overwrite(&mut da)), Some(GradMut::overwrite(&mut db)));
    assert_gradient("add, a", &a, &da, |a| {
        add(isa, a, &b, &mut y);
        dot(&y, &dy)
    });
    assert_gradient("add, b", &b, &db, |b| {
        add(isa, &a, b, &mut y);
        dot(&y, &dy)
    });

    mul_backward(isa, &a, &b, &dy, Some(GradMut::overwrite(&mut da)), Some(GradMut::overwrite(&mut db)));
    assert_gradient("mul, a", &a, &da, |a| {
        mul(isa, a, &b, &mut y);
        dot(&y, &dy)
    });
    assert_gradient("mul, b", &b, &db, |b| {
        mul(isa, &a, b, &mut y);
        dot(&y, &dy)
    });

    scale_backward(isa, -1.7, &dy, GradMut::overwrite(&mut da));
    assert_gradient("scale", &a, &da, |a| {
        scale(isa, -1.7, a, &mut y);
        dot(&y, &dy)
    });
}

#[test]
fn instruction_sets_agree_bit_for_bit() {
    let mut rng = Rng(8);
    let (a, b) = (to_f32(&rng.vec(131)), to_f32(&rng.vec(131)));
    let run = |isa| {
        let (mut y, mut d) = (vec![0.0; 131], vec![0.25; 131]);
        mul(isa, &a, &b, &mut y);
        mul_backward(isa, &a, &b, &y, Some(GradMut::accumulate(&mut d)), None);
        [bits(&y), bits(&d)]
    };
    each_isa(|isa| assert_eq!(run(isa), run(Isa::PORTABLE), "{isa}"));
}

#[test]
#[should_panic(expected = "add: b has 3 elements, expected 2")]
fn unequal_lengths_are_refused() {
    add(Isa::PORTABLE, &[1.0, 2.0], &[1.0; 3], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "mul backward: db has 1 elements, expected 2")]
fn a_short_gradient_is_refused() {
    let mut db = [0.0];
    mul_backward(Isa::PORTABLE, &[1.0; 2], &[1.0; 2], &[1.0; 2], None, Some(GradMut::overwrite(&mut db)));
}
