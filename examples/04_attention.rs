//! # Lesson 4: attention by hand, then tiled
//!
//! Run it: `cargo run --release --no-default-features --example 04_attention`
//!
//! A linear layer treats every token (row) alone. Attention is the operation by which a token looks at the others. Every
//! token i asks a question, its query q_i; every token j offers a key k_j and a value v_j. How well question and key fit is
//! their dot product; a softmax turns the fits into shares that sum to 1; the answer is the values mixed by these shares:
//!
//! ```text
//! s_ij = q_i . k_j / sqrt(d)          scores, t x t          (d = number of columns of q and k)
//! p_ij = exp(s_ij) / sum_k exp(s_ik)  probabilities, t x t, every row sums to 1
//! y_i  = sum_j p_ij v_j               the answers, t x d
//! ```
//!
//! The factor 1/sqrt(d): a dot product of d independent numbers of variance 1 has variance d; dividing keeps the scores at
//! variance 1, where softmax still has a slope (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1).
//!
//! The trouble is t x t. An ECG of 1281 tokens has 1.6 million scores per head, of which the answer needs none: only the
//! mixture. The second half of the lesson computes the same y while looking at a few keys at a time and never holding more
//! than one tile of scores.

use heartlore::kernels::attention::{self, Dims, Rows};
use heartlore::kernels::gemm::MatmulPrecision;
use heartlore::kernels::rng::{Dropout, Key};
use heartlore::kernels::{Isa, Real};
use std::error::Error;
use std::io::Write;

const T: usize = 4;
const D: usize = 4;

/// One row of d numbers per token.
type Tokens = [[f64; D]; T];
/// One row per query, one column per key.
type Scores = [[f64; T]; T];

// Four tokens. With d = 4 the factor 1/sqrt(d) is 1/2, and the scores come out as round numbers.
const Q: Tokens = [[2., 0., 0., 0.], [0., 2., 0., 0.], [1., 1., 0., 0.], [0., 0., 0., 0.]];
const K: Tokens = [[1., 0., 1., 0.], [0., 1., 0., 1.], [2., 0., 0., 0.], [0., 3., 0., 0.]];
const V: Tokens = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.], [0., 0., 0., 1.]];

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Attention straight from the formula: scores, probabilities, answers.
fn by_hand(q: &Tokens, k: &Tokens, v: &Tokens) -> (Scores, Scores, Tokens) {
    let scale = 1.0 / (D as f64).sqrt();
    let (mut s, mut p, mut y) = ([[0.0; T]; T], [[0.0; T]; T], [[0.0; D]; T]);
    for i in 0..T {
        for j in 0..T {
            s[i][j] = scale * dot(&q[i], &k[j]);
        }
        let sum: f64 = s[i].iter().map(|s| s.exp()).sum();
        for j in 0..T {
            p[i][j] = s[i][j].exp() / sum;
            for c in 0..D {
                y[i][c] += p[i][j] * v[j][c];
            }
        }
    }
    (s, p, y)
}

/// What one query carries from tile to tile.
///
/// Softmax needs the maximum m of a row first (exp of a large score overflows; exp(s - m) does not) and the sum of all
/// exponentials. Reading the keys tile by tile, we know only the maximum *so far*. When a later tile raises it from m to
/// m', everything accumulated with exp(s - m) is too large by the factor exp(m' - m): multiply by exp(m - m') and go on.
/// One multiplication corrects the sum and the mixture alike (Milakov & Gimelshein 2018, arXiv:1805.02867).
#[derive(Debug)]
struct Running {
    /// The largest score so far.
    max: f64,
    /// The sum of exp(s - max) so far.
    sum: f64,
    /// The sum of exp(s - max) v so far.
    mixture: [f64; D],
}

impl Running {
    fn new() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0, mixture: [0.0; D] }
    }

    /// Takes in one tile of keys and values. Returns the factor that corrected what was there before.
    fn tile(&mut self, scores: &[f64], values: &[[f64; D]]) -> f64 {
        let max = scores.iter().copied().fold(self.max, f64::max);
        let correction = (self.max - max).exp(); // exp(-inf) = 0 before the first tile
        self.sum *= correction;
        self.mixture.iter_mut().for_each(|m| *m *= correction);
        for (s, v) in scores.iter().zip(values) {
            let e = (s - max).exp();
            self.sum += e;
            for c in 0..D {
                self.mixture[c] += e * v[c];
            }
        }
        self.max = max;
        correction
    }

    /// The answer: the mixture divided by the sum, once, at the end.
    fn answer(&self) -> [f64; D] {
        self.mixture.map(|m| m / self.sum)
    }
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 4: ATTENTION BY HAND, THEN TILED\n")?;
    let (s, p, y) = by_hand(&Q, &K, &V);

    writeln!(out, "1. By the formula: {T} tokens, d = {D}, one head\n")?;
    writeln!(out, "   {:<24}{:<24}values v", "queries q", "keys k")?;
    for i in 0..T {
        writeln!(out, "   {:<24}{:<24}{}", row(&Q[i], 0), row(&K[i], 0), row(&V[i], 0))?;
    }
    writeln!(out, "\n   {:<28}probabilities p", "scores s = q k^T / 2")?;
    for i in 0..T {
        let total: f64 = p[i].iter().sum();
        writeln!(out, "   {:<28}{:<34} sum {total:.3}", row(&s[i], 1), row(&p[i], 3))?;
    }
    writeln!(out, "\n   s[0, 2] = (2*2 + 0*0 + 0*0 + 0*0) / 2 = {}", s[0][2])?;
    writeln!(
        out,
        "   p[0, 2] = e^{} / (e^{} + e^{} + e^{} + e^{}) = {:.3}",
        s[0][2], s[0][0], s[0][1], s[0][2], s[0][3], p[0][2]
    )?;
    writeln!(
        out,
        "\n   Token 0 looks mostly at token 2, token 1 at token 3. Token 3 asks nothing (q = 0): all its scores are"
    )?;
    writeln!(
        out,
        "   equal and it takes the plain mean. The values were chosen as unit vectors, so y shows p itself:\n"
    )?;
    writeln!(out, "   answers y = p v")?;
    for y in &y {
        writeln!(out, "   {}", row(y, 3))?;
    }
    writeln!(out)?;
    for i in 0..T {
        assert!((p[i].iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    tiled(out, &s, &y)?;
    large_scores(out)?;
    kernel(out, &s, &y)?;
    order(out, &y)?;
    memory(out)?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - tiles of 1 key, or of 3 and 1: the answer must not move;")?;
    writeln!(
        out,
        "  - multiply q by 10: the softmax sharpens. Multiply it by 0: what does every token answer?"
    )?;
    writeln!(out, "  - let token i see only tokens j <= i (leave out the other scores): a causal model.")?;
    writeln!(out, "Next: 05_tiny_transformer, where queries, keys and values are learned.")?;
    Ok(())
}

/// The same row, two keys at a time.
fn tiled(out: &mut dyn Write, s: &Scores, y: &Tokens) -> Result<(), Box<dyn Error>> {
    const TILE: usize = 2;
    writeln!(out, "2. Tiled: token 0 again, {TILE} keys at a time, with a running maximum and sum\n")?;
    writeln!(
        out,
        "   {:<8} {:<14} {:>5} {:>12} {:>9}   mixture",
        "keys", "scores", "max", "correction", "sum"
    )?;
    for (i, scores) in s.iter().enumerate() {
        let mut running = Running::new();
        for from in (0..T).step_by(TILE) {
            let keys = from..(from + TILE).min(T);
            let correction = running.tile(&scores[keys.clone()], &V[keys.clone()]);
            if i == 0 {
                writeln!(
                    out,
                    "   {:<8} {:<14} {:>5} {correction:>12.4} {:>9.4}   {}",
                    format!("{}..{}", keys.start, keys.end),
                    row(&scores[keys], 1),
                    running.max,
                    running.sum,
                    row(&running.mixture, 4)
                )?;
            }
        }
        let answer = running.answer();
        if i == 0 {
            writeln!(
                out,
                "\n   The second tile raised the maximum from 1 to 2: what was there is multiplied by e^(1-2) = 0.3679."
            )?;
            writeln!(out, "   mixture / sum    = {}", row(&answer, 3))?;
            writeln!(out, "   by the formula   = {}\n", row(&y[0], 3))?;
            // Saved for the backward pass: one number per query instead of t probabilities.
            let lse = running.max + running.sum.ln();
            let again: Vec<f64> = scores.iter().map(|s| (s - lse).exp()).collect();
            writeln!(
                out,
                "   For the backward pass only lse = max + ln(sum) = {lse:.4} is kept. It gives every probability"
            )?;
            writeln!(out, "   back from its score, p = exp(s - lse):  {}\n", row(&again, 3))?;
        }
        for c in 0..D {
            assert!((answer[c] - y[i][c]).abs() < 1e-15);
        }
    }
    Ok(())
}

/// Why the maximum is subtracted at all.
fn large_scores(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let scores = [800.0f64, 799.0];
    let plain = scores.map(f64::exp);
    let naive = plain[0] / (plain[0] + plain[1]);
    let mut running = Running::new();
    running.tile(&scores[..1], &V[..1]);
    running.tile(&scores[1..], &V[1..2]);
    let safe = running.answer()[0];
    writeln!(out, "3. Why subtract the maximum? Scores {} and {}\n", scores[0], scores[1])?;
    writeln!(out, "   without: e^800 = {}, so p = {naive}", plain[0])?;
    writeln!(out, "   with:    e^0 / (e^0 + e^-1) = {safe:.4}\n")?;
    assert!(naive.is_nan() && (safe - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-15);
    Ok(())
}

/// The library's kernel on q, k, v given as rows.
fn run_kernel<R: Real>(q: &Tokens, k: &Tokens, v: &Tokens) -> Vec<f64> {
    let flat = |m: &Tokens| -> Vec<R> { m.iter().flatten().map(|&x| R::of(x)).collect() };
    let (q, k, v) = (flat(q), flat(k), flat(v));
    fn rows<R>(data: &[R]) -> Rows<'_, R> {
        Rows { data, stride: D, offset: 0 }
    }
    let d = Dims { batch: 1, tq: T, tk: T, heads: 1, head_dim: D, precision: MatmulPrecision::F32 };
    let mut y = vec![R::NAN; T * D];
    let mut scratch = vec![R::NAN; attention::scratch_len::<R>(d)];
    let (scale, none, key) = (1.0 / (D as f64).sqrt(), Dropout::NONE, Key::default());
    // No mask, no dropout, nothing saved: inference.
    let (q, k, v) = (rows(&q), rows(&k), rows(&v));
    attention::forward(Isa::best(), d, scale, q, k, v, None, none, key, &mut y, &mut [], &mut scratch);
    y.iter().map(|y| y.f64()).collect()
}

fn kernel(out: &mut dyn Write, s: &Scores, y: &Tokens) -> Result<(), Box<dyn Error>> {
    writeln!(out, "4. The library's kernel on the same numbers\n")?;
    let largest = s.iter().flatten().fold(0.0, |m: f64, s| m.max(s.abs()));
    for (name, got, tolerance) in [
        ("f64", run_kernel::<f64>(&Q, &K, &V), 1e-15),
        // In f32 a score s is known to 6e-8 |s|, and the exponential inherits that as a relative error.
        ("f32", run_kernel::<f32>(&Q, &K, &V), 2e-7 * (1.0 + largest)),
    ] {
        let worst = got.iter().zip(y.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        writeln!(out, "   {name}: largest difference from ours {worst:.1e}")?;
        assert!(worst <= tolerance, "{name}: {worst:e}");
    }
    writeln!(
        out,
        "\n   In f64 the kernel is the formula, row by row; in f32 it is tiled as in section 2.\n"
    )?;
    Ok(())
}

/// Attention knows no order.
fn order(out: &mut dyn Write, y: &Tokens) -> Result<(), Box<dyn Error>> {
    let reversed = |m: &Tokens| {
        let mut m = *m;
        m.reverse();
        m
    };
    let got = run_kernel::<f64>(&reversed(&Q), &reversed(&K), &reversed(&V));
    let back: Vec<f64> = got.chunks(D).rev().flatten().copied().collect();
    let worst = back.iter().zip(y.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    writeln!(out, "5. Attention knows no order\n")?;
    writeln!(
        out,
        "   All tokens in reverse give the same answers in reverse (largest difference {worst:.1e}). If order"
    )?;
    writeln!(
        out,
        "   matters, and in an ECG it does, it must be written into the tokens: a position table is added.\n"
    )?;
    assert!(worst < 1e-15);
    Ok(())
}

/// Memory: what the formula would hold, and what the kernel holds.
fn memory(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (heads, head_dim) = (2, 128);
    writeln!(out, "6. Memory in f32, one sequence, {heads} heads of {head_dim}\n")?;
    writeln!(
        out,
        "   {:>7} {:>16} {:>16} {:>12} {:>16}",
        "", "probabilities", "tiled: saved", "tiled:", "output y"
    )?;
    writeln!(
        out,
        "   {:>7} {:>16} {:>16} {:>12} {:>16}",
        "tokens", "heads * t * t", "heads * t", "scratch", "t * 256"
    )?;
    for t in [64, 256, 1281, 4096, 16384] {
        let d = Dims { batch: 1, tq: t, tk: t, heads, head_dim, precision: MatmulPrecision::F32 };
        let (full, saved) = (4 * heads * t * t, 4 * attention::saved_len(d));
        let scratch = 4 * attention::scratch_len::<f32>(d);
        writeln!(
            out,
            "   {t:>7} {:>16} {:>16} {:>12} {:>16}",
            bytes(full),
            bytes(saved),
            bytes(scratch),
            bytes(4 * t * d.width())
        )?;
        assert_eq!(saved, 4 * heads * t);
        // From a tile on it grows by a row of head_dim and two numbers per token.
        let double = 4 * attention::scratch_len::<f32>(Dims { tq: 2 * t, tk: 2 * t, ..d });
        assert!(t < 1281 || double - scratch == 4 * t * (head_dim + 2));
    }
    writeln!(
        out,
        "\n   Left: grows with the square. Tiled: one number per query and head, and a scratch of one head's rows"
    )?;
    writeln!(out, "   beside tiles of fixed size. Both do the same multiplications.\n")?;
    Ok(())
}

fn bytes(n: usize) -> String {
    let n = n as f64;
    if n < 1024.0 * 1024.0 {
        format!("{:.1} KiB", n / 1024.0)
    } else {
        format!("{:.1} MiB", n / 1024.0 / 1024.0)
    }
}

/// Numbers in a row.
fn row(values: &[f64], decimals: usize) -> String {
    let width = if decimals == 0 { 3 } else { decimals + 3 };
    values.iter().map(|v| format!("{v:>width$.decimals$}")).collect::<Vec<_>>().join(" ")
}
