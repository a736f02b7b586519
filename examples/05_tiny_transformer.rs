//! # Lesson 5: a tiny transformer that learns
//!
//! Run it: `cargo run --release --no-default-features --example 05_tiny_transformer`
//!
//! **The task.** A sequence shows six pairs of a letter and a digit, then asks for one of the letters:
//!
//! ```text
//! C4 A7 H0 B7 F2 E9  F?     answer: 2
//! ```
//!
//! Letters, digits and their order are drawn anew every time, so there is nothing to memorise: the answer is in the
//! sequence, at a place that only a comparison of the question with every pair can find. That is what attention does, and
//! what layers that treat each token alone cannot do. We train both, to see it.
//!
//! **The model**, one layer, written down in [`model`]:
//!
//! ```text
//! token   = letter vector + digit vector ('?' is an eleventh digit)      two tables, learned
//! a       = attention(token w_q, token w_k, token w_v) w_o                2 heads of 16
//! h       = norm(token + a)                                               the residual path keeps the token itself
//! z       = norm(h + w_2 relu(w_1 h))                                     feed-forward, each token alone
//! scores  = w z_last                                                      ten numbers, from the question's row only
//! loss    = cross-entropy: -ln of the probability given to the right digit
//! ```
//!
//! A model that knows nothing gives every digit 1/10: loss ln 10 = 2.303. One that guesses among the digits shown comes to
//! a little below ln 6 = 1.79. Only one that looks up the letter gets near 0.
//!
//! **Training** is the loop of every network: draw examples, forward, backward, a step of Adam
//! ([`heartlore::kernels::adam`]) against the gradient; and again. Every batch is new, so the accuracy printed during
//! training is already an accuracy on sequences never seen before.

use heartlore::graph::{AttentionSpec, Columns, Exec, FeedForwardParams, Graph, Id, OutputRequest, Plan};
use heartlore::kernels::activation::Activation;
use heartlore::kernels::adam::{self, Adam, clip};
use heartlore::kernels::losses::Reduction;
use heartlore::kernels::pool::Pool;
use heartlore::kernels::rng::Key;
use heartlore::tensor::Init;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

const LETTERS: usize = 8;
const DIGITS: usize = 10;
const PAIRS: usize = 6;
/// Tokens of a sequence: the pairs and the question.
const T: usize = PAIRS + 1;
const WIDTH: usize = 32;
const HEADS: usize = 2;
const HEAD_DIM: usize = WIDTH / HEADS;
const HIDDEN: usize = 64;
const BATCH: usize = 64;
const STEPS: u64 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// One batch of sequences: a letter and a digit per token, an answer per sequence.
struct Batch {
    letters: Vec<u32>,
    digits: Vec<u32>,
    answers: Vec<u32>,
}

/// Batch number `step` of the stream `seed`. The generator is counter-based: any batch can be drawn again by its number.
fn draw(seed: u64, step: u64) -> Batch {
    let stream = Key { seed, step, ..Key::default() }.stream();
    let mut batch = Batch { letters: Vec::new(), digits: Vec::new(), answers: Vec::new() };
    for sample in 0..BATCH as u32 {
        let mut place = 0;
        let mut below = |n: usize| {
            place += 1;
            (stream.uniform(sample, place) * n as f64) as usize
        };
        // A random order of all letters, of which the first six are used.
        let mut letters: Vec<u32> = (0..LETTERS as u32).collect();
        for i in 0..PAIRS {
            letters.swap(i, i + below(LETTERS - i));
        }
        let digits: Vec<u32> = (0..PAIRS).map(|_| below(DIGITS) as u32).collect();
        let asked = below(PAIRS);
        batch.letters.extend(&letters[..PAIRS]);
        batch.letters.push(letters[asked]);
        batch.digits.extend(&digits);
        batch.digits.push(DIGITS as u32); // '?'
        batch.answers.push(digits[asked]);
    }
    batch
}

/// A recorded model and the places of it that we feed or read.
struct Model {
    graph: Arc<Graph>,
    letters: Id,
    digits: Id,
    answers: Id,
    /// Queries, keys and values side by side, `[batch, t, 3 * width]`; only with attention.
    qkv: Option<Id>,
    logits: Id,
    loss: Id,
}

/// Records the model. Without attention every token is treated alone and the tokens are averaged at the end, so that all
/// of them still reach the result.
fn model(with_attention: bool) -> heartlore::Result<Model> {
    let mut g = Graph::new();
    let letters = g.index("letters", [1, BATCH * T], LETTERS)?;
    let digits = g.index("digits", [1, BATCH * T], DIGITS + 1)?;
    let answers = g.index("answers", [BATCH], DIGITS)?;

    // Looking up a vector in a table is choosing rows of it; the backward pass adds to the chosen rows.
    g.scope("tokens");
    let letter_table = g.param("letter table", [1, LETTERS, WIDTH], Init::Normal(1.0))?;
    let digit_table = g.param("digit table", [1, DIGITS + 1, WIDTH], Init::Normal(1.0))?;
    let of_letters = g.gather_rows(letter_table, letters)?;
    let of_digits = g.gather_rows(digit_table, digits)?;
    let tokens = g.add(of_letters, of_digits)?;
    let tokens = g.reshape(tokens, [BATCH, T, WIDTH])?;

    let (mut h, mut qkv) = (tokens, None);
    if with_attention {
        g.scope("attention");
        // One product computes queries, keys and values; attention reads them as column blocks.
        let w = g.param("qkv.weight", [3 * WIDTH, WIDTH], Init::FanIn(WIDTH))?;
        let b = g.param("qkv.bias", [3 * WIDTH], Init::Zeros)?;
        let joint = g.linear(tokens, w, Some(b), None)?;
        let block = |n: usize| Columns { id: joint, offset: n * WIDTH };
        let spec = AttentionSpec { heads: HEADS, head_dim: HEAD_DIM, dropout: 0.0 };
        let mixed = g.attention(block(0), block(1), block(2), None, spec)?;
        let w = g.param("out.weight", [WIDTH, WIDTH], Init::FanIn(WIDTH))?;
        let b = g.param("out.bias", [WIDTH], Init::Zeros)?;
        let a = g.linear(mixed, w, Some(b), None)?;
        let gamma = g.param("norm1.weight", [WIDTH], Init::Ones)?;
        let beta = g.param("norm1.bias", [WIDTH], Init::Zeros)?;
        h = g.residual_norm(tokens, a, 0.0, gamma, beta, 1e-5)?;
        qkv = Some(joint);
    }

    g.scope("feed-forward");
    let params = FeedForwardParams {
        w1: g.param("ff1.weight", [HIDDEN, WIDTH], Init::FanIn(WIDTH))?,
        b1: g.param("ff1.bias", [HIDDEN], Init::Zeros)?,
        w2: g.param("ff2.weight", [WIDTH, HIDDEN], Init::FanIn(HIDDEN))?,
        b2: g.param("ff2.bias", [WIDTH], Init::Zeros)?,
    };
    let f = g.feed_forward(h, params, Activation::Relu, 0.0)?;
    let gamma = g.param("norm2.weight", [WIDTH], Init::Ones)?;
    let beta = g.param("norm2.bias", [WIDTH], Init::Zeros)?;
    let z = g.residual_norm(h, f, 0.0, gamma, beta, 1e-5)?;

    g.scope("answer");
    let row = g.pool(z, if with_attention { Pool::Last } else { Pool::Mean })?;
    let w = g.param("head.weight", [DIGITS, WIDTH], Init::FanIn(WIDTH))?;
    let b = g.param("head.bias", [DIGITS], Init::Zeros)?;
    let logits = g.linear(row, w, Some(b), None)?;
    let loss = g.cross_entropy(logits, answers, Reduction::Mean)?;
    Ok(Model { graph: Arc::new(g), letters, digits, answers, qkv, logits, loss })
}

impl Model {
    fn feed(&self, exec: &mut Exec<f32>, batch: &Batch) -> heartlore::Result<()> {
        exec.set_index(self.letters, &batch.letters)?;
        exec.set_index(self.digits, &batch.digits)?;
        exec.set_index(self.answers, &batch.answers)
    }

    /// The digit with the largest score, for every sequence.
    fn predictions(&self, exec: &Exec<f32>) -> Vec<u32> {
        let best = |row: &[f32]| (0..DIGITS).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        exec.value(self.logits).chunks(DIGITS).map(|row| best(row) as u32).collect()
    }
}

fn share_right(predicted: &[u32], answers: &[u32]) -> f64 {
    let right = predicted.iter().zip(answers).filter(|(p, a)| p == a).count();
    right as f64 / answers.len() as f64
}

/// Trains and returns the parameters. `report` receives step, mean loss and accuracy since the last report.
fn train(
    model: &Model,
    mut report: impl FnMut(u64, f64, f64) -> std::io::Result<()>,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let want = OutputRequest { keep: vec![model.logits], ..OutputRequest::training(model.loss) };
    let plan = Plan::new(&model.graph, want)?;
    let mut exec = Exec::<f32>::new(Arc::clone(&model.graph), Arc::new(plan));

    // All parameters are one flat vector, and so are their gradients and Adam's two moments.
    let mut params: Vec<f32> = model.graph.layout().init(1);
    let mut grads = vec![0.0f32; params.len()];
    let (mut m, mut v) = (grads.clone(), grads.clone());
    let (mut loss, mut accuracy, mut batches) = (0.0, 0.0, 0.0);

    for step in 1..=STEPS {
        let batch = draw(2, step);
        model.feed(&mut exec, &batch)?;
        exec.forward(&params);
        loss += f64::from(exec.value(model.loss)[0]);
        accuracy += share_right(&model.predictions(&exec), &batch.answers);
        batches += 1.0;

        // Gradients add up, so they are cleared first. The loss is the root, and d loss / d loss = 1.
        grads.fill(0.0);
        exec.backward(&params, &[1.0], &mut grads);

        // The first steps are short (warm-up), and a gradient longer than 1 is shortened to 1.
        let adam = Adam { learning_rate: 4e-3 * (step as f64 / 50.0).min(1.0), ..Adam::default() };
        let norm = clip::squared_norm(exec.isa(), &grads).sqrt();
        let scale = clip::scale_for(norm, 1.0);
        adam::step(exec.isa(), &adam, step, scale, &mut params, &grads, &mut m, &mut v);

        if step == 1 || step % (STEPS / 12) == 0 {
            report(step, loss / batches, accuracy / batches)?;
            (loss, accuracy, batches) = (0.0, 0.0, 0.0);
        }
    }
    Ok(params)
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 5: A TINY TRANSFORMER THAT LEARNS\n")?;
    writeln!(out, "The task: six pairs, then a question about one of them. Five examples:\n")?;
    let sample = draw(2, 1);
    for n in 0..5 {
        writeln!(out, "   {}    answer {}", sequence(&sample, n), sample.answers[n])?;
    }

    let start = Instant::now();
    let with = model(true)?;
    writeln!(
        out,
        "\n1. With attention: {} parameters, batches of {BATCH} new sequences\n",
        with.graph.layout().len()
    )?;
    let mut last = (0.0, 0.0);
    let params = train(&with, |step, loss, accuracy| {
        last = (loss, accuracy);
        line(out, step, loss, accuracy)
    })?;
    writeln!(out)?;

    let without = model(false)?;
    writeln!(out, "2. The same without attention: {} parameters\n", without.graph.layout().len())?;
    let mut alone = (0.0, 0.0);
    train(&without, |step, loss, accuracy| {
        alone = (loss, accuracy);
        // Every third line is enough to see that nothing happens.
        if step % (STEPS / 4) == 0 || step == 1 { line(out, step, loss, accuracy) } else { Ok(()) }
    })?;
    writeln!(
        out,
        "\n   It learns to name the digit that is shown most often. That is right in a third of the sequences (of"
    )?;
    writeln!(
        out,
        "   six draws from ten digits the commonest comes about twice). Which one is asked for it cannot know."
    )?;
    writeln!(out, "   Both trainings together took {:.1} s on one core.\n", start.elapsed().as_secs_f64())?;
    assert!(last.1 > 0.97, "accuracy with attention {}", last.1);
    assert!(alone.1 < 0.4, "accuracy without attention {}", alone.1);

    look_inside(out, &with, &params)?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - HEADS = 1: how does the table of section 3 change? WIDTH = 16: does it still learn?")?;
    writeln!(out, "  - print trace::program of the model and find the line that costs most;")?;
    writeln!(
        out,
        "  - split each pair into two tokens, letter then digit: order and a second layer are now needed. Why?"
    )?;
    writeln!(out, "Next: 06_memory_plan, where all these values lie.")?;
    Ok(())
}

/// Accuracy on new sequences, and where the question looks.
fn look_inside(out: &mut dyn Write, model: &Model, params: &[f32]) -> Result<(), Box<dyn Error>> {
    // An inference plan: forward only, nothing kept but what we ask for.
    let qkv = model.qkv.ok_or("this model has no attention")?;
    let plan = Plan::new(&model.graph, OutputRequest::values(&[model.logits, qkv]))?;
    let mut exec = Exec::<f32>::new(Arc::clone(&model.graph), Arc::new(plan));
    let (mut right, mut all) = (0, 0);
    let mut shown = None;
    for number in 0..32 {
        let batch = draw(3, number); // another seed: sequences of which none was used in training
        model.feed(&mut exec, &batch)?;
        exec.forward(params);
        let predicted = model.predictions(&exec);
        right += predicted.iter().zip(&batch.answers).filter(|(p, a)| p == a).count();
        all += BATCH;
        if shown.is_none() {
            let weights: Vec<_> = (0..4).map(|n| attention_of_question(exec.value(qkv), n)).collect();
            shown = Some((batch, predicted, weights));
        }
    }
    let accuracy = right as f64 / all as f64;
    writeln!(
        out,
        "3. After training: {right} of {all} new sequences answered correctly ({:.1} %)\n",
        100.0 * accuracy
    )?;
    assert!(accuracy > 0.97, "accuracy {accuracy}");

    writeln!(
        out,
        "   Where does the question look? Attention probabilities of the last token, in per cent:\n"
    )?;
    let Some((batch, predicted, weights)) = shown else { return Err("no batch was drawn".into()) };
    let mut found = 0.0;
    for (n, heads) in weights.iter().enumerate() {
        let tokens: String = (0..T).map(|i| format!("{:>6}", token(&batch, n, i))).collect();
        let verdict = if predicted[n] == batch.answers[n] { "right" } else { "wrong" };
        writeln!(out, "   {:<8}{tokens}     says {}, {verdict}", "", predicted[n])?;
        for (h, p) in heads.iter().enumerate() {
            let cells: String = p.iter().map(|p| format!("{:>6.0}", 100.0 * p)).collect();
            writeln!(out, "   head {h}  {cells}")?;
        }
        writeln!(out)?;
        // The largest share that any head gives to the pair that was asked for.
        let letter = batch.letters[n * T + T - 1];
        let asked = (0..PAIRS).find(|&i| batch.letters[n * T + i] == letter).unwrap_or(0);
        found += heads.iter().map(|p| p[asked]).fold(0.0, f32::max) / weights.len() as f32;
    }
    writeln!(
        out,
        "   No line of the program says that letters are to be compared. The gradient found it.\n"
    )?;
    assert!(found > 0.5, "share of the pair that was asked for: {found}");
    Ok(())
}

/// The probabilities with which the question of sequence `n` looks at the tokens, for every head: lesson 4, section 1.
fn attention_of_question(qkv: &[f32], n: usize) -> Vec<[f32; T]> {
    let columns = |i: usize, block: usize, head: usize| {
        &qkv[(n * T + i) * 3 * WIDTH + block * WIDTH + head * HEAD_DIM..][..HEAD_DIM]
    };
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    (0..HEADS)
        .map(|h| {
            let q = columns(T - 1, 0, h);
            let s: [f32; T] = std::array::from_fn(|j| {
                scale * q.iter().zip(columns(j, 1, h)).map(|(q, k)| q * k).sum::<f32>()
            });
            let max = s.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e = s.map(|s| (s - max).exp());
            let sum: f32 = e.iter().sum();
            e.map(|e| e / sum)
        })
        .collect()
}

fn line(out: &mut dyn Write, step: u64, loss: f64, accuracy: f64) -> std::io::Result<()> {
    let bar = "*".repeat((loss * 20.0).round() as usize);
    let text = format!("   step {step:>5}   loss {loss:>6.3}   right {:>5.1} %   {bar}", 100.0 * accuracy);
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}

/// Token `i` of sequence `n` as text: letter and digit, or letter and question mark.
fn token(batch: &Batch, n: usize, i: usize) -> String {
    let (letter, digit) = (batch.letters[n * T + i], batch.digits[n * T + i]);
    let letter = char::from(b'A' + letter as u8);
    if digit < DIGITS as u32 { format!("{letter}{digit}") } else { format!("{letter}?") }
}

fn sequence(batch: &Batch, n: usize) -> String {
    (0..T).map(|i| token(batch, n, i)).collect::<Vec<_>>().join(" ")
}
